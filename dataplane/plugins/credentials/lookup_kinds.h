/* lookup_kinds.h - what can be looked up, as a table: which rows, by which column, and for how long
 * an answer may be remembered.
 */
#ifndef SB_DATAPLANE_PLUGINS_CREDENTIALS_LOOKUP_KINDS_H
#define SB_DATAPLANE_PLUGINS_CREDENTIALS_LOOKUP_KINDS_H

#include "dataplane/plugins/credentials/credentials.h"
#include "schema/entity.h"
#include "shared/arena.h"

enum { SB_LOOKUP_VALUE_MAX = 8192, SB_LOOKUP_TABLES = 10, SB_REMEMBER_NOT = -1 };

struct sb_lookup_kind {
    const char *entity;
    const char *field;    /* whose value is given */
    const char *column;   /* as the invalidation log names it */
    unsigned table;       /* 0 .. SB_LOOKUP_TABLES - 1: kinds of one table have the same */
    bool list;            /* any number of rows, not one at most */
    bool uuid;            /* values are UUIDs */
    bool brings_consumer; /* in the same query */
    bool additions;       /* the log tells of new rows: so that there are none can be remembered */
    int64_t max_ms;       /* an answer may be remembered so long; 0: no limit of its own */
};

const struct sb_lookup_kind *sb_lookup_kind(enum sb_lookup by);
/* The entity of the rows: found once. Any thread. */
const struct sb_entity *sb_lookup_entity(enum sb_lookup by);

/* A value in the form in which it is asked for and remembered: UUIDs in lower case, in *room.
 * False: no row can have it. */
bool sb_lookup_normalise(enum sb_lookup by, struct sb_str *value, char room[37]);

/* The query for one value ($1), rows as sb_row_select gives them, then those of the consumer.
 * schema: NULL for the session's. In the arena. */
const char *sb_lookup_sql(struct sb_arena *a, enum sb_lookup by, const char *schema);
/* The same for an array of values; rows of one value come together. */
const char *sb_lookup_sql_many(struct sb_arena *a, enum sb_lookup by, const char *schema);
/* The next so many values ($2) that there are, behind one ($1: "" or the UUID of zeros at first).
 */
const char *sb_lookup_sql_values(struct sb_arena *a, enum sb_lookup by, const char *schema);

#endif
