/* bundled.h - the plugins that are built in, one file each; the table is in registry.c. */
#ifndef SB_DATAPLANE_PLUGINS_BUNDLED_H
#define SB_DATAPLANE_PLUGINS_BUNDLED_H

struct sb_plugin;

extern const struct sb_plugin sb_plugin_request_termination;

#endif
