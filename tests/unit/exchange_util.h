/* exchange_util.h - for tests of exchanges end to end, in-process: real workers, a real router with
 * one route to everything, an upstream on a thread that answers with what it was sent. */
#ifndef SB_TESTS_UNIT_EXCHANGE_UTIL_H
#define SB_TESTS_UNIT_EXCHANGE_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <event2/event.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dataplane/config/snapshot.h"
#include "dataplane/listen/workers.h"
#include "dataplane/plugins/phase.h"
#include "dataplane/router/router.h"
#include "shared/log.h"
#include "shared/settings.h"

enum { TIMEOUT_MS = 10000 };

/* -- sockets -- */

static int listen_anywhere(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static int dial(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval t = {.tv_sec = TIMEOUT_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* Everything until the other side closes. */
static char *ask(uint16_t port, const char *request)
{
    static char answer[1 << 16];
    size_t n = 0;
    ssize_t k;
    int fd = dial(port);

    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    while (n < sizeof answer - 1 && (k = recv(fd, answer + n, sizeof answer - 1 - n, 0)) > 0)
        n += (size_t)k;
    answer[n] = '\0';
    close(fd);
    return answer;
}

static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no \"%s\" in:\n%s", part, text);
}

/* -- the upstream: answers each request with what it was sent as the body -- */

struct upstream {
    int fd;
    uint16_t port;
    pthread_t thread;
    atomic_bool hold; /* answers wait */
    atomic_int seen;
};

/* Paths that ask for another kind of answer. */
static const struct {
    const char *begins, *answer;
} special[] = {
    {"GET /chunked", "HTTP/1.1 200 OK\r\nX-Up: yes\r\nTransfer-Encoding: "
                     "chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n"},
    {"GET /till-end", "HTTP/1.1 200 OK\r\nX-Up: yes\r\n\r\nabc"},
    {"GET /cut", "HTTP/1.1 200 OK\r\nX-Up: yes\r\nContent-Length: 10\r\n\r\nabc"},
    {"GET /bad",
     "HTTP/1.1 200 OK\r\nX-Up: yes\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"},
};

static bool answer_special(const char *in, int fd)
{
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        if (strncmp(in, special[i].begins, strlen(special[i].begins)) == 0)
            return send(fd, special[i].answer, strlen(special[i].answer), MSG_NOSIGNAL) > 0;
    return false;
}

static void echo_on(struct upstream *u, int fd)
{
    char in[8192], head[256];
    size_t n = 0;
    ssize_t k;

    while (n < sizeof in - 1 && (k = recv(fd, in + n, sizeof in - 1 - n, 0)) > 0) {
        int len;

        n += (size_t)k;
        in[n] = '\0';
        if (!strstr(in, "\r\n\r\n"))
            continue;
        atomic_fetch_add(&u->seen, 1);
        while (atomic_load(&u->hold))
            poll(NULL, 0, 1);
        if (answer_special(in, fd))
            return;
        len = snprintf(head, sizeof head,
                       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Up: yes\r\n"
                       "Content-Length: %zu\r\n\r\n",
                       n);
        if (send(fd, head, (size_t)len, MSG_NOSIGNAL) < 0 || send(fd, in, n, MSG_NOSIGNAL) < 0)
            return;
        n = 0;
    }
}

static void *run_upstream(void *arg)
{
    struct upstream *u = arg;
    int fd;

    while ((fd = accept(u->fd, NULL, NULL)) >= 0) { /* one connection at a time is enough */
        struct timeval t = {.tv_usec = 300000};

        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
        echo_on(u, fd);
        close(fd);
    }
    return NULL;
}

/* -- a gateway around hand-made routes -- */

enum { GENERATIONS = 8 };

struct generation {
    struct sb_router_builder *builder;
    struct sb_service service;
    struct sb_route route;
    struct sb_snapshot snap;
    const void *chain[1 << SB_SLOT_BITS]; /* number 1 is the route's */
    const void *const *chains[1];
};

struct fixture {
    struct upstream up;
    struct sb_settings *settings;
    struct sb_workers *ws;
    uint16_t port;
    struct sb_arena *arena;
    struct generation generations[GENERATIONS];
    int made, published;
    atomic_int retired;
};

static void start_workers(struct fixture *f)
{
    char listen_at[64], prefix[] = "/tmp/sb-phases-XXXXXX";
    char prefix_env[64];
    const char *env[] = {listen_at,
                         prefix_env,
                         "KONG_PROXY_ACCESS_LOG=off",
                         "KONG_NGINX_WORKER_PROCESSES=1",
                         "KONG_DATABASE=off",
                         NULL};
    struct sb_settings_source source = {.env = env};
    struct sb_buf problems, warnings;
    struct sb_err err;
    int fd = listen_anywhere(&f->port);

    assert_non_null(mkdtemp(prefix));
    close(fd); /* free a moment ago, and picked by the system */
    snprintf(listen_at, sizeof listen_at, "KONG_PROXY_LISTEN=127.0.0.1:%u", f->port);
    snprintf(prefix_env, sizeof prefix_env, "KONG_PREFIX=%s", prefix);
    sb_buf_init(&problems, 0);
    sb_buf_init(&warnings, 0);
    if (sb_settings_load(&source, &f->settings, &problems, &warnings))
        fail_msg("%.*s", (int)problems.len, problems.p);
    if (sb_workers_start(f->settings, &f->ws, &err))
        fail_msg("%s", err.text);
    sb_buf_release(&problems);
    sb_buf_release(&warnings);
    rmdir(prefix);
}

static struct generation *make(struct fixture *f, const struct sb_hooks *route,
                               const struct sb_hooks *global)
{
    struct generation *g = &f->generations[f->made++];
    struct sb_value *row = sb_value_object(f->arena), *paths = sb_value_array(f->arena);
    struct sb_value *protocols = sb_value_array(f->arena);
    struct sb_router_source source = {.row = row, .route = &g->route};
    struct sb_err err;

    sb_array_push(f->arena, paths, sb_value_text(f->arena, "/"));
    sb_array_push(f->arena, protocols, sb_value_text(f->arena, "http"));
    sb_object_set(f->arena, row, SB_STR("id"),
                  sb_value_text(f->arena, "00000000-0000-4000-8000-000000000001"));
    sb_object_set(f->arena, row, SB_STR("paths"), paths);
    sb_object_set(f->arena, row, SB_STR("protocols"), protocols);
    g->service = (struct sb_service){.host = SB_STR("127.0.0.1"),
                                     .port = f->up.port,
                                     .path = SB_STR(""),
                                     .protocol = SB_PROTO_HTTP,
                                     .connect_timeout_ms = TIMEOUT_MS,
                                     .read_timeout_ms = TIMEOUT_MS,
                                     .write_timeout_ms = TIMEOUT_MS,
                                     .retries = 1,
                                     .enabled = true,
                                     .tls_verify = -1,
                                     .tls_verify_depth = -1};
    g->route = (struct sb_route){.id = SB_STR("00000000-0000-4000-8000-000000000001"),
                                 .protocols = SB_PROTO_HTTP,
                                 .request_buffering = true,
                                 .response_buffering = true,
                                 .service = &g->service,
                                 .chain = 1};
    g->builder = sb_router_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE);
    assert_int_equal(sb_router_put(g->builder, &source, &err), SB_OK);
    g->chain[1] = route;
    g->chains[0] = g->chain;
    g->snap = (struct sb_snapshot){.version = 1,
                                   .router = sb_router_build(g->builder),
                                   .chains = {1 << SB_SLOT_BITS, g->chains},
                                   .hooks = global};
    return g;
}

static void on_retired(void *arg, const struct sb_snapshot *snap)
{
    struct fixture *f = arg;

    (void)snap;
    atomic_fetch_add(&f->retired, 1);
}

static void hand_over(struct fixture *f, const struct generation *g)
{
    f->published++;
    sb_workers_publish(f->ws, &g->snap, on_retired, f);
}

/* Publishes, and waits until the worker serves it: then it has left the one before. */
static void publish(struct fixture *f, const struct sb_hooks *route, const struct sb_hooks *global)
{
    struct generation *g = make(f, route, global);

    if (f->published == 0)
        hand_over(f, g);
    hand_over(f, g);
    while (atomic_load(&f->retired) < f->published - 1)
        poll(NULL, 0, 1);
}

static int setup(void **state)
{
    struct fixture *f = sb_xcalloc(1, sizeof *f);

    sb_log_set_level(SB_LOG_CRIT);
    f->arena = sb_arena_new(0);
    f->up.fd = listen_anywhere(&f->up.port);
    pthread_create(&f->up.thread, NULL, run_upstream, &f->up);
    start_workers(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    atomic_store(&f->up.hold, false);
    if (f->ws) /* some tests stop them themselves */
        sb_workers_stop(f->ws, 0);
    shutdown(f->up.fd, SHUT_RDWR);
    close(f->up.fd);
    pthread_join(f->up.thread, NULL);
    for (int i = 0; i < f->made; i++) {
        sb_router_drop(f->generations[i].builder, f->generations[i].snap.router);
        sb_router_builder_free(f->generations[i].builder);
    }
    sb_settings_free(f->settings);
    sb_arena_free(f->arena);
    free(f);
    return 0;
}

#endif
