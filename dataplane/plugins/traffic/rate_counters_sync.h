/* rate_counters_sync.h - counters of this process that are in step with Redis every sync_rate.
 *
 *     entry    one window's key | known: what Redis said last | fresh: ours, not there yet |
 *              flying: ours, on its way there
 *
 *     request      known + flying + fresh against the limit; then fresh + 1. No journey, unless
 *                  nothing was heard of the key for a sync_rate: then Redis is read first
 *     every        the worker that counted first after the last round sends what is fresh, and
 *     sync_rate    hears what is known now
 *
 * A shelf has the entries of one server, shared by all workers and all instances that count there;
 * its lock is held for as long as it takes to look at six of them. Bounded: where it is full,
 * requests go to Redis one by one. What could not be sent stays fresh and is sent the next time.
 */
#ifndef SB_DATAPLANE_PLUGINS_TRAFFIC_RATE_COUNTERS_SYNC_H
#define SB_DATAPLANE_PLUGINS_TRAFFIC_RATE_COUNTERS_SYNC_H

#include "dataplane/plugins/traffic/rate_counters.h"

enum { SB_SHELF_MAX = 100000 };

struct sb_shelf;

/* The server's, made when there is none; as often as it is held it must be dropped. Any thread. */
struct sb_shelf *sb_shelf_hold(const struct sb_redis_server *server);
void sb_shelf_drop(struct sb_shelf *s);
const struct sb_redis_server *sb_shelf_server(const struct sb_shelf *s);

SB_MUST enum sb_rc sb_synced_take(struct sb_exchange *x, struct sb_tally *t);
/* Counts without looking, for a request that passed although Redis is away. */
void sb_synced_add(struct sb_exchange *x, const struct sb_tally *t);

/* The worker ends: what is on its way counts as not sent. After its connections were closed. */
void sb_syncings_forget(struct sb_counting *c);

/* -- the arithmetic, for the unit test; any thread -- */

struct sb_shelf_window {
    struct sb_str key;
    double limit;
    int64_t len_s; /* how long it is kept, from when it was made */
    int64_t used;  /* filled in */
};

/* SB_OK: used is filled in, and *taken says whether it was counted in all of them; SB_NOTFOUND:
 * read Redis first; SB_TOOLARGE: the shelf is full. *plan: the caller must sync, sync_ms later. */
SB_MUST enum sb_rc sb_shelf_take(struct sb_shelf *s, struct sb_shelf_window *w, size_t n,
                                 int64_t now_ms, int64_t sync_ms, bool *taken, bool *plan);
/* What Redis says of a key. */
void sb_shelf_learn(struct sb_shelf *s, const struct sb_shelf_window *w, int64_t known,
                    int64_t now_ms);
/* Counts 1; not where there is no room. */
void sb_shelf_add(struct sb_shelf *s, const struct sb_shelf_window *w, int64_t now_ms, bool *plan);
/* The round that was planned does not begin. */
void sb_shelf_unplan(struct sb_shelf *s);

/* Begins the round that was planned: what was fresh flies, up to max keys (copied into the arena).
 * SIZE_MAX: another round is under way, and the plan stands. */
struct sb_shelf_delta {
    struct sb_str key;
    int64_t delta, len_s;
};
size_t sb_shelf_begin(struct sb_shelf *s, struct sb_arena *a, struct sb_shelf_delta *out,
                      size_t max, int64_t now_ms);
/* One of them landed: what is known now; or it did not (ok false), and is fresh again. */
void sb_shelf_landed(struct sb_shelf *s, const struct sb_shelf_delta *d, bool ok, int64_t known,
                     int64_t now_ms);
/* The round is over. True: there is more, and the next one is planned: the caller must begin it. */
bool sb_shelf_end(struct sb_shelf *s);

#endif
