#include "dataplane/admin/call.h"

#include <stdarg.h>

#include "shared/buf.h"
#include "shared/log.h"

const struct sb_arg *sb_call_arg(const struct sb_call *c, const char *name)
{
    for (size_t i = 0; i < c->nargs; i++)
        if (sb_str_is(c->args[i].name, name))
            return &c->args[i];
    return NULL;
}

/* -- URLs -------------------------------------------------------------------------------------- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct sb_str sb_url_decode(struct sb_arena *a, struct sb_str s, bool plus)
{
    char *p = sb_arena_alloc(a, s.len + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];

        if (c == '%' && i + 2 < s.len && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
            c = (char)(hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]));
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        p[n++] = c;
    }
    p[n] = 0;
    return sb_str_n(p, n);
}

struct sb_str sb_url_encode(struct sb_arena *a, struct sb_str s)
{
    static const char digits[] = "0123456789ABCDEF";
    char *p = sb_arena_alloc(a, s.len * 3 + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
            (c && strchr("-._~", c))) {
            p[n++] = (char)c;
        } else {
            p[n++] = '%';
            p[n++] = digits[c >> 4];
            p[n++] = digits[c & 15];
        }
    }
    p[n] = 0;
    return sb_str_n(p, n);
}

bool sb_call_split_path(struct sb_call *c, struct sb_str path)
{
    struct sb_str piece;

    c->raw_path = path;
    path = sb_str_from(path, 1);
    if (sb_str_ends(path, SB_STR("/")))
        path.len--;
    c->nsegments = 0;
    if (!path.len)
        return true;
    while (sb_str_split(&path, '/', &piece)) {
        if (c->nsegments == SB_SEGMENTS_MAX)
            return false;
        c->segments[c->nsegments++] = sb_url_decode(c->arena, piece, true);
    }
    return true;
}

bool sb_args_parse(struct sb_arena *a, struct sb_str text, struct sb_arg **out, size_t *n)
{
    struct sb_arg *args = SB_NEW_N(a, struct sb_arg, SB_ARGS_MAX);
    struct sb_str piece;

    *n = 0;
    while (sb_str_split(&text, '&', &piece)) {
        ptrdiff_t eq = sb_str_chr(piece, '=', 0);
        struct sb_arg *arg;

        if (!piece.len)
            continue;
        if (*n == SB_ARGS_MAX)
            return false;
        arg = &args[(*n)++];
        arg->bare = eq < 0;
        arg->name = sb_url_decode(a, eq < 0 ? piece : sb_str_first(piece, (size_t)eq), true);
        arg->value =
            eq < 0 ? SB_STR("") : sb_url_decode(a, sb_str_from(piece, (size_t)eq + 1), true);
    }
    *out = args;
    return true;
}

/* -- answers ----------------------------------------------------------------------------------- */

void sb_answer(struct sb_call *c, int status, struct sb_value *json)
{
    c->status = status;
    c->json = json;
    c->answer_type = "application/json; charset=utf-8";
}

void sb_answer_text(struct sb_call *c, int status, const char *type, struct sb_str text)
{
    c->status = status;
    c->json = NULL;
    c->text = text;
    c->answer_type = type;
}

void sb_answer_nothing(struct sb_call *c, int status)
{
    sb_answer_text(c, status, NULL, SB_STR(""));
}

void sb_answer_message(struct sb_call *c, int status, const char *fmt, ...)
{
    struct sb_value *body = sb_value_object(c->arena);
    struct sb_str text;
    va_list ap;

    va_start(ap, fmt);
    text = sb_arena_vprintf(c->arena, fmt, ap);
    va_end(ap);
    sb_object_set(c->arena, body, SB_STR("message"), sb_value_str(c->arena, text));
    sb_answer(c, status, body);
}

void sb_answer_not_found(struct sb_call *c)
{
    sb_answer_message(c, 404, "Not found");
}

/* Failures of the database are for the log; the client learns that there was one. */
void sb_answer_error(struct sb_call *c, const struct sb_kong_error *e)
{
    int status = sb_kong_error_status(e);

    if (status < 500) {
        sb_answer(c, status, sb_kong_error_body(c->arena, e));
        return;
    }
    sb_error("admin: %.*s: %.*s", SB_ARG(c->raw_path), SB_ARG(e->message));
    sb_answer_message(c, 500, "An unexpected error occurred");
}

void sb_answer_header(struct sb_call *c, const char *name, struct sb_str value)
{
    sb_assert(c->nextra < sizeof c->extra / sizeof *c->extra);
    c->extra[c->nextra++] = (struct sb_header){name, value};
}
