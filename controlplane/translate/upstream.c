/* upstream.c - the upstream of a host, with its targets.
 *
 * Kong services of several kinds may have the same host, and then share the upstream: its backends
 * are those of the first of them by name. Pods come and go here, without the service noticing.
 */
#include <stdlib.h>

#include "controlplane/translate/fields.h"
#include "controlplane/translate/translator.h"

struct upstream {
    struct sorted services; /* units, by name */
};

static int by_key(const void *a, const void *b)
{
    return sb_str_cmp(((const struct unit *)a)->key, ((const struct unit *)b)->key);
}

void upstream_join(struct sb_translator *t, struct unit *service, struct sb_str host)
{
    struct unit *u = unit_of(t, &upstream_type, host);
    struct upstream *s;

    if (!u->state)
        u->state = sb_xcalloc(1, sizeof *s);
    s = u->state;
    sorted_insert(&s->services, service, by_key);
    unit_dirty(t, u);
}

void upstream_leave(struct sb_translator *t, struct unit *service, struct sb_str host)
{
    struct unit *u = unit_of(t, &upstream_type, host);
    struct upstream *s = u->state;

    sorted_remove(&s->services, service, by_key);
    unit_dirty(t, u);
}

/* -- targets
 * --------------------------------------------------------------------------------------- */

static void add_backend(struct sb_translator *t, struct unit *u, const struct seed *seed,
                        const struct backend *b, const struct served *served,
                        struct sb_value *targets)
{
    const struct sb_value *port;
    const char *error;

    if (!served->service) {
        unit_fail(u, seed->parent, "can't add target for backend %.*s: no kubernetes service found",
                  SB_ARG(b->service));
        return;
    }
    if (!backend_port(u->arena, served->service, &b->port, &port, &error)) {
        unit_fail(u, object_ref(u->arena, served->service),
                  "can't find port for backend kubernetes service: %s", error);
        unit_fail(u, seed->parent, "can't find port for backend kubernetes service: %s", error);
        return;
    }
    backend_targets(t, u, b, served, port, targets);
}

static void put_targets(struct sb_translator *t, struct unit *u, const struct outcome *o)
{
    struct sb_value *targets = sb_value_array(u->arena), *target;

    for (size_t i = 0; i < o->seed->nbackends; i++)
        add_backend(t, u, o->seed, &o->seed->backends[i], &o->served[i], targets);
    sb_array_each (target, targets) {
        struct sb_str key = sb_arena_printf(u->arena, "%.*s/%.*s", SB_ARG(u->key),
                                            SB_ARG(sb_value_str_at(target, "target")));
        struct entity *e = unit_put(t, u, E_TARGETS, key, target);

        entity_parent(e, E_UPSTREAMS, u->key);
        entity_objects(e, o->objects, o->nobjects);
    }
}

/* -- the unit
 * -------------------------------------------------------------------------------------- */

static void upstream_run(struct sb_translator *t, struct unit *u)
{
    const struct upstream *s = u->state;
    struct sb_value *value = sb_value_object(u->arena);
    const struct outcome *o;
    struct entity *e;

    u->gone = !s->services.len;
    if (u->gone)
        return;
    o = ((const struct unit *)s->services.p[0])->result;
    set_str(u->arena, value, "name", u->key);
    set_text(u->arena, value, "algorithm", "round-robin");
    if (o->tags)
        set_value(u->arena, value, "tags", sb_value_copy(u->arena, o->tags));
    upstream_overrides(t, u, o, value);
    e = unit_put(t, u, E_UPSTREAMS, u->key, value);
    entity_objects(e, o->objects, o->nobjects);
    put_targets(t, u, o);
}

static void upstream_release(struct unit *u)
{
    struct upstream *s = u->state;

    if (s)
        sb_vec_release(&s->services);
    free(s);
}

const struct unit_type upstream_type = {
    .name = "upstream",
    .stage = STAGE_UPSTREAM,
    .run = upstream_run,
    .release = upstream_release,
};
