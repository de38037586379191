/* value.h - values in Lua and JSON, both ways. */
#ifndef SB_DATAPLANE_PLUGINS_LUA_VALUE_H
#define SB_DATAPLANE_PLUGINS_LUA_VALUE_H

#include "dataplane/plugins/lua/pdk.h"
#include "shared/value.h"

enum { SB_LUA_DEPTH_MAX = 128 };

/* Pushes a value; null is ngx.null. marked: arrays say that they are, so that empty ones stay. */
void sb_lua_push_value(lua_State *L, const struct sb_value *v, bool marked);

/* The value at an index, in the arena; strings are slices of Lua's. NULL: it can't be written as
 * JSON, and *why says so as lua-cjson does. */
struct sb_value *sb_lua_to_value(lua_State *L, int at, struct sb_arena *a, struct sb_str *why);

/* The value at an index as JSON, as Kong writes it; p NULL: *why. */
struct sb_str sb_lua_to_json(lua_State *L, int at, struct sb_arena *a, struct sb_str *why);
/* Pushes what a JSON text says. False, and nothing pushed: it is none. */
bool sb_lua_push_json(lua_State *L, struct sb_arena *a, struct sb_str text, bool marked,
                      struct sb_err *err);

/* The metatables of arrays: made at the first call. */
void sb_lua_push_array_mt(lua_State *L);
void sb_lua_push_empty_array_mt(lua_State *L);
/* A light userdata that stands for an empty array. */
void sb_lua_push_empty_array(lua_State *L);

/* name=value&..., escaped as Kong does. Raises what can't be written. */
struct sb_str sb_lua_encode_args(lua_State *L, int at, struct sb_arena *a, bool sorted);
/* What is escaped in a URI's component: all but letters, digits and -_.~ (and more for kind 0). */
struct sb_str sb_lua_escape(struct sb_arena *a, struct sb_str s, bool all);

#endif
