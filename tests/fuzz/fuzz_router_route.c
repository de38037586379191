/* Routes of strangers: expressions, regex paths and hosts, compiled, matched and taken out again.
 */
#include <stdint.h>
#include <stdlib.h>

#include "dataplane/router/router.h"
#include "shared/err.h"

static struct sb_value *list_of(struct sb_arena *a, struct sb_str s)
{
    struct sb_value *list = sb_value_array(a);

    sb_array_push(a, list, sb_value_str(a, s));
    return list;
}

static struct sb_value *row_of(struct sb_arena *a, struct sb_str text, uint8_t kind)
{
    struct sb_value *row = sb_value_object(a), *headers = sb_value_object(a);

    sb_object_set(a, row, SB_STR("id"), sb_value_text(a, "1"));
    switch (kind % 4) {
    case 0:
        sb_object_set(a, row, SB_STR("expression"), sb_value_str(a, text));
        break;
    case 1:
        sb_object_set(a, row, SB_STR("paths"),
                      list_of(a, sb_arena_printf(a, "~%.*s", SB_ARG(text))));
        break;
    case 2:
        sb_object_set(a, row, SB_STR("hosts"), list_of(a, text));
        sb_object_set(a, row, SB_STR("paths"), list_of(a, text));
        break;
    default:
        sb_object_set(a, headers, SB_STR("x"),
                      list_of(a, sb_arena_printf(a, "~*%.*s", SB_ARG(text))));
        sb_object_set(a, row, SB_STR("headers"), headers);
    }
    return row;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum sb_router_flavor flavor =
        size && data[0] & 8 ? SB_ROUTER_TRADITIONAL : SB_ROUTER_EXPRESSIONS;
    struct sb_router_builder *b = sb_router_builder_new(flavor);
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str text = sb_str_n((const char *)data + (size > 0), size - (size > 0));
    struct sb_value *row = row_of(a, text, size ? data[0] : 0);
    struct sb_route route = {.id = SB_STR("1")};
    struct sb_router_header header = {SB_STR("x"), SB_STR("aaaaaaaaaaaaaaaaaaaaaaab")};
    struct sb_router_request q = {.method = SB_STR("GET"),
                                  .host = SB_STR("a.com"),
                                  .path = SB_STR("/aaaaaaaaaaaaaaaaaaaaaaab"),
                                  .headers = &header,
                                  .nheaders = 1};
    struct sb_err err;

    if (size && sb_router_put(b, &(struct sb_router_source){row, &route}, &err) == SB_OK) {
        const struct sb_router *r = sb_router_build(b);
        struct sb_router_match m;

        sb_router_remove(b, SB_STR("1"));
        sb_router_match(r, &q, &m);
        sb_router_drop(b, r);
    }
    flavor = SB_ROUTER_EXPRESSIONS;
    sb_router_route_compiles(&flavor, row, &err);
    sb_arena_free(a);
    sb_router_builder_free(b);
    return 0;
}
