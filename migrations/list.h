/* list.h - all migrations, in the order in which they run.
 *
 * A row is one migration of a subsystem, as recorded in schema_meta. Kong's are here with what they
 * come to in 3.9.1: the first of a subsystem makes everything, the others are only recorded. Ours
 * are the subsystem "silverback", which Kong ignores. A migration has an up part, with which
 * programs of the release before still work, and a finishing part for when they are gone.
 *
 * To add one of ours: a row at the end, migrations/silverback/NNN_name.sql and NNN_name.finish.sql;
 * both must stand being run again. (000 has no finishing part: the release before it is Kong.)
 */
#ifndef SB_MIGRATIONS_LIST_H
#define SB_MIGRATIONS_LIST_H

#include <stdbool.h>

struct sb_migration {
    const char *subsystem, *name;
    const char *up;     /* SQL; NULL: nothing to do */
    const char *finish; /* SQL; NULL: finished with up */
    bool pending_null;  /* Kong leaves schema_meta.pending NULL here, not {} */
};

/* Rows of one subsystem stand together; ended by subsystem NULL. */
extern const struct sb_migration sb_migrations[];

#define SB_MIGRATIONS_OURS "silverback"

#endif
