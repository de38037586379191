/* Lua in exchanges, end to end: templates. */
#include "tests/unit/exchange_util.h"

#include "dataplane/plugins/lua/template.h"
#include "shared/lua_code.h"

/* -- text -- */

static void test_parses(void **state)
{
    static const struct {
        const char *code, *name, *why;
    } rows[] = {
        {"return 1", NULL, NULL},
        {"", NULL, NULL},
        {"return (", NULL, "[string \"return (\"]:1: unexpected symbol near '<eof>'"},
        {"x = = 1", "here", "[string \"here\"]:1: unexpected symbol near '='"},
        {"\x1bLJ\x02", NULL, "attempt to load chunk with wrong mode"},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str why = {0};

        assert_int_equal(sb_lua_parses(a, sb_str_c(rows[i].code), rows[i].name, &why),
                         rows[i].why == NULL);
        if (rows[i].why)
            assert_string_equal(why.p, rows[i].why);
    }
    sb_arena_free(a);
}

static void test_template_syntax(void **state)
{
    static const struct {
        const char *text, *why; /* NULL: it compiles */
    } rows[] = {
        {"plain", NULL},
        {"$(headers.a)", NULL},
        {"$(f(g(1)))", NULL},
        {"$(", NULL},     /* text */
        {"$(a", NULL},    /* text */
        {"a $( b", NULL}, /* text */
        {"$()", "[string \"TMP\"]:4: unexpected symbol near ')'"},
        {"$(a b)", "[string \"TMP\"]:4: ')' expected near 'b'"},
    };
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_lua_template *t;
    struct sb_err err;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum sb_rc rc = sb_lua_template_compile(a, sb_str_c(rows[i].text), &t, &err);

        assert_int_equal(rc, rows[i].why ? SB_INVALID : SB_OK);
        if (rows[i].why)
            assert_string_equal(err.text, rows[i].why);
    }
    sb_arena_free(a);
}

/* -- in an exchange -- */

/* Renders what the client sent as X-T. */
static enum sb_rc render(struct sb_exchange *x, const void *config)
{
    const struct sb_lua_template *t;
    struct sb_str out;
    struct sb_err err;
    enum sb_rc rc;

    (void)config;
    rc = sb_lua_template_compile(sb_exchange_arena(x), sb_exchange_header(x, SB_STR("x-t")), &t,
                                 &err);
    if (!rc)
        rc = sb_lua_template_render(x, t, &out, &err);
    sb_exchange_answer(x, 200, SB_STR(""), rc ? sb_str_c(err.text) : out, NULL, 0);
    return SB_OK;
}

static const struct sb_hook rendering[] = {{.run = render}, {0}};

static void test_templates(void **state)
{
    static const struct {
        const char *text, *out;
    } rows[] = {
        {"plain", "plain"},
        {"<$(headers.host)>", "<h.test>"},
        {"$(headers['X_A'])-$(headers.x_a)", "1-1"},
        {"$(headers.nope)$(nil)$(false)", ""},
        {"$(headers.nope or 'none')", "none"},
        {"$(query_params.q)+$(query_params.r[2])+$(query_params.s)", "1+b+true"},
        {"$(uri_captures[1])", ""},
        {"$(('x'):upper()) $(1 + 2)", "X 3"},
        {"$(type(shared))", "table"},
        {"$(print)$(string)$(os)$(kong)", ""},
        {"\"quoted\\\" $('a') \\", "\"quoted\\\" a \\"},
        {"$(headers.a.b.c)", "[string \"TMP\"]:4: attempt to index field 'a' (a nil value)"},
        {"$(require('os'))", "[string \"TMP\"]:4: require 'os' not allowed within sandbox"},
        {"$(('x'):rep(3000000))", "a template gives more than 1048576 bytes"},
    };
    struct fixture *f = *state;
    struct sb_hooks hooks = {.phase[SB_PHASE_ACCESS] = rendering};
    char request[1024], want[512];

    publish(f, &hooks, NULL);
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            snprintf(request, sizeof request,
                     "GET /p?q=1&r=a&r=b&s HTTP/1.1\r\nHost: h.test\r\nX-A: 1\r\nX-T: %s\r\n"
                     "Connection: close\r\n\r\n",
                     rows[i].text);
            snprintf(want, sizeof want, "\r\n\r\n%s", rows[i].out);
            has(ask(f->port, request), want);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parses),
        cmocka_unit_test(test_template_syntax),
        cmocka_unit_test_setup_teardown(test_templates, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
