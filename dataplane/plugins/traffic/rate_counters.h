/* rate_counters.h - what rate-limiting and response-ratelimiting count, and where.
 *
 *     set      what one instance counts: whose (route, service), what (items), up to where (limits)
 *     tally    one request's look at it: who it is (identifier), when, and how much was used
 *
 *     policy   local     this process, all its workers               rate_counters_local.h
 *              cluster   PostgreSQL, Kong's tables                   rate_counters_cluster.h
 *              redis     a Redis server, at every request            rate_counters_redis.h
 *              synced    this process, and Redis every sync_rate     rate_counters_sync.h
 *
 * Windows are Kong's: fixed, aligned to the UTC calendar. So are the keys in Redis and the rows in
 * PostgreSQL: a Kong beside us counts on the same counters. (reference/plugins-traffic.md)
 *
 * Other than with Kong, taking is one step with local, redis and synced: requests that race can't
 * pass the limit together, and who is refused is counted in no window.
 */
#ifndef SB_DATAPLANE_PLUGINS_TRAFFIC_RATE_COUNTERS_H
#define SB_DATAPLANE_PLUGINS_TRAFFIC_RATE_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/plugins/plugin.h"
#include "dataplane/plugins/traffic/redis.h"

struct sb_counting;
struct sb_shelf;
struct sb_tally_job;

enum sb_period {
    SB_PER_SECOND,
    SB_PER_MINUTE,
    SB_PER_HOUR,
    SB_PER_DAY,
    SB_PER_MONTH,
    SB_PER_YEAR,
    SB_PERIODS,
};

struct sb_period_row {
    const char *name, *title;
    int64_t len_s; /* nominal: a month has 30 days, a year 365 */
};
extern const struct sb_period_row sb_period_rows[SB_PERIODS];

/* Seconds since 1970 at which the window began that now_s is in. */
int64_t sb_window_start(enum sb_period period, int64_t now_s);

/* -- what is counted: made when a config is compiled, immutable -- */

enum { SB_COUNT_ITEMS_MAX = 128 };

/* Requests, or what upstreams announce by one name. */
struct sb_count_item {
    struct sb_str name; /* "": requests */
    uint64_t tag;       /* stands for scope and name in the local store */
    double limit[SB_PERIODS];
    bool limited[SB_PERIODS];
};

enum sb_count_policy { SB_COUNT_LOCAL, SB_COUNT_CLUSTER, SB_COUNT_REDIS, SB_COUNT_SYNCED };

struct sb_count_set {
    bool announced;                     /* response-ratelimiting's */
    struct sb_str route_id, service_id; /* the instance's own; zeros where it has none */
    const struct sb_count_item *items;
    size_t nitems;
    enum sb_count_policy policy;
    const struct sb_redis_server *redis; /* of redis and synced */
    struct sb_shelf *shelf;              /* of synced */
    int64_t sync_ms;
};

/* From config's policy, redis, sync_rate; items: the array lives as long as the set, names and
 * limits are filled in. SB_INVALID and words: it can't count here. */
SB_MUST enum sb_rc sb_count_set_compile(const struct sb_plugin_source *in, bool announced,
                                        struct sb_count_item *items, size_t nitems,
                                        struct sb_count_set *out, struct sb_err *err);
/* second, minute ... of a config record. False: it has none. */
bool sb_count_limits(const struct sb_value *record, struct sb_count_item *item);

/* -- who: Kong's identifiers -- */

enum sb_limit_by {
    SB_BY_CONSUMER, /* else by the credential, else by the address; so all of them in the end */
    SB_BY_CREDENTIAL,
    SB_BY_IP,
    SB_BY_SERVICE,
    SB_BY_HEADER,
    SB_BY_PATH,
};
enum sb_limit_by sb_limit_by(struct sb_str name);
/* key: the header's name, or the path. Lives as long as the exchange. */
struct sb_str sb_limit_identifier(struct sb_exchange *x, enum sb_limit_by by, struct sb_str key);

/* -- one request -- */

/* The caller's, in the exchange's memory (sb_exchange_state), zeroed at first; it fills in the
 * first three before the first call. */
struct sb_tally {
    const struct sb_count_set *set;
    struct sb_str identifier;
    int64_t now_s;

    int64_t (*used)[SB_PERIODS]; /* per item, before this request */
    bool taken;                  /* sb_tally_take() counted it */

    /* The stores': */
    bool asked, done, direct;
    enum sb_rc rc;
    struct sb_tally_job *job;
};

/* Tells what is used and, where no limit is reached, counts the request: 1 in each limited window.
 * SB_OK; SB_AGAIN: return it from the hook, and call again; SB_UNAVAILABLE: the store is away
 * (logged). In access. */
SB_MUST enum sb_rc sb_tally_take(struct sb_exchange *x, struct sb_tally *t);
/* Only tells. */
SB_MUST enum sb_rc sb_tally_read(struct sb_exchange *x, struct sb_tally *t);
/* Counts a request that passes although its store is away; where that can still be done. */
void sb_tally_count(struct sb_exchange *x, const struct sb_tally *t);
/* Adds in all six windows of an announced item; nobody waits, failures are logged. In any phase. */
void sb_tally_add(struct sb_exchange *x, const struct sb_tally *t, size_t item, int64_t value);

/* A limit that is reached: the last one, by length of the window. False: none. */
bool sb_tally_full(const struct sb_count_item *item, const int64_t used[SB_PERIODS],
                   enum sb_period *which);

/* A count as Kong prints numbers: 5, 5.5. */
struct sb_str sb_count_text(struct sb_arena *a, double n);

/* -- a worker's: connections to the stores; rate-limiting's worker state -- */

void *sb_counting_new(struct event_base *loop, const struct sb_settings *settings);
void sb_counting_free(void *counting);

/* -- between the stores -- */

/* A question under way, begun by a store's own struct. Its exchange may end before its answer
 * comes. */
struct sb_tally_job {
    struct sb_exchange *x; /* NULL: nobody waits */
    struct sb_tally *tally;
    struct sb_tally_job *next, **link; /* all of the worker */
    void (*free)(struct sb_tally_job *job);
};
/* x NULL: nobody will wait. */
void sb_tally_job_begin(struct sb_tally_job *job, struct sb_counting *c, struct sb_exchange *x,
                        struct sb_tally *t);
/* The answer is there: frees the job, and the exchange goes on. */
void sb_tally_job_end(struct sb_tally_job *job, enum sb_rc rc);

struct sb_counting {
    struct event_base *loop;
    bool database; /* there is one */
    struct sb_pg_async *pg;
    int64_t statement_ms;
    const char *sql[4];
    struct sb_arena *arena;
    struct sb_redis *redis; /* made when first needed */
    struct sb_tally_job *jobs;
    struct sb_syncing *syncing; /* rounds of rate_counters_sync.c under way */
    int64_t told_ms;
};

/* Logs what went wrong with a store, at most every ten seconds. */
void sb_counting_tell(struct sb_counting *c, const char *store, const char *why);

#endif
