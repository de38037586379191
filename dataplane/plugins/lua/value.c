#include "dataplane/plugins/lua/value.h"

#include <math.h>
#include <stdlib.h>

#include "shared/json.h"

/* -- arrays -- */

static const char empty_array;

void sb_lua_push_array_mt(lua_State *L)
{
    (void)luaL_newmetatable(L, "silverback.array");
}

void sb_lua_push_empty_array_mt(lua_State *L)
{
    (void)luaL_newmetatable(L, "silverback.empty_array");
}

void sb_lua_push_empty_array(lua_State *L)
{
    union {
        const char *in;
        void *out;
    } p = {.in = &empty_array};

    lua_pushlightuserdata(L, p.out);
}

static bool has_metatable(lua_State *L, int at, void (*push)(lua_State *L))
{
    bool same;

    if (!lua_getmetatable(L, at))
        return false;
    push(L);
    same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* -- to Lua -- */

void sb_lua_push_value(lua_State *L, const struct sb_value *v, bool marked)
{
    const struct sb_member *m;

    luaL_checkstack(L, 4, "a value is nested too deeply");
    switch (v->type) {
    case SB_V_NULL:
        lua_pushlightuserdata(L, NULL);
        return;
    case SB_V_BOOL:
        lua_pushboolean(L, v->b);
        return;
    case SB_V_INT:
        lua_pushnumber(L, (double)v->i);
        return;
    case SB_V_NUM:
        lua_pushnumber(L, v->n);
        return;
    case SB_V_STR:
        sb_lua_push(L, v->s);
        return;
    case SB_V_ARRAY:
        lua_createtable(L, (int)v->count, 0);
        for (uint32_t i = 0; i < v->count; i++) {
            sb_lua_push_value(L, v->items[i], marked);
            lua_rawseti(L, -2, (int)i + 1);
        }
        if (marked) {
            sb_lua_push_array_mt(L);
            lua_setmetatable(L, -2);
        }
        return;
    case SB_V_OBJECT:
        lua_createtable(L, 0, (int)v->count);
        sb_object_each (m, v) {
            sb_lua_push(L, m->key);
            sb_lua_push_value(L, m->value, marked);
            lua_rawset(L, -3);
        }
    }
}

/* -- from Lua -- */

struct conversion {
    lua_State *L;
    struct sb_arena *a;
    struct sb_str *why;
    int depth;
};

static struct sb_value *convert(struct conversion *c, int at);

static struct sb_value *refuse(struct conversion *c, const char *what)
{
    *c->why = sb_arena_printf(c->a, "Cannot serialise %s", what);
    return NULL;
}

/* The length of what is an array, -1 of an object; sparse: there are far more holes than items. */
static int array_length(lua_State *L, int at, bool *sparse)
{
    double max = 0, key;
    int n = 0;

    *sparse = false;
    lua_pushnil(L);
    while (lua_next(L, at)) {
        lua_pop(L, 1);
        key = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
        if (key < 1 || floor(key) != key) {
            lua_pop(L, 1);
            return -1;
        }
        n++;
        max = key > max ? key : max;
    }
    *sparse = max > 10 && max > 2.0 * n;
    return n ? (int)max : -1;
}

static struct sb_value *convert_array(struct conversion *c, int at, int n)
{
    struct sb_value *array = sb_value_array(c->a), *item;

    for (int i = 1; i <= n; i++) {
        lua_rawgeti(c->L, at, i);
        item = convert(c, lua_gettop(c->L));
        lua_pop(c->L, 1);
        if (!item)
            return NULL;
        sb_array_push(c->a, array, item);
    }
    return array;
}

static struct sb_value *convert_object(struct conversion *c, int at)
{
    struct sb_value *object = sb_value_object(c->a), *value;
    lua_State *L = c->L;

    lua_pushnil(L);
    while (lua_next(L, at)) {
        struct sb_str key = {0};
        int top = lua_gettop(L);

        if (lua_type(L, -2) == LUA_TSTRING)
            key = sb_lua_str(L, -2);
        else if (lua_type(L, -2) == LUA_TNUMBER)
            key = sb_arena_printf(c->a, "%.14g", lua_tonumber(L, -2));
        value = key.p ? convert(c, top) : refuse(c, "table: table key must be a number or string");
        lua_settop(L, top - 1);
        if (!value) {
            lua_pop(L, 1);
            return NULL;
        }
        sb_object_append(c->a, object, key, value);
    }
    return object;
}

static struct sb_value *convert_table(struct conversion *c, int at)
{
    struct sb_value *v = NULL;
    bool sparse;
    int n;

    if (c->depth++ >= SB_LUA_DEPTH_MAX || !lua_checkstack(c->L, 8))
        return refuse(c, "table: excessive depth");
    n = array_length(c->L, at, &sparse);
    if (has_metatable(c->L, at, sb_lua_push_array_mt))
        v = convert_array(c, at, (int)lua_objlen(c->L, at));
    else if (n < 0 && has_metatable(c->L, at, sb_lua_push_empty_array_mt) &&
             lua_objlen(c->L, at) == 0)
        v = sb_value_array(c->a);
    else if (sparse)
        v = refuse(c, "table: excessively sparse array");
    else
        v = n < 0 ? convert_object(c, at) : convert_array(c, at, n);
    c->depth--;
    return v;
}

static struct sb_value *convert(struct conversion *c, int at)
{
    lua_State *L = c->L;
    double n;

    switch (lua_type(L, at)) {
    case LUA_TNIL:
        return sb_value_null(c->a);
    case LUA_TBOOLEAN:
        return sb_value_bool(c->a, lua_toboolean(L, at));
    case LUA_TNUMBER:
        n = lua_tonumber(L, at);
        if (isnan(n) || isinf(n))
            return refuse(c, "number: must not be NaN or Infinity");
        return sb_value_num(c->a, n);
    case LUA_TSTRING:
        return sb_value_str(c->a, sb_lua_str(L, at));
    case LUA_TTABLE:
        return convert_table(c, at);
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L, at))
            return sb_value_null(c->a);
        if (lua_touserdata(L, at) == (const void *)&empty_array)
            return sb_value_array(c->a);
        break;
    default:
        break;
    }
    *c->why =
        sb_arena_printf(c->a, "Cannot serialise %s: type not supported", luaL_typename(L, at));
    return NULL;
}

struct sb_value *sb_lua_to_value(lua_State *L, int at, struct sb_arena *a, struct sb_str *why)
{
    struct conversion c = {.L = L, .a = a, .why = why};

    return convert(&c, at < 0 ? lua_gettop(L) + 1 + at : at);
}

struct sb_str sb_lua_to_json(lua_State *L, int at, struct sb_arena *a, struct sb_str *why)
{
    struct sb_value *v = sb_lua_to_value(L, at, a, why);

    return v ? sb_json_text(a, v, SB_JSON_SLASH) : (struct sb_str){0};
}

bool sb_lua_push_json(lua_State *L, struct sb_arena *a, struct sb_str text, bool marked,
                      struct sb_err *err)
{
    struct sb_value *v;

    if (sb_json_parse(a, text, &v, err))
        return false;
    sb_lua_push_value(L, v, marked);
    return true;
}

/* -- arguments of queries and forms -- */

static bool passes(unsigned char c, bool all)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    if (memchr("-_.~", c, 4))
        return true;
    return !all && c > 0x20 && c < 0x7f && !memchr("#%?", c, 3);
}

struct sb_str sb_lua_escape(struct sb_arena *a, struct sb_str s, bool all)
{
    char *out = sb_arena_alloc(a, 3 * s.len + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (passes(c, all)) {
            out[n++] = (char)c;
            continue;
        }
        out[n++] = '%';
        out[n++] = "0123456789ABCDEF"[c >> 4];
        out[n++] = "0123456789ABCDEF"[c & 15];
    }
    return sb_str_n(out, n);
}

/* One name=value; true is the name alone, false nothing. */
static struct sb_str encode_one(lua_State *L, struct sb_arena *a, struct sb_str name, int at)
{
    struct sb_str value;

    if (lua_isboolean(L, at))
        return lua_toboolean(L, at) ? name : (struct sb_str){0};
    if (!lua_isstring(L, at))
        luaL_error(L, "attempt to use %s as query arg value", luaL_typename(L, at));
    lua_pushvalue(L, at); /* a number stays one */
    value = sb_lua_escape(a, sb_lua_str(L, -1), true);
    lua_pop(L, 1);
    return sb_arena_printf(a, "%.*s=%.*s", SB_ARG(name), SB_ARG(value));
}

static struct sb_str join(struct sb_arena *a, const struct sb_str *pieces, size_t n)
{
    size_t len = n, at = 0;
    char *out;

    for (size_t i = 0; i < n; i++)
        len += pieces[i].len;
    out = sb_arena_alloc(a, len + 1);
    for (size_t i = 0; i < n; i++) {
        if (pieces[i].len == 0)
            continue;
        if (at)
            out[at++] = '&';
        memcpy(out + at, pieces[i].p, pieces[i].len);
        at += pieces[i].len;
    }
    return sb_str_n(out, at);
}

static struct sb_str encode_name(lua_State *L, struct sb_arena *a, struct sb_str name, int at)
{
    struct sb_str escaped = sb_lua_escape(a, name, true), *pieces;
    int n;

    if (!lua_istable(L, at))
        return encode_one(L, a, escaped, at);
    n = (int)lua_objlen(L, at);
    pieces = SB_NEW_N(a, struct sb_str, n + 1);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, at, i + 1);
        pieces[i] = encode_one(L, a, escaped, lua_gettop(L));
        lua_pop(L, 1);
    }
    return join(a, pieces, (size_t)n);
}

static int by_text(const void *a, const void *b)
{
    return sb_str_cmp(*(const struct sb_str *)a, *(const struct sb_str *)b);
}

struct sb_str sb_lua_encode_args(lua_State *L, int at, struct sb_arena *a, bool sorted)
{
    struct sb_str *pieces;
    size_t n = 0;

    lua_pushnil(L);
    for (; lua_next(L, at); lua_pop(L, 1))
        n++;
    pieces = SB_NEW_N(a, struct sb_str, n + 1);
    n = 0;
    lua_pushnil(L);
    while (lua_next(L, at)) {
        int top = lua_gettop(L);
        struct sb_str name;

        if (lua_type(L, top - 1) != LUA_TSTRING)
            luaL_error(L, "arg keys must be strings");
        name = sb_lua_str(L, top - 1);
        pieces[n++] = encode_name(L, a, name, top);
        lua_settop(L, top - 1);
    }
    if (sorted)
        qsort(pieces, n, sizeof *pieces, by_text);
    return join(a, pieces, n);
}
