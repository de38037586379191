/* registry.h - who fills the registry of plugin.h. */
#ifndef SB_DATAPLANE_PLUGINS_REGISTRY_H
#define SB_DATAPLANE_PLUGINS_REGISTRY_H

#include "dataplane/plugins/plugin.h"

enum { SB_PLUGINS_LOADED_MAX = 64 };

/* Adds a plugin that came from a shared object; it must live as long as the process. Only at the
 * start, before there are threads. SB_CONFLICT: the name is taken. */
SB_MUST enum sb_rc sb_plugins_add(const struct sb_plugin *plugin, struct sb_err *err);

/* What the plugins made for one worker. NULL may be freed. */
struct sb_lua;
struct sb_plugin_states;
struct sb_plugin_states *sb_plugin_states_new(struct event_base *loop,
                                              const struct sb_settings *settings);
void sb_plugin_states_free(struct sb_plugin_states *s);
/* The worker's Lua, which all of them share. */
struct sb_lua *sb_plugin_states_lua(const struct sb_plugin_states *s);
void *sb_plugin_states_get(const struct sb_plugin_states *s, const struct sb_plugin *plugin);

#endif
