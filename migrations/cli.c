/* cli.c - `silverback-migrations VERB`, which is also `kong migrations VERB`: verbs, flags, words
 * and exit codes are Kong's.
 */
#include "migrations/migrate.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "migrations/list.h"
#include "shared/cli.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/settings.h"

enum { STATEMENT_TIMEOUT_MS = 60000 };
/* Exit codes of list. */
enum { EXIT_NEEDS_BOOTSTRAP = 3, EXIT_PENDING = 4, EXIT_NEW = 5 };

extern char **environ;

struct options {
    const char *conf, *prefix;
    double db_timeout_s, lock_timeout_s;
    bool yes, quiet, force, verbose, very_verbose;
};

#define FLAG(flag, c, t, member, val, text)                                                        \
    {                                                                                              \
        .name = flag, .letter = c, .type = t, .at = offsetof(struct options, member),              \
        .value = val, .help = text                                                                 \
    }
/* clang-format off */
static const struct sb_cli_flag flags[] = {
    FLAG("conf", 'c', SB_CLI_TEXT, conf, "FILE", "configuration file"),
    FLAG("prefix", 'p', SB_CLI_TEXT, prefix, "DIR", "override the prefix directory"),
    FLAG("yes", 'y', SB_CLI_SWITCH, yes, NULL, "assume yes: ask nothing"),
    FLAG("quiet", 'q', SB_CLI_SWITCH, quiet, NULL, "print errors only"),
    FLAG("force", 'f', SB_CLI_SWITCH, force, NULL,
         "bootstrap: reset first; up, finish: run Silverback's own migrations again"),
    FLAG("db-timeout", 0, SB_CLI_NUMBER, db_timeout_s, "SECONDS",
         "limit for connecting and for each statement (pg_timeout, 60)"),
    FLAG("lock-timeout", 0, SB_CLI_NUMBER, lock_timeout_s, "SECONDS",
         "how long the lock against other nodes lasts, and how long up waits for it (60)"),
    FLAG("v", 0, SB_CLI_SWITCH, verbose, NULL, "say more"),
    FLAG("vv", 0, SB_CLI_SWITCH, very_verbose, NULL, "say everything"),
    {0},
};
/* clang-format on */

static void say_line(const char *line)
{
    puts(line);
    fflush(stdout);
}

static int fail(const char *text)
{
    fprintf(stderr, "Error: %s\n\n  Run with --v (verbose) or --vv (debug) for more details\n",
            text);
    return 1;
}

/* -- setting up ----------------------------------------------------------------------------- */

static enum sb_rc load_settings(const struct options *o, struct sb_settings **out,
                                struct sb_err *err)
{
    struct sb_settings_source source = {.conf = o->conf,
                                        .prefix = o->prefix,
                                        .db_timeout_s = o->db_timeout_s,
                                        .env = (const char *const *)environ};
    struct sb_buf problems, warnings;
    struct sb_str text, line;
    enum sb_rc rc;

    sb_buf_init(&problems, 0);
    sb_buf_init(&warnings, 0);
    rc = sb_settings_load(&source, out, &problems, &warnings);
    for (text = sb_buf_get(&warnings); sb_str_split(&text, '\n', &line);)
        if (line.len)
            sb_warn("%.*s", SB_ARG(line));
    if (rc)
        sb_err_set(err, rc, "%.*s", SB_ARG(sb_str_trim(sb_buf_get(&problems))));
    sb_buf_release(&problems);
    sb_buf_release(&warnings);
    return rc;
}

static enum sb_rc connect_db(const struct sb_settings *s, const struct options *o,
                             struct sb_pg **out, struct sb_err *err)
{
    struct sb_pg_config config;
    struct sb_err why;
    enum sb_rc rc;

    if (strcmp(sb_settings_str(s, "database") ? sb_settings_str(s, "database") : "", "off") == 0)
        return sb_err_set(err, SB_INVALID, "there is nothing to migrate: database is off");
    sb_settings_pg(s, false, &config);
    config.application = "silverback-migrations";
    rc = sb_pg_connect(&config, out, &why);
    if (!rc && o->db_timeout_s <= 0 && config.timeout_ms < STATEMENT_TIMEOUT_MS)
        rc = sb_pg_set_timeout(*out, STATEMENT_TIMEOUT_MS, &why);
    return rc ? sb_err_set(err, rc, "[PostgreSQL error] %.1900s", why.text) : SB_OK;
}

/* What a verb does with a session; returns the exit code. */
typedef int work_fn(struct sb_pg *pg, const struct options *o);

static int with_session(const struct options *o, work_fn *work)
{
    struct sb_settings *settings = NULL;
    struct sb_pg *pg = NULL;
    struct sb_err err = {0};
    enum sb_rc rc;
    int code;

    sb_log_set_level(o->very_verbose ? SB_LOG_DEBUG : o->verbose ? SB_LOG_INFO : SB_LOG_WARN);
    rc = load_settings(o, &settings, &err);
    if (!rc)
        rc = connect_db(settings, o, &pg, &err);
    code = rc ? fail(err.text) : work(pg, o);
    sb_pg_free(pg);
    sb_settings_free(settings);
    return code;
}

/* -- the verbs that change ------------------------------------------------------------------ */

typedef enum sb_rc migrate_fn(struct sb_pg *pg, const struct sb_migrate_options *o,
                              struct sb_err *err);

static int migrate(struct sb_pg *pg, const struct options *o, migrate_fn *verb)
{
    struct sb_migrate_options how = {o->lock_timeout_s, o->force, o->quiet ? NULL : say_line};
    struct sb_err err = {0};

    switch (verb(pg, &how, &err)) {
    case SB_OK:
        return 0;
    case SB_CONFLICT:
        say_line(err.text);
        return verb == sb_migrate_reset;
    case SB_NOTFOUND:
        say_line(err.text);
        return 1;
    default:
        return fail(err.text);
    }
}

static int do_bootstrap(struct sb_pg *pg, const struct options *o)
{
    return migrate(pg, o, sb_migrate_bootstrap);
}

static int do_up(struct sb_pg *pg, const struct options *o)
{
    return migrate(pg, o, sb_migrate_up);
}

static int do_finish(struct sb_pg *pg, const struct options *o)
{
    return migrate(pg, o, sb_migrate_finish);
}

/* Three tries; anything else than yes is no. */
static bool confirm(void)
{
    char answer[16];

    for (int i = 0; i < 3; i++) {
        fputs("> Are you sure? This operation is irreversible. [y/n] ", stdout);
        fflush(stdout);
        if (!fgets(answer, sizeof answer, stdin))
            return false;
        answer[strcspn(answer, "\n")] = 0;
        if (strcmp(answer, "y") == 0 || strcmp(answer, "Y") == 0 || strcmp(answer, "yes") == 0)
            return true;
        if (strcmp(answer, "n") == 0 || strcmp(answer, "N") == 0 || strcmp(answer, "no") == 0)
            return false;
    }
    return false;
}

static int do_reset(struct sb_pg *pg, const struct options *o)
{
    if (!o->yes && !isatty(STDIN_FILENO))
        return fail("not a tty: invoke 'reset' non-interactively with the --yes flag");
    if (!o->yes && !confirm()) {
        say_line("cancelled");
        return 0;
    }
    return migrate(pg, o, sb_migrate_reset);
}

/* -- the verbs that tell -------------------------------------------------------------------- */

/* for (each run of rows of one subsystem): [*from, *to) */
static bool next_subsystem(size_t *from, size_t *to)
{
    *from = *to;
    if (!sb_migrations[*from].subsystem)
        return false;
    while (sb_migrations[*to].subsystem &&
           strcmp(sb_migrations[*to].subsystem, sb_migrations[*from].subsystem) == 0)
        ++*to;
    return true;
}

static void list_status(const struct sb_migrate_state *s, enum sb_migration_status status,
                        const char *title)
{
    size_t from = 0, to = 0;

    if (!s->count[status])
        return;
    puts(title);
    while (next_subsystem(&from, &to)) {
        const char *before = sb_migrations[from].subsystem, *sep = ": ";

        for (size_t i = from; i < to; i++) {
            if (s->status[i] != status)
                continue;
            printf("%s%s%s", before, sep, sb_migrations[i].name);
            before = "";
            sep = ", ";
        }
        if (!before[0])
            putchar('\n');
    }
}

static int print_list(const struct sb_migrate_state *s, bool quiet)
{
    bool pending = s->count[SB_MIGRATION_PENDING] > 0, new = s->count[SB_MIGRATION_NEW] > 0;

    if (s->needs_bootstrap) {
        if (!quiet)
            say_line(SB_SAY_NEEDS_BOOTSTRAP);
        return EXIT_NEEDS_BOOTSTRAP;
    }
    if (!quiet) {
        list_status(s, SB_MIGRATION_EXECUTED, "Executed migrations:");
        list_status(s, SB_MIGRATION_PENDING, "\nPending migrations:");
        list_status(s, SB_MIGRATION_NEW, "\nNew migrations available:");
        if (pending)
            say_line("\nRun 'kong migrations finish' when ready");
        if (new)
            say_line("\nRun 'kong migrations up' to proceed");
    }
    return pending ? EXIT_PENDING : new ? EXIT_NEW : 0;
}

/* The state, for verbs that only tell it; a database that is not for us is an error. */
static enum sb_rc read_state(struct sb_pg *pg, struct sb_arena *a, struct sb_migrate_state *s,
                             struct sb_err *err)
{
    enum sb_rc rc = sb_migrate_state(pg, a, s, err);

    return rc ? rc : sb_migrate_refuse(s, err);
}

static int do_list(struct sb_pg *pg, const struct options *o)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_migrate_state s;
    struct sb_err err = {0};
    int code;

    code = read_state(pg, a, &s, &err) ? fail(err.text) : print_list(&s, o->quiet);
    sb_arena_free(a);
    return code;
}

static struct sb_str namespace_of(struct sb_arena *a, const char *subsystem)
{
    if (strcmp(subsystem, "core") == 0)
        return SB_STR("kong.db.migrations.core");
    if (strcmp(subsystem, SB_MIGRATIONS_OURS) == 0)
        return SB_STR("silverback.migrations");
    return sb_arena_printf(a, "kong.plugins.%s.migrations", subsystem);
}

static struct sb_value *migrations_json(struct sb_arena *a, const struct sb_migrate_state *s,
                                        enum sb_migration_status status)
{
    struct sb_value *list = sb_value_array(a);
    size_t from = 0, to = 0;

    while (next_subsystem(&from, &to)) {
        const char *subsystem = sb_migrations[from].subsystem;
        struct sb_value *names = sb_value_array(a), *item = sb_value_object(a);

        for (size_t i = from; i < to; i++)
            if (s->status[i] == status)
                sb_array_push(a, names, sb_value_text(a, sb_migrations[i].name));
        if (!names->count)
            continue;
        sb_object_set(a, item, SB_STR("subsystem"), sb_value_text(a, subsystem));
        sb_object_set(a, item, SB_STR("namespace"), sb_value_str(a, namespace_of(a, subsystem)));
        sb_object_set(a, item, SB_STR("migrations"), names);
        sb_array_push(a, list, item);
    }
    return list;
}

static void print_status(struct sb_arena *a, const struct sb_migrate_state *s)
{
    static const struct {
        const char *key;
        enum sb_migration_status status;
    } lists[] = {
        {"executed_migrations", SB_MIGRATION_EXECUTED},
        {"pending_migrations", SB_MIGRATION_PENDING},
        {"missing_migrations", SB_MIGRATION_MISSING},
        {"new_migrations", SB_MIGRATION_NEW},
    };
    struct sb_value *v = sb_value_object(a);

    sb_object_set(a, v, SB_STR("needs_bootstrap"), sb_value_bool(a, s->needs_bootstrap));
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        sb_object_set(a, v, sb_str_c(lists[i].key), migrations_json(a, s, lists[i].status));
    say_line(sb_json_text(a, v, 0).p);
}

static int do_status(struct sb_pg *pg, const struct options *o)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_migrate_state s;
    struct sb_err err = {0};
    int code = 0;

    (void)o;
    if (read_state(pg, a, &s, &err))
        code = fail(err.text);
    else
        print_status(a, &s);
    sb_arena_free(a);
    return code;
}

/* -- the command line ----------------------------------------------------------------------- */

static const struct {
    const char *verb, *usage;
    work_fn *work;
} works[] = {
    {"bootstrap", "Makes the schema in an empty database, once; run again, it changes nothing.",
     do_bootstrap},
    {"up",
     "Runs the new migrations' first half, with which the release before still works. An\n"
     "existing Kong 3.9 database becomes Silverback's too by this, its rows untouched.",
     do_up},
    {"finish", "Runs the second half, once the programs of the release before are gone.",
     do_finish},
    {"list", "Lists migrations. Exit code: 0 up to date, 3 needs bootstrap, 4 pending, 5 new.",
     do_list},
    {"status", "Prints the state as one line of JSON.", do_status},
    {"reset", "Drops everything in the schema, after asking.", do_reset},
};

/* argv[0] is the verb. */
static int run_verb(int argc, char **argv)
{
    struct options o = {.lock_timeout_s = 60};
    bool help;
    int kept = sb_cli_parse(argc, argv, flags, &o, &help);
    size_t i = 0;

    while (strcmp(works[i].verb, argv[0]) != 0)
        i++;
    if (kept > 1) {
        fprintf(stderr, "%s: unrecognized parameter: %s\n", argv[0], argv[1]);
        help = true;
    }
    if (kept < 0 || help) {
        fprintf(stderr, "Usage: kong migrations %s [OPTIONS]\n\n%s\n\nOptions:\n", works[i].verb,
                works[i].usage);
        sb_cli_print_flags(flags);
        return 1;
    }
    return with_session(&o, works[i].work);
}

int sb_migrations_main(int argc, char **argv)
{
    static const struct sb_cli_verb verbs[] = {
        {"bootstrap", run_verb, "make the schema in an empty database"},
        {"up", run_verb, "run new migrations; adopt a Kong 3.9 database"},
        {"finish", run_verb, "finish what up has begun"},
        {"list", run_verb, "list executed, pending and new migrations"},
        {"status", run_verb, "the same as JSON"},
        {"reset", run_verb, "drop everything"},
        {0},
    };

    bool of_kong = strcmp(argv[0], "migrations") == 0; /* `kong migrations` */

    return sb_cli_run(argc, argv, of_kong ? "kong migrations" : argv[0], "migrations", verbs);
}
