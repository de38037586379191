/* abi.h - plugins in shared objects (include/silverback/plugin.h).
 *
 * Every name of the setting `plugins` that is no plugin of Kong's is looked for along
 * silverback_plugin_path: templates separated by ";", in each of which "?" is the name. The first
 * file that is there is loaded, for the life of the process.
 */
#ifndef SB_DATAPLANE_PLUGINS_ABI_H
#define SB_DATAPLANE_PLUGINS_ABI_H

#include "shared/err.h"

struct sb_settings;

/* Loads what the settings name and is not there yet, and makes its schema known. Before there are
 * threads. SB_NOTFOUND: enabled but not installed; SB_INVALID: it is no plugin, or for another ABI,
 * or its schema is wrong. May block on the disk. */
SB_MUST enum sb_rc sb_plugins_load(const struct sb_settings *settings, struct sb_err *err);

#endif
