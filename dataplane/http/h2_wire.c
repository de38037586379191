#include "dataplane/http/h2_wire.h"

#include <openssl/crypto.h>

#include "shared/arena.h"

enum {
    ROUND_LEN = 64 * 1024, /* about what one sendmsg() takes */
    FRAME_HEAD = 9,
    FRAME_MAX = 16384 + FRAME_HEAD,
    ROOM = 2048,
};

static void *take(size_t len, void *arg)
{
    (void)arg;
    return OPENSSL_malloc(len ? len : 1);
}

static void *take_zeroed(size_t n, size_t len, void *arg)
{
    (void)arg;
    sb_assert(len == 0 || n <= SIZE_MAX / len);
    return OPENSSL_zalloc(n && len ? n * len : 1);
}

static void *resize(void *p, size_t len, void *arg)
{
    (void)arg;
    return OPENSSL_realloc(p, len ? len : 1);
}

static void give(void *p, void *arg)
{
    (void)arg;
    OPENSSL_free(p);
}

nghttp2_mem *sb_h2_memory(void)
{
    static nghttp2_mem mem = {NULL, take, give, take_zeroed, resize}; /* copied, never written */

    return &mem;
}

void sb_h2_bytes_add(struct sb_h2_bytes *b, const void *p, size_t len)
{
    if (b->len + len > b->cap) {
        b->cap = b->len + len + ROOM;
        b->p = sb_xrealloc(b->p, b->cap);
    }
    memcpy(b->p + b->len, p, len);
    b->len += len;
}

static bool is_full(const struct sb_h2_wire *wire)
{
    const struct sb_gather *g = wire->g;

    return wire->round >= ROUND_LEN || g->n + 3 > SB_GATHER_MAX || g->end - g->at < 2 * FRAME_MAX;
}

/* Frames for one sendmsg(). False: the session is broken. */
static bool collect(struct sb_h2_wire *wire, struct sb_gather *g)
{
    const uint8_t *p;
    ssize_t n = 0;

    wire->g = g;
    wire->round = 0;
    while (!is_full(wire)) {
        n = nghttp2_session_mem_send(wire->session, &p);
        if (n <= 0)
            break;
        memcpy(g->at, p, (size_t)n);
        sb_gather_wrote(g, (size_t)n);
        wire->round += (size_t)n;
    }
    wire->g = NULL;
    return n >= 0;
}

bool sb_h2_wire_send(struct sb_h2_wire *wire, void (*sent)(void *arg), void *arg)
{
    struct sb_gather g;
    bool ok = true;

    while (ok && !sb_io_pending(wire->io)) {
        sb_gather_init(&g, wire->w);
        ok = collect(wire, &g);
        if (g.n == 0)
            break;
        ok = !sb_io_send(wire->io, g.iov, g.n) && ok;
        sent(arg);
    }
    return ok;
}

int sb_h2_wire_data(struct sb_h2_wire *wire, const uint8_t *head, struct sb_h2_bytes *b, size_t len)
{
    struct sb_gather *g = wire->g;

    if (is_full(wire))
        return NGHTTP2_ERR_WOULDBLOCK;
    memcpy(g->at, head, FRAME_HEAD);
    sb_gather_wrote(g, FRAME_HEAD);
    sb_gather_add(g, b->p + b->at, len);
    b->at += len;
    wire->round += len + FRAME_HEAD;
    return 0;
}
