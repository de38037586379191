/* cjson.c - the modules cjson and cjson.safe, where the sandbox lets them be required: encode and
 * decode. cjson raises errors, cjson.safe gives nil and why. */
#include "dataplane/plugins/lua/value.h"

static int failed(lua_State *L, struct sb_str why, bool safe)
{
    if (safe)
        lua_pushnil(L);
    sb_lua_push(L, why);
    return safe ? 2 : lua_error(L);
}

static int encode_as(lua_State *L, struct sb_lua_run *r, bool safe)
{
    struct sb_str json, why;

    luaL_checkany(L, 1);
    json = sb_lua_to_json(L, 1, sb_exchange_arena(r->x), &why);
    if (!json.p)
        return failed(L, why, safe);
    sb_lua_push(L, json);
    return 1;
}

static int decode_as(lua_State *L, struct sb_lua_run *r, bool safe)
{
    struct sb_err err;
    struct sb_str text;

    if (lua_type(L, 1) != LUA_TSTRING)
        return failed(L, SB_STR("bad argument #1 to 'decode' (string expected)"), safe);
    text = sb_lua_str(L, 1);
    return sb_lua_push_json(L, sb_exchange_arena(r->x), text, false, &err)
               ? 1
               : failed(L, sb_str_c(err.text), safe);
}

static int encode(lua_State *L, struct sb_lua_run *r)
{
    return encode_as(L, r, false);
}

static int encode_safe(lua_State *L, struct sb_lua_run *r)
{
    return encode_as(L, r, true);
}

static int decode(lua_State *L, struct sb_lua_run *r)
{
    return decode_as(L, r, false);
}

static int decode_safe(lua_State *L, struct sb_lua_run *r)
{
    return decode_as(L, r, true);
}

const struct sb_lua_fn sb_lua_cjson[] = {
    {"encode", 0, encode},
    {"decode", 0, decode},
    {0},
};

const struct sb_lua_fn sb_lua_cjson_safe[] = {
    {"encode", 0, encode_safe},
    {"decode", 0, decode_safe},
    {0},
};

void sb_lua_more_cjson(lua_State *L)
{
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    sb_lua_push_array_mt(L);
    lua_setfield(L, -2, "array_mt");
    sb_lua_push_empty_array_mt(L);
    lua_setfield(L, -2, "empty_array_mt");
    sb_lua_push_empty_array(L);
    lua_setfield(L, -2, "empty_array");
}
