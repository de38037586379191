/* gather.h - puts a message together for one sendmsg().
 *
 * Small pieces are copied next to each other into the worker's scratch memory, because a vector of
 * many tiny parts costs the kernel more than the copy; long pieces (bodies, big cookies) stay where
 * they are and must live until the message was sent.
 */
#ifndef SB_DATAPLANE_HTTP_GATHER_H
#define SB_DATAPLANE_HTTP_GATHER_H

#include <string.h>
#include <sys/uio.h>

#include "dataplane/listen/worker.h"

enum { SB_GATHER_MAX = 256, SB_GATHER_COPY_MAX = 512 };

struct sb_gather {
    char *at, *end; /* free scratch */
    bool full;      /* something did not fit: the message must not be sent */
    int n;
    int head; /* how many of them are a response's head; set when its last line was written */
    struct iovec iov[SB_GATHER_MAX];
};

static inline void sb_gather_init(struct sb_gather *g, struct sb_worker *w)
{
    g->at = w->scratch;
    g->end = w->scratch + SB_SCRATCH_LEN;
    g->full = false;
    g->n = g->head = 0;
}

/* By reference. */
static inline void sb_gather_ref(struct sb_gather *g, const char *p, size_t len)
{
    union {
        const char *in;
        void *out;
    } data = {.in = p};

    if (len == 0)
        return;
    if (g->n == SB_GATHER_MAX) {
        g->full = true;
        return;
    }
    g->iov[g->n++] = (struct iovec){data.out, len};
}

/* Bytes at g->at that are already written there. */
static inline void sb_gather_wrote(struct sb_gather *g, size_t len)
{
    struct iovec *last = g->n ? &g->iov[g->n - 1] : NULL;

    if (last && (char *)last->iov_base + last->iov_len == g->at)
        last->iov_len += len;
    else
        sb_gather_ref(g, g->at, len);
    g->at += len;
}

static inline void sb_gather_add(struct sb_gather *g, const char *p, size_t len)
{
    if (len == 0 || len > SB_GATHER_COPY_MAX) {
        sb_gather_ref(g, p, len);
        return;
    }
    if ((size_t)(g->end - g->at) < len) {
        g->full = true;
        return;
    }
    memcpy(g->at, p, len);
    sb_gather_wrote(g, len);
}

static inline void sb_gather_str(struct sb_gather *g, struct sb_str s)
{
    sb_gather_add(g, s.p, s.len);
}

static inline size_t sb_gather_len(const struct sb_gather *g)
{
    size_t len = 0;

    for (int i = 0; i < g->n; i++)
        len += g->iov[i].iov_len;
    return len;
}

#define sb_gather_lit(g, lit) sb_gather_add((g), "" lit, sizeof(lit) - 1)

static inline void sb_gather_uint(struct sb_gather *g, uint64_t n)
{
    char digits[20];
    size_t i = sizeof digits;

    do
        digits[--i] = (char)('0' + n % 10);
    while (n /= 10);
    sb_gather_add(g, digits + i, sizeof digits - i);
}

static inline void sb_gather_hex(struct sb_gather *g, uint64_t n)
{
    char digits[16];
    size_t i = sizeof digits;

    do
        digits[--i] = "0123456789abcdef"[n & 15];
    while (n >>= 4);
    sb_gather_add(g, digits + i, sizeof digits - i);
}

static inline void sb_gather_header(struct sb_gather *g, struct sb_str name, struct sb_str value)
{
    sb_gather_str(g, name);
    sb_gather_lit(g, ": ");
    sb_gather_str(g, value);
    sb_gather_lit(g, "\r\n");
}

#endif
