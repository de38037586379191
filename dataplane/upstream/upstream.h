/* upstream.h - where requests go: targets, and the connections to them.
 *
 *   service.host is an address      that address, service.port
 *   service has an upstream entity  its balancer's next address (balancer.h)
 *   else                            the resolver's addresses in turn, service.port
 *
 * Idle connections wait in pools, newest first, one pool per address and set of TLS properties
 * (SNI, verification, depth, CA set, client certificate), so that a connection is never used for a
 * request that would have made it differently. All of it is one worker's.
 */
#ifndef SB_DATAPLANE_UPSTREAM_UPSTREAM_H
#define SB_DATAPLANE_UPSTREAM_UPSTREAM_H

#include <netinet/in.h>

#include "dataplane/listen/worker.h"
#include "dataplane/upstream/resolver.h"

struct sb_address;
struct sb_exchange;
struct sb_h2_pools;
struct sb_pool;
struct sb_ring;
struct sb_service;
struct sb_tls_client;

enum { SB_PICK_TRIED_MAX = 8 };

/* A picked target. */
struct sb_pick {
    union sb_sockaddr addr;
    struct sb_str name; /* for Host and SNI: a name, or an address as text */
    bool is_ip;
    uint16_t port;
    struct sb_ring *ring;       /* the balancer that picked; NULL: no upstream entity */
    struct sb_address *address; /* what it picked */
    int64_t picked_ms;
    bool hashed; /* consistent hashing: the value is taken once a request */
    uint32_t hash;
    uint8_t
        ntried; /* addresses that this request was sent to: others are better for the next try */
    union sb_sockaddr tried[SB_PICK_TRIED_MAX];
    struct sb_waiter waiter; /* for a name being resolved */
};

struct sb_upconn {
    struct sb_io io; /* first */
    struct sb_worker *w;
    struct sb_pool *pool;
    struct sb_exchange *x;          /* NULL: idle */
    struct sb_upconn *next, **link; /* in the pool's idle list */
    uint64_t requests;
    bool connecting, handshaking, reused;
    struct sb_timer timer; /* idle */
};

struct sb_upstreams *sb_upstreams_new(struct sb_worker *w);
void sb_upstreams_free(struct sb_upstreams *ups);
struct sb_h2_pools *sb_upstreams_h2(struct sb_upstreams *ups); /* h2_upstream.h */

/* Fills x->pick for x->service. SB_AGAIN: the exchange is run again when a name was resolved.
 * SB_NOTFOUND: no usable target; SB_INVALID: the name does not exist; SB_UNAVAILABLE: the resolver
 * failed. */
SB_MUST enum sb_rc sb_upstream_pick(struct sb_exchange *x);
/* The try is over: lets go of what the pick holds. */
void sb_upstream_done(struct sb_exchange *x);

/* What passive health checks hear, before the try is over (reference/proxy-balancer.md 6.4). */
enum sb_try_end { SB_TRY_BROKEN, SB_TRY_TIMEOUT };

/* The try broke, and another one follows. */
void sb_upstream_report(struct sb_exchange *x, enum sb_try_end end);
/* The last try's: the upstream's status, or the 502 or 504 that we answer in its place. */
void sb_upstream_report_status(struct sb_exchange *x, int status);

/* A connection to x->pick: from the pool, or a new one that is still connecting. NULL: cannot even
 * start. */
struct sb_upconn *sb_upstream_take(struct sb_exchange *x);
/* Goes on connecting: SB_OK ready for the request, SB_AGAIN, SB_IO. */
SB_MUST enum sb_rc sb_upstream_connect(struct sb_upconn *u);
/* Back to the pool, or closed. */
void sb_upstream_give(struct sb_upconn *u, bool reusable);

/* -- for h2_upstream.h, whose connections are made alike -- */

/* What a connection to x->pick depends on. */
struct sb_upstream_key {
    struct sb_tls_client *tls; /* NULL: plain */
    size_t len;
    bool full;
    char text[1024];
};

bool sb_upstream_is_tls(const struct sb_service *s);
/* False: there can be none, for want of a certificate, say. */
bool sb_upstream_key(const struct sb_exchange *x, struct sb_upstream_key *k);
/* The name that TLS is about: SNI, and what the certificate must be for. An address is not sent. */
struct sb_str sb_upstream_sni(const struct sb_exchange *x);
/* A connection under way: its descriptor, or -1. */
int sb_upstream_dial(const union sb_sockaddr *a);

enum { SB_UPSTREAM_HOST_MAX = 512 };

/* The Host header for x->pick (proxy-router.md 7): its length in out; 0 when it does not fit. */
size_t sb_upstream_host(const struct sb_exchange *x, char out[SB_UPSTREAM_HOST_MAX]);

#endif
