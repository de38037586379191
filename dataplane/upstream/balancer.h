/* balancer.h - which address of an upstream entity's targets gets the next request.
 *
 * A worker's own: wheels, counters and averages, built from the snapshot's description and rebuilt
 * when its generation or the addresses of its targets change. Rules: reference/proxy-balancer.md.
 */
#ifndef SB_DATAPLANE_UPSTREAM_BALANCER_H
#define SB_DATAPLANE_UPSTREAM_BALANCER_H

#include "dataplane/upstream/upstream.h"

struct sb_balancer;

struct sb_balancer *sb_balancer_new(struct sb_worker *w);
void sb_balancer_free(struct sb_balancer *b);

/* Fills x->pick. SB_AGAIN: a target's name is being resolved; SB_NOTFOUND: no usable address. */
SB_MUST enum sb_rc sb_balancer_pick(struct sb_balancer *b, struct sb_exchange *x);
/* The try on x->pick.address is over. */
void sb_balancer_done(struct sb_exchange *x);

void sb_sockaddr_set_port(union sb_sockaddr *addr, uint16_t port);

#endif
