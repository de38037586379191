/* rate_counters_cluster.h - counters in PostgreSQL: Kong's tables ratelimiting_metrics and
 * response_ratelimiting_metrics, a row for each window.
 *
 * What is used is read in the request's way, all windows in one statement; what is counted is
 * written behind its back (an upsert), and a failure is only logged. Both go to the primary over
 * one pipelined connection of the worker's, so a worker always sees its own counts; between workers
 * and nodes a burst may pass the limit by what is on its way, as with Kong. Expired rows go: of
 * ratelimiting_metrics by the table's trigger, of the other one when its identifier is counted
 * again.
 *
 * An identifier that a text column can't hold, or no index row, is counted by its SHA-256.
 */
#ifndef SB_DATAPLANE_PLUGINS_TRAFFIC_RATE_COUNTERS_CLUSTER_H
#define SB_DATAPLANE_PLUGINS_TRAFFIC_RATE_COUNTERS_CLUSTER_H

#include "dataplane/plugins/traffic/rate_counters.h"

struct sb_settings;

void sb_cluster_open(struct sb_counting *c, const struct sb_settings *settings);

SB_MUST enum sb_rc sb_cluster_take(struct sb_exchange *x, struct sb_tally *t);
SB_MUST enum sb_rc sb_cluster_read(struct sb_exchange *x, struct sb_tally *t);
void sb_cluster_add(struct sb_exchange *x, const struct sb_tally *t, size_t item, int64_t value);

#endif
