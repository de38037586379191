/* expr_draw.c - which rules were tried, and the message made of that:
 *
 *      --> 1:11
 *       |
 *     1 | http.path = "/a"
 *       |           ^---
 *       |
 *       = expected binary_operator
 */
#include "dataplane/router/expr_parser.h"

enum { DRAWN_MAX = 600 }; /* how much of a line a message shows */

static const char *const rule_names[] = {
    [R_EOI] = "EOI",
    [R_AND_OP] = "and_op",
    [R_BINARY_OPERATOR] = "binary_operator",
    [R_DEC_DIGITS] = "dec_digits",
    [R_EXPRESSION] = "expression",
    [R_HEX_DIGITS] = "hex_digits",
    [R_IDENT] = "ident",
    [R_INT_LITERAL] = "int_literal",
    [R_IP_LITERAL] = "ip_literal",
    [R_IPV4_CIDR_LITERAL] = "ipv4_cidr_literal",
    [R_IPV4_LITERAL] = "ipv4_literal",
    [R_IPV6_CIDR_LITERAL] = "ipv6_cidr_literal",
    [R_IPV6_LITERAL] = "ipv6_literal",
    [R_LHS] = "lhs",
    [R_MATCHER] = "matcher",
    [R_OCT_DIGITS] = "oct_digits",
    [R_OR_OP] = "or_op",
    [R_PARENTHESISED] = "parenthesised_expression",
    [R_PREDICATE] = "predicate",
    [R_RAWSTR_CHAR] = "rawstr_char",
    [R_RAWSTR_LITERAL] = "rawstr_literal",
    [R_RHS] = "rhs",
    [R_STR_CHAR] = "str_char",
    [R_STR_ESC] = "str_esc",
    [R_STR_LITERAL] = "str_literal",
    [R_TERM] = "term",
    [R_TRANSFORM_FUNC] = "transform_func",
};

struct sb_parse_mark sb_parse_enter(const struct sb_parser *p)
{
    size_t tried = p->i == p->furthest ? p->ntried : 0;

    return (struct sb_parse_mark){p->i, tried, tried};
}

static void note(struct sb_parser *p, const struct sb_parse_mark *m, enum sb_parse_rule rule)
{
    size_t now = m->at == p->furthest ? p->ntried : 0;

    if (now == m->tried + 1 || m->at < p->furthest)
        return;
    if (m->at == p->furthest)
        p->ntried = m->kept;
    else
        p->ntried = 0;
    p->furthest = m->at;
    if (p->ntried < SB_PARSE_TRIED_MAX)
        p->tried[p->ntried++] = rule;
}

bool sb_parse_leave(struct sb_parser *p, const struct sb_parse_mark *m, enum sb_parse_rule rule,
                    bool ok)
{
    if (!ok) {
        note(p, m, rule);
        p->i = m->at;
    }
    return ok;
}

void sb_parse_mistake(struct sb_parser *p, size_t from, size_t to, const char *words)
{
    if (p->mistaken)
        return;
    p->mistaken = true;
    p->from = from;
    p->to = to;
    sb_buf_cstr(&p->mistake, words);
}

/* -- the message ------------------------------------------------------------------------------ */

static size_t chars(struct sb_str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

static void underline(struct sb_buf *b, struct sb_str before, struct sb_str marked)
{
    size_t n = chars(marked);

    for (size_t i = 0; i < before.len; i++) {
        if (((unsigned char)before.p[i] & 0xC0) != 0x80)
            sb_buf_char(b, before.p[i] == '\t' ? '\t' : ' ');
    }
    sb_buf_char(b, '^');
    for (size_t i = 2; i < n; i++)
        sb_buf_char(b, '-');
    sb_buf_cstr(b, n > 1 ? "^" : "");
}

/* The drawing: the line, and what lies from `from` to `to` on it marked; a mere place when equal.
 */
static enum sb_rc draw(const struct sb_parser *p, size_t from, size_t to, struct sb_str words,
                       struct sb_err *err)
{
    struct sb_str text = p->s, before = sb_str_first(text, from), line;
    size_t line_no = 1, start = 0;
    ptrdiff_t end = sb_str_chr(text, '\n', from);
    struct sb_buf b;
    int width;

    for (size_t i = 0; i < before.len; i++) {
        if (before.p[i] == '\n') {
            line_no++;
            start = i + 1;
        }
    }
    line = sb_str_n(text.p + start, (end < 0 ? text.len : (size_t)end) - start);
    before = sb_str_from(before, start);
    sb_buf_init(&b, SB_ERR_LEN_MAX);
    width = snprintf(NULL, 0, "%zu", line_no);
    sb_buf_printf(&b, "%*s--> %zu:%zu\n%*s |\n%zu | %.*s\n%*s | ", width, "", line_no,
                  chars(before) + 1, width, "", line_no, SB_ARG(sb_str_first(line, DRAWN_MAX)),
                  width, "");
    before = sb_str_first(before, DRAWN_MAX);
    if (from == to) {
        underline(&b, before, SB_STR(""));
        sb_buf_cstr(&b, "---");
    } else {
        underline(&b, before, sb_str_first(sb_str_n(text.p + from, to - from), DRAWN_MAX));
    }
    sb_buf_printf(&b, "\n%*s |\n%*s = %.*s", width, "", width, "", SB_ARG(words));
    text = sb_buf_get(&b);
    sb_err_set(err, SB_INVALID, "%.*s", SB_ARG(text));
    sb_buf_release(&b);
    return SB_INVALID;
}

static enum sb_rc draw_tried(struct sb_parser *p, struct sb_err *err)
{
    bool seen[sizeof rule_names / sizeof *rule_names] = {0};
    size_t n = 0, at = 0;
    struct sb_buf b;
    enum sb_rc rc;

    for (size_t i = 0; i < p->ntried; i++)
        seen[p->tried[i]] = true;
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++)
        n += seen[i];
    sb_buf_init(&b, 0);
    sb_buf_cstr(&b, "expected ");
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
        if (!seen[i])
            continue;
        at++;
        sb_buf_printf(&b, "%s%s", rule_names[i],
                      at == n      ? ""
                      : at + 1 < n ? ", "
                      : n == 2     ? " or "
                                   : ", or ");
    }
    rc = draw(p, p->furthest, p->furthest, sb_buf_get(&b), err);
    sb_buf_release(&b);
    return rc;
}

enum sb_rc sb_parse_draw(struct sb_parser *p, bool syntax, struct sb_err *err)
{
    if (p->too_deep)
        return sb_err_set(err, SB_INVALID, "parentheses nested deeper than %d", SB_PARSE_DEPTH_MAX);
    return syntax ? draw_tried(p, err) : draw(p, p->from, p->to, sb_buf_get(&p->mistake), err);
}
