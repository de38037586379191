/* options.h - the flags that the verbs take, and the settings that come of them. */
#ifndef SB_DATAPLANE_PROCESS_OPTIONS_H
#define SB_DATAPLANE_PROCESS_OPTIONS_H

#include "shared/cli.h"
#include "shared/settings.h"

struct sb_options {
    const char *conf, *prefix, *nginx_conf, *nginx_conf_flags;
    bool run_migrations, all, verbose, debug;
    double db_timeout_s, lock_timeout_s, timeout_s, wait_s;
    const char *config, *sni, *client_ip;
    struct sb_cli_texts headers;
};

/* Which flags a verb takes, beside -h, --v and --vv. */
enum {
    SB_OPT_CONF = 1,
    SB_OPT_PREFIX = 2,
    SB_OPT_START = 4, /* --run-migrations, --db-timeout, --lock-timeout */
    SB_OPT_NGINX = 8, /* --nginx-conf, --nginx-conf-flags: accepted, warned about */
    SB_OPT_TIMEOUT = 16,
    SB_OPT_WAIT = 32,
    SB_OPT_ALL = 64,
    SB_OPT_REQUEST = 128, /* --config, -H, --sni, --client-ip: of explain */
};

/* Reads the flags; false when the verb is to end with exit code 1 (said on stderr): a wrong flag,
 * or
 * --help. Arguments that are no flags are left in argv, counted by *rest. */
bool sb_options_parse(int argc, char **argv, unsigned which, const char *about,
                      struct sb_options *out, int *rest);

/* The settings of these options, without a word; reload_conf: see settings.h. On SB_INVALID err has
 * the problems, a line each. Warnings are logged if told so. */
SB_MUST enum sb_rc sb_options_load(const struct sb_options *options, const char *reload_conf,
                                   bool warn, struct sb_settings **out, struct sb_err *err);
/* The settings of these options; NULL when they are wrong, which has been said on stderr: every
 * problem, and Kong's hint. Warnings go to the log. */
struct sb_settings *sb_options_settings(const struct sb_options *options);

/* "Error: ..." as Kong's command line says it; returns 1, the exit code. */
int sb_options_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
