/* body.h - the request's body, as kong.request and ngx.req give it. Both may suspend the handler.
 */
#ifndef SB_DATAPLANE_PLUGINS_LUA_BODY_H
#define SB_DATAPLANE_PLUGINS_LUA_BODY_H

#include "dataplane/plugins/lua/pdk.h"

/* The most of a body that goes into Lua. */
enum { SB_LUA_BODY_MAX = 64 << 20 };

/* kong.request.get_raw_body(max), .get_body(mime, max_args, max) */
int sb_lua_get_raw_body(lua_State *L, struct sb_lua_run *r);
int sb_lua_get_body(lua_State *L, struct sb_lua_run *r);

/* Has it read, so that the hook finds it; then calls finish. `return sb_lua_with_body(...)`. */
int sb_lua_with_body(lua_State *L, struct sb_lua_run *r, sb_lua_finish finish);
/* The body as it goes on now. SB_AGAIN; SB_TOOLARGE. */
SB_MUST enum sb_rc sb_lua_body(struct sb_lua_run *r, size_t max, struct sb_str *body);

#endif
