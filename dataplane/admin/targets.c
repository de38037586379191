/* targets.c - targets live below their upstream only, newest first; PUT does what PATCH does. And
 * how healthy they are (reference/admin-api.md, proxy-balancer.md 7).
 *
 * The rows are the store's, their health the node's. What was just written may not be served yet,
 * so who asks for its health waits a little for that.
 */
#include <stdlib.h>
#include <time.h>

#include "dataplane/admin/entities.h"
#include "dataplane/admin/info.h"
#include "dataplane/listen/workers.h"
#include "dataplane/upstream/health_checker.h"
#include "shared/clock.h"
#include "shared/pg.h"

#define WHOLE (SB_GET | SB_PUT | SB_PATCH | SB_DELETE)

enum { SERVED_WAIT_MS = 1000, SERVED_POLL_MS = 10, ADDRESS_MAX = 80 };

static const struct sb_entity *entity(const char *name)
{
    return sb_entity_find(sb_str_c(name));
}

/* Whatever the method: this is no place. */
static void nothing_here(struct sb_call *c, const struct sb_endpoint *e)
{
    (void)e;
    sb_answer_not_found(c);
}

/* All targets of an upstream, in order of ids; NULL: answered. */
static struct sb_value *all_targets(struct sb_entities *x, struct sb_str upstream_id)
{
    struct sb_store_page page = {
        .size = 1000, .parent_field = "upstream", .parent_id = upstream_id};
    struct sb_value *all = sb_value_array(x->c->arena), *rows, *row;
    bool more = true;

    while (more) {
        if (!sb_entities_ok(
                x, sb_store_list(x->store, &x->ctx, entity("targets"), &page, &rows, &more, &x->e)))
            return NULL;
        sb_array_each (row, rows)
            sb_array_push(x->c->arena, all, row);
        if (rows->count)
            page.after_id = sb_value_str_at(rows->items[rows->count - 1], "id");
    }
    return all;
}

static int newest_first(const void *a, const void *b)
{
    const struct sb_value *x = *(struct sb_value *const *)a, *y = *(struct sb_value *const *)b;
    int order = sb_value_cmp(sb_get(y, "created_at"), sb_get(x, "created_at"));

    return order ? order : sb_value_cmp(sb_get(y, "id"), sb_get(x, "id"));
}

/* A page of them, newest first, as the path says. */
static void list_targets(struct sb_entities *x, const struct sb_value *upstream, const char *what)
{
    struct sb_value *all = all_targets(x, sb_value_str_at(upstream, "id")), *rows;
    const struct sb_arg *offset = sb_call_arg(x->c, "offset");
    struct sb_str next = SB_STR(""), path;
    int64_t from = 0;
    int size;

    if (!all || !sb_entities_size(x, &size))
        return;
    if (offset && (!sb_str_int(offset->value, &from) || from < 0)) {
        x->e = (struct sb_kong_error){
            .code = SB_KONG_INVALID_OFFSET,
            .message = sb_arena_printf(x->c->arena, "'%.*s' is not a valid offset: not a number",
                                       SB_ARG(offset->value))};
        sb_answer_error(x->c, &x->e);
        return;
    }
    qsort(all->items, all->count, sizeof *all->items, newest_first);
    rows = sb_value_array(x->c->arena);
    for (int64_t i = from; i < all->count && i < from + size; i++)
        sb_array_push(x->c->arena, rows, all->items[i]);
    if (from + size < all->count)
        next = sb_arena_printf(x->c->arena, "%lld", (long long)(from + size));
    path = sb_arena_printf(x->c->arena, "/upstreams/%.*s/%s",
                           SB_ARG(sb_url_encode(x->c->arena, x->c->params[0])), what);
    sb_entities_page(x->c, rows, path, next, false);
}

static void targets(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_endpoint nested = *e;
    struct sb_entities x = {0};
    struct sb_value *upstream;

    nested.kind = entity("targets");
    nested.parent = entity("upstreams");
    nested.foreign = sb_field_find(nested.kind->fields, SB_STR("upstream"));
    if (c->method == SB_POST || c->nsegments == 4) { /* .../targets/all is the plain list */
        sb_entities_nested(c, &nested);
        return;
    }
    if (!sb_entities_open(c, &x))
        return;
    upstream = sb_entities_find(&x, nested.parent, c->params[0]);
    if (upstream)
        list_targets(&x, upstream, "targets");
}

/* By id, or by host:port within the upstream. */
static struct sb_value *find_target(struct sb_entities *x, const struct sb_value *upstream,
                                    struct sb_str text)
{
    struct sb_value *all = all_targets(x, sb_value_str_at(upstream, "id")), *row;

    if (!all)
        return NULL;
    sb_array_each (row, all)
        if (sb_str_ieq(sb_value_str_at(row, "id"), text) ||
            sb_str_eq(sb_value_str_at(row, "target"), text))
            return row;
    sb_answer_not_found(x->c);
    return NULL;
}

static void target(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_entities x = {0};
    struct sb_value *upstream, *found;
    struct sb_store_key key = {"id", {0}};

    (void)e;
    if (!sb_entities_open(c, &x))
        return;
    upstream = sb_entities_find(&x, entity("upstreams"), c->params[0]);
    found = upstream ? find_target(&x, upstream, c->params[1]) : NULL;
    if (!found)
        return;
    key.value = sb_value_str_at(found, "id");
    if (c->method & (SB_GET | SB_HEAD))
        sb_answer(c, 200, found);
    else if (c->method == SB_DELETE)
        sb_entities_delete(&x, entity("targets"), key);
    else
        sb_entities_update(&x, entity("targets"), key, sb_entities_input(&x, entity("targets")));
}

/* -- health ------------------------------------------------------------------------------------ */

static const struct sb_health_view_target *viewed(const struct sb_health_view *v,
                                                  const struct sb_value *row)
{
    for (size_t i = 0; i < v->ntargets; i++)
        if (sb_str_eq(v->targets[i].target, sb_value_str_at(row, "target")))
            return &v->targets[i];
    return NULL;
}

static bool all_viewed(const struct sb_health_view *v, const struct sb_value *rows)
{
    const struct sb_value *row;

    sb_array_each (row, rows)
        if (!viewed(v, row))
            return false;
    return true;
}

/* The upstream as it is served, with these targets if that is a matter of a moment. False: it is
 * not served. */
static bool view(struct sb_call *c, const struct sb_value *upstream, const struct sb_value *rows,
                 struct sb_health_view *out)
{
    struct sb_health_checker *checker = sb_workers_health(c->node->parts.workers);
    const struct timespec pause = {.tv_nsec = SERVED_POLL_MS * 1000000};
    int64_t until_ms = sb_clock_ms() + SERVED_WAIT_MS;

    for (;;) {
        bool found =
            !sb_health_checker_view(checker, sb_value_str_at(upstream, "name"), c->arena, out);

        if ((found && all_viewed(out, rows)) || sb_clock_ms() > until_ms)
            return found;
        nanosleep(&pause, NULL);
    }
}

static void set(struct sb_arena *a, struct sb_value *object, const char *key, struct sb_value *v)
{
    sb_object_set(a, object, sb_str_c(key), v);
}

static struct sb_value *weight_json(struct sb_arena *a, uint64_t total, uint64_t unavailable)
{
    struct sb_value *weight = sb_value_object(a);

    set(a, weight, "total", sb_value_int(a, (int64_t)total));
    set(a, weight, "available", sb_value_int(a, (int64_t)(total - unavailable)));
    set(a, weight, "unavailable", sb_value_int(a, (int64_t)unavailable));
    return weight;
}

static const char *health_word(bool checked, bool healthy)
{
    return !checked ? "HEALTHCHECKS_OFF" : healthy ? "HEALTHY" : "UNHEALTHY";
}

/* words: health as the target's view says it; else the balancer's bare truth. */
static struct sb_value *address_json(struct sb_arena *a, const struct sb_health_view_address *from,
                                     bool words, bool checked)
{
    struct sb_value *address = sb_value_object(a);

    set(a, address, "ip", sb_value_str(a, from->ip));
    set(a, address, "port", sb_value_int(a, from->port));
    set(a, address, "weight", sb_value_int(a, from->weight));
    if (words)
        set(a, address, "health", sb_value_text(a, health_word(checked, from->healthy)));
    else
        set(a, address, "healthy", sb_value_bool(a, from->healthy));
    return address;
}

static struct sb_value *target_json(struct sb_arena *a, const struct sb_health_view_target *t,
                                    bool words, bool checked)
{
    struct sb_value *data = sb_value_object(a), *addresses = sb_value_array(a);

    for (size_t i = 0; i < t->naddresses; i++)
        sb_array_push(a, addresses,
                      address_json(a, &t->addresses[i], words, checked && t->weight > 0));
    set(a, data, "host", sb_value_str(a, t->host));
    set(a, data, "port", sb_value_int(a, t->port));
    set(a, data, "dns", sb_value_text(a, t->dns));
    set(a, data, "nodeWeight", sb_value_int(a, t->weight));
    set(a, data, "weight", weight_json(a, t->total, t->unavailable));
    set(a, data, "addresses", addresses);
    return data;
}

/* One healthy address makes a target healthy. */
static const char *target_health(const struct sb_health_view_target *t, bool checked)
{
    bool healthy = false;

    if (!t || !t->naddresses)
        return "DNS_ERROR";
    for (size_t i = 0; i < t->naddresses; i++)
        healthy |= t->addresses[i].healthy;
    return health_word(checked && t->weight > 0, healthy);
}

static void add_health(struct sb_arena *a, struct sb_value *row, const struct sb_health_view *v)
{
    const struct sb_health_view_target *t = viewed(v, row);

    set(a, row, "health", sb_value_text(a, target_health(t, v->checked)));
    if (t)
        set(a, row, "data", target_json(a, t, true, v->checked));
}

static struct sb_value *balancer_json(struct sb_arena *a, const struct sb_health_view *v,
                                      const struct sb_value *upstream)
{
    struct sb_value *data = sb_value_object(a), *details = sb_value_object(a);
    struct sb_value *hosts = sb_value_array(a);

    for (size_t i = 0; i < v->ntargets; i++)
        sb_array_push(a, hosts, target_json(a, &v->targets[i], false, v->checked));
    set(a, details, "healthy", sb_value_bool(a, v->healthy));
    set(a, details, "weight", weight_json(a, v->total, v->unavailable));
    set(a, details, "hosts", hosts);
    set(a, data, "health", sb_value_text(a, health_word(v->checked, v->healthy)));
    set(a, data, "balancer_health", sb_value_text(a, v->healthy ? "HEALTHY" : "UNHEALTHY"));
    set(a, data, "id", sb_get(upstream, "id"));
    set(a, data, "details", details);
    return data;
}

static void balancer_health(struct sb_call *c, const struct sb_value *upstream,
                            const struct sb_health_view *v)
{
    struct sb_value *body = sb_value_object(c->arena);

    set(c->arena, body, "data", v ? balancer_json(c->arena, v, upstream) : sb_value_null(c->arena));
    set(c->arena, body, "next", sb_value_null(c->arena));
    sb_answer(c, 200, body);
}

static void health(struct sb_call *c, const struct sb_endpoint *e)
{
    const struct sb_arg *whole = sb_call_arg(c, "balancer_health");
    struct sb_value *upstream, *rows, *row;
    struct sb_health_view v;
    struct sb_entities x = {0};
    bool served;

    (void)e;
    if (!sb_entities_open(c, &x))
        return;
    upstream = sb_entities_find(&x, entity("upstreams"), c->params[0]);
    rows = upstream ? all_targets(&x, sb_value_str_at(upstream, "id")) : NULL;
    if (!rows)
        return;
    served = view(c, upstream, rows, &v);
    if (whole && sb_str_is(whole->value, "1"))
        balancer_health(c, upstream, served ? &v : NULL);
    else
        list_targets(&x, upstream, "health");
    if (c->status != 200)
        return;
    sb_array_each (row, sb_get(c->json, "data"))
        if (served)
            add_health(c->arena, row, &v);
    set(c->arena, c->json, "node_id", sb_value_str(c->arena, sb_admin_id(c)));
}

/* To the other nodes: "<node>|<upstream>|<target>|<address>|<1 or 0>", in ids. Who does not hear it
 * is no reason to fail: this node has done as it was told. */
static void tell_others(struct sb_call *c, const struct sb_value *upstream,
                        const struct sb_value *row, struct sb_str address, bool fit)
{
    struct sb_str word = sb_arena_printf(c->arena, "%.*s|%.*s|%.*s|%.*s|%d", SB_ARG(sb_admin_id(c)),
                                         SB_ARG(sb_value_str_at(upstream, "id")),
                                         SB_ARG(sb_value_str_at(row, "id")), SB_ARG(address), fit);
    struct sb_pg_rows rows = {0};
    struct sb_err err;

    if (!c->node->pg || address.len > ADDRESS_MAX)
        return;
    if (sb_pg_query(c->node->pg, "SELECT pg_notify('silverback_health', $1)", &word, 1, &rows,
                    &err))
        sb_warn("other nodes can't be told about health: %s", err.text);
    sb_pg_rows_release(&rows);
}

static void set_health(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_health_checker *checker = sb_workers_health(c->node->parts.workers);
    bool fit = sb_str_is(c->segments[c->nsegments - 1], "healthy");
    struct sb_str address = c->nsegments == 6 ? c->params[2] : SB_STR("");
    struct sb_value *upstream, *found, *rows;
    struct sb_entities x = {0};
    struct sb_health_view v;

    (void)e;
    if (!sb_entities_open(c, &x))
        return;
    upstream = sb_entities_find(&x, entity("upstreams"), c->params[0]);
    found = upstream ? find_target(&x, upstream, c->params[1]) : NULL;
    if (!found)
        return;
    rows = sb_value_array(c->arena);
    sb_array_push(c->arena, rows, found);
    if (!view(c, upstream, rows, &v))
        sb_answer_message(c, 400, "Upstream %.*s has no balancer",
                          SB_ARG(sb_value_str_at(upstream, "name")));
    else if (sb_health_checker_set(checker, sb_value_str_at(upstream, "name"),
                                   sb_value_str_at(found, "target"), address, fit))
        sb_answer_message(c, 400, "no healthchecker found for %.*s",
                          SB_ARG(sb_value_str_at(upstream, "name")));
    else {
        tell_others(c, upstream, found, address, fit);
        sb_answer_nothing(c, 204);
    }
}

const struct sb_endpoint sb_target_endpoints[] = {
    {"/targets", SB_EVERY, nothing_here},
    {"/targets/{targets}", SB_EVERY, nothing_here},
    {"/targets/{targets}/upstream", SB_EVERY, nothing_here},
    {"/upstreams/{upstreams}/health", SB_GET, health},
    {"/upstreams/{upstreams}/targets", SB_GET | SB_POST, targets},
    {"/upstreams/{upstreams}/targets/all", SB_GET, targets},
    {"/upstreams/{upstreams}/targets/{targets}", WHOLE, target},
    {"/upstreams/{upstreams}/targets/{targets}/healthy", SB_PUT, set_health},
    {"/upstreams/{upstreams}/targets/{targets}/unhealthy", SB_PUT, set_health},
    {"/upstreams/{upstreams}/targets/{targets}/{address}/healthy", SB_PUT, set_health},
    {"/upstreams/{upstreams}/targets/{targets}/{address}/unhealthy", SB_PUT, set_health},
    {NULL},
};

/* What the status listener of a node without a database shows. */
const struct sb_endpoint sb_status_target_endpoints[] = {
    {"/upstreams/{upstreams}/health", SB_GET, health},
    {"/upstreams/{upstreams}/targets", SB_GET, targets},
    {"/upstreams/{upstreams}/targets/all", SB_GET, targets},
    {"/upstreams/{upstreams}/targets/{targets}", SB_GET, target},
    {NULL},
};
