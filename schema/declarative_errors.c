/* declarative_errors.c - why a document is refused, in the three shapes that readers know.
 *
 *     plain      {services: [null, {host: "..", routes: [{paths: [".."]}]}]}    mirrors the
 * document flattened  [{entity_type: route, entity: {..}, errors: [{field: paths.1, ..}]}, ..]
 *     pretty     in 'services': / - in entry 2 of 'services': / in 'host': ..    for the terminal
 *
 * Order of flattened errors: kinds and positions at the root descending, children before their
 * parent, fields descending.
 */
#include "schema/declarative.h"

#include <stdio.h>
#include <stdlib.h>

#include "schema/document.h"
#include "schema/validate.h"

static void say(struct sb_arena *a, struct sb_kong_error *e)
{
    e->code = SB_KONG_DECLARATIVE_CONFIG;
    e->message = sb_arena_printf(a, "declarative config is invalid: %.*s",
                                 SB_ARG(sb_kong_lua_text(a, e->fields)));
}

void sb_declarative_refused(struct sb_arena *a, const char *why, struct sb_kong_error *e)
{
    *e = (struct sb_kong_error){.fields = sb_value_object(a)};
    sb_object_set(a, e->fields, SB_STR("error"), sb_value_text(a, why));
    e->flat_fields = e->fields;
    e->flat_list = sb_value_array(a);
    say(a, e);
}

void sb_declarative_flatten(struct sb_arena *a, struct sb_kong_error *e)
{
    e->flattened = e->flat_list;
    e->fields = e->flat_fields;
    say(a, e);
}

/* -- plain ------------------------------------------------------------------------------------ */

/* A nested SNI that does not name its certificate: once anything is wrong, Kong looks at it as if
 * it stood at the root, and misses the certificate. */
static bool lost_certificate(const struct sb_doc_node *n)
{
    return n->parent && strcmp(n->kind->name, "snis") == 0 && n->input->type == SB_V_OBJECT &&
           !sb_get(n->input, "certificate");
}

static struct sb_value *list_errors(struct sb_doc *d, const struct sb_doc_list *l);

static struct sb_value *node_errors(struct sb_doc *d, const struct sb_doc_node *n)
{
    struct sb_value *errors = sb_value_object(d->arena), *of_list;
    const struct sb_member *m;

    if (sb_is(n->errors, SB_V_STR))
        return n->errors;
    sb_object_each (m, n->errors)
        sb_object_set(d->arena, errors, m->key, m->value);
    if (lost_certificate(n))
        sb_errors_field(d->arena, errors, "certificate", "required field missing");
    for (const struct sb_doc_list *l = n->children; l; l = l->next) {
        of_list = list_errors(d, l);
        if (of_list)
            sb_object_set(d->arena, errors, l->key, of_list);
    }
    return errors->count ? errors : NULL;
}

static void put_at(struct sb_arena *a, struct sb_value *array, uint32_t position,
                   struct sb_value *v)
{
    while (array->count < position)
        sb_array_push(a, array, sb_value_null(a));
    array->items[position - 1] = v;
}

static struct sb_value *list_errors(struct sb_doc *d, const struct sb_doc_list *l)
{
    struct sb_value *errors = sb_value_array(d->arena), *why;

    for (uint32_t i = 0; i < l->count; i++) {
        why = node_errors(d, l->nodes[i]);
        if (why)
            put_at(d->arena, errors, i + 1, why);
    }
    return errors->count ? errors : NULL;
}

/* -- flattened -------------------------------------------------------------------------------- */

static void add_error(struct sb_arena *a, struct sb_value *list, struct sb_str field,
                      struct sb_value *message)
{
    struct sb_value *entry = sb_value_object(a);

    sb_object_set(a, entry, SB_STR("type"), sb_value_text(a, field.len ? "field" : "entity"));
    if (field.len)
        sb_object_set(a, entry, SB_STR("field"), sb_value_str(a, field));
    sb_object_set(a, entry, SB_STR("message"), message);
    sb_array_push(a, list, entry);
}

static int by_key_down(const void *x, const void *y)
{
    return sb_str_cmp(((const struct sb_member *)y)->key, ((const struct sb_member *)x)->key);
}

/* The leaves of a tree of field errors, each with its path. */
static void add_leaves(struct sb_arena *a, struct sb_value *list, struct sb_str path,
                       struct sb_value *v, bool entity)
{
    struct sb_member *m;

    if (v->type == SB_V_STR) {
        add_error(a, list, entity ? SB_STR("") : path, v);
        return;
    }
    for (uint32_t i = v->type == SB_V_ARRAY ? v->count : 0; i-- > 0;) {
        if (v->items[i]->type != SB_V_NULL)
            add_leaves(a, list, sb_arena_printf(a, "%.*s.%u", SB_ARG(path), i + 1), v->items[i],
                       entity);
    }
    if (v->type != SB_V_OBJECT)
        return;
    m = sb_xmalloc((v->count + 1) * sizeof *m);
    if (v->count)
        memcpy(m, v->members, v->count * sizeof *m);
    qsort(m, v->count, sizeof *m, by_key_down);
    for (uint32_t i = 0; i < v->count; i++)
        add_leaves(a, list,
                   path.len ? sb_arena_printf(a, "%.*s.%.*s", SB_ARG(path), SB_ARG(m[i].key))
                            : m[i].key,
                   m[i].value, entity || sb_str_is(m[i].key, "@entity"));
    free(m);
}

static bool all_strings(const struct sb_value *v)
{
    const struct sb_value *item;

    sb_array_each (item, v) {
        if (item->type != SB_V_STR)
            return false;
    }
    return sb_is(v, SB_V_ARRAY);
}

static struct sb_value *link_value(struct sb_arena *a, const struct sb_doc_node *n)
{
    struct sb_value *v = sb_value_object(a);

    sb_object_set(a, v, SB_STR("id"), sb_value_str(a, n->parent->id));
    return v;
}

static bool is_scalar(const struct sb_value *v)
{
    return !sb_is_nil(v) && v->type != SB_V_ARRAY && v->type != SB_V_OBJECT;
}

/* The entity as it was written, without its children; with_ids: also the ids that it got. */
static struct sb_value *entity_of(struct sb_doc *d, const struct sb_doc_node *n, bool with_ids)
{
    struct sb_value *out = sb_value_object(d->arena);
    const struct sb_member *m;

    sb_object_each (m, n->input) {
        if (!sb_doc_child_kind(d, n->kind, m->key) || is_scalar(m->value))
            sb_object_set(d->arena, out, m->key, m->value);
    }
    if (with_ids && !n->id_given)
        sb_object_set(d->arena, out, SB_STR("id"), sb_value_str(d->arena, n->id));
    if (n->parent && (with_ids || n->parent->id_given) && sb_is_nil(sb_get(out, n->link)))
        sb_object_set(d->arena, out, sb_str_c(n->link), link_value(d->arena, n));
    return out;
}

static void add_entry(struct sb_doc *d, struct sb_value *flat, const char *type,
                      struct sb_value *entity, struct sb_value *errors)
{
    struct sb_arena *a = d->arena;
    struct sb_value *entry = sb_value_object(a), *id = sb_get(entity, "id");
    struct sb_value *name = sb_get(entity, "name"), *tags = sb_get(entity, "tags");
    struct sb_uuid uuid;

    sb_object_set(a, entry, SB_STR("entity_type"), sb_value_text(a, type));
    if (sb_is(id, SB_V_STR) && sb_uuid_parse(id->s, &uuid))
        sb_object_set(a, entry, SB_STR("entity_id"), id);
    if (sb_is(name, SB_V_STR) && name->s.len)
        sb_object_set(a, entry, SB_STR("entity_name"), name);
    if (all_strings(tags))
        sb_object_set(a, entry, SB_STR("entity_tags"), tags);
    sb_object_set(a, entry, SB_STR("entity"), entity);
    sb_object_set(a, entry, SB_STR("errors"), errors);
    sb_array_push(a, flat, entry);
}

/* The lost certificate of a nested SNI: an entry of its own when it was given an id. */
static void flatten_lost_certificate(struct sb_doc *d, const struct sb_doc_node *n,
                                     struct sb_value *flat, struct sb_value *own)
{
    struct sb_value *text = sb_value_text(d->arena, "required field missing");
    struct sb_value *errors = sb_value_array(d->arena);

    if (!n->parent->id_given) {
        add_error(d->arena, own, SB_STR("certificate"), text);
        return;
    }
    add_error(d->arena, errors, SB_STR(""), text);
    add_entry(d, flat, n->parent->kind->singular, link_value(d->arena, n), errors);
}

static void flatten_node(struct sb_doc *d, const struct sb_doc_node *n, struct sb_value *flat)
{
    struct sb_value *errors = sb_value_array(d->arena);

    for (const struct sb_doc_list *l = n->children; l; l = l->next) {
        for (uint32_t i = 0; i < l->count; i++)
            flatten_node(d, l->nodes[i], flat);
    }
    if (n->errors)
        add_leaves(d->arena, errors, SB_STR(""), n->errors, false);
    if (lost_certificate(n))
        flatten_lost_certificate(d, n, flat, errors);
    if (errors->count)
        add_entry(d, flat, n->kind->singular, entity_of(d, n, false), errors);
}

static int lists_down(const void *x, const void *y)
{
    return sb_str_cmp((*(struct sb_doc_list *const *)y)->key,
                      (*(struct sb_doc_list *const *)x)->key);
}

static struct sb_value *flatten_lists(struct sb_doc *d)
{
    struct sb_value *flat = sb_value_array(d->arena);
    struct sb_doc_list **sorted;
    size_t n = 0;

    for (struct sb_doc_list *l = d->lists; l; l = l->next)
        n++;
    sorted = SB_NEW_N(d->arena, struct sb_doc_list *, n);
    n = 0;
    for (struct sb_doc_list *l = d->lists; l; l = l->next)
        sorted[n++] = l;
    qsort(sorted, n, sizeof *sorted, lists_down);
    for (size_t i = 0; i < n; i++) {
        for (uint32_t k = sorted[i]->count; k-- > 0;)
            flatten_node(d, sorted[i]->nodes[k], flat);
    }
    return flat;
}

void sb_doc_refuse_entities(struct sb_doc *d, struct sb_kong_error *e)
{
    struct sb_value *of_list;

    *e = (struct sb_kong_error){.fields = sb_value_copy(d->arena, d->root_errors),
                                .flat_fields = d->root_errors};
    for (const struct sb_doc_list *l = d->lists; l; l = l->next) {
        of_list = list_errors(d, l);
        if (of_list)
            sb_object_set(d->arena, e->fields, l->key, of_list);
    }
    e->flat_list = flatten_lists(d);
    say(d->arena, e);
}

/* -- problems between entities ---------------------------------------------------------------- */

/* The errors of a kind as an object, though positions may have come before. */
static struct sb_value *keyed(struct sb_doc *d, struct sb_value *fields, struct sb_str kind)
{
    struct sb_value *old = sb_object_get(fields, kind), *object;

    if (sb_is(old, SB_V_OBJECT))
        return old;
    object = sb_value_object(d->arena);
    for (uint32_t i = 0; old && i < old->count; i++) {
        if (old->items[i]->type != SB_V_NULL)
            sb_object_set(d->arena, object, sb_arena_printf(d->arena, "%u", i + 1), old->items[i]);
    }
    sb_object_set(d->arena, fields, kind, object);
    return object;
}

static void place_by_key(struct sb_doc *d, struct sb_value *fields, const struct sb_doc_problem *p,
                         struct sb_value *text)
{
    struct sb_value *object = keyed(d, fields, sb_str_c(p->node->kind->name)), *list;
    struct sb_str key = p->node->endpoint.len ? p->node->endpoint : p->node->id;

    if (p->place == SB_DOC_BY_KEY) {
        sb_object_set(d->arena, object, key, text);
        return;
    }
    list = sb_object_get(object, key);
    if (!sb_is(list, SB_V_ARRAY)) {
        list = sb_value_array(d->arena);
        sb_object_set(d->arena, object, key, list);
    }
    sb_array_push(d->arena, list, text);
}

/* The item at a position of the list under a key, which may not be there yet. */
static struct sb_value **item_at(struct sb_arena *a, struct sb_value *object, struct sb_str key,
                                 uint32_t position)
{
    struct sb_value *list = sb_object_get(object, key);

    if (!sb_is(list, SB_V_ARRAY)) {
        list = sb_value_array(a);
        sb_object_set(a, object, key, list);
    }
    while (list->count < position)
        sb_array_push(a, list, sb_value_null(a));
    return &list->items[position - 1];
}

/* Below its parent, but no further up: {"routes":[{"plugins":[null, text]}]}. */
static void place_nested(struct sb_doc *d, struct sb_value *fields, const struct sb_doc_node *n,
                         struct sb_value *text)
{
    struct sb_value **parent =
        item_at(d->arena, fields, sb_str_c(n->parent->kind->name), n->parent->position);
    const struct sb_doc_list *l = n->parent->children;

    while (n->position > l->count || l->nodes[n->position - 1] != n)
        l = l->next;
    if (!sb_is(*parent, SB_V_OBJECT))
        *parent = sb_value_object(d->arena);
    *item_at(d->arena, *parent, l->key, n->position) = text;
}

static void place(struct sb_doc *d, struct sb_value *fields, const struct sb_doc_problem *p)
{
    struct sb_str kind = sb_str_c(p->node->kind->name);
    struct sb_value *text = sb_value_text(d->arena, p->text),
                    *of_kind = sb_object_get(fields, kind);

    if (p->place == SB_DOC_NESTED && p->node->parent) {
        place_nested(d, fields, p->node, text);
        return;
    }
    if (p->place == SB_DOC_BY_KEY || p->place == SB_DOC_LIST_BY_KEY) {
        place_by_key(d, fields, p, text);
        return;
    }
    if (!of_kind) {
        of_kind = sb_value_array(d->arena);
        sb_object_set(d->arena, fields, kind, of_kind);
    }
    put_at(d->arena, of_kind, p->node->position, text);
}

void sb_doc_refuse_problems(struct sb_doc *d, struct sb_kong_error *e)
{
    struct sb_value *errors;

    *e = (struct sb_kong_error){.fields = sb_value_object(d->arena),
                                .flat_fields = sb_value_object(d->arena),
                                .flat_list = sb_value_array(d->arena)};
    for (const struct sb_doc_problem *p = d->problems; p; p = p->next) {
        place(d, e->fields, p);
        errors = sb_value_array(d->arena);
        add_error(d->arena, errors, sb_str_c(p->field), sb_value_text(d->arena, p->text));
        while (p->next && p->next->node == p->node) {
            p = p->next;
            place(d, e->fields, p);
            add_error(d->arena, errors, sb_str_c(p->field), sb_value_text(d->arena, p->text));
        }
        add_entry(d, e->flat_list, p->node->kind->singular, entity_of(d, p->node, true), errors);
    }
    say(d->arena, e);
}

/* -- pretty ----------------------------------------------------------------------------------- */

static void pretty(struct sb_buf *b, struct sb_str name, const struct sb_value *v, int indent)
{
    const struct sb_member *m;
    struct sb_str key;

    for (uint32_t i = 0; v->type == SB_V_ARRAY && i < v->count; i++) {
        if (v->items[i]->type == SB_V_NULL)
            continue;
        sb_buf_printf(b, "%s%*s- in entry %u of '%.*s':", b->len ? "\n" : "", indent, "", i + 1,
                      SB_ARG(name));
        if (v->items[i]->type == SB_V_STR)
            sb_buf_printf(b, " %.*s", SB_ARG(v->items[i]->s));
        else
            pretty(b, SB_STR(""), v->items[i], indent + 2);
    }
    sb_object_each (m, v) {
        key = m->key;
        sb_buf_printf(b, "%s%*sin '%.*s':", b->len ? "\n" : "", indent, "", SB_ARG(key));
        if (m->value->type == SB_V_STR)
            sb_buf_printf(b, " %.*s", SB_ARG(m->value->s));
        else
            pretty(b, key, m->value, indent + 2);
    }
}

struct sb_str sb_declarative_pretty(struct sb_arena *a, const struct sb_kong_error *e)
{
    struct sb_str text;
    struct sb_buf b;

    sb_buf_init(&b, 0);
    pretty(&b, SB_STR(""), e->fields, 0);
    text = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return text;
}
