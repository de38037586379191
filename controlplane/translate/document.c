/* document.c - flat entities as one declarative document, in the order of the ingress controller
 * (kic-translation.md 13): most lists descend by name.
 */
#include <stdlib.h>

#include "controlplane/translate/fields.h"
#include "controlplane/translate/translator.h"

/* By which field a kind's list is ordered, and which way. */
static const struct {
    const char *field;
    bool ascending;
} orders[ENTITY_KINDS] = {
    [E_CERTIFICATES] = {"cert", false},    [E_SNIS] = {"name", true},
    [E_CA_CERTIFICATES] = {"cert", false}, [E_UPSTREAMS] = {"name", false},
    [E_TARGETS] = {"target", false},       [E_SERVICES] = {"name", false},
    [E_ROUTES] = {"name", false},          [E_PLUGINS] = {"name", false},
};

static int by_field(const void *a, const void *b)
{
    const struct entity *x = *(struct entity *const *)a, *y = *(struct entity *const *)b;
    const char *field = orders[x->kind].field;
    int c = sb_str_cmp(sb_value_str_at(x->value, field), sb_value_str_at(y->value, field));

    if (!c)
        c = sb_str_cmp(x->key, y->key);
    return orders[x->kind].ascending ? c : -c;
}

/* The lists of one kind's parents are made here, so parents come first (entities.h). */
struct nest {
    struct sb_arena *a;
    struct sb_value *doc;
    struct sb_map parents[ENTITY_KINDS]; /* key -> the copy that children go into */
};

static struct sb_value *shallow(struct sb_arena *a, const struct sb_value *object)
{
    struct sb_value *copy = sb_value_object(a);
    const struct sb_member *m;

    sb_object_each (m, object)
        sb_object_set(a, copy, m->key, m->value);
    return copy;
}

static void put(struct nest *n, const struct entity *e)
{
    const char *name = entity_names[e->kind];
    struct sb_value *into = n->doc, *list, *copy = shallow(n->a, e->value);

    if (e->parent_kind != E_NONE)
        into = sb_map_get(&n->parents[e->parent_kind], e->parent);
    if (!into)
        return;
    list = sb_get(into, name);
    if (!list) {
        list = sb_value_array(n->a);
        set_value(n->a, into, name, list);
    }
    sb_array_push(n->a, list, copy);
    sb_map_set(&n->parents[e->kind], e->key, copy);
}

static void put_kind(struct nest *n, const struct sb_translator *t, enum entity_kind kind)
{
    const struct sb_map *map = &t->entities.kinds[kind];
    struct entity **list = SB_NEW_N(n->a, struct entity *, map->count);
    struct sb_map_slot *slot;
    size_t len = 0;

    sb_map_each (slot, map) {
        if (entity_is(slot->value))
            list[len++] = slot->value;
    }
    qsort(list, len, sizeof *list, by_field);
    for (size_t i = 0; i < len; i++)
        put(n, list[i]);
}

/* Kong is not ready on an empty configuration. */
static void put_stub(struct nest *n)
{
    struct sb_value *upstream = sb_value_object(n->a), *list = sb_value_array(n->a);

    set_text(n->a, upstream, "name", "kong");
    sb_array_push(n->a, list, upstream);
    set_value(n->a, n->doc, "upstreams", list);
}

struct sb_value *sb_translator_document(const struct sb_translator *t, struct sb_arena *arena)
{
    struct nest n = {.a = arena, .doc = sb_value_object(arena)};

    for (enum entity_kind kind = 0; kind < ENTITY_KINDS; kind++)
        put_kind(&n, t, kind);
    if (!n.doc->count)
        put_stub(&n);
    set_text(arena, n.doc, "_format_version", "3.0");
    for (size_t k = 0; k < ENTITY_KINDS; k++)
        sb_map_release(&n.parents[k]);
    return n.doc;
}
