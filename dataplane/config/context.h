/* context.h - what the settings say about entities: which flavor routes are for, which plugins
 * there are. Everyone in the data plane who checks entities starts from here, so that all check
 * alike.
 */
#ifndef SB_DATAPLANE_CONFIG_CONTEXT_H
#define SB_DATAPLANE_CONFIG_CONTEXT_H

#include "dataplane/router/router.h"
#include "schema/entity.h"

struct sb_settings;

enum sb_router_flavor sb_context_flavor(const struct sb_settings *s);
/* By the setting `plugins`: "bundled" stands for all that Kong comes with. */
bool sb_context_plugin_enabled(const struct sb_settings *s, struct sb_str name);
/* A context whose results live in the arena; the settings must outlive it. */
struct sb_schema_ctx sb_context(const struct sb_settings *s, struct sb_arena *arena);

#endif
