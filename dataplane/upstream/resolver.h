/* resolver.h - names to addresses, without blocking: the hosts file, then DNS, as Kong's clients do
 * it (reference/proxy-balancer.md 5).
 *
 *     dns_order      LAST,SRV,A,CNAME: types in turn until one has an answer; LAST is the one that
 *                    had it the last time. CNAMEs are followed wherever they come. AAAA comes at
 *                    the end where the order does not name it.
 *     new_dns_client SRV for names like _http._tcp.x only, else the addresses of resolver_family
 *     search lists   resolv.conf's, all of them for one type before the next type
 *
 * A cache of one loop's own, bounded; answers live by their TTL (dns_valid_ttl overrides; at least
 * a second, so that a TTL of 0 is not a query a request), failures for dns_not_found_ttl or
 * dns_error_ttl; an expired answer is served for dns_stale_ttl while one query renews it. Equal
 * questions share one query.
 */
#ifndef SB_DATAPLANE_UPSTREAM_RESOLVER_H
#define SB_DATAPLANE_UPSTREAM_RESOLVER_H

#include "dataplane/upstream/address.h"
#include "dataplane/upstream/dns_answer.h"
#include "shared/err.h"

struct event_base;
struct sb_resolver;
struct sb_settings;

/* Someone who waits for a name. Zeroed: waits for nothing. */
struct sb_waiter {
    struct sb_waiter *next, **link;
    void (*ready)(struct sb_waiter *waiter); /* ask again */
};

struct sb_resolved_record {
    union sb_sockaddr addr; /* port 0 */
    struct sb_str srv;      /* the name of an SRV record; "" for others */
    bool alone;             /* it stands for this address only */
    uint16_t port;          /* of an SRV record; 0: the asker's */
    uint16_t weight;        /* 1 for what is not SRV */
};

struct sb_resolved {
    const struct sb_resolved_record *records; /* of SRV: the lowest priority's */
    size_t n;
    enum sb_dns_type type;
    unsigned *turn;      /* of the cache entry: sb_resolved_turn() */
    unsigned total;      /* weight */
    uint64_t generation; /* differs after every change of the list */
};

/* settings are read during the call only. now_ms(arg): the loop's clock. */
struct sb_resolver *sb_resolver_new(struct event_base *base, const struct sb_settings *settings,
                                    int64_t (*now_ms)(void *arg), void *arg);
void sb_resolver_free(struct sb_resolver *r);

/* SB_OK: *out, valid until the loop goes on. SB_AGAIN: waiter->ready is called later. SB_NOTFOUND:
 * no such name or no address; SB_UNAVAILABLE: the servers failed. Without waiter: never SB_AGAIN
 * but SB_UNAVAILABLE. */
SB_MUST enum sb_rc sb_resolver_get(struct sb_resolver *r, struct sb_str name,
                                   struct sb_waiter *waiter, struct sb_resolved *out);
void sb_waiter_cancel(struct sb_waiter *waiter);

/* Takes the records in turn, by weight: each its share of every round, well mixed. */
const struct sb_resolved_record *sb_resolved_turn(const struct sb_resolved *found);

#endif
