/* request_size_limiting.c - refuses bodies that are too long (reference/plugins-traffic.md): by the
 * length that the request tells or, where it tells none, by what came. */
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/plugin.h"

static const struct {
    const char *name;
    int64_t bytes;
} units[] = {{"megabytes", 1 << 20}, {"kilobytes", 1 << 10}, {"bytes", 1}};

struct config {
    int64_t bytes;
    bool requires_length;
};

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    struct sb_str unit = sb_value_str_at(in->config, "size_unit");
    int64_t size = sb_value_int_at(in->config, "allowed_payload_size", 128), bytes = units[0].bytes;

    (void)err;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (sb_str_is(unit, units[i].name))
            bytes = units[i].bytes;
    c->bytes = size > INT64_MAX / bytes ? INT64_MAX : size * bytes;
    c->requires_length = sb_value_bool_at(in->config, "require_content_length", false);
    *out = c;
    return SB_OK;
}

static void check(struct sb_exchange *x, const struct config *c, uint64_t length)
{
    struct sb_str expect = sb_str_trim(sb_exchange_header(x, SB_STR("Expect")));
    int status = sb_str_ieq(expect, SB_STR("100-continue")) ? 417 : 413;

    if (length > (uint64_t)c->bytes)
        sb_exchange_answer_error(x, status, SB_STR("Request size limit exceeded"));
}

static enum sb_rc run_access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct sb_str body;
    int64_t length;
    enum sb_rc rc;

    if (sb_str_int(sb_exchange_header(x, SB_STR("Content-Length")), &length)) {
        check(x, c, (uint64_t)length);
        return SB_OK;
    }
    if (c->requires_length &&
        !sb_str_is(sb_exchange_header(x, SB_STR("Transfer-Encoding")), "chunked")) {
        sb_exchange_answer_error(x, 411, SB_STR("A valid Content-Length header is required"));
        return SB_OK;
    }
    rc = sb_exchange_body(x, 0, &body); /* all of it is to come, and not to be looked at */
    if (rc && rc != SB_TOOLARGE)
        return rc;
    check(x, c, sb_exchange_body_size(x));
    return SB_OK;
}

const struct sb_plugin sb_plugin_request_size_limiting = {
    .name = "request-size-limiting",
    .priority = 951,
    .compile = compile,
    .access = run_access,
};
