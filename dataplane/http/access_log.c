#include "dataplane/http/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dataplane/http/exchange.h"
#include "shared/digest.h"
#include "shared/log.h"

enum {
    BLOCK_LEN = 64 * 1024,
    BLOCKS_MAX = 256, /* waiting to be written: 16 MiB */
    FLUSH_MS = 100,
    LINE_MAX_LEN = 16 * 1024,
};

struct block {
    struct block *next;
    size_t len;
    char data[BLOCK_LEN];
};

struct sb_access_writer {
    char *path;
    int fd;
    pthread_t thread;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct block *first, **last;
        unsigned count;
        uint64_t lost;
        bool stop, reopen;
    } shared;
};

struct sb_access_log {
    struct sb_worker *w;
    struct sb_access_writer *aw;
    struct block *block; /* NULL: nothing yet */
    struct sb_timer timer;
};

/* -- the thread -- */

static int open_log(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

static void write_block(struct sb_access_writer *aw, const struct block *b)
{
    size_t at = 0;

    while (at < b->len) {
        ssize_t n = write(aw->fd, b->data + at, b->len - at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            sb_error("access log %s: %s", aw->path, strerror(errno));
            return;
        }
        at += (size_t)n;
    }
}

static void reopen(struct sb_access_writer *aw)
{
    int fd = open_log(aw->path);

    if (fd < 0) {
        sb_error("access log %s: %s", aw->path, strerror(errno));
        return;
    }
    close(aw->fd);
    aw->fd = fd;
}

static void *run_writer(void *arg)
{
    struct sb_access_writer *aw = arg;
    bool stop = false;

    while (!stop) {
        struct block *list, *next;
        uint64_t lost;
        bool again;

        pthread_mutex_lock(&aw->shared.lock);
        while (!aw->shared.first && !aw->shared.stop && !aw->shared.reopen)
            pthread_cond_wait(&aw->shared.wake, &aw->shared.lock);
        list = aw->shared.first;
        aw->shared.first = NULL;
        aw->shared.last = &aw->shared.first;
        aw->shared.count = 0;
        lost = aw->shared.lost;
        aw->shared.lost = 0;
        again = aw->shared.reopen;
        aw->shared.reopen = false;
        stop = aw->shared.stop && !list;
        pthread_mutex_unlock(&aw->shared.lock);
        for (; list; list = next) {
            next = list->next;
            write_block(aw, list);
            free(list);
        }
        if (lost)
            sb_error("access log %s: %llu bytes lost, the disk is too slow", aw->path,
                     (unsigned long long)lost);
        if (again)
            reopen(aw);
    }
    return NULL;
}

enum sb_rc sb_access_writer_new(const char *path, struct sb_access_writer **out, struct sb_err *err)
{
    struct sb_access_writer *aw = sb_xcalloc(1, sizeof *aw);
    int e;

    aw->path = sb_xmalloc(strlen(path) + 1);
    memcpy(aw->path, path, strlen(path) + 1);
    aw->fd = open_log(path);
    if (aw->fd < 0) {
        e = errno;
        free(aw->path);
        free(aw);
        return sb_err_set(err, SB_IO, "proxy_access_log: cannot open %s: %s", path, strerror(e));
    }
    aw->shared.last = &aw->shared.first;
    pthread_mutex_init(&aw->shared.lock, NULL);
    pthread_cond_init(&aw->shared.wake, NULL);
    e = pthread_create(&aw->thread, NULL, run_writer, aw);
    sb_assert(e == 0);
    *out = aw;
    return SB_OK;
}

void sb_access_writer_free(struct sb_access_writer *aw)
{
    if (!aw)
        return;
    pthread_mutex_lock(&aw->shared.lock);
    aw->shared.stop = true;
    pthread_cond_signal(&aw->shared.wake);
    pthread_mutex_unlock(&aw->shared.lock);
    pthread_join(aw->thread, NULL);
    pthread_mutex_destroy(&aw->shared.lock);
    pthread_cond_destroy(&aw->shared.wake);
    close(aw->fd);
    free(aw->path);
    free(aw);
}

void sb_access_writer_reopen(struct sb_access_writer *aw)
{
    pthread_mutex_lock(&aw->shared.lock);
    aw->shared.reopen = true;
    pthread_cond_signal(&aw->shared.wake);
    pthread_mutex_unlock(&aw->shared.lock);
}

/* -- a worker's side -- */

static void hand_over(struct sb_access_log *log)
{
    struct sb_access_writer *aw = log->aw;
    struct block *b = log->block;

    log->block = NULL;
    if (!b)
        return;
    pthread_mutex_lock(&aw->shared.lock);
    if (aw->shared.count < BLOCKS_MAX) {
        *aw->shared.last = b;
        aw->shared.last = &b->next;
        aw->shared.count++;
        b = NULL;
    } else {
        aw->shared.lost += b->len;
    }
    pthread_cond_signal(&aw->shared.wake);
    pthread_mutex_unlock(&aw->shared.lock);
    free(b);
}

static void on_timer(struct sb_timer *t)
{
    hand_over((struct sb_access_log *)((char *)t - offsetof(struct sb_access_log, timer)));
}

struct sb_access_log *sb_access_log_new(struct sb_worker *w, struct sb_access_writer *aw)
{
    struct sb_access_log *log = sb_xcalloc(1, sizeof *log);

    log->w = w;
    log->aw = aw;
    sb_timer_init(&log->timer, on_timer);
    return log;
}

void sb_access_log_free(struct sb_access_log *log)
{
    if (!log)
        return;
    hand_over(log);
    sb_timer_remove(&log->timer, &log->w->wheel);
    free(log);
}

/* -- lines -- */

struct line {
    char *p, *end;
};

static void text(struct line *l, const char *p, size_t len)
{
    if (len > (size_t)(l->end - l->p))
        len = (size_t)(l->end - l->p);
    memcpy(l->p, p, len);
    l->p += len;
}

#define LIT(l, s) text((l), "" s, sizeof(s) - 1)

/* nginx's escaping: what could break a line or a quoted field becomes \xHH; absent is "-". */
static void value(struct line *l, struct sb_str s)
{
    if (s.len == 0)
        LIT(l, "-");
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            text(l, s.p + i, 1);
        } else {
            const char hex[4] = {'\\', 'x', "0123456789ABCDEF"[c >> 4], "0123456789ABCDEF"[c & 15]};

            text(l, hex, sizeof hex);
        }
    }
}

static void number(struct line *l, uint64_t n)
{
    char digits[24];

    text(l, digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)n));
}

/* The user of Basic credentials, as nginx's $remote_user. */
static void user(struct line *l, struct sb_exchange *x)
{
    struct sb_str auth = sb_http_get(&x->req, SB_H_AUTHORIZATION), plain = {0};
    ptrdiff_t colon;

    if (auth.len > 6 && auth.len < 1024 && sb_str_ieq(sb_str_first(auth, 6), SB_STR("basic ")))
        (void)sb_base64_decode(sb_exchange_arena(x), sb_str_trim(sb_str_from(auth, 6)), &plain);
    colon = sb_str_chr(plain, ':', 0);
    value(l, colon < 0 ? (struct sb_str){0} : sb_str_first(plain, (size_t)colon));
}

static struct sb_str request_of(const struct sb_exchange *x)
{
    struct sb_str s = x->req.method;

    if (!x->req.started || !s.p)
        return (struct sb_str){0};
    s.len = (size_t)(x->in + x->req.lines - s.p);
    if (x->req.lines == 0)
        s.len = x->req.at > (size_t)(s.p - x->in) ? x->req.at - (size_t)(s.p - x->in) : 0;
    return sb_str_trim(s);
}

void sb_access_log_add(struct sb_access_log *log, struct sb_exchange *x)
{
    struct sb_str date;
    struct line l;

    if (log->block && BLOCK_LEN - log->block->len < LINE_MAX_LEN)
        hand_over(log);
    if (!log->block) {
        log->block = sb_xmalloc(sizeof *log->block);
        log->block->next = NULL;
        log->block->len = 0;
        sb_timer_set(&log->w->wheel, &log->timer, sb_now_ms(log->w) + FLUSH_MS);
    }
    l = (struct line){log->block->data + log->block->len, NULL};
    l.end = l.p + LINE_MAX_LEN - 256;
    value(&l, x->client_ip.p ? x->client_ip : sb_str_n(x->c->ip, x->c->ip_len));
    LIT(&l, " - ");
    user(&l, x);
    LIT(&l, " [");
    date = sb_worker_local_date(x->w);
    text(&l, date.p, date.len);
    LIT(&l, "] \"");
    value(&l, request_of(x));
    LIT(&l, "\" ");
    number(&l, (uint64_t)x->status);
    LIT(&l, " ");
    number(&l, x->body_sent);
    LIT(&l, " \"");
    value(&l, sb_http_get(&x->req, SB_H_REFERER));
    LIT(&l, "\" \"");
    value(&l, sb_http_get(&x->req, SB_H_USER_AGENT));
    l.end += 256;
    LIT(&l, "\" kong_request_id: \"");
    text(&l, x->id, sizeof x->id);
    LIT(&l, "\"\n");
    log->block->len = (size_t)(l.p - log->block->data);
}
