/* Exchanges end to end, in-process: real workers, a real router, an upstream on a thread; hooks
 * that answer, suspend, change headers and bodies, and break. */
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

/* -- hooks -- */

static enum sb_rc refuse(struct sb_exchange *x, const void *config)
{
    const struct sb_str headers[] = {SB_STR("WWW-Authenticate"), SB_STR("Key")};

    (void)config;
    sb_exchange_answer(x, 401, SB_STR("application/json; charset=utf-8"),
                       SB_STR("{\"message\":\"Unauthorized\"}"), headers, 2);
    return SB_OK;
}

static enum sb_rc never(struct sb_exchange *x, const void *config)
{
    (void)x;
    (void)config;
    abort();
}

static enum sb_rc break_down(struct sb_exchange *x, const void *config)
{
    (void)x;
    (void)config;
    return SB_IO;
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    sb_exchange_resume(arg);
}

static void cancel(void *arg)
{
    event_free(arg);
}

/* Suspends for config milliseconds; the timer goes with the exchange. */
static enum sb_rc nap(struct sb_exchange *x, const void *config)
{
    const struct timeval *tv = config;
    struct event *ev = event_new(sb_exchange_loop(x), -1, 0, on_timeout, x);

    event_add(ev, tv);
    sb_arena_defer(sb_exchange_arena(x), cancel, ev);
    return SB_AGAIN;
}

static enum sb_rc mark_request(struct sb_exchange *x, const void *config)
{
    (void)config;
    sb_exchange_set_upstream_header(x, SB_STR("X-Marked"), sb_exchange_path(x));
    sb_exchange_set_upstream_header(x, SB_STR("x-gone"), (struct sb_str){0});
    return SB_OK;
}

static enum sb_rc mark_response(struct sb_exchange *x, const void *config)
{
    (void)config;
    if (!sb_str_is(sb_exchange_response_header(x, SB_STR("x-up")), "yes"))
        return SB_INVALID;
    sb_exchange_set_response_header(x, SB_STR("X-Up"), (struct sb_str){0});
    sb_exchange_set_response_header(x, SB_STR("X-Seen"), SB_STR("1"));
    sb_exchange_set_status(x, 201);
    return SB_OK;
}

static enum sb_rc capitals(struct sb_exchange *x, const void *config, struct sb_chunk *c)
{
    char *out = sb_arena_alloc(sb_exchange_arena(x), c->data.len + 3);
    size_t n = c->data.len;

    (void)config;
    for (size_t i = 0; i < n; i++)
        out[i] =
            c->data.p[i] >= 'a' && c->data.p[i] <= 'z' ? (char)(c->data.p[i] - 32) : c->data.p[i];
    if (c->last) {
        memcpy(out + n, "END", 3);
        n += 3;
    }
    c->data = sb_str_n(out, n);
    return SB_OK;
}

/* Breaks when it is called in the middle. */
static enum sb_rc bracket(struct sb_exchange *x, const void *config, struct sb_chunk *c)
{
    (void)config;
    if (!c->last)
        return SB_INVALID;
    c->data = sb_arena_printf(sb_exchange_arena(x), "[%.*s]", SB_ARG(c->data));
    return SB_OK;
}

static atomic_int logged;

static enum sb_rc note(struct sb_exchange *x, const void *config)
{
    (void)config;
    atomic_store(&logged, sb_exchange_status(x));
    return SB_OK;
}

static const struct timeval moment = {.tv_usec = 20000}, long_time = {.tv_sec = 3600};
static const struct sb_hook refusing[] = {{.run = refuse}, {.run = never}, {0}};
static const struct sb_hook breaking[] = {{.run = break_down}, {.run = never}, {0}};
static const struct sb_hook napping[] = {
    {.run = nap, .config = &moment}, {.run = nap, .config = &moment}, {.run = mark_request}, {0}};
static const struct sb_hook sleeping[] = {{.run = nap, .config = &long_time}, {.run = never}, {0}};
static const struct sb_hook marking[] = {{.run = mark_request}, {0}};
static const struct sb_hook filtering[] = {
    {.run = nap, .config = &moment}, {.run = mark_response}, {0}};
static const struct sb_hook upper[] = {{.filter = capitals}, {0}};
static const struct sb_hook noting[] = {{.run = note}, {0}};

static void wait_for_log(int status)
{
    for (int i = 0; i < TIMEOUT_MS && atomic_load(&logged) != status; i++)
        poll(NULL, 0, 1);
    assert_int_equal(atomic_load(&logged), status);
}

/* -- tests -- */

/* Before there is something to serve, connections wait; they are not told that nothing matches. */
static void test_no_snapshot(void **state)
{
    struct fixture *f = *state;
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    int fd = dial(f->port);
    char buf[16];

    assert_true(send(fd, request, sizeof request - 1, 0) > 0);
    publish(f, NULL, NULL);
    assert_int_equal(recv(fd, buf, 12, MSG_WAITALL), 12);
    assert_memory_equal(buf, "HTTP/1.1 200", 12);
    close(fd);
}

static void test_plain(void **state)
{
    struct fixture *f = *state;
    struct sb_proxy_stats stats;
    char *answer;

    publish(f, NULL, NULL);
    answer = ask(f->port, "GET /p?q HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-A: 1\r\n\r\n");
    has(answer, "HTTP/1.1 200 OK\r\n");
    has(answer, "Content-Type: text/plain; charset=UTF-8\r\n");
    has(answer, "GET /p?q HTTP/1.1\r\n");
    has(answer, "X-Forwarded-For: 127.0.0.1\r\n");
    has(answer, "X-A: 1\r\n");
    sb_workers_stats(f->ws, &stats);
    assert_true(stats.requests == 1 && stats.status[2] == 1);
}

static void test_answer(void **state)
{
    struct fixture *f = *state;
    static const struct sb_hooks hooks = {
        .phase = {[SB_PHASE_ACCESS] = refusing, [SB_PHASE_LOG] = noting}};
    char *answer;

    publish(f, &hooks, NULL);
    answer = ask(f->port, "GET / HTTP/1.0\r\n\r\n");
    has(answer, "HTTP/1.1 401 ");
    has(answer, "WWW-Authenticate: Key\r\n");
    has(answer, "{\"message\":\"Unauthorized\"}");
    wait_for_log(401);
}

static void test_break(void **state)
{
    struct fixture *f = *state;
    static const struct sb_hooks hooks = {.phase = {[SB_PHASE_REWRITE] = breaking}};

    publish(f, NULL, &hooks);
    has(ask(f->port, "GET / HTTP/1.0\r\n\r\n"), "An unexpected error occurred");
}

static void test_suspend(void **state)
{
    struct fixture *f = *state;
    static const struct sb_hooks hooks = {.phase = {[SB_PHASE_ACCESS] = napping}};
    char *answer;

    publish(f, &hooks, &hooks); /* the global ones have nothing for rewrite */
    answer = ask(f->port, "GET /s HTTP/1.0\r\nX-Gone: 1\r\n\r\n");
    has(answer, "X-Marked: /s\r\n");
    assert_null(strstr(answer, "X-Gone"));
}

static void test_filters(void **state)
{
    struct fixture *f = *state;
    static const struct sb_hooks hooks = {.phase = {[SB_PHASE_ACCESS] = marking,
                                                    [SB_PHASE_HEADER_FILTER] = filtering,
                                                    [SB_PHASE_BODY_FILTER] = upper,
                                                    [SB_PHASE_LOG] = noting}};
    char *answer;

    publish(f, &hooks, &hooks);
    answer = ask(f->port, "GET /f HTTP/1.0\r\n\r\n");
    has(answer, "HTTP/1.1 201 Created\r\n");
    has(answer, "X-Seen: 1\r\n");
    assert_null(strstr(answer, "X-Up: yes"));
    has(answer, "X-MARKED: /F\r\n");
    has(answer, "END");
    answer = ask(f->port, "GET /f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    has(answer, "Transfer-Encoding: chunked\r\n");
    has(answer, "END\r\n0\r\n\r\n");
    wait_for_log(201);
}

/* Filters that want the whole body get it once; what breaks off before is a 502. */
static void test_whole_body(void **state)
{
    struct fixture *f = *state;
    static const struct sb_hook whole[] = {{.filter = bracket}, {0}};
    static const struct sb_hooks hooks = {.phase = {[SB_PHASE_BODY_FILTER] = whole},
                                          .response_buffered = true};
    static const char *const requests[] = {
        "GET /chunked HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /till-end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"};
    char *answer;

    publish(f, &hooks, &hooks);
    for (size_t i = 0; i < 2; i++) {
        answer = ask(f->port, requests[i]);
        has(answer, "HTTP/1.1 200 OK\r\n");
        has(answer, "Content-Length: 5\r\n");
        assert_null(strstr(answer, "chunked"));
        has(answer, "\r\n\r\n[abc]");
    }
    answer = ask(f->port, "GET /echo HTTP/1.0\r\nX-A: b\r\n\r\n");
    has(answer, "X-A: b\r\n\r\n]");
    answer = ask(f->port, "GET /cut HTTP/1.0\r\n\r\n");
    has(answer, "HTTP/1.1 502 ");
    answer = ask(f->port, "GET /bad HTTP/1.0\r\n\r\n");
    has(answer, "HTTP/1.1 502 ");
}

/* The client of a suspended exchange leaves: the exchange ends, and its timer with it. */
static void test_client_leaves(void **state)
{
    struct fixture *f = *state;
    static const struct sb_hooks hooks = {
        .phase = {[SB_PHASE_ACCESS] = sleeping, [SB_PHASE_LOG] = noting}};
    int fd;

    publish(f, &hooks, &hooks);
    fd = dial(f->port);
    assert_true(send(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27, 0) > 0);
    close(fd);
    wait_for_log(499);
}

/* An exchange keeps the snapshot that it began with: retired only when it is over. */
static void test_retire(void **state)
{
    struct fixture *f = *state;
    static const char request[] = "GET /held HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    int fd, before, seen;
    char buf[4096];

    publish(f, NULL, NULL);
    seen = atomic_load(&f->up.seen);
    atomic_store(&f->up.hold, true);
    fd = dial(f->port);
    assert_true(send(fd, request, sizeof request - 1, 0) > 0);
    while (atomic_load(&f->up.seen) == seen)
        poll(NULL, 0, 1);
    before = atomic_load(&f->retired);
    hand_over(f, &f->generations[0]);
    hand_over(f, &f->generations[0]);
    while (atomic_load(&f->retired) == before) /* the one in between, which no exchange has */
        poll(NULL, 0, 1);
    assert_int_equal(atomic_load(&f->retired), before + 1);
    atomic_store(&f->up.hold, false);
    while (recv(fd, buf, sizeof buf, 0) > 0)
        ;
    close(fd);
    while (atomic_load(&f->retired) < before + 2)
        poll(NULL, 0, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_break, setup, teardown),
        cmocka_unit_test_setup_teardown(test_suspend, setup, teardown),
        cmocka_unit_test_setup_teardown(test_filters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_whole_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retire, setup, teardown),
    };

    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
