/* Heads made anew: whatever a client or an upstream sent and the parser took, what goes on is one
 * message that says the same about its body, and nothing of the hop it came over.
 *
 * The first byte chooses: a request, or a response with its body; and the route's flags. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/http/exchange.h"
#include "shared/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADERS = 200, OUT_LEN = 1 << 20 };

enum { RESPONSE = 1, PRESERVE_HOST = 2, STRIP = 4, STREAM = 8, TRUSTED = 16, OLD = 32, HEAD = 64 };

static struct sb_router_header headers[HEADERS], resp_headers[HEADERS], out_headers[HEADERS + 50];
static uint8_t ids[HEADERS], resp_ids[HEADERS], out_ids[HEADERS + 50];
static char scratch[SB_SCRATCH_LEN], out[OUT_LEN];

static struct sb_proxy_options options = {.tokens = ~0u,
                                          .upstream_request_id = true,
                                          .allow_debug_header = true,
                                          .real_ip_header = {"X-Real-IP", 9},
                                          .charset = {"UTF-8", 5},
                                          .keepalive_requests = 1000,
                                          .keepalive_timeout_ms = 1000};
static const struct sb_listen listen_at = {.port_text = "80"};
static const struct sb_snapshot snapshot;
static const struct sb_service service = {.protocol = SB_PROTO_HTTP};

struct world {
    struct sb_worker w;
    struct sb_listener listener;
    struct sb_hold hold;
    struct sb_client c;
    struct sb_route route;
    struct sb_exchange x;
};

static struct world *world(uint8_t flags)
{
    static struct world s;
    struct sb_exchange *x = &s.x;

    memset(x, 0, offsetof(struct sb_exchange, cleared));
    s.w = (struct sb_worker){.o = &options, .scratch = scratch, .now_valid = true, .random = {1}};
    s.listener = (struct sb_listener){.listen = &listen_at, .w = &s.w};
    s.hold = (struct sb_hold){.snap = &snapshot};
    s.c = (struct sb_client){.w = &s.w, .listener = &s.listener, .trusted = flags & TRUSTED};
    memcpy(s.c.ip, "1.2.3.4", 8);
    s.c.ip_len = 7;
    s.route = (struct sb_route){.preserve_host = flags & PRESERVE_HOST,
                                .strip_path = flags & STRIP,
                                .response_buffering = true,
                                .service = &service};
    x->c = &s.c;
    x->w = &s.w;
    x->hold = &s.hold;
    x->route = &s.route;
    x->service = &service;
    x->pick.name = SB_STR("up.test");
    x->pick.port = 8080;
    x->body.fd = -1;
    x->req = (struct sb_http_head){
        .headers = headers, .ids = ids, .headers_max = HEADERS, .line_max = 4096, .head_max = 8192};
    x->resp = (struct sb_http_head){.headers = resp_headers,
                                    .ids = resp_ids,
                                    .headers_max = HEADERS,
                                    .line_max = 8192,
                                    .head_max = 8192};
    return &s;
}

/* Appends what was gathered; the length. */
static size_t flatten(const struct sb_gather *g, size_t n)
{
    for (int i = 0; i < g->n; i++) {
        sb_assert(g->iov[i].iov_len <= OUT_LEN - n);
        memcpy(out + n, g->iov[i].iov_base, g->iov[i].iov_len);
        n += g->iov[i].iov_len;
    }
    return n;
}

static struct sb_http_head fresh(void)
{
    return (struct sb_http_head){.headers = out_headers,
                                 .ids = out_ids,
                                 .headers_max = HEADERS + 50,
                                 .line_max = OUT_LEN,
                                 .head_max = OUT_LEN};
}

static size_t how_many(const struct sb_http_head *h, enum sb_http_name name)
{
    size_t n = 0;

    for (size_t i = 0; i < h->nheaders; i++)
        n += h->ids[i] == name;
    return n;
}

static void check_request(const struct sb_exchange *x, size_t len)
{
    static const enum sb_http_name once[] = {SB_H_HOST,
                                             SB_H_CONNECTION,
                                             SB_H_X_FORWARDED_FOR,
                                             SB_H_X_FORWARDED_HOST,
                                             SB_H_X_FORWARDED_PROTO,
                                             SB_H_X_FORWARDED_PORT,
                                             SB_H_X_FORWARDED_PATH,
                                             SB_H_X_REAL_IP,
                                             SB_H_VIA,
                                             SB_H_X_KONG_REQUEST_ID};
    static const enum sb_http_name never[] = {SB_H_KEEP_ALIVE, SB_H_PROXY, SB_H_PROXY_CONNECTION,
                                              SB_H_EXPECT, SB_H_X_KONG_REQUEST_DEBUG};
    struct sb_http_head h = fresh();

    sb_assert(sb_http_parse_request(&h, out, len) == SB_HTTP_DONE && h.len == len);
    for (size_t i = 0; i < sizeof once / sizeof *once; i++)
        sb_assert(how_many(&h, once[i]) == 1);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        sb_assert(how_many(&h, never[i]) == 0);
    sb_assert(how_many(&h, SB_H_TE) <= 1 && how_many(&h, SB_H_UPGRADE) == x->websocket);
    sb_assert(how_many(&h, SB_H_X_FORWARDED_PREFIX) <= 1);
    sb_assert(sb_str_eq(h.method, x->req.method) && h.version == 11 && !h.authority.p);
    if (x->req.framing == SB_BODY_CHUNKED && x->body.stream)
        sb_assert(h.framing == SB_BODY_CHUNKED);
    else
        sb_assert(h.content_length == x->body.received && h.framing != SB_BODY_CHUNKED);
}

static void request(struct sb_exchange *x, const char *buf, size_t size, uint8_t flags)
{
    struct sb_gather g;
    size_t len;
    char *path;

    if (sb_http_parse_request(&x->req, buf, size) != SB_HTTP_DONE)
        return;
    sb_request_prepare(x);
    sb_body_init(x);
    x->path = x->req.path;
    path = sb_arena_alloc(sb_exchange_arena(x), x->req.path.len + 1);
    if (sb_path_normalise(x->req.path, path, &len))
        x->path = sb_str_n(path, len);
    x->match.route = x->route;
    x->match.prefix_len = x->path.len / 2;
    x->match.prefix = sb_str_first(x->path, x->match.prefix_len);
    x->body.stream = flags & STREAM && x->req.framing != SB_BODY_NONE;
    x->body.complete = true;
    x->body.received = x->req.framing == SB_BODY_CHUNKED ? size : x->req.content_length;
    sb_gather_init(&g, x->w);
    if (sb_request_build(x, &g))
        check_request(x, flatten(&g, 0));
}

/* -- responses -- */

struct body {
    size_t len;
    uint64_t sum;
    bool ended;
};

static void note(struct body *b, struct sb_str data)
{
    for (size_t i = 0; i < data.len; i++)
        b->sum = b->sum * 31 + (unsigned char)data.p[i];
    b->len += data.len;
}

/* What a body comes to under its framing. */
static struct body decode(const struct sb_http_head *h, struct sb_str raw)
{
    struct body b = {0};
    struct sb_chunked d = {0};
    enum sb_chunk_result r = SB_CHUNK_DATA;
    struct sb_str data;

    if (h->framing == SB_BODY_LENGTH)
        raw = sb_str_first(raw, h->content_length);
    if (h->framing != SB_BODY_CHUNKED && h->framing != SB_BODY_NONE)
        note(&b, raw);
    b.ended = h->framing == SB_BODY_NONE ||
              (h->framing == SB_BODY_LENGTH && raw.len == h->content_length);
    while (h->framing == SB_BODY_CHUNKED && (r == SB_CHUNK_DATA || r == SB_CHUNK_TRAILER)) {
        r = sb_chunked_next(&d, &raw, &data);
        if (r == SB_CHUNK_DATA)
            note(&b, data);
        b.ended = r == SB_CHUNK_END;
    }
    return b;
}

static void check_response(const struct sb_exchange *x, size_t len, struct sb_str body)
{
    struct sb_http_head h = fresh();
    struct body in, passed;

    sb_assert(sb_http_parse_response(&h, out, len, x->head_method) == SB_HTTP_DONE);
    sb_assert(h.status == x->resp.status && !h.suspect);
    sb_assert(how_many(&h, SB_H_CONNECTION) == 1 && how_many(&h, SB_H_KEEP_ALIVE) == 0);
    sb_assert(how_many(&h, SB_H_CONTENT_TYPE) <= 1 && how_many(&h, SB_H_VIA) == 1);
    sb_assert(how_many(&h, SB_H_X_ACCEL) == 0);
    in = decode(&x->resp, body);
    passed = decode(&h, sb_str_n(out + h.len, len - h.len));
    sb_assert(in.len == passed.len && in.sum == passed.sum);
    sb_assert(x->ended == (in.ended || x->resp.framing == SB_BODY_NONE));
    sb_assert(h.framing == SB_BODY_EOF || passed.ended == x->ended);
}

static void response(struct sb_exchange *x, const char *buf, size_t size, uint8_t flags)
{
    static const char new_request[] = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
                      old_request[] = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    const char *asked = flags & OLD ? old_request : new_request;
    struct sb_gather g;
    struct sb_str rest, body;
    size_t len;

    sb_assert(sb_http_parse_request(&x->req, asked, strlen(asked)) == SB_HTTP_DONE);
    sb_request_prepare(x);
    x->head_method = flags & HEAD;
    if (sb_http_parse_response(&x->resp, buf, size, x->head_method) != SB_HTTP_DONE ||
        x->resp.status == 101)
        return;
    body = rest = sb_str_n(buf + x->resp.len, size - x->resp.len);
    sb_response_begin(x);
    sb_gather_init(&g, x->w);
    sb_response_head(x, &g);
    if (g.full)
        return;
    len = flatten(&g, 0);
    while (rest.len && !x->ended) {
        sb_gather_init(&g, x->w);
        if (!sb_response_body(x, &rest, &g) || g.full)
            return; /* the client is cut off */
        len = flatten(&g, len);
    }
    check_response(x, len, body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t flags = size ? data[0] : 0;
    struct world *s = world(flags);
    char *buf = sb_xmalloc(size);

    if (size)
        memcpy(buf, data + 1, --size);
    if (flags & RESPONSE)
        response(&s->x, buf, size, flags);
    else
        request(&s->x, buf, size, flags);
    sb_arena_free(s->x.arena);
    s->x.arena = NULL;
    free(buf);
    return 0;
}
