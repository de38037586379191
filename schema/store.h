/* store.h - where entities are kept: one interface, PostgreSQL and memory (DB-less) behind it.
 *
 * Values go in as clients sent them and come out as readers see them (sb_entity_read); validation
 * happens inside. A store is used by one thread. Calls block (PostgreSQL) for at most pg_timeout.
 *
 * On failure: SB_UNAVAILABLE and words in e->message (code 8) when the database is away; otherwise
 * *e says it as Kong does and the rc is SB_INVALID, SB_NOTFOUND or SB_CONFLICT. Results live in the
 * arena of ctx.
 */
#ifndef SB_SCHEMA_STORE_H
#define SB_SCHEMA_STORE_H

#include "schema/entity.h"
#include "shared/pg.h"

struct sb_store;

/* The store on a PostgreSQL session; the session stays the caller's. The workspace is "default". */
SB_MUST enum sb_rc sb_store_pg(struct sb_pg *pg, struct sb_store **out, struct sb_err *err);
/* The store in memory; empty but for the default workspace. */
struct sb_store *sb_store_memory(void);
/* The id that Kong gives to the workspace of a node without a database. */
#define SB_WORKSPACE_WITHOUT_DATABASE "0dc6f45b-8f8d-40d2-a504-473544ee190b"
void sb_store_free(struct sb_store *s);

/* Refuses writes of validated input with code 12, after everything else was looked at: what the
 * Admin API of a node without a database answers. Rows may still be put. */
void sb_store_set_read_only(struct sb_store *s, bool read_only);

/* Transactions; without one every call is its own. Memory: rollback restores what was there. */
SB_MUST enum sb_rc sb_store_begin(struct sb_store *s, struct sb_err *err);
SB_MUST enum sb_rc sb_store_commit(struct sb_store *s, struct sb_err *err);
void sb_store_rollback(struct sb_store *s);
/* The configuration version of the last committed write; 0 when none was made by this store. */
uint64_t sb_store_version(const struct sb_store *s);

/* A key: an id, or the value of a unique field. */
struct sb_store_key {
    const char *field; /* "id", "name", ... */
    struct sb_str value;
};

SB_MUST enum sb_rc sb_store_insert(struct sb_store *s, struct sb_schema_ctx *ctx,
                                   const struct sb_entity *kind, const struct sb_value *input,
                                   struct sb_value **out, struct sb_kong_error *e);
SB_MUST enum sb_rc sb_store_upsert(struct sb_store *s, struct sb_schema_ctx *ctx,
                                   const struct sb_entity *kind, struct sb_store_key key,
                                   const struct sb_value *input, struct sb_value **out,
                                   struct sb_kong_error *e);
SB_MUST enum sb_rc sb_store_update(struct sb_store *s, struct sb_schema_ctx *ctx,
                                   const struct sb_entity *kind, struct sb_store_key key,
                                   const struct sb_value *patch, struct sb_value **out,
                                   struct sb_kong_error *e);
/* Deletes, cascading as the tables say; SB_OK also when there was nothing. */
SB_MUST enum sb_rc sb_store_delete(struct sb_store *s, struct sb_schema_ctx *ctx,
                                   const struct sb_entity *kind, struct sb_store_key key,
                                   struct sb_kong_error *e);
/* *out NULL when there is none (that is no failure). */
SB_MUST enum sb_rc sb_store_find(struct sb_store *s, struct sb_schema_ctx *ctx,
                                 const struct sb_entity *kind, struct sb_store_key key,
                                 struct sb_value **out, struct sb_kong_error *e);

struct sb_store_page {
    int size;               /* 1..1000; 0: 100 */
    struct sb_str after_id; /* rows behind this id; empty: from the start */
    const struct sb_str *tags;
    size_t ntags;
    bool tags_any;            /* any of them, not all */
    const char *parent_field; /* rows whose foreign field is parent_id; NULL: all */
    struct sb_str parent_id;
};

/* A page in ascending id order: *rows an array; *more says that others follow. */
SB_MUST enum sb_rc sb_store_list(struct sb_store *s, struct sb_schema_ctx *ctx,
                                 const struct sb_entity *kind, const struct sb_store_page *page,
                                 struct sb_value **rows, bool *more, struct sb_kong_error *e);

/* Who has which tag: what GET /tags shows. */
struct sb_store_tag {
    struct sb_str tag, table, id; /* of the entity */
    int64_t place;                /* in its list, from 1 */
};

/* In order of entity ids, then of places: behind (after_id, after_place), at most size; tag NULL:
 * all tags. */
SB_MUST enum sb_rc sb_store_tags(struct sb_store *s, struct sb_arena *arena,
                                 const struct sb_str *tag, struct sb_str after_id,
                                 int64_t after_place, int size, struct sb_store_tag **out,
                                 size_t *n, bool *more, struct sb_err *err);

/* Stored rows as they are (ids, nulls left out, all workspaces; ttl: seconds left), for the config
 * thread and for exports: all of a kind, or those of the ids given; in no order. */
SB_MUST enum sb_rc sb_store_rows(struct sb_store *s, struct sb_arena *arena,
                                 const struct sb_entity *kind, const struct sb_str *ids,
                                 size_t nids, struct sb_value **rows, struct sb_err *err);

/* Writes rows that are complete and valid already (control plane, declarative import): by id, a row
 * that is there is replaced. rows: an array; ids in it are distinct. All of them or none: when one
 * is refused (SB_CONFLICT: unique or foreign key; SB_INVALID), *refused is the index of the first
 * such row, err says why in Kong's words, and a transaction under way goes on without this call. */
SB_MUST enum sb_rc sb_store_put_rows(struct sb_store *s, struct sb_arena *arena,
                                     const struct sb_entity *kind, const struct sb_value *rows,
                                     size_t *refused, struct sb_err *err);
SB_MUST enum sb_rc sb_store_put_row(struct sb_store *s, struct sb_arena *arena,
                                    const struct sb_entity *kind, const struct sb_value *row,
                                    struct sb_err *err);
/* Deletes by id, cascading; ids that are not there are fine. SB_CONFLICT as above. */
SB_MUST enum sb_rc sb_store_drop_rows(struct sb_store *s, struct sb_arena *arena,
                                      const struct sb_entity *kind, const struct sb_str *ids,
                                      size_t nids, size_t *refused, struct sb_err *err);
SB_MUST enum sb_rc sb_store_drop_row(struct sb_store *s, const struct sb_entity *kind,
                                     struct sb_str id, struct sb_err *err);

#endif
