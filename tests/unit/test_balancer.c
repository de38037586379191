/* The hash that consistent hashing is defined by, against Kong's vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dataplane/upstream/resolver.h"
#include "dataplane/upstream/xxhash32.h"

static const struct {
    const char *text;
    uint32_t hash;
} vectors[] = {
    {"", 46947589U},
    {"1", 3068971186U},
    {"hello", 4211111929U},
    {"10.0.0.1::80 1", 1053262915U},
    {"10.0.0.1::80 2", 126921282U},
    {"Nobody inspects the spammish repetition", 0xe2293b2fU}, /* more than a stripe */
};

static void test_xxhash32(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        assert_int_equal(sb_xxhash32(sb_str_c(vectors[i].text)), vectors[i].hash);
}

static const struct {
    const char *text;
    int family; /* 0: no address */
} addresses[] = {
    {"10.0.0.1", AF_INET},
    {"::1", AF_INET6},
    {"[::1]", AF_INET6},
    {"fe80::1", AF_INET6},
    {"", 0},
    {"a.test", 0},
    {"10.0.0", 0},
    {"10.0.0.256", 0},
    {"[10.0.0.1", 0},
    {"::g", 0},
    {"1", 0},
};

static void test_addresses(void **state)
{
    union sb_sockaddr a;

    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        assert_int_equal(sb_address_parse(sb_str_c(addresses[i].text), 80, &a),
                         addresses[i].family != 0);
        if (addresses[i].family)
            assert_int_equal(a.sa.sa_family, addresses[i].family);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xxhash32),
        cmocka_unit_test(test_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
