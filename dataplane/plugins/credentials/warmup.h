/* warmup.h - db_cache_warmup_entities: consumers and credentials that are in the cache before
 * anybody comes with one.
 *
 *     values, a page at a time --tickets--> their rows --> cache, until it is nearly full
 *
 * On a thread and a connection of its own, beside the workers; what is asked for meanwhile is
 * looked up as ever. Entities that a snapshot has are there already, and nothing is done for them.
 */
#ifndef SB_DATAPLANE_PLUGINS_CREDENTIALS_WARMUP_H
#define SB_DATAPLANE_PLUGINS_CREDENTIALS_WARMUP_H

#include "dataplane/plugins/parts.h"

struct sb_warmup;

/* To be called once invalidations are read: what is stored from here on is forgotten in time. NULL:
 * there is nothing to do. Settings are read during the call only; shared must outlive it. */
struct sb_warmup *sb_warmup_start(const struct sb_credentials *shared,
                                  const struct sb_settings *settings);
/* NULL is nothing to do. May block for one statement. */
void sb_warmup_stop(struct sb_warmup *w);

#endif
