/* rows.h - the answer to a look-up: rows in one block of memory, counted, never changed.
 *
 *     | struct sb_rows | struct sb_found ... | values, members, strings |     one malloc
 *
 * Whoever keeps one has a count of its own: the cache, and each exchange that it was found for. The
 * first fields are the cache's, which keeps the block itself in its lists.
 */
#ifndef SB_DATAPLANE_PLUGINS_CREDENTIALS_ROWS_H
#define SB_DATAPLANE_PLUGINS_CREDENTIALS_ROWS_H

#include <stdatomic.h>

#include "dataplane/plugins/credentials/credentials.h"
#include "dataplane/plugins/credentials/lookup_kinds.h"
#include "dataplane/plugins/phase.h"
#include "shared/value.h"

/* What was asked: the kind, and a keyed hash of the value. */
struct sb_lookup_key {
    uint64_t hash[2];
    enum sb_lookup by;
};

struct sb_rows {
    struct sb_rows *chain;          /* of the cache's bucket */
    struct sb_rows *before, *after; /* in the cache's ring */
    struct sb_lookup_key key;
    uint64_t all, added; /* the edition of the table that it was read from */
    int64_t stale_ms;    /* when to ask again; INT64_MAX: never */
    unsigned used;

    atomic_uint holders;
    size_t size;        /* bytes from the system */
    int64_t expires_ms; /* the clock's (not the wall's), of the row that expires first; INT64_MAX */
    size_t n;
    struct sb_found row[];
};

/* Collects rows and makes a block of them. */
struct sb_row_values {
    enum sb_lookup by;
    const struct sb_value **values; /* n rows; a member "ttl" is the seconds that are left */
    size_t n;
};
/* Made with one holder. */
struct sb_rows *sb_rows_build(const struct sb_row_values *values, int64_t now_ms);

static inline struct sb_rows *sb_rows_hold(struct sb_rows *rows)
{
    atomic_fetch_add_explicit(&rows->holders, 1, memory_order_relaxed);
    return rows;
}
/* Frees it with the last holder. NULL is nothing to do. */
void sb_rows_drop(struct sb_rows *rows);

#endif
