/* Settings: precedence, types, all problems at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/settings.h"

static struct sb_settings *s;
static struct sb_buf problems, warnings;

static enum sb_rc load(const char *conf_text, const char *const *env)
{
    char path[] = "/tmp/sb-settings-XXXXXX";
    int fd = mkstemp(path);
    struct sb_settings_source source = {.conf = path, .env = env};
    enum sb_rc rc;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, conf_text, strlen(conf_text)), (ssize_t)strlen(conf_text));
    close(fd);
    sb_settings_free(s);
    s = NULL;
    sb_buf_clear(&problems);
    sb_buf_clear(&warnings);
    rc = sb_settings_load(&source, &s, &problems, &warnings);
    sb_buf_char(&problems, '\0');
    sb_buf_char(&warnings, '\0');
    unlink(path);
    return rc;
}

static void environment_beats_file_beats_default(void **state)
{
    (void)state;
    assert_int_equal(load("pg_host = filehost  # the primary\npg-port=6000\n"
                          "headers = a,\\\n  b\n",
                          (const char *const[]){"KONG_PG_HOST=envhost", "PATH=/bin", NULL}),
                     SB_OK);
    assert_string_equal(sb_settings_str(s, "pg_host"), "envhost");
    assert_int_equal(sb_settings_int(s, "pg_port", 0), 6000);
    assert_string_equal(sb_settings_str(s, "pg_user"), "kong");
    assert_null(sb_settings_str(s, "pg_password"));
}

static void all_problems_at_once(void **state)
{
    (void)state;
    assert_int_equal(load("log_level = loud\npg_port = many\nlua_max_uri_args = 0\n",
                          (const char *const[]){"KONG_DATABASE=", "KONG_PG_HSOT=x", NULL}),
                     SB_INVALID);
    assert_non_null(strstr(problems.p, "log_level has an invalid value: 'loud' (debug, info,"));
    assert_non_null(strstr(problems.p, "pg_port is not a number: 'many'"));
    assert_non_null(strstr(problems.p, "lua_max_uri_args must be an integer between 1 and 1000"));
    assert_non_null(strstr(problems.p, "database has an invalid value: 'nil' (postgres, off"));
    assert_non_null(
        strstr(warnings.p, "'pg_hsot' (KONG_PG_HSOT) is ignored; did you mean 'pg_host'?"));
}

static void units_and_aliases(void **state)
{
    (void)state;
    assert_int_equal(load("nginx_worker_processes = 3\nnginx_http_client_max_body_size = 10m\n"
                          "nginx_http_send_timeout = 500ms\ntrusted_ips = 10.0.0.0/8, ::1\n"
                          "nginx_proxy_gzip = on\n",
                          NULL),
                     SB_OK);
    assert_int_equal(sb_settings_int(s, "nginx_main_worker_processes", 0), 3);
    assert_int_equal(sb_settings_size(s, "nginx_http_client_max_body_size", 0), 10 << 20);
    assert_int_equal(sb_settings_time_ms(s, "nginx_http_send_timeout", 0), 500);
    assert_int_equal(sb_settings_time_ms(s, "nginx_http_keepalive_timeout", 0), 75000);
    assert_string_equal(sb_settings_str(s, "nginx_proxy_gzip"), "on");
    size_t n;
    const struct sb_str *ips = sb_settings_list(s, "trusted_ips", &n);
    assert_int_equal(n, 2);
    assert_true(sb_str_is(ips[1], "::1"));
}

static void references_are_resolved(void **state)
{
    struct sb_buf dump;

    (void)state;
    assert_int_equal(load("pg_password = {vault://env/db-secret/pw}\n",
                          (const char *const[]){"DB_SECRET={\"pw\":\"s3\"}", NULL}),
                     SB_OK);
    assert_string_equal(sb_settings_str(s, "pg_password"), "s3");
    sb_buf_init(&dump, 0);
    sb_settings_dump(s, &dump);
    sb_buf_char(&dump, '\0');
    assert_string_equal(dump.p, "pg_password = {vault://env/db-secret/pw}\n");
    sb_buf_release(&dump);
    assert_int_equal(load("pg_password = {vault://env/nope}\n", NULL), SB_INVALID);
    assert_non_null(strstr(problems.p, "failed to dereference '{vault://env/nope}'"));
}

static int done(void **state)
{
    (void)state;
    sb_settings_free(s);
    sb_buf_release(&problems);
    sb_buf_release(&warnings);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(environment_beats_file_beats_default),
        cmocka_unit_test(all_problems_at_once),
        cmocka_unit_test(units_and_aliases),
        cmocka_unit_test(references_are_resolved),
    };

    sb_buf_init(&problems, 0);
    sb_buf_init(&warnings, 0);
    return cmocka_run_group_tests(tests, NULL, done);
}
