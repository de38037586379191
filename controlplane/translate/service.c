/* service.c - Kong services, and the names of their routes.
 *
 * Parts of many objects want the same service. Those of the kind with the highest rank have it (a
 * TCPIngress on a Service and port takes it from an Ingress); the first of them says what it is
 * like and is to blame for what is wrong with it.
 *
 *     parts   [ Ingress a | Ingress b | Ingress b, default ]      in order
 *               ^ seed, blame            ^ only this one stays when a rewrite of the others is
 * wrong
 *
 * (S1) A part has a claim on its route's name exactly when its service exists and is of its kind.
 */
#include <stdlib.h>

#include "controlplane/translate/annotations.h"
#include "controlplane/translate/fields.h"
#include "controlplane/translate/translator.h"
#include "shared/digest.h"

struct service {
    struct sorted parts;
};

/* -- parts
 * ----------------------------------------------------------------------------------------- */

int part_cmp(const void *a, const void *b)
{
    const struct part *x = a, *y = b;

    return order_cmp(&x->order, &y->order);
}

void part_join(struct sb_translator *t, struct part *part)
{
    struct unit *u = part->service = unit_of(t, &service_type, part->seed->name);
    struct service *s;

    if (!u->state)
        u->state = sb_xcalloc(1, sizeof *s);
    s = u->state;
    sorted_insert(&s->parts, part, part_cmp);
    unit_dirty(t, u);
}

void part_leave(struct sb_translator *t, struct part *part)
{
    struct service *s = part->service->state;

    sorted_remove(&s->parts, part, part_cmp);
    if (part->claimed)
        slot_leave(&t->routes, part->route_name, part);
    part->claimed = false;
    unit_dirty(t, part->service);
}

/* -- routes
 * ---------------------------------------------------------------------------------------- */

/* The first has the name; what separates the others is who they are. */
static struct sb_str claimed_name(const struct part *part, size_t place)
{
    struct sb_arena *a = part->arena;
    uint8_t digest[SB_SHA256_LEN];
    struct sb_str who;

    if (!place)
        return part->route_name;
    who = sb_arena_printf(a, "%.*s %.*s", SB_ARG(part->object), SB_ARG(part->seed->name));
    sb_sha256(who, digest);
    return sb_arena_printf(a, "%.*s.%.*s", SB_ARG(part->route_name), 9,
                           sb_hex(a, digest, sizeof digest).p);
}

static void put_plugins(struct sb_translator *t, struct slot *slot, const struct part *part,
                        const struct entity *route)
{
    struct sb_value *plugin;
    int n = 0;

    sb_array_each (plugin, part->plugins) {
        struct sb_str name = sb_value_str_at(plugin, "name");
        struct sb_str key = sb_arena_printf(part->arena, "routes/%.*s/%.*s/%d", SB_ARG(route->key),
                                            SB_ARG(name), n++);
        struct entity *e = slot_put(t, slot, E_PLUGINS, key, plugin);

        entity_parent(e, E_ROUTES, route->key);
        entity_objects(e, &part->object, 1);
    }
}

void route_put(struct sb_translator *t, struct slot *slot)
{
    for (size_t i = 0; i < slot->claimants.len; i++) {
        const struct part *part = slot->claimants.p[i];
        struct sb_str name = claimed_name(part, i);
        struct sb_value *route = sb_value_object(part->arena);
        struct sb_value *id = identity(t, part->arena, E_ROUTES, name);
        const struct sb_member *m;
        struct entity *e;

        set_str(part->arena, route, "name", name);
        if (id)
            set_value(part->arena, route, "id", id);
        sb_object_each (m, part->route)
            sb_object_set(part->arena, route, m->key, m->value);
        e = slot_put(t, slot, E_ROUTES, name, route);
        entity_parent(e, E_SERVICES, part->seed->name);
        entity_objects(e, &part->object, 1);
        put_plugins(t, slot, part, e);
    }
}

/* -- the service
 * ----------------------------------------------------------------------------------- */

/* The parts that count, and what is wrong with one of them. */
struct choice {
    int rank;
    bool only_last;
    const struct seed *seed;
};

static bool counts(const struct choice *c, const struct part *part)
{
    return part->order.rank == c->rank && (part->order.last || !c->only_last);
}

static struct choice choose(struct unit *u, const struct service *s)
{
    const struct part *highest = s->parts.p[s->parts.len - 1];
    struct choice c = {.rank = highest->order.rank};

    for (size_t i = 0; i < s->parts.len; i++) {
        const struct part *part = s->parts.p[i];

        if (!counts(&c, part) || !part->error.len)
            continue;
        unit_fail(u, part->object, "%.*s", SB_ARG(part->error));
        c.only_last = true;
    }
    for (size_t i = 0; i < s->parts.len && !c.seed; i++) {
        const struct part *part = s->parts.p[i];

        c.seed = counts(&c, part) ? part->seed : NULL;
    }
    return c;
}

/* The value of an annotation that not all of the Services have, or not with the same value. */
static void blame_annotation(struct unit *u, const struct outcome *o, struct sb_str name)
{
    for (size_t i = 0; i < o->seed->nbackends; i++) {
        if (o->served[i].service)
            unit_fail(u, object_ref(u->arena, o->served[i].service),
                      "Service has inconsistent %.*s annotation and is used in multi-Service "
                      "backend %.*s. This annotation must have the same value across all Services "
                      "in the backend.",
                      SB_ARG(name), SB_ARG(o->seed->name));
    }
}

static bool all_agree(const struct outcome *o, const struct sb_member *m)
{
    for (size_t i = 0; i < o->seed->nbackends; i++) {
        const struct sb_value *other = sb_object_get(o->served[i].annotations, m->key);

        if (o->served[i].service && !(other && sb_value_equal(other, m->value)))
            return false;
    }
    return true;
}

/* Several Services behind one Kong service must say the same in konghq.com/... */
static bool consistent(struct unit *u, const struct outcome *o)
{
    struct sb_value *bad = sb_value_object(u->arena);
    const struct sb_member *m;

    for (size_t i = 0; i < o->seed->nbackends; i++) {
        sb_object_each (m, o->served[i].annotations) {
            if (!sb_str_starts(m->key, SB_STR("konghq.com")) || all_agree(o, m) ||
                sb_object_get(bad, m->key))
                continue;
            sb_object_set(u->arena, bad, m->key, m->value);
            blame_annotation(u, o, m->key);
        }
    }
    return !bad->count;
}

static struct sb_value *service_base(struct sb_translator *t, struct sb_arena *a,
                                     const struct seed *seed)
{
    static const char *const timeouts[] = {"connect_timeout", "read_timeout", "write_timeout"};
    struct sb_value *value = sb_value_object(a);
    struct sb_value *id = identity(t, a, E_SERVICES, seed->name);

    if (id)
        set_value(a, value, "id", id);
    set_str(a, value, "name", sb_arena_str(a, seed->name));
    set_str(a, value, "host", sb_arena_str(a, seed->host));
    set_text(a, value, "protocol", seed->protocol);
    if (seed->path)
        set_text(a, value, "path", seed->path);
    if (seed->port != UNSET)
        set_int(a, value, "port", seed->port);
    for (size_t i = 0; i < 3 && seed->timeout_ms != UNSET; i++)
        set_int(a, value, timeouts[i], seed->timeout_ms);
    if (seed->retries != UNSET)
        set_int(a, value, "retries", seed->retries);
    return value;
}

/* One Service speaks for itself; several are spoken for by their parent, and so is a facade. */
static struct sb_value *service_tags(struct sb_arena *a, const struct outcome *o)
{
    const struct sb_value *only = NULL;
    size_t found = 0;

    for (size_t i = 0; i < o->seed->nbackends; i++) {
        if (o->served[i].service) {
            only = o->served[i].service;
            found++;
        }
    }
    if (!found)
        return tags_unknown(a);
    if (found > 1 || (o->seed->nbackends == 1 && o->seed->backends[0].facade))
        return sb_value_copy(a, o->seed->parent_tags);
    return tags_of(a, only);
}

/* Of the last backend that has one. */
static void service_port(struct sb_arena *a, const struct outcome *o, struct sb_value *value)
{
    for (size_t i = 0; i < o->seed->nbackends; i++) {
        const struct sb_value *port;
        const char *error;

        if (o->served[i].service &&
            backend_port(a, o->served[i].service, &o->seed->backends[i].port, &port, &error))
            set_int(a, value, "port", sb_value_int_at(port, "port", 0));
    }
}

/* -- certificates of a service
 * --------------------------------------------------------------------- */

static struct sb_str effective_protocol(const struct sb_value *annotations)
{
    struct sb_str protocol = kong_annotation(annotations, "protocol");

    return protocol.len ? protocol : SB_STR("http");
}

static bool without_tls(struct sb_str protocol)
{
    static const char *const names[] = {"http", "grpc", "tcp", "tls_passthrough", "udp", "ws"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (sb_str_is(protocol, names[i]))
            return true;
    }
    return false;
}

static void client_certificate(struct sb_translator *t, struct unit *u, struct outcome *o,
                               const struct served *served)
{
    struct sb_str name = kong_annotation(served->annotations, "client-cert");
    struct sb_str ns = sb_object_ns(served->service), ref = object_ref(u->arena, served->service);

    if (!name.len)
        return;
    if (!read_object(t, u, "Secret", ns, name)) {
        unit_fail(u, ref, "Failed to fetch secret '%.*s/%.*s': Secret %.*s/%.*s not found",
                  SB_ARG(ns), SB_ARG(name), SB_ARG(ns), SB_ARG(name));
    } else if (without_tls(effective_protocol(served->annotations))) {
        unit_fail(u, ref, "Client certificate requested for incompatible service protocol '%s'",
                  o->seed->protocol);
    } else {
        struct claim *claim = SB_NEW(u->arena, struct claim);

        o->client = sb_arena_printf(u->arena, "%.*s/%.*s", SB_ARG(ns), SB_ARG(name));
        *claim = (struct claim){
            .next = o->claims,
            .arena = u->arena,
            .secret = o->client,
            .parent = ref,
        };
        claim->order.ns = u->key;
        claim->order.index = o->claims ? o->claims->order.index + 1 : 0;
        o->claims = claim;
    }
}

/* The `id` of a Secret (encoded) or ConfigMap; false with a failure. */
static bool ca_id(struct sb_translator *t, struct unit *u, const struct sb_value *service,
                  const char *kind, const char *word, struct sb_str name, struct sb_str *id)
{
    struct sb_str ns = sb_object_ns(service), ref = object_ref(u->arena, service);
    const struct sb_value *object = read_object(t, u, kind, ns, name);

    if (!object) {
        unit_fail(u, ref,
                  "Failed to fetch %s for CA Certificate '%.*s/%.*s': %s %.*s/%.*s not found", word,
                  SB_ARG(ns), SB_ARG(name), kind, SB_ARG(ns), SB_ARG(name));
        return false;
    }
    if (object_data(u->arena, object, "id", id))
        return true;
    for (int i = 0; i < 2; i++)
        unit_fail(u, i ? ref : object_ref(u->arena, object),
                  "Invalid CA certificate '%.*s/%.*s': missing 'id' field in data", SB_ARG(ns),
                  SB_ARG(name));
    return false;
}

static void ca_list(struct sb_translator *t, struct unit *u, const struct sb_value *service,
                    const char *kind, const char *word, const struct sb_value *names,
                    struct sb_value *ids)
{
    struct sb_value *name;
    struct sb_str id;

    sb_array_each (name, names) {
        if (ca_id(t, u, service, kind, word, name->s, &id))
            sb_array_push(u->arena, ids, sb_value_str(u->arena, id));
    }
}

static void ca_certificates(struct sb_translator *t, struct unit *u, struct sb_value *ids,
                            const struct served *served)
{
    struct sb_arena *a = u->arena;
    const struct sb_value *notes = served->annotations;
    struct sb_value *secrets = comma_list(a, kong_annotation(notes, "ca-certificates-secrets"));
    struct sb_value *maps = comma_list(a, kong_annotation(notes, "ca-certificates-configmaps"));
    struct sb_str protocol = effective_protocol(notes), ref;
    bool verify = false;

    if (!secrets->count && !maps->count)
        return;
    ref = object_ref(a, served->service);
    if (!go_bool(kong_annotation(notes, "tls-verify"), false, &verify) || !verify) {
        unit_fail(u, ref, "CA certificates requested for service without TLS verification enabled");
        return;
    }
    if (without_tls(protocol)) {
        unit_fail(u, ref, "CA certificates requested for incompatible service protocol '%.*s'",
                  SB_ARG(protocol));
        return;
    }
    ca_list(t, u, served->service, "Secret", "secret", secrets, ids);
    ca_list(t, u, served->service, "ConfigMap", "configmap", maps, ids);
}

/* -- annotations of its Services
 * ------------------------------------------------------------------- */

struct ranked {
    struct sb_str name; /* "ns/name" */
    const struct served *served;
};

static int by_name(const void *a, const void *b)
{
    return sb_str_cmp(((const struct ranked *)a)->name, ((const struct ranked *)b)->name);
}

/* In the order of their names: the last one wins. A protocol that is none ends it. */
static bool overrides(struct unit *u, const struct outcome *o, struct sb_value *value)
{
    struct ranked *list = SB_NEW_N(u->arena, struct ranked, o->seed->nbackends);
    struct sb_str protocol;
    size_t n = 0;

    for (size_t i = 0; i < o->seed->nbackends; i++) {
        const struct sb_value *service = o->served[i].service;

        if (service)
            list[n++] = (struct ranked){object_ref(u->arena, service), &o->served[i]};
    }
    qsort(list, n, sizeof *list, by_name);
    for (size_t i = 0; i < n; i++) {
        if (service_annotations(u->arena, value, list[i].served->annotations))
            continue;
        protocol = kong_annotation(list[i].served->annotations, "protocol");
        for (size_t k = 0; k < n; k++)
            unit_fail(u, list[k].name, "konghq.com/protocol annotation has invalid value: %.*s",
                      SB_ARG(protocol));
        return false;
    }
    return true;
}

static void service_build(struct sb_translator *t, struct unit *u, struct outcome *o)
{
    struct sb_arena *a = u->arena;
    struct sb_value *value = service_base(t, a, o->seed), *ids = sb_value_array(a);
    struct sb_str protocol;

    for (size_t i = 0; i < o->seed->nbackends; i++) {
        if (o->served[i].service) {
            client_certificate(t, u, o, &o->served[i]);
            ca_certificates(t, u, ids, &o->served[i]);
        }
    }
    o->tags = service_tags(a, o);
    set_value(a, value, "tags", o->tags);
    if (ids->count)
        set_value(a, value, "ca_certificates", ids);
    service_port(a, o, value);
    if (overrides(u, o, value)) {
        protocol = sb_value_str_at(value, "protocol");
        if (sb_str_is(protocol, "grpc") || sb_str_is(protocol, "grpcs"))
            sb_object_remove(value, SB_STR("path")); /* grpc has none */
    }
    o->value = value;
}

/* -- the unit
 * -------------------------------------------------------------------------------------- */

static void note_objects(struct unit *u, struct outcome *o)
{
    struct sb_str *objects = SB_NEW_N(u->arena, struct sb_str, o->seed->nbackends + 1);

    o->objects = objects;
    for (size_t i = 0; i < o->seed->nbackends; i++) {
        if (o->served[i].service)
            objects[o->nobjects++] = object_ref(u->arena, o->served[i].service);
    }
    objects[o->nobjects++] = sb_arena_str(u->arena, o->seed->parent);
}

static void find_backends(struct sb_translator *t, struct unit *u, struct outcome *o)
{
    struct served *served = SB_NEW_N(u->arena, struct served, o->seed->nbackends);

    for (size_t i = 0; i < o->seed->nbackends; i++)
        served[i] = backend_find(t, u, &o->seed->backends[i], o->seed->parent);
    o->served = served;
    if (consistent(u, o)) {
        note_objects(u, o);
        service_build(t, u, o);
    } else {
        memset(served, 0, o->seed->nbackends * sizeof *served);
    }
}

/* (S1) */
static void claim_names(struct sb_translator *t, const struct service *s, const struct choice *c,
                        bool exists)
{
    for (size_t i = 0; i < s->parts.len; i++) {
        struct part *part = s->parts.p[i];
        bool wanted = exists && counts(c, part);

        if (wanted == part->claimed)
            continue;
        part->claimed = wanted;
        if (wanted)
            slot_claim(&t->routes, part->route_name, part);
        else
            slot_leave(&t->routes, part->route_name, part);
    }
}

static void service_publish(struct sb_translator *t, struct unit *u, const struct outcome *o)
{
    struct entity *e;

    if (o->seed)
        upstream_join(t, u, o->seed->host);
    for (struct claim *claim = o->claims; claim; claim = claim->next)
        claim_join(t, claim);
    if (o->client.len) {
        unit_dirty(t, unit_of(t, &client_type, u->key));
    } else if (o->value) {
        e = unit_put(t, u, E_SERVICES, u->key, o->value);
        entity_objects(e, o->objects, o->nobjects);
    }
}

static void service_run(struct sb_translator *t, struct unit *u)
{
    const struct service *s = u->state;
    struct outcome *o = u->result = SB_NEW(u->arena, struct outcome);
    struct choice c = {0};

    u->gone = !s->parts.len;
    if (s->parts.len) {
        c = choose(u, s);
        o->seed = c.seed;
    }
    if (o->seed)
        find_backends(t, u, o);
    claim_names(t, s, &c, o->value != NULL);
    service_publish(t, u, o);
}

static void service_withdraw(struct sb_translator *t, struct unit *u)
{
    const struct outcome *o = u->result;
    struct unit *client;

    if (!o)
        return;
    if (o->seed)
        upstream_leave(t, u, o->seed->host);
    for (struct claim *claim = o->claims; claim; claim = claim->next)
        claim_leave(t, claim);
    client = o->client.len ? unit_find(t, &client_type, u->key) : NULL;
    if (client)
        unit_dirty(t, client);
}

static void service_release(struct unit *u)
{
    struct service *s = u->state;

    if (s)
        sb_vec_release(&s->parts);
    free(s);
}

const struct unit_type service_type = {
    .name = "service",
    .stage = STAGE_SERVICE,
    .run = service_run,
    .withdraw = service_withdraw,
    .release = service_release,
};

/* -- with a client certificate
 * --------------------------------------------------------------------- */

/* The id of a certificate is known only when all Secrets with the same pair are. */
static void client_run(struct sb_translator *t, struct unit *u)
{
    const struct unit *service = unit_find(t, &service_type, u->key);
    const struct outcome *o = service ? service->result : NULL;
    struct sb_value *value;
    struct sb_str id;
    struct entity *e;

    u->gone = !o || !o->client.len;
    if (u->gone || !o->value)
        return;
    id = certificate_id(t, u, o->client);
    value = sb_value_copy(u->arena, o->value);
    if (id.len)
        set_str(u->arena, value, "client_certificate", sb_arena_str(u->arena, id));
    e = unit_put(t, u, E_SERVICES, u->key, value);
    entity_objects(e, o->objects, o->nobjects);
}

const struct unit_type client_type = {
    .name = "service with certificate",
    .stage = STAGE_CLIENT,
    .run = client_run,
};
