#include "dataplane/plugins/lua/codec.h"

#include <openssl/hmac.h>
#include <time.h>
#include <zlib.h>

#include "dataplane/plugins/auth/auth_text.h"
#include "dataplane/plugins/lua/value.h"
#include "shared/clock.h"
#include "shared/digest.h"

/* What nginx takes for text: numbers and nil, too. */
static struct sb_str text(lua_State *L, int at)
{
    if (lua_isnil(L, at))
        return SB_STR("");
    (void)luaL_checkstring(L, at);
    return sb_lua_str(L, at);
}

static struct sb_arena *arena(struct sb_lua_run *r)
{
    return sb_exchange_arena(r->x);
}

static int push(lua_State *L, struct sb_str s)
{
    sb_lua_push(L, s);
    return 1;
}

static int push_bytes(lua_State *L, const void *p, size_t len)
{
    lua_pushlstring(L, p, len);
    return 1;
}

/* -- codings -- */

int sb_lua_encode_base64(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str s = sb_base64_encode(arena(r), text(L, 1));

    while (lua_toboolean(L, 2) && s.len && s.p[s.len - 1] == '=')
        s.len--;
    return push(L, s);
}

int sb_lua_decode_base64(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str s = text(L, 1), out;

    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "string argument only");
    return sb_base64_decode(arena(r), s, &out) ? push(L, out) : 0;
}

int sb_lua_escape_uri(lua_State *L, struct sb_lua_run *r)
{
    return push(L, sb_lua_escape(arena(r), text(L, 1), luaL_optinteger(L, 2, 2) != 0));
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int sb_lua_unescape_uri(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str s = text(L, 1);
    char *out = sb_arena_alloc(arena(r), s.len + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];

        if (c == '%' && i + 2 < s.len && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
            c = (char)(hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]));
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        out[n++] = c;
    }
    return push_bytes(L, out, n);
}

int sb_lua_encode_args_fn(lua_State *L, struct sb_lua_run *r)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    return push(L, sb_lua_encode_args(L, 1, arena(r), false));
}

int sb_lua_decode_args(lua_State *L, struct sb_lua_run *r)
{
    int max = (int)luaL_optinteger(L, 2, 100);

    sb_lua_push_args(L, r, text(L, 1), max > 0 && max <= 1000 ? max : 1000);
    return 1;
}

int sb_lua_quote_sql(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str s = text(L, 1);
    luaL_Buffer b;

    (void)r;
    luaL_buffinit(L, &b);
    luaL_addchar(&b, '\'');
    for (size_t i = 0; i < s.len; i++) {
        const char *from = "\n\r\t\b\x1a", *to = "nrtbZ", *at;

        at = s.p[i] ? strchr(from, s.p[i]) : NULL;
        if (at || strchr("\\'\"", s.p[i]))
            luaL_addchar(&b, '\\');
        luaL_addchar(&b, at ? to[at - from] : s.p[i] ? s.p[i] : '0');
    }
    luaL_addchar(&b, '\'');
    luaL_pushresult(&b);
    return 1;
}

/* -- digests -- */

int sb_lua_md5(lua_State *L, struct sb_lua_run *r)
{
    uint8_t out[SB_MD5_LEN];

    sb_md5(text(L, 1), out);
    return push(L, sb_hex(arena(r), out, sizeof out));
}

int sb_lua_md5_bin(lua_State *L, struct sb_lua_run *r)
{
    uint8_t out[SB_MD5_LEN];

    (void)r;
    sb_md5(text(L, 1), out);
    return push_bytes(L, out, sizeof out);
}

int sb_lua_sha1_bin(lua_State *L, struct sb_lua_run *r)
{
    uint8_t out[SB_SHA1_LEN];

    (void)r;
    sb_sha1(text(L, 1), out);
    return push_bytes(L, out, sizeof out);
}

int sb_lua_hmac_sha1(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str key = text(L, 1), s = text(L, 2);
    uint8_t out[SB_SHA1_LEN];
    unsigned len = sizeof out;

    (void)r;
    if (!HMAC(EVP_sha1(), key.p ? key.p : "", (int)key.len, (const uint8_t *)(s.p ? s.p : ""),
              s.len, out, &len))
        return 0;
    return push_bytes(L, out, len);
}

int sb_lua_crc32(lua_State *L, struct sb_lua_run *r)
{
    struct sb_str s = text(L, 1);

    (void)r;
    lua_pushnumber(L, (double)crc32(0, (const Bytef *)(s.p ? s.p : ""), (uInt)s.len));
    return 1;
}

/* -- times -- */

int sb_lua_time(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    lua_pushnumber(L, (double)(sb_wall_ms() / 1000));
    return 1;
}

int sb_lua_now(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    lua_pushnumber(L, (double)sb_wall_ms() / 1000);
    return 1;
}

int sb_lua_update_time(lua_State *L, struct sb_lua_run *r)
{
    (void)L;
    (void)r;
    return 0;
}

enum time_format { TODAY, FULL, HTTP, COOKIE };

static int push_time(lua_State *L, enum time_format format, double seconds, bool local)
{
    time_t t = (time_t)seconds;
    struct tm tm;
    char out[64];

    if (local)
        localtime_r(&t, &tm);
    else
        gmtime_r(&t, &tm);
    switch (format) {
    case TODAY:
        return push_bytes(L, out, strftime(out, sizeof out, "%Y-%m-%d", &tm));
    case FULL:
        return push_bytes(L, out, strftime(out, sizeof out, "%Y-%m-%d %H:%M:%S", &tm));
    case HTTP:
        return push_bytes(L, out, strftime(out, sizeof out, "%a, %d %b %Y %H:%M:%S GMT", &tm));
    default:
        (void)strftime(out, sizeof out, "%a, %d-%b-", &tm);
        lua_pushfstring(L, "%s%d%d", out, tm.tm_year / 10 % 10, tm.tm_year % 10);
        (void)strftime(out, sizeof out, " %H:%M:%S GMT", &tm);
        lua_pushstring(L, out);
        lua_concat(L, 2);
        return 1;
    }
}

int sb_lua_today(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    return push_time(L, TODAY, (double)sb_wall_ms() / 1000, true);
}

int sb_lua_localtime(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    return push_time(L, FULL, (double)sb_wall_ms() / 1000, true);
}

int sb_lua_utctime(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    return push_time(L, FULL, (double)sb_wall_ms() / 1000, false);
}

int sb_lua_http_time(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    return push_time(L, HTTP, luaL_checknumber(L, 1), false);
}

int sb_lua_cookie_time(lua_State *L, struct sb_lua_run *r)
{
    (void)r;
    return push_time(L, COOKIE, luaL_checknumber(L, 1), false);
}

int sb_lua_parse_http_time(lua_State *L, struct sb_lua_run *r)
{
    int64_t seconds;

    (void)r;
    if (!sb_auth_http_date(text(L, 1), &seconds))
        return 0;
    lua_pushnumber(L, (double)seconds);
    return 1;
}
