#include "dataplane/plugins/traffic/rate_counters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "dataplane/config/snapshot.h"
#include "dataplane/plugins/traffic/rate_counters_cluster.h"
#include "dataplane/plugins/traffic/rate_counters_local.h"
#include "dataplane/plugins/traffic/rate_counters_redis.h"
#include "dataplane/plugins/traffic/rate_counters_sync.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/pg_async.h"
#include "shared/settings.h"

#define NOBODY "00000000-0000-0000-0000-000000000000"

enum { TELL_MS = 10000 };

/* -- windows ------------------------------------------------------------------------------------
 */

const struct sb_period_row sb_period_rows[SB_PERIODS] = {
    {"second", "Second", 1},   {"minute", "Minute", 60},       {"hour", "Hour", 3600},
    {"day", "Day", 24 * 3600}, {"month", "Month", 30 * 86400}, {"year", "Year", 365 * 86400},
};

/* The proleptic Gregorian calendar in eras of 400 years, which are equal, and in years that begin
 * in March, so that the leap day comes last. (The C library's answer takes a lock.) */
enum { ERA_DAYS = 146097, ERA_BEGINS = 719468 }; /* days before 1970: 0000-03-01 */

static int64_t calendar_start(enum sb_period period, int64_t now_s)
{
    int64_t days = now_s / 86400 + ERA_BEGINS, era = days / ERA_DAYS, day = days % ERA_DAYS;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t in_year = day - (year * 365 + year / 4 - year / 100); /* 0: the first of March */
    int64_t month = (5 * in_year + 2) / 153;                      /* 0: March */

    if (period == SB_PER_YEAR && month < 10) /* January came before this March */
        year--;
    if (year < 0) {
        year += 400;
        era--;
    }
    if (period == SB_PER_YEAR)
        month = 10;
    return (era * ERA_DAYS + year * 365 + year / 4 - year / 100 + (month * 153 + 2) / 5 -
            ERA_BEGINS) *
           86400;
}

int64_t sb_window_start(enum sb_period period, int64_t now_s)
{
    if (period >= SB_PER_MONTH)
        return calendar_start(period, now_s);
    return now_s - now_s % sb_period_rows[period].len_s;
}

bool sb_tally_full(const struct sb_count_item *item, const int64_t used[SB_PERIODS],
                   enum sb_period *which)
{
    bool full = false;

    for (int p = 0; p < SB_PERIODS; p++)
        if (item->limited[p] && item->limit[p] <= (double)used[p]) {
            *which = (enum sb_period)p;
            full = true;
        }
    return full;
}

struct sb_str sb_count_text(struct sb_arena *a, double n)
{
    char digits[24];
    int i = sizeof digits;
    uint64_t whole;

    if (n < 0 || n >= 1e14 || n != floor(n))
        return sb_arena_printf(a, "%.14g", n);
    whole = (uint64_t)n;
    do
        digits[--i] = (char)('0' + whole % 10);
    while (whole /= 10);
    return sb_arena_str(a, sb_str_n(digits + i, sizeof digits - (size_t)i));
}

/* -- configs ------------------------------------------------------------------------------------
 */

bool sb_count_limits(const struct sb_value *record, struct sb_count_item *item)
{
    bool any = false;

    for (int p = 0; p < SB_PERIODS; p++) {
        const struct sb_value *limit = sb_get(record, sb_period_rows[p].name);

        item->limited[p] = sb_is_number(limit);
        item->limit[p] = item->limited[p] ? sb_number(limit) : 0;
        any |= item->limited[p];
    }
    return any;
}

static enum sb_count_policy policy_of(const struct sb_plugin_source *in)
{
    struct sb_str name = sb_value_str_at(in->config, "policy");
    const struct sb_value *rate = sb_get(in->config, "sync_rate");

    if (sb_str_is(name, "cluster"))
        return SB_COUNT_CLUSTER;
    if (!sb_str_is(name, "redis"))
        return SB_COUNT_LOCAL;
    return sb_is_number(rate) && sb_number(rate) > 0 ? SB_COUNT_SYNCED : SB_COUNT_REDIS;
}

static void release_shelf(void *shelf)
{
    sb_shelf_drop(shelf);
}

static enum sb_rc compile_redis(const struct sb_plugin_source *in, struct sb_count_set *out,
                                struct sb_err *err)
{
    struct sb_redis_server *server = SB_NEW(in->arena, struct sb_redis_server);
    enum sb_rc rc = sb_redis_server_compile(in, sb_get(in->config, "redis"), server, err);

    if (rc)
        return rc;
    out->redis = server;
    if (out->policy != SB_COUNT_SYNCED)
        return SB_OK;
    out->sync_ms = (int64_t)(sb_number(sb_get(in->config, "sync_rate")) * 1000);
    out->shelf = sb_shelf_hold(server);
    sb_arena_defer(in->arena, release_shelf, out->shelf);
    return SB_OK;
}

static struct sb_str scope_id(struct sb_str id)
{
    return id.len ? id : SB_STR(NOBODY);
}

enum sb_rc sb_count_set_compile(const struct sb_plugin_source *in, bool announced,
                                struct sb_count_item *items, size_t nitems,
                                struct sb_count_set *out, struct sb_err *err)
{
    const char *database = sb_settings_str(in->settings, "database");

    if (nitems > SB_COUNT_ITEMS_MAX)
        return sb_err_set(err, SB_INVALID, "more than %d limits", SB_COUNT_ITEMS_MAX);
    *out = (struct sb_count_set){.announced = announced,
                                 .route_id = scope_id(in->instance->route_id),
                                 .service_id = scope_id(in->instance->service_id),
                                 .items = items,
                                 .nitems = nitems,
                                 .policy = policy_of(in)};
    for (size_t i = 0; i < nitems; i++)
        items[i].tag = sb_counters_tag(
            sb_counters_shared(),
            sb_arena_printf(in->arena, "%d:%.*s:%.*s:%.*s", announced, SB_ARG(out->route_id),
                            SB_ARG(out->service_id), SB_ARG(items[i].name)));
    if (out->policy == SB_COUNT_CLUSTER && database && strcmp(database, "off") == 0)
        return sb_err_set(err, SB_INVALID, "policy cluster needs a database");
    return out->policy >= SB_COUNT_REDIS ? compile_redis(in, out, err) : SB_OK;
}

/* -- identifiers --------------------------------------------------------------------------------
 */

enum sb_limit_by sb_limit_by(struct sb_str name)
{
    static const char *const names[] = {"consumer", "credential", "ip",
                                        "service",  "header",     "path"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (sb_str_is(name, names[i]))
            return (enum sb_limit_by)i;
    return SB_BY_CONSUMER;
}

static struct sb_str credential_id(struct sb_exchange *x)
{
    const struct sb_credential *credential = sb_exchange_credential(x);

    return credential && credential->id.len ? credential->id : (struct sb_str){0};
}

/* p NULL: there is none. */
static struct sb_str identifier(struct sb_exchange *x, enum sb_limit_by by, struct sb_str key)
{
    const struct sb_consumer *consumer = sb_exchange_consumer(x);
    const struct sb_service *service = sb_exchange_service(x);

    switch (by) {
    case SB_BY_CONSUMER:
        return consumer ? consumer->id : credential_id(x);
    case SB_BY_CREDENTIAL:
        return credential_id(x);
    case SB_BY_SERVICE:
        return service ? service->id : (struct sb_str){0};
    case SB_BY_HEADER:
        return sb_exchange_header(x, key);
    case SB_BY_PATH:
        return sb_str_eq(sb_exchange_path(x), key) ? key : (struct sb_str){0};
    case SB_BY_IP:
        break;
    }
    return (struct sb_str){0};
}

struct sb_str sb_limit_identifier(struct sb_exchange *x, enum sb_limit_by by, struct sb_str key)
{
    struct sb_str id = identifier(x, by, key);

    return id.p ? id : sb_exchange_client_ip(x);
}

/* -- tallies ------------------------------------------------------------------------------------
 */

static void make_room(struct sb_exchange *x, struct sb_tally *t)
{
    if (!t->used)
        t->used = sb_arena_zero(sb_exchange_arena(x), t->set->nitems * sizeof *t->used);
}

enum sb_rc sb_tally_take(struct sb_exchange *x, struct sb_tally *t)
{
    make_room(x, t);
    switch (t->set->policy) {
    case SB_COUNT_LOCAL:
        t->taken = sb_counters_take(sb_counters_shared(), t->set->items, t->identifier, t->now_s,
                                    t->used[0]);
        return SB_OK;
    case SB_COUNT_CLUSTER:
        return sb_cluster_take(x, t);
    case SB_COUNT_REDIS:
        return sb_redis_take(x, t);
    case SB_COUNT_SYNCED:
        return sb_synced_take(x, t);
    }
    return SB_INVALID;
}

enum sb_rc sb_tally_read(struct sb_exchange *x, struct sb_tally *t)
{
    make_room(x, t);
    if (t->set->policy == SB_COUNT_CLUSTER)
        return sb_cluster_read(x, t);
    if (t->set->policy != SB_COUNT_LOCAL)
        return sb_redis_read(x, t);
    for (size_t i = 0; i < t->set->nitems; i++)
        sb_counters_read(sb_counters_shared(), &t->set->items[i], t->identifier, t->now_s,
                         t->used[i]);
    return SB_OK;
}

void sb_tally_count(struct sb_exchange *x, const struct sb_tally *t)
{
    if (t->set->policy == SB_COUNT_CLUSTER)
        sb_cluster_add(x, t, 0, 1);
    else if (t->set->policy == SB_COUNT_SYNCED)
        sb_synced_add(x, t);
}

void sb_tally_add(struct sb_exchange *x, const struct sb_tally *t, size_t item, int64_t value)
{
    if (t->set->policy == SB_COUNT_LOCAL)
        sb_counters_add(sb_counters_shared(), &t->set->items[item], t->identifier, t->now_s, value);
    else if (t->set->policy == SB_COUNT_CLUSTER)
        sb_cluster_add(x, t, item, value);
    else
        sb_redis_add(x, t, item, value);
}

/* -- questions under way ------------------------------------------------------------------------
 */

static void leave(void *arg)
{
    struct sb_tally *t = arg;

    if (t->job)
        t->job->x = NULL;
    t->job = NULL;
}

void sb_tally_job_begin(struct sb_tally_job *job, struct sb_counting *c, struct sb_exchange *x,
                        struct sb_tally *t)
{
    job->x = x;
    job->tally = t;
    job->next = c->jobs;
    job->link = &c->jobs;
    if (job->next)
        job->next->link = &job->next;
    c->jobs = job;
    if (!x)
        return;
    if (!t->asked)
        sb_arena_defer(sb_exchange_arena(x), leave, t);
    t->asked = true;
    t->done = false;
    t->job = job;
}

static void unlink_job(struct sb_tally_job *job)
{
    *job->link = job->next;
    if (job->next)
        job->next->link = job->link;
}

void sb_tally_job_end(struct sb_tally_job *job, enum sb_rc rc)
{
    struct sb_exchange *x = job->x;
    struct sb_tally *t = job->tally;

    unlink_job(job);
    job->free(job);
    if (!x)
        return;
    t->job = NULL;
    t->done = true;
    t->rc = rc;
    sb_exchange_resume_again(x);
}

void sb_counting_tell(struct sb_counting *c, const char *store, const char *why)
{
    int64_t now_ms = sb_clock_ms();

    if (c->told_ms && now_ms < c->told_ms + TELL_MS)
        return;
    c->told_ms = now_ms;
    sb_error("rate limiting: counters in %s: %s", store, why);
}

/* -- a worker's ---------------------------------------------------------------------------------
 */

void *sb_counting_new(struct event_base *loop, const struct sb_settings *settings)
{
    struct sb_counting *c = sb_xcalloc(1, sizeof *c);
    const char *database = sb_settings_str(settings, "database");

    c->loop = loop;
    c->database = !database || strcmp(database, "off") != 0;
    c->arena = sb_arena_new(0);
    if (c->database)
        sb_cluster_open(c, settings);
    return c;
}

void sb_counting_free(void *counting)
{
    struct sb_counting *c = counting;
    struct sb_tally_job *job;

    sb_pg_async_free(c->pg);
    sb_redis_free(c->redis);
    sb_syncings_forget(c);
    while ((job = c->jobs)) {
        unlink_job(job);
        job->free(job);
    }
    sb_arena_free(c->arena);
    free(c);
}
