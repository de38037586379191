/* log.h - lines that chunks write into the error log. */
#ifndef SB_DATAPLANE_PLUGINS_LUA_LOG_H
#define SB_DATAPLANE_PLUGINS_LUA_LOG_H

#include "dataplane/plugins/lua/pdk.h"
#include "shared/log.h"

/* Writes the arguments from `from` on, one behind the other, with where the chunk is. */
void sb_lua_log(lua_State *L, struct sb_lua_run *r, enum sb_log_level level, int from);

#endif
