/* h2_upstream.h - HTTP/2 to upstreams, for gRPC: calls on connections that many share.
 *
 * A call is one request and its response on a stream. Connections hang in pools, one pool per
 * address and set of TLS properties as in upstream.h, and take calls up to the peer's
 * MAX_CONCURRENT_STREAMS; then another one is opened. All of it is one worker's.
 *
 *     begin --> (connecting) --> submit --> send* --> head_done, read* , trailers --> end
 *                                  |
 *                                  +--> closed: refused (never processed: GOAWAY, REFUSED_STREAM),
 *                                       or failed, with the peer's error code
 *
 * The exchange runs when anything of this changed. What was sent of the request is kept until the
 * response begins, as long as it is little, so that a refused call can go to another connection.
 */
#ifndef SB_DATAPLANE_UPSTREAM_H2_UPSTREAM_H
#define SB_DATAPLANE_UPSTREAM_H2_UPSTREAM_H

#include "dataplane/http/h2_wire.h"

struct sb_exchange;
struct sb_h2_conn;
struct sb_h2_pools;

enum { SB_CALL_WINDOW = 65535, SB_CALL_KEPT_MAX = 65536 };

struct sb_call {
    void *free_list;       /* first: the pool's link */
    struct sb_exchange *x; /* NULL: its end does not matter to anyone any more */
    struct sb_h2_conn *conn;
    struct sb_call *next, **link; /* of the connection */
    struct sb_call *ready_next;
    int32_t id; /* 0: not submitted */
    bool ready;
    bool head_done, in_ended; /* the response's head is in x->resp; its end came */
    bool last;                /* the request is complete */
    bool deferred, kept;      /* kept: out holds all of the body so far */
    bool head_sent, closed, refused;
    uint32_t error; /* NGHTTP2_NO_ERROR while all is well */
    size_t head_bytes;
    struct sb_h2_bytes in, out;
};

/* A call for x->pick and x->service. NULL: cannot even start. */
struct sb_call *sb_call_begin(struct sb_exchange *x);
/* Whether its connection is there; closed says that it won't come. */
bool sb_call_connected(const struct sb_call *c);
/* The request's head, as HTTP/1 text in the gather. last: no body. SB_OK or SB_IO. */
SB_MUST enum sb_rc sb_call_submit(struct sb_call *c, struct sb_gather *g, bool last);
/* More of the body; last: the end, x->body.trailers behind it. */
void sb_call_send(struct sb_call *c, const struct iovec *iov, int n, bool last);
static inline size_t sb_call_pending(const struct sb_call *c)
{
    return c->closed ? 0 : sb_h2_bytes_left(&c->out);
}
/* Response bytes that are there; they count as read. False: none now. */
bool sb_call_read(struct sb_call *c, struct sb_str *piece);
/* A refused call once more, on another connection. False: it can't be repeated. */
bool sb_call_again(struct sb_call *c);
/* Lets go of it; cancels what is not over. */
void sb_call_end(struct sb_call *c);

struct sb_h2_pools *sb_h2_pools_new(struct sb_worker *w);
void sb_h2_pools_free(struct sb_h2_pools *pools); /* no calls are left */
/* The end of a loop's round: what connections have to send. True: clients have, now. */
bool sb_h2_pools_flush(struct sb_worker *w);

#endif
