#include "dataplane/plugins/transform/request_values.h"

#include "dataplane/plugins/args.h"
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/multipart.h"
#include "dataplane/router/router.h"
#include "shared/json.h"

enum { CAPTURES_MAX = 64 };

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

enum sb_rc sb_request_body(struct sb_exchange *x, size_t max, struct sb_str *out)
{
    return sb_exchange_replaced_body(x, out) ? SB_OK : sb_exchange_body(x, max, out);
}

static struct sb_value *form_value(struct sb_arena *a, struct sb_str type, struct sb_str body)
{
    struct sb_value *v;

    (void)type;
    return sb_args_object(a, body, &v) == SB_OK ? v : NULL;
}

static struct sb_value *json_value(struct sb_arena *a, struct sb_str type, struct sb_str body)
{
    struct sb_value *v;

    (void)type;
    if (sb_json_parse(a, body, &v, NULL))
        return NULL;
    return sb_is(v, SB_V_OBJECT) || sb_is(v, SB_V_ARRAY) ? v : NULL;
}

static struct sb_value *multipart_value(struct sb_arena *a, struct sb_str type, struct sb_str body)
{
    struct sb_value *v = sb_value_object(a);
    struct sb_form f;

    if (sb_form_parse(a, type, body, &f))
        return NULL;
    for (size_t i = 0; i < f.n; i++)
        if (f.parts[i].name.p)
            sb_args_add(a, v, f.parts[i].name, sb_value_str(a, f.parts[i].value));
    return v;
}

struct sb_value *sb_request_body_value(struct sb_exchange *x, struct sb_str body)
{
    static const struct {
        struct sb_str type;
        struct sb_value *(*read)(struct sb_arena *a, struct sb_str type, struct sb_str body);
    } rows[] = {
        {SB_STR_INIT("application/x-www-form-urlencoded"), form_value},
        {SB_STR_INIT("application/json"), json_value},
        {SB_STR_INIT("multipart/form-data"), multipart_value},
    };
    struct sb_str type = sb_exchange_upstream_header(x, SB_STR("Content-Type"));

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (sb_str_ieq(sb_str_first(type, rows[i].type.len), rows[i].type))
            return rows[i].read(sb_exchange_arena(x), type, body);
    return NULL;
}

struct sb_value *sb_request_captures(struct sb_exchange *x)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_value *named = sb_value_object(a), *unnamed = sb_value_array(a), *all, *value;
    struct sb_router_capture captures[CAPTURES_MAX];
    size_t n = sb_exchange_captures(x, captures, CAPTURES_MAX);

    for (size_t i = 1; i < n; i++) { /* 0 is the whole */
        value = captures[i].value.p ? sb_value_str(a, captures[i].value) : sb_value_null(a);
        sb_array_push(a, unnamed, value);
        if (captures[i].name.len && captures[i].value.p)
            sb_object_set(a, named, captures[i].name, value);
    }
    all = sb_value_object(a);
    sb_object_set(a, all, SB_STR("named"), named);
    sb_object_set(a, all, SB_STR("unnamed"), unnamed);
    return all;
}
