#include "dataplane/plugins/abi.h"

#include <dlfcn.h>
#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "dataplane/config/snapshot.h"
#include "dataplane/plugins/known.h"
#include "dataplane/plugins/registry.h"
#include "include/silverback/plugin.h"
#include "schema/plugin_json.h"
#include "schema/plugins.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/settings.h"

/* -- words: the two sides have the same bytes in structs of their own -- */

static struct sb_exchange *of(struct sbp_exchange *x)
{
    return (struct sb_exchange *)x;
}

static const struct sb_exchange *cof(const struct sbp_exchange *x)
{
    return (const struct sb_exchange *)x;
}

static struct sb_str in(struct sbp_str s)
{
    return sb_str_n(s.p, s.len);
}

static struct sbp_str out(struct sb_str s)
{
    return (struct sbp_str){s.p, s.len};
}

static enum sb_rc rc_of(enum sbp_result r)
{
    return r == SBP_OK ? SB_OK : r == SBP_WAIT ? SB_AGAIN : SB_IO;
}

/* -- what the gateway does for plugins -- */

static void g_log(enum sbp_log level, const char *text)
{
    static const enum sb_log_level levels[] = {SB_LOG_DEBUG, SB_LOG_INFO, SB_LOG_NOTICE,
                                               SB_LOG_WARN, SB_LOG_ERROR};

    sb_log(levels[level <= SBP_LOG_ERROR ? level : SBP_LOG_ERROR], "%s", text);
}

static void *g_alloc(struct sbp_exchange *x, size_t len)
{
    return sb_arena_alloc(sb_exchange_arena(of(x)), len);
}

static void *g_state(struct sbp_exchange *x, const void *key, size_t len)
{
    return sb_exchange_state(of(x), key, len);
}

static struct sbp_str g_method(const struct sbp_exchange *x)
{
    return out(sb_exchange_method(cof(x)));
}

static struct sbp_str g_path(const struct sbp_exchange *x)
{
    return out(sb_exchange_path(cof(x)));
}

static struct sbp_str g_query(const struct sbp_exchange *x)
{
    return out(sb_exchange_query(cof(x)));
}

static struct sbp_str g_header(const struct sbp_exchange *x, struct sbp_str name)
{
    return out(sb_exchange_header(cof(x), in(name)));
}

static struct sbp_str g_client_ip(const struct sbp_exchange *x)
{
    return out(sb_exchange_client_ip(cof(x)));
}

static struct sbp_str g_request_id(const struct sbp_exchange *x)
{
    return out(sb_exchange_request_id(cof(x)));
}

static struct sbp_str g_route_id(const struct sbp_exchange *x)
{
    const struct sb_route *route = sb_exchange_route(cof(x));

    return out(route ? route->id : (struct sb_str){0});
}

static struct sbp_str g_service_id(const struct sbp_exchange *x)
{
    const struct sb_service *service = sb_exchange_service(cof(x));

    return out(service ? service->id : (struct sb_str){0});
}

static struct sbp_str g_consumer_id(const struct sbp_exchange *x)
{
    const struct sb_consumer *consumer = sb_exchange_consumer(cof(x));

    return out(consumer ? consumer->id : (struct sb_str){0});
}

static struct sbp_str g_consumer_username(const struct sbp_exchange *x)
{
    const struct sb_consumer *consumer = sb_exchange_consumer(cof(x));

    return out(consumer ? consumer->username : (struct sb_str){0});
}

static enum sbp_result g_body(struct sbp_exchange *x, size_t max, struct sbp_str *result)
{
    struct sb_str body = {0};
    enum sb_rc rc = sb_exchange_body(of(x), max, &body);

    *result = out(body);
    switch (rc) {
    case SB_OK:
        return SBP_OK;
    case SB_AGAIN:
        return SBP_WAIT;
    case SB_TOOLARGE:
        return SBP_TOOLARGE;
    default:
        return SBP_ERROR;
    }
}

static void g_set_upstream_header(struct sbp_exchange *x, struct sbp_str name, struct sbp_str value)
{
    sb_exchange_set_upstream_header(of(x), in(name), in(value));
}

static void g_add_upstream_header(struct sbp_exchange *x, struct sbp_str name, struct sbp_str value)
{
    sb_exchange_add_upstream_header(of(x), in(name), in(value));
}

static void g_set_upstream_method(struct sbp_exchange *x, struct sbp_str method)
{
    sb_exchange_set_upstream_method(of(x), in(method));
}

static void g_set_upstream_path(struct sbp_exchange *x, struct sbp_str path)
{
    sb_exchange_set_upstream_path(of(x), in(path));
}

static void g_set_upstream_query(struct sbp_exchange *x, struct sbp_str query)
{
    sb_exchange_set_upstream_query(of(x), in(query));
}

static void g_set_upstream_body(struct sbp_exchange *x, struct sbp_str body)
{
    sb_exchange_set_upstream_body(of(x), in(body));
}

static void g_set_target(struct sbp_exchange *x, struct sbp_str host, uint16_t port)
{
    sb_exchange_set_target(of(x), in(host), port);
}

static void g_answer(struct sbp_exchange *x, int status, struct sbp_str type, struct sbp_str body)
{
    sb_exchange_answer(of(x), status, in(type), in(body), NULL, 0);
}

static void g_answer_error(struct sbp_exchange *x, int status, struct sbp_str message)
{
    sb_exchange_answer_error(of(x), status, in(message));
}

static int g_status(const struct sbp_exchange *x)
{
    return sb_exchange_status(cof(x));
}

static void g_set_status(struct sbp_exchange *x, int status)
{
    sb_exchange_set_status(of(x), status);
}

static struct sbp_str g_response_header(const struct sbp_exchange *x, struct sbp_str name)
{
    return out(sb_exchange_response_header(cof(x), in(name)));
}

static void g_set_response_header(struct sbp_exchange *x, struct sbp_str name, struct sbp_str value)
{
    sb_exchange_set_response_header(of(x), in(name), in(value));
}

static void g_add_response_header(struct sbp_exchange *x, struct sbp_str name, struct sbp_str value)
{
    sb_exchange_add_response_header(of(x), in(name), in(value));
}

/* -- waiting -- */

struct wait {
    struct sbp_exchange *x;
    struct event *event;
    void (*fn)(struct sbp_exchange *x, void *arg);
    void *arg;
};

static void on_event(evutil_socket_t fd, short what, void *p)
{
    struct wait *w = p;

    (void)fd;
    (void)what;
    w->fn(w->x, w->arg);
}

static void forget_event(void *p)
{
    event_free(p);
}

static void wait_for(struct sbp_exchange *x, int fd, short what, const struct timeval *time,
                     void (*fn)(struct sbp_exchange *x, void *arg), void *arg)
{
    struct wait *w = SB_NEW(sb_exchange_arena(of(x)), struct wait);

    *w = (struct wait){.x = x, .fn = fn, .arg = arg};
    w->event = event_new(sb_exchange_loop(of(x)), fd, what, on_event, w);
    sb_assert(w->event);
    sb_arena_defer(sb_exchange_arena(of(x)), forget_event, w->event);
    event_add(w->event, time);
}

static void g_after(struct sbp_exchange *x, uint32_t ms,
                    void (*fn)(struct sbp_exchange *x, void *arg), void *arg)
{
    const struct timeval time = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    wait_for(x, -1, 0, &time, fn, arg);
}

static void g_when_readable(struct sbp_exchange *x, int fd,
                            void (*fn)(struct sbp_exchange *x, void *arg), void *arg)
{
    wait_for(x, fd, EV_READ, NULL, fn, arg);
}

static void g_when_writable(struct sbp_exchange *x, int fd,
                            void (*fn)(struct sbp_exchange *x, void *arg), void *arg)
{
    wait_for(x, fd, EV_WRITE, NULL, fn, arg);
}

static void g_at_end(struct sbp_exchange *x, void (*fn)(void *arg), void *arg)
{
    sb_arena_defer(sb_exchange_arena(of(x)), fn, arg);
}

static void g_resume(struct sbp_exchange *x, bool again)
{
    if (again)
        sb_exchange_resume_again(of(x));
    else
        sb_exchange_resume(of(x));
}

static const struct sbp_gateway gateway = {
    .abi = SILVERBACK_PLUGIN_ABI,
    .size = sizeof(struct sbp_gateway),
    .log = g_log,
    .alloc = g_alloc,
    .state = g_state,
    .method = g_method,
    .path = g_path,
    .query = g_query,
    .header = g_header,
    .client_ip = g_client_ip,
    .request_id = g_request_id,
    .route_id = g_route_id,
    .service_id = g_service_id,
    .consumer_id = g_consumer_id,
    .consumer_username = g_consumer_username,
    .body = g_body,
    .set_upstream_header = g_set_upstream_header,
    .add_upstream_header = g_add_upstream_header,
    .set_upstream_method = g_set_upstream_method,
    .set_upstream_path = g_set_upstream_path,
    .set_upstream_query = g_set_upstream_query,
    .set_upstream_body = g_set_upstream_body,
    .set_target = g_set_target,
    .answer = g_answer,
    .answer_error = g_answer_error,
    .status = g_status,
    .set_status = g_set_status,
    .response_header = g_response_header,
    .set_response_header = g_set_response_header,
    .add_response_header = g_add_response_header,
    .after = g_after,
    .when_readable = g_when_readable,
    .when_writable = g_when_writable,
    .at_end = g_at_end,
    .resume = g_resume,
};

/* -- a loaded plugin as one of ours -- */

struct loaded {
    struct sb_plugin plugin; /* first: the plugin of an instance is its loaded */
    struct sbp_plugin abi;
};

struct config {
    const struct sbp_plugin *abi;
    void *own;
};

static enum sb_rc run_rewrite(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;

    return rc_of(c->abi->rewrite((struct sbp_exchange *)x, c->own));
}

static enum sb_rc run_access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;

    return rc_of(c->abi->access((struct sbp_exchange *)x, c->own));
}

static enum sb_rc run_header_filter(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;

    return rc_of(c->abi->header_filter((struct sbp_exchange *)x, c->own));
}

static enum sb_rc run_body_filter(struct sb_exchange *x, const void *config, struct sb_chunk *chunk)
{
    const struct config *c = config;
    struct sbp_chunk piece = {.data = out(chunk->data), .last = chunk->last};
    enum sb_rc rc = rc_of(c->abi->body_filter((struct sbp_exchange *)x, c->own, &piece));

    chunk->data = in(piece.data);
    return rc;
}

static enum sb_rc run_log(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;

    return rc_of(c->abi->log((struct sbp_exchange *)x, c->own));
}

static bool whole_response(const void *config)
{
    const struct config *c = config;

    return c->abi->whole_response;
}

static void release(void *p)
{
    const struct config *c = p;

    if (c->abi->release)
        c->abi->release(c->own);
}

static enum sb_rc compile(const struct sb_plugin_source *from, const void **result,
                          struct sb_err *err)
{
    const struct loaded *l = (const struct loaded *)from->instance->plugin;
    struct config *c = SB_NEW(from->arena, struct config);
    char why[512] = "";

    c->abi = &l->abi;
    *result = c;
    if (!l->abi.configure)
        return SB_OK;
    c->own = l->abi.configure(out(sb_json_text(from->arena, from->config, 0)), why, sizeof why);
    if (!c->own)
        return sb_err_set(err, SB_INVALID, "plugin %s: %.500s", l->abi.name,
                          why[0] ? why : "it refuses its config");
    sb_arena_defer(from->arena, release, c);
    return SB_OK;
}

/* -- loading -- */

static bool is_name(const char *name)
{
    if (!name || !*name)
        return false;
    for (const char *p = name; *p; p++)
        if (!(*p >= 'a' && *p <= 'z') && !(*p >= '0' && *p <= '9') && *p != '-' && *p != '_')
            return false;
    return true;
}

/* What it says of itself. */
static enum sb_rc check(const struct sbp_plugin *p, struct sb_str name, struct sb_err *err)
{
    if (!p)
        return sb_err_set(err, SB_INVALID, "it returned no plugin");
    if (p->abi != SILVERBACK_PLUGIN_ABI)
        return sb_err_set(err, SB_INVALID, "it is made for plugin ABI %u, this gateway has %u",
                          p->abi, (unsigned)SILVERBACK_PLUGIN_ABI);
    if (p->size < offsetof(struct sbp_plugin, rewrite))
        return sb_err_set(err, SB_INVALID, "its struct sbp_plugin has only %u bytes", p->size);
    if (!is_name(p->name) || !sb_str_is(name, p->name))
        return sb_err_set(err, SB_INVALID, "it calls itself '%s'", p->name ? p->name : "");
    return p->schema ? SB_OK : sb_err_set(err, SB_INVALID, "it has no schema");
}

/* For good: a plugin is never unloaded. */
static enum sb_rc take(struct sb_arena *a, const struct sbp_plugin *p, struct sb_err *err)
{
    struct loaded *l = SB_NEW(a, struct loaded);
    const struct sb_subschema *schema;
    enum sb_rc rc;

    memcpy(&l->abi, p, p->size < sizeof l->abi ? p->size : sizeof l->abi);
    l->plugin = (struct sb_plugin){
        .name = p->name,
        .priority = p->priority,
        .version = p->version,
        .compile = compile,
        .rewrite = l->abi.rewrite ? run_rewrite : NULL,
        .access = l->abi.access ? run_access : NULL,
        .header_filter = l->abi.header_filter ? run_header_filter : NULL,
        .body_filter = l->abi.body_filter ? run_body_filter : NULL,
        .log = l->abi.log ? run_log : NULL,
        .whole_response = whole_response,
    };
    rc = sb_plugin_schema_parse(a, p->name, sb_str_c(p->schema), &schema, err);
    if (rc) {
        sb_err_at(err, "its schema");
        return rc;
    }
    rc = sb_plugin_schema_add(schema, err);
    return rc ? rc : sb_plugins_add(&l->plugin, err);
}

static enum sb_rc load_file(struct sb_arena *a, struct sb_str name, const char *file,
                            struct sb_err *err)
{
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    union {
        void *p;
        sbp_entry *entry;
    } symbol = {.p = handle ? dlsym(handle, SILVERBACK_PLUGIN_SYMBOL) : NULL};
    const struct sbp_plugin *p;
    enum sb_rc rc;

    if (!symbol.p) {
        sb_err_set(err, SB_INVALID, "%s", dlerror());
        if (handle)
            dlclose(handle);
        return SB_INVALID;
    }
    p = symbol.entry(&gateway);
    rc = check(p, name, err);
    return rc ? rc : take(a, p, err);
}

/* The template with the name in place of each "?". */
static const char *file_of(struct sb_arena *a, struct sb_str template, struct sb_str name)
{
    struct sb_str path = SB_STR("");

    for (size_t i = 0; i < template.len; i++)
        path = template.p[i] == '?' ? sb_arena_printf(a, "%.*s%.*s", SB_ARG(path), SB_ARG(name))
                                    : sb_arena_printf(a, "%.*s%c", SB_ARG(path), template.p[i]);
    return sb_arena_cstr(a, path);
}

static enum sb_rc load(struct sb_arena *a, struct sb_str name, const char *templates,
                       struct sb_err *err)
{
    struct sb_str rest = sb_str_c(templates), template;

    while (sb_str_split(&rest, ';', &template)) {
        const char *file = file_of(a, sb_str_trim(template), name);
        enum sb_rc rc;

        if (access(file, F_OK))
            continue;
        rc = load_file(a, name, file, err);
        if (rc)
            sb_err_at(err, "plugin '%.*s' in %s", SB_ARG(name), file);
        else
            sb_notice("plugin '%.*s' was loaded from %s", SB_ARG(name), file);
        return rc;
    }
    return sb_err_set(err, SB_NOTFOUND,
                      "%.*s plugin is enabled but not installed; it is looked for in %s",
                      SB_ARG(name), templates ? templates : "no place");
}

enum sb_rc sb_plugins_load(const struct sb_settings *settings, struct sb_err *err)
{
    static struct sb_arena *for_good;
    const char *templates = sb_settings_str(settings, "silverback_plugin_path");
    size_t n;
    const struct sb_str *names = sb_settings_list(settings, "plugins", &n);
    enum sb_rc rc = SB_OK;

    if (!for_good)
        for_good = sb_arena_new(0);
    for (size_t i = 0; i < n && !rc; i++) {
        if (sb_str_is(names[i], "bundled") || sb_str_is(names[i], "off") ||
            sb_plugin_known(names[i]) || sb_plugin_find(names[i]))
            continue;
        rc = load(for_good, names[i], templates, err);
    }
    return rc;
}
