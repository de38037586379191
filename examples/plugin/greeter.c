/* greeter.c - a plugin in a shared object, from end to end.
 *
 *   access         refuses requests without the header that `secret` names; lets others wait for
 *                  `delay` milliseconds, and asks them once more after that
 *   header_filter  says hello in a header of the response
 *   body_filter    puts a line behind the body
 *
 * Build it with `make`, copy greeter.so to where silverback_plugin_path looks, and start the
 * gateway with KONG_PLUGINS=bundled,greeter.
 */
#define _GNU_SOURCE /* memmem */
#include <silverback/plugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct sbp_gateway *gw;

#define STR(lit) ((struct sbp_str){lit, sizeof(lit) - 1})

/* Field by field as the gateway will check it; configure sees nothing that does not fit. */
static const char schema[] = "{\"fields\": ["
                             "{\"greeting\": {\"type\": \"string\", \"default\": \"hello\"}},"
                             "{\"secret\": {\"type\": \"string\"}},"
                             "{\"delay\": {\"type\": \"integer\", \"default\": 0, "
                             "\"between\": [0, 60000]}},"
                             "{\"footer\": {\"type\": \"string\"}}]}";

struct config {
    char *greeting, *secret, *footer; /* NULL: null */
    unsigned delay;
};

/* What an exchange remembers between the calls. */
struct memory {
    bool waited;
};

/* -- the config: JSON that the schema has seen, so that looking for the keys will do -- */

static const char *value_of(struct sbp_str json, const char *key)
{
    char quoted[64];
    const char *at;

    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    at = memmem(json.p, json.len, quoted, strlen(quoted));
    return at ? at + strlen(quoted) : "null";
}

/* A string without escapes; a plugin with richer config would use a JSON library. */
static char *string_of(struct sbp_str json, const char *key)
{
    const char *at = value_of(json, key), *end;

    if (*at != '"')
        return NULL;
    end = strchr(at + 1, '"');
    return end ? strndup(at + 1, (size_t)(end - at - 1)) : NULL;
}

static void release(void *p)
{
    struct config *c = p;

    free(c->greeting);
    free(c->secret);
    free(c->footer);
    free(c);
}

static void *configure(struct sbp_str json, char *error, size_t error_len)
{
    struct config *c = calloc(1, sizeof *c);

    if (!c) {
        snprintf(error, error_len, "no memory");
        return NULL;
    }
    c->greeting = string_of(json, "greeting");
    c->secret = string_of(json, "secret");
    c->footer = string_of(json, "footer");
    c->delay = (unsigned)strtoul(value_of(json, "delay"), NULL, 10);
    return c;
}

/* -- the phases -- */

static void on_time(struct sbp_exchange *x, void *arg)
{
    struct memory *m = arg;

    m->waited = true;
    gw->resume(x, true); /* access is called again; x may be over when this returns */
}

static enum sbp_result access_phase(struct sbp_exchange *x, const void *config)
{
    const struct config *c = config;
    struct memory *m = gw->state(x, c, sizeof *m);

    if (c->secret && !gw->header(x, (struct sbp_str){c->secret, strlen(c->secret)}).p) {
        gw->answer(x, 403, STR("text/plain"), STR("who are you?\n"));
        return SBP_OK;
    }
    if (c->delay && !m->waited) {
        gw->after(x, c->delay, on_time, m);
        return SBP_WAIT;
    }
    gw->set_upstream_header(x, STR("X-Greeter"), m->waited ? STR("waited") : STR("at once"));
    return SBP_OK;
}

static enum sbp_result header_filter(struct sbp_exchange *x, const void *config)
{
    const struct config *c = config;

    if (c->greeting)
        gw->set_response_header(x, STR("X-Greeting"),
                                (struct sbp_str){c->greeting, strlen(c->greeting)});
    return SBP_OK;
}

static enum sbp_result body_filter(struct sbp_exchange *x, const void *config,
                                   struct sbp_chunk *chunk)
{
    const struct config *c = config;
    size_t len = chunk->data.len, more = c->footer ? strlen(c->footer) : 0;
    char *p;

    if (!chunk->last || !more)
        return SBP_OK;
    p = gw->alloc(x, len + more);
    if (len)
        memcpy(p, chunk->data.p, len);
    memcpy(p + len, c->footer, more);
    chunk->data = (struct sbp_str){p, len + more};
    return SBP_OK;
}

const struct sbp_plugin *silverback_plugin(const struct sbp_gateway *gateway)
{
    static const struct sbp_plugin plugin = {
        .abi = SILVERBACK_PLUGIN_ABI,
        .size = sizeof plugin,
        .name = "greeter",
        .priority = 1050, /* behind most of authentication, before acl */
        .version = "1.0.0",
        .schema = schema,
        .configure = configure,
        .release = release,
        .access = access_phase,
        .header_filter = header_filter,
        .body_filter = body_filter,
    };

    gw = gateway;
    return &plugin;
}
