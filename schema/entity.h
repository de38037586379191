/* entity.h - what a Kong entity is: one field table each.
 *
 * The table drives everything: parsing, defaults, validation and its messages, row codecs, SQL, the
 * Admin API, declarative config, documentation. An entity in flight is a struct sb_value object
 * whose members are named as the fields; a foreign field is {"id": "..."}; timestamps are seconds.
 * A plugin describes its config the same way, with a table of its own.
 *
 *   input --sb_entity_insert--> complete, valid entity --store--> row
 *     defaults, auto fields, shorthands, validation, entity checks, transformations
 *
 * Facts: reference/entities.md. Kong's own order of checks and texts are kept (part 2, sections
 * 1-2).
 */
#ifndef SB_SCHEMA_ENTITY_H
#define SB_SCHEMA_ENTITY_H

#include <stdbool.h>

#include "schema/kong_error.h"
#include "shared/err.h"
#include "shared/uuid.h"
#include "shared/value.h"

enum sb_ftype {
    SB_T_STRING,
    SB_T_INTEGER,
    SB_T_NUMBER,
    SB_T_BOOLEAN,
    SB_T_ARRAY,   /* of `elements` */
    SB_T_SET,     /* of `elements`: duplicates dropped */
    SB_T_MAP,     /* `keys` to `values` */
    SB_T_RECORD,  /* of `fields` */
    SB_T_FOREIGN, /* to entity `reference` */
    SB_T_JSON,    /* anything */
};

enum sb_fflag {
    SB_F_REQUIRED = 1 << 0,
    SB_F_UNIQUE = 1 << 1,        /* within the workspace */
    SB_F_UNIQUE_GLOBAL = 1 << 2, /* across workspaces */
    SB_F_AUTO = 1 << 3,          /* generated when absent */
    SB_F_UUID = 1 << 4,
    SB_F_TIMESTAMP = 1 << 5,
    SB_F_REFERENCEABLE = 1 << 6, /* may hold {vault://...} */
    SB_F_ENCRYPTED = 1 << 7,
    SB_F_TRANSIENT = 1 << 8,    /* not a column */
    SB_F_LEN_MIN_0 = 1 << 9,    /* the empty string is fine */
    SB_F_CASCADE = 1 << 10,     /* foreign: deleting the parent deletes this */
    SB_F_OPTIONAL = 1 << 11,    /* a record that may be null (records are required else) */
    SB_F_ABSTRACT = 1 << 13,    /* filled by the subschema (plugins.config) */
    SB_F_EXPRESSIONS = 1 << 14, /* exists only with router_flavor expressions */
};

/* What a check may ask of its surroundings. */
struct sb_schema_ctx {
    struct sb_arena *arena; /* of all results */
    double now_s;           /* 0: the wall clock */
    bool expressions;       /* router_flavor = expressions */
    bool traditional;       /* router_flavor = traditional */
    bool dbless;            /* no database: no counters in one */
    bool keep_transforms;   /* _transform: false - values are in stored form already */
    bool updating;          /* set by sb_entity_update: absent is no error, null is */
    bool import;            /* keep updated_at and ttl as given (declarative documents) */
    /* Enabled plugins by name; NULL: all that are known. */
    bool (*plugin_enabled)(void *arg, struct sb_str name);
    void *arg;
    /* Compiles a route for the router: false and a text when it does not. NULL: not checked. */
    bool (*route_compiles)(void *arg, const struct sb_value *route, struct sb_err *err);
};

struct sb_field;
struct sb_entity_check;
struct sb_shorthand;

/* A custom validator: NULL when fine, else Kong's message, in ctx->arena where it is built. */
typedef const char *sb_validator(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                 const struct sb_value *v);

struct sb_field {
    const char *name;
    enum sb_ftype type;
    unsigned flags;
    const char *def;           /* default, as JSON text; NULL: none */
    const char *eq;            /* the only value it may have, as text ("null") */
    const char *const *one_of; /* NULL-terminated; integers as text */
    const char *const *not_one_of;
    bool has_between, has_gt, has_len_min, has_len_max, has_len_eq;
    double between_min, between_max, gt;
    uint32_t len_min, len_max, len_eq; /* of strings, arrays, sets, maps */
    const char *match;                 /* a PCRE pattern; `err` replaces its text */
    const char *err;
    const char *contains; /* an item that a list must have */
    sb_validator *validate;
    const struct sb_field *elements, *keys, *values; /* one field each */
    const struct sb_field *fields;                   /* of a record, ended by name NULL */
    const struct sb_entity_check *checks;            /* of a record; ended by kind 0 */
    const struct sb_shorthand *shorthands;           /* of a record; ended by name NULL */
    const char *reference;                           /* entity name of a foreign field */
    const char *column;                              /* NULL: name, or name_id for foreign fields */
    const char *help;
};

enum sb_check_kind {
    SB_C_AT_LEAST_ONE_OF = 1,
    SB_C_ONLY_ONE_OF,
    SB_C_DISTINCT,
    SB_C_MUTUALLY_REQUIRED,
    SB_C_MUTUALLY_EXCLUSIVE,
    SB_C_CONDITIONAL,                 /* if_field fits if_match: then_field must fit then_match */
    SB_C_CONDITIONAL_AT_LEAST_ONE_OF, /* ... one of `fields` must be set; else_match: `else_fields`
                                       */
    SB_C_CUSTOM,
};

/* A rule about several fields; names may be dotted paths. */
struct sb_entity_check {
    enum sb_check_kind kind;
    const char *const
        *fields; /* NULL-terminated; of a custom check: skipped when one has an error */
    const char *if_field;
    const struct sb_field *if_match;
    const char *then_field;
    const struct sb_field *then_match;
    const char *err; /* replaces the text in "@entity"; a complete sentence */
    const struct sb_field *else_match;
    const char *const *else_fields;
    const char *else_err;
    /* Adds to errors with sb_errors_field() and sb_errors_entity(). */
    void (*custom)(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                   struct sb_value *errors);
};

/* An old name of a record's field: accepted, moved to `to` (a dotted path) unless that is set. */
struct sb_shorthand {
    const char *name;
    const char *to;
    const struct sb_field *field; /* checks the value under its old name */
    bool echoed;                  /* readers see it under both names */
    bool wins;                    /* over the new name, where both are sent */
    const char *old, *new;        /* a text that has changed, too; NULL: none has */
};

/* What the value of one field (plugins.name, vaults.name, routes.protocols) adds to the schema. */
struct sb_subschema {
    const char *name;
    const struct sb_field *fields; /* in place of the entity's fields of these names */
    const struct sb_entity_check *checks;
};

/* Values that are computed when written: when `input` is sent. Where there are `needs`, a change of
 * them must come with the input, and on an update the input with them. */
struct sb_transform {
    const char *input, *needs; /* dotted paths; needs: NULL when there are none */
    bool always;               /* also for values that are in stored form already */
    void (*apply)(struct sb_schema_ctx *ctx, struct sb_value *entity);
};

enum sb_eflag {
    SB_E_WORKSPACE = 1 << 0, /* has ws_id */
    SB_E_TTL = 1 << 1,
    SB_E_NO_API = 1 << 2,
    SB_E_NO_EXPORT = 1 << 3,
    SB_E_CREDENTIAL = 1 << 4, /* consumers and what hangs on them: not part of a snapshot */
    SB_E_CORE = 1 << 5,       /* Kong's core; else belongs to `plugin` */
};

struct sb_entity {
    const char *name;     /* "services", "key_sets" */
    const char *singular; /* "service", "key_set": Kong's name minus one trailing s */
    const char *table;    /* "sm_vaults" for vaults */
    const char *path;     /* in Admin URLs: "key-sets" */
    const char *plugin;   /* the plugin that brings it; NULL: core */
    unsigned flags;
    const char *primary_key;              /* "id"; tags: "tag"; parameters: "key" */
    const char *endpoint_key;             /* NULL: none */
    const char *const *cache_key;         /* NULL-terminated field names; NULL: none */
    const struct sb_field *fields;        /* ended by name NULL */
    const struct sb_entity_check *checks; /* ended by kind 0 */
    const char *subschema_key;            /* the field that selects the subschema; NULL: none */
    /* NULL and a message in *why when there is none for this value. */
    const struct sb_subschema *(*subschema)(struct sb_schema_ctx *ctx, const struct sb_value *key,
                                            const char **why);
    /* Rewrites shorthands in place, on writes and on reads; errors (by field) end the write. */
    void (*expand)(struct sb_schema_ctx *ctx, struct sb_value *entity, struct sb_value *errors);
    const struct sb_transform *transforms; /* ended by apply NULL */
};

/* All entities in Kong's load order (parents first); ends with NULL. */
const struct sb_entity *const *sb_entities(void);
const struct sb_entity *sb_entity_find(struct sb_str name); /* by name; NULL: none */
const struct sb_entity *sb_entity_by_path(struct sb_str path);
const struct sb_entity *sb_entity_by_table(struct sb_str table);
const struct sb_field *sb_field_find(const struct sb_field *fields, struct sb_str name);

/* POST: the complete entity from what was sent. SB_INVALID and *e filled (code 2) when refused. */
SB_MUST enum sb_rc sb_entity_insert(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                    const struct sb_value *input, struct sb_value **out,
                                    struct sb_kong_error *e);
/* PUT: the same, but id is given. */
SB_MUST enum sb_rc sb_entity_upsert(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                    const struct sb_value *input, struct sb_value **out,
                                    struct sb_kong_error *e);
/* PATCH: current merged with patch, validated whole. */
SB_MUST enum sb_rc sb_entity_update(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                    const struct sb_value *current, const struct sb_value *patch,
                                    struct sb_value **out, struct sb_kong_error *e);
/* What a reader sees of a stored entity: every field, null where unset, defaults for required
 * fields that were NULL, missing record members filled (part 2, read side). */
struct sb_value *sb_entity_read(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                const struct sb_value *stored);

/* A single field's value checked (URL keys, query parameters): NULL or Kong's message. */
const char *sb_field_check(struct sb_schema_ctx *ctx, const struct sb_field *f,
                           const struct sb_value *v);

/* uuid_v5 of Kong's declarative namespace, the entity's name and a key (declarative-config.md 5).
 */
struct sb_uuid sb_entity_id(const struct sb_entity *kind, struct sb_str key);
/* The stored cache_key (entities.md part 2, section 5); empty string when the entity has none. */
struct sb_str sb_entity_cache_key(struct sb_arena *a, const struct sb_entity *kind,
                                  const struct sb_value *entity, struct sb_str ws_id);

/* For checks: puts a message at a dotted path (in place of an earlier one), or into "@entity". */
void sb_errors_field(struct sb_arena *a, struct sb_value *errors, const char *path,
                     const char *text);
void sb_errors_entity(struct sb_arena *a, struct sb_value *errors, const char *text);

/* A record of plugin config, checked alone: field tables of plugins use this too. */
SB_MUST enum sb_rc sb_record_check(struct sb_schema_ctx *ctx, const struct sb_field *fields,
                                   const struct sb_value *input, struct sb_value **out,
                                   struct sb_value **errors);

#endif
