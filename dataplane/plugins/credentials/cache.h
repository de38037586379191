/* cache.h - what was looked up, remembered by the whole process within a bound.
 *
 *     key ---> shard (a short lock) ---> rows        as many as fit; a clock throws out
 *              |                         absent      a table of fixed size, beside them
 *              +-- stamps: how often something here was declared invalid
 *
 * Rows and absences do not compete for room: strangers who guess keys fill the table of absences,
 * and push out each other. Neither holds the value that was asked for, only a keyed hash of it, and
 * comparing two takes the same steps whatever they are: nothing can be learnt about stored keys by
 * measuring.
 *
 * Who asks the database takes a ticket first and brings the answer back with it. What was declared
 * invalid in between may have been read before it changed, and is not stored:
 *
 *     ticket ---- query ---- row read ---- (row changes, log is read) ---- put: refused
 *
 * "All of this table" costs one counter: what was stored under an older edition is not found any
 * more. New rows end what is known to be absent, and lists.
 *
 * Any thread; nothing blocks longer than the few steps under a shard's lock.
 */
#ifndef SB_DATAPLANE_PLUGINS_CREDENTIALS_CACHE_H
#define SB_DATAPLANE_PLUGINS_CREDENTIALS_CACHE_H

#include "dataplane/plugins/credentials/rows.h"
#include "schema/changelog.h"

struct sb_cache;

struct sb_cache_options {
    size_t bytes; /* mem_cache_size: all that the cache takes from the system */
    /* db_cache_ttl, db_cache_neg_ttl, db_resurrect_ttl; the first two 0: without end */
    int64_t ttl_ms, absent_ttl_ms, resurrect_ms;
};

struct sb_cache *sb_cache_new(const struct sb_cache_options *options);
void sb_cache_free(struct sb_cache *c);

struct sb_lookup_key sb_cache_key(const struct sb_cache *c, enum sb_lookup by, struct sb_str value);

static inline bool sb_lookup_key_eq(const struct sb_lookup_key *a, const struct sb_lookup_key *b)
{
    return !((a->hash[0] ^ b->hash[0]) | (a->hash[1] ^ b->hash[1]) | (uint64_t)(a->by ^ b->by));
}

enum sb_cached {
    SB_CACHED_NOT,
    SB_CACHED_ROWS,
    SB_CACHED_ABSENT, /* there is no such row */
    SB_CACHED_STALE,  /* rows whose time is over: to be used when the database does not answer */
};

/* Rows come with a hold for the caller. */
enum sb_cached sb_cache_get(struct sb_cache *c, const struct sb_lookup_key *key, int64_t now_ms,
                            struct sb_rows **rows);

/* Whether somebody has brought the answer since a look that found nothing: true, rows as above or
 * NULL for absent. Not counted as a look-up. */
bool sb_cache_brought(struct sb_cache *c, const struct sb_lookup_key *key, int64_t now_ms,
                      struct sb_rows **rows);

struct sb_cache_ticket {
    uint64_t all, added, changed;
    uint32_t stamp;
};

struct sb_cache_ticket sb_cache_ask(struct sb_cache *c, const struct sb_lookup_key *key);
/* Whether the answer that it stands for may still be stored. */
bool sb_cache_valid(struct sb_cache *c, const struct sb_lookup_key *key,
                    const struct sb_cache_ticket *ticket);
/* Stores rows (the cache takes a hold of its own), or with NULL that there are none. */
void sb_cache_put(struct sb_cache *c, const struct sb_lookup_key *key,
                  const struct sb_cache_ticket *ticket, struct sb_rows *rows, int64_t now_ms);
/* Rows that come along with an answer, so that whose they are is not known when it is asked: a
 * ticket for any of their table, which each change of a row of that table ends. */
struct sb_cache_ticket sb_cache_ask_any(struct sb_cache *c, enum sb_lookup by);
void sb_cache_put_any(struct sb_cache *c, const struct sb_lookup_key *key,
                      const struct sb_cache_ticket *ticket, struct sb_rows *rows, int64_t now_ms);
/* The database did not answer: these stale rows are good for another db_resurrect_ttl. False: that
 * is 0. */
bool sb_cache_resurrect(struct sb_cache *c, struct sb_rows *rows, int64_t now_ms);

/* Nobody tells any more what ends: nothing is found from here on, nothing stored. */
void sb_cache_close(struct sb_cache *c);

/* By the log, and by who has just written. */
void sb_cache_forget(struct sb_cache *c, const struct sb_lookup_key *key);
void sb_cache_forget_all(struct sb_cache *c);
void sb_cache_invalidate(struct sb_cache *c, const struct sb_invalidation *what);

struct sb_cache_stats {
    size_t limit;          /* bytes */
    size_t bytes, fixed;   /* of rows; of the tables beside them, the absences' included */
    uint64_t rows, absent; /* blocks; absences remembered, also those that are over */
    uint64_t hits, absences, stale, misses;
    uint64_t stored, refused, evicted, invalidated;
    uint64_t compared; /* keys */
};
void sb_cache_stats(struct sb_cache *c, struct sb_cache_stats *out);

#endif
