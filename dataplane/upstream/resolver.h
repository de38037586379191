/* resolver.h - names to addresses, without blocking: hosts file, then DNS (A, else AAAA).
 *
 * A worker's own cache, bounded; answers live by their TTL (dns_valid_ttl overrides), failures for
 * dns_not_found_ttl or dns_error_ttl; an expired answer is served for dns_stale_ttl while one query
 * renews it. Equal questions share one query.
 */
#ifndef SB_DATAPLANE_UPSTREAM_RESOLVER_H
#define SB_DATAPLANE_UPSTREAM_RESOLVER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"
#include "shared/str.h"

struct sb_worker;
struct sb_resolver;

union sb_sockaddr {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

/* Someone who waits for a name. Zeroed: waits for nothing. */
struct sb_waiter {
    struct sb_waiter *next, **link;
    void (*ready)(struct sb_waiter *waiter); /* ask again */
};

struct sb_resolved {
    const union sb_sockaddr *addrs; /* ports are 0 */
    size_t n;
    unsigned *turn;      /* of the cache entry: for taking addresses in turn */
    uint64_t generation; /* differs after every change of the list */
};

struct sb_resolver *sb_resolver_new(struct sb_worker *w);
void sb_resolver_free(struct sb_resolver *r);

/* SB_OK: *out, valid until the loop goes on. SB_AGAIN: waiter->ready is called later. SB_NOTFOUND:
 * no such name or no address; SB_UNAVAILABLE: the servers failed. Without waiter: never SB_AGAIN
 * but SB_UNAVAILABLE. */
SB_MUST enum sb_rc sb_resolver_get(struct sb_resolver *r, struct sb_str name,
                                   struct sb_waiter *waiter, struct sb_resolved *out);
void sb_waiter_cancel(struct sb_waiter *waiter);

/* An address as text ("10.0.0.1", "::1", "[::1]"): false when it is none. */
bool sb_address_parse(struct sb_str text, uint16_t port, union sb_sockaddr *out);

#endif
