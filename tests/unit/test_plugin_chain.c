/* Which instance of a plugin a request meets: every combination of scopes against Kong's list, any
 * sequence of changes against a fresh look at the rows, and what a change costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dataplane/config/build.h"
#include "dataplane/plugins/chain.h"
#include "dataplane/plugins/registry.h"
#include "shared/clock.h"
#include "shared/json.h"
#include "shared/log.h"

/* -- two plugins: one that acts in access, one that only logs -- */

static enum sb_rc ok(struct sb_exchange *x, const void *config)
{
    (void)x;
    (void)config;
    return SB_OK;
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    if (sb_value_bool_at(in->config, "broken", false))
        return sb_err_set(err, SB_INVALID, "config is broken");
    *out = in->instance;
    return SB_OK;
}

static const struct sb_plugin acts = {.name = "acts",
                                      .priority = 5,
                                      .compile = compile,
                                      .access = ok},
                              logs = {.name = "logs", .priority = 4, .compile = compile, .log = ok};

static int add_plugins(void **state)
{
    struct sb_err err;

    (void)state;
    sb_log_set_level(SB_LOG_ERROR);
    return sb_plugins_add(&acts, &err) || sb_plugins_add(&logs, &err);
}

/* -- rows -- */

static void put(struct sb_builder *b, const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void put(struct sb_builder *b, const char *kind, const char *fmt, ...)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *row = NULL;
    struct sb_str text;
    struct sb_err err;
    va_list ap;

    va_start(ap, fmt);
    text = sb_arena_vprintf(a, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < text.len; i++)
        if (text.p[i] == '\'')
            ((char *)text.p)[i] = '"';
    if (sb_json_parse(a, text, &row, &err))
        fail_msg("%s: %s", text.p, err.text);
    sb_model_put(sb_builder_model(b), sb_str_c(kind), row, false);
    sb_arena_free(a);
}

static void drop(struct sb_builder *b, const char *kind, const char *id)
{
    sb_model_drop(sb_builder_model(b), sb_str_c(kind), sb_str_c(id));
}

/* Routes r0, r1 of service s0, r2 of s1, r3 of none. */
static void put_routes(struct sb_builder *b)
{
    for (int i = 0; i < 2; i++)
        put(b, "services", "{'id':'s%d','host':'127.0.0.1'}", i);
    for (int i = 0; i < 3; i++)
        put(b, "routes", "{'id':'r%d','hosts':['h%d'],'service':{'id':'s%d'}}", i, i, i / 2);
    put(b, "routes", "{'id':'r3','hosts':['h3']}");
}

static struct sb_builder *new_builder(void)
{
    struct sb_builder *b = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);

    put_routes(b);
    return b;
}

/* An instance; -1: not scoped so. */
struct scoped {
    int route, service, consumer;
    bool enabled;
};

static struct sb_str scope_text(struct sb_arena *a, const char *field, char letter, int n)
{
    return n < 0 ? SB_STR("") : sb_arena_printf(a, ",'%s':{'id':'%c%d'}", field, letter, n);
}

static void put_plugin(struct sb_builder *b, const char *name, int id, struct scoped s, int version)
{
    struct sb_arena *a = sb_arena_new(0);

    put(b, "plugins", "{'id':'p%02d','name':'%s','enabled':%s,'tags':['v%d']%s%s%s}", id, name,
        s.enabled ? "true" : "false", version, scope_text(a, "route", 'r', s.route).p,
        scope_text(a, "service", 's', s.service).p, scope_text(a, "consumer", 'c', s.consumer).p);
    sb_arena_free(a);
}

/* -- what a snapshot does -- */

static const struct sb_route *route_of(const struct sb_snapshot *snap, int route)
{
    char host[16];
    struct sb_router_match m;
    struct sb_router_request q = {
        .method = SB_STR("GET"), .scheme = SB_PROTO_HTTP, .path = SB_STR("/")};

    snprintf(host, sizeof host, "h%d", route);
    q.host = sb_str_c(host);
    assert_true(sb_router_match(snap->router, &q, &m));
    return m.route;
}

static const struct sb_hook *row_of(const struct sb_hooks *hooks, const struct sb_plugin *plugin,
                                    enum sb_phase phase)
{
    const struct sb_hook *h = hooks ? hooks->phase[phase] : NULL;

    for (; h && (h->run || h->filter); h++)
        if (h->plugin == plugin)
            return h;
    return NULL;
}

/* The id of the instance that a consumer (-1: nobody) meets on a route; "" for none. */
static const char *met(const struct sb_snapshot *snap, const struct sb_plugin *plugin, int route,
                       int consumer)
{
    enum sb_phase phase = plugin->access ? SB_PHASE_ACCESS : SB_PHASE_LOG;
    const struct sb_route *r = route_of(snap, route);
    const struct sb_hook *row = row_of(sb_route_hooks(snap, r), plugin, phase);
    const struct sb_plugin_instance *in = row ? row->instance : NULL;
    char id[16];

    snprintf(id, sizeof id, "c%d", consumer);
    if (row && row->slot)
        in = sb_chain_choose(row,
                             consumer < 0 ? NULL : sb_snapshot_consumer_plugins(snap, sb_str_c(id)),
                             r->id, r->service ? r->service->id : SB_STR(""));
    return in ? in->id.p : "";
}

/* -- Kong's list -- */

/* reference/plugins.md 2, in its words' order: which of the three an instance is scoped to. */
static const struct {
    bool route, service, consumer;
} precedence[] = {
    {true, true, true},   {true, false, true},  {false, true, true},  {true, true, false},
    {false, false, true}, {true, false, false}, {false, true, false}, {false, false, false},
};

enum { SCOPES = 8 };

static bool fits(const struct scoped *s, int route, int consumer)
{
    return s->enabled && (s->route < 0 || s->route == route) &&
           (s->service < 0 || (route < 3 && s->service == route / 2)) &&
           (s->consumer < 0 || s->consumer == consumer);
}

/* By the list, from the rows. */
static int expected(const struct scoped *all, int n, int route, int consumer)
{
    for (int p = 0; p < SCOPES; p++)
        for (int i = 0; i < n; i++)
            if ((all[i].route >= 0) == precedence[p].route &&
                (all[i].service >= 0) == precedence[p].service &&
                (all[i].consumer >= 0) == precedence[p].consumer && fits(&all[i], route, consumer))
                return i;
    return -1;
}

static void check(const struct sb_snapshot *snap, const struct sb_plugin *plugin,
                  const struct scoped *all, int n, int id0)
{
    for (int route = 0; route < 4; route++) {
        for (int consumer = -1; consumer < 3; consumer++) {
            int want = expected(all, n, route, consumer);
            const char *got = met(snap, plugin, route, consumer);
            char id[16] = "";

            if (want >= 0)
                snprintf(id, sizeof id, "p%02d", id0 + want);
            if (strcmp(got, id) != 0)
                fail_msg("%s: route %d, consumer %d: met %s, not %s", plugin->name, route, consumer,
                         got, id);
        }
    }
}

/* All 256 sets of the eight kinds of scope, on r0, s0 and c0. */
static void every_combination(void **state)
{
    (void)state;
    for (int set = 0; set < 1 << SCOPES; set++) {
        struct sb_builder *b = new_builder();
        struct scoped all[SCOPES];
        const struct sb_snapshot *snap;

        for (int i = 0; i < SCOPES; i++) {
            all[i] = (struct scoped){.route = precedence[i].route ? 0 : -1,
                                     .service = precedence[i].service ? 0 : -1,
                                     .consumer = precedence[i].consumer ? 0 : -1,
                                     .enabled = set >> i & 1};
            if (all[i].enabled)
                put_plugin(b, "acts", i, all[i], 0);
        }
        snap = sb_builder_build(b, 1);
        check(snap, &acts, all, SCOPES, 0);
        sb_builder_retire(b, snap);
        sb_builder_free(b);
    }
}

/* -- any sequence of changes -- */

enum { POOL = 12, STEPS = 4000 };

static uint64_t seed = 42;

static int any(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

static void any_sequence(void **state)
{
    const struct sb_snapshot *held[3] = {NULL};
    struct scoped all[2][POOL] = {0};
    struct sb_builder *b = new_builder();

    (void)state;
    for (int step = 0; step < STEPS; step++) {
        int plugin = any(2), i = any(POOL), id = plugin * POOL + i;
        char text[16];

        snprintf(text, sizeof text, "p%02d", id);
        switch (any(6)) {
        case 0:
            drop(b, "plugins", text);
            all[plugin][i].enabled = false;
            break;
        case 1: /* routes and services go and come, too */
            drop(b, any(2) ? "routes" : "services", any(2) ? "r0" : "s1");
            put_routes(b);
            break;
        default:
            all[plugin][i] = (struct scoped){any(5) - 1, any(3) - 1, any(4) - 1, any(4) > 0};
            if (any(3) == 0)
                all[plugin][i].route = all[plugin][i].service = -1;
            put_plugin(b, plugin ? "logs" : "acts", id, all[plugin][i], step);
        }
        /* Equal scopes twice can't be stored: the lower id has it, as expected() finds. */
        if (any(3))
            continue;
        if (held[step % 3])
            sb_builder_retire(b, held[step % 3]);
        held[step % 3] = sb_builder_build(b, (uint64_t)step);
        for (int p = 0; p < 2; p++) {
            struct scoped sorted[POOL];

            memcpy(sorted, all[p], sizeof sorted);
            check(held[step % 3], p ? &logs : &acts, sorted, POOL, p * POOL);
        }
    }
    for (int i = 0; i < 3; i++)
        if (held[i])
            sb_builder_retire(b, held[i]);
    assert_int_equal(sb_builder_waiting(b), 0);
    sb_builder_free(b);
}

/* -- what can't run -- */

static const struct sb_hook *refusal(const struct sb_snapshot *snap)
{
    const struct sb_hooks *hooks = sb_route_hooks(snap, route_of(snap, 0));
    const struct sb_hook *h = hooks ? hooks->phase[SB_PHASE_ACCESS] : NULL;

    for (; h && h->run; h++)
        if (h->run == sb_plugin_refuse)
            return h;
    return NULL;
}

static void what_cannot_run_refuses(void **state)
{
    static const struct {
        const char *row;
        bool refuses;
        size_t left_out;
    } rows[] = {
        {"{'id':'p','name':'request-termination'}", false, 0},
        {"{'id':'p','name':'acts','config':{'broken':true}}", true, 1},
        {"{'id':'p','name':'acts','config':{'broken':true},'route':{'id':'r1'}}", false, 1},
        {"{'id':'p','name':'nobody-knows-it'}", true, 1},
        {"{'id':'p','name':'nobody-knows-it','enabled':false}", false, 0},
        {"{'id':'p','name':'nobody-knows-it','protocols':['tcp']}", false, 0},
        {"{'id':'p','name':'grpc-gateway'}", true, 1},
        {"{'id':'p','name':'zipkin'}", false, 1}, /* it only watches */
    };
    struct sb_builder *b = new_builder();

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct sb_snapshot *snap;

        put(b, "plugins", "%s", rows[i].row);
        snap = sb_builder_build(b, i);
        if ((refusal(snap) != NULL) != rows[i].refuses ||
            sb_builder_left_out_count(b) != rows[i].left_out)
            fail_msg("%s: refuses %d, left out %zu", rows[i].row, !rows[i].refuses,
                     sb_builder_left_out_count(b));
        sb_builder_retire(b, snap);
    }
    sb_builder_free(b);
}

/* -- what it costs -- */

enum { ROUTES = 10000 };

static void build(struct sb_builder *b, const char *what, size_t compiled_max, size_t chains_max)
{
    static const struct sb_snapshot *last;
    int64_t from = sb_clock_us();
    const struct sb_snapshot *snap = sb_builder_build(b, 1);

    print_message("%d routes, %s: %lld us, %zu rows compiled, %zu chains made\n", ROUTES, what,
                  (long long)(sb_clock_us() - from), sb_builder_compiled(b),
                  sb_builder_rechained(b));
    assert_true(sb_builder_compiled(b) <= compiled_max && sb_builder_rechained(b) <= chains_max);
    last = snap;
    sb_builder_retire(b, last);
}

static void a_plugin_costs_what_it_touches(void **state)
{
    struct sb_builder *b = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);

    (void)state;
    for (int i = 0; i < ROUTES; i++) {
        put(b, "services", "{'id':'s%d','host':'127.0.0.1'}", i);
        put(b, "routes", "{'id':'r%d','hosts':['h%d'],'service':{'id':'s%d'}}", i, i, i);
    }
    build(b, "no plugin", 2 * ROUTES, 1);
    put(b, "plugins", "{'id':'g','name':'acts'}");
    build(b, "a global plugin comes", 1, 1);
    put(b, "plugins", "{'id':'g','name':'acts','tags':['x']}");
    build(b, "a global plugin changes", 1, 1);
    put(b, "plugins", "{'id':'c','name':'logs','consumer':{'id':'c1'}}");
    build(b, "a consumer's plugin comes", 1, 1);
    put(b, "plugins", "{'id':'r','name':'logs','route':{'id':'r7'}}");
    build(b, "a route's first plugin comes", 2, 1);
    put(b, "plugins", "{'id':'r','name':'logs','route':{'id':'r7'},'tags':['x']}");
    build(b, "a route's plugin changes", 1, 1);
    put(b, "plugins", "{'id':'s','name':'logs','service':{'id':'s8'}}");
    build(b, "a service's first plugin comes", 2, 1);
    drop(b, "plugins", "g");
    build(b, "the global plugin goes", 1, 3);
    for (int i = 0; i < ROUTES; i++)
        put(b, "plugins", "{'id':'x%d','name':'acts','route':{'id':'r%d'}}", i, i);
    build(b, "every route gets its own plugin", 2 * ROUTES, ROUTES + 3);
    put(b, "plugins", "{'id':'g','name':'logs'}");
    build(b, "then a global plugin comes", 1, ROUTES + 3);
    assert_int_equal(sb_builder_waiting(b), 0);
    sb_builder_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination),
        cmocka_unit_test(any_sequence),
        cmocka_unit_test(what_cannot_run_refuses),
        cmocka_unit_test(a_plugin_costs_what_it_touches),
    };

    return cmocka_run_group_tests(tests, add_plugins, NULL);
}
