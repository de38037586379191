/* main.c - silverback-controlplane: flags, the parts, and who tells whom.
 *
 *   API server or files ──> objects ──> sync ──> PostgreSQL   (or push ──> gateways, without one)
 *                              |          '──on_written──> status of Ingresses
 *        Lease ──on_leading────|──> sync  '──on_failure──> log, Events
 *
 * One thread with one loop; the writer of sync/ is the only other. SIGTERM ends the loop once the
 * Lease is given back.
 */
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "controlplane/kube/lease.h"
#include "controlplane/kube/manifests.h"
#include "controlplane/kube/watch.h"
#include "controlplane/options.h"
#include "controlplane/status/events.h"
#include "controlplane/status/ingress.h"
#include "controlplane/status/probes.h"
#include "controlplane/sync/push.h"
#include "controlplane/sync/sync.h"
#include "controlplane/translate/translate.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/settings.h"
#include "shared/uuid.h"
#include "shared/vec.h"

enum { STATUS_RETRY_S = 10, STOP_S = 5, LEAD_AGAIN_S = 2, TOKEN_MAX = 64 << 10 };

struct app {
    struct sb_arena *arena;
    struct sb_options options;
    struct sb_settings *settings;
    struct sb_translate_settings translate;
    struct sb_pg_config pg;
    struct sb_kube_config kube_config;
    const char *identity;

    struct event_base *base;
    struct sb_http *http;
    struct sb_kube *kube;
    struct sb_objects *objects;
    struct sb_watch *watch;
    struct sb_manifests *manifests;
    struct sb_sync *sync; /* with a database, or */
    struct sb_push *push; /* without */
    struct sb_lease *lease;
    struct sb_ingress_status *status;
    struct sb_events *events;
    struct sb_probes *probes;
    struct event *on_term, *on_int, *on_hup, *tick, *lead_again, *term_delay, *sync_timeout;
    bool warm, stopping;
    uint64_t failures;
};

/* -- what the parts tell each other ---------------------------------------------------------------
 */

static void on_synced(void *arg)
{
    struct app *app = arg;

    app->warm = true;
    sb_notice("all objects are known: %zu Ingresses, %zu Services, %zu EndpointSlices",
              sb_objects_count(app->objects, "Ingress"), sb_objects_count(app->objects, "Service"),
              sb_objects_count(app->objects, "EndpointSlice"));
    if (app->sync)
        sb_sync_warm(app->sync);
    else
        sb_push_warm(app->push);
}

static struct sb_sync_stats stats_of(const struct app *app)
{
    struct sb_sync_stats stats;

    if (app->sync)
        sb_sync_stats(app->sync, &stats);
    else
        sb_push_stats(app->push, &stats);
    return stats;
}

static void on_written(void *arg, uint64_t version)
{
    struct app *app = arg;

    sb_debug("version %llu says what the objects say", (unsigned long long)version);
    if (app->status)
        sb_ingress_status_update(app->status);
}

static bool leading(const struct app *app)
{
    return stats_of(app).leading;
}

static void on_failure(void *arg, struct sb_str object, struct sb_str message, bool refused)
{
    struct app *app = arg;

    app->failures++;
    sb_error("%.*s: %.*s", SB_ARG(object), SB_ARG(message));
    if (app->events && leading(app))
        sb_events_warn(app->events, object,
                       refused ? "KongConfigurationApplyFailed"
                               : "KongConfigurationTranslationFailed",
                       message);
}

static bool is_broken(void *arg, struct sb_str object)
{
    const struct app *app = arg;

    return app->sync ? sb_sync_is_broken(app->sync, object) : sb_push_is_broken(app->push, object);
}

static void on_leading(void *arg)
{
    struct app *app = arg;

    if (app->status)
        sb_ingress_status_all(app->status);
    if (app->sync)
        sb_sync_lead(app->sync, true);
}

static void on_lost(void *arg)
{
    struct app *app = arg;

    if (app->sync)
        sb_sync_lead(app->sync, false);
}

/* The database says that another leads. If the Lease still says that we do, then it is right in a
 * moment or we are: look again before taking the next epoch. */
static void on_fenced(void *arg)
{
    struct app *app = arg;
    struct timeval tv = {LEAD_AGAIN_S, 0};

    event_add(app->lead_again, &tv);
}

static void on_lead_again(evutil_socket_t fd, short what, void *arg)
{
    struct app *app = arg;

    (void)fd, (void)what;
    if (!app->stopping && (!app->lease || sb_lease_leading(app->lease)))
        on_leading(app);
}

/* Status that could not be written is tried again. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct app *app = arg;

    (void)fd, (void)what;
    if (app->status && app->warm && leading(app))
        sb_ingress_status_update(app->status);
}

static void on_sync_timeout(evutil_socket_t fd, short what, void *arg)
{
    const struct app *app = arg;

    (void)fd, (void)what;
    if (!app->warm)
        sb_error("the objects are not all known after %lld s: nothing is written before they are",
                 (long long)app->options.cache_sync_timeout_ms / 1000);
}

static const char *not_ready(void *arg)
{
    const struct app *app = arg;

    return app->warm ? NULL : "the objects are not all known yet";
}

static void write_metrics(void *arg, struct sb_buf *out)
{
    const struct app *app = arg;
    struct sb_sync_stats s = stats_of(app);
    const char *protocol = app->sync ? "deck" : "db-less";

    sb_buf_printf(
        out,
        "# TYPE ingress_controller_configuration_push_count counter\n"
        "ingress_controller_configuration_push_count{success=\"true\",protocol=\"%s\"} %llu\n"
        "ingress_controller_configuration_push_count{success=\"false\",protocol=\"%s\"} %llu\n",
        protocol, (unsigned long long)s.writes, protocol, (unsigned long long)s.failed_writes);
    sb_buf_printf(out,
                  "# TYPE ingress_controller_configuration_push_last_successful gauge\n"
                  "ingress_controller_configuration_push_last_successful %.3f\n",
                  (double)s.last_write_ms / 1000);
    sb_buf_printf(out,
                  "# TYPE ingress_controller_configuration_push_broken_resource_count gauge\n"
                  "ingress_controller_configuration_push_broken_resource_count %llu\n"
                  "# TYPE ingress_controller_translation_count counter\n"
                  "ingress_controller_translation_count{success=\"true\"} %llu\n",
                  (unsigned long long)s.broken_objects, (unsigned long long)s.translations);
    sb_buf_printf(out,
                  "# TYPE silverback_controlplane_leading gauge\n"
                  "silverback_controlplane_leading %d\n"
                  "# TYPE silverback_controlplane_epoch gauge\n"
                  "silverback_controlplane_epoch %llu\n"
                  "# TYPE silverback_controlplane_version gauge\n"
                  "silverback_controlplane_version %llu\n"
                  "# TYPE silverback_controlplane_rows_total counter\n"
                  "silverback_controlplane_rows_total{op=\"put\"} %llu\n"
                  "silverback_controlplane_rows_total{op=\"drop\"} %llu\n",
                  s.leading, (unsigned long long)s.epoch, (unsigned long long)s.version,
                  (unsigned long long)s.rows_put, (unsigned long long)s.rows_dropped);
}

/* -- settings -------------------------------------------------------------------------------------
 */

static void print_lines(const struct sb_buf *text)
{
    if (text->len)
        fwrite(text->p, 1, text->len, stderr);
}

static void set_log_level(const char *name)
{
    static const struct {
        const char *name;
        enum sb_log_level level;
    } levels[] = {
        {"trace", SB_LOG_DEBUG},
        {"debug", SB_LOG_DEBUG},
        {"info", SB_LOG_INFO},
        {"error", SB_LOG_ERROR},
    };

    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (!strcmp(levels[i].name, name))
            sb_log_set_level(levels[i].level);
    }
}

#define GATE(name, field)                                                                          \
    {                                                                                              \
        name, offsetof(struct sb_translate_settings, field)                                        \
    }
#define MOOT_GATE(name)                                                                            \
    {                                                                                              \
        name, -1                                                                                   \
    }

static const struct {
    const char *name;
    long at; /* in struct sb_translate_settings; -1: nothing here depends on it */
} gates[] = {
    GATE("FillIDs", fill_ids),
    GATE("RewriteURIs", rewrite_uris),
    GATE("KongServiceFacade", service_facade),
    GATE("KongCustomEntity", custom_entity),
    MOOT_GATE("GatewayAlpha"),
    MOOT_GATE("FallbackConfiguration"),
    MOOT_GATE("SanitizeKonnectConfigDumps"),
};

static void set_gate(struct app *app, const char *text, struct sb_buf *problems)
{
    struct sb_str value = sb_str_c(text), name;
    bool on;

    sb_str_split(&value, '=', &name);
    on = sb_str_is(value, "true");
    if (!on && !sb_str_is(value, "false")) {
        sb_buf_printf(problems, "--feature-gates: \"%s\" is not Name=true or Name=false\n", text);
        return;
    }
    for (size_t i = 0; i < sizeof gates / sizeof *gates; i++) {
        if (!sb_str_is(name, gates[i].name))
            continue;
        if (gates[i].at >= 0)
            *(bool *)((char *)&app->translate + gates[i].at) = on;
        return;
    }
    sb_buf_printf(problems, "--feature-gates: %.*s is not a valid feature\n", SB_ARG(name));
}

static void set_translate(struct app *app, struct sb_buf *problems)
{
    struct sb_translate_settings *t = &app->translate;
    const struct sb_options *o = &app->options;
    const char *flavor = sb_settings_str(app->settings, "router_flavor");

    sb_translate_settings_init(t);
    t->expression_routes = flavor && !strcmp(flavor, "expressions");
    t->combined_services = o->combined_services;
    t->redirect_plugin = true;
    t->drain_support = o->drain_support;
    if (o->ingress_class)
        t->ingress_class = o->ingress_class;
    if (o->cluster_domain)
        t->cluster_domain = o->cluster_domain;
    if (o->workspace)
        t->workspace = o->workspace;
    if (o->gateway_controller_name)
        t->gateway_controller_name = o->gateway_controller_name;
    for (const char *const *g = o->feature_gates; g && *g; g++)
        set_gate(app, *g, problems);
    if (t->custom_entity && !t->fill_ids)
        sb_buf_cstr(problems, "FillIDs is required if KongCustomEntity is enabled\n");
}

static const char *make_identity(struct sb_arena *a)
{
    char host[256] = "silverback", uuid[SB_UUID_TEXT_LEN + 1];
    struct sb_uuid id = sb_uuid_v4();

    gethostname(host, sizeof host - 1);
    sb_uuid_format(&id, uuid);
    return sb_arena_printf(a, "%s_%s", host, uuid).p;
}

static bool load_settings(struct app *app, int argc, char **argv)
{
    struct sb_settings_source source = {.env = (const char *const *)environ};
    struct sb_buf problems, warnings;
    bool ok;

    sb_buf_init(&problems, 0);
    sb_buf_init(&warnings, 0);
    ok = !sb_options_load(app->arena, argc, argv, (const char *const *)environ, &app->options,
                          &problems);
    if (ok && !app->options.help && !app->options.version) {
        ok = !sb_settings_load(&source, &app->settings, &problems, &warnings);
        if (ok)
            set_translate(app, &problems);
        ok = ok && !problems.len;
    }
    print_lines(&warnings);
    print_lines(&problems);
    sb_buf_release(&warnings);
    sb_buf_release(&problems);
    return ok;
}

/* -- starting -------------------------------------------------------------------------------------
 */

/* Namespaces to watch, with those of the published Services. */
static const char *const *namespaces(struct app *app)
{
    SB_VEC(const char *) list = {0};
    const char *const *n = app->options.watch_namespaces, **out;

    if (!n || !*n)
        return NULL;
    for (; *n; n++)
        sb_vec_push(&list, *n);
    for (const char *const *s = app->options.publish_services; s && *s; s++) {
        struct sb_str ns, rest = sb_str_c(*s);
        bool known = false;

        sb_str_split(&rest, '/', &ns);
        for (size_t i = 0; i < list.len; i++)
            known |= sb_str_is(ns, list.p[i]);
        if (!known)
            sb_vec_push(&list, sb_arena_cstr(app->arena, ns));
    }
    out = sb_arena_zero(app->arena, (list.len + 1) * sizeof *out);
    memcpy(out, list.p, list.len * sizeof *out);
    sb_vec_release(&list);
    return out;
}

static enum sb_rc find_api_server(struct app *app, struct sb_err *err)
{
    enum sb_rc rc =
        sb_kube_config_find(app->arena, app->options.kubeconfig, &app->kube_config, err);

    if (rc == SB_NOTFOUND && app->options.apiserver_host) {
        app->kube_config = (struct sb_kube_config){.origin = "--apiserver-host", .ns = "default"};
        rc = SB_OK;
    }
    if (!rc && app->options.apiserver_host)
        app->kube_config.server = app->options.apiserver_host;
    if (!rc)
        rc = sb_kube_new(app->http, &app->kube_config, &app->kube, err);
    return rc;
}

static void start_status(struct app *app)
{
    const struct sb_options *o = &app->options;
    bool known = (o->publish_services && *o->publish_services) ||
                 (o->publish_addresses && *o->publish_addresses);

    if (o->emit_events)
        app->events = sb_events_new(app->kube, app->objects, app->identity);
    if (o->update_status && !known)
        sb_warn("no status is written: give --publish-service or --publish-status-address, or "
                "--update-status=false");
    if (!o->update_status || !known)
        return;
    app->status = sb_ingress_status_new(&(struct sb_ingress_status_config){
        .kube = app->kube,
        .objects = app->objects,
        .ingress_class = app->translate.ingress_class,
        .services = o->publish_services,
        .addresses = o->publish_addresses,
        .is_broken = is_broken,
        .arg = app,
    });
}

/* Without a database each controller feeds its own gateways, so all lead. */
static bool is_elected(const struct app *app)
{
    const char *forced = app->options.force_leader_election;

    return forced ? !strcmp(forced, "enabled") : app->sync != NULL;
}

static void start_election(struct app *app)
{
    const struct sb_options *o = &app->options;
    const char *ns = o->election_namespace, *pod_ns = getenv("POD_NAMESPACE");

    if (!is_elected(app)) {
        on_leading(app);
        return;
    }
    if (!ns)
        ns = pod_ns && *pod_ns ? pod_ns : app->kube_config.ns;
    app->lease = sb_lease_start(&(struct sb_lease_config){
        .base = app->base,
        .kube = app->kube,
        .ns = ns,
        .name = o->election_id,
        .identity = app->identity,
        .on_leading = on_leading,
        .on_lost = on_lost,
        .arg = app,
    });
}

static enum sb_rc start_kubernetes(struct app *app, struct sb_err *err)
{
    enum sb_rc rc = find_api_server(app, err);

    if (rc)
        return rc;
    sb_notice("following %s, as %s says", sb_kube_server(app->kube), app->kube_config.origin);
    start_status(app);
    app->watch = sb_watch_start(&(struct sb_watch_config){
        .base = app->base,
        .kube = app->kube,
        .objects = app->objects,
        .namespaces = namespaces(app),
        .on_synced = on_synced,
        .arg = app,
    });
    start_election(app);
    return SB_OK;
}

static enum sb_rc start_source(struct app *app, struct sb_err *err)
{
    enum sb_rc rc;

    if (!app->options.manifests)
        return start_kubernetes(app, err);
    rc = sb_manifests_start(app->base, app->options.manifests, app->objects, &app->manifests, err);
    if (!rc)
        on_synced(app);
    return rc;
}

static enum sb_rc read_token(struct app *app, const char **token, struct sb_err *err)
{
    const char *path = app->options.admin_token_file;
    enum sb_rc rc = SB_OK;
    struct sb_buf text;

    *token = app->options.admin_token;
    if (!path)
        return SB_OK;
    sb_buf_init(&text, TOKEN_MAX);
    if (sb_buf_read_file(&text, path))
        *token = sb_arena_cstr(app->arena, sb_str_trim(sb_buf_get(&text)));
    else
        rc = sb_err_set(err, SB_IO, "--kong-admin-token-file: %s: %s", path, strerror(errno));
    sb_buf_release(&text);
    return rc;
}

static enum sb_rc start_push(struct app *app, struct sb_err *err)
{
    const char *token = NULL;
    enum sb_rc rc = read_token(app, &token, err);

    if (rc)
        return rc;
    app->push = sb_push_start(&(struct sb_push_config){
        .base = app->base,
        .http = app->http,
        .objects = app->objects,
        .translate = &app->translate,
        .urls = app->options.admin_urls,
        .token = token,
        .timeout_ms = (int)app->options.proxy_timeout_ms,
        .on_written = on_written,
        .on_failure = on_failure,
        .arg = app,
    });
    return SB_OK;
}

static enum sb_rc start_sync(struct app *app, struct sb_err *err)
{
    const char *database = sb_settings_str(app->settings, "database");

    if (database && !strcmp(database, "off"))
        return start_push(app, err);
    if (!sb_settings_pg(app->settings, false, &app->pg))
        return sb_err_set(err, SB_INVALID, "no database: set KONG_PG_HOST and its companions");
    app->pg.application = "silverback-controlplane";
    return sb_sync_start(
        &(struct sb_sync_config){
            .base = app->base,
            .objects = app->objects,
            .translate = &app->translate,
            .pg = &app->pg,
            .tag = app->options.filter_tags[0],
            .identity = app->identity,
            .elect = app->options.manifests != NULL,
            .on_written = on_written,
            .on_fenced = on_fenced,
            .on_failure = on_failure,
            .arg = app,
        },
        &app->sync, err);
}

static enum sb_rc start_probes(struct app *app, struct sb_err *err)
{
    return sb_probes_start(
        &(struct sb_probes_config){
            .base = app->base,
            .health = app->options.health_bind,
            .metrics = app->options.metrics_bind,
            .not_ready = not_ready,
            .write_metrics = write_metrics,
            .arg = app,
        },
        &app->probes, err);
}

/* -- stopping -------------------------------------------------------------------------------------
 */

static void on_released(void *arg)
{
    struct app *app = arg;

    app->lease = NULL;
    event_base_loopexit(app->base, NULL);
}

static void stop(struct app *app)
{
    struct timeval tv = {STOP_S, 0};

    if (app->stopping)
        return;
    app->stopping = true;
    sb_notice("stopping");
    event_base_loopexit(app->base, &tv);
    if (app->sync)
        sb_sync_lead(app->sync, false);
    if (app->lease)
        sb_lease_stop(app->lease, on_released, app);
    else
        event_base_loopexit(app->base, NULL);
}

static void on_delay_over(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    stop(arg);
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    struct app *app = arg;
    int64_t ms = app->options.term_delay_ms;
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};

    (void)fd, (void)what;
    if (ms)
        event_add(app->term_delay, &tv);
    else
        stop(app);
}

static void on_sighup(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    sb_log_reopen();
}

static void add_events(struct app *app)
{
    struct timeval tick = {STATUS_RETRY_S, 0};
    struct timeval sync = {app->options.cache_sync_timeout_ms / 1000,
                           app->options.cache_sync_timeout_ms % 1000 * 1000};

    app->on_term = evsignal_new(app->base, SIGTERM, on_signal, app);
    app->on_int = evsignal_new(app->base, SIGINT, on_signal, app);
    app->on_hup = evsignal_new(app->base, SIGHUP, on_sighup, app);
    app->tick = event_new(app->base, -1, EV_PERSIST, on_tick, app);
    app->lead_again = event_new(app->base, -1, 0, on_lead_again, app);
    app->term_delay = event_new(app->base, -1, 0, on_delay_over, app);
    app->sync_timeout = event_new(app->base, -1, 0, on_sync_timeout, app);
    event_add(app->sync_timeout, &sync);
    event_add(app->on_term, NULL);
    event_add(app->on_int, NULL);
    event_add(app->on_hup, NULL);
    event_add(app->tick, &tick);
}

static void free_events(struct app *app)
{
    struct event *events[] = {app->on_term,    app->on_int,     app->on_hup,      app->tick,
                              app->lead_again, app->term_delay, app->sync_timeout};

    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        event_free(events[i]);
}

static int run(struct app *app)
{
    struct sb_err err;
    enum sb_rc rc;

    signal(SIGPIPE, SIG_IGN);
    set_log_level(app->options.log_level);
    app->identity = make_identity(app->arena);
    app->base = event_base_new();
    app->http = sb_http_new(app->base);
    app->objects = sb_objects_new();
    add_events(app);
    rc = start_probes(app, &err);
    if (!rc)
        rc = start_sync(app, &err);
    if (!rc)
        rc = start_source(app, &err);
    if (rc)
        fprintf(stderr, "silverback-controlplane: %s\n", err.text);
    else
        event_base_dispatch(app->base);

    sb_ingress_status_free(app->status);
    sb_events_free(app->events);
    sb_watch_stop(app->watch);
    sb_manifests_stop(app->manifests);
    sb_sync_stop(app->sync);
    sb_push_stop(app->push);
    sb_probes_stop(app->probes);
    sb_kube_free(app->kube);
    sb_http_free(app->http);
    free_events(app);
    sb_objects_free(app->objects);
    event_base_free(app->base);
    return rc ? 1 : 0;
}

static void print_help(void)
{
    struct sb_buf text;

    sb_buf_init(&text, 0);
    sb_buf_cstr(
        &text,
        "Usage: silverback-controlplane [FLAGS]\n"
        "       silverback-controlplane translate --manifests PATH [--settings FILE] "
        "[--failures FILE]\n"
        "       silverback-controlplane version\n\n"
        "Follows Kubernetes objects and keeps the gateways' database equal to them. Each flag\n"
        "may be given as a variable, CONTROLLER_ and its name; the database by KONG_PG_HOST and\n"
        "its companions.\n\n");
    sb_options_help(&text);
    fwrite(text.p, 1, text.len, stdout);
    sb_buf_release(&text);
}

int main(int argc, char **argv)
{
    struct app app = {.arena = sb_arena_new(0)};
    int code = 1;

    if (argc > 1 && !strcmp(argv[1], "translate")) {
        code = sb_translate_command(argc - 1, argv + 1);
    } else if (load_settings(&app, argc, argv)) {
        code = 0;
        if (app.options.help)
            print_help();
        else if (app.options.version)
            printf("silverback-controlplane %s\n", SB_VERSION);
        else
            code = run(&app);
    }
    sb_settings_free(app.settings);
    sb_arena_free(app.arena);
    return code;
}
