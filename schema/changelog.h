/* changelog.h - reading what changed in the database: DESIGN, "Every committed change has a
 * version" and "Two kinds of rows, two logs". How it is written:
 * migrations/silverback/000_change_log.sql.
 *
 * Configuration: a follower remembers the version and the mark that it is at (both 0: nothing yet).
 *
 *     LISTEN silverback_changes                 payload: the version; or poll
 *     BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
 *     sb_changes_read(...)                      reload ? every table : sb_store_rows() of each
 * change COMMIT                                    now it is at changes.version, changes.mark
 *
 * Ids of a change that sb_store_rows() does not give are gone. The transaction makes it the state
 * of exactly one version.
 *
 * Consumers and credentials: a reader remembers `upto` and drops what it is told from its cache. It
 * reads when notified (LISTEN silverback_invalidations), soon again while unsettled, and every
 * db_update_frequency in any case.
 *
 * Both block for one statement. Results live in the arena.
 */
#ifndef SB_SCHEMA_CHANGELOG_H
#define SB_SCHEMA_CHANGELOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/pg.h"

struct sb_change {
    struct sb_str table;
    bool all;           /* the whole table; else: */
    struct sb_str *ids; /* without duplicates, whichever way they changed */
    size_t nids;
};

struct sb_changes {
    int64_t version, mark; /* reached once the changes are applied */
    bool reload;           /* the log does not reach back: load everything; there is no list */
    struct sb_change *list;
    size_t n; /* one a table; 0: nothing is new */
};

SB_MUST enum sb_rc sb_changes_read(struct sb_pg *pg, struct sb_arena *a, int64_t version,
                                   int64_t mark, struct sb_changes *out, struct sb_err *err);

/* Tells every node that listens, this one too: a log level, for so long (0: until it is told
 * otherwise). What it looks like in a notification's payload: SB_LEVEL_NOTICE "debug 60000". */
#define SB_LEVEL_NOTICE "log-level "
SB_MUST enum sb_rc sb_changes_tell_level(struct sb_pg *pg, const char *level, int64_t ms,
                                         struct sb_err *err);

struct sb_invalidation {
    struct sb_str table;
    bool added;          /* rows are new: only what is remembered as absent ends */
    bool all;            /* whatever is cached of the table; else: */
    struct sb_str *keys; /* "column=value" of each column by which rows are looked up */
    size_t nkeys;
};

struct sb_invalidations {
    struct sb_str upto; /* give it back the next time */
    bool restart;       /* forget everything; there is no list */
    bool unsettled;     /* additions are under way that nobody will announce: look again soon */
    struct sb_invalidation *list;
    size_t n;
};

/* since: the last upto; empty the first time. */
SB_MUST enum sb_rc sb_invalidations_read(struct sb_pg *pg, struct sb_arena *a, struct sb_str since,
                                         struct sb_invalidations *out, struct sb_err *err);

#endif
