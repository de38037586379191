/* resolver_cache.h - inside upstream/: what the resolver remembers of names, and who waits for
 * them.
 *
 * (I1) A name that is being asked about, or waited for, is not evicted. (I2) A list that a name
 * showed is replaced, never changed, and its generation with it.
 */
#ifndef SB_DATAPLANE_UPSTREAM_RESOLVER_CACHE_H
#define SB_DATAPLANE_UPSTREAM_RESOLVER_CACHE_H

#include "dataplane/upstream/resolver.h"
#include "shared/map.h"

enum { SB_NAME_LEN_MAX = 253, SB_NAME_TYPES_MAX = 6 };

enum sb_name_known { SB_NAME_UNKNOWN, SB_NAME_FOUND, SB_NAME_MISSING, SB_NAME_FAILED };

/* What a name shows. */
struct sb_name_list {
    struct sb_resolved_record *records;
    size_t n;
    unsigned total;
    enum sb_dns_type type;
};

/* A record of an SRV answer, whose name is being resolved. */
struct sb_name_srv {
    struct sb_waiter waiter;
    struct sb_name *of;
    uint16_t port, weight;
    char name[SB_DNS_NAME_MAX + 2]; /* the key of its entry */
};

struct sb_name {
    struct sb_name *newer, *older; /* by use */
    struct sb_resolver *r;
    struct sb_name_cache *cache;
    struct sb_str name; /* behind the struct */
    enum sb_name_known known;
    bool querying, fixed; /* fixed: from the hosts file */
    int64_t expires_ms, stale_until_ms;
    uint64_t generation;
    unsigned turn;
    struct sb_name_list list;
    struct sb_waiter *waiters;
    enum sb_dns_type types[SB_NAME_TYPES_MAX]; /* still to ask for, ended by 0 */
    enum sb_dns_type asked, last;              /* last: what had an answer */
    bool saw_failure;                          /* of a type that mattered */
    struct sb_name_srv *srv;
    size_t nsrv;
    int64_t srv_expires_ms;
    char text[];
};

struct sb_name_cache {
    struct sb_map names;
    struct sb_name *newest, *oldest;
    size_t count, max;
    uint64_t generation;
};

/* The name's entry, made if need be; lower case. At most SB_DNS_NAME_MAX + 1 bytes. */
struct sb_name *sb_name_of(struct sb_name_cache *c, struct sb_resolver *r, struct sb_str name);
void sb_name_cache_release(struct sb_name_cache *c);

/* Copies the records; the generation moves when they differ from those before. */
void sb_name_set(struct sb_name *e, const struct sb_resolved_record *records, size_t n,
                 enum sb_dns_type type);
void sb_name_set_address(struct sb_name *e, const union sb_sockaddr *addr);
/* Nothing any more. */
void sb_name_clear(struct sb_name *e);
void sb_name_drop_srv(struct sb_name *e);

void sb_name_wait(struct sb_name *e, struct sb_waiter *waiter);
/* Those who wait may wait anew, for the same name: only the ones there now are woken. */
void sb_name_wake(struct sb_name *e);

#endif
