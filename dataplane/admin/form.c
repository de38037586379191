#include "dataplane/admin/form.h"

#include <math.h>

enum { DEPTH_MAX = 16 };

/* -- names make a tree ------------------------------------------------------------------------- */

enum part_kind { MEMBER, APPEND, INDEX };

struct part {
    enum part_kind kind;
    struct sb_str name;
    int64_t index; /* from 1 */
};

/* What stands in brackets. */
static struct part bracket(struct sb_str inside)
{
    struct part p = {MEMBER, inside, 0};

    if (!inside.len)
        p.kind = APPEND;
    else if (sb_str_int(inside, &p.index) && p.index > 0)
        p.kind = INDEX;
    return p;
}

/* "a.b[x.y][]" into a, b, x.y and an append; the number of parts, 0 when there are too many. */
static size_t parts_of(struct sb_str name, struct part out[DEPTH_MAX])
{
    size_t n = 0, i = 0;

    while (i < name.len) {
        size_t start = i;
        ptrdiff_t close;

        if (n == DEPTH_MAX)
            return 0;
        if (name.p[i] == '[' && (close = sb_str_chr(name, ']', i)) >= 0) {
            out[n++] = bracket(sb_str_n(name.p + i + 1, (size_t)close - i - 1));
            i = (size_t)close + 1;
            if (i < name.len && name.p[i] == '.')
                i++;
            continue;
        }
        while (i < name.len && name.p[i] != '.' && (i == start || name.p[i] != '['))
            i++;
        out[n++] = (struct part){MEMBER, sb_str_n(name.p + start, i - start), 0};
        if (i < name.len && name.p[i] == '.')
            i++;
    }
    return n;
}

static struct sb_value *get_part(const struct sb_value *at, const struct part *p)
{
    if (p->kind == MEMBER)
        return sb_object_get(at, p->name);
    if (p->kind == INDEX && sb_is(at, SB_V_ARRAY) && p->index <= (int64_t)at->count)
        return at->items[p->index - 1];
    return NULL;
}

/* Puts v there; a container of the other kind gives way to what is written later. */
static void set_part(struct sb_arena *a, struct sb_value *at, const struct part *p,
                     struct sb_value *v)
{
    if (p->kind == MEMBER) {
        if (at->type != SB_V_OBJECT)
            *at = *sb_value_object(a);
        sb_object_set(a, at, p->name, v);
        return;
    }
    if (at->type != SB_V_ARRAY)
        *at = *sb_value_array(a);
    if (p->kind == INDEX && p->index <= (int64_t)at->count)
        at->items[p->index - 1] = v;
    else
        sb_array_push(a, at, v);
}

static void add_leaf(struct sb_arena *a, struct sb_value *at, const struct part *p,
                     struct sb_value *v)
{
    struct sb_value *before = get_part(at, p), *both;

    if (!before || p->kind != MEMBER) {
        set_part(a, at, p, v);
    } else if (before->type == SB_V_ARRAY) {
        sb_array_push(a, before, v);
    } else {
        both = sb_value_array(a);
        sb_array_push(a, both, before);
        sb_array_push(a, both, v);
        set_part(a, at, p, both);
    }
}

static void add_field(struct sb_arena *a, struct sb_value *tree, const struct sb_arg *arg)
{
    struct part parts[DEPTH_MAX];
    size_t n = parts_of(arg->name, parts);
    struct sb_value *at = tree, *next;

    for (size_t i = 0; i + 1 < n; i++) {
        next = get_part(at, &parts[i]);
        if (!next || (next->type != SB_V_OBJECT && next->type != SB_V_ARRAY)) {
            next = parts[i + 1].kind == MEMBER ? sb_value_object(a) : sb_value_array(a);
            set_part(a, at, &parts[i], next);
        }
        at = next;
    }
    if (n)
        add_leaf(a, at, &parts[n - 1],
                 arg->bare ? sb_value_bool(a, true) : sb_value_str(a, arg->value));
}

struct sb_value *sb_form_tree(struct sb_arena *a, const struct sb_arg *args, size_t n)
{
    struct sb_value *tree = sb_value_object(a);

    for (size_t i = 0; i < n; i++)
        add_field(a, tree, &args[i]);
    return tree;
}

/* -- multipart --------------------------------------------------------------------------------- */

/* The value of a parameter of a header: name="a". */
static struct sb_str parameter(struct sb_str header, const char *name)
{
    struct sb_str rest = header, piece;

    while (sb_str_split(&rest, ';', &piece)) {
        ptrdiff_t eq = sb_str_chr(piece, '=', 0);
        struct sb_str value;

        if (eq < 0 || !sb_str_ieq(sb_str_trim(sb_str_first(piece, (size_t)eq)), sb_str_c(name)))
            continue;
        value = sb_str_trim(sb_str_from(piece, (size_t)eq + 1));
        if (value.len >= 2 && value.p[0] == '"' && value.p[value.len - 1] == '"')
            value = sb_str_n(value.p + 1, value.len - 2);
        return value;
    }
    return SB_STR("");
}

/* One part, headers and content; false when it is no field. */
static bool part_field(struct sb_arena *a, struct sb_str part, struct sb_arg *arg)
{
    ptrdiff_t end = sb_str_find(part, SB_STR("\r\n\r\n"), 0);
    struct sb_str heads, line;

    if (end < 0)
        return false;
    heads = sb_str_first(part, (size_t)end);
    *arg = (struct sb_arg){.value = sb_str_from(part, (size_t)end + 4)};
    while (sb_str_split(&heads, '\n', &line)) {
        ptrdiff_t colon = sb_str_chr(line, ':', 0);

        if (colon > 0 &&
            sb_str_ieq(sb_str_first(line, (size_t)colon), SB_STR("content-disposition")))
            arg->name = sb_url_decode(a, parameter(line, "name"), false);
    }
    return arg->name.len > 0;
}

bool sb_form_multipart(struct sb_arena *a, struct sb_str content_type, struct sb_str body,
                       struct sb_arg **out, size_t *n)
{
    struct sb_str boundary = parameter(content_type, "boundary");
    struct sb_str mark = sb_arena_printf(a, "\r\n--%.*s", SB_ARG(boundary)), text;
    struct sb_arg *args = SB_NEW_N(a, struct sb_arg, SB_ARGS_MAX);
    ptrdiff_t at, next;
    char *p;

    *n = 0;
    *out = args;
    if (!boundary.len)
        return true;
    p = sb_arena_alloc(a, body.len + 2); /* so that the first mark is like the others */
    memcpy(p, "\r\n", 2);
    memcpy(p + 2, body.p, body.len);
    text = sb_str_n(p, body.len + 2);
    for (at = sb_str_find(text, mark, 0); at >= 0; at = next) {
        size_t start = (size_t)at + mark.len;

        next = sb_str_find(text, mark, start);
        if (next < 0)
            break;
        if (*n == SB_ARGS_MAX)
            return false;
        if (part_field(a, sb_str_n(text.p + start, (size_t)next - start), &args[*n]))
            (*n)++;
    }
    return true;
}

/* -- texts get their types --------------------------------------------------------------------- */

static struct sb_value *read_field(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                   struct sb_value *v, unsigned depth);

static void read_fields(struct sb_schema_ctx *ctx, const struct sb_field *fields,
                        struct sb_value *tree, unsigned depth)
{
    struct sb_member *m;

    sb_object_each (m, tree) {
        const struct sb_field *f = sb_field_find(fields, m->key);

        m->value = read_field(ctx, f, m->value, depth);
    }
}

static struct sb_value *read_number(struct sb_arena *a, struct sb_value *v)
{
    int64_t i;
    double n;

    if (sb_str_int(v->s, &i))
        return sb_value_int(a, i);
    return sb_str_num(v->s, &n) && isfinite(n) ? sb_value_num(a, n) : v;
}

static struct sb_value *read_list(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                  struct sb_value *v, unsigned depth)
{
    struct sb_value *list = v;

    if (v->type != SB_V_ARRAY) {
        list = sb_value_array(ctx->arena);
        sb_array_push(ctx->arena, list, v);
    }
    for (uint32_t i = 0; i < list->count; i++)
        list->items[i] = read_field(ctx, f->elements, list->items[i], depth);
    return list;
}

static struct sb_value *read_map(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                 struct sb_value *v, unsigned depth)
{
    struct sb_member *m;

    sb_object_each (m, v)
        m->value = read_field(ctx, f->values, m->value, depth);
    return v;
}

/* f NULL: a field nobody knows; its texts stay. */
static struct sb_value *read_field(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                   struct sb_value *v, unsigned depth)
{
    const struct sb_entity *parent;
    bool text = v->type == SB_V_STR;

    if (text && !v->s.len)
        return sb_value_null(ctx->arena);
    if (!f || depth > DEPTH_MAX)
        return v;
    switch (f->type) {
    case SB_T_NUMBER:
    case SB_T_INTEGER:
        return text ? read_number(ctx->arena, v) : v;
    case SB_T_BOOLEAN:
        if (text && (sb_str_is(v->s, "true") || sb_str_is(v->s, "false")))
            return sb_value_bool(ctx->arena, sb_str_is(v->s, "true"));
        return v;
    case SB_T_ARRAY:
    case SB_T_SET:
        return read_list(ctx, f, v, depth + 1);
    case SB_T_MAP:
        return read_map(ctx, f, v, depth + 1);
    case SB_T_RECORD:
        if (f->fields)
            read_fields(ctx, f->fields, v, depth + 1);
        return v;
    case SB_T_FOREIGN:
        parent = sb_entity_find(sb_str_c(f->reference));
        if (parent)
            read_fields(ctx, parent->fields, v, depth + 1);
        return v;
    default:
        return v;
    }
}

struct sb_value *sb_form_read(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                              struct sb_value *tree)
{
    const struct sb_subschema *sub = NULL;
    const struct sb_value *key;
    struct sb_member *m;
    const char *why;

    if (kind->flags & SB_E_TTL && sb_is(sb_get(tree, "ttl"), SB_V_STR))
        sb_object_set(ctx->arena, tree, SB_STR("ttl"),
                      read_number(ctx->arena, sb_get(tree, "ttl")));
    key = kind->subschema_key ? sb_get(tree, kind->subschema_key) : NULL;
    if (sb_is(key, SB_V_STR))
        sub = kind->subschema(ctx, key, &why);
    sb_object_each (m, tree) {
        const struct sb_field *f = sub && sub->fields ? sb_field_find(sub->fields, m->key) : NULL;

        m->value = read_field(ctx, f ? f : sb_field_find(kind->fields, m->key), m->value, 0);
    }
    return tree;
}
