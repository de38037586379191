#include "dataplane/plugins/lua/pdk.h"

static const struct sb_lua_namespace namespaces[] = {
    {"kong", NULL, sb_lua_more_kong},
    {"kong.client", sb_lua_kong_client, NULL},
    {"kong.request", sb_lua_kong_request, NULL},
    {"kong.service", sb_lua_kong_service, NULL},
    {"kong.service.request", sb_lua_kong_service_request, NULL},
    {"kong.service.response", sb_lua_kong_service_response, NULL},
    {"kong.response", sb_lua_kong_response, NULL},
    {"kong.router", sb_lua_kong_router, NULL},
    {"kong.ip", sb_lua_kong_ip, NULL},
    {"kong.node", sb_lua_kong_node, NULL},
    {"kong.nginx", sb_lua_kong_nginx, NULL},
    {"kong.plugin", sb_lua_kong_plugin, NULL},
    {"kong.table", sb_lua_kong_table, NULL},
    {"kong.vault", sb_lua_kong_vault, NULL},
    {"kong.ctx", NULL, sb_lua_more_ctx},
    {"kong.cache", NULL, sb_lua_more_cache},
    {"kong.log", sb_lua_kong_log, sb_lua_more_log},
    {"kong.log.inspect", sb_lua_kong_log_inspect, sb_lua_more_inspect},
    {"ngx", sb_lua_ngx, NULL},
    {"ngx.req", sb_lua_ngx_req, NULL},
    {"ngx.resp", sb_lua_ngx_resp, NULL},
    {"ngx.re", sb_lua_ngx_re, NULL},
    {"ngx.worker", sb_lua_ngx_worker, NULL},
    {"ngx.config", NULL, sb_lua_more_config},
    {"ngx", NULL, sb_lua_more_ngx}, /* last: it gets a metatable */
};

/* What Kong has there and this release has not. */
static const char *const missing[] = {
    "kong.cache.get_bulk",
    "kong.cache.renew",
    "kong.db",
    "kong.dns",
    "kong.cluster",
    "kong.tracing",
    "kong.telemetry",
    "kong.timer",
    "kong.worker_events",
    "kong.cluster_events",
    "kong.core_cache",
    "kong.websocket",
    "kong.jwe",
    "kong.log.serialize",
    "kong.log.set_serialize_value",
    "kong.log.deprecation",
    "kong.log.set_format",
    "kong.client.tls",
    "kong.service.set_target_retry_callback",
    "kong.service.set_tls_cert_key",
    "kong.service.set_tls_verify_store",
    "kong.vault.try",
    "kong.vault.update",
    "kong.vault.get",
    "kong.vault.parse_reference",
    "kong.vault.flush",
    "kong.client.get_consumer_group",
    "kong.client.get_consumer_groups",
    "kong.client.set_authenticated_consumer_group",
    "kong.client.set_authenticated_consumer_groups",
    "kong.client.authenticate_consumer_group_by_consumer_id",
    "ngx.shared",
    "ngx.socket",
    "ngx.timer",
    "ngx.thread",
    "ngx.location",
    "ngx.exec",
    "ngx.semaphore",
    "ngx.req.socket",
    "ngx.req.get_body_file",
    "ngx.req.set_body_file",
    "ngx.req.set_uri",
    "ngx.req.append_body",
    "ngx.req.init_body",
    "ngx.req.finish_body",
    "ngx.req.discard_body",
    "ngx.req.raw_header",
    "ngx.cookie_time_",
    NULL,
};

/* -- the dispatcher -- */

struct sb_lua *sb_lua_self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(2));
}

static int wrong_phase(lua_State *L, const struct sb_lua_fn *f, unsigned phase)
{
    luaL_Buffer b;
    bool first = true;

    luaL_buffinit(L, &b);
    for (unsigned bit = 1; bit <= SB_LUA_ADMIN_API; bit <<= 1) {
        if (!(f->phases & bit))
            continue;
        if (!first)
            luaL_addstring(&b, ", ");
        luaL_addstring(&b, sb_lua_phase_name(bit));
        first = false;
    }
    luaL_pushresult(&b);
    return luaL_error(L, "function cannot be called in %s phase (only in: %s)",
                      sb_lua_phase_name(phase), lua_tostring(L, -1));
}

static int dispatch(lua_State *L)
{
    const struct sb_lua_fn *f = lua_touserdata(L, lua_upvalueindex(1));
    struct sb_lua_run *r = sb_lua_self(L)->now;
    int n;

    if (!r)
        return luaL_error(L, "%s was called outside of a request", f->name);
    if (f->phases && !(f->phases & r->phase))
        return wrong_phase(L, f, r->phase);
    n = f->fn(L, r);
    if (n == 0) { /* so that tostring(f()) has something to write */
        lua_pushnil(L);
        n = 1;
    }
    return n;
}

void sb_lua_push_fn(lua_State *L, struct sb_lua *lua, const struct sb_lua_fn *f)
{
    union {
        const void *in;
        void *out;
    } row = {.in = f};

    lua_pushlightuserdata(L, row.out);
    lua_pushlightuserdata(L, lua);
    lua_pushcclosure(L, dispatch, 2);
}

void sb_lua_push_fn_with(lua_State *L, struct sb_lua *lua, const struct sb_lua_fn *f)
{
    union {
        const void *in;
        void *out;
    } row = {.in = f};

    lua_pushlightuserdata(L, row.out);
    lua_insert(L, -2);
    lua_pushlightuserdata(L, lua);
    lua_insert(L, -2);
    lua_pushcclosure(L, dispatch, 3);
}

/* -- making the tables -- */

/* __index of a namespace: its path is the upvalue. */
static int not_there(lua_State *L)
{
    const char *path = lua_tostring(L, lua_upvalueindex(1)), *name;

    if (lua_type(L, 2) != LUA_TSTRING)
        return 0;
    name = lua_pushfstring(L, "%s.%s", path, lua_tostring(L, 2));
    for (const char *const *m = missing; *m; m++)
        if (strcmp(*m, name) == 0)
            return luaL_error(L, "%s is not available in this release", name);
    return 0;
}

void sb_lua_push_missing(lua_State *L, const char *path)
{
    lua_pushstring(L, path);
    lua_pushcclosure(L, not_there, 1);
}

/* Of the table on top, which may have a metatable with an __index of its own. */
static void tell_missing(lua_State *L, const char *path)
{
    if (!lua_getmetatable(L, -1)) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setmetatable(L, -3);
    }
    lua_getfield(L, -1, "__index");
    if (lua_isnil(L, -1)) {
        sb_lua_push_missing(L, path);
        lua_setfield(L, -3, "__index");
    }
    lua_pop(L, 2);
}

static void make(lua_State *L, struct sb_lua *lua, const struct sb_lua_namespace *ns)
{
    (void)luaL_findtable(L, LUA_GLOBALSINDEX, ns->path, 8);
    for (const struct sb_lua_fn *f = ns->fns; f && f->name; f++) {
        sb_lua_push_fn(L, lua, f);
        lua_setfield(L, -2, f->name);
    }
    if (ns->more)
        ns->more(L, lua);
    lua_pop(L, 1);
}

static int load_cjson(lua_State *L)
{
    const struct sb_lua_fn *f = lua_touserdata(L, lua_upvalueindex(1));

    lua_newtable(L);
    for (; f->name; f++) {
        sb_lua_push_fn(L, sb_lua_self(L), f);
        lua_setfield(L, -2, f->name);
    }
    sb_lua_more_cjson(L);
    return 1;
}

/* package.preload[name] */
static void preload(lua_State *L, struct sb_lua *lua, const char *name, const struct sb_lua_fn *fns)
{
    union {
        const void *in;
        void *out;
    } rows = {.in = fns};

    (void)luaL_findtable(L, LUA_GLOBALSINDEX, "package.preload", 4);
    lua_pushlightuserdata(L, rows.out);
    lua_pushlightuserdata(L, lua);
    lua_pushcclosure(L, load_cjson, 2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

void sb_lua_install(struct sb_lua *lua, lua_State *L)
{
    size_t n = sizeof namespaces / sizeof *namespaces;

    for (size_t i = 0; i < n; i++)
        make(L, lua, &namespaces[i]);
    for (size_t i = 0; i < n; i++) { /* last: making a table looks for what is there */
        (void)luaL_findtable(L, LUA_GLOBALSINDEX, namespaces[i].path, 8);
        tell_missing(L, namespaces[i].path);
        lua_pop(L, 1);
    }
    preload(L, lua, "cjson", sb_lua_cjson);
    preload(L, lua, "cjson.safe", sb_lua_cjson_safe);
}
