/* expr_eval.c - does a request fit an expression?
 *
 * Takes no memory for a request: values are slices of it; what must be rewritten first (lower case,
 * an escaped query argument) goes through one buffer of the thread. What doesn't fit
 * there can't be compared and makes its predicate false. */
#include "dataplane/router/expr.h"

enum { SCRATCH_LEN = 64 << 10, QUERY_ARGS_MAX = 100 };

static char *scratch_get(void)
{
    static _Thread_local void *mine;

    return sb_thread_memory(&mine, SCRATCH_LEN);
}

/* One predicate under way: values are fed to it until one decides. */
struct test {
    const struct sb_expr *e;
    struct sb_lookup *l;
    struct sb_hit *hit;
    size_t values;
    bool decided, result;
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool lowered(struct sb_str s, struct sb_str *out)
{
    char *scratch = scratch_get();

    if (s.len > SCRATCH_LEN)
        return false;
    for (size_t i = 0; i < s.len; i++)
        scratch[i] = lower(s.p[i]);
    *out = sb_str_n(scratch, s.len);
    return true;
}

/* -- one value -------------------------------------------------------------------------------- */

static bool regex_holds(struct test *t, struct sb_str s)
{
    size_t start, end;

    if (!sb_regex_match(t->e->value.regex, s, &start, &end, &t->l->regexes))
        return false;
    if (t->e->field == SB_FIELD_PATH)
        *t->hit =
            (struct sb_hit){sb_str_n(t->l->q->path.p + start, end - start), t->e->value.regex};
    return true;
}

/* What is stripped is the constant's length, from the front, wherever it was found. */
static bool leaves_hit(struct test *t, bool holds)
{
    if (holds && t->e->field == SB_FIELD_PATH)
        *t->hit = (struct sb_hit){.prefix = t->e->value.str};
    return holds;
}

static bool string_holds(struct test *t, struct sb_str s)
{
    struct sb_str want = t->e->value.str;

    if (t->e->lower && !lowered(s, &s))
        return false;
    switch (t->e->op) {
    case SB_OP_EQUAL:
        return leaves_hit(t, sb_str_eq(s, want));
    case SB_OP_PREFIX:
        return leaves_hit(t, sb_str_starts(s, want));
    case SB_OP_SUFFIX:
        return leaves_hit(t, sb_str_ends(s, want));
    case SB_OP_NOT_EQUAL:
        return !sb_str_eq(s, want);
    case SB_OP_CONTAINS:
        return sb_str_find(s, want, 0) >= 0;
    case SB_OP_REGEX:
        return regex_holds(t, s);
    default:
        return false;
    }
}

static bool int_holds(const struct sb_expr *e, int64_t n)
{
    switch (e->op) {
    case SB_OP_EQUAL:
        return n == e->value.i;
    case SB_OP_NOT_EQUAL:
        return n != e->value.i;
    case SB_OP_GREATER:
        return n > e->value.i;
    case SB_OP_GREATER_EQUAL:
        return n >= e->value.i;
    case SB_OP_LESS:
        return n < e->value.i;
    case SB_OP_LESS_EQUAL:
        return n <= e->value.i;
    default:
        return false;
    }
}

static bool addr_holds(const struct sb_expr *e, const struct sb_addr *addr)
{
    bool within = sb_addr_fits(&e->value.net, addr);

    return addr->known && (e->op == SB_OP_EQUAL || e->op == SB_OP_IN ? within : !within);
}

/* -- fields ----------------------------------------------------------------------------------- */

static void feed(struct test *t, struct sb_str value)
{
    bool holds = string_holds(t, value);

    t->values++;
    if (holds == t->e->any) {
        t->decided = true;
        t->result = holds;
    }
}

static void feed_headers(struct test *t)
{
    for (size_t i = 0; !t->decided && i < t->l->q->nheaders; i++) {
        if (sb_header_name_fits(t->l->q->headers[i].name, t->e->name))
            feed(t, t->l->q->headers[i].value);
    }
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* An argument's name or value, unescaped into out; the length. */
static size_t unescape(struct sb_str s, char *out)
{
    size_t w = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '%' && s.len - i > 2 && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
            out[w++] = (char)(hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]));
            i += 2;
        } else {
            out[w++] = s.p[i] == '+' ? ' ' : s.p[i];
        }
    }
    return w;
}

static void feed_argument(struct test *t, struct sb_str arg)
{
    static _Thread_local void *mine;
    char *plain = sb_thread_memory(&mine, SCRATCH_LEN);
    ptrdiff_t equals = sb_str_chr(arg, '=', 0);
    struct sb_str key = equals < 0 ? arg : sb_str_first(arg, (size_t)equals);
    struct sb_str value = equals < 0 ? SB_STR("") : sb_str_from(arg, (size_t)equals + 1);
    size_t len;

    if (!key.len || key.len > SCRATCH_LEN || value.len > SCRATCH_LEN)
        return;
    len = unescape(key, plain);
    if (sb_str_eq(sb_str_n(plain, len), t->e->name))
        feed(t, sb_str_n(plain, unescape(value, plain)));
}

static void feed_arguments(struct test *t)
{
    struct sb_str rest = t->l->q->query, arg;

    for (int n = 0; !t->decided && n < QUERY_ARGS_MAX && sb_str_split(&rest, '&', &arg); n++)
        feed_argument(t, arg);
}

/* The path's segments from..to with the slashes between them; false when there are fewer. */
static bool segments(struct sb_str path, size_t from, size_t to, struct sb_str *out)
{
    size_t at = path.len && path.p[0] == '/', start = 0;

    if (path.len > at && path.p[path.len - 1] == '/')
        path.len--;
    for (size_t n = 0; at < path.len; n++) {
        ptrdiff_t slash = sb_str_chr(path, '/', at);
        size_t end = slash < 0 ? path.len : (size_t)slash;

        if (n == from)
            start = at;
        if (n == to) {
            *out = sb_str_n(path.p + start, end - start);
            return true;
        }
        at = end + 1;
    }
    return false;
}

static int64_t count_segments(struct sb_str path)
{
    struct sb_str unused;
    int64_t n = 0;

    while (segments(path, (size_t)n, (size_t)n, &unused))
        n++;
    return n;
}

static struct sb_str protocol(const struct sb_lookup *l)
{
    switch (sb_lookup_protocol(l)) {
    case SB_PROTO_HTTPS:
        return SB_STR("https");
    case SB_PROTO_TCP:
        return SB_STR("tcp");
    case SB_PROTO_TLS:
        return SB_STR("tls");
    case SB_PROTO_UDP:
        return SB_STR("udp");
    default:
        return SB_STR("http");
    }
}

/* Fields of one string, "" being absent where that can't be a value. */
static void feed_single(struct test *t)
{
    const struct sb_router_request *q = t->l->q;
    struct sb_str value;

    switch (t->e->field) {
    case SB_FIELD_PROTOCOL:
        feed(t, protocol(t->l));
        break;
    case SB_FIELD_METHOD:
        feed(t, q->method);
        break;
    case SB_FIELD_PATH:
        feed(t, q->path);
        break;
    case SB_FIELD_HOST:
        if (q->host.len)
            feed(t, t->l->host);
        break;
    case SB_FIELD_SNI:
        if (q->sni.len)
            feed(t, q->sni);
        break;
    case SB_FIELD_SEGMENTS:
        if (segments(q->path, t->e->from, t->e->to, &value))
            feed(t, value);
        break;
    default:
        break;
    }
}

static bool strings_hold(struct test *t)
{
    if (t->e->field == SB_FIELD_HEADER)
        feed_headers(t);
    else if (t->e->field == SB_FIELD_QUERY)
        feed_arguments(t);
    else
        feed_single(t);
    /* Nothing decided: all held, or none did. */
    return t->decided ? t->result : t->values > 0 && !t->e->any;
}

static bool predicate_holds(const struct sb_expr *e, struct sb_lookup *l, struct sb_hit *hit)
{
    switch (e->field) {
    case SB_FIELD_SRC_PORT:
        return int_holds(e, l->q->source_port);
    case SB_FIELD_DST_PORT:
        return int_holds(e, l->port);
    case SB_FIELD_SEGMENTS_LEN:
        return int_holds(e, count_segments(l->q->path));
    case SB_FIELD_SRC_IP:
        sb_lookup_addrs(l);
        return addr_holds(e, &l->source);
    case SB_FIELD_DST_IP:
        sb_lookup_addrs(l);
        return addr_holds(e, &l->destination);
    default:
        return strings_hold(&(struct test){.e = e, .l = l, .hit = hit});
    }
}

bool sb_expr_eval(const struct sb_expr *e, struct sb_lookup *l, struct sb_hit *hit)
{
    bool until = e->kind == SB_EXPR_OR; /* the value that ends the walk */

    if (e->kind == SB_EXPR_PREDICATE)
        return predicate_holds(e, l, hit);
    if (e->kind == SB_EXPR_NOT)
        return !sb_expr_eval(e->items[0], l, hit);
    for (size_t i = 0; i < e->nitems; i++) {
        if (sb_expr_eval(e->items[i], l, hit) == until)
            return until;
    }
    return !until;
}
