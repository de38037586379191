/* kong_log.c - kong.log: [kong] FILE:LINE [PLUGIN] MESSAGE, and the table printer inspect. */
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/log.h"

enum { LOG_LINE_MAX = 16 << 10, INSPECT_DEPTH = 16 };

static void add_text(lua_State *L, struct sb_buf *b, int at)
{
    lua_getglobal(L, "tostring");
    lua_pushvalue(L, at);
    if (lua_pcall(L, 1, 1, 0)) {
        lua_pop(L, 1);
        sb_buf_cstr(b, luaL_typename(L, at));
        return;
    }
    sb_buf_str(b, sb_lua_str(L, -1));
    lua_pop(L, 1);
}

static struct sb_str place(struct sb_lua_run *r, lua_State *L)
{
    lua_Debug at;

    if (!lua_getstack(L, 1, &at) || !lua_getinfo(L, "Sl", &at))
        return SB_STR("?");
    return sb_arena_printf(sb_exchange_arena(r->x), "%s:%d", at.short_src, at.currentline);
}

static void write_line(lua_State *L, struct sb_lua_run *r, enum sb_log_level level,
                       const struct sb_buf *b)
{
    struct sb_str where = place(r, L);

    sb_log_write(level, "[kong] %.*s [%s] %.*s, client: %.*s, request_id: \"%.*s\"", SB_ARG(where),
                 r->instance ? r->instance->plugin->name : "lua", SB_ARG(sb_buf_get(b)),
                 SB_ARG(sb_exchange_client_ip(r->x)), SB_ARG(sb_exchange_request_id(r->x)));
}

void sb_lua_log(lua_State *L, struct sb_lua_run *r, enum sb_log_level level, int from)
{
    struct sb_buf b;

    if (level > sb_log_get_level())
        return;
    sb_buf_init(&b, LOG_LINE_MAX);
    for (int i = from, n = lua_gettop(L); i <= n; i++)
        add_text(L, &b, i);
    write_line(L, r, level, &b);
    sb_buf_release(&b);
}

#define LEVEL(name, level)                                                                         \
    static int log_##name(lua_State *L, struct sb_lua_run *r)                                      \
    {                                                                                              \
        sb_lua_log(L, r, level, 1);                                                                \
        return 0;                                                                                  \
    }

LEVEL(debug, SB_LOG_DEBUG)
LEVEL(info, SB_LOG_INFO)
LEVEL(notice, SB_LOG_NOTICE)
LEVEL(warn, SB_LOG_WARN)
LEVEL(err, SB_LOG_ERROR)
LEVEL(crit, SB_LOG_CRIT)
LEVEL(alert, SB_LOG_ALERT)
LEVEL(emerg, SB_LOG_EMERG)

/* kong.log(...): the table itself is the first argument. */
static int log_call(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_log(L, r, SB_LOG_NOTICE, 2);
    return 0;
}

/* -- inspect -- */

static void inspect(lua_State *L, struct sb_buf *b, int at, int depth);

static void inspect_table(lua_State *L, struct sb_buf *b, int at, int depth)
{
    const char *separator = "{ ";

    lua_pushnil(L);
    while (lua_next(L, at)) {
        int top = lua_gettop(L);

        sb_buf_cstr(b, separator);
        separator = ", ";
        if (lua_type(L, top - 1) == LUA_TSTRING)
            sb_buf_str(b, sb_lua_str(L, top - 1));
        else
            sb_buf_printf(b, "[%.14g]", lua_tonumber(L, top - 1));
        sb_buf_cstr(b, " = ");
        inspect(L, b, top, depth + 1);
        lua_settop(L, top - 1);
    }
    sb_buf_cstr(b, *separator == '{' ? "{}" : " }");
}

static void inspect(lua_State *L, struct sb_buf *b, int at, int depth)
{
    if (lua_istable(L, at) && depth < INSPECT_DEPTH && lua_checkstack(L, 6)) {
        inspect_table(L, b, at, depth);
    } else if (lua_type(L, at) == LUA_TSTRING) {
        sb_buf_char(b, '"');
        sb_buf_str(b, sb_lua_str(L, at));
        sb_buf_char(b, '"');
    } else {
        add_text(L, b, at);
    }
}

static int inspect_call(lua_State *L, struct sb_lua_run *r)
{
    struct sb_buf b;
    bool off;

    lua_pushlightuserdata(L, r->lua);
    lua_rawget(L, LUA_REGISTRYINDEX);
    off = lua_toboolean(L, -1);
    lua_pop(L, 1);
    if (off || SB_LOG_NOTICE > sb_log_get_level())
        return 0;
    sb_buf_init(&b, LOG_LINE_MAX);
    for (int i = 2, n = lua_gettop(L); i <= n; i++) {
        if (i > 2)
            sb_buf_char(&b, ' ');
        inspect(L, &b, i, 0);
    }
    write_line(L, r, SB_LOG_NOTICE, &b);
    sb_buf_release(&b);
    return 0;
}

static int set_inspect(lua_State *L, struct sb_lua_run *r, bool off)
{
    lua_pushlightuserdata(L, r->lua);
    lua_pushboolean(L, off);
    lua_rawset(L, LUA_REGISTRYINDEX);
    return 0;
}

static int inspect_on(lua_State *L, struct sb_lua_run *r)
{
    return set_inspect(L, r, false);
}

static int inspect_none(lua_State *L, struct sb_lua_run *r)
{
    return set_inspect(L, r, true);
}

/* -- the tables can be called -- */

static void callable(lua_State *L, struct sb_lua *lua, const struct sb_lua_fn *f)
{
    lua_newtable(L);
    sb_lua_push_fn(L, lua, f);
    lua_setfield(L, -2, "__call");
    lua_setmetatable(L, -2);
}

void sb_lua_more_log(lua_State *L, struct sb_lua *lua)
{
    static const struct sb_lua_fn call = {"kong.log", 0, log_call};

    callable(L, lua, &call);
}

void sb_lua_more_inspect(lua_State *L, struct sb_lua *lua)
{
    static const struct sb_lua_fn call = {"kong.log.inspect", 0, inspect_call};

    callable(L, lua, &call);
}

const struct sb_lua_fn sb_lua_kong_log[] = {
    {"debug", 0, log_debug}, {"info", 0, log_info},   {"notice", 0, log_notice},
    {"warn", 0, log_warn},   {"err", 0, log_err},     {"crit", 0, log_crit},
    {"alert", 0, log_alert}, {"emerg", 0, log_emerg}, {0},
};

const struct sb_lua_fn sb_lua_kong_log_inspect[] = {
    {"on", 0, inspect_on},
    {"off", 0, inspect_none},
    {0},
};
