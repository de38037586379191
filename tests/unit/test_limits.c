/* How many cores a control group pays for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dataplane/listen/limits.h"

static void write_text(const char *dir, const char *name, const char *text)
{
    char path[256];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_quota(void **state)
{
    static const struct {
        const char *above, *here; /* cpu.max of the parent and of the group */
        const char *quota, *period;
        unsigned cores;
    } rows[] = {
        {"max 100000\n", "max 100000\n", NULL, NULL, 0},
        {"max 100000\n", "200000 100000\n", NULL, NULL, 2},
        {"max 100000\n", "150000 100000\n", NULL, NULL, 2},
        {"max 100000\n", "1000 100000\n", NULL, NULL, 1},
        {"100000 100000\n", "400000 100000\n", NULL, NULL, 1},
        {"400000 100000\n", "max 100000\n", NULL, NULL, 4},
        {NULL, NULL, "-1\n", "100000\n", 0},
        {NULL, NULL, "250000\n", "100000\n", 3},
        {NULL, NULL, "nonsense\n", "100000\n", 0},
        {NULL, NULL, NULL, NULL, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char root[] = "/tmp/sb-limits-XXXXXX", dir[64], command[128];

        assert_non_null(mkdtemp(root));
        snprintf(dir, sizeof dir, "%s/pod", root);
        mkdir(dir, 0755);
        if (rows[i].above)
            write_text(root, "cpu.max", rows[i].above);
        if (rows[i].here)
            write_text(dir, "cpu.max", rows[i].here);
        if (rows[i].quota)
            write_text(dir, "cpu.cfs_quota_us", rows[i].quota);
        if (rows[i].period)
            write_text(dir, "cpu.cfs_period_us", rows[i].period);
        assert_int_equal(sb_limits_quota(root, "/pod"), rows[i].cores);
        snprintf(command, sizeof command, "rm -r %s", root);
        assert_int_equal(system(command), 0);
    }
}

static void test_cores(void **state)
{
    (void)state;
    assert_in_range(sb_limits_cores(), 1, 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quota), cmocka_unit_test(test_cores)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
