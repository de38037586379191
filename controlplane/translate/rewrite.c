/* rewrite.c - the template of konghq.com/rewrite.
 *
 *     $12     what the path's twelfth group caught   -> $(uri_captures[12])
 *     \$      a dollar sign
 *
 * Anything else behind a dollar sign or a backslash is an error of the author's.
 */
#include "controlplane/translate/translator.h"

static bool is_digit(struct sb_str s, size_t at)
{
    return at < s.len && s.p[at] >= '0' && s.p[at] <= '9';
}

/* The character at an offset, all of its UTF-8 bytes. */
static struct sb_str character(struct sb_str s, size_t at)
{
    size_t end = at + 1;

    while (end < s.len && ((unsigned char)s.p[end] & 0xC0) == 0x80)
        end++;
    return sb_str_n(s.p + at, end - at);
}

static struct sb_str unexpected(struct sb_arena *a, struct sb_str s, size_t at)
{
    if (at >= s.len)
        return SB_STR("unexpected end of string");
    return sb_arena_printf(a, "unexpected %.*s at pos %zu", SB_ARG(character(s, at)), at);
}

/* Copies what begins at *at with a '$' or '\', and moves behind it; false: *at is where it breaks.
 */
static bool put_special(struct sb_buf *out, struct sb_str s, size_t *at)
{
    if (s.p[(*at)++] == '\\') {
        if (*at >= s.len || s.p[*at] != '$')
            return false;
        sb_buf_char(out, s.p[(*at)++]);
        return true;
    }
    if (!is_digit(s, *at))
        return false;
    sb_buf_cstr(out, "$(uri_captures[");
    while (is_digit(s, *at))
        sb_buf_char(out, s.p[(*at)++]);
    sb_buf_cstr(out, "])");
    return true;
}

bool rewrite_uri(struct sb_arena *a, struct sb_str template, struct sb_str *uri,
                 struct sb_str *error)
{
    struct sb_buf out;
    bool good = true;

    sb_buf_init(&out, 0);
    for (size_t at = 0; good && at < template.len;) {
        if (template.p[at] == '$' || template.p[at] == '\\') {
            good = put_special(&out, template, &at);
            if (!good)
                *error = unexpected(a, template, at);
        } else {
            sb_buf_char(&out, template.p[at++]);
        }
    }
    if (good)
        *uri = sb_arena_str(a, sb_buf_get(&out));
    sb_buf_release(&out);
    return good;
}
