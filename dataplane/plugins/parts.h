/* parts.h - what the workers' look-ups share: the cache, how to reach the database, the queries.
 * Made before the workers, freed after them and after the config thread.
 */
#ifndef SB_DATAPLANE_PLUGINS_PARTS_H
#define SB_DATAPLANE_PLUGINS_PARTS_H

#include "dataplane/plugins/credentials/cache.h"
#include "dataplane/plugins/credentials/pending.h"
#include "shared/pg.h"
#include "shared/settings.h"

/* Immutable but for the cache, and what is under way. */
struct sb_credentials {
    struct sb_arena *arena;
    struct sb_cache *cache;             /* NULL: no database */
    struct sb_pending *pending;         /* with a cache */
    struct sb_pg_config reader, writer; /* the replica, where there is one; the primary */
    const char *sql[SB_LOOKUPS];
    int depth;        /* queries in flight, per worker */
    int64_t queue_ms; /* how long a look-up may wait for its turn */
};

/* Settings are read during the call only: database, mem_cache_size, db_cache_*, db_resurrect_ttl,
 * pg_*, pg_ro_*. */
struct sb_credentials *sb_credentials_new(const struct sb_settings *settings);
void sb_credentials_free(struct sb_credentials *c);

#endif
