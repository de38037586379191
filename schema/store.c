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
#include "shared/buf.h"
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

static enum sb_rc begin(struct sb_store *s, const struct sb_entity *will_write, struct sb_err *err)
{
    enum sb_rc rc = s->ops->begin(s, will_write, err);

    if (!rc) {
        s->in_transaction = true;
        s->wrote = false;
    }
    return rc;
}

enum sb_rc sb_store_begin(struct sb_store *s, struct sb_err *err)
{
    return begin(s, NULL, err);
}

/* The version is asked for after the commit: it may be a later one, which holds ours too. Not to
 * learn it is no failure of what is committed already. */
enum sb_rc sb_store_commit(struct sb_store *s, struct sb_err *err)
{
    enum sb_rc rc = s->ops->commit(s, err);
    struct sb_err unsaid;

    s->in_transaction = false;
    if (!rc && s->wrote && s->ops->version(s, &s->version, &unsaid))
        s->version = 0;
    return rc;
}

void sb_store_rollback(struct sb_store *s)
{
    s->ops->rollback(s);
    s->in_transaction = false;
}

/* A transaction of our own unless there is one: *own says so. */
static enum sb_rc enter(struct sb_store *s, const struct sb_entity *will_write, bool *own,
                        struct sb_err *err)
{
    *own = !s->in_transaction;
    return *own ? begin(s, will_write, err) : SB_OK;
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

enum sb_rc sb_store_tags(struct sb_store *s, struct sb_arena *arena, const struct sb_str *tag,
                         struct sb_str after_id, int64_t after_place, int size,
                         struct sb_store_tag **out, size_t *n, bool *more, struct sb_err *err)
{
    enum sb_rc rc = s->ops->tags(s, arena, tag, after_id, after_place, size, out, n, err);

    if (rc)
        return rc;
    *more = *n > (size_t)size;
    if (*more)
        (*n)--;
    return SB_OK;
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

/* After a failure, with a mark before it: back there, and who was it? */
static enum sb_rc take_back(const struct batch *b, size_t n, size_t *refused,
                            struct sb_refusal *why, enum sb_rc rc, struct sb_err *err)
{
    size_t at = 0;
    enum sb_rc back = b->s->ops->back_to_mark(b->s, err);

    if (!back && n > 1)
        back = find_refused(b, n, &at, why, err);
    if (back)
        return back;
    *refused = at;
    return say_refused(b, at, why, rc, err);
}

/* A mark costs a round trip: a row of its own transaction needs none. */
static enum sb_rc run_batch(const struct batch *b, size_t n, size_t *refused, struct sb_err *err)
{
    struct sb_store *s = b->s;
    struct sb_refusal why = {0};
    enum sb_rc rc;
    bool own, marked;
    size_t none;

    if (!n)
        return SB_OK;
    rc = enter(s, NULL, &own, err);
    if (rc)
        return rc;
    marked = !own || n > 1;
    rc = marked ? s->ops->mark(s, err) : SB_OK;
    if (!rc) {
        s->wrote = true;
        rc = try_first(b, n, &why, err);
    }
    if (rc == SB_CONFLICT || rc == SB_INVALID) {
        refused = refused ? refused : &none;
        *refused = 0;
        rc = marked ? take_back(b, n, refused, &why, rc, err) : say_refused(b, 0, &why, rc, err);
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

/* -- keys -------------------------------------------------------------------------------------- */

static struct sb_str lower(struct sb_arena *a, struct sb_str s)
{
    char *p = sb_arena_cstr(a, s);

    for (size_t i = 0; i < s.len; i++)
        p[i] = (char)(p[i] >= 'A' && p[i] <= 'Z' ? p[i] + 32 : p[i]);
    return sb_str_n(p, s.len);
}

static bool is_primary(const struct sb_entity *kind, const char *field)
{
    return kind->primary_key && strcmp(field, kind->primary_key) == 0;
}

static enum sb_rc refuse_key(struct sb_arena *a, const struct sb_field *f, const char *why,
                             struct sb_kong_error *e)
{
    struct sb_value *fields;
    struct sb_str text;

    if (!(f->flags & SB_F_UUID)) {
        *e = (struct sb_kong_error){.code = SB_KONG_INVALID_UNIQUE,
                                    .message = sb_str_c(why),
                                    .unique_field = sb_str_c(f->name)};
        return SB_INVALID;
    }
    fields = sb_value_object(a);
    sb_object_set(a, fields, sb_str_c(f->name), sb_value_text(a, why));
    text = sb_kong_lua_text(a, fields);
    return refuse(e, SB_KONG_INVALID_PRIMARY_KEY,
                  sb_arena_printf(a, "invalid primary key: '%.*s'", SB_ARG(text)), fields);
}

/* The row under the key, or NULL. The key is checked first. */
static enum sb_rc find_row(struct sb_store *s, struct sb_schema_ctx *ctx,
                           const struct sb_entity *kind, struct sb_store_key *key,
                           struct sb_value **row, struct sb_kong_error *e)
{
    const struct sb_field *f = sb_field_find(kind->fields, sb_str_c(key->field));
    const char *why;
    struct sb_err err;
    enum sb_rc rc;

    sb_assert(f);
    if (f->flags & SB_F_UUID)
        key->value = lower(ctx->arena, key->value);
    why = sb_field_check(ctx, f, sb_value_str(ctx->arena, key->value));
    if (why)
        return refuse_key(ctx->arena, f, why, e);
    rc = s->ops->find(s, ctx->arena, kind, f, key->value, row, &err);
    return rc ? sb_store_failed(ctx, rc, &err, e) : SB_OK;
}

static enum sb_rc refuse_missing(struct sb_arena *a, const struct sb_entity *kind,
                                 struct sb_store_key key, struct sb_kong_error *e)
{
    struct sb_value *fields = sb_value_object(a);
    struct sb_str text;

    sb_object_set(a, fields, sb_str_c(key.field), sb_value_str(a, key.value));
    text = sb_kong_lua_text(a, fields);
    return refuse(e, SB_KONG_NOT_FOUND,
                  sb_arena_printf(a, "could not find the entity with %s'%.*s'",
                                  is_primary(kind, key.field) ? "primary key " : "", SB_ARG(text)),
                  fields);
}

/* -- foreign fields by name -------------------------------------------------------------------- */

struct unresolved {
    struct sb_value *fields;
    struct sb_buf text;
    unsigned count;
};

static void note_unresolved(struct sb_arena *a, struct unresolved *u, const struct sb_field *f,
                            const struct sb_field *by, struct sb_value *value)
{
    struct sb_value *key = sb_value_object(a), *inner = sb_get(u->fields, f->name);
    struct sb_str text;

    sb_object_set(a, key, sb_str_c(by->name), value);
    text = sb_kong_lua_text(a, key);
    text = sb_arena_printf(
        a, "the foreign key cannot be resolved with '%.*s' for an existing '%s' entity",
        SB_ARG(text), f->reference);
    if (!inner) {
        inner = sb_value_object(a);
        sb_object_set(a, u->fields, sb_str_c(f->name), inner);
    }
    sb_object_set(a, inner, sb_str_c(by->name), sb_value_str(a, text));
    sb_buf_printf(&u->text, "%s%s.%s: %.*s", u->count++ ? "; " : "", f->name, by->name,
                  SB_ARG(text));
}

/* {"name": ..} becomes {"id": ..}, by the first unique field that finds something. */
static enum sb_rc resolve(struct sb_store *s, struct sb_schema_ctx *ctx, struct sb_value *input,
                          const struct sb_field *f, struct unresolved *u, struct sb_kong_error *e)
{
    const struct sb_entity *parent = sb_entity_find(sb_str_c(f->reference));
    const struct sb_value *given = sb_get(input, f->name);
    struct sb_value *row = NULL, *value;

    if (!parent || !sb_is(given, SB_V_OBJECT) || sb_is(sb_get(given, "id"), SB_V_STR))
        return SB_OK;
    for (const struct sb_field *by = parent->fields; by->name && !row; by++) {
        struct sb_store_key key = {.field = by->name};
        enum sb_rc rc;

        value = sb_get(given, by->name);
        if (!(by->flags & (SB_F_UNIQUE | SB_F_UNIQUE_GLOBAL)) || by->type != SB_T_STRING ||
            !sb_is(value, SB_V_STR))
            continue;
        key.value = value->s;
        rc = find_row(s, ctx, parent, &key, &row, e);
        if (rc)
            return rc;
        if (!row)
            note_unresolved(ctx->arena, u, f, by, value);
    }
    if (row)
        sb_object_set(ctx->arena, input, sb_str_c(f->name), key_of(ctx->arena, parent, row));
    return SB_OK;
}

static enum sb_rc resolve_all(struct sb_store *s, struct sb_schema_ctx *ctx,
                              const struct sb_entity *kind, struct sb_value *input,
                              struct sb_kong_error *e)
{
    struct unresolved u = {.fields = sb_value_object(ctx->arena)};
    enum sb_rc rc = SB_OK;
    struct sb_str message;

    sb_buf_init(&u.text, 0);
    for (const struct sb_field *f = kind->fields; !rc && f->name; f++)
        if (f->type == SB_T_FOREIGN)
            rc = resolve(s, ctx, input, f, &u, e);
    if (!rc && u.fields->count) {
        message = u.count == 1 ? sb_arena_printf(ctx->arena, "foreign key unresolved (%.*s)",
                                                 SB_ARG(sb_buf_get(&u.text)))
                               : sb_arena_printf(ctx->arena, "%u foreign keys unresolved (%.*s)",
                                                 u.count, SB_ARG(sb_buf_get(&u.text)));
        rc = refuse(e, SB_KONG_FOREIGN_KEYS_UNRESOLVED, message, u.fields);
    }
    sb_buf_release(&u.text);
    return rc;
}

/* -- the option ttl ---------------------------------------------------------------------------- */

enum { TTL_MAX = 100000000 };

/* Takes it out of the input. *ttl is what is to be stored: NULL for none. */
static enum sb_rc take_ttl(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                           struct sb_value *input, const struct sb_value *stored,
                           struct sb_value **ttl, struct sb_kong_error *e)
{
    static const char text[] = "must be an integer between 0 and 100000000";
    struct sb_value *given = sb_get(input, "ttl"), *options;
    double n = sb_is_number(given) ? sb_number(given) : -1;

    *ttl = NULL;
    if (!(kind->flags & SB_E_TTL))
        return SB_OK;
    if (!given) {
        *ttl = sb_get(stored, "ttl");
        return SB_OK;
    }
    sb_object_remove(input, SB_STR("ttl"));
    if (given->type == SB_V_NULL)
        return SB_OK;
    if (!(n >= 0 && n <= TTL_MAX) || n != floor(n)) {
        options = sb_value_object(ctx->arena);
        sb_object_set(ctx->arena, options, SB_STR("ttl"), sb_value_text(ctx->arena, text));
        return refuse(e, SB_KONG_INVALID_OPTIONS,
                      sb_arena_printf(ctx->arena, "invalid option (ttl: %s)", text), options);
    }
    *ttl = n > 0 ? given : NULL;
    return SB_OK;
}

/* -- what is written and what is shown --------------------------------------------------------- */

static bool is_uuids(const struct sb_field *f)
{
    return (f->type == SB_T_ARRAY || f->type == SB_T_SET) && f->elements &&
           (f->elements->flags & SB_F_UUID);
}

static void lower_string(struct sb_arena *a, struct sb_value *v)
{
    if (sb_is(v, SB_V_STR))
        v->s = lower(a, v->s);
}

/* Without nulls, and uuids as PostgreSQL spells them. */
static struct sb_value *as_row(struct sb_arena *a, const struct sb_entity *kind,
                               const struct sb_value *entity, struct sb_value *ttl)
{
    struct sb_value *row = sb_value_object(a), *v, *item;

    for (const struct sb_field *f = kind->fields; f->name; f++) {
        v = sb_get(entity, f->name);
        if (sb_is_nil(v) || (f->flags & SB_F_TRANSIENT))
            continue;
        if ((f->flags & SB_F_UUID) || f->type == SB_T_FOREIGN || is_uuids(f))
            v = sb_value_copy(a, v);
        if (f->type == SB_T_FOREIGN)
            lower_string(a, sb_get(v, "id"));
        else if (is_uuids(f))
            sb_array_each (item, v)
                lower_string(a, item);
        else if (f->flags & SB_F_UUID)
            lower_string(a, v);
        sb_object_set(a, row, sb_str_c(f->name), v);
    }
    if (ttl)
        sb_object_set(a, row, SB_STR("ttl"), ttl);
    return row;
}

/* What is left of a ttl, in whole seconds: of one just given it is less than all already. */
static struct sb_value *shown_ttl(struct sb_arena *a, const struct sb_value *row)
{
    const struct sb_value *ttl = sb_get(row, "ttl");

    if (!sb_is_number(ttl))
        return sb_value_null(a);
    return sb_value_int(a, (int64_t)ceil(sb_number(ttl)) - 1);
}

static enum sb_rc show(struct sb_store *s, struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                       const struct sb_value *row, struct sb_value **out, struct sb_kong_error *e)
{
    const struct sb_store_special *special = sb_store_special(kind);
    struct sb_value *entity = sb_entity_read(ctx, kind, row);

    if ((kind->flags & SB_E_TTL) && (s->null_ttl || sb_get(row, "ttl")))
        sb_object_set(ctx->arena, entity, SB_STR("ttl"), shown_ttl(ctx->arena, row));
    else
        sb_object_remove(entity, SB_STR("ttl"));
    *out = entity;
    return special && special->shown ? special->shown(s, ctx, entity, e) : SB_OK;
}

/* -- reading ----------------------------------------------------------------------------------- */

enum sb_rc sb_store_find(struct sb_store *s, struct sb_schema_ctx *ctx,
                         const struct sb_entity *kind, struct sb_store_key key,
                         struct sb_value **out, struct sb_kong_error *e)
{
    struct sb_value *row = NULL;
    enum sb_rc rc = find_row(s, ctx, kind, &key, &row, e);

    if (!rc && row)
        return show(s, ctx, kind, row, out, e);
    if (!rc)
        *out = NULL;
    return rc;
}

enum sb_rc sb_store_list(struct sb_store *s, struct sb_schema_ctx *ctx,
                         const struct sb_entity *kind, const struct sb_store_page *page,
                         struct sb_value **rows, bool *more, struct sb_kong_error *e)
{
    struct sb_store_page p = *page;
    struct sb_value *list;
    struct sb_err err;
    enum sb_rc rc;

    p.size = p.size > 0 ? p.size : 100;
    rc = s->ops->page(s, ctx->arena, kind, &p, &list, more, &err);
    if (rc)
        return sb_store_failed(ctx, rc, &err, e);
    for (uint32_t i = 0; !rc && i < list->count; i++)
        rc = show(s, ctx, kind, list->items[i], &list->items[i], e);
    if (!rc)
        *rows = list;
    return rc;
}

/* -- writing ----------------------------------------------------------------------------------- */

static const char *const verbs[] = {
    [SB_STORE_INSERT] = "create",
    [SB_STORE_UPDATE] = "update",
    [SB_STORE_UPSERT] = "create or update",
    [SB_STORE_DELETE] = "remove",
};

static enum sb_rc refuse_read_only(const struct sb_store_write *w)
{
    struct sb_arena *a = w->ctx->arena;
    struct sb_str by = SB_STR("");

    if (w->key.field && !is_primary(w->kind, w->key.field))
        by = sb_arena_printf(a, " by '%s'", w->key.field);
    return refuse(w->e, SB_KONG_OPERATION_UNSUPPORTED,
                  sb_arena_printf(a, "cannot %s '%s' entities%.*s when not using a database",
                                  verbs[w->op], w->kind->name, SB_ARG(by)),
                  NULL);
}

static enum sb_rc hook(struct sb_store_write *w, enum sb_rc (*fn)(struct sb_store_write *))
{
    return fn ? fn(w) : SB_OK;
}

static enum sb_rc put(struct sb_store_write *w)
{
    struct sb_store *s = w->store;
    struct sb_refusal why = {0};
    struct sb_err err;
    enum sb_rc rc;

    if (s->read_only)
        return refuse_read_only(w);
    s->wrote = true;
    rc = s->ops->put(s, w->ctx->arena, w->kind, &w->row, 1, w->op != SB_STORE_INSERT, &why, &err);
    if (!rc)
        return SB_OK;
    return why.kind ? sb_store_refused(w->ctx->arena, w->kind, w->row, &why, w->e)
                    : sb_store_failed(w->ctx, rc, &err, w->e);
}

static enum sb_rc validate(struct sb_store_write *w, struct sb_value **entity)
{
    switch (w->op) {
    case SB_STORE_INSERT:
        return sb_entity_insert(w->ctx, w->kind, w->input, entity, w->e);
    case SB_STORE_UPSERT:
        return sb_entity_upsert(w->ctx, w->kind, w->input, entity, w->e);
    default:
        return sb_entity_update(w->ctx, w->kind, w->stored, w->input, entity, w->e);
    }
}

/* From the input to the row that is in the store. */
static enum sb_rc write_input(struct sb_store_write *w)
{
    static const struct sb_store_special none = {0};
    const struct sb_store_special *special = sb_store_special(w->kind);
    struct sb_value *entity, *ttl;
    enum sb_rc rc;

    special = special ? special : &none;
    rc = take_ttl(w->ctx, w->kind, w->input, w->op == SB_STORE_UPDATE ? w->stored : NULL, &ttl,
                  w->e);
    if (!rc)
        rc = resolve_all(w->store, w->ctx, w->kind, w->input, w->e);
    if (!rc)
        rc = hook(w, special->before_check);
    if (!rc)
        rc = validate(w, &entity);
    if (rc)
        return rc;
    w->row = as_row(w->ctx->arena, w->kind, entity, ttl);
    rc = hook(w, special->before_write);
    if (!rc)
        rc = put(w);
    return rc ? rc : hook(w, special->after_write);
}

/* The steps that depend on the kind of write, then the common ones. */
static enum sb_rc write_locked(struct sb_store_write *w)
{
    struct sb_arena *a = w->ctx->arena;
    struct sb_value *row = NULL;
    enum sb_rc rc;

    if (w->op == SB_STORE_INSERT)
        return write_input(w);
    rc = find_row(w->store, w->ctx, w->kind, &w->key, &row, w->e);
    if (rc)
        return rc;
    w->stored = row;
    if (w->op == SB_STORE_UPDATE) {
        if (!row)
            return refuse_missing(a, w->kind, w->key, w->e);
        sb_object_remove(w->input, sb_str_c(w->kind->primary_key));
        return write_input(w);
    }
    /* The key of the URL wins over the body, and the id of what is there over both. */
    sb_object_set(a, w->input, sb_str_c(w->key.field), sb_value_str(a, w->key.value));
    if (row)
        sb_object_set(a, w->input, sb_str_c(w->kind->primary_key),
                      sb_get(row, w->kind->primary_key));
    return write_input(w);
}

static enum sb_rc write_entity(struct sb_store_write *w, const struct sb_value *input,
                               struct sb_value **out)
{
    struct sb_store *s = w->store;
    struct sb_err err;
    enum sb_rc rc;
    bool own;

    w->input = sb_value_copy(w->ctx->arena, input);
    rc = enter(s, s->read_only || w->op == SB_STORE_INSERT ? NULL : w->kind, &own, &err);
    if (rc)
        return sb_store_failed(w->ctx, rc, &err, w->e);
    rc = write_locked(w);
    if (!rc)
        rc = show(s, w->ctx, w->kind, w->row, out, w->e);
    if (rc) {
        if (own)
            sb_store_rollback(s);
        return rc;
    }
    rc = leave(s, own, SB_OK, &err);
    return rc ? sb_store_failed(w->ctx, rc, &err, w->e) : SB_OK;
}

enum sb_rc sb_store_insert(struct sb_store *s, struct sb_schema_ctx *ctx,
                           const struct sb_entity *kind, const struct sb_value *input,
                           struct sb_value **out, struct sb_kong_error *e)
{
    struct sb_store_write w = {.store = s, .ctx = ctx, .kind = kind, .op = SB_STORE_INSERT, .e = e};

    return write_entity(&w, input, out);
}

enum sb_rc sb_store_upsert(struct sb_store *s, struct sb_schema_ctx *ctx,
                           const struct sb_entity *kind, struct sb_store_key key,
                           const struct sb_value *input, struct sb_value **out,
                           struct sb_kong_error *e)
{
    struct sb_store_write w = {
        .store = s, .ctx = ctx, .kind = kind, .op = SB_STORE_UPSERT, .key = key, .e = e};

    return write_entity(&w, input, out);
}

enum sb_rc sb_store_update(struct sb_store *s, struct sb_schema_ctx *ctx,
                           const struct sb_entity *kind, struct sb_store_key key,
                           const struct sb_value *patch, struct sb_value **out,
                           struct sb_kong_error *e)
{
    struct sb_store_write w = {
        .store = s, .ctx = ctx, .kind = kind, .op = SB_STORE_UPDATE, .key = key, .e = e};

    return write_entity(&w, patch, out);
}

static enum sb_rc drop(struct sb_store_write *w)
{
    struct sb_store *s = w->store;
    struct sb_str id = sb_get(w->stored, w->kind->primary_key)->s;
    struct sb_refusal why = {0};
    struct sb_err err;
    enum sb_rc rc;

    if (s->read_only)
        return refuse_read_only(w);
    s->wrote = true;
    rc = s->ops->drop(s, w->ctx->arena, w->kind, &id, 1, &why, &err);
    if (!rc)
        return SB_OK;
    return why.kind ? sb_store_refused(w->ctx->arena, w->kind, w->stored, &why, w->e)
                    : sb_store_failed(w->ctx, rc, &err, w->e);
}

static enum sb_rc delete_locked(struct sb_store_write *w)
{
    const struct sb_store_special *special = sb_store_special(w->kind);
    struct sb_value *row = NULL;
    enum sb_rc rc = find_row(w->store, w->ctx, w->kind, &w->key, &row, w->e);

    if (rc || !row)
        return rc;
    w->stored = row;
    rc = special && !w->store->read_only ? hook(w, special->before_delete) : SB_OK;
    return rc ? rc : drop(w);
}

enum sb_rc sb_store_delete(struct sb_store *s, struct sb_schema_ctx *ctx,
                           const struct sb_entity *kind, struct sb_store_key key,
                           struct sb_kong_error *e)
{
    struct sb_store_write w = {
        .store = s, .ctx = ctx, .kind = kind, .op = SB_STORE_DELETE, .key = key, .e = e};
    struct sb_err err;
    bool own;
    enum sb_rc rc = enter(s, s->read_only ? NULL : kind, &own, &err);

    if (rc)
        return sb_store_failed(ctx, rc, &err, e);
    rc = delete_locked(&w);
    if (rc) {
        if (own)
            sb_store_rollback(s);
        return rc;
    }
    rc = leave(s, own, SB_OK, &err);
    return rc ? sb_store_failed(ctx, rc, &err, e) : SB_OK;
}
