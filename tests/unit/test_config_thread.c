/* The config thread without a database: documents in, snapshots out, and what survives a restart.
 * The workers here only hold what is published and give it back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "dataplane/config/config.h"
#include "dataplane/config/snapshot.h"
#include "dataplane/listen/workers.h"
#include "dataplane/router/router.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/settings.h"

static char prefix[] = "/tmp/sb-config-XXXXXX";
static const char zeros[] = "00000000000000000000000000000000";
static const char ones[] = "11111111111111111111111111111111";

/* -- workers that serve nothing -- */

struct sb_workers {
    pthread_mutex_t lock;
    const struct sb_snapshot *snap;
    void (*retired)(void *arg, const struct sb_snapshot *snap);
    void *arg;
    unsigned published;
};

static struct sb_workers workers = {.lock = PTHREAD_MUTEX_INITIALIZER};

void sb_workers_publish(struct sb_workers *ws, const struct sb_snapshot *snap,
                        void (*retired)(void *arg, const struct sb_snapshot *snap), void *arg)
{
    const struct sb_snapshot *old;

    pthread_mutex_lock(&ws->lock);
    old = ws->snap;
    ws->snap = snap;
    ws->retired = retired;
    ws->arg = arg;
    ws->published++;
    pthread_mutex_unlock(&ws->lock);
    if (old)
        retired(arg, old);
}

const struct sb_credentials *sb_workers_credentials(const struct sb_workers *ws)
{
    (void)ws;
    return NULL;
}

static bool answers(const char *host)
{
    struct sb_router_match match;
    struct sb_router_request q = {.method = SB_STR("GET"),
                                  .scheme = SB_PROTO_HTTP,
                                  .path = SB_STR("/"),
                                  .host = sb_str_c(host)};
    bool ok;

    pthread_mutex_lock(&workers.lock);
    ok = sb_router_match(workers.snap->router, &q, &match);
    pthread_mutex_unlock(&workers.lock);
    return ok;
}

/* -- a node -- */

static struct sb_config *try_start(const char *variable, struct sb_settings **settings,
                                   struct sb_err *err)
{
    const char *env[] = {"KONG_DATABASE=off", variable, NULL};
    struct sb_settings_source source = {.prefix = prefix, .env = env};
    struct sb_buf problems, warnings;
    struct sb_config *c = NULL;

    sb_buf_init(&problems, 0);
    sb_buf_init(&warnings, 0);
    if (sb_settings_load(&source, settings, &problems, &warnings))
        fail_msg("%.*s", SB_ARG(sb_buf_get(&problems)));
    sb_buf_release(&problems);
    sb_buf_release(&warnings);
    if (sb_config_start(*settings, &workers, &c, err))
        return NULL;
    sb_config_take_over(c, false);
    return c;
}

static struct sb_config *start(const char *variable, struct sb_settings **settings)
{
    struct sb_err err;
    struct sb_config *c = try_start(variable, settings, &err);

    if (!c)
        fail_msg("%s", err.text);
    return c;
}

static void stop(struct sb_config *c, struct sb_settings *settings)
{
    sb_config_stop(c);
    if (workers.snap)
        workers.retired(workers.arg, workers.snap);
    workers.snap = NULL;
    sb_config_free(c);
    sb_settings_free(settings);
}

static void load(struct sb_config *c, const char *json, const char *hash)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *rows = NULL;
    struct sb_err err;

    if (sb_json_parse(a, sb_str_c(json), &rows, &err) || sb_config_load_rows(c, rows, hash, &err))
        fail_msg("%s", err.text);
    sb_arena_free(a);
}

static struct sb_config_state state_of(struct sb_config *c)
{
    struct sb_config_state state;

    sb_config_version(c, &state);
    return state;
}

static void forget(void)
{
    char path[64];

    snprintf(path, sizeof path, "%s/config.saved", prefix);
    unlink(path);
}

/* -- */

static void starts_with_nothing(void **state)
{
    struct sb_settings *settings;
    struct sb_config *c;
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    forget();
    c = start(NULL, &settings);
    assert_false(answers("a.test"));
    assert_int_equal(state_of(c).source, SB_CONFIG_FROM_NOTHING);
    assert_int_equal(state_of(c).served, 0);
    assert_string_equal(state_of(c).hash, zeros);
    assert_int_equal(sb_config_left_out(c, a)->count, 0);
    stop(c, settings);
    sb_arena_free(a);
}

static void loads_are_served_and_kept(void **state)
{
    static const char document[] =
        "{\"services\":[{\"id\":\"s\",\"host\":\"h\"}],"
        "\"routes\":[{\"id\":\"r\",\"hosts\":[\"a.test\"],\"protocols\":[\"http\"],"
        "\"service\":{\"id\":\"s\"}},"
        "{\"id\":\"bad\",\"name\":\"broken\",\"hosts\":[\"b.test\"],\"protocols\":[\"http\"],"
        "\"service\":{\"id\":\"gone\"}}],"
        "\"consumers\":[{\"id\":\"c\",\"username\":\"bob\"}]}";
    struct sb_settings *settings;
    struct sb_config *c;
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *rows, *left_out;
    struct sb_uuid id;

    (void)state;
    forget();
    c = start(NULL, &settings);
    id = *sb_config_node_id(c);
    load(c, document, ones);
    assert_true(answers("a.test"));
    assert_false(answers("b.test"));
    assert_int_equal(state_of(c).served, 1);
    assert_int_equal(state_of(c).source, SB_CONFIG_FROM_ROWS);
    assert_int_equal(state_of(c).left_out, 1);
    left_out = sb_config_left_out(c, a);
    assert_true(sb_str_is(sb_value_str_at(left_out->items[0], "name"), "broken"));
    rows = sb_config_rows(c, a);
    assert_int_equal(sb_get(rows, "routes")->count, 2);
    assert_int_equal(sb_get(rows, "consumers")->count, 1);
    stop(c, settings);

    c = start(NULL, &settings); /* what was posted is there again */
    assert_true(sb_uuid_eq(&id, sb_config_node_id(c)));
    assert_true(answers("a.test"));
    assert_int_equal(state_of(c).served, 1);
    assert_string_equal(state_of(c).hash, ones);
    rows = sb_config_rows(c, a);
    assert_int_equal(sb_get(rows, "consumers")->count, 1);
    load(c, "{}", zeros);
    assert_false(answers("a.test"));
    assert_int_equal(state_of(c).served, 2);
    assert_int_equal(state_of(c).left_out, 0);
    stop(c, settings);
    sb_arena_free(a);
}

static void a_declared_document_goes_first(void **state)
{
    struct sb_settings *settings;
    struct sb_config *c;
    struct sb_err err;

    (void)state;
    forget();
    c = start(NULL, &settings);
    load(c, "{\"routes\":[{\"id\":\"r\",\"hosts\":[\"a.test\"],\"protocols\":[\"http\"]}]}", ones);
    stop(c, settings);
    c = start("KONG_DECLARATIVE_CONFIG_STRING={\"_format_version\":\"3.0\",\"routes\":"
              "[{\"name\":\"d\",\"hosts\":[\"d.test\"]}]}",
              &settings);
    assert_true(answers("d.test"));
    assert_false(answers("a.test"));
    assert_int_equal(state_of(c).served, 2);
    assert_string_not_equal(state_of(c).hash, zeros);
    stop(c, settings);

    assert_null(try_start("KONG_DECLARATIVE_CONFIG_STRING={\"_format_version\":\"3.0\",\"routes\":"
                          "[{\"name\":\"d\",\"hosts\":7}]}",
                          &settings, &err));
    assert_non_null(strstr(err.text, "error parsing declarative string"));
    sb_settings_free(settings);
    assert_null(try_start("KONG_DECLARATIVE_CONFIG=/nonexistent.yml", &settings, &err));
    assert_non_null(strstr(err.text, "error parsing declarative config file /nonexistent.yml"));
    sb_settings_free(settings);
}

static void *post_often(void *arg)
{
    for (int i = 0; i < 200; i++)
        load(arg, i % 2 ? "{}" : "{\"routes\":[{\"id\":\"r\",\"hosts\":[\"a\"]}]}", ones);
    return NULL;
}

static void many_may_ask_at_once(void **state)
{
    struct sb_settings *settings;
    struct sb_config *c;
    pthread_t threads[3];

    (void)state;
    forget();
    c = start(NULL, &settings);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_often, c), 0);
    for (int i = 0; i < 200; i++) {
        struct sb_arena *a = sb_arena_new(0);

        assert_non_null(sb_config_rows(c, a));
        assert_non_null(sb_config_left_out(c, a));
        sb_config_wake(c);
        sb_arena_free(a);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(state_of(c).served, 600);
    assert_int_equal(state_of(c).loads, 600);
    stop(c, settings);
}

static void a_stopped_thread_refuses(void **state)
{
    struct sb_settings *settings;
    struct sb_config *c;
    struct sb_arena *a = sb_arena_new(0);
    struct sb_err err;

    (void)state;
    c = start(NULL, &settings);
    sb_config_stop(c);
    assert_int_equal(sb_config_load_rows(c, sb_value_object(a), ones, &err), SB_UNAVAILABLE);
    assert_null(sb_config_rows(c, a));
    stop(c, settings);
    sb_arena_free(a);
}

static int make_prefix(void **state)
{
    (void)state;
    sb_log_set_level(SB_LOG_ERROR);
    return mkdtemp(prefix) ? 0 : -1;
}

static int remove_prefix(void **state)
{
    char path[64];

    (void)state;
    forget();
    snprintf(path, sizeof path, "%s/kong.id", prefix);
    unlink(path);
    return rmdir(prefix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_with_nothing),
        cmocka_unit_test(loads_are_served_and_kept),
        cmocka_unit_test(a_declared_document_goes_first),
        cmocka_unit_test(many_may_ask_at_once),
        cmocka_unit_test(a_stopped_thread_refuses),
    };

    return cmocka_run_group_tests(tests, make_prefix, remove_prefix);
}
