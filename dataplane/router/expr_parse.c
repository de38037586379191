/* expr_parse.c - text to tree.
 *
 * The grammar is one of ordered choices without a lexer, and its error messages are made of which
 * rules were tried, and failed, at the furthest place reached. To say the same the parser keeps the
 * same book: each rule is a function between enter and leave, and leave notes a failed rule
 * (expr_draw.c). A rule whose parts failed at the very place where it began stands for them, unless
 * only one did.
 *
 *     matcher     = expression, end
 *     expression  = term { ("&&" | "||") term }
 *     term        = predicate | ["!"] "(" expression ")"
 *     predicate   = lhs operator rhs
 *     lhs         = name "(" lhs ")" | name
 *     rhs         = string | raw string | address or range | integer
 *
 * Mistakes in a value (a regex, a range with host bits) are told only when the syntax is right.
 */
#include <stdlib.h>

#include "dataplane/router/expr_parser.h"
#include "shared/vec.h"

enum { TEXT_LEN_MAX = 64 << 10 };

/* -- characters ------------------------------------------------------------------------------- */

void sb_parse_skip(struct sb_parser *p)
{
    while (p->i < p->s.len && strchr(" \t\r\n", p->s.p[p->i]) && p->s.p[p->i])
        p->i++;
}

bool sb_parse_take(struct sb_parser *p, const char *text)
{
    if (!sb_str_starts(sb_str_from(p->s, p->i), sb_str_c(text)))
        return false;
    p->i += strlen(text);
    return true;
}

/* The same behind white space. */
bool sb_parse_take_next(struct sb_parser *p, const char *text)
{
    sb_parse_skip(p);
    return sb_parse_take(p, text);
}

bool sb_parse_is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool sb_parse_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Up to max characters of a kind; how many. */
size_t sb_parse_take_while(struct sb_parser *p, bool (*kind)(char), size_t max)
{
    size_t n = 0;

    while (n < max && p->i < p->s.len && kind(p->s.p[p->i])) {
        p->i++;
        n++;
    }
    return n;
}

struct sb_str sb_parse_since(const struct sb_parser *p, size_t from)
{
    return sb_str_n(p->s.p + from, p->i - from);
}

/* -- left-hand sides -------------------------------------------------------------------------- */

static bool is_name(char c)
{
    return sb_parse_is_alpha(c) || sb_parse_is_digit(c) || c == '_' || c == '.';
}

static bool ident(struct sb_parser *p, struct sb_str *out)
{
    struct sb_parse_mark m = sb_parse_enter(p);

    if (sb_parse_take_while(p, sb_parse_is_alpha, 1))
        sb_parse_take_while(p, is_name, SIZE_MAX);
    *out = sb_parse_since(p, m.at);
    return sb_parse_leave(p, &m, R_IDENT, out->len > 0);
}

static bool lhs(struct sb_parser *p, struct sb_expr *e);

static bool transform(struct sb_parser *p, struct sb_expr *e)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    struct sb_str name;
    bool ok = ident(p, &name) && sb_parse_take_next(p, "(");

    if (ok) {
        sb_parse_skip(p);
        ok = p->depth < SB_PARSE_DEPTH_MAX && lhs(p, e) && sb_parse_take_next(p, ")");
    }
    if (ok && sb_str_eq(name, SB_STR("lower"))) {
        e->lower = true;
    } else if (ok && sb_str_eq(name, SB_STR("any"))) {
        e->any = true;
    } else if (ok) {
        char words[128];

        snprintf(words, sizeof words, "unknown transformation function: %.*s",
                 SB_ARG(sb_str_first(name, 64)));
        sb_parse_mistake(p, m.at, p->i, words);
    }
    return sb_parse_leave(p, &m, R_TRANSFORM_FUNC, ok);
}

static bool lhs(struct sb_parser *p, struct sb_expr *e)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    bool ok;

    p->depth++;
    ok = transform(p, e) || ident(p, &e->field_name);
    p->depth--;
    return sb_parse_leave(p, &m, R_LHS, ok);
}

/* -- predicates and what joins them ----------------------------------------------------------- */

static bool binary_operator(struct sb_parser *p, enum sb_expr_op *op)
{
    static const struct {
        const char *text;
        enum sb_expr_op op;
    } operators[] = {
        {"==", SB_OP_EQUAL},  {"!=", SB_OP_NOT_EQUAL},      {"~", SB_OP_REGEX},
        {"^=", SB_OP_PREFIX}, {"=^", SB_OP_SUFFIX},         {">=", SB_OP_GREATER_EQUAL},
        {">", SB_OP_GREATER}, {"<=", SB_OP_LESS_EQUAL},     {"<", SB_OP_LESS},
        {"in", SB_OP_IN},     {"contains", SB_OP_CONTAINS},
    };
    struct sb_parse_mark m = sb_parse_enter(p);

    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        *op = operators[i].op;
        if (sb_parse_take(p, operators[i].text))
            return true;
    }
    *op = SB_OP_NOT_IN;
    return sb_parse_leave(p, &m, R_BINARY_OPERATOR,
                          sb_parse_take(p, "not") && sb_parse_take_next(p, "in"));
}

static void free_regex(void *arg)
{
    sb_regex_free(arg);
}

static void compile_regex(struct sb_parser *p, struct sb_expr_value *v, size_t from)
{
    struct sb_err err;

    if (v->type != SB_EXPR_STRING)
        sb_parse_mistake(p, from, p->i, "regex operator can only be used with String operands");
    else if (sb_regex_new(SB_REGEX_SEARCH, v->str, &v->regex, &err))
        sb_parse_mistake(p, from, p->i, err.text);
    else
        sb_arena_defer(p->a, free_regex, v->regex);
}

static bool predicate(struct sb_parser *p, struct sb_expr **out)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    struct sb_expr *e = SB_NEW(p->a, struct sb_expr);
    size_t from;
    bool ok = lhs(p, e);

    e->kind = SB_EXPR_PREDICATE;
    sb_parse_skip(p);
    ok = ok && binary_operator(p, &e->op);
    if (ok)
        sb_parse_skip(p);
    from = p->i;
    ok = ok && sb_parse_rhs(p, &e->value);
    if (ok && e->op == SB_OP_REGEX)
        compile_regex(p, &e->value, from);
    *out = e;
    return sb_parse_leave(p, &m, R_PREDICATE, ok);
}

static bool expression(struct sb_parser *p, struct sb_expr **out);

static bool parenthesised(struct sb_parser *p, struct sb_expr **out)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    bool not = sb_parse_take(p, "!");
    bool ok = not ? sb_parse_take_next(p, "(") : sb_parse_take(p, "(");
    struct sb_expr *inner = NULL;

    if (ok && p->depth == SB_PARSE_DEPTH_MAX) {
        p->too_deep = true;
        ok = false;
    }
    if (ok) {
        sb_parse_skip(p);
        p->depth++;
        ok = expression(p, &inner) && sb_parse_take_next(p, ")");
        p->depth--;
    }
    if (ok && not ) {
        struct sb_expr **items = SB_NEW(p->a, struct sb_expr *), *e = SB_NEW(p->a, struct sb_expr);

        *items = inner;
        *e = (struct sb_expr){.kind = SB_EXPR_NOT, .items = items, .nitems = 1};
        inner = e;
    }
    *out = inner;
    return sb_parse_leave(p, &m, R_PARENTHESISED, ok);
}

static bool term(struct sb_parser *p, struct sb_expr **out)
{
    struct sb_parse_mark m = sb_parse_enter(p);

    return sb_parse_leave(p, &m, R_TERM, predicate(p, out) || parenthesised(p, out));
}

static bool word(struct sb_parser *p, enum sb_parse_rule rule, const char *text)
{
    struct sb_parse_mark m = sb_parse_enter(p);

    return sb_parse_leave(p, &m, rule, sb_parse_take(p, text));
}

struct exprs {
    struct sb_expr **p;
    size_t len, cap;
};

/* What was collected, as one: itself when it is alone. */
static struct sb_expr *join(struct sb_parser *p, enum sb_expr_kind kind, struct exprs *list)
{
    struct sb_expr *e = SB_NEW(p->a, struct sb_expr), **items;

    if (list->len == 1)
        return list->p[0];
    items = SB_NEW_N(p->a, struct sb_expr *, list->len);
    memcpy(items, list->p, list->len * sizeof *items);
    *e = (struct sb_expr){.kind = kind, .items = items, .nitems = list->len};
    return e;
}

/* '||' binds tighter: what it joins are the parts of '&&'. */
static bool expression(struct sb_parser *p, struct sb_expr **out)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    struct exprs all = {0}, any = {0};
    struct sb_expr *e;
    bool ok = term(p, &e);

    while (ok) {
        bool and;

        sb_vec_push(&any, e);
        sb_parse_skip(p);
        and = word(p, R_AND_OP, "&&");
        if (!and&&!word(p, R_OR_OP, "||"))
            break;
        if (and) {
            sb_vec_push(&all, join(p, SB_EXPR_OR, &any));
            sb_vec_clear(&any);
        }
        sb_parse_skip(p);
        ok = term(p, &e);
    }
    if (ok) {
        sb_vec_push(&all, join(p, SB_EXPR_OR, &any));
        *out = join(p, SB_EXPR_AND, &all);
    }
    sb_vec_release(&all);
    sb_vec_release(&any);
    return sb_parse_leave(p, &m, R_EXPRESSION, ok);
}

static bool matcher(struct sb_parser *p, struct sb_expr **out)
{
    struct sb_parse_mark m = sb_parse_enter(p), end;
    bool ok;

    sb_parse_skip(p);
    ok = expression(p, out);
    sb_parse_skip(p);
    end = sb_parse_enter(p);
    ok = ok && sb_parse_leave(p, &end, R_EOI, p->i == p->s.len);
    return sb_parse_leave(p, &m, R_MATCHER, ok);
}

enum sb_rc sb_expr_read(struct sb_arena *a, struct sb_str text, struct sb_expr **out,
                        struct sb_err *err)
{
    struct sb_parser p = {.a = a, .s = sb_arena_str(a, text)};
    enum sb_rc rc = SB_OK;
    bool syntax;

    if (text.len > TEXT_LEN_MAX)
        return sb_err_set(err, SB_INVALID, "expression longer than %d bytes", TEXT_LEN_MAX);
    sb_buf_init(&p.mistake, SB_ERR_LEN_MAX);
    syntax = !matcher(&p, out);
    if (syntax || p.mistaken)
        rc = sb_parse_draw(&p, syntax, err);
    sb_buf_release(&p.mistake);
    return rc;
}
