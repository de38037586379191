/* server.c - the parts of a serving process, in the order in which they come up, and down again in
 * the other:
 *
 *     sockets -> workers (listeners) -> config thread (first snapshot) -> Admin API and status
 *
 * The main thread waits for signals and for the master. Coming up has two halves, because the
 * process before us still serves: READY means that we accept connections; what only one of us may
 * do, writing the saved configuration and answering the Admin API, waits for GO.
 */
#include "dataplane/process/server.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "dataplane/admin/admin.h"
#include "dataplane/config/config.h"
#include "dataplane/listen/sockets.h"
#include "dataplane/listen/workers.h"
#include "dataplane/process/channel.h"
#include "dataplane/process/prefix.h"
#include "migrations/migrate.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/settings.h"
#include "shared/startup_memory.h"

/* How long connections stay that nobody asks on. After a reload they are served with what was
 * configured before, so that ends soon, too. */
enum { QUIT_IDLE_MS = 500, RELOAD_IDLE_MS = 5000 };

struct server {
    const struct sb_settings *settings;
    struct sb_workers *workers;
    struct sb_config *config;
    struct sb_admin *admin;
    int channel, signals;
    bool draining;
    int64_t until_ms; /* while draining: when what is left is cut off */
};

/* -- up ---------------------------------------------------------------------------------------- */

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

static enum sb_rc bring_up(struct server *server, struct sb_err *err)
{
    struct sb_admin_parts parts = {.settings = server->settings};
    enum sb_rc rc = check_schema(server->settings, err);

    if (!rc)
        rc = sb_workers_start(server->settings, &server->workers, err);
    if (rc)
        return rc;
    rc = sb_config_start(server->settings, server->workers, &server->config, err);
    if (rc)
        return rc;
    parts.workers = server->workers;
    parts.config = server->config;
    return sb_admin_start(&parts, &server->admin, err);
}

/* The master keeps the sockets from here on. */
static enum sb_rc say_ready(struct server *server)
{
    int *fds = sb_xmalloc(SB_SOCKETS_MAX * sizeof *fds);
    enum sb_rc rc = sb_channel_say_sockets(server->channel, fds, sb_sockets_opened(fds));

    sb_sockets_release();
    free(fds);
    return rc ? rc : sb_channel_say(server->channel, SB_WORD_READY, NULL);
}

/* again: "again", and the log level that was lent to the process before us. */
static void take_over(struct server *server, const char *again)
{
    struct sb_err err;

    if (strlen(again) > strlen("again"))
        (void)sb_log_lend_text(again + strlen("again"));
    if (sb_prefix_prepare(server->settings, &err))
        sb_warn("%s", err.text);
    sb_config_take_over(server->config, again[0] != '\0');
    sb_admin_open(server->admin);
    sb_startup_memory_release();
    if (sb_channel_say(server->channel, SB_WORD_STARTED, NULL))
        sb_warn("the master is gone");
}

/* -- down -------------------------------------------------------------------------------------- */

/* What the next process will do instead of us. */
static void release(struct server *server)
{
    sb_admin_stop(server->admin, true);
    server->admin = NULL;
    sb_config_release(server->config);
}

static void drain(struct server *server, int64_t idle_ms)
{
    int64_t limit_ms =
        sb_settings_time_ms(server->settings, "nginx_main_worker_shutdown_timeout", 0);

    if (!server->draining && limit_ms > 0)
        server->until_ms = sb_clock_ms() + limit_ms;
    server->draining = true;
    sb_workers_drain(server->workers, idle_ms);
    release(server);
}

static void take_down(struct server *server)
{
    sb_admin_stop(server->admin, false);
    if (server->config)
        sb_config_stop(server->config);
    if (server->workers)
        sb_workers_stop(server->workers, 0);
    if (server->config)
        sb_config_free(server->config);
}

/* -- what it hears ----------------------------------------------------------------------------- */

/* False: it is time to end. */
static bool on_signal(struct server *server)
{
    struct signalfd_siginfo info;

    if (read(server->signals, &info, sizeof info) != sizeof info)
        return true;
    switch (info.ssi_signo) {
    case SIGUSR1:
        sb_log_reopen();
        sb_workers_reopen_logs(server->workers);
        sb_admin_reopen_logs(server->admin);
        sb_notice("log files reopened");
        return true;
    case SIGQUIT:
        drain(server, QUIT_IDLE_MS);
        return true;
    case SIGHUP: /* the master's business */
        return true;
    default:
        return false;
    }
}

/* False: the master is gone. */
static bool on_word(struct server *server)
{
    static struct sb_word w;
    char lent[64];
    enum sb_rc rc = sb_channel_hear(server->channel, false, &w);

    if (rc)
        return rc == SB_AGAIN;
    if (w.kind == SB_WORD_GO) {
        take_over(server, w.text);
    } else if (w.kind == SB_WORD_LEAVE) {
        drain(server, RELOAD_IDLE_MS);
        sb_log_lent(lent, sizeof lent);
        return sb_channel_say(server->channel, SB_WORD_RELEASED, lent) == SB_OK;
    }
    return true;
}

static int time_left(const struct server *server)
{
    int64_t left = server->until_ms - sb_clock_ms();

    if (!server->until_ms)
        return -1;
    return left > 0 ? (int)(left < 1000000 ? left : 1000000) : 0;
}

static void serve(struct server *server)
{
    struct pollfd fds[] = {{.fd = server->signals, .events = POLLIN},
                           {.fd = server->channel, .events = POLLIN},
                           {.fd = sb_workers_ended_fd(server->workers), .events = POLLIN}};

    for (;;) {
        int n = poll(fds, 3, time_left(server));

        if (n == 0 && time_left(server) == 0) {
            sb_warn("connections that are still open are cut off: "
                    "nginx_main_worker_shutdown_timeout is over");
            return;
        }
        if (n <= 0)
            continue;
        if (fds[2].revents || (fds[0].revents && !on_signal(server)) ||
            (fds[1].revents && !on_word(server)))
            return;
    }
}

static int watch_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1};
    sigset_t set, all;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL); /* what the master waits for beside */
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&set, numbers[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

enum sb_rc sb_server_run(const struct sb_settings *s, int channel, struct sb_err *err)
{
    struct server server = {.settings = s, .channel = channel, .signals = watch_signals()};
    enum sb_rc rc = bring_up(&server, err);

    if (!rc && say_ready(&server))
        rc = sb_err_set(err, SB_IO, "the master is gone");
    if (!rc)
        serve(&server);
    take_down(&server);
    close(server.signals);
    return rc;
}
