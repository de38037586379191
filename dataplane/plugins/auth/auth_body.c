#include "dataplane/plugins/auth/auth_body.h"

#include <ctype.h>
#include <stdlib.h>

#include "dataplane/plugins/args.h"
#include "dataplane/plugins/multipart.h"
#include "shared/json.h"
#include "shared/settings.h"

enum { BODY_MAX = 1024 * 1024 };

size_t sb_auth_body_max(const struct sb_settings *settings)
{
    int64_t buffer = sb_settings_size(settings, "nginx_http_client_body_buffer_size", 0);

    return buffer > BODY_MAX ? (size_t)buffer : BODY_MAX;
}

enum sb_rc sb_auth_body_get(struct sb_exchange *x, size_t max, struct sb_auth_body *out)
{
    enum sb_rc rc;

    *out = (struct sb_auth_body){sb_exchange_header(x, SB_STR("Content-Type")), SB_STR("")};
    if (!out->type.p)
        return SB_OK;
    rc = sb_exchange_body(x, max, &out->text);
    return rc == SB_TOOLARGE ? SB_OK : rc;
}

/* -- queries and urlencoded forms ---------------------------------------------------------------
 */

enum sb_auth_field sb_auth_query_find(struct sb_arena *a, struct sb_str query, struct sb_str name,
                                      struct sb_str *value)
{
    enum sb_auth_field found = SB_FIELD_ABSENT;
    struct sb_arg arg;

    while (sb_arg_next(a, &query, &arg)) {
        if (!sb_str_eq(arg.name, name))
            continue;
        if (found != SB_FIELD_ABSENT)
            return SB_FIELD_REPEATED;
        found = arg.value.p ? SB_FIELD_TEXT : SB_FIELD_OTHER;
        *value = arg.value;
    }
    return found;
}

/* As browsers write forms. */
static size_t escape(char *out, struct sb_str text)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (isalnum(c) || (c && strchr("*-._", c))) {
            out[n++] = (char)c;
        } else if (c == ' ') {
            out[n++] = '+';
        } else {
            out[n++] = '%';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        }
    }
    return n;
}

struct sb_str sb_auth_query_without(struct sb_arena *a, struct sb_str query, struct sb_str name)
{
    char *out = sb_arena_alloc(a, query.len * 3 + 2);
    struct sb_str piece;
    struct sb_arg arg;
    size_t n = 0;

    while (query.len && sb_str_split(&query, '&', &piece)) {
        arg = sb_arg_parse(a, piece);
        if (!piece.len || sb_str_eq(arg.name, name))
            continue;
        if (n)
            out[n++] = '&';
        n += escape(out + n, arg.name);
        out[n++] = '=';
        n += escape(out + n, arg.value);
    }
    return sb_str_n(out, n);
}

struct sb_str sb_auth_args_without(struct sb_arena *a, struct sb_str args, struct sb_str name)
{
    struct sb_value *all;

    (void)!sb_args_object(a, args, &all); /* the first SB_ARGS_MAX go on */
    sb_object_remove(all, name);
    return sb_args_text_sorted(a, all);
}

/* -- JSON ---------------------------------------------------------------------------------------
 */

/* An object or a list; NULL for anything else. */
static struct sb_value *parse_json(struct sb_arena *a, struct sb_str text)
{
    struct sb_value *v;

    return sb_json_parse(a, text, &v, NULL) == SB_OK &&
                   (v->type == SB_V_OBJECT || v->type == SB_V_ARRAY)
               ? v
               : NULL;
}

static enum sb_auth_field json_find(struct sb_arena *a, struct sb_str text, struct sb_str name,
                                    struct sb_str *value)
{
    const struct sb_value *all = parse_json(a, text), *v;

    v = sb_is(all, SB_V_OBJECT) ? sb_object_get(all, name) : NULL;
    if (!v)
        return SB_FIELD_ABSENT;
    if (v->type == SB_V_ARRAY || v->type == SB_V_OBJECT)
        return SB_FIELD_REPEATED; /* a table of Kong's, like a form's repeated field */
    if (v->type != SB_V_STR)
        return SB_FIELD_OTHER;
    *value = v->s;
    return SB_FIELD_TEXT;
}

static struct sb_str json_without(struct sb_arena *a, struct sb_str text, struct sb_str name)
{
    struct sb_value *v = parse_json(a, text);

    if (sb_is(v, SB_V_OBJECT))
        sb_object_remove(v, name);
    return v ? sb_json_text(a, v, SB_JSON_SLASH) : text;
}

/* -- multipart ----------------------------------------------------------------------------------
 */

static enum sb_auth_field multipart_find(struct sb_arena *a, const struct sb_auth_body *body,
                                         struct sb_str name, struct sb_str *value)
{
    struct sb_str mark = sb_part_mark(a, body->type);
    enum sb_auth_field found = SB_FIELD_ABSENT;
    struct sb_part part;
    size_t at = 0;
    bool ended;

    while (mark.len && sb_part_next(body->text, mark, &at, &part, &ended)) {
        if (!part.name.p || !sb_str_eq(part.name, name))
            continue;
        if (found != SB_FIELD_ABSENT)
            return SB_FIELD_REPEATED;
        found = SB_FIELD_TEXT;
        *value = part.value;
    }
    return found;
}

/* Those of one name stay in their order, and those without any come first. */
static int by_name(const void *x, const void *y)
{
    const struct sb_part *a = x, *b = y;
    int order = sb_str_cmp(a->name, b->name);

    return order ? order : (a->text.p > b->text.p) - (a->text.p < b->text.p);
}

static struct sb_str multipart_without(struct sb_arena *a, const struct sb_auth_body *body,
                                       struct sb_str name)
{
    struct sb_form form;

    if (sb_form_parse(a, body->type, body->text, &form))
        return body->text;
    sb_form_remove(&form, name);
    qsort(form.parts, form.n, sizeof *form.parts, by_name);
    return form.n ? sb_form_text(a, &form) : sb_arena_printf(a, "%.*s--\r\n", SB_ARG(form.mark));
}

/* -- by type ------------------------------------------------------------------------------------
 */

enum kind { OTHER, URLENCODED, JSON, MULTIPART };

static enum kind kind_of(const struct sb_auth_body *body)
{
    static const struct {
        struct sb_str type;
        enum kind kind;
    } rows[] = {
        {SB_STR_INIT("application/x-www-form-urlencoded"), URLENCODED},
        {SB_STR_INIT("application/json"), JSON},
        {SB_STR_INIT("multipart/form-data"), MULTIPART},
    };

    for (size_t i = 0; body->text.len && i < sizeof rows / sizeof *rows; i++)
        if (sb_str_ieq(sb_str_first(body->type, rows[i].type.len), rows[i].type))
            return rows[i].kind;
    return OTHER;
}

enum sb_auth_field sb_auth_body_find(struct sb_arena *a, const struct sb_auth_body *body,
                                     struct sb_str name, struct sb_str *value)
{
    switch (kind_of(body)) {
    case URLENCODED:
        return sb_auth_query_find(a, body->text, name, value);
    case JSON:
        return json_find(a, body->text, name, value);
    case MULTIPART:
        return multipart_find(a, body, name, value);
    case OTHER:
        break;
    }
    return SB_FIELD_ABSENT;
}

struct sb_str sb_auth_body_without(struct sb_arena *a, const struct sb_auth_body *body,
                                   struct sb_str name)
{
    switch (kind_of(body)) {
    case URLENCODED:
        return sb_auth_args_without(a, body->text, name);
    case JSON:
        return json_without(a, body->text, name);
    case MULTIPART:
        return multipart_without(a, body, name);
    case OTHER:
        break;
    }
    return body->text;
}
