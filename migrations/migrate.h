/* migrate.h - the state of a database's schema, and how it is moved on.
 *
 * Program and planes see the same state. A plane asks once, at start:
 *
 *     rc = sb_migrate_check(pg, &pending, &err);      err says what to do, in Kong's words
 *
 * Which databases are taken: an empty schema; one that this program or Kong 3.9 has made, whichever
 * plugins it was made with. Refused, with words: an older Kong's (Kong's own migrations lead from
 * there to 3.9, and know the data), a newer one's, Kong Enterprise's, and a schema in which
 * somebody else's tables have the names of ours.
 *
 * All calls block for at most the session's timeout per statement.
 */
#ifndef SB_MIGRATIONS_MIGRATE_H
#define SB_MIGRATIONS_MIGRATE_H

#include <stdbool.h>

#include "shared/arena.h"
#include "shared/buf.h"
#include "shared/err.h"
#include "shared/pg.h"

enum { SB_PG_VERSION_MIN = 100000 }; /* transition tables came with PostgreSQL 10 */

/* Kong's words, which scripts look for. */
#define SB_SAY_NEEDS_BOOTSTRAP                                                                     \
    "Database needs bootstrapping or is older than Kong 1.0.\n\n"                                  \
    "To start a new installation from scratch, run 'kong migrations bootstrap'."
#define SB_SAY_NEW     "New migrations available; run 'kong migrations up' to proceed"
#define SB_SAY_PENDING "Database has pending migrations; run 'kong migrations finish'"

enum sb_migration_status {
    SB_MIGRATION_NEW,
    SB_MIGRATION_EXECUTED,
    SB_MIGRATION_PENDING, /* up is done, finish is not */
    SB_MIGRATION_MISSING, /* not recorded although later ones are */
    SB_MIGRATION_STATES,
};

struct sb_migrate_state {
    bool needs_bootstrap;
    bool has_meta; /* there is a schema_meta table, with anything in it or not */
    bool foreign;  /* ... which is not Kong's */
    struct sb_str schema, database;
    struct sb_str refusal;            /* why this database is not for us; empty when it is */
    enum sb_migration_status *status; /* of each row of sb_migrations */
    size_t count[SB_MIGRATION_STATES];
};

/* Reads the state; everything lives in the arena. A refusal is a state, not a failure. */
SB_MUST enum sb_rc sb_migrate_state(struct sb_pg *pg, struct sb_arena *a,
                                    struct sb_migrate_state *out, struct sb_err *err);

/* SB_INVALID, with the words, for a database that is not for us. */
SB_MUST enum sb_rc sb_migrate_refuse(const struct sb_migrate_state *s, struct sb_err *err);

/* May a plane start on this database? SB_OK, and *pending says that an upgrade is under way ("run
 * 'kong migrations finish' when ready"); or SB_INVALID with the words to stop with. */
SB_MUST enum sb_rc sb_migrate_check(struct sb_pg *pg, bool *pending, struct sb_err *err);

/* How to go about it. say: a line for the user, without its line end; NULL: silence. */
struct sb_migrate_options {
    double lock_timeout_s; /* how long the cluster lock lives, and how long `up` waits for it */
    bool force;
    void (*say)(const char *line);
};

/* The verbs. SB_CONFLICT: another node is at it ("aborted: ..."). Each reads the state itself; what
 * there was to say was said, also when there was nothing to do. */
SB_MUST enum sb_rc sb_migrate_bootstrap(struct sb_pg *pg, const struct sb_migrate_options *o,
                                        struct sb_err *err);
SB_MUST enum sb_rc sb_migrate_up(struct sb_pg *pg, const struct sb_migrate_options *o,
                                 struct sb_err *err);
SB_MUST enum sb_rc sb_migrate_finish(struct sb_pg *pg, const struct sb_migrate_options *o,
                                     struct sb_err *err);
/* SB_NOTFOUND: nothing to reset. */
SB_MUST enum sb_rc sb_migrate_reset(struct sb_pg *pg, const struct sb_migrate_options *o,
                                    struct sb_err *err);

/* The program: argv[0] is its name, argv[1] the verb. Returns the exit code. */
int sb_migrations_main(int argc, char **argv);

#endif
