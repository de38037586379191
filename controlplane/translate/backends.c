/* backends.c - from a reference to a Kubernetes Service to the addresses behind it
 * (kic-translation.md 8).
 *
 *     service-upstream  ->  the Service's own DNS name
 *     ExternalName      ->  the name it stands for
 *     else              ->  addresses of its EndpointSlices, of the ports with the name and a
 * protocol of the Service's port
 */
#include <stdlib.h>

#include "controlplane/translate/annotations.h"
#include "controlplane/translate/fields.h"
#include "controlplane/translate/translator.h"

enum { DEFAULT_WEIGHT = 100 };

/* -- the Service
 * ----------------------------------------------------------------------------------- */

static const struct sb_value *annotations_over(struct sb_arena *a, const struct sb_value *below,
                                               const struct sb_value *above)
{
    struct sb_value *merged = sb_value_object(a);
    const struct sb_member *m;

    sb_object_each (m, below)
        sb_object_set(a, merged, m->key, m->value);
    sb_object_each (m, above)
        sb_object_set(a, merged, m->key, m->value);
    return merged;
}

struct served backend_find(struct sb_translator *t, struct unit *u, const struct backend *b,
                           struct sb_str parent)
{
    const struct sb_value *facade = NULL;
    struct served served = {read_object(t, u, "Service", b->ns, b->service), NULL};

    if (b->facade)
        facade = read_object(t, u, "KongServiceFacade", b->ns, b->name);
    if (!served.service) {
        unit_fail(u, parent,
                  "failed to resolve Kubernetes Service for backend: failed to fetch Service "
                  "%.*s/%.*s: Service %.*s/%.*s not found",
                  SB_ARG(b->ns), SB_ARG(b->service), SB_ARG(b->ns), SB_ARG(b->service));
        return served;
    }
    served.annotations = annotations_of(served.service);
    if (facade)
        served.annotations = annotations_over(u->arena, served.annotations, annotations_of(facade));
    return served;
}

/* -- its port
 * -------------------------------------------------------------------------------------- */

static bool is_external(const struct sb_value *service)
{
    return sb_str_is(sb_value_str_at(service, "spec.type"), "ExternalName");
}

/* Names and numbers as the Service wrote them: a targetPort that is a name is found by it, too. */
static const struct sb_value *find_port(const struct sb_value *ports, const struct port_ref *want)
{
    struct sb_value *port;

    sb_array_each (port, ports) {
        if (want->mode == PORT_NUMBER) {
            if (sb_value_int_at(port, "port", 0) == want->number)
                return port;
        } else if (sb_str_eq(sb_value_str_at(port, "name"), want->name) ||
                   sb_str_eq(sb_value_str_at(port, "targetPort"), want->name)) {
            return port;
        }
    }
    return NULL;
}

/* In the arena, as the message of an Ingress without port wants a number. */
static const char *not_one_port(struct sb_arena *a, uint32_t count)
{
    return sb_arena_printf(a, "in implicit mode, service must have exactly 1 port, has %u", count)
        .p;
}

bool backend_port(struct sb_arena *a, const struct sb_value *service, const struct port_ref *want,
                  const struct sb_value **port, const char **error)
{
    const struct sb_value *ports = sb_value_at(service, "spec.ports");
    uint32_t count = sb_is(ports, SB_V_ARRAY) ? ports->count : 0;
    struct sb_value *made_up;

    if (is_external(service)) {
        *error = "rules with an ExternalName service must specify numeric ports";
        if (want->mode != PORT_NUMBER)
            return false;
        made_up = sb_value_object(a);
        set_int(a, made_up, "port", want->number);
        *port = made_up;
        return true;
    }
    if (want->mode == PORT_IMPLICIT) {
        *error = not_one_port(a, count);
        *port = count == 1 ? ports->items[0] : NULL;
    } else {
        *error = "no suitable port found";
        *port = find_port(ports, want);
    }
    return *port != NULL;
}

/* -- targets
 * --------------------------------------------------------------------------------------- */

/* The targets of one backend, before weights. */
struct targets {
    struct sb_arena *a;
    struct sb_value *list; /* of objects: target, and weight 0 when it drains */
};

static void push_target(struct targets *ts, struct sb_str address, int64_t port, bool draining)
{
    struct sb_value *target = sb_value_object(ts->a), *other;
    bool v6 = sb_str_chr(address, ':', 0) >= 0;
    struct sb_str text =
        sb_arena_printf(ts->a, v6 ? "[%.*s]:%lld" : "%.*s:%lld", SB_ARG(address), (long long)port);

    sb_array_each (other, ts->list) {
        bool drains = sb_get(other, "weight") != NULL;

        if (drains == draining && sb_str_eq(sb_value_str_at(other, "target"), text))
            return;
    }
    set_str(ts->a, target, "target", text);
    if (draining)
        set_int(ts->a, target, "weight", 0);
    sb_array_push(ts->a, ts->list, target);
}

static bool condition(const struct sb_value *endpoint, const char *name, bool def)
{
    return sb_value_bool_at(sb_get(endpoint, "conditions"), name, def);
}

/* Only its first address: the others are said to be the same. */
static void endpoint_target(struct targets *ts, const struct sb_value *endpoint, int64_t port,
                            bool drain)
{
    const struct sb_value *addresses = sb_get(endpoint, "addresses");
    bool terminating = condition(endpoint, "terminating", false);

    if (!sb_is(addresses, SB_V_ARRAY) || !addresses->count || !sb_is(addresses->items[0], SB_V_STR))
        return;
    if (!condition(endpoint, "ready", true) && !(terminating && drain))
        return;
    push_target(ts, addresses->items[0]->s, port, terminating && drain);
}

/* TCP, and whatever any port of the Service speaks. */
static bool speaks(const struct sb_value *service, struct sb_str protocol)
{
    struct sb_value *port;

    if (!protocol.len || sb_str_is(protocol, "TCP"))
        return true;
    sb_array_each (port, sb_value_at(service, "spec.ports")) {
        if (sb_str_eq(sb_value_str_at(port, "protocol"), protocol))
            return true;
    }
    return false;
}

static void slice_targets(struct targets *ts, const struct sb_value *slice,
                          const struct sb_value *service, struct sb_str name, bool drain)
{
    const struct sb_value *endpoints = sb_get(slice, "endpoints");
    struct sb_value *port, *endpoint;

    sb_array_each (port, sb_get(slice, "ports")) {
        int64_t number = sb_value_int_at(port, "port", UNSET);

        if (number < 0 || !sb_str_eq(sb_value_str_at(port, "name"), name) ||
            !speaks(service, sb_value_str_at(port, "protocol")))
            continue;
        sb_array_each (endpoint, endpoints)
            endpoint_target(ts, endpoint, number, drain);
    }
}

static void service_name_target(struct sb_translator *t, struct targets *ts,
                                const struct sb_value *service, int64_t port)
{
    const char *domain = t->settings->cluster_domain;
    struct sb_str name = sb_object_name(service), ns = sb_object_ns(service);

    push_target(ts,
                sb_arena_printf(ts->a, "%.*s.%.*s.svc%s%s", SB_ARG(name), SB_ARG(ns),
                                domain[0] ? "." : "", domain),
                port, false);
}

static void find_targets(struct sb_translator *t, struct unit *u, const struct served *served,
                         const struct sb_value *port, struct targets *ts)
{
    const struct sb_value *service = served->service, *const * slices;
    int64_t number = sb_value_int_at(port, "port", 0);
    struct sb_str mode = annotation(served->annotations, "ingress.kubernetes.io/service-upstream");
    size_t n;

    if (sb_str_is(mode, "true") || class_parameters(t, u).service_upstream) {
        service_name_target(t, ts, service, number);
        return;
    }
    if (is_external(service)) {
        push_target(ts, sb_value_str_at(service, "spec.externalName"), number, false);
        return;
    }
    n = read_slices(t, u, sb_object_ns(service), sb_object_name(service), &slices);
    for (size_t i = 0; i < n; i++)
        slice_targets(ts, slices[i], service, sb_value_str_at(port, "name"),
                      t->settings->drain_support);
}

/* A backend's weight is shared out to the targets that don't drain; at least 1 each, unless it is
 * 0. */
static void share_weight(struct targets *ts, int64_t weight)
{
    struct sb_value *target;
    int64_t n = 0, each = weight;

    sb_array_each (target, ts->list)
        n += !sb_get(target, "weight");
    if (weight && n)
        each = weight / n ? weight / n : 1;
    sb_array_each (target, ts->list) {
        if (!sb_get(target, "weight"))
            set_int(ts->a, target, "weight", each);
    }
}

/* The same address by two backends is one target with both weights. */
static void merge_target(struct sb_arena *a, struct sb_value *targets, struct sb_value *target)
{
    struct sb_str text = sb_value_str_at(target, "target");
    struct sb_value *other;

    sb_array_each (other, targets) {
        if (sb_str_eq(sb_value_str_at(other, "target"), text)) {
            set_int(a, other, "weight",
                    sb_value_int_at(other, "weight", DEFAULT_WEIGHT) +
                        sb_value_int_at(target, "weight", DEFAULT_WEIGHT));
            return;
        }
    }
    sb_array_push(a, targets, target);
}

void backend_targets(struct sb_translator *t, struct unit *u, const struct backend *b,
                     const struct served *served, const struct sb_value *port,
                     struct sb_value *targets)
{
    struct targets ts = {u->arena, sb_value_array(u->arena)};
    struct sb_value *target;

    find_targets(t, u, served, port, &ts);
    if (b->weight != UNSET)
        share_weight(&ts, b->weight);
    sb_array_each (target, ts.list)
        merge_target(u->arena, targets, target);
}
