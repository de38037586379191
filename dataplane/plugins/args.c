#include "dataplane/plugins/args.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A percent sign that two digits don't follow is itself. */
static struct sb_str decode(struct sb_arena *a, struct sb_str s)
{
    size_t len = 0;
    char *out;

    if (sb_str_chr(s, '%', 0) < 0 && sb_str_chr(s, '+', 0) < 0)
        return s;
    out = sb_arena_alloc(a, s.len);
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];

        if (c == '+') {
            c = ' ';
        } else if (c == '%' && i + 2 < s.len && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
            c = (char)(hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]));
            i += 2;
        }
        out[len++] = c;
    }
    return sb_str_n(out, len);
}

bool sb_arg_next(struct sb_arena *a, struct sb_str *rest, struct sb_arg *out)
{
    struct sb_str piece;

    while (sb_str_split(rest, '&', &piece)) {
        ptrdiff_t equals = sb_str_chr(piece, '=', 0);

        if (piece.len == 0 || equals == 0)
            continue;
        out->name = decode(a, equals < 0 ? piece : sb_str_first(piece, (size_t)equals));
        out->value = (struct sb_str){0};
        if (equals >= 0)
            out->value = decode(a, sb_str_from(piece, (size_t)equals + 1));
        return true;
    }
    return false;
}

bool sb_arg_find(struct sb_arena *a, struct sb_str args, struct sb_str name, struct sb_arg *out)
{
    while (sb_arg_next(a, &args, out))
        if (sb_str_eq(out->name, name))
            return true;
    return false;
}
