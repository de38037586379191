/* pdk.h - the functions that chunks call, as tables: kong.* (reference/pdk.md) and ngx.*.
 *
 * A function is a row: its name, the phases in which Kong lets it be called, and the C function.
 * One dispatcher looks at the phase before each call, so that a row's function only has its
 * arguments to check. What Kong has and we have not is listed, too, and says so when it is asked
 * for.
 */
#ifndef SB_DATAPLANE_PLUGINS_LUA_PDK_H
#define SB_DATAPLANE_PLUGINS_LUA_PDK_H

#include "dataplane/plugins/lua/run.h"

/* Sets of phases as Kong's functions have them. */
enum {
    SB_LUA_REQUEST_PHASES = SB_LUA_REWRITE | SB_LUA_ACCESS | SB_LUA_BALANCER | SB_LUA_RESPONSE |
                            SB_LUA_HEADER_FILTER | SB_LUA_BODY_FILTER | SB_LUA_LOG | SB_LUA_ERROR |
                            SB_LUA_ADMIN_API | SB_LUA_CLUSTER,
    SB_LUA_RW_AC = SB_LUA_REWRITE | SB_LUA_ACCESS,
    SB_LUA_RW_AC_BA = SB_LUA_RW_AC | SB_LUA_BALANCER,
    SB_LUA_KNOWN_PHASES =
        SB_LUA_ACCESS | SB_LUA_RESPONSE | SB_LUA_HEADER_FILTER | SB_LUA_BODY_FILTER | SB_LUA_LOG,
};

struct sb_lua_fn {
    const char *name;
    unsigned phases; /* 0: any */
    int (*fn)(lua_State *L, struct sb_lua_run *r);
};

struct sb_lua_namespace {
    const char *path; /* "kong.request" */
    const struct sb_lua_fn *fns;
    /* More than functions: the table is on top. NULL: nothing. */
    void (*more)(lua_State *L, struct sb_lua *lua);
};

extern const struct sb_lua_fn sb_lua_kong_client[], sb_lua_kong_request[], sb_lua_kong_service[],
    sb_lua_kong_service_request[], sb_lua_kong_service_response[], sb_lua_kong_response[],
    sb_lua_kong_router[], sb_lua_kong_ip[], sb_lua_kong_node[], sb_lua_kong_nginx[],
    sb_lua_kong_plugin[], sb_lua_kong_table[], sb_lua_kong_log[], sb_lua_kong_log_inspect[],
    sb_lua_kong_vault[], sb_lua_ngx[], sb_lua_ngx_req[], sb_lua_ngx_resp[], sb_lua_ngx_re[],
    sb_lua_ngx_worker[], sb_lua_cjson[], sb_lua_cjson_safe[];

void sb_lua_more_kong(lua_State *L, struct sb_lua *lua);
void sb_lua_more_cache(lua_State *L, struct sb_lua *lua);
void sb_lua_more_ctx(lua_State *L, struct sb_lua *lua);
void sb_lua_more_log(lua_State *L, struct sb_lua *lua);
void sb_lua_more_inspect(lua_State *L, struct sb_lua *lua);
void sb_lua_more_ngx(lua_State *L, struct sb_lua *lua);
void sb_lua_more_config(lua_State *L, struct sb_lua *lua);
void sb_lua_more_cjson(lua_State *L);

/* Makes kong and ngx in the globals, and cjson loadable. */
void sb_lua_install(struct sb_lua *lua, lua_State *L);
/* Pushes one function of a row, with the check of its phases. */
void sb_lua_push_fn(lua_State *L, struct sb_lua *lua, const struct sb_lua_fn *f);
/* The same with the value on top (popped) as its third upvalue. */
void sb_lua_push_fn_with(lua_State *L, struct sb_lua *lua, const struct sb_lua_fn *f);
/* Pushes an __index that tells what of a namespace is missing here. */
void sb_lua_push_missing(lua_State *L, const char *path);
/* The worker's Lua that a function of a row was made with. */
struct sb_lua *sb_lua_self(lua_State *L);

/* -- arguments -- */

/* Raises "WHAT must be a TYPE" as Kong's functions do, unless the argument is one. */
struct sb_str sb_lua_arg_str(lua_State *L, int at, const char *what);
double sb_lua_arg_num(lua_State *L, int at, const char *what);
/* An optional limit (headers, arguments): between 1 and 1000, 100 where there is none. */
int sb_lua_arg_max(lua_State *L, int at, const char *what);

/* A header's value as Kong writes it: text, number or boolean ("" becomes " "); pushes nothing.
 * The slice lives as long as the value at that index. */
struct sb_str sb_lua_header_value(lua_State *L, struct sb_lua_run *r, int at);
/* Raises unless name and value (indices) are a header's. */
void sb_lua_check_header(lua_State *L, int name, int value);
/* Raises unless it is a table of headers. */
void sb_lua_check_headers(lua_State *L, int at);
typedef void (*sb_lua_header_fn)(struct sb_exchange *x, struct sb_str name, struct sb_str value);
/* Calls set for a name's first line, add for the others. */
void sb_lua_put_header(lua_State *L, struct sb_lua_run *r, struct sb_str name, int value,
                       sb_lua_header_fn set, sb_lua_header_fn add);

/* -- results -- */

/* Adds a value under a name to the table on top: a text, or an array of them where there are more.
 */
void sb_lua_collect(lua_State *L, struct sb_str name, struct sb_str value);
/* Gives the table on top the look-up of header tables: any case, '_' for '-'. */
void sb_lua_header_table(lua_State *L);
/* Pushes nil and the text; 2. */
int sb_lua_nil(lua_State *L, const char *why);

/* Tables that more than one function gives. */
typedef void (*sb_lua_each_header)(const struct sb_exchange *x,
                                   bool (*fn)(void *arg, struct sb_str name, struct sb_str value),
                                   void *arg);
void sb_lua_push_headers(lua_State *L, struct sb_lua_run *r, int max, sb_lua_each_header each);
void sb_lua_push_query(lua_State *L, struct sb_lua_run *r, int max);
/* Pushes the captures of the route's regex by number and, as a second table (apart) or into the
 * same (pushed twice), by name. */
void sb_lua_push_captures(lua_State *L, struct sb_lua_run *r, bool apart);
/* Name=value&... up to max of them: arrays of repeated ones, true without '='. */
void sb_lua_push_args(lua_State *L, struct sb_lua_run *r, struct sb_str args, int max);

/* The query that goes on: as it is, but that what would end the request's line is escaped. */
void sb_lua_put_query(struct sb_lua_run *r, struct sb_str query);

#endif
