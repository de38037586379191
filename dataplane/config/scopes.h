/* scopes.h - where each plugin applies, and the chains that follow from it.
 *
 * Routes with the same set of instances share a chain. Most have none of their own, so what they
 * share is that of the global plugins; the others are told apart by their route and service:
 *
 *     (no own, no own)     chain 0     global instances; all other routes, however many
 *     (no own, service s)  chain 3     + those of s
 *     (route r, service s) chain 7     + those of r (and of s)
 *
 * A route carries the number of its chain, and the snapshot has a table from numbers to chains: a
 * changed instance makes anew the chains that it is in and no route. Only when a route or a service
 * gets its first instance or loses its last one, do its routes move to another number.
 *
 * One thread's, as the builder whose part it is.
 */
#ifndef SB_DATAPLANE_CONFIG_SCOPES_H
#define SB_DATAPLANE_CONFIG_SCOPES_H

#include "dataplane/config/lifetime.h"
#include "dataplane/config/snapshot.h"
#include "dataplane/plugins/plugin.h"

struct sb_scopes;

/* moved: the route of that id (or, service: every route of that service) must ask for its chain
 * again. Called by sb_scopes_settle. */
struct sb_scopes *sb_scopes_new(struct sb_lifetimes *l,
                                void (*moved)(void *arg, bool service, struct sb_str id),
                                void *arg);
void sb_scopes_free(struct sb_scopes *s);

/* An instance comes into force, or goes. It must live until the end of the build that removes it;
 * a changed one is removed as it was and added as it is. */
void sb_scopes_add(struct sb_scopes *s, const struct sb_plugin_instance *in);
void sb_scopes_remove(struct sb_scopes *s, const struct sb_plugin_instance *in);
/* After all instances of a build, before its routes. */
void sb_scopes_settle(struct sb_scopes *s);

/* The number of the chain of a route with that service ("" : none); in use until it is left. Ask
 * for the new one before leaving the old. */
uint32_t sb_scopes_chain(struct sb_scopes *s, struct sb_str route_id, struct sb_str service_id);
void sb_scopes_leave(struct sb_scopes *s, uint32_t chain);

/* Makes anew what changed, and gives the snapshot its tables. */
void sb_scopes_build(struct sb_scopes *s, struct sb_snapshot *snap);

size_t sb_scopes_chains(const struct sb_scopes *s);  /* there are */
size_t sb_scopes_rebuilt(const struct sb_scopes *s); /* made by the last build; for tests */

#endif
