#include "dataplane/plugins/lua/groups.h"

enum { GROUPS_MAX = 1000 };

static const char field[] = "authenticated_groups";

void sb_lua_groups_show(lua_State *L, struct sb_lua_request *req)
{
    const struct sb_str *groups;
    size_t n;

    groups = sb_exchange_groups(req->x, &n);
    if (groups == req->groups)
        return;
    req->groups = groups;
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; groups && i < n; i++) {
        sb_lua_push(L, groups[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, field);
}

/* The texts of the array on top. */
static void take(lua_State *L, struct sb_lua_run *r)
{
    size_t len = lua_objlen(L, -1), n = 0;
    struct sb_str *groups;

    if (len > GROUPS_MAX)
        len = GROUPS_MAX;
    groups = SB_NEW_N(sb_exchange_arena(r->x), struct sb_str, len + 1);
    for (size_t i = 0; i < len; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        if (lua_isstring(L, -1))
            groups[n++] = sb_arena_str(sb_exchange_arena(r->x), sb_lua_str(L, -1));
        lua_pop(L, 1);
    }
    sb_exchange_set_groups(r->x, groups, n);
    r->req->groups = groups;
}

static int take_groups(lua_State *L)
{
    static const char *const contexts[] = {"shared", "ngx"};
    struct sb_lua_run *r = lua_touserdata(L, 1);

    if (r->req->ctx == LUA_NOREF)
        return 0;
    lua_rawgeti(L, LUA_REGISTRYINDEX, r->req->ctx);
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
        lua_getfield(L, 2, contexts[i]);
        if (lua_istable(L, -1))
            lua_getfield(L, -1, field);
        if (lua_istable(L, -1) && lua_gettop(L) == 4) {
            take(L, r);
            return 0;
        }
        lua_settop(L, 2);
    }
    return 0;
}

void sb_lua_groups_take(struct sb_lua_run *r)
{
    struct sb_str why;

    if (r->phase == SB_LUA_ACCESS && r->req->ctx != LUA_NOREF)
        (void)sb_lua_protected(r, take_groups, r, &why);
}
