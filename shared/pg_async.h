/* pg_async.h - a PostgreSQL session on an event loop: many queries in flight, nothing blocks.
 *
 *     send --> waiting --(end of this round of the loop)--> pipeline --> done()
 *                 ^                                            |
 *                 +---------- connection broke, may repeat ----+
 *
 * What was sent in one round of the loop travels together, with one Sync at its end; when one of
 * them fails, those behind it are sent again by themselves.
 *
 *     OFF --send--> CONNECTING --> UP --lost--> CONNECTING ...
 *                       | failed
 *                       v
 *                     DOWN   refuses at once; tries again by itself, sooner or later
 *
 * Connecting blocks (name, TCP, TLS, password: sb_pg_connect), so a thread of its own does it and
 * hands the session over. Behind a transaction pooler statements are not prepared, and what
 * pg_schema says is set with each query that asks for it.
 *
 * Belongs to its loop's thread.
 */
#ifndef SB_SHARED_PG_ASYNC_H
#define SB_SHARED_PG_ASYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "shared/pg.h"

struct event_base;
struct sb_pg_async;

enum { SB_PG_PARAMS_MAX = 8, SB_PG_STATEMENTS_MAX = 32 };

/* A query under way. The caller's, and so is what it points to, until done is called; zeroed at
 * first. */
struct sb_pg_task {
    const char *sql;
    int statement;                        /* 0 .. SB_PG_STATEMENTS_MAX - 1: sql is always the same
                                             under that number, and prepared; -1: not prepared */
    const char *params[SB_PG_PARAMS_MAX]; /* text; NULL: SQL NULL */
    int nparams;
    bool may_repeat;     /* it only reads: asked again when the connection breaks */
    bool needs_schema;   /* names tables without their schema */
    int64_t deadline_ms; /* sb_clock_ms() */
    /* rows: only when rc is SB_OK, and only during the call. rc otherwise as of sb_pg_query, with
     * the words in err. May send again, also itself. */
    void (*done)(struct sb_pg_task *task, enum sb_rc rc, const struct sb_pg_rows *rows,
                 const struct sb_err *err);

    /* pg_async's */
    struct sb_pg_task *next;
    int groups; /* results that are still to come */
    bool prepares, got;
    int repeats;
    enum sb_rc rc;
    void *result;
};

struct sb_pg_async_stats {
    uint64_t queries, syncs, connects, failures;
};

/* Strings of config are copied. Connects with the first task. */
struct sb_pg_async *sb_pg_async_new(struct event_base *base, const struct sb_pg_config *config);
/* Tasks under way are forgotten; done is not called any more. */
void sb_pg_async_free(struct sb_pg_async *pg);

/* SB_OK: done will be called, never before this returns. SB_UNAVAILABLE: the database is down. */
SB_MUST enum sb_rc sb_pg_async_send(struct sb_pg_async *pg, struct sb_pg_task *task);

bool sb_pg_async_down(const struct sb_pg_async *pg);
const struct sb_pg_async_stats *sb_pg_async_stats(const struct sb_pg_async *pg);

#endif
