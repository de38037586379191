#include "dataplane/plugins/auth/ldap_bind.h"

#include <event2/event.h>
#include <ldap.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shared/arena.h"
#include "shared/clock.h"
#include "shared/log.h"

enum { CONNECTIONS_KEPT = 8 };

struct job {
    struct job *next;
    struct sb_arena *arena; /* everything of the job lives in it */
    struct sb_ldap_server server;
    const char *uri;
    char *dn;
    struct berval password;
    void (*done)(void *arg, enum sb_rc rc);
    void *arg;
    enum sb_rc rc;
};

struct queue {
    struct job *first, **last;
    size_t count;
};

struct sb_ldap_binder {
    int wake_fd;
    struct event *wake;
    size_t threads;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t work;
        struct queue todo, done;
        size_t idle;
        unsigned holders; /* the loop and the threads; the last frees */
        bool closed;
    } shared;
};

static void push(struct queue *q, struct job *job)
{
    job->next = NULL;
    if (!q->first)
        q->last = &q->first;
    *q->last = job;
    q->last = &job->next;
    q->count++;
}

static struct job *pop(struct queue *q)
{
    struct job *job = q->first;

    if (job) {
        q->first = job->next;
        q->count--;
    }
    return job;
}

/* -- connections, each a thread's own ------------------------------------------------------------
 */

struct connection {
    LDAP *ldap; /* NULL: free */
    char *key;
    int64_t until_ms;
};

static void close_connection(struct connection *c)
{
    if (c->ldap)
        ldap_unbind_ext(c->ldap, NULL, NULL);
    free(c->key);
    *c = (struct connection){0};
}

static struct timeval milliseconds(int ms)
{
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

static bool set_options(LDAP *ldap, const struct job *job)
{
    static const char system_ca[] = "/etc/ssl/certs/ca-certificates.crt";
    struct timeval timeout = milliseconds(job->server.timeout_ms);
    int version = LDAP_VERSION3, new_context = 0;
    int verify = job->server.verify ? LDAP_OPT_X_TLS_DEMAND : LDAP_OPT_X_TLS_NEVER;
    const char *ca = job->server.ca_file.len ? job->server.ca_file.p : system_ca;

    return !ldap_set_option(ldap, LDAP_OPT_PROTOCOL_VERSION, &version) &&
           !ldap_set_option(ldap, LDAP_OPT_NETWORK_TIMEOUT, &timeout) &&
           !ldap_set_option(ldap, LDAP_OPT_TIMEOUT, &timeout) &&
           !ldap_set_option(ldap, LDAP_OPT_REFERRALS, LDAP_OPT_OFF) &&
           !ldap_set_option(ldap, LDAP_OPT_X_TLS_REQUIRE_CERT, &verify) &&
           (!job->server.verify || !ldap_set_option(ldap, LDAP_OPT_X_TLS_CACERTFILE, ca)) &&
           !ldap_set_option(ldap, LDAP_OPT_X_TLS_NEWCTX, &new_context);
}

static LDAP *connect_to(const struct job *job)
{
    LDAP *ldap = NULL;
    int rc = ldap_initialize(&ldap, job->uri);

    if (!rc && !set_options(ldap, job))
        rc = LDAP_LOCAL_ERROR;
    if (!rc && job->server.start_tls)
        rc = ldap_start_tls_s(ldap, NULL, NULL);
    if (!rc)
        return ldap;
    sb_error("LDAP server %s: %s", job->uri, ldap_err2string(rc));
    if (ldap)
        ldap_unbind_ext(ldap, NULL, NULL);
    return NULL;
}

/* Connections that differ in how they are secured are not the same. */
static const char *key_of(const struct job *job)
{
    return sb_arena_printf(job->arena, "%s %d %d %.*s", job->uri, job->server.start_tls,
                           job->server.verify, SB_ARG(job->server.ca_file))
        .p;
}

/* The kept one, or else a place for a new one: that of the one that was used longest ago. */
static struct connection *find_connection(struct connection *kept, const char *key)
{
    struct connection *oldest = kept;

    for (size_t i = 0; i < CONNECTIONS_KEPT; i++) {
        if (kept[i].ldap && strcmp(kept[i].key, key) == 0)
            return &kept[i];
        if (!kept[i].ldap || (oldest->ldap && kept[i].until_ms < oldest->until_ms))
            oldest = &kept[i];
    }
    close_connection(oldest);
    return oldest;
}

static void close_idle(struct connection *kept, bool all)
{
    int64_t now = sb_clock_ms();

    for (size_t i = 0; i < CONNECTIONS_KEPT; i++)
        if (kept[i].ldap && (all || kept[i].until_ms <= now))
            close_connection(&kept[i]);
}

/* -- binding ------------------------------------------------------------------------------------
 */

/* No answer at all is the connection's fault, anything else is the server's word. */
static bool is_broken(int rc)
{
    return rc < 0 || rc == LDAP_BUSY || rc == LDAP_UNAVAILABLE || rc == LDAP_OTHER;
}

static int try_bind(const struct job *job, struct connection *c, const char *key)
{
    struct berval password = job->password;
    int rc;

    if (!c->ldap) {
        c->ldap = connect_to(job);
        if (!c->ldap)
            return LDAP_SERVER_DOWN;
        c->key = sb_xmalloc(strlen(key) + 1);
        memcpy(c->key, key, strlen(key) + 1);
    }
    rc = ldap_sasl_bind_s(c->ldap, job->dn, LDAP_SASL_SIMPLE, &password, NULL, NULL, NULL);
    c->until_ms = sb_clock_ms() + job->server.keepalive_ms;
    if (is_broken(rc))
        close_connection(c);
    return rc;
}

/* A kept connection may have been closed by the server: then once more, on a new one. */
static enum sb_rc run_job(const struct job *job, struct connection *kept)
{
    const char *key = key_of(job);
    struct connection *c = find_connection(kept, key);
    bool reused = c->ldap != NULL;
    int rc = try_bind(job, c, key);

    if (rc == LDAP_SERVER_DOWN && reused)
        rc = try_bind(job, c, key);
    if (is_broken(rc))
        sb_error("binding at LDAP server %s: %s", job->uri, ldap_err2string(rc));
    return rc == LDAP_SUCCESS ? SB_OK : is_broken(rc) ? SB_UNAVAILABLE : SB_DENIED;
}

/* -- threads ------------------------------------------------------------------------------------
 */

static void free_jobs(struct queue *q)
{
    struct job *job;

    while ((job = pop(q)))
        sb_arena_free(job->arena);
}

/* Called with the lock held; gives it back. */
static void leave_locked(struct sb_ldap_binder *b)
{
    bool last = --b->shared.holders == 0;

    pthread_mutex_unlock(&b->shared.lock);
    if (!last)
        return;
    free_jobs(&b->shared.todo);
    free_jobs(&b->shared.done);
    pthread_cond_destroy(&b->shared.work);
    pthread_mutex_destroy(&b->shared.lock);
    close(b->wake_fd);
    free(b);
}

/* When the first of the kept connections is due to be closed; 0: none is kept. */
static int64_t next_due(const struct connection *kept)
{
    int64_t due = 0;

    for (size_t i = 0; i < CONNECTIONS_KEPT; i++)
        if (kept[i].ldap && (!due || kept[i].until_ms < due))
            due = kept[i].until_ms;
    return due;
}

/* Until there is work, or a connection is due. */
static void wait_locked(struct sb_ldap_binder *b, int64_t due_ms)
{
    struct timespec until = {.tv_sec = due_ms / 1000, .tv_nsec = due_ms % 1000 * 1000000};

    b->shared.idle++;
    if (due_ms)
        pthread_cond_timedwait(&b->shared.work, &b->shared.lock, &until);
    else
        pthread_cond_wait(&b->shared.work, &b->shared.lock);
    b->shared.idle--;
}

static void *run_thread(void *arg)
{
    struct sb_ldap_binder *b = arg;
    struct connection kept[CONNECTIONS_KEPT] = {0};
    struct job *job;

    pthread_mutex_lock(&b->shared.lock);
    while (!b->shared.closed) {
        job = pop(&b->shared.todo);
        if (!job) {
            wait_locked(b, next_due(kept));
            pthread_mutex_unlock(&b->shared.lock);
            close_idle(kept, false);
            pthread_mutex_lock(&b->shared.lock);
            continue;
        }
        pthread_mutex_unlock(&b->shared.lock);
        job->rc = run_job(job, kept);
        pthread_mutex_lock(&b->shared.lock);
        push(&b->shared.done, job);
        eventfd_write(b->wake_fd, 1);
    }
    close_idle(kept, true);
    leave_locked(b);
    return NULL;
}

/* Another one while there are none that have nothing to do. */
static void start_thread_locked(struct sb_ldap_binder *b)
{
    pthread_attr_t attr;
    pthread_t thread;

    if (b->shared.idle || b->threads == SB_LDAP_THREADS)
        return;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    b->shared.holders++;
    if (pthread_create(&thread, &attr, run_thread, b) == 0)
        b->threads++;
    else
        b->shared.holders--;
    pthread_attr_destroy(&attr);
}

/* -- the loop's side ----------------------------------------------------------------------------
 */

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct sb_ldap_binder *b = arg;
    struct queue done;
    struct job *job;
    eventfd_t n;

    (void)what;
    eventfd_read(fd, &n);
    pthread_mutex_lock(&b->shared.lock);
    done = b->shared.done;
    b->shared.done = (struct queue){0};
    pthread_mutex_unlock(&b->shared.lock);
    while ((job = pop(&done))) {
        job->done(job->arg, job->rc);
        sb_arena_free(job->arena);
    }
}

struct sb_ldap_binder *sb_ldap_binder_new(struct event_base *loop)
{
    struct sb_ldap_binder *b = sb_xcalloc(1, sizeof *b);
    pthread_condattr_t monotonic;

    pthread_mutex_init(&b->shared.lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&b->shared.work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    b->shared.holders = 1;
    b->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    sb_assert(b->wake_fd >= 0);
    b->wake = event_new(loop, b->wake_fd, EV_READ | EV_PERSIST, on_wake, b);
    event_add(b->wake, NULL);
    return b;
}

void sb_ldap_binder_free(struct sb_ldap_binder *b)
{
    event_free(b->wake);
    pthread_mutex_lock(&b->shared.lock);
    b->shared.closed = true;
    pthread_cond_broadcast(&b->shared.work);
    leave_locked(b);
}

static struct job *new_job(const struct sb_ldap_server *server, struct sb_str dn,
                           struct sb_str password)
{
    struct sb_arena *a = sb_arena_new(1024);
    struct job *job = SB_NEW(a, struct job);

    job->arena = a;
    job->server = *server;
    job->server.uri = sb_arena_str(a, server->uri);
    job->server.ca_file = sb_arena_str(a, server->ca_file);
    job->uri = job->server.uri.p;
    job->dn = sb_arena_cstr(a, dn);
    job->password = (struct berval){password.len, sb_arena_cstr(a, password)};
    return job;
}

enum sb_rc sb_ldap_bind(struct sb_ldap_binder *b, const struct sb_ldap_server *server,
                        struct sb_str dn, struct sb_str password,
                        void (*done)(void *arg, enum sb_rc rc), void *arg)
{
    struct job *job = new_job(server, dn, password);
    bool full;

    job->done = done;
    job->arg = arg;
    pthread_mutex_lock(&b->shared.lock);
    full = b->shared.todo.count >= SB_LDAP_QUEUE_MAX;
    if (!full) {
        push(&b->shared.todo, job);
        start_thread_locked(b);
        pthread_cond_signal(&b->shared.work);
    }
    pthread_mutex_unlock(&b->shared.lock);
    if (full)
        sb_arena_free(job->arena);
    return full ? SB_TOOLARGE : SB_OK;
}

/* -- names --------------------------------------------------------------------------------------
 */

struct sb_str sb_ldap_escape(struct sb_arena *a, struct sb_str value)
{
    char *out = sb_arena_alloc(a, value.len * 3 + 1);
    size_t n = 0;

    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.p[i];
        bool edge = (c == ' ' && (i == 0 || i + 1 == value.len)) || (c == '#' && i == 0);

        if (edge || c < 0x20 || c == 0x7f || (c && strchr(",+\"\\<>;=", c))) {
            out[n++] = '\\';
            out[n++] = "0123456789ABCDEF"[c >> 4];
            out[n++] = "0123456789ABCDEF"[c & 15];
        } else {
            out[n++] = (char)c;
        }
    }
    out[n] = '\0';
    return sb_str_n(out, n);
}
