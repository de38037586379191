/* config_command.c - `kong config COMMAND`: declarative files without a running node
 * (reference: declarative-config.md 9).
 *
 * Unlike Kong's, db_import is one transaction: a file that fails half-way leaves nothing behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dataplane/process/job.h"
#include "dataplane/process/verbs.h"
#include "schema/declarative.h"
#include "shared/yaml.h"

static const char default_file[] = "kong.yml";

static const char example[] =
    "# A declarative configuration. Load it with `kong config parse kong.yml`, with the setting\n"
    "# declarative_config, or by POST /config on the Admin API.\n"
    "_format_version: \"3.0\"\n"
    "\n"
    "# services:\n"
    "# - name: example-service\n"
    "#   url: http://example.test\n"
    "#   routes:\n"
    "#   - name: example-route\n"
    "#     paths:\n"
    "#     - /\n"
    "#\n"
    "# consumers:\n"
    "# - username: example-user\n"
    "#   keyauth_credentials:\n"
    "#   - key: my-key\n";

/* -- reading and writing files ---------------------------------------------------------------- */

/* Writes a file that must not exist yet. */
static int write_new(const char *path, struct sb_str text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    bool ok;

    if (fd < 0 && errno == EEXIST)
        return sb_options_fail("%s already exists.\nWill not overwrite it.", path);
    ok = fd >= 0 && write(fd, text.p, text.len) == (ssize_t)text.len;
    if (!ok)
        sb_options_fail("%s cannot be written: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return ok ? 0 : 1;
}

/* -- the database ----------------------------------------------------------------------------- */

/* db_import and db_export have nothing to do without a database. */
static bool needs_database(struct sb_job *job, const char *command)
{
    if (strcmp(sb_settings_str(job->settings, "database"), "off") != 0)
        return sb_job_connect(job);
    sb_options_fail("'kong config %s' only works with a database.%s", command,
                    strcmp(command, "db_import") == 0
                        ? "\nWhen using database=off, reload your declarative configuration\n"
                          "using the /config endpoint."
                        : "");
    return false;
}

static enum sb_rc put_all(struct sb_job *job, const struct sb_value *rows, struct sb_err *err)
{
    enum sb_rc rc = SB_OK;

    for (const struct sb_entity *const *kind = sb_entities(); !rc && *kind; kind++) {
        const struct sb_value *list = sb_get(rows, (*kind)->name);
        size_t refused = 0;

        if (!list)
            continue;
        rc = sb_store_put_rows(job->store, job->arena, *kind, list, &refused, err);
        if (rc == SB_CONFLICT || rc == SB_INVALID)
            sb_err_at(err, "%s %.*s", (*kind)->singular,
                      SB_ARG(sb_value_str_at(list->items[refused], "id")));
    }
    return rc;
}

static enum sb_rc import(struct sb_job *job, const struct sb_value *rows, struct sb_err *err)
{
    enum sb_rc rc = sb_store_begin(job->store, err);

    if (!rc)
        rc = put_all(job, rows, err);
    if (!rc)
        return sb_store_commit(job->store, err);
    sb_store_rollback(job->store);
    return rc;
}

/* -- commands --------------------------------------------------------------------------------- */

static int run_init(struct sb_job *job, const char *path)
{
    (void)job;
    return write_new(path ? path : default_file, SB_STR(example));
}

static int run_parse(struct sb_job *job, const char *path)
{
    if (!sb_job_load_file(job, path))
        return 1;
    puts("parse successful");
    return 0;
}

static int run_import(struct sb_job *job, const char *path)
{
    struct sb_value *rows;
    struct sb_err err;

    if (!needs_database(job, "db_import") || !(rows = sb_job_load_file(job, path)))
        return 1;
    puts("parse successful, beginning import");
    if (import(job, rows, &err))
        return sb_options_fail("Failed importing:\n%s", err.text);
    puts("import successful");
    return 0;
}

static int run_export(struct sb_job *job, const char *path)
{
    struct sb_value *rows;
    struct sb_buf text;
    struct sb_err err;
    int code;

    path = path ? path : default_file;
    if (access(path, F_OK) == 0)
        return sb_options_fail("%s already exists. Will not overwrite it.", path);
    if (!needs_database(job, "db_export"))
        return 1;
    if (sb_job_stored_rows(job, &rows, &err))
        return sb_options_fail("%s", err.text);
    sb_buf_init(&text, 0);
    sb_yaml_write(&text, sb_declarative_dump(&job->ctx, rows));
    code = write_new(path, sb_buf_get(&text));
    sb_buf_release(&text);
    return code;
}

static const struct command {
    const char *name;
    int (*run)(struct sb_job *job, const char *path);
    bool needs_file;
} commands[] = {
    {"init", run_init, false},
    {"parse", run_parse, true},
    {"db_import", run_import, true},
    {"db_export", run_export, false},
};

static const char usage[] =
    "Usage: kong config COMMAND [FILE] [OPTIONS]\n\n"
    "The available commands are:\n"
    "  init [FILE]        write an example (./kong.yml)\n"
    "  parse FILE         check a file\n"
    "  db_import FILE     write its entities into the database, all or none\n"
    "  db_export [FILE]   write the database's entities into a file (./kong.yml)";

static const struct command *command_of(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

int sb_verb_config(int argc, char **argv)
{
    const struct command *command;
    struct sb_job job;
    struct sb_options o;
    int rest, code = 1;

    if (!sb_options_parse(argc, argv, SB_OPT_CONF | SB_OPT_PREFIX, usage, &o, &rest))
        return 1;
    command = rest > 1 ? command_of(argv[1]) : NULL;
    if (!command) {
        fprintf(stderr, "%s%s%s%s\n", rest > 1 ? "No such command for config: " : "",
                rest > 1 ? argv[1] : "", rest > 1 ? "\n\n" : "", usage);
        return 1;
    }
    if (command->needs_file && rest < 3)
        return sb_options_fail(
            "expected a declarative configuration file; see `kong config --help`");
    sb_job_begin(&job, &o);
    if (job.settings)
        code = command->run(&job, rest > 2 ? argv[2] : NULL);
    sb_job_end(&job);
    return code;
}
