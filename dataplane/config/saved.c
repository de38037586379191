/* saved.c - see saved.h.
 *
 *     config thread                            saver thread
 *       rows that change -> pending              jobs: write these bytes / sync / begin / rename
 *       tick: pending, or a piece of the   ->    in order, one at a time
 *             whole state -> a job
 *
 * Once a second at most the pending rows become a block and a commit. After a failure (a full disk)
 * the whole state is written again, half a minute later.
 */
#include "dataplane/config/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "shared/buf.h"
#include "shared/clock.h"
#include "shared/json.h"
#include "shared/log.h"

enum {
    HEAD_LEN = 9,           /* of a block: type, length, CRC */
    EVERY_MS = 1000,        /* between two syncs */
    RETRY_MS = 30 * 1000,   /* after the disk refused */
    PIECE_LEN = 512 * 1024, /* of a whole state */
    QUEUED_MAX = 4 * 1024 * 1024,
    SLACK = 1024 * 1024, /* changes may outgrow the state by this */
};

static const char magic[] = "silverback config 1\n";
static const char magic_any[] = "silverback config ";

/* -- blocks -- */

static void put_u32(char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (char)(v >> (8 * i));
}

static uint32_t get_u32(const char *p)
{
    uint32_t v = 0;

    for (int i = 0; i < 4; i++)
        v |= (uint32_t)(unsigned char)p[i] << (8 * i);
    return v;
}

static uint32_t crc_of(char type, struct sb_str payload)
{
    uLong crc = crc32(0, (const Bytef *)&type, 1);

    return (uint32_t)crc32(crc, (const Bytef *)payload.p, (uInt)payload.len);
}

static void add_block(struct sb_buf *to, char type, struct sb_str payload)
{
    char head[HEAD_LEN];

    head[0] = type;
    put_u32(head + 1, (uint32_t)payload.len);
    put_u32(head + 5, crc_of(type, payload));
    sb_buf_add(to, head, sizeof head);
    sb_buf_str(to, payload);
}

static void add_field(struct sb_buf *to, struct sb_str field)
{
    char len[4];

    put_u32(len, (uint32_t)field.len);
    sb_buf_add(to, len, sizeof len);
    sb_buf_str(to, field);
}

/* A row: kind, id, and its text; none when it is gone. */
static void add_row(struct sb_buf *to, const struct sb_node *node, bool going)
{
    sb_buf_char(to, going ? '-' : '+');
    add_field(to, sb_str_c(node->kind->name));
    add_field(to, node->id);
    if (!going)
        add_field(to, node->text);
}

static void add_commit(struct sb_buf *to, const struct sb_saved_meta *meta)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *v = sb_value_object(a);

    sb_object_set(a, v, SB_STR("node"), sb_value_text(a, meta->node));
    sb_object_set(a, v, SB_STR("source"), sb_value_text(a, meta->source));
    sb_object_set(a, v, SB_STR("mark"), sb_value_int(a, meta->mark));
    sb_object_set(a, v, SB_STR("hash"), sb_value_text(a, meta->hash));
    sb_object_set(a, v, SB_STR("version"), sb_value_int(a, (int64_t)meta->version));
    add_block(to, 'C', sb_json_text(a, v, 0));
    sb_arena_free(a);
}

/* -- reading -- */

struct block {
    char type;
    struct sb_str payload;
};

/* Cuts an intact block off the rest. */
static bool next_block(struct sb_str *rest, struct block *out)
{
    uint32_t len;

    if (rest->len < HEAD_LEN)
        return false;
    len = get_u32(rest->p + 1);
    if (len > rest->len - HEAD_LEN)
        return false;
    *out = (struct block){rest->p[0], {rest->p + HEAD_LEN, len}};
    if (get_u32(rest->p + 5) != crc_of(out->type, out->payload))
        return false;
    *rest = sb_str_from(*rest, HEAD_LEN + len);
    return true;
}

static bool next_field(struct sb_str *rest, struct sb_str *out)
{
    uint32_t len;

    if (rest->len < 4)
        return false;
    len = get_u32(rest->p);
    if (len > rest->len - 4)
        return false;
    *out = sb_str_n(rest->p + 4, len);
    *rest = sb_str_from(*rest, 4 + (size_t)len);
    return true;
}

/* Applies the rows of a block; false: not rows. */
static bool apply_rows(struct sb_model *model, struct sb_str rows)
{
    while (rows.len) {
        char op = rows.p[0];
        struct sb_str kind, id, text;

        rows = sb_str_from(rows, 1);
        if (!next_field(&rows, &kind) || !next_field(&rows, &id))
            return false;
        if (op == '-')
            sb_model_drop(model, kind, id);
        else if (!next_field(&rows, &text) || !sb_model_put_text(model, kind, text))
            return false;
    }
    return true;
}

static void copy_text(char *to, size_t cap, const struct sb_value *v, const char *field)
{
    snprintf(to, cap, "%.*s", SB_ARG(sb_value_str_at(v, field)));
}

static bool read_commit(struct sb_str payload, struct sb_saved_meta *out)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *v = NULL;
    bool ok = sb_json_parse(a, payload, &v, NULL) == SB_OK;

    copy_text(out->node, sizeof out->node, v, "node");
    copy_text(out->source, sizeof out->source, v, "source");
    copy_text(out->hash, sizeof out->hash, v, "hash");
    out->mark = sb_value_int_at(v, "mark", 0);
    out->version = (uint64_t)sb_value_int_at(v, "version", 0);
    sb_arena_free(a);
    return ok;
}

/* What lies before the end of the last intact commit; empty when there is none. */
static struct sb_str committed(struct sb_str blocks, struct sb_saved_meta *meta)
{
    struct sb_str rest = blocks;
    struct block block;
    size_t good = 0;

    while (next_block(&rest, &block)) {
        if (block.type == 'C' && read_commit(block.payload, meta))
            good = blocks.len - rest.len;
    }
    return sb_str_first(blocks, good);
}

static enum sb_rc check_origin(const struct sb_saved_meta *want, const struct sb_saved_meta *is,
                               struct sb_err *err)
{
    if (strcmp(want->node, is->node) != 0)
        return sb_err_set(err, SB_INVALID, "it was written by node %s, this is node %s", is->node,
                          want->node);
    if (strcmp(want->source, is->source) != 0)
        return sb_err_set(err, SB_INVALID, "it was made from '%s', this node reads '%s'",
                          is->source, want->source);
    return SB_OK;
}

static enum sb_rc load_text(struct sb_str text, struct sb_model *model, struct sb_saved_meta *meta,
                            struct sb_err *err)
{
    struct sb_saved_meta found = {0};
    struct sb_str blocks, rest;
    struct block block;
    enum sb_rc rc;

    if (!sb_str_starts(text, SB_STR(magic_any)))
        return sb_err_set(err, SB_INVALID, "it is not a saved configuration");
    if (!sb_str_starts(text, SB_STR(magic)))
        return sb_err_set(err, SB_INVALID, "it has a format that this version does not read");
    rest = sb_str_from(text, sizeof magic - 1);
    blocks = committed(rest, &found);
    if (!blocks.len)
        return sb_err_set(err, SB_INVALID, "it is damaged: no state in it is complete");
    if ((rc = check_origin(meta, &found, err)))
        return rc;
    if (blocks.len < rest.len)
        sb_warn("the saved configuration is damaged after version %llu: its last %zu bytes are not "
                "used",
                (unsigned long long)found.version, rest.len - blocks.len);
    while (next_block(&blocks, &block)) {
        if (block.type == 'R' && !apply_rows(model, block.payload))
            return sb_err_set(err, SB_INVALID, "it is damaged: a row in it can't be read");
    }
    *meta = found;
    return SB_OK;
}

enum sb_rc sb_saved_load(const char *path, struct sb_model *model, struct sb_saved_meta *meta,
                         struct sb_err *err)
{
    struct sb_buf text;
    enum sb_rc rc;

    sb_buf_init(&text, (size_t)UINT32_MAX);
    if (sb_buf_read_file(&text, path))
        rc = load_text(sb_buf_get(&text), model, meta, err);
    else
        rc = sb_err_set(err, errno == ENOENT ? SB_NOTFOUND : SB_INVALID, "%s", strerror(errno));
    sb_buf_release(&text);
    if (rc)
        sb_err_at(err, "%s", path);
    return rc;
}

/* -- the saver thread -- */

enum job_type { JOB_BEGIN, JOB_WRITE, JOB_SYNC, JOB_RENAME };

struct job {
    struct job *next;
    enum job_type type;
    char *bytes;
    size_t len;
};

struct sb_saver {
    char *path, *temp;
    struct sb_model *model;
    pthread_t thread;
    int fd; /* the saver thread's; -1: none */

    struct {
        pthread_mutex_t lock;
        pthread_cond_t work, idle;
        struct job *first, *last;
        size_t queued; /* bytes */
        bool busy, stop, failed;
    } shared;

    /* The config thread's. */
    struct sb_buf rows;           /* changed since the last commit */
    struct sb_buf ready;          /* and up to the last commit */
    struct sb_saved_meta meta;    /* of that commit */
    bool dirty;                   /* there is a commit that was not handed over */
    bool whole_wanted, walking;   /* the state is to be written; is being written */
    const struct sb_node *cursor; /* the next row of it */
    size_t whole_len, changes_len;
    int64_t not_before_ms;
};

static bool write_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

/* A rename lasts when its directory is synced. */
static bool sync_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char dir[PATH_MAX];
    int fd;
    bool ok;

    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool run_job(struct sb_saver *s, const struct job *job)
{
    switch (job->type) {
    case JOB_BEGIN:
        if (s->fd >= 0)
            close(s->fd);
        s->fd = open(s->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        return s->fd >= 0;
    case JOB_WRITE:
        return s->fd >= 0 && write_all(s->fd, job->bytes, job->len);
    case JOB_SYNC:
        return s->fd >= 0 && fdatasync(s->fd) == 0;
    case JOB_RENAME:
        return s->fd >= 0 && fsync(s->fd) == 0 && rename(s->temp, s->path) == 0 &&
               sync_directory(s->path);
    }
    return false;
}

/* After a failure what is queued has nowhere to go: only a new beginning helps. */
static void job_failed(struct sb_saver *s)
{
    sb_error("the configuration can't be saved to %s: %s; trying again in %d seconds", s->path,
             strerror(errno), RETRY_MS / 1000);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static void *saver_thread(void *arg)
{
    struct sb_saver *s = arg;

    pthread_mutex_lock(&s->shared.lock);
    for (;;) {
        struct job *job = s->shared.first;
        bool skip = s->shared.failed && job && job->type != JOB_BEGIN, ok;

        if (!job) {
            s->shared.busy = false;
            pthread_cond_broadcast(&s->shared.idle);
            if (s->shared.stop)
                break;
            pthread_cond_wait(&s->shared.work, &s->shared.lock);
            continue;
        }
        s->shared.first = job->next;
        s->shared.last = job->next ? s->shared.last : NULL;
        pthread_mutex_unlock(&s->shared.lock);
        ok = skip || run_job(s, job);
        if (!ok)
            job_failed(s);
        pthread_mutex_lock(&s->shared.lock);
        s->shared.queued -= job->len;
        s->shared.failed = skip || !ok;
        free(job->bytes);
        free(job);
    }
    pthread_mutex_unlock(&s->shared.lock);
    return NULL;
}

/* Takes the bytes of the buffer, which is empty afterwards. */
static void hand_over(struct sb_saver *s, enum job_type type, struct sb_buf *bytes)
{
    struct job *job = sb_xcalloc(1, sizeof *job);

    job->type = type;
    if (bytes) {
        job->bytes = bytes->p;
        job->len = bytes->len;
        sb_buf_init(bytes, bytes->max);
    }
    pthread_mutex_lock(&s->shared.lock);
    if (s->shared.last)
        s->shared.last->next = job;
    else
        s->shared.first = job;
    s->shared.last = job;
    s->shared.queued += job->len;
    s->shared.busy = true;
    pthread_cond_signal(&s->shared.work);
    pthread_mutex_unlock(&s->shared.lock);
}

/* -- the config thread's side -- */

static void on_row(void *arg, const struct sb_node *node, bool going)
{
    struct sb_saver *s = arg;

    if (going && s->cursor == node)
        s->cursor = node->next;
    if (!s->whole_wanted || s->walking)
        add_row(&s->rows, node, going);
}

struct sb_saver *sb_saver_start(const char *path, struct sb_model *model)
{
    struct sb_saver *s = sb_xcalloc(1, sizeof *s);
    size_t len = strlen(path) + sizeof ".new";

    s->path = sb_xmalloc(len);
    s->temp = sb_xmalloc(len);
    snprintf(s->path, len, "%s", path);
    snprintf(s->temp, len, "%s.new", path);
    s->model = model;
    s->fd = -1;
    s->whole_wanted = true;
    sb_buf_init(&s->rows, (size_t)UINT32_MAX);
    sb_buf_init(&s->ready, (size_t)UINT32_MAX);
    pthread_mutex_init(&s->shared.lock, NULL);
    pthread_cond_init(&s->shared.work, NULL);
    pthread_cond_init(&s->shared.idle, NULL);
    sb_assert(pthread_create(&s->thread, NULL, saver_thread, s) == 0);
    sb_model_watch_rows(model, on_row, s);
    return s;
}

void sb_saver_commit(struct sb_saver *s, const struct sb_saved_meta *meta)
{
    if (!s->whole_wanted || s->walking)
        sb_buf_str(&s->ready, sb_buf_get(&s->rows));
    sb_buf_clear(&s->rows);
    s->meta = *meta;
    s->dirty = true;
}

/* The rows up to the last commit, and the commit. */
static void hand_over_commit(struct sb_saver *s)
{
    struct sb_buf out;

    sb_buf_init(&out, 0);
    if (s->ready.len)
        add_block(&out, 'R', sb_buf_get(&s->ready));
    sb_buf_clear(&s->ready);
    add_commit(&out, &s->meta);
    s->changes_len += out.len;
    hand_over(s, JOB_WRITE, &out);
    s->dirty = false;
}

static void begin_whole(struct sb_saver *s)
{
    struct sb_buf out;

    sb_buf_init(&out, 0);
    sb_buf_add(&out, magic, sizeof magic - 1);
    hand_over(s, JOB_BEGIN, NULL);
    hand_over(s, JOB_WRITE, &out);
    sb_buf_clear(&s->ready); /* the state has them */
    s->walking = true;
    s->whole_len = s->changes_len = 0;
    s->cursor = sb_model_first(s->model);
}

/* Some rows of the state. Those that change from here on are written again, before the commit that
 * makes them all count. */
static void hand_over_piece(struct sb_saver *s)
{
    struct sb_buf rows, out;

    sb_buf_init(&rows, 0);
    sb_buf_init(&out, 0);
    for (; s->cursor && rows.len < PIECE_LEN; s->cursor = s->cursor->next)
        add_row(&rows, s->cursor, false);
    add_block(&out, 'R', sb_buf_get(&rows));
    sb_buf_release(&rows);
    s->whole_len += out.len;
    hand_over(s, JOB_WRITE, &out);
}

static bool queue_is_full(struct sb_saver *s, bool *failed)
{
    bool full;

    pthread_mutex_lock(&s->shared.lock);
    full = s->shared.queued > QUEUED_MAX;
    *failed = s->shared.failed;
    pthread_mutex_unlock(&s->shared.lock);
    return full;
}

/* The disk refused: all over again, later. */
static int start_over(struct sb_saver *s, int64_t now_ms)
{
    pthread_mutex_lock(&s->shared.lock);
    s->shared.failed = false;
    pthread_mutex_unlock(&s->shared.lock);
    s->whole_wanted = s->dirty = true;
    s->walking = false;
    s->cursor = NULL;
    sb_buf_clear(&s->ready);
    s->not_before_ms = now_ms + RETRY_MS;
    return RETRY_MS;
}

static int walk_on(struct sb_saver *s, int64_t now_ms)
{
    if (!s->walking)
        begin_whole(s);
    if (s->cursor) {
        hand_over_piece(s);
        return 0;
    }
    hand_over_commit(s);
    hand_over(s, JOB_RENAME, NULL);
    s->whole_wanted = s->walking = false;
    s->not_before_ms = now_ms + EVERY_MS;
    return -1;
}

int sb_saver_tick(struct sb_saver *s, int64_t now_ms)
{
    bool failed;

    if (queue_is_full(s, &failed))
        return 20;
    if (failed)
        return start_over(s, now_ms);
    if (!s->dirty)
        return -1;
    if (now_ms < s->not_before_ms)
        return (int)(s->not_before_ms - now_ms);
    if (s->whole_wanted)
        return walk_on(s, now_ms);
    hand_over_commit(s);
    hand_over(s, JOB_SYNC, NULL);
    s->whole_wanted = s->changes_len > s->whole_len + SLACK;
    s->not_before_ms = now_ms + EVERY_MS;
    return -1;
}

/* Until the saver thread has done all it was given; false: the disk refused. */
static bool wait_idle(struct sb_saver *s)
{
    bool failed;

    pthread_mutex_lock(&s->shared.lock);
    while (s->shared.busy)
        pthread_cond_wait(&s->shared.idle, &s->shared.lock);
    failed = s->shared.failed;
    pthread_mutex_unlock(&s->shared.lock);
    return !failed;
}

bool sb_saver_flush(struct sb_saver *s)
{
    while (s->dirty) {
        int wait_ms;

        s->not_before_ms = 0;
        wait_ms = sb_saver_tick(s, sb_clock_ms());
        if (wait_ms == RETRY_MS)
            return false;
        if (wait_ms > 0)
            (void)wait_idle(s);
    }
    return wait_idle(s);
}

void sb_saver_stop(struct sb_saver *s, bool complete)
{
    if (!s)
        return;
    sb_model_watch_rows(s->model, NULL, NULL);
    s->dirty = s->dirty && complete;
    (void)sb_saver_flush(s);
    pthread_mutex_lock(&s->shared.lock);
    s->shared.stop = true;
    pthread_cond_signal(&s->shared.work);
    pthread_mutex_unlock(&s->shared.lock);
    pthread_join(s->thread, NULL);
    if (s->fd >= 0)
        close(s->fd);
    pthread_mutex_destroy(&s->shared.lock);
    pthread_cond_destroy(&s->shared.work);
    pthread_cond_destroy(&s->shared.idle);
    sb_buf_release(&s->rows);
    sb_buf_release(&s->ready);
    free(s->path);
    free(s->temp);
    free(s);
}
