/* expr_parse.c - text to tree.
 *
 * The grammar is one of ordered choices without a lexer, and its error messages are made of which
 * rules were tried, and failed, at the furthest place reached. To say the same the parser keeps the
 * same book: each rule is a function between enter() and leave(), and leave() notes a failed rule.
 * A rule whose parts failed at the very place where it began stands for them, unless only one did.
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
#include <arpa/inet.h>

#include "dataplane/router/expr.h"
#include "shared/buf.h"
#include "shared/vec.h"

#include <stdlib.h>

/* DRAWN_MAX: how much of a line a message shows. */
enum { TEXT_LEN_MAX = 64 << 10, DEPTH_MAX = 200, TRIED_MAX = 64, DRAWN_MAX = 600 };

/* In the order in which a message lists them. */
enum rule {
    R_EOI,
    R_AND_OP,
    R_BINARY_OPERATOR,
    R_DEC_DIGITS,
    R_EXPRESSION,
    R_HEX_DIGITS,
    R_IDENT,
    R_INT_LITERAL,
    R_IP_LITERAL,
    R_IPV4_CIDR_LITERAL,
    R_IPV4_LITERAL,
    R_IPV6_CIDR_LITERAL,
    R_IPV6_LITERAL,
    R_LHS,
    R_MATCHER,
    R_OCT_DIGITS,
    R_OR_OP,
    R_PARENTHESISED,
    R_PREDICATE,
    R_RAWSTR_CHAR,
    R_RAWSTR_LITERAL,
    R_RHS,
    R_STR_CHAR,
    R_STR_ESC,
    R_STR_LITERAL,
    R_TERM,
    R_TRANSFORM_FUNC,
};

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

struct parser {
    struct sb_arena *a;
    struct sb_str s;
    size_t i;
    size_t depth;
    /* What was tried in vain at the furthest place. */
    size_t furthest;
    enum rule tried[TRIED_MAX];
    size_t ntried;
    /* The first mistake in a value, and where. */
    struct sb_buf mistake;
    size_t from, to;
    bool mistaken, too_deep;
};

/* -- the book of what was tried ------------------------------------------------------------------
 */

struct mark {
    size_t at, kept, tried;
};

static struct mark enter(const struct parser *p)
{
    size_t tried = p->i == p->furthest ? p->ntried : 0;

    return (struct mark){p->i, tried, tried};
}

static void note(struct parser *p, const struct mark *m, enum rule rule)
{
    size_t now = m->at == p->furthest ? p->ntried : 0;

    if (now == m->tried + 1 || m->at < p->furthest)
        return;
    if (m->at == p->furthest)
        p->ntried = m->kept;
    else
        p->ntried = 0;
    p->furthest = m->at;
    if (p->ntried < TRIED_MAX)
        p->tried[p->ntried++] = rule;
}

static bool leave(struct parser *p, const struct mark *m, enum rule rule, bool ok)
{
    if (!ok) {
        note(p, m, rule);
        p->i = m->at;
    }
    return ok;
}

static void mistake(struct parser *p, size_t from, size_t to, const char *words)
{
    if (p->mistaken)
        return;
    p->mistaken = true;
    p->from = from;
    p->to = to;
    sb_buf_cstr(&p->mistake, words);
}

/* -- characters ----------------------------------------------------------------------------------
 */

static void skip(struct parser *p)
{
    while (p->i < p->s.len && strchr(" \t\r\n", p->s.p[p->i]) && p->s.p[p->i])
        p->i++;
}

static bool take(struct parser *p, const char *text)
{
    if (!sb_str_starts(sb_str_from(p->s, p->i), sb_str_c(text)))
        return false;
    p->i += strlen(text);
    return true;
}

/* The same behind white space. */
static bool take_next(struct parser *p, const char *text)
{
    skip(p);
    return take(p, text);
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_oct(char c)
{
    return c >= '0' && c <= '7';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_name(char c)
{
    return is_alpha(c) || is_digit(c) || c == '_' || c == '.';
}

/* Up to max characters of a kind; how many. */
static size_t take_while(struct parser *p, bool (*kind)(char), size_t max)
{
    size_t n = 0;

    while (n < max && p->i < p->s.len && kind(p->s.p[p->i])) {
        p->i++;
        n++;
    }
    return n;
}

static struct sb_str since(const struct parser *p, size_t from)
{
    return sb_str_n(p->s.p + from, p->i - from);
}

/* -- left-hand sides -----------------------------------------------------------------------------
 */

static bool ident(struct parser *p, struct sb_str *out)
{
    struct mark m = enter(p);

    if (take_while(p, is_alpha, 1))
        take_while(p, is_name, SIZE_MAX);
    *out = since(p, m.at);
    return leave(p, &m, R_IDENT, out->len > 0);
}

static bool lhs(struct parser *p, struct sb_expr *e);

static bool transform(struct parser *p, struct sb_expr *e)
{
    struct mark m = enter(p);
    struct sb_str name;
    bool ok = ident(p, &name) && take_next(p, "(");

    if (ok) {
        skip(p);
        ok = p->depth < DEPTH_MAX && lhs(p, e) && take_next(p, ")");
    }
    if (ok && sb_str_eq(name, SB_STR("lower"))) {
        e->lower = true;
    } else if (ok && sb_str_eq(name, SB_STR("any"))) {
        e->any = true;
    } else if (ok) {
        char words[128];

        snprintf(words, sizeof words, "unknown transformation function: %.*s",
                 SB_ARG(sb_str_first(name, 64)));
        mistake(p, m.at, p->i, words);
    }
    return leave(p, &m, R_TRANSFORM_FUNC, ok);
}

static bool lhs(struct parser *p, struct sb_expr *e)
{
    struct mark m = enter(p);
    bool ok;

    p->depth++;
    ok = transform(p, e) || ident(p, &e->field_name);
    p->depth--;
    return leave(p, &m, R_LHS, ok);
}

/* -- right-hand sides ----------------------------------------------------------------------------
 */

static bool str_esc(struct parser *p, struct sb_buf *out)
{
    struct mark m = enter(p);
    static const char letters[] = "\"\\nrt", bytes[] = "\"\\\n\r\t";
    const char *at = NULL;

    if (take(p, "\\") && p->i < p->s.len && p->s.p[p->i])
        at = strchr(letters, p->s.p[p->i]);
    if (at) {
        sb_buf_char(out, bytes[at - letters]);
        p->i++;
    }
    return leave(p, &m, R_STR_ESC, at != NULL);
}

static bool str_char(struct parser *p, struct sb_buf *out)
{
    struct mark m = enter(p);
    bool ok = p->i < p->s.len && p->s.p[p->i] != '"' && p->s.p[p->i] != '\\';

    if (ok)
        sb_buf_char(out, p->s.p[p->i++]);
    return leave(p, &m, R_STR_CHAR, ok);
}

static bool str_literal(struct parser *p, struct sb_expr_value *v)
{
    struct mark m = enter(p);
    struct sb_buf text;
    bool ok = take(p, "\"");

    sb_buf_init(&text, 0);
    while (ok && (str_esc(p, &text) || str_char(p, &text)))
        ;
    ok = ok && take(p, "\"");
    if (ok)
        *v = (struct sb_expr_value){.type = SB_EXPR_STRING,
                                    .str = sb_arena_str(p->a, sb_buf_get(&text))};
    sb_buf_release(&text);
    return leave(p, &m, R_STR_LITERAL, ok);
}

static bool rawstr_char(struct parser *p)
{
    struct mark m = enter(p);
    bool ok = p->i < p->s.len && !sb_str_starts(sb_str_from(p->s, p->i), SB_STR("\"#"));

    p->i += ok;
    return leave(p, &m, R_RAWSTR_CHAR, ok);
}

static bool rawstr_literal(struct parser *p, struct sb_expr_value *v)
{
    struct mark m = enter(p);
    bool ok = take(p, "r#\"");
    size_t from = p->i;

    while (ok && rawstr_char(p))
        ;
    if (ok)
        *v = (struct sb_expr_value){.type = SB_EXPR_STRING,
                                    .str = sb_arena_str(p->a, since(p, from))};
    ok = ok && take(p, "\"#");
    return leave(p, &m, R_RAWSTR_LITERAL, ok);
}

static bool scan_ipv4(struct parser *p)
{
    for (int i = 0; i < 4; i++) {
        if ((i > 0 && !take(p, ".")) || !take_while(p, is_digit, 3))
            return false;
    }
    return true;
}

static bool scan_ipv6(struct parser *p)
{
    if ((!take(p, ":") && !take_while(p, is_hex, 4)) || !take(p, ":"))
        return false;
    while (take_while(p, is_hex, 4) || take(p, ":"))
        ;
    return true;
}

/* No octet may begin with 0, as inet_pton would take it. */
static bool plain_octets(struct sb_str text)
{
    struct sb_str octet;

    while (sb_str_split(&text, '.', &octet)) {
        if (octet.len > 1 && octet.p[0] == '0')
            return false;
    }
    return true;
}

static bool host_bits_zero(const struct sb_rule_net *net)
{
    for (unsigned bit = net->bits; bit < (net->v6 ? 128u : 32u); bit++) {
        if (net->addr[bit / 8] & 0x80 >> bit % 8)
            return false;
    }
    return true;
}

static const char *read_net(struct sb_str text, bool v6, struct sb_rule_net *net)
{
    ptrdiff_t slash = sb_str_chr(text, '/', 0);
    struct sb_str addr = slash < 0 ? text : sb_str_first(text, (size_t)slash);
    int64_t bits = v6 ? 128 : 32;
    char c[64];

    if (addr.len >= sizeof c || (!v6 && !plain_octets(addr)))
        return slash < 0 ? v6 ? "invalid IPv6 address syntax" : "invalid IPv4 address syntax"
                         : "couldn't parse address in network: invalid IP address syntax";
    memcpy(c, addr.p, addr.len);
    c[addr.len] = '\0';
    if (inet_pton(v6 ? AF_INET6 : AF_INET, c, net->addr) != 1)
        return slash < 0 ? v6 ? "invalid IPv6 address syntax" : "invalid IPv4 address syntax"
                         : "couldn't parse address in network: invalid IP address syntax";
    if (slash >= 0 &&
        (!sb_str_int(sb_str_from(text, (size_t)slash + 1), &bits) || bits > (v6 ? 128 : 32)))
        return "invalid length for network";
    *net = (struct sb_rule_net){true, v6, {0}, (unsigned)bits, SB_ANY_PORT};
    inet_pton(v6 ? AF_INET6 : AF_INET, c, net->addr);
    return host_bits_zero(net) ? NULL : "host part of address was not zero";
}

static bool ip_form(struct parser *p, enum rule rule, bool v6, bool range, struct sb_expr_value *v)
{
    struct mark m = enter(p);
    bool ok = v6 ? scan_ipv6(p) : scan_ipv4(p);
    const char *words;

    if (range)
        ok = ok && take(p, "/") && take_while(p, is_digit, v6 ? 3 : 2);
    if (!ok)
        return leave(p, &m, rule, false);
    *v = (struct sb_expr_value){.type = range ? SB_EXPR_CIDR : SB_EXPR_ADDR};
    words = read_net(since(p, m.at), v6, &v->net);
    if (words)
        mistake(p, m.at, p->i, words);
    return true;
}

static bool ip_literal(struct parser *p, struct sb_expr_value *v)
{
    struct mark m = enter(p);
    bool ok = ip_form(p, R_IPV4_CIDR_LITERAL, false, true, v) ||
              ip_form(p, R_IPV6_CIDR_LITERAL, true, true, v) ||
              ip_form(p, R_IPV4_LITERAL, false, false, v) ||
              ip_form(p, R_IPV6_LITERAL, true, false, v);

    return leave(p, &m, R_IP_LITERAL, ok);
}

static int64_t value_of(struct parser *p, struct sb_str digits, unsigned base)
{
    uint64_t n = 0;

    for (size_t i = 0; i < digits.len; i++) {
        char c = digits.p[i];
        unsigned d = is_digit(c) ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;

        if (n > ((uint64_t)INT64_MAX - d) / base) {
            mistake(p, p->i - digits.len, p->i, "number too large to fit in target type");
            return 0;
        }
        n = n * base + d;
    }
    return (int64_t)n;
}

static bool digits(struct parser *p, enum rule rule, bool (*kind)(char), const char *prefix,
                   unsigned base, int64_t *out)
{
    struct mark m = enter(p);
    size_t from;

    if (!take(p, prefix))
        return leave(p, &m, rule, false);
    from = rule == R_OCT_DIGITS ? m.at : p->i;
    if (!take_while(p, kind, SIZE_MAX))
        return leave(p, &m, rule, false);
    *out = value_of(p, since(p, from), base);
    return true;
}

/* "0x" stands outside of the rule for the digits behind it. */
static bool hex_digits(struct parser *p, int64_t *out)
{
    size_t at = p->i;

    if (take(p, "0x") && digits(p, R_HEX_DIGITS, is_hex, "", 16, out))
        return true;
    p->i = at;
    return false;
}

static bool int_literal(struct parser *p, struct sb_expr_value *v)
{
    struct mark m = enter(p);
    bool minus = take(p, "-"), ok;

    v->type = SB_EXPR_INT;
    ok = digits(p, R_OCT_DIGITS, is_oct, "0", 8, &v->i) || hex_digits(p, &v->i) ||
         digits(p, R_DEC_DIGITS, is_digit, "", 10, &v->i);
    v->i = minus ? -v->i : v->i;
    return leave(p, &m, R_INT_LITERAL, ok);
}

static bool rhs(struct parser *p, struct sb_expr_value *v)
{
    struct mark m = enter(p);
    bool ok = str_literal(p, v) || rawstr_literal(p, v) || ip_literal(p, v) || int_literal(p, v);

    return leave(p, &m, R_RHS, ok);
}

/* -- predicates and what joins them --------------------------------------------------------------
 */

static bool binary_operator(struct parser *p, enum sb_expr_op *op)
{
    static const struct {
        const char *text;
        enum sb_expr_op op;
    } operators[] = {
        {"==",       SB_OP_EQUAL        },
        {"!=",       SB_OP_NOT_EQUAL    },
        {"~",        SB_OP_REGEX        },
        {"^=",       SB_OP_PREFIX       },
        {"=^",       SB_OP_SUFFIX       },
        {">=",       SB_OP_GREATER_EQUAL},
        {">",        SB_OP_GREATER      },
        {"<=",       SB_OP_LESS_EQUAL   },
        {"<",        SB_OP_LESS         },
        {"in",       SB_OP_IN           },
        {"contains", SB_OP_CONTAINS     },
    };
    struct mark m = enter(p);

    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        *op = operators[i].op;
        if (take(p, operators[i].text))
            return true;
    }
    *op = SB_OP_NOT_IN;
    return leave(p, &m, R_BINARY_OPERATOR, take(p, "not") && take_next(p, "in"));
}

static void free_regex(void *arg)
{
    sb_regex_free(arg);
}

static void compile_regex(struct parser *p, struct sb_expr_value *v, size_t from)
{
    struct sb_err err;

    if (v->type != SB_EXPR_STRING)
        mistake(p, from, p->i, "regex operator can only be used with String operands");
    else if (sb_regex_new(SB_REGEX_SEARCH, v->str, &v->regex, &err))
        mistake(p, from, p->i, err.text);
    else
        sb_arena_defer(p->a, free_regex, v->regex);
}

static bool predicate(struct parser *p, struct sb_expr **out)
{
    struct mark m = enter(p);
    struct sb_expr *e = SB_NEW(p->a, struct sb_expr);
    size_t from;
    bool ok = lhs(p, e);

    e->kind = SB_EXPR_PREDICATE;
    skip(p);
    ok = ok && binary_operator(p, &e->op);
    if (ok)
        skip(p);
    from = p->i;
    ok = ok && rhs(p, &e->value);
    if (ok && e->op == SB_OP_REGEX)
        compile_regex(p, &e->value, from);
    *out = e;
    return leave(p, &m, R_PREDICATE, ok);
}

static bool expression(struct parser *p, struct sb_expr **out);

static bool parenthesised(struct parser *p, struct sb_expr **out)
{
    struct mark m = enter(p);
    bool not = take(p, "!");
    bool ok = not ? take_next(p, "(") : take(p, "(");
    struct sb_expr *inner = NULL;

    if (ok && p->depth == DEPTH_MAX) {
        p->too_deep = true;
        ok = false;
    }
    if (ok) {
        skip(p);
        p->depth++;
        ok = expression(p, &inner) && take_next(p, ")");
        p->depth--;
    }
    if (ok && not ) {
        struct sb_expr **items = SB_NEW(p->a, struct sb_expr *), *e = SB_NEW(p->a, struct sb_expr);

        *items = inner;
        *e = (struct sb_expr){.kind = SB_EXPR_NOT, .items = items, .nitems = 1};
        inner = e;
    }
    *out = inner;
    return leave(p, &m, R_PARENTHESISED, ok);
}

static bool term(struct parser *p, struct sb_expr **out)
{
    struct mark m = enter(p);

    return leave(p, &m, R_TERM, predicate(p, out) || parenthesised(p, out));
}

static bool word(struct parser *p, enum rule rule, const char *text)
{
    struct mark m = enter(p);

    return leave(p, &m, rule, take(p, text));
}

/* -- the whole -----------------------------------------------------------------------------------
 */

struct exprs {
    struct sb_expr **p;
    size_t len, cap;
};

/* What was collected, as one: itself when it is alone. */
static struct sb_expr *join(struct parser *p, enum sb_expr_kind kind, struct exprs *list)
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
static bool expression(struct parser *p, struct sb_expr **out)
{
    struct mark m = enter(p);
    struct exprs all = {0}, any = {0};
    struct sb_expr *e;
    bool ok = term(p, &e);

    while (ok) {
        bool and;

        sb_vec_push(&any, e);
        skip(p);
        and = word(p, R_AND_OP, "&&");
        if (!and&&!word(p, R_OR_OP, "||"))
            break;
        if (and) {
            sb_vec_push(&all, join(p, SB_EXPR_OR, &any));
            sb_vec_clear(&any);
        }
        skip(p);
        ok = term(p, &e);
    }
    if (ok) {
        sb_vec_push(&all, join(p, SB_EXPR_OR, &any));
        *out = join(p, SB_EXPR_AND, &all);
    }
    sb_vec_release(&all);
    sb_vec_release(&any);
    return leave(p, &m, R_EXPRESSION, ok);
}

static bool matcher(struct parser *p, struct sb_expr **out)
{
    struct mark m = enter(p), end;
    bool ok;

    skip(p);
    ok = expression(p, out);
    skip(p);
    end = enter(p);
    ok = ok && leave(p, &end, R_EOI, p->i == p->s.len);
    return leave(p, &m, R_MATCHER, ok);
}

/* -- messages ------------------------------------------------------------------------------------
 */

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
static enum sb_rc draw(const struct parser *p, size_t from, size_t to, struct sb_str words,
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

static enum sb_rc draw_tried(struct parser *p, struct sb_err *err)
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

enum sb_rc sb_expr_read(struct sb_arena *a, struct sb_str text, struct sb_expr **out,
                        struct sb_err *err)
{
    struct parser p = {.a = a, .s = sb_arena_str(a, text)};
    enum sb_rc rc = SB_OK;

    if (text.len > TEXT_LEN_MAX)
        return sb_err_set(err, SB_INVALID, "expression longer than %d bytes", TEXT_LEN_MAX);
    sb_buf_init(&p.mistake, SB_ERR_LEN_MAX);
    if (!matcher(&p, out))
        rc = p.too_deep
                 ? sb_err_set(err, SB_INVALID, "parentheses nested deeper than %d", DEPTH_MAX)
                 : draw_tried(&p, err);
    else if (p.mistaken)
        rc = draw(&p, p.from, p.to, sb_buf_get(&p.mistake), err);
    sb_buf_release(&p.mistake);
    return rc;
}
