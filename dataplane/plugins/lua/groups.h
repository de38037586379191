/* groups.h - kong.ctx.shared.authenticated_groups and ngx.ctx.authenticated_groups are the
 * exchange's groups: what one side sets, the other reads. */
#ifndef SB_DATAPLANE_PLUGINS_LUA_GROUPS_H
#define SB_DATAPLANE_PLUGINS_LUA_GROUPS_H

#include "dataplane/plugins/lua/run.h"

/* Into the context on top: what another plugin told meanwhile. */
void sb_lua_groups_show(lua_State *L, struct sb_lua_request *req);
/* From the contexts to the exchange, behind a handler of access. */
void sb_lua_groups_take(struct sb_lua_run *r);

#endif
