/* start.c - verbs that check a configuration and bring a node up. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>
#include <openssl/crypto.h>

#include "dataplane/process/options.h"
#include "dataplane/process/prefix.h"
#include "dataplane/process/server.h"
#include "dataplane/process/verbs.h"
#include "migrations/migrate.h"
#include "shared/log.h"

enum { RECOMMENDED_FILES = 4096 };

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

/* As many open files as the system lets us have; too few deserve a word. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < RECOMMENDED_FILES)
        sb_warn("ulimit is currently set to \"%llu\". For better performance set it to at least "
                "\"%d\" using \"ulimit -n\"",
                (unsigned long long)limit.rlim_cur, RECOMMENDED_FILES);
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
}

static int run_here(const struct sb_options *o, const struct sb_settings *s, int fd)
{
    struct announcement announcement = {fd};
    struct sb_err err;

    if (sb_server_run(o, s, say_started, &announcement, &err) == SB_OK)
        return 0;
    sb_options_fail("%s", err.text);
    return 1;
}

/* The child serves; the parent ends when the child listens, or with its failure. */
static int run_in_background(const struct sb_options *o, const struct sb_settings *s)
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
        _exit(run_here(o, s, fds[1]));
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

static int start(const struct sb_options *o, const struct sb_settings *s)
{
    struct sb_err err;

    if (sb_prefix_pid(s))
        return sb_options_fail("Kong is already running in %s", sb_settings_prefix(s));
    if (sb_prefix_prepare(s, &err))
        return sb_options_fail("%s", err.text);
    if (o->run_migrations && migrate(o, s, &err))
        return sb_options_fail("%s", err.text);
    raise_file_limit();
    log_to(s);
    return sb_settings_bool(s, "nginx_main_daemon") ? run_in_background(o, s) : run_here(o, s, -1);
}

int sb_verb_start(int argc, char **argv)
{
    struct sb_options o;
    struct sb_settings *s;
    int rest, code;

    if (!sb_options_parse(argc, argv, SB_OPT_CONF | SB_OPT_PREFIX | SB_OPT_START | SB_OPT_NGINX,
                          start_usage, &o, &rest))
        return 1;
    s = sb_options_settings(&o);
    code = s ? start(&o, s) : 1;
    sb_settings_free(s);
    return code;
}

int sb_verb_restart(int argc, char **argv)
{
    struct sb_options o;
    struct sb_settings *s;
    int rest, code = 1;
    pid_t pid;

    if (!sb_options_parse(
            argc, argv, SB_OPT_CONF | SB_OPT_PREFIX | SB_OPT_START | SB_OPT_NGINX,
            "Usage: kong restart [OPTIONS]\n\nStop the node of the prefix, then start.", &o, &rest))
        return 1;
    s = sb_options_settings(&o);
    pid = s ? sb_prefix_pid(s) : 0;
    if (pid) {
        kill(pid, SIGTERM);
        sb_process_wait(pid, 5000);
    }
    if (s)
        code = start(&o, s);
    sb_settings_free(s);
    return code;
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
