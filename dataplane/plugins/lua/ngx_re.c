/* ngx_re.c - ngx.re on PCRE2: match, find, gmatch, sub, gsub. Patterns are compiled once a worker,
 * within a bound; what one match may cost has a limit, for subjects come from clients.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "dataplane/plugins/lua/pdk.h"

enum { PATTERNS_MAX = 1024, MATCH_LIMIT = 100000, HEAP_LIMIT_KIB = 4096 };

struct pattern {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *limits;
    bool anchored;
    uint32_t groups;
};

/* -- patterns -- */

static int collect(lua_State *L)
{
    struct pattern *p = lua_touserdata(L, 1);

    if (p->data)
        pcre2_match_data_free(p->data);
    if (p->limits)
        pcre2_match_context_free(p->limits);
    if (p->code)
        pcre2_code_free(p->code);
    *p = (struct pattern){0};
    return 0;
}

static uint32_t options_of(lua_State *L, struct sb_str letters)
{
    static const struct {
        char letter;
        uint32_t option;
    } table[] = {{'a', 0}, /* at each match */
                 {'d', 0},
                 {'j', 0},
                 {'o', 0},
                 {'i', PCRE2_CASELESS},
                 {'m', PCRE2_MULTILINE},
                 {'s', PCRE2_DOTALL},
                 {'x', PCRE2_EXTENDED},
                 {'u', PCRE2_UTF},
                 {'U', PCRE2_UTF | PCRE2_NO_UTF_CHECK},
                 {'D', PCRE2_DUPNAMES},
                 {'J', PCRE2_MATCH_UNSET_BACKREF}};
    uint32_t options = 0;

    for (size_t i = 0, j; i < letters.len; i++) {
        for (j = 0; j < sizeof table / sizeof *table && table[j].letter != letters.p[i]; j++)
            ;
        if (j == sizeof table / sizeof *table)
            luaL_error(L, "unknown flag \"%c\" (flags \"%s\")", letters.p[i], letters.p);
        options |= table[j].option;
    }
    if (options & PCRE2_NO_UTF_CHECK) /* never on what a client sent */
        options &= ~(uint32_t)PCRE2_NO_UTF_CHECK;
    return options;
}

/* The table of patterns on top; emptied when it is full. */
static void push_patterns(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "silverback.patterns");
    if (lua_istable(L, -1)) {
        lua_rawgeti(L, -1, 0);
        if (lua_tointeger(L, -1) < PATTERNS_MAX) {
            lua_pop(L, 1);
            return;
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, "silverback.patterns");
}

static void count_pattern(lua_State *L, int patterns)
{
    lua_rawgeti(L, patterns, 0);
    lua_pushinteger(L, lua_tointeger(L, -1) + 1);
    lua_rawseti(L, patterns, 0);
    lua_pop(L, 1);
}

static struct pattern *new_pattern(lua_State *L)
{
    struct pattern *p = lua_newuserdata(L, sizeof *p);

    *p = (struct pattern){0};
    if (luaL_newmetatable(L, "silverback.pattern")) {
        lua_pushcfunction(L, collect);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return p;
}

/* Pushes the pattern of the arguments 2 and 3. NULL: nil and why are pushed in its place. */
static struct pattern *pattern_of(lua_State *L, struct sb_str letters)
{
    struct sb_str regex = (luaL_checkstring(L, 2), sb_lua_str(L, 2));
    uint32_t options = options_of(L, letters);
    struct pattern *p;
    PCRE2_SIZE at;
    int error, top;

    push_patterns(L);
    top = lua_gettop(L);
    sb_lua_push(L, letters);
    lua_pushliteral(L, "/");
    lua_pushvalue(L, 2);
    lua_concat(L, 3);
    lua_pushvalue(L, -1);
    lua_rawget(L, top);
    if (lua_isuserdata(L, -1)) {
        p = lua_touserdata(L, -1);
        lua_replace(L, top);
        lua_settop(L, top);
        return p;
    }
    lua_pop(L, 1);
    p = new_pattern(L);
    p->code = pcre2_compile((PCRE2_SPTR)regex.p, regex.len, options, &error, &at, NULL);
    if (!p->code) {
        char text[128];

        pcre2_get_error_message(error, (PCRE2_UCHAR *)text, sizeof text);
        lua_settop(L, top - 1);
        lua_pushnil(L);
        lua_pushfstring(L, "pcre_compile() failed: %s in \"%s\"", text, regex.p);
        return NULL;
    }
    (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
    p->data = pcre2_match_data_create_from_pattern(p->code, NULL);
    p->limits = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(p->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(p->limits, HEAP_LIMIT_KIB);
    p->anchored = sb_str_chr(letters, 'a', 0) >= 0;
    (void)pcre2_pattern_info(p->code, PCRE2_INFO_CAPTURECOUNT, &p->groups);
    lua_pushvalue(L, -1);
    lua_insert(L, top + 1);
    lua_rawset(L, top);
    count_pattern(L, top);
    lua_replace(L, top);
    return p;
}

/* > 0: matched; 0: not; < 0: nil and why were pushed. */
static int match_at(lua_State *L, struct pattern *p, struct sb_str s, size_t from)
{
    int n = from > s.len ? PCRE2_ERROR_NOMATCH
                         : pcre2_match(p->code, (PCRE2_SPTR)s.p, s.len, from,
                                       p->anchored ? PCRE2_ANCHORED : 0, p->data, p->limits);

    if (n >= 0)
        return 1;
    if (n == PCRE2_ERROR_NOMATCH)
        return 0;
    lua_pushnil(L);
    lua_pushfstring(L, "pcre_exec() failed: %d", n);
    return -1;
}

static void push_group(lua_State *L, const struct pattern *p, struct sb_str s, uint32_t i)
{
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(p->data);

    if (i >= pcre2_get_ovector_count(p->data) || at[2 * i] == PCRE2_UNSET)
        lua_pushboolean(L, false);
    else
        lua_pushlstring(L, s.p + at[2 * i], at[2 * i + 1] - at[2 * i]);
}

/* The table of what matched: by number, and by name. */
static void push_groups(lua_State *L, const struct pattern *p, struct sb_str s)
{
    uint32_t names = 0, size = 0;
    const unsigned char *entry = NULL;

    lua_createtable(L, (int)p->groups, 1);
    for (uint32_t i = 0; i <= p->groups; i++) {
        push_group(L, p, s, i);
        lua_rawseti(L, -2, (int)i);
    }
    (void)pcre2_pattern_info(p->code, PCRE2_INFO_NAMECOUNT, &names);
    (void)pcre2_pattern_info(p->code, PCRE2_INFO_NAMEENTRYSIZE, &size);
    (void)pcre2_pattern_info(p->code, PCRE2_INFO_NAMETABLE, &entry);
    for (uint32_t i = 0; i < names; i++, entry += size) {
        push_group(L, p, s, (uint32_t)(entry[0] << 8 | entry[1]));
        lua_setfield(L, -2, (const char *)entry + 2);
    }
}

static struct sb_str subject(lua_State *L)
{
    (void)luaL_checkstring(L, 1);
    return sb_lua_str(L, 1);
}

static struct sb_str letters_at(lua_State *L, int at)
{
    return lua_isnoneornil(L, at) ? SB_STR("") : (luaL_checkstring(L, at), sb_lua_str(L, at));
}

/* -- match, find, gmatch -- */

/* Where to begin: ctx.pos, which moves on behind the match. */
static size_t position(lua_State *L, int ctx)
{
    lua_Integer pos = 1;

    if (lua_istable(L, ctx)) {
        lua_getfield(L, ctx, "pos");
        pos = lua_isnumber(L, -1) ? lua_tointeger(L, -1) : 1;
        lua_pop(L, 1);
    }
    return pos > 0 ? (size_t)pos - 1 : 0;
}

static void move_on(lua_State *L, int ctx, const struct pattern *p)
{
    if (!lua_istable(L, ctx))
        return;
    lua_pushinteger(L, (lua_Integer)pcre2_get_ovector_pointer(p->data)[1] + 1);
    lua_setfield(L, ctx, "pos");
}

static int re_match(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str s = subject(L);
    struct pattern *p;
    int n;

    (void)r;
    lua_settop(L, 4);
    p = pattern_of(L, letters_at(L, 3));
    if (!p)
        return 2;
    n = match_at(L, p, s, position(L, 4));
    if (n <= 0)
        return n ? 2 : 0;
    move_on(L, 4, p);
    push_groups(L, p, s);
    return 1;
}

static int re_find(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str s = subject(L);
    uint32_t group;
    struct pattern *p;
    const PCRE2_SIZE *at;
    int n;

    (void)r;
    lua_settop(L, 5);
    group = (uint32_t)luaL_optinteger(L, 5, 0);
    p = pattern_of(L, letters_at(L, 3));
    n = p ? match_at(L, p, s, position(L, 4)) : -1;
    if (n < 0) {
        lua_pushnil(L);
        lua_insert(L, -2); /* nil, nil, why */
        return 3;
    }
    if (n == 0)
        return 0;
    move_on(L, 4, p);
    at = pcre2_get_ovector_pointer(p->data);
    if (group > p->groups || at[2 * group] == PCRE2_UNSET)
        return 0;
    lua_pushinteger(L, (lua_Integer)at[2 * group] + 1);
    lua_pushinteger(L, (lua_Integer)at[2 * group + 1]);
    return 2;
}

/* The iterator of gmatch. Upvalues: subject, pattern, position. */
static int next_match(lua_State *L)
{
    struct sb_str s = sb_lua_str(L, lua_upvalueindex(1));
    struct pattern *p = lua_touserdata(L, lua_upvalueindex(2));
    size_t from = (size_t)lua_tonumber(L, lua_upvalueindex(3));
    const PCRE2_SIZE *at;
    int n = match_at(L, p, s, from);

    if (n <= 0)
        return n ? 2 : 0;
    at = pcre2_get_ovector_pointer(p->data);
    lua_pushnumber(L, (double)(at[1] > at[0] ? at[1] : at[1] + 1));
    lua_replace(L, lua_upvalueindex(3));
    push_groups(L, p, s);
    return 1;
}

static int re_gmatch(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    (void)subject(L);
    lua_settop(L, 3);
    if (!pattern_of(L, letters_at(L, 3)))
        return 2;
    lua_pushvalue(L, 1);
    lua_insert(L, -2);
    lua_pushnumber(L, 0);
    lua_pushcclosure(L, next_match, 3);
    return 1;
}

/* -- sub, gsub -- */

/* $0, $1, ${1}, $$ in a replacement. */
static void add_replacement(lua_State *L, luaL_Buffer *b, const struct pattern *p, struct sb_str s,
                            struct sb_str with)
{
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(p->data);

    for (size_t i = 0; i < with.len; i++) {
        bool braces;
        uint32_t group = 0;
        size_t j = i + 1;

        if (with.p[i] != '$' || j == with.len) {
            luaL_addchar(b, with.p[i]);
            continue;
        }
        if (with.p[j] == '$') {
            luaL_addchar(b, '$');
            i = j;
            continue;
        }
        braces = with.p[j] == '{';
        j += braces;
        if (j == with.len || with.p[j] < '0' || with.p[j] > '9')
            luaL_error(L, "failed to compile the replacement template");
        for (; j < with.len && with.p[j] >= '0' && with.p[j] <= '9' && group < 1000; j++)
            group = group * 10 + (uint32_t)(with.p[j] - '0');
        if (braces && (j == with.len || with.p[j++] != '}'))
            luaL_error(L, "the closing brace in \"${\" is missing");
        if (group <= p->groups && at[2 * group] != PCRE2_UNSET)
            luaL_addlstring(b, s.p + at[2 * group], at[2 * group + 1] - at[2 * group]);
        i = j - 1;
    }
}

/* What stands in place of this match: of the argument 3, a text or a function. */
static void add_match(lua_State *L, luaL_Buffer *b, struct pattern *p, struct sb_str s)
{
    if (!lua_isfunction(L, 3)) {
        add_replacement(L, b, p, s, sb_lua_str(L, 3));
        return;
    }
    lua_pushvalue(L, 3);
    push_groups(L, p, s);
    lua_call(L, 1, 1);
    if (!lua_isstring(L, -1))
        luaL_error(L, "string or number expected from the replace function");
    luaL_addvalue(b);
}

static int substitute(lua_State *L, bool all)
{
    struct sb_str s = subject(L);
    size_t done = 0, from = 0;
    struct pattern *p;
    luaL_Buffer b;
    int count = 0, n = 1;

    lua_settop(L, 4);
    if (!lua_isfunction(L, 3))
        (void)luaL_checkstring(L, 3);
    p = pattern_of(L, letters_at(L, 4));
    if (!p) {
        lua_pushnil(L);
        lua_insert(L, -2); /* nil, nil, why */
        return 3;
    }
    luaL_buffinit(L, &b);
    while ((all || count == 0) && (n = match_at(L, p, s, from)) > 0) {
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(p->data);
        size_t begin = at[0], end = at[1];

        luaL_addlstring(&b, s.p + done, begin - done);
        add_match(L, &b, p, s);
        done = end;
        from = end > begin ? end : end + 1;
        count++;
    }
    if (n < 0) {
        lua_pushnil(L);
        lua_insert(L, -2); /* nil, nil, why */
        return 3;
    }
    luaL_addlstring(&b, s.p + done, s.len - done);
    luaL_pushresult(&b);
    lua_pushinteger(L, count);
    return 2;
}

static int re_sub(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    return substitute(L, false);
}

static int re_gsub(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    return substitute(L, true);
}

const struct sb_lua_fn sb_lua_ngx_re[] = {
    {"match", 0, re_match}, {"find", 0, re_find}, {"gmatch", 0, re_gmatch},
    {"sub", 0, re_sub},     {"gsub", 0, re_gsub}, {0},
};
