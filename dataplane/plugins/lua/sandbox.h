/* sandbox.h - what chunks see: the safe part of Lua's libraries, kong and ngx. */
#ifndef SB_DATAPLANE_PLUGINS_LUA_SANDBOX_H
#define SB_DATAPLANE_PLUGINS_LUA_SANDBOX_H

#include "dataplane/plugins/lua/state.h"

/* Pushes the globals of chunks, as untrusted_lua and its sister settings want them. All chunks of a
 * worker share them, as Kong's do: what one sets there, the others see. */
void sb_lua_sandbox(struct sb_lua *lua, lua_State *L);

/* Parts of it, for templates: pushes the require of untrusted_lua_sandbox_requires; adds the names
 * of untrusted_lua_sandbox_environment to the table on top. */
void sb_lua_push_require(struct sb_lua *lua, lua_State *L);
void sb_lua_show_listed(struct sb_lua *lua, lua_State *L);

/* What running a chunk says with untrusted_lua=off. */
#define SB_LUA_OFF_TEXT                                                                            \
    "loading of untrusted Lua code disabled because 'untrusted_lua' config option is set to 'off'"

#endif
