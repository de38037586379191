/* answer.h - answers that chunks give: kong.response.exit, ngx.exit. */
#ifndef SB_DATAPLANE_PLUGINS_LUA_ANSWER_H
#define SB_DATAPLANE_PLUGINS_LUA_ANSWER_H

#include "dataplane/plugins/lua/pdk.h"

/* body p NULL: none, the status brings its own. type "" : none. headers: index of a table that was
 * checked, 0: none; a Content-Type in it counts in place of type. */
void sb_lua_answer(lua_State *L, struct sb_lua_run *r, int status, struct sb_str body,
                   struct sb_str type, int headers);
/* A response header, with '-' for '_' as nginx has it; Transfer-Encoding is ignored with a warning.
 * value: index; nil removes. */
void sb_lua_response_header(lua_State *L, struct sb_lua_run *r, struct sb_str name, int value,
                            bool add);

#endif
