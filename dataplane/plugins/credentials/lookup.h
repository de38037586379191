/* lookup.h - a worker's questions to the database.
 *
 *     exchange --ask--> flight: one query, and everyone who wants its answer
 *                         |
 *     source 17 [f f f f f f f f]  --\      round robin: each source in turn, at most a quarter
 *     source 42 [f]                ---+---> of the pipeline for one of them
 *     source 99 [f f]              --/
 *
 * What another worker is asking already is not asked again: the flight waits for its answer
 * (pending.h).
 *
 * A source is a client's address (of IPv6 its /64), hashed to one of 256 queues. Who floods us with
 * keys that nobody knows waits in a queue of their own, and is refused when that is full; what is
 * cached never comes here.
 *
 * Belongs to its worker.
 */
#ifndef SB_DATAPLANE_PLUGINS_CREDENTIALS_LOOKUP_H
#define SB_DATAPLANE_PLUGINS_CREDENTIALS_LOOKUP_H

#include "dataplane/plugins/credentials/cache.h"
#include "shared/pg_async.h"

struct event_base;
struct sb_credentials;
struct sb_flight;
struct sb_lookups;

enum {
    SB_LOOKUP_DEPTH = 256,         /* queries in flight, unless pg_max_concurrent_queries says */
    SB_LOOKUP_SOURCE_SHARE = 4,    /* of these, one part in so many for one source */
    SB_LOOKUP_SOURCE_QUEUE = 1024, /* that wait, of one source */
};

/* Someone who waits. Zeroed at first. */
struct sb_asker {
    struct sb_asker *next, **link; /* among those of the flight */
    struct sb_flight *flight;      /* NULL: does not wait */
    /* SB_OK, rows NULL: there is none; consumer: came along, or NULL. Both are the flight's: hold
     * them. Else SB_UNAVAILABLE. */
    void (*answered)(struct sb_asker *a, enum sb_rc rc, struct sb_rows *rows,
                     struct sb_rows *consumer);
};

/* Counted since the start. */
struct sb_lookup_stats {
    uint64_t asked;   /* flights */
    uint64_t joined;  /* who waited for the flight of another, here or in another worker */
    uint64_t refused; /* for the database was down, or the source's queue full */
    uint64_t answered;
    struct sb_pg_async_stats reads, writes;
};

struct sb_lookups *sb_lookups_new(struct event_base *base, const struct sb_credentials *shared);
/* Nobody may wait any more. */
void sb_lookups_free(struct sb_lookups *l);

/* SB_AGAIN: answered() will be called, later. SB_UNAVAILABLE: the database is down, or the source
 * has too many waiting. value: as sb_lookup_normalise leaves it; copied. */
SB_MUST enum sb_rc sb_lookups_ask(struct sb_lookups *l, const struct sb_lookup_key *key,
                                  struct sb_str value, struct sb_str client_ip, struct sb_asker *a);
void sb_asker_leave(struct sb_asker *a);

/* For write.c. */
struct sb_writing;
struct sb_pg_async *sb_lookups_writer(struct sb_lookups *l);
struct sb_writing **sb_lookups_writings(struct sb_lookups *l); /* those under way */
const struct sb_credentials *sb_lookups_shared(const struct sb_lookups *l);
bool sb_lookups_down(const struct sb_lookups *l);
/* Any thread. */
void sb_lookups_add_stats(const struct sb_lookups *l, struct sb_lookup_stats *sum);

#endif
