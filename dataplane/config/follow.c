/* follow.c - see follow.h, and the change log's own words in migrations/silverback.
 *
 * A position in the log is a version and its mark, which is random: after a restore or a failover
 * to a standby that had fallen behind, a version of the same number may be another one, and its
 * mark tells. So a delta asks for everything from its own version on, that one included: when the
 * log does not answer with our mark first, it was pruned or cut off, and only a load helps.
 *
 *     we are at 41/m41    log: 41/m41 42 43     -> delta of 42 and 43
 *                         log: 42 43            -> pruned: load
 *                         log: 41/other 42      -> another past: load
 */
#include "dataplane/config/follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dataplane/config/invalidate.h"
#include "schema/changelog.h"
#include "schema/store.h"
#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/log.h"

enum {
    RETRY_FIRST_MS = 100, /* doubled at every failure, up to: */
    RETRY_MAX_MS = 5000,
    LAG_FIRST_MS = 10, /* the replica is behind a notification: looked at again, doubled up to: */
    LAG_MAX_MS = 500,
    BEAT_MS = 10000, /* seen_at in silverback_nodes */
    IDS_MAX = 5000,  /* changed rows of a table; with more a load of all is cheaper */
};

/* Kinds that have a version, in load order: those whose tables the change log watches. */
static const char *const kinds[] = {
    "workspaces", "certificates",    "services", "routes",   "snis", "upstreams",     "targets",
    "plugins",    "ca_certificates", "vaults",   "key_sets", "keys", "filter_chains",
};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

struct sb_follower {
    const struct sb_settings *settings;
    const struct sb_uuid *node;
    struct sb_model *model;
    struct sb_invalidator *invalidator; /* NULL: there is no cache */
    struct sb_pg *reader;               /* loads and deltas; NULL: away */
    struct sb_pg *writer; /* notifications and reports; the reader, unless that is a replica */
    struct sb_store *store;
    bool replica;
    struct sb_follow_state state;
    int64_t next_try_ms, retry_ms; /* connecting */
    int64_t next_writer_try_ms;
    int64_t next_look_ms, poll_ms, lag_ms;
    int64_t next_beat_ms;
    uint64_t reported;
    void (*heard)(void *arg, struct sb_str word);
    void *heard_arg;
    char told[256]; /* the trouble of this outage, so that it is told once */
};

struct sb_follower *sb_follower_new(const struct sb_settings *settings, const struct sb_uuid *node,
                                    struct sb_model *model, struct sb_cache *cache)
{
    struct sb_follower *f = sb_xcalloc(1, sizeof *f);
    struct sb_pg_config config;

    f->settings = settings;
    f->node = node;
    f->model = model;
    f->replica = sb_settings_pg(settings, true, &config);
    f->poll_ms = (int64_t)(sb_settings_num(settings, "db_update_frequency", 5) * 1000);
    if (f->poll_ms < 10)
        f->poll_ms = 10;
    f->lag_ms = LAG_FIRST_MS;
    f->retry_ms = RETRY_FIRST_MS;
    if (cache)
        f->invalidator = sb_invalidator_new(
            cache, f->poll_ms,
            (int64_t)(sb_settings_num(settings, "db_update_propagation", 0) * 1000), f->replica);
    return f;
}

static void disconnect_writer(struct sb_follower *f)
{
    if (f->writer != f->reader)
        sb_pg_free(f->writer);
    f->writer = NULL;
    f->state.listening = false;
    f->reported = 0;
}

static void disconnect(struct sb_follower *f)
{
    disconnect_writer(f);
    sb_store_free(f->store);
    sb_pg_free(f->reader);
    f->store = NULL;
    f->reader = NULL;
    f->state.connected = false;
}

void sb_follower_free(struct sb_follower *f)
{
    if (!f)
        return;
    disconnect(f);
    sb_invalidator_free(f->invalidator);
    free(f);
}

void sb_follower_saved(struct sb_follower *f, uint64_t version, int64_t mark)
{
    f->state.version = f->state.newest = version;
    f->state.mark = mark;
}

const struct sb_follow_state *sb_follower_state(const struct sb_follower *f)
{
    return &f->state;
}

void sb_follower_on_word(struct sb_follower *f, void (*heard)(void *arg, struct sb_str word),
                         void *arg)
{
    f->heard = heard;
    f->heard_arg = arg;
}

/* -- connecting -- */

/* Behind a pooler or on a standby nobody notifies us: then we poll. */
static void listen_on(struct sb_follower *f, struct sb_pg *pg)
{
    struct sb_err err;

    f->state.listening = false;
    if (sb_pg_pooled(pg)) {
        sb_info("config: a connection pooler is in between: polling every %lld ms",
                (long long)f->poll_ms);
        return;
    }
    if (sb_pg_exec(pg,
                   "LISTEN silverback_changes; LISTEN silverback_invalidations; "
                   "LISTEN silverback_health",
                   &err)) {
        sb_info("config: the database can't notify (%s): polling every %lld ms", err.text,
                (long long)f->poll_ms);
        return;
    }
    f->state.listening = true;
    if (f->invalidator)
        sb_invalidator_wake(f->invalidator); /* for what was not heard before */
}

/* The primary, beside a replica that is read. */
static void connect_writer(struct sb_follower *f, int64_t now_ms)
{
    struct sb_pg_config config;
    struct sb_err err;

    if (f->writer || !f->replica || now_ms < f->next_writer_try_ms)
        return;
    f->next_writer_try_ms = now_ms + RETRY_MAX_MS;
    if (!sb_settings_pg(f->settings, false, &config))
        return;
    if (sb_pg_connect(&config, &f->writer, &err)) {
        sb_debug("config: the primary does not answer: %s", err.text);
        f->writer = NULL;
        return;
    }
    listen_on(f, f->writer);
}

static enum sb_rc connect_reader(struct sb_follower *f, struct sb_err *err)
{
    struct sb_pg_config config;
    enum sb_rc rc;

    if (!sb_settings_pg(f->settings, f->replica, &config))
        return sb_err_set(err, SB_INVALID, "no database is configured");
    if ((rc = sb_pg_connect(&config, &f->reader, err)))
        return rc;
    if ((rc = sb_store_pg(f->reader, &f->store, err))) {
        sb_pg_free(f->reader);
        f->reader = NULL;
        return rc;
    }
    if (!f->replica) {
        f->writer = f->reader;
        listen_on(f, f->reader);
    }
    f->next_look_ms = 0;
    return SB_OK;
}

/* Half of the time plus a random part of the other half: nodes that lost the database together do
 * not come back in step. */
static int64_t jittered(int64_t ms)
{
    uint32_t r;

    sb_random(&r, sizeof r);
    return ms / 2 + (int64_t)(r % (uint32_t)(ms / 2 + 1));
}

static void retry_later(struct sb_follower *f)
{
    f->next_try_ms = sb_clock_ms() + jittered(f->retry_ms);
    f->retry_ms = f->retry_ms * 2 < RETRY_MAX_MS ? f->retry_ms * 2 : RETRY_MAX_MS;
}

/* -- reading -- */

static enum sb_rc begin(struct sb_follower *f, struct sb_err *err)
{
    return sb_pg_exec(f->reader, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err);
}

/* Nothing was written: how it ends does not matter, but the session must be out of it. */
static void finish(struct sb_follower *f)
{
    if (sb_pg_alive(f->reader) && sb_pg_exec(f->reader, "ROLLBACK", NULL))
        sb_debug("config: rollback failed");
}

/* All rows of a kind, into the model. */
static enum sb_rc load_kind(struct sb_follower *f, const char *name, struct sb_err *err)
{
    const struct sb_entity *kind = sb_entity_find(sb_str_c(name));
    struct sb_arena *a = sb_arena_new(1 << 16);
    struct sb_value *rows = NULL, *row;
    enum sb_rc rc = sb_store_rows(f->store, a, kind, NULL, 0, &rows, err);

    if (rc == SB_OK) {
        sb_model_replace_begin(f->model);
        sb_array_each (row, rows)
            sb_model_put(f->model, sb_str_c(name), row, false);
        sb_model_replace_end(f->model, name);
    } else {
        sb_err_at(err, "%s", name);
    }
    sb_arena_free(a);
    return rc;
}

/* The rows of the ids as they are now; those that are not there any more are dropped. */
static enum sb_rc load_ids(struct sb_follower *f, struct sb_arena *a, const char *name,
                           const struct sb_change *change, struct sb_err *err)
{
    struct sb_map there = {0};
    struct sb_value *rows = NULL, *row;
    enum sb_rc rc = sb_store_rows(f->store, a, sb_entity_find(sb_str_c(name)), change->ids,
                                  change->nids, &rows, err);

    if (rc) {
        sb_err_at(err, "%s", name);
        return rc;
    }
    sb_array_each (row, rows) {
        sb_map_set(&there, sb_value_str_at(row, "id"), row);
        sb_model_put(f->model, sb_str_c(name), row, false);
    }
    for (size_t i = 0; i < change->nids; i++) {
        if (!sb_map_get(&there, change->ids[i]))
            sb_model_drop(f->model, sb_str_c(name), change->ids[i]);
    }
    sb_map_release(&there);
    return SB_OK;
}

/* The kind of a table that the log speaks of; NULL: one that we don't know. */
static const char *kind_of_table(struct sb_str table)
{
    const struct sb_entity *kind = sb_entity_by_table(table);

    for (int k = 0; kind && k < KINDS; k++) {
        if (strcmp(kinds[k], kind->name) == 0)
            return kinds[k];
    }
    return NULL;
}

static enum sb_rc apply_changes(struct sb_follower *f, struct sb_arena *a,
                                const struct sb_changes *changes, struct sb_err *err)
{
    enum sb_rc rc = SB_OK;

    if (changes->reload) {
        sb_info("config: loading version %lld whole", (long long)changes->version);
        for (int k = 0; k < KINDS && !rc; k++)
            rc = load_kind(f, kinds[k], err);
        return rc;
    }
    for (size_t i = 0; i < changes->n && !rc; i++) {
        const struct sb_change *change = &changes->list[i];
        const char *kind = kind_of_table(change->table);

        if (kind)
            rc = change->all ? load_kind(f, kind, err) : load_ids(f, a, kind, change, err);
    }
    return rc;
}

/* Reads whatever is needed to be at the newest version. When that fails half way the model is
 * between two versions, and must be loaded whole before it is shown or saved: it has version 0. */
static enum sb_rc read_changes(struct sb_follower *f, struct sb_arena *a,
                               struct sb_changes *changes, struct sb_err *err)
{
    enum sb_rc rc =
        sb_changes_read(f->reader, a, (int64_t)f->state.version, f->state.mark, changes, err);

    if (rc)
        return rc;
    rc = apply_changes(f, a, changes, err);
    if (rc) {
        f->state.version = 0;
        f->state.mark = 0;
    }
    return rc;
}

static void arrive(struct sb_follower *f, const struct sb_changes *changes, bool *changed)
{
    struct sb_follow_state *s = &f->state;
    uint64_t version = (uint64_t)changes->version;

    *changed = changes->reload || version != s->version;
    s->loads += changes->reload;
    s->deltas += *changed && !changes->reload;
    s->version = version;
    s->mark = changes->mark;
    if (changes->reload || s->newest < version)
        s->newest = version; /* also back, after a restore */
}

static enum sb_rc catch_up(struct sb_follower *f, bool *changed, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_changes changes = {0};
    enum sb_rc rc = begin(f, err);

    if (rc == SB_OK)
        rc = read_changes(f, a, &changes, err);
    finish(f);
    if (rc == SB_OK)
        arrive(f, &changes, changed);
    sb_arena_free(a);
    return rc;
}

/* -- a step -- */

/* "<node>|..." of another node. */
static void take_word(struct sb_follower *f, struct sb_str word)
{
    char own[SB_UUID_TEXT_LEN + 1];

    sb_uuid_format(f->node, own);
    if (f->heard && word.len > SB_UUID_TEXT_LEN && !sb_str_starts(word, sb_str_c(own)))
        f->heard(f->heard_arg, sb_str_from(word, SB_UUID_TEXT_LEN + 1));
}

/* Takes what was notified; true when there is something newer than we have. */
static bool take_notices(struct sb_follower *f)
{
    struct sb_pg_notice notice;
    int64_t version;
    bool any = false;

    if (!f->writer)
        return false;
    while (sb_pg_next_notice(f->writer, &notice)) {
        if (strncmp(notice.payload, SB_LEVEL_NOTICE, strlen(SB_LEVEL_NOTICE)) == 0) {
            (void)sb_log_lend_text(notice.payload + strlen(SB_LEVEL_NOTICE));
            continue;
        }
        if (strcmp(notice.channel, "silverback_invalidations") == 0) {
            if (f->invalidator)
                sb_invalidator_wake(f->invalidator);
            continue;
        }
        if (strcmp(notice.channel, "silverback_health") == 0) {
            take_word(f, sb_str_c(notice.payload));
            continue;
        }
        any = true;
        if (sb_str_int(sb_str_c(notice.payload), &version) && (uint64_t)version > f->state.newest)
            f->state.newest = (uint64_t)version;
    }
    if (!sb_pg_alive(f->writer) && f->writer != f->reader)
        disconnect_writer(f);
    return any;
}

/* The same trouble is told once; it is new again after it was over. */
static enum sb_rc tell_once(struct sb_follower *f, enum sb_rc rc, const struct sb_err *err)
{
    if (strncmp(f->told, err->text, sizeof f->told - 1) == 0)
        return SB_OK;
    snprintf(f->told, sizeof f->told, "%.255s", err->text);
    return rc;
}

/* Behind (a replica that lags, or a burst): soon. */
static void plan_next_look(struct sb_follower *f, bool failed, int64_t now_ms)
{
    bool behind = !failed && f->state.newest > f->state.version;

    f->next_look_ms = now_ms + (behind && f->lag_ms < f->poll_ms ? f->lag_ms : f->poll_ms);
    f->lag_ms = !behind ? LAG_FIRST_MS : f->lag_ms * 2 < LAG_MAX_MS ? f->lag_ms * 2 : LAG_MAX_MS;
}

/* Whoever asks meanwhile must hear that the database is away before it is tried again. */
static enum sb_rc reader_failed(struct sb_follower *f, enum sb_rc rc, const struct sb_err *err)
{
    if (!sb_pg_alive(f->reader)) {
        disconnect(f);
        retry_later(f);
    }
    return tell_once(f, rc, err);
}

static enum sb_rc look_at(struct sb_follower *f, bool *changed, struct sb_err *err)
{
    enum sb_rc rc = catch_up(f, changed, err);

    plan_next_look(f, rc != SB_OK, sb_clock_ms());
    if (rc == SB_OK) {
        if (f->told[0])
            sb_notice("config: the database answers again, with version %llu",
                      (unsigned long long)f->state.version);
        f->told[0] = 0;
        f->state.connected = true;
        f->retry_ms = RETRY_FIRST_MS;
        return SB_OK;
    }
    return reader_failed(f, rc, err);
}

/* Reads what credentials ended. What fails on a session that lives shows when the changes are
 * read, too. False: the session is lost. */
static bool forget_what_ended(struct sb_follower *f, struct sb_err *err)
{
    if (!f->invalidator || sb_invalidator_step(f->invalidator, f->reader, err) == SB_OK)
        return true;
    sb_debug("config: the invalidations can't be read: %s", err->text);
    return sb_pg_alive(f->reader);
}

enum sb_rc sb_follower_step(struct sb_follower *f, bool look, bool *changed, struct sb_err *err)
{
    int64_t now_ms = sb_clock_ms();
    bool notified = take_notices(f);

    sb_log_tick();
    *changed = false;
    if (f->reader && !sb_pg_alive(f->reader)) {
        disconnect(f);
        f->next_try_ms = now_ms;
    }
    if (!f->reader) {
        enum sb_rc rc;

        if (now_ms < f->next_try_ms)
            return SB_OK;
        if ((rc = connect_reader(f, err))) {
            retry_later(f);
            return tell_once(f, rc, err);
        }
    }
    connect_writer(f, now_ms);
    if (!forget_what_ended(f, err))
        return reader_failed(f, SB_UNAVAILABLE, err);
    if (!look && !notified && now_ms < f->next_look_ms)
        return SB_OK;
    return look_at(f, changed, err);
}

int sb_follower_wait(struct sb_follower *f, int fds[2], int *timeout_ms)
{
    int64_t now_ms = sb_clock_ms(), until;
    int n = 0;

    /* What came while a query was under way lies in the session: no socket will tell. */
    if (take_notices(f))
        f->next_look_ms = 0;
    until = f->reader ? f->next_look_ms : f->next_try_ms;
    if (f->reader && f->invalidator && sb_invalidator_next_ms(f->invalidator) < until)
        until = sb_invalidator_next_ms(f->invalidator);
    if (f->reader)
        fds[n++] = sb_pg_socket(f->reader);
    if (f->writer && f->writer != f->reader)
        fds[n++] = sb_pg_socket(f->writer);
    *timeout_ms = until > now_ms ? (int)(until - now_ms) : 0;
    return n;
}

/* -- what the node serves -- */

void sb_follower_report(struct sb_follower *f, uint64_t served)
{
    static const char sql[] =
        "INSERT INTO silverback_nodes (id, hostname, release, version) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (id) DO UPDATE SET hostname = EXCLUDED.hostname, release = EXCLUDED.release, "
        "version = EXCLUDED.version, seen_at = now()";
    char id[SB_UUID_TEXT_LEN + 1], host[256] = "", version[24];
    struct sb_str params[4];
    struct sb_pg_rows rows = {0};
    struct sb_err err;
    int64_t now_ms = sb_clock_ms();

    if (!f->writer || (served == f->reported && now_ms < f->next_beat_ms))
        return;
    sb_uuid_format(f->node, id);
    gethostname(host, sizeof host - 1);
    snprintf(version, sizeof version, "%llu", (unsigned long long)served);
    params[0] = sb_str_c(id);
    params[1] = sb_str_c(host);
    params[2] = SB_STR(SB_VERSION);
    params[3] = sb_str_c(version);
    if (sb_pg_query(f->writer, sql, params, 4, &rows, &err)) {
        sb_debug("config: the node's version can't be reported: %s", err.text);
        f->next_beat_ms = now_ms + f->poll_ms;
        return;
    }
    sb_pg_rows_release(&rows);
    f->reported = served;
    f->next_beat_ms = now_ms + BEAT_MS;
}

void sb_follower_goodbye(struct sb_follower *f)
{
    char id[SB_UUID_TEXT_LEN + 1];
    struct sb_pg_rows rows = {0};
    struct sb_str param;

    if (!f->writer || !sb_pg_alive(f->writer))
        return;
    sb_uuid_format(f->node, id);
    param = sb_str_c(id);
    if (sb_pg_query(f->writer, "DELETE FROM silverback_nodes WHERE id = $1", &param, 1, &rows,
                    NULL) == SB_OK)
        sb_pg_rows_release(&rows);
}
