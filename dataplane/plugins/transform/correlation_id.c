/* correlation_id.c - a header that names the request, all the way (reference/plugins-transform.md).
 *
 * A name that the client gave stays. The default generator counts: one name for the worker, a
 * number for the request.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/plugin.h"
#include "shared/clock.h"
#include "shared/uuid.h"

struct counter {
    char worker[SB_UUID_TEXT_LEN + 1];
    uint64_t count;
};

static struct sb_str by_uuid(struct sb_exchange *x)
{
    struct sb_uuid id = sb_uuid_v4();
    char text[SB_UUID_TEXT_LEN + 1];

    sb_uuid_format(&id, text);
    return sb_arena_str(sb_exchange_arena(x), sb_str_c(text));
}

static struct sb_str by_counter(struct sb_exchange *x)
{
    struct counter *c = sb_exchange_worker_state(x, &sb_plugin_correlation_id);

    return sb_arena_printf(sb_exchange_arena(x), "%s#%" PRIu64, c->worker, ++c->count);
}

/* Address and port of ours, process, connection, request on it, time. */
static struct sb_str by_tracker(struct sb_exchange *x)
{
    struct sb_connection c = sb_exchange_connection(x);
    int64_t now_ms = sb_wall_ms();

    return sb_arena_printf(sb_exchange_arena(x),
                           "%s-%u-%d-%" PRIu64 "-%" PRIu64 "-%" PRId64 ".%03d", c.local_ip,
                           (unsigned)c.local_port, (int)getpid(), c.serial, c.requests,
                           now_ms / 1000, (int)(now_ms % 1000));
}

static const struct {
    const char *name;
    struct sb_str (*make)(struct sb_exchange *x);
} generators[] = {
    {"uuid#counter", by_counter},
    {"uuid", by_uuid},
    {"tracker", by_tracker},
};

struct config {
    struct sb_str header;
    struct sb_str (*make)(struct sb_exchange *x);
    bool echo;
};

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    struct sb_str generator = sb_value_str_at(in->config, "generator");

    (void)err;
    c->header = sb_arena_str(in->arena, sb_value_str_at(in->config, "header_name"));
    c->make = generators[0].make;
    for (size_t i = 0; i < sizeof generators / sizeof *generators; i++)
        if (sb_str_is(generator, generators[i].name))
            c->make = generators[i].make;
    c->echo = sb_value_bool_at(in->config, "echo_downstream", false);
    *out = c;
    return SB_OK;
}

static enum sb_rc run_access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct sb_str id = sb_exchange_upstream_header(x, c->header);

    if (id.len == 0) {
        id = c->make(x);
        sb_exchange_set_upstream_header(x, c->header, id);
    }
    if (c->echo)
        *(struct sb_str *)sb_exchange_state(x, config, sizeof id) = id;
    return SB_OK;
}

/* Also where access did not run. */
static enum sb_rc header_filter(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct sb_str id;

    if (!c->echo)
        return SB_OK;
    id = *(struct sb_str *)sb_exchange_state(x, config, sizeof id);
    if (id.len == 0)
        id = sb_exchange_upstream_header(x, c->header);
    if (id.len == 0)
        id = c->make(x);
    sb_exchange_set_response_header(x, c->header, id);
    return SB_OK;
}

static void *worker_new(struct event_base *loop, const struct sb_settings *settings)
{
    struct counter *c = sb_xcalloc(1, sizeof *c);
    struct sb_uuid id = sb_uuid_v4();

    (void)loop, (void)settings;
    sb_uuid_format(&id, c->worker);
    return c;
}

const struct sb_plugin sb_plugin_correlation_id = {
    .name = "correlation-id",
    .priority = 100001,
    .compile = compile,
    .access = run_access,
    .header_filter = header_filter,
    .worker_new = worker_new,
    .worker_free = free,
};
