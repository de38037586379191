/* store.c - the rules that every store keeps, whatever it keeps its rows in.
 *
 * A write of input takes Kong's steps in Kong's order (reference/entities.md part 2, 1):
 *
 *   option ttl (11) -> key (1, 10) -> what is there (6) -> foreign names (13) -> validation (2)
 *                   -> special rules -> row (3, 4, 5) -> what a reader sees
 *
 * all in one transaction: the caller's, or one of its own. Rows that are valid already go straight
 * to the last step.
 */
#include <math.h>

#include "schema/store_ops.h"
#include "shared/uuid.h"

void sb_store_free(struct sb_store *s)
{
    if (s)
        s->ops->free(s);
}

uint64_t sb_store_version(const struct sb_store *s)
{
    return s->version;
}

void sb_store_set_read_only(struct sb_store *s, bool read_only)
{
    s->read_only = read_only;
}

/* -- transactions ------------------------------------------------------------------------------ */

enum sb_rc sb_store_begin(struct sb_store *s, struct sb_err *err)
{
    enum sb_rc rc = s->ops->begin(s, err);

    if (!rc) {
        s->in_transaction = true;
        s->wrote = false;
    }
    return rc;
}

/* The version is asked for after the commit: it may be a later one, which holds ours too. */
enum sb_rc sb_store_commit(struct sb_store *s, struct sb_err *err)
{
    enum sb_rc rc = s->ops->commit(s, err);

    s->in_transaction = false;
    if (!rc && s->wrote)
        rc = s->ops->version(s, &s->version, err);
    return rc;
}

void sb_store_rollback(struct sb_store *s)
{
    s->ops->rollback(s);
    s->in_transaction = false;
}

/* A transaction of our own unless there is one: *own says so. */
static enum sb_rc enter(struct sb_store *s, bool *own, struct sb_err *err)
{
    *own = !s->in_transaction;
    return *own ? sb_store_begin(s, err) : SB_OK;
}

static enum sb_rc leave(struct sb_store *s, bool own, enum sb_rc rc, struct sb_err *err)
{
    if (!own)
        return rc;
    if (!rc)
        return sb_store_commit(s, err);
    sb_store_rollback(s);
    return rc;
}

/* -- errors ------------------------------------------------------------------------------------ */

enum sb_rc sb_store_failed(struct sb_schema_ctx *ctx, enum sb_rc rc, const struct sb_err *err,
                           struct sb_kong_error *e)
{
    *e = (struct sb_kong_error){.code = SB_KONG_DATABASE_ERROR,
                                .message = sb_arena_str(ctx->arena, sb_str_c(err->text))};
    return rc == SB_TIMEOUT || rc == SB_AGAIN ? SB_UNAVAILABLE : rc;
}

static enum sb_rc refuse(struct sb_kong_error *e, enum sb_kong_code code, struct sb_str message,
                         struct sb_value *fields)
{
    *e = (struct sb_kong_error){.code = code, .message = message, .fields = fields};
    switch (code) {
    case SB_KONG_NOT_FOUND:
        return SB_NOTFOUND;
    case SB_KONG_PRIMARY_KEY_VIOLATION:
    case SB_KONG_FOREIGN_KEY_VIOLATION:
    case SB_KONG_UNIQUE_VIOLATION:
    case SB_KONG_REFERENCED_BY_OTHERS:
        return SB_CONFLICT;
    default:
        return SB_INVALID;
    }
}

/* {field: the row's value}, null when it has none. */
static void copy_field(struct sb_arena *a, struct sb_value *to, const struct sb_value *row,
                       const char *field)
{
    struct sb_value *v = sb_get(row, field);

    sb_object_set(a, to, sb_str_c(field), sb_is_nil(v) ? sb_value_null(a) : v);
}

static struct sb_value *key_of(struct sb_arena *a, const struct sb_entity *kind,
                               const struct sb_value *row)
{
    struct sb_value *key = sb_value_object(a);

    copy_field(a, key, row, kind->primary_key);
    return key;
}

static enum sb_rc refuse_unique(struct sb_arena *a, struct sb_value *fields,
                                struct sb_kong_error *e)
{
    struct sb_str text = sb_kong_lua_text(a, fields);

    return refuse(e, SB_KONG_UNIQUE_VIOLATION,
                  sb_arena_printf(a, "UNIQUE violation detected on '%.*s'", SB_ARG(text)), fields);
}

static enum sb_rc refuse_foreign(struct sb_arena *a, const struct sb_entity *kind,
                                 const struct sb_value *row, const char *field,
                                 struct sb_kong_error *e)
{
    const struct sb_field *f = sb_field_find(kind->fields, sb_str_c(field));
    struct sb_value *fields = sb_value_object(a);
    struct sb_str key;

    copy_field(a, fields, row, field);
    key = sb_kong_lua_text(a, sb_get(fields, field));
    return refuse(e, SB_KONG_FOREIGN_KEY_VIOLATION,
                  sb_arena_printf(a,
                                  "the foreign key '%.*s' does not reference an existing '%s' "
                                  "entity.",
                                  SB_ARG(key), f->reference),
                  fields);
}

static enum sb_rc refuse_referenced(struct sb_arena *a, const struct sb_entity *kind,
                                    const struct sb_entity *by, struct sb_kong_error *e)
{
    struct sb_value *fields = sb_value_object(a);

    sb_object_set(a, fields, SB_STR("@referenced_by"), sb_value_text(a, by->name));
    return refuse(e, SB_KONG_FOREIGN_KEY_VIOLATION,
                  sb_arena_printf(a, "an existing '%s' entity references this '%s' entity",
                                  by->name, kind->name),
                  fields);
}

enum sb_rc sb_store_refused(struct sb_arena *a, const struct sb_entity *kind,
                            const struct sb_value *row, const struct sb_refusal *why,
                            struct sb_kong_error *e)
{
    struct sb_value *fields = sb_value_object(a);
    struct sb_str key;

    switch (why->kind) {
    case SB_REFUSED_UNIQUE:
        copy_field(a, fields, row, why->field);
        return refuse_unique(a, fields, e);
    case SB_REFUSED_CACHE_KEY:
        for (const char *const *f = kind->cache_key; *f; f++)
            copy_field(a, fields, row, *f);
        return refuse_unique(a, fields, e);
    case SB_REFUSED_FOREIGN:
        return refuse_foreign(a, kind, row, why->field, e);
    case SB_REFUSED_REFERENCED:
        return refuse_referenced(a, kind, why->by, e);
    case SB_REFUSED_PRIMARY_KEY:
    case SB_REFUSED_NOT_NULL:
        break;
    }
    fields = key_of(a, kind, row);
    key = sb_kong_lua_text(a, fields);
    return refuse(e, SB_KONG_PRIMARY_KEY_VIOLATION,
                  sb_arena_printf(a, "primary key violation on key '%.*s'", SB_ARG(key)), fields);
}

/* -- rows as they are -------------------------------------------------------------------------- */

enum sb_rc sb_store_rows(struct sb_store *s, struct sb_arena *arena, const struct sb_entity *kind,
                         const struct sb_str *ids, size_t nids, struct sb_value **rows,
                         struct sb_err *err)
{
    return s->ops->rows(s, arena, kind, ids, nids, rows, err);
}

/* A write of n items that is done as one, and taken back as one when it fails. */
struct batch {
    struct sb_store *s;
    struct sb_arena *a;
    const struct sb_entity *kind;
    struct sb_value *const *rows; /* to put, or NULL */
    const struct sb_str *ids;     /* to drop */
};

static enum sb_rc try_first(const struct batch *b, size_t n, struct sb_refusal *why,
                            struct sb_err *err)
{
    return b->rows ? b->s->ops->put(b->s, b->a, b->kind, b->rows, n, true, why, err)
                   : b->s->ops->drop(b->s, b->a, b->kind, b->ids, n, why, err);
}

/* The first n fail: how many go through? Their rows may need each other, so prefixes are tried. */
static enum sb_rc find_refused(const struct batch *b, size_t n, size_t *refused,
                               struct sb_refusal *why, struct sb_err *err)
{
    size_t good = 0, bad = n;
    struct sb_err other;

    while (bad - good > 1) {
        size_t middle = good + (bad - good) / 2;
        struct sb_refusal w = {0};
        enum sb_rc rc = try_first(b, middle, &w, &other);
        enum sb_rc back = b->s->ops->back_to_mark(b->s, err);

        if (back)
            return back;
        if (!rc) {
            good = middle;
            continue;
        }
        bad = middle;
        *why = w;
        if (!w.kind)
            sb_err_set(err, rc, "%s", other.text);
    }
    *refused = bad - 1;
    return SB_OK;
}

static enum sb_rc say_refused(const struct batch *b, size_t at, const struct sb_refusal *why,
                              enum sb_rc rc, struct sb_err *err)
{
    struct sb_value *row = b->rows ? b->rows[at] : sb_value_object(b->a);
    struct sb_kong_error e;

    if (!why->kind)
        return rc;
    if (!b->rows)
        sb_object_set(b->a, row, sb_str_c(b->kind->primary_key), sb_value_str(b->a, b->ids[at]));
    rc = sb_store_refused(b->a, b->kind, row, why, &e);
    return sb_err_set(err, rc, "%.*s", SB_ARG(e.message));
}

static enum sb_rc run_batch(const struct batch *b, size_t n, size_t *refused, struct sb_err *err)
{
    struct sb_store *s = b->s;
    struct sb_refusal why = {0};
    bool own;
    enum sb_rc rc, back;
    size_t at = 0;

    if (!n)
        return SB_OK;
    rc = enter(s, &own, err);
    if (rc)
        return rc;
    rc = s->ops->mark(s, err);
    if (!rc) {
        s->wrote = true;
        rc = try_first(b, n, &why, err);
    }
    if (rc == SB_CONFLICT || rc == SB_INVALID) {
        back = s->ops->back_to_mark(s, err);
        if (!back && refused)
            back = find_refused(b, n, &at, &why, err);
        rc = back ? back : say_refused(b, at, &why, rc, err);
        if (!back && refused)
            *refused = at;
    }
    return leave(s, own, rc, err);
}

enum sb_rc sb_store_put_rows(struct sb_store *s, struct sb_arena *arena,
                             const struct sb_entity *kind, const struct sb_value *rows,
                             size_t *refused, struct sb_err *err)
{
    struct batch b = {.s = s, .a = arena, .kind = kind, .rows = rows->items};

    return run_batch(&b, rows->count, refused, err);
}

enum sb_rc sb_store_put_row(struct sb_store *s, struct sb_arena *arena,
                            const struct sb_entity *kind, const struct sb_value *row,
                            struct sb_err *err)
{
    struct sb_value *copy = sb_arena_alloc(arena, sizeof *copy);
    struct batch b = {.s = s, .a = arena, .kind = kind, .rows = &copy};

    *copy = *row;
    return run_batch(&b, 1, NULL, err);
}

enum sb_rc sb_store_drop_rows(struct sb_store *s, struct sb_arena *arena,
                              const struct sb_entity *kind, const struct sb_str *ids, size_t nids,
                              size_t *refused, struct sb_err *err)
{
    struct batch b = {.s = s, .a = arena, .kind = kind, .ids = ids};

    return run_batch(&b, nids, refused, err);
}

enum sb_rc sb_store_drop_row(struct sb_store *s, const struct sb_entity *kind, struct sb_str id,
                             struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    enum sb_rc rc = sb_store_drop_rows(s, a, kind, &id, 1, NULL, err);

    sb_arena_free(a);
    return rc;
}
