/* pg_async.c - see pg_async.h.
 *
 * libpq gives the results of a pipeline in the order in which it was sent: for each task one result
 * and a NULL (two, when it also prepares or sets the schema), and one for each Sync. So the queue
 * of what was sent tells whose result it is:
 *
 *     sent:  task (2 groups) -> task (1) -> task (1) | Sync | task (1) | Sync
 *
 * (I1) A task is in exactly one of waiting, sent, or its owner's hands.
 * (I2) What may not be repeated is sent at most once.
 */
#include "shared/pg_async.h"

#include <event2/event.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/log.h"

enum {
    BATCH_MAX = 64,
    REPEATS_MAX = 3,
    RETRY_FIRST_MS = 100, /* doubled at every failure, up to: */
    RETRY_MAX_MS = 2000,
    STACK_LEN = 512 << 10,
};

struct queue {
    struct sb_pg_task *first, **last;
};

/* A connection being made. The thread and the loop each hold it; the second to let go frees it. */
struct attempt {
    struct sb_pg_config config; /* the async's own copy: kept by `arena` */
    struct sb_arena *arena;
    struct sb_pg *pg;
    struct sb_err err;
    enum sb_rc rc;
    int fd; /* an eventfd: done */
    atomic_int holders;
};

struct sb_pg_async {
    struct event_base *base;
    struct sb_pg_config config;
    struct sb_arena *arena; /* of config */
    enum { OFF, CONNECTING, UP } state;
    bool down;   /* the last attempt failed */
    bool ending; /* the server said that it will hang up */

    struct attempt *attempt;
    struct event *on_attempt, *on_retry;
    int64_t retry_ms;

    struct sb_pg *pg;
    PGconn *conn;
    struct event *on_read, *on_write, *on_round, *on_late;
    bool round_planned;
    unsigned prepared; /* statements that this session knows, by bit */
    unsigned edition;  /* of their names */
    struct queue waiting, sent;
    struct sb_pg_async_stats stats;
};

/* One writer, any reader. */
static void count(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

/* -- queues -- */

static void queue_init(struct queue *q)
{
    q->first = NULL;
    q->last = &q->first;
}

static void queue_add(struct queue *q, struct sb_pg_task *task)
{
    task->next = NULL;
    *q->last = task;
    q->last = &task->next;
}

static struct sb_pg_task *queue_take(struct queue *q)
{
    struct sb_pg_task *task = q->first;

    if (task) {
        q->first = task->next;
        if (!q->first)
            q->last = &q->first;
    }
    return task;
}

static void queue_move(struct queue *from, struct queue *to)
{
    *to = *from;
    if (!to->first)
        to->last = &to->first;
    queue_init(from);
}

static void finish(struct sb_pg_task *task, enum sb_rc rc, const struct sb_err *err)
{
    struct sb_pg_rows rows = {0};
    PGresult *result = task->result;

    if (!rc)
        rows = (struct sb_pg_rows){result, PQntuples(result), PQnfields(result), -1};
    task->result = NULL;
    task->done(task, rc, rc ? NULL : &rows, err);
    PQclear(result);
}

static void fail_all(struct queue *q, const struct sb_err *err)
{
    struct queue failed;
    struct sb_pg_task *task;

    queue_move(q, &failed);
    while ((task = queue_take(&failed)))
        finish(task, SB_UNAVAILABLE, err);
}

/* -- connecting -- */

static void drop_attempt(struct attempt *a)
{
    if (atomic_fetch_sub_explicit(&a->holders, 1, memory_order_acq_rel) != 1)
        return;
    sb_pg_free(a->pg);
    close(a->fd);
    sb_arena_free(a->arena);
    free(a);
}

static void *connect_thread(void *arg)
{
    const uint64_t one = 1;
    struct attempt *a = arg;

    a->rc = sb_pg_connect(&a->config, &a->pg, &a->err);
    if (write(a->fd, &one, sizeof one) < 0)
        sb_error("postgres: a new connection can't be handed over");
    drop_attempt(a);
    return NULL;
}

/* In the arena, for a thread may outlive whoever gave the config. */
static void copy_config(struct sb_arena *arena, const struct sb_pg_config *from,
                        struct sb_pg_config *to)
{
    const char **strings[] = {&to->host,    &to->user,        &to->password,    &to->database,
                              &to->schema,  &to->application, &to->ssl_version, &to->ssl_cert,
                              &to->ssl_key, &to->ssl_ca};

    *to = *from;
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        if (*strings[i])
            *strings[i] = sb_arena_cstr(arena, sb_str_c(*strings[i]));
}

static bool start_thread(struct attempt *a)
{
    pthread_attr_t attr;
    sigset_t all, old;
    pthread_t thread;
    int e;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_LEN);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    e = pthread_create(&thread, &attr, connect_thread, a);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return e == 0;
}

static void on_attempt(evutil_socket_t fd, short what, void *arg);

static void start_connecting(struct sb_pg_async *pg)
{
    struct attempt *a = sb_xcalloc(1, sizeof *a);

    a->arena = sb_arena_new(0);
    copy_config(a->arena, &pg->config, &a->config);
    a->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sb_assert(a->fd >= 0);
    atomic_init(&a->holders, 2);
    pg->attempt = a;
    pg->state = CONNECTING;
    count(&pg->stats.connects);
    pg->on_attempt = event_new(pg->base, a->fd, EV_READ, on_attempt, pg);
    event_add(pg->on_attempt, NULL);
    if (!start_thread(a)) {
        const uint64_t one = 1;

        a->rc = sb_err_set(&a->err, SB_UNAVAILABLE, "no thread can be started");
        atomic_store(&a->holders, 1);
        sb_assert(write(a->fd, &one, sizeof one) == sizeof one);
    }
}

static void forget_attempt(struct sb_pg_async *pg)
{
    if (!pg->attempt)
        return;
    event_free(pg->on_attempt);
    pg->on_attempt = NULL;
    drop_attempt(pg->attempt);
    pg->attempt = NULL;
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct sb_pg_async *pg = arg;

    (void)fd;
    (void)what;
    if (pg->state == OFF)
        start_connecting(pg);
}

static void add_timer(struct event *event, int64_t ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    event_add(event, &tv);
}

/* Half of the time plus a random part of the other half: workers and nodes don't come in step. */
static int64_t jittered(int64_t ms)
{
    uint32_t r;

    sb_random(&r, sizeof r);
    return ms / 2 + (int64_t)(r % (uint32_t)(ms / 2 + 1));
}

static void connect_failed(struct sb_pg_async *pg, const struct sb_err *err)
{
    if (!pg->down)
        sb_error("postgres: %s", err->text);
    pg->down = true;
    count(&pg->stats.failures);
    pg->state = OFF;
    add_timer(pg->on_retry, jittered(pg->retry_ms));
    pg->retry_ms = pg->retry_ms * 2 < RETRY_MAX_MS ? pg->retry_ms * 2 : RETRY_MAX_MS;
    fail_all(&pg->waiting, err);
}

static void plan_round(struct sb_pg_async *pg);
static void on_readable(evutil_socket_t fd, short what, void *arg);
static void on_writable(evutil_socket_t fd, short what, void *arg);

static void connected(struct sb_pg_async *pg)
{
    if (pg->down)
        sb_notice("postgres: the database answers again");
    pg->down = false;
    pg->retry_ms = RETRY_FIRST_MS;
    pg->state = UP;
    pg->conn = sb_pg_handle(pg->pg);
    pg->prepared = 0;
    pg->on_read = event_new(pg->base, PQsocket(pg->conn), EV_READ | EV_PERSIST, on_readable, pg);
    pg->on_write = event_new(pg->base, PQsocket(pg->conn), EV_WRITE, on_writable, pg);
    event_add(pg->on_read, NULL);
    plan_round(pg);
}

static void on_attempt(evutil_socket_t fd, short what, void *arg)
{
    struct sb_pg_async *pg = arg;
    struct attempt *a = pg->attempt;
    struct sb_err err;
    uint64_t count;

    (void)what;
    sb_assert(read(fd, &count, sizeof count) == sizeof count);
    pg->pg = a->pg;
    a->pg = NULL;
    if (a->rc)
        err = a->err;
    else if (!PQenterPipelineMode(sb_pg_handle(pg->pg)))
        a->rc = sb_err_set(&err, SB_UNAVAILABLE, "no pipeline mode");
    if (a->rc) {
        sb_pg_free(pg->pg);
        pg->pg = NULL;
        forget_attempt(pg);
        connect_failed(pg, &err);
        return;
    }
    forget_attempt(pg);
    connected(pg);
}

static void disconnect(struct sb_pg_async *pg)
{
    if (pg->on_read)
        event_free(pg->on_read);
    if (pg->on_write)
        event_free(pg->on_write);
    pg->on_read = pg->on_write = NULL;
    event_del(pg->on_late);
    sb_pg_free(pg->pg);
    pg->pg = NULL;
    pg->conn = NULL;
    pg->ending = false;
    pg->state = OFF;
}

/* What was under way is asked again over a new connection, or fails. */
static void broken(struct sb_pg_async *pg, const char *why)
{
    struct queue lost, failed;
    struct sb_pg_task *task;
    struct sb_err err;

    sb_err_set(&err, SB_UNAVAILABLE, "connection to PostgreSQL lost: %.*s", (int)strcspn(why, "\n"),
               why);
    sb_info("postgres: %s", err.text);
    disconnect(pg);
    queue_init(&failed);
    queue_move(&pg->sent, &lost);
    while ((task = queue_take(&lost))) {
        PQclear(task->result);
        task->result = NULL;
        if (task->may_repeat && task->repeats < REPEATS_MAX && sb_clock_ms() < task->deadline_ms) {
            task->repeats++;
            queue_add(&pg->waiting, task);
        } else {
            queue_add(&failed, task);
        }
    }
    if (pg->waiting.first)
        start_connecting(pg);
    fail_all(&failed, &err);
}

/* -- sending -- */

static bool send_prepare(struct sb_pg_async *pg, struct sb_pg_task *task, const char *name)
{
    if (pg->prepared & 1u << task->statement)
        return true;
    if (!PQsendPrepare(pg->conn, name, task->sql, task->nparams, NULL))
        return false;
    pg->prepared |= 1u << task->statement;
    task->prepares = true;
    task->groups++;
    return true;
}

static bool send_schema(struct sb_pg_async *pg, struct sb_pg_task *task)
{
    const char *schema = pg->config.schema;

    if (!task->needs_schema || !schema || !sb_pg_pooled(pg->pg))
        return true;
    task->groups++;
    return PQsendQueryParams(pg->conn, "SELECT set_config('search_path', quote_ident($1), true)", 1,
                             NULL, &schema, NULL, NULL, 0);
}

static bool send_task(struct sb_pg_async *pg, struct sb_pg_task *task)
{
    char name[32];

    task->groups = 1;
    task->prepares = task->got = false;
    task->rc = SB_OK;
    count(&pg->stats.queries);
    if (task->statement < 0 || sb_pg_pooled(pg->pg))
        return send_schema(pg, task) && PQsendQueryParams(pg->conn, task->sql, task->nparams, NULL,
                                                          task->params, NULL, NULL, 0);
    snprintf(name, sizeof name, "sb_%d_%u", task->statement, pg->edition);
    return send_prepare(pg, task, name) &&
           PQsendQueryPrepared(pg->conn, name, task->nparams, task->params, NULL, NULL, 0);
}

static bool flush(struct sb_pg_async *pg)
{
    int left = PQflush(pg->conn);

    if (left > 0)
        event_add(pg->on_write, NULL);
    return left >= 0;
}

/* What may not be repeated is a transaction of its own, so that no one else's failure undoes it. */
static bool send_waiting(struct sb_pg_async *pg)
{
    int n = 0;

    while (pg->waiting.first) {
        struct sb_pg_task *task = queue_take(&pg->waiting);

        queue_add(&pg->sent, task);
        if (!send_task(pg, task))
            return false;
        n++;
        if (!pg->waiting.first || n == BATCH_MAX || !task->may_repeat ||
            !pg->waiting.first->may_repeat) {
            count(&pg->stats.syncs);
            if (!PQpipelineSync(pg->conn))
                return false;
            n = 0;
        }
    }
    return flush(pg);
}

static void watch_for_late(struct sb_pg_async *pg)
{
    int64_t left_ms;

    if (!pg->sent.first) {
        event_del(pg->on_late);
        return;
    }
    if (event_pending(pg->on_late, EV_TIMEOUT, NULL))
        return;
    left_ms = pg->sent.first->deadline_ms - sb_clock_ms();
    add_timer(pg->on_late, left_ms > 0 ? left_ms + 1 : 1);
}

static void on_round(evutil_socket_t fd, short what, void *arg)
{
    struct sb_pg_async *pg = arg;

    (void)fd;
    (void)what;
    pg->round_planned = false;
    if (pg->state != UP)
        return;
    if (!send_waiting(pg))
        broken(pg, PQerrorMessage(pg->conn));
    else
        watch_for_late(pg);
}

static void plan_round(struct sb_pg_async *pg)
{
    if (pg->round_planned)
        return;
    pg->round_planned = true;
    event_active(pg->on_round, EV_TIMEOUT, 0);
}

enum sb_rc sb_pg_async_send(struct sb_pg_async *pg, struct sb_pg_task *task)
{
    if (pg->down)
        return SB_UNAVAILABLE;
    sb_assert(task->statement < SB_PG_STATEMENTS_MAX && task->nparams <= SB_PG_PARAMS_MAX);
    task->repeats = 0;
    task->result = NULL;
    queue_add(&pg->waiting, task);
    if (pg->state == OFF)
        start_connecting(pg);
    else if (pg->state == UP)
        plan_round(pg);
    return SB_OK;
}

/* -- results -- */

/* A prepared statement that is gone (DISCARD ALL) or whose tables a migration has changed: they are
 * prepared anew, under other names. */
static bool is_stale(const PGresult *r)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);

    return state && (!strcmp(state, "26000") ||
                     (!strcmp(state, "0A000") && text && strstr(text, "cached plan")));
}

static void keep_failure(struct sb_pg_async *pg, struct sb_pg_task *task, PGresult *r)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);

    if (task->rc) { /* the first one tells */
        PQclear(r);
        return;
    }
    task->rc = state ? sb_pg_sqlstate_rc(state) : SB_UNAVAILABLE;
    pg->ending |= !state || strncmp(state, "57P", 3) == 0; /* it says so before it hangs up */
    if (task->rc == SB_AGAIN && task->repeats >= REPEATS_MAX)
        task->rc = SB_UNAVAILABLE;
    task->repeats++;
    if (is_stale(r) && task->repeats < REPEATS_MAX) {
        task->rc = SB_AGAIN;
        pg->edition++;
        pg->prepared = 0;
    }
    PQclear(task->result);
    task->result = r;
}

static void take_result(struct sb_pg_async *pg, struct sb_pg_task *task, PGresult *r)
{
    switch (PQresultStatus(r)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        PQclear(task->result);
        task->result = r;
        break;
    case PGRES_PIPELINE_ABORTED: /* one before it failed */
        if (!task->rc)
            task->rc = SB_AGAIN;
        PQclear(r);
        break;
    default:
        keep_failure(pg, task, r);
    }
}

/* It was not carried out, or did nothing but read on a connection that ends. */
static bool may_go_again(const struct sb_pg_async *pg, const struct sb_pg_task *task)
{
    if (task->rc == SB_AGAIN)
        return true;
    return task->rc && pg->ending && task->may_repeat && task->repeats < REPEATS_MAX;
}

static void end_task(struct sb_pg_async *pg, struct sb_pg_task *task)
{
    struct sb_err err;

    if (task->rc && task->prepares)
        pg->prepared &= ~(1u << task->statement);
    if (may_go_again(pg, task)) {
        PQclear(task->result);
        task->result = NULL;
        queue_add(&pg->waiting, task);
        plan_round(pg);
        return;
    }
    if (task->rc)
        sb_err_set(&err, task->rc, "%s",
                   task->result ? PQresultErrorField(task->result, PG_DIAG_MESSAGE_PRIMARY)
                                : "the transaction was aborted");
    finish(task, task->rc, task->rc ? &err : NULL);
}

/* A NULL without a result before it ends nothing: libpq has no more, or has lost the connection. */
static bool end_group(struct sb_pg_async *pg, struct sb_pg_task *task)
{
    if (!task || !task->got)
        return false;
    task->got = false;
    if (!task->rc && task->groups == 2)
        task->prepares = false; /* that is done */
    if (--task->groups == 0)
        end_task(pg, queue_take(&pg->sent));
    return true;
}

/* False: nothing more is there. */
static bool take_one(struct sb_pg_async *pg)
{
    struct sb_pg_task *task = pg->sent.first;
    PGresult *r;

    if (PQisBusy(pg->conn))
        return false;
    r = PQgetResult(pg->conn);
    if (!r)
        return end_group(pg, task);
    if (PQresultStatus(r) == PGRES_PIPELINE_SYNC || !task) {
        PQclear(r);
        return true;
    }
    task->got = true;
    take_result(pg, task, r);
    return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct sb_pg_async *pg = arg;

    (void)fd;
    (void)what;
    if (!PQconsumeInput(pg->conn))
        pg->ending = true; /* but something may have come before */
    while (pg->state == UP && take_one(pg))
        ;
    if (pg->state != UP)
        return;
    if (pg->ending || PQstatus(pg->conn) != CONNECTION_OK)
        broken(pg, PQerrorMessage(pg->conn));
    else
        watch_for_late(pg);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct sb_pg_async *pg = arg;

    (void)fd;
    (void)what;
    if (!flush(pg))
        broken(pg, PQerrorMessage(pg->conn));
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
    struct sb_pg_async *pg = arg;

    (void)fd;
    (void)what;
    if (pg->sent.first && pg->sent.first->deadline_ms <= sb_clock_ms())
        broken(pg, "no answer in time");
    else
        watch_for_late(pg);
}

/* -- life -- */

struct sb_pg_async *sb_pg_async_new(struct event_base *base, const struct sb_pg_config *config)
{
    struct sb_pg_async *pg = sb_xcalloc(1, sizeof *pg);

    pg->base = base;
    pg->arena = sb_arena_new(0);
    copy_config(pg->arena, config, &pg->config);
    pg->retry_ms = RETRY_FIRST_MS;
    queue_init(&pg->waiting);
    queue_init(&pg->sent);
    pg->on_retry = evtimer_new(base, on_retry, pg);
    pg->on_round = evtimer_new(base, on_round, pg);
    pg->on_late = evtimer_new(base, on_late, pg);
    return pg;
}

void sb_pg_async_free(struct sb_pg_async *pg)
{
    struct sb_pg_task *task;

    if (!pg)
        return;
    forget_attempt(pg);
    disconnect(pg);
    while ((task = queue_take(&pg->sent)))
        PQclear(task->result);
    event_free(pg->on_retry);
    event_free(pg->on_round);
    event_free(pg->on_late);
    sb_arena_free(pg->arena);
    free(pg);
}

bool sb_pg_async_down(const struct sb_pg_async *pg)
{
    return pg->down;
}

const struct sb_pg_async_stats *sb_pg_async_stats(const struct sb_pg_async *pg)
{
    return &pg->stats;
}
