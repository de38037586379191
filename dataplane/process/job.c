#include "dataplane/process/job.h"

#include <errno.h>
#include <string.h>

#include "dataplane/config/context.h"
#include "dataplane/plugins/abi.h"
#include "schema/declarative.h"

enum { FILE_LEN_MAX = 1 << 30 };

void sb_job_begin(struct sb_job *job, const struct sb_options *options)
{
    struct sb_err err;

    *job = (struct sb_job){.settings = sb_options_settings(options)};
    if (!job->settings)
        return;
    if (sb_plugins_load(job->settings, &err)) {
        sb_options_fail("%s", err.text);
        sb_settings_free(job->settings);
        job->settings = NULL;
        return;
    }
    job->arena = sb_arena_new(0);
    job->ctx = sb_context(job->settings, job->arena);
}

void sb_job_end(struct sb_job *job)
{
    sb_store_free(job->store);
    sb_pg_free(job->pg);
    sb_settings_free(job->settings);
    sb_arena_free(job->arena);
}

static bool read_text(struct sb_job *job, const char *path, struct sb_str *out)
{
    struct sb_buf b;
    bool ok;

    sb_buf_init(&b, FILE_LEN_MAX);
    ok = sb_buf_read_file(&b, path);
    if (ok)
        *out = sb_arena_str(job->arena, sb_buf_get(&b));
    else
        sb_options_fail("%s: %s", path, strerror(errno));
    sb_buf_release(&b);
    return ok;
}

struct sb_value *sb_job_load_file(struct sb_job *job, const char *path)
{
    struct sb_kong_error e = {0};
    struct sb_value *doc, *rows;
    char hash[33];
    struct sb_str text;
    struct sb_err err;

    if (!read_text(job, path, &text))
        return NULL;
    if (sb_declarative_text(job->arena, text, path, &doc, &err)) {
        sb_options_fail("Failed parsing:\n%s", err.text);
        return NULL;
    }
    if (sb_declarative_load(&job->ctx, doc, text, &rows, hash, &e)) {
        sb_options_fail("Failed parsing:\n%.*s", SB_ARG(sb_declarative_pretty(job->arena, &e)));
        return NULL;
    }
    return rows;
}

bool sb_job_connect(struct sb_job *job)
{
    struct sb_pg_config config;
    struct sb_err err;

    sb_settings_pg(job->settings, false, &config);
    if (sb_pg_connect(&config, &job->pg, &err) == SB_OK &&
        sb_store_pg(job->pg, &job->store, &err) == SB_OK)
        return true;
    sb_options_fail("%s", err.text);
    return false;
}

enum sb_rc sb_job_stored_rows(struct sb_job *job, struct sb_value **out, struct sb_err *err)
{
    struct sb_value *all = sb_value_object(job->arena);
    enum sb_rc rc = sb_pg_exec(job->pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err);

    for (const struct sb_entity *const *kind = sb_entities(); !rc && *kind; kind++) {
        struct sb_value *rows;

        if ((*kind)->flags & SB_E_NO_EXPORT || strcmp((*kind)->name, "workspaces") == 0)
            continue;
        rc = sb_store_rows(job->store, job->arena, *kind, NULL, 0, &rows, err);
        if (!rc && rows->count)
            sb_object_set(job->arena, all, sb_str_c((*kind)->name), rows);
    }
    *out = all;
    return rc;
}
