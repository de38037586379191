/* request_termination.c - answers in place of the service (reference/plugins-traffic.md).
 *
 * An echo tells the client all about its request, as the plugins before left it: for finding out
 * why it goes where it goes.
 */
#include <unistd.h>

#include "dataplane/config/node.h"
#include "dataplane/plugins/args.h"
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/plugin.h"
#include "dataplane/plugins/transform/request_values.h"
#include "shared/json.h"

enum { ECHO_BODY_MAX = 1 << 20 }; /* a longer one is not told */

struct config {
    bool echo;
    struct sb_str message;           /* of the echo; "": none */
    char node[SB_UUID_TEXT_LEN + 1]; /* for the echo */
    int status;
    struct sb_str trigger; /* "": always */
    struct sb_str type, body;
    bool has_body; /* else the status brings its own */
};

/* Statuses with a message of the plugin's own. */
static struct sb_str default_message(int status)
{
    switch (status) {
    case 401:
        return SB_STR("Unauthorized");
    case 404:
        return SB_STR("Not found");
    case 405:
        return SB_STR("Method not allowed");
    case 500:
        return SB_STR("An unexpected error occurred");
    case 502:
        return SB_STR("Bad Gateway");
    case 503:
        return SB_STR("Service unavailable");
    default:
        return SB_STR("");
    }
}

static struct sb_str message_body(struct sb_arena *a, struct sb_str message)
{
    struct sb_value *body = sb_value_object(a);

    sb_object_set(a, body, SB_STR("message"), sb_value_str(a, message));
    return sb_json_text(a, body, 0);
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    struct sb_str message = sb_value_str_at(in->config, "message");
    struct sb_uuid node;
    enum sb_rc rc;

    c->echo = sb_value_bool_at(in->config, "echo", false);
    c->status = (int)sb_value_int_at(in->config, "status_code", 503);
    c->trigger = sb_arena_str(in->arena, sb_value_str_at(in->config, "trigger"));
    c->type = sb_arena_str(in->arena, sb_value_str_at(in->config, "content_type"));
    c->body = sb_arena_str(in->arena, sb_value_str_at(in->config, "body"));
    c->has_body = c->body.len > 0;
    if (!c->has_body && message.len == 0)
        message = default_message(c->status);
    c->message = sb_arena_str(in->arena, message);
    if (c->echo) {
        rc = sb_node_id(in->settings, &node, err);
        if (rc)
            return rc;
        sb_uuid_format(&node, c->node);
    }
    if (!c->has_body && message.len) {
        c->has_body = true;
        c->body = message_body(in->arena, message);
        c->type = SB_STR("application/json; charset=utf-8");
    }
    *out = c;
    return SB_OK;
}

static bool triggered(struct sb_exchange *x, struct sb_str trigger)
{
    struct sb_str query = sb_exchange_query(x);
    struct sb_arg arg;

    if (trigger.len == 0 || sb_exchange_header(x, trigger).p)
        return true;
    return query.len && sb_arg_find(sb_exchange_arena(x), query, trigger, &arg);
}

/* -- the echo --------------------------------------------------------------------------------- */

static void put(struct sb_exchange *x, struct sb_value *object, const char *name,
                const struct sb_value *value)
{
    if (value)
        sb_object_append(sb_exchange_arena(x), object, sb_str_c(name), (struct sb_value *)value);
}

static void put_text(struct sb_exchange *x, struct sb_value *object, const char *name,
                     struct sb_str text)
{
    if (text.p)
        put(x, object, name, sb_value_str(sb_exchange_arena(x), text));
}

static void put_number(struct sb_exchange *x, struct sb_value *object, const char *name, int64_t n)
{
    put(x, object, name, sb_value_int(sb_exchange_arena(x), n));
}

static struct sb_value *tell_node(struct sb_exchange *x, const struct config *c)
{
    struct sb_value *v = sb_value_object(sb_exchange_arena(x));
    char host[256] = "";

    gethostname(host, sizeof host - 1);
    put_text(x, v, "node_id", sb_str_c(c->node));
    put_number(x, v, "worker_pid", getpid());
    put_text(x, v, "hostname", sb_arena_str(sb_exchange_arena(x), sb_str_c(host)));
    return v;
}

/* body p NULL: too long to be told. */
static struct sb_value *tell_request(struct sb_exchange *x, struct sb_str body)
{
    struct sb_value *v = sb_value_object(sb_exchange_arena(x)), *query = NULL;

    put_text(x, v, "scheme", sb_exchange_https(x) ? SB_STR("https") : SB_STR("http"));
    put_text(x, v, "host", sb_exchange_host(x));
    put_number(x, v, "port", sb_exchange_server_port(x));
    put(x, v, "headers", sb_request_headers(x));
    if (sb_args_object(sb_exchange_arena(x), sb_exchange_upstream_query(x), &query) == SB_OK)
        put(x, v, "query", query);
    if (body.p)
        put(x, v, "body", sb_request_body_value(x, body));
    put_text(x, v, "raw_body", body);
    put_text(x, v, "method", sb_exchange_upstream_method(x));
    put_text(x, v, "path", sb_exchange_path(x));
    put(x, v, "uri_captures", sb_request_captures(x));
    return v;
}

static enum sb_rc echo(struct sb_exchange *x, const struct config *c)
{
    struct sb_value *v = sb_value_object(sb_exchange_arena(x));
    struct sb_str body = {0};
    enum sb_rc rc = sb_request_body(x, ECHO_BODY_MAX, &body);

    if (rc && rc != SB_TOOLARGE)
        return rc;
    if (c->message.len)
        put_text(x, v, "message", c->message);
    put(x, v, "kong", tell_node(x, c));
    put(x, v, "request", tell_request(x, rc ? (struct sb_str){0} : body));
    put(x, v, "matched_route", sb_exchange_route_entity(x));
    put(x, v, "matched_service", sb_exchange_service_entity(x));
    sb_exchange_answer(x, c->status, SB_STR("application/json; charset=utf-8"),
                       sb_json_text(sb_exchange_arena(x), v, 0), NULL, 0);
    return SB_OK;
}

static enum sb_rc run_access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;

    if (!triggered(x, c->trigger))
        return SB_OK;
    if (c->echo)
        return echo(x, c);
    if (c->has_body)
        sb_exchange_answer(x, c->status, c->type, c->body, NULL, 0);
    else
        sb_exchange_answer_status(x, c->status);
    return SB_OK;
}

const struct sb_plugin sb_plugin_request_termination = {
    .name = "request-termination",
    .priority = 2,
    .compile = compile,
    .access = run_access,
};
