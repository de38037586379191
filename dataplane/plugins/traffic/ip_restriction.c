/* ip_restriction.c - who may come, by address (reference/plugins-traffic.md): who is denied may
 * not, and where some are allowed, nobody else. */
#include "dataplane/listen/options.h"
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/plugin.h"
#include "dataplane/upstream/address.h"
#include "shared/log.h"

struct set {
    struct sb_cidr *ranges;
    size_t n;
};

struct config {
    struct set deny, allow;
    int status;
    struct sb_str message; /* "": by the address */
};

static enum sb_rc set_of(struct sb_arena *a, const struct sb_value *list, struct set *out,
                         struct sb_err *err)
{
    const struct sb_value *item;

    if (!sb_is(list, SB_V_ARRAY) || list->count == 0)
        return SB_OK;
    out->ranges = SB_NEW_N(a, struct sb_cidr, list->count);
    sb_array_each (item, list)
        if (!sb_is(item, SB_V_STR) || !sb_cidr_parse(item->s, &out->ranges[out->n++]))
            return sb_err_set(err, SB_INVALID, "an address or a network can't be read");
    return SB_OK;
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    enum sb_rc rc = set_of(in->arena, sb_get(in->config, "deny"), &c->deny, err);

    if (!rc)
        rc = set_of(in->arena, sb_get(in->config, "allow"), &c->allow, err);
    c->status = (int)sb_value_int_at(in->config, "status", 403);
    c->message = sb_arena_str(in->arena, sb_value_str_at(in->config, "message"));
    *out = c;
    return rc;
}

static void refuse(struct sb_exchange *x, int status, struct sb_str message)
{
    sb_warn("ip-restriction: %.*s, request_id: %.*s", SB_ARG(message),
            SB_ARG(sb_exchange_request_id(x)));
    sb_exchange_answer_error(x, status, message);
}

static enum sb_rc run_access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct sb_str ip = sb_exchange_client_ip(x), message = c->message;
    union sb_sockaddr address;

    if (!sb_address_parse(ip, 0, &address)) {
        refuse(x, 403,
               SB_STR("Cannot identify the client IP address, unix domain sockets are not "
                      "supported."));
        return SB_OK;
    }
    if (!sb_cidr_has(c->deny.ranges, c->deny.n, &address.sa) &&
        (c->allow.n == 0 || sb_cidr_has(c->allow.ranges, c->allow.n, &address.sa)))
        return SB_OK;
    if (c->status < 400) /* an error it is not: Kong breaks on it */
        return SB_INVALID;
    if (message.len == 0)
        message = sb_arena_printf(sb_exchange_arena(x), "IP address not allowed: %.*s", SB_ARG(ip));
    refuse(x, c->status, message);
    return SB_OK;
}

const struct sb_plugin sb_plugin_ip_restriction = {
    .name = "ip-restriction",
    .priority = 990,
    .compile = compile,
    .access = run_access,
};
