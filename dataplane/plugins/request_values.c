#include "dataplane/plugins/request_values.h"

#include "dataplane/plugins/args.h"
#include "dataplane/plugins/details.h"

struct collecting {
    struct sb_arena *arena;
    struct sb_value *object;
};

static bool collect(void *arg, struct sb_str name, struct sb_str value)
{
    struct collecting *c = arg;
    struct sb_str lower = sb_arena_lower(c->arena, name);

    sb_args_add(c->arena, c->object, lower, sb_value_str(c->arena, value));
    return true;
}

struct sb_value *sb_request_headers(struct sb_exchange *x)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct collecting c = {a, sb_value_object(a)};

    sb_exchange_each_request_header(x, collect, &c);
    return c.object;
}
