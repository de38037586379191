/* invalidate.h - reading the log of invalidations: what ends in the cache of credentials.
 *
 * It is read when the database notifies, soon again while transactions are under way that nobody
 * will announce, and every db_update_frequency in any case. The watermark stays over a lost
 * connection, so what happened meanwhile is caught up with. From a replica, which follows the
 * primary's notifications with a delay, it is read a few more times after each.
 *
 * Where look-ups may reach a replica that lags behind the one that is read here, an answer from
 * before a change can come after the change was heard of: db_update_propagation seconds long, and
 * at most twice that, everything is heard of again.
 *
 * The config thread's.
 */
#ifndef SB_DATAPLANE_CONFIG_INVALIDATE_H
#define SB_DATAPLANE_CONFIG_INVALIDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/plugins/credentials/cache.h"
#include "shared/pg.h"

struct sb_invalidator;

/* replica: what is read is not what notifies. */
struct sb_invalidator *sb_invalidator_new(struct sb_cache *cache, int64_t poll_ms,
                                          int64_t propagation_ms, bool replica);
void sb_invalidator_free(struct sb_invalidator *v);

/* There is a notification, or a new connection: look at once. */
void sb_invalidator_wake(struct sb_invalidator *v);
/* Reads the log if it is time to. Blocks for one statement. */
SB_MUST enum sb_rc sb_invalidator_step(struct sb_invalidator *v, struct sb_pg *pg,
                                       struct sb_err *err);
int64_t sb_invalidator_next_ms(const struct sb_invalidator *v); /* when it is due */

#endif
