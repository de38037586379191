#include "dataplane/plugins/lua/state.h"

#include <lualib.h>
#include <stdlib.h>

#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/sandbox.h"
#include "dataplane/plugins/registry.h"
#include "shared/log.h"
#include "shared/settings.h"

struct sb_lua_held {
    struct sb_lua_held *next;
    struct sb_lua_code *code;
};

/* -- the heap -- */

static void *allocate(void *arg, void *p, size_t old, size_t len)
{
    struct sb_lua *lua = arg;
    void *q;

    if (len == 0) {
        lua->used -= old;
        free(p);
        return NULL;
    }
    if (len > old && len - old > lua->max - lua->used)
        return NULL;
    q = sb_xrealloc(p, len);
    lua->used += len - old;
    return q;
}

/* -- the state -- */

static int fill(lua_State *L)
{
    struct sb_lua *lua = lua_touserdata(L, 1);

    luaL_openlibs(L);
    lua_newtable(L);
    lua->cache = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    lua->threads = luaL_ref(L, LUA_REGISTRYINDEX);
    sb_lua_sandbox(lua, L);
    lua->env = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

struct sb_lua *sb_lua_new(struct event_base *loop, const struct sb_settings *settings)
{
    struct sb_lua *lua = sb_xcalloc(1, sizeof *lua);
    const char *trust = settings ? sb_settings_str(settings, "untrusted_lua") : NULL;

    lua->loop = loop;
    lua->settings = settings;
    lua->max = SB_LUA_HEAP_MAX;
    lua->trust = SB_LUA_SANDBOX;
    if (trust && sb_str_is(sb_str_c(trust), "off"))
        lua->trust = SB_LUA_OFF;
    else if (trust && sb_str_is(sb_str_c(trust), "on"))
        lua->trust = SB_LUA_ON;
    return lua;
}

bool sb_lua_open(struct sb_lua *lua)
{
    if (lua->L)
        return true;
    lua->L = lua_newstate(allocate, lua);
    if (lua->L && lua_cpcall(lua->L, fill, lua) == 0)
        return true;
    sb_error("Lua can't start: %s", lua->L ? lua_tostring(lua->L, -1) : "not enough memory");
    if (lua->L)
        lua_close(lua->L);
    lua->L = NULL;
    return false;
}

struct sb_lua *sb_lua_of(struct sb_exchange *x)
{
    struct sb_lua *lua = sb_exchange_lua(x);

    return sb_lua_open(lua) ? lua : NULL;
}

/* -- code -- */

static void let_go(struct sb_lua_code *code)
{
    if (__atomic_sub_fetch(&code->refs, 1, __ATOMIC_ACQ_REL) == 0)
        free(code);
}

static void config_gone(void *arg)
{
    struct sb_lua_code *code = arg;

    __atomic_store_n(&code->dead, true, __ATOMIC_RELEASE);
    let_go(code);
}

struct sb_lua_code *sb_lua_code_new(struct sb_arena *a, struct sb_str text, const char *name)
{
    struct sb_lua_code *code = sb_xcalloc(1, sizeof *code + text.len + 1);

    memcpy(code->room, text.p ? text.p : "", text.len);
    code->text = sb_str_n(code->room, text.len);
    code->name = name;
    code->refs = 1;
    sb_arena_defer(a, config_gone, code);
    return code;
}

void sb_lua_code_get(struct sb_lua *lua, lua_State *L, const struct sb_lua_code *code)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->cache);
    lua_pushlightuserdata(L, (void *)code);
    lua_rawget(L, -2);
    lua_remove(L, -2);
}

static void forget(struct sb_lua *lua, lua_State *L, const struct sb_lua_code *code)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->cache);
    lua_pushlightuserdata(L, (void *)code);
    lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* What no config has any more goes. */
static void sweep(struct sb_lua *lua, lua_State *L)
{
    struct sb_lua_held **at = &lua->held;

    while (*at) {
        struct sb_lua_held *h = *at;

        if (!__atomic_load_n(&h->code->dead, __ATOMIC_ACQUIRE)) {
            at = &h->next;
            continue;
        }
        forget(lua, L, h->code);
        *at = h->next;
        let_go(h->code);
        free(h);
    }
}

void sb_lua_code_keep(struct sb_lua *lua, lua_State *L, struct sb_lua_code *code)
{
    struct sb_lua_held *h;

    sweep(lua, L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->cache);
    lua_pushlightuserdata(L, (void *)code);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 2);
    h = sb_xcalloc(1, sizeof *h);
    h->code = code;
    h->next = lua->held;
    lua->held = h;
    __atomic_add_fetch(&code->refs, 1, __ATOMIC_RELAXED);
}

void sb_lua_load(struct sb_lua *lua, lua_State *L, const struct sb_lua_code *code)
{
    if (lua->trust == SB_LUA_OFF)
        luaL_error(L, "%s", SB_LUA_OFF_TEXT);
    if (luaL_loadbufferx(L, code->text.p, code->text.len, code->name ? code->name : code->text.p,
                         "t"))
        lua_error(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->env);
    lua_setfenv(L, -2);
}

void sb_lua_free(struct sb_lua *lua)
{
    if (!lua)
        return;
    while (lua->held) {
        struct sb_lua_held *h = lua->held;

        lua->held = h->next;
        let_go(h->code);
        free(h);
    }
    if (lua->L)
        lua_close(lua->L);
    free(lua);
}

struct sb_str sb_lua_message(struct sb_arena *a, lua_State *L, int at)
{
    struct sb_str s = sb_lua_str(L, at);

    return s.p ? sb_arena_str(a, s)
               : sb_arena_printf(a, "(error object is a %s value)", luaL_typename(L, at));
}
