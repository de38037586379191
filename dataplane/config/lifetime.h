/* lifetime.h - when may an object that snapshots share be freed?
 *
 * Snapshots are numbered 1, 2, 3 ... as they are built (a generation). An object is born in one and
 * dropped while a later one is built, so exactly the snapshots between reach it:
 *
 *     generation       1    2    3    4    5
 *     object           [ born 2 ... dropped 4 )
 *     still held            x              x     <- 2 is held by a slow exchange: the object stays
 *
 * Workers give snapshots back in any order. A dropped object waits at the newest snapshot that
 * reaches it; when that one is given back, it moves to the next older one that reaches it too, or
 * is freed. So no object is counted, and a change costs what it touches.
 *
 * One thread's; nothing is locked.
 */
#ifndef SB_DATAPLANE_CONFIG_LIFETIME_H
#define SB_DATAPLANE_CONFIG_LIFETIME_H

#include <stddef.h>
#include <stdint.h>

struct sb_lifetimes;

struct sb_lifetimes *sb_lifetimes_new(void);
/* Frees all that was dropped, whatever is held. */
void sb_lifetimes_free(struct sb_lifetimes *l);

/* The generation that is being built: what is born now carries it. 1 at first. */
uint64_t sb_lifetimes_now(const struct sb_lifetimes *l);
/* It is complete and held; returns its number. The next is being built from here on. */
uint64_t sb_lifetimes_publish(struct sb_lifetimes *l);
/* A published generation was given back. */
void sb_lifetimes_retire(struct sb_lifetimes *l, uint64_t generation);
/* The object is not part of the generation being built: calls fn(arg) once no held one reaches it,
 * which may be now. */
void sb_lifetimes_drop(struct sb_lifetimes *l, uint64_t born, void (*fn)(void *arg), void *arg);

size_t sb_lifetimes_held(const struct sb_lifetimes *l);    /* generations not given back */
size_t sb_lifetimes_waiting(const struct sb_lifetimes *l); /* dropped, but still reached */

#endif
