/* watch.h - keeps the cache equal to what an API server has, kind by kind.
 *
 *      list, page by page ──> watch from its resourceVersion ──> events
 *            ^                        |      | ends: again from the last seen version
 *            +--- 410, bad event -----+      | fails: the same, after a while
 *
 * Waits grow from 200 ms to 30 s, with jitter, and start over once bytes flow. A kind that the
 * server does not know (a CRD that is not installed) is empty and asked for again every 30 s.
 */
#ifndef SB_CONTROLPLANE_KUBE_WATCH_H
#define SB_CONTROLPLANE_KUBE_WATCH_H

#include "controlplane/kube/client.h"
#include "controlplane/kube/objects.h"

struct event_base;
struct sb_watch;

struct sb_watch_config {
    struct event_base *base;
    struct sb_kube *kube;
    struct sb_objects *objects;
    const char *const *namespaces;                         /* ended by NULL; NULL or empty: all */
    bool (*wanted)(void *arg, const struct sb_kind *kind); /* NULL: every kind */
    void (*on_synced)(void *arg);                          /* once: every kind was listed */
    void *arg;
};

/* Starts to follow all kinds. Texts of the config must live as long. */
struct sb_watch *sb_watch_start(const struct sb_watch_config *config);
void sb_watch_stop(struct sb_watch *watch);

/* The parser of a watch's stream alone: JSON objects, one a line, in pieces of any size.
 * on_event false ends the stream. Lines are at most 8 MiB. */
struct sb_watch_lines;
struct sb_watch_lines *sb_watch_lines_new(bool (*on_line)(void *arg, struct sb_str line),
                                          void *arg);
void sb_watch_lines_free(struct sb_watch_lines *lines);
bool sb_watch_lines_feed(struct sb_watch_lines *lines, struct sb_str bytes);

#endif
