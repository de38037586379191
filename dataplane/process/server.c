/* server.c - the parts in the order in which they come up, and down again in the other:
 *
 *     pid file -> workers (listeners) -> config thread (first snapshot) -> admin and status
 *
 * The main thread does nothing but wait for signals.
 */
#include "dataplane/process/server.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "dataplane/admin/admin.h"
#include "dataplane/config/config.h"
#include "dataplane/config/declared.h"
#include "dataplane/listen/sockets.h"
#include "dataplane/listen/workers.h"
#include "dataplane/process/options.h"
#include "dataplane/process/prefix.h"
#include "migrations/migrate.h"
#include "shared/log.h"
#include "shared/settings.h"

struct server {
    const struct sb_options *options;
    struct sb_workers *workers;
    struct sb_config *config;
    struct sb_admin *admin;
};

/* Signals that the main thread waits for; every thread inherits them blocked. */
static sigset_t waited_for(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&set, numbers[i]);
    return set;
}

static bool without_database(const struct sb_settings *s)
{
    return strcmp(sb_settings_str(s, "database"), "off") == 0;
}

/* A database that answers must have our schema. One that does not answer is no reason to stop: what
 * was saved may do (sb_config_start decides). */
static enum sb_rc check_schema(const struct sb_settings *s, struct sb_err *err)
{
    struct sb_pg_config config;
    struct sb_err away;
    struct sb_pg *pg;
    bool pending;
    enum sb_rc rc;

    if (without_database(s))
        return SB_OK;
    sb_settings_pg(s, false, &config);
    if (sb_pg_connect(&config, &pg, &away))
        return SB_OK;
    rc = sb_migrate_check(pg, &pending, err);
    if (!rc && pending)
        sb_warn("%s", SB_SAY_PENDING);
    sb_pg_free(pg);
    return rc == SB_INVALID ? rc : SB_OK;
}

static enum sb_rc bring_up(struct server *server, const struct sb_settings *s, struct sb_err *err)
{
    struct sb_admin_parts parts = {.settings = s};
    enum sb_rc rc = check_schema(s, err);

    if (!rc)
        rc = sb_workers_start(s, &server->workers, err);
    if (rc)
        return rc;
    rc = sb_config_start(s, server->workers, &server->config, err);
    if (rc)
        return rc;
    parts.workers = server->workers;
    parts.config = server->config;
    return sb_admin_start(&parts, &server->admin, err);
}

static void take_down(struct server *server, int64_t drain_ms)
{
    if (server->admin)
        sb_admin_stop(server->admin);
    if (server->config)
        sb_config_stop(server->config);
    if (server->workers)
        sb_workers_stop(server->workers, drain_ms);
    if (server->config)
        sb_config_free(server->config);
}

static void reopen_logs(struct server *server)
{
    sb_log_reopen();
    sb_workers_reopen_logs(server->workers);
    sb_notice("log files reopened");
}

/* The declarative file or string once more, where there is one. */
static enum sb_rc read_declared(struct server *server, const struct sb_settings *s,
                                struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    char hash[SB_CONFIG_HASH_LEN + 1];
    struct sb_value *rows;
    enum sb_rc rc = SB_NOTFOUND;

    if (without_database(s))
        rc = sb_declared_read(s, a, &rows, hash, err);
    if (rc == SB_OK)
        rc = sb_config_load_rows(server->config, rows, hash, err);
    sb_arena_free(a);
    return rc == SB_NOTFOUND ? SB_OK : rc;
}

/* HUP: what can change without a restart. A configuration with problems changes nothing. */
static void reload(struct server *server)
{
    struct sb_settings *fresh = sb_options_settings(server->options);
    enum sb_log_level level;
    struct sb_err err;

    if (!fresh) {
        sb_error("reload: the configuration has problems; nothing was changed");
        return;
    }
    if (sb_log_level_parse(sb_settings_str(fresh, "log_level"), &level))
        sb_log_set_level(level);
    reopen_logs(server);
    if (read_declared(server, fresh, &err))
        sb_error("reload: %s; the configuration stays as it was", err.text);
    else
        sb_notice("reloaded");
    sb_settings_free(fresh);
}

/* Returns how long exchanges may take to finish: 0 for a fast stop. */
static int64_t serve(struct server *server, const struct sb_settings *s, const sigset_t *signals)
{
    static const int64_t no_limit_ms = INT64_MAX / 2;

    for (;;) {
        int signal_number;

        if (sigwait(signals, &signal_number))
            continue;
        switch (signal_number) {
        case SIGHUP:
            reload(server);
            break;
        case SIGUSR1:
            reopen_logs(server);
            break;
        case SIGQUIT:
            sb_notice("stopping gracefully");
            return sb_settings_time_ms(s, "nginx_main_worker_shutdown_timeout", no_limit_ms);
        default:
            sb_notice("stopping");
            return 0;
        }
    }
}

enum sb_rc sb_server_run(const struct sb_options *options, const struct sb_settings *s,
                         void (*started)(void *arg), void *arg, struct sb_err *err)
{
    struct server server = {.options = options};
    sigset_t signals = waited_for();
    enum sb_rc rc;

    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    rc = sb_prefix_write_pid(s, err);
    if (!rc)
        rc = bring_up(&server, s, err);
    if (rc) {
        take_down(&server, 0);
    } else {
        sb_sockets_release();
        started(arg);
        take_down(&server, serve(&server, s, &signals));
    }
    sb_prefix_remove_pid(s);
    return rc;
}
