/* kong_misc.c - the small namespaces of kong: router, ip, node, nginx, plugin, table, vault, ctx,
 * configuration. */
#include <sys/utsname.h>
#include <unistd.h>

#include "dataplane/config/node.h"
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/groups.h"
#include "dataplane/plugins/lua/value.h"
#include "shared/settings.h"

/* What chunks are told that Kong's version is. */
#define KONG_VERSION     "3.9.1"
#define KONG_VERSION_NUM 3009001

/* -- kong.router -- */

static int push_entity(lua_State *L, const struct sb_value *entity)
{
    if (!entity)
        return 0;
    sb_lua_push_value(L, entity, true);
    return 1;
}

static int get_route(lua_State *L, struct sb_lua_run *r)
{
    return push_entity(L, sb_exchange_route_entity(r->x));
}

static int get_service(lua_State *L, struct sb_lua_run *r)
{
    return push_entity(L, sb_exchange_service_entity(r->x));
}

const struct sb_lua_fn sb_lua_kong_router[] = {
    {"get_route", SB_LUA_KNOWN_PHASES, get_route},
    {"get_service", SB_LUA_KNOWN_PHASES, get_service},
    {0},
};

/* -- kong.ip, kong.node, kong.nginx, kong.plugin -- */

static int is_trusted(lua_State *L, struct sb_lua_run *r)
{
    lua_pushboolean(L, sb_exchange_trusts(r->x, sb_lua_arg_str(L, 1, "ip")));
    return 1;
}

const struct sb_lua_fn sb_lua_kong_ip[] = {{"is_trusted", 0, is_trusted}, {0}};

static int node_id(lua_State *L, struct sb_lua_run *r)
{
    char text[SB_UUID_TEXT_LEN + 1];
    struct sb_uuid id;
    struct sb_err err;

    if (sb_node_id(r->lua->settings, &id, &err))
        return sb_lua_nil(L, err.text);
    sb_uuid_format(&id, text);
    lua_pushstring(L, text);
    return 1;
}

static int node_hostname(lua_State *L, struct sb_lua_run *r)
{
    struct utsname name;

    (void)r;
    if (uname(&name))
        return 0;
    lua_pushstring(L, name.nodename);
    return 1;
}

static int node_memory(lua_State *L, struct sb_lua_run *r)
{
    lua_newtable(L);
    lua_newtable(L);
    lua_setfield(L, -2, "lua_shared_dicts");
    lua_newtable(L);
    lua_newtable(L);
    lua_pushinteger(L, (lua_Integer)getpid());
    lua_setfield(L, -2, "pid");
    lua_pushnumber(L, (double)r->lua->used);
    lua_setfield(L, -2, "http_allocated_gc");
    lua_rawseti(L, -2, 1);
    lua_setfield(L, -2, "workers_lua_vms");
    return 1;
}

const struct sb_lua_fn sb_lua_kong_node[] = {
    {"get_id", 0, node_id},
    {"get_hostname", 0, node_hostname},
    {"get_memory_stats", 0, node_memory},
    {0},
};

static int subsystem(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    lua_pushliteral(L, "http");
    return 1;
}

const struct sb_lua_fn sb_lua_kong_nginx[] = {{"get_subsystem", 0, subsystem}, {0}};

static int plugin_id(lua_State *L, struct sb_lua_run *r)
{
    if (!r->instance)
        return 0;
    sb_lua_push(L, r->instance->id);
    return 1;
}

const struct sb_lua_fn sb_lua_kong_plugin[] = {
    {"get_id", SB_LUA_KNOWN_PHASES | SB_LUA_REWRITE | SB_LUA_PREREAD, plugin_id},
    {0},
};

/* -- kong.table -- */

static int table_new(lua_State *L, struct sb_lua_run *r)
{
    double narr = lua_tonumber(L, 1), nrec = lua_tonumber(L, 2);

    (void)r;
    lua_createtable(L, narr > 0 && narr < 1e6 ? (int)narr : 0,
                    nrec > 0 && nrec < 1e6 ? (int)nrec : 0);
    return 1;
}

static int table_clear(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, 1);
    }
    return 0;
}

static int table_merge(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    lua_settop(L, 2);
    lua_newtable(L);
    for (int i = 1; i <= 2; i++) {
        if (!lua_istable(L, i))
            continue;
        lua_pushnil(L);
        while (lua_next(L, i)) {
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, 3);
        }
    }
    return 1;
}

const struct sb_lua_fn sb_lua_kong_table[] = {
    {"new", 0, table_new},
    {"clear", 0, table_clear},
    {"merge", 0, table_merge},
    {0},
};

/* -- kong.vault -- */

static int is_reference(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str s = lua_type(L, 1) == LUA_TSTRING ? sb_lua_str(L, 1) : SB_STR("");

    (void)r;
    lua_pushboolean(L, sb_str_starts(s, SB_STR("{vault://")) && sb_str_ends(s, SB_STR("}")));
    return 1;
}

const struct sb_lua_fn sb_lua_kong_vault[] = {{"is_reference", 0, is_reference}, {0}};

/* -- kong.ctx -- */

static int ctx_index(lua_State *L)
{
    struct sb_lua_run *r = sb_lua_self(L)->now;
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";

    if (!r)
        return 0;
    if (strcmp(name, "shared") == 0) {
        sb_lua_push_context(L, r->req, "shared");
        sb_lua_groups_show(L, r->req);
        return 1;
    }
    if (strcmp(name, "plugin") || !r->instance)
        return 0;
    lua_pushfstring(L, "plugin %s", r->instance->plugin->name);
    sb_lua_push_context(L, r->req, lua_tostring(L, -1));
    return 1;
}

static int ctx_newindex(lua_State *L)
{
    return luaL_error(L, "cannot modify kong.ctx.%s", lua_tostring(L, 2));
}

void sb_lua_more_ctx(lua_State *L, struct sb_lua *lua)
{
    lua_newtable(L);
    lua_pushnil(L);
    lua_pushlightuserdata(L, lua);
    lua_pushcclosure(L, ctx_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, ctx_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, -2);
}

/* -- kong itself, and its configuration -- */

static bool sensitive(const char *name)
{
    return strstr(name, "password") || strstr(name, "secret") || strstr(name, "_key") ||
           strstr(name, "token");
}

static void push_setting(lua_State *L, const struct sb_settings *s, const struct sb_setting *row)
{
    const struct sb_str *list;
    size_t n;

    if (!sb_settings_str(s, row->name)) {
        lua_pushnil(L);
    } else if (sensitive(row->name)) {
        lua_pushliteral(L, "******");
    } else if (row->type == SB_S_NUMBER) {
        lua_pushnumber(L, sb_settings_num(s, row->name, 0));
    } else if (row->type == SB_S_BOOL) {
        lua_pushboolean(L, sb_settings_bool(s, row->name));
    } else if (row->type == SB_S_LIST) {
        list = sb_settings_list(s, row->name, &n);
        lua_createtable(L, (int)n, 0);
        for (size_t i = 0; i < n; i++) {
            sb_lua_push(L, list[i]);
            lua_rawseti(L, -2, (int)i + 1);
        }
    } else {
        lua_pushstring(L, sb_settings_str(s, row->name));
    }
}

static int read_only(lua_State *L)
{
    return luaL_error(L, "cannot write to configuration");
}

/* kong.configuration: typed as Kong does, secrets hidden. */
static void push_configuration(lua_State *L, const struct sb_settings *s)
{
    lua_newtable(L); /* what stands for it */
    lua_newtable(L); /* its metatable */
    lua_newtable(L); /* what it holds */
    for (const struct sb_setting *row = sb_kong_settings; s && row->name; row++) {
        push_setting(L, s, row);
        lua_setfield(L, -2, row->name);
    }
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, read_only);
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, -2);
}

void sb_lua_more_kong(lua_State *L, struct sb_lua *lua)
{
    lua_pushliteral(L, KONG_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushinteger(L, KONG_VERSION_NUM);
    lua_setfield(L, -2, "version_num");
    push_configuration(L, lua->settings);
    lua_setfield(L, -2, "configuration");
}
