#include "dataplane/plugins/args.h"

#include <stdlib.h>

#include "shared/buf.h"
#include "shared/map.h"

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

struct sb_arg sb_arg_parse(struct sb_arena *a, struct sb_str text)
{
    ptrdiff_t equals = sb_str_chr(text, '=', 0);
    struct sb_arg arg = {0};

    arg.name = decode(a, equals < 0 ? text : sb_str_first(text, (size_t)equals));
    if (equals >= 0)
        arg.value = decode(a, sb_str_from(text, (size_t)equals + 1));
    return arg;
}

bool sb_arg_next(struct sb_arena *a, struct sb_str *rest, struct sb_arg *out)
{
    struct sb_str piece;

    while (sb_str_split(rest, '&', &piece)) {
        if (piece.len == 0 || piece.p[0] == '=')
            continue;
        *out = sb_arg_parse(a, piece);
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

/* -- all of them ------------------------------------------------------------------------------ */

/* One more of a name: its value, or the list of its values, is *at. */
static void add_value(struct sb_arena *a, struct sb_value *at, struct sb_value *value)
{
    struct sb_value *first;

    if (at->type != SB_V_ARRAY) {
        first = SB_NEW(a, struct sb_value);
        *first = *at;
        *at = *sb_value_array(a);
        sb_array_push(a, at, first);
    }
    sb_array_push(a, at, value);
}

void sb_args_add(struct sb_arena *a, struct sb_value *object, struct sb_str name,
                 struct sb_value *value)
{
    struct sb_value *before = sb_object_get(object, name);

    if (before)
        add_value(a, before, value);
    else
        sb_object_append(a, object, name, value);
}

enum sb_rc sb_args_object(struct sb_arena *a, struct sb_str args, struct sb_value **out)
{
    struct sb_value *object = sb_value_object(a), *value, *before;
    struct sb_map seen = {0};
    struct sb_arg arg;
    size_t n = 0;

    while (n <= SB_ARGS_MAX && sb_arg_next(a, &args, &arg)) {
        value = arg.value.p ? sb_value_str(a, arg.value) : sb_value_bool(a, true);
        before = sb_map_get(&seen, arg.name);
        if (before) {
            add_value(a, before, value);
        } else {
            sb_object_append(a, object, arg.name, value);
            (void)sb_map_set(&seen, arg.name, value);
        }
        n++;
    }
    sb_map_release(&seen);
    *out = object;
    return n <= SB_ARGS_MAX ? SB_OK : SB_TOOLARGE;
}

/* What stays as it is: letters, digits and -._~!'()* . */
static bool is_plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~!'()*", c));
}

static void escape(struct sb_buf *b, struct sb_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (is_plain(c))
            sb_buf_char(b, (char)c);
        else
            sb_buf_printf(b, "%%%02X", c);
    }
}

/* name=value for each value; true stands for the name alone, false and null for nothing. */
static void write_arg(struct sb_buf *b, struct sb_str name, const struct sb_value *value)
{
    const struct sb_value *item;

    if (sb_is(value, SB_V_ARRAY)) {
        sb_array_each (item, value)
            write_arg(b, name, item);
        return;
    }
    if (!sb_is(value, SB_V_STR) && !(sb_is(value, SB_V_BOOL) && value->b))
        return;
    if (b->len)
        sb_buf_char(b, '&');
    escape(b, name);
    if (value->type != SB_V_STR)
        return;
    sb_buf_char(b, '=');
    escape(b, value->s);
}

static struct sb_str kept(struct sb_arena *a, struct sb_buf *b)
{
    struct sb_str text = sb_arena_str(a, sb_buf_get(b));

    sb_buf_release(b);
    return text;
}

struct sb_str sb_args_text(struct sb_arena *a, const struct sb_value *args)
{
    const struct sb_member *m;
    struct sb_buf b;

    sb_buf_init(&b, 0);
    sb_object_each (m, args)
        write_arg(&b, m->key, m->value);
    return kept(a, &b);
}

static int by_text(const void *a, const void *b)
{
    return sb_str_cmp(*(const struct sb_str *)a, *(const struct sb_str *)b);
}

struct sb_str sb_args_text_sorted(struct sb_arena *a, const struct sb_value *args)
{
    struct sb_str *texts = SB_NEW_N(a, struct sb_str, args->count);
    const struct sb_member *m;
    struct sb_buf b;
    size_t n = 0;

    sb_buf_init(&b, 0);
    sb_object_each (m, args) {
        sb_buf_clear(&b);
        write_arg(&b, m->key, m->value);
        if (b.len)
            texts[n++] = sb_arena_str(a, sb_buf_get(&b));
    }
    qsort(texts, n, sizeof *texts, by_text);
    sb_buf_clear(&b);
    for (size_t i = 0; i < n; i++) {
        if (i)
            sb_buf_char(&b, '&');
        sb_buf_str(&b, texts[i]);
    }
    return kept(a, &b);
}
