/* status.c - the status listener: is this node well, is it ready, what does it serve.
 *
 * All of it is read from counters and from the config thread's state: nothing here waits for a
 * database. So a node that serves from its last snapshot while PostgreSQL is away says so, and
 * stays ready: taking it out of its load balancer would turn a database's trouble into an outage.
 */
#include <inttypes.h>

#include "dataplane/admin/info.h"
#include "dataplane/admin/lookups.h"
#include "dataplane/listen/workers.h"
#include "shared/buf.h"

/* -- ready ------------------------------------------------------------------------------------- */

/* NULL when it is, else why not, in Kong's words. */
static const char *unready(struct sb_call *c)
{
    struct sb_config_state state;

    if (atomic_load(c->node->draining))
        return "draining";
    sb_config_version(c->node->parts.config, &state);
    if (!c->node->dbless)
        return state.source == SB_CONFIG_FROM_NOTHING ? "failed to connect to database" : NULL;
    if (state.source == SB_CONFIG_FROM_NOTHING)
        return "no configuration available (configuration hash is not initialized)";
    if (!state.hash[0] || strspn(state.hash, "0") == SB_CONFIG_HASH_LEN)
        return "no configuration available (empty configuration present)";
    return NULL;
}

static void ready(struct sb_call *c, const struct sb_endpoint *e)
{
    const char *why;

    (void)e;
    if (c->method == SB_POST) {
        if (!sb_str_is(sb_value_str_at(c->input, "status"), "draining")) {
            sb_answer_message(c, 400, "invalid status: the only one to be set is 'draining'");
            return;
        }
        atomic_store(c->node->draining, true);
        sb_answer_nothing(c, 204);
        return;
    }
    why = unready(c);
    sb_answer_message(c, why ? 503 : 200, "%s", why ? why : "ready");
}

/* -- version ----------------------------------------------------------------------------------- */

static const char *source_name(enum sb_config_source source)
{
    static const char *const names[] = {
        [SB_CONFIG_FROM_NOTHING] = "nothing",
        [SB_CONFIG_FROM_ROWS] = "declarative",
        [SB_CONFIG_FROM_DATABASE] = "database",
        [SB_CONFIG_FROM_SAVED] = "saved",
    };

    return names[source];
}

static void version(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_value *body = sb_value_object(c->arena);
    struct sb_arena *a = c->arena;
    struct sb_config_state s;

    (void)e;
    sb_config_version(c->node->parts.config, &s);
    sb_object_set(a, body, SB_STR("served"), sb_value_int(a, (int64_t)s.served));
    sb_object_set(a, body, SB_STR("newest"), sb_value_int(a, (int64_t)s.newest));
    sb_object_set(a, body, SB_STR("source"), sb_value_text(a, source_name(s.source)));
    sb_object_set(a, body, SB_STR("connected"), sb_value_bool(a, s.connected));
    sb_object_set(a, body, SB_STR("listening"), sb_value_bool(a, s.listening));
    sb_object_set(a, body, SB_STR("loads"), sb_value_int(a, (int64_t)s.loads));
    sb_object_set(a, body, SB_STR("deltas"), sb_value_int(a, (int64_t)s.deltas));
    sb_object_set(a, body, SB_STR("changed_at"), sb_value_num(a, (double)s.changed_ms / 1000));
    if (s.hash[0])
        sb_object_set(a, body, SB_STR("hash"), sb_value_str(a, sb_arena_str(a, sb_str_c(s.hash))));
    sb_object_set(a, body, SB_STR("trouble"),
                  s.trouble[0] ? sb_value_str(a, sb_arena_str(a, sb_str_c(s.trouble)))
                               : sb_value_null(a));
    sb_object_set(a, body, SB_STR("left_out"),
                  s.left_out ? sb_config_left_out(c->node->parts.config, a) : sb_value_array(a));
    sb_object_set(a, body, SB_STR("release"), sb_value_text(a, SB_VERSION));
    sb_object_set(a, body, SB_STR("node_id"), sb_value_str(a, sb_admin_id(c)));
    sb_answer(c, 200, body);
}

/* -- metrics, as Prometheus reads them --------------------------------------------------------- */

static void head(struct sb_buf *b, const char *name, const char *type, const char *help)
{
    sb_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void metric(struct sb_buf *b, const char *name, const char *type, const char *help,
                   double value)
{
    head(b, name, type, help);
    sb_buf_printf(b, "%s %.17g\n", name, value);
}

/* Under the names that dashboards for Kong know. */
static void add_kong_metrics(struct sb_buf *b, struct sb_call *c, const struct sb_proxy_stats *s,
                             const struct sb_config_state *state)
{
    const struct {
        const char *state;
        uint64_t value;
    } connections[] = {
        {"accepted", s->connections_accepted},
        {"active", s->connections_active},
        {"handled", s->connections_handled},
        {"reading", s->connections_reading},
        {"total", s->requests},
        {"waiting", s->connections_waiting},
        {"writing", s->connections_writing},
    };
    struct sb_str id = sb_admin_id(c);

    head(b, "kong_nginx_connections_total", "gauge", "Number of connections by subsystem");
    for (size_t i = 0; i < sizeof connections / sizeof *connections; i++)
        sb_buf_printf(b,
                      "kong_nginx_connections_total{node_id=\"%.*s\",subsystem=\"http\","
                      "state=\"%s\"} %" PRIu64 "\n",
                      SB_ARG(id), connections[i].state, connections[i].value);
    head(b, "kong_nginx_requests_total", "gauge", "Total number of requests");
    sb_buf_printf(b, "kong_nginx_requests_total{node_id=\"%.*s\",subsystem=\"http\"} %" PRIu64 "\n",
                  SB_ARG(id), s->requests);
    if (!c->node->dbless)
        metric(b, "kong_datastore_reachable", "gauge",
               "Datastore reachable from Kong, 0 is unreachable", state->connected);
    head(b, "kong_node_info", "gauge", "Kong Node metadata information");
    sb_buf_printf(b, "kong_node_info{node_id=\"%.*s\",version=\"3.9.1\"} 1\n", SB_ARG(id));
}

static void add_own_metrics(struct sb_buf *b, const struct sb_proxy_stats *s,
                            const struct sb_config_state *state)
{
    static const char *const classes[] = {"other", "1xx", "2xx", "3xx", "4xx", "5xx"};

    head(b, "silverback_responses_total", "counter", "Responses to clients, by class");
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        sb_buf_printf(b, "silverback_responses_total{class=\"%s\"} %" PRIu64 "\n", classes[i],
                      s->status[i]);
    metric(b, "silverback_client_bytes_in_total", "counter", "Bytes from clients",
           (double)s->bytes_in);
    metric(b, "silverback_client_bytes_out_total", "counter", "Bytes to clients",
           (double)s->bytes_out);
    metric(b, "silverback_upstream_connects_total", "counter", "Connections made to upstreams",
           (double)s->upstream_connects);
    metric(b, "silverback_upstream_reuses_total", "counter",
           "Requests sent on an upstream connection that was kept", (double)s->upstream_reuses);
    metric(b, "silverback_config_version", "gauge", "Version of the configuration that is served",
           (double)state->served);
    metric(b, "silverback_config_newest_version", "gauge", "Newest version that is known of",
           (double)state->newest);
    metric(b, "silverback_config_loads_total", "counter", "Times the whole configuration was read",
           (double)state->loads);
    metric(b, "silverback_config_deltas_total", "counter", "Changes applied to what was there",
           (double)state->deltas);
    metric(b, "silverback_config_left_out", "gauge", "Entities that are stored but not served",
           (double)state->left_out);
    metric(b, "silverback_config_changed_seconds", "gauge",
           "When what is served last changed, since 1970", (double)state->changed_ms / 1000);
    metric(b, "process_resident_memory_bytes", "gauge", "Memory of the process",
           sb_admin_resident_bytes());
}

static void metrics(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_config_state state;
    struct sb_proxy_stats stats;
    struct sb_buf b;

    (void)e;
    sb_workers_stats(c->node->parts.workers, &stats);
    sb_config_version(c->node->parts.config, &state);
    sb_buf_init(&b, 0);
    add_kong_metrics(&b, c, &stats, &state);
    add_own_metrics(&b, &stats, &state);
    sb_admin_add_lookups(&b, c->node->parts.workers);
    sb_answer_text(c, 200, "text/plain; charset=UTF-8", sb_arena_str(c->arena, sb_buf_get(&b)));
    sb_buf_release(&b);
}

const struct sb_endpoint sb_status_endpoints[] = {
    {"/status", SB_GET, sb_admin_get_status},  {"/status/ready", SB_GET | SB_POST, ready},
    {"/status/dns", SB_GET, sb_admin_get_dns}, {"/metrics", SB_GET, metrics},
    {"/silverback/version", SB_GET, version},  {NULL},
};
