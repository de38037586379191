/* view.c - an exchange as plugins see it (plugins/phase.h, plugins/plugin.h). */
#include "dataplane/http/exchange.h"
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/registry.h"
#include "shared/clock.h"
#include "shared/json.h"

/* -- who it is -- */

void sb_exchange_authenticate(struct sb_exchange *x, const struct sb_consumer *consumer,
                              const struct sb_credential *credential)
{
    x->consumer = consumer;
    x->credential = credential;
    x->of_consumer = NULL;
    if (consumer && x->hooks && x->hooks->slots)
        x->of_consumer = sb_snapshot_consumer_plugins(x->hold->snap, consumer->id);
}

const struct sb_consumer *sb_exchange_consumer(const struct sb_exchange *x)
{
    return x->consumer;
}

const struct sb_credential *sb_exchange_credential(const struct sb_exchange *x)
{
    return x->credential;
}

void sb_exchange_set_groups(struct sb_exchange *x, const struct sb_str *groups, size_t n)
{
    x->groups = groups;
    x->ngroups = n;
}

const struct sb_str *sb_exchange_groups(const struct sb_exchange *x, size_t *n)
{
    *n = x->ngroups;
    return x->groups;
}

void *sb_exchange_worker_state(struct sb_exchange *x, const struct sb_plugin *plugin)
{
    return sb_plugin_states_get(x->w->plugins, plugin);
}

/* -- what was matched, as entities -- */

static const struct sb_value *entity_of(struct sb_exchange *x, const char *text)
{
    const struct sb_value **made;
    struct sb_value *row;

    if (!text)
        return NULL;
    made = sb_exchange_state(x, text, sizeof *made);
    if (*made)
        return *made;
    if (sb_json_parse(sb_exchange_arena(x), sb_str_c(text), &row, NULL))
        return NULL;
    sb_object_set(sb_exchange_arena(x), row, SB_STR("ws_id"),
                  sb_value_text(sb_exchange_arena(x), x->hold->snap->workspace));
    return *made = row;
}

const struct sb_value *sb_exchange_route_entity(struct sb_exchange *x)
{
    return x->route ? entity_of(x, x->route->row) : NULL;
}

const struct sb_value *sb_exchange_service_entity(struct sb_exchange *x)
{
    return x->route && x->route->service ? entity_of(x, x->route->service->row) : NULL;
}

/* -- the request -- */

/* As it goes on now, and as the running hook found it. */
static struct sb_found_request now(const struct sb_exchange *x)
{
    return (struct sb_found_request){
        .changes = x->request_changes, .host = x->up.host, .query = sb_exchange_upstream_query(x)};
}

static struct sb_found_request found(const struct sb_exchange *x)
{
    return x->found.by && x->found.by == x->hook ? x->found : now(x);
}

static void each_header(const struct sb_exchange *x, struct sb_found_request as,
                        bool (*fn)(void *arg, struct sb_str name, struct sb_str value), void *arg)
{
    for (size_t i = 0; i < x->req.nheaders; i++) {
        const struct sb_router_header *h = &x->req.headers[i];
        bool host = as.host.p && x->req.ids[i] == SB_H_HOST;

        if (!sb_change_find(as.changes, h->name) && !fn(arg, h->name, host ? as.host : h->value))
            return;
    }
    for (const struct sb_header_change *c = as.changes; c; c = c->next)
        if (c->value.p && !fn(arg, c->name, c->value))
            return;
}

static struct sb_str header(const struct sb_exchange *x, struct sb_found_request as,
                            struct sb_str name)
{
    const struct sb_header_change *c = sb_change_find(as.changes, name);
    struct sb_str value;

    if (as.host.p && sb_str_ieq(name, SB_STR("host")))
        return as.host;
    value = c ? c->value : sb_http_find(&x->req, name);
    for (c = as.changes; c && !value.p; c = c->next)
        if (c->add && sb_str_ieq(c->name, name))
            value = c->value;
    return value;
}

void sb_exchange_each_header(const struct sb_exchange *x,
                             bool (*fn)(void *arg, struct sb_str name, struct sb_str value),
                             void *arg)
{
    each_header(x, found(x), fn, arg);
}

void sb_exchange_each_request_header(const struct sb_exchange *x,
                                     bool (*fn)(void *arg, struct sb_str name, struct sb_str value),
                                     void *arg)
{
    each_header(x, now(x), fn, arg);
}

struct sb_str sb_exchange_header(const struct sb_exchange *x, struct sb_str name)
{
    return header(x, found(x), name);
}

struct sb_str sb_exchange_sent_header(const struct sb_exchange *x, struct sb_str name)
{
    return sb_http_find(&x->req, name);
}

struct sb_str sb_exchange_query(const struct sb_exchange *x)
{
    return found(x).query;
}

struct sb_str sb_exchange_target(const struct sb_exchange *x)
{
    return x->req.target;
}

struct sb_str sb_exchange_http_version(const struct sb_exchange *x)
{
    switch (x->req.version) {
    case 9:
        return SB_STR("0.9");
    case 10:
        return SB_STR("1.0");
    case SB_HTTP_2:
        return SB_STR("2.0");
    default:
        return SB_STR("1.1");
    }
}

bool sb_exchange_https(const struct sb_exchange *x)
{
    return x->https;
}

struct sb_str sb_exchange_forwarded_proto(const struct sb_exchange *x)
{
    return sb_request_forwarded_proto(x);
}

struct ssl_st *sb_exchange_tls(const struct sb_exchange *x)
{
    return x->c->io.ssl;
}

struct sb_connection sb_exchange_connection(const struct sb_exchange *x)
{
    struct sb_connection out = {.serial = x->c->serial, .requests = x->c->requests};

    out.local_port = sb_client_local(x->c, out.local_ip);
    return out;
}

enum sb_rc sb_exchange_body(struct sb_exchange *x, size_t max, struct sb_str *body)
{
    const struct sb_request_body *b = &x->body;
    enum sb_rc rc = x->body_lost ? SB_IO : sb_body_store(x);
    char *whole;

    if (rc == SB_AGAIN)
        x->body_wanted = true;
    else if (rc && !x->body_lost)
        x->body_lost = rc;
    if (rc)
        return rc == SB_AGAIN ? SB_AGAIN : SB_IO;
    if (b->mem_len + b->file_len > max)
        return SB_TOOLARGE;
    *body = sb_str_n(b->mem_len ? b->mem : "", b->mem_len);
    if (b->file_len == 0)
        return SB_OK;
    whole = sb_arena_alloc(sb_exchange_arena(x), b->mem_len + b->file_len);
    memcpy(whole, b->mem, b->mem_len);
    *body = sb_str_n(whole, b->mem_len + b->file_len);
    return sb_body_read_file(x, whole + b->mem_len);
}

/* -- what goes on -- */

static struct sb_str keep(struct sb_exchange *x, struct sb_str s)
{
    return sb_arena_str(sb_exchange_arena(x), s);
}

struct sb_str sb_exchange_upstream_header(const struct sb_exchange *x, struct sb_str name)
{
    return header(x, now(x), name);
}

void sb_exchange_set_upstream_method(struct sb_exchange *x, struct sb_str method)
{
    x->up.method = keep(x, method);
    x->head_method = sb_str_is(method, "HEAD"); /* the answer is read, and passed on, accordingly */
}

void sb_exchange_set_upstream_path(struct sb_exchange *x, struct sb_str path)
{
    x->up.path = keep(x, path);
}

void sb_exchange_set_upstream_query(struct sb_exchange *x, struct sb_str query)
{
    sb_exchange_keep_found(x);
    x->up.query = keep(x, query);
}

struct sb_str sb_exchange_upstream_query(const struct sb_exchange *x)
{
    return x->up.query.p ? x->up.query : x->req.query;
}

void sb_exchange_set_upstream_body(struct sb_exchange *x, struct sb_str body)
{
    x->up.body = keep(x, body);
    x->up.replaces_body = true;
}

/* The exchange's own copy of its service, to change; without one nothing goes on, and what is
 * changed does not matter. */
struct sb_service *sb_exchange_own_service(struct sb_exchange *x)
{
    struct sb_service *s = SB_NEW(sb_exchange_arena(x), struct sb_service);

    if (x->service) {
        *s = *x->service;
        x->service = s;
    }
    return s;
}

void sb_exchange_set_upstream_https(struct sb_exchange *x, bool https)
{
    sb_exchange_own_service(x)->protocol = https ? SB_PROTO_HTTPS : SB_PROTO_HTTP;
}

void sb_exchange_set_target(struct sb_exchange *x, struct sb_str host, uint16_t port)
{
    struct sb_service *s = sb_exchange_own_service(x);

    s->host = keep(x, host);
    s->port = port;
    s->upstream_slot = 0;
    x->upstream = sb_snapshot_upstream(x->hold->snap, host);
    x->up.host = s->host;
}

enum sb_rc sb_exchange_set_upstream(struct sb_exchange *x, struct sb_str name)
{
    const struct sb_upstream *up = sb_snapshot_upstream(x->hold->snap, name);

    if (!up)
        return SB_NOTFOUND;
    sb_exchange_own_service(x)->host = up->name;
    x->upstream = up;
    return SB_OK;
}

/* -- the response -- */

enum sb_response_source sb_exchange_source(const struct sb_exchange *x)
{
    if (!x->answer.status)
        return SB_FROM_UPSTREAM;
    return x->answer.kind == SB_ANSWER_BODY ? SB_FROM_PLUGIN : SB_FROM_ERROR;
}

struct sb_timings sb_exchange_timings(const struct sb_exchange *x)
{
    struct sb_timings t = {.picked_us = -1, .first_byte_us = -1};

    (void)sb_now_ms(x->w);
    t.end_us = x->w->now_us - x->start_us;
    t.start_us = sb_wall_ms() * 1000 - t.end_us;
    if (x->try_us)
        t.picked_us = x->try_us - x->start_us;
    if (x->upstream_status)
        t.first_byte_us = x->first_byte_us - x->start_us;
    return t;
}

uint64_t sb_exchange_request_size(const struct sb_exchange *x)
{
    return x->req.len + x->body.received;
}

uint64_t sb_exchange_response_size(const struct sb_exchange *x)
{
    return x->body_sent;
}

/* What counts of that name now: what replaces it, else the upstream's lines; then what was added.
 */
static size_t response_values(const struct sb_exchange *x, struct sb_str name, struct sb_str *out)
{
    const struct sb_header_change *set = sb_change_find(x->response_changes, name);
    size_t n = 0;

    for (size_t i = 0; !set && i < x->resp.nheaders; i++)
        if (sb_str_ieq(x->resp.headers[i].name, name))
            out[n++] = x->resp.headers[i].value;
    if (set && set->value.p)
        out[n++] = set->value;
    for (const struct sb_header_change *c = x->response_changes; c; c = c->next)
        if (c->add && sb_str_ieq(c->name, name))
            out[n++] = c->value;
    return n;
}

void sb_exchange_each_response_header(struct sb_exchange *x, struct sb_str name,
                                      bool (*fn)(void *arg, struct sb_str value), void *arg)
{
    size_t max = x->resp.nheaders + 1, n;
    struct sb_str *values;

    for (const struct sb_header_change *c = x->response_changes; c; c = c->next)
        max++;
    values = SB_NEW_N(sb_exchange_arena(x), struct sb_str, max);
    n = response_values(x, name, values);
    for (size_t i = 0; i < n && fn(arg, values[i]); i++)
        ;
}

/* -- answers -- */

/* What nginx has a page for, and of these what Kong's own error page stands in for. */
static bool has_page(int status)
{
    static const short pages[] = {301, 302, 303, 307, 308, 401, 402, 403, 406,
                                  409, 410, 415, 416, 421, 429, 501, 505, 507};

    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        if (pages[i] == status)
            return true;
    return false;
}

static bool has_template(int status)
{
    static const short templates[] = {400, 404, 405, 408, 411, 412, 413,
                                      414, 417, 494, 500, 502, 503, 504};

    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++)
        if (templates[i] == status)
            return true;
    return false;
}

void sb_exchange_answer_status(struct sb_exchange *x, int status)
{
    if (x->state == SB_X_FILTER) { /* no pages there */
        sb_exchange_answer(x, status, SB_STR(""), SB_STR(""), NULL, 0);
        return;
    }
    x->answer = (struct sb_answer){.status = status,
                                   .kind = has_page(status)       ? SB_ANSWER_PAGE
                                           : has_template(status) ? SB_ANSWER_REFUSED
                                                                  : SB_ANSWER_BODY};
}

void sb_exchange_answer_message(struct sb_exchange *x, int status, struct sb_str message)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_value *body = sb_value_object(a);

    if (message.len)
        sb_object_set(a, body, SB_STR("message"), sb_value_str(a, message));
    sb_exchange_answer(x, status, SB_STR("application/json; charset=utf-8"),
                       sb_json_text(a, body, 0), NULL, 0);
}
