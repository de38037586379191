/* writer.h - the thread that talks to PostgreSQL, so that the loop never waits for it.
 *
 * The loop gives it one job at a time and gets the answer back as an event. Jobs carry an arena
 * that goes over with them and comes back; in between the loop keeps its hands off.
 *
 *   LEAD   connect if need be, take the next epoch (with `elect`: when we get the lock), load our
 * rows LOAD   connect, check that the epoch is still ours, load our rows WRITE  one transaction:
 * fence, puts (parents first), drops (children first)
 *
 * A session that broke leaves open whether its last COMMIT counted, so a failed WRITE is followed
 * by LOAD. An idle transaction is ended by the server after 5 s: a leader that is paused inside one
 * would keep its successor from taking over.
 */
#ifndef SB_CONTROLPLANE_SYNC_WRITER_H
#define SB_CONTROLPLANE_SYNC_WRITER_H

#include "schema/entity.h"
#include "shared/arena.h"
#include "shared/err.h"
#include "shared/pg.h"
#include "shared/vec.h"

struct event_base;
struct sb_writer;

enum sb_job_type { SB_JOB_LEAD, SB_JOB_LOAD, SB_JOB_WRITE };

struct sb_row_change {
    const struct sb_entity *kind;
    struct sb_str id;
    struct sb_value *row; /* NULL: drop */
    bool fresh;           /* not written by us yet: what is there already is somebody else's */
    void *owner;          /* the caller's */
    const char *refused;  /* out: why; NULL: done */
};

struct sb_found_row {
    const struct sb_entity *kind;
    const struct sb_value *row; /* as readers see it */
};

struct sb_job {
    enum sb_job_type type;
    struct sb_arena *arena;
    uint64_t epoch;                       /* in for LOAD and WRITE, out of LEAD */
    SB_VEC(struct sb_row_change) changes; /* in and out of WRITE */
    SB_VEC(struct sb_found_row) found;    /* out of LEAD and LOAD: rows under our tag */
    uint64_t version;                     /* out: of the commit, or as of now */
    /* SB_DENIED: the epoch is another's. SB_AGAIN: somebody else leads (only with `elect`). */
    enum sb_rc rc;
    struct sb_err err;
};

struct sb_writer_config {
    struct event_base *base;
    const struct sb_pg_config *pg;
    const char *tag, *identity;
    bool elect;
    void (*on_done)(void *arg, struct sb_job *job); /* on the loop; the job is the caller's again */
    void *arg;
};

struct sb_job *sb_job_new(enum sb_job_type type);
void sb_job_free(struct sb_job *job);

SB_MUST enum sb_rc sb_writer_start(const struct sb_writer_config *config, struct sb_writer **out,
                                   struct sb_err *err);
/* Waits for the job under way, which is freed without an answer. */
void sb_writer_stop(struct sb_writer *writer);
/* One at a time: the writer must not be busy. */
void sb_writer_give(struct sb_writer *writer, struct sb_job *job);
bool sb_writer_busy(const struct sb_writer *writer);

#endif
