#include "dataplane/http/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "dataplane/http/downstream.h"
#include "shared/log.h"

enum { ROUND = SB_BIG_LEN / 4 };

/* The oldest bytes are in memory, the others in the file: once there is something in it, all that
 * comes goes there. */
struct sb_spool {
    char *mem;
    size_t at, len, cap; /* [at, len) waits */
    int fd;              /* -1: none */
    bool broken;         /* there is no file, or no room in it */
    uint64_t file_at, file_len;
};

int sb_temporary_file(const struct sb_worker *w, const char *what)
{
    int fd = open(w->o->temp_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0)
        fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        sb_error("cannot make a temporary file for a %s body: %s", what, strerror(errno));
    return fd;
}

bool sb_spool_room(const struct sb_exchange *x)
{
    const struct sb_proxy_options *o = x->w->o;
    const struct sb_spool *s = x->spool;

    if (!x->spooling || (!s && !sb_down_blocked(x)))
        return false;
    if (!s)
        return o->response_memory || o->response_file_max;
    if (s->len < o->response_memory && s->file_len == 0)
        return true;
    return !s->broken && s->file_len < o->response_file_max;
}

static void to_memory(struct sb_spool *s, const char *p, size_t len)
{
    if (len > s->cap - s->len) {
        s->cap = s->len + len;
        s->mem = sb_xrealloc(s->mem, s->cap);
    }
    memcpy(s->mem + s->len, p, len);
    s->len += len;
}

/* False: what was not written must be kept otherwise. */
static bool to_file(struct sb_exchange *x, struct sb_spool *s, const char *p, size_t len)
{
    uint64_t before = s->file_len;

    if (s->fd < 0 && (s->fd = sb_temporary_file(x->w, "response")) < 0)
        return false;
    while (len) {
        ssize_t n = pwrite(s->fd, p, len, (off_t)s->file_len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            sb_error("cannot store a response body: %s", strerror(errno));
            s->file_len = before;
            return false;
        }
        s->file_len += (uint64_t)n;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

/* What no file takes stays in memory, as long as it is the first. */
static enum sb_rc add(struct sb_exchange *x, struct sb_spool *s, const char *p, size_t len)
{
    const struct sb_proxy_options *o = x->w->o;
    size_t room = s->len < o->response_memory && s->file_len == 0 ? o->response_memory - s->len : 0;

    if (room > len || s->broken || o->response_file_max == 0)
        room = len;
    to_memory(s, p, room);
    if (room == len || to_file(x, s, p + room, len - room))
        return SB_OK;
    s->broken = true;
    if (s->file_len)
        return SB_IO;
    to_memory(s, p + room, len - room);
    return SB_OK;
}

enum sb_rc sb_spool_add(struct sb_exchange *x, const struct sb_gather *g)
{
    if (!x->spool) {
        x->spool = sb_xcalloc(1, sizeof *x->spool);
        x->spool->fd = -1;
        x->spool->cap = x->w->o->response_memory;
        x->spool->mem = sb_xmalloc(x->spool->cap ? x->spool->cap : 1);
    }
    if (x->spool->at == x->spool->len)
        x->spool->at = x->spool->len = 0;
    for (int i = 0; i < g->n; i++)
        if (add(x, x->spool, g->iov[i].iov_base, g->iov[i].iov_len))
            return SB_IO;
    return SB_OK;
}

void sb_spool_release(struct sb_exchange *x)
{
    if (!x->spool)
        return;
    if (x->spool->fd >= 0)
        close(x->spool->fd);
    free(x->spool->mem);
    free(x->spool);
    x->spool = NULL;
}

/* The next bytes, of memory or of the file. */
static bool next_piece(struct sb_exchange *x, struct sb_spool *s, struct sb_gather *g)
{
    ssize_t n;

    if (s->at < s->len) {
        sb_gather_ref(g, s->mem + s->at, s->len - s->at);
        s->at = s->len;
        return true;
    }
    n = pread(s->fd, x->w->big, ROUND, (off_t)s->file_at);
    if (n <= 0)
        return false;
    sb_gather_ref(g, x->w->big, (size_t)n);
    s->file_at += (uint64_t)n;
    return true;
}

enum sb_rc sb_spool_drain(struct sb_exchange *x)
{
    struct sb_spool *s = x->spool;

    while (s && (s->at < s->len || s->file_at < s->file_len)) {
        struct sb_gather g;

        if (sb_down_pending(x))
            return SB_AGAIN;
        sb_gather_init(&g, x->w);
        if (!next_piece(x, s, &g))
            return SB_IO;
        if (sb_down_send(x, &g, x->ended && s->at == s->len && s->file_at == s->file_len))
            return SB_IO;
    }
    sb_spool_release(x);
    return SB_OK;
}
