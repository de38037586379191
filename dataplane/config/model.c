/* model.c - nodes in a map per kind, edges in an array per node and a list per node referred to.
 *
 * A row's text is {"created_at" and "updated_at" last, other members by key}; members that are null
 * are left out. So two spellings of one row are the same bytes, and whether anything but a
 * timestamp changed is a comparison of two prefixes.
 */
#include "dataplane/config/model.h"

#include <stdlib.h>

#include "shared/buf.h"
#include "shared/err.h"
#include "shared/json.h"
#include "shared/vec.h"

struct sb_model {
    const struct sb_kind_rules *rules;
    void (*on_dirty)(void *arg, struct sb_node *node);
    void *dirty_arg;
    sb_model_watch *watch;
    void *watch_arg;
    void (*take_text)(void *arg, void *text);
    void *take_arg;
    struct sb_map kinds;
    struct sb_node *first, *last;
    size_t rows;
    uint32_t replacement;
    struct sb_buf text; /* scratch */
    struct sb_arena *scratch, *parsed;
};

struct sb_model *sb_model_new(const struct sb_kind_rules *rules,
                              void (*on_dirty)(void *arg, struct sb_node *node), void *arg)
{
    struct sb_model *m = sb_xcalloc(1, sizeof *m);

    m->rules = rules;
    m->on_dirty = on_dirty;
    m->dirty_arg = arg;
    m->scratch = sb_arena_new(0);
    m->parsed = sb_arena_new(0);
    sb_buf_init(&m->text, 0);
    return m;
}

static void free_node(struct sb_node *node)
{
    free((void *)node->text.p);
    free(node->refs);
    free(node);
}

void sb_model_free(struct sb_model *m)
{
    struct sb_map_slot *k, *n;

    if (!m)
        return;
    sb_map_each (k, &m->kinds) {
        struct sb_kind *kind = k->value;

        sb_map_each (n, &kind->nodes)
            free_node(n->value);
        sb_map_release(&kind->nodes);
        free((void *)kind->name);
        free(kind);
    }
    sb_map_release(&m->kinds);
    sb_buf_release(&m->text);
    sb_arena_free(m->scratch);
    sb_arena_free(m->parsed);
    free(m);
}

void sb_model_watch_rows(struct sb_model *m, sb_model_watch *watch, void *arg)
{
    m->watch = watch;
    m->watch_arg = arg;
}

void sb_model_give_texts(struct sb_model *m, void (*take)(void *arg, void *text), void *arg)
{
    m->take_text = take;
    m->take_arg = arg;
}

/* -- kinds and nodes -- */

static struct sb_kind *kind_of(struct sb_model *m, struct sb_str name)
{
    struct sb_kind *kind = sb_map_get(&m->kinds, name);
    char *text;

    if (kind)
        return kind;
    kind = sb_xcalloc(1, sizeof *kind);
    text = sb_xcalloc(1, name.len + 1);
    memcpy(text, name.p, name.len);
    kind->name = text;
    for (const struct sb_kind_rules *r = m->rules; r->name; r++) {
        if (sb_str_is(name, r->name))
            kind->rules = r;
    }
    sb_map_set(&m->kinds, sb_str_c(text), kind);
    return kind;
}

static struct sb_node *node_of(struct sb_kind *kind, struct sb_str id)
{
    struct sb_node *node = sb_map_get(&kind->nodes, id);
    char *text;

    if (node)
        return node;
    node = sb_xcalloc(1, sizeof *node + id.len + 1);
    text = (char *)(node + 1);
    memcpy(text, id.p, id.len);
    node->kind = kind;
    node->id = sb_str_n(text, id.len);
    sb_map_set(&kind->nodes, node->id, node);
    return node;
}

struct sb_node *sb_model_find(const struct sb_model *m, struct sb_str kind, struct sb_str id)
{
    const struct sb_kind *k = sb_map_get(&m->kinds, kind);

    return k ? sb_map_get(&k->nodes, id) : NULL;
}

struct sb_node *sb_model_first(const struct sb_model *m)
{
    return m->first;
}

size_t sb_model_rows(const struct sb_model *m)
{
    return m->rows;
}

void sb_model_collect(struct sb_model *m, struct sb_node *node)
{
    (void)m;
    if (node->text.p || node->users || node->dirty)
        return;
    sb_assert(!node->built && !node->nrefs);
    sb_map_remove(&node->kind->nodes, node->id);
    free_node(node);
}

/* -- edges -- */

static void unlink_user(struct sb_edge *e)
{
    if (e->prev)
        e->prev->next = e->next;
    else
        e->to->users = e->next;
    if (e->next)
        e->next->prev = e->prev;
}

/* Forgets what the node refers to; places that are now empty and unused go. */
static void clear_refs(struct sb_model *m, struct sb_node *node)
{
    for (uint32_t i = 0; i < node->nrefs; i++)
        unlink_user(&node->refs[i]);
    for (uint32_t i = 0; i < node->nrefs; i++) {
        if (!node->refs[i].to->built)
            sb_model_collect(m, node->refs[i].to);
    }
    free(node->refs);
    node->refs = NULL;
    node->nrefs = 0;
}

typedef SB_VEC(struct sb_node *) node_list;

static void add_ref(struct sb_model *m, const char *kind, const struct sb_value *id, node_list *to)
{
    struct sb_node *node;

    if (!sb_is(id, SB_V_STR) || !id->s.len)
        return;
    node = node_of(kind_of(m, sb_str_c(kind)), id->s);
    for (size_t i = 0; i < to->len; i++) { /* an id named twice is one edge */
        if (to->p[i] == node)
            return;
    }
    sb_vec_push(to, node);
}

static void list_refs(struct sb_model *m, const struct sb_kind_rules *rules,
                      const struct sb_value *row, node_list *to)
{
    for (int i = 0; i < SB_MODEL_REFS_MAX && rules->refs[i]; i++) {
        const struct sb_value *field = sb_get(row, rules->refs[i]), *id;

        add_ref(m, rules->ref_kinds[i], sb_get(field, "id"), to);
        sb_array_each (id, field)
            add_ref(m, rules->ref_kinds[i], id, to);
    }
}

static void set_refs(struct sb_model *m, struct sb_node *node, const struct sb_value *row)
{
    node_list to = {0};
    struct sb_edge *old = node->refs;
    uint32_t nold = node->nrefs;

    if (!node->kind->rules)
        return;
    list_refs(m, node->kind->rules, row, &to);
    node->refs = sb_xcalloc(to.len, sizeof *node->refs);
    node->nrefs = (uint32_t)to.len;
    for (uint32_t i = 0; i < node->nrefs; i++) {
        struct sb_edge *e = &node->refs[i];

        *e = (struct sb_edge){.from = node, .to = to.p[i], .next = to.p[i]->users};
        if (e->next)
            e->next->prev = e;
        e->to->users = e;
    }
    sb_vec_release(&to);
    /* The old edges go last, so that what both refer to is never without users. */
    clear_refs(m, &(struct sb_node){.refs = old, .nrefs = nold});
}

/* -- what must be built anew -- */

void sb_model_touch(struct sb_model *m, struct sb_node *node)
{
    if (node->dirty || !node->kind->rules)
        return;
    node->dirty = true;
    m->on_dirty(m->dirty_arg, node);
}

void sb_model_touch_users(struct sb_model *m, struct sb_node *node)
{
    for (struct sb_edge *e = node->users; e; e = e->next) {
        if (!e->from->kind->rules->part)
            sb_model_touch(m, e->from);
    }
}

/* The node changes: so does what it is a part of, before and after. */
static void touch_whole(struct sb_model *m, struct sb_node *node)
{
    if (!node->kind->rules || !node->kind->rules->part)
        return;
    for (uint32_t i = 0; i < node->nrefs; i++)
        sb_model_touch(m, node->refs[i].to);
}

/* -- rows -- */

static bool is_time(struct sb_str key)
{
    return sb_str_is(key, "created_at") || sb_str_is(key, "updated_at");
}

static void write_time(struct sb_buf *b, const struct sb_value *row, const char *name)
{
    const struct sb_value *v = sb_get(row, name);

    if (sb_is_nil(v))
        return;
    sb_buf_printf(b, "%s\"%s\":", b->len > 1 ? "," : "", name);
    sb_json_write(b, v, 0);
}

/* The row's text in m->text; returns how much of it comes before the timestamps. */
static uint32_t write_row(struct sb_model *m, const struct sb_value *row)
{
    struct sb_value *rest = sb_value_object(m->scratch);
    const struct sb_member *member;
    uint32_t body;

    sb_object_each (member, row) {
        if (!is_time(member->key) && !sb_is_nil(member->value))
            sb_object_set(m->scratch, rest, member->key, member->value);
    }
    sb_buf_clear(&m->text);
    sb_json_write(&m->text, rest, SB_JSON_SORTED);
    m->text.len--; /* the brace */
    body = (uint32_t)m->text.len;
    write_time(&m->text, row, "created_at");
    write_time(&m->text, row, "updated_at");
    sb_buf_char(&m->text, '}');
    return body;
}

/* updated_at is the last member: the text before it, or before the closing brace. */
static struct sb_str without_updated(struct sb_str text, uint32_t body)
{
    ptrdiff_t at = sb_str_find(text, SB_STR(",\"updated_at\":"), body);

    return sb_str_first(text, at < 0 ? text.len - 1 : (size_t)at);
}

static void link_row(struct sb_model *m, struct sb_node *node)
{
    node->prev = m->last;
    *(m->last ? &m->last->next : &m->first) = node;
    m->last = node;
    m->rows++;
    node->kind->rows++;
}

static void unlink_row(struct sb_model *m, struct sb_node *node)
{
    *(node->prev ? &node->prev->next : &m->first) = node->next;
    *(node->next ? &node->next->prev : &m->last) = node->prev;
    node->prev = node->next = NULL;
    m->rows--;
    node->kind->rows--;
}

static bool is_shown(const struct sb_node *node)
{
    return node->kind->rules && node->kind->rules->shown;
}

static void drop_text(struct sb_model *m, struct sb_node *node)
{
    if (node->text.p && m->take_text && is_shown(node))
        m->take_text(m->take_arg, (void *)node->text.p);
    else
        free((void *)node->text.p);
    node->text = (struct sb_str){0};
}

/* Whether what is built from the row may stay when its text becomes another: only the time of the
 * last change differs. */
static bool is_same(const struct sb_model *m, const struct sb_node *node, uint32_t body)
{
    return node->text.p && !is_shown(node) &&
           sb_str_eq(without_updated(node->text, node->text_body),
                     without_updated(sb_buf_get(&m->text), body));
}

static void set_text(struct sb_model *m, struct sb_node *node, uint32_t body)
{
    struct sb_str text = sb_buf_get(&m->text);
    char *copy = sb_xmalloc(text.len + 1);

    memcpy(copy, text.p, text.len);
    copy[text.len] = 0;
    if (!node->text.p)
        link_row(m, node);
    drop_text(m, node);
    node->text = sb_str_n(copy, text.len);
    node->text_body = body;
    if (m->watch)
        m->watch(m->watch_arg, node, false);
}

static bool times_are_auto(const struct sb_value *row)
{
    const struct sb_value *created = sb_get(row, "created_at"),
                          *updated = sb_get(row, "updated_at");

    return sb_is_nil(created) || (updated && sb_value_equal(created, updated));
}

void sb_model_put(struct sb_model *m, struct sb_str kind, const struct sb_value *row,
                  bool auto_times)
{
    struct sb_str id = sb_value_str_at(row, "id"), old, new;
    struct sb_node *node;
    uint32_t body;

    if (!id.len)
        return;
    node = node_of(kind_of(m, kind), id);
    node->seen = m->replacement;
    body = write_row(m, row);
    sb_arena_clear(m->scratch);
    old = node->text;
    new = sb_buf_get(&m->text);
    if (sb_str_eq(old, new))
        return;
    if (old.p && auto_times && times_are_auto(row) &&
        sb_str_eq(sb_str_first(old, node->text_body), sb_str_first(new, body)))
        return;
    if (!is_same(m, node, body)) {
        touch_whole(m, node);
        set_refs(m, node, row);
        touch_whole(m, node);
        sb_model_touch(m, node);
    }
    set_text(m, node, body);
}

bool sb_model_put_text(struct sb_model *m, struct sb_str kind, struct sb_str text)
{
    struct sb_value *row = NULL;
    bool ok = sb_json_parse(m->parsed, text, &row, NULL) == SB_OK && sb_value_str_at(row, "id").len;

    if (ok)
        sb_model_put(m, kind, row, false);
    sb_arena_clear(m->parsed);
    return ok;
}

static void drop_node(struct sb_model *m, struct sb_node *node)
{
    touch_whole(m, node);
    if (m->watch)
        m->watch(m->watch_arg, node, true);
    unlink_row(m, node);
    drop_text(m, node);
    sb_model_touch(m, node);
    clear_refs(m, node);
    if (!node->built)
        sb_model_collect(m, node);
}

void sb_model_drop(struct sb_model *m, struct sb_str kind, struct sb_str id)
{
    struct sb_node *node = sb_model_find(m, kind, id);

    if (node && node->text.p)
        drop_node(m, node);
}

void sb_model_replace_begin(struct sb_model *m)
{
    m->replacement++;
}

void sb_model_replace_end(struct sb_model *m, const char *kind)
{
    struct sb_node *next;

    for (struct sb_node *node = m->first; node; node = next) {
        next = node->next;
        if (node->seen != m->replacement && (!kind || strcmp(node->kind->name, kind) == 0))
            drop_node(m, node);
    }
}

void sb_model_replace_all(struct sb_model *m, const struct sb_value *rows)
{
    const struct sb_member *kind;
    const struct sb_value *row;

    sb_model_replace_begin(m);
    sb_object_each (kind, rows) {
        sb_array_each (row, kind->value)
            sb_model_put(m, kind->key, row, true);
    }
    sb_model_replace_end(m, NULL);
}

struct sb_value *sb_node_row(const struct sb_node *node, struct sb_arena *a)
{
    struct sb_value *row = NULL;

    if (!node->text.p || sb_json_parse(a, node->text, &row, NULL) != SB_OK)
        return NULL;
    return row;
}
