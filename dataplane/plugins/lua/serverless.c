/* serverless.c - pre-function and post-function: chunks of Lua in the phases of a request
 * (reference/plugins-serverless.md). One is the first of all plugins, the other the last.
 *
 * The chunks of a phase run in order; one that answers ends them. What a chunk raises is logged
 * and, in front of the upstream, answered with Kong's 500; in header_filter the client's connection
 * is closed, in body_filter the response is cut off.
 */
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/lua/groups.h"
#include "dataplane/plugins/lua/run.h"
#include "dataplane/plugins/lua/sandbox.h"
#include "shared/lua_code.h"

/* Responses up to this come whole where a chunk filters bodies, so that they keep a length. */
enum { SHORT_RESPONSE = 64 << 10 };

enum { REWRITE, ACCESS, HEADER_FILTER, BODY_FILTER, LOG, PHASES };

static const struct {
    const char *name;
    unsigned phase;
} phases[PHASES] = {
    [REWRITE] = {"rewrite", SB_LUA_REWRITE},
    [ACCESS] = {"access", SB_LUA_ACCESS},
    [HEADER_FILTER] = {"header_filter", SB_LUA_HEADER_FILTER},
    [BODY_FILTER] = {"body_filter", SB_LUA_BODY_FILTER},
    [LOG] = {"log", SB_LUA_LOG},
};

struct config {
    const struct sb_plugin_instance *instance;
    struct {
        struct sb_lua_code **codes;
        size_t n;
    } chunks[PHASES];
};

/* Kong calls those of global instances only. */
static bool runs_in_handshakes(const struct sb_plugin_source *in)
{
    const struct sb_value *list = sb_get(in->config, "certificate");

    return sb_is(list, SB_V_ARRAY) && list->count && !in->instance->route_id.len &&
           !in->instance->service_id.len;
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);

    c->instance = in->instance;
    if (runs_in_handshakes(in))
        return sb_err_set(err, SB_INVALID,
                          "config.certificate: this release runs no functions in TLS handshakes");
    for (int p = 0; p < PHASES; p++) {
        const struct sb_value *list = sb_get(in->config, phases[p].name), *item;
        struct sb_str why;

        if (!sb_is(list, SB_V_ARRAY))
            continue;
        c->chunks[p].codes = SB_NEW_N(in->arena, struct sb_lua_code *, list->count);
        sb_array_each (item, list) {
            if (!sb_lua_parses(in->arena, item->s, NULL, &why))
                return sb_err_set(err, SB_INVALID, "config.%s: %.*s", phases[p].name, SB_ARG(why));
            c->chunks[p].codes[c->chunks[p].n++] = sb_lua_code_new(in->arena, item->s, NULL);
        }
    }
    *out = c;
    return SB_OK;
}

/* -- running -- */

/* Where a suspended phase stands. */
struct progress {
    unsigned phase; /* 0: nothing waits */
    size_t at;
    bool body_ended; /* what follows of the body is dropped */
};

/* The chunks of a phase from where they stopped. */
static enum sb_lua_end run_chunks(struct sb_exchange *x, const struct config *c, int phase,
                                  struct sb_chunk *chunk)
{
    struct progress *at = sb_exchange_state(x, c, sizeof *at);
    struct sb_lua_request *req = sb_lua_request_of(x);
    enum sb_lua_end end = SB_LUA_DONE;
    bool again = at->phase == phases[phase].phase;
    struct sb_lua_run *r;

    if (!req)
        return SB_LUA_BROKE;
    r = again ? &req->run : sb_lua_begin(req, c->instance, phases[phase].phase, chunk);
    if (!again)
        *at = (struct progress){.phase = phases[phase].phase};
    for (; end == SB_LUA_DONE && at->at < c->chunks[phase].n; again = false) {
        struct sb_lua_code *code = c->chunks[phase].codes[at->at];

        end = again ? sb_lua_continue(r, code) : sb_lua_run_code(r, code);
        at->at += end == SB_LUA_DONE;
    }
    if (end == SB_LUA_WAITS)
        return end;
    at->phase = 0;
    at->body_ended = req->body_ended;
    sb_lua_groups_take(r);
    sb_lua_end(r);
    return end;
}

static enum sb_rc before_upstream(struct sb_exchange *x, const struct config *c, int phase)
{
    switch (run_chunks(x, c, phase, NULL)) {
    case SB_LUA_WAITS:
        return SB_AGAIN;
    case SB_LUA_BROKE:
        sb_exchange_answer_error(x, 500, SB_STR(""));
        return SB_OK;
    default:
        return SB_OK;
    }
}

static enum sb_rc rewrite(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;

    return c->chunks[REWRITE].n ? before_upstream(x, c, REWRITE) : SB_OK;
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;

    if (c->chunks[BODY_FILTER].n)
        sb_exchange_buffer_response(x, SHORT_RESPONSE);
    return c->chunks[ACCESS].n ? before_upstream(x, c, ACCESS) : SB_OK;
}

static enum sb_rc header_filter(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;

    if (!c->chunks[BODY_FILTER].n)
        sb_exchange_leave_body(x, config);
    if (!c->chunks[HEADER_FILTER].n || run_chunks(x, c, HEADER_FILTER, NULL) != SB_LUA_BROKE)
        return SB_OK;
    sb_exchange_cut(x);
    return SB_INVALID;
}

static enum sb_rc body_filter(struct sb_exchange *x, const void *config, struct sb_chunk *chunk)
{
    const struct config *c = config;

    struct progress *at = sb_exchange_state(x, c, sizeof *at);

    if (!c->chunks[BODY_FILTER].n)
        return SB_OK;
    if (at->body_ended) {
        chunk->data = SB_STR("");
        return SB_OK;
    }
    return run_chunks(x, c, BODY_FILTER, chunk) == SB_LUA_BROKE ? SB_INVALID : SB_OK;
}

static enum sb_rc log_request(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;

    if (!c->chunks[LOG].n)
        return SB_OK;
    return run_chunks(x, c, LOG, NULL) == SB_LUA_BROKE ? SB_INVALID : SB_OK;
}

const struct sb_plugin sb_plugin_pre_function = {
    .name = "pre-function",
    .priority = 1000000,
    .compile = compile,
    .rewrite = rewrite,
    .access = access,
    .header_filter = header_filter,
    .body_filter = body_filter,
    .log = log_request,
};

const struct sb_plugin sb_plugin_post_function = {
    .name = "post-function",
    .priority = -1000,
    .compile = compile,
    .rewrite = rewrite,
    .access = access,
    .header_filter = header_filter,
    .body_filter = body_filter,
    .log = log_request,
};
