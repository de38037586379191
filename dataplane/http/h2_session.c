#include "dataplane/http/h2_session.h"

#include <stdlib.h>

#include "dataplane/http/exchange.h"

enum {
    CONNECTION_WINDOW = 2 << 20, /* of unread request bodies, all streams together */
    READ_LEN = 64 * 1024,        /* from the client at once */
    ROUNDS_MAX = 32,             /* of sending and feeding, before others get their turn */
    LINGER_MS = 2000,
    PATIENCE = 1000, /* frames that bring nothing */
    PATIENCE_MAX = 10000,
    PATIENCE_PER_S = 100,
    PATIENCE_OF_WORK = 4, /* a request, or data, makes up for so many */
};

/* -- lists -- */

void sb_h2_mark(struct sb_h2 *h)
{
    if (h->dirty)
        return;
    h->dirty = true;
    h->dirty_next = h->wire.w->dirty_h2;
    h->wire.w->dirty_h2 = h;
}

static void unmark(struct sb_h2 *h)
{
    struct sb_h2 **p = &h->wire.w->dirty_h2;

    for (; h->dirty && *p; p = &(*p)->dirty_next)
        if (*p == h) {
            *p = h->dirty_next;
            h->dirty = false;
            return;
        }
}

void sb_h2_make_ready(struct sb_stream *s)
{
    struct sb_h2 *h = s->h;

    if (s->ready)
        return;
    s->ready = true;
    s->ready_next = NULL;
    *h->ready_last = s;
    h->ready_last = &s->ready_next;
    sb_h2_mark(h);
}

static void run_ready(struct sb_h2 *h)
{
    struct sb_stream *s;

    while ((s = h->ready_first)) {
        h->ready_first = s->ready_next;
        if (!h->ready_first)
            h->ready_last = &h->ready_first;
        s->ready = false;
        sb_stream_run(s);
    }
}

/* -- patience -- */

static void terminate(struct sb_h2 *h, uint32_t code)
{
    if (h->terminated)
        return;
    h->terminated = true;
    nghttp2_session_terminate_session(h->wire.session, code);
    sb_h2_mark(h);
}

static void please(struct sb_h2 *h, int64_t by)
{
    h->patience += by;
    if (h->patience > PATIENCE_MAX)
        h->patience = PATIENCE_MAX;
}

static void tire(struct sb_h2 *h, int64_t by)
{
    int64_t now_ms;

    h->patience -= by;
    if (h->patience >= 0)
        return;
    now_ms = sb_now_ms(h->wire.w);
    please(h, (now_ms - h->patience_ms) * PATIENCE_PER_S / 1000);
    h->patience_ms = now_ms;
    if (h->patience < 0)
        terminate(h, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* -- what nghttp2 calls -- */

static struct sb_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static void remember_reset(struct sb_h2 *h, int32_t id)
{
    int32_t *slot = &h->resets[h->nresets++ % SB_H2_RESETS];

    if (*slot > h->forgotten)
        h->forgotten = *slot;
    *slot = id;
}

/* Whether the client closed this stream, or never opened it: then it has no more to say on it. */
static bool is_over(const struct sb_h2 *h, int32_t id)
{
    if (id > nghttp2_session_get_last_proc_stream_id(h->wire.session) || id <= h->forgotten ||
        nghttp2_session_find_stream(h->wire.session, id))
        return false;
    for (size_t i = 0; i < SB_H2_RESETS; i++)
        if (h->resets[i] == id)
            return false;
    return true;
}

/* What nghttp2 lets pass: it keeps no closed streams, and looks at no priorities. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
    struct sb_h2 *h = arg;

    (void)session;
    tire(h, 1);
    if (hd->type == NGHTTP2_PRIORITY && hd->stream_id == 0)
        terminate(h, NGHTTP2_PROTOCOL_ERROR);
    if (hd->type == NGHTTP2_HEADERS && is_over(h, hd->stream_id))
        terminate(h, NGHTTP2_STREAM_CLOSED);
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct sb_h2 *h = arg;
    struct sb_stream *s;

    h->in_head = true;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    s = sb_stream_new(h, frame->hd.stream_id);
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, s);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    struct sb_stream *s = stream_of(session, frame->hd.stream_id);

    (void)flags;
    (void)arg;
    if (s)
        sb_stream_field(s, sb_str_n((const char *)name, name_len),
                        sb_str_n((const char *)value, value_len));
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *arg)
{
    struct sb_stream *s = stream_of(session, id);

    (void)flags;
    please(arg, PATIENCE_OF_WORK + (int64_t)len / 512);
    if (s)
        sb_stream_data(s, (const char *)data, len);
    else
        nghttp2_session_consume(session, id, len);
    return 0;
}

/* The client answered our ping, so it has seen the notice: now new streams are refused. */
static void on_ping_ack(struct sb_h2 *h)
{
    if (!h->noticed || h->terminated)
        return;
    nghttp2_submit_goaway(h->wire.session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(h->wire.session),
                          NGHTTP2_NO_ERROR, NULL, 0);
    sb_h2_mark(h);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct sb_h2 *h = arg;
    struct sb_stream *s;

    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK))
        on_ping_ack(h);
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    h->in_head = false;
    s = stream_of(session, frame->hd.stream_id);
    if (!s)
        return 0;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        s->in_ended = true;
    else if (frame->hd.type == NGHTTP2_DATA && frame->hd.length == 0)
        tire(h, 1);
    if (frame->hd.type == NGHTTP2_HEADERS && !s->head_done) {
        s->head_done = true;
        please(h, PATIENCE_OF_WORK);
    }
    sb_h2_make_ready(s);
    return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int e, void *arg)
{
    struct sb_h2 *h = arg;

    (void)session;
    (void)frame;
    (void)e;
    h->in_head = false;
    tire(h, PATIENCE_OF_WORK);
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct sb_stream *s;

    if (frame->hd.type == NGHTTP2_RST_STREAM)
        remember_reset(arg, frame->hd.stream_id);
    if (frame->hd.type == NGHTTP2_RST_STREAM &&
        frame->rst_stream.error_code > NGHTTP2_INTERNAL_ERROR)
        tire(arg, PATIENCE_OF_WORK); /* made to reset: as good as a reset of theirs */
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    please(arg, PATIENCE_OF_WORK);
    s = stream_of(session, frame->hd.stream_id);
    if (!s)
        return 0;
    s->end_sent = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (s->end_sent || frame->hd.type == NGHTTP2_DATA) /* room again: time-outs start anew */
        sb_h2_make_ready(s);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct sb_stream *s = stream_of(session, id);

    (void)code;
    (void)arg;
    if (s)
        sb_stream_closed(s);
    return 0;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t len, nghttp2_data_source *source, void *arg)
{
    struct sb_h2 *h = arg;
    struct sb_stream *s = source->ptr;
    int e = sb_h2_wire_data(&h->wire, head, &s->out, len);

    (void)session;
    (void)frame;
    if (!e)
        h->buffered -= len;
    return e;
}

/* -- sending -- */

static void on_sent(void *arg)
{
    struct sb_h2 *h = arg;
    struct sb_stream *s;

    while ((s = h->spent)) {
        h->spent = s->next;
        sb_stream_free(s);
    }
}

/* -- the end -- */

static void cut_streams(struct sb_h2 *h)
{
    for (struct sb_stream *s = h->first, *next; s; s = next) {
        next = s->next;
        s->closed = true;
        s->ready = false;
        if (s->x)
            sb_stream_cut(s);
        else
            sb_stream_run(s);
    }
    h->ready_first = NULL;
    h->ready_last = &h->ready_first;
}

/* The last word is out: waits a little for the client to read it. */
static void linger(struct sb_h2 *h)
{
    h->lingering = true;
    cut_streams(h);
    sb_io_shutdown(&h->c->io);
    sb_timer_set(&h->wire.w->wheel, &h->c->timer, sb_now_ms(h->wire.w) + LINGER_MS);
}

static void run_lingering(struct sb_h2 *h)
{
    struct sb_io *io = &h->c->io;
    size_t n;

    while (sb_io_can_read(io) && h->drained < SB_DRAIN_MAX) {
        if (sb_io_read(io, h->wire.w->big, SB_BIG_LEN, &n))
            break;
        h->drained += n;
    }
    if (io->eof || io->failed || h->drained >= SB_DRAIN_MAX)
        h->c->close = true;
}

/* What there is to wait for, at most how long. */
static void set_timer(struct sb_h2 *h)
{
    const struct sb_proxy_options *o = h->wire.w->o;
    struct sb_client *c = h->c;
    size_t pending = sb_io_pending(&c->io);
    int64_t ms = o->keepalive_timeout_ms;
    enum sb_h2_wait wait = SB_H2_WAIT_IDLE;

    if (pending) {
        wait = SB_H2_WAIT_SEND;
        ms = o->send_timeout_ms;
    } else if (h->in_head) {
        wait = SB_H2_WAIT_HEAD;
        ms = o->header_timeout_ms;
    } else if (h->nstreams) {
        wait = SB_H2_WAIT_NOTHING;
        sb_timer_off(&c->timer);
    } else if (c->requests == 0 || ms == 0) {
        ms = o->header_timeout_ms;
    }
    if (wait == SB_H2_WAIT_IDLE || (wait != SB_H2_WAIT_NOTHING && wait != h->wait) ||
        pending != h->pending_was)
        sb_timer_set(&h->wire.w->wheel, &c->timer, sb_now_ms(h->wire.w) + ms);
    h->wait = wait;
    h->pending_was = pending;
}

static void flush(struct sb_h2 *h)
{
    struct sb_client *c = h->c;
    int rounds = 0;
    bool ok;

    if (c->close || h->lingering)
        return;
    do {
        run_ready(h);
        if (h->noticed && h->nstreams == 0)
            terminate(h, NGHTTP2_NO_ERROR);
        ok = sb_h2_wire_send(&h->wire, on_sent, h);
        h->flushes++;
    } while (ok && h->ready_first && ++rounds < ROUNDS_MAX);
    if (!ok || c->io.failed) {
        c->close = true;
        return;
    }
    if (h->ready_first)
        event_active(&c->io.event, EV_WRITE, 0);
    sb_client_set_waiting(c, h->nstreams == 0);
    if (!sb_io_pending(&c->io) && !nghttp2_session_want_write(h->wire.session) &&
        (h->terminated || !nghttp2_session_want_read(h->wire.session)))
        linger(h);
    else
        set_timer(h);
}

void sb_h2_flush_marked(struct sb_worker *w)
{
    struct sb_h2 *h;

    while ((h = w->dirty_h2)) {
        w->dirty_h2 = h->dirty_next;
        flush(h);
        h->dirty = false;
        if (h->c->close)
            sb_client_run(h->c);
    }
}

/* -- receiving -- */

static void receive(struct sb_h2 *h, const char *p, size_t len)
{
    union {
        const char *in;
        const uint8_t *out;
    } data = {.in = p};
    ssize_t n;

    tire(h, (int64_t)(len + 1023) / 1024); /* frames of unknown types have no other price */
    n = nghttp2_session_mem_recv(h->wire.session, data.out, len);

    if (n == NGHTTP2_ERR_FLOODED)
        terminate(h, NGHTTP2_ENHANCE_YOUR_CALM);
    else if (n < 0)
        terminate(h, NGHTTP2_PROTOCOL_ERROR);
    run_ready(h);
    sb_h2_mark(h);
}

void sb_h2_run(struct sb_h2 *h)
{
    struct sb_io *io = &h->c->io;
    size_t n;

    if (h->lingering) {
        run_lingering(h);
        return;
    }
    while (sb_io_can_read(io) && !h->terminated) {
        enum sb_rc rc = sb_io_read(io, h->wire.w->big, READ_LEN, &n);

        if (rc == SB_AGAIN)
            break;
        if (rc) {
            h->c->close = true;
            return;
        }
        receive(h, h->wire.w->big, n);
    }
    if (io->failed || io->eof)
        h->c->close = true;
    sb_h2_mark(h); /* something may wait for the socket */
}

void sb_h2_on_timer(struct sb_h2 *h)
{
    if (h->lingering || h->wait == SB_H2_WAIT_SEND || h->terminated)
        h->c->close = true;
    else
        terminate(h, NGHTTP2_NO_ERROR);
}

void sb_h2_drain(struct sb_h2 *h)
{
    if (h->noticed || h->terminated)
        return;
    h->noticed = true;
    nghttp2_submit_shutdown_notice(h->wire.session);
    nghttp2_submit_ping(h->wire.session, NGHTTP2_FLAG_NONE, NULL);
    sb_h2_mark(h);
}

/* -- beginning -- */

static nghttp2_session_callbacks *callbacks(void)
{
    nghttp2_session_callbacks *cb;

    sb_assert(nghttp2_session_callbacks_new(&cb) == 0);
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
    return cb;
}

static nghttp2_session *new_session(struct sb_h2 *h)
{
    nghttp2_session_callbacks *cb = callbacks();
    nghttp2_session *session;
    nghttp2_option *option;

    sb_assert(nghttp2_option_new(&option) == 0);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    sb_assert(nghttp2_session_server_new3(&session, cb, h, option, sb_h2_memory()) == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(cb);
    return session;
}

void sb_h2_begin(struct sb_client *c, struct sb_str received)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->w->o->h2_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, SB_H2_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)c->w->o->head_max},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    struct sb_h2 *h = sb_xcalloc(1, sizeof *h);

    h->c = c;
    h->wire = (struct sb_h2_wire){.w = c->w, .io = &c->io};
    h->ready_last = &h->ready_first;
    h->patience = PATIENCE;
    h->patience_ms = sb_now_ms(h->wire.w);
    h->wire.session = new_session(h);
    c->h2 = h;
    nghttp2_submit_settings(h->wire.session, NGHTTP2_FLAG_NONE, settings,
                            sizeof settings / sizeof *settings);
    nghttp2_session_set_local_window_size(h->wire.session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
    sb_h2_mark(h);
    if (received.len)
        receive(h, received.p, received.len);
}

void sb_h2_free(struct sb_h2 *h)
{
    cut_streams(h);
    unmark(h);
    nghttp2_session_del(h->wire.session);
    h->c->h2 = NULL;
    free(h);
}
