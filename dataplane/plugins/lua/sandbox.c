/* sandbox.c - what chunks see (reference/plugins-serverless.md, Sandbox).
 *
 *     env: names of the table below      + kong, ngx, require of what is allowed
 *      `- string, table, ...             read-only views of Lua's own
 *
 * With untrusted_lua=on the environment is empty but for what it finds in Lua's globals.
 */
#include "dataplane/plugins/lua/sandbox.h"

#include "dataplane/plugins/lua/pdk.h"
#include "shared/settings.h"

static const char base_names[] =
    "_VERSION assert error ipairs next pairs pcall print select tonumber tostring type unpack "
    "xpcall "
    "bit.arshift bit.band bit.bnot bit.bor bit.bswap bit.bxor bit.lshift bit.rol bit.ror "
    "bit.rshift bit.tobit bit.tohex "
    "coroutine.create coroutine.resume coroutine.running coroutine.status coroutine.wrap "
    "coroutine.yield "
    "math.abs math.acos math.asin math.atan math.atan2 math.ceil math.cos math.cosh math.deg "
    "math.exp math.floor math.fmod math.frexp math.huge math.ldexp math.log math.log10 math.max "
    "math.min math.modf math.pi math.pow math.rad math.random math.sin math.sinh math.sqrt "
    "math.tan "
    "math.tanh "
    "os.clock os.date os.difftime os.time "
    "string.byte string.char string.find string.format string.gmatch string.gsub string.len "
    "string.lower string.match string.rep string.reverse string.sub string.upper "
    "table.clear table.concat table.foreach table.foreachi table.getn table.insert table.maxn "
    "table.move table.new table.remove table.sort";

/* Coroutines of chunks pass on what a function far below has to wait for: a yield with that mark
 * goes up to the handler's own coroutine, and what comes down goes back. */
static const char prelude[] =
    "local mark = ...\n"
    "local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield\n"
    "local function on(co, ok, first, ...)\n"
    "  if ok and first == mark and mark ~= nil then return on(co, resume(co, yield(mark))) end\n"
    "  return ok, first, ...\n"
    "end\n"
    "function coroutine.resume(co, ...) return on(co, resume(co, ...)) end\n"
    "local function result(ok, ...)\n"
    "  if not ok then error((...), 0) end\n"
    "  return ...\n"
    "end\n"
    "function coroutine.wrap(f)\n"
    "  local co = create(f)\n"
    "  return function(...) return result(on(co, resume(co, ...))) end\n"
    "end\n"
    "table.clear = require 'table.clear'\n"
    "table.new = require 'table.new'\n";

/* -- read-only views -- */

static int refuse_write(lua_State *L)
{
    lua_pushvalue(L, 2);
    return luaL_error(L, "Can not modify %s.%s. Protected by the sandbox.",
                      lua_tostring(L, lua_upvalueindex(1)), lua_tostring(L, -1));
}

/* Pushes a table of that name that nobody can write to: it is empty, and shows another. */
static void push_view(lua_State *L, const char *name)
{
    lua_newtable(L);
    lua_newtable(L);
    lua_newtable(L);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, name);
    lua_pushcclosure(L, refuse_write, 1);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}

/* Makes the global of a (dotted) name visible in the environment on top. */
static void show(lua_State *L, struct sb_str name)
{
    ptrdiff_t dot = sb_str_chr(name, '.', 0);
    struct sb_str head = dot < 0 ? name : sb_str_first(name, (size_t)dot);
    int env = lua_gettop(L);

    lua_pushvalue(L, LUA_GLOBALSINDEX);
    sb_lua_push(L, head);
    lua_rawget(L, -2);
    if (dot < 0 || !lua_istable(L, -1)) {
        if (!lua_isnil(L, -1) && dot < 0) {
            sb_lua_push(L, head);
            lua_insert(L, -2);
            lua_rawset(L, env);
        }
        lua_settop(L, env);
        return;
    }
    sb_lua_push(L, head); /* env, _G, lib, name */
    lua_rawget(L, env);
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        sb_lua_push(L, head);
        push_view(L, lua_tostring(L, -1));
        lua_pushvalue(L, -1);
        lua_insert(L, -3);
        lua_rawset(L, env); /* env, _G, lib, view */
    }
    if (!luaL_getmetafield(L, -1, "__index") || !lua_istable(L, -1)) {
        lua_settop(L, env); /* kong and ngx are there as they are */
        return;
    }
    sb_lua_push(L, sb_str_from(name, (size_t)dot + 1)); /* env, _G, lib, view, shown, name */
    lua_pushvalue(L, -1);
    lua_gettable(L, -5);
    if (!lua_isnil(L, -1))
        lua_rawset(L, -3);
    lua_settop(L, env);
}

static void show_all(lua_State *L, struct sb_str names)
{
    struct sb_str name;

    while (sb_str_split(&names, ' ', &name))
        if (name.len)
            show(L, name);
}

/* -- require -- */

static bool listed(const struct sb_settings *s, const char *setting, const char *name)
{
    size_t n = 0;
    const struct sb_str *list = s ? sb_settings_list(s, setting, &n) : NULL;

    for (size_t i = 0; i < n; i++)
        if (sb_str_is(list[i], name))
            return true;
    return false;
}

static int safe_require(lua_State *L)
{
    const struct sb_lua *lua = lua_touserdata(L, lua_upvalueindex(1));
    const char *name = luaL_checkstring(L, 1);

    if (!listed(lua->settings, "untrusted_lua_sandbox_requires", name))
        return luaL_error(L, "require '%s' not allowed within sandbox", name);
    lua_getglobal(L, "require");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

void sb_lua_push_require(struct sb_lua *lua, lua_State *L)
{
    lua_pushlightuserdata(L, lua);
    lua_pushcclosure(L, safe_require, 1);
}

void sb_lua_show_listed(struct sb_lua *lua, lua_State *L)
{
    size_t n = 0;
    const struct sb_str *list =
        lua->settings ? sb_settings_list(lua->settings, "untrusted_lua_sandbox_environment", &n)
                      : NULL;

    for (size_t i = 0; i < n; i++)
        show(L, list[i]);
}

/* -- the environment -- */

static void see_globals(lua_State *L)
{
    lua_newtable(L);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}

static void set_path(struct sb_lua *lua, lua_State *L, const char *setting, const char *field)
{
    const char *path = lua->settings ? sb_settings_str(lua->settings, setting) : NULL;

    if (!path)
        return;
    lua_getglobal(L, "package");
    lua_pushstring(L, path);
    lua_setfield(L, -2, field);
    lua_pop(L, 1);
}

void sb_lua_sandbox(struct sb_lua *lua, lua_State *L)
{
    if (luaL_loadbufferx(L, prelude, sizeof prelude - 1, "=prelude", "t"))
        lua_error(L);
    lua_pushlightuserdata(L, lua);
    lua_call(L, 1, 0);
    sb_lua_install(lua, L);
    set_path(lua, L, "lua_package_path", "path");
    set_path(lua, L, "lua_package_cpath", "cpath");
    lua_newtable(L);
    if (lua->trust == SB_LUA_ON) {
        see_globals(L);
        return;
    }
    show_all(L, SB_STR(base_names));
    show_all(L, SB_STR("kong ngx"));
    sb_lua_show_listed(lua, L);
    sb_lua_push_require(lua, L);
    lua_setfield(L, -2, "require");
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "_G");
}
