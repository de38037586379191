/* worker.h - what a worker thread owns. For the engine's own files (listen, http, upstream).
 *
 * Nothing here is shared, so nothing is locked; the exceptions are the message queue (one mutex,
 * off the request path) and the counters, which others may read at any time.
 *
 *     base      one event loop, one event a socket
 *     big       the buffer that responses and bodies pass through on their way
 *     snap      what new exchanges begin with; older ones live while exchanges use them
 *     pools     clients, exchanges and upstream connections are taken and given back, not allocated
 */
#ifndef SB_DATAPLANE_LISTEN_WORKER_H
#define SB_DATAPLANE_LISTEN_WORKER_H

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "dataplane/config/snapshot.h"
#include "dataplane/listen/io.h"
#include "dataplane/listen/options.h"
#include "dataplane/listen/timer.h"
#include "dataplane/listen/workers.h"

struct sb_access_log;
struct sb_client;
struct sb_exchange;
struct sb_h2;
struct sb_health;
struct sb_plugin_states;
struct sb_lookups;
struct sb_resolver;
struct sb_tls;
struct sb_upstreams;

enum { SB_BIG_LEN = 256 * 1024, SB_SCRATCH_LEN = 64 * 1024 };

/* One published snapshot, shared by the workers; freed by the last that leaves it. */
struct sb_publication {
    const struct sb_snapshot *snap;
    void (*retired)(void *arg, const struct sb_snapshot *snap);
    void *arg;
    atomic_uint holders; /* workers, and the health checker */
};

/* One holder less; the last one retires it. */
void sb_publication_leave(struct sb_publication *p);

/* A worker's hold on a publication. */
struct sb_hold {
    struct sb_publication *publication; /* NULL: the empty snapshot of the start */
    const struct sb_snapshot *snap;
    unsigned users; /* exchanges, and 1 for being current */
};

enum sb_message_kind { SB_MSG_SNAPSHOT, SB_MSG_DRAIN, SB_MSG_STOP };

struct sb_message {
    struct sb_message *next;
    enum sb_message_kind kind;
    struct sb_publication *publication;
    int64_t idle_ms; /* of a drain */
};

struct sb_listener {
    struct sb_listener *next; /* of the worker's */
    const struct sb_listen *listen;
    struct sb_worker *w;
    int fd;
    struct event event;
    struct sb_timer pause; /* until descriptors are free again */
};

struct sb_free_list {
    void *first; /* chained through each block's first pointer */
    unsigned count;
};

struct sb_worker {
    struct sb_workers *all;
    unsigned index;
    pthread_t thread;
    const struct sb_proxy_options *o;
    struct sb_tls *tls;
    struct event_base *base;

    bool now_valid; /* in this round of the loop */
    int64_t now_ms, now_us;
    char *big;     /* SB_BIG_LEN */
    char *scratch; /* SB_SCRATCH_LEN: heads while they are put together */

    struct sb_hold *hold;
    struct sb_wheel wheel;
    struct sb_free_list exchanges, clients, upconns, streams, calls;
    struct sb_h2 *dirty_h2;         /* sessions to flush when the round ends */
    struct sb_client *first_client; /* all open ones */
    unsigned nclients, waiting;     /* waiting: between two requests */
    struct {                        /* TLS handshakes under way, the oldest first */
        struct sb_client *first, **last;
        unsigned count;
    } half_open;
    struct sb_upstreams *upstreams;
    struct sb_resolver *resolver;
    struct sb_health *health;         /* of all workers; has its own rules for threads */
    struct sb_lookups *lookups;       /* of consumers and credentials */
    struct sb_access_log *access_log; /* NULL: off */
    struct sb_plugin_states *plugins;
    uint64_t random[4]; /* request ids: not secrets */
    time_t date_s;      /* the second that date was made for */
    char date[32], local_date[32];

    struct sb_listener *listeners;
    bool open; /* the listeners accept */
    bool draining, stopping;
    int64_t drain_idle_ms; /* how long idle connections stay while draining */

    struct {
        pthread_mutex_t lock;
        struct sb_message *first, **last;
    } shared;
    int wake_fd;
    struct event wake;

    struct sb_proxy_stats stats;
};

/* The clock, read at most once a round of the loop. */
void sb_worker_read_clock(struct sb_worker *w);

static inline int64_t sb_now_ms(struct sb_worker *w)
{
    if (!w->now_valid)
        sb_worker_read_clock(w);
    return w->now_ms;
}

/* Counters: one writer, any reader. */
static inline void sb_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* A Date header's value, made once a second. */
struct sb_str sb_worker_date(struct sb_worker *w);
struct sb_str sb_worker_local_date(struct sb_worker *w); /* 31/Jan/2026:23:59:59 +0000 */

uint64_t sb_worker_random(struct sb_worker *w);

/* Blocks of one size, the newest given back first. */
void *sb_pool_take(struct sb_free_list *list, size_t len);
void sb_pool_give(struct sb_free_list *list, void *block, unsigned keep_max);
void sb_pool_release(struct sb_free_list *list);

/* An exchange's use of the current snapshot. */
struct sb_hold *sb_worker_hold(struct sb_worker *w);
void sb_worker_unhold(struct sb_worker *w, struct sb_hold *hold);

const struct sb_worker *sb_workers_at(const struct sb_workers *ws, unsigned i);

/* From any thread: a message to every worker, the last of whom frees the publication. */
void sb_workers_hand_out(struct sb_workers *ws, struct sb_publication *p);

/* Called by clients that close, so that draining can end. */
void sb_worker_client_gone(struct sb_worker *w);

void sb_io_init(void); /* once a process, before the first worker */

#endif
