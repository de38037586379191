/* ngx.c - ngx itself: constants, the tables that are more than tables (ctx, var, header, arg),
 * answers, logs and naps. */
#include <event2/event.h>
#include <event2/event_struct.h>
#include <unistd.h>

#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/answer.h"
#include "dataplane/plugins/lua/codec.h"
#include "dataplane/plugins/lua/log.h"

static const struct {
    const char *name;
    int value;
} constants[] = {
    {"OK", 0},
    {"ERROR", -1},
    {"AGAIN", -2},
    {"DONE", -4},
    {"DECLINED", -5},
    {"STDERR", 0},
    {"EMERG", 1},
    {"ALERT", 2},
    {"CRIT", 3},
    {"ERR", 4},
    {"WARN", 5},
    {"NOTICE", 6},
    {"INFO", 7},
    {"DEBUG", 8},
    {"HTTP_GET", 2},
    {"HTTP_HEAD", 4},
    {"HTTP_POST", 8},
    {"HTTP_PUT", 16},
    {"HTTP_DELETE", 32},
    {"HTTP_MKCOL", 64},
    {"HTTP_COPY", 128},
    {"HTTP_MOVE", 256},
    {"HTTP_OPTIONS", 512},
    {"HTTP_PROPFIND", 1024},
    {"HTTP_PROPPATCH", 2048},
    {"HTTP_LOCK", 4096},
    {"HTTP_UNLOCK", 8192},
    {"HTTP_PATCH", 16384},
    {"HTTP_TRACE", 32768},
    {"HTTP_CONTINUE", 100},
    {"HTTP_SWITCHING_PROTOCOLS", 101},
    {"HTTP_OK", 200},
    {"HTTP_CREATED", 201},
    {"HTTP_ACCEPTED", 202},
    {"HTTP_NO_CONTENT", 204},
    {"HTTP_PARTIAL_CONTENT", 206},
    {"HTTP_SPECIAL_RESPONSE", 300},
    {"HTTP_MOVED_PERMANENTLY", 301},
    {"HTTP_MOVED_TEMPORARILY", 302},
    {"HTTP_SEE_OTHER", 303},
    {"HTTP_NOT_MODIFIED", 304},
    {"HTTP_TEMPORARY_REDIRECT", 307},
    {"HTTP_PERMANENT_REDIRECT", 308},
    {"HTTP_BAD_REQUEST", 400},
    {"HTTP_UNAUTHORIZED", 401},
    {"HTTP_PAYMENT_REQUIRED", 402},
    {"HTTP_FORBIDDEN", 403},
    {"HTTP_NOT_FOUND", 404},
    {"HTTP_NOT_ALLOWED", 405},
    {"HTTP_NOT_ACCEPTABLE", 406},
    {"HTTP_REQUEST_TIMEOUT", 408},
    {"HTTP_CONFLICT", 409},
    {"HTTP_GONE", 410},
    {"HTTP_UPGRADE_REQUIRED", 426},
    {"HTTP_TOO_MANY_REQUESTS", 429},
    {"HTTP_CLOSE", 444},
    {"HTTP_ILLEGAL", 451},
    {"HTTP_INTERNAL_SERVER_ERROR", 500},
    {"HTTP_NOT_IMPLEMENTED", 501},
    {"HTTP_METHOD_NOT_IMPLEMENTED", 501},
    {"HTTP_BAD_GATEWAY", 502},
    {"HTTP_SERVICE_UNAVAILABLE", 503},
    {"HTTP_GATEWAY_TIMEOUT", 504},
    {"HTTP_VERSION_NOT_SUPPORTED", 505},
    {"HTTP_INSUFFICIENT_STORAGE", 507},
};

/* -- answers -- */

/* Text, numbers, booleans, nil and arrays of these. */
static void print_value(lua_State *L, struct sb_buf *b, int at)
{
    switch (lua_type(L, at)) {
    case LUA_TSTRING:
    case LUA_TNUMBER:
        lua_pushvalue(L, at);
        sb_buf_str(b, sb_lua_str(L, -1));
        lua_pop(L, 1);
        return;
    case LUA_TBOOLEAN:
        sb_buf_cstr(b, lua_toboolean(L, at) ? "true" : "false");
        return;
    case LUA_TNIL:
        sb_buf_cstr(b, "nil");
        return;
    case LUA_TLIGHTUSERDATA:
        sb_buf_cstr(b, "null");
        return;
    case LUA_TTABLE:
        luaL_checkstack(L, 4, "a table is nested too deeply");
        for (int i = 1, n = (int)lua_objlen(L, at); i <= n; i++) {
            lua_rawgeti(L, at, i);
            print_value(L, b, lua_gettop(L));
            lua_pop(L, 1);
        }
        return;
    default:
        luaL_error(L,
                   "bad argument to 'print' (string, number, boolean, nil, ngx.null, or array "
                   "table expected, but got %s)",
                   luaL_typename(L, at));
    }
}

static int print(lua_State *L, struct sb_lua_run *r)
{
    struct sb_buf *b = &r->req->out;

    for (int i = 1, n = lua_gettop(L); i <= n; i++)
        print_value(L, b, i);
    if (b->full)
        return luaL_error(L, "the answer is too large");
    r->req->printed = true;
    lua_pushinteger(L, 1);
    return 1;
}

static int say(lua_State *L, struct sb_lua_run *r)
{
    lua_pushliteral(L, "\n");
    return print(L, r);
}

/* What was printed is the answer, with the status that was set. */
static void answer_printed(lua_State *L, struct sb_lua_run *r, int status)
{
    struct sb_lua_request *req = r->req;

    if (req->status)
        status = req->status;
    sb_lua_answer(L, r, status >= 100 && status < 600 ? status : 200, sb_buf_get(&req->out),
                  SB_STR(""), 0);
    sb_buf_clear(&req->out);
    req->printed = false;
}

static int ngx_exit(lua_State *L, struct sb_lua_run *r)
{
    int status = (int)luaL_checkinteger(L, 1);

    if (r->phase == SB_LUA_HEADER_FILTER) {
        if (status < 0)
            sb_exchange_cut(r->x);
        return sb_lua_exit(L, r);
    }
    if (!(r->phase & SB_LUA_RW_AC))
        return luaL_error(L, "API disabled in the context of %s", sb_lua_phase_name(r->phase));
    if (r->req->printed)
        answer_printed(L, r, status);
    else if (status >= 100 && status < 600)
        sb_lua_answer(L, r, status, (struct sb_str){0}, SB_STR(""), 0);
    else if (status == -1)
        sb_exchange_answer_error(r->x, 500, SB_STR(""));
    return sb_lua_exit(L, r);
}

static int redirect(lua_State *L, struct sb_lua_run *r)
{
    int status = (int)luaL_optinteger(L, 2, 302);

    luaL_checkstring(L, 1);
    if (status != 301 && status != 302 && status != 303 && status != 307 && status != 308)
        return luaL_error(L, "only 301, 302, 303, 307 and 308 are allowed");
    sb_lua_response_header(L, r, SB_STR("Location"), 1, false);
    sb_lua_answer(L, r, status, (struct sb_str){0}, SB_STR(""), 0);
    return sb_lua_exit(L, r);
}

/* Answers go out in one piece, once the handler ended. */
static int send_later(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    lua_pushinteger(L, 1);
    return 1;
}

/* -- waiting -- */

static void on_awake(evutil_socket_t fd, short what, void *arg)
{
    struct sb_exchange *x = arg;

    (void)fd;
    (void)what;
    sb_exchange_resume_again(x);
}

static void stop(void *arg)
{
    event_del(arg);
}

static int awake(lua_State *L, struct sb_lua_run *r)
{
    (void)L;
    (void)r;
    return 0;
}

static int ngx_sleep(lua_State *L, struct sb_lua_run *r)
{
    double seconds = luaL_checknumber(L, 1);
    struct timeval tv = {.tv_sec = (time_t)seconds};
    struct event *ev;

    if (!(seconds >= 0 && seconds < 1e6))
        return luaL_error(L, "invalid sleep duration \"%f\"", seconds);
    if (!sb_lua_may_wait(r))
        return luaL_error(L, "API disabled in the context of %s", sb_lua_phase_name(r->phase));
    tv.tv_usec = (suseconds_t)((seconds - (double)tv.tv_sec) * 1e6);
    ev = sb_arena_zero(sb_exchange_arena(r->x), sizeof *ev);
    event_assign(ev, sb_exchange_loop(r->x), -1, 0, on_awake, r->x);
    event_add(ev, &tv);
    sb_arena_defer(sb_exchange_arena(r->x), stop, ev);
    return sb_lua_wait(L, r, awake);
}

/* -- and the rest -- */

static int ngx_log(lua_State *L, struct sb_lua_run *r)
{
    int level = (int)luaL_checkinteger(L, 1);

    if (level < 0 || level > 8)
        return luaL_error(L, "bad log level: %d", level);
    sb_lua_log(L, r, level ? (enum sb_log_level)(level - 1) : SB_LOG_EMERG, 2);
    return 0;
}

static int get_phase(lua_State *L, struct sb_lua_run *r)
{
    lua_pushstring(L, sb_lua_phase_name(r->phase));
    return 1;
}

static int worker_id(lua_State *L, struct sb_lua_run *r)
{
    lua_pushinteger(L, (lua_Integer)sb_exchange_worker(r->x));
    return 1;
}

static int worker_pid(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    lua_pushinteger(L, (lua_Integer)getpid());
    return 1;
}

static int worker_exiting(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    lua_pushboolean(L, false);
    return 1;
}

const struct sb_lua_fn sb_lua_ngx_worker[] = {
    {"id", 0, worker_id},
    {"pid", 0, worker_pid},
    {"exiting", 0, worker_exiting},
    {0},
};

/* -- ngx.var -- */

static int var_index(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str value = sb_exchange_variable(r->x, sb_lua_arg_str(L, 2, "variable name"));

    if (!value.p)
        return 0;
    sb_lua_push(L, value);
    return 1;
}

static int var_newindex(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    return luaL_error(L, "variable \"%s\" not changeable", luaL_checkstring(L, 2));
}

/* -- ngx.header -- */

static int header_index(lua_State *L, struct sb_lua_run *r)
{
    (void)sb_lua_arg_str(L, 2, "header name");
    sb_lua_push_headers(L, r, 1000, sb_exchange_each_final_header);
    lua_pushvalue(L, 2);
    lua_gettable(L, -2);
    return 1;
}

static int header_newindex(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str name = sb_lua_arg_str(L, 2, "header name");

    if (r->phase & (SB_LUA_BODY_FILTER | SB_LUA_LOG))
        return luaL_error(L, "attempt to set ngx.header.%s after sending out response headers",
                          name.p);
    if (!lua_isnil(L, 3) && !lua_istable(L, 3) && !lua_isstring(L, 3) && !lua_isboolean(L, 3))
        return luaL_error(L, "invalid header value: %s", luaL_typename(L, 3));
    sb_lua_response_header(L, r, name, 3, false);
    return 0;
}

/* -- ngx.arg -- */

static int arg_index(lua_State *L, struct sb_lua_run *r)
{
    if (!r->chunk)
        return luaL_error(L, "API disabled in the current context");
    if (lua_tointeger(L, 2) == 1)
        sb_lua_push(L, r->chunk->data);
    else if (lua_tointeger(L, 2) == 2)
        lua_pushboolean(L, r->chunk->last || r->req->body_ended);
    else
        return 0;
    return 1;
}

static int arg_newindex(lua_State *L, struct sb_lua_run *r)
{
    struct sb_buf b;

    if (!r->chunk)
        return luaL_error(L, "API disabled in the current context");
    if (lua_tointeger(L, 2) == 2) {
        r->req->body_ended = lua_toboolean(L, 3);
        return 0;
    }
    if (lua_tointeger(L, 2) != 1)
        return luaL_error(L, "attempt to write to ngx.arg[%d]", (int)lua_tointeger(L, 2));
    if (lua_isstring(L, 3)) {
        r->chunk->data = sb_arena_str(sb_exchange_arena(r->x), sb_lua_str(L, 3));
        return 0;
    }
    sb_buf_init(&b, 64 << 20);
    if (lua_istable(L, 3))
        print_value(L, &b, 3);
    r->chunk->data = sb_arena_str(sb_exchange_arena(r->x), sb_buf_get(&b));
    sb_buf_release(&b);
    return 0;
}

/* -- ngx.ctx, ngx.status, ngx.headers_sent -- */

static int ngx_index(lua_State *L, struct sb_lua_run *r)
{
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";

    if (strcmp(name, "ctx") == 0) {
        sb_lua_push_context(L, r->req, "ngx");
        return 1;
    }
    if (strcmp(name, "status") == 0) {
        lua_pushinteger(L, sb_exchange_status(r->x) ? sb_exchange_status(r->x) : r->req->status);
        return 1;
    }
    if (strcmp(name, "headers_sent") == 0) {
        lua_pushboolean(L, r->phase & (SB_LUA_BODY_FILTER | SB_LUA_LOG));
        return 1;
    }
    if (strcmp(name, "is_subrequest") == 0) {
        lua_pushboolean(L, false);
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(3)); /* what is not there */
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_call(L, 2, 1);
    return 1;
}

static int ngx_newindex(lua_State *L, struct sb_lua_run *r)
{
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";

    if (strcmp(name, "status") == 0) {
        r->req->status = (int)luaL_checkinteger(L, 3);
        if (r->phase == SB_LUA_HEADER_FILTER)
            sb_exchange_set_status(r->x, r->req->status);
        return 0;
    }
    if (strcmp(name, "ctx") == 0) {
        luaL_checktype(L, 3, LUA_TTABLE);
        sb_lua_set_context(L, r->req, "ngx", 3);
        return 0;
    }
    lua_rawset(L, 1);
    return 0;
}

/* -- making it -- */

static void proxy(lua_State *L, struct sb_lua *lua, const char *name, const struct sb_lua_fn *fns)
{
    lua_newtable(L);
    lua_newtable(L);
    for (const struct sb_lua_fn *f = fns; f->name; f++) {
        sb_lua_push_fn(L, lua, f);
        lua_setfield(L, -2, f->name);
    }
    lua_setmetatable(L, -2);
    if (name)
        lua_setfield(L, -2, name);
}

static const struct sb_lua_fn var_fns[] = {
    {"__index", 0, var_index}, {"__newindex", 0, var_newindex}, {0}};
static const struct sb_lua_fn header_fns[] = {
    {"__index", 0, header_index}, {"__newindex", 0, header_newindex}, {0}};
static const struct sb_lua_fn arg_fns[] = {
    {"__index", 0, arg_index}, {"__newindex", 0, arg_newindex}, {0}};

void sb_lua_more_ngx(lua_State *L, struct sb_lua *lua)
{
    static const struct sb_lua_fn index = {"ngx", 0, ngx_index},
                                  newindex = {"ngx", 0, ngx_newindex};

    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        lua_pushinteger(L, constants[i].value);
        lua_setfield(L, -2, constants[i].name);
    }
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    proxy(L, lua, "var", var_fns);
    proxy(L, lua, "header", header_fns);
    proxy(L, lua, "arg", arg_fns);
    lua_newtable(L);
    sb_lua_push_missing(L, "ngx");
    sb_lua_push_fn_with(L, lua, &index);
    lua_setfield(L, -2, "__index");
    sb_lua_push_fn(L, lua, &newindex);
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, -2);
}

void sb_lua_more_config(lua_State *L, struct sb_lua *lua)
{
    (void)lua;
    lua_pushliteral(L, "http");
    lua_setfield(L, -2, "subsystem");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "debug");
    lua_pushinteger(L, 1025003);
    lua_setfield(L, -2, "nginx_version");
    lua_pushinteger(L, 10026);
    lua_setfield(L, -2, "ngx_lua_version");
}

const struct sb_lua_fn sb_lua_ngx[] = {
    {"print", SB_LUA_RW_AC, print},
    {"say", SB_LUA_RW_AC, say},
    {"exit", 0, ngx_exit},
    {"redirect", SB_LUA_RW_AC, redirect},
    {"eof", SB_LUA_RW_AC, send_later},
    {"flush", SB_LUA_RW_AC, send_later},
    {"send_headers", SB_LUA_RW_AC, send_later},
    {"sleep", 0, ngx_sleep},
    {"log", 0, ngx_log},
    {"get_phase", 0, get_phase},
    {"encode_base64", 0, sb_lua_encode_base64},
    {"decode_base64", 0, sb_lua_decode_base64},
    {"md5", 0, sb_lua_md5},
    {"md5_bin", 0, sb_lua_md5_bin},
    {"sha1_bin", 0, sb_lua_sha1_bin},
    {"hmac_sha1", 0, sb_lua_hmac_sha1},
    {"crc32_short", 0, sb_lua_crc32},
    {"crc32_long", 0, sb_lua_crc32},
    {"escape_uri", 0, sb_lua_escape_uri},
    {"unescape_uri", 0, sb_lua_unescape_uri},
    {"encode_args", 0, sb_lua_encode_args_fn},
    {"decode_args", 0, sb_lua_decode_args},
    {"quote_sql_str", 0, sb_lua_quote_sql},
    {"time", 0, sb_lua_time},
    {"now", 0, sb_lua_now},
    {"update_time", 0, sb_lua_update_time},
    {"today", 0, sb_lua_today},
    {"localtime", 0, sb_lua_localtime},
    {"utctime", 0, sb_lua_utctime},
    {"http_time", 0, sb_lua_http_time},
    {"cookie_time", 0, sb_lua_cookie_time},
    {"parse_http_time", 0, sb_lua_parse_http_time},
    {0},
};
