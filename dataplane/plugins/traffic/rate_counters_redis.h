/* rate_counters_redis.h - counters in Redis, under Kong's keys:
 *
 *     ratelimit:<route>:<service>:<identifier>:<start in ms>:<period>
 *     response-ratelimit:<route>:<service>:<identifier>:<start in ms>:<name>:<period>
 *
 * Each step is one script on all windows of a request, so that it is one journey and no other
 * request comes between looking and counting. A key lives as long as its window is, from when it
 * was made.
 */
#ifndef SB_DATAPLANE_PLUGINS_TRAFFIC_RATE_COUNTERS_REDIS_H
#define SB_DATAPLANE_PLUGINS_TRAFFIC_RATE_COUNTERS_REDIS_H

#include "dataplane/plugins/traffic/rate_counters.h"

SB_MUST enum sb_rc sb_redis_take(struct sb_exchange *x, struct sb_tally *t);
SB_MUST enum sb_rc sb_redis_read(struct sb_exchange *x, struct sb_tally *t);
void sb_redis_add(struct sb_exchange *x, const struct sb_tally *t, size_t item, int64_t value);

/* -- for rate_counters_sync.c -- */

struct sb_str sb_redis_key(struct sb_arena *a, const struct sb_tally *t, size_t item,
                           enum sb_period period);
/* The worker's connections. */
struct sb_redis *sb_counting_redis(struct sb_exchange *x, struct sb_counting *c);

#endif
