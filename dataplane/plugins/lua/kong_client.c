/* kong_client.c - kong.client: who asks. */
#include "dataplane/plugins/credentials/credentials.h"
#include "dataplane/config/snapshot.h"
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/value.h"
#include "schema/entity.h"
#include "shared/uuid.h"

static int get_ip(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push(L, sb_exchange_peer_ip(r->x));
    return 1;
}

static int get_forwarded_ip(lua_State *L, struct sb_lua_run *r)
{
    sb_lua_push(L, sb_exchange_client_ip(r->x));
    return 1;
}

static int get_port(lua_State *L, struct sb_lua_run *r)
{
    lua_pushinteger(L, sb_exchange_peer_port(r->x));
    return 1;
}

/* -- consumers and credentials -- */

static void set_field(lua_State *L, const char *name, struct sb_str value)
{
    if (!value.len)
        return;
    sb_lua_push(L, value);
    lua_setfield(L, -2, name);
}

/* Keeps the table on top for the next time, so that it is the same one. */
static void remember(lua_State *L, int *ref)
{
    luaL_unref(L, LUA_REGISTRYINDEX, *ref);
    lua_pushvalue(L, -1);
    *ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* The whole row where it can be had. -1: later. */
static int push_consumer(lua_State *L, struct sb_lua_run *r)
{
    const struct sb_consumer *c = sb_exchange_consumer(r->x);
    struct sb_lua_request *req = r->req;
    const struct sb_found *found = NULL;

    if (!c)
        return 0;
    if (req->of_consumer == c && req->consumer != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, req->consumer);
        return 1;
    }
    if (sb_lua_may_wait(r) &&
        sb_credential_find(r->x, SB_CONSUMER_BY_ID, c->id, &found) == SB_AGAIN)
        return -1;
    if (found) {
        sb_lua_push_value(L, found->value, true);
    } else {
        lua_newtable(L);
        set_field(L, "id", c->id);
        set_field(L, "username", c->username);
        set_field(L, "custom_id", c->custom_id);
    }
    remember(L, &req->consumer);
    req->of_consumer = c;
    return 1;
}

static int get_consumer(lua_State *L, struct sb_lua_run *r)
{
    int n = push_consumer(L, r);

    return n < 0 ? sb_lua_wait(L, r, push_consumer) : n;
}

static void push_foreign(lua_State *L, const char *name, struct sb_str id)
{
    if (!id.len)
        return;
    lua_newtable(L);
    set_field(L, "id", id);
    lua_setfield(L, -2, name);
}

static int get_credential(lua_State *L, struct sb_lua_run *r)
{
    const struct sb_credential *c = sb_exchange_credential(r->x);
    struct sb_lua_request *req = r->req;

    if (!c)
        return 0;
    if (req->of_credential == c && req->credential != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, req->credential);
        return 1;
    }
    if (c->row && c->kind && sb_entity_find(sb_str_c(c->kind))) {
        sb_lua_push_value(L, ((const struct sb_found *)c->row)->value, true);
    } else {
        lua_newtable(L);
        set_field(L, "id", c->id);
        push_foreign(L, "consumer", c->consumer_id);
    }
    remember(L, &req->credential);
    req->of_credential = c;
    return 1;
}

/* -- kong.client.load_consumer -- */

struct loading {
    struct sb_str id;
    bool by_username, by_id;
};

static struct loading *loading_of(struct sb_lua_run *r)
{
    static const char owner;

    return sb_exchange_state(r->x, &owner, sizeof(struct loading));
}

static int finish_load(lua_State *L, struct sb_lua_run *r)
{
    struct loading *l = loading_of(r);
    const struct sb_found *found = NULL;
    enum sb_rc rc = SB_NOTFOUND;

    if (l->by_id)
        rc = sb_credential_find(r->x, SB_CONSUMER_BY_ID, l->id, &found);
    if (rc == SB_NOTFOUND && l->by_username) {
        l->by_id = false;
        rc = sb_credential_find(r->x, SB_CONSUMER_BY_USERNAME, l->id, &found);
    }
    if (rc == SB_AGAIN)
        return -1;
    if (rc == SB_NOTFOUND)
        return 0;
    if (rc)
        return sb_lua_nil(L, "[postgres] the database is not available");
    sb_lua_push_value(L, found->value, true);
    return 1;
}

static int load_consumer(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str id = sb_lua_arg_str(L, 1, "consumer_id");
    bool by_username = lua_toboolean(L, 2), is_id;
    struct sb_uuid uuid;
    int n;

    is_id = sb_uuid_parse(id, &uuid);
    if (!is_id && !by_username)
        return luaL_error(L, "cannot load a consumer with an id that is not a uuid");
    if (!sb_lua_may_wait(r))
        return sb_lua_nil(L, "a consumer can't be loaded in this phase");
    *loading_of(r) = (struct loading){.id = sb_arena_str(sb_exchange_arena(r->x), id),
                                      .by_id = is_id,
                                      .by_username = by_username};
    n = finish_load(L, r);
    return n < 0 ? sb_lua_wait(L, r, finish_load) : n;
}

/* -- kong.client.authenticate -- */

static struct sb_str field(lua_State *L, struct sb_lua_run *r, int at, const char *name)
{
    struct sb_str s = SB_STR("");

    lua_getfield(L, at, name);
    if (lua_type(L, -1) == LUA_TSTRING)
        s = sb_arena_str(sb_exchange_arena(r->x), sb_lua_str(L, -1));
    lua_pop(L, 1);
    return s;
}

static const struct sb_consumer *consumer_of(lua_State *L, struct sb_lua_run *r, int at)
{
    struct sb_consumer *c = SB_NEW(sb_exchange_arena(r->x), struct sb_consumer);

    c->id = field(L, r, at, "id");
    c->username = field(L, r, at, "username");
    c->custom_id = field(L, r, at, "custom_id");
    lua_pushvalue(L, at);
    remember(L, &r->req->consumer);
    lua_pop(L, 1);
    r->req->of_consumer = c;
    return c;
}

static const struct sb_credential *credential_of(lua_State *L, struct sb_lua_run *r, int at)
{
    struct sb_credential *c = SB_NEW(sb_exchange_arena(r->x), struct sb_credential);

    c->id = field(L, r, at, "id");
    lua_getfield(L, at, "consumer");
    c->consumer_id = lua_istable(L, -1) ? field(L, r, lua_gettop(L), "id") : SB_STR("");
    lua_pop(L, 1);
    lua_pushvalue(L, at);
    remember(L, &r->req->credential);
    lua_pop(L, 1);
    r->req->of_credential = c;
    return c;
}

static int authenticate(lua_State *L, struct sb_lua_run *r)
{
    bool consumer = lua_istable(L, 1), credential = lua_istable(L, 2);

    lua_settop(L, 2);
    if (!consumer && !lua_isnil(L, 1))
        return luaL_error(L, "consumer must be a table or nil");
    if (!credential && !lua_isnil(L, 2))
        return luaL_error(L, "credential must be a table or nil");
    if (!consumer && !credential)
        return luaL_error(L, "either credential or consumer must be provided");
    sb_exchange_authenticate(r->x, consumer ? consumer_of(L, r, 1) : NULL,
                             credential ? credential_of(L, r, 2) : NULL);
    return 0;
}

/* -- kong.client.get_protocol -- */

static int get_protocol(lua_State *L, struct sb_lua_run *r)
{
    const struct sb_route *route = sb_exchange_route(r->x);
    static const struct {
        unsigned bit;
        const char *name;
    } protocols[] = {{SB_PROTO_HTTP, "http"},
                     {SB_PROTO_HTTPS, "https"},
                     {SB_PROTO_GRPC, "grpc"},
                     {SB_PROTO_GRPCS, "grpcs"}};
    bool https = sb_exchange_https(r->x);

    if (!route)
        return sb_lua_nil(L, "No active route found");
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
        if (route->protocols == protocols[i].bit) {
            lua_pushstring(L, protocols[i].name);
            return 1;
        }
    if (lua_toboolean(L, 1) && !https)
        https = sb_str_ieq(sb_exchange_forwarded_proto(r->x), SB_STR("https"));
    lua_pushstring(L, https ? "https" : "http");
    return 1;
}

const struct sb_lua_fn sb_lua_kong_client[] = {
    {"get_ip", 0, get_ip},
    {"get_forwarded_ip", 0, get_forwarded_ip},
    {"get_port", 0, get_port},
    {"get_forwarded_port", 0, get_port},
    {"get_credential", SB_LUA_KNOWN_PHASES, get_credential},
    {"get_consumer", SB_LUA_KNOWN_PHASES, get_consumer},
    {"load_consumer", SB_LUA_KNOWN_PHASES, load_consumer},
    {"authenticate", SB_LUA_ACCESS, authenticate},
    {"get_protocol", SB_LUA_KNOWN_PHASES, get_protocol},
    {0},
};
