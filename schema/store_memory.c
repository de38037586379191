/* store_memory.c - entities in memory, with the rules that PostgreSQL's tables would enforce.
 *
 *     tables[]   one per entity:  by_id   uuid -> row
 *                                 rows    all of them, sorted by id when somebody wants a page
 *                                 unique  per unique field, and for the cache key: text -> row
 *     journal    what a transaction replaced, newest last; rolling back walks it backwards
 *
 * A row lives in an arena of its own and is never changed: a write puts another in its place, and
 * the old one is freed when the transaction ends. Readers get copies. Rules are tried in
 * PostgreSQL's order (primary key, unique columns, cache key, foreign keys), so that a row which
 * breaks two of them is refused for the same one by both stores.
 */
#include <stdlib.h>

#include "schema/row.h"
#include "schema/store_ops.h"
#include "shared/clock.h"
#include "shared/map.h"
#include "shared/vec.h"

struct row {
    struct sb_arena *arena;
    struct sb_value *value;
    struct sb_str id, cache_key;
    double expires_s; /* wall clock; 0: never */
    size_t at;        /* in the table's rows */
};

struct unique {
    const struct sb_field *field; /* NULL: the cache key */
    struct sb_map rows;
};

struct table {
    const struct sb_entity *kind;
    struct sb_map by_id;
    SB_VEC(struct row *) rows;
    SB_VEC(struct unique) unique;
    bool unsorted;
};

/* One step of a transaction: what was in the place and what is in it now; either may be NULL. */
struct step {
    struct table *table;
    struct row *before, *after;
};

struct memory_store {
    struct sb_store base;
    struct table *tables;
    size_t ntables, mark;
    SB_VEC(struct step) journal;
    uint64_t version;
};

static struct memory_store *memory(struct sb_store *s)
{
    return (struct memory_store *)s;
}

static struct table *table_of(struct memory_store *m, const struct sb_entity *kind)
{
    for (size_t i = 0; i < m->ntables; i++)
        if (m->tables[i].kind == kind)
            return &m->tables[i];
    sb_assert(!"an entity that is in no table");
    return NULL;
}

/* -- rows -------------------------------------------------------------------------------------- */

static struct row *row_new(struct sb_store *s, const struct sb_entity *kind,
                           const struct sb_value *value)
{
    struct sb_arena *a = sb_arena_new(1024);
    struct row *r = SB_NEW(a, struct row);
    const struct sb_value *ttl;

    r->arena = a;
    r->value = sb_value_copy(a, value);
    r->id = sb_value_str_at(r->value, kind->primary_key);
    ttl = sb_get(r->value, "ttl");
    if ((kind->flags & SB_E_TTL) && sb_is_number(ttl))
        r->expires_s = sb_wall_s() + sb_number(ttl);
    if (sb_row_has_cache_key(kind))
        r->cache_key = sb_entity_cache_key(a, kind, r->value, sb_str_c(s->ws_id));
    return r;
}

static void row_free(struct row *r)
{
    if (r)
        sb_arena_free(r->arena);
}

static bool alive(const struct row *r)
{
    return r->expires_s == 0 || r->expires_s > sb_wall_s();
}

static struct sb_value *copy_row(struct sb_arena *a, const struct row *r)
{
    struct sb_value *v = sb_value_copy(a, r->value);

    if (r->expires_s > 0)
        sb_object_set(a, v, SB_STR("ttl"), sb_value_num(a, r->expires_s - sb_wall_s()));
    return v;
}

/* The row's key in an index of unique values; p NULL when it has none. */
static struct sb_str unique_key(const struct unique *u, const struct row *r)
{
    const struct sb_value *v;

    if (!u->field)
        return r->cache_key;
    v = sb_get(r->value, u->field->name);
    return sb_is(v, SB_V_STR) ? v->s : (struct sb_str){0};
}

/* -- tables ------------------------------------------------------------------------------------ */

static void table_init(struct table *t, const struct sb_entity *kind)
{
    t->kind = kind;
    for (const struct sb_field *f = kind->fields; f->name; f++)
        if ((f->flags & (SB_F_UNIQUE | SB_F_UNIQUE_GLOBAL)) && f->type == SB_T_STRING &&
            strcmp(f->name, kind->primary_key) != 0)
            sb_vec_push(&t->unique, ((struct unique){.field = f}));
    if (sb_row_has_cache_key(kind))
        sb_vec_push(&t->unique, ((struct unique){.field = NULL}));
}

static void table_release(struct table *t)
{
    struct unique *u;

    for (size_t i = 0; i < t->rows.len; i++)
        row_free(t->rows.p[i]);
    sb_vec_each (u, &t->unique)
        sb_map_release(&u->rows);
    sb_vec_release(&t->unique);
    sb_vec_release(&t->rows);
    sb_map_release(&t->by_id);
}

static void table_add(struct table *t, struct row *r)
{
    struct unique *u;

    sb_map_set(&t->by_id, r->id, r);
    sb_vec_each (u, &t->unique) {
        struct sb_str key = unique_key(u, r);

        if (key.p)
            sb_map_set(&u->rows, key, r);
    }
    r->at = t->rows.len;
    sb_vec_push(&t->rows, r);
    if (r->at && sb_str_cmp(t->rows.p[r->at - 1]->id, r->id) > 0)
        t->unsorted = true;
}

static void table_remove(struct table *t, struct row *r)
{
    struct row *last = t->rows.p[t->rows.len - 1];
    struct unique *u;

    sb_map_remove(&t->by_id, r->id);
    sb_vec_each (u, &t->unique) {
        struct sb_str key = unique_key(u, r);

        if (key.p && sb_map_get(&u->rows, key) == r)
            sb_map_remove(&u->rows, key);
    }
    t->rows.len--;
    if (last != r) {
        t->rows.p[r->at] = last;
        last->at = r->at;
        t->unsorted = true;
    }
}

static int by_id(const void *a, const void *b)
{
    return sb_str_cmp((*(struct row *const *)a)->id, (*(struct row *const *)b)->id);
}

static void table_sort(struct table *t)
{
    if (!t->unsorted)
        return;
    qsort(t->rows.p, t->rows.len, sizeof *t->rows.p, by_id);
    for (size_t i = 0; i < t->rows.len; i++)
        t->rows.p[i]->at = i;
    t->unsorted = false;
}

/* -- transactions ------------------------------------------------------------------------------ */

/* All changes of tables come through here. */
static void step(struct memory_store *m, struct table *t, struct row *before, struct row *after)
{
    if (before)
        table_remove(t, before);
    if (after)
        table_add(t, after);
    sb_vec_push(&m->journal, ((struct step){t, before, after}));
}

static void undo_to(struct memory_store *m, size_t mark)
{
    while (m->journal.len > mark) {
        struct step *last = &m->journal.p[--m->journal.len];

        if (last->after)
            table_remove(last->table, last->after);
        if (last->before)
            table_add(last->table, last->before);
        row_free(last->after);
    }
}

static enum sb_rc mem_begin(struct sb_store *s, const struct sb_entity *will_write,
                            struct sb_err *err)
{
    (void)s, (void)will_write, (void)err;
    return SB_OK;
}

static enum sb_rc mem_commit(struct sb_store *s, struct sb_err *err)
{
    struct memory_store *m = memory(s);
    struct step *done;

    (void)err;
    if (m->journal.len)
        m->version++;
    sb_vec_each (done, &m->journal)
        row_free(done->before);
    sb_vec_clear(&m->journal);
    return SB_OK;
}

static void mem_rollback(struct sb_store *s)
{
    undo_to(memory(s), 0);
}

static enum sb_rc mem_mark(struct sb_store *s, struct sb_err *err)
{
    (void)err;
    memory(s)->mark = memory(s)->journal.len;
    return SB_OK;
}

static enum sb_rc mem_back_to_mark(struct sb_store *s, struct sb_err *err)
{
    (void)err;
    undo_to(memory(s), memory(s)->mark);
    return SB_OK;
}

static enum sb_rc mem_version(struct sb_store *s, uint64_t *out, struct sb_err *err)
{
    (void)err;
    *out = memory(s)->version;
    return SB_OK;
}

/* -- reading ----------------------------------------------------------------------------------- */

static enum sb_rc mem_rows(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                           const struct sb_str *ids, size_t nids, struct sb_value **rows,
                           struct sb_err *err)
{
    struct table *t = table_of(memory(s), kind);
    struct sb_value *list = sb_value_array(a);
    size_t n = ids ? nids : t->rows.len;

    (void)err;
    for (size_t i = 0; i < n; i++) {
        struct row *r = ids ? sb_map_get(&t->by_id, ids[i]) : t->rows.p[i];

        if (r && alive(r))
            sb_array_push(a, list, copy_row(a, r));
    }
    *rows = list;
    return SB_OK;
}

static struct row *find(struct table *t, const struct sb_field *field, struct sb_str value)
{
    struct unique *u;

    if (strcmp(field->name, t->kind->primary_key) == 0)
        return sb_map_get(&t->by_id, value);
    sb_vec_each (u, &t->unique)
        if (u->field == field)
            return sb_map_get(&u->rows, value);
    for (size_t i = 0; i < t->rows.len; i++) { /* a key that is not unique by itself: target */
        const struct sb_value *v = sb_get(t->rows.p[i]->value, field->name);

        if (sb_is(v, SB_V_STR) && sb_str_eq(v->s, value))
            return t->rows.p[i];
    }
    return NULL;
}

static enum sb_rc mem_find(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                           const struct sb_field *field, struct sb_str value, struct sb_value **row,
                           struct sb_err *err)
{
    struct row *r = find(table_of(memory(s), kind), field, value);

    (void)err;
    *row = r && alive(r) ? copy_row(a, r) : NULL;
    return SB_OK;
}

static bool has_tag(const struct row *r, struct sb_str tag)
{
    const struct sb_value *v;

    sb_array_each (v, sb_get(r->value, "tags"))
        if (sb_is(v, SB_V_STR) && sb_str_eq(v->s, tag))
            return true;
    return false;
}

static struct sb_str foreign_id(const struct row *r, const char *field)
{
    return sb_value_str_at(sb_get(r->value, field), "id");
}

static bool fits(const struct row *r, const struct sb_store_page *page)
{
    size_t have = 0;

    if (!alive(r))
        return false;
    if (page->parent_field && !sb_str_eq(foreign_id(r, page->parent_field), page->parent_id))
        return false;
    for (size_t i = 0; i < page->ntags; i++)
        have += has_tag(r, page->tags[i]);
    return page->ntags == 0 || (page->tags_any ? have > 0 : have == page->ntags);
}

/* The first row behind the id. */
static size_t position_after(const struct table *t, struct sb_str id)
{
    size_t low = 0, high = t->rows.len;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (sb_str_cmp(t->rows.p[middle]->id, id) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static enum sb_rc mem_page(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                           const struct sb_store_page *page, struct sb_value **rows, bool *more,
                           struct sb_err *err)
{
    struct table *t = table_of(memory(s), kind);
    struct sb_value *list = sb_value_array(a);
    size_t i;

    (void)err;
    table_sort(t);
    *more = false;
    for (i = page->after_id.len ? position_after(t, page->after_id) : 0; i < t->rows.len; i++) {
        if (!fits(t->rows.p[i], page))
            continue;
        *more = list->count == (uint32_t)page->size;
        if (*more)
            break;
        sb_array_push(a, list, copy_row(a, t->rows.p[i]));
    }
    *rows = list;
    return SB_OK;
}

typedef SB_VEC(struct sb_store_tag) tags_t;

static void collect_tags(const struct table *t, const struct row *r, const struct sb_str *tag,
                         tags_t *list)
{
    const struct sb_value *tags = sb_get(r->value, "tags");

    for (uint32_t i = 0; sb_is(tags, SB_V_ARRAY) && i < tags->count; i++)
        if (sb_is(tags->items[i], SB_V_STR) && (!tag || sb_str_eq(tags->items[i]->s, *tag)))
            sb_vec_push(list, ((struct sb_store_tag){tags->items[i]->s, sb_str_c(t->kind->table),
                                                     r->id, i + 1}));
}

static int by_id_and_place(const void *a, const void *b)
{
    const struct sb_store_tag *x = a, *y = b;
    int order = sb_str_cmp(x->id, y->id);

    return order ? order : (x->place > y->place) - (x->place < y->place);
}

static enum sb_rc mem_tags(struct sb_store *s, struct sb_arena *a, const struct sb_str *tag,
                           struct sb_str after_id, int64_t after_place, int size,
                           struct sb_store_tag **out, size_t *n, struct sb_err *err)
{
    struct memory_store *m = memory(s);
    struct sb_store_tag after = {.id = after_id, .place = tag ? INT64_MAX : after_place}, *t;
    tags_t list = {0};

    (void)err;
    for (size_t i = 0; i < m->ntables; i++)
        for (size_t j = 0; j < m->tables[i].rows.len; j++)
            if (alive(m->tables[i].rows.p[j]))
                collect_tags(&m->tables[i], m->tables[i].rows.p[j], tag, &list);
    if (list.len)
        qsort(list.p, list.len, sizeof *list.p, by_id_and_place);
    *out = SB_NEW_N(a, struct sb_store_tag, size + 1);
    *n = 0;
    sb_vec_each (t, &list)
        if (*n <= (size_t)size && (!after_id.len || by_id_and_place(t, &after) > 0))
            (*out)[(*n)++] = (struct sb_store_tag){sb_arena_str(a, t->tag), t->table,
                                                   sb_arena_str(a, t->id), t->place};
    sb_vec_release(&list);
    return SB_OK;
}

/* -- writing ----------------------------------------------------------------------------------- */

static enum sb_rc refuse(struct sb_refusal *why, enum sb_refusal_kind kind, const char *field,
                         struct sb_err *err)
{
    *why = (struct sb_refusal){.kind = kind, .field = field};
    return sb_err_set(err, SB_CONFLICT, "refused");
}

/* Columns that must have a value though their fields need none. */
static bool lacks_value(const struct sb_entity *kind, const struct row *r)
{
    static const char *const columns[][2] = {
        {"upstreams", "slots"},
        {"targets", "weight"},
    };

    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        if (strcmp(kind->name, columns[i][0]) == 0 && !sb_get(r->value, columns[i][1]))
            return true;
    return r->id.len == 0;
}

static enum sb_rc check_foreign(struct memory_store *m, const struct sb_entity *kind,
                                const struct row *r, struct sb_refusal *why, struct sb_err *err)
{
    for (const struct sb_field *f = kind->fields; f->name; f++) {
        struct sb_str id;

        if (f->type != SB_T_FOREIGN)
            continue;
        id = foreign_id(r, f->name);
        if (id.len && !sb_map_get(&table_of(m, sb_entity_find(sb_str_c(f->reference)))->by_id, id))
            return refuse(why, SB_REFUSED_FOREIGN, f->name, err);
    }
    return SB_OK;
}

/* before: what the row takes the place of, or NULL. */
static enum sb_rc check_row(struct memory_store *m, struct table *t, const struct row *r,
                            const struct row *before, bool replace, struct sb_refusal *why,
                            struct sb_err *err)
{
    struct unique *u;

    if (lacks_value(t->kind, r))
        return refuse(why, SB_REFUSED_NOT_NULL, NULL, err);
    if (before && !replace)
        return refuse(why, SB_REFUSED_PRIMARY_KEY, NULL, err);
    sb_vec_each (u, &t->unique) {
        struct sb_str key = unique_key(u, r);
        const struct row *other = key.p ? sb_map_get(&u->rows, key) : NULL;

        if (other && other != before)
            return u->field ? refuse(why, SB_REFUSED_UNIQUE, u->field->name, err)
                            : refuse(why, SB_REFUSED_CACHE_KEY, NULL, err);
    }
    return check_foreign(m, t->kind, r, why, err);
}

static enum sb_rc mem_put(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                          struct sb_value *const *rows, size_t n, bool replace,
                          struct sb_refusal *why, struct sb_err *err)
{
    struct table *t = table_of(memory(s), kind);

    (void)a;
    for (size_t i = 0; i < n; i++) {
        struct row *r = row_new(s, kind, rows[i]);
        struct row *before = sb_map_get(&t->by_id, r->id);
        enum sb_rc rc = check_row(memory(s), t, r, before, replace, why, err);

        if (rc) {
            row_free(r);
            return rc;
        }
        step(memory(s), t, before, r);
    }
    return SB_OK;
}

static enum sb_rc drop_row(struct memory_store *m, struct table *t, struct row *r,
                           struct sb_refusal *why, struct sb_err *err);

/* Rows of the table whose field refers to the id that goes: they go too, or stand in the way. */
static enum sb_rc drop_children(struct memory_store *m, struct table *t, const struct sb_field *f,
                                struct sb_str id, struct sb_refusal *why, struct sb_err *err)
{
    for (size_t i = t->rows.len; i > 0; i--) {
        enum sb_rc rc;

        if (i > t->rows.len || !sb_str_eq(foreign_id(t->rows.p[i - 1], f->name), id))
            continue;
        if (!(f->flags & SB_F_CASCADE)) {
            why->by = t->kind;
            why->kind = SB_REFUSED_REFERENCED;
            return sb_err_set(err, SB_CONFLICT, "refused");
        }
        rc = drop_row(m, t, t->rows.p[i - 1], why, err);
        if (rc)
            return rc;
    }
    return SB_OK;
}

static enum sb_rc drop_row(struct memory_store *m, struct table *t, struct row *r,
                           struct sb_refusal *why, struct sb_err *err)
{
    struct sb_str id = r->id; /* the row lives on in the journal */

    step(m, t, r, NULL);
    for (size_t i = 0; i < m->ntables; i++) {
        struct table *child = &m->tables[i];

        for (const struct sb_field *f = child->kind->fields; f->name; f++) {
            enum sb_rc rc;

            if (f->type != SB_T_FOREIGN || strcmp(f->reference, t->kind->name) != 0)
                continue;
            rc = drop_children(m, child, f, id, why, err);
            if (rc)
                return rc;
        }
    }
    return SB_OK;
}

static enum sb_rc mem_drop(struct sb_store *s, struct sb_arena *a, const struct sb_entity *kind,
                           const struct sb_str *ids, size_t n, struct sb_refusal *why,
                           struct sb_err *err)
{
    struct table *t = table_of(memory(s), kind);

    (void)a;
    for (size_t i = 0; i < n; i++) {
        struct row *r = sb_map_get(&t->by_id, ids[i]);
        enum sb_rc rc = r ? drop_row(memory(s), t, r, why, err) : SB_OK;

        if (rc)
            return rc;
    }
    return SB_OK;
}

/* -- life -------------------------------------------------------------------------------------- */

static void mem_free(struct sb_store *s)
{
    struct memory_store *m = memory(s);

    undo_to(m, 0);
    for (size_t i = 0; i < m->ntables; i++)
        table_release(&m->tables[i]);
    free(m->tables);
    sb_vec_release(&m->journal);
    free(m);
}

static const struct sb_store_ops ops = {
    .begin = mem_begin,
    .commit = mem_commit,
    .rollback = mem_rollback,
    .mark = mem_mark,
    .back_to_mark = mem_back_to_mark,
    .version = mem_version,
    .rows = mem_rows,
    .find = mem_find,
    .page = mem_page,
    .tags = mem_tags,
    .put = mem_put,
    .drop = mem_drop,
    .free = mem_free,
};

static void add_workspace(struct memory_store *m)
{
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_entity *kind = sb_entity_find(SB_STR("workspaces"));
    struct sb_value *row = sb_value_object(a);

    sb_object_set(a, row, SB_STR("id"), sb_value_text(a, m->base.ws_id));
    sb_object_set(a, row, SB_STR("name"), sb_value_text(a, "default"));
    if (kind)
        table_add(table_of(m, kind), row_new(&m->base, kind, row));
    sb_arena_free(a);
}

struct sb_store *sb_store_memory(void)
{
    const struct sb_entity *const *all = sb_entities();
    struct memory_store *m = sb_xcalloc(1, sizeof *m);

    m->base.ops = &ops;
    memcpy(m->base.ws_id, SB_WORKSPACE_WITHOUT_DATABASE, sizeof m->base.ws_id);
    while (all[m->ntables])
        m->ntables++;
    m->tables = sb_xcalloc(m->ntables, sizeof *m->tables);
    for (size_t i = 0; i < m->ntables; i++)
        table_init(&m->tables[i], all[i]);
    add_workspace(m);
    return &m->base;
}
