/* What name servers send: good answers of each type, and every beginning of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <string.h>

#include "dataplane/upstream/dns_answer.h"

/* Header: id, flags, one question, n answers, none, m additional; the question a.test. */
#define HEAD(n, m)             "\x12\x34\x81\x80\0\1\0" n "\0\0\0" m
#define QUESTION(type)         "\1a\4test\0\0" type "\0\1"
#define SELF                   "\xc0\x0c"
#define RECORD(type, ttl, len) "\0" type "\0\1\0\0\0" ttl "\0" len

static const struct {
    const char *name;
    enum sb_dns_type type;
    const char *msg;
    size_t len;
    size_t n, nextra;
    uint32_t ttl;
    const char *alias, *first; /* of the first record: the address, or an SRV record's name */
} answers[] = {
#define MSG(text) text, sizeof(text) - 1
    {"two addresses, the lesser TTL", SB_DNS_A,
     MSG(HEAD("\2", "\0") QUESTION("\1") SELF RECORD("\1", "\x3c", "\4") "\x0a\0\0\1" SELF RECORD(
         "\1", "\x1e", "\4") "\x0a\0\0\2"),
     2, 0, 30, "", "10.0.0.1"},
    {"IPv6", SB_DNS_AAAA,
     MSG(HEAD("\1", "\0") QUESTION("\x1c")
             SELF RECORD("\x1c", "\x3c", "\x10") "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"),
     1, 0, 60, "", "::1"},
    {"an alias and its address", SB_DNS_A,
     MSG(HEAD("\2", "\0") QUESTION("\1") SELF RECORD(
         "\5", "\x05", "\4") "\1B" SELF "\1b" SELF RECORD("\1", "\x3c", "\4") "\x0a\0\0\1"),
     1, 0, 5, "b.a.test", "10.0.0.1"},
    {"an alias alone", SB_DNS_A,
     MSG(HEAD("\1", "\0") QUESTION("\1") SELF RECORD("\5", "\x05", "\4") "\1b" SELF), 0, 0, 5,
     "b.a.test", ""},
    {"SRV with the address beside it", SB_DNS_SRV,
     MSG(HEAD("\1", "\1") QUESTION("\x21")
             SELF RECORD("\x21", "\x3c", "\x0a") "\0\1\0\2\x1f\x90\1b" SELF "\1b" SELF RECORD(
                 "\1", "\x3c", "\4") "\x0a\0\0\1"),
     1, 1, 60, "", "b.a.test"},
    {"no records", SB_DNS_A, MSG(HEAD("\0", "\0") QUESTION("\1")), 0, 0, UINT32_MAX, "", ""},
    {"of another type", SB_DNS_A,
     MSG(HEAD("\1", "\0") QUESTION("\1") SELF RECORD("\x10", "\x3c", "\4") "\3abc"), 0, 0,
     UINT32_MAX, "", ""},
    {"an address of the wrong length", SB_DNS_A,
     MSG(HEAD("\1", "\0") QUESTION("\1") SELF RECORD("\1", "\x3c", "\3") "\x0a\0\0"), 0, 0,
     UINT32_MAX, "", ""},
};

static struct sb_dns_answer out;

static void test_good_answers(void **state)
{
    char text[INET6_ADDRSTRLEN] = "";

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const union sb_sockaddr *a = &out.records[0].addr;

        if (!sb_dns_parse((const unsigned char *)answers[i].msg, answers[i].len, answers[i].type,
                          &out))
            fail_msg("%s: refused", answers[i].name);
        if (out.n != answers[i].n || out.nextra != answers[i].nextra || out.ttl != answers[i].ttl ||
            strcmp(out.alias, answers[i].alias) != 0)
            fail_msg("%s: %zu records, %zu beside, ttl %u, alias %s", answers[i].name, out.n,
                     out.nextra, out.ttl, out.alias);
        if (!out.n)
            continue;
        if (answers[i].type == SB_DNS_SRV) {
            assert_string_equal(out.records[0].name, answers[i].first);
            assert_int_equal(out.records[0].priority, 1);
            assert_int_equal(out.records[0].weight, 2);
            assert_int_equal(out.records[0].port, 8080);
            continue;
        }
        inet_ntop(a->sa.sa_family,
                  a->sa.sa_family == AF_INET ? (const void *)&a->in.sin_addr : &a->in6.sin6_addr,
                  text, sizeof text);
        assert_string_equal(text, answers[i].first);
    }
}

/* Cut off anywhere before the end of the answer section, it is malformed or has less. */
static void test_beginnings(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        for (size_t len = 0; len < answers[i].len; len++) {
            bool good =
                sb_dns_parse((const unsigned char *)answers[i].msg, len, answers[i].type, &out);

            assert_true(!good || out.nextra < answers[i].nextra || answers[i].nextra == 0);
            assert_true(!good || out.n <= answers[i].n);
        }
}

static const struct {
    const char *name, *msg;
    size_t len;
} bad[] = {
    {"nothing", MSG("")},
    {"a name that points to itself", MSG(HEAD("\1", "\0") QUESTION("\1") "\xc0\x18")},
    {"two that point to each other",
     MSG(HEAD("\1", "\0") QUESTION("\1") "\xc0\x1a\xc0\x18" RECORD("\1", "\1", "\4") "\1\1\1\1")},
    {"a pointer behind the end", MSG(HEAD("\1", "\0") QUESTION("\1") "\xff\xff")},
    {"a label of a reserved kind", MSG(HEAD("\1", "\0") QUESTION("\1") "\x80\x0c")},
    {"a label with a dot",
     MSG(HEAD("\1", "\0") QUESTION("\1") "\3a.b\0" RECORD("\1", "\1", "\4") "\1\1\1\1")},
    {"more data than there is",
     MSG(HEAD("\1", "\0") QUESTION("\1") SELF RECORD("\1", "\1", "\5") "\1\1\1\1")},
};

static void test_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (sb_dns_parse((const unsigned char *)bad[i].msg, bad[i].len, SB_DNS_A, &out))
            fail_msg("%s: taken", bad[i].name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_answers),
        cmocka_unit_test(test_beginnings),
        cmocka_unit_test(test_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
