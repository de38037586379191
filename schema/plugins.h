/* plugins.h - what is known of each bundled plugin before any of its code runs: the schema of its
 * config, its protocols, where it may be attached. */
#ifndef SB_SCHEMA_PLUGINS_H
#define SB_SCHEMA_PLUGINS_H

#include "schema/entity.h"

/* Of the plugin that is named by key, if it is known and enabled; else NULL and Kong's words in
 * *why. */
const struct sb_subschema *sb_plugin_subschema(struct sb_schema_ctx *ctx,
                                               const struct sb_value *key, const char **why);

/* Adds a plugin that Kong does not come with; it must live as long as the process. Only at the
 * start, before there are threads. SB_CONFLICT: the name is taken. SB_TOOLARGE: too many. */
SB_MUST enum sb_rc sb_plugin_schema_add(const struct sb_subschema *schema, struct sb_err *err);

#endif
