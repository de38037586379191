#include "dataplane/plugins/lua/body.h"

#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/value.h"
#include "dataplane/plugins/multipart.h"

/* nginx's buffer, as Kong sets it up: what is longer lies in a file there, and needs asking for. */
enum { BUFFER = 8 << 10 };

enum sb_rc sb_lua_body(struct sb_lua_run *r, size_t max, struct sb_str *body)
{
    if (sb_exchange_replaced_body(r->x, body))
        return body->len > max ? SB_TOOLARGE : SB_OK;
    return sb_exchange_body(r->x, max, body);
}

/* A finish in terms of a body: SB_AGAIN waits on. */
int sb_lua_with_body(lua_State *L, struct sb_lua_run *r, sb_lua_finish finish)
{
    int n = finish(L, r);

    return n < 0 ? sb_lua_wait(L, r, finish) : n;
}

/* -- kong.request.get_raw_body -- */

/* What the function was called with: as numbers and slices, for its arguments are gone when it
 * goes on. */
struct asked {
    struct sb_str type, type_lower; /* of get_body */
    int max_args;
    double max; /* -1: not given */
};

static struct asked *asked_of(struct sb_lua_run *r)
{
    static const char owner;

    return sb_exchange_state(r->x, &owner, sizeof(struct asked));
}

/* Pushes the body and gives 1; or nil and why: 2; -1: later. */
static int push_body(lua_State *L, struct sb_lua_run *r, struct sb_str *body)
{
    double max = asked_of(r)->max;
    size_t most = max > 0 && max < SB_LUA_BODY_MAX ? (size_t)max : SB_LUA_BODY_MAX;
    enum sb_rc rc = sb_lua_body(r, most < BUFFER ? BUFFER : most, body);

    if (rc == SB_AGAIN)
        return -1;
    if (rc == SB_OK && (body->len <= BUFFER || max >= 0 || sb_exchange_replaced_body(r->x, body))) {
        sb_lua_push(L, *body);
        return 1;
    }
    lua_pushnil(L);
    if (rc == SB_OK)
        lua_pushliteral(L, "request body did not fit into client body buffer, consider raising "
                           "'client_body_buffer_size'");
    else if (rc == SB_TOOLARGE)
        lua_pushfstring(L, "request body file too big: > %d", (int)most);
    else
        lua_pushliteral(L, "the client broke off its body");
    return 2;
}

static int finish_raw(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str body;

    return push_body(L, r, &body);
}

int sb_lua_get_raw_body(lua_State *L, struct sb_lua_run *r)
{
    *asked_of(r) = (struct asked){.max = lua_isnumber(L, 1) ? lua_tonumber(L, 1) : -1};
    return sb_lua_with_body(L, r, finish_raw);
}

/* -- kong.request.get_body -- */

static const char *const types[] = {"application/x-www-form-urlencoded", "application/json",
                                    "multipart/form-data"};
enum { TYPE_FORM, TYPE_JSON, TYPE_MULTIPART, TYPES };

static int type_of(struct sb_str type)
{
    int i = 0;

    while (i < TYPES && !sb_str_starts(type, sb_str_c(types[i])))
        i++;
    return i;
}

static bool push_multipart(lua_State *L, struct sb_arena *a, struct sb_str type, struct sb_str body)
{
    struct sb_form form;

    if (sb_form_parse(a, type, body, &form))
        return false;
    lua_newtable(L);
    for (size_t i = 0; i < form.n; i++)
        if (form.parts[i].name.p)
            sb_lua_collect(L, form.parts[i].name, form.parts[i].value);
    return true;
}

static int push_parsed(lua_State *L, struct sb_lua_run *r, int type, struct sb_str body)
{
    const struct asked *asked = asked_of(r);
    struct sb_arena *a = sb_exchange_arena(r->x);
    struct sb_err err;

    if (type == TYPE_FORM) {
        sb_lua_push_args(L, r, body, asked->max_args);
    } else if (type == TYPE_MULTIPART) {
        if (!push_multipart(L, a, asked->type, body))
            return sb_lua_nil(L, "unable to decode multipart body");
    } else if (!sb_lua_push_json(L, a, body, true, &err)) {
        return sb_lua_nil(L, "invalid json body");
    } else if (!lua_istable(L, -1)) {
        return sb_lua_nil(L, "invalid json body");
    }
    lua_pushnil(L);
    return 2;
}

static int finish_body(lua_State *L, struct sb_lua_run *r)
{
    struct asked *asked = asked_of(r);
    int type = type_of(asked->type_lower), n;
    struct sb_str body;

    if (type == TYPE_FORM)
        asked->max = 0; /* arguments are read wherever they lie */
    n = push_body(L, r, &body);
    if (n < 0)
        return n;
    if (n == 1) {
        lua_pop(L, 1);
        n = push_parsed(L, r, type, body);
    }
    lua_pushstring(L, types[type]);
    return n + 1;
}

static struct sb_str content_type(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str type = lua_isstring(L, 1)
                             ? sb_lua_str(L, 1)
                             : sb_exchange_upstream_header(r->x, SB_STR("content-type"));

    return type.p ? sb_arena_str(sb_exchange_arena(r->x), type) : type;
}

int sb_lua_get_body(lua_State *L, struct sb_lua_run *r)
{
    struct asked *asked = asked_of(r);
    struct sb_str type = content_type(L, r);
    ptrdiff_t semicolon = sb_str_chr(type, ';', 0);
    char *lower;

    if (!type.p)
        return sb_lua_nil(L, "missing content type");
    lower = sb_arena_cstr(sb_exchange_arena(r->x), type);
    for (char *c = lower; *c; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
    *asked =
        (struct asked){.type = type,
                       .type_lower = sb_str_n(lower, semicolon < 0 ? type.len : (size_t)semicolon),
                       .max = lua_isnumber(L, 3) ? lua_tonumber(L, 3) : -1};
    if (type_of(asked->type_lower) == TYPES) {
        lua_pushnil(L);
        lua_pushfstring(L, "unsupported content type '%s'", type.p);
        sb_lua_push(L, asked->type_lower);
        return 3;
    }
    asked->max_args = sb_lua_arg_max(L, 2, "max_args");
    return sb_lua_with_body(L, r, finish_body);
}
