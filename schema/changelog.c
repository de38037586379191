#include "schema/changelog.h"

#include <stdio.h>

static bool is_true(const struct sb_pg_rows *rows, int column)
{
    return sb_str_is(sb_pg_text(rows, column), "t");
}

/* A list of a row; the literal is copied, for items may point into it. */
static enum sb_rc read_list(const struct sb_pg_rows *rows, int column, struct sb_arena *a,
                            struct sb_str **items, size_t *n, struct sb_err *err)
{
    if (sb_pg_is_null(rows, column))
        return SB_OK;
    if (sb_pg_array_parse(a, sb_arena_str(a, sb_pg_text(rows, column)), items, n))
        return SB_OK;
    return sb_err_set(err, SB_INVALID, "the change log has an array that is none");
}

enum { C_VERSION, C_MARK, C_WHOLE, C_ENTITY, C_EVERY, C_IDS };

enum sb_rc sb_changes_read(struct sb_pg *pg, struct sb_arena *a, int64_t version, int64_t mark,
                           struct sb_changes *out, struct sb_err *err)
{
    struct sb_str params[] = {sb_arena_printf(a, "%lld", (long long)version),
                              sb_arena_printf(a, "%lld", (long long)mark)};
    struct sb_pg_rows rows = {0};
    struct sb_changes c = {0};
    enum sb_rc rc;

    rc = sb_pg_query(pg, "SELECT * FROM silverback_changes_since($1, $2)", params, 2, &rows, err);
    if (rc)
        return rc;
    sb_pg_next(&rows);
    c.version = sb_pg_int(&rows, C_VERSION);
    c.mark = sb_pg_int(&rows, C_MARK);
    c.reload = is_true(&rows, C_WHOLE);
    c.list = SB_NEW_N(a, struct sb_change, rows.count);
    while (!rc && sb_pg_next(&rows)) {
        struct sb_change *one = &c.list[c.n++];

        one->table = sb_arena_str(a, sb_pg_text(&rows, C_ENTITY));
        one->all = is_true(&rows, C_EVERY);
        if (!one->all)
            rc = read_list(&rows, C_IDS, a, &one->ids, &one->nids, err);
    }
    sb_pg_rows_release(&rows);
    if (!rc)
        *out = c;
    return rc;
}

enum { I_UPTO, I_RESTART, I_UNSETTLED, I_ENTITY, I_OP, I_KEYS };

enum sb_rc sb_invalidations_read(struct sb_pg *pg, struct sb_arena *a, struct sb_str since,
                                 struct sb_invalidations *out, struct sb_err *err)
{
    struct sb_str param = since.len ? since : (struct sb_str){0};
    struct sb_invalidations inv = {0};
    struct sb_pg_rows rows = {0};
    enum sb_rc rc;

    rc = sb_pg_query(pg, "SELECT * FROM silverback_invalidations_since($1)", &param, 1, &rows, err);
    if (rc)
        return rc;
    sb_pg_next(&rows);
    inv.upto = sb_arena_str(a, sb_pg_text(&rows, I_UPTO));
    inv.restart = is_true(&rows, I_RESTART);
    inv.unsettled = is_true(&rows, I_UNSETTLED);
    inv.list = SB_NEW_N(a, struct sb_invalidation, rows.count);
    while (!rc && sb_pg_next(&rows)) {
        struct sb_invalidation *one = &inv.list[inv.n++];

        one->table = sb_arena_str(a, sb_pg_text(&rows, I_ENTITY));
        one->added = sb_str_is(sb_pg_text(&rows, I_OP), "INSERT");
        one->all = sb_pg_is_null(&rows, I_KEYS);
        rc = read_list(&rows, I_KEYS, a, &one->keys, &one->nkeys, err);
    }
    sb_pg_rows_release(&rows);
    if (!rc)
        *out = inv;
    return rc;
}

enum sb_rc sb_changes_tell_level(struct sb_pg *pg, const char *level, int64_t ms,
                                 struct sb_err *err)
{
    struct sb_pg_rows rows = {0};
    struct sb_str param;
    char text[64];
    enum sb_rc rc;

    snprintf(text, sizeof text, SB_LEVEL_NOTICE "%s %lld", level, (long long)ms);
    param = sb_str_c(text);
    rc = sb_pg_query(pg, "SELECT pg_notify('silverback_changes', $1)", &param, 1, &rows, err);
    if (!rc)
        sb_pg_rows_release(&rows);
    return rc;
}
