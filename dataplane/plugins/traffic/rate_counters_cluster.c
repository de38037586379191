#include "dataplane/plugins/traffic/rate_counters_cluster.h"

#include <stdio.h>
#include <stdlib.h>

#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/credentials/lookup_kinds.h"
#include "shared/buf.h"
#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/pg_async.h"
#include "shared/settings.h"

enum { STATEMENT_MS = 5000 /* where pg_timeout says nothing */, IDENTIFIER_MAX = 1024 };

/* Windows come as two arrays; rows are locked in their order, so that no two upserts of the same
 * identifier wait for each other. */
#define WINDOWS "unnest($4::text[], $5::bigint[])"
#define ROW                                                                                        \
    "m.identifier = $1 AND m.period = w.p AND m.service_id = $2::uuid AND m.route_id = $3::uuid"
#define CONFLICT                                                                                   \
    " ON CONFLICT (identifier, period, period_date, service_id, route_id)"                         \
    " DO UPDATE SET value = t.value + EXCLUDED.value"

enum statement { READ_TAKEN, READ_ANNOUNCED, ADD_TAKEN, ADD_ANNOUNCED, STATEMENTS };

static const struct {
    const char *begin, *table, *end; /* %s: the schema */
} texts[STATEMENTS] = {
    [READ_TAKEN] = {"SELECT w.i, m.value FROM " WINDOWS " WITH ORDINALITY AS w(p, d, i) JOIN ",
                    "ratelimiting_metrics",
                    " m ON " ROW " AND m.period_date = to_timestamp(w.d)"
                    " AND (m.ttl IS NULL OR m.ttl > CURRENT_TIMESTAMP)"},
    [READ_ANNOUNCED] = {"SELECT w.i, m.value FROM " WINDOWS " WITH ORDINALITY AS w(p, d, i) JOIN ",
                        "response_ratelimiting_metrics",
                        " m ON " ROW " AND m.period_date = to_timestamp(w.d)"},
    [ADD_TAKEN] = {"INSERT INTO ", "ratelimiting_metrics",
                   " AS t (identifier, period, period_date, service_id, route_id, value, ttl)"
                   " SELECT $1, w.p, to_timestamp(w.d), $2::uuid, $3::uuid, $6::int,"
                   " CURRENT_TIMESTAMP + make_interval(secs => w.l)"
                   " FROM unnest($4::text[], $5::bigint[], $7::bigint[]) AS w(p, d, l)" CONFLICT},
    [ADD_ANNOUNCED] = {"INSERT INTO ", "response_ratelimiting_metrics",
                       " AS t (identifier, period, period_date, service_id, route_id, value)"
                       " SELECT $1, w.p, to_timestamp(w.d), $2::uuid, $3::uuid, $6::int"
                       " FROM " WINDOWS " AS w(p, d)" CONFLICT},
};

/* The windows before the one that is counted; what another session deletes just now is its. */
static const char pruning[] =
    "WITH gone AS (DELETE FROM %1$sresponse_ratelimiting_metrics WHERE ctid = ANY (ARRAY("
    "SELECT m.ctid FROM %1$sresponse_ratelimiting_metrics m JOIN " WINDOWS " AS w(p, d)"
    " ON " ROW " AND m.period_date < to_timestamp(w.d) FOR UPDATE OF m SKIP LOCKED))) ";

void sb_cluster_open(struct sb_counting *c, const struct sb_settings *settings)
{
    struct sb_pg_config config;
    struct sb_str schema;

    (void)sb_settings_pg(settings, false, &config);
    schema = config.schema
                 ? sb_arena_printf(c->arena, "%s.", sb_pg_ident(c->arena, config.schema).p)
                 : SB_STR("");
    for (int i = 0; i < STATEMENTS; i++) {
        struct sb_buf b;

        sb_buf_init(&b, 0);
        if (i == ADD_ANNOUNCED)
            sb_buf_printf(&b, pruning, schema.p);
        sb_buf_printf(&b, "%s%s%s%s", texts[i].begin, schema.p, texts[i].table, texts[i].end);
        c->sql[i] = sb_arena_cstr(c->arena, sb_buf_get(&b));
        sb_buf_release(&b);
    }
    c->statement_ms = config.timeout_ms > 0 ? config.timeout_ms : STATEMENT_MS;
    c->pg = sb_pg_async_new(c->loop, &config);
}

/* -- statements ---------------------------------------------------------------------------------
 */

struct job {
    struct sb_tally_job base; /* first */
    struct sb_pg_task task;
    struct sb_counting *c;
    struct sb_arena *arena; /* of this and its parameters */
};

static void free_job(struct sb_tally_job *base)
{
    sb_arena_free(((struct job *)base)->arena);
}

/* '{"a","b"}' */
static const char *finish_array(struct sb_arena *a, struct sb_buf *b)
{
    const char *text;

    sb_buf_char(b, '}');
    text = sb_arena_cstr(a, sb_buf_get(b));
    sb_buf_release(b);
    return text;
}

static void add_quoted(struct sb_buf *b, struct sb_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            sb_buf_char(b, '\\');
        sb_buf_char(b, s.p[i]);
    }
}

/* A column of windows: of the items from..to, in each of which limited (or every) periods. */
struct columns {
    struct sb_buf periods, starts, lens;
    size_t n;
};

static void add_window(struct columns *c, struct sb_str name, enum sb_period p, int64_t now_s)
{
    const char *comma = c->n++ ? "," : "{";

    sb_buf_printf(&c->periods, "%s\"", comma);
    add_quoted(&c->periods, name);
    sb_buf_printf(&c->periods, "%s%s\"", name.len ? "_" : "", sb_period_rows[p].name);
    sb_buf_printf(&c->starts, "%s%lld", comma, (long long)sb_window_start(p, now_s));
    sb_buf_printf(&c->lens, "%s%lld", comma, (long long)sb_period_rows[p].len_s);
}

static void set_windows(struct job *job, const struct sb_tally *t, size_t from, size_t to, bool all)
{
    struct columns c = {.n = 0};

    sb_buf_init(&c.periods, 0);
    sb_buf_init(&c.starts, 0);
    sb_buf_init(&c.lens, 0);
    for (size_t i = from; i < to; i++)
        for (int p = 0; p < SB_PERIODS; p++)
            if (all || t->set->items[i].limited[p])
                add_window(&c, t->set->items[i].name, (enum sb_period)p, t->now_s);
    job->task.params[3] = finish_array(job->arena, &c.periods);
    job->task.params[4] = finish_array(job->arena, &c.starts);
    job->task.params[6] = finish_array(job->arena, &c.lens);
}

static const char *identifier_text(struct sb_arena *a, struct sb_str id)
{
    struct sb_str value = id;
    uint8_t digest[SB_SHA256_LEN];
    char room[37];

    if (id.len <= IDENTIFIER_MAX && sb_lookup_normalise(SB_KEYAUTH_BY_KEY, &value, room))
        return sb_arena_cstr(a, id);
    sb_sha256(id, digest);
    return sb_arena_printf(a, "sha256:%.*s", SB_ARG(sb_hex(a, digest, sizeof digest))).p;
}

static struct job *new_job(struct sb_counting *c, const struct sb_tally *t,
                           enum statement statement)
{
    struct sb_arena *a = sb_arena_new(0);
    struct job *job = SB_NEW(a, struct job);
    bool reads = statement < ADD_TAKEN;

    job->arena = a;
    job->c = c;
    job->base.free = free_job;
    job->task = (struct sb_pg_task){
        .sql = c->sql[statement],
        .statement = (int)statement,
        .nparams = reads                    ? 5
                   : statement == ADD_TAKEN ? 7
                                            : 6,
        .may_repeat = reads,
        .needs_schema = !reads, /* the trigger's */
        .deadline_ms = sb_clock_ms() + c->statement_ms,
    };
    job->task.params[0] = identifier_text(a, t->identifier);
    job->task.params[1] = sb_arena_cstr(a, t->set->service_id);
    job->task.params[2] = sb_arena_cstr(a, t->set->route_id);
    return job;
}

static struct job *job_of(struct sb_pg_task *task)
{
    return (struct job *)((char *)task - offsetof(struct job, task));
}

static enum sb_rc send(struct job *job, struct sb_exchange *x, struct sb_tally *t)
{
    if (sb_pg_async_send(job->c->pg, &job->task)) {
        sb_counting_tell(job->c, "PostgreSQL", "the database is down");
        free_job(&job->base);
        return SB_UNAVAILABLE;
    }
    sb_tally_job_begin(&job->base, job->c, x, t);
    return SB_AGAIN;
}

/* -- reading ------------------------------------------------------------------------------------
 */

/* The windows came in the order of items and periods. */
static void fill(struct sb_tally *t, const struct sb_pg_rows *result)
{
    struct sb_pg_rows rows = *result;
    int64_t *at[SB_COUNT_ITEMS_MAX * SB_PERIODS], which, value;
    size_t n = 0;

    for (size_t i = 0; i < t->set->nitems; i++)
        for (int p = 0; p < SB_PERIODS; p++)
            if (t->set->items[i].limited[p])
                at[n++] = &t->used[i][p];
    while (sb_pg_next(&rows)) {
        if (!sb_str_int(sb_pg_text(&rows, 0), &which) || which < 1 || (size_t)which > n)
            continue;
        if (sb_str_int(sb_pg_text(&rows, 1), &value) && value > 0)
            *at[which - 1] = value;
    }
}

static void on_read(struct sb_pg_task *task, enum sb_rc rc, const struct sb_pg_rows *rows,
                    const struct sb_err *why)
{
    struct job *job = job_of(task);

    if (rc)
        sb_counting_tell(job->c, "PostgreSQL", why->text);
    else if (job->base.x)
        fill(job->base.tally, rows);
    sb_tally_job_end(&job->base, rc ? SB_UNAVAILABLE : SB_OK);
}

enum sb_rc sb_cluster_read(struct sb_exchange *x, struct sb_tally *t)
{
    struct sb_counting *c = sb_exchange_worker_state(x, &sb_plugin_rate_limiting);
    struct job *job;

    if (t->done)
        return t->rc;
    job = new_job(c, t, t->set->announced ? READ_ANNOUNCED : READ_TAKEN);
    job->task.done = on_read;
    set_windows(job, t, 0, t->set->nitems, false);
    return send(job, x, t);
}

/* -- counting -----------------------------------------------------------------------------------
 */

static void on_added(struct sb_pg_task *task, enum sb_rc rc, const struct sb_pg_rows *rows,
                     const struct sb_err *why)
{
    struct job *job = job_of(task);

    (void)rows;
    if (rc)
        sb_counting_tell(job->c, "PostgreSQL", why->text);
    sb_tally_job_end(&job->base, rc);
}

static void add(struct sb_exchange *x, const struct sb_tally *t, size_t item, int64_t value)
{
    struct sb_counting *c = sb_exchange_worker_state(x, &sb_plugin_rate_limiting);
    bool announced = t->set->announced;
    struct job *job = new_job(c, t, announced ? ADD_ANNOUNCED : ADD_TAKEN);

    job->task.done = on_added;
    set_windows(job, t, item, item + 1, announced);
    job->task.params[5] = sb_arena_printf(job->arena, "%lld", (long long)value).p;
    (void)send(job, NULL, NULL);
}

enum sb_rc sb_cluster_take(struct sb_exchange *x, struct sb_tally *t)
{
    enum sb_rc rc = sb_cluster_read(x, t);
    enum sb_period full;

    if (!rc && !sb_tally_full(t->set->items, t->used[0], &full)) {
        t->taken = true;
        add(x, t, 0, 1);
    }
    return rc;
}

void sb_cluster_add(struct sb_exchange *x, const struct sb_tally *t, size_t item, int64_t value)
{
    add(x, t, item, value);
}
