#include "dataplane/process/options.h"

#include <stdio.h>
#include <unistd.h>

#include "shared/log.h"

#define AT(field) offsetof(struct sb_options, field)

static const struct {
    unsigned which;
    struct sb_cli_flag flag;
} all_flags[] = {
    {SB_OPT_CONF, {"conf", 'c', SB_CLI_TEXT, AT(conf), "FILE", "configuration file"}},
    {SB_OPT_PREFIX,
     {"prefix", 'p', SB_CLI_TEXT, AT(prefix), "DIR", "working directory of the node"}},
    {SB_OPT_START,
     {"run-migrations", 0, SB_CLI_SWITCH, AT(run_migrations), NULL, "migrate the database first"}},
    {SB_OPT_START,
     {"db-timeout", 0, SB_CLI_NUMBER, AT(db_timeout_s), "SECONDS", "for each database call"}},
    {SB_OPT_START,
     {"lock-timeout", 0, SB_CLI_NUMBER, AT(lock_timeout_s), "SECONDS",
      "wait for other migrations"}},
    {SB_OPT_NGINX, {"nginx-conf", 0, SB_CLI_TEXT, AT(nginx_conf), "FILE", "has no effect here"}},
    {SB_OPT_NGINX,
     {"nginx-conf-flags", 0, SB_CLI_TEXT, AT(nginx_conf_flags), "FLAGS", "has no effect here"}},
    {SB_OPT_TIMEOUT,
     {"timeout", 't', SB_CLI_NUMBER, AT(timeout_s), "SECONDS", "then stop forcefully (10)"}},
    {SB_OPT_WAIT, {"wait", 'w', SB_CLI_NUMBER, AT(wait_s), "SECONDS", "wait before stopping (0)"}},
    {SB_OPT_ALL, {"all", 'a', SB_CLI_SWITCH, AT(all), NULL, "say everything there is"}},
    {SB_OPT_REQUEST,
     {"config", 0, SB_CLI_TEXT, AT(config), "FILE", "a declarative file, not the database"}},
    {SB_OPT_REQUEST,
     {"header", 'H', SB_CLI_TEXTS, AT(headers), "'NAME: VALUE'", "a header (repeatable)"}},
    {SB_OPT_REQUEST, {"sni", 0, SB_CLI_TEXT, AT(sni), "NAME", "server name of the TLS client"}},
    {SB_OPT_REQUEST,
     {"client-ip", 0, SB_CLI_TEXT, AT(client_ip), "IP", "where the request comes from"}},
    {~0u, {"v", 0, SB_CLI_SWITCH, AT(verbose), NULL, "say more"}},
    {~0u, {"vv", 0, SB_CLI_SWITCH, AT(debug), NULL, "say all"}},
};

enum { FLAGS_MAX = sizeof all_flags / sizeof *all_flags };

bool sb_options_parse(int argc, char **argv, unsigned which, const char *about,
                      struct sb_options *out, int *rest)
{
    struct sb_cli_flag flags[FLAGS_MAX + 1] = {{0}};
    size_t n = 0;
    bool help;

    *out = (struct sb_options){.lock_timeout_s = 60, .timeout_s = 10};
    for (size_t i = 0; i < FLAGS_MAX; i++) {
        if (all_flags[i].which & which)
            flags[n++] = all_flags[i].flag;
    }
    *rest = sb_cli_parse(argc, argv, flags, out, &help);
    if (*rest >= 0 && !help) {
        if (out->nginx_conf || out->nginx_conf_flags)
            sb_warn("--nginx-conf and --nginx-conf-flags have no effect: there is no nginx here");
        sb_log_set_level(out->debug ? SB_LOG_DEBUG : out->verbose ? SB_LOG_INFO : SB_LOG_NOTICE);
        return true;
    }
    fprintf(stderr, "%s%s\n\nOptions:\n", help ? "" : "\n", about);
    sb_cli_print_flags(flags);
    return false;
}

static void log_warnings(struct sb_str text)
{
    struct sb_str line;

    while (sb_str_split(&text, '\n', &line)) {
        if (line.len)
            sb_warn("%.*s", SB_ARG(line));
    }
}

enum sb_rc sb_options_load(const struct sb_options *options, const char *reload_conf, bool warn,
                           struct sb_settings **out, struct sb_err *err)
{
    struct sb_settings_source source = {
        .conf = options->conf,
        .prefix = options->prefix,
        .db_timeout_s = options->db_timeout_s,
        .env = (const char *const *)environ,
        .reload_conf = reload_conf,
    };
    struct sb_buf problems, warnings;
    enum sb_rc rc;

    sb_buf_init(&problems, 0);
    sb_buf_init(&warnings, 0);
    rc = sb_settings_load(&source, out, &problems, &warnings);
    if (rc)
        sb_err_set(err, rc, "%.*s", SB_ARG(sb_str_trim(sb_buf_get(&problems))));
    if (warn)
        log_warnings(sb_buf_get(&warnings));
    sb_buf_release(&problems);
    sb_buf_release(&warnings);
    return rc;
}

struct sb_settings *sb_options_settings(const struct sb_options *options)
{
    struct sb_settings *s = NULL;
    struct sb_err err;

    if (sb_options_load(options, NULL, true, &s, &err))
        sb_options_fail("%s", err.text);
    return s;
}

int sb_options_fail(const char *fmt, ...)
{
    va_list ap;

    fputs("Error: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\n\n  Run with --v (verbose) or --vv (debug) for more details\n", stderr);
    return 1;
}
