/* job.h - what commands on declarative files and stored entities have at hand: settings, an arena,
 * and the database once it is asked for. Whatever fails has been said on stderr as Kong's command
 * line says it.
 */
#ifndef SB_DATAPLANE_PROCESS_JOB_H
#define SB_DATAPLANE_PROCESS_JOB_H

#include "dataplane/process/options.h"
#include "schema/entity.h"
#include "schema/store.h"
#include "shared/pg.h"

struct sb_job {
    struct sb_arena *arena;
    struct sb_settings *settings; /* NULL: they are wrong, and that was said */
    struct sb_schema_ctx ctx;
    struct sb_pg *pg;
    struct sb_store *store;
};

void sb_job_begin(struct sb_job *job, const struct sb_options *options);
void sb_job_end(struct sb_job *job);

/* Validated rows of a declarative file, {entity: [rows]}; NULL when it is refused. */
struct sb_value *sb_job_load_file(struct sb_job *job, const char *path);
/* Connects to the settings' database. May block as long as their time-outs say. */
bool sb_job_connect(struct sb_job *job);
/* All rows that the connected database holds, of one moment. Blocks. */
SB_MUST enum sb_rc sb_job_stored_rows(struct sb_job *job, struct sb_value **out,
                                      struct sb_err *err);

#endif
