/* h2_wire.h - nghttp2's frames to a socket, many in one call. Private to the engine.
 *
 * Both sides use it: sessions with clients and with upstreams. Frames are collected in the worker's
 * scratch memory; bytes of DATA stay where they are, so whoever owns them keeps them until `sent`
 * was called.
 */
#ifndef SB_DATAPLANE_HTTP_H2_WIRE_H
#define SB_DATAPLANE_HTTP_H2_WIRE_H

#include <nghttp2/nghttp2.h>

#include "dataplane/http/gather.h"

struct sb_h2_wire {
    struct sb_worker *w;
    struct sb_io *io;
    nghttp2_session *session;
    struct sb_gather *g; /* while frames are collected; else NULL */
    size_t round;        /* bytes collected for one call */
};

/* Memory for nghttp2: OpenSSL's, which comes from lists of the worker (shared/crypto_memory.h). */
nghttp2_mem *sb_h2_memory(void);

/* Bytes that wait for DATA frames. */
struct sb_h2_bytes {
    char *p;
    size_t at, len, cap;
};

void sb_h2_bytes_add(struct sb_h2_bytes *b, const void *p, size_t len);

static inline size_t sb_h2_bytes_left(const struct sb_h2_bytes *b)
{
    return b->len - b->at;
}

/* Forgets what is behind `at`, once that is all. */
static inline void sb_h2_bytes_trim(struct sb_h2_bytes *b)
{
    if (b->at == b->len)
        b->at = b->len = 0;
}

/* Sends frames while there are any and the socket takes them. False: the connection is lost. */
SB_MUST bool sb_h2_wire_send(struct sb_h2_wire *wire, void (*sent)(void *arg), void *arg);
/* For nghttp2's send_data callback: a DATA frame, its bytes off the front of b. 0, or
 * NGHTTP2_ERR_WOULDBLOCK when the call is full. */
int sb_h2_wire_data(struct sb_h2_wire *wire, const uint8_t *head, struct sb_h2_bytes *b,
                    size_t len);

#endif
