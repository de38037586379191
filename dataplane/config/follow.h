/* follow.h - keeping the model equal to the database.
 *
 *              connect                changes since 41?               none, or log pruned
 *     away  ------------->  caught up  ------------->  delta to 42  ------------------->  load
 *       ^                      |    LISTEN woke us, or it is time
 *       +---- connection lost -+
 *
 * A load and a delta each read in one REPEATABLE READ transaction, so that the model is always the
 * state of one version. A follower polls every db_update_frequency seconds even when it listens:
 * that finds a connection that died without a word, and a notification that got lost on its way.
 *
 * With pg_ro_host it reads from the replica, which cannot notify: it polls, or follows the
 * primary's notifications when that answers. Behind a transaction pooler it polls.
 *
 * The config thread's: calls block for at most pg_timeout a statement.
 */
#ifndef SB_DATAPLANE_CONFIG_FOLLOW_H
#define SB_DATAPLANE_CONFIG_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/config/model.h"
#include "dataplane/plugins/credentials/cache.h"
#include "shared/err.h"
#include "shared/settings.h"
#include "shared/uuid.h"

struct sb_follower;

struct sb_follow_state {
    uint64_t version; /* that the model has; 0: none yet, or it is between two: not to be shown */
    uint64_t newest;  /* the newest one that was heard of */
    bool connected, listening;
    uint64_t loads, deltas;
    int64_t mark; /* of the version, in the change log: tells a past that a restore cut off */
};

/* The model is empty, or holds a saved state: then say which (saved). What the database declares
 * invalid ends in the cache; it may be NULL. */
struct sb_follower *sb_follower_new(const struct sb_settings *settings, const struct sb_uuid *node,
                                    struct sb_model *model, struct sb_cache *cache);
void sb_follower_free(struct sb_follower *f);
void sb_follower_saved(struct sb_follower *f, uint64_t version, int64_t mark);

/* What people told other nodes about the health of targets (notified on silverback_health); see
 * sb_health_checker_hear. Where nobody notifies us, nothing is heard. */
void sb_follower_on_word(struct sb_follower *f, void (*heard)(void *arg, struct sb_str word),
                         void *arg);

/* Brings the model up to date if there is reason to look: it is not connected and may try again,
 * was notified, woken (look), or it is time to poll. *changed: the model has a new version. On
 * failure it will be tried again; what is wrong is told once per outage, later failures of it give
 * SB_OK. */
SB_MUST enum sb_rc sb_follower_step(struct sb_follower *f, bool look, bool *changed,
                                    struct sb_err *err);
/* What it waits for: sockets that become readable (at most 2; returns how many), and how long until
 * the next step is due. */
int sb_follower_wait(struct sb_follower *f, int fds[2], int *timeout_ms);

/* Tells silverback_nodes what this node serves. A failure is of no consequence: it is told again.
 */
void sb_follower_report(struct sb_follower *f, uint64_t served);
/* The node is going: its row need not count any more. */
void sb_follower_goodbye(struct sb_follower *f);

const struct sb_follow_state *sb_follower_state(const struct sb_follower *f);

#endif
