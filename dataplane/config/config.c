/* config.c - the thread, and what others may ask of it.
 *
 *     any thread                         config thread
 *       load_rows, rows   -> requests ->   answers each, wakes who waits for it
 *       wake              -> a flag   ->   looks for changes
 *     worker thread
 *       retired           -> a list   ->   gives the snapshot back to the builder
 *
 * Everything but the struct `shared` belongs to the config thread (to the starting thread before it
 * runs, to the freeing one after it ended). One lock guards `shared`; nothing is done under it but
 * moving pointers and copying what is asked for, and no other lock is taken inside.
 */
#include "dataplane/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dataplane/config/build.h"
#include "dataplane/config/context.h"
#include "dataplane/config/declared.h"
#include "dataplane/config/follow.h"
#include "dataplane/config/node.h"
#include "dataplane/plugins/credentials/memory.h"
#include "dataplane/plugins/credentials/warmup.h"
#include "dataplane/plugins/parts.h"
#include "dataplane/config/saved.h"
#include "dataplane/listen/workers.h"
#include "schema/entity.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/settings.h"
#include "shared/vec.h"

static const char no_hash[] = "00000000000000000000000000000000";

enum request_type { REQUEST_LOAD, REQUEST_ROWS, REQUEST_TAKE_OVER, REQUEST_RELEASE };

/* On the stack of who asks, who waits until it is done. */
struct request {
    struct request *next;
    enum request_type type;
    const struct sb_value *rows; /* load */
    const char *hash;
    struct sb_arena *arena; /* rows: where to */
    struct sb_value *result;
    bool again, refused, done;
};

enum { ROTATE_MS = 60000 }; /* as Kong looks for rotated secrets */

struct sb_config {
    const struct sb_settings *settings;
    struct sb_workers *workers;
    struct sb_uuid node;
    struct sb_builder *builder;
    struct sb_saver *saver;       /* NULL: another process may still write the file */
    struct sb_follower *follower; /* NULL: no database */
    struct sb_saved_meta meta;    /* of what is served */
    char *path;                   /* of the saved configuration */
    bool declared;                /* a file or a string of ours is what is served */
    enum sb_config_source source;
    uint64_t left_out_edition;
    int64_t rotate_ms; /* when secrets are asked for anew */
    bool warmed;       /* warmup was begun */
    struct sb_warmup *warmup;
    int wake_fd;
    pthread_t thread;
    bool running;

    struct {
        pthread_mutex_t lock;
        pthread_cond_t answered;
        struct request *first, *last;
        SB_VEC(const struct sb_snapshot *) retired;
        bool look, stop;
        struct sb_config_state state;
        struct sb_arena *left_arena; /* of left_out */
        struct sb_value *left_out;
    } shared;
};

static void ring(struct sb_config *c)
{
    uint64_t one = 1;

    /* Full is fine: then it rings already. */
    if (write(c->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN)
        sb_error("the config thread can't be woken: %s", strerror(errno));
}

/* NULL: there is no database. */
static struct sb_cache *cache(struct sb_config *c)
{
    const struct sb_credentials *credentials = sb_workers_credentials(c->workers);

    return credentials ? credentials->cache : NULL;
}

/* -- publishing -- */

/* On a worker's thread. */
static void on_retired(void *arg, const struct sb_snapshot *snap)
{
    struct sb_config *c = arg;

    pthread_mutex_lock(&c->shared.lock);
    sb_vec_push(&c->shared.retired, snap);
    pthread_mutex_unlock(&c->shared.lock);
    ring(c);
}

/* The list that others see, when it changed. */
static void share_left_out(struct sb_config *c)
{
    struct sb_arena *fresh, *old;
    struct sb_value *list;

    if (c->shared.left_out && c->left_out_edition == sb_builder_left_out_edition(c->builder))
        return;
    fresh = sb_arena_new(0);
    list = sb_builder_left_out(c->builder, fresh);
    c->left_out_edition = sb_builder_left_out_edition(c->builder);
    pthread_mutex_lock(&c->shared.lock);
    old = c->shared.left_arena;
    c->shared.left_arena = fresh;
    c->shared.left_out = list;
    c->shared.state.left_out = list->count;
    pthread_mutex_unlock(&c->shared.lock);
    if (old)
        sb_arena_free(old);
}

static void share_state(struct sb_config *c)
{
    struct sb_config_state *s = &c->shared.state;
    const struct sb_follow_state *f = c->follower ? sb_follower_state(c->follower) : NULL;

    pthread_mutex_lock(&c->shared.lock);
    s->served = c->meta.version;
    s->newest = f && f->newest > s->served ? f->newest : s->served;
    s->source = c->source;
    s->connected = f && f->connected;
    s->listening = f && f->listening;
    if (f) {
        s->loads = f->loads;
        s->deltas = f->deltas;
    }
    if (s->connected)
        s->trouble[0] = 0;
    snprintf(s->hash, sizeof s->hash, "%s", c->meta.hash[0] ? c->meta.hash : no_hash);
    pthread_mutex_unlock(&c->shared.lock);
}

/* Consumers and credentials among the rows: only a node without a database has them there. */
static struct sb_memory *read_credentials(struct sb_config *c)
{
    struct sb_memory *m = sb_memory_new();
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_node *node = sb_model_first(sb_builder_model(c->builder));

    for (; node; node = node->next) {
        struct sb_str kind = sb_str_c(node->kind->name);
        const struct sb_entity *entity = sb_entity_find(kind);

        if (!entity || !(entity->flags & SB_E_CREDENTIAL))
            continue;
        sb_memory_add(m, kind, sb_node_row(node, a));
        sb_arena_clear(a);
    }
    sb_arena_free(a);
    sb_memory_finish(m);
    return m;
}

/* Serves the model as it is now, as this version. */
static void publish(struct sb_config *c, uint64_t version, enum sb_config_source source)
{
    int64_t began_us = sb_clock_us();
    const struct sb_snapshot *snap;

    if (!c->follower)
        sb_builder_set_credentials(c->builder, read_credentials(c));
    snap = sb_builder_build(c->builder, version);
    sb_workers_publish(c->workers, snap, on_retired, c);
    sb_info("config: version %llu is served: %zu entities compiled in %lld us",
            (unsigned long long)version, sb_builder_compiled(c->builder),
            (long long)(sb_clock_us() - began_us));
    c->meta.version = version;
    c->source = source;
    pthread_mutex_lock(&c->shared.lock);
    c->shared.state.changed_ms = sb_wall_ms();
    pthread_mutex_unlock(&c->shared.lock);
    share_left_out(c);
    share_state(c);
}

/* -- sources -- */

static void save(struct sb_config *c)
{
    if (c->saver)
        sb_saver_commit(c->saver, &c->meta);
}

static void follow_source(struct sb_config *c, const struct sb_follow_state *f)
{
    c->meta.mark = f->mark;
    publish(c, f->version, SB_CONFIG_FROM_DATABASE);
    save(c);
}

/* Looks at the database; what it says goes out at once. */
static enum sb_rc follow(struct sb_config *c, bool look, struct sb_err *err)
{
    bool changed = false;
    enum sb_rc rc = sb_follower_step(c->follower, look, &changed, err);

    if (rc) {
        pthread_mutex_lock(&c->shared.lock);
        snprintf(c->shared.state.trouble, sizeof c->shared.state.trouble, "%.255s", err->text);
        pthread_mutex_unlock(&c->shared.lock);
    }
    if (changed)
        follow_source(c, sb_follower_state(c->follower));
    else if (sb_follower_state(c->follower)->connected)
        c->source = SB_CONFIG_FROM_DATABASE; /* which may have said that nothing changed */
    if (!c->warmed && sb_follower_state(c->follower)->connected) {
        c->warmed = true;
        c->warmup = sb_warmup_start(sb_workers_credentials(c->workers), c->settings);
    }
    if (c->saver) /* before, another process of this node reports */
        sb_follower_report(c->follower, c->meta.version);
    share_state(c);
    return rc;
}

/* Replaces the model by rows of all kinds. */
static void load_rows(struct sb_config *c, const struct sb_value *rows, const char *hash)
{
    sb_model_replace_all(sb_builder_model(c->builder), rows);
    snprintf(c->meta.hash, sizeof c->meta.hash, "%s", hash);
    pthread_mutex_lock(&c->shared.lock);
    c->shared.state.loads++;
    pthread_mutex_unlock(&c->shared.lock);
    publish(c, c->meta.version + 1, SB_CONFIG_FROM_ROWS);
    save(c);
}

/* All stored rows, kinds in load order. */
static struct sb_value *copy_rows(struct sb_config *c, struct sb_arena *a)
{
    struct sb_value *all = sb_value_object(a);
    const struct sb_node *node;

    for (const struct sb_entity *const *e = sb_entities(); *e; e++)
        sb_object_set(a, all, sb_str_c((*e)->name), sb_value_array(a));
    for (node = sb_model_first(sb_builder_model(c->builder)); node; node = node->next) {
        struct sb_value *list = sb_get(all, node->kind->name);

        if (list)
            sb_array_push(a, list, sb_node_row(node, a));
    }
    return all;
}

/* Whether the model is the state of a version, and not between two. */
static bool is_complete(const struct sb_config *c)
{
    return !c->follower || sb_follower_state(c->follower)->version;
}

/* Without a source of our own: what the process before us got by POST /config and saved. */
static void load_what_it_saved(struct sb_config *c)
{
    struct sb_model *model = sb_builder_model(c->builder);
    struct sb_saved_meta meta = c->meta;
    struct sb_err err;

    sb_model_replace_begin(model);
    if (sb_saved_load(c->path, model, &meta, &err) || meta.version == c->meta.version)
        return;
    sb_model_replace_end(model, NULL);
    c->meta = meta;
    publish(c, meta.version, SB_CONFIG_FROM_ROWS);
}

static void take_over(struct sb_config *c, bool again)
{
    if (again && !c->follower && !c->declared)
        load_what_it_saved(c);
    c->saver = sb_saver_start(c->path, sb_builder_model(c->builder));
    if (is_complete(c))
        save(c);
    if (c->follower)
        sb_follower_report(c->follower, c->meta.version);
}

static void release(struct sb_config *c)
{
    if (!c->saver)
        return;
    sb_saver_stop(c->saver, is_complete(c));
    c->saver = NULL;
    if (c->follower)
        sb_follower_goodbye(c->follower);
}

/* -- the thread -- */

static struct request *take_request(struct sb_config *c)
{
    struct request *r;

    pthread_mutex_lock(&c->shared.lock);
    r = c->shared.first;
    if (r)
        c->shared.first = r->next;
    if (!c->shared.first)
        c->shared.last = NULL;
    pthread_mutex_unlock(&c->shared.lock);
    return r;
}

static void answer(struct sb_config *c, struct request *r)
{
    pthread_mutex_lock(&c->shared.lock);
    r->done = true; /* it is gone once the lock is */
    pthread_cond_broadcast(&c->shared.answered);
    pthread_mutex_unlock(&c->shared.lock);
}

static void serve_requests(struct sb_config *c)
{
    struct request *r;

    while ((r = take_request(c))) {
        if (r->type == REQUEST_LOAD)
            load_rows(c, r->rows, r->hash);
        else if (r->type == REQUEST_ROWS)
            r->result = copy_rows(c, r->arena);
        else if (r->type == REQUEST_TAKE_OVER)
            take_over(c, r->again);
        else
            release(c);
        answer(c, r);
    }
}

static void take_retired(struct sb_config *c)
{
    for (;;) {
        const struct sb_snapshot *snap = NULL;

        pthread_mutex_lock(&c->shared.lock);
        if (c->shared.retired.len)
            snap = c->shared.retired.p[--c->shared.retired.len];
        pthread_mutex_unlock(&c->shared.lock);
        if (!snap)
            return;
        sb_builder_retire(c->builder, snap);
    }
}

static void take_flags(struct sb_config *c, bool *look, bool *stop)
{
    pthread_mutex_lock(&c->shared.lock);
    *look = c->shared.look;
    *stop = c->shared.stop;
    c->shared.look = false;
    pthread_mutex_unlock(&c->shared.lock);
}

/* Secrets that rows refer to may have become others. */
static void rotate_secrets(struct sb_config *c)
{
    int64_t now = sb_clock_ms();

    if (now < c->rotate_ms || !is_complete(c))
        return;
    c->rotate_ms = now + ROTATE_MS;
    if (sb_builder_rotate(c->builder))
        publish(c, c->meta.version, c->source);
}

static int sooner(int timeout_ms, int64_t ms)
{
    if (ms < 0)
        ms = 0;
    return timeout_ms < 0 || ms < timeout_ms ? (int)ms : timeout_ms;
}

/* Sleeps until there is something to do. */
static void wait_for_work(struct sb_config *c, int saver_ms)
{
    struct pollfd fds[3] = {{.fd = c->wake_fd, .events = POLLIN}};
    int sockets[2], n = 0, timeout_ms = -1;
    uint64_t count;

    if (c->follower)
        n = sb_follower_wait(c->follower, sockets, &timeout_ms);
    for (int i = 0; i < n; i++)
        fds[1 + i] = (struct pollfd){.fd = sockets[i], .events = POLLIN};
    if (saver_ms >= 0)
        timeout_ms = sooner(timeout_ms, saver_ms);
    timeout_ms = sooner(timeout_ms, is_complete(c) ? c->rotate_ms - sb_clock_ms() : ROTATE_MS);
    if (poll(fds, (nfds_t)(1 + n), timeout_ms) > 0 && fds[0].revents &&
        read(c->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        sb_error("the config thread can't be woken: %s", strerror(errno));
}

static void *config_thread(void *arg)
{
    struct sb_config *c = arg;
    bool look, stop;

    for (;;) {
        struct sb_err err;

        take_flags(c, &look, &stop);
        if (stop)
            break;
        take_retired(c);
        serve_requests(c);
        if (c->follower && follow(c, look, &err))
            sb_warn("config: %s; version %llu stays", err.text,
                    (unsigned long long)c->meta.version);
        rotate_secrets(c);
        wait_for_work(c, c->saver && is_complete(c) ? sb_saver_tick(c->saver, sb_clock_ms()) : -1);
    }
    release(c);
    sb_warmup_stop(c->warmup);
    c->warmup = NULL;
    return NULL;
}

/* -- start -- */

/* What was saved into the model; true when there is something. */
static bool load_saved(struct sb_config *c)
{
    struct sb_saved_meta meta = c->meta;
    struct sb_err err;
    enum sb_rc rc = sb_saved_load(c->path, sb_builder_model(c->builder), &meta, &err);

    if (rc && rc != SB_NOTFOUND)
        sb_warn("the saved configuration is not used: %s", err.text);
    if (!rc)
        c->meta = meta;
    return !rc;
}

/* The database. What was saved is served until it answers, which may take as long as pg_timeout. */
static enum sb_rc start_database(struct sb_config *c, struct sb_err *err)
{
    bool saved = load_saved(c);
    enum sb_rc rc;

    if (saved) {
        publish(c, c->meta.version, SB_CONFIG_FROM_SAVED);
        sb_follower_saved(c->follower, c->meta.version, c->meta.mark);
    }
    rc = follow(c, true, err);
    if (rc && !saved)
        return rc;
    if (rc)
        sb_warn("config: %s; serving version %llu as it was saved", err->text,
                (unsigned long long)c->meta.version);
    return SB_OK;
}

/* A declared document; else what the last one left; else nothing. */
static enum sb_rc start_declared(struct sb_config *c, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *rows = NULL;
    char hash[SB_CONFIG_HASH_LEN + 1];
    enum sb_rc rc = sb_declared_read(c->settings, a, &rows, hash, err);
    bool saved;

    if (rc == SB_OK || rc == SB_NOTFOUND) {
        saved = load_saved(c); /* versions go on from it, also where a document replaces it */
        c->declared = rc == SB_OK;
        if (c->declared)
            load_rows(c, rows, hash);
        else
            publish(c, c->meta.version, saved ? SB_CONFIG_FROM_ROWS : SB_CONFIG_FROM_NOTHING);
        rc = SB_OK;
    }
    sb_arena_free(a);
    malloc_trim(0); /* a document takes many times what is served of it */
    return rc;
}

static void name_source(struct sb_config *c, bool database)
{
    struct sb_pg_config pg = {0};

    sb_uuid_format(&c->node, c->meta.node);
    if (database && sb_settings_pg(c->settings, false, &pg))
        snprintf(c->meta.source, sizeof c->meta.source, "postgres %s %s",
                 pg.database ? pg.database : "", pg.schema ? pg.schema : "");
    else
        snprintf(c->meta.source, sizeof c->meta.source, "off");
}

static struct sb_config *config_new(const struct sb_settings *settings, struct sb_workers *workers)
{
    struct sb_config *c = sb_xcalloc(1, sizeof *c);
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str path = sb_settings_path(settings, a, "config.saved");

    c->settings = settings;
    c->workers = workers;
    c->builder = sb_builder_new(sb_context_flavor(settings), settings);
    c->path = memcpy(sb_xmalloc(path.len + 1), path.p, path.len + 1);
    sb_arena_free(a);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sb_assert(c->wake_fd >= 0);
    pthread_mutex_init(&c->shared.lock, NULL);
    pthread_cond_init(&c->shared.answered, NULL);
    return c;
}

static void hear_health(void *arg, struct sb_str word)
{
    struct sb_config *c = arg;

    sb_workers_hear_health(c->workers, word);
}

static enum sb_rc start(struct sb_config *c, struct sb_err *err)
{
    bool database = !sb_str_is(sb_str_c(sb_settings_str(c->settings, "database")), "off");
    enum sb_rc rc = sb_node_id(c->settings, &c->node, err);

    if (rc)
        return rc;
    name_source(c, database);
    if (database) {
        c->follower =
            sb_follower_new(c->settings, &c->node, sb_builder_model(c->builder), cache(c));
        sb_follower_on_word(c->follower, hear_health, c);
    }
    rc = database ? start_database(c, err) : start_declared(c, err);
    if (rc)
        return rc;
    sb_assert(pthread_create(&c->thread, NULL, config_thread, c) == 0);
    c->running = true;
    return SB_OK;
}

enum sb_rc sb_config_start(const struct sb_settings *settings, struct sb_workers *workers,
                           struct sb_config **out, struct sb_err *err)
{
    struct sb_config *c = config_new(settings, workers);
    enum sb_rc rc = start(c, err);

    if (rc)
        sb_config_free(c); /* what failed has published nothing */
    else
        *out = c;
    return rc;
}

/* -- end -- */

void sb_config_stop(struct sb_config *c)
{
    struct request *r;

    if (!c)
        return;
    pthread_mutex_lock(&c->shared.lock);
    c->shared.stop = true;
    pthread_mutex_unlock(&c->shared.lock);
    ring(c);
    if (c->running)
        pthread_join(c->thread, NULL);
    if (c->running && cache(c))
        sb_cache_close(cache(c)); /* nobody reads any more what ends in it */
    c->running = false;
    while ((r = take_request(c))) {
        r->refused = true;
        answer(c, r);
    }
}

void sb_config_free(struct sb_config *c)
{
    if (!c)
        return;
    sb_config_stop(c);
    sb_follower_free(c->follower);
    sb_builder_free(c->builder);
    sb_vec_release(&c->shared.retired);
    if (c->shared.left_arena)
        sb_arena_free(c->shared.left_arena);
    pthread_mutex_destroy(&c->shared.lock);
    pthread_cond_destroy(&c->shared.answered);
    close(c->wake_fd);
    free(c->path);
    free(c);
}

/* -- from any thread -- */

/* False: the thread has stopped. */
static bool ask(struct sb_config *c, struct request *r)
{
    pthread_mutex_lock(&c->shared.lock);
    if (c->shared.stop) {
        pthread_mutex_unlock(&c->shared.lock);
        return false;
    }
    *(c->shared.last ? &c->shared.last->next : &c->shared.first) = r;
    c->shared.last = r;
    ring(c);
    while (!r->done)
        pthread_cond_wait(&c->shared.answered, &c->shared.lock);
    pthread_mutex_unlock(&c->shared.lock);
    return !r->refused;
}

enum sb_rc sb_config_load_rows(struct sb_config *c, const struct sb_value *rows, const char *hash,
                               struct sb_err *err)
{
    struct request r = {.type = REQUEST_LOAD, .rows = rows, .hash = hash};

    if (c->follower)
        return sb_err_set(err, SB_DENIED, "the configuration comes from the database");
    if (!ask(c, &r))
        return sb_err_set(err, SB_UNAVAILABLE, "the node is stopping");
    return SB_OK;
}

struct sb_value *sb_config_rows(struct sb_config *c, struct sb_arena *a)
{
    struct request r = {.type = REQUEST_ROWS, .arena = a};

    return ask(c, &r) ? r.result : NULL;
}

void sb_config_take_over(struct sb_config *c, bool again)
{
    struct request r = {.type = REQUEST_TAKE_OVER, .again = again};

    (void)ask(c, &r); /* it may have been stopped at once */
}

void sb_config_release(struct sb_config *c)
{
    struct request r = {.type = REQUEST_RELEASE};

    (void)ask(c, &r);
}

void sb_config_version(struct sb_config *c, struct sb_config_state *out)
{
    pthread_mutex_lock(&c->shared.lock);
    *out = c->shared.state;
    pthread_mutex_unlock(&c->shared.lock);
}

struct sb_value *sb_config_left_out(struct sb_config *c, struct sb_arena *a)
{
    struct sb_value *list;

    pthread_mutex_lock(&c->shared.lock);
    list = sb_value_copy(a, c->shared.left_out);
    pthread_mutex_unlock(&c->shared.lock);
    return list;
}

const struct sb_uuid *sb_config_node_id(const struct sb_config *c)
{
    return &c->node;
}

void sb_config_wake(struct sb_config *c)
{
    pthread_mutex_lock(&c->shared.lock);
    c->shared.look = true;
    pthread_mutex_unlock(&c->shared.lock);
    ring(c);
}
