/* state.c - what schema_meta says about a database, and whether it is one for us.
 *
 * A migration is executed or pending when its subsystem's row says so; else it is new when it comes
 * after the one recorded last, and missing (harmless, as Kong sees it) when before.
 */
#include "migrations/migrate.h"

#include <stdio.h>

#include "migrations/list.h"

/* One row of schema_meta. */
struct meta {
    struct sb_str subsystem, last;
    struct sb_str *executed, *pending;
    size_t nexecuted, npending;
};

static bool contains(const struct sb_str *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (sb_str_is(list[i], name))
            return true;
    return false;
}

static const struct meta *meta_of(const struct meta *metas, size_t n, const char *subsystem)
{
    for (size_t i = 0; i < n; i++)
        if (sb_str_is(metas[i].subsystem, subsystem))
            return &metas[i];
    return NULL;
}

static bool is_known(struct sb_str subsystem, const char *name)
{
    for (const struct sb_migration *m = sb_migrations; m->subsystem; m++)
        if (sb_str_is(subsystem, m->subsystem) && (!name || strcmp(m->name, name) == 0))
            return true;
    return false;
}

/* Is the migration before the one recorded last? */
static bool is_passed(const struct sb_migration *m, const struct meta *meta)
{
    const struct sb_migration *next = m + 1;

    for (; next->subsystem && strcmp(next->subsystem, m->subsystem) == 0; next++)
        if (sb_str_is(meta->last, next->name))
            return true;
    return false;
}

static enum sb_migration_status status_of(const struct sb_migration *m, const struct meta *metas,
                                          size_t n)
{
    const struct meta *meta = meta_of(metas, n, m->subsystem);

    if (!meta)
        return SB_MIGRATION_NEW;
    if (contains(meta->pending, meta->npending, m->name))
        return SB_MIGRATION_PENDING;
    if (contains(meta->executed, meta->nexecuted, m->name))
        return SB_MIGRATION_EXECUTED;
    return is_passed(m, meta) ? SB_MIGRATION_MISSING : SB_MIGRATION_NEW;
}

static bool is_ours(struct sb_str subsystem)
{
    return sb_str_is(subsystem, SB_MIGRATIONS_OURS);
}

/* A name that this release doesn't know. What is only pending leaves older programs working. */
static const struct sb_str *newer_than_us(const struct meta *meta)
{
    for (size_t i = 0; is_known(meta->subsystem, NULL) && i < meta->nexecuted; i++)
        if (!is_known(meta->subsystem, meta->executed[i].p))
            return &meta->executed[i];
    return NULL;
}

static struct sb_str refuse_newer(struct sb_arena *a, const struct meta *meta,
                                  const struct sb_str *name)
{
    if (is_ours(meta->subsystem))
        return sb_arena_printf(a,
                               "the database was migrated by a newer release (it has '%.*s'): run "
                               "that release, or restore a backup of before",
                               SB_ARG(*name));
    return sb_arena_printf(a,
                           "the database belongs to a Kong newer than 3.9 (%.*s has '%.*s'), whose "
                           "schema this release does not know",
                           SB_ARG(meta->subsystem), SB_ARG(*name));
}

/* A subsystem of Kong's that is there in part: the data must go through Kong's own steps. */
static struct sb_str refuse_older(struct sb_arena *a, const struct meta *meta)
{
    return sb_arena_printf(a,
                           "the database belongs to a Kong older than 3.9 (%.*s is at '%.*s'): "
                           "bring it to 3.9 with Kong's own 'kong migrations up' and 'kong "
                           "migrations finish' first",
                           SB_ARG(meta->subsystem), SB_ARG(meta->last));
}

static struct sb_str find_refusal(struct sb_arena *a, const struct meta *metas, size_t n,
                                  const struct sb_migrate_state *s)
{
    for (size_t i = 0; i < n; i++) {
        const struct sb_str *name = newer_than_us(&metas[i]);

        if (sb_str_is(metas[i].subsystem, "enterprise"))
            return SB_STR("the database belongs to Kong Enterprise, whose schema differs");
        if (name)
            return refuse_newer(a, &metas[i], name);
    }
    for (size_t i = 0; sb_migrations[i].subsystem; i++) {
        const struct meta *meta = meta_of(metas, n, sb_migrations[i].subsystem);

        if (s->status[i] == SB_MIGRATION_NEW && meta && !is_ours(meta->subsystem))
            return refuse_older(a, meta);
    }
    return (struct sb_str){0};
}

static enum sb_rc read_metas(struct sb_pg *pg, struct sb_arena *a, struct meta **out, size_t *n,
                             struct sb_err *err)
{
    static const char sql[] = "SELECT subsystem, last_executed, coalesce(executed, '{}'), "
                              "coalesce(pending, '{}') FROM schema_meta WHERE key = 'schema_meta'";
    struct sb_pg_rows rows = {0};
    enum sb_rc rc = sb_pg_query(pg, sql, NULL, 0, &rows, err);
    struct meta *metas;

    if (rc)
        return rc;
    metas = SB_NEW_N(a, struct meta, rows.count + 1);
    while (!rc && sb_pg_next(&rows)) {
        struct meta *m = &metas[rows.at];

        m->subsystem = sb_arena_str(a, sb_pg_text(&rows, 0));
        m->last = sb_arena_str(a, sb_pg_text(&rows, 1));
        if (!sb_pg_array_parse(a, sb_pg_text(&rows, 2), &m->executed, &m->nexecuted) ||
            !sb_pg_array_parse(a, sb_pg_text(&rows, 3), &m->pending, &m->npending))
            rc = sb_err_set(err, SB_INVALID, "schema_meta has an array that is none");
    }
    *n = (size_t)rows.count;
    *out = metas;
    sb_pg_rows_release(&rows);
    return rc;
}

/* Where we are, whether schema_meta is Kong's, and whose the tables are when it isn't there. */
static enum sb_rc look_around(struct sb_pg *pg, struct sb_arena *a, struct sb_migrate_state *out,
                              bool *is_kongs, struct sb_str *squatter, struct sb_err *err)
{
    static const char sql[] =
        "SELECT coalesce(current_schema(), ''), current_database(),"
        " (SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('schema_meta')"
        "   AND attname IN ('key', 'subsystem', 'last_executed', 'executed', 'pending')),"
        " to_regclass('schema_meta') IS NOT NULL,"
        " (SELECT min(relname::text) FROM pg_class"
        "   WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))"
        "   AND relkind IN ('r', 'v', 'm', 'p', 'f') AND relname IN ('acls',"
        "   'ca_certificates', 'certificates', 'cluster_events', 'consumers', 'keys', 'key_sets',"
        "   'parameters', 'plugins', 'routes', 'services', 'sessions', 'snis', 'tags', 'targets',"
        "   'upstreams', 'workspaces', 'filter_chains', 'sm_vaults'))";
    struct sb_pg_rows rows = {0};
    enum sb_rc rc = sb_pg_query(pg, sql, NULL, 0, &rows, err);

    if (rc)
        return rc;
    sb_pg_next(&rows);
    out->schema = sb_arena_str(a, sb_pg_text(&rows, 0));
    out->database = sb_arena_str(a, sb_pg_text(&rows, 1));
    out->has_meta = sb_str_is(sb_pg_text(&rows, 3), "t");
    *is_kongs = sb_pg_int(&rows, 2) == 5;
    *squatter = sb_arena_str(a, sb_pg_text(&rows, 4));
    sb_pg_rows_release(&rows);
    return SB_OK;
}

static size_t migrations_count(void)
{
    size_t n = 0;

    while (sb_migrations[n].subsystem)
        n++;
    return n;
}

static enum sb_rc check_server(struct sb_pg *pg, struct sb_err *err)
{
    int v = sb_pg_server_version(pg);

    if (v >= SB_PG_VERSION_MIN)
        return SB_OK;
    return sb_err_set(err, SB_INVALID,
                      "Silverback requires PostgreSQL %d or greater (currently using %d.%d)",
                      SB_PG_VERSION_MIN / 10000, v / 10000, v / 100 % 100);
}

enum sb_rc sb_migrate_state(struct sb_pg *pg, struct sb_arena *a, struct sb_migrate_state *out,
                            struct sb_err *err)
{
    struct sb_migrate_state s = {0};
    struct meta *metas = NULL;
    struct sb_str squatter;
    size_t n = 0;
    bool is_kongs;
    enum sb_rc rc = check_server(pg, err);

    if (!rc)
        rc = look_around(pg, a, &s, &is_kongs, &squatter, err);
    if (!rc && s.has_meta && is_kongs)
        rc = read_metas(pg, a, &metas, &n, err);
    if (rc)
        return rc;
    s.status = SB_NEW_N(a, enum sb_migration_status, migrations_count());
    for (size_t i = 0; sb_migrations[i].subsystem; i++) {
        s.status[i] = status_of(&sb_migrations[i], metas, n);
        s.count[s.status[i]]++;
    }
    s.needs_bootstrap = !meta_of(metas, n, "core");
    s.foreign = s.has_meta && !is_kongs;
    if (s.foreign)
        s.refusal = sb_arena_printf(a,
                                    "table 'schema_meta' in schema '%.*s' is not Kong's: choose "
                                    "another pg_schema or pg_database",
                                    SB_ARG(s.schema));
    else if (s.needs_bootstrap && squatter.len)
        s.refusal = sb_arena_printf(a,
                                    "schema '%.*s' has a table '%.*s' that schema_meta does not "
                                    "account for: choose another pg_schema or pg_database, or, if "
                                    "nothing in it matters, drop it",
                                    SB_ARG(s.schema), SB_ARG(squatter));
    else
        s.refusal = find_refusal(a, metas, n, &s);
    *out = s;
    return SB_OK;
}

enum sb_rc sb_migrate_refuse(const struct sb_migrate_state *s, struct sb_err *err)
{
    return s->refusal.len ? sb_err_set(err, SB_INVALID, "%.*s", SB_ARG(s->refusal)) : SB_OK;
}

enum sb_rc sb_migrate_check(struct sb_pg *pg, bool *pending, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_migrate_state s;
    enum sb_rc rc = sb_migrate_state(pg, a, &s, err);

    if (!rc)
        rc = sb_migrate_refuse(&s, err);
    if (!rc && s.needs_bootstrap)
        rc = sb_err_set(err, SB_INVALID, SB_SAY_NEEDS_BOOTSTRAP);
    else if (!rc && s.count[SB_MIGRATION_NEW])
        rc = sb_err_set(err, SB_INVALID, SB_SAY_NEW);
    if (!rc)
        *pending = s.count[SB_MIGRATION_PENDING] > 0;
    sb_arena_free(a);
    return rc;
}
