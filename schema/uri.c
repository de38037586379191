#include "schema/uri.h"

#include <ctype.h>
#include <stdio.h>

#include "shared/buf.h"

static bool among(char c, const char *set)
{
    return c && strchr(set, c);
}

static void cut(struct sb_str *rest, char mark, struct sb_str *tail)
{
    ptrdiff_t at = sb_str_chr(*rest, mark, 0);

    if (at < 0)
        return;
    *tail = sb_str_from(*rest, (size_t)at + 1);
    *rest = sb_str_first(*rest, (size_t)at);
}

static void split_scheme(struct sb_str *rest, struct sb_url *out)
{
    for (size_t i = 0; i < rest->len; i++) {
        char c = rest->p[i];

        if (c == ':' && i > 0) {
            out->scheme = sb_str_first(*rest, i);
            *rest = sb_str_from(*rest, i + 1);
            return;
        }
        if (!isalnum((unsigned char)c) && (i == 0 || !among(c, "+-.")))
            return;
    }
}

static void split_authority(struct sb_str authority, struct sb_url *out)
{
    ptrdiff_t at = sb_str_chr(authority, '@', 0), colon;

    if (at >= 0) {
        out->userinfo = sb_str_first(authority, (size_t)at);
        authority = sb_str_from(authority, (size_t)at + 1);
    }
    colon = sb_str_rchr(authority, ':');
    if (colon >= 0 && sb_str_chr(authority, ']', (size_t)colon) < 0) {
        out->port = sb_str_from(authority, (size_t)colon + 1);
        authority = sb_str_first(authority, (size_t)colon);
        if (out->port.len == 0)
            out->port = (struct sb_str){0};
    }
    if (authority.len > 2 && authority.p[0] == '[' && authority.p[authority.len - 1] == ']')
        authority = sb_str_n(authority.p + 1, authority.len - 2);
    if (authority.len)
        out->host = authority;
}

void sb_url_split(struct sb_str text, struct sb_url *out)
{
    *out = (struct sb_url){0};
    split_scheme(&text, out);
    if (sb_str_starts(text, SB_STR("//"))) {
        struct sb_str rest = sb_str_from(text, 2);
        ptrdiff_t slash = sb_str_chr(rest, '/', 0);
        size_t len = slash < 0 ? rest.len : (size_t)slash;

        out->authority = true;
        split_authority(sb_str_first(rest, len), out);
        text = sb_str_from(rest, len);
    }
    cut(&text, '#', &out->fragment);
    cut(&text, '?', &out->query);
    cut(&text, ';', &out->params);
    if (text.len)
        out->path = text;
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The byte that a percent code at i stands for; -1 when there is none. */
static int escape_at(struct sb_str s, size_t i)
{
    if (s.p[i] != '%' || i + 2 >= s.len || hex(s.p[i + 1]) < 0 || hex(s.p[i + 2]) < 0)
        return -1;
    return hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]);
}

static bool is_reserved(int c)
{
    return among((char)c, "!*'();:@&=+$,/?%#[]");
}

static void decode(struct sb_buf *b, struct sb_str path)
{
    for (size_t i = 0; i < path.len; i++) {
        int c = escape_at(path, i);

        if (c < 0) {
            sb_buf_char(b, path.p[i]);
            continue;
        }
        if (is_reserved(c))
            sb_buf_printf(b, "%%%02X", c);
        else
            sb_buf_char(b, (char)c);
        i += 2;
    }
}

/* Segment by segment into out; "." goes, ".." takes the last one with it, empty ones merge. */
static void resolve_dots(struct sb_buf *out, struct sb_str path)
{
    struct sb_str rest = path, segment;
    bool directory = false; /* the path ends in a slash */

    (void)sb_str_split(&rest, '/', &segment); /* what is before the first slash: nothing */
    while (sb_str_split(&rest, '/', &segment)) {
        directory = segment.len == 0 || sb_str_is(segment, ".") || sb_str_is(segment, "..");
        if (sb_str_is(segment, "..")) {
            ptrdiff_t slash = sb_str_rchr(sb_buf_get(out), '/');

            out->len = slash < 0 ? 0 : (size_t)slash;
        } else if (!directory) {
            sb_buf_char(out, '/');
            sb_buf_str(out, segment);
        }
    }
    if (directory || out->len == 0)
        sb_buf_char(out, '/');
}

struct sb_str sb_path_normal(struct sb_arena *a, struct sb_str path)
{
    struct sb_buf decoded, out;
    struct sb_str text;

    sb_buf_init(&decoded, 0);
    sb_buf_init(&out, 0);
    decode(&decoded, path);
    resolve_dots(&out, sb_buf_get(&decoded));
    text = sb_arena_str(a, sb_buf_get(&out));
    sb_buf_release(&decoded);
    sb_buf_release(&out);
    return text;
}

struct sb_str sb_path_bad_escape(struct sb_str path)
{
    for (size_t i = 0; i < path.len; i++) {
        if (path.p[i] == '%' && escape_at(path, i) < 0)
            return sb_str_first(sb_str_from(path, i), 3);
        if (path.p[i] == '%')
            i += 2;
    }
    return (struct sb_str){0};
}

static bool is_plain(struct sb_str path)
{
    for (size_t i = 0; i < path.len; i++) {
        if (!isalnum((unsigned char)path.p[i]) && !among(path.p[i], ".-_~/%"))
            return false;
    }
    return true;
}

struct sb_str sb_path_upgrade(struct sb_arena *a, struct sb_str path)
{
    struct sb_buf b;
    struct sb_str text;

    if (is_plain(path))
        return sb_path_normal(a, path);
    sb_buf_init(&b, 0);
    sb_buf_char(&b, '~');
    for (size_t i = 0; i < path.len; i++) {
        int c = escape_at(path, i);

        if (c < 0) {
            sb_buf_char(&b, path.p[i]);
            continue;
        }
        if (is_reserved(c))
            sb_buf_printf(&b, "%%%02X", c);
        else if (among((char)c, "-[]{}()*+?.,\\^$|#"))
            sb_buf_printf(&b, "\\%c", c);
        else
            sb_buf_char(&b, (char)c);
        i += 2;
    }
    text = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return text;
}
