/* details.c - an exchange as scripts see it (plugins/details.h). */
#include "dataplane/plugins/details.h"

#include "dataplane/http/exchange.h"
#include "dataplane/http/log_format.h"
#include "dataplane/plugins/registry.h"

enum { VARIABLE_MAX = 8192 };

struct sb_lua *sb_exchange_lua(struct sb_exchange *x)
{
    return sb_plugin_states_lua(x->w->plugins);
}

unsigned sb_exchange_worker(const struct sb_exchange *x)
{
    return x->w->index;
}

/* -- the connection -- */

struct sb_str sb_exchange_peer_ip(const struct sb_exchange *x)
{
    return sb_str_n(x->c->ip, x->c->ip_len);
}

uint16_t sb_exchange_peer_port(const struct sb_exchange *x)
{
    return x->c->port;
}

uint16_t sb_exchange_server_port(const struct sb_exchange *x)
{
    return x->c->listener->listen->port;
}

uint16_t sb_exchange_forwarded_port(const struct sb_exchange *x)
{
    return x->c->listener->listen->forwarded_port;
}

bool sb_exchange_trusted(const struct sb_exchange *x)
{
    return x->c->trusted;
}

bool sb_exchange_trusts(const struct sb_exchange *x, struct sb_str ip)
{
    union sb_sockaddr addr;

    return sb_address_parse(ip, 0, &addr) &&
           sb_cidr_has(x->w->o->trusted, x->w->o->ntrusted, &addr.sa);
}

/* -- the request -- */

struct sb_str sb_exchange_host(const struct sb_exchange *x)
{
    return x->host;
}

struct sb_str sb_exchange_raw_path(const struct sb_exchange *x)
{
    return x->req.path;
}

struct sb_str sb_exchange_raw_target(const struct sb_exchange *x)
{
    struct sb_str target = x->req.target;

    if (x->req.path.p >= target.p && x->req.path.p < target.p + target.len)
        return sb_str_from(target, (size_t)(x->req.path.p - target.p));
    return target;
}

struct sb_str sb_exchange_prefix(const struct sb_exchange *x)
{
    if (!x->route || !x->route->strip_path || x->match.prefix_len == 0 ||
        sb_str_is(x->match.prefix, "/"))
        return SB_STR("");
    return x->match.prefix;
}

size_t sb_exchange_captures(const struct sb_exchange *x, struct sb_router_capture *out, size_t max)
{
    return x->route ? sb_router_captures(&x->match, x->path, out, max) : 0;
}

struct sb_str sb_exchange_upstream_method(const struct sb_exchange *x)
{
    return x->up.method.p ? x->up.method : x->req.method;
}

uint64_t sb_exchange_body_size(const struct sb_exchange *x)
{
    return x->body.received;
}

bool sb_exchange_replaced_body(const struct sb_exchange *x, struct sb_str *body)
{
    if (x->up.replaces_body)
        *body = x->up.body;
    return x->up.replaces_body;
}

/* What a header is called, of "x_one" in $http_x_one. */
static struct sb_str header_name(struct sb_arena *a, struct sb_str rest)
{
    char *p = sb_arena_cstr(a, rest);

    for (size_t i = 0; i < rest.len; i++)
        p[i] = p[i] == '_' ? '-' : p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] | 0x20) : p[i];
    return sb_str_n(p, rest.len);
}

struct sb_str sb_exchange_variable(struct sb_exchange *x, struct sb_str name)
{
    struct sb_line line = {.escape = SB_LOG_ESCAPE_NONE};
    struct sb_str rest;
    char *p;

    for (const struct sb_log_variable *v = sb_log_variables; v->name; v++) {
        size_t len = strlen(v->name);
        bool family = len && v->name[len - 1] == '_';

        if (family ? name.len <= len || !sb_str_starts(name, sb_str_c(v->name))
                   : !sb_str_is(name, v->name))
            continue;
        p = sb_arena_alloc(sb_exchange_arena(x), VARIABLE_MAX);
        line.p = p;
        line.end = p + VARIABLE_MAX;
        rest = family ? sb_str_from(name, len) : SB_STR("");
        v->put(&line, x, v->header ? header_name(sb_exchange_arena(x), rest) : rest);
        return line.p == p ? (struct sb_str){0} : sb_str_n(p, (size_t)(line.p - p));
    }
    return (struct sb_str){0};
}

/* -- towards the upstream -- */

void sb_exchange_set_retries(struct sb_exchange *x, int retries)
{
    sb_exchange_own_service(x)->retries = retries;
}

void sb_exchange_set_timeouts(struct sb_exchange *x, int connect_ms, int write_ms, int read_ms)
{
    struct sb_service *s = sb_exchange_own_service(x);

    s->connect_timeout_ms = connect_ms;
    s->write_timeout_ms = write_ms;
    s->read_timeout_ms = read_ms;
}

void sb_exchange_set_tls_verify(struct sb_exchange *x, bool verify)
{
    sb_exchange_own_service(x)->tls_verify = verify;
}

void sb_exchange_set_tls_verify_depth(struct sb_exchange *x, int depth)
{
    sb_exchange_own_service(x)->tls_verify_depth = depth;
}

void sb_exchange_buffer_response(struct sb_exchange *x, size_t max)
{
    if (max > x->buffer_max && !x->websocket)
        x->buffer_max = max;
}

/* -- the response -- */

int sb_exchange_upstream_status(const struct sb_exchange *x)
{
    return x->upstream_status;
}

void sb_exchange_each_service_header(const struct sb_exchange *x,
                                     bool (*fn)(void *arg, struct sb_str name, struct sb_str value),
                                     void *arg)
{
    for (size_t i = 0; i < x->resp.nheaders; i++)
        if (!fn(arg, x->resp.headers[i].name, x->resp.headers[i].value))
            return;
}

void sb_exchange_each_final_header(const struct sb_exchange *x,
                                   bool (*fn)(void *arg, struct sb_str name, struct sb_str value),
                                   void *arg)
{
    if (x->answer.status && x->answer.type.len &&
        !sb_change_find(x->response_changes, SB_STR("content-type")) &&
        !fn(arg, SB_STR("content-type"), x->answer.type))
        return;
    for (size_t i = 0; !x->answer.status && i < x->resp.nheaders; i++) {
        const struct sb_router_header *h = &x->resp.headers[i];

        if (!sb_change_replaces(x->response_changes, h->name, h->value) &&
            !fn(arg, h->name, h->value))
            return;
    }
    for (const struct sb_header_change *c = x->answer.headers; c; c = c->next)
        if (c->value.p && !fn(arg, c->name, c->value))
            return;
    for (const struct sb_header_change *c = x->response_changes; c; c = c->next)
        if (c->value.p && !fn(arg, c->name, c->value))
            return;
}

bool sb_exchange_response_body(const struct sb_exchange *x, struct sb_str *body)
{
    if (x->collected)
        *body = sb_str_n(x->whole ? x->whole : "", x->whole_len);
    return x->collected;
}

bool sb_exchange_buffers(const struct sb_exchange *x)
{
    return x->buffer_max == SIZE_MAX;
}

void sb_exchange_cut(struct sb_exchange *x)
{
    x->cut = true;
}
