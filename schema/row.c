#include "schema/row.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#include "shared/json.h"

/* What the columns behind the fields are. */
enum column_type {
    TEXT,
    BOOLEAN,
    INTEGER,
    NUMBER,
    TIMESTAMP,
    TEXT_ARRAY,
    JSON,
    JSON_ARRAY,
    FOREIGN
};

static enum column_type column_type(const struct sb_field *f)
{
    if (f->flags & SB_F_TIMESTAMP)
        return TIMESTAMP;
    switch (f->type) {
    case SB_T_STRING:
        return TEXT;
    case SB_T_BOOLEAN:
        return BOOLEAN;
    case SB_T_INTEGER:
        return INTEGER;
    case SB_T_NUMBER:
        return NUMBER;
    case SB_T_FOREIGN:
        return FOREIGN;
    case SB_T_ARRAY:
    case SB_T_SET:
        return f->elements && f->elements->type == SB_T_STRING ? TEXT_ARRAY : JSON_ARRAY;
    default:
        return JSON;
    }
}

/* The next field that has a column; NULL at the end. */
static const struct sb_field *stored(const struct sb_field *f)
{
    while (f->name && (f->flags & SB_F_TRANSIENT))
        f++;
    return f->name ? f : NULL;
}

#define each_stored(f, kind) for ((f) = stored((kind)->fields); (f); (f) = stored((f) + 1))

const char *sb_row_column(struct sb_arena *a, const struct sb_field *f)
{
    if (f->column)
        return f->column;
    return f->type == SB_T_FOREIGN ? sb_arena_printf(a, "%s_id", f->name).p : f->name;
}

bool sb_row_has_cache_key(const struct sb_entity *kind)
{
    return kind->cache_key && kind->cache_key[0] && kind->cache_key[1];
}

/* -- SQL --------------------------------------------------------------------------------------- */

/* No column of Kong's has a quote in its name. */
static void add_column(struct sb_buf *b, const struct sb_field *f)
{
    if (f->column)
        sb_buf_printf(b, "\"%s\"", f->column);
    else
        sb_buf_printf(b, "\"%s%s\"", f->name, f->type == SB_T_FOREIGN ? "_id" : "");
}

void sb_row_select(struct sb_buf *b, const struct sb_entity *kind)
{
    const struct sb_field *f;
    const char *comma = "";

    each_stored(f, kind)
    {
        bool epoch = column_type(f) == TIMESTAMP;

        sb_buf_cstr(b, comma);
        sb_buf_cstr(b, epoch ? "EXTRACT(EPOCH FROM " : "");
        add_column(b, f);
        sb_buf_cstr(b, epoch ? ")" : "");
        comma = ", ";
    }
    if (kind->flags & SB_E_TTL)
        sb_buf_cstr(b, ", EXTRACT(EPOCH FROM \"ttl\" - CURRENT_TIMESTAMP)");
}

void sb_row_columns(struct sb_buf *b, const struct sb_entity *kind)
{
    const struct sb_field *f;
    const char *comma = "";

    each_stored(f, kind)
    {
        sb_buf_cstr(b, comma);
        add_column(b, f);
        comma = ", ";
    }
    if (kind->flags & SB_E_WORKSPACE)
        sb_buf_cstr(b, ", \"ws_id\"");
    if (sb_row_has_cache_key(kind))
        sb_buf_cstr(b, ", \"cache_key\"");
    if (kind->flags & SB_E_TTL)
        sb_buf_cstr(b, ", \"ttl\"");
}

static void assign(struct sb_buf *b, bool *any, const char *name, const char *suffix)
{
    sb_buf_printf(b, "%s\"%s%s\" = EXCLUDED.\"%s%s\"", *any ? ", " : "", name, suffix, name,
                  suffix);
    *any = true;
}

bool sb_row_assignments(struct sb_buf *b, const struct sb_entity *kind)
{
    const struct sb_field *f;
    bool any = false;

    each_stored(f, kind)
    {
        if (kind->primary_key && strcmp(f->name, kind->primary_key) == 0)
            continue;
        if (f->column)
            assign(b, &any, f->column, "");
        else
            assign(b, &any, f->name, f->type == SB_T_FOREIGN ? "_id" : "");
    }
    if (sb_row_has_cache_key(kind))
        assign(b, &any, "cache_key", "");
    if (kind->flags & SB_E_TTL)
        assign(b, &any, "ttl", "");
    return any;
}

/* -- from rows --------------------------------------------------------------------------------- */

static struct sb_value *decode_timestamp(struct sb_arena *a, const struct sb_field *f,
                                         struct sb_str text)
{
    double seconds;

    if (!sb_str_num(text, &seconds) || !isfinite(seconds))
        return NULL;
    if (f->type == SB_T_INTEGER)
        return sb_value_int(a, (int64_t)floor(seconds));
    return sb_value_num(a, round(seconds * 1000) / 1000);
}

static struct sb_value *decode_json(struct sb_arena *a, struct sb_str text)
{
    struct sb_value *v;

    return sb_json_parse(a, text, &v, NULL) ? NULL : v;
}

static struct sb_value *decode_array(struct sb_arena *a, struct sb_str text, bool json)
{
    struct sb_value *array = sb_value_array(a), *item;
    struct sb_str *items;
    size_t n;

    if (!sb_pg_array_parse(a, text, &items, &n))
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (!items[i].p)
            item = sb_value_null(a);
        else if (json)
            item = decode_json(a, items[i]);
        else
            item = sb_value_str(a, items[i]);
        if (!item)
            return NULL;
        sb_array_push(a, array, item);
    }
    return array;
}

static struct sb_value *decode_foreign(struct sb_arena *a, struct sb_str id)
{
    struct sb_value *v = sb_value_object(a);

    sb_object_set(a, v, SB_STR("id"), sb_value_str(a, sb_arena_str(a, id)));
    return v;
}

/* NULL when the text is not of the type. */
static struct sb_value *decode(struct sb_arena *a, const struct sb_field *f, struct sb_str text)
{
    int64_t i;
    double n;

    switch (column_type(f)) {
    case TEXT:
        return sb_value_str(a, sb_arena_str(a, text));
    case BOOLEAN:
        return sb_value_bool(a, sb_str_is(text, "t"));
    case INTEGER:
        return sb_str_int(text, &i) ? sb_value_int(a, i) : NULL;
    case NUMBER:
        return sb_str_num(text, &n) ? sb_value_num(a, n) : NULL;
    case TIMESTAMP:
        return decode_timestamp(a, f, text);
    case TEXT_ARRAY:
    case JSON_ARRAY:
        return decode_array(a, text, column_type(f) == JSON_ARRAY);
    case FOREIGN:
        return decode_foreign(a, text);
    case JSON:
        return decode_json(a, text);
    }
    return NULL;
}

int sb_row_width(const struct sb_entity *kind)
{
    const struct sb_field *f;
    int n = kind->flags & SB_E_TTL ? 1 : 0;

    each_stored(f, kind) n++;
    return n;
}

enum sb_rc sb_row_decode(struct sb_arena *a, const struct sb_entity *kind,
                         const struct sb_pg_rows *rows, struct sb_value **out, struct sb_err *err)
{
    return sb_row_decode_at(a, kind, rows, 0, out, err);
}

enum sb_rc sb_row_decode_at(struct sb_arena *a, const struct sb_entity *kind,
                            const struct sb_pg_rows *rows, int first, struct sb_value **out,
                            struct sb_err *err)
{
    struct sb_value *row = sb_value_object(a), *v;
    const struct sb_field *f;
    int column = first;
    double ttl;

    each_stored(f, kind)
    {
        int at = column++;

        if (sb_pg_is_null(rows, at))
            continue;
        v = decode(a, f, sb_pg_text(rows, at));
        if (!v)
            return sb_err_set(err, SB_INVALID, "%s: column of '%s' holds what it should not",
                              kind->table, f->name);
        if (v->type != SB_V_NULL)
            sb_object_set(a, row, sb_str_c(f->name), v);
    }
    if ((kind->flags & SB_E_TTL) && sb_str_num(sb_pg_text(rows, column), &ttl))
        sb_object_set(a, row, SB_STR("ttl"), sb_value_num(a, ttl));
    *out = row;
    return SB_OK;
}

/* -- to rows ----------------------------------------------------------------------------------- */

/* "2026-01-31T23:59:59.123Z" */
static void add_timestamp(struct sb_buf *b, double seconds)
{
    int64_t ms = (int64_t)floor(seconds * 1000 + 0.5);
    time_t t = (time_t)(ms >= 0 ? ms / 1000 : -((-ms + 999) / 1000));
    char text[40];
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    sb_buf_printf(b, "\"%s.%03dZ\"", text, (int)(ms - (int64_t)t * 1000));
}

static void add_member(struct sb_buf *b, const char *name)
{
    if (b->len && b->p[b->len - 1] != '{')
        sb_buf_char(b, ',');
    sb_buf_printf(b, "\"%s\":", name);
}

static void add_string(struct sb_buf *b, const char *name, struct sb_str s)
{
    add_member(b, name);
    sb_json_write_str(b, s, 0);
}

static void encode(struct sb_buf *b, const struct sb_field *f, const struct sb_value *v)
{
    if (column_type(f) == FOREIGN)
        v = sb_is(v, SB_V_OBJECT) ? sb_get(v, "id") : v;
    if (column_type(f) == TIMESTAMP && sb_is_number(v))
        add_timestamp(b, sb_number(v));
    else
        sb_json_write(b, v, 0);
}

void sb_row_encode(struct sb_buf *b, struct sb_arena *scratch, const struct sb_entity *kind,
                   const struct sb_value *row, struct sb_str ws_id, double now_s)
{
    const struct sb_value *own_ws = sb_get(row, "ws_id"), *ttl = sb_get(row, "ttl"), *v;
    const struct sb_field *f;

    if (sb_is(own_ws, SB_V_STR))
        ws_id = own_ws->s;
    sb_buf_char(b, '{');
    each_stored(f, kind)
    {
        v = sb_get(row, f->name);
        if (sb_is_nil(v))
            continue;
        add_member(b, sb_row_column(scratch, f));
        encode(b, f, v);
    }
    if (kind->flags & SB_E_WORKSPACE)
        add_string(b, "ws_id", ws_id);
    if (sb_row_has_cache_key(kind))
        add_string(b, "cache_key", sb_entity_cache_key(scratch, kind, row, ws_id));
    if ((kind->flags & SB_E_TTL) && sb_is_number(ttl) && sb_number(ttl) > 0) {
        add_member(b, "ttl");
        add_timestamp(b, now_s + sb_number(ttl));
    }
    sb_buf_char(b, '}');
}
