/* sync.h - from changed objects to committed rows.
 *
 *   cache --changes--> dirty --translate--> entities --validate, number--> rows
 *                                                        | differ from what was last written?
 *                                                        v
 *                                      writer thread: BEGIN, fence, puts, drops, COMMIT
 *
 * The loop's thread owns the cache, the dirty set and what was last written; the writer thread owns
 * the PostgreSQL session. While a transaction is under way changes gather, and go out together in
 * the next. What a new leader finds in the database under our tag counts as last written, so a
 * hand-over writes only what differs. Rows of others are never touched.
 *
 * An entity that the schema or the database refuses is reported on its object and left out, with
 * what hangs on it; everything else goes through.
 */
#ifndef SB_CONTROLPLANE_SYNC_SYNC_H
#define SB_CONTROLPLANE_SYNC_SYNC_H

#include <stdint.h>

#include "controlplane/kube/objects.h"
#include "shared/err.h"
#include "shared/pg.h"

struct event_base;
struct sb_translate_settings;
struct sb_sync;

struct sb_sync_config {
    struct event_base *base;
    struct sb_objects *objects;
    const struct sb_translate_settings *translate;
    const struct sb_pg_config *pg;
    const char *tag;      /* the managed tag; NULL: managed-by-ingress-controller */
    const char *identity; /* who leads, for the epoch row */
    bool elect;           /* lead as soon as the database lets us (there is no Lease) */
    /* The rows equal the objects as of now: after a commit, or when a change needed none. */
    void (*on_written)(void *arg, uint64_t version);
    /* Somebody else has a newer epoch: we must not lead any more. Not called with `elect`. */
    void (*on_fenced)(void *arg);
    /* A problem of an object, "Ingress/ns/name": once until it was gone, and once more by whoever
     * takes the lead. refused: by the schema or the database, not by the translation. */
    void (*on_failure)(void *arg, struct sb_str object, struct sb_str message, bool refused);
    void *arg;
};

/* Texts and what config points to must live as long. */
SB_MUST enum sb_rc sb_sync_start(const struct sb_sync_config *config, struct sb_sync **out,
                                 struct sb_err *err);
/* Waits for a transaction under way. */
void sb_sync_stop(struct sb_sync *sync);

/* The cache holds all there is at start; nothing is written before. */
void sb_sync_warm(struct sb_sync *sync);
/* We lead: take an epoch and write; or we don't any more. With `elect` nobody calls this. */
void sb_sync_lead(struct sb_sync *sync, bool leading);

/* Whether something is wrong with the object, "Ingress/ns/name", as of the last translation. */
bool sb_sync_is_broken(const struct sb_sync *sync, struct sb_str object);

struct sb_sync_stats {
    bool leading;
    uint64_t epoch, version; /* of our leadership; of the last write */
    uint64_t writes, failed_writes, rows_put, rows_dropped;
    uint64_t translations;
    uint64_t broken_objects;
    int64_t last_write_ms; /* since 1970; 0: none */
};
void sb_sync_stats(const struct sb_sync *sync, struct sb_sync_stats *out);

#endif
