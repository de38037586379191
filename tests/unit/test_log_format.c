/* Log formats: what is taken, what is refused and with which words; escaping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "dataplane/http/log_format.h"
#include "dataplane/http/log_writer.h"

static void test_definitions(void **state)
{
    static const struct {
        const char *name, *text, *error; /* NULL: taken */
    } rows[] = {
        {"", NULL, NULL},
        {"combined", NULL, NULL},
        {"kong_log_format", "mine '$status'", NULL},
        {"mine", "mine '$status'", NULL},
        {"mine", "mine '$remote_addr ' \"${status}\"", NULL},
        {"mine", "other '$status'; log_format mine '$host';", NULL},
        {"mine", "mine escape=json '{\"a\":\"$http_x_a\"}'", NULL},
        {"mine", "mine bare$status", NULL},
        {"mine", NULL, "unknown log format \"mine\""},
        {"mine", "other '$status'", "unknown log format \"mine\""},
        {"mine", "mine '$statsu'", "log format \"mine\": unknown \"statsu\" variable"},
        {"mine", "mine '$http_'", "log format \"mine\": unknown \"http_\" variable"},
        {"mine", "mine '$'", "log format \"mine\": a '$' without the name of a variable"},
        {"mine", "mine '${status'", "log format \"mine\": a '$' without the name of a variable"},
        {"mine", "mine '$status", "log format \"mine\": a quote that does not end"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_arena *a = sb_arena_new(0);
        const struct sb_log_format *f;
        struct sb_err err = {.text = ""};
        enum sb_rc rc = sb_log_format_new(a, sb_str_c(rows[i].name), rows[i].text, &f, &err);

        assert_string_equal(err.text, rows[i].error ? rows[i].error : "");
        assert_int_equal(rc, rows[i].error ? SB_INVALID : SB_OK);
        sb_arena_free(a);
    }
}

static void test_wants(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_log_format *f;

    (void)state;
    assert_int_equal(sb_log_format_new(a, SB_STR(""), NULL, &f, NULL), SB_OK);
    assert_int_equal(sb_log_format_wants(f), 0);
    assert_int_equal(sb_log_format_new(a, SB_STR("m"), "m $sent_http_x$server_addr", &f, NULL),
                     SB_OK);
    assert_int_equal(sb_log_format_wants(f), SB_LOG_WANTS_RESPONSE | SB_LOG_WANTS_LOCAL_IP);
    sb_arena_free(a);
}

static void test_escaping(void **state)
{
    static const struct {
        enum sb_log_escape escape;
        const char *value, *written;
    } rows[] = {
        {SB_LOG_ESCAPE_DEFAULT, "", "-"},
        {SB_LOG_ESCAPE_DEFAULT, "plain", "plain"},
        {SB_LOG_ESCAPE_DEFAULT, "a\"b\\c\nd\xc3\xa9\x7f", "a\\x22b\\x5Cc\\x0Ad\\xC3\\xA9\\x7F"},
        {SB_LOG_ESCAPE_JSON, "", ""},
        {SB_LOG_ESCAPE_JSON, "a\"b\\c\nd\x01\xc3\xa9", "a\\\"b\\\\c\\nd\\u0001\xc3\xa9"},
        {SB_LOG_ESCAPE_NONE, "a\"b\n", "a\"b\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[128];
        struct sb_line l = {text, text + sizeof text - 1, rows[i].escape};

        sb_line_value(&l, sb_str_c(rows[i].value));
        *l.p = '\0';
        assert_string_equal(text, rows[i].written);
    }
}

static void test_what_does_not_fit_is_left_out(void **state)
{
    char text[8];
    struct sb_line l = {text, text + 4, SB_LOG_ESCAPE_DEFAULT};

    (void)state;
    sb_line_text(&l, "abc", 3);
    sb_line_value(&l, SB_STR("\"\"\"\""));
    sb_line_number(&l, 12345);
    assert_ptr_equal(l.p, text + 4);
    assert_memory_equal(text, "abc\\", 4);
}

static void test_seconds(void **state)
{
    static const struct {
        int64_t ms;
        const char *written;
    } rows[] = {{0, "0.000"}, {7, "0.007"}, {1234, "1.234"}, {-5, "0.000"}, {60000, "60.000"}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[32];
        struct sb_line l = {text, text + sizeof text - 1, SB_LOG_ESCAPE_DEFAULT};

        sb_line_seconds(&l, rows[i].ms);
        *l.p = '\0';
        assert_string_equal(text, rows[i].written);
    }
}

static void test_targets(void **state)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"/var/log/access.log", NULL},
        {"/dev/stdout", NULL},
        {"syslog:server=127.0.0.1", NULL},
        {"syslog:server=[::1]:5514,facility=local3,severity=notice,tag=gw,nohostname", NULL},
        {"syslog:server=unix:/dev/log", NULL},
        {"syslog:facility=local3", "no syslog server specified"},
        {"syslog:server=a,facility=loud", "unknown syslog parameter \"facility=loud\""},
        {"syslog:server=a,color=red", "unknown syslog parameter \"color=red\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_log_target *t;
        struct sb_err err = {.text = ""};

        assert_int_equal(sb_log_target_parse(a, sb_str_c(rows[i].text), &t, &err),
                         rows[i].error ? SB_INVALID : SB_OK);
        assert_string_equal(err.text, rows[i].error ? rows[i].error : "");
        sb_arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definitions), cmocka_unit_test(test_wants),
        cmocka_unit_test(test_escaping),    cmocka_unit_test(test_what_does_not_fit_is_left_out),
        cmocka_unit_test(test_seconds),     cmocka_unit_test(test_targets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
