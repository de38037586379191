/* expr_values.c - the constants of expressions: strings, addresses, ranges, integers. */
#include <arpa/inet.h>

#include "dataplane/router/expr_parser.h"

static bool is_oct(char c)
{
    return c >= '0' && c <= '7';
}

static bool is_hex(char c)
{
    return sb_parse_is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool str_esc(struct sb_parser *p, struct sb_buf *out)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    static const char letters[] = "\"\\nrt", bytes[] = "\"\\\n\r\t";
    const char *at = NULL;

    if (sb_parse_take(p, "\\") && p->i < p->s.len && p->s.p[p->i])
        at = strchr(letters, p->s.p[p->i]);
    if (at) {
        sb_buf_char(out, bytes[at - letters]);
        p->i++;
    }
    return sb_parse_leave(p, &m, R_STR_ESC, at != NULL);
}

static bool str_char(struct sb_parser *p, struct sb_buf *out)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    bool ok = p->i < p->s.len && p->s.p[p->i] != '"' && p->s.p[p->i] != '\\';

    if (ok)
        sb_buf_char(out, p->s.p[p->i++]);
    return sb_parse_leave(p, &m, R_STR_CHAR, ok);
}

static bool str_literal(struct sb_parser *p, struct sb_expr_value *v)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    struct sb_buf text;
    bool ok = sb_parse_take(p, "\"");

    sb_buf_init(&text, 0);
    while (ok && (str_esc(p, &text) || str_char(p, &text)))
        ;
    ok = ok && sb_parse_take(p, "\"");
    if (ok)
        *v = (struct sb_expr_value){.type = SB_EXPR_STRING,
                                    .str = sb_arena_str(p->a, sb_buf_get(&text))};
    sb_buf_release(&text);
    return sb_parse_leave(p, &m, R_STR_LITERAL, ok);
}

static bool rawstr_char(struct sb_parser *p)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    bool ok = p->i < p->s.len && !sb_str_starts(sb_str_from(p->s, p->i), SB_STR("\"#"));

    p->i += ok;
    return sb_parse_leave(p, &m, R_RAWSTR_CHAR, ok);
}

static bool rawstr_literal(struct sb_parser *p, struct sb_expr_value *v)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    bool ok = sb_parse_take(p, "r#\"");
    size_t from = p->i;

    while (ok && rawstr_char(p))
        ;
    if (ok)
        *v = (struct sb_expr_value){.type = SB_EXPR_STRING,
                                    .str = sb_arena_str(p->a, sb_parse_since(p, from))};
    ok = ok && sb_parse_take(p, "\"#");
    return sb_parse_leave(p, &m, R_RAWSTR_LITERAL, ok);
}

static bool scan_ipv4(struct sb_parser *p)
{
    for (int i = 0; i < 4; i++) {
        if ((i > 0 && !sb_parse_take(p, ".")) || !sb_parse_take_while(p, sb_parse_is_digit, 3))
            return false;
    }
    return true;
}

static bool scan_ipv6(struct sb_parser *p)
{
    if ((!sb_parse_take(p, ":") && !sb_parse_take_while(p, is_hex, 4)) || !sb_parse_take(p, ":"))
        return false;
    while (sb_parse_take_while(p, is_hex, 4) || sb_parse_take(p, ":"))
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

static bool ip_form(struct sb_parser *p, enum sb_parse_rule rule, bool v6, bool range,
                    struct sb_expr_value *v)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    bool ok = v6 ? scan_ipv6(p) : scan_ipv4(p);
    const char *words;

    if (range)
        ok = ok && sb_parse_take(p, "/") && sb_parse_take_while(p, sb_parse_is_digit, v6 ? 3 : 2);
    if (!ok)
        return sb_parse_leave(p, &m, rule, false);
    *v = (struct sb_expr_value){.type = range ? SB_EXPR_CIDR : SB_EXPR_ADDR};
    words = read_net(sb_parse_since(p, m.at), v6, &v->net);
    if (words)
        sb_parse_mistake(p, m.at, p->i, words);
    return true;
}

static bool ip_literal(struct sb_parser *p, struct sb_expr_value *v)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    bool ok = ip_form(p, R_IPV4_CIDR_LITERAL, false, true, v) ||
              ip_form(p, R_IPV6_CIDR_LITERAL, true, true, v) ||
              ip_form(p, R_IPV4_LITERAL, false, false, v) ||
              ip_form(p, R_IPV6_LITERAL, true, false, v);

    return sb_parse_leave(p, &m, R_IP_LITERAL, ok);
}

static int64_t value_of(struct sb_parser *p, struct sb_str digits, unsigned base)
{
    uint64_t n = 0;

    for (size_t i = 0; i < digits.len; i++) {
        char c = digits.p[i];
        unsigned d = sb_parse_is_digit(c) ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;

        if (n > ((uint64_t)INT64_MAX - d) / base) {
            sb_parse_mistake(p, p->i - digits.len, p->i, "number too large to fit in target type");
            return 0;
        }
        n = n * base + d;
    }
    return (int64_t)n;
}

static bool digits(struct sb_parser *p, enum sb_parse_rule rule, bool (*kind)(char),
                   const char *prefix, unsigned base, int64_t *out)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    size_t from;

    if (!sb_parse_take(p, prefix))
        return sb_parse_leave(p, &m, rule, false);
    from = rule == R_OCT_DIGITS ? m.at : p->i;
    if (!sb_parse_take_while(p, kind, SIZE_MAX))
        return sb_parse_leave(p, &m, rule, false);
    *out = value_of(p, sb_parse_since(p, from), base);
    return true;
}

/* "0x" stands outside of the rule for the digits behind it. */
static bool hex_digits(struct sb_parser *p, int64_t *out)
{
    size_t at = p->i;

    if (sb_parse_take(p, "0x") && digits(p, R_HEX_DIGITS, is_hex, "", 16, out))
        return true;
    p->i = at;
    return false;
}

static bool int_literal(struct sb_parser *p, struct sb_expr_value *v)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    bool minus = sb_parse_take(p, "-"), ok;

    v->type = SB_EXPR_INT;
    ok = digits(p, R_OCT_DIGITS, is_oct, "0", 8, &v->i) || hex_digits(p, &v->i) ||
         digits(p, R_DEC_DIGITS, sb_parse_is_digit, "", 10, &v->i);
    v->i = minus ? -v->i : v->i;
    return sb_parse_leave(p, &m, R_INT_LITERAL, ok);
}

bool sb_parse_rhs(struct sb_parser *p, struct sb_expr_value *v)
{
    struct sb_parse_mark m = sb_parse_enter(p);
    bool ok = str_literal(p, v) || rawstr_literal(p, v) || ip_literal(p, v) || int_literal(p, v);

    return sb_parse_leave(p, &m, R_RHS, ok);
}
