#include "dataplane/plugins/auth_body.h"

#include "dataplane/plugins/args.h"
#include "shared/json.h"

enum sb_rc sb_auth_body_get(struct sb_exchange *x, struct sb_auth_body *out)
{
    enum sb_rc rc;

    *out = (struct sb_auth_body){sb_exchange_header(x, SB_STR("Content-Type")), SB_STR("")};
    if (!out->type.p)
        return SB_OK;
    rc = sb_exchange_body(x, SB_AUTH_BODY_MAX, &out->text);
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

struct sb_str sb_auth_query_without(struct sb_arena *a, struct sb_str query, struct sb_str name)
{
    char *out = sb_arena_alloc(a, query.len + 1);
    struct sb_str rest = query, piece, alone;
    struct sb_arg arg;
    size_t n = 0;

    while (rest.len && sb_str_split(&rest, '&', &piece)) {
        alone = piece;
        if (sb_arg_next(a, &alone, &arg) && sb_str_eq(arg.name, name))
            continue;
        if (n)
            out[n++] = '&';
        memcpy(out + n, piece.p, piece.len);
        n += piece.len;
    }
    return sb_str_n(out, n);
}

/* -- JSON ---------------------------------------------------------------------------------------
 */

static struct sb_value *parse_object(struct sb_arena *a, struct sb_str text)
{
    struct sb_value *v;

    return sb_json_parse(a, text, &v, NULL) == SB_OK && v->type == SB_V_OBJECT ? v : NULL;
}

static enum sb_auth_field json_find(struct sb_arena *a, struct sb_str text, struct sb_str name,
                                    struct sb_str *value)
{
    const struct sb_value *v = sb_object_get(parse_object(a, text), name);

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
    struct sb_value *v = parse_object(a, text);

    return v && sb_object_remove(v, name) ? sb_json_text(a, v, 0) : text;
}

/* -- multipart ----------------------------------------------------------------------------------
 */

/* The parameter of a header: boundary=X, name="x". p NULL: it has none. */
static struct sb_str parameter(struct sb_str header, struct sb_str name)
{
    struct sb_str piece;

    while (header.len && sb_str_split(&header, ';', &piece)) {
        piece = sb_str_trim(piece);
        if (piece.len <= name.len || piece.p[name.len] != '=' ||
            !sb_str_ieq(sb_str_first(piece, name.len), name))
            continue;
        piece = sb_str_from(piece, name.len + 1);
        if (piece.len >= 2 && piece.p[0] == '"' && piece.p[piece.len - 1] == '"')
            piece = sb_str_n(piece.p + 1, piece.len - 2);
        return piece;
    }
    return (struct sb_str){0};
}

/* The name of a part, from its head, and what it holds. */
static bool part_field(struct sb_str part, struct sb_str *name, struct sb_str *value)
{
    ptrdiff_t end = sb_str_find(part, SB_STR("\r\n\r\n"), 0);
    struct sb_str head, line, disposition = SB_STR("content-disposition:");

    if (end < 0)
        return false;
    head = sb_str_first(part, (size_t)end);
    *value = sb_str_from(part, (size_t)end + 4);
    while (head.len && sb_str_split(&head, '\n', &line)) {
        line = sb_str_trim(line);
        if (!sb_str_ieq(sb_str_first(line, disposition.len), disposition))
            continue;
        *name = parameter(line, SB_STR("name"));
        return name->p != NULL;
    }
    return false;
}

/* The next part, from behind its boundary to before the next one; *at moves on. whole: with its
 * boundary line, ready to be cut out. False at the end. */
static bool part_next(struct sb_str text, struct sb_str mark, size_t *at, struct sb_str *part,
                      struct sb_str *whole)
{
    ptrdiff_t begin = sb_str_find(text, mark, *at), next;
    size_t head;

    if (begin < 0)
        return false;
    head = (size_t)begin + mark.len;
    if (sb_str_starts(sb_str_from(text, head), SB_STR("--")))
        return false;
    next = sb_str_find(text, mark, head);
    if (next < 0)
        return false;
    *at = (size_t)next;
    *whole = sb_str_n(text.p + begin, (size_t)(next - begin));
    *part = sb_str_from(*whole, mark.len + 2);
    if (sb_str_ends(*part, SB_STR("\r\n")))
        part->len -= 2;
    return true;
}

static struct sb_str boundary_mark(struct sb_arena *a, struct sb_str type)
{
    struct sb_str boundary = parameter(type, SB_STR("boundary"));

    return boundary.len ? sb_arena_printf(a, "--%.*s", SB_ARG(boundary)) : (struct sb_str){0};
}

static enum sb_auth_field multipart_find(struct sb_arena *a, const struct sb_auth_body *body,
                                         struct sb_str name, struct sb_str *value)
{
    struct sb_str mark = boundary_mark(a, body->type), part, whole, found_name, found_value;
    enum sb_auth_field found = SB_FIELD_ABSENT;
    size_t at = 0;

    while (mark.len && part_next(body->text, mark, &at, &part, &whole)) {
        if (!part_field(part, &found_name, &found_value) || !sb_str_eq(found_name, name))
            continue;
        if (found != SB_FIELD_ABSENT)
            return SB_FIELD_REPEATED;
        found = SB_FIELD_TEXT;
        *value = found_value;
    }
    return found;
}

static struct sb_str multipart_without(struct sb_arena *a, const struct sb_auth_body *body,
                                       struct sb_str name)
{
    struct sb_str mark = boundary_mark(a, body->type), part, whole, found_name, value;
    char *out = sb_arena_alloc(a, body->text.len + 1);
    size_t at = 0, from = 0, n = 0;

    while (mark.len && part_next(body->text, mark, &at, &part, &whole)) {
        size_t upto = (size_t)(whole.p - body->text.p);

        if (!part_field(part, &found_name, &value) || !sb_str_eq(found_name, name))
            continue;
        memcpy(out + n, body->text.p + from, upto - from);
        n += upto - from;
        from = upto + whole.len;
    }
    memcpy(out + n, body->text.p + from, body->text.len - from);
    return sb_str_n(out, n + body->text.len - from);
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
        return sb_auth_query_without(a, body->text, name);
    case JSON:
        return json_without(a, body->text, name);
    case MULTIPART:
        return multipart_without(a, body, name);
    case OTHER:
        break;
    }
    return body->text;
}
