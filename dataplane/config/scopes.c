#include "dataplane/config/scopes.h"

#include <stdlib.h>

#include "dataplane/config/table.h"
#include "dataplane/plugins/chain.h"
#include "shared/map.h"
#include "shared/vec.h"

enum { ARENA_BLOCK = 512 };

typedef SB_VEC(const struct sb_plugin_instance *) instances;

struct chain;

/* A route, a service or a consumer that has instances of its own, or chains that name it. */
struct scope {
    struct sb_str id;
    bool service;
    instances own;
    bool counted; /* chains know that it has some */
    bool touched;
    SB_VEC(struct chain *) chains;
};

struct chain {
    struct sb_str key;             /* "route service" */
    struct scope *route, *service; /* NULL: "" in the key */
    struct sb_str service_id;
    uint32_t number, uses;
    bool dirty;
    struct sb_arena *arena; /* of what is in the table; NULL: nothing */
    uint64_t born;
};

struct consumer {
    struct sb_str id;
    instances own;
    bool touched;
    struct sb_arena *arena;
    uint64_t born;
};

/* A plugin that has instances for consumers wherever they go. */
struct everywhere {
    const struct sb_plugin *plugin;
    size_t count;
};

struct sb_scopes {
    struct sb_lifetimes *lifetimes;
    void (*moved)(void *arg, bool service, struct sb_str id);
    void *arg;
    instances global;
    struct sb_map routes, services, consumers; /* by id */
    struct sb_map by_key;                      /* struct chain */
    SB_VEC(struct everywhere) everywhere;
    SB_VEC(struct scope *) touched;
    SB_VEC(struct chain *) dirty;
    SB_VEC(struct consumer *) touched_consumers;
    SB_VEC(struct chain *) chains; /* by number; NULL: free */
    SB_VEC(uint32_t) free_numbers;
    struct sb_slot_table table;
    struct sb_table *consumer_table;
    const struct sb_hooks *hooks; /* chain 0 */
    size_t rebuilt;
};

static void forget(instances *list, const struct sb_plugin_instance *in)
{
    size_t i = 0;

    while (list->p[i] != in)
        i++;
    list->p[i] = list->p[--list->len];
}

/* Zeroed, with a copy of the text behind it. */
static void *new_with_text(size_t len, struct sb_str text, struct sb_str *copy)
{
    char *p = sb_xcalloc(1, len + text.len + 1);

    memcpy(p + len, text.p ? text.p : "", text.len);
    *copy = sb_str_n(p + len, text.len);
    return p;
}

/* -- scopes -- */

static struct scope *scope_of(struct sb_scopes *s, bool service, struct sb_str id)
{
    struct sb_map *map = service ? &s->services : &s->routes;
    struct scope *scope = sb_map_get(map, id);
    struct sb_str copy;

    if (scope)
        return scope;
    scope = new_with_text(sizeof *scope, id, &copy);
    scope->id = copy;
    scope->service = service;
    sb_map_set(map, scope->id, scope);
    return scope;
}

static void free_scope(struct scope *scope)
{
    sb_vec_release(&scope->own);
    sb_vec_release(&scope->chains);
    free(scope);
}

static void collect_scope(struct sb_scopes *s, struct scope *scope)
{
    if (scope->own.len || scope->chains.len || scope->touched)
        return;
    sb_map_remove(scope->service ? &s->services : &s->routes, scope->id);
    free_scope(scope);
}

static void soil(struct sb_scopes *s, struct chain *chain)
{
    if (chain->dirty)
        return;
    chain->dirty = true;
    sb_vec_push(&s->dirty, chain);
}

static void soil_all(struct sb_scopes *s)
{
    for (size_t i = 0; i < s->chains.len; i++)
        if (s->chains.p[i])
            soil(s, s->chains.p[i]);
}

static void touch(struct sb_scopes *s, struct scope *scope)
{
    if (!scope->touched)
        sb_vec_push(&s->touched, scope);
    scope->touched = true;
}

/* -- consumers -- */

static struct consumer *consumer_of(struct sb_scopes *s, struct sb_str id)
{
    struct consumer *c = sb_map_get(&s->consumers, id);
    struct sb_str copy;

    if (!c) {
        c = new_with_text(sizeof *c, id, &copy);
        c->id = copy;
        sb_map_set(&s->consumers, c->id, c);
    }
    if (!c->touched)
        sb_vec_push(&s->touched_consumers, c);
    c->touched = true;
    return c;
}

/* The first instance of a plugin for any consumer gives every chain a slot, the last takes it. */
static void count_everywhere(struct sb_scopes *s, const struct sb_plugin *plugin, int by)
{
    struct everywhere *e;

    sb_vec_each (e, &s->everywhere)
        if (e->plugin == plugin)
            break;
    if (s->everywhere.len == 0 || e == s->everywhere.p + s->everywhere.len) {
        sb_vec_push(&s->everywhere, ((struct everywhere){.plugin = plugin}));
        e = &s->everywhere.p[s->everywhere.len - 1];
    }
    if (by > 0 ? e->count++ == 0 : --e->count == 0)
        soil_all(s);
    if (e->count == 0)
        *e = s->everywhere.p[--s->everywhere.len];
}

static void free_arena(void *p)
{
    sb_arena_free(p);
}

static void drop_arena(struct sb_scopes *s, struct sb_arena **arena, uint64_t born)
{
    if (*arena)
        sb_lifetimes_drop(s->lifetimes, born, free_arena, *arena);
    *arena = NULL;
}

static void build_consumer(struct sb_scopes *s, struct consumer *c)
{
    const struct sb_consumer_plugins *plugins = NULL;
    struct sb_arena *old = c->arena;
    uint64_t born = c->born;

    c->touched = false;
    c->arena = NULL;
    if (c->own.len) {
        c->arena = sb_arena_new(ARENA_BLOCK);
        c->born = sb_lifetimes_now(s->lifetimes);
        plugins = sb_consumer_plugins_build(c->arena, c->id, c->own.p, c->own.len);
    }
    sb_table_set(s->lifetimes, &s->consumer_table, plugins ? plugins->consumer_id : c->id, plugins);
    drop_arena(s, &old, born);
    if (c->own.len)
        return;
    sb_map_remove(&s->consumers, c->id);
    sb_vec_release(&c->own);
    free(c);
}

/* -- instances -- */

void sb_scopes_add(struct sb_scopes *s, const struct sb_plugin_instance *in)
{
    struct scope *scope;

    if (in->consumer_id.len)
        sb_vec_push(&consumer_of(s, in->consumer_id)->own, in);
    if (in->route_id.len || in->service_id.len) {
        scope = scope_of(s, !in->route_id.len, in->route_id.len ? in->route_id : in->service_id);
        sb_vec_push(&scope->own, in);
        touch(s, scope);
    } else if (in->consumer_id.len) {
        count_everywhere(s, in->plugin, 1);
    } else {
        sb_vec_push(&s->global, in);
        soil_all(s);
    }
}

void sb_scopes_remove(struct sb_scopes *s, const struct sb_plugin_instance *in)
{
    struct scope *scope;

    if (in->consumer_id.len)
        forget(&consumer_of(s, in->consumer_id)->own, in);
    if (in->route_id.len || in->service_id.len) {
        scope = scope_of(s, !in->route_id.len, in->route_id.len ? in->route_id : in->service_id);
        forget(&scope->own, in);
        touch(s, scope);
    } else if (in->consumer_id.len) {
        count_everywhere(s, in->plugin, -1);
    } else {
        forget(&s->global, in);
        soil_all(s);
    }
}

void sb_scopes_settle(struct sb_scopes *s)
{
    for (size_t i = 0; i < s->touched.len; i++) {
        struct scope *scope = s->touched.p[i];
        bool has = scope->own.len > 0;

        scope->touched = false;
        for (size_t k = 0; k < scope->chains.len; k++)
            soil(s, scope->chains.p[k]);
        if (scope->counted != has)
            s->moved(s->arg, scope->service, scope->id);
        scope->counted = has;
        collect_scope(s, scope);
    }
    sb_vec_clear(&s->touched);
}

/* -- chains -- */

static struct chain *new_chain(struct sb_scopes *s, struct sb_str key, struct sb_str route_id,
                               struct sb_str service_id)
{
    struct sb_str copy;
    struct chain *chain = new_with_text(sizeof *chain, key, &copy);

    chain->key = copy;
    if (route_id.len) {
        chain->route = scope_of(s, false, route_id);
        sb_vec_push(&chain->route->chains, chain);
    }
    if (service_id.len) {
        chain->service = scope_of(s, true, service_id);
        sb_vec_push(&chain->service->chains, chain);
    }
    if (s->free_numbers.len) {
        chain->number = s->free_numbers.p[--s->free_numbers.len];
        s->chains.p[chain->number] = chain;
    } else {
        chain->number = (uint32_t)s->chains.len;
        sb_vec_push(&s->chains, chain);
    }
    sb_map_set(&s->by_key, chain->key, chain);
    soil(s, chain);
    return chain;
}

static bool has_own(const struct sb_map *scopes, struct sb_str id)
{
    const struct scope *scope = id.len ? sb_map_get(scopes, id) : NULL;

    return scope && scope->own.len > 0;
}

uint32_t sb_scopes_chain(struct sb_scopes *s, struct sb_str route_id, struct sb_str service_id)
{
    char room[256];
    struct chain *chain;
    int len;

    /* A service counts beside a route that has own ones, which may be for both together. */
    if (!has_own(&s->routes, route_id)) {
        route_id = SB_STR("");
        if (!has_own(&s->services, service_id))
            service_id = SB_STR("");
    }
    len = snprintf(room, sizeof room, "%.*s %.*s", SB_ARG(route_id), SB_ARG(service_id));
    sb_assert(len > 0 && (size_t)len < sizeof room); /* ids are UUIDs */
    chain = sb_map_get(&s->by_key, sb_str_n(room, (size_t)len));
    if (!chain)
        chain = new_chain(s, sb_str_n(room, (size_t)len), route_id, service_id);
    chain->uses++;
    return chain->number;
}

void sb_scopes_leave(struct sb_scopes *s, uint32_t number)
{
    struct chain *chain = s->chains.p[number];

    if (--chain->uses == 0)
        soil(s, chain); /* the build takes it away */
}

static void leave_scope(struct sb_scopes *s, struct scope *scope, const struct chain *chain)
{
    size_t i = 0;

    if (!scope)
        return;
    while (scope->chains.p[i] != chain)
        i++;
    scope->chains.p[i] = scope->chains.p[--scope->chains.len];
    collect_scope(s, scope);
}

static void free_chain(struct sb_scopes *s, struct chain *chain)
{
    sb_map_remove(&s->by_key, chain->key);
    leave_scope(s, chain->route, chain);
    leave_scope(s, chain->service, chain);
    s->chains.p[chain->number] = NULL;
    sb_vec_push(&s->free_numbers, chain->number);
    free(chain);
}

static void gather(instances *to, const instances *from, struct sb_str route_id,
                   struct sb_str service_id)
{
    for (size_t i = 0; i < from->len; i++)
        if (sb_plugin_fits(from->p[i], route_id, service_id))
            sb_vec_push(to, from->p[i]);
}

static const struct sb_hooks *make_hooks(struct sb_scopes *s, const struct chain *chain,
                                         struct sb_arena *a)
{
    struct sb_str route_id = chain->route ? chain->route->id : SB_STR("");
    struct sb_str service_id = chain->service ? chain->service->id : SB_STR("");
    SB_VEC(const struct sb_plugin *) slots = {0};
    const struct sb_hooks *hooks;
    struct everywhere *e;
    instances all = {0};

    gather(&all, &s->global, route_id, service_id);
    if (chain->service)
        gather(&all, &chain->service->own, route_id, service_id);
    if (chain->route)
        gather(&all, &chain->route->own, route_id, service_id);
    sb_vec_each (e, &s->everywhere)
        sb_vec_push(&slots, e->plugin);
    hooks = sb_chain_build(a, &(struct sb_chain_source){all.p, all.len, slots.p, slots.len});
    sb_vec_release(&all);
    sb_vec_release(&slots);
    return hooks;
}

static void build_chain(struct sb_scopes *s, struct chain *chain)
{
    const struct sb_hooks *hooks = NULL;
    struct sb_arena *old = chain->arena;
    uint64_t born = chain->born;
    uint32_t number = chain->number;

    chain->dirty = false;
    chain->arena = NULL;
    if (chain->uses) {
        struct sb_arena *a = sb_arena_new(ARENA_BLOCK);

        hooks = make_hooks(s, chain, a);
        if (hooks) {
            chain->arena = a;
            chain->born = sb_lifetimes_now(s->lifetimes);
        } else {
            sb_arena_free(a);
        }
    } else {
        free_chain(s, chain);
    }
    sb_slots_set(s->lifetimes, &s->table, number, hooks);
    if (number == 0)
        s->hooks = hooks;
    drop_arena(s, &old, born);
    s->rebuilt++;
}

void sb_scopes_build(struct sb_scopes *s, struct sb_snapshot *snap)
{
    s->rebuilt = 0;
    for (size_t i = 0; i < s->dirty.len; i++)
        build_chain(s, s->dirty.p[i]);
    sb_vec_clear(&s->dirty);
    for (size_t i = 0; i < s->touched_consumers.len; i++)
        build_consumer(s, s->touched_consumers.p[i]);
    sb_vec_clear(&s->touched_consumers);
    snap->chains = s->table.now;
    snap->hooks = s->hooks;
    snap->consumers = s->consumer_table;
}

/* -- the whole -- */

struct sb_scopes *sb_scopes_new(struct sb_lifetimes *l,
                                void (*moved)(void *arg, bool service, struct sb_str id), void *arg)
{
    struct sb_scopes *s = sb_xcalloc(1, sizeof *s);

    s->lifetimes = l;
    s->moved = moved;
    s->arg = arg;
    (void)sb_scopes_chain(s, SB_STR(""), SB_STR("")); /* 0, in use for ever */
    return s;
}

static void free_scopes(struct sb_map *map)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, map)
        free_scope(slot->value);
    sb_map_release(map);
}

static void free_consumers(struct sb_scopes *s)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, &s->consumers) {
        struct consumer *c = slot->value;

        sb_arena_free(c->arena);
        sb_vec_release(&c->own);
        free(c);
    }
    sb_map_release(&s->consumers);
}

void sb_scopes_free(struct sb_scopes *s)
{
    for (size_t i = 0; i < s->chains.len; i++) {
        if (s->chains.p[i])
            sb_arena_free(s->chains.p[i]->arena);
        free(s->chains.p[i]);
    }
    sb_map_release(&s->by_key);
    free_scopes(&s->routes);
    free_scopes(&s->services);
    free_consumers(s);
    sb_slots_drop(s->lifetimes, &s->table);
    sb_table_drop(s->lifetimes, &s->consumer_table);
    sb_vec_release(&s->global);
    sb_vec_release(&s->everywhere);
    sb_vec_release(&s->touched);
    sb_vec_release(&s->dirty);
    sb_vec_release(&s->touched_consumers);
    sb_vec_release(&s->chains);
    sb_vec_release(&s->free_numbers);
    free(s);
}

size_t sb_scopes_chains(const struct sb_scopes *s)
{
    return s->by_key.count;
}

size_t sb_scopes_rebuilt(const struct sb_scopes *s)
{
    return s->rebuilt;
}
