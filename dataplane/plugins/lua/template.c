#include "dataplane/plugins/lua/template.h"

#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/pdk.h"
#include "dataplane/plugins/lua/sandbox.h"
#include "shared/lua_code.h"

struct sb_lua_template {
    struct sb_str text;
    struct sb_lua_code *code; /* NULL: nothing to evaluate */
};

enum { ARGS_MAX = 100 }; /* as get_headers() and get_query() give without being told */

enum sb_rc sb_lua_template_compile(struct sb_arena *a, struct sb_str text,
                                   const struct sb_lua_template **out, struct sb_err *err)
{
    struct sb_lua_template *t = SB_NEW(a, struct sb_lua_template);
    struct sb_str code, why;

    t->text = sb_arena_str(a, text);
    if (sb_lua_template_evaluates(text)) {
        code = sb_lua_template_code(a, text);
        if (!sb_lua_parses(a, code, SB_LUA_TEMPLATE_NAME, &why))
            return sb_err_set(err, SB_INVALID, "%.*s", SB_ARG(why));
        t->code = sb_lua_code_new(a, code, SB_LUA_TEMPLATE_NAME);
    }
    *out = t;
    return SB_OK;
}

/* -- names -- */

static void push_headers(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_headers(L, r, ARGS_MAX, sb_exchange_each_request_header);
}

static void push_query(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_query(L, r, ARGS_MAX);
}

static void push_captures(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_captures(L, r, false);
    lua_pop(L, 1);
}

static void push_shared(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_context(L, r->req, "shared");
}

static const struct {
    const char *name;
    void (*push)(lua_State *L, struct sb_lua_run *r);
} lazy[] = {
    {"headers", push_headers},
    {"query_params", push_query},
    {"uri_captures", push_captures},
    {"shared", push_shared},
};

/* __index of the environment: made once an expression asks for it. Upvalues: what lies beyond, and
 * the worker's Lua. */
static int name_index(lua_State *L)
{
    struct sb_lua_run *r = sb_lua_self(L)->now;
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";

    for (size_t i = 0; r && i < sizeof lazy / sizeof *lazy; i++) {
        if (strcmp(name, lazy[i].name))
            continue;
        lazy[i].push(L, r);
        lua_pushvalue(L, 2);
        lua_pushvalue(L, -2);
        lua_rawset(L, 1);
        return 1;
    }
    lua_pushvalue(L, 2);
    lua_gettable(L, lua_upvalueindex(1));
    return 1;
}

/* What is visible beside the names: the same for all exchanges. */
static void push_beyond(struct sb_lua *lua, lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "silverback.template");
    if (!lua_isnil(L, -1))
        return;
    lua_pop(L, 1);
    lua_newtable(L);
    sb_lua_show_listed(lua, L);
    sb_lua_push_require(lua, L);
    lua_setfield(L, -2, "require");
    lua_getglobal(L, "type");
    lua_setfield(L, -2, "type");
    if (lua->trust == SB_LUA_ON) {
        lua_pop(L, 1);
        lua_pushvalue(L, LUA_GLOBALSINDEX);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, "silverback.template");
}

/* The exchange's environment, with what expressions made of it so far. */
static void push_environment(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push_context(L, r->req, "template");
    if (lua_getmetatable(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    lua_newtable(L);
    push_beyond(r->lua, L);
    lua_pushlightuserdata(L, r->lua);
    lua_pushcclosure(L, name_index, 2);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}

/* -- rendering -- */

struct rendering {
    struct sb_lua_run *r;
    const struct sb_lua_template *t;
    struct sb_buf out;
};

static void push_function(lua_State *L, struct rendering *d)
{
    sb_lua_code_get(d->r->lua, L, d->t->code);
    if (!lua_isnil(L, -1))
        return;
    lua_pop(L, 1);
    sb_lua_load(d->r->lua, L, d->t->code);
    lua_call(L, 0, 1);
    lua_pushvalue(L, -1);
    sb_lua_code_keep(d->r->lua, L, d->t->code);
}

static int render(lua_State *L)
{
    struct rendering *d = lua_touserdata(L, 1);

    push_function(L, d);
    push_environment(L, d->r);
    lua_setfenv(L, -2);
    lua_newtable(L);
    lua_getglobal(L, "tostring");
    lua_call(L, 2, 1);
    for (int i = 1;; i++) {
        lua_rawgeti(L, -1, i);
        if (lua_isnil(L, -1))
            return 0;
        sb_buf_str(&d->out, sb_lua_str(L, -1));
        lua_pop(L, 1);
    }
}

enum sb_rc sb_lua_template_render(struct sb_exchange *x, const struct sb_lua_template *t,
                                  struct sb_str *out, struct sb_err *err)
{
    struct sb_lua_request *req;
    struct rendering d = {.t = t};
    struct sb_lua_run run;
    struct sb_str why;
    enum sb_rc rc = SB_OK;

    *out = t->text;
    if (!t->code)
        return SB_OK;
    if (sb_exchange_lua(x)->trust == SB_LUA_OFF)
        return sb_err_set(err, SB_DENIED, "%s", SB_LUA_OFF_TEXT);
    req = sb_lua_request_of(x);
    if (!req)
        return sb_err_set(err, SB_INVALID, "not enough memory");
    run = (struct sb_lua_run){.lua = req->lua, .x = x, .req = req, .phase = SB_LUA_ACCESS};
    d.r = &run;
    sb_buf_init(&d.out, SB_LUA_TEMPLATE_MAX);
    if (!sb_lua_protected(&run, render, &d, &why))
        rc = sb_err_set(err, SB_INVALID, "%.*s", SB_ARG(why));
    else if (d.out.full)
        rc = sb_err_set(err, SB_TOOLARGE, "a template gives more than %d bytes",
                        SB_LUA_TEMPLATE_MAX);
    else
        *out = sb_arena_str(sb_exchange_arena(x), sb_buf_get(&d.out));
    sb_buf_release(&d.out);
    return rc;
}
