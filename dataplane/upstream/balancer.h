/* balancer.h - which address of an upstream entity's targets gets the next request.
 *
 * A worker's own: wheels, counters and averages, built from the snapshot's description and rebuilt
 * when its generation or the addresses of its targets change; which addresses are fit is the
 * node's (health.h). Rules: reference/proxy-balancer.md.
 */
#ifndef SB_DATAPLANE_UPSTREAM_BALANCER_H
#define SB_DATAPLANE_UPSTREAM_BALANCER_H

#include "dataplane/upstream/upstream.h"

struct sb_balancer;
struct sb_hash_inputs;

/* The value that a request has for consistent hashing; called at most once a request. */
typedef uint32_t (*sb_hash_fn)(void *request, const struct sb_hash_inputs *inputs);

struct sb_balancer *sb_balancer_new(struct sb_worker *w);
void sb_balancer_free(struct sb_balancer *b);

/* Fills p. SB_AGAIN: a target's name is being resolved, and p->waiter is called; SB_NOTFOUND: no
 * usable address. */
SB_MUST enum sb_rc sb_balancer_pick(struct sb_balancer *b, const struct sb_upstream *up,
                                    struct sb_pick *p, sb_hash_fn hash, void *request);
/* The try on p->address is over. */
void sb_balancer_done(struct sb_pick *p);

/* What became of the try, for passive health checks; before sb_balancer_done(). */
void sb_balancer_report(struct sb_pick *p, enum sb_try_end end);
void sb_balancer_report_status(struct sb_pick *p, int status);

/* How many rings were built so far: what changes cost. */
uint64_t sb_balancer_builds(const struct sb_balancer *b);

#endif
