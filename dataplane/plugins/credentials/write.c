/* write.c - see credentials.h: rows that plugins write, on the worker's connection for writes.
 *
 * What was written is forgotten by the cache of this node at once, before the exchange goes on; the
 * others, and whatever the row was before, hear of it by the invalidation log.
 */
#include "dataplane/plugins/credentials/write.h"

#include <stdlib.h>

#include "dataplane/http/exchange.h"
#include "dataplane/listen/worker.h"
#include "dataplane/plugins/parts.h"
#include "schema/row.h"
#include "shared/clock.h"
#include "shared/log.h"

enum { WRITE_MS = 5000 };

struct sb_writing {
    struct sb_pg_task task; /* first */
    struct sb_lookups *l;
    struct sb_arena *arena; /* of this, the statement and its parameters */
    enum sb_lookup by;      /* one of the kind's */
    struct sb_exchange *x;  /* NULL: nobody waits */
    struct sb_write *write;
    struct sb_writing *next, **link; /* all of the worker */
};

static enum sb_rc over(struct sb_write *write, enum sb_rc rc)
{
    if (write) {
        write->begun = write->done = true;
        write->rc = rc;
    }
    return rc;
}

static void free_writing(struct sb_writing *w)
{
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    sb_arena_free(w->arena);
}

void sb_writing_leave(struct sb_writing *w)
{
    w->x = NULL;
    w->write = NULL;
}

void sb_writings_forget(struct sb_writing **first)
{
    while (*first)
        free_writing(*first);
}

/* -- results -- */

static struct sb_str field_of(const struct sb_value *row, const char *name)
{
    const struct sb_value *v = sb_get(row, name);

    if (sb_is(v, SB_V_OBJECT))
        v = sb_get(v, "id");
    return sb_is(v, SB_V_STR) ? v->s : (struct sb_str){0};
}

static void forget_row(struct sb_cache *cache, const struct sb_found *row)
{
    for (enum sb_lookup by = 0; by < SB_LOOKUPS; by++) {
        struct sb_str value;
        char room[37];

        if (sb_lookup_entity(by) != row->kind)
            continue;
        value = field_of(row->value, sb_lookup_kind(by)->field);
        if (sb_lookup_normalise(by, &value, room)) {
            struct sb_lookup_key key = sb_cache_key(cache, by, value);

            sb_cache_forget(cache, &key);
        }
    }
}

static enum sb_rc read_row(struct sb_writing *w, const struct sb_pg_rows *result,
                           struct sb_rows **out, struct sb_err *err)
{
    struct sb_pg_rows rows = *result;
    const struct sb_value *v;
    struct sb_value *value;
    enum sb_rc rc;

    if (!sb_pg_next(&rows))
        return sb_err_set(err, SB_NOTFOUND, "no such row");
    rc = sb_row_decode(w->arena, sb_lookup_entity(w->by), &rows, &value, err);
    if (rc)
        return rc;
    v = value;
    *out = sb_rows_build(&(struct sb_row_values){w->by, &v, 1}, sb_clock_ms());
    return SB_OK;
}

static void on_done(struct sb_pg_task *task, enum sb_rc rc, const struct sb_pg_rows *result,
                    const struct sb_err *why)
{
    struct sb_writing *w = (struct sb_writing *)task;
    struct sb_exchange *x = w->x;
    struct sb_rows *rows = NULL;
    struct sb_err err;

    if (!rc && (rc = read_row(w, result, &rows, &err)))
        why = &err;
    if (rc && rc != SB_NOTFOUND && rc != SB_CONFLICT)
        sb_error("credentials: a row of %s was not written: %s", sb_lookup_entity(w->by)->name,
                 why->text);
    if (rows)
        forget_row(sb_lookups_shared(w->l)->cache, &rows->row[0]);
    if (x) {
        over(w->write, rc == SB_TIMEOUT ? SB_UNAVAILABLE : rc);
        x->asking.writing = NULL;
        if (rows) {
            w->write->row = &rows->row[0];
            sb_exchange_hold_rows(x, rows);
        }
    } else {
        sb_rows_drop(rows);
    }
    free_writing(w);
    if (x)
        sb_exchange_resume_again(x);
}

/* -- statements -- */

static bool kind_of(const struct sb_entity *kind, enum sb_lookup *by)
{
    for (*by = 0; *by < SB_LOOKUPS; ++*by)
        if (sb_lookup_entity(*by) == kind)
            return true;
    return false;
}

static const char *text(struct sb_arena *a, struct sb_buf *b)
{
    const char *s = sb_arena_cstr(a, sb_buf_get(b));

    sb_buf_release(b);
    return s;
}

static const char *encoded(struct sb_arena *a, const struct sb_entity *kind,
                           const struct sb_value *row)
{
    struct sb_buf b;

    sb_buf_init(&b, 0);
    sb_row_encode(&b, a, kind, row, SB_STR(""), sb_wall_s());
    return text(a, &b);
}

static const char *insert_sql(struct sb_arena *a, const struct sb_entity *kind)
{
    struct sb_buf b;

    sb_buf_init(&b, 0);
    sb_buf_printf(&b, "INSERT INTO \"%s\" (", kind->table);
    sb_row_columns(&b, kind);
    sb_buf_cstr(&b, ") SELECT ");
    sb_row_columns(&b, kind);
    sb_buf_printf(&b,
                  " FROM jsonb_populate_record(NULL::\"%s\", $1::jsonb || jsonb_build_object("
                  "'ws_id', (SELECT id FROM workspaces WHERE name = 'default'))) RETURNING ",
                  kind->table);
    sb_row_select(&b, kind);
    return text(a, &b);
}

static void add_condition(struct sb_buf *b, const struct sb_entity *kind, const char *param)
{
    sb_buf_printf(b, " WHERE \"id\" = %s::uuid%s RETURNING ", param,
                  kind->flags & SB_E_TTL ? " AND (\"ttl\" IS NULL OR \"ttl\" > CURRENT_TIMESTAMP)"
                                         : "");
    sb_row_select(b, kind);
}

static const char *delete_sql(struct sb_arena *a, const struct sb_entity *kind)
{
    struct sb_buf b;

    sb_buf_init(&b, 0);
    sb_buf_printf(&b, "DELETE FROM \"%s\"", kind->table);
    add_condition(&b, kind, "$1");
    return text(a, &b);
}

/* The columns that a patch has, quoted; false: one that there is not. */
static bool add_columns(struct sb_buf *b, struct sb_arena *a, const struct sb_entity *kind,
                        const struct sb_value *patch)
{
    const struct sb_member *m;
    const char *comma = "";

    sb_object_each (m, patch) {
        const struct sb_field *f = sb_field_find(kind->fields, m->key);
        bool ttl = (kind->flags & SB_E_TTL) && sb_str_is(m->key, "ttl");

        if (!f && !ttl)
            return false;
        sb_buf_printf(b, "%s\"%s\"", comma, ttl ? "ttl" : sb_row_column(a, f));
        comma = ", ";
    }
    return patch->count > 0;
}

static const char *update_sql(struct sb_arena *a, const struct sb_entity *kind,
                              const struct sb_value *patch)
{
    struct sb_buf b;
    bool ok;

    sb_buf_init(&b, 0);
    sb_buf_printf(&b, "UPDATE \"%s\" SET (", kind->table);
    ok = add_columns(&b, a, kind, patch);
    sb_buf_cstr(&b, ") = (SELECT ");
    ok = ok && add_columns(&b, a, kind, patch);
    sb_buf_printf(&b, " FROM jsonb_populate_record(NULL::\"%s\", $1::jsonb - 'ws_id'))",
                  kind->table);
    add_condition(&b, kind, "$2");
    if (ok)
        return text(a, &b);
    sb_buf_release(&b);
    return NULL;
}

/* -- writing -- */

struct request {
    enum { INSERT, UPDATE, DELETE } verb;
    const struct sb_entity *kind;
    struct sb_str id;
    const struct sb_value *row; /* complete, or the patch */
};

static struct sb_writing *new_writing(struct sb_lookups *l, const struct request *r)
{
    struct sb_writing **all = sb_lookups_writings(l), *w;
    struct sb_arena *a = sb_arena_new(0);
    struct sb_pg_task *t;

    w = SB_NEW(a, struct sb_writing);
    t = &w->task;
    w->arena = a;
    w->l = l;
    t->statement = -1;
    t->needs_schema = true;
    t->deadline_ms = sb_clock_ms() + WRITE_MS;
    t->done = on_done;
    if (r->row)
        t->params[t->nparams++] = encoded(a, r->kind, r->row);
    if (r->verb != INSERT)
        t->params[t->nparams++] = sb_arena_cstr(a, r->id);
    t->sql = r->verb == INSERT   ? insert_sql(a, r->kind)
             : r->verb == DELETE ? delete_sql(a, r->kind)
                                 : update_sql(a, r->kind, r->row);
    w->next = *all;
    w->link = all;
    if (w->next)
        w->next->link = &w->next;
    *all = w;
    return w;
}

static enum sb_rc submit(struct sb_exchange *x, const struct request *r, struct sb_write *write)
{
    struct sb_lookups *l = x->w->lookups;
    struct sb_writing *w;
    enum sb_lookup by;
    char room[37];
    struct sb_str id = r->id;
    enum sb_rc rc;

    if (!sb_lookups_shared(l)->cache || !kind_of(r->kind, &by))
        return over(write, SB_DENIED);
    if (r->verb != INSERT && !sb_lookup_normalise(SB_CONSUMER_BY_ID, &id, room))
        return over(write, SB_NOTFOUND);
    w = new_writing(l, r);
    w->by = by;
    rc = w->task.sql ? sb_pg_async_send(sb_lookups_writer(l), &w->task) : SB_INVALID;
    if (rc) {
        free_writing(w);
        return over(write, rc);
    }
    if (!write)
        return SB_OK;
    w->x = x;
    w->write = write;
    write->begun = true;
    x->asking.writing = w;
    x->asking.used = true;
    return SB_AGAIN;
}

enum sb_rc sb_credential_insert(struct sb_exchange *x, const struct sb_entity *kind,
                                const struct sb_value *input, struct sb_write *write)
{
    struct sb_schema_ctx ctx = {.arena = sb_exchange_arena(x)};
    struct sb_kong_error e = {0};
    struct sb_value *row;

    if (write && write->begun)
        return write->done ? write->rc : SB_AGAIN;
    if (sb_entity_insert(&ctx, kind, input, &row, &e)) {
        sb_error("credentials: a row of %s is not valid: %.*s", kind->name, SB_ARG(e.message));
        return over(write, SB_INVALID);
    }
    return submit(x, &(struct request){.verb = INSERT, .kind = kind, .row = row}, write);
}

enum sb_rc sb_credential_update(struct sb_exchange *x, const struct sb_entity *kind,
                                struct sb_str id, const struct sb_value *patch,
                                struct sb_write *write)
{
    if (write && write->begun)
        return write->done ? write->rc : SB_AGAIN;
    return submit(x, &(struct request){.verb = UPDATE, .kind = kind, .id = id, .row = patch},
                  write);
}

enum sb_rc sb_credential_delete(struct sb_exchange *x, const struct sb_entity *kind,
                                struct sb_str id, struct sb_write *write)
{
    if (write && write->begun)
        return write->done ? write->rc : SB_AGAIN;
    return submit(x, &(struct request){.verb = DELETE, .kind = kind, .id = id}, write);
}
