/* pending.h - the questions that are under way in this process: one query for each of them,
 * whichever workers want its answer.
 *
 *     worker 1   take: ours ----> query ------------------> settle
 *     worker 2   take: waits behind it                        |----> box of 2 --eventfd--> told()
 *     worker 3   take: waits behind it                        '----> box of 3 --eventfd--> told()
 *
 * Nobody waits behind a query that was sent before something was declared invalid and whose answer
 * may be from before that (cache.h): who asks then has a claim of his own, and later ones wait
 * behind it. Whoever takes a claim looks into the cache once more: the answer is stored before the
 * claim on it ends.
 *
 * A claim belongs to a worker, inside what the worker knows of the question. What is known never
 * comes here, and where nobody waits no descriptor is touched.
 */
#ifndef SB_DATAPLANE_PLUGINS_CREDENTIALS_PENDING_H
#define SB_DATAPLANE_PLUGINS_CREDENTIALS_PENDING_H

#include "dataplane/plugins/credentials/cache.h"

struct event_base;
struct sb_pending;
struct sb_claim;

struct sb_pending *sb_pending_new(struct sb_cache *cache);
void sb_pending_free(struct sb_pending *p); /* after the boxes */

/* Where a worker is told, on its loop. The claim is nobody's again: its rc, and with SB_OK rows and
 * consumer (NULL: none), whose holds go to told(). Other rcs: as settled; SB_AGAIN: nobody will
 * answer, ask yourself. */
struct sb_claim_box;
struct sb_claim_box *sb_claim_box_new(struct sb_pending *p, struct event_base *base,
                                      void (*told)(struct sb_claim *claim));
void sb_claim_box_free(struct sb_claim_box *box); /* NULL, or no claim of it is taken */

/* Zeroed at first, but for the key. */
struct sb_claim {
    struct sb_lookup_key key;
    struct sb_cache_ticket ticket; /* of when it was taken */
    enum sb_rc rc;
    struct sb_rows *rows, *consumer;

    /* pending.c's */
    enum { SB_CLAIM_NONE, SB_CLAIM_OURS, SB_CLAIM_WAITS, SB_CLAIM_TOLD } state;
    struct sb_claim_box *box;
    struct sb_claim *chain;        /* of ours, in the table */
    struct sb_claim *first;        /* of ours: who waits behind it */
    struct sb_claim *next, **link; /* among those, then in the box */
};

/* True: ours; ask, put the answer into the cache, and settle. False: another worker is asking, and
 * told() will be called. */
bool sb_claim_take(struct sb_claim *claim, struct sb_claim_box *box);
/* The answer to a claim that is ours. Rows are the caller's. */
void sb_claim_settle(struct sb_claim *claim, enum sb_rc rc, struct sb_rows *rows,
                     struct sb_rows *consumer);
/* Nobody here wants the answer any more. If it was ours those who wait behind it are told SB_AGAIN.
 * Any state. */
void sb_claim_leave(struct sb_claim *claim);

#endif
