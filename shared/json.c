#include "shared/json.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEPTH_MAX = 128 };

static struct sb_value *from_jsonc(struct sb_arena *a, struct json_object *o)
{
    struct sb_value *v;

    switch (json_object_get_type(o)) {
    case json_type_boolean:
        return sb_value_bool(a, json_object_get_boolean(o));
    case json_type_int:
        return sb_value_int(a, json_object_get_int64(o));
    case json_type_double:
        return sb_value_num(a, json_object_get_double(o));
    case json_type_string:
        return sb_value_str(a, sb_arena_str(a, sb_str_n(json_object_get_string(o),
                                                        (size_t)json_object_get_string_len(o))));
    case json_type_array:
        v = sb_value_array(a);
        for (size_t i = 0; i < json_object_array_length(o); i++)
            sb_array_push(a, v, from_jsonc(a, json_object_array_get_idx(o, i)));
        return v;
    case json_type_object:
        v = sb_value_object(a);
        json_object_object_foreach(o, key, child)
            sb_object_append(a, v, sb_arena_str(a, sb_str_c(key)), from_jsonc(a, child));
        return v;
    case json_type_null:
    default:
        return sb_value_null(a);
    }
}

enum sb_rc sb_json_parse(struct sb_arena *a, struct sb_str text, struct sb_value **out,
                         struct sb_err *err)
{
    struct json_tokener *tok = json_tokener_new_ex(DEPTH_MAX);
    struct json_object *doc;
    enum sb_rc rc = SB_OK;
    size_t end;

    if (text.len > INT32_MAX) {
        json_tokener_free(tok);
        return sb_err_set(err, SB_TOOLARGE, "the JSON text is larger than 2 GiB");
    }
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    doc = json_tokener_parse_ex(tok, text.p, (int)text.len);
    end = json_tokener_get_parse_end(tok);
    /* A bare number at the end is only known to be complete when something follows. */
    if (json_tokener_get_error(tok) == json_tokener_continue)
        doc = json_tokener_parse_ex(tok, "", 1);
    if (json_tokener_get_error(tok) != json_tokener_success)
        rc = sb_err_set(err, SB_INVALID, "invalid JSON at byte %zu: %s", end,
                        json_tokener_error_desc(json_tokener_get_error(tok)));
    else if (sb_str_trim(sb_str_from(text, end)).len)
        rc = sb_err_set(err, SB_INVALID, "invalid JSON at byte %zu: text after the document", end);
    else
        *out = from_jsonc(a, doc);
    json_object_put(doc);
    json_tokener_free(tok);
    return rc;
}

void sb_json_write_str(struct sb_buf *b, struct sb_str s, unsigned flags)
{
    size_t plain = 0;

    sb_buf_char(b, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        const char *short_form = c == '"'                              ? "\\\""
                                 : c == '\\'                           ? "\\\\"
                                 : c == '\n'                           ? "\\n"
                                 : c == '\r'                           ? "\\r"
                                 : c == '\t'                           ? "\\t"
                                 : c == '\b'                           ? "\\b"
                                 : c == '\f'                           ? "\\f"
                                 : c == '/' && (flags & SB_JSON_SLASH) ? "\\/"
                                                                       : NULL;

        if (!short_form && c >= 0x20 && c != 0x7f)
            continue;
        sb_buf_add(b, s.p + plain, i - plain);
        plain = i + 1;
        if (short_form)
            sb_buf_cstr(b, short_form);
        else
            sb_buf_printf(b, "\\u%04x", c);
    }
    sb_buf_add(b, s.p + plain, s.len - plain);
    sb_buf_char(b, '"');
}

static void write_number(struct sb_buf *b, double n)
{
    if (!isfinite(n))
        sb_buf_cstr(b, "null");
    else if (n == floor(n) && fabs(n) < 1e15)
        sb_buf_printf(b, "%.0f", n);
    else
        sb_buf_printf(b, "%.14g", n);
}

static void new_line(struct sb_buf *b, unsigned flags, int depth)
{
    if (flags & SB_JSON_PRETTY)
        sb_buf_printf(b, "\n%*s", depth * 2, "");
}

static void write_value(struct sb_buf *b, const struct sb_value *v, unsigned flags, int depth);

static void write_array(struct sb_buf *b, const struct sb_value *v, unsigned flags, int depth)
{
    sb_buf_char(b, '[');
    for (uint32_t i = 0; i < v->count; i++) {
        if (i)
            sb_buf_char(b, ',');
        new_line(b, flags, depth + 1);
        write_value(b, v->items[i], flags, depth + 1);
    }
    if (v->count)
        new_line(b, flags, depth);
    sb_buf_char(b, ']');
}

static int by_key(const void *a, const void *b)
{
    return sb_str_cmp((*(struct sb_member *const *)a)->key, (*(struct sb_member *const *)b)->key);
}

static void write_object(struct sb_buf *b, const struct sb_value *v, unsigned flags, int depth)
{
    struct sb_member **order = sb_xmalloc(sizeof *order * (v->count + 1));

    for (uint32_t i = 0; i < v->count; i++)
        order[i] = &v->members[i];
    if (flags & SB_JSON_SORTED)
        qsort(order, v->count, sizeof *order, by_key);
    sb_buf_char(b, '{');
    for (uint32_t i = 0; i < v->count; i++) {
        if (i)
            sb_buf_char(b, ',');
        new_line(b, flags, depth + 1);
        sb_json_write_str(b, order[i]->key, flags);
        sb_buf_cstr(b, flags & SB_JSON_PRETTY ? ": " : ":");
        write_value(b, order[i]->value, flags, depth + 1);
    }
    if (v->count)
        new_line(b, flags, depth);
    sb_buf_char(b, '}');
    free(order);
}

static void write_value(struct sb_buf *b, const struct sb_value *v, unsigned flags, int depth)
{
    switch (v ? v->type : SB_V_NULL) {
    case SB_V_NULL:
        sb_buf_cstr(b, "null");
        break;
    case SB_V_BOOL:
        sb_buf_cstr(b, v->b ? "true" : "false");
        break;
    case SB_V_INT:
        sb_buf_printf(b, "%lld", (long long)v->i);
        break;
    case SB_V_NUM:
        write_number(b, v->n);
        break;
    case SB_V_STR:
        sb_json_write_str(b, v->s, flags);
        break;
    case SB_V_ARRAY:
        write_array(b, v, flags, depth);
        break;
    case SB_V_OBJECT:
        write_object(b, v, flags, depth);
        break;
    }
}

void sb_json_write(struct sb_buf *b, const struct sb_value *v, unsigned flags)
{
    write_value(b, v, flags, 0);
}

struct sb_str sb_json_text(struct sb_arena *a, const struct sb_value *v, unsigned flags)
{
    struct sb_buf b;
    struct sb_str s;

    sb_buf_init(&b, 0);
    sb_json_write(&b, v, flags);
    s = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return s;
}
