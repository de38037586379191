/* build_routes.c [N...] - what a snapshot of N routes costs to build, and what one changed route
 * among them costs: times beside each other, entities compiled, heap bytes.
 *
 * Prints; nothing here passes or fails. Hosts have ten path prefixes each, as in the rig.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "dataplane/config/build.h"
#include "shared/clock.h"
#include "shared/log.h"

enum { CHANGES = 1000 };

static const char service_id[] = "00000000-0000-4000-8000-000000000001";

static void set_text(struct sb_arena *a, struct sb_value *row, const char *name, struct sb_str text)
{
    sb_object_set(a, row, sb_str_c(name), sb_value_str(a, text));
}

static struct sb_value *only(struct sb_arena *a, struct sb_str item)
{
    struct sb_value *list = sb_value_array(a);

    sb_array_push(a, list, sb_value_str(a, item));
    return list;
}

static void put_service(struct sb_builder *b)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *row = sb_value_object(a);

    set_text(a, row, "id", sb_str_c(service_id));
    set_text(a, row, "name", SB_STR("s"));
    set_text(a, row, "protocol", SB_STR("http"));
    set_text(a, row, "host", SB_STR("127.0.0.1"));
    sb_object_set(a, row, SB_STR("port"), sb_value_int(a, 80));
    sb_model_put(sb_builder_model(b), SB_STR("services"), row, false);
    sb_arena_free(a);
}

/* edition: makes a change of it. */
static void put_route(struct sb_builder *b, unsigned i, unsigned edition)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *row = sb_value_object(a), *service = sb_value_object(a);

    set_text(a, row, "id", sb_arena_printf(a, "00000000-0000-4000-9000-%012x", i));
    set_text(a, row, "name", sb_arena_printf(a, "r%u", i));
    sb_object_set(a, row, SB_STR("hosts"), only(a, sb_arena_printf(a, "h%u.example.test", i / 10)));
    sb_object_set(a, row, SB_STR("paths"),
                  only(a, edition ? sb_arena_printf(a, "/api/v2/svc%u/%u", i % 10, edition)
                                  : sb_arena_printf(a, "/api/v1/svc%u", i % 10)));
    set_text(a, service, "id", sb_str_c(service_id));
    sb_object_set(a, row, SB_STR("service"), service);
    sb_model_put(sb_builder_model(b), SB_STR("routes"), row, false);
    sb_arena_free(a);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static size_t heap(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

static void measure(unsigned n)
{
    static double us[CHANGES];
    size_t before = heap(), most = 0;
    struct sb_builder *b = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);
    int64_t start = sb_clock_us(), built;
    const struct sb_snapshot *snap, *next;

    put_service(b);
    for (unsigned i = 0; i < n; i++)
        put_route(b, i, 0);
    snap = sb_builder_build(b, 1);
    built = sb_clock_us() - start;
    printf("%8u  %10.1f  %8.1f", n, (double)built / 1e3, (double)(heap() - before) / 1e6);
    for (unsigned c = 0; c < CHANGES; c++) {
        unsigned i = (c * 7919u) % n;

        start = sb_clock_us();
        put_route(b, i, c + 1);
        next = sb_builder_build(b, c + 2);
        sb_builder_retire(b, snap);
        us[c] = (double)(sb_clock_us() - start);
        snap = next;
        if (sb_builder_compiled(b) > most)
            most = sb_builder_compiled(b);
    }
    qsort(us, CHANGES, sizeof *us, by_value);
    printf("  %10.0f  %8.0f  %10zu\n", us[CHANGES / 2], us[CHANGES * 99 / 100], most);
    sb_builder_retire(b, snap);
    sb_builder_free(b);
}

int main(int argc, char **argv)
{
    sb_log_set_level(SB_LOG_ERROR);
    printf("  routes  all: ms     heap MB  one: us     p99 us    compiled\n");
    for (int i = 1; i < argc; i++)
        measure((unsigned)strtoul(argv[i], NULL, 10));
    for (unsigned n = 10; argc == 1 && n <= 100000; n *= n == 10 ? 100 : 10)
        measure(n);
    return 0;
}
