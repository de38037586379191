/* Authorization headers, cookies and dates: what is found in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "dataplane/plugins/auth/auth_text.h"
#include "shared/digest.h"

static void check(struct sb_str got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.p, want, got.len);
}

static void basic(void **state)
{
    static const struct {
        const char *header, *user, *password; /* user NULL: none */
    } rows[] = {
        {"Basic YWxpY2U6c2VjcmV0", "alice", "secret"},
        {"basic YWxpY2U6c2VjcmV0", "alice", "secret"},
        {"BasicYWxpY2U6c2VjcmV0", "alice", "secret"},
        {"x Basic \t YWxpY2U6c2VjcmV0", "alice", "secret"}, /* anywhere */
        {"BASIC YWxpY2U6c2VjcmV0", NULL, NULL},
        {"asic YWxpY2U6c2VjcmV0", NULL, NULL},
        {"Basic Y29sb246YTpiOmM=", "colon", "a:b:c"},
        {"Basic YWxpY2U6", "alice", ""},
        {"Basic OnNlY3JldA==", NULL, NULL}, /* no user */
        {"Basic YWxpY2U=", NULL, NULL},     /* no colon */
        {"Basic !!!!", NULL, NULL},
        {"Basic", NULL, NULL},
        {"Basic   ", NULL, NULL},
        {"Bearer abc", NULL, NULL},
        {"", NULL, NULL},
    };
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str user, password;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool found = sb_auth_basic(a, sb_str_c(rows[i].header), &user, &password);

        assert_int_equal(found, rows[i].user != NULL);
        if (found) {
            check(user, rows[i].user);
            check(password, rows[i].password);
        }
    }
    sb_arena_free(a);
}

static void bearer(void **state)
{
    static const struct {
        const char *header, *token;
    } rows[] = {
        {"Bearer abc", "abc"},     {"bearer   a.b.c", "a.b.c"},
        {"Bearerabc", NULL},       {"BEARER abc", NULL},
        {"Bearer", NULL},          {"Bearer  ", NULL},
        {"Bearerx Bearer y", "y"}, {"my Bearer a b", "a b"},
    };
    struct sb_str token;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(sb_auth_bearer(sb_str_c(rows[i].header), &token), rows[i].token != NULL);
        if (rows[i].token)
            check(token, rows[i].token);
    }
}

static void schemes(void **state)
{
    static const struct {
        const char *header, *scheme, *user, *password;
    } rows[] = {
        {"ldap YWxpY2U6cHc=", "ldap", "alice", "pw"},
        {"  LDAP   YWxpY2U6cHc=", "ldap", "alice", "pw"},
        {"ldapYWxpY2U6cHc=", "ldap", NULL, NULL},
        {"Basic YTpi", "basic", "a", "b"},
        {"ldap YWxpY2U6", "ldap", NULL, NULL}, /* no password */
        {"ldap bm9jb2xvbg==", "ldap", NULL, NULL},
        {"ldap ", "ldap", NULL, NULL},
        {"x ldap YTpi", "ldap", NULL, NULL}, /* from the start only */
    };
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str user, password;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool found =
            sb_auth_scheme(a, sb_str_c(rows[i].header), sb_str_c(rows[i].scheme), &user, &password);

        assert_int_equal(found, rows[i].user != NULL);
        if (found) {
            check(user, rows[i].user);
            check(password, rows[i].password);
        }
    }
    sb_arena_free(a);
}

static void hmac_words(void **state)
{
    static const struct {
        const char *header, *username, *algorithm, *headers, *signature;
    } rows[] = {
        {"hmac username=\"u\", algorithm=\"a\", headers=\"date host\", signature=\"s==\"", "u", "a",
         "date host", "s=="},
        {"Hmac username=\"u\",algorithm=\"a\",headers=\"d\",signature=\"s\"", "u", "a", "d", "s"},
        {"hmacusername=\"u\",   algorithm=\"a\", headers=\"d\", signature=\"s\" tail", "u", "a",
         "d", "s"},
        /* greedy: the last of each counts */
        {"hmac username=\"u\", algorithm=\"x\", algorithm=\"a\", headers=\"d\", signature=\"s\"",
         "u\", algorithm=\"x", "a", "d", "s"},
        {"hmac username=\"\", algorithm=\"a\", headers=\"d\", signature=\"s\"", NULL},
        {"hmac username=\"u\", algorithm=\"a\", headers=\"d\", signature=\"\"", NULL},
        {"hmac username=\"u\", headers=\"d\", algorithm=\"a\", signature=\"s\"", NULL},
        {"hmac username=u, algorithm=a, headers=d, signature=s", NULL},
        {"HMAC username=\"u\", algorithm=\"a\", headers=\"d\", signature=\"s\"", NULL},
        {"Basic YTpi", NULL},
        {"\"", NULL},
        {"", NULL},
    };
    struct sb_hmac_words w;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(sb_auth_hmac(sb_str_c(rows[i].header), &w), rows[i].username != NULL);
        if (!rows[i].username)
            continue;
        check(w.username, rows[i].username);
        check(w.algorithm, rows[i].algorithm);
        check(w.headers, rows[i].headers);
        check(w.signature, rows[i].signature);
    }
}

static void cookies(void **state)
{
    static const struct {
        const char *header, *name, *value;
    } rows[] = {
        {"a=b; sess=x.y", "sess", "x.y"},
        {"a=b;sess = x", "sess", "x"},
        {"SESS=x", "sess", "x"},
        {"sess=", "sess", ""},
        {"asess=1", "sess", NULL},
        {"sess", "sess", NULL},
        {"session=1", "sess", NULL},
        {"", "sess", NULL},
        {"a=1, sess=x, y", "sess", "x, y"},
        {"sess=x; sess=y", "sess", "x"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str got = sb_auth_cookie(sb_str_c(rows[i].header), sb_str_c(rows[i].name));

        assert_int_equal(got.p != NULL, rows[i].value != NULL);
        if (rows[i].value)
            check(got, rows[i].value);
    }
}

static void dates(void **state)
{
    static const struct {
        const char *text;
        int64_t s; /* -1: none */
    } rows[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Thu, 22 Jun 2017 17:15:21 GMT", 1498151721},
        {"junk", -1},
        {"", -1},
        {"Sun, 06 Nov 1994 08:49:37", 784111777},
        {"xyz,  06 Nov 1994 08:49:37 +0200 tail", 784111777}, /* neither zone nor day matter */
        {"Sunday, 06-Nov-26 08:49:37 UTC", 1793954977},
        {"Thu Feb 29 00:00:00 2024", 1709164800},
        {"Thu Feb 29 00:00:00 2023", -1},
        {"Sun, 6 Nov 1994 08:49:37 GMT", -1},
        {"Sun, 31 Nov 1994 08:49:37 GMT", -1},
        {"Sun, 06 Nov 1994 24:49:37 GMT", -1},
        {"Sun, 06 nov 1994 08:49:37 GMT", -1},
        {"Sun, 06-Nov 1994 08:49:37 GMT", -1},
        {"1994-11-06T08:49:37Z", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t s = -1;

        assert_int_equal(sb_auth_http_date(sb_str_c(rows[i].text), &s), rows[i].s >= 0);
        assert_int_equal(s, rows[i].s);
    }
}

static void base64url(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str out;

    (void)state;
    check(sb_base64url_encode(a, SB_STR("\xfb\xff\xfe")), "-__-");
    check(sb_base64url_encode(a, SB_STR("a")), "YQ");
    assert_true(sb_base64url_decode(a, SB_STR("-__-"), &out));
    check(out, "\xfb\xff\xfe");
    assert_true(sb_base64url_decode(a, SB_STR("YQ=="), &out));
    check(out, "a");
    assert_false(sb_base64url_decode(a, SB_STR("+//+"), &out));
    assert_false(sb_base64url_decode(a, SB_STR("YQ\n"), &out));
    assert_false(sb_base64url_decode(a, SB_STR("Y"), &out));
    sb_arena_free(a);
}

/* How many instructions a comparison takes, counted one by one. 0: this machine does not let us. */
static long instructions(struct sb_str a, struct sb_str b)
{
    pid_t child = fork();
    int status = 0;
    long steps = 0;

    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        (void)!sb_secret_eq(a, b);
        raise(SIGUSR1);
        _exit(0);
    }
    waitpid(child, &status, 0);
    while (WIFSTOPPED(status) && WSTOPSIG(status) != SIGUSR1) {
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) || waitpid(child, &status, 0) != child)
            break;
        steps++;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return steps;
}

/* By count, not by clock: where two secrets differ makes no difference. */
static void secrets(void **state)
{
    enum { LEN = 64 };
    char key[LEN], other[LEN];
    struct sb_str a = sb_str_n(key, LEN), b = sb_str_n(other, LEN);
    long equal;

    (void)state;
    memset(key, 'k', LEN);
    memset(other, 'k', LEN);
    assert_true(sb_secret_eq(a, b));
    assert_true(sb_secret_eq(SB_STR(""), SB_STR("")));
    assert_false(sb_secret_eq(a, sb_str_first(b, LEN - 1)));
    equal = instructions(a, b);
    if (!equal)
        skip();
    assert_in_range(equal, LEN / 8, 100000);
    for (size_t i = 0; i < LEN; i++) {
        other[i] ^= 1;
        assert_false(sb_secret_eq(a, b));
        assert_int_equal(instructions(a, b), equal);
        other[i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secrets), cmocka_unit_test(basic),      cmocka_unit_test(bearer),
        cmocka_unit_test(schemes), cmocka_unit_test(hmac_words), cmocka_unit_test(cookies),
        cmocka_unit_test(dates),   cmocka_unit_test(base64url),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
