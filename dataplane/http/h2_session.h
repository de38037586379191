/* h2_session.h - HTTP/2 on a client's connection. Private to the engine.
 *
 *     bytes --nghttp2--> streams (h2_stream.h), an exchange each, all steps those of HTTP/1
 *     frames of all streams of a round of the loop <--nghttp2-- one sendmsg()
 *
 * Timers and upstream events run their exchange only, and mark the session: it is flushed when the
 * loop's round ends, so that what 30 upstreams answered in one round leaves in one call.
 *
 * Limits: http2_max_concurrent_streams exchanges at once, the line and head limits of HTTP/1 for a
 * request's head, windows for bodies, and a budget of frames that ask for work and bring nothing
 * (pings, settings, priorities, empty data, window updates, resets), which what is useful fills up
 * again; who overdraws it is told ENHANCE_YOUR_CALM and closed. nghttp2 adds its own limits on
 * resets, CONTINUATIONs and unsent acknowledgements.
 */
#ifndef SB_DATAPLANE_HTTP_H2_SESSION_H
#define SB_DATAPLANE_HTTP_H2_SESSION_H

#include "dataplane/http/client.h"
#include "dataplane/http/h2_stream.h"
#include "dataplane/http/h2_wire.h"

enum { SB_H2_RESETS = 64 };

/* What the connection's timer runs for. */
enum sb_h2_wait { SB_H2_WAIT_NOTHING, SB_H2_WAIT_IDLE, SB_H2_WAIT_HEAD, SB_H2_WAIT_SEND };

struct sb_h2 {
    struct sb_client *c;
    struct sb_h2_wire wire;
    struct sb_h2 *dirty_next;
    bool dirty;
    bool terminated, lingering, noticed; /* GOAWAY is the last word; closing; drain was announced */
    bool in_head;                        /* a header block is under way */
    struct sb_stream *first;
    struct sb_stream *ready_first, **ready_last;
    unsigned nstreams; /* with an exchange */
    size_t buffered;   /* bytes in all streams' out */
    enum sb_h2_wait wait;
    size_t pending_was;           /* the socket's, when the timer was last set */
    size_t drained;               /* bytes thrown away while lingering */
    int32_t resets[SB_H2_RESETS]; /* streams that we reset: frames of theirs may be on the way */
    unsigned nresets, flushes;
    int32_t forgotten;       /* the highest that fell out of resets */
    int64_t patience;        /* frames left of the budget */
    int64_t patience_ms;     /* when it was last filled up */
    struct sb_stream *spent; /* closed while flushing: their bytes are still to be sent */
};

/* HTTP/2 from here on; received: what came of it (from the preface). */
void sb_h2_begin(struct sb_client *c, struct sb_str received);
/* The socket has news. May set c->close. */
void sb_h2_run(struct sb_h2 *h);
/* Ends all exchanges; no word to the client. */
void sb_h2_free(struct sb_h2 *h);
void sb_h2_on_timer(struct sb_h2 *h);
/* No more streams: GOAWAY, and closed when the last one has ended. */
void sb_h2_drain(struct sb_h2 *h);
/* Something is to be sent, or was freed: looked after at the end of the loop's round. */
void sb_h2_mark(struct sb_h2 *h);
void sb_h2_make_ready(struct sb_stream *s);
/* The end of a loop's round. */
void sb_h2_flush_marked(struct sb_worker *w);

#endif
