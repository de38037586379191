/* router_util.h - what the router's tests share: routes from JSON, requests, a router of them. */
#ifndef SB_TESTS_UNIT_ROUTER_UTIL_H
#define SB_TESTS_UNIT_ROUTER_UTIL_H

#include "dataplane/router/router.h"
#include "shared/json.h"

/* A route as the config thread would make it of its row. */
static inline struct sb_route *make_route(struct sb_arena *a, const struct sb_value *row)
{
    struct sb_route *route = SB_NEW(a, struct sb_route);
    struct sb_service *service = SB_NEW(a, struct sb_service);

    route->id = sb_value_str_at(row, "id");
    route->name = sb_value_str_at(row, "name");
    route->strip_path = sb_value_bool_at(row, "strip_path", true);
    route->path_handling_v1 = sb_str_is(sb_value_str_at(row, "path_handling"), "v1");
    route->service = service;
    service->name = sb_value_str_at(row, "origin");
    service->path = sb_value_str_at(row, "service_path");
    return route;
}

static inline struct sb_value *json_of(struct sb_arena *a, struct sb_str text)
{
    struct sb_value *v;
    struct sb_err err;

    if (sb_json_parse(a, text, &v, &err))
        fail_msg("%s: %.*s", err.text, SB_ARG(text));
    return v;
}

/* The same with ' for ", for tables. */
static inline struct sb_value *json_quoted(struct sb_arena *a, const char *text)
{
    char *copy = sb_arena_cstr(a, sb_str_c(text));

    for (char *p = copy; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    return json_of(a, sb_str_c(copy));
}

static inline void put_route(struct sb_router_builder *b, struct sb_arena *a,
                             const struct sb_value *row)
{
    struct sb_router_source source = {row, make_route(a, row)};
    struct sb_err err;

    if (sb_router_put(b, &source, &err))
        fail_msg("%s", err.text);
}

#endif
