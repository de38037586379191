#include "controlplane/translate/entities.h"

#include <stdlib.h>

const char *const entity_names[ENTITY_KINDS] = {
    [E_CERTIFICATES] = "certificates",
    [E_SNIS] = "snis",
    [E_CA_CERTIFICATES] = "ca_certificates",
    [E_UPSTREAMS] = "upstreams",
    [E_TARGETS] = "targets",
    [E_SERVICES] = "services",
    [E_ROUTES] = "routes",
    [E_PLUGINS] = "plugins",
};

static struct entity *entity_new(struct entities *es, enum entity_kind kind, struct sb_str key)
{
    struct entity *e = sb_xcalloc(1, sizeof *e + key.len + 1);
    char *text = (char *)(e + 1);

    memcpy(text, key.p, key.len);
    e->key = sb_str_n(text, key.len);
    e->kind = kind;
    e->parent_kind = e->parent_kind_before = E_NONE;
    sb_map_set(&es->kinds[kind], e->key, e);
    return e;
}

static void touch(struct entities *es, struct entity *e)
{
    if (e->touched)
        return;
    e->touched = true;
    e->before = e->value;
    e->parent_before = e->parent;
    e->parent_kind_before = e->parent_kind;
    sb_vec_push(&es->touched, e);
}

struct entity *entity_put(struct entities *es, const void *owner, enum entity_kind kind,
                          struct sb_str key, const struct sb_value *value)
{
    struct entity *e = sb_map_get(&es->kinds[kind], key);

    if (!e)
        e = entity_new(es, kind, key);
    touch(es, e);
    e->owner = owner;
    e->lists++;
    e->value = value;
    entity_parent(e, E_NONE, SB_STR(""));
    entity_objects(e, NULL, 0);
    return e;
}

void entity_parent(struct entity *e, enum entity_kind kind, struct sb_str key)
{
    e->parent_kind = kind;
    e->parent = key;
}

void entity_objects(struct entity *e, const struct sb_str *objects, size_t n)
{
    e->objects = objects;
    e->nobjects = n;
}

void entity_withdraw(struct entities *es, const void *owner, struct entity *e)
{
    touch(es, e);
    e->lists--;
    if (e->owner == owner)
        e->value = NULL;
}

void entities_begin(struct entities *es)
{
    struct entity **e;

    sb_vec_each (e, &es->dropped)
        free(*e);
    sb_vec_clear(&es->dropped);
    sb_vec_clear(&es->touched);
    sb_vec_clear(&es->changes);
}

void entity_export(const struct entity *e, struct sb_translated *out)
{
    *out = (struct sb_translated){
        .entity = entity_names[e->kind],
        .key = e->key,
        .parent_entity = e->parent_kind == E_NONE ? NULL : entity_names[e->parent_kind],
        .parent = e->parent,
        .value = e->value,
        .objects = e->objects,
        .nobjects = e->nobjects,
    };
}

static bool differs(const struct entity *e)
{
    if (!e->before || !e->value)
        return e->before != e->value;
    return e->parent_kind != e->parent_kind_before || !sb_str_eq(e->parent, e->parent_before) ||
           !sb_value_equal(e->before, e->value);
}

static int by_order(const void *a, const void *b)
{
    const struct entity *x = *(struct entity *const *)a, *y = *(struct entity *const *)b;

    if (!x->value != !y->value)
        return !x->value - !y->value;
    if (x->kind != y->kind)
        return (x->kind < y->kind ? -1 : 1) * (x->value ? 1 : -1);
    return sb_str_cmp(x->key, y->key);
}

void entities_end(struct entities *es)
{
    if (es->touched.len)
        qsort(es->touched.p, es->touched.len, sizeof *es->touched.p, by_order);
    for (size_t i = 0; i < es->touched.len; i++) {
        struct entity *e = es->touched.p[i];
        struct sb_translated change;

        if (differs(e)) {
            entity_export(e, &change);
            sb_vec_push(&es->changes, change);
        }
        e->touched = false;
        e->before = NULL;
        if (!e->value && !e->lists) {
            sb_map_remove(&es->kinds[e->kind], e->key);
            sb_vec_push(&es->dropped, e);
        }
    }
}

void entities_release(struct entities *es)
{
    struct sb_map_slot *slot;

    entities_begin(es);
    for (size_t k = 0; k < ENTITY_KINDS; k++) {
        sb_map_each (slot, &es->kinds[k])
            free(slot->value);
        sb_map_release(&es->kinds[k]);
    }
    sb_vec_release(&es->touched);
    sb_vec_release(&es->dropped);
    sb_vec_release(&es->changes);
}
