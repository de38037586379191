/* known.h - the plugins that Kong comes with, whether they are built here or not: any configuration
 * that names them loads, and what is not built is refused by its name (chain.h).
 */
#ifndef SB_DATAPLANE_PLUGINS_KNOWN_H
#define SB_DATAPLANE_PLUGINS_KNOWN_H

#include <stdbool.h>

#include "shared/str.h"

struct sb_known_plugin {
    const char *name;
    int priority; /* who runs first: the higher */
    bool watches; /* only looks on: without it requests go the same way, unseen */
};

/* By name, ended by name NULL. From reference/plugins.json: the order in which they run is part of
 * what configurations rely on. */
extern const struct sb_known_plugin sb_known_plugins[];

const struct sb_known_plugin *sb_plugin_known(struct sb_str name); /* NULL: not Kong's */

#endif
