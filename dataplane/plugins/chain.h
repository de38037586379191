/* chain.h - which instances of the plugins a request meets, in order.
 *
 * At most one instance of a plugin runs: the one that is scoped most closely to the request
 * (reference/plugins.md 2). Route and service are known before any plugin runs, so that choice is
 * made when the snapshot is built; a consumer is known only once some plugin said who it is, and
 * counts for the plugins behind that one. So a chain has a row per plugin, and a plugin that has
 * instances for consumers has a slot: its row is chosen when the request comes to it.
 *
 *     chain of route r   | key-auth: i1 | acl: i7 | rate-limiting: i3, slot 1 | http-log: slot 2 |
 *     consumer c         |                          rate-limiting: i9                            |
 *     what c meets on r  | key-auth: i1 | acl: i7 | rate-limiting: i9         |                  |
 *
 * So no combination of routes and consumers is ever stored, and choosing allocates nothing.
 *
 * An instance that can't run is never passed over, for it may be what keeps strangers out: it is
 * refused, and its requests are answered with 503 when they come to it. Plugins that only watch
 * (logging, metrics, tracing) are the exception: requests go on without them.
 */
#ifndef SB_DATAPLANE_PLUGINS_CHAIN_H
#define SB_DATAPLANE_PLUGINS_CHAIN_H

#include "dataplane/plugins/plugin.h"

/* How closely an instance is scoped; the greater number wins. */
int sb_plugin_rank(const struct sb_plugin_instance *in);
/* Whether it is for that route and service ("" : none); its consumer is not looked at. */
bool sb_plugin_fits(const struct sb_plugin_instance *in, struct sb_str route_id,
                    struct sb_str service_id);

/* All instances of one consumer: by plugin, the closest first. */
struct sb_consumer_plugins {
    struct sb_str consumer_id;
    const struct sb_plugin_instance *const *instances;
    size_t count;
};
/* Copies the array, which it sorts in place. */
const struct sb_consumer_plugins *
sb_consumer_plugins_build(struct sb_arena *a, struct sb_str consumer_id,
                          const struct sb_plugin_instance **instances, size_t n);

/* What a chain is built from: instances that fit its route and service, also those for consumers
 * (of which it only matters that they are there), and further plugins that need a slot. */
struct sb_chain_source {
    const struct sb_plugin_instance **instances; /* sorted in place */
    size_t ninstances;
    const struct sb_plugin *const *slots;
    size_t nslots;
};

/* The chain, in the arena. NULL: nothing to do. The instances must live as long. */
const struct sb_hooks *sb_chain_build(struct sb_arena *a, const struct sb_chain_source *source);

/* Of a row with a slot, the instance for a consumer with these plugins (NULL: none) on that route
 * and service; NULL: the plugin has nothing to do. */
const struct sb_plugin_instance *sb_chain_choose(const struct sb_hook *row,
                                                 const struct sb_consumer_plugins *of,
                                                 struct sb_str route_id, struct sb_str service_id);

/* What runs in place of a refused instance. */
enum sb_rc sb_plugin_refuse(struct sb_exchange *x, const void *config);

#endif
