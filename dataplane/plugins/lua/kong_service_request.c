/* kong_service_request.c - kong.service.request: changes to what goes to the upstream. */
#include <stdlib.h>

#include "dataplane/plugins/args.h"
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/body.h"
#include "dataplane/plugins/lua/value.h"
#include "dataplane/plugins/multipart.h"
#include "dataplane/router/router.h"
#include "shared/digest.h"

static int enable_buffering(lua_State *L, struct sb_lua_run *r)
{
    (void)L;
    sb_exchange_buffer_response(r->x, SIZE_MAX);
    return 0;
}

/* -- the line -- */

static int set_scheme(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str scheme = sb_lua_arg_str(L, 1, "scheme");

    if (!sb_str_is(scheme, "http") && !sb_str_is(scheme, "https"))
        return luaL_error(L, "invalid scheme: %s", scheme.p);
    sb_exchange_set_upstream_https(r->x, sb_str_is(scheme, "https"));
    return 0;
}

static int set_path(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str path = sb_lua_arg_str(L, 1, "path");
    char *out = sb_arena_alloc(sb_exchange_arena(r->x), 3 * path.len + 1);

    if (path.len == 0 || path.p[0] != '/')
        return luaL_error(L, "path must start with /");
    sb_exchange_set_upstream_path(r->x, sb_str_n(out, sb_path_escape(path, out)));
    return 0;
}

/* What would end the request's line is escaped. */
void sb_lua_put_query(struct sb_lua_run *r, struct sb_str query)
{
    struct sb_arena *a = sb_exchange_arena(r->x);
    char *out = sb_arena_alloc(a, 3 * query.len + 1);
    size_t n = 0;

    for (size_t i = 0; i < query.len; i++) {
        unsigned char c = (unsigned char)query.p[i];

        if (c > 0x20 && c != 0x7f) {
            out[n++] = (char)c;
            continue;
        }
        out[n++] = '%';
        out[n++] = "0123456789ABCDEF"[c >> 4];
        out[n++] = "0123456789ABCDEF"[c & 15];
    }
    sb_exchange_set_upstream_query(r->x, sb_str_n(out, n));
}

static int set_raw_query(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_put_query(r, sb_lua_arg_str(L, 1, "query"));
    return 0;
}

static int set_method(lua_State *L, struct sb_lua_run *r)
{
    static const char *const methods[] = {"GET",       "HEAD",  "PUT",    "POST",  "DELETE",
                                          "OPTIONS",   "MKCOL", "COPY",   "MOVE",  "PROPFIND",
                                          "PROPPATCH", "LOCK",  "UNLOCK", "PATCH", "TRACE"};
    struct sb_str method = sb_lua_arg_str(L, 1, "method");

    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (sb_str_is(method, methods[i])) {
            sb_exchange_set_upstream_method(r->x, method);
            return 0;
        }
    return luaL_error(L, "invalid method: %s", method.p);
}

static int set_query(lua_State *L, struct sb_lua_run *r)
{
    if (!lua_istable(L, 1))
        return luaL_error(L, "args must be a table");
    sb_lua_put_query(r, sb_lua_encode_args(L, 1, sb_exchange_arena(r->x), true));
    return 0;
}

static int clear_query_arg(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str name = sb_lua_arg_str(L, 1, "query argument name"), piece;
    struct sb_str rest = sb_exchange_upstream_query(r->x), whole = rest;
    struct sb_arena *a = sb_exchange_arena(r->x);
    char *out = sb_arena_alloc(a, rest.len + 1);
    size_t n = 0;

    while (whole.len && sb_str_split(&rest, '&', &piece)) {
        struct sb_str one = piece;
        struct sb_arg arg;

        if (sb_arg_next(a, &one, &arg) && sb_str_eq(arg.name, name))
            continue;
        if (n)
            out[n++] = '&';
        memcpy(out + n, piece.p, piece.len);
        n += piece.len;
    }
    sb_exchange_set_upstream_query(r->x, sb_str_n(out, n));
    return 0;
}

/* -- headers -- */

static int set_header(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str name;

    sb_lua_check_header(L, 1, 2);
    name = sb_lua_str(L, 1);
    if (sb_str_ieq(name, SB_STR(":authority")))
        return sb_lua_nil(L, "cannot set :authority pseudo-header on non-grpc requests");
    sb_lua_put_header(L, r, name, 2, sb_exchange_set_upstream_header,
                      sb_exchange_add_upstream_header);
    return 0;
}

static int add_header(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str name;

    sb_lua_check_header(L, 1, 2);
    name = sb_lua_str(L, 1);
    sb_lua_put_header(L, r, name, 2,
                      sb_str_ieq(name, SB_STR("host")) ? sb_exchange_set_upstream_header
                                                       : sb_exchange_add_upstream_header,
                      sb_exchange_add_upstream_header);
    return 0;
}

static int clear_header(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str name = sb_lua_arg_str(L, 1, "header");

    if (!sb_str_ieq(name, SB_STR("host")))
        sb_exchange_set_upstream_header(r->x, name, (struct sb_str){0});
    return 0;
}

static int set_headers(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_check_headers(L, 1);
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        int top = lua_gettop(L);

        sb_lua_put_header(L, r, sb_lua_str(L, top - 1), top, sb_exchange_set_upstream_header,
                          sb_exchange_add_upstream_header);
        lua_settop(L, top - 1);
    }
    return 0;
}

/* -- the body -- */

static int set_raw_body(lua_State *L, struct sb_lua_run *r)
{
    sb_exchange_set_upstream_body(r->x, sb_lua_arg_str(L, 1, "body"));
    return 0;
}

static void check_fields(lua_State *L)
{
    lua_pushnil(L);
    for (; lua_next(L, 1); lua_pop(L, 1)) {
        int type = lua_type(L, -1);

        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "invalid key: got %s, expected string", luaL_typename(L, -2));
        if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
            luaL_error(L, "invalid value \"%s\": got %s, expected string, number or boolean",
                       lua_tostring(L, -2), luaL_typename(L, -1));
    }
}

static int by_name(const void *a, const void *b)
{
    return sb_str_cmp(((const struct sb_part *)a)->name, ((const struct sb_part *)b)->name);
}

/* The table as parts, sorted by name, between the boundary that the type names, or one of ours. */
static struct sb_str multipart(lua_State *L, struct sb_arena *a, struct sb_str *type)
{
    struct sb_form form = {.mark = sb_part_mark(a, *type)}, sorted;
    uint64_t random;

    check_fields(L);
    if (!form.mark.p) {
        sb_random(&random, sizeof random);
        form.mark = sb_arena_printf(a, "--%010llu", (unsigned long long)(random % 10000000000));
    }
    sorted = form;
    lua_pushnil(L);
    for (; lua_next(L, 1); lua_pop(L, 1)) {
        struct sb_str value;

        if (lua_isboolean(L, -1))
            value = lua_toboolean(L, -1) ? SB_STR("true") : SB_STR("false");
        else
            value = sb_arena_str(a, sb_lua_str(L, -1));
        sb_form_add(a, &form, sb_lua_str(L, -2), value);
    }
    if (form.n)
        qsort(form.parts, form.n, sizeof *form.parts, by_name);
    for (size_t i = 0; i < form.n; i++) /* anew: each begins with its boundary */
        sb_form_add(a, &sorted, form.parts[i].name, form.parts[i].value);
    *type =
        sb_arena_printf(a, "multipart/form-data; boundary=%.*s", SB_ARG(sb_str_from(form.mark, 2)));
    return sorted.n ? sb_form_text(a, &sorted)
                    : sb_arena_printf(a, "%.*s--\r\n", SB_ARG(form.mark));
}

static int set_body(lua_State *L, struct sb_lua_run *r)
{
    struct sb_arena *a = sb_exchange_arena(r->x);
    struct sb_str type, body, plain, why;
    ptrdiff_t semicolon;

    if (!lua_istable(L, 1))
        return luaL_error(L, "args must be a table");
    type = lua_isnoneornil(L, 2) ? sb_exchange_upstream_header(r->x, SB_STR("content-type"))
                                 : sb_lua_arg_str(L, 2, "mime");
    if (!type.p)
        return sb_lua_nil(L, "content type was neither explicitly given as an argument or received "
                             "as a header");
    type = sb_arena_str(a, type);
    semicolon = sb_str_chr(type, ';', 0);
    plain = semicolon < 0 ? type : sb_str_first(type, (size_t)semicolon);
    if (sb_str_is(plain, "application/x-www-form-urlencoded"))
        body = sb_lua_encode_args(L, 1, a, true);
    else if (sb_str_is(plain, "application/json"))
        body = sb_lua_to_json(L, 1, a, &why);
    else if (sb_str_is(plain, "multipart/form-data"))
        body = multipart(L, a, &type);
    else
        return luaL_error(L, "unsupported content type %s", type.p);
    if (!body.p) {
        sb_lua_push(L, why);
        return luaL_error(L, "%s", lua_tostring(L, -1));
    }
    sb_exchange_set_upstream_body(r->x, body);
    sb_exchange_set_upstream_header(r->x, SB_STR("Content-Type"), type);
    lua_pushboolean(L, true);
    return 1;
}

const struct sb_lua_fn sb_lua_kong_service_request[] = {
    {"enable_buffering", SB_LUA_RW_AC_BA, enable_buffering},
    {"set_scheme", SB_LUA_RW_AC_BA, set_scheme},
    {"set_path", SB_LUA_RW_AC_BA, set_path},
    {"set_raw_query", SB_LUA_RW_AC, set_raw_query},
    {"set_method", SB_LUA_RW_AC, set_method},
    {"set_query", SB_LUA_RW_AC, set_query},
    {"clear_query_arg", SB_LUA_RW_AC, clear_query_arg},
    {"set_header", SB_LUA_RW_AC_BA, set_header},
    {"add_header", SB_LUA_RW_AC, add_header},
    {"clear_header", SB_LUA_RW_AC, clear_header},
    {"set_headers", SB_LUA_RW_AC, set_headers},
    {"set_raw_body", SB_LUA_RW_AC_BA, set_raw_body},
    {"set_body", SB_LUA_RW_AC, set_body},
    {0},
};
