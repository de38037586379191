/* rate_counters_local.h - counters of one process, shared by its workers.
 *
 * A table of fixed size: its memory is its bound (16 MiB, of which only what is used is resident;
 * Kong's is 12 MB). A counter is one cache line: a keyed hash of who it is, and six windows. Where
 * a bucket is full, one whose windows are over makes room, else the one that was used longest ago.
 * So nothing has to be swept.
 *
 *     bucket  [ line | line | ... 8 ]     a lock guards every 256th bucket, for the time that it
 *                                         takes to look at eight lines
 *
 * Any thread; no call allocates, and an uncontended one makes no system call.
 */
#ifndef SB_DATAPLANE_PLUGINS_TRAFFIC_RATE_COUNTERS_LOCAL_H
#define SB_DATAPLANE_PLUGINS_TRAFFIC_RATE_COUNTERS_LOCAL_H

#include "dataplane/plugins/traffic/rate_counters.h"

struct sb_counters;

/* buckets: a power of two; 0: the bound above. */
struct sb_counters *sb_counters_new(size_t buckets);
void sb_counters_free(struct sb_counters *c);
/* The process' own; lives as long. */
struct sb_counters *sb_counters_shared(void);

/* Fills used (0 where there is no limit) and, when no limit is reached, counts 1 in each window
 * that has one: true. */
bool sb_counters_take(struct sb_counters *c, const struct sb_count_item *item,
                      struct sb_str identifier, int64_t now_s, int64_t used[SB_PERIODS]);
void sb_counters_read(struct sb_counters *c, const struct sb_count_item *item,
                      struct sb_str identifier, int64_t now_s, int64_t used[SB_PERIODS]);
void sb_counters_add(struct sb_counters *c, const struct sb_count_item *item,
                     struct sb_str identifier, int64_t now_s, int64_t value);

/* A number that stands for that text in this process. */
uint64_t sb_counters_tag(const struct sb_counters *c, struct sb_str text);

#endif
