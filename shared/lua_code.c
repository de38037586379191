#include "shared/lua_code.h"

#include <lauxlib.h>
#include <lua.h>

#include "shared/buf.h"

bool sb_lua_parses(struct sb_arena *a, struct sb_str code, const char *name, struct sb_str *why)
{
    lua_State *L = luaL_newstate();
    struct sb_str text;
    size_t len;
    bool ok;

    if (!L) {
        *why = SB_STR("not enough memory");
        return false;
    }
    if (!name)
        name = sb_arena_cstr(a, code);
    ok = luaL_loadbufferx(L, code.p ? code.p : "", code.len, name, "t") == 0;
    if (!ok) {
        text.p = lua_tolstring(L, -1, &len);
        text.len = text.p ? len : 0;
        *why = sb_arena_str(a, text);
    }
    lua_close(L);
    return ok;
}

/* -- templates -- */

/* The next "$(...)" at or after *from: what is between the parentheses; *from goes behind them. */
static bool next_expression(struct sb_str text, size_t *from, size_t *at, struct sb_str *inner)
{
    ptrdiff_t start;

    while ((start = sb_str_find(text, SB_STR("$("), *from)) >= 0) {
        size_t depth = 0, i = (size_t)start + 1;

        for (; i < text.len; i++) {
            depth += text.p[i] == '(';
            depth -= text.p[i] == ')';
            if (depth == 0)
                break;
        }
        *at = (size_t)start;
        *from = i < text.len ? i + 1 : (size_t)start + 1;
        if (i < text.len) {
            *inner = sb_str_n(text.p + start + 2, i - (size_t)start - 2);
            return true;
        }
    }
    return false;
}

bool sb_lua_template_evaluates(struct sb_str text)
{
    struct sb_str inner;
    size_t from = 0, at;

    return next_expression(text, &from, &at, &inner);
}

static void quoted(struct sb_buf *b, struct sb_str s)
{
    sb_buf_char(b, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '"' || c == '\\')
            sb_buf_printf(b, "\\%c", c);
        else if (c == '\n')
            sb_buf_cstr(b, "\\\n");
        else if (c < 0x20 || c == 0x7f)
            sb_buf_printf(b, "\\%03u", c);
        else
            sb_buf_char(b, (char)c);
    }
    sb_buf_char(b, '"');
}

#define APPEND "\n__R_size = __R_size + 1; __R_table[__R_size] = "

/* Lines are as in Penlight's, so that messages name the same ones. */
struct sb_str sb_lua_template_code(struct sb_arena *a, struct sb_str text)
{
    size_t from = 0, done = 0, at;
    struct sb_str inner, code;
    struct sb_buf b;

    sb_buf_init(&b, 0);
    sb_buf_cstr(&b, "return function(__R_table, __tostring)\nlocal __R_size = 0");
    while (next_expression(text, &from, &at, &inner)) {
        sb_buf_cstr(&b, APPEND);
        quoted(&b, sb_str_n(text.p + done, at - done));
        sb_buf_cstr(&b, APPEND "__tostring((");
        sb_buf_str(&b, inner);
        sb_buf_cstr(&b, ") or '')");
        done = from;
    }
    sb_buf_cstr(&b, APPEND);
    quoted(&b, sb_str_from(text, done));
    sb_buf_cstr(&b, "\nreturn __R_table\nend");
    code = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return code;
}
