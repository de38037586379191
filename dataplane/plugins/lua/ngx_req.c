/* ngx_req.c - ngx.req and ngx.resp: the request and the response, as nginx's module gives them. */
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/body.h"
#include "dataplane/plugins/lua/value.h"

/* A limit as these functions take it: 0 is as many as there may be. */
static int limit(lua_State *L, int at)
{
    int n = (int)luaL_optinteger(L, at, 100);

    return n > 0 && n <= 1000 ? n : 1000;
}

static int get_headers(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_headers(L, r, limit(L, 1), sb_exchange_each_request_header);
    return 1;
}

static int get_uri_args(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_query(L, r, limit(L, 1));
    return 1;
}

static int get_method(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push(L, sb_exchange_upstream_method(r->x));
    return 1;
}

static int set_method(lua_State *L, struct sb_lua_run *r)
{
    static const char *const methods[] = {[1] = "GET", "HEAD", "POST",   "PUT",     "DELETE",
                                          "MKCOL",     "COPY", "MOVE",   "OPTIONS", "PROPFIND",
                                          "PROPPATCH", "LOCK", "UNLOCK", "PATCH",   "TRACE"};
    int id = (int)luaL_checkinteger(L, 1);

    for (size_t i = 1; i < sizeof methods / sizeof *methods; i++)
        if (id == 1 << i) {
            sb_exchange_set_upstream_method(r->x, sb_str_c(methods[i]));
            return 0;
        }
    return luaL_error(L, "unsupported HTTP method: %d", id);
}

static int http_version(lua_State *L, struct sb_lua_run *r)
{
    double version;

    if (!sb_str_num(sb_exchange_http_version(r->x), &version))
        return 0;
    lua_pushnumber(L, version);
    return 1;
}

static int start_time(lua_State *L, struct sb_lua_run *r)
{
    lua_pushnumber(L, (double)(sb_exchange_timings(r->x).start_us / 1000) / 1000);
    return 1;
}

static int is_internal(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    lua_pushboolean(L, false);
    return 1;
}

/* -- changes -- */

static int set_header(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str name;

    (void)luaL_checkstring(L, 1);
    name = sb_lua_str(L, 1);
    if (lua_isnoneornil(L, 2) || (lua_istable(L, 2) && lua_objlen(L, 2) == 0))
        sb_exchange_set_upstream_header(r->x, name, (struct sb_str){0});
    else if (!lua_istable(L, 2) && !lua_isstring(L, 2) && !lua_isboolean(L, 2))
        return luaL_error(L, "bad header value: %s", luaL_typename(L, 2));
    else
        sb_lua_put_header(L, r, name, 2, sb_exchange_set_upstream_header,
                          sb_exchange_add_upstream_header);
    return 0;
}

static int clear_header(lua_State *L, struct sb_lua_run *r)
{
    (void)luaL_checkstring(L, 1);
    sb_exchange_set_upstream_header(r->x, sb_lua_str(L, 1), (struct sb_str){0});
    return 0;
}

static int set_uri_args(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str args;

    if (lua_istable(L, 1))
        args = sb_lua_encode_args(L, 1, sb_exchange_arena(r->x), false);
    else
        args = (luaL_checkstring(L, 1), sb_lua_str(L, 1));
    sb_lua_put_query(r, args);
    return 0;
}

/* -- the body -- */

static int finish_read(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str body;

    (void)L;
    return sb_lua_body(r, SB_LUA_BODY_MAX, &body) == SB_AGAIN ? -1 : 0;
}

static int read_body(lua_State *L, struct sb_lua_run *r)
{
    r->req->body_read = true;
    return sb_lua_with_body(L, r, finish_read);
}

static bool body_there(struct sb_lua_run *r, struct sb_str *body)
{
    return (r->req->body_read || sb_exchange_replaced_body(r->x, body)) &&
           sb_lua_body(r, SB_LUA_BODY_MAX, body) == SB_OK && body->len;
}

static int get_body_data(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str body;

    if (!body_there(r, &body))
        return 0;
    sb_lua_push(L, body);
    return 1;
}

static int get_post_args(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str body = SB_STR("");
    int max = limit(L, 1);

    if (!r->req->body_read)
        return luaL_error(L, "no request body found; maybe you should turn on "
                             "lua_need_request_body?");
    (void)body_there(r, &body);
    sb_lua_push_args(L, r, body, max);
    return 1;
}

static int set_body_data(lua_State *L, struct sb_lua_run *r)
{
    (void)luaL_checkstring(L, 1);
    sb_exchange_set_upstream_body(r->x, sb_lua_str(L, 1));
    return 0;
}

const struct sb_lua_fn sb_lua_ngx_req[] = {
    {"get_headers", 0, get_headers},
    {"get_uri_args", 0, get_uri_args},
    {"get_method", 0, get_method},
    {"set_method", SB_LUA_RW_AC, set_method},
    {"http_version", 0, http_version},
    {"start_time", 0, start_time},
    {"is_internal", 0, is_internal},
    {"set_header", SB_LUA_RW_AC, set_header},
    {"clear_header", SB_LUA_RW_AC, clear_header},
    {"set_uri_args", SB_LUA_RW_AC, set_uri_args},
    {"read_body", SB_LUA_RW_AC, read_body},
    {"get_body_data", SB_LUA_RW_AC, get_body_data},
    {"get_post_args", SB_LUA_RW_AC, get_post_args},
    {"set_body_data", SB_LUA_RW_AC, set_body_data},
    {0},
};

static int resp_get_headers(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_headers(L, r, limit(L, 1), sb_exchange_each_final_header);
    return 1;
}

const struct sb_lua_fn sb_lua_ngx_resp[] = {{"get_headers", 0, resp_get_headers}, {0}};
