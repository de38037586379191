/* Expressions: random ones against an evaluation of the tree they were printed from, and the
 * corners of the language that no recording reaches. ROUTER_CHECKS and ROUTER_SEED as in
 * test_router_property. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <regex.h>

#include "router_util.h"

enum { SLOTS = 16, CHECKS = 100000, REQUESTS = 20, NODES_MAX = 24, ITEMS_MAX = 3 };
#define COUNT(a) (sizeof(a) / sizeof *(a))

static uint64_t seed;

static size_t pick(size_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)(seed >> 11) % n;
}

/* -- what expressions and requests are drawn from --------------------------------------------- */

enum {
    PATH,
    HOST,
    METHOD,
    HEADER,
    QUERY,
    SNI,
    PROTOCOL,
    SEGMENT,
    RANGE,
    STRINGS,
    LEN = STRINGS,
    PORT,
    IP
};

static const char *const field_names[] = {"http.path",
                                          "http.host",
                                          "http.method",
                                          "http.headers.x_y",
                                          "http.queries.q",
                                          "tls.sni",
                                          "net.protocol",
                                          "http.path.segments.0",
                                          "http.path.segments.0_1",
                                          "http.path.segments.len",
                                          "net.dst.port",
                                          "net.src.ip"};

static const char *const texts[STRINGS][5] = {
    [PATH] = {"/", "/a", "/a/b", "/B", "b"},
    [HOST] = {"a.com", "x.a.com", ".com", "a.", "B"},
    [METHOD] = {"GET", "POST", "G", "T", "get"},
    [HEADER] = {"1", "2", "A", "a", ""},
    [QUERY] = {"1", "2", "a b", "", "A"},
    [SNI] = {"a.com", "b.com", ".com", "a", "x"},
    [PROTOCOL] = {"http", "https", "s", "tcp", ""},
    [SEGMENT] = {"a", "b", "", "B", "ab"},
    [RANGE] = {"a/b", "a", "/b", "B/a", ""},
};
static const char *const patterns[] = {"^/a", "b$", "^/(a|b)/", "[ab]", "^/a/b$", "^1", "com"};
static const char *const ranges[] = {"10.0.0.0/8", "10.1.0.0/16", "fd00::/8", "0.0.0.0/0"};
static const char *const addrs[] = {"10.1.2.3", "10.9.9.9", "fd00::1"};

static const char *const ask_paths[] = {"/",    "/a",   "/a/b", "/a/b/", "/ab",
                                        "/b/a", "/B/a", "/a/B", "/c"};
static const char *const ask_hosts[] = {"a.com", "x.a.com", "b.com", "a.com:80",
                                        "",      "A.COM",   "a.org"};
static const char *const ask_methods[] = {"GET", "POST", "PUT"};
static const char *const ask_values[] = {"1", "2", "A", "a", ""};
static const char *const ask_queries[] = {"",          "q=1",       "q=1&q=2",  "q",
                                          "q=a+b&p=1", "x=1&q=%41", "q=%61%20b"};
static const char *const ask_snis[] = {"", "a.com", "b.com"};

/* -- the obvious tree ------------------------------------------------------------------------- */

enum kind { AND, OR, NOT, PREDICATE };
enum op { EQ, NE, RE, PREFIX, SUFFIX, CONTAINS, GE, LT, IN, NOT_IN };

static const char *const op_texts[] = {"==",       "!=", "~", "^=", "=^",
                                       "contains", ">=", "<", "in", "not  in"};

struct node {
    enum kind kind;
    size_t items[ITEMS_MAX], nitems;
    int field;
    bool lower, any;
    enum op op;
    size_t value; /* of the field's constants, or of patterns */
};

struct tree {
    struct node n[NODES_MAX];
    size_t len;
};

static void draw_predicate(struct node *n)
{
    n->kind = PREDICATE;
    n->field = (int)pick(100) < 45 ? (int)pick(2) : (int)pick(COUNT(field_names));
    n->any = pick(3) == 0;
    if (n->field < STRINGS) {
        n->op = pick(CONTAINS + 1);
        n->lower = pick(4) == 0;
        n->value = pick(n->op == RE ? COUNT(patterns) : COUNT(texts[0]));
    } else if (n->field == IP) {
        n->op = pick(2) ? (enum op)(IN + pick(2)) : (enum op)pick(2);
        n->value = pick(n->op >= IN ? COUNT(ranges) : COUNT(addrs));
    } else {
        n->op = pick(2) ? (enum op)(GE + pick(2)) : (enum op)pick(2);
        n->value = n->field == PORT ? 78 + pick(5) : pick(4);
    }
}

/* Returns the new node's number. */
static size_t draw(struct tree *t, int depth)
{
    size_t at = t->len++;
    struct node *n = &t->n[at];

    *n = (struct node){0};
    n->kind = depth == 0 || t->len + ITEMS_MAX * 2 > NODES_MAX ? PREDICATE : (enum kind)pick(4);
    if (n->kind == PREDICATE) {
        draw_predicate(n);
        return at;
    }
    n->nitems = n->kind == NOT ? 1 : 1 + pick(ITEMS_MAX);
    for (size_t i = 0; i < n->nitems; i++)
        n->items[i] = draw(t, depth - 1);
    return at;
}

static void print_value(struct sb_buf *b, const struct node *n)
{
    if (n->op == RE)
        sb_buf_printf(b, "r#\"%s\"#", patterns[n->value]);
    else if (n->field < STRINGS)
        sb_buf_printf(b, "\"%s\"", texts[n->field][n->value]);
    else if (n->field == IP)
        sb_buf_cstr(b, n->op >= IN ? ranges[n->value] : addrs[n->value]);
    else
        sb_buf_printf(b, n->value % 2 ? "0x%zx" : "0%zo", n->value);
}

static void print(struct sb_buf *b, const struct tree *t, size_t at);

/* '||' binds tighter: an && inside needs its parentheses. */
static void print_item(struct sb_buf *b, const struct tree *t, enum kind outer, size_t at)
{
    bool open = t->n[at].kind == AND || (t->n[at].kind == OR && outer == OR);

    sb_buf_cstr(b, open ? "( " : "");
    print(b, t, at);
    sb_buf_cstr(b, open ? ")" : "");
}

static void print(struct sb_buf *b, const struct tree *t, size_t at)
{
    const struct node *n = &t->n[at];

    if (n->kind == PREDICATE) {
        sb_buf_printf(b, "%s%s%s%s%s %s ", n->any ? "any(" : "", n->lower ? "lower(" : "",
                      field_names[n->field], n->lower ? ")" : "", n->any ? ")" : "",
                      op_texts[n->op]);
        print_value(b, n);
        return;
    }
    if (n->kind == NOT) {
        sb_buf_cstr(b, "! (");
        print(b, t, n->items[0]);
        sb_buf_cstr(b, ")");
        return;
    }
    for (size_t i = 0; i < n->nitems; i++) {
        sb_buf_cstr(b, i == 0 ? "" : n->kind == AND ? "&&" : " ||");
        print_item(b, t, n->kind, n->items[i]);
    }
}

/* -- evaluating it ---------------------------------------------------------------------------- */

struct ask {
    struct sb_router_request q;
    struct sb_router_header headers[3];
    /* all values of the fields drawn from */
    char values[4][64];
    size_t nvalues;
    size_t stripped;
};

static regex_t compiled[COUNT(patterns)];

static void add_value(struct ask *ask, struct sb_str s)
{
    snprintf(ask->values[ask->nvalues++], sizeof ask->values[0], "%.*s", SB_ARG(s));
}

static void add_query(struct ask *ask)
{
    struct sb_str rest = ask->q.query, arg;

    while (rest.len && sb_str_split(&rest, '&', &arg)) {
        if (sb_str_is(arg, "q"))
            add_value(ask, SB_STR(""));
        else if (sb_str_is(arg, "q=a+b") || sb_str_is(arg, "q=%61%20b"))
            add_value(ask, SB_STR("a b"));
        else if (sb_str_is(arg, "q=%41"))
            add_value(ask, SB_STR("A"));
        else if (sb_str_starts(arg, SB_STR("q=")))
            add_value(ask, sb_str_from(arg, 2));
    }
}

static void add_segments(struct ask *ask, size_t want)
{
    char path[64], *save, *at[8];
    size_t n = 0;

    snprintf(path, sizeof path, "%.*s", SB_ARG(ask->q.path));
    for (char *p = strtok_r(path, "/", &save); p; p = strtok_r(NULL, "/", &save))
        at[n++] = p;
    if (n < want)
        return;
    snprintf(ask->values[ask->nvalues++], sizeof ask->values[0], "%s%s%s", at[0],
             want == 2 ? "/" : "", want == 2 ? at[1] : "");
}

static void collect(struct ask *ask, int field)
{
    ask->nvalues = 0;
    switch (field) {
    case PATH:
        add_value(ask, ask->q.path);
        break;
    case METHOD:
        add_value(ask, ask->q.method);
        break;
    case HOST:
        if (ask->q.host.len)
            add_value(ask, sb_str_first(ask->q.host, strcspn(ask->q.host.p, ":")));
        break;
    case SNI:
        if (ask->q.sni.len)
            add_value(ask, ask->q.sni);
        break;
    case PROTOCOL:
        add_value(ask, ask->q.scheme == SB_PROTO_HTTPS ? SB_STR("https") : SB_STR("http"));
        break;
    case QUERY:
        add_query(ask);
        break;
    case SEGMENT:
    case RANGE:
        add_segments(ask, field == SEGMENT ? 1 : 2);
        break;
    default:
        for (size_t i = 0; i < ask->q.nheaders; i++) {
            if (!sb_str_is(ask->headers[i].name, "z"))
                add_value(ask, ask->headers[i].value);
        }
    }
}

static bool string_fits(struct ask *ask, const struct node *n, const char *value)
{
    char text[64];
    const char *want = texts[n->field][n->value % COUNT(texts[0])];
    struct sb_str have, wanted = sb_str_c(want);
    regmatch_t m;
    bool fits = false;

    snprintf(text, sizeof text, "%s", value);
    for (char *p = text; n->lower && *p; p++)
        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p | 0x20) : *p;
    have = sb_str_c(text);
    switch (n->op) {
    case NE:
        return strcmp(text, want) != 0;
    case CONTAINS:
        return strstr(text, want) != NULL;
    case RE:
        fits = !regexec(&compiled[n->value], text, 1, &m, 0);
        if (fits && n->field == PATH)
            ask->stripped = (size_t)(m.rm_eo - m.rm_so);
        return fits;
    case EQ:
        fits = strcmp(text, want) == 0;
        break;
    case PREFIX:
        fits = sb_str_starts(have, wanted);
        break;
    default:
        fits = sb_str_ends(have, wanted);
    }
    if (fits && n->field == PATH)
        ask->stripped = wanted.len;
    return fits;
}

static bool number_fits(const struct node *n, size_t have)
{
    return n->op == EQ   ? have == n->value
           : n->op == NE ? have != n->value
           : n->op == GE ? have >= n->value
                         : have < n->value;
}

/* Of the three addresses there are. */
static bool addr_fits(const struct node *n, struct sb_str have)
{
    bool in;

    if (!have.len)
        return false;
    if (n->op < IN)
        return sb_str_is(have, addrs[n->value]) == (n->op == EQ);
    in = n->value == 2      ? have.p[0] == 'f'
         : have.p[0] == 'f' ? false
         : n->value == 1    ? sb_str_is(have, "10.1.2.3")
                            : true;
    return in == (n->op == IN);
}

static bool predicate_fits(struct ask *ask, const struct node *n)
{
    size_t fitting = 0;

    if (n->field == PORT)
        return number_fits(n, sb_str_ends(ask->q.host, SB_STR(":80")) ? 80 : 79);
    if (n->field == IP)
        return addr_fits(n, ask->q.source_ip);
    if (n->field == LEN) {
        size_t len = 0;

        for (size_t i = 0; i < ask->q.path.len; i++)
            len += ask->q.path.p[i] == '/' && i + 1 < ask->q.path.len;
        return number_fits(n, len);
    }
    collect(ask, n->field);
    for (size_t i = 0; i < ask->nvalues; i++) {
        bool fits = string_fits(ask, n, ask->values[i]);

        if (fits == n->any)
            return fits;
        fitting += fits;
    }
    return fitting > 0;
}

static bool tree_fits(struct ask *ask, const struct tree *t, size_t at)
{
    const struct node *n = &t->n[at];

    if (n->kind == PREDICATE)
        return predicate_fits(ask, n);
    if (n->kind == NOT)
        return !tree_fits(ask, t, n->items[0]);
    for (size_t i = 0; i < n->nitems; i++) {
        if (tree_fits(ask, t, n->items[i]) == (n->kind == OR))
            return n->kind == OR;
    }
    return n->kind == AND;
}

/* -- the comparison --------------------------------------------------------------------------- */

struct slot {
    bool used;
    char id[40];
    uint64_t priority;
    struct tree tree;
    struct sb_arena *arena;
    struct sb_route *route;
    struct sb_str text;
};

static void draw_request(struct ask *ask)
{
    static const char *const names[] = {"x-y", "X_Y", "z"};

    *ask = (struct ask){
        .q =
            {
                .method = sb_str_c(ask_methods[pick(COUNT(ask_methods))]),
                .scheme = pick(2) ? SB_PROTO_HTTPS : SB_PROTO_HTTP,
                .host = sb_str_c(ask_hosts[pick(COUNT(ask_hosts))]),
                .path = sb_str_c(ask_paths[pick(COUNT(ask_paths))]),
                .query = sb_str_c(ask_queries[pick(COUNT(ask_queries))]),
                .sni = sb_str_c(ask_snis[pick(COUNT(ask_snis))]),
                .source_ip = pick(4) ? sb_str_c(addrs[pick(COUNT(addrs))]) : SB_STR(""),
                .nheaders = pick(4),
                .destination_port = 79,
            },
    };
    for (size_t i = 0; i < ask->q.nheaders; i++)
        ask->headers[i] = (struct sb_router_header){sb_str_c(names[pick(COUNT(names))]),
                                                    sb_str_c(ask_values[pick(COUNT(ask_values))])};
    ask->q.headers = ask->headers;
}

static void put_slot(struct sb_router_builder *b, struct slot *s)
{
    struct sb_value *row;
    struct sb_buf text;
    struct sb_err err;

    if (s->used)
        sb_router_remove(b, sb_str_c(s->id));
    sb_arena_free(s->arena);
    *s = (struct slot){.used = true, .arena = sb_arena_new(0), .priority = pick(3)};
    snprintf(s->id, sizeof s->id, "%08zx-0000-4000-8000-%012zx", pick(1u << 31), pick(1u << 31));
    draw(&s->tree, 3);
    sb_buf_init(&text, 0);
    print(&text, &s->tree, 0);
    s->text = sb_arena_str(s->arena, sb_buf_get(&text));
    sb_buf_release(&text);
    row = sb_value_object(s->arena);
    sb_object_set(s->arena, row, SB_STR("id"), sb_value_text(s->arena, s->id));
    sb_object_set(s->arena, row, SB_STR("priority"), sb_value_int(s->arena, (int64_t)s->priority));
    sb_object_set(s->arena, row, SB_STR("expression"), sb_value_str(s->arena, s->text));
    s->route = make_route(s->arena, row);
    if (sb_router_put(b, &(struct sb_router_source){row, s->route}, &err))
        fail_msg("%s", err.text);
}

static bool outranks(const struct slot *a, const struct slot *b)
{
    return a->priority != b->priority ? a->priority > b->priority : strcmp(a->id, b->id) > 0;
}

static void compare(const struct sb_router *r, const struct slot slots[SLOTS], struct ask *ask)
{
    const struct slot *best = NULL;
    size_t stripped = 0;
    struct sb_router_match m;
    bool found = sb_router_match(r, &ask->q, &m);

    for (size_t i = 0; i < SLOTS; i++) {
        ask->stripped = 0;
        if (!slots[i].used || (best && outranks(best, &slots[i])) ||
            !tree_fits(ask, &slots[i].tree, 0))
            continue;
        best = &slots[i];
        stripped = ask->stripped;
    }
    if (found != (best != NULL) || (found && (m.route != best->route || m.prefix_len != stripped)))
        fail_msg("%.*s '%.*s' '%.*s'?'%.*s': router %s (%zu), obvious %.*s (%zu)",
                 SB_ARG(ask->q.method), SB_ARG(ask->q.host), SB_ARG(ask->q.path),
                 SB_ARG(ask->q.query), found ? m.route->id.p : "none", found ? m.prefix_len : 0,
                 best ? (int)best->text.len : 4, best ? best->text.p : "none", stripped);
}

static long from_env(const char *name, long def)
{
    const char *text = getenv(name);

    return text ? atol(text) : def;
}

static void random_expressions(void **state)
{
    struct sb_router_builder *b = sb_router_builder_new(SB_ROUTER_EXPRESSIONS);
    static struct slot slots[SLOTS];
    long checks = from_env("ROUTER_CHECKS", CHECKS), found = 0;

    (void)state;
    seed = (uint64_t)from_env("ROUTER_SEED", 1) * 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < COUNT(patterns); i++)
        assert_int_equal(regcomp(&compiled[i], patterns[i], REG_EXTENDED), 0);
    for (long n = 0; n < checks; n += REQUESTS) {
        const struct sb_router *r;

        for (size_t i = 1 + pick(3); i > 0; i--)
            put_slot(b, &slots[pick(SLOTS)]);
        r = sb_router_build(b);
        for (int i = 0; i < REQUESTS; i++) {
            struct sb_router_match m;
            struct ask ask;

            draw_request(&ask);
            ask.q.headers = ask.headers;
            compare(r, slots, &ask);
            found += sb_router_match(r, &ask.q, &m);
        }
        sb_router_drop(b, r);
    }
    assert_true(found > checks / 3 && found < checks);
    sb_router_builder_free(b);
    for (size_t i = 0; i < SLOTS; i++)
        sb_arena_free(slots[i].arena);
    for (size_t i = 0; i < COUNT(patterns); i++)
        regfree(&compiled[i]);
}

/* -- corners ---------------------------------------------------------------------------------- */

static void check_text(const char *text, const char *words)
{
    enum sb_router_flavor flavor = SB_ROUTER_EXPRESSIONS;
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *row = sb_value_object(a);
    struct sb_err err = {0};

    sb_object_set(a, row, SB_STR("expression"), sb_value_text(a, text));
    sb_router_route_compiles(&flavor, row, &err);
    if (!words ? err.text[0] != '\0' : strstr(err.text, words) == NULL)
        fail_msg("%s:\n%s", text, err.text);
    sb_arena_free(a);
}

/* The same for a route's attributes. */
static void check_attributes(const char *route, const char *words)
{
    enum sb_router_flavor flavor = SB_ROUTER_TRADITIONAL_COMPATIBLE;
    struct sb_arena *a = sb_arena_new(0);
    struct sb_err err = {0};

    sb_router_route_compiles(&flavor, json_quoted(a, route), &err);
    if (!words ? err.text[0] != '\0' : strstr(err.text, words) == NULL)
        fail_msg("%s:\n%s", route, err.text);
    sb_arena_free(a);
}

static void attributes_as_expressions(void **state)
{
    static const struct {
        const char *route, *words; /* NULL: right */
    } rows[] = {
        {"{'protocols':['tcp'],'sources':[{'ip':'10.1.2.3/8','port':1}]}", NULL},
        {"{'protocols':['tcp'],'destinations':[{'ip':'10.1.2.3/0'}]}", "host part of address"},
        {"{'protocols':['tcp'],'sources':[{'ip':'fd00::1/8'}]}", "host part of address"},
        {"{'protocols':['https'],'snis':['*.a.com','b.*','c.'],'paths':['~/(?!b)']}",
         "(tls.sni =^ r#\".a.com\"# || tls.sni ^= r#\"b.\"# || tls.sni == r#\"c\"#)"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        check_attributes(rows[i].route, rows[i].words);
}

static void corners(void **state)
{
    static const struct {
        const char *text, *words; /* NULL: right */
    } rows[] = {
        {"http.path==\"/x\"&&http.method!=\"GET\"", NULL},
        {" \t\n http.path ^= \"/x\" \r\n", NULL},
        {"net.src.ip not\n in 10.0.0.0/8", NULL},
        {"net.src.ip notin 10.0.0.0/8", NULL},
        {"net.src.ip in fd00::/8 || net.src.ip == ::1", NULL},
        {"net.dst.port == 017500 && net.dst.port == 0x1F40 && net.dst.port > -1", NULL},
        {"net.port == 80 || net.port>=81", NULL},
        {"any(lower(http.headers.a)) == \"x\"", NULL},
        {"lower(any(http.headers.a)) == \"x\"", NULL},
        {"lower( http.path ) == \"\\\"\\\\\\n\\r\\t\"", NULL},
        {"!(!(http.path == \"/\"))", NULL},
        {"! (http.path == \"/\")", NULL},
        {"http.path ~ r#\"^/a\"b\"#", NULL},
        {"http.path.segments.0_10 == \"\"", NULL},
        {"net.src.ip == 10.0.0.01", "= invalid IPv4 address syntax"},
        {"net.src.ip == 10.0.0.256", "= invalid IPv4 address syntax"},
        {"net.src.ip == 10.0.0.0/8", "Type mismatch between the LHS and RHS values of predicate"},
        {"net.port ^= 80", "Unknown LHS field"},
        {"http.path ~ 1", "= regex operator can only be used with String operands"},
        {"net.dst.port ~ \"1\"", "Regex operators only supports string operands"},
        {"net.dst.port contains 80", "Contains operator only supports string operands"},
        {"http.path == \"/a\"\n  && http.path = \"/b\"",
         " --> 2:16\n  |\n2 |   && http.path = \"/b\"\n  |                ^---\n"},
        {"http.path == r#\"a", "= expected rawstr_char"},
        {"lower(http.path == \"a\"", " --> 1:"},
        {"foo(bar(http.path)) == \"\"", "= unknown transformation function: bar"},
        {"http.path ~ \"a**b++\"", "possessive"},
        {"http.path.segments.1_1 == \"\"", "illformed http.path.segments.* field"},
        {"http.path.segments.x == \"\"", "illformed http.path.segments.* field"},
        {"()", "expected term"},
        {"http.path == \"/\" ||", "expected term"},
    };
    char deep[2048];

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        check_text(rows[i].text, rows[i].words);
    memset(deep, '(', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    check_text(deep, "parentheses nested deeper than 200");
    for (size_t i = 0; i + 6 < sizeof deep; i += 6)
        memcpy(deep + i, "lower(", 6);
    check_text(deep, "expected");
}

/* Constants place expressions: 10,000 of them cost no more than a few. */
static void lookups_stay_flat(void **state)
{
    struct sb_router_builder *b = sb_router_builder_new(SB_ROUTER_EXPRESSIONS);
    struct sb_arena *a = sb_arena_new(1 << 16);
    struct sb_router_request q = {
        .method = SB_STR("GET"), .host = SB_STR("h77.example.com"), .path = SB_STR("/p77/x")};
    const struct sb_router *r;
    struct sb_router_match m;

    (void)state;
    for (int n = 0; n < 10000; n++) {
        struct sb_value *row = sb_value_object(a);

        sb_object_set(a, row, SB_STR("id"),
                      sb_value_str(a, sb_arena_printf(a, "00000000-0000-4000-8000-%012d", n)));
        sb_object_set(
            a, row, SB_STR("expression"),
            sb_value_str(a, sb_arena_printf(a,
                                            "(http.host == \"h%d.example.com\" || http.host =^ "
                                            "\".d%d.com\") && http.path ^= \"/p%d/\" && "
                                            "!(http.method == \"PUT\")",
                                            n, n, n)));
        put_route(b, a, row);
    }
    r = sb_router_build(b);
    assert_true(sb_router_match(r, &q, &m));
    assert_int_equal(m.candidates, 1);
    assert_int_equal(m.prefix_len, 5);
    q.host = SB_STR("x.d78.com");
    assert_false(sb_router_match(r, &q, &m));
    assert_int_equal(m.candidates, 0);
    sb_router_drop(b, r);
    sb_router_builder_free(b);
    sb_arena_free(a);
}

static bool stream_match(const struct sb_router *r, const char *sni, uint16_t port,
                         unsigned *looked)
{
    struct sb_router_request q = {
        .scheme = SB_PROTO_TCP, .sni = sb_str_c(sni), .destination_port = port};
    struct sb_router_match m;
    bool found = sb_router_match(r, &q, &m);

    *looked = m.candidates;
    return found;
}

static void stream_expressions(void **state)
{
    struct sb_router_builder *b = sb_router_builder_new(SB_ROUTER_EXPRESSIONS);
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_router *r;
    struct sb_value *row;
    unsigned looked;

    (void)state;
    row = json_quoted(a, "{'id':'00000000-0000-4000-8000-000000000001','protocols':['tls']}");
    sb_object_set(a, row, SB_STR("expression"),
                  sb_value_text(a, "tls.sni == \"a.com\" && net.dst.port == 9000"));
    put_route(b, a, row);
    r = sb_router_build(b);
    assert_true(stream_match(r, "a.com", 9000, &looked));
    assert_false(stream_match(r, "a.com", 9001, &looked) || looked);
    assert_false(stream_match(r, "b.com", 9000, &looked) || looked);
    assert_false(stream_match(r, "", 9000, &looked) || looked);
    sb_router_drop(b, r);
    sb_router_builder_free(b);
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_expressions),
        cmocka_unit_test(attributes_as_expressions),
        cmocka_unit_test(corners),
        cmocka_unit_test(lookups_stay_flat),
        cmocka_unit_test(stream_expressions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
