/* build.c - see build.h.
 *
 * A node's product is what was compiled from its row: one object in an arena of its own. Products
 * are only made anew, never changed, and the old one is dropped at the end of the build, when
 * everything that pointed to it was made anew too.
 *
 * Upstreams and SNIs are found by name, and two rows may want one name (workspaces, upper and lower
 * case). The lowest id has it, whatever came first, so that all nodes agree; the others are left
 * out and come alive when it goes. A name that services or upstreams use has a slot: a service
 * compiles to the slot of its host before there is an upstream of that name, or when there never
 * is.
 */
#include "dataplane/config/build.h"

#include <ctype.h>
#include <stdlib.h>

#include "dataplane/config/compile.h"
#include "dataplane/config/lifetime.h"
#include "dataplane/config/plugins.h"
#include "dataplane/config/scopes.h"
#include "dataplane/config/table.h"
#include "dataplane/plugins/vault.h"
#include "schema/entity.h"
#include "schema/store.h"
#include "dataplane/plugins/credentials/memory.h"
#include "shared/log.h"
#include "shared/vec.h"

enum { RANKS = 4, RANK_PLUGINS = 1, ARENA_BLOCK = 320 };

/* A name that rows claim; for hosts also one that services look up. */
struct name {
    struct sb_str text;
    uint32_t slot;     /* 0: a name of SNIs */
    uint32_t services; /* whose host it is */
    SB_VEC(struct sb_node *) claimants;
};

struct product {
    struct sb_node *node;
    struct sb_arena *arena;
    void *object; /* NULL: did not compile */
    uint64_t born;
    struct name *name; /* of an upstream or SNI: claimed; of a service: its host */
    bool routed;
    bool secret;  /* its row refers to secrets */
    bool chained; /* a route: it has a chain */
    uint32_t chain;
    char *trouble;               /* NULL: none */
    struct product *prev, *next; /* in trouble */
};

struct box {
    struct sb_snapshot snap; /* first: a snapshot is its box */
    uint64_t generation;
};

struct dropped {
    uint64_t born;
    struct sb_arena *arena;
};

struct sb_builder {
    struct sb_model *model;
    struct sb_lifetimes *lifetimes;
    struct sb_router_builder *routes;
    const struct sb_router *router;
    uint64_t router_born;
    bool routes_changed;
    struct sb_table *snis, *upstream_names;
    struct sb_slot_table slots;
    struct sb_vaults *vaults;
    struct sb_plugin_compiler *plugins;
    struct sb_scopes *scopes;
    struct sb_memory *credentials;
    uint64_t credentials_born;
    char workspace[SB_UUID_TEXT_LEN + 1]; /* the default one's id */
    struct sb_map sni_names, hosts;       /* struct name, by its text */
    SB_VEC(uint32_t) free_slots;
    uint32_t next_slot;
    uint64_t generation; /* of upstreams */
    SB_VEC(struct sb_node *) dirty[RANKS];
    SB_VEC(struct dropped) old;
    struct product *troubled;
    size_t ntroubled, compiled;
    uint64_t edition;
    struct sb_arena *scratch;
};

/* -- trouble -- */

static void free_trouble(struct sb_builder *b, struct product *p)
{
    if (!p->trouble)
        return;
    free(p->trouble);
    p->trouble = NULL;
    *(p->prev ? &p->prev->next : &b->troubled) = p->next;
    if (p->next)
        p->next->prev = p->prev;
    p->prev = p->next = NULL;
    b->ntroubled--;
    b->edition++;
}

/* The entity as people know it: kind, name where it has one, id. */
static struct sb_str describe(struct sb_builder *b, const struct sb_node *node)
{
    const struct sb_value *row = sb_node_row(node, b->scratch);
    struct sb_str name = sb_value_str_at(row, "name");

    if (!name.len)
        return sb_arena_printf(b->scratch, "%s %.*s", node->kind->name, SB_ARG(node->id));
    return sb_arena_printf(b->scratch, "%s '%.*s' (%.*s)", node->kind->name, SB_ARG(name),
                           SB_ARG(node->id));
}

static void clear_trouble(struct sb_builder *b, struct product *p)
{
    if (!p->trouble)
        return;
    free_trouble(b, p);
    sb_notice("%s is served again", describe(b, p->node).p);
}

static void set_trouble(struct sb_builder *b, struct product *p, const char *text)
{
    if (p->trouble && strcmp(p->trouble, text) == 0)
        return;
    free_trouble(b, p);
    p->trouble = memcpy(sb_xmalloc(strlen(text) + 1), text, strlen(text) + 1);
    p->next = b->troubled;
    if (p->next)
        p->next->prev = p;
    b->troubled = p;
    b->ntroubled++;
    b->edition++;
    sb_warn("%s is left out: %s", describe(b, p->node).p, text);
}

/* -- products -- */

static struct product *product_of(struct sb_node *node)
{
    struct product *p = node->built;

    if (!p) {
        p = node->built = sb_xcalloc(1, sizeof *p);
        p->node = node;
    }
    return p;
}

/* The object of another node; NULL: not stored, or left out. */
static void *object_of(struct sb_builder *b, const char *kind, struct sb_str id)
{
    struct sb_node *node = id.len ? sb_model_find(b->model, sb_str_c(kind), id) : NULL;
    struct product *p = node ? node->built : NULL;

    return p ? p->object : NULL;
}

static void free_arena(void *p)
{
    sb_arena_free(p);
}

/* The old object goes when the build is done. */
static void drop_object(struct sb_builder *b, struct product *p)
{
    if (p->arena)
        sb_vec_push(&b->old, ((struct dropped){p->born, p->arena}));
    p->arena = NULL;
    p->object = NULL;
}

/* Begins a node anew: its old object is dropped. NULL: the row is gone. */
static struct sb_value *begin(struct sb_builder *b, struct sb_node *node, struct product **p)
{
    *p = product_of(node);
    drop_object(b, *p);
    if (!node->text.p)
        return NULL;
    (*p)->arena = sb_arena_new(ARENA_BLOCK);
    (*p)->born = sb_lifetimes_now(b->lifetimes);
    return sb_node_row(node, b->scratch);
}

/* Ends it: with an object, or with what is wrong. */
static void end(struct sb_builder *b, struct product *p, enum sb_rc rc, void *object,
                const struct sb_err *err)
{
    if (rc) {
        drop_object(b, p);
        set_trouble(b, p, err->text);
    } else {
        p->object = object;
        clear_trouble(b, p);
    }
    sb_model_touch_users(b->model, p->node);
}

static void end_gone(struct sb_builder *b, struct product *p)
{
    free_trouble(b, p);
    sb_model_touch_users(b->model, p->node);
}

/* -- names -- */

static struct name *name_of(struct sb_builder *b, struct sb_map *names, struct sb_str text)
{
    struct name *name = sb_map_get(names, text);
    char *copy;

    if (name)
        return name;
    name = sb_xcalloc(1, sizeof *name + text.len + 1);
    copy = (char *)(name + 1);
    memcpy(copy, text.p, text.len);
    name->text = sb_str_n(copy, text.len);
    if (names == &b->hosts)
        name->slot = b->free_slots.len ? b->free_slots.p[--b->free_slots.len] : ++b->next_slot;
    sb_map_set(names, name->text, name);
    return name;
}

static void forget_name(struct sb_builder *b, struct sb_map *names, struct name *name)
{
    if (name->services || name->claimants.len)
        return;
    sb_map_remove(names, name->text);
    if (name->slot)
        sb_vec_push(&b->free_slots, name->slot);
    sb_vec_release(&name->claimants);
    free(name);
}

static void claim(struct product *p, struct name *name)
{
    p->name = name;
    sb_vec_push(&name->claimants, p->node);
}

/* Returns the name that was claimed, for settle(). */
static struct name *unclaim(struct product *p)
{
    struct name *name = p->name;
    size_t i = 0;

    if (!name)
        return NULL;
    while (name->claimants.p[i] != p->node)
        i++;
    name->claimants.p[i] = name->claimants.p[--name->claimants.len];
    p->name = NULL;
    return name;
}

static struct product *winner_of(const struct name *name)
{
    struct sb_node *winner = NULL;

    for (size_t i = 0; i < name->claimants.len; i++) {
        if (!winner || sb_str_cmp(name->claimants.p[i]->id, winner->id) < 0)
            winner = name->claimants.p[i];
    }
    return winner ? winner->built : NULL;
}

/* Gives the name to who has it now, in the table of SNIs or those of upstreams. */
static void settle(struct sb_builder *b, struct sb_map *names, struct name *name)
{
    struct product *winner;

    if (!name)
        return;
    winner = winner_of(name);
    if (names == &b->sni_names) {
        const struct sb_sni *sni = winner ? winner->object : NULL;

        sb_table_set(b->lifetimes, &b->snis, sni ? sni->name : name->text, sni);
    } else {
        const struct sb_upstream *u = winner ? winner->object : NULL;

        sb_table_set(b->lifetimes, &b->upstream_names, u ? u->name : name->text, u);
        sb_slots_set(b->lifetimes, &b->slots, name->slot, u);
    }
    for (size_t i = 0; i < name->claimants.len; i++) {
        struct product *p = name->claimants.p[i]->built;

        if (p == winner)
            clear_trouble(b, p);
        else
            set_trouble(
                b, p,
                sb_arena_printf(b->scratch, "its name is that of %.*s", SB_ARG(winner->node->id))
                    .p);
    }
    forget_name(b, names, name);
}

/* -- secrets -- */

/* Whoever refers to secrets is built anew: one of them is another, or a vault is. */
static void touch_secrets(struct sb_builder *b)
{
    for (struct sb_node *node = sb_model_first(b->model); node; node = node->next) {
        const struct product *p = node->built;

        if (p && p->secret)
            sb_model_touch(b->model, node);
    }
}

static void build_vault(struct sb_builder *b, struct sb_node *node)
{
    sb_vaults_put(b->vaults, node->id, sb_node_row(node, b->scratch));
    touch_secrets(b);
}

bool sb_builder_rotate(struct sb_builder *b)
{
    if (!sb_vaults_rotate(b->vaults))
        return false;
    touch_secrets(b);
    return true;
}

/* -- a function per kind -- */

static void build_workspace(struct sb_builder *b, struct sb_node *node)
{
    const struct sb_value *row = sb_node_row(node, b->scratch);

    if (sb_str_is(sb_value_str_at(row, "name"), "default") && node->id.len == SB_UUID_TEXT_LEN)
        memcpy(b->workspace, node->id.p, SB_UUID_TEXT_LEN);
}

static void build_certificate(struct sb_builder *b, struct sb_node *node)
{
    struct product *p;
    struct sb_value *row = begin(b, node, &p);
    struct sb_certificate *c = NULL;
    enum sb_rc rc = SB_OK;
    struct sb_err err;

    if (row) {
        p->secret = sb_vaults_resolve(b->vaults, b->scratch,
                                      sb_entity_find(SB_STR("certificates"))->fields, row);
        rc = sb_compile_certificate(p->arena, row, &c, &err); /* before c is passed on */
        end(b, p, rc, c, &err);
    } else {
        end_gone(b, p);
    }
}

static void build_ca_certificate(struct sb_builder *b, struct sb_node *node)
{
    struct product *p;
    struct sb_value *row = begin(b, node, &p);
    X509 *ca = NULL;
    enum sb_rc rc = SB_OK;
    struct sb_err err;

    if (row) {
        rc = sb_compile_ca_certificate(p->arena, row, &ca, &err); /* before ca is passed on */
        end(b, p, rc, ca, &err);
    } else {
        end_gone(b, p);
    }
}

static enum sb_rc compile_sni(struct sb_builder *b, struct sb_arena *a, const struct sb_value *row,
                              struct sb_sni **out, struct sb_err *err)
{
    struct sb_str id = sb_value_str_at(row, "certificate.id"), text = sb_value_str_at(row, "name");
    struct sb_sni *sni = SB_NEW(a, struct sb_sni);
    char *name = sb_arena_cstr(a, text);

    sni->certificate = object_of(b, "certificates", id);
    if (!sni->certificate)
        return sb_err_set(err, SB_INVALID, "its certificate %.*s is missing or left out",
                          SB_ARG(id));
    if (!text.len)
        return sb_err_set(err, SB_INVALID, "name is empty");
    for (size_t i = 0; i < text.len; i++)
        name[i] = (char)tolower((unsigned char)name[i]);
    sni->name = sb_str_n(name, text.len);
    *out = sni;
    return SB_OK;
}

static void build_sni(struct sb_builder *b, struct sb_node *node)
{
    struct product *p;
    struct sb_value *row = begin(b, node, &p);
    struct name *was = unclaim(p), *is = NULL;
    struct sb_sni *sni = NULL;
    struct sb_err err;
    enum sb_rc rc;

    if (row && !(rc = compile_sni(b, p->arena, row, &sni, &err))) {
        p->object = sni;
        claim(p, is = name_of(b, &b->sni_names, sni->name));
    } else if (row) {
        end(b, p, rc, NULL, &err);
    } else {
        end_gone(b, p);
    }
    if (was != is)
        settle(b, &b->sni_names, was);
    settle(b, &b->sni_names, is);
}

/* A target without an upstream waits for it. */
static void tell_target(struct sb_builder *b, struct product *p, const struct sb_node *upstream)
{
    if (upstream && upstream->text.p)
        clear_trouble(b, p);
    else
        set_trouble(b, p,
                    sb_arena_printf(b->scratch, "its upstream %.*s is missing",
                                    SB_ARG(upstream ? upstream->id : SB_STR("")))
                        .p);
}

static void build_target(struct sb_builder *b, struct sb_node *node)
{
    struct product *p;
    struct sb_value *row = begin(b, node, &p);
    struct sb_compiled_target *target = NULL;
    struct sb_err err;
    enum sb_rc rc;

    if (!row) {
        end_gone(b, p);
    } else if ((rc = sb_compile_target(p->arena, row, &target, &err))) {
        end(b, p, rc, NULL, &err);
    } else {
        p->object = target;
        tell_target(b, p, node->nrefs ? node->refs[0].to : NULL);
    }
}

static enum sb_rc compile_upstream(struct sb_builder *b, struct sb_node *node, struct sb_arena *a,
                                   const struct sb_value *row, struct sb_upstream **out,
                                   struct sb_err *err)
{
    SB_VEC(const struct sb_compiled_target *) targets = {0};
    enum sb_rc rc;

    for (struct sb_edge *e = node->users; e; e = e->next) {
        struct product *p = e->from->built;

        if (p && p->object && e->from->text.p)
            sb_vec_push(&targets, p->object);
    }
    rc = sb_compile_upstream(a, row, targets.p, targets.len, out, err);
    sb_vec_release(&targets);
    if (rc)
        return rc;
    (*out)->generation = ++b->generation;
    (*out)->client_certificate =
        object_of(b, "certificates", sb_value_str_at(row, "client_certificate.id"));
    return SB_OK;
}

static void tell_targets(struct sb_builder *b, struct sb_node *node)
{
    for (struct sb_edge *e = node->users; e; e = e->next) {
        struct product *p = e->from->built;

        if (p && p->object && e->from->text.p)
            tell_target(b, p, node);
    }
}

static void build_upstream(struct sb_builder *b, struct sb_node *node)
{
    struct product *p;
    struct sb_value *row = begin(b, node, &p);
    struct name *was = unclaim(p), *is = NULL;
    struct sb_upstream *u = NULL;
    struct sb_err err;
    enum sb_rc rc;

    if (row && !(rc = compile_upstream(b, node, p->arena, row, &u, &err))) {
        p->object = u;
        is = name_of(b, &b->hosts, u->name);
        u->slot = is->slot;
        claim(p, is);
    } else if (row) {
        end(b, p, rc, NULL, &err);
    } else {
        end_gone(b, p);
    }
    tell_targets(b, node);
    if (was != is)
        settle(b, &b->hosts, was);
    settle(b, &b->hosts, is);
}

static void free_store(void *p)
{
    X509_STORE_free(p);
}

/* A list that names a CA that is missing makes a store without it: stricter, never laxer. */
static X509_STORE *ca_store(struct sb_builder *b, struct sb_arena *a, const struct sb_service *s)
{
    X509_STORE *store;

    if (!s->nca_certificates)
        return NULL;
    store = X509_STORE_new();
    sb_assert(store);
    sb_arena_defer(a, free_store, store);
    for (size_t i = 0; i < s->nca_certificates; i++) {
        X509 *ca = object_of(b, "ca_certificates", s->ca_certificates[i]);

        if (ca)
            X509_STORE_add_cert(store, ca);
    }
    return store;
}

static void build_service(struct sb_builder *b, struct sb_node *node)
{
    struct product *p;
    struct sb_value *row = begin(b, node, &p);
    struct name *was = p->name;
    struct sb_service *s = NULL;
    struct sb_err err;
    enum sb_rc rc = SB_OK;

    p->name = NULL;
    if (row && !(rc = sb_compile_service(p->arena, row, &s, &err))) {
        s->client_certificate =
            object_of(b, "certificates", sb_value_str_at(row, "client_certificate.id"));
        s->ca_store = ca_store(b, p->arena, s);
        s->row = node->text.p;
        if (!sb_host_is_address(s->host)) {
            p->name = name_of(b, &b->hosts, s->host);
            p->name->services++;
            s->upstream_slot = p->name->slot;
        }
    }
    if (was) { /* after the new one is taken: a service that stays keeps its slot */
        was->services--;
        forget_name(b, &b->hosts, was);
    }
    if (row)
        end(b, p, rc, s, &err);
    else
        end_gone(b, p);
}

/* A row that can't run is in trouble, and may still have an instance, which refuses. */
static void build_plugin(struct sb_builder *b, struct sb_node *node)
{
    struct product *p = product_of(node);
    struct sb_plugin_instance *in = NULL;
    struct sb_value *row;
    struct sb_err err;
    enum sb_rc rc;

    if (p->object)
        sb_scopes_remove(b->scopes, p->object);
    row = begin(b, node, &p);
    if (!row) {
        free_trouble(b, p);
        return;
    }
    rc = sb_compile_plugin(b->plugins, p->arena, b->scratch, row, &in, &p->secret, &err);
    p->object = in;
    if (in)
        sb_scopes_add(b->scopes, in);
    else
        drop_object(b, p);
    if (rc)
        set_trouble(b, p, err.text);
    else
        clear_trouble(b, p);
}

/* A route or a service got its first plugin, or lost its last one. */
static void on_moved(void *arg, bool service, struct sb_str id)
{
    struct sb_builder *b = arg;
    struct sb_node *node =
        sb_model_find(b->model, service ? SB_STR("services") : SB_STR("routes"), id);

    if (!node)
        return;
    if (service)
        sb_model_touch_users(b->model, node);
    else
        sb_model_touch(b->model, node);
}

/* NULL in *out without an error: not to be routed, for its service is disabled. */
static enum sb_rc compile_route(struct sb_builder *b, struct sb_arena *a,
                                const struct sb_value *row, struct sb_route **out,
                                struct sb_err *err)
{
    struct sb_str id = sb_value_str_at(row, "service.id");
    const struct sb_service *service = object_of(b, "services", id);
    struct sb_router_source source = {.row = row};
    enum sb_rc rc;

    *out = NULL;
    if (id.len && !service)
        return sb_err_set(err, SB_INVALID, "its service %.*s is missing or left out", SB_ARG(id));
    if (service && !service->enabled)
        return SB_OK;
    rc = sb_compile_route(a, row, service, out, err);
    source.route = *out;
    return rc ? rc : sb_router_put(b->routes, &source, err);
}

/* The chain before is left after the new one is taken, so that a route that stays keeps it. */
static void chain_route(struct sb_builder *b, struct product *p, struct sb_route *route)
{
    bool was = p->chained;
    uint32_t old = p->chain;

    p->chained = route != NULL;
    if (route)
        p->chain = route->chain =
            sb_scopes_chain(b->scopes, route->id, route->service ? route->service->id : SB_STR(""));
    if (was)
        sb_scopes_leave(b->scopes, old);
}

static void build_route(struct sb_builder *b, struct sb_node *node)
{
    struct product *p;
    struct sb_value *row = begin(b, node, &p);
    struct sb_route *route = NULL;
    struct sb_err err;
    enum sb_rc rc = SB_OK;

    if (row)
        rc = compile_route(b, p->arena, row, &route, &err);
    if (route)
        route->row = node->text.p;
    chain_route(b, p, rc ? NULL : route);
    if (p->routed && (!route || rc))
        sb_router_remove(b->routes, node->id);
    b->routes_changed |= p->routed || (route && !rc);
    p->routed = route && !rc;
    if (row)
        end(b, p, rc, route, &err);
    else
        end_gone(b, p);
}

static const struct sb_kind_rules rules[] = {
    {.name = "workspaces", .rank = 0, .build = build_workspace},
    {.name = "vaults", .rank = 0, .build = build_vault},
    {.name = "certificates", .rank = 1, .build = build_certificate},
    {.name = "ca_certificates", .rank = 1, .build = build_ca_certificate},
    {.name = "targets",
     .rank = 1,
     .part = true,
     .refs = {"upstream"},
     .ref_kinds = {"upstreams"},
     .build = build_target},
    {.name = "plugins", .rank = 1, .build = build_plugin},
    {.name = "upstreams",
     .rank = 2,
     .refs = {"client_certificate"},
     .ref_kinds = {"certificates"},
     .build = build_upstream},
    {.name = "snis",
     .rank = 2,
     .refs = {"certificate"},
     .ref_kinds = {"certificates"},
     .build = build_sni},
    {.name = "services",
     .rank = 2,
     .shown = true,
     .refs = {"client_certificate", "ca_certificates"},
     .ref_kinds = {"certificates", "ca_certificates"},
     .build = build_service},
    {.name = "routes",
     .rank = 3,
     .shown = true,
     .refs = {"service"},
     .ref_kinds = {"services"},
     .build = build_route},
    {0},
};

/* -- the whole -- */

static void on_dirty(void *arg, struct sb_node *node)
{
    struct sb_builder *b = arg;

    sb_vec_push(&b->dirty[node->kind->rules->rank], node);
}

/* Routes and services of every snapshot so far may show it. */
static void take_text(void *arg, void *text)
{
    struct sb_builder *b = arg;

    sb_lifetimes_drop(b->lifetimes, 0, free, text);
}

struct sb_builder *sb_builder_new(enum sb_router_flavor flavor, const struct sb_settings *settings)
{
    struct sb_builder *b = sb_xcalloc(1, sizeof *b);

    b->model = sb_model_new(rules, on_dirty, b);
    sb_model_give_texts(b->model, take_text, b);
    memcpy(b->workspace, SB_WORKSPACE_WITHOUT_DATABASE, sizeof b->workspace);
    b->lifetimes = sb_lifetimes_new();
    b->routes = sb_router_builder_new(flavor);
    b->vaults = sb_vaults_new(settings);
    b->plugins = sb_plugin_compiler_new(settings, b->vaults);
    b->scopes = sb_scopes_new(b->lifetimes, on_moved, b);
    b->routes_changed = true; /* a snapshot always has a router */
    b->scratch = sb_arena_new(0);
    return b;
}

struct sb_model *sb_builder_model(struct sb_builder *b)
{
    return b->model;
}

struct sb_router_builder *sb_builder_routes(struct sb_builder *b)
{
    return b->routes;
}

static void free_product(struct product *p)
{
    free(p->trouble);
    free(p);
}

/* A node whose row is gone has no product, and goes when nothing refers to it. */
static void collect(struct sb_builder *b, struct sb_node *node)
{
    node->dirty = false;
    if (!node->text.p && node->built) {
        free_product(node->built);
        node->built = NULL;
    }
    sb_model_collect(b->model, node);
}

struct old_router {
    struct sb_router_builder *routes;
    const struct sb_router *router;
};

static void drop_router(void *p)
{
    struct old_router *old = p;

    sb_router_drop(old->routes, old->router);
    free(old);
}

static void build_router(struct sb_builder *b)
{
    struct old_router *old;

    if (!b->routes_changed)
        return;
    if (b->router) {
        old = sb_xmalloc(sizeof *old);
        *old = (struct old_router){b->routes, b->router};
        sb_lifetimes_drop(b->lifetimes, b->router_born, drop_router, old);
    }
    b->router = sb_router_build(b->routes);
    b->router_born = sb_lifetimes_now(b->lifetimes);
    b->routes_changed = false;
}

static void drop_old(struct sb_builder *b)
{
    for (size_t i = 0; i < b->old.len; i++)
        sb_lifetimes_drop(b->lifetimes, b->old.p[i].born, free_arena, b->old.p[i].arena);
    sb_vec_clear(&b->old);
}

static void drop_credentials(void *credentials)
{
    sb_memory_free(credentials);
}

void sb_builder_set_credentials(struct sb_builder *b, struct sb_memory *credentials)
{
    if (b->credentials)
        sb_lifetimes_drop(b->lifetimes, b->credentials_born, drop_credentials, b->credentials);
    b->credentials = credentials;
    b->credentials_born = sb_lifetimes_now(b->lifetimes);
}

static void build_dirty(struct sb_builder *b)
{
    b->compiled = 0;
    for (int rank = 0; rank < RANKS; rank++) {
        for (size_t i = 0; i < b->dirty[rank].len; i++) {
            struct sb_node *node = b->dirty[rank].p[i];

            node->kind->rules->build(b, node);
            sb_arena_clear(b->scratch);
            b->compiled++;
        }
        if (rank == RANK_PLUGINS)
            sb_scopes_settle(b->scopes);
    }
    for (int rank = 0; rank < RANKS; rank++) {
        for (size_t i = 0; i < b->dirty[rank].len; i++)
            collect(b, b->dirty[rank].p[i]);
        sb_vec_clear(&b->dirty[rank]);
    }
}

const struct sb_snapshot *sb_builder_build(struct sb_builder *b, uint64_t version)
{
    struct box *box = sb_xcalloc(1, sizeof *box);

    build_dirty(b);
    build_router(b);
    box->snap = (struct sb_snapshot){
        .version = version,
        .router = b->router,
        .snis = b->snis,
        .upstream_names = b->upstream_names,
        .upstreams = b->slots.now,
        .credentials = b->credentials,
    };
    memcpy(box->snap.workspace, b->workspace, sizeof b->workspace);
    sb_scopes_build(b->scopes, &box->snap);
    drop_old(b);
    box->generation = sb_lifetimes_publish(b->lifetimes);
    sb_lifetimes_drop(b->lifetimes, box->generation, free, box); /* goes with its generation */
    return &box->snap;
}

void sb_builder_retire(struct sb_builder *b, const struct sb_snapshot *snap)
{
    sb_lifetimes_retire(b->lifetimes, ((const struct box *)snap)->generation);
}

static void free_names(struct sb_map *names)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, names) {
        struct name *name = slot->value;

        sb_vec_release(&name->claimants);
        free(name);
    }
    sb_map_release(names);
}

static void free_product_of(struct sb_node *node)
{
    struct product *p = node->built;

    if (!p)
        return;
    if (p->arena)
        sb_arena_free(p->arena);
    free_product(p);
    node->built = NULL;
}

/* Of stored rows, and of rows that went since the last build. */
static void free_products(struct sb_builder *b)
{
    for (struct sb_node *node = sb_model_first(b->model); node; node = node->next)
        free_product_of(node);
    for (int rank = 0; rank < RANKS; rank++) {
        for (size_t i = 0; i < b->dirty[rank].len; i++)
            free_product_of(b->dirty[rank].p[i]);
    }
}

void sb_builder_free(struct sb_builder *b)
{
    if (!b)
        return;
    sb_table_drop(b->lifetimes, &b->snis);
    sb_table_drop(b->lifetimes, &b->upstream_names);
    sb_slots_drop(b->lifetimes, &b->slots);
    sb_scopes_free(b->scopes);
    if (b->router)
        sb_router_drop(b->routes, b->router);
    sb_lifetimes_free(b->lifetimes);
    sb_memory_free(b->credentials);
    sb_router_builder_free(b->routes);
    free_products(b);
    sb_plugin_compiler_free(b->plugins);
    sb_vaults_free(b->vaults);
    sb_model_free(b->model);
    free_names(&b->sni_names);
    free_names(&b->hosts);
    sb_vec_release(&b->free_slots);
    for (int rank = 0; rank < RANKS; rank++)
        sb_vec_release(&b->dirty[rank]);
    sb_vec_release(&b->old);
    sb_arena_free(b->scratch);
    free(b);
}

/* -- what is left out -- */

size_t sb_builder_left_out_count(const struct sb_builder *b)
{
    return b->ntroubled;
}

uint64_t sb_builder_left_out_edition(const struct sb_builder *b)
{
    return b->edition;
}

struct sb_value *sb_builder_left_out(const struct sb_builder *b, struct sb_arena *a)
{
    struct sb_value *list = sb_value_array(a);

    for (const struct product *p = b->troubled; p; p = p->next) {
        struct sb_value *one = sb_value_object(a);
        struct sb_str name = sb_value_str_at(sb_node_row(p->node, a), "name");

        sb_object_set(a, one, SB_STR("entity"), sb_value_text(a, p->node->kind->name));
        sb_object_set(a, one, SB_STR("id"), sb_value_str(a, sb_arena_str(a, p->node->id)));
        sb_object_set(a, one, SB_STR("name"), name.len ? sb_value_str(a, name) : sb_value_null(a));
        sb_object_set(a, one, SB_STR("reason"), sb_value_text(a, p->trouble));
        sb_array_push(a, list, one);
    }
    return list;
}

size_t sb_builder_compiled(const struct sb_builder *b)
{
    return b->compiled;
}

size_t sb_builder_rechained(const struct sb_builder *b)
{
    return sb_scopes_rebuilt(b->scopes);
}

size_t sb_builder_held(const struct sb_builder *b)
{
    return sb_lifetimes_held(b->lifetimes);
}

size_t sb_builder_waiting(const struct sb_builder *b)
{
    /* Without the snapshots themselves, each of which waits for its own end. */
    return sb_lifetimes_waiting(b->lifetimes) - sb_lifetimes_held(b->lifetimes);
}
