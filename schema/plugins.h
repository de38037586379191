/* plugins.h - what is known of each bundled plugin before any of its code runs: the schema of its
 * config, its protocols, where it may be attached. */
#ifndef SB_SCHEMA_PLUGINS_H
#define SB_SCHEMA_PLUGINS_H

#include "schema/entity.h"

/* Of the plugin that is named by key, if it is known and enabled; else NULL and Kong's words in
 * *why. */
const struct sb_subschema *sb_plugin_subschema(struct sb_schema_ctx *ctx,
                                               const struct sb_value *key, const char **why);

/* Known plugins in order of names; ends with NULL. */
const struct sb_subschema *const *sb_plugin_schemas(void);

#endif
