/* arguments.c - what functions of the PDK are given, checked in Kong's words, and tables that they
 * give back. */
#include "dataplane/plugins/args.h"
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/pdk.h"
#include "dataplane/router/router.h"

enum { MAX_DEFAULT = 100, MAX_MOST = 1000, CAPTURES_MAX = 64 };

struct sb_str sb_lua_arg_str(lua_State *L, int at, const char *what)
{
    if (lua_type(L, at) != LUA_TSTRING)
        luaL_error(L, "%s must be a string", what);
    return sb_lua_str(L, at);
}

double sb_lua_arg_num(lua_State *L, int at, const char *what)
{
    if (lua_type(L, at) != LUA_TNUMBER)
        luaL_error(L, "%s must be a number", what);
    return lua_tonumber(L, at);
}

int sb_lua_arg_max(lua_State *L, int at, const char *what)
{
    double n;

    if (lua_isnoneornil(L, at))
        return MAX_DEFAULT;
    n = sb_lua_arg_num(L, at, what);
    if (n < 1)
        luaL_error(L, "%s must be >= 1", what);
    if (n > MAX_MOST)
        luaL_error(L, "%s must be <= %d", what, MAX_MOST);
    return (int)n;
}

int sb_lua_nil(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* -- headers that are given -- */

struct sb_str sb_lua_header_value(lua_State *L, struct sb_lua_run *r, int at)
{
    struct sb_str s;

    if (lua_isboolean(L, at))
        return lua_toboolean(L, at) ? SB_STR("true") : SB_STR("false");
    if (lua_type(L, at) == LUA_TSTRING) {
        s = sb_lua_str(L, at);
        return s.len ? s : SB_STR(" ");
    }
    lua_pushvalue(L, at); /* a number: its own must stay one */
    s = sb_arena_str(sb_exchange_arena(r->x), sb_lua_str(L, -1));
    lua_pop(L, 1);
    return s;
}

/* Lua's %q of a name. */
static const char *quoted(lua_State *L, int at)
{
    lua_getglobal(L, "string");
    lua_getfield(L, -1, "format");
    lua_pushliteral(L, "%q");
    lua_pushvalue(L, at);
    if (lua_type(L, -1) != LUA_TSTRING) {
        lua_pop(L, 1);
        lua_getglobal(L, "tostring");
        lua_pushvalue(L, at);
        lua_call(L, 1, 1);
    }
    lua_call(L, 2, 1);
    return lua_tostring(L, -1);
}

static void check_lines(lua_State *L, int name, int value)
{
    for (int i = 1;; i++) {
        lua_rawgeti(L, value, i);
        if (lua_isnil(L, -1))
            break;
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "invalid header value in array %s: got %s, expected string",
                       quoted(L, name), luaL_typename(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void check(lua_State *L, int name, int value, const char *expected)
{
    int type = lua_type(L, value);

    if (lua_type(L, name) != LUA_TSTRING)
        luaL_error(L, "invalid header name %s: got %s, expected string", quoted(L, name),
                   luaL_typename(L, name));
    if (type == LUA_TTABLE)
        check_lines(L, name, value);
    else if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
        luaL_error(L, "invalid header value for %s: got %s, expected %s", quoted(L, name),
                   type == LUA_TNONE ? "nil" : luaL_typename(L, value), expected);
}

void sb_lua_check_header(lua_State *L, int name, int value)
{
    check(L, name, value, "array of string, string, number or boolean");
}

void sb_lua_check_headers(lua_State *L, int at)
{
    if (!lua_istable(L, at))
        luaL_error(L, "headers must be a table");
    lua_pushnil(L);
    while (lua_next(L, at)) {
        int top = lua_gettop(L);

        check(L, top - 1, top, "string, number, boolean or array of strings");
        lua_settop(L, top - 1);
    }
}

void sb_lua_put_header(lua_State *L, struct sb_lua_run *r, struct sb_str name, int value,
                       sb_lua_header_fn set, sb_lua_header_fn add)
{
    if (!lua_istable(L, value)) {
        set(r->x, name, sb_lua_header_value(L, r, value));
        return;
    }
    for (int i = 1;; i++) {
        lua_rawgeti(L, value, i);
        if (lua_isnil(L, -1))
            break;
        (i == 1 ? set : add)(r->x, name, sb_lua_header_value(L, r, lua_gettop(L)));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* -- tables that are given back -- */

/* One more value of a name: the value on top goes into the table below it. */
static void collect_top(lua_State *L, struct sb_str name)
{
    int value = lua_gettop(L), table = value - 1;

    sb_lua_push(L, name);
    lua_pushvalue(L, -1);
    lua_rawget(L, table); /* table, value, name, old */
    if (lua_istable(L, -1)) {
        lua_pushvalue(L, value);
        lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    } else if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushvalue(L, value);
        lua_rawset(L, table);
    } else {
        lua_createtable(L, 2, 0);
        lua_insert(L, -2);
        lua_rawseti(L, -2, 1);
        lua_pushvalue(L, value);
        lua_rawseti(L, -2, 2);
        lua_rawset(L, table);
    }
    lua_settop(L, table);
}

void sb_lua_collect(lua_State *L, struct sb_str name, struct sb_str value)
{
    sb_lua_push(L, value);
    collect_top(L, name);
}

/* Names are kept in lower case; asked for in any, and with '_' for '-'. */
static int header_index(lua_State *L)
{
    struct sb_str name;
    char room[256];

    if (lua_type(L, 2) != LUA_TSTRING)
        return 0;
    name = sb_lua_str(L, 2);
    if (name.len > sizeof room)
        return 0;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.p[i];

        room[i] = c == '_' ? '-' : c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    lua_pushlstring(L, room, name.len);
    lua_rawget(L, 1);
    return 1;
}

void sb_lua_header_table(lua_State *L)
{
    if (luaL_newmetatable(L, "silverback.headers")) {
        lua_pushcfunction(L, header_index);
        lua_setfield(L, -2, "__index");
    }
    lua_setmetatable(L, -2);
}

struct collecting {
    lua_State *L;
    int left;
};

static struct sb_str lower(struct sb_str name, char *room, size_t size)
{
    if (name.len > size)
        return name;
    for (size_t i = 0; i < name.len; i++)
        room[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] | 0x20) : name.p[i];
    return sb_str_n(room, name.len);
}

static bool collect_header(void *arg, struct sb_str name, struct sb_str value)
{
    struct collecting *c = arg;
    char room[256];

    if (c->left-- == 0)
        return false;
    sb_lua_collect(c->L, lower(name, room, sizeof room), value);
    return true;
}

void sb_lua_push_headers(lua_State *L, struct sb_lua_run *r, int max, sb_lua_each_header each)
{
    struct collecting c = {L, max};

    lua_newtable(L);
    each(r->x, collect_header, &c);
    sb_lua_header_table(L);
}

void sb_lua_push_args(lua_State *L, struct sb_lua_run *r, struct sb_str args, int max)
{
    struct sb_arg arg;

    lua_newtable(L);
    while (max-- > 0 && sb_arg_next(sb_exchange_arena(r->x), &args, &arg)) {
        if (arg.value.p)
            sb_lua_push(L, arg.value);
        else
            lua_pushboolean(L, true);
        collect_top(L, arg.name);
    }
}

void sb_lua_push_query(lua_State *L, struct sb_lua_run *r, int max)
{
    sb_lua_push_args(L, r, sb_exchange_upstream_query(r->x), max);
}

void sb_lua_push_captures(lua_State *L, struct sb_lua_run *r, bool apart)
{
    struct sb_router_capture captures[CAPTURES_MAX];
    size_t n = sb_exchange_captures(r->x, captures, CAPTURES_MAX);

    lua_newtable(L); /* by number; of both kinds when they are not apart */
    if (apart)
        lua_newtable(L);
    else
        lua_pushvalue(L, -1);
    for (size_t i = 0; i < n; i++) {
        if (!captures[i].value.p)
            continue;
        sb_lua_push(L, captures[i].value);
        lua_rawseti(L, -3, (int)i);
        if (!captures[i].name.len)
            continue;
        sb_lua_push(L, captures[i].name);
        sb_lua_push(L, captures[i].value);
        lua_rawset(L, -3);
    }
}
