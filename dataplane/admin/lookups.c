#include "dataplane/admin/lookups.h"

#include <inttypes.h>

#include "dataplane/plugins/credentials/lookup.h"
#include "dataplane/plugins/parts.h"

void sb_admin_add_lookups(struct sb_buf *b, const struct sb_workers *workers)
{
    const struct sb_credentials *shared = sb_workers_credentials(workers);
    struct sb_cache_stats c;
    struct sb_lookup_stats l;

    if (!shared->cache)
        return;
    sb_cache_stats(shared->cache, &c);
    sb_workers_lookups(workers, &l);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"cache_limit_bytes", "gauge", "What the cache may take: mem_cache_size", c.limit},
        {"cache_bytes", "gauge", "What it takes", c.bytes + c.fixed},
        {"cached", "gauge", "Answers with rows", c.rows},
        {"cached_absences", "gauge", "Answers that there is no such row", c.absent},
        {"hits_total", "counter", "Look-ups answered by the cache with rows", c.hits},
        {"absences_total", "counter", "Look-ups answered by the cache: no such row", c.absences},
        {"misses_total", "counter", "Look-ups that it could not answer", c.misses + c.stale},
        {"evicted_total", "counter", "Answers thrown out for room", c.evicted},
        {"invalidated_total", "counter", "Answers that ended because a row changed", c.invalidated},
        {"queries_total", "counter", "Look-ups sent to the database", l.reads.queries},
        {"query_batches_total", "counter", "Round trips that they took", l.reads.syncs},
        {"joined_total", "counter", "Look-ups that shared the query of another", l.joined},
        {"refused_total", "counter", "Look-ups refused: database down, or too many of a source",
         l.refused},
        {"writes_total", "counter", "Rows that plugins wrote", l.writes.queries},
        {"connects_total", "counter", "Connections made to the database",
         l.reads.connects + l.writes.connects},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        sb_buf_printf(b,
                      "# HELP silverback_credentials_%s %s\n# TYPE silverback_credentials_%s %s\n"
                      "silverback_credentials_%s %" PRIu64 "\n",
                      rows[i].name, rows[i].help, rows[i].name, rows[i].type, rows[i].name,
                      rows[i].value);
}
