/* settings.h - Kong's settings: from the command line, KONG_* variables, kong.conf and defaults, in
 * that order of precedence (reference: configuration.md 1).
 *
 * Every property is a row of one table (kong_settings.c): name, type, default, choices, range, and
 * the sentence for --help. Loading checks all of them and reports all problems at once, each with
 * where its value came from; names that no row knows are warned about with the nearest name that
 * does exist. {vault://env/...} references are resolved while loading, but dumped as written.
 *
 * Immutable after loading: any thread may read. Strings live as long as the settings.
 */
#ifndef SB_SHARED_SETTINGS_H
#define SB_SHARED_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/buf.h"
#include "shared/err.h"
#include "shared/pg.h"
#include "shared/str.h"

/* What a *_listen setting may hold, with the setting's name to fill in. */
#define SB_LISTEN_GRAMMAR                                                                          \
    "%s must be of form: [off] | <ip>:<port> [ssl] [http2] [proxy_protocol] [deferred] [bind] "    \
    "[reuseport] [backlog=%%d+] [ipv6only=on] [ipv6only=off] [so_keepalive=on] "                   \
    "[so_keepalive=off] [so_keepalive=%%w*:%%w*:%%d*], [... next entry ...]"

enum sb_stype {
    SB_S_STRING,
    SB_S_NUMBER,
    SB_S_BOOL, /* on, true; anything else is false (and warned about when it is not off, false) */
    SB_S_NGX_BOOL, /* on; anything else is off */
    SB_S_LIST,     /* comma separated, trimmed */
    SB_S_ENUM,     /* one of `choices` */
};

struct sb_setting {
    const char *name;
    enum sb_stype type;
    const char *def;     /* NULL: unset */
    const char *choices; /* of an enum: "a, b, c" */
    bool ranged, whole;
    double min, max;
    const char *range_text; /* Kong's words when out of range: "must be ..." */
    const char *alias_of;   /* a short name that fills the long one when that is unset */
    const char *help;
};

/* All properties, ended by name NULL. */
extern const struct sb_setting sb_kong_settings[];

struct sb_settings;

/* What a running node was told later (kong reload): over the file and the environment it was
 * started with come the file and the KONG_* variables of that command, the latter under this
 * prefix. */
#define SB_RELOAD_ENV "SB_RELOAD_"

struct sb_settings_source {
    const char *conf;        /* -c FILE; NULL: /etc/kong/kong.conf, /etc/kong.conf, none */
    const char *prefix;      /* -p DIR; NULL: none given */
    double db_timeout_s;     /* --db-timeout, for pg_timeout; 0: not given */
    const char *const *env;  /* environ */
    const char *reload_conf; /* NULL: none */
};

/* Loads and checks. On SB_INVALID problems holds a line each, and *out is not set. Warnings, a line
 * each, are added to warnings in any case. */
SB_MUST enum sb_rc sb_settings_load(const struct sb_settings_source *source,
                                    struct sb_settings **out, struct sb_buf *problems,
                                    struct sb_buf *warnings);
void sb_settings_free(struct sb_settings *s);

/* The text; NULL when unset or empty. Names are the table's, or of an nginx_* family. */
const char *sb_settings_str(const struct sb_settings *s, const char *name);
/* The name of the setting that tells a directive of nginx's for the proxy, of the innermost family
 * that has it: nginx_location_, nginx_proxy_, nginx_http_. "" where none does: a setting that is
 * not set. It lives with the settings. */
const char *sb_settings_directive(const struct sb_settings *s, const char *directive);
/* Of NUMBER settings; def when unset. */
int64_t sb_settings_int(const struct sb_settings *s, const char *name, int64_t def);
double sb_settings_num(const struct sb_settings *s, const char *name, double def);
bool sb_settings_bool(const struct sb_settings *s, const char *name);
/* Of LIST settings; *n 0 when unset. */
const struct sb_str *sb_settings_list(const struct sb_settings *s, const char *name, size_t *n);
/* nginx sizes (8k, 10m, 1g) in bytes and times (60, 60s, 5m, 1d, 500ms) in milliseconds; def when
 * unset or malformed (which loading has reported). */
int64_t sb_settings_size(const struct sb_settings *s, const char *name, int64_t def);
int64_t sb_settings_time_ms(const struct sb_settings *s, const char *name, int64_t def);

/* A path: absolute as it is, else below the prefix. The result lives with the settings. */
const char *sb_settings_prefix(const struct sb_settings *s);
struct sb_str sb_settings_path(const struct sb_settings *s, struct sb_arena *a, const char *path);

/* The database session that the settings describe; ro: the replica (pg_ro_*), false when none is
 * set. */
bool sb_settings_pg(const struct sb_settings *s, bool ro, struct sb_pg_config *out);

/* "name = value" lines of all that is not default, references as written (the .kong_env file). */
void sb_settings_dump(const struct sb_settings *s, struct sb_buf *out);
/* Every value by name, for GET / of the Admin API: secrets masked as Kong masks them. */
struct sb_value *sb_settings_json(const struct sb_settings *s, struct sb_arena *a);

#endif
