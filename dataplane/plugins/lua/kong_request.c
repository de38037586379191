/* kong_request.c - kong.request: what the client sent, with what plugins changed in it. */
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/body.h"
#include "dataplane/plugins/lua/pdk.h"
#include "dataplane/router/router.h"

static int push(lua_State *L, struct sb_str s)
{
    sb_lua_push(L, s);
    return 1;
}

static int get_scheme(lua_State *L, struct sb_lua_run *r)
{
    lua_pushstring(L, sb_exchange_https(r->x) ? "https" : "http");
    return 1;
}

static int get_host(lua_State *L, struct sb_lua_run *r)
{
    return push(L, sb_exchange_host(r->x));
}

static int get_port(lua_State *L, struct sb_lua_run *r)
{
    lua_pushinteger(L, sb_exchange_server_port(r->x));
    return 1;
}

/* -- as trusted peers tell it -- */

static struct sb_str told(struct sb_lua_run *r, const char *name)
{
    return sb_exchange_trusted(r->x) ? sb_exchange_header(r->x, sb_str_c(name))
                                     : (struct sb_str){0};
}

static int push_lower(lua_State *L, struct sb_lua_run *r, struct sb_str s)
{
    char *p = sb_arena_cstr(sb_exchange_arena(r->x), s);

    for (size_t i = 0; i < s.len; i++)
        p[i] = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] | 0x20) : p[i];
    return push(L, sb_str_n(p, s.len));
}

static int get_forwarded_scheme(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str s = told(r, "x-forwarded-proto");

    return s.p ? push_lower(L, r, s) : get_scheme(L, r);
}

/* What is told of the host without its user; port: what stands behind the name. */
static struct sb_str told_host(struct sb_lua_run *r, struct sb_str *port)
{
    struct sb_str host = told(r, "x-forwarded-host");
    ptrdiff_t at = sb_str_chr(host, '@', 0), colon;

    if (at >= 0)
        host = sb_str_from(host, (size_t)at + 1);
    colon = sb_str_chr(host, ':', 0);
    *port = colon < 0 ? (struct sb_str){0} : sb_str_from(host, (size_t)colon + 1);
    return colon < 0 ? host : sb_str_first(host, (size_t)colon);
}

static int get_forwarded_host(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str port, host = told_host(r, &port);

    return host.p ? push_lower(L, r, host) : get_host(L, r);
}

static bool is_port(struct sb_str s, int64_t *port)
{
    return sb_str_int(s, port) && *port >= 1 && *port <= 65535;
}

static int get_forwarded_port(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str of_host;
    int64_t port;

    (void)told_host(r, &of_host);
    if (!is_port(told(r, "x-forwarded-port"), &port) && !is_port(of_host, &port))
        port = sb_exchange_forwarded_port(r->x);
    lua_pushinteger(L, (lua_Integer)port);
    return 1;
}

/* -- the line -- */

static int get_path(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str raw = sb_exchange_raw_path(r->x);
    char *out = sb_arena_alloc(sb_exchange_arena(r->x), raw.len + 1);
    size_t len;

    return push(L, sb_path_normalise(raw, out, &len) ? sb_str_n(out, len) : raw);
}

static int get_forwarded_path(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str s = told(r, "x-forwarded-path");

    return s.p ? push(L, s) : get_path(L, r);
}

static int get_forwarded_prefix(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str s = told(r, "x-forwarded-prefix");

    if (!s.p)
        s = sb_exchange_prefix(r->x);
    return s.len ? push(L, s) : 0;
}

static int get_http_version(lua_State *L, struct sb_lua_run *r)
{
    double version;

    if (!sb_str_num(sb_exchange_http_version(r->x), &version))
        return 0;
    lua_pushnumber(L, version);
    return 1;
}

static int get_method(lua_State *L, struct sb_lua_run *r)
{
    return push(L, sb_exchange_upstream_method(r->x));
}

static int get_raw_path(lua_State *L, struct sb_lua_run *r)
{
    return push(L, sb_exchange_raw_path(r->x));
}

static int get_path_with_query(lua_State *L, struct sb_lua_run *r)
{
    return push(L, sb_exchange_raw_target(r->x));
}

static int get_raw_query(lua_State *L, struct sb_lua_run *r)
{
    return push(L, sb_exchange_upstream_query(r->x));
}

static int get_query(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_query(L, r, sb_lua_arg_max(L, 1, "max_args"));
    return 1;
}

/* The first of them, where there are more. */
static int first_of(lua_State *L)
{
    if (lua_istable(L, -1))
        lua_rawgeti(L, -1, 1);
    return 1;
}

static int get_query_arg(lua_State *L, struct sb_lua_run *r)
{
    (void)sb_lua_arg_str(L, 1, "query argument name");
    sb_lua_push_query(L, r, 100);
    lua_pushvalue(L, 1);
    lua_rawget(L, -2);
    return first_of(L);
}

/* -- headers -- */

static int get_header(lua_State *L, struct sb_lua_run *r)
{
    (void)sb_lua_arg_str(L, 1, "header name");
    sb_lua_push_headers(L, r, 1000, sb_exchange_each_request_header);
    lua_pushvalue(L, 1);
    lua_gettable(L, -2);
    return first_of(L);
}

static int get_headers(lua_State *L, struct sb_lua_run *r)
{
    int max = sb_lua_arg_max(L, 1, "max_headers");

    sb_lua_push_headers(L, r, max, sb_exchange_each_request_header);
    return 1;
}

/* -- and the rest -- */

static int get_start_time(lua_State *L, struct sb_lua_run *r)
{
    lua_pushnumber(L, (double)(sb_exchange_timings(r->x).start_us / 1000));
    return 1;
}

static int get_uri_captures(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_captures(L, r, true); /* by number, by name */
    lua_createtable(L, 0, 2);
    lua_insert(L, -3);
    lua_setfield(L, -3, "named");
    lua_setfield(L, -2, "unnamed");
    return 1;
}

enum { BODY_PHASES = SB_LUA_RW_AC | SB_LUA_RESPONSE | SB_LUA_ERROR | SB_LUA_ADMIN_API };

const struct sb_lua_fn sb_lua_kong_request[] = {
    {"get_scheme", SB_LUA_REQUEST_PHASES, get_scheme},
    {"get_host", SB_LUA_REQUEST_PHASES, get_host},
    {"get_port", 0, get_port},
    {"get_forwarded_scheme", SB_LUA_REQUEST_PHASES, get_forwarded_scheme},
    {"get_forwarded_host", SB_LUA_REQUEST_PHASES, get_forwarded_host},
    {"get_forwarded_port", SB_LUA_REQUEST_PHASES, get_forwarded_port},
    {"get_forwarded_path", SB_LUA_REQUEST_PHASES, get_forwarded_path},
    {"get_forwarded_prefix", SB_LUA_REQUEST_PHASES, get_forwarded_prefix},
    {"get_http_version", SB_LUA_REQUEST_PHASES, get_http_version},
    {"get_method", SB_LUA_REQUEST_PHASES, get_method},
    {"get_path", SB_LUA_REQUEST_PHASES, get_path},
    {"get_raw_path", SB_LUA_REQUEST_PHASES, get_raw_path},
    {"get_path_with_query", SB_LUA_REQUEST_PHASES, get_path_with_query},
    {"get_raw_query", SB_LUA_REQUEST_PHASES, get_raw_query},
    {"get_query_arg", SB_LUA_REQUEST_PHASES, get_query_arg},
    {"get_query", SB_LUA_REQUEST_PHASES, get_query},
    {"get_header", SB_LUA_REQUEST_PHASES, get_header},
    {"get_headers", SB_LUA_REQUEST_PHASES, get_headers},
    {"get_raw_body", BODY_PHASES, sb_lua_get_raw_body},
    {"get_body", BODY_PHASES, sb_lua_get_body},
    {"get_start_time", SB_LUA_REQUEST_PHASES, get_start_time},
    {"get_uri_captures", SB_LUA_REQUEST_PHASES, get_uri_captures},
    {0},
};
