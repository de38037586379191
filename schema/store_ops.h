/* store_ops.h - inside schema/: what a kind of store must do, below the rules that all share.
 *
 *     store.c          keys, foreign look-ups, validation, transactions, Kong's errors
 *     store_special.c  the few entities with rules of their own (certificates and their SNIs ...)
 *     --------------------------------------------------------------- struct sb_store_ops
 *     store_pg.c       rows in PostgreSQL          store_memory.c   rows in maps
 *
 * Rows are stored entities: nulls left out, foreign fields {"id": ..}.
 */
#ifndef SB_SCHEMA_STORE_OPS_H
#define SB_SCHEMA_STORE_OPS_H

#include "schema/store.h"

/* Which rule of the tables refused a row. */
enum sb_refusal_kind {
    SB_REFUSED_PRIMARY_KEY = 1,
    SB_REFUSED_UNIQUE,     /* field */
    SB_REFUSED_CACHE_KEY,  /* all fields of the entity's cache key together */
    SB_REFUSED_FOREIGN,    /* field: its entity is not there */
    SB_REFUSED_REFERENCED, /* by: rows of that entity still refer to it */
    SB_REFUSED_NOT_NULL,
};

struct sb_refusal {
    enum sb_refusal_kind kind; /* 0: another failure; see err */
    const char *field;
    const struct sb_entity *by;
};

/* All return SB_CONFLICT with *why filled, or another failure with err's words. */
struct sb_store_ops {
    /* will_write: what is going to be read and then written, or NULL when nothing is read before.
     */
    enum sb_rc (*begin)(struct sb_store *s, const struct sb_entity *will_write, struct sb_err *err);
    enum sb_rc (*commit)(struct sb_store *s, struct sb_err *err);
    void (*rollback)(struct sb_store *s);
    /* In a transaction: a place to go back to. */
    enum sb_rc (*mark)(struct sb_store *s, struct sb_err *err);
    enum sb_rc (*back_to_mark)(struct sb_store *s, struct sb_err *err);
    enum sb_rc (*version)(struct sb_store *s, uint64_t *out, struct sb_err *err);
    enum sb_rc (*rows)(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                       const struct sb_str *ids, size_t nids, struct sb_value **rows,
                       struct sb_err *err);
    /* *row NULL: none. */
    enum sb_rc (*find)(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                       const struct sb_field *field, struct sb_str value, struct sb_value **row,
                       struct sb_err *err);
    enum sb_rc (*page)(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                       const struct sb_store_page *page, struct sb_value **rows, bool *more,
                       struct sb_err *err);
    /* As sb_store_tags, but up to size + 1. */
    enum sb_rc (*tags)(struct sb_store *s, struct sb_arena *a, const struct sb_str *tag,
                       struct sb_str after_id, int64_t after_place, int size,
                       struct sb_store_tag **out, size_t *n, struct sb_err *err);
    /* All or, on failure, the transaction is to be taken back. replace: by primary key. */
    enum sb_rc (*put)(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                      struct sb_value *const *rows, size_t n, bool replace, struct sb_refusal *why,
                      struct sb_err *err);
    enum sb_rc (*drop)(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                       const struct sb_str *ids, size_t n, struct sb_refusal *why,
                       struct sb_err *err);
    void (*free)(struct sb_store *s);
};

struct sb_store {
    const struct sb_store_ops *ops;
    char ws_id[SB_UUID_TEXT_LEN + 1]; /* of the workspace "default" */
    bool in_transaction, wrote, read_only;
    bool null_ttl; /* readers see ttl null where there is none; else they don't see it */
    uint64_t version;
};

enum sb_store_op { SB_STORE_INSERT, SB_STORE_UPDATE, SB_STORE_UPSERT, SB_STORE_DELETE };

/* A write of validated input under way, as the special rules see it. */
struct sb_store_write {
    struct sb_store *store;
    struct sb_schema_ctx *ctx;
    const struct sb_entity *kind;
    enum sb_store_op op;
    struct sb_store_key key;       /* not of inserts */
    const struct sb_value *stored; /* the row that was there, or NULL */
    struct sb_value *input; /* as sent, foreign names resolved; a copy that rules may change */
    struct sb_value *row;   /* after validation, as it is written */
    void *own;              /* between the hooks of one rule */
    struct sb_kong_error *e;
};

/* Hooks of entities with rules of their own; each may be NULL. A failing hook fills w->e. */
struct sb_store_special {
    const char *entity;
    enum sb_rc (*before_check)(struct sb_store_write *w); /* input may be changed */
    enum sb_rc (*before_write)(struct sb_store_write *w);
    enum sb_rc (*after_write)(struct sb_store_write *w);
    enum sb_rc (*before_delete)(struct sb_store_write *w);
    /* Adds what is not in the row to what a reader sees. */
    enum sb_rc (*shown)(struct sb_store *s, struct sb_schema_ctx *ctx, struct sb_value *entity,
                        struct sb_kong_error *e);
};

/* NULL: none. */
const struct sb_store_special *sb_store_special(const struct sb_entity *kind);

/* Of use to special rules: a failure of the store as error 8, or what a refusal means. */
enum sb_rc sb_store_failed(struct sb_schema_ctx *ctx, enum sb_rc rc, const struct sb_err *err,
                           struct sb_kong_error *e);
/* What was refused in Kong's words; row: what was to be written (of a delete: only the id). */
enum sb_rc sb_store_refused(struct sb_arena *a, const struct sb_entity *kind,
                            const struct sb_value *row, const struct sb_refusal *why,
                            struct sb_kong_error *e);

#endif
