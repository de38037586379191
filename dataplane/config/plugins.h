/* plugins.h - one row of `plugins` into the instance that requests meet.
 *
 * The row is completed by the schema (defaults, old names of fields), references to secrets are
 * resolved, and the plugin compiles its config. A row that can't run gives a refused instance
 * (plugins/chain.h) and the reason:
 *
 *     the plugin is not enabled (setting plugins), or is not built here, or its config is wrong
 *
 * One thread's.
 */
#ifndef SB_DATAPLANE_CONFIG_PLUGINS_H
#define SB_DATAPLANE_CONFIG_PLUGINS_H

#include "dataplane/plugins/plugin.h"

struct sb_plugin_compiler;

struct sb_vaults;

/* Both must outlive it. settings NULL: all plugins are enabled, and none is told any settings. */
struct sb_plugin_compiler *sb_plugin_compiler_new(const struct sb_settings *settings,
                                                  struct sb_vaults *vaults);
/* Instances that were refused must be gone. */
void sb_plugin_compiler_free(struct sb_plugin_compiler *c);

/* The instance, in the arena. *out NULL: there is nothing to run, because the row is disabled or
 * not for HTTP, or because it can't run and only watches. Else than SB_OK: why the row can't run;
 * *out is set then, too. secret: whether the row refers to secrets. scratch: for what need not
 * stay. */
SB_MUST enum sb_rc sb_compile_plugin(struct sb_plugin_compiler *c, struct sb_arena *a,
                                     struct sb_arena *scratch, const struct sb_value *row,
                                     struct sb_plugin_instance **out, bool *secret,
                                     struct sb_err *err);

#endif
