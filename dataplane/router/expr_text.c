/* expr_text.c - a route's attributes as an expression.
 *
 * The router compiles attributes directly; but what is wrong with them users are told as a mistake
 * in the expression that stands for them, drawn and all, so it must be spelt to be checked:
 *
 *     (http.method == r#"GET"#) && (http.host =^ r#".a.com"#) && (http.path ^= r#"/x"#)
 */
#include <arpa/inet.h>

#include "dataplane/router/expr.h"
#include "shared/buf.h"

static void literal(struct sb_buf *b, struct sb_str s)
{
    if (sb_str_find(s, SB_STR("\"#"), 0) < 0) {
        sb_buf_printf(b, "r#\"%.*s\"#", SB_ARG(s));
        return;
    }
    sb_buf_char(b, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '\\' || s.p[i] == '"')
            sb_buf_char(b, '\\');
        sb_buf_char(b, s.p[i]);
    }
    sb_buf_char(b, '"');
}

static void and (struct sb_buf * b)
{
    sb_buf_cstr(b, b->len ? " && " : "");
}

static struct sb_str string_of(const struct sb_value *v)
{
    return sb_is(v, SB_V_STR) ? v->s : SB_STR("");
}

/* (each || each || ...) */
static void alternatives(struct sb_buf *b, const struct sb_value *list,
                         void (*each)(struct sb_buf *b, const struct sb_value *item))
{
    const struct sb_value *item;
    bool first = true;

    sb_buf_char(b, '(');
    sb_array_each (item, list) {
        sb_buf_cstr(b, first ? "" : " || ");
        each(b, item);
        first = false;
    }
    sb_buf_char(b, ')');
}

/* A name that may have a wildcard, as the operator says it. */
static void matched(struct sb_buf *b, const char *field, struct sb_str s)
{
    bool first = s.len && s.p[0] == '*', last = !first && s.len && s.p[s.len - 1] == '*';

    sb_buf_printf(b, "%s %s ", field, first ? "=^" : last ? "^=" : "==");
    literal(b, first ? sb_str_from(s, 1) : sb_str_first(s, s.len - last));
}

static void sni(struct sb_buf *b, const struct sb_value *item)
{
    struct sb_str s = string_of(item);

    matched(b, "tls.sni", s.len > 1 && s.p[s.len - 1] == '.' ? sb_str_first(s, s.len - 1) : s);
}

static void method(struct sb_buf *b, const struct sb_value *item)
{
    sb_buf_cstr(b, "http.method == ");
    literal(b, string_of(item));
}

static void host(struct sb_buf *b, const struct sb_value *item)
{
    int32_t port;
    struct sb_str s = sb_rule_split_host(SB_ROUTER_TRADITIONAL_COMPATIBLE, string_of(item), &port);

    sb_buf_cstr(b, port == SB_ANY_PORT ? "" : "(");
    matched(b, "http.host", s);
    if (port != SB_ANY_PORT)
        sb_buf_printf(b, " && net.dst.port == %d)", (int)port);
}

static void regex_path(struct sb_buf *b, struct sb_str s)
{
    struct sb_buf pattern;

    sb_buf_init(&pattern, 0);
    sb_buf_char(&pattern, '^');
    for (size_t i = 0; i < s.len; i++) {
        sb_buf_char(&pattern, s.p[i]);
        if (s.p[i] == '?' && i + 1 < s.len && s.p[i + 1] == '<')
            sb_buf_char(&pattern, 'P'); /* named groups */
    }
    sb_buf_cstr(b, "http.path ~ ");
    literal(b, sb_buf_get(&pattern));
    sb_buf_release(&pattern);
}

static void path(struct sb_buf *b, const struct sb_value *item)
{
    struct sb_str s = string_of(item);

    if (s.len && s.p[0] == '~') {
        regex_path(b, sb_str_from(s, 1));
        return;
    }
    sb_buf_cstr(b, "http.path ^= ");
    literal(b, s);
}

/* 10.1.2.3/8 is 10.0.0.0/8; of IPv6 ranges host bits must be zero. */
static void address(struct sb_buf *b, struct sb_str ip)
{
    ptrdiff_t slash = sb_str_chr(ip, '/', 0);
    struct in_addr v4;
    int64_t bits;
    char c[INET_ADDRSTRLEN];

    if (slash > 0 && (size_t)slash < sizeof c &&
        sb_str_int(sb_str_from(ip, (size_t)slash + 1), &bits) && bits > 0 && bits <= 32) {
        memcpy(c, ip.p, (size_t)slash);
        c[slash] = '\0';
        if (inet_pton(AF_INET, c, &v4) == 1) {
            v4.s_addr &= htonl(UINT32_MAX << (32 - bits));
            inet_ntop(AF_INET, &v4, c, sizeof c);
            sb_buf_printf(b, "%s/%d", c, (int)bits);
            return;
        }
    }
    sb_buf_str(b, ip);
}

static void net(struct sb_buf *b, const struct sb_value *item, const char *side)
{
    struct sb_str ip = sb_value_str_at(item, "ip");
    bool port = !sb_is_nil(sb_get(item, "port")), both = port && ip.len;

    sb_buf_cstr(b, both ? "(" : "");
    if (ip.len) {
        sb_buf_printf(b, "net.%s.ip %s ", side, sb_str_chr(ip, '/', 0) < 0 ? "==" : "in");
        address(b, ip);
    }
    sb_buf_cstr(b, both ? " && " : "");
    if (port)
        sb_buf_printf(b, "net.%s.port == %lld", side, (long long)sb_value_int_at(item, "port", 0));
    sb_buf_cstr(b, both ? ")" : "");
}

static void source(struct sb_buf *b, const struct sb_value *item)
{
    net(b, item, "src");
}

static void destination(struct sb_buf *b, const struct sb_value *item)
{
    net(b, item, "dst");
}

static void lowered(struct sb_buf *b, struct sb_str s, bool fold)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];

        c = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
        sb_buf_char(b, fold && c == '-' ? '_' : c);
    }
}

static void header(struct sb_buf *b, const struct sb_member *m)
{
    const struct sb_value *item;
    bool first = true;

    and(b);
    sb_buf_char(b, '(');
    sb_array_each (item, m->value) {
        struct sb_str s = string_of(item);
        bool regex = sb_str_starts(s, SB_STR("~*"));
        struct sb_buf value;

        sb_buf_init(&value, 0);
        lowered(&value, sb_str_from(s, regex ? 2 : 0), false);
        sb_buf_cstr(b, first ? "any(lower(http.headers." : " || any(lower(http.headers.");
        lowered(b, m->key, true);
        sb_buf_cstr(b, regex ? ")) ~ " : ")) == ");
        literal(b, sb_buf_get(&value));
        sb_buf_release(&value);
        first = false;
    }
    sb_buf_char(b, ')');
}

void sb_expr_spell(struct sb_buf *b, const struct sb_rule_row *row)
{
    const struct {
        const struct sb_value *list;
        void (*each)(struct sb_buf *b, const struct sb_value *item);
    } parts[] = {
        {row->sources, source},
        {row->destinations, destination},
        {row->stream ? NULL : row->methods, method},
        {row->stream ? NULL : row->hosts, host},
        {row->stream ? NULL : row->paths, path},
    };
    const struct sb_member *m;

    if (row->snis) {
        sb_buf_printf(b, "(net.protocol != r#\"%s\"# || ", row->stream ? "tls" : "https");
        alternatives(b, row->snis, sni);
        sb_buf_char(b, ')');
    }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!parts[i].list)
            continue;
        and(b);
        alternatives(b, parts[i].list, parts[i].each);
    }
    sb_object_each (m, row->stream ? NULL : row->headers)
        header(b, m);
}

bool sb_router_route_compiles(void *flavor, const struct sb_value *route, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_rule_row row;
    struct sb_expr *expr;
    struct sb_buf text;
    enum sb_rc rc = SB_OK;

    sb_rule_row_read(*(const enum sb_router_flavor *)flavor, route, &row);
    sb_buf_init(&text, 0);
    if (row.expression.p)
        sb_buf_str(&text, row.expression);
    else
        sb_expr_spell(&text, &row);
    if (text.len)
        rc = sb_expr_parse(a, sb_buf_get(&text), row.stream, &expr, err);
    sb_buf_release(&text);
    sb_arena_free(a);
    return rc == SB_OK;
}
