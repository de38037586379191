/* expr_check.c - names become fields, and every predicate's types are checked. */
#include "dataplane/router/expr.h"

static const struct {
    const char *name;
    enum sb_expr_field field;
    enum sb_expr_type type;
    bool http_only;
} fields[] = {
    {"net.protocol", SB_FIELD_PROTOCOL, SB_EXPR_STRING, false},
    {"tls.sni", SB_FIELD_SNI, SB_EXPR_STRING, false},
    {"net.src.ip", SB_FIELD_SRC_IP, SB_EXPR_ADDR, false},
    {"net.src.port", SB_FIELD_SRC_PORT, SB_EXPR_INT, false},
    {"net.dst.ip", SB_FIELD_DST_IP, SB_EXPR_ADDR, false},
    {"net.dst.port", SB_FIELD_DST_PORT, SB_EXPR_INT, false},
    {"http.method", SB_FIELD_METHOD, SB_EXPR_STRING, true},
    {"http.host", SB_FIELD_HOST, SB_EXPR_STRING, true},
    {"http.path", SB_FIELD_PATH, SB_EXPR_STRING, true},
    {"http.path.segments.len", SB_FIELD_SEGMENTS_LEN, SB_EXPR_INT, true},
};

/* Fields that go on with a name of their own. */
static const struct {
    const char *prefix;
    enum sb_expr_field field;
} families[] = {
    {"http.headers.", SB_FIELD_HEADER},
    {"http.queries.", SB_FIELD_QUERY},
    {"http.path.segments.", SB_FIELD_SEGMENTS},
};

static bool find_field(struct sb_expr *e, bool stream, enum sb_expr_type *type)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (sb_str_is(e->field_name, fields[i].name)) {
            e->field = fields[i].field;
            *type = fields[i].type;
            return !(stream && fields[i].http_only);
        }
    }
    for (size_t i = 0; !stream && i < sizeof families / sizeof *families; i++) {
        if (sb_str_starts(e->field_name, sb_str_c(families[i].prefix))) {
            e->field = families[i].field;
            e->name = sb_str_from(e->field_name, strlen(families[i].prefix));
            *type = SB_EXPR_STRING;
            return true;
        }
    }
    return false;
}

static bool needs_same_type(enum sb_expr_op op)
{
    return op != SB_OP_REGEX && op != SB_OP_IN && op != SB_OP_NOT_IN;
}

/* NULL when the operator is fit for its operands. */
static const char *operator_trouble(const struct sb_expr *e, enum sb_expr_type type)
{
    switch (e->op) {
    case SB_OP_EQUAL:
    case SB_OP_NOT_EQUAL:
        return NULL;
    case SB_OP_REGEX:
        return type == SB_EXPR_STRING ? NULL : "Regex operators only supports string operands";
    case SB_OP_PREFIX:
    case SB_OP_SUFFIX:
        return type == SB_EXPR_STRING
                   ? NULL
                   : "Regex/Prefix/Postfix operators only supports string operands";
    case SB_OP_GREATER_EQUAL:
    case SB_OP_GREATER:
    case SB_OP_LESS_EQUAL:
    case SB_OP_LESS:
        return type == SB_EXPR_INT ? NULL
                                   : "Greater/GreaterOrEqual/Lesser/LesserOrEqual operators only "
                                     "supports integer operands";
    case SB_OP_IN:
    case SB_OP_NOT_IN:
        return type == SB_EXPR_ADDR && e->value.type == SB_EXPR_CIDR
                   ? NULL
                   : "In/NotIn operators only supports IP in CIDR";
    case SB_OP_CONTAINS:
        return type == SB_EXPR_STRING ? NULL : "Contains operator only supports string operands";
    }
    return NULL;
}

static enum sb_rc check_predicate(struct sb_expr *e, bool stream, struct sb_err *err)
{
    enum sb_expr_type type;
    const char *trouble;

    if (!find_field(e, stream, &type))
        return sb_err_set(err, SB_INVALID, "Unknown LHS field");
    if (needs_same_type(e->op) && type != e->value.type)
        return sb_err_set(err, SB_INVALID,
                          "Type mismatch between the LHS and RHS values of predicate");
    if (e->lower && type != SB_EXPR_STRING)
        return sb_err_set(
            err, SB_INVALID,
            "lower-case transformation function only supported with String type fields");
    trouble = operator_trouble(e, type);
    return trouble ? sb_err_set(err, SB_INVALID, "%s", trouble) : SB_OK;
}

/* Decimal without leading zeros. */
static bool number(struct sb_str s, size_t *out)
{
    int64_t n;

    if (!s.len || s.p[0] < '0' || s.p[0] > '9' || (s.p[0] == '0' && s.len > 1) ||
        !sb_str_int(s, &n))
        return false;
    *out = (size_t)n;
    return true;
}

/* N, or N_M with N < M. */
static bool read_segments(struct sb_expr *e)
{
    ptrdiff_t bar = sb_str_chr(e->name, '_', 0);

    if (bar < 0) {
        bool ok = number(e->name, &e->from);

        e->to = e->from;
        return ok;
    }
    return number(sb_str_first(e->name, (size_t)bar), &e->from) &&
           number(sb_str_from(e->name, (size_t)bar + 1), &e->to) && e->from < e->to;
}

static enum sb_rc check_types(struct sb_expr *e, bool stream, struct sb_err *err)
{
    if (e->kind == SB_EXPR_PREDICATE)
        return check_predicate(e, stream, err);
    for (size_t i = 0; i < e->nitems; i++) {
        enum sb_rc rc = check_types(e->items[i], stream, err);

        if (rc)
            return rc;
    }
    return SB_OK;
}

/* Names of segments are looked at when all types are right. */
static enum sb_rc check_segments(struct sb_expr *e, struct sb_err *err)
{
    if (e->kind == SB_EXPR_PREDICATE && e->field == SB_FIELD_SEGMENTS && !read_segments(e))
        return sb_err_set(err, SB_INVALID, "illformed http.path.segments.* field");
    for (size_t i = 0; i < e->nitems; i++) {
        enum sb_rc rc = check_segments(e->items[i], err);

        if (rc)
            return rc;
    }
    return SB_OK;
}

enum sb_rc sb_expr_check(struct sb_expr *e, bool stream, struct sb_err *err)
{
    enum sb_rc rc = check_types(e, stream, err);

    return rc ? rc : check_segments(e, err);
}

/* net.port is an old name of net.dst.port, before a comparison. */
static struct sb_str modern(struct sb_arena *a, struct sb_str text)
{
    ptrdiff_t at = 0;

    while ((at = sb_str_find(text, SB_STR("net.port"), (size_t)at)) >= 0) {
        struct sb_str rest = sb_str_from(text, (size_t)at + 8), behind = sb_str_trim(rest);

        if (behind.len && strchr("=><!", behind.p[0]))
            text = sb_arena_printf(a, "%.*snet.dst.port%.*s", (int)at, text.p, SB_ARG(rest));
        at++;
    }
    return text;
}

/* Header names have no case. */
static void lower_names(struct sb_arena *a, struct sb_expr *e)
{
    if (e->kind == SB_EXPR_PREDICATE && e->field == SB_FIELD_HEADER) {
        char *name = sb_arena_cstr(a, e->name);

        for (size_t i = 0; i < e->name.len; i++) {
            if (name[i] >= 'A' && name[i] <= 'Z')
                name[i] = (char)(name[i] + ('a' - 'A'));
        }
        e->name.p = name;
    }
    for (size_t i = 0; i < e->nitems; i++)
        lower_names(a, e->items[i]);
}

enum sb_rc sb_expr_parse(struct sb_arena *a, struct sb_str text, bool stream, struct sb_expr **out,
                         struct sb_err *err)
{
    enum sb_rc rc = sb_expr_read(a, modern(a, text), out, err);

    rc = rc ? rc : sb_expr_check(*out, stream, err);
    if (!rc)
        lower_names(a, *out);
    return rc;
}

bool sb_expr_reads_path(const struct sb_expr *e)
{
    if (e->kind == SB_EXPR_PREDICATE)
        return e->field == SB_FIELD_PATH || e->field == SB_FIELD_SEGMENTS ||
               e->field == SB_FIELD_SEGMENTS_LEN;
    for (size_t i = 0; i < e->nitems; i++) {
        if (sb_expr_reads_path(e->items[i]))
            return true;
    }
    return false;
}
