/* request_termination.c - answers in place of the service (reference/plugins-traffic.md). */
#include "dataplane/plugins/args.h"
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/plugin.h"
#include "shared/json.h"

struct config {
    int status;
    struct sb_str trigger; /* "": always */
    struct sb_str type, body;
    bool has_body; /* else the status brings its own */
};

/* Statuses with a message of the plugin's own. */
static struct sb_str default_message(int status)
{
    switch (status) {
    case 401:
        return SB_STR("Unauthorized");
    case 404:
        return SB_STR("Not found");
    case 405:
        return SB_STR("Method not allowed");
    case 500:
        return SB_STR("An unexpected error occurred");
    case 502:
        return SB_STR("Bad Gateway");
    case 503:
        return SB_STR("Service unavailable");
    default:
        return SB_STR("");
    }
}

static struct sb_str message_body(struct sb_arena *a, struct sb_str message)
{
    struct sb_value *body = sb_value_object(a);

    sb_object_set(a, body, SB_STR("message"), sb_value_str(a, message));
    return sb_json_text(a, body, 0);
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    struct sb_str message = sb_value_str_at(in->config, "message");

    (void)err;
    c->status = (int)sb_value_int_at(in->config, "status_code", 503);
    c->trigger = sb_arena_str(in->arena, sb_value_str_at(in->config, "trigger"));
    c->type = sb_arena_str(in->arena, sb_value_str_at(in->config, "content_type"));
    c->body = sb_arena_str(in->arena, sb_value_str_at(in->config, "body"));
    c->has_body = c->body.len > 0;
    if (!c->has_body && message.len == 0)
        message = default_message(c->status);
    if (!c->has_body && message.len) {
        c->has_body = true;
        c->body = message_body(in->arena, message);
        c->type = SB_STR("application/json; charset=utf-8");
    }
    *out = c;
    return SB_OK;
}

static bool triggered(struct sb_exchange *x, struct sb_str trigger)
{
    struct sb_str query = sb_exchange_query(x);
    struct sb_arg arg;

    if (trigger.len == 0 || sb_exchange_header(x, trigger).p)
        return true;
    return query.len && sb_arg_find(sb_exchange_arena(x), query, trigger, &arg);
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;

    if (!triggered(x, c->trigger))
        return SB_OK;
    if (c->has_body)
        sb_exchange_answer(x, c->status, c->type, c->body, NULL, 0);
    else
        sb_exchange_answer_status(x, c->status);
    return SB_OK;
}

const struct sb_plugin sb_plugin_request_termination = {
    .name = "request-termination",
    .priority = 2,
    .compile = compile,
    .access = access,
};
