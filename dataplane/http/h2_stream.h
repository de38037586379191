/* h2_stream.h - an HTTP/2 stream: the client of one exchange. Private to the engine.
 *
 * Where HTTP/1 has a socket, a stream has two buffers. `in` holds what came and was not read: never
 * more than the window that we opened (SB_H2_WINDOW), which opens again by what is read. `out`
 * holds what waits for frames: one read of the upstream's, because nothing feeds a stream that has
 * something pending.
 *
 *     DATA --> in  --sb_stream_read--> exchange --sb_stream_send--> out --> DATA
 *
 * A stream lives as long as one of its two owners needs it: the exchange (x), and nghttp2 (until
 * `closed`). Exchanges never run inside nghttp2's callbacks: those put the stream on the session's
 * ready list.
 */
#ifndef SB_DATAPLANE_HTTP_H2_STREAM_H
#define SB_DATAPLANE_HTTP_H2_STREAM_H

#include "dataplane/http/h2_wire.h"

struct sb_exchange;
struct sb_h2;

enum { SB_H2_WINDOW = 65535 };

struct sb_stream {
    void *free_list; /* first: the pool's link */
    struct sb_h2 *h;
    struct sb_exchange *x;          /* NULL: over, or never begun */
    struct sb_stream *next, **link; /* of the session */
    struct sb_stream *ready_next;
    int32_t id;
    int refusal; /* the head's fault: a status, 0 for none */
    bool ready, running;
    bool head_done, in_ended;
    bool submitted, last, end_sent; /* the response's head is with nghttp2; all is; all went out */
    bool deferred, trailers_sent;
    bool aborted, reset, closed; /* cut off by us; by the client; nghttp2 has forgotten it */
    bool host_given;
    unsigned out_flush; /* the session's flushes when the oldest bytes of out came */
    uint32_t error;     /* what aborted says, NO_ERROR for our own */
    size_t head_bytes, cookies;
    struct sb_str method, path, authority; /* of the request's head, in the exchange's `in` */
    char *in;
    size_t in_len, in_cap;
    struct sb_h2_bytes out; /* its memory stays with the struct */
};

/* The exchange's side: downstream.h says what each means. */
SB_MUST enum sb_rc sb_stream_read(struct sb_stream *s, struct sb_str *piece);
SB_MUST enum sb_rc sb_stream_send(struct sb_stream *s, struct sb_gather *g, bool last);
void sb_stream_continue(struct sb_stream *s);
void sb_stream_abort(struct sb_stream *s);
void sb_stream_wake(struct sb_stream *s);
bool sb_stream_blocked(const struct sb_stream *s);
size_t sb_stream_read_len(const struct sb_stream *s, size_t wanted);

static inline size_t sb_stream_pending(const struct sb_stream *s)
{
    return sb_h2_bytes_left(&s->out) + (s->last && !s->end_sent);
}

/* The request's head, as HEAD asks for it: SB_HTTP_DONE, SB_HTTP_MORE, or the status to refuse it
 * with. */
int sb_stream_head(struct sb_stream *s);

/* The session's side. */
struct sb_stream *sb_stream_new(struct sb_h2 *h, int32_t id);
void sb_stream_field(struct sb_stream *s, struct sb_str name, struct sb_str value);
void sb_stream_data(struct sb_stream *s, const char *p, size_t len);
void sb_stream_run(struct sb_stream *s);
/* nghttp2 closed it. */
void sb_stream_closed(struct sb_stream *s);
/* The connection ends: so does its exchange. */
void sb_stream_cut(struct sb_stream *s);
/* Gives the memory back; the session does it for those that were closed while it was sending. */
void sb_stream_free(struct sb_stream *s);
void sb_streams_release(struct sb_worker *w); /* those that are kept */

#endif
