/* lease.h - which of several controllers leads: a coordination.k8s.io Lease
 * (reference/kic-operations.md 3: lease 15 s, renewed every 2 s, given up after 10 s without).
 *
 * Expiry is measured on our own clock from when we saw the holder's last renewal, so clocks of
 * different nodes need not agree. Every write carries the resourceVersion that it answers. The
 * Lease is released on stop, so that the next leader need not wait.
 *
 * A lease alone does not keep a paused leader from writing; the epoch row in the database does.
 */
#ifndef SB_CONTROLPLANE_KUBE_LEASE_H
#define SB_CONTROLPLANE_KUBE_LEASE_H

#include <stdbool.h>

#include "controlplane/kube/client.h"

struct event_base;
struct sb_lease;

struct sb_lease_config {
    struct event_base *base;
    struct sb_kube *kube;
    const char *ns, *name;                        /* "default", "5b374a9e.konghq.com" */
    const char *identity;                         /* host name, "_", uuid */
    int duration_ms, renew_deadline_ms, retry_ms; /* 0: 15,000, 10,000 and 2,000 */
    void (*on_leading)(void *arg);
    void (*on_lost)(void *arg); /* not after sb_lease_stop */
    void *arg;
};

struct sb_lease *sb_lease_start(const struct sb_lease_config *config);
/* Gives the Lease back if we hold it, then calls done (from the loop, at most 2 s later). */
void sb_lease_stop(struct sb_lease *lease, void (*done)(void *arg), void *arg);
bool sb_lease_leading(const struct sb_lease *lease);

#endif
