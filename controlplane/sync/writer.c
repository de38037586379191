/* writer.c - see writer.h. Below the line the thread; above it what the loop calls. The two meet in
 * `shared`, under its lock: the job, whose turn it is, and the order to stop.
 */
#include "controlplane/sync/writer.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "schema/store.h"
#include "shared/log.h"

enum { PAGE_LEN = 1000, SINGLY_AFTER = 8 };

struct sb_writer {
    struct sb_writer_config config;
    pthread_t thread;
    int wake_fd; /* the thread is done */
    struct event *wake;
    bool busy; /* the loop's view */

    struct {
        pthread_mutex_t lock;
        pthread_cond_t given;
        struct sb_job *job; /* to do */
        struct sb_job *done;
        bool stop;
    } shared;

    /* The thread's own. */
    struct sb_pg *pg;
    struct sb_store *store;
    bool locked; /* we hold the election's lock on this session */
};

/* Of an advisory lock: "silverback" and "leader", as numbers. */
#define ELECTION_LOCK "pg_try_advisory_lock(hashtext('silverback leader'), 0)"

struct sb_job *sb_job_new(enum sb_job_type type)
{
    struct sb_job *job = sb_xcalloc(1, sizeof *job);

    job->type = type;
    job->arena = sb_arena_new(16 << 10);
    return job;
}

void sb_job_free(struct sb_job *job)
{
    if (!job)
        return;
    sb_vec_release(&job->changes);
    sb_vec_release(&job->found);
    sb_arena_free(job->arena);
    free(job);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct sb_writer *w = arg;
    struct sb_job *job;
    uint64_t n;

    (void)what;
    if (read(fd, &n, sizeof n) != sizeof n)
        return;
    pthread_mutex_lock(&w->shared.lock);
    job = w->shared.done;
    w->shared.done = NULL;
    pthread_mutex_unlock(&w->shared.lock);
    if (!job)
        return;
    w->busy = false;
    w->config.on_done(w->config.arg, job);
}

void sb_writer_give(struct sb_writer *w, struct sb_job *job)
{
    sb_assert(!w->busy);
    w->busy = true;
    pthread_mutex_lock(&w->shared.lock);
    w->shared.job = job;
    pthread_cond_signal(&w->shared.given);
    pthread_mutex_unlock(&w->shared.lock);
}

bool sb_writer_busy(const struct sb_writer *w)
{
    return w->busy;
}

/* ---- the thread ---------------------------------------------------------------------------------
 */

static void disconnect(struct sb_writer *w)
{
    sb_store_free(w->store);
    sb_pg_free(w->pg);
    w->store = NULL;
    w->pg = NULL;
    w->locked = false;
}

static enum sb_rc connect_store(struct sb_writer *w, struct sb_err *err)
{
    enum sb_rc rc;

    if (w->pg && sb_pg_alive(w->pg))
        return SB_OK;
    disconnect(w);
    rc = sb_pg_connect(w->config.pg, &w->pg, err);
    if (!rc)
        rc = sb_pg_exec(w->pg, "SET idle_in_transaction_session_timeout = '5s'", err);
    if (!rc)
        rc = sb_store_pg(w->pg, &w->store, err);
    if (rc)
        disconnect(w);
    return rc;
}

/* The first column of the first row, as a number. */
static enum sb_rc query_int(struct sb_writer *w, const char *sql, const struct sb_str *params,
                            int n, int64_t *out, struct sb_err *err)
{
    struct sb_pg_rows rows = {0};
    enum sb_rc rc = sb_pg_query(w->pg, sql, params, n, &rows, err);

    if (!rc && sb_pg_next(&rows))
        *out = sb_pg_int(&rows, 0);
    else if (!rc)
        rc = sb_err_set(err, SB_NOTFOUND, "no row: %s", sql);
    sb_pg_rows_release(&rows);
    return rc;
}

/* Without a Lease the database says who leads: whoever holds this lock, as long as its session
 * lives. */
static enum sb_rc win_election(struct sb_writer *w, struct sb_err *err)
{
    int64_t got = 0;
    enum sb_rc rc;

    if (!w->config.elect || w->locked)
        return SB_OK;
    rc = query_int(w, "SELECT " ELECTION_LOCK "::int", NULL, 0, &got, err);
    if (rc)
        return rc;
    w->locked = got;
    return got ? SB_OK : sb_err_set(err, SB_AGAIN, "another controller leads");
}

static enum sb_rc take_epoch(struct sb_writer *w, uint64_t *epoch, struct sb_err *err)
{
    struct sb_str params[] = {sb_str_c(w->config.identity)};
    int64_t n = 0;
    enum sb_rc rc;

    rc = query_int(w,
                   "UPDATE silverback_leader SET epoch = epoch + 1, holder = $1, since = now() "
                   "RETURNING epoch",
                   params, 1, &n, err);
    if (!rc)
        *epoch = (uint64_t)n;
    return rc;
}

/* The present leader or nobody: holds off the next one until the transaction ends. */
static enum sb_rc fence(struct sb_writer *w, uint64_t epoch, struct sb_arena *a, struct sb_err *err)
{
    struct sb_str params[] = {sb_arena_printf(a, "%llu", (unsigned long long)epoch)};
    struct sb_pg_rows rows = {0};
    enum sb_rc rc = sb_pg_query(w->pg, "SELECT silverback_fence($1)", params, 1, &rows, err);

    sb_pg_rows_release(&rows);
    if (rc && !strcmp(sb_pg_sqlstate(w->pg), "SB001"))
        rc = sb_err_set(err, SB_DENIED, "%s", sb_pg_message(w->pg));
    return rc;
}

static enum sb_rc kong_failure(enum sb_rc rc, const struct sb_kong_error *e, struct sb_err *err)
{
    return sb_err_set(err, rc, "%.*s", SB_ARG(e->message));
}

static enum sb_rc load_kind(struct sb_writer *w, struct sb_job *job, const struct sb_entity *kind,
                            struct sb_err *err)
{
    struct sb_schema_ctx ctx = {.arena = job->arena};
    struct sb_str tag = sb_str_c(w->config.tag);
    struct sb_store_page page = {.size = PAGE_LEN, .tags = &tag, .ntags = 1};
    bool more = true;

    while (more) {
        struct sb_kong_error e = {0};
        struct sb_value *rows, *row;
        enum sb_rc rc = sb_store_list(w->store, &ctx, kind, &page, &rows, &more, &e);

        if (rc)
            return kong_failure(rc, &e, err);
        sb_array_each (row, rows) {
            sb_vec_push(&job->found, ((struct sb_found_row){kind, row}));
            page.after_id = sb_value_str_at(row, "id");
        }
    }
    return SB_OK;
}

/* Everything under our tag: what we, or a controller before us, wrote. */
static enum sb_rc load(struct sb_writer *w, struct sb_job *job, struct sb_err *err)
{
    enum sb_rc rc = SB_OK;

    for (const struct sb_entity *const *kind = sb_entities(); *kind && !rc; kind++) {
        if (sb_field_find((*kind)->fields, SB_STR("tags")))
            rc = load_kind(w, job, *kind, err);
    }
    return rc;
}

static bool is_ours(const struct sb_writer *w, const struct sb_value *row)
{
    struct sb_value *tag;

    sb_array_each (tag, sb_get(row, "tags")) {
        if (sb_is(tag, SB_V_STR) && sb_str_is(tag->s, w->config.tag))
            return true;
    }
    return false;
}

/* Rows that are new to us must not replace what somebody else made under the same id. */
static enum sb_rc refuse_foreign(struct sb_writer *w, struct sb_job *job,
                                 const struct sb_entity *kind, struct sb_err *err)
{
    SB_VEC(struct sb_str) ids = {0};
    struct sb_row_change *c;
    struct sb_value *rows = NULL, *row;
    enum sb_rc rc = SB_OK;

    sb_vec_each (c, &job->changes) {
        if (c->kind == kind && c->row && c->fresh)
            sb_vec_push(&ids, c->id);
    }
    if (ids.len)
        rc = sb_store_rows(w->store, job->arena, kind, ids.p, ids.len, &rows, err);
    sb_vec_release(&ids);
    if (rc)
        return rc;
    sb_array_each (row, rows) {
        sb_vec_each (c, &job->changes) {
            if (c->kind == kind && sb_str_eq(c->id, sb_value_str_at(row, "id")) && !is_ours(w, row))
                c->refused = "an entity with this id is there already, and is not the controller's";
        }
    }
    return SB_OK;
}

/* The changes of one kind that go one way. */
struct batch {
    const struct sb_entity *kind;
    bool drop;
    SB_VEC(struct sb_row_change *) changes;
};

static void gather(struct batch *b, struct sb_job *job)
{
    struct sb_row_change *c;

    sb_vec_each (c, &job->changes) {
        if (c->kind == b->kind && !c->row == b->drop && !c->refused)
            sb_vec_push(&b->changes, c);
    }
}

static enum sb_rc send_some(struct sb_writer *w, struct sb_job *job, const struct batch *b,
                            size_t from, size_t n, size_t *refused, struct sb_err *err)
{
    struct sb_value *rows = sb_value_array(job->arena);
    struct sb_str *ids = sb_arena_alloc(job->arena, n * sizeof *ids);

    for (size_t i = 0; i < n; i++) {
        ids[i] = b->changes.p[from + i]->id;
        if (!b->drop)
            sb_array_push(job->arena, rows, b->changes.p[from + i]->row);
    }
    if (b->drop)
        return sb_store_drop_rows(w->store, job->arena, b->kind, ids, n, refused, err);
    return sb_store_put_rows(w->store, job->arena, b->kind, rows, refused, err);
}

static bool is_refusal(enum sb_rc rc)
{
    return rc == SB_CONFLICT || rc == SB_INVALID;
}

/* A refused row is marked, and the rest sent again; after a few of those one by one, so that many
 * bad rows cost no more than their number. */
static enum sb_rc send_all(struct sb_writer *w, struct sb_job *job, struct batch *b,
                           struct sb_err *err)
{
    size_t refusals = 0, from = 0;

    while (from < b->changes.len) {
        size_t n = refusals < SINGLY_AFTER ? b->changes.len - from : 1, bad = 0;
        enum sb_rc rc = send_some(w, job, b, from, n, &bad, err);

        if (!rc) {
            from += n;
        } else if (is_refusal(rc)) {
            b->changes.p[from + bad]->refused = sb_arena_cstr(job->arena, sb_str_c(err->text));
            b->changes.p[from + bad] = b->changes.p[--b->changes.len];
            refusals++;
        } else {
            return rc;
        }
    }
    return SB_OK;
}

static enum sb_rc apply_kind(struct sb_writer *w, struct sb_job *job, const struct sb_entity *kind,
                             bool drop, struct sb_err *err)
{
    struct batch b = {.kind = kind, .drop = drop};
    enum sb_rc rc = SB_OK;

    if (!drop)
        rc = refuse_foreign(w, job, kind, err);
    gather(&b, job);
    if (!rc)
        rc = send_all(w, job, &b, err);
    sb_vec_release(&b.changes);
    return rc;
}

static enum sb_rc apply_all(struct sb_writer *w, struct sb_job *job, struct sb_err *err)
{
    const struct sb_entity *const *kinds = sb_entities();
    enum sb_rc rc = fence(w, job->epoch, job->arena, err);
    size_t n = 0;

    for (; kinds[n] && !rc; n++)
        rc = apply_kind(w, job, kinds[n], false, err);
    while (n-- > 0 && !rc)
        rc = apply_kind(w, job, kinds[n], true, err);
    return rc;
}

static enum sb_rc write_changes(struct sb_writer *w, struct sb_job *job, struct sb_err *err)
{
    enum sb_rc rc;

    if (!w->pg || !sb_pg_alive(w->pg))
        return sb_err_set(err, SB_UNAVAILABLE, "the connection to PostgreSQL is gone");
    rc = sb_store_begin(w->store, err);
    if (rc)
        return rc;
    rc = apply_all(w, job, err);
    if (!rc)
        rc = sb_store_commit(w->store, err);
    else
        sb_store_rollback(w->store);
    if (!rc)
        job->version = sb_store_version(w->store);
    return rc;
}

static enum sb_rc check_epoch(struct sb_writer *w, struct sb_job *job, struct sb_err *err)
{
    if (w->config.elect && !w->locked)
        return sb_err_set(err, SB_DENIED, "the session that held the election's lock is gone");
    return fence(w, job->epoch, job->arena, err);
}

static enum sb_rc do_job(struct sb_writer *w, struct sb_job *job, struct sb_err *err)
{
    enum sb_rc rc;

    if (job->type == SB_JOB_WRITE)
        return write_changes(w, job, err);
    rc = connect_store(w, err);
    if (!rc && job->type == SB_JOB_LEAD) {
        rc = win_election(w, err);
        if (!rc)
            rc = take_epoch(w, &job->epoch, err);
    } else if (!rc) {
        rc = check_epoch(w, job, err);
    }
    if (!rc)
        rc = load(w, job, err);
    if (!rc) {
        int64_t version = 0;

        rc = query_int(w, "SELECT version FROM silverback_version", NULL, 0, &version, err);
        job->version = (uint64_t)version;
    }
    return rc;
}

static void finish(struct sb_writer *w, struct sb_job *job)
{
    uint64_t one = 1;

    pthread_mutex_lock(&w->shared.lock);
    w->shared.done = job;
    pthread_mutex_unlock(&w->shared.lock);
    if (write(w->wake_fd, &one, sizeof one) != sizeof one)
        sb_error("eventfd: %s", strerror(errno));
}

static struct sb_job *next_job(struct sb_writer *w)
{
    struct sb_job *job = NULL;

    pthread_mutex_lock(&w->shared.lock);
    while (!w->shared.job && !w->shared.stop)
        pthread_cond_wait(&w->shared.given, &w->shared.lock);
    if (!w->shared.stop) {
        job = w->shared.job;
        w->shared.job = NULL;
    }
    pthread_mutex_unlock(&w->shared.lock);
    return job;
}

static void *run(void *arg)
{
    struct sb_writer *w = arg;
    struct sb_job *job;

    while ((job = next_job(w))) {
        job->rc = do_job(w, job, &job->err);
        if (job->rc && job->rc != SB_AGAIN && job->rc != SB_DENIED)
            disconnect(w);
        finish(w, job);
    }
    disconnect(w);
    return NULL;
}

/* ---- starting and stopping ----------------------------------------------------------------------
 */

enum sb_rc sb_writer_start(const struct sb_writer_config *config, struct sb_writer **out,
                           struct sb_err *err)
{
    struct sb_writer *w = sb_xcalloc(1, sizeof *w);

    w->config = *config;
    pthread_mutex_init(&w->shared.lock, NULL);
    pthread_cond_init(&w->shared.given, NULL);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->wake_fd < 0 || pthread_create(&w->thread, NULL, run, w)) {
        sb_err_set(err, SB_IO, "cannot start the writer: %s", strerror(errno));
        if (w->wake_fd >= 0)
            close(w->wake_fd);
        free(w);
        return SB_IO;
    }
    w->wake = event_new(config->base, w->wake_fd, EV_READ | EV_PERSIST, on_wake, w);
    event_add(w->wake, NULL);
    *out = w;
    return SB_OK;
}

void sb_writer_stop(struct sb_writer *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->shared.lock);
    w->shared.stop = true;
    pthread_cond_signal(&w->shared.given);
    pthread_mutex_unlock(&w->shared.lock);
    pthread_join(w->thread, NULL);
    event_free(w->wake);
    close(w->wake_fd);
    sb_job_free(w->shared.job);
    sb_job_free(w->shared.done);
    pthread_cond_destroy(&w->shared.given);
    pthread_mutex_destroy(&w->shared.lock);
    free(w);
}
