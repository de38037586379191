/* start.c - verbs that check a configuration and bring a node up. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>
#include <openssl/crypto.h>

#include "dataplane/plugins/abi.h"
#include "dataplane/listen/sockets.h"
#include "dataplane/listen/tls_tickets.h"
#include "dataplane/process/channel.h"
#include "dataplane/process/master.h"
#include "dataplane/process/options.h"
#include "dataplane/process/prefix.h"
#include "dataplane/process/recipe.h"
#include "dataplane/process/server.h"
#include "dataplane/process/verbs.h"
#include "migrations/migrate.h"
#include "shared/log.h"

static const char start_usage[] =
    "Usage: kong start [OPTIONS]\n\n"
    "Start this node: check the settings and the database, listen, serve. With nginx_daemon = off\n"
    "it stays in the foreground.";

/* -- before the start ------------------------------------------------------------------------- */

static void log_to(const struct sb_settings *s)
{
    struct sb_arena *a = sb_arena_new(0);
    const char *where = sb_settings_str(s, "proxy_error_log");
    enum sb_log_level level;
    struct sb_str path = where ? sb_settings_path(s, a, where) : SB_STR("");

    if (sb_log_get_level() == SB_LOG_NOTICE &&
        sb_log_level_parse(sb_settings_str(s, "log_level"), &level))
        sb_log_set_level(level);
    if (path.len && !sb_str_is(path, "/dev/stderr") && !sb_log_set_file(path.p))
        sb_warn("the error log %s cannot be opened: %s; errors go to stderr", path.p,
                strerror(errno));
    sb_arena_free(a);
}

/* Settings that nginx has its way with, and that have none here. */
static void warn_of_settings(const struct sb_settings *s)
{
    static const char *const logs[][2] = {{"admin_error_log", "logs/error.log"},
                                          {"status_error_log", "logs/status_error.log"}};
    const char *all = sb_settings_str(s, "proxy_error_log"),
               *user = sb_settings_str(s, "nginx_main_user");

    for (size_t i = 0; i < sizeof logs / sizeof *logs; i++) {
        const char *one = sb_settings_str(s, logs[i][0]);

        if (one && strcmp(one, logs[i][1]) != 0 && !sb_str_is(sb_str_c(one), all ? all : ""))
            sb_warn("%s: errors of all listeners go to proxy_error_log", logs[i][0]);
    }
    if (geteuid() == 0 && user && strcmp(user, "kong kong") != 0 &&
        !sb_str_starts(sb_str_c(user), SB_STR("root")) &&
        !sb_str_starts(sb_str_c(user), SB_STR("nobody"))) /* as Kong: no directive at all */
        sb_warn("nginx_user: processes stay with the user that starts them, root; start as '%s' "
                "instead",
                user);
}

/* -- foreground and background ---------------------------------------------------------------- */

struct announcement {
    int fd; /* to the process that was started; -1: we are it */
};

static void say_started(void *arg)
{
    struct announcement *a = arg;

    if (a->fd < 0) {
        puts("Kong started");
        fflush(stdout);
        return;
    }
    if (write(a->fd, "", 1) != 1)
        sb_warn("the process that started this node is gone");
    close(a->fd);
    sb_log_take_stderr(); /* who started us may be waiting for its end */
}

static int run_here(const struct sb_options *o, const char *prefix, int fd)
{
    struct announcement announcement = {fd};
    struct sb_err err;
    int code;

    if (sb_master_run(o, prefix, say_started, &announcement, &code, &err) == SB_OK)
        return code;
    sb_options_fail("%s", err.text);
    return 1;
}

/* The child is the master; the parent ends when it listens, or with its failure. */
static int run_in_background(const struct sb_options *o, const char *prefix)
{
    int fds[2], null, status = 1;
    char ready;
    pid_t child;

    if (pipe2(fds, O_CLOEXEC) || (child = fork()) < 0)
        return sb_options_fail("cannot go to the background: %s", strerror(errno));
    if (child == 0) {
        close(fds[0]);
        setsid();
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        _exit(run_here(o, prefix, fds[1]));
    }
    close(fds[1]);
    if (read(fds[0], &ready, 1) == 1) {
        puts("Kong started");
        return 0;
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
}

/* -- verbs ------------------------------------------------------------------------------------ */

static void say(const char *line)
{
    puts(line);
}

static enum sb_rc migrate(const struct sb_options *o, const struct sb_settings *s,
                          struct sb_err *err)
{
    struct sb_migrate_options how = {.lock_timeout_s = o->lock_timeout_s, .say = say};
    struct sb_pg_config config;
    struct sb_pg *pg;
    enum sb_rc rc;

    sb_settings_pg(s, false, &config);
    rc = sb_pg_connect(&config, &pg, err);
    if (rc)
        return rc;
    rc = sb_migrate_bootstrap(pg, &how, err);
    if (!rc)
        rc = sb_migrate_up(pg, &how, err);
    sb_pg_free(pg);
    return rc;
}

/* Checks, and makes ready what a start needs; the settings are gone when the master runs, which has
 * no use for them. */
static bool prepare(const struct sb_options *o, const struct sb_settings *s)
{
    struct sb_err err;

    if (sb_prefix_prepare(s, &err) || (o->run_migrations && migrate(o, s, &err))) {
        sb_options_fail("%s", err.text);
        return false;
    }
    log_to(s);
    return true;
}

/* Takes the settings. */
static int start(const struct sb_options *o, struct sb_settings *s)
{
    struct sb_arena *a = sb_arena_new(0);
    const char *prefix = sb_arena_cstr(a, sb_str_c(sb_settings_prefix(s)));
    bool daemon = sb_settings_bool(s, "nginx_main_daemon"), ready = prepare(o, s);
    int code = 1;

    sb_settings_free(s);
    if (ready)
        code = daemon ? run_in_background(o, prefix) : run_here(o, prefix, -1);
    sb_arena_free(a);
    return code;
}

int sb_verb_start(int argc, char **argv)
{
    struct sb_options o;
    struct sb_settings *s;
    int rest;

    if (!sb_options_parse(argc, argv, SB_OPT_CONF | SB_OPT_PREFIX | SB_OPT_START | SB_OPT_NGINX,
                          start_usage, &o, &rest))
        return 1;
    s = sb_options_settings(&o);
    if (!s)
        return 1;
    if (sb_prefix_pid(sb_settings_prefix(s))) {
        sb_options_fail("Kong is already running in %s", sb_settings_prefix(s));
        sb_settings_free(s);
        return 1;
    }
    return start(&o, s);
}

int sb_verb_restart(int argc, char **argv)
{
    struct sb_options o;
    struct sb_settings *s;
    struct sb_err err;
    int rest, code = 1;

    if (!sb_options_parse(argc, argv, SB_OPT_CONF | SB_OPT_PREFIX | SB_OPT_START | SB_OPT_NGINX,
                          "Usage: kong restart [OPTIONS]\n\n"
                          "Have another process serve, with these settings, without losing a\n"
                          "connection. When it cannot, the one that serves stays. Starts the node\n"
                          "when it does not run.",
                          &o, &rest))
        return 1;
    s = sb_options_settings(&o);
    if (!s)
        return 1;
    if (!sb_prefix_pid(sb_settings_prefix(s)))
        return start(&o, s);
    if (o.run_migrations && migrate(&o, s, &err))
        sb_options_fail("%s", err.text);
    else
        code = sb_ask_master(&o, sb_settings_prefix(s), true);
    if (!code)
        puts("Kong started");
    sb_settings_free(s);
    return code;
}

/* -- the serving process: started by the master (recipe.h), never by hand ---------------------- */

static enum sb_rc serve(const struct sb_options *o, int channel, struct sb_err *err)
{
    struct sb_settings *s = NULL;
    enum sb_rc rc = sb_options_load(o, getenv(SB_RELOAD_CONF_VAR), false, &s, err);

    if (rc)
        return rc;
    log_to(s);
    sb_log_take_stderr();
    warn_of_settings(s);
    rc = sb_plugins_load(s, err);
    if (!rc)
        rc = sb_server_run(s, channel, err);
    sb_settings_free(s);
    return rc;
}

/* Beside sockets the master hands over one piece of memory. */
static void adopt(int fd)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        sb_tls_tickets_share(fd);
    else
        sb_sockets_adopt(fd);
}

static bool hear_sockets(int channel)
{
    static struct sb_word w;

    while (sb_channel_hear(channel, true, &w) == SB_OK) {
        if (w.kind == SB_WORD_BEGIN)
            return true;
        for (size_t i = 0; i < w.nfds; i++)
            adopt(w.fds[i]);
    }
    return false;
}

int sb_verb_serve(int argc, char **argv)
{
    const char *text = getenv(SB_CHANNEL_VAR);
    struct sb_options o;
    struct sb_err err;
    int64_t channel;
    int rest;

    if (!text || !sb_str_int(sb_str_c(text), &channel))
        return sb_options_fail("this is for `kong start` to call");
    fcntl((int)channel, F_SETFD, FD_CLOEXEC);
    if (!sb_options_parse(argc, argv, SB_OPT_CONF | SB_OPT_PREFIX | SB_OPT_START, "", &o, &rest) ||
        !hear_sockets((int)channel))
        return 1;
    if (serve(&o, (int)channel, &err) == SB_OK)
        return 0;
    if (sb_channel_say((int)channel, SB_WORD_FAILED, err.text))
        sb_error("%s", err.text);
    return 1;
}

int sb_verb_prepare(int argc, char **argv)
{
    struct sb_options o;
    struct sb_settings *s;
    struct sb_err err;
    int rest, code = 1;

    if (!sb_options_parse(argc, argv, SB_OPT_CONF | SB_OPT_PREFIX | SB_OPT_NGINX,
                          "Usage: kong prepare [OPTIONS]\n\nMake the prefix directory ready.", &o,
                          &rest))
        return 1;
    s = sb_options_settings(&o);
    if (s)
        code = sb_prefix_prepare(s, &err) ? sb_options_fail("%s", err.text) : 0;
    sb_settings_free(s);
    return code;
}

int sb_verb_check(int argc, char **argv)
{
    struct sb_options o;
    struct sb_settings *s;
    const char *file;
    int rest;

    if (!sb_options_parse(
            argc, argv, 0,
            "Usage: kong check [FILE]\n\nCheck a configuration file and the environment.", &o,
            &rest))
        return 1;
    file = rest > 1 ? argv[1] : "/etc/kong/kong.conf";
    o.conf = file;
    s = sb_options_settings(&o);
    if (!s)
        return 1;
    printf("configuration at %s is valid\n", file);
    sb_settings_free(s);
    return 0;
}

int sb_verb_version(int argc, char **argv)
{
    struct sb_options o;
    int rest;

    if (!sb_options_parse(argc, argv, SB_OPT_ALL,
                          "Usage: kong version [OPTIONS]\n\nPrint the version.", &o, &rest))
        return 1;
    printf("%sSilverback %s (Kong 3.9.1 compatible)\n", o.all ? "Kong: 3.9.1\n" : "3.9.1\n",
           SB_VERSION);
    if (o.all)
        printf("libevent: %s\n%s\n", event_get_version(), OpenSSL_version(OPENSSL_VERSION));
    return 0;
}
