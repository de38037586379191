/* lookups.c - what the workers' look-ups share and count. Apart from workers.c, so that the config
 * thread can be run without any. */
#include "dataplane/plugins/credentials/lookup.h"
#include "dataplane/listen/worker.h"

const struct sb_credentials *sb_workers_credentials(const struct sb_workers *ws)
{
    return sb_lookups_shared(sb_workers_at(ws, 0)->lookups);
}

void sb_workers_lookups(const struct sb_workers *ws, struct sb_lookup_stats *out)
{
    *out = (struct sb_lookup_stats){0};
    for (unsigned i = 0; i < sb_workers_count(ws); i++)
        sb_lookups_add_stats(sb_workers_at(ws, i)->lookups, out);
}
