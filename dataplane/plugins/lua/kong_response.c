/* kong_response.c - kong.response: what the client gets. */
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/answer.h"
#include "dataplane/plugins/lua/value.h"
#include "shared/log.h"

enum {
    AFTER = SB_LUA_RESPONSE | SB_LUA_HEADER_FILTER | SB_LUA_BODY_FILTER | SB_LUA_LOG |
            SB_LUA_ERROR | SB_LUA_ADMIN_API,
    BEFORE = SB_LUA_RW_AC | SB_LUA_RESPONSE | SB_LUA_BALANCER | SB_LUA_HEADER_FILTER |
             SB_LUA_ERROR | SB_LUA_ADMIN_API,
};

/* -- reading -- */

static int get_status(lua_State *L, struct sb_lua_run *r)
{
    lua_pushinteger(L, sb_exchange_status(r->x));
    return 1;
}

static int get_headers(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_headers(L, r, sb_lua_arg_max(L, 1, "max_headers"), sb_exchange_each_final_header);
    return 1;
}

static int get_header(lua_State *L, struct sb_lua_run *r)
{
    (void)sb_lua_arg_str(L, 1, "header name");
    sb_lua_push_headers(L, r, 1000, sb_exchange_each_final_header);
    lua_pushvalue(L, 1);
    lua_gettable(L, -2);
    if (lua_istable(L, -1))
        lua_rawgeti(L, -1, 1);
    return 1;
}

static int get_source(lua_State *L, struct sb_lua_run *r)
{
    static const char *const names[] = {"service", "exit", "error"};

    lua_pushstring(L, names[sb_exchange_source(r->x)]);
    return 1;
}

/* -- changing -- */

static int status_of(lua_State *L, int at, int min)
{
    double n = sb_lua_arg_num(L, at, "code");

    if (n < min || n > 599)
        luaL_error(L, "code must be a number between %d and %d", min, 599);
    return (int)n;
}

static int set_status(lua_State *L, struct sb_lua_run *r)
{
    sb_exchange_set_status(r->x, status_of(L, 1, 100));
    return 0;
}

static struct sb_str hyphens(struct sb_lua_run *r, struct sb_str name)
{
    char *p = sb_arena_cstr(sb_exchange_arena(r->x), name);

    for (size_t i = 0; i < name.len; i++)
        p[i] = p[i] == '_' ? '-' : p[i];
    return sb_str_n(p, name.len);
}

void sb_lua_response_header(lua_State *L, struct sb_lua_run *r, struct sb_str name, int value,
                            bool add)
{
    name = hyphens(r, name);
    if (sb_str_ieq(name, SB_STR("transfer-encoding"))) {
        sb_warn("[%s] manually setting Transfer-Encoding. Ignored.",
                r->instance ? r->instance->plugin->name : "lua");
        return;
    }
    if (sb_str_ieq(name, SB_STR("content-length")) && !lua_isnoneornil(L, value))
        return; /* bodies are framed by who sends them */
    if (lua_isnoneornil(L, value) || (lua_istable(L, value) && lua_objlen(L, value) == 0))
        sb_exchange_set_response_header(r->x, name, (struct sb_str){0});
    else
        sb_lua_put_header(L, r, name, value,
                          add ? sb_exchange_add_response_header : sb_exchange_set_response_header,
                          sb_exchange_add_response_header);
}

static int set_header(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_check_header(L, 1, 2);
    sb_lua_response_header(L, r, sb_lua_str(L, 1), 2, false);
    return 0;
}

static int add_header(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_check_header(L, 1, 2);
    sb_lua_response_header(L, r, sb_lua_str(L, 1), 2, true);
    return 0;
}

static int clear_header(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str name = sb_lua_arg_str(L, 1, "header name");

    sb_exchange_set_response_header(r->x, hyphens(r, name), (struct sb_str){0});
    return 0;
}

static int set_headers(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_check_headers(L, 1);
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        int top = lua_gettop(L);

        sb_lua_response_header(L, r, sb_lua_str(L, top - 1), top, false);
        lua_settop(L, top - 1);
    }
    return 0;
}

/* -- bodies that pass -- */

static struct sb_str keep(struct sb_lua_run *r, struct sb_str s)
{
    return sb_arena_str(sb_exchange_arena(r->x), s);
}

static int get_raw_body(lua_State *L, struct sb_lua_run *r)
{
    struct sb_buf *held = &r->req->body;

    if (!r->chunk->last || r->req->buffered) {
        r->req->buffered = true;
        sb_buf_str(held, r->chunk->data);
        if (held->full)
            return luaL_error(L, "the response is too large to be held back");
        r->chunk->data = SB_STR("");
    }
    if (!r->chunk->last)
        return 0;
    if (r->req->buffered)
        r->chunk->data = keep(r, sb_buf_get(held));
    r->req->buffered = false;
    sb_buf_clear(held);
    sb_lua_push(L, r->chunk->data);
    return 1;
}

static int set_raw_body(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str body = sb_lua_arg_str(L, 1, "body");

    r->chunk->data = body.len ? keep(r, body) : SB_STR("\n");
    r->req->body_ended = true;
    r->req->buffered = false;
    sb_buf_clear(&r->req->body);
    return 0;
}

/* -- answering -- */

static bool is_type(struct sb_str name)
{
    return sb_str_ieq(name, SB_STR("content-type")) || sb_str_ieq(name, SB_STR("content_type"));
}

/* Those of the table; the type is given back. */
static struct sb_str put_headers(lua_State *L, struct sb_lua_run *r, int headers)
{
    struct sb_str type = {0};

    lua_pushnil(L);
    while (lua_next(L, headers)) {
        int top = lua_gettop(L);
        struct sb_str name = sb_lua_str(L, top - 1);

        if (is_type(name) && lua_isstring(L, top))
            type = keep(r, sb_lua_header_value(L, r, top));
        else
            sb_lua_response_header(L, r, name, top, false);
        lua_settop(L, top - 1);
    }
    return type;
}

/* With these, nginx closes the connection without a word. */
static void cut_off(struct sb_lua_run *r, int status)
{
    if (status == 444 || status == 499)
        sb_exchange_cut(r->x);
}

void sb_lua_answer(lua_State *L, struct sb_lua_run *r, int status, struct sb_str body,
                   struct sb_str type, int headers)
{
    struct sb_str given = headers ? put_headers(L, r, headers) : (struct sb_str){0};

    if (!body.p && !given.p)
        sb_exchange_answer_status(r->x, status);
    else
        sb_exchange_answer(r->x, status, given.p ? given : type, body, NULL, 0);
    cut_off(r, status);
}

static void check_answer(lua_State *L)
{
    if (!lua_isnoneornil(L, 3) && !lua_istable(L, 3))
        luaL_error(L, "headers must be a nil or table");
    if (lua_istable(L, 3))
        sb_lua_check_headers(L, 3);
}

static int answer_exit(lua_State *L, struct sb_lua_run *r)
{
    int status = status_of(L, 1, 100), type = lua_type(L, 2);
    struct sb_str body = {0}, why;

    if (!lua_isnoneornil(L, 2) && type != LUA_TSTRING && type != LUA_TTABLE)
        return luaL_error(L, "body must be a nil, string or table");
    check_answer(L);
    if (type == LUA_TSTRING)
        body = sb_lua_str(L, 2);
    if (type == LUA_TTABLE) {
        body = sb_lua_to_json(L, 2, sb_exchange_arena(r->x), &why);
        if (!body.p) {
            sb_lua_push(L, why);
            return luaL_error(L, "body encoding failed while flushing response: %s",
                              lua_tostring(L, -1));
        }
    }
    sb_lua_answer(L, r, status, body,
                  type == LUA_TTABLE ? SB_STR("application/json; charset=utf-8") : SB_STR(""),
                  lua_istable(L, 3) ? 3 : 0);
    return sb_lua_exit(L, r);
}

static int answer_error(lua_State *L, struct sb_lua_run *r)
{
    int status = status_of(L, 1, 400), kind = lua_type(L, 2);
    struct sb_str message = {0}, why, type;

    if (kind == LUA_TTABLE) {
        message = sb_lua_to_json(L, 2, sb_exchange_arena(r->x), &why);
        if (!message.p) {
            sb_lua_push(L, why);
            return luaL_error(L, "could not JSON encode the error message: %s",
                              lua_tostring(L, -1));
        }
    } else if (kind == LUA_TSTRING) {
        message = sb_lua_str(L, 2);
    } else if (!lua_isnoneornil(L, 2)) {
        return luaL_error(L, "message must be a nil, a string or a table");
    }
    check_answer(L);
    type = lua_istable(L, 3) ? put_headers(L, r, 3) : (struct sb_str){0};
    sb_exchange_answer_error(r->x, status, message);
    cut_off(r, status);
    if (type.p)
        sb_exchange_set_response_header(r->x, SB_STR("Content-Type"), type);
    return sb_lua_exit(L, r);
}

const struct sb_lua_fn sb_lua_kong_response[] = {
    {"get_status", AFTER, get_status},
    {"get_header", AFTER, get_header},
    {"get_headers", AFTER, get_headers},
    {"get_source", AFTER, get_source},
    {"set_status", BEFORE, set_status},
    {"set_header", BEFORE, set_header},
    {"add_header", BEFORE, add_header},
    {"clear_header", BEFORE, clear_header},
    {"set_headers", BEFORE, set_headers},
    {"get_raw_body", SB_LUA_BODY_FILTER, get_raw_body},
    {"set_raw_body", SB_LUA_BODY_FILTER, set_raw_body},
    {"exit", BEFORE, answer_exit},
    {"error", BEFORE, answer_error},
    {0},
};
