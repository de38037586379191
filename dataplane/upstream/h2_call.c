/* h2_call.c - a call's own side: its request goes out, its response comes in. */
#include <stdlib.h>

#include "dataplane/http/exchange.h"
#include "dataplane/http/h2_fields.h"
#include "dataplane/upstream/h2_conn.h"

enum {
    CALLS_KEEP_MAX = 512,
    BYTES_KEEP_MAX = 8192, /* of a kept struct's memory */
    HEADERS_MAX = 256,
    HEAD_MAX = 64 * 1024,
};

/* -- life -- */

struct sb_call *sb_call_begin(struct sb_exchange *x)
{
    struct sb_call *c = sb_pool_take(&x->w->calls, sizeof *c);

    *c = (struct sb_call){.x = x, .kept = true, .in = c->in, .out = c->out};
    c->in.at = c->in.len = c->out.at = c->out.len = 0;
    if (sb_h2_attach(c))
        return c;
    sb_pool_give(&x->w->calls, c, CALLS_KEEP_MAX);
    return NULL;
}

static void release_bytes(struct sb_h2_bytes *b)
{
    free(b->p);
    *b = (struct sb_h2_bytes){0};
}

void sb_call_free(struct sb_call *c, struct sb_worker *w)
{
    bool full = w->calls.count >= CALLS_KEEP_MAX;

    if (full || c->in.cap > BYTES_KEEP_MAX)
        release_bytes(&c->in);
    if (full || c->out.cap > BYTES_KEEP_MAX)
        release_bytes(&c->out);
    sb_pool_give(&w->calls, c, CALLS_KEEP_MAX);
}

void sb_calls_release(struct sb_worker *w)
{
    while (w->calls.first) {
        struct sb_call *c = sb_pool_take(&w->calls, 0);

        free(c->in.p);
        free(c->out.p);
        free(c);
    }
}

void sb_call_end(struct sb_call *c)
{
    if (!c->conn) {
        sb_call_free(c, c->x->w);
        return;
    }
    c->x = NULL;
    if (!c->closed && c->id)
        nghttp2_submit_rst_stream(c->conn->wire.session, NGHTTP2_FLAG_NONE, c->id, NGHTTP2_CANCEL);
    sb_h2_conn_mark(c->conn);
    if (c->closed || !c->id)
        sb_h2_detach(c, true);
}

bool sb_call_again(struct sb_call *c)
{
    struct sb_call kept = *c;

    if (!c->kept)
        return false;
    sb_h2_detach(c, false);
    *c = (struct sb_call){.x = kept.x, .in = kept.in, .out = kept.out};
    c->kept = true;
    c->last = kept.last;
    c->in.at = c->in.len = c->out.at = 0;
    return sb_h2_attach(c);
}

/* -- the request -- */

static void submit_trailers(struct sb_call *c)
{
    struct sb_h2_fields *f = sb_h2_fields();

    sb_h2_field_trailers(f, &c->x->body.trailers);
    nghttp2_submit_trailer(c->conn->wire.session, c->id, f->nv, f->n);
}

static ssize_t on_read_data(nghttp2_session *session, int32_t id, uint8_t *buf, size_t max,
                            uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct sb_call *c = source->ptr;
    size_t n = sb_h2_bytes_left(&c->out);

    (void)session;
    (void)id;
    (void)buf;
    (void)arg;
    if (n == 0 && !c->last) {
        c->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n > max)
        return (ssize_t)max;
    if (!c->last)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (c->x && c->x->body.trailers.n) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        submit_trailers(c);
    }
    return (ssize_t)n;
}

/* ":authority" is what Host says. */
static struct sb_str host_of(struct sb_str head)
{
    ptrdiff_t at = sb_str_find(head, SB_STR("\r\nHost: "), 0);
    struct sb_str rest = sb_str_from(head, at < 0 ? head.len : (size_t)at + 8);
    ptrdiff_t end = sb_str_chr(rest, '\r', 0);

    return sb_str_first(rest, end < 0 ? rest.len : (size_t)end);
}

enum sb_rc sb_call_submit(struct sb_call *c, struct sb_gather *g, bool last)
{
    nghttp2_data_provider data = {.source = {.ptr = c}, .read_callback = on_read_data};
    struct sb_h2_fields *f = sb_h2_fields();
    struct sb_str head, line, method;
    ptrdiff_t end;

    g->head = g->n;
    head = sb_h2_flat_head(c->x, g);
    end = sb_str_chr(head, '\r', 0);
    line = sb_str_first(head, end < 0 ? 0 : (size_t)end);
    method = sb_str_first(line, (size_t)(sb_str_chr(line, ' ', 0) + 1));
    line = sb_str_from(line, method.len);
    sb_h2_field(f, SB_STR(":method"), sb_str_first(method, method.len - 1));
    sb_h2_field(f, SB_STR(":scheme"), c->conn->io.ssl ? SB_STR("https") : SB_STR("http"));
    sb_h2_field(f, SB_STR(":authority"), host_of(head));
    sb_h2_field(f, SB_STR(":path"), sb_str_first(line, (size_t)sb_str_rchr(line, ' ')));
    sb_h2_field_lines(f, head, false);
    if (f->full)
        return SB_IO;
    c->last |= last;
    last = c->last && c->out.len == 0 && c->x->body.trailers.n == 0;
    c->id =
        nghttp2_submit_request(c->conn->wire.session, NULL, f->nv, f->n, last ? NULL : &data, c);
    sb_h2_conn_mark(c->conn);
    if (c->id > 0)
        return SB_OK;
    c->id = 0;
    return SB_IO;
}

void sb_call_send(struct sb_call *c, const struct iovec *iov, int n, bool last)
{
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += iov[i].iov_len;
    if (c->head_done || c->out.len + len > SB_CALL_KEPT_MAX)
        c->kept = false;
    if (!c->kept)
        sb_h2_bytes_trim(&c->out);
    for (int i = 0; i < n; i++)
        sb_h2_bytes_add(&c->out, iov[i].iov_base, iov[i].iov_len);
    c->last |= last;
    if (c->deferred && !c->closed) {
        c->deferred = false;
        nghttp2_session_resume_data(c->conn->wire.session, c->id);
    }
    sb_h2_conn_mark(c->conn);
}

/* -- the response -- */

bool sb_call_read(struct sb_call *c, struct sb_str *piece)
{
    size_t n = sb_h2_bytes_left(&c->in);

    if (n == 0)
        return false;
    *piece = sb_str_n(c->in.p + c->in.at, n);
    c->in.at = c->in.len;
    if (!c->closed)
        nghttp2_session_consume(c->conn->wire.session, c->id, n);
    sb_h2_conn_mark(c->conn);
    return true;
}

void sb_call_data(struct sb_call *c, const void *p, size_t len)
{
    sb_h2_bytes_trim(&c->in);
    sb_h2_bytes_add(&c->in, p, len);
}

/* A new head: the interim one before it, if any, is forgotten. */
void sb_call_begin_head(struct sb_call *c)
{
    struct sb_http_head *resp = &c->x->resp;
    struct sb_arena *a = sb_exchange_arena(c->x);

    if (!resp->headers || resp->headers_max != HEADERS_MAX) {
        resp->headers = SB_NEW_N(a, struct sb_router_header, HEADERS_MAX);
        resp->ids = SB_NEW_N(a, uint8_t, HEADERS_MAX);
        resp->headers_max = HEADERS_MAX;
    }
    sb_http_head_reset(resp);
    resp->version = SB_HTTP_2;
    c->head_bytes = 0;
}

static bool status_field(struct sb_http_head *resp, struct sb_str value)
{
    int64_t status = 0;

    if (value.len != 3 || !sb_str_int(value, &status) || status < 100)
        return false;
    resp->status = (int)status;
    resp->reason = sb_status_text(resp->status);
    return true;
}

bool sb_call_field(struct sb_call *c, struct sb_str name, struct sb_str value)
{
    struct sb_arena *a = sb_exchange_arena(c->x);

    c->head_bytes += name.len + value.len;
    if (c->head_bytes > HEAD_MAX)
        return false;
    if (c->head_done)
        return sb_trailers_put(a, &c->x->resp_trailers, name, value);
    if (name.len && name.p[0] == ':')
        return !sb_str_is(name, ":status") || status_field(&c->x->resp, value);
    return sb_http_add_field(&c->x->resp, sb_arena_str(a, name), sb_arena_str(a, value), false) ==
           SB_HTTP_DONE;
}
