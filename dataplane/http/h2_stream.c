#include "dataplane/http/h2_stream.h"

#include <stdlib.h>

#include "dataplane/http/exchange.h"
#include "dataplane/http/h2_fields.h"
#include "dataplane/http/h2_session.h"

enum {
    STREAMS_KEEP_MAX = 512,
    OUT_KEEP_MAX = 8192,           /* of output memory, with a struct that is kept */
    LINE_OVERHEAD = 4,             /* of a header in HTTP/1: ": " and CRLF */
    BUFFERED_MAX = 1 << 20,        /* of a connection; beyond it every stream gets little */
    READ_LEN_MAX = SB_BIG_LEN / 4, /* what a stream may take from its upstream at once */
    READ_LEN_TIGHT = 4096,
};

/* -- life -- */

struct sb_stream *sb_stream_new(struct sb_h2 *h, int32_t id)
{
    struct sb_stream *s = sb_pool_take(&h->wire.w->streams, sizeof *s);

    *s = (struct sb_stream){.h = h, .id = id, .out = {.p = s->out.p, .cap = s->out.cap}};
    s->link = &h->first;
    s->next = h->first;
    if (s->next)
        s->next->link = &s->next;
    h->first = s;
    s->x = sb_exchange_begin(h->c, (struct sb_str){0});
    s->x->stream = s;
    s->x->empty = true; /* until its head is there */
    h->nstreams++;
    return s;
}

/* What is being sent must stay until it was. */
static void free_stream(struct sb_stream *s)
{
    struct sb_h2 *h = s->h;

    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    if (h->wire.g) {
        s->next = h->spent;
        h->spent = s;
        return;
    }
    sb_stream_free(s);
}

void sb_stream_free(struct sb_stream *s)
{
    struct sb_free_list *streams = &s->h->wire.w->streams;

    free(s->in);
    if (s->out.cap > OUT_KEEP_MAX || streams->count >= STREAMS_KEEP_MAX) {
        free(s->out.p);
        s->out = (struct sb_h2_bytes){0};
    }
    sb_pool_give(streams, s, STREAMS_KEEP_MAX);
}

void sb_streams_release(struct sb_worker *w)
{
    while (w->streams.first) {
        struct sb_stream *s = sb_pool_take(&w->streams, 0);

        free(s->out.p);
        free(s);
    }
}

static void drop_output(struct sb_stream *s)
{
    s->h->buffered -= sb_h2_bytes_left(&s->out);
    s->out.len = s->out.at; /* what is being sent stays */
}

static void reset(struct sb_stream *s, uint32_t code)
{
    if (!s->closed)
        nghttp2_submit_rst_stream(s->h->wire.session, NGHTTP2_FLAG_NONE, s->id, code);
}

static void end_exchange(struct sb_stream *s)
{
    struct sb_exchange *x = s->x;

    s->x = NULL;
    s->h->nstreams--;
    (void)sb_exchange_end(x, NULL);
    drop_output(s);
    if (!s->end_sent)
        reset(s, s->error ? s->error : NGHTTP2_INTERNAL_ERROR);
    else if (!s->in_ended)
        reset(s, NGHTTP2_NO_ERROR); /* the answer is complete: no more of the body is wanted */
    if (s->in_len && !s->closed)
        nghttp2_session_consume(s->h->wire.session, s->id, s->in_len);
    s->in_len = 0;
    if (s->closed && !s->ready)
        free_stream(s);
}

void sb_stream_run(struct sb_stream *s)
{
    struct sb_h2 *h = s->h;
    bool done;

    if (!s->x) {
        if (s->closed)
            free_stream(s);
        return;
    }
    if (s->running)
        return;
    s->running = true;
    done = sb_exchange_run(s->x);
    s->running = false;
    if (done)
        end_exchange(s);
    else if (s->closed)
        sb_stream_cut(s);
    sb_h2_mark(h);
}

void sb_stream_wake(struct sb_stream *s)
{
    sb_stream_run(s);
}

void sb_stream_cut(struct sb_stream *s)
{
    if (!s->x)
        return;
    if (!s->x->head_sent && !s->x->empty)
        s->x->status = 499;
    end_exchange(s);
}

void sb_stream_closed(struct sb_stream *s)
{
    s->closed = true;
    if (!s->end_sent)
        s->reset = true;
    if (s->in_len) /* what nobody will read any more must not close the connection's window */
        nghttp2_session_consume_connection(s->h->wire.session, s->in_len);
    s->in_len = 0;
    if (s->x)
        sb_h2_make_ready(s);
    else if (!s->ready)
        free_stream(s);
}

/* -- the request's head -- */

/* Room in the exchange's memory; NULL beyond the limit. Slices of what is there move along. */
static char *head_room(struct sb_stream *s, size_t len)
{
    struct sb_exchange *x = s->x;
    size_t cap = x->req.head_max + x->req.line_max;
    struct sb_str *const own[] = {&s->method, &s->path, &s->authority};
    char *bigger;

    if (x->in_len + len > x->in_cap) {
        if (x->in != x->inline_in || x->in_len + len > cap)
            return NULL;
        bigger = sb_xmalloc(cap);
        memcpy(bigger, x->in, x->in_len);
        sb_http_rebase(&x->req, x->in, bigger);
        for (size_t i = 0; i < sizeof own / sizeof *own; i++)
            if (own[i]->p)
                own[i]->p = bigger + (own[i]->p - x->in);
        x->in = bigger;
        x->in_cap = cap;
    }
    bigger = x->in + x->in_len;
    x->in_len += len;
    return bigger;
}

static bool keep(struct sb_stream *s, struct sb_str text, struct sb_str *out)
{
    char *room = head_room(s, text.len);

    if (!room)
        return false;
    memcpy(room, text.p, text.len);
    *out = sb_str_n(room, text.len);
    return true;
}

static bool grow_headers(struct sb_exchange *x)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_router_header *headers;
    uint8_t *ids;

    if (x->req.headers_max >= SB_X_HEADERS_MAX)
        return false;
    headers = SB_NEW_N(a, struct sb_router_header, SB_X_HEADERS_MAX);
    ids = SB_NEW_N(a, uint8_t, SB_X_HEADERS_MAX);
    memcpy(headers, x->req.headers, x->req.nheaders * sizeof *headers);
    memcpy(ids, x->req.ids, x->req.nheaders);
    x->req.headers = headers;
    x->req.ids = ids;
    x->req.headers_max = SB_X_HEADERS_MAX;
    return true;
}

static int add_header(struct sb_stream *s, struct sb_str name, struct sb_str value)
{
    struct sb_http_head *req = &s->x->req;
    struct sb_str n, v;

    if (req->nheaders == req->headers_max && !grow_headers(s->x))
        return SB_HTTP_HEADER_TOO_LARGE;
    if (!keep(s, name, &n) || !keep(s, value, &v))
        return SB_HTTP_HEADER_TOO_LARGE;
    if (n.len == 6 && sb_http_name(n) == SB_H_COOKIE)
        s->cookies++;
    return (int)sb_http_add_field(req, n, v, true);
}

static int pseudo_header(struct sb_stream *s, struct sb_str name, struct sb_str value)
{
    struct sb_str *slot = sb_str_is(name, ":method")      ? &s->method
                          : sb_str_is(name, ":path")      ? &s->path
                          : sb_str_is(name, ":authority") ? &s->authority
                                                          : NULL;

    return !slot || keep(s, value, slot) ? 0 : SB_HTTP_HEADER_TOO_LARGE;
}

/* Behind the body; what is too much is dropped. */
static void add_trailer(struct sb_stream *s, struct sb_str name, struct sb_str value)
{
    s->head_bytes += name.len + value.len + LINE_OVERHEAD;
    if (s->head_bytes <= 2 * s->x->req.head_max &&
        !sb_trailers_put(sb_exchange_arena(s->x), &s->x->body.trailers, name, value))
        s->head_bytes = SIZE_MAX / 2;
}

/* nghttp2 has seen to it that pseudo-headers are known, single and in front, and that nothing is
 * there that only a connection may say. */
void sb_stream_field(struct sb_stream *s, struct sb_str name, struct sb_str value)
{
    size_t line = name.len + value.len + LINE_OVERHEAD;

    if (s->refusal || !s->x)
        return;
    if (s->head_done) {
        add_trailer(s, name, value);
        return;
    }
    s->head_bytes += line;
    if (line > s->x->req.line_max)
        s->refusal = sb_str_is(name, ":path") ? SB_HTTP_URI_TOO_LONG : SB_HTTP_HEADER_TOO_LARGE;
    else if (s->head_bytes > s->x->req.head_max)
        s->refusal = SB_HTTP_HEADER_TOO_LARGE;
    else if (name.len && name.p[0] == ':')
        s->refusal = pseudo_header(s, name, value);
    else
        s->refusal = add_header(s, name, value);
}

/* Cookie pairs may come one a field; everyone behind us expects one line (RFC 9113 8.2.3). */
static void join_cookies(struct sb_exchange *x)
{
    struct sb_http_head *req = &x->req;
    size_t len = 0, at = 0, kept = 0, first = req->nheaders;
    char *all;

    for (size_t i = 0; i < req->nheaders; i++)
        len += req->ids[i] == SB_H_COOKIE ? req->headers[i].value.len + 2 : 0;
    all = sb_arena_alloc(sb_exchange_arena(x), len);
    for (size_t i = 0; i < req->nheaders; i++) {
        struct sb_str value = req->headers[i].value;

        if (req->ids[i] == SB_H_COOKIE) {
            memcpy(all + at, value.p, value.len);
            memcpy(all + at + value.len, "; ", 2);
            at += value.len + 2;
            if (first < kept)
                continue;
            first = kept;
        }
        req->headers[kept] = req->headers[i];
        req->ids[kept++] = req->ids[i];
    }
    req->nheaders = kept;
    req->headers[first].value = sb_str_n(all, at - 2);
}

/* :authority is the Host, and must not differ from one that is given, too. */
static int set_host(struct sb_stream *s)
{
    struct sb_http_head *req = &s->x->req;

    if (req->host.p)
        return !s->authority.p || sb_str_ieq(req->host, s->authority) ? 0 : SB_HTTP_BAD;
    if (!s->authority.p)
        return SB_HTTP_BAD;
    return add_header(s, SB_STR("host"), s->authority);
}

/* The request line as text, which the access log shows. */
static int request_line(struct sb_stream *s)
{
    struct sb_exchange *x = s->x;
    size_t method = s->method.len, path = s->path.len;
    char *line = head_room(s, method + path + 10);

    if (!line)
        return SB_HTTP_URI_TOO_LONG;
    memcpy(line, s->method.p ? s->method.p : "", method);
    line[method] = ' ';
    memcpy(line + method + 1, s->path.p ? s->path.p : "", path);
    memcpy(line + method + 1 + path, " HTTP/2.0", 9);
    x->req.lines = (size_t)(line - x->in) + method + path + 10;
    return (int)sb_http_set_target(&x->req, sb_str_n(line, method),
                                   sb_str_n(line + method + 1, path));
}

int sb_stream_head(struct sb_stream *s)
{
    struct sb_exchange *x = s->x;
    int refusal = s->refusal;

    if (!s->head_done)
        return SB_HTTP_MORE;
    x->empty = false;
    x->req.version = SB_HTTP_2;
    if (!refusal)
        refusal = set_host(s);
    if (!refusal)
        refusal = request_line(s);
    if (s->cookies > 1)
        join_cookies(x);
    x->req.len = x->in_len;
    if (s->in_ended && s->in_len == 0)
        x->req.framing = SB_BODY_NONE;
    else
        x->req.framing = sb_http_has(&x->req, SB_H_CONTENT_LENGTH) && x->req.content_length
                             ? SB_BODY_LENGTH
                             : SB_BODY_CHUNKED;
    return refusal;
}

/* -- the request's body -- */

void sb_stream_data(struct sb_stream *s, const char *p, size_t len)
{
    if (!s->x) {
        nghttp2_session_consume(s->h->wire.session, s->id, len);
        return;
    }
    if (s->in_len + len > s->in_cap) {
        s->in_cap = s->in_len + len < SB_H2_WINDOW / 4 ? SB_H2_WINDOW / 4 : SB_H2_WINDOW;
        sb_assert(s->in_len + len <= s->in_cap); /* nghttp2 keeps them to the window */
        s->in = sb_xrealloc(s->in, s->in_cap);
    }
    memcpy(s->in + s->in_len, p, len);
    s->in_len += len;
    sb_h2_make_ready(s);
}

/* What is handed out counts as read: the window opens by as much. */
enum sb_rc sb_stream_read(struct sb_stream *s, struct sb_str *piece)
{
    *piece = sb_str_n(s->in, s->in_len);
    if (s->reset)
        return SB_IO;
    if (s->in_len == 0)
        return s->in_ended ? SB_OK : SB_AGAIN;
    if (!s->closed)
        nghttp2_session_consume(s->h->wire.session, s->id, s->in_len);
    s->in_len = 0;
    sb_h2_mark(s->h);
    return SB_OK;
}

void sb_stream_continue(struct sb_stream *s)
{
    static uint8_t name[] = ":status", value[] = "100";
    const nghttp2_nv nv = {name, value, sizeof name - 1, sizeof value - 1, NGHTTP2_NV_FLAG_NONE};

    if (s->closed || s->submitted)
        return;
    nghttp2_submit_headers(s->h->wire.session, NGHTTP2_FLAG_NONE, s->id, NULL, &nv, 1, NULL);
    sb_h2_mark(s->h);
}

/* -- the response -- */

/* As in HTTP/1, to clients that asked for them. */
static bool has_trailers(const struct sb_exchange *x)
{
    return x && x->resp_trailers.n && sb_http_has_token(&x->req, SB_H_TE, SB_STR("trailers"));
}

static void submit_trailers(struct sb_stream *s)
{
    struct sb_h2_fields *f = sb_h2_fields();

    sb_h2_field_trailers(f, &s->x->resp_trailers);
    nghttp2_submit_trailer(s->h->wire.session, s->id, f->nv, f->n);
}

/* How much of `out` goes into the next DATA; the bytes follow by reference (sb_h2's on_send_data).
 */
static ssize_t on_read_data(nghttp2_session *session, int32_t id, uint8_t *buf, size_t max,
                            uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct sb_stream *s = source->ptr;
    size_t n = sb_h2_bytes_left(&s->out);

    (void)session;
    (void)id;
    (void)buf;
    (void)arg;
    if (n == 0 && !s->last) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n > max)
        return (ssize_t)max;
    if (!s->last)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (has_trailers(s->x)) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        submit_trailers(s);
    }
    return (ssize_t)n;
}

static enum sb_rc submit_head(struct sb_stream *s, const struct sb_gather *g)
{
    nghttp2_data_provider data = {.source = {.ptr = s}, .read_callback = on_read_data};
    struct sb_str head = sb_h2_flat_head(s->x, g);
    struct sb_h2_fields *f = sb_h2_fields();
    bool whole = s->last && sb_h2_bytes_left(&s->out) == 0 && !has_trailers(s->x);
    int e;

    sb_assert(head.len > 12);
    sb_h2_field(f, SB_STR(":status"), sb_str_n(head.p + 9, 3));
    sb_h2_field_lines(f, head, false);
    if (f->full)
        return SB_IO;
    if (head.p[9] == '1') { /* the response proper comes later */
        e = nghttp2_submit_headers(s->h->wire.session, NGHTTP2_FLAG_NONE, s->id, NULL, f->nv, f->n,
                                   NULL);
        return e < 0 ? SB_IO : SB_OK;
    }
    s->submitted = true;
    e = nghttp2_submit_response(s->h->wire.session, s->id, f->nv, f->n, whole ? NULL : &data);
    return e < 0 ? SB_IO : SB_OK;
}

static void add_output(struct sb_stream *s, const void *p, size_t len)
{
    sb_h2_bytes_trim(&s->out);
    if (s->out.len == 0)
        s->out_flush = s->h->flushes;
    sb_h2_bytes_add(&s->out, p, len);
    s->h->buffered += len;
}

enum sb_rc sb_stream_send(struct sb_stream *s, struct sb_gather *g, bool last)
{
    if (s->reset || s->closed || s->aborted)
        return SB_IO;
    for (int i = g->head; i < g->n; i++)
        add_output(s, g->iov[i].iov_base, g->iov[i].iov_len);
    s->last |= last;
    sb_h2_mark(s->h);
    if (g->head)
        return submit_head(s, g);
    if (s->deferred) {
        s->deferred = false;
        nghttp2_session_resume_data(s->h->wire.session, s->id);
    }
    return SB_OK;
}

void sb_stream_abort(struct sb_stream *s)
{
    s->aborted = true;
}

bool sb_stream_blocked(const struct sb_stream *s)
{
    return sb_h2_bytes_left(&s->out) && s->out_flush != s->h->flushes;
}

size_t sb_stream_read_len(const struct sb_stream *s, size_t wanted)
{
    size_t max = s->h->buffered > BUFFERED_MAX ? READ_LEN_TIGHT : READ_LEN_MAX;

    return wanted < max ? wanted : max;
}
