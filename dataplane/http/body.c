/* body.c - the request's body: decoded from what the client sends, stored or streamed.
 *
 *   client bytes (x->rest, then the socket) --sb_body_read--> pieces --+--> stored: memory, then
 * file
 *                                                                      +--> streamed to the
 * upstream
 *
 * Stored bodies can be sent again to another target, and a chunked one gets a Content-Length. What
 * came with the head and is complete counts as stored even where the route wants streaming.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "dataplane/http/downstream.h"
#include "shared/log.h"

enum { PIECES_MAX = 128 };

void sb_body_init(struct sb_exchange *x)
{
    struct sb_request_body *b = &x->body;

    b->fd = -1;
    b->left = x->req.content_length;
    b->complete = x->req.framing == SB_BODY_NONE;
    b->continued = !(x->req.version >= 11 && sb_http_has(&x->req, SB_H_EXPECT) &&
                     sb_str_ieq(sb_http_get(&x->req, SB_H_EXPECT), SB_STR("100-continue")));
}

void sb_body_release(struct sb_exchange *x)
{
    if (x->body.mem_owned)
        free(x->body.mem);
    if (x->body.fd >= 0)
        close(x->body.fd);
    x->body.fd = -1;
    x->body.mem = NULL;
}

/* Unread client bytes must outlive the worker's buffer. */
static void save_rest(struct sb_exchange *x, struct sb_str rest)
{
    char *over = rest.len ? sb_xmalloc(rest.len) : NULL;

    if (over)
        memcpy(over, rest.p, rest.len);
    free(x->over);
    x->over = over;
    x->rest = sb_str_n(over, rest.len);
}

void sb_body_continue(struct sb_exchange *x)
{
    x->body.continued = true;
    sb_down_continue(x);
}

/* Raw bytes: what is there, else from the socket. */
static enum sb_rc raw_bytes(struct sb_exchange *x, struct sb_str *raw)
{
    struct sb_request_body *b = &x->body;
    size_t cap = SB_BIG_LEN, n;
    enum sb_rc rc;

    if (x->rest.len) {
        b->continued = true;
        *raw = x->rest;
        return SB_OK;
    }
    if (!b->continued)
        sb_body_continue(x);
    if (x->req.framing == SB_BODY_LENGTH && b->left < cap)
        cap = b->left;
    rc = sb_down_read(x, x->w->big, cap, &n);
    if (rc)
        return rc == SB_AGAIN ? SB_AGAIN : SB_IO;
    *raw = sb_str_n(x->w->big, n);
    return SB_OK;
}

static void add_piece(struct iovec *iov, int *n, struct sb_str data)
{
    union {
        const char *in;
        void *out;
    } p = {.in = data.p};

    iov[(*n)++] = (struct iovec){p.out, data.len};
}

static enum sb_rc end_of_chunks(struct sb_exchange *x)
{
    struct sb_trailers *t = &x->body.trailers;

    return t->len && !sb_trailers_end(sb_exchange_arena(x), t) ? SB_INVALID : SB_OK;
}

static enum sb_rc decode_chunks(struct sb_exchange *x, struct sb_str *raw, struct iovec *iov,
                                int max, int *n)
{
    struct sb_str data;

    while (*n < max) {
        switch (sb_chunked_next(&x->body.chunked, raw, &data)) {
        case SB_CHUNK_DATA:
            add_piece(iov, n, data);
            x->body.received += data.len;
            break;
        case SB_CHUNK_TRAILER:
            sb_trailers_add(sb_exchange_arena(x), &x->body.trailers, data);
            break;
        case SB_CHUNK_END:
            x->body.complete = true;
            return end_of_chunks(x);
        case SB_CHUNK_MORE:
            return SB_OK;
        case SB_CHUNK_BAD:
            return SB_INVALID;
        }
    }
    return SB_OK;
}

static enum sb_rc check_max(const struct sb_exchange *x)
{
    return x->w->o->body_max && x->body.received > x->w->o->body_max ? SB_TOOLARGE : SB_OK;
}

/* A stream's frames are its framing: pieces as they are, up to its end. */
static enum sb_rc read_stream(struct sb_exchange *x, struct iovec *iov, int *n)
{
    struct sb_request_body *b = &x->body;
    struct sb_str piece;
    enum sb_rc rc = sb_stream_read(x->stream, &piece);

    if (rc == SB_AGAIN && !b->continued)
        sb_body_continue(x);
    if (rc)
        return rc;
    b->continued = true;
    if (piece.len)
        add_piece(iov, n, piece);
    b->received += piece.len;
    b->complete = x->stream->in_ended;
    return check_max(x);
}

enum sb_rc sb_body_read(struct sb_exchange *x, struct iovec *iov, int max, int *n)
{
    struct sb_request_body *b = &x->body;
    struct sb_str raw = {0};
    bool from_rest = x->rest.len > 0;
    enum sb_rc rc;

    *n = 0;
    if (b->complete)
        return SB_OK;
    if (x->stream)
        return read_stream(x, iov, n);
    rc = raw_bytes(x, &raw);
    if (rc)
        return rc;
    if (x->req.framing == SB_BODY_LENGTH) {
        struct sb_str data = sb_str_first(raw, b->left);

        add_piece(iov, n, data);
        raw = sb_str_from(raw, data.len);
        b->received += data.len;
        b->left -= data.len;
        b->complete = b->left == 0;
    } else {
        rc = decode_chunks(x, &raw, iov, max, n);
        if (rc)
            return rc;
    }
    if (from_rest)
        x->rest = raw;
    else if (raw.len)
        save_rest(x, raw);
    return check_max(x);
}

/* -- storing -- */

static enum sb_rc to_file(struct sb_exchange *x, const char *p, size_t len)
{
    struct sb_request_body *b = &x->body;

    if (b->fd < 0)
        b->fd = sb_temporary_file(x->w, "request");
    while (b->fd >= 0 && len) {
        ssize_t n = pwrite(b->fd, p, len, (off_t)b->file_len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            sb_error("cannot store a request body: %s", strerror(errno));
            return SB_UNAVAILABLE;
        }
        b->file_len += (uint64_t)n;
        p += n;
        len -= (size_t)n;
    }
    return len ? SB_UNAVAILABLE : SB_OK;
}

static enum sb_rc store_piece(struct sb_exchange *x, const char *p, size_t len)
{
    struct sb_request_body *b = &x->body;
    size_t max = x->w->o->body_memory, room;

    if (!b->mem_owned) {
        b->mem_cap = x->req.framing == SB_BODY_LENGTH && x->req.content_length < max
                         ? x->req.content_length
                         : max;
        b->mem = sb_xmalloc(b->mem_cap);
        b->mem_owned = true;
    }
    room = b->file_len ? 0 : b->mem_cap - b->mem_len;
    if (room > len)
        room = len;
    memcpy(b->mem + b->mem_len, p, room);
    b->mem_len += room;
    return len > room ? to_file(x, p + room, len - room) : SB_OK;
}

/* A body of known length that is all there needs no copy. */
static bool all_there(struct sb_exchange *x)
{
    struct sb_request_body *b = &x->body;
    union {
        const char *in;
        char *out;
    } p = {.in = x->rest.p};

    if (x->req.framing != SB_BODY_LENGTH || b->received || x->rest.len < b->left)
        return false;
    b->mem = p.out;
    b->mem_len = b->left;
    b->received = b->left;
    x->rest = sb_str_from(x->rest, b->left);
    b->left = 0;
    b->complete = true;
    return true;
}

enum sb_rc sb_body_store(struct sb_exchange *x)
{
    struct iovec iov[PIECES_MAX];
    enum sb_rc rc;
    int n;

    if (x->body.complete || all_there(x))
        return SB_OK;
    while (!x->body.complete) {
        rc = sb_body_read(x, iov, PIECES_MAX, &n);
        for (int i = 0; !rc && i < n; i++)
            rc = store_piece(x, iov[i].iov_base, iov[i].iov_len);
        if (rc)
            return rc;
    }
    return SB_OK;
}

void sb_body_replace(struct sb_exchange *x)
{
    struct sb_request_body *b = &x->body;
    union {
        const char *in;
        char *out;
    } p = {.in = x->up.body.p};

    sb_body_release(x);
    b->mem_owned = false;
    b->mem = p.out;
    b->mem_len = b->received = x->up.body.len;
    b->file_len = 0;
}

enum sb_rc sb_body_read_file(const struct sb_exchange *x, char *out)
{
    const struct sb_request_body *b = &x->body;
    uint64_t at = 0;

    while (at < b->file_len) {
        ssize_t n = pread(b->fd, out + at, b->file_len - at, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return SB_IO;
        at += (uint64_t)n;
    }
    return SB_OK;
}

/* -- sending -- */

bool sb_body_trails(const struct sb_exchange *x)
{
    return x->body.trailers.n && (x->body.stream || sb_http_has(&x->req, SB_H_TRAILER));
}

/* The end of a chunked body. */
static void last_chunk(struct sb_exchange *x, struct sb_gather *g)
{
    sb_gather_lit(g, "0\r\n");
    if (sb_body_trails(x)) {
        struct sb_str text = sb_trailers_text(sb_exchange_arena(x), &x->body.trailers);

        sb_gather_ref(g, text.p, text.len);
    }
    sb_gather_lit(g, "\r\n");
    x->body.last_sent = true;
}

/* Behind the one chunk that a stored body with trailers is. */
static void end_stored(struct sb_exchange *x, struct sb_gather *g)
{
    if (x->body.received)
        sb_gather_lit(g, "\r\n");
    last_chunk(x, g);
}

void sb_body_gather(struct sb_exchange *x, struct sb_gather *g)
{
    bool trails = sb_body_trails(x);

    if (x->body.stream)
        return;
    x->body.last_sent = false;
    if (trails && x->body.received) {
        sb_gather_hex(g, x->body.received);
        sb_gather_lit(g, "\r\n");
    }
    sb_gather_ref(g, x->body.mem, x->body.mem_len);
    x->body.sent = x->body.mem_len;
    if (trails && x->body.file_len == 0)
        end_stored(x, g);
}

static enum sb_rc pump_file(struct sb_exchange *x)
{
    struct sb_request_body *b = &x->body;

    while (b->sent < b->mem_len + b->file_len) {
        off_t at = (off_t)(b->sent - b->mem_len);
        struct iovec iov = {.iov_base = x->w->big};
        ssize_t n;

        if (sb_io_pending(&x->u->io))
            return SB_AGAIN;
        n = pread(b->fd, x->w->big, SB_BIG_LEN, at);
        if (n <= 0)
            return SB_UNAVAILABLE;
        iov.iov_len = (size_t)n;
        if (sb_io_send(&x->u->io, &iov, 1))
            return SB_UNAVAILABLE;
        b->sent += (uint64_t)n;
    }
    if (sb_body_trails(x) && !b->last_sent) {
        struct sb_gather g;

        sb_gather_init(&g, x->w);
        end_stored(x, &g);
        return sb_io_send(&x->u->io, g.iov, g.n) ? SB_UNAVAILABLE : SB_OK;
    }
    return SB_OK;
}

static enum sb_rc stream_pieces(struct sb_exchange *x, const struct iovec *iov, int n)
{
    bool chunked = x->req.framing == SB_BODY_CHUNKED;
    struct sb_gather g;
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += iov[i].iov_len;
    sb_gather_init(&g, x->w);
    if (chunked && len) {
        sb_gather_hex(&g, len);
        sb_gather_lit(&g, "\r\n");
    }
    for (int i = 0; i < n; i++)
        sb_gather_ref(&g, iov[i].iov_base, iov[i].iov_len);
    if (chunked && len)
        sb_gather_lit(&g, "\r\n");
    if (chunked && x->body.complete)
        last_chunk(x, &g);
    x->body.sent += len;
    x->body.last_sent = x->body.complete;
    return sb_io_send(&x->u->io, g.iov, g.n) ? SB_UNAVAILABLE : SB_OK;
}

enum sb_rc sb_body_pump(struct sb_exchange *x)
{
    struct iovec iov[PIECES_MAX];
    enum sb_rc rc;
    int n;

    if (!x->body.stream)
        return x->body.file_len ? pump_file(x) : SB_OK;
    while (!x->body.last_sent) {
        if (sb_io_pending(&x->u->io))
            return SB_AGAIN;
        rc = sb_body_read(x, iov, PIECES_MAX, &n);
        if (!rc)
            rc = stream_pieces(x, iov, n);
        if (rc)
            return rc;
    }
    return SB_OK;
}
