/* migrate.c - from any database that we take to the present schema.
 *
 * What ran is recorded in schema_meta, a row a subsystem, as Kong does it: so Kong opens a database
 * that we made, and we one that Kong made. Two guards stand around the work:
 *
 *     lock row      key `migrations` in `locks`, Kong's: nodes of either product see that someone
 * is at it, and go away (bootstrap, finish, reset) or wait (up). It has a lifetime, so that a node
 * that died does not hold it for ever. transaction   the whole run is one, which locks schema_meta
 * first and reads the state only then: a holder that outlived its row does no harm, and a run that
 * breaks off leaves nothing behind.
 */
#include "migrations/migrate.h"

#include <poll.h>
#include <stdio.h>

#include "migrations/list.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/uuid.h"

static void say(const struct sb_migrate_options *o, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void say(const struct sb_migrate_options *o, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    if (!o->say)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    o->say(line);
}

/* -- the cluster lock ----------------------------------------------------------------------- */

/* A pooler may give each transaction another session, so the lock is a row, not a session's. */
static enum sb_rc try_lock(struct sb_pg *pg, const char *owner, double ttl_s, struct sb_err *err)
{
    struct sb_pg_rows rows = {0};
    struct sb_str params[2];
    char ttl[32];
    enum sb_rc rc;

    rc = sb_pg_exec(pg, "DELETE FROM locks WHERE ttl < CURRENT_TIMESTAMP", err);
    if (rc)
        return rc;
    snprintf(ttl, sizeof ttl, "%.3f", ttl_s);
    params[0] = sb_str_c(owner);
    params[1] = sb_str_c(ttl);
    rc = sb_pg_query(pg,
                     "INSERT INTO locks (key, owner, ttl) VALUES ('migrations', $1,"
                     " CURRENT_TIMESTAMP + $2::double precision * interval '1 second')"
                     " ON CONFLICT DO NOTHING",
                     params, 2, &rows, err);
    if (rc)
        return rc;
    if (sb_pg_affected(&rows) == 0)
        rc = sb_err_set(err, SB_CONFLICT, "aborted: another node is performing database changes");
    sb_pg_rows_release(&rows);
    return rc;
}

static enum sb_rc lock(struct sb_pg *pg, const char *owner, const struct sb_migrate_options *o,
                       bool wait, struct sb_err *err)
{
    int64_t deadline = sb_clock_ms() + (int64_t)(o->lock_timeout_s * 1000) + 1000;
    int step_ms = 100;
    enum sb_rc rc;

    for (;;) {
        rc = try_lock(pg, owner, o->lock_timeout_s, err);
        if (rc != SB_CONFLICT || !wait || sb_clock_ms() > deadline)
            return rc;
        poll(NULL, 0, step_ms);
        step_ms = step_ms * 3 < 2000 ? step_ms * 3 : 2000;
    }
}

static void unlock(struct sb_pg *pg, const char *owner)
{
    struct sb_str param = sb_str_c(owner);
    struct sb_pg_rows rows = {0};
    struct sb_err err;

    if (sb_pg_query(pg, "DELETE FROM locks WHERE key = 'migrations' AND owner = $1", &param, 1,
                    &rows, &err))
        sb_warn("the lock of the migrations stays until it expires: %s", err.text);
    sb_pg_rows_release(&rows);
}

/* -- running migrations --------------------------------------------------------------------- */

/* Ends the transaction as rc says. */
static enum sb_rc end(struct sb_pg *pg, enum sb_rc rc, struct sb_err *err)
{
    if (!rc)
        return sb_pg_exec(pg, "COMMIT", err);
    if (sb_pg_alive(pg) && sb_pg_exec(pg, "ROLLBACK", NULL))
        sb_debug("nothing to roll back");
    return rc;
}

static enum sb_rc record(struct sb_pg *pg, const struct sb_migration *m, const char *sql,
                         struct sb_err *err)
{
    struct sb_str empty = m->pending_null ? (struct sb_str){0} : SB_STR("{}");
    struct sb_str params[] = {sb_str_c(m->subsystem), sb_str_c(m->name), empty};
    struct sb_pg_rows rows = {0};
    enum sb_rc rc = sb_pg_query(pg, sql, params, 3, &rows, err);

    sb_pg_rows_release(&rows);
    return rc;
}

static const char record_executed[] =
    "INSERT INTO schema_meta AS m (key, subsystem, last_executed, executed, pending)"
    " VALUES ('schema_meta', $1, $2, ARRAY[$2], $3) ON CONFLICT (key, subsystem) DO UPDATE SET"
    " last_executed = EXCLUDED.last_executed,"
    " executed = array_remove(coalesce(m.executed, '{}'), $2) || EXCLUDED.executed,"
    " pending = array_remove(m.pending, $2)";
static const char record_pending[] =
    "INSERT INTO schema_meta AS m (key, subsystem, last_executed, executed, pending)"
    " VALUES ('schema_meta', $1, $2, '{}', $3::text[] || $2) ON CONFLICT (key, subsystem) DO UPDATE"
    " SET last_executed = EXCLUDED.last_executed,"
    " executed = array_remove(m.executed, $2),"
    " pending = array_remove(coalesce(m.pending, '{}'), $2) || $2";

/* Which half of which migrations a run takes. */
struct run {
    struct sb_pg *pg;
    const struct sb_migrate_options *o;
    bool up, finish; /* both: one after the other, as bootstrap does */
    bool repeat;     /* ours also when they are executed: --force */
    int executed, pending;
};

static bool is_due(const struct run *r, size_t i, enum sb_migration_status status)
{
    if (r->repeat && strcmp(sb_migrations[i].subsystem, SB_MIGRATIONS_OURS) == 0)
        return true;
    return r->up ? status == SB_MIGRATION_NEW : status == SB_MIGRATION_PENDING;
}

static enum sb_rc run_one(struct run *r, const struct sb_migration *m, struct sb_err *err)
{
    bool executed = r->finish || !m->finish;
    enum sb_rc rc = SB_OK;

    if (r->up && m->up)
        rc = sb_pg_exec(r->pg, m->up, err);
    if (!rc && r->finish && m->finish)
        rc = sb_pg_exec(r->pg, m->finish, err);
    if (!rc)
        rc = record(r->pg, m, executed ? record_executed : record_pending, err);
    if (rc) {
        sb_err_at(err, "failed to run migration '%s' of %s", m->name, m->subsystem);
        return rc;
    }
    *(executed ? &r->executed : &r->pending) += 1;
    say(r->o, "%s migrated up to: %s (%s)", m->subsystem, m->name,
        executed ? "executed" : "pending");
    return SB_OK;
}

/* All that are due in this state; the words are Kong's. */
static enum sb_rc run_all(struct run *r, const struct sb_migrate_state *s, struct sb_err *err)
{
    const char *subsystem = "";
    enum sb_rc rc = SB_OK;
    int total;

    for (size_t i = 0; !rc && sb_migrations[i].subsystem; i++) {
        const struct sb_migration *m = &sb_migrations[i];

        if (!is_due(r, i, s->status[i]))
            continue;
        if (strcmp(subsystem, m->subsystem) != 0)
            say(r->o, "migrating %s on database '%.*s'...", m->subsystem, SB_ARG(s->database));
        subsystem = m->subsystem;
        rc = run_one(r, m, err);
    }
    if (rc)
        return rc;
    total = r->executed + r->pending;
    say(r->o, "%d migration%s processed", total, total == 1 ? "" : "s");
    if (r->executed)
        say(r->o, "%d executed", r->executed);
    if (r->pending)
        say(r->o, "%d pending", r->pending);
    return SB_OK;
}

/* -- the verbs ------------------------------------------------------------------------------ */

/* Schema, schema_meta and locks: what everything else needs. One at a time, for CREATE ... IF NOT
 * EXISTS is no protection against another one at the same moment. */
static enum sb_rc lay_ground(struct sb_pg *pg, struct sb_err *err)
{
    static const char tables[] =
        "SELECT pg_advisory_xact_lock(hashtext('silverback migrations'), 0);"
        "CREATE TABLE IF NOT EXISTS schema_meta ("
        "    key           text,"
        "    subsystem     text,"
        "    last_executed text,"
        "    executed      text[],"
        "    pending       text[],"
        "    PRIMARY KEY (key, subsystem)"
        ");"
        "CREATE TABLE IF NOT EXISTS locks ("
        "    key   text PRIMARY KEY,"
        "    owner text,"
        "    ttl   timestamptz"
        ");"
        "CREATE INDEX IF NOT EXISTS locks_ttl_idx ON locks (ttl)";
    enum sb_rc rc = sb_pg_exec(pg, "BEGIN", err);

    if (!rc)
        rc = sb_pg_exec(pg, tables, err);
    return end(pg, rc, err);
}

/* current_schema() is NULL while the schema that pg_schema names is not there. */
static enum sb_rc make_schema(struct sb_pg *pg, struct sb_err *err)
{
    static const char sql[] =
        "DO $$ BEGIN"
        "  PERFORM pg_advisory_xact_lock(hashtext('silverback migrations'), 0);"
        "  IF current_schema() IS NULL THEN"
        "    EXECUTE 'CREATE SCHEMA IF NOT EXISTS ' || replace("
        "        split_part(current_setting('search_path'), ',', 1), '\"$user\"', 'public');"
        "  END IF;"
        " END $$";
    return sb_pg_exec(pg, sql, err);
}

/* A verb's work, in one transaction under the cluster lock, on the state as it is there. */
struct job {
    bool wait;      /* for another holder, instead of giving up */
    bool any_state; /* also on a database that is refused */
    bool drops;     /* and the lock with it */
    enum sb_rc (*work)(struct sb_pg *pg, const struct sb_migrate_options *o,
                       const struct sb_migrate_state *s, struct sb_err *err);
};

/* Functions keep the search path that they are made with: ours see this schema and no temporary
 * table that a caller might slip in. */
static enum sb_rc begin(struct sb_pg *pg, struct sb_err *err)
{
    return sb_pg_exec(pg,
                      "BEGIN;"
                      "LOCK TABLE schema_meta IN SHARE ROW EXCLUSIVE MODE;"
                      "SELECT set_config('search_path',"
                      " quote_ident(current_schema()) || ', pg_temp', true)",
                      err);
}

static enum sb_rc do_in_transaction(struct sb_pg *pg, const struct sb_migrate_options *o,
                                    const struct job *job, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_migrate_state s;
    enum sb_rc rc = begin(pg, err);

    if (!rc)
        rc = sb_migrate_state(pg, a, &s, err);
    if (!rc && !job->any_state)
        rc = sb_migrate_refuse(&s, err);
    if (!rc)
        rc = job->work(pg, o, &s, err);
    rc = end(pg, rc, err);
    sb_arena_free(a);
    return rc;
}

static enum sb_rc do_locked(struct sb_pg *pg, const struct sb_migrate_options *o,
                            const struct job *job, struct sb_err *err)
{
    char owner[SB_UUID_TEXT_LEN + 1];
    struct sb_uuid id = sb_uuid_v4();
    enum sb_rc rc;

    sb_uuid_format(&id, owner);
    rc = lock(pg, owner, o, job->wait, err);
    if (rc)
        return rc;
    rc = do_in_transaction(pg, o, job, err);
    if (sb_pg_alive(pg) && (rc || !job->drops))
        unlock(pg, owner);
    return rc;
}

static enum sb_rc read_checked(struct sb_pg *pg, struct sb_arena *a, struct sb_migrate_state *s,
                               struct sb_err *err)
{
    enum sb_rc rc = sb_migrate_state(pg, a, s, err);
    return rc ? rc : sb_migrate_refuse(s, err);
}

static enum sb_rc work_bootstrap(struct sb_pg *pg, const struct sb_migrate_options *o,
                                 const struct sb_migrate_state *s, struct sb_err *err)
{
    struct run r = {.pg = pg, .o = o, .up = true, .finish = true};
    enum sb_rc rc = s->count[SB_MIGRATION_NEW] ? run_all(&r, s, err) : SB_OK;

    if (!rc)
        say(o, "Database is up-to-date");
    return rc;
}

enum sb_rc sb_migrate_bootstrap(struct sb_pg *pg, const struct sb_migrate_options *o,
                                struct sb_err *err)
{
    static const struct job job = {.work = work_bootstrap};
    struct sb_arena *a = sb_arena_new(0);
    struct sb_migrate_state s;
    enum sb_rc rc = SB_OK;

    if (o->force) {
        rc = sb_migrate_reset(pg, o, err);
        rc = rc == SB_NOTFOUND ? SB_OK : rc;
    }
    if (!rc)
        rc = read_checked(pg, a, &s, err);
    if (!rc && !s.needs_bootstrap) {
        say(o, "Database already bootstrapped");
        if (s.count[SB_MIGRATION_NEW])
            say(o, SB_SAY_NEW);
    } else if (!rc) {
        say(o, "Bootstrapping database...");
        rc = make_schema(pg, err);
        if (!rc)
            rc = lay_ground(pg, err);
        if (!rc)
            rc = do_locked(pg, o, &job, err);
    }
    sb_arena_free(a);
    return rc;
}

static enum sb_rc work_up(struct sb_pg *pg, const struct sb_migrate_options *o,
                          const struct sb_migrate_state *s, struct sb_err *err)
{
    struct run r = {.pg = pg, .o = o, .up = true, .repeat = o->force};
    enum sb_rc rc;

    if (s->needs_bootstrap)
        return sb_err_set(err, SB_INVALID, "Cannot run migrations: " SB_SAY_NEEDS_BOOTSTRAP);
    if (s->count[SB_MIGRATION_PENDING] && !o->force)
        return sb_err_set(err, SB_INVALID, SB_SAY_PENDING);
    if (!s->count[SB_MIGRATION_NEW] && !o->force) {
        say(o, "Database is already up-to-date");
        return SB_OK;
    }
    rc = run_all(&r, s, err);
    if (!rc && r.pending)
        say(o, "\n" SB_SAY_PENDING " when ready");
    return rc;
}

enum sb_rc sb_migrate_up(struct sb_pg *pg, const struct sb_migrate_options *o, struct sb_err *err)
{
    static const struct job job = {.wait = true, .work = work_up};
    struct sb_arena *a = sb_arena_new(0);
    struct sb_migrate_state s;
    enum sb_rc rc = read_checked(pg, a, &s, err);

    if (!rc && s.needs_bootstrap)
        rc = sb_err_set(err, SB_INVALID, "Cannot run migrations: " SB_SAY_NEEDS_BOOTSTRAP);
    if (!rc)
        rc = do_locked(pg, o, &job, err);
    sb_arena_free(a);
    return rc;
}

/* Pending migrations of Kong's own: only Kong has their finishing parts. */
static const char *kongs_pending(const struct sb_migrate_state *s)
{
    for (size_t i = 0; sb_migrations[i].subsystem; i++)
        if (s->status[i] == SB_MIGRATION_PENDING &&
            strcmp(sb_migrations[i].subsystem, SB_MIGRATIONS_OURS) != 0)
            return sb_migrations[i].name;
    return NULL;
}

static enum sb_rc work_finish(struct sb_pg *pg, const struct sb_migrate_options *o,
                              const struct sb_migrate_state *s, struct sb_err *err)
{
    struct run r = {.pg = pg, .o = o, .finish = true, .repeat = o->force};
    const char *kongs = kongs_pending(s);

    if (kongs)
        return sb_err_set(err, SB_INVALID,
                          "migration '%s' was begun by Kong: finish it with Kong 3.9's own 'kong "
                          "migrations finish'",
                          kongs);
    if (!s->count[SB_MIGRATION_PENDING] && !o->force) {
        say(o, "No pending migrations to finish");
        return SB_OK;
    }
    return run_all(&r, s, err);
}

enum sb_rc sb_migrate_finish(struct sb_pg *pg, const struct sb_migrate_options *o,
                             struct sb_err *err)
{
    static const struct job job = {.work = work_finish};
    struct sb_arena *a = sb_arena_new(0);
    struct sb_migrate_state s;
    enum sb_rc rc = read_checked(pg, a, &s, err);

    if (!rc && s.needs_bootstrap)
        rc = sb_err_set(err, SB_INVALID, "Cannot run migrations: " SB_SAY_NEEDS_BOOTSTRAP);
    if (!rc && s.count[SB_MIGRATION_NEW])
        say(o, SB_SAY_NEW);
    else if (!rc)
        rc = do_locked(pg, o, &job, err);
    sb_arena_free(a);
    return rc;
}

/* Without the right to make schemas anew, tables and functions go one by one. */
static enum sb_rc drop_everything(struct sb_pg *pg, struct sb_err *err)
{
    static const char sql[] =
        "DO $$ DECLARE s text := quote_ident(current_schema()); x text; BEGIN"
        "  BEGIN"
        "    EXECUTE 'DROP SCHEMA ' || s || ' CASCADE';"
        "    EXECUTE 'CREATE SCHEMA ' || s || ' AUTHORIZATION CURRENT_USER';"
        "    EXECUTE 'GRANT ALL ON SCHEMA ' || s || ' TO CURRENT_USER';"
        "    RETURN;"
        "  EXCEPTION WHEN insufficient_privilege THEN NULL;"
        "  END;"
        "  FOR x IN SELECT oid::regclass FROM pg_class WHERE relkind = 'r'"
        "      AND relnamespace = s::regnamespace LOOP"
        "    EXECUTE 'DROP TABLE IF EXISTS ' || x || ' CASCADE';"
        "  END LOOP;"
        "  FOR x IN SELECT oid::regprocedure FROM pg_proc"
        "      WHERE pronamespace = s::regnamespace AND proowner = CURRENT_USER::regrole LOOP"
        "    EXECUTE 'DROP FUNCTION IF EXISTS ' || x || ' CASCADE';"
        "  END LOOP;"
        " END $$";
    return sb_pg_exec(pg, sql, err);
}

static enum sb_rc work_reset(struct sb_pg *pg, const struct sb_migrate_options *o,
                             const struct sb_migrate_state *s, struct sb_err *err)
{
    enum sb_rc rc;

    (void)s;
    say(o, "Resetting database...");
    rc = drop_everything(pg, err);
    if (!rc)
        say(o, "Database successfully reset");
    return rc;
}

enum sb_rc sb_migrate_reset(struct sb_pg *pg, const struct sb_migrate_options *o,
                            struct sb_err *err)
{
    static const struct job job = {.any_state = true, .drops = true, .work = work_reset};
    struct sb_arena *a = sb_arena_new(0);
    struct sb_migrate_state s;
    enum sb_rc rc = sb_migrate_state(pg, a, &s, err);
    if (!rc && s.foreign)
        rc = sb_migrate_refuse(&s, err);
    else if (!rc && !s.has_meta)
        rc = sb_err_set(err, SB_NOTFOUND, "Database not bootstrapped, nothing to reset");
    if (!rc)
        rc = lay_ground(pg, err); /* a bootstrap that broke off may have made no locks */
    if (!rc)
        rc = do_locked(pg, o, &job, err);
    sb_arena_free(a);
    return rc;
}
