/* What plugins may do to an exchange, end to end: read and replace the body, send it elsewhere,
 * choose by consumer, answer late; and what they cost. */
#include "tests/unit/exchange_util.h"

#include "dataplane/config/table.h"
#include "dataplane/plugins/chain.h"

/* -- heap calls of the worker, counted -- */

static atomic_long heap_calls;
static atomic_bool counting;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS 1
extern void *__libc_malloc(size_t len);
extern void *__libc_calloc(size_t n, size_t len);
extern void *__libc_realloc(void *p, size_t len);

static void count_call(void)
{
    if (atomic_load_explicit(&counting, memory_order_relaxed))
        atomic_fetch_add(&heap_calls, 1);
}

void *malloc(size_t len)
{
    count_call();
    return __libc_malloc(len);
}

void *calloc(size_t n, size_t len)
{
    count_call();
    return __libc_calloc(n, len);
}

void *realloc(void *p, size_t len)
{
    count_call();
    return __libc_realloc(p, len);
}
#else
#define COUNTS 0
#endif

/* -- hooks -- */

static const struct sb_plugin first = {.name = "first", .priority = 3},
                              second = {.name = "second", .priority = 2},
                              third = {.name = "third", .priority = 1};

/* The body's length and its last bytes as a header; config: the most it takes. */
static enum sb_rc measure(struct sb_exchange *x, const void *config)
{
    const size_t *max = config;
    struct sb_str body;
    char text[64];
    enum sb_rc rc = sb_exchange_body(x, *max, &body);

    if (rc == SB_TOOLARGE)
        snprintf(text, sizeof text, "too large");
    else if (rc)
        return rc;
    else
        snprintf(text, sizeof text, "%zu %.*s", body.len,
                 SB_ARG(sb_str_from(body, body.len > 4 ? body.len - 4 : 0)));
    sb_exchange_set_upstream_header(x, SB_STR("X-Body"), sb_str_c(text));
    return SB_OK;
}

/* The same as the answer. */
static enum sb_rc tell(struct sb_exchange *x, const void *config)
{
    enum sb_rc rc = measure(x, config);

    if (!rc)
        sb_exchange_answer(x, 200, SB_STR(""), sb_exchange_upstream_header(x, SB_STR("X-Body")),
                           NULL, 0);
    return rc;
}

static enum sb_rc rewrite_all(struct sb_exchange *x, const void *config)
{
    (void)config;
    sb_exchange_set_upstream_method(x, SB_STR("PUT"));
    sb_exchange_set_upstream_path(x, SB_STR("/new%20path"));
    sb_exchange_set_upstream_query(x, SB_STR("a=1"));
    sb_exchange_set_upstream_header(x, SB_STR("Host"), SB_STR("other.example"));
    sb_exchange_set_upstream_header(x, SB_STR("Connection"), SB_STR("x-not-ours"));
    sb_exchange_add_upstream_header(x, SB_STR("X-Two"), SB_STR("2"));
    sb_exchange_set_upstream_body(x, SB_STR("changed"));
    return SB_OK;
}

static enum sb_rc to_target(struct sb_exchange *x, const void *config)
{
    const uint16_t *port = config;

    sb_exchange_set_target(x, SB_STR("127.0.0.1"), *port);
    return SB_OK;
}

static enum sb_rc answer_late(struct sb_exchange *x, const void *config)
{
    (void)config;
    sb_exchange_answer_message(x, 429, SB_STR("late"));
    return SB_OK;
}

static enum sb_rc answer_same(struct sb_exchange *x, const void *config)
{
    (void)config;
    sb_exchange_answer(x, 429, SB_STR("text/plain"), SB_STR("always the same"), NULL, 0);
    return SB_OK;
}

static enum sb_rc nothing_to_do(struct sb_exchange *x, const void *config)
{
    (void)x;
    (void)config;
    return SB_OK;
}

/* -- the request goes elsewhere, or as something else -- */

static void test_body(void **state)
{
    static const size_t small = 10, large = 1 << 20;
    static const struct sb_hook measuring[] = {{.run = measure, .config = &large}, {0}};
    static const struct sb_hook too_small[] = {{.run = measure, .config = &small}, {0}};
    static const struct sb_hooks hooks = {.phase = {[SB_PHASE_ACCESS] = measuring}},
                                 tight = {.phase = {[SB_PHASE_ACCESS] = too_small}};
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                               "Content-Length: 12\r\n\r\n";
    static const char chunks[] =
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    struct fixture *f = *state;
    char answer[8192] = "";
    size_t n = 0;
    ssize_t k;
    int fd;

    publish(f, &hooks, NULL);
    has(ask(f->port, "GET / HTTP/1.0\r\n\r\n"), "X-Body: 0 \r\n");
    has(ask(f->port, chunks), "X-Body: 5 bcde\r\n");
    fd = dial(f->port);
    assert_true(send(fd, head, sizeof head - 1, 0) > 0);
    assert_true(send(fd, "01234567", 8, 0) == 8);
    poll(NULL, 0, 20); /* so that it is most likely met in two pieces; right either way */
    assert_true(send(fd, "89ab", 4, 0) == 4);
    while (n < sizeof answer - 1 && (k = recv(fd, answer + n, sizeof answer - 1 - n, 0)) > 0)
        n += (size_t)k;
    close(fd);
    has(answer, "X-Body: 12 89ab\r\n");
    has(answer, "\r\n\r\n0123456789ab");
    publish(f, &tight, NULL);
    has(ask(f->port, "POST / HTTP/1.0\r\nContent-Length: 12\r\n\r\n0123456789ab"),
        "X-Body: too large\r\n");
}

/* More than memory takes: some of it lies in a file. */
static void test_body_in_file(void **state)
{
    enum { LEN = 300000 };
    static const size_t max = LEN;
    static const struct sb_hook telling[] = {{.run = tell, .config = &max}, {0}};
    static const struct sb_hooks hooks = {.phase = {[SB_PHASE_ACCESS] = telling}};
    struct fixture *f = *state;
    char *request = malloc(LEN + 200);
    int len = sprintf(request, "POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n", LEN);

    memset(request + len, 'x', LEN);
    memcpy(request + len + LEN - 4, "tail", 5);
    publish(f, &hooks, NULL);
    has(ask(f->port, request), "\r\n\r\n300000 tail");
    free(request);
}

/* The upstream's head stays, its body is replaced. */
static void test_header_filter_answers(void **state)
{
    static const struct sb_hook late[] = {{.run = answer_late}, {0}};
    static const struct sb_hooks hooks = {.phase = {[SB_PHASE_HEADER_FILTER] = late}};
    struct fixture *f = *state;
    char *answer;

    publish(f, &hooks, NULL);
    answer = ask(f->port, "GET / HTTP/1.0\r\n\r\n");
    has(answer, "HTTP/1.1 429 ");
    has(answer, "Content-Type: application/json; charset=utf-8\r\n");
    has(answer, "Content-Length: 18\r\n");
    has(answer, "{\"message\":\"late\"}");
    has(answer, "X-Up: yes\r\n");
    assert_null(strstr(answer, "text/plain"));
    assert_null(strstr(answer, "GET / HTTP"));
}

static void test_client_breaks_off(void **state)
{
    static const size_t max = 100;
    static const struct sb_hook measuring[] = {{.run = measure, .config = &max}, {0}};
    static const struct sb_hooks hooks = {.phase = {[SB_PHASE_ACCESS] = measuring}};
    struct fixture *f = *state;
    struct sb_proxy_stats stats;
    int fd;

    publish(f, &hooks, NULL);
    has(ask(f->port, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"),
        "HTTP/1.1 400 ");
    fd = dial(f->port);
    assert_true(send(fd, "POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\nabc", 41, 0) > 0);
    shutdown(fd, SHUT_WR);
    close(fd);
    do {
        poll(NULL, 0, 1);
        sb_workers_stats(f->ws, &stats);
    } while (stats.requests < 2);
    assert_int_equal(atomic_load(&f->up.seen), 0);
}

static void test_changes(void **state)
{
    static const struct sb_hook changing[] = {{.run = rewrite_all}, {0}};
    static const struct sb_hooks hooks = {.phase = {[SB_PHASE_ACCESS] = changing}};
    struct fixture *f = *state;
    char *answer;

    publish(f, &hooks, NULL);
    answer = ask(f->port, "POST /old?q HTTP/1.0\r\nX-Two: 1\r\nContent-Length: 3\r\n\r\nold");
    has(answer, "PUT /new%20path?a=1 HTTP/1.1\r\n");
    has(answer, "Host: other.example\r\n");
    has(answer, "X-Two: 1\r\n");
    has(answer, "X-Two: 2\r\n");
    has(answer, "Content-Length: 7\r\n");
    has(answer, "\r\n\r\nchanged");
    assert_null(strstr(answer, "not-ours"));
    has(ask(f->port, "GET /old HTTP/1.0\r\n\r\n"), "\r\n\r\nchanged");
}

static void test_target(void **state)
{
    struct fixture *f = *state;
    static struct sb_hook going[2];
    static const struct sb_hooks hooks = {.phase = {[SB_PHASE_ACCESS] = going}};
    struct generation *g;

    going[0] = (struct sb_hook){.run = to_target, .config = &f->up.port};
    publish(f, &hooks, NULL);
    g = make(f, &hooks, NULL);
    g->service.port = 1; /* where nobody is */
    hand_over(f, g);
    hand_over(f, g);
    while (atomic_load(&f->retired) < f->published - 1)
        poll(NULL, 0, 1);
    has(ask(f->port, "GET / HTTP/1.0\r\n\r\n"), "Host: 127.0.0.1\r\n");
}

/* -- chosen by consumer -- */

static atomic_int logged[2];

static enum sb_rc authenticate(struct sb_exchange *x, const void *config)
{
    struct sb_consumer *c = SB_NEW(sb_exchange_arena(x), struct sb_consumer);

    (void)config;
    c->id = sb_exchange_header(x, SB_STR("x-consumer"));
    if (c->id.p)
        sb_exchange_authenticate(x, c, NULL);
    return SB_OK;
}

static enum sb_rc mark(struct sb_exchange *x, const void *config)
{
    sb_exchange_set_upstream_header(x, SB_STR("X-Config"), sb_str_c(config));
    if (strcmp(config, "ends") == 0)
        sb_exchange_answer_status(x, 418);
    return SB_OK;
}

static enum sb_rc log_config(struct sb_exchange *x, const void *config)
{
    (void)x;
    atomic_fetch_add(&logged[strcmp(config, "c2") == 0], 1);
    return SB_OK;
}

static void test_chosen(void **state)
{
    static const struct sb_plugin_instance
        base = {.plugin = &second, .config = "base"},
        own = {.plugin = &second, .config = "own", .consumer_id = SB_STR_INIT("c1")},
        log2 = {.plugin = &third, .config = "c2", .consumer_id = SB_STR_INIT("c2")},
        ends = {.plugin = &second, .config = "ends", .consumer_id = SB_STR_INIT("c2")},
        refused = {.plugin = &second, .refused = true, .consumer_id = SB_STR_INIT("c3")};
    static const struct sb_hook access[] = {
        {.run = authenticate, .plugin = &first},
        {.run = mark, .plugin = &second, .instance = &base, .config = "base", .slot = 1},
        {.run = nothing_to_do, .plugin = &third, .slot = 2},
        {0}};
    static const struct sb_hook log[] = {{.run = log_config, .plugin = &third, .slot = 2}, {0}};
    static const struct sb_hooks hooks = {
        .phase = {[SB_PHASE_ACCESS] = access, [SB_PHASE_LOG] = log}, .slots = 2};
    struct sb_lifetimes *l = sb_lifetimes_new();
    struct fixture *f = *state;
    const struct sb_plugin_instance *of1[] = {&own}, *of2[] = {&log2, &ends}, *of3[] = {&refused};
    struct sb_table *consumers = NULL;
    struct generation *g;

    sb_table_set(l, &consumers, SB_STR("c1"),
                 sb_consumer_plugins_build(f->arena, SB_STR("c1"), of1, 1));
    sb_table_set(l, &consumers, SB_STR("c2"),
                 sb_consumer_plugins_build(f->arena, SB_STR("c2"), of2, 2));
    sb_table_set(l, &consumers, SB_STR("c3"),
                 sb_consumer_plugins_build(f->arena, SB_STR("c3"), of3, 1));
    g = make(f, &hooks, NULL);
    g->snap.consumers = consumers;
    hand_over(f, g);
    hand_over(f, g);
    while (atomic_load(&f->retired) < f->published - 1)
        poll(NULL, 0, 1);
    has(ask(f->port, "GET / HTTP/1.0\r\n\r\n"), "X-Config: base\r\n");
    has(ask(f->port, "GET / HTTP/1.0\r\nX-Consumer: c1\r\n\r\n"), "X-Config: own\r\n");
    has(ask(f->port, "GET / HTTP/1.0\r\nX-Consumer: none\r\n\r\n"), "X-Config: base\r\n");
    has(ask(f->port, "GET / HTTP/1.0\r\nX-Consumer: c3\r\n\r\n"), "HTTP/1.1 503 ");
    assert_true(atomic_load(&logged[0]) == 0 && atomic_load(&logged[1]) == 0);
    /* ended before its turn came, and yet it logs */
    has(ask(f->port, "GET / HTTP/1.0\r\nX-Consumer: c2\r\n\r\n"), "HTTP/1.1 418 ");
    while (atomic_load(&logged[1]) == 0)
        poll(NULL, 0, 1);
    sb_workers_stop(f->ws, 0);
    sb_table_drop(l, &consumers);
    sb_lifetimes_free(l);
    f->ws = NULL;
}

/* -- what it costs -- */

static void exchange_on(int fd, const char *request, const char *part)
{
    char answer[8192];
    size_t n = 0;
    ssize_t k;

    assert_true(send(fd, request, strlen(request), 0) > 0);
    for (answer[0] = '\0'; !strstr(answer, part); answer[n += (size_t)k] = '\0') {
        k = recv(fd, answer + n, sizeof answer - 1 - n, 0);
        assert_true(k > 0);
    }
}

/* On a kept connection: after the first requests nothing comes from the heap any more. */
static long calls_for(struct fixture *f, const struct sb_hooks *hooks, const char *end)
{
    static const char request[] = "GET /costs?a=b HTTP/1.1\r\nHost: a\r\nX-Consumer: c\r\n\r\n";
    int fd;

    publish(f, hooks, NULL);
    fd = dial(f->port);
    for (int i = 0; i < 3; i++)
        exchange_on(fd, request, end);
    atomic_store(&heap_calls, 0);
    atomic_store(&counting, true);
    for (int i = 0; i < 20; i++)
        exchange_on(fd, request, end);
    atomic_store(&counting, false);
    close(fd);
    return atomic_load(&heap_calls);
}

static void test_no_allocation(void **state)
{
    static const struct sb_hook quiet[] = {{.run = nothing_to_do}, {.run = nothing_to_do}, {0}};
    static const struct sb_hook chosen[] = {{.run = authenticate, .plugin = &first},
                                            {.run = nothing_to_do, .plugin = &second, .slot = 1},
                                            {0}};
    static const struct sb_hook changing[] = {{.run = rewrite_all}, {0}};
    static const struct sb_hook ending[] = {{.run = answer_same}, {0}};
    static const struct {
        struct sb_hooks hooks;
        const char *end;
    } routes[] = {
        {{.phase = {NULL}}, "X-Consumer: c\r\n\r\n"},
        {{.phase = {[SB_PHASE_REWRITE] = quiet, [SB_PHASE_ACCESS] = quiet, [SB_PHASE_LOG] = quiet}},
         "X-Consumer: c\r\n\r\n"},
        {{.phase = {[SB_PHASE_ACCESS] = chosen}, .slots = 1}, "X-Consumer: c\r\n\r\n"},
        {{.phase = {[SB_PHASE_ACCESS] = changing}}, "changed"},
        {{.phase = {[SB_PHASE_ACCESS] = ending}}, "always the same"},
    };

    if (!COUNTS)
        skip();
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        long calls = calls_for(*state, &routes[i].hooks, routes[i].end);

        if (calls)
            fail_msg("route %zu: %ld calls of the heap in 20 requests", i, calls);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_body_in_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_breaks_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_header_filter_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_target, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chosen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_allocation, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
