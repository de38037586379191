/* Exchanges end to end, in-process: real workers, a real router, an upstream on a thread; hooks
 * that answer, suspend, change headers and bodies, and break. */
#include "tests/unit/exchange_util.h"

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
