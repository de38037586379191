/* info.c - what a node says about itself, and a few things about it that can be changed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dataplane/admin/node.h"
#include "dataplane/admin/entities.h"
#include "dataplane/admin/info.h"
#include "dataplane/plugins/known.h"
#include "dataplane/plugins/plugin.h"
#include "dataplane/listen/workers.h"
#include "schema/changelog.h"
#include "shared/clock.h"
#include "shared/log.h"

/* The release whose behaviour and schema this is: what decK and the ingress controller look at. */
#define KONG_VERSION "3.9.1"

enum { LEVEL_TIMEOUT_S = 60, LEVEL_SECONDS_MAX = 1000000000 };

static void set(struct sb_call *c, struct sb_value *object, const char *key, struct sb_value *v)
{
    sb_object_set(c->arena, object, sb_str_c(key), v);
}

static void set_text(struct sb_call *c, struct sb_value *object, const char *key, const char *text)
{
    set(c, object, key, sb_value_text(c->arena, text));
}

static void set_int(struct sb_call *c, struct sb_value *object, const char *key, int64_t i)
{
    set(c, object, key, sb_value_int(c->arena, i));
}

static struct sb_value *member(struct sb_call *c, struct sb_value *object, const char *key)
{
    struct sb_value *v = sb_value_object(c->arena);

    set(c, object, key, v);
    return v;
}

struct sb_str sb_admin_id(struct sb_call *c)
{
    char text[SB_UUID_TEXT_LEN + 1];

    sb_uuid_format(sb_config_node_id(c->node->parts.config), text);
    return sb_arena_str(c->arena, sb_str_c(text));
}

/* -- GET / ------------------------------------------------------------------------------------- */

static bool has_flag(struct sb_str flags, const char *flag)
{
    struct sb_str word;

    while (sb_str_split(&flags, ' ', &word))
        if (sb_str_is(word, flag))
            return true;
    return false;
}

/* Flags with a value are members under what was written, or under their pattern when they were not.
 */
static void set_valued_flag(struct sb_call *c, struct sb_value *l, struct sb_str flags,
                            const char *prefix, const char *pattern)
{
    struct sb_str word;

    while (sb_str_split(&flags, ' ', &word)) {
        if (!sb_str_starts(word, sb_str_c(prefix)))
            continue;
        sb_object_set(c->arena, l, word, sb_value_bool(c->arena, true));
        return;
    }
    set(c, l, pattern, sb_value_bool(c->arena, false));
}

/* "0.0.0.0:8443 ssl http2" as an object. */
static struct sb_value *listener(struct sb_call *c, struct sb_str text, bool stream, bool http2)
{
    static const char *const plain[] = {"ssl",  "proxy_protocol", "deferred",
                                        "bind", "reuseport",      NULL};
    struct sb_value *l = sb_value_object(c->arena);
    ptrdiff_t space = sb_str_chr(text, ' ', 0), colon;
    struct sb_str where = space < 0 ? text : sb_str_first(text, (size_t)space);
    struct sb_str flags = space < 0 ? SB_STR("") : sb_str_trim(sb_str_from(text, (size_t)space));
    struct sb_str shown = where, rest = flags, word;
    int64_t port = 0;

    colon = sb_str_rchr(where, ':');
    while (sb_str_split(&rest, ' ', &word))
        if (word.len && !sb_str_is(word, "http2"))
            shown = sb_arena_printf(c->arena, "%.*s %.*s", SB_ARG(shown), SB_ARG(word));
    if (colon < 0 || !sb_str_int(sb_str_from(where, (size_t)colon + 1), &port))
        return NULL;
    set(c, l, "listener", sb_value_str(c->arena, shown));
    set(c, l, "ip", sb_value_str(c->arena, sb_str_first(where, (size_t)colon)));
    set_int(c, l, "port", port);
    for (const char *const *flag = plain; *flag; flag++)
        set(c, l, *flag, sb_value_bool(c->arena, has_flag(flags, *flag)));
    set(c, l, stream ? "udp" : "http2",
        sb_value_bool(c->arena, stream ? has_flag(flags, "udp") : http2));
    set_valued_flag(c, l, flags, "backlog=", "backlog=%d+");
    set(c, l, "ipv6only=on", sb_value_bool(c->arena, has_flag(flags, "ipv6only=on")));
    set(c, l, "ipv6only=off", sb_value_bool(c->arena, has_flag(flags, "ipv6only=off")));
    set(c, l, "so_keepalive=on", sb_value_bool(c->arena, has_flag(flags, "so_keepalive=on")));
    set(c, l, "so_keepalive=off", sb_value_bool(c->arena, has_flag(flags, "so_keepalive=off")));
    return l;
}

/* <name>_listeners, and whether one of them speaks TLS as <name>_ssl_enabled. */
static void add_listeners(struct sb_call *c, struct sb_value *configuration, const char *name,
                          const char *setting)
{
    struct sb_value *list = sb_value_array(c->arena), *l;
    const struct sb_str *items;
    bool http2 = false, ssl = false;
    size_t n;

    items = sb_settings_list(c->node->parts.settings, setting, &n);
    for (size_t i = 0; i < n; i++)
        http2 |= has_flag(items[i], "http2");
    for (size_t i = 0; i < n && !sb_str_is(items[0], "off"); i++) {
        l = listener(c, items[i], strcmp(setting, "stream_listen") == 0, http2);
        if (l)
            sb_array_push(c->arena, list, l);
        ssl |= has_flag(items[i], "ssl");
    }
    set(c, configuration, sb_arena_printf(c->arena, "%s_listeners", name).p, list);
    if (strcmp(name, "stream") == 0)
        name = "stream_proxy";
    set(c, configuration, sb_arena_printf(c->arena, "%s_ssl_enabled", name).p,
        sb_value_bool(c->arena, ssl));
}

static struct sb_value *configuration(struct sb_call *c)
{
    struct sb_value *all = sb_settings_json(c->node->parts.settings, c->arena), *loaded;

    loaded = member(c, all, "loaded_plugins");
    for (const struct sb_known_plugin *p = sb_known_plugins; p->name; p++)
        if (sb_admin_plugin_enabled(c->node, sb_str_c(p->name)))
            set(c, loaded, p->name, sb_value_bool(c->arena, true));
    for (const struct sb_plugin *const *p = sb_plugins_all(); *p; p++)
        if (!sb_plugin_known(sb_str_c((*p)->name)))
            set(c, loaded, (*p)->name, sb_value_bool(c->arena, true));
    set(c, member(c, all, "loaded_vaults"), "env", sb_value_bool(c->arena, true));
    add_listeners(c, all, "proxy", "proxy_listen");
    add_listeners(c, all, "stream", "stream_listen");
    add_listeners(c, all, "admin", "admin_listen");
    add_listeners(c, all, "status", "status_listen");
    add_listeners(c, all, "admin_gui", "admin_gui_listen");
    set_text(c, all, "log_level", sb_log_level_name(sb_log_get_level()));
    return all;
}

static bool listed(const struct sb_value *list, const struct sb_value *v)
{
    const struct sb_value *item;

    sb_array_each (item, list)
        if (sb_value_equal(item, v))
            return true;
    return false;
}

/* Names of the plugins that have rows; what the database holds, or nothing while it is away. */
static struct sb_value *plugins_in_cluster(struct sb_call *c)
{
    struct sb_value *names = sb_value_array(c->arena), *rows = NULL, *row;
    struct sb_store *store = sb_admin_store(c);
    struct sb_err err;

    if (store &&
        sb_store_rows(store, c->arena, sb_entity_find(SB_STR("plugins")), NULL, 0, &rows, &err))
        sb_warn("admin: %s", err.text);
    sb_array_each (row, rows)
        if (!listed(names, sb_get(row, "name")))
            sb_array_push(c->arena, names, sb_get(row, "name"));
    return names;
}

static struct sb_value *plugins_on_server(struct sb_call *c)
{
    struct sb_value *all = sb_value_object(c->arena), *one;

    for (const struct sb_known_plugin *p = sb_known_plugins; p->name; p++) {
        if (!sb_admin_plugin_enabled(c->node, sb_str_c(p->name)))
            continue;
        one = member(c, all, p->name);
        set_text(c, one, "version", KONG_VERSION);
        set_int(c, one, "priority", p->priority);
    }
    for (const struct sb_plugin *const *p = sb_plugins_all(); *p; p++) {
        if (sb_plugin_known(sb_str_c((*p)->name)))
            continue;
        one = member(c, all, (*p)->name);
        set_text(c, one, "version", (*p)->version ? (*p)->version : KONG_VERSION);
        set_int(c, one, "priority", (*p)->priority);
    }
    return all;
}

static void get_root(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_value *body = sb_value_object(c->arena), *plugins, *pids, *timers;
    char host[256] = "";

    (void)e;
    gethostname(host, sizeof host - 1);
    set_text(c, body, "tagline", "Welcome to kong");
    set_text(c, body, "version", KONG_VERSION);
    set_text(c, body, "edition", "community");
    set_text(c, body, "hostname", sb_arena_cstr(c->arena, sb_str_c(host)));
    set(c, body, "node_id", sb_value_str(c->arena, sb_admin_id(c)));
    set_text(c, body, "lua_version", "none");
    timers = member(c, body, "timers");
    set_int(c, timers, "running", 0);
    set_int(c, timers, "pending", 0);
    pids = member(c, body, "pids");
    set_int(c, pids, "master", getppid());
    set(c, pids, "workers", sb_value_array(c->arena));
    sb_array_push(c->arena, sb_get(pids, "workers"), sb_value_int(c->arena, getpid()));
    plugins = member(c, body, "plugins");
    set(c, plugins, "available_on_server", plugins_on_server(c));
    set(c, plugins, "enabled_in_cluster", plugins_in_cluster(c));
    set(c, body, "configuration", configuration(c));
    sb_answer(c, 200, body);
}

/* Kong's timers run Lua; nothing of ours does, and who watches them finds none. */
static void get_timers(struct sb_call *c, const struct sb_endpoint *e)
{
    static const char *const graphs[] = {"running", "pending", "elapsed_time"};
    static const char *const counts[] = {"total", "runs", "running", "pending", "waiting"};
    struct sb_value *body = sb_value_object(c->arena), *worker, *stats, *graph, *sys;

    (void)e;
    worker = member(c, body, "worker");
    set_int(c, worker, "id", 0);
    set_int(c, worker, "count", 1);
    stats = member(c, body, "stats");
    graph = member(c, stats, "flamegraph");
    for (size_t i = 0; i < sizeof graphs / sizeof *graphs; i++)
        set_text(c, graph, graphs[i], "");
    sys = member(c, stats, "sys");
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        set_int(c, sys, counts[i], 0);
    member(c, stats, "timers");
    sb_answer(c, 200, body);
}

static void get_enabled_plugins(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_value *body = sb_value_object(c->arena), *list = sb_value_array(c->arena);

    (void)e;
    for (const struct sb_known_plugin *p = sb_known_plugins; p->name; p++)
        if (sb_admin_plugin_enabled(c->node, sb_str_c(p->name)))
            sb_array_push(c->arena, list, sb_value_text(c->arena, p->name));
    for (const struct sb_plugin *const *p = sb_plugins_all(); *p; p++)
        if (!sb_plugin_known(sb_str_c((*p)->name)))
            sb_array_push(c->arena, list, sb_value_text(c->arena, (*p)->name));
    set(c, body, "enabled_plugins", list);
    sb_answer(c, 200, body);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void get_endpoints(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_value *body = sb_value_object(c->arena), *list = sb_value_array(c->arena);
    const char **patterns;
    size_t n = 0;

    (void)e;
    while (c->node->endpoints[n].pattern)
        n++;
    patterns = SB_NEW_N(c->arena, const char *, n);
    for (size_t i = 0; i < n; i++)
        patterns[i] = c->node->endpoints[i].pattern;
    qsort(patterns, n, sizeof *patterns, by_text);
    for (size_t i = 0; i < n; i++)
        sb_array_push(c->arena, list, sb_value_text(c->arena, patterns[i]));
    set(c, body, "data", list);
    sb_answer(c, 200, body);
}

/* -- GET /status ------------------------------------------------------------------------------- */

struct unit {
    const char *name; /* NULL: bytes, as numbers */
    double bytes;
    int scale;
};

static bool read_unit(struct sb_call *c, struct unit *u)
{
    static const struct {
        const char *letters, *name;
        double bytes;
    } units[] = {
        {"bB", NULL, 1},
        {"kK", "KiB", 1024.0},
        {"mM", "MiB", 1048576.0},
        {"gG", "GiB", 1073741824.0},
    };
    const struct sb_arg *unit = sb_call_arg(c, "unit"), *scale = sb_call_arg(c, "scale");
    struct sb_str letter = unit ? unit->value : SB_STR("m");
    double n = 2;
    size_t i = 0;

    while (i < 4 && !(letter.len == 1 && strchr(units[i].letters, letter.p[0])))
        i++;
    if (i == 4) {
        sb_answer_message(c, 400, "invalid unit '%.*s' (expected 'k/K', 'm/M', or 'g/G')",
                          SB_ARG(letter));
        return false;
    }
    if (scale && (!sb_str_num(scale->value, &n) || !(n >= 0 && n <= 20))) {
        sb_answer_message(c, 400, "scale must be equal or greater than 0");
        return false;
    }
    *u = (struct unit){units[i].name, units[i].bytes, (int)n};
    return true;
}

static struct sb_value *amount(struct sb_call *c, const struct unit *u, double bytes)
{
    if (!u->name)
        return sb_value_num(c->arena, bytes);
    return sb_value_str(c->arena,
                        sb_arena_printf(c->arena, "%.*f %s", u->scale, bytes / u->bytes, u->name));
}

/* What the process takes of the machine's memory. */
double sb_admin_resident_bytes(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f && fscanf(f, "%*s %ld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void add_memory(struct sb_call *c, struct sb_value *body, const struct unit *u)
{
    struct sb_value *memory = member(c, body, "memory"), *list = sb_value_array(c->arena), *one;

    member(c, memory, "lua_shared_dicts");
    one = sb_value_object(c->arena);
    set_int(c, one, "pid", getpid());
    set(c, one, "http_allocated_gc", amount(c, u, sb_admin_resident_bytes()));
    sb_array_push(c->arena, list, one);
    set(c, memory, "workers_lua_vms", list);
}

void sb_admin_get_status(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_value *body = sb_value_object(c->arena), *server;
    struct sb_config_state state;
    struct sb_proxy_stats stats;
    struct unit u;

    (void)e;
    if (!read_unit(c, &u))
        return;
    sb_workers_stats(c->node->parts.workers, &stats);
    sb_config_version(c->node->parts.config, &state);
    add_memory(c, body, &u);
    server = member(c, body, "server");
    set_int(c, server, "connections_active", (int64_t)stats.connections_active);
    set_int(c, server, "connections_reading", (int64_t)stats.connections_reading);
    set_int(c, server, "connections_writing", (int64_t)stats.connections_writing);
    set_int(c, server, "connections_waiting", (int64_t)stats.connections_waiting);
    set_int(c, server, "connections_accepted", (int64_t)stats.connections_accepted);
    set_int(c, server, "connections_handled", (int64_t)stats.connections_handled);
    set_int(c, server, "total_requests", (int64_t)stats.requests);
    if (c->node->dbless)
        set_text(c, body, "configuration_hash",
                 state.hash[0] ? sb_arena_cstr(c->arena, sb_str_c(state.hash))
                               : "00000000000000000000000000000000");
    else
        set(c, member(c, body, "database"), "reachable", sb_value_bool(c->arena, state.connected));
    sb_answer(c, 200, body);
}

void sb_admin_get_dns(struct sb_call *c, const struct sb_endpoint *e)
{
    (void)e;
    sb_answer_message(c, 501, "not implemented with the legacy DNS client");
}

/* -- the log level ----------------------------------------------------------------------------- */

static void get_level(struct sb_call *c, const struct sb_endpoint *e)
{
    (void)e;
    sb_answer_message(c, 200, "log level: %s", sb_log_level_name(sb_log_get_level()));
}

/* The level and for how long, out of the question; false: answered. */
static bool read_level(struct sb_call *c, enum sb_log_level *level, int64_t *ms)
{
    const char *name = sb_arena_cstr(c->arena, c->params[0]);
    const struct sb_value *given = sb_get(c->input, "timeout");
    const struct sb_arg *arg = sb_call_arg(c, "timeout");
    struct sb_str text = sb_is(given, SB_V_STR) ? given->s
                         : !given && arg        ? arg->value
                                                : SB_STR("");
    double seconds = LEVEL_TIMEOUT_S;

    if (sb_is_number(given))
        seconds = sb_number(given);
    else if (!sb_str_num(text, &seconds))
        seconds = LEVEL_TIMEOUT_S; /* what is no number counts for nothing */
    seconds = ceil(seconds);
    if (c->node->dbless)
        sb_answer_message(c, 405, "cannot change log level when not using a database");
    else if (!sb_log_level_parse(name, level))
        sb_answer_message(c, 400, "unknown log level: %s", name);
    else if (seconds < 0)
        sb_answer_message(c, 400, "timeout must be greater than or equal to 0");
    else {
        *ms = (int64_t)fmin(seconds, LEVEL_SECONDS_MAX) * 1000;
        return true;
    }
    return false;
}

static void put_level(struct sb_call *c, const struct sb_endpoint *e)
{
    enum sb_log_level level;
    int64_t ms;

    (void)e;
    if (!read_level(c, &level, &ms))
        return;
    if (level == sb_log_get_level()) {
        sb_answer_message(c, 200, "log level is already %s", sb_log_level_name(level));
        return;
    }
    sb_log_lend_level(level, ms);
    sb_answer_message(c, 200, "log level changed");
}

/* The other nodes hear it where they hear of changes. */
static void put_cluster_level(struct sb_call *c, const struct sb_endpoint *e)
{
    enum sb_log_level level;
    struct sb_err err;
    int64_t ms;

    (void)e;
    if (!read_level(c, &level, &ms) || !sb_admin_store(c))
        return;
    if (sb_changes_tell_level(c->node->pg, sb_log_level_name(level), ms, &err)) {
        sb_answer_message(c, 500, "%s", err.text);
        return;
    }
    sb_log_lend_level(level, ms);
    sb_answer_message(c, 200, "log level changed");
}

void sb_admin_tick(struct sb_admin_node *n)
{
    (void)n;
    sb_log_tick();
}

/* -- what needs something that this node has not ----------------------------------------------- */

static void refuse_clustering(struct sb_call *c, const struct sb_endpoint *e)
{
    (void)e;
    sb_answer_message(c, 400,
                      "this endpoint is only available when Kong is configured to run as Control "
                      "Plane for the cluster");
}

static void refuse_wasm(struct sb_call *c, const struct sb_endpoint *e)
{
    (void)e;
    sb_answer_message(c, 400, "this endpoint is only available when wasm is enabled");
}

static void no_filter(struct sb_call *c, const struct sb_endpoint *e)
{
    (void)e;
    sb_answer_message(c, 404, "Filter '%.*s' not found", SB_ARG(c->params[0]));
}

/* There is no cache of Kong's behind these: no key is in it, and all of it is purged. */
static void no_cache(struct sb_call *c, const struct sb_endpoint *e)
{
    (void)e;
    if (c->method == SB_DELETE)
        sb_answer_nothing(c, 204);
    else
        sb_answer_not_found(c);
}

const struct sb_endpoint sb_info_endpoints[] = {
    {"/", SB_GET, get_root},
    {"/endpoints", SB_GET, get_endpoints},
    {"/status", SB_GET, sb_admin_get_status},
    {"/status/dns", SB_GET, sb_admin_get_dns},
    {"/timers", SB_GET, get_timers},
    {"/plugins/enabled", SB_GET, get_enabled_plugins},
    {"/debug/node/log-level", SB_GET, get_level},
    {"/debug/node/log-level/{level}", SB_PUT, put_level},
    {"/debug/cluster/log-level/{level}", SB_PUT, put_cluster_level},
    {"/cache", SB_DELETE, no_cache},
    {"/cache/{key}", SB_GET | SB_DELETE, no_cache},
    {"/clustering/data-planes", SB_GET, refuse_clustering},
    {"/clustering/status", SB_GET, refuse_clustering},
    {"/filter-chains", SB_EVERY, refuse_wasm},
    {"/filter-chains/{filter_chains}", SB_EVERY, refuse_wasm},
    {"/filter-chains/{filter_chains}/route", SB_EVERY, refuse_wasm},
    {"/filter-chains/{filter_chains}/service", SB_EVERY, refuse_wasm},
    {"/routes/{routes}/filter-chains", SB_EVERY, refuse_wasm},
    {"/routes/{routes}/filter-chains/{filter_chains}", SB_EVERY, refuse_wasm},
    {"/services/{services}/filter-chains", SB_EVERY, refuse_wasm},
    {"/services/{services}/filter-chains/{filter_chains}", SB_EVERY, refuse_wasm},
    {"/routes/{routes}/filters/all", SB_GET, refuse_wasm},
    {"/routes/{routes}/filters/enabled", SB_GET, refuse_wasm},
    {"/routes/{routes}/filters/disabled", SB_GET, refuse_wasm},
    {"/schemas/filters/{name}", SB_GET, no_filter},
    {NULL},
};
