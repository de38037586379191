/* store_pg.c - entities in Kong's tables (reference/kong-postgres-schema.md).
 *
 * Every statement is made from the field tables, and prepared by the session under its own text.
 * Rows are written in one way only, many or one, new or not:
 *
 *     INSERT INTO t (columns) SELECT columns FROM jsonb_populate_recordset(NULL::t, $1)
 *     ON CONFLICT (id) DO UPDATE SET ...          where a row may be replaced
 *
 * Reads filter what has expired, and, but for sb_store_rows, the workspace. Which rule refused a
 * row is told by the constraint's name: the tables know what it can be called.
 */
#include <stdio.h>
#include <stdlib.h>

#include "schema/row.h"
#include "schema/store_ops.h"
#include "shared/clock.h"
#include "shared/json.h"

struct pg_store {
    struct sb_store base;
    struct sb_pg *pg;
    bool marked;  /* there is a savepoint */
    bool aborted; /* a statement failed: the server refuses all else until it is taken back */
};

enum { BATCH_LEN = 4 << 20 }; /* bytes of rows in one statement, about */

static struct pg_store *postgres(struct sb_store *s)
{
    return (struct pg_store *)s;
}

static struct sb_pg *session(struct sb_store *s)
{
    return postgres(s)->pg;
}

/* What came of a statement; one that failed has aborted the transaction that it was in. */
static enum sb_rc ended(struct sb_store *s, enum sb_rc rc)
{
    if (rc)
        postgres(s)->aborted = true;
    return rc;
}

/* The buffer's content as a C string in the arena; the buffer is empty afterwards. */
static const char *take(struct sb_arena *a, struct sb_buf *b)
{
    const char *text = sb_arena_str(a, sb_buf_get(b)).p;

    sb_buf_release(b);
    return text;
}

/* -- reading ----------------------------------------------------------------------------------- */

/* SELECT list FROM table WHERE true, and what has not expired. */
static void select_from(struct sb_buf *b, const struct sb_entity *kind)
{
    sb_buf_init(b, 0);
    sb_buf_cstr(b, "SELECT ");
    sb_row_select(b, kind);
    sb_buf_printf(b, " FROM \"%s\" WHERE true", kind->table);
    if (kind->flags & SB_E_TTL)
        sb_buf_cstr(b, " AND (\"ttl\" IS NULL OR \"ttl\" > CURRENT_TIMESTAMP)");
}

static void in_workspace(struct sb_buf *b, const struct sb_store *s, const struct sb_entity *kind)
{
    if (kind->flags & SB_E_WORKSPACE)
        sb_buf_printf(b, " AND \"ws_id\" = '%s'", s->ws_id);
}

/* uuid where the field is one: indexes want the right type. */
static const char *sql_type(const struct sb_field *f)
{
    return f->type == SB_T_FOREIGN || (f->flags & SB_F_UUID) ? "uuid" : "text";
}

static const struct sb_field *primary_key(const struct sb_entity *kind)
{
    const struct sb_field *f =
        kind->primary_key ? sb_field_find(kind->fields, sb_str_c(kind->primary_key)) : NULL;

    sb_assert(f); /* no one asks for rows by key of a table without one */
    return f;
}

/* Runs it and decodes all rows. */
static enum sb_rc query_rows(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                             const char *sql, const struct sb_str *params, int nparams,
                             struct sb_value **out, struct sb_err *err)
{
    struct sb_value *list = sb_value_array(a), *row = NULL;
    struct sb_pg_rows rows = {0};
    enum sb_rc rc = ended(s, sb_pg_query(session(s), sql, params, nparams, &rows, err));

    while (!rc && sb_pg_next(&rows)) {
        rc = sb_row_decode(a, kind, &rows, &row, err);
        if (!rc)
            sb_array_push(a, list, row);
    }
    sb_pg_rows_release(&rows);
    if (!rc)
        *out = list;
    return rc;
}

static enum sb_rc pg_rows(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                          const struct sb_str *ids, size_t nids, struct sb_value **rows,
                          struct sb_err *err)
{
    struct sb_str param = {0};
    struct sb_buf b;

    select_from(&b, kind);
    if (ids) {
        const struct sb_field *key = primary_key(kind);

        sb_buf_printf(&b, " AND \"%s\" = ANY($1::%s[])", sb_row_column(a, key), sql_type(key));
        param = sb_pg_array_text(a, ids, nids);
    }
    return query_rows(s, a, kind, take(a, &b), &param, ids ? 1 : 0, rows, err);
}

static enum sb_rc pg_find(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                          const struct sb_field *field, struct sb_str value, struct sb_value **row,
                          struct sb_err *err)
{
    struct sb_value *rows;
    struct sb_buf b;
    enum sb_rc rc;

    select_from(&b, kind);
    sb_buf_printf(&b, " AND \"%s\" = $1::%s", sb_row_column(a, field), sql_type(field));
    in_workspace(&b, s, kind);
    sb_buf_cstr(&b, " LIMIT 1");
    rc = query_rows(s, a, kind, take(a, &b), &value, 1, &rows, err);
    if (!rc)
        *row = rows->count ? rows->items[0] : NULL;
    return rc;
}

static enum sb_rc pg_page(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                          const struct sb_store_page *page, struct sb_value **rows, bool *more,
                          struct sb_err *err)
{
    const struct sb_field *key = primary_key(kind);
    const char *column = sb_row_column(a, key);
    struct sb_str params[3];
    struct sb_buf b;
    enum sb_rc rc;
    int n = 0;

    select_from(&b, kind);
    in_workspace(&b, s, kind);
    if (page->after_id.len) {
        params[n++] = page->after_id;
        sb_buf_printf(&b, " AND \"%s\" > $%d::%s", column, n, sql_type(key));
    }
    if (page->parent_field) {
        const struct sb_field *f = sb_field_find(kind->fields, sb_str_c(page->parent_field));

        params[n++] = page->parent_id;
        sb_buf_printf(&b, " AND \"%s\" = $%d::uuid", sb_row_column(a, f), n);
    }
    if (page->ntags) {
        params[n++] = sb_pg_array_text(a, page->tags, page->ntags);
        sb_buf_printf(&b, " AND \"tags\" %s $%d::text[]", page->tags_any ? "&&" : "@>", n);
    }
    sb_buf_printf(&b, " ORDER BY \"%s\" LIMIT %d", column, page->size + 1);
    rc = query_rows(s, a, kind, take(a, &b), params, n, rows, err);
    if (rc)
        return rc;
    *more = (*rows)->count > (uint32_t)page->size;
    if (*more)
        (*rows)->count--;
    return SB_OK;
}

/* The table tags is kept by triggers, a row an entity; it has no workspace. */
static enum sb_rc pg_tags(struct sb_store *s, struct sb_arena *a, const struct sb_str *tag,
                          struct sb_str after_id, int64_t after_place, int size,
                          struct sb_store_tag **out, size_t *n, struct sb_err *err)
{
    static const char sql[] =
        "SELECT t.tag, e.entity_name, e.entity_id, t.place FROM tags e "
        "CROSS JOIN LATERAL unnest(e.tags) WITH ORDINALITY AS t (tag, place) "
        "WHERE ($1::text IS NULL OR (e.tags @> ARRAY[$1::text] AND t.tag = $1::text)) "
        "AND ($2::uuid IS NULL OR e.entity_id > $2::uuid "
        "OR (e.entity_id = $2::uuid AND t.place > $3::bigint)) "
        "ORDER BY e.entity_id, t.place LIMIT $4::bigint";
    struct sb_str params[4] = {
        tag ? *tag : (struct sb_str){0}, after_id.len ? after_id : (struct sb_str){0},
        sb_arena_printf(a, "%lld", (long long)after_place), sb_arena_printf(a, "%d", size + 1)};
    struct sb_store_tag *list = SB_NEW_N(a, struct sb_store_tag, size + 1);
    struct sb_pg_rows rows = {0};
    enum sb_rc rc;

    if (tag && after_id.len) /* an entity has a tag once */
        params[2] = SB_STR("9223372036854775807");
    rc = sb_pg_query(session(s), sql, params, 4, &rows, err);
    for (*n = 0; !rc && sb_pg_next(&rows); (*n)++)
        list[*n] = (struct sb_store_tag){
            sb_arena_str(a, sb_pg_text(&rows, 0)), sb_arena_str(a, sb_pg_text(&rows, 1)),
            sb_arena_str(a, sb_pg_text(&rows, 2)), sb_pg_int(&rows, 3)};
    sb_pg_rows_release(&rows);
    *out = list;
    return rc;
}

/* -- writing ----------------------------------------------------------------------------------- */

static const char *insert_sql(struct sb_arena *a, const struct sb_entity *kind, bool replace)
{
    struct sb_buf b, columns;

    sb_buf_init(&b, 0);
    sb_buf_init(&columns, 0);
    sb_row_columns(&columns, kind);
    sb_buf_printf(&b,
                  "INSERT INTO \"%s\" (%.*s) SELECT %.*s FROM "
                  "jsonb_populate_recordset(NULL::\"%s\", $1::jsonb)",
                  kind->table, SB_ARG(sb_buf_get(&columns)), SB_ARG(sb_buf_get(&columns)),
                  kind->table);
    sb_buf_release(&columns);
    if (replace) {
        sb_buf_printf(&b, " ON CONFLICT (\"%s\") DO UPDATE SET ",
                      sb_row_column(a, primary_key(kind)));
        if (!sb_row_assignments(&b, kind)) /* nothing but the key: it is there, which is all */
            sb_buf_printf(&b, "\"%s\" = EXCLUDED.\"%s\"", kind->primary_key, kind->primary_key);
    }
    return take(a, &b);
}

/* From "plugins_ws_id_instance_name_unique" of plugins to "instance_name". */
static struct sb_str constraint_columns(const struct sb_entity *kind, struct sb_str name)
{
    static const char *const ends[] = {"_unique", "_key", "_idx", "_fkey", "_pkey"};

    if (!sb_str_starts(name, sb_str_c(kind->table)) || name.len <= strlen(kind->table))
        return SB_STR("");
    name = sb_str_from(name, strlen(kind->table) + 1);
    if (sb_str_starts(name, SB_STR("ws_id_")))
        name = sb_str_from(name, 6);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (sb_str_ends(name, sb_str_c(ends[i])))
            return sb_str_first(name, name.len - strlen(ends[i]));
    return name;
}

static const struct sb_field *field_of_column(const struct sb_entity *kind, struct sb_str column)
{
    for (const struct sb_field *f = kind->fields; f->name; f++) {
        struct sb_str name = sb_str_c(f->column ? f->column : f->name);

        if (!f->column && f->type == SB_T_FOREIGN) {
            if (column.len == name.len + 3 && sb_str_starts(column, name) &&
                sb_str_ends(column, SB_STR("_id")))
                return f;
        } else if (sb_str_eq(column, name)) {
            return f;
        }
    }
    return NULL;
}

static void refused_unique(const struct sb_entity *kind, struct sb_str constraint,
                           struct sb_refusal *why)
{
    struct sb_str columns = constraint_columns(kind, constraint);
    const struct sb_field *f = field_of_column(kind, columns);

    if (sb_str_ends(constraint, SB_STR("_pkey"))) {
        why->kind = SB_REFUSED_PRIMARY_KEY;
    } else if (f) {
        why->kind = SB_REFUSED_UNIQUE;
        why->field = f->name;
    } else if (sb_row_has_cache_key(kind)) { /* cache_key, or its columns: keys_kid_set_id_key */
        why->kind = SB_REFUSED_CACHE_KEY;
    } else {
        why->kind = SB_REFUSED_PRIMARY_KEY;
    }
}

static void refused_foreign(const struct sb_entity *kind, struct sb_str constraint,
                            struct sb_refusal *why)
{
    for (const struct sb_entity *const *e = sb_entities(); *e; e++) {
        const struct sb_field *f = field_of_column(*e, constraint_columns(*e, constraint));

        if (!f || f->type != SB_T_FOREIGN)
            continue;
        why->kind = *e == kind ? SB_REFUSED_FOREIGN : SB_REFUSED_REFERENCED;
        why->field = f->name;
        why->by = *e;
        return;
    }
}

static void explain(struct sb_store *s, const struct sb_entity *kind, struct sb_refusal *why)
{
    struct sb_str state = sb_str_c(sb_pg_sqlstate(session(s)));
    struct sb_str constraint = sb_str_c(sb_pg_constraint(session(s)));

    *why = (struct sb_refusal){0};
    if (sb_str_is(state, "23505"))
        refused_unique(kind, constraint, why);
    else if (sb_str_is(state, "23503"))
        refused_foreign(kind, constraint, why);
    else if (sb_str_is(state, "23502"))
        why->kind = SB_REFUSED_NOT_NULL;
}

static enum sb_rc run_write(struct sb_store *s, const struct sb_entity *kind, const char *sql,
                            struct sb_str param, struct sb_refusal *why, struct sb_err *err)
{
    struct sb_pg_rows rows = {0};
    enum sb_rc rc = ended(s, sb_pg_query(session(s), sql, &param, 1, &rows, err));

    sb_pg_rows_release(&rows);
    if (rc)
        explain(s, kind, why);
    return rc && why->kind ? SB_CONFLICT : rc;
}

static enum sb_rc pg_put(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                         struct sb_value *const *rows, size_t n, bool replace,
                         struct sb_refusal *why, struct sb_err *err)
{
    const char *sql = insert_sql(a, kind, replace);
    struct sb_str ws_id = sb_str_c(s->ws_id);
    double now_s = sb_wall_s();
    enum sb_rc rc = SB_OK;
    struct sb_buf b;

    sb_buf_init(&b, 0);
    for (size_t i = 0; !rc && i < n;) {
        sb_buf_clear(&b);
        sb_buf_char(&b, '[');
        for (; i < n && b.len < BATCH_LEN; i++) {
            if (b.len > 1)
                sb_buf_char(&b, ',');
            sb_row_encode(&b, a, kind, rows[i], ws_id, now_s);
        }
        sb_buf_char(&b, ']');
        rc = b.full ? sb_err_set(err, SB_TOOLARGE, "%s: a row is too large", kind->name)
                    : run_write(s, kind, sql, sb_buf_get(&b), why, err);
    }
    sb_buf_release(&b);
    return rc;
}

static enum sb_rc pg_drop(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                          const struct sb_str *ids, size_t n, struct sb_refusal *why,
                          struct sb_err *err)
{
    const struct sb_field *key = primary_key(kind);
    const char *sql = sb_arena_printf(a, "DELETE FROM \"%s\" WHERE \"%s\" = ANY($1::%s[])",
                                      kind->table, sb_row_column(a, key), sql_type(key))
                          .p;

    return run_write(s, kind, sql, sb_pg_array_text(a, ids, n), why, err);
}

/* -- transactions ------------------------------------------------------------------------------ */

/* Who reads a row and then writes it must be the only one who does. Writers of configuration queue
 * at the change log's counter, which a statement on the table joins before it takes any row: so the
 * way into the queue is a statement that changes nothing. (Locking the row instead would be locking
 * in the wrong order, and waiting for one's own successor.) */
static enum sb_rc pg_begin(struct sb_store *s, const struct sb_entity *will_write,
                           struct sb_err *err)
{
    char sql[256] = "BEGIN";

    postgres(s)->marked = postgres(s)->aborted = false;
    if (will_write)
        snprintf(sql, sizeof sql, "BEGIN; DELETE FROM \"%s\" WHERE false", will_write->table);
    return sb_pg_exec(session(s), sql, err);
}

static void pg_rollback(struct sb_store *s)
{
    struct sb_err err;

    if (sb_pg_alive(session(s)) && sb_pg_in_transaction(session(s)) &&
        sb_pg_exec(session(s), "ROLLBACK", &err))
        return; /* the session is gone, and the transaction with it */
}

/* The server answers COMMIT of an aborted transaction with ROLLBACK and calls that a success. */
static enum sb_rc pg_commit(struct sb_store *s, struct sb_err *err)
{
    if (!postgres(s)->aborted)
        return sb_pg_exec(session(s), "COMMIT", err);
    pg_rollback(s);
    return sb_err_set(err, SB_INVALID, "a statement of the transaction had failed");
}

/* There is one savepoint at most: left behind, they would nest, each deeper than the last. */
static enum sb_rc pg_mark(struct sb_store *s, struct sb_err *err)
{
    enum sb_rc rc =
        sb_pg_exec(session(s),
                   postgres(s)->marked ? "RELEASE SAVEPOINT silverback; SAVEPOINT silverback"
                                       : "SAVEPOINT silverback",
                   err);

    if (!rc)
        postgres(s)->marked = true;
    return rc;
}

static enum sb_rc pg_back_to_mark(struct sb_store *s, struct sb_err *err)
{
    enum sb_rc rc = sb_pg_exec(session(s), "ROLLBACK TO SAVEPOINT silverback", err);

    if (!rc)
        postgres(s)->aborted = false;
    return rc;
}

static enum sb_rc pg_version(struct sb_store *s, uint64_t *out, struct sb_err *err)
{
    struct sb_pg_rows rows = {0};
    enum sb_rc rc =
        sb_pg_query(session(s), "SELECT version FROM silverback_version", NULL, 0, &rows, err);

    if (!rc && sb_pg_next(&rows))
        *out = (uint64_t)sb_pg_int(&rows, 0);
    sb_pg_rows_release(&rows);
    return rc;
}

static void pg_free(struct sb_store *s)
{
    free(s);
}

static const struct sb_store_ops ops = {
    .begin = pg_begin,
    .commit = pg_commit,
    .rollback = pg_rollback,
    .mark = pg_mark,
    .back_to_mark = pg_back_to_mark,
    .version = pg_version,
    .rows = pg_rows,
    .find = pg_find,
    .page = pg_page,
    .tags = pg_tags,
    .put = pg_put,
    .drop = pg_drop,
    .free = pg_free,
};

enum sb_rc sb_store_pg(struct sb_pg *pg, struct sb_store **out, struct sb_err *err)
{
    struct sb_pg_rows rows = {0};
    struct pg_store *s;
    enum sb_rc rc;

    rc = sb_pg_query(pg, "SELECT id FROM workspaces WHERE name = 'default'", NULL, 0, &rows, err);
    if (rc)
        goto out;
    if (!sb_pg_next(&rows) || sb_pg_text(&rows, 0).len != SB_UUID_TEXT_LEN) {
        rc = sb_err_set(err, SB_NOTFOUND, "the database has no workspace 'default'");
        goto out;
    }
    s = sb_xcalloc(1, sizeof *s);
    s->base.ops = &ops;
    s->base.null_ttl = true;
    s->pg = pg;
    memcpy(s->base.ws_id, sb_pg_text(&rows, 0).p, SB_UUID_TEXT_LEN);
    *out = &s->base;
out:
    sb_pg_rows_release(&rows);
    return rc;
}
