/* push.h - without a database: the same entities as one declarative document, posted to the /config
 * of each gateway (reference/kic-operations.md 4.1).
 *
 * A gateway gets the document when it differs from what it last took, and again when it has come up
 * empty, which its /status tells. Entities that a gateway refuses are reported on their objects and
 * left out, and the rest is sent again; a gateway that refuses it all keeps what it had.
 */
#ifndef SB_CONTROLPLANE_SYNC_PUSH_H
#define SB_CONTROLPLANE_SYNC_PUSH_H

#include "controlplane/sync/sync.h"
#include "shared/http_client.h"

struct sb_push;

struct sb_push_config {
    struct event_base *base;
    struct sb_http *http;
    struct sb_objects *objects;
    const struct sb_translate_settings *translate;
    const char *const *urls; /* of Admin APIs, ended by NULL */
    const char *token;       /* Kong-Admin-Token; NULL: none */
    int timeout_ms;
    void (*on_written)(void *arg, uint64_t version); /* every gateway took it; version 0 */
    void (*on_failure)(void *arg, struct sb_str object, struct sb_str message, bool refused);
    void *arg;
};

/* Texts must live as long. */
struct sb_push *sb_push_start(const struct sb_push_config *config);
void sb_push_stop(struct sb_push *push);
/* The cache holds all there is at start; nothing is posted before. */
void sb_push_warm(struct sb_push *push);
bool sb_push_is_broken(const struct sb_push *push, struct sb_str object);
/* `leading` once warm; epoch and version are 0. */
void sb_push_stats(const struct sb_push *push, struct sb_sync_stats *out);

#endif
