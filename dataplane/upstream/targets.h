/* targets.h - the addresses that an upstream's targets stand for, as far as their names are
 * resolved (reference/proxy-balancer.md 4).
 *
 *   10.0.0.1:80     itself
 *   a name          an address a record, each with the target's port and weight
 *   a name of SRV   an address a record of the lowest priority, with the record's port and weight
 */
#ifndef SB_DATAPLANE_UPSTREAM_TARGETS_H
#define SB_DATAPLANE_UPSTREAM_TARGETS_H

#include "dataplane/config/snapshot.h"
#include "dataplane/upstream/resolver.h"
#include "shared/arena.h"

struct sb_target_address {
    union sb_sockaddr addr;
    const struct sb_target *target; /* of the set's copy */
    struct sb_str name;             /* for Host and SNI */
    struct sb_str text;             /* how the hash ring calls it: "10.0.0.1", "[::1]", SRV name */
    bool is_ip;                     /* name is an address */
    uint16_t port;
    unsigned weight;
};

struct sb_targets {
    struct sb_target *targets; /* copies: they outlive the snapshot */
    size_t ntargets;
    struct sb_target_address *addresses; /* in the order of targets */
    size_t naddresses;
    uint64_t total_weight;
    bool has_names;
    struct sb_target_names *names; /* per target */
};

/* Never waits: names that are not known yet have no addresses, and their resolving is begun. */
void sb_targets_build(struct sb_targets *t, struct sb_arena *a, struct sb_resolver *r,
                      const struct sb_upstream *up);
/* Whether some name's answer is another one now. Asking also renews answers that expired. */
bool sb_targets_changed(const struct sb_targets *t, struct sb_resolver *r);
/* SB_AGAIN: a name is on its way, and waiter is called. SB_NOTFOUND: there is none to wait for. */
SB_MUST enum sb_rc sb_targets_wait(const struct sb_targets *t, struct sb_resolver *r,
                                   struct sb_waiter *waiter);
/* Where the i-th target's addresses come from: "A", "AAAA", "SRV", or what went wrong. */
const char *sb_targets_source(const struct sb_targets *t, size_t i);

#endif
