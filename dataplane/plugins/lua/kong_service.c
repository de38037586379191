/* kong_service.c - kong.service: where a request goes on to; kong.service.response: what came back.
 */
#include <math.h>

#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/value.h"

static double integer(lua_State *L, int at, const char *what, double min, double max)
{
    double n = lua_type(L, at) == LUA_TNUMBER ? lua_tonumber(L, at) : 0.5;

    if (floor(n) != n)
        luaL_error(L, "%s must be an integer", what);
    if (n < min || n > max)
        luaL_error(L, "%s must be an integer between %d and %d: given %f", what, (int)min, (int)max,
                   n);
    return n;
}

static int set_upstream(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str name = sb_lua_arg_str(L, 1, "host");

    if (sb_exchange_set_upstream(r->x, name)) {
        lua_pushnil(L);
        lua_pushfstring(L, "could not find an Upstream named '%s'", name.p);
        return 2;
    }
    lua_pushboolean(L, true);
    return 1;
}

static int set_target(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str host = sb_lua_arg_str(L, 1, "host");

    sb_exchange_set_target(r->x, host, (uint16_t)integer(L, 2, "port", 0, 65535));
    return 0;
}

static int set_retries(lua_State *L, struct sb_lua_run *r)
{
    sb_exchange_set_retries(r->x, (int)integer(L, 1, "retries", 0, 32767));
    return 0;
}

static int set_timeouts(lua_State *L, struct sb_lua_run *r)
{
    int connect = (int)integer(L, 1, "connect_timeout", 1, 2147483646);
    int write = (int)integer(L, 2, "write_timeout", 1, 2147483646);
    int read = (int)integer(L, 3, "read_timeout", 1, 2147483646);

    sb_exchange_set_timeouts(r->x, connect, write, read);
    return 0;
}

static int set_tls_verify(lua_State *L, struct sb_lua_run *r)
{
    if (!lua_isboolean(L, 1))
        return luaL_error(L, "argument must be a boolean");
    sb_exchange_set_tls_verify(r->x, lua_toboolean(L, 1));
    lua_pushboolean(L, true);
    return 1;
}

static int set_tls_verify_depth(lua_State *L, struct sb_lua_run *r)
{
    sb_exchange_set_tls_verify_depth(r->x, (int)sb_lua_arg_num(L, 1, "argument"));
    lua_pushboolean(L, true);
    return 1;
}

enum { TLS_PHASES = SB_LUA_RW_AC_BA | SB_LUA_PREREAD };

const struct sb_lua_fn sb_lua_kong_service[] = {
    {"set_upstream", SB_LUA_ACCESS, set_upstream},
    {"set_target", TLS_PHASES, set_target},
    {"set_retries", SB_LUA_ACCESS, set_retries},
    {"set_timeouts", SB_LUA_ACCESS, set_timeouts},
    {"set_tls_verify", TLS_PHASES, set_tls_verify},
    {"set_tls_verify_depth", TLS_PHASES, set_tls_verify_depth},
    {0},
};

/* -- kong.service.response -- */

static int get_status(lua_State *L, struct sb_lua_run *r)
{
    int status = sb_exchange_upstream_status(r->x);

    if (!status)
        return 0;
    lua_pushinteger(L, status);
    return 1;
}

static int get_headers(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_headers(L, r, sb_lua_arg_max(L, 1, "max_headers"), sb_exchange_each_service_header);
    return 1;
}

static int get_header(lua_State *L, struct sb_lua_run *r)
{
    (void)sb_lua_arg_str(L, 1, "header name");
    sb_lua_push_headers(L, r, 1000, sb_exchange_each_service_header);
    lua_pushvalue(L, 1);
    lua_gettable(L, -2);
    if (lua_istable(L, -1))
        lua_rawgeti(L, -1, 1);
    return 1;
}

static struct sb_str whole(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str body = SB_STR("");

    if (!sb_exchange_buffers(r->x))
        luaL_error(L, "service body is only available with buffered proxying (see: "
                      "kong.service.request.enable_buffering function)");
    (void)sb_exchange_response_body(r->x, &body);
    return body;
}

static int get_raw_body(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push(L, whole(L, r));
    return 1;
}

static bool find_type(void *arg, struct sb_str name, struct sb_str value)
{
    if (sb_str_ieq(name, SB_STR("content-type")))
        *(struct sb_str *)arg = value;
    return true;
}

static bool begins(struct sb_str s, const char *prefix)
{
    return sb_str_ieq(sb_str_first(s, strlen(prefix)), sb_str_c(prefix));
}

static int get_body(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str body = whole(L, r), type = {0};
    struct sb_err err;

    if (lua_isstring(L, 1))
        type = sb_lua_str(L, 1);
    else
        sb_exchange_each_service_header(r->x, find_type, &type);
    if (!type.p)
        return sb_lua_nil(L, "missing content type");
    if (begins(type, "application/x-www-form-urlencoded")) {
        sb_lua_push_args(L, r, body, sb_lua_arg_max(L, 2, "max_args"));
        return 1;
    }
    if (!begins(type, "application/json")) {
        lua_pushnil(L);
        sb_lua_push(L, type);
        lua_pushfstring(L, "unsupported content type '%s' was provided", lua_tostring(L, -1));
        lua_remove(L, -2);
        return 2;
    }
    if (!sb_lua_push_json(L, sb_exchange_arena(r->x), body, true, &err) || !lua_istable(L, -1))
        return sb_lua_nil(L, "invalid json body");
    return 1;
}

enum {
    RESPONSE_PHASES = SB_LUA_RESPONSE | SB_LUA_HEADER_FILTER | SB_LUA_BODY_FILTER | SB_LUA_LOG,
};

const struct sb_lua_fn sb_lua_kong_service_response[] = {
    {"get_status", RESPONSE_PHASES, get_status}, {"get_headers", RESPONSE_PHASES, get_headers},
    {"get_header", RESPONSE_PHASES, get_header}, {"get_raw_body", RESPONSE_PHASES, get_raw_body},
    {"get_body", RESPONSE_PHASES, get_body},     {0},
};
