#include "dataplane/admin/serve.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dataplane/admin/journal.h"
#include "dataplane/admin/tls.h"
#include "dataplane/listen/options.h"
#include "dataplane/listen/sockets.h"
#include "shared/buf.h"
#include "shared/clock.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/settings.h"

enum { HEAD_MAX = 64 << 10, IDLE_S = 65, ACCEPTING_MAX = 64, GRACE_US = 50000 };

struct accepting {
    struct evhttp *server;
    struct evhttp_bound_socket *socket;
};

struct sb_serve {
    struct sb_serve_config config;
    struct event_base *base;
    struct evhttp *plain, *tls; /* a server each: how a connection is made belongs to the server */
    SSL_CTX *ctx;
    enum sb_tls_wants wants; /* of clients that come by TLS */
    struct sb_journal *journal;
    struct event *stop, *tick;
    int stop_fd;
    pthread_t thread;
    struct accepting accepting[ACCEPTING_MAX];
    size_t naccepting;
    atomic_bool gently;
    bool running, latency_header, server_header;
    const struct sb_str *gui_origins;
    size_t ngui_origins;
};

/* -- the question ------------------------------------------------------------------------------ */

static enum sb_method method_of(enum evhttp_cmd_type type)
{
    switch (type) {
    case EVHTTP_REQ_GET:
        return SB_GET;
    case EVHTTP_REQ_HEAD:
        return SB_HEAD;
    case EVHTTP_REQ_POST:
        return SB_POST;
    case EVHTTP_REQ_PUT:
        return SB_PUT;
    case EVHTTP_REQ_PATCH:
        return SB_PATCH;
    case EVHTTP_REQ_DELETE:
        return SB_DELETE;
    case EVHTTP_REQ_OPTIONS:
        return SB_OPTIONS;
    default:
        return SB_OTHER;
    }
}

static struct sb_str header(struct evhttp_request *req, const char *name)
{
    const char *value = evhttp_find_header(evhttp_request_get_input_headers(req), name);

    return value ? sb_str_c(value) : SB_STR("");
}

/* Path and query as they were sent: "//a" is a path, too. */
static void split_target(const char *target, struct sb_str *path, struct sb_str *query)
{
    struct sb_str all = sb_str_c(target ? target : ""), scheme = SB_STR("://");
    ptrdiff_t at = sb_str_starts(all, SB_STR("/")) ? -1 : sb_str_find(all, scheme, 0), mark;

    if (at >= 0) {
        ptrdiff_t slash = sb_str_chr(all, '/', (size_t)at + scheme.len);

        all = slash < 0 ? SB_STR("") : sb_str_from(all, (size_t)slash);
    }
    mark = sb_str_chr(all, '?', 0);
    *path = mark < 0 ? all : sb_str_first(all, (size_t)mark);
    *query = mark < 0 ? SB_STR("") : sb_str_from(all, (size_t)mark + 1);
}

/* False when there are more arguments or segments than anyone needs. */
static bool read_question(struct sb_call *c, struct evhttp_request *req)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(req);
    size_t len = evbuffer_get_length(in);
    struct sb_str path, query;

    split_target(evhttp_request_get_uri(req), &path, &query);
    c->method = method_of(evhttp_request_get_command(req));
    c->content_type = header(req, "Content-Type");
    c->origin = header(req, "Origin");
    c->request_headers = header(req, "Access-Control-Request-Headers");
    c->body = sb_str_n(len ? (const char *)evbuffer_pullup(in, -1) : "", len);
    if (!sb_args_parse(c->arena, query, &c->args, &c->nargs)) {
        sb_answer_message(c, 400, "Too many arguments");
        return false;
    }
    if (!path.len)
        path = SB_STR("/");
    if (path.p[0] != '/' || !sb_call_split_path(c, path)) {
        sb_answer_not_found(c);
        return false;
    }
    return true;
}

/* -- the answer -------------------------------------------------------------------------------- */

static void add(struct evhttp_request *req, const char *name, struct sb_str value)
{
    /* The arena ends its strings with NUL, literals too. */
    evhttp_add_header(evhttp_request_get_output_headers(req), name, value.p);
}

/* The Origin when it is one of the GUI's, else the first of them; without a GUI whoever asks. */
static struct sb_str allowed_origin(const struct sb_serve *s, const struct sb_call *c)
{
    for (size_t i = 0; i < s->ngui_origins; i++)
        if (sb_str_eq(s->gui_origins[i], c->origin))
            return c->origin;
    if (s->ngui_origins)
        return sb_arena_str(c->arena, s->gui_origins[0]);
    return c->origin.len ? c->origin : SB_STR("*");
}

static void add_headers(const struct sb_serve *s, struct sb_call *c, struct evhttp_request *req)
{
    struct sb_arena *a = c->arena;

    if (c->answer_type)
        add(req, "Content-Type", sb_str_c(c->answer_type));
    add(req, "Access-Control-Allow-Origin", allowed_origin(s, c));
    if (s->config.credentials)
        add(req, "Access-Control-Allow-Credentials", SB_STR("true"));
    if (s->latency_header)
        add(req, "X-Kong-Admin-Latency",
            sb_arena_printf(a, "%lld", (long long)(sb_clock_us() - c->began_us) / 1000));
    if (s->server_header)
        add(req, "Server", SB_STR("silverback/" SB_VERSION));
    for (size_t i = 0; i < c->nextra; i++)
        add(req, c->extra[i].name, c->extra[i].value);
}

static const char *method_name(enum sb_method m)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (m == 1U << i)
            return names[i];
    return "-";
}

static void note(const struct sb_serve *s, const struct sb_call *c, struct evhttp_request *req,
                 size_t len)
{
    struct sb_journal_entry e = {
        .peer = "-",
        .method = method_name(c->method),
        .target = evhttp_request_get_uri(req),
        .version = "HTTP/1.1",
        .status = c->status,
        .len = len,
        .referer = header(req, "Referer"),
        .agent = header(req, "User-Agent"),
    };
    ev_uint16_t port;
    char *peer = NULL;

    if (!s->journal)
        return;
    evhttp_connection_get_peer(evhttp_request_get_connection(req), &peer, &port);
    if (peer)
        e.peer = peer;
    sb_journal_add(s->journal, &e);
}

static void send_answer(const struct sb_serve *s, struct sb_call *c, struct evhttp_request *req)
{
    struct evbuffer *body = evbuffer_new();
    struct sb_buf text;

    sb_buf_init(&text, 0);
    if (c->json)
        sb_json_write(&text, c->json, SB_JSON_SLASH);
    else
        sb_buf_str(&text, c->text);
    add_headers(s, c, req);
    if (c->status != 204 && c->status != 304)
        add(req, "Content-Length", sb_arena_printf(c->arena, "%zu", text.len));
    if (c->method != SB_HEAD)
        evbuffer_add(body, text.p, text.len);
    note(s, c, req, evbuffer_get_length(body));
    evhttp_send_reply(req, c->status, NULL, body);
    evbuffer_free(body);
    sb_buf_release(&text);
}

/* What is wrong with the client's certificate; NULL: nothing, or it came without TLS. */
static const char *refusal(const struct sb_serve *s, struct evhttp_request *req)
{
    struct bufferevent *connection =
        evhttp_connection_get_bufferevent(evhttp_request_get_connection(req));
    const SSL *ssl = bufferevent_openssl_get_ssl(connection);

    return ssl ? sb_tls_verify_refusal(ssl, s->wants) : NULL;
}

static void on_request(struct evhttp_request *req, void *arg)
{
    struct sb_serve *s = arg;
    const char *why = refusal(s, req);
    struct sb_arena *a = sb_arena_new(16 << 10);
    struct sb_call *c = SB_NEW(a, struct sb_call);

    c->node = s->config.node;
    c->arena = a;
    c->began_us = sb_clock_us();
    if (why)
        sb_answer_message(c, 400, "%s", why);
    else if (read_question(c, req))
        s->config.answer(c);
    send_answer(s, c, req);
    sb_arena_free(a);
}

/* -- listening --------------------------------------------------------------------------------- */

static struct bufferevent *new_tls_connection(struct event_base *base, void *arg)
{
    SSL *ssl = SSL_new(arg);

    return ssl ? bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                                BEV_OPT_CLOSE_ON_FREE)
               : NULL;
}

static struct evhttp *new_server(struct sb_serve *s)
{
    struct evhttp *http = evhttp_new(s->base);

    evhttp_set_max_headers_size(http, HEAD_MAX);
    evhttp_set_max_body_size(http, (ev_ssize_t)s->config.body_max);
    evhttp_set_timeout(http, IDLE_S);
    evhttp_set_allowed_methods(http,
                               0xffff); /* what is not allowed is answered by us, in Kong's words */
    evhttp_set_default_content_type(http, NULL);
    evhttp_set_gencb(http, on_request, s);
    return http;
}

static enum sb_rc listen_on(struct sb_serve *s, const struct sb_listen *l, struct sb_err *err)
{
    struct evhttp **server = l->ssl ? &s->tls : &s->plain;
    struct accepting *a;
    int fd;

    if (s->naccepting == ACCEPTING_MAX)
        return sb_err_set(err, SB_INVALID, "%s: more than %d addresses", s->config.listen,
                          ACCEPTING_MAX);
    if (l->proxy_protocol)
        sb_warn("%s: proxy_protocol has no effect on %.*s", s->config.listen, SB_ARG(l->text));
    if (l->http2)
        sb_info("%s: http2 has no effect on %.*s, which speaks HTTP/1.1", s->config.listen,
                SB_ARG(l->text));
    if (l->ssl && !s->ctx) {
        enum sb_rc rc = sb_admin_tls(s->config.settings, s->config.tls, &s->ctx, &s->wants, err);

        if (rc)
            return rc;
    }
    if (sb_sockets_open(l, SOCK_STREAM, &fd))
        return sb_err_set(err, SB_IO, "%s: cannot listen on %.*s: %s", s->config.listen,
                          SB_ARG(l->text), strerror(errno));
    if (!*server) {
        *server = new_server(s);
        if (l->ssl)
            evhttp_set_bevcb(*server, new_tls_connection, s->ctx);
    }
    a = &s->accepting[s->naccepting++];
    a->server = *server;
    a->socket = evhttp_accept_socket_with_handle(*server, fd);
    sb_assert(a->socket);
    return SB_OK;
}

static enum sb_rc open_listeners(struct sb_serve *s, size_t *opened, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_str *items;
    struct sb_listen *listens;
    size_t n;
    enum sb_rc rc;

    items = sb_settings_list(s->config.settings, s->config.listen, &n);
    *opened = 0;
    rc = sb_listen_parse(a, s->config.listen, items, n, &listens, opened, err);
    for (size_t i = 0; !rc && i < *opened; i++)
        rc = listen_on(s, &listens[i], err);
    sb_arena_free(a);
    return rc;
}

/* -- the thread -------------------------------------------------------------------------------- */

/* Nobody is let in any more; who was let in just now may still be about to ask. */
static void on_stop(evutil_socket_t fd, short what, void *arg)
{
    static const struct timeval grace = {0, GRACE_US};
    struct sb_serve *s = arg;

    (void)fd, (void)what;
    for (size_t i = 0; i < s->naccepting; i++)
        evhttp_del_accept_socket(s->accepting[i].server, s->accepting[i].socket);
    s->naccepting = 0;
    if (s->gently)
        event_base_loopexit(s->base, &grace);
    else
        event_base_loopbreak(s->base);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct sb_serve *s = arg;

    (void)fd, (void)what;
    s->config.tick(s->config.node);
}

static void *run(void *arg)
{
    static const struct timeval second = {1, 0};
    struct sb_serve *s = arg;

    if (s->config.tick) {
        s->tick = event_new(s->base, -1, EV_PERSIST, on_tick, s);
        event_add(s->tick, &second);
    }
    event_base_dispatch(s->base);
    if (s->config.close)
        s->config.close(s->config.node);
    return NULL;
}

static void read_settings(struct sb_serve *s)
{
    const struct sb_str *tokens;
    size_t n;

    tokens = sb_settings_list(s->config.settings, "headers", &n);
    for (size_t i = 0; i < n; i++) {
        s->latency_header |= sb_str_ieq(tokens[i], SB_STR("latency_tokens")) ||
                             sb_str_ieq(tokens[i], SB_STR("x-kong-admin-latency"));
        s->server_header |= sb_str_ieq(tokens[i], SB_STR("server_tokens")) ||
                            sb_str_ieq(tokens[i], SB_STR("server"));
    }
    s->gui_origins = sb_settings_list(s->config.settings, "admin_gui_url", &s->ngui_origins);
}

static void release(struct sb_serve *s)
{
    if (s->plain)
        evhttp_free(s->plain);
    if (s->tls)
        evhttp_free(s->tls);
    if (s->stop)
        event_free(s->stop);
    if (s->tick)
        event_free(s->tick);
    if (s->base)
        event_base_free(s->base);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    sb_journal_close(s->journal);
    SSL_CTX_free(s->ctx);
    free(s);
}

enum sb_rc sb_serve_start(const struct sb_serve_config *config, struct sb_serve **out,
                          struct sb_err *err)
{
    struct sb_serve *s = sb_xcalloc(1, sizeof *s);
    size_t opened;
    enum sb_rc rc;

    s->config = *config;
    s->base = event_base_new();
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    read_settings(s);
    rc = open_listeners(s, &opened, err);
    if (!rc && opened)
        rc = sb_journal_open(config->settings, config->access_log, &s->journal, err);
    if (rc || !opened) {
        release(s);
        *out = NULL;
        return rc;
    }
    s->stop = event_new(s->base, s->stop_fd, EV_READ, on_stop, s);
    event_add(s->stop, NULL);
    *out = s;
    return SB_OK;
}

void sb_serve_open(struct sb_serve *s)
{
    if (!s)
        return;
    sb_assert(pthread_create(&s->thread, NULL, run, s) == 0);
    s->running = true;
}

void sb_serve_reopen_log(struct sb_serve *s)
{
    if (s)
        sb_journal_reopen(s->journal);
}

void sb_serve_stop(struct sb_serve *s, bool gently)
{
    uint64_t one = 1;

    if (!s)
        return;
    atomic_store(&s->gently, gently);
    sb_assert(write(s->stop_fd, &one, sizeof one) == sizeof one);
    if (s->running)
        pthread_join(s->thread, NULL);
    release(s);
}
