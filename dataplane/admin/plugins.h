/* plugins.h - inside admin/: what GET / says of the plugins that come with the gateway. */
#ifndef SB_DATAPLANE_ADMIN_PLUGINS_H
#define SB_DATAPLANE_ADMIN_PLUGINS_H

#include <stddef.h>

struct sb_bundled_plugin {
    const char *name;
    int priority; /* who runs first: the higher */
};

/* By name, ended by name NULL. From reference/plugins.json: the order in which they run is part of
 * what configurations rely on. */
extern const struct sb_bundled_plugin sb_bundled_plugins[];

#endif
