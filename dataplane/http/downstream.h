/* downstream.h - how an exchange talks to its client. Private to the engine.
 *
 * Steps and body.c know no socket: they read, send, look and wake through these calls. HTTP/1 is
 * the connection itself (x->c->io), one exchange at a time; HTTP/2 is x->stream, one of several.
 * Everything is inline where it is on the way of a plain request: one branch, always the same.
 *
 *     in    sb_down_read            HTTP/1: bytes of head and body, as they were sent
 *           sb_stream_head, _read   HTTP/2: the head's fields; the body without framing
 *           sb_down_continue        100 Continue
 *     out   sb_down_interim         103 and its like, before the response
 *           sb_down_send            head, body, both in one go; `last`: nothing follows
 *           sb_down_pending         what was sent but not taken: stop feeding, wait, be woken
 *     ends  sb_down_gone            the client left: nobody reads the answer
 *           sb_down_failed          nothing can be sent any more
 *           sb_down_abort           cut it off: the client must see that the answer is incomplete
 *           sb_down_finish          the answer is complete
 *           sb_down_linger          it is, but the request is not: let the client read it first
 *     wake  sb_down_wake            runs the exchange: what timers, hooks and upstreams call
 *
 * How to build on it: a step that wants something new from its client gets a call here, not a look
 * at x->c->io. Only TUNNEL, which has no messages any more, asks for the socket.
 */
#ifndef SB_DATAPLANE_HTTP_DOWNSTREAM_H
#define SB_DATAPLANE_HTTP_DOWNSTREAM_H

#include "dataplane/http/exchange.h"
#include "dataplane/http/h2_stream.h"

/* SB_OK: *len > 0 bytes in buf; SB_AGAIN; SB_NOTFOUND: the client has said all it will; SB_IO. */
SB_MUST static inline enum sb_rc sb_down_read(struct sb_exchange *x, char *buf, size_t cap,
                                              size_t *len)
{
    struct sb_io *io = &x->c->io;

    if (!sb_io_can_read(io) && !io->failed && !io->eof)
        return SB_AGAIN;
    return sb_io_read(io, buf, cap, len);
}

/* What the vector holds goes out, or is kept (copied): its first g->head entries are the response's
 * head as text, none when that went before; the others are body as it is framed for the client.
 * last: this is the end of the response, x->resp_trailers behind it. SB_OK or SB_IO. */
SB_MUST static inline enum sb_rc sb_down_send(struct sb_exchange *x, struct sb_gather *g, bool last)
{
    if (x->stream)
        return sb_stream_send(x->stream, g, last);
    if (last && !x->keep_alive)
        return sb_io_send_last(&x->c->io, g->iov, g->n);
    return g->n ? sb_io_send(&x->c->io, g->iov, g->n) : SB_OK;
}

/* Bytes that wait for the client; the exchange runs again when they are fewer. */
static inline size_t sb_down_pending(const struct sb_exchange *x)
{
    return x->stream ? sb_stream_pending(x->stream) : sb_io_pending(&x->c->io);
}

/* Whether what waits does so because of the client, not because the round's frames are still being
 * collected. */
static inline bool sb_down_blocked(const struct sb_exchange *x)
{
    return !x->stream || sb_stream_blocked(x->stream);
}

/* How much to read from the upstream for this client at once. */
static inline size_t sb_down_read_len(const struct sb_exchange *x)
{
    return x->stream ? sb_stream_read_len(x->stream, x->read_len) : x->read_len;
}

static inline bool sb_down_failed(const struct sb_exchange *x)
{
    return x->c->io.failed || (x->stream && x->stream->reset);
}

bool sb_down_left(struct sb_exchange *x);
/* Before waiting for more of a request: whether its connection broke together with the last bytes,
 * which the short read that brought them did not tell. One system call, off the plain path. */
bool sb_down_broken(struct sb_exchange *x);
static inline bool sb_down_gone(struct sb_exchange *x)
{
    if (x->stream)
        return sb_down_failed(x);
    return (x->c->io.failed || x->c->io.hup) && sb_down_left(x);
}

static inline void sb_down_abort(struct sb_exchange *x)
{
    if (x->stream)
        sb_stream_abort(x->stream);
    else
        x->c->close = true;
}

/* With HTTP/2's word for why, where there is one. */
static inline void sb_down_abort_as(struct sb_exchange *x, uint32_t error)
{
    if (x->stream)
        x->stream->error = error;
    sb_down_abort(x);
}

static inline void sb_down_finish(struct sb_exchange *x)
{
    if (!x->keep_alive && !x->stream)
        x->c->close = true;
}

static inline void sb_down_wake(struct sb_exchange *x)
{
    if (x->stream)
        sb_stream_wake(x->stream);
    else
        sb_client_run(x->c);
}

static inline bool sb_down_tls(const struct sb_exchange *x)
{
    return x->c->io.ssl != NULL;
}

/* The request's head is there: what was armed for it ends. */
void sb_down_head_done(struct sb_exchange *x);
/* 100 Continue. */
void sb_down_continue(struct sb_exchange *x);
/* A whole head, of an interim answer. Clients that know none (HTTP/1.0) don't get it. */
void sb_down_interim(struct sb_exchange *x, struct sb_gather *g);
/* The response is out, the rest of the request unwanted. Half-closes and reads on for a while, so
 * that the client sees the answer and no reset. True: over. */
bool sb_down_linger(struct sb_exchange *x);
/* The client's socket itself. */
struct sb_io *sb_down_socket(struct sb_exchange *x);

#endif
