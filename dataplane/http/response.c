/* response.c - from the upstream's response to the client's.
 *
 * Headers: proxy-http.md 6. Bodies are taken out of the upstream's framing and put into the
 * client's: lengths stay lengths; chunks are made anew, one a read; a body that ends with the
 * connection becomes chunked for HTTP/1.1 and ends with the connection for HTTP/1.0.
 */
#include "dataplane/http/steps.h"
#include "shared/log.h"

#define BIT(name) (UINT64_C(1) << SB_H_##name)

static const uint64_t never_passed = BIT(CONNECTION) | BIT(KEEP_ALIVE) | BIT(TRANSFER_ENCODING) |
                                     BIT(UPGRADE) | BIT(X_ACCEL) | BIT(X_PAD) | BIT(VIA) |
                                     BIT(CONTENT_TYPE) | BIT(CONTENT_LENGTH) | BIT(TRAILER);

static bool has_body_filters(const struct sb_exchange *x)
{
    return sb_hooks_any(x, SB_PHASE_BODY_FILTER);
}

static bool may_spool(const struct sb_exchange *x)
{
    return x->w->o->response_buffering && x->route->response_buffering && !x->ended &&
           !(sb_http_has(&x->resp, SB_H_X_ACCEL) &&
             sb_str_ieq(sb_http_find(&x->resp, SB_STR("x-accel-buffering")), SB_STR("no")));
}

void sb_response_begin(struct sb_exchange *x)
{
    x->status = x->resp.status;
    x->resp_left = x->resp.content_length;
    x->resp_chunked = (struct sb_chunked){0};
    x->ended = x->resp.framing == SB_BODY_NONE;
    x->chunk_out = false;
    x->spooling = may_spool(x);
}

/* A plugin took the length away; what one sets is not asked for, the framing is ours. */
static bool lengthless(const struct sb_exchange *x)
{
    const struct sb_header_change *c =
        x->response_changes ? sb_change_find(x->response_changes, SB_STR("content-length")) : NULL;

    return c && !c->value.p;
}

/* Once the header filters ran: they know which bodies will change. */
void sb_response_frame(struct sb_exchange *x)
{
    if (!x->ended && (x->resp.framing != SB_BODY_LENGTH || lengthless(x) ||
                      (has_body_filters(x) && !x->collected))) {
        x->chunk_out = x->req.version >= 11 && !x->stream;
        x->keep_alive = x->keep_alive && x->chunk_out;
    }
}

/* -- the head -- */

static uint64_t overwritten(const struct sb_exchange *x)
{
    unsigned tokens = x->w->o->tokens;
    uint64_t bits = never_passed;

    if (tokens & SB_TOKEN_PROXY_LATENCY)
        bits |= BIT(X_KONG_PROXY_LATENCY);
    if (tokens & SB_TOKEN_UPSTREAM_LATENCY)
        bits |= BIT(X_KONG_UPSTREAM_LATENCY);
    if (tokens & SB_TOKEN_UPSTREAM_STATUS)
        bits |= BIT(X_KONG_UPSTREAM_STATUS);
    if (tokens & SB_TOKEN_REQUEST_ID)
        bits |= BIT(X_KONG_REQUEST_ID);
    return bits;
}

/* Also where a plugin sets it; Server stays the plugin's on what an upstream answered. */
bool sb_response_owns(const struct sb_exchange *x, struct sb_str name)
{
    uint64_t bits =
        BIT(CONNECTION) | BIT(CONTENT_LENGTH) | BIT(CONTENT_TYPE) | BIT(TRANSFER_ENCODING);

    bits |= overwritten(x) & ~never_passed;
    if ((x->w->o->tokens & SB_TOKEN_VIA) && x->try_us)
        bits |= BIT(VIA);
    if ((x->w->o->tokens & SB_TOKEN_SERVER) && !x->try_us)
        bits |= BIT(SERVER);
    if ((x->w->o->tokens & SB_TOKEN_RESPONSE_LATENCY) && !x->try_us)
        bits |= BIT(X_KONG_RESPONSE_LATENCY);
    return bits >> sb_http_name(name) & 1;
}

static bool named_by_connection(const struct sb_exchange *x, struct sb_str name)
{
    return sb_http_has_token(&x->resp, SB_H_CONNECTION, name);
}

/* An answer names websocket to a client that asked for it, also where it refuses. */
static bool tells_websocket(const struct sb_exchange *x)
{
    return x->websocket && !x->stream &&
           sb_str_ieq(sb_http_get(&x->resp, SB_H_UPGRADE), SB_STR("websocket"));
}

static void upstream_headers(struct sb_exchange *x, struct sb_gather *g)
{
    uint64_t skip = overwritten(x) & ~(tells_websocket(x) ? BIT(UPGRADE) : 0);
    bool names = sb_http_has(&x->resp, SB_H_CONNECTION);

    for (size_t i = 0; i < x->resp.nheaders; i++) {
        const struct sb_router_header *h = &x->resp.headers[i];

        if (skip >> x->resp.ids[i] & 1)
            continue;
        if (names && x->resp.ids[i] != SB_H_UPGRADE && named_by_connection(x, h->name))
            continue;
        if (x->response_changes && sb_change_replaces(x->response_changes, h->name, h->value))
            continue;
        sb_gather_header(g, h->name, h->value);
    }
}

/* What goes behind a type without charset: the setting's, or the upstream's X-Accel-Charset. */
static struct sb_str charset(const struct sb_exchange *x)
{
    struct sb_str said = {0};

    if (sb_http_has(&x->resp, SB_H_X_ACCEL))
        said = sb_http_find(&x->resp, SB_STR("x-accel-charset"));
    if (!said.p)
        return x->w->o->charset;
    return sb_str_ieq(said, SB_STR("off")) ? SB_STR("") : said;
}

/* nginx adds a charset to these, where none is given, encoded or not. */
static bool wants_charset(const struct sb_exchange *x, struct sb_str type)
{
    static const char *const types[] = {
        "text/html",           "text/plain",      "text/xml", "application/javascript",
        "application/rss+xml", "text/vnd.wap.wml"};

    if (x->status == 301 || x->status == 302)
        return false;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (sb_str_ieq(type, sb_str_c(types[i])))
            return true;
    return false;
}

/* What plugins made of the type, which is one, however often it was set. */
static struct sb_str changed_type(const struct sb_exchange *x, struct sb_str type)
{
    for (const struct sb_header_change *c = x->response_changes; c; c = c->next)
        if (sb_http_name(c->name) == SB_H_CONTENT_TYPE)
            type = c->value;
    return type;
}

void sb_response_type(const struct sb_exchange *x, struct sb_str type, struct sb_gather *g)
{
    type = changed_type(x, type);
    if (type.len == 0)
        return;
    sb_gather_lit(g, "Content-Type: ");
    sb_gather_str(g, type);
    if (wants_charset(x, type) && charset(x).len) {
        sb_gather_lit(g, "; charset=");
        sb_gather_str(g, charset(x));
    }
    sb_gather_lit(g, "\r\n");
}

static void content_headers(struct sb_exchange *x, struct sb_gather *g)
{
    struct sb_str type = sb_http_get(&x->resp, SB_H_CONTENT_TYPE);

    if (type.len)
        sb_response_type(x, type, g);
    if (x->chunk_out) {
        sb_gather_lit(g, "Transfer-Encoding: chunked\r\n");
    } else if (x->collected && !lengthless(x)) {
        sb_gather_lit(g, "Content-Length: ");
        sb_gather_uint(g, x->resp_left);
        sb_gather_lit(g, "\r\n");
    } else if (sb_http_has(&x->resp, SB_H_CONTENT_LENGTH) && x->resp.status >= 200 &&
               x->resp.status != 204 && !has_body_filters(x) && !lengthless(x)) {
        sb_gather_header(g, SB_STR("Content-Length"), sb_http_get(&x->resp, SB_H_CONTENT_LENGTH));
    }
    if (sb_http_has(&x->resp, SB_H_TRAILER) &&
        sb_http_has_token(&x->req, SB_H_TE, SB_STR("trailers")))
        sb_gather_header(g, SB_STR("Trailer"), sb_http_get(&x->resp, SB_H_TRAILER));
}

static void gather_ms(struct sb_gather *g, int64_t us)
{
    sb_gather_uint(g, us > 0 ? (uint64_t)us / 1000 : 0);
    sb_gather_lit(g, "\r\n");
}

static void via_header(const struct sb_exchange *x, struct sb_str via, struct sb_gather *g)
{
    bool ours = x->w->o->tokens & SB_TOKEN_VIA;

    if (!via.len && !ours)
        return;
    sb_gather_lit(g, "Via: ");
    sb_gather_str(g, via);
    if (via.len && ours)
        sb_gather_lit(g, ", ");
    if (ours)
        sb_gather_str(g, x->service && sb_grpc_service(x) ? SB_STR("2 " SB_PRODUCT)
                                                          : SB_STR("1.1 " SB_PRODUCT));
    sb_gather_lit(g, "\r\n");
}

/* What the `headers` setting asks for on responses that went through an upstream; via: the
 * upstream's. */
void sb_response_tokens(struct sb_exchange *x, struct sb_str via, struct sb_gather *g)
{
    unsigned tokens = x->w->o->tokens;

    if (tokens & SB_TOKEN_UPSTREAM_LATENCY) {
        sb_gather_lit(g, "X-Kong-Upstream-Latency: ");
        gather_ms(g, x->first_byte_us - x->try_us);
    }
    if (tokens & SB_TOKEN_PROXY_LATENCY) {
        sb_gather_lit(g, "X-Kong-Proxy-Latency: ");
        gather_ms(g, x->try_us - x->start_us);
    }
    via_header(x, via, g);
    if (tokens & SB_TOKEN_UPSTREAM_STATUS) {
        sb_gather_lit(g, "X-Kong-Upstream-Status: ");
        sb_gather_uint(g, (uint64_t)x->upstream_status);
        sb_gather_lit(g, "\r\n");
    }
    if (tokens & SB_TOKEN_REQUEST_ID) {
        sb_gather_lit(g, "X-Kong-Request-Id: ");
        sb_gather_add(g, x->id, sizeof x->id);
        sb_gather_lit(g, "\r\n");
    }
}

void sb_response_connection(struct sb_exchange *x, struct sb_gather *g)
{
    if (x->w->draining) /* since the request began */
        x->keep_alive = false;
    if (x->keep_alive)
        sb_gather_lit(g, "Connection: keep-alive\r\n");
    else
        sb_gather_lit(g, "Connection: close\r\n");
}

static void connection_headers(struct sb_exchange *x, struct sb_gather *g)
{
    if (x->status == 101)
        sb_gather_lit(g, "Connection: upgrade\r\n");
    else
        sb_response_connection(x, g);
}

static void gateway_headers(struct sb_exchange *x, struct sb_gather *g)
{
    if ((x->w->o->tokens & SB_TOKEN_SERVER) && !sb_http_has(&x->resp, SB_H_SERVER) &&
        !(x->response_changes && sb_exchange_response_header(x, SB_STR("server")).p))
        sb_gather_lit(g, "Server: " SB_PRODUCT "\r\n");
    sb_response_tokens(x, sb_http_get(&x->resp, SB_H_VIA), g);
}

void sb_response_kept(struct sb_exchange *x, struct sb_gather *g)
{
    upstream_headers(x, g);
    for (const struct sb_header_change *c = x->response_changes; c; c = c->next)
        if (c->value.p && !sb_response_owns(x, c->name))
            sb_gather_header(g, c->name, c->value);
    gateway_headers(x, g);
}

void sb_response_head(struct sb_exchange *x, struct sb_gather *g)
{
    if (x->req.version == 9)
        return; /* HTTP/0.9 knows no heads */
    sb_gather_lit(g, "HTTP/1.1 ");
    sb_gather_uint(g, (uint64_t)x->status);
    sb_gather_lit(g, " ");
    sb_gather_str(g, x->status == x->resp.status ? x->resp.reason : sb_status_text(x->status));
    sb_gather_lit(g, "\r\n");
    content_headers(x, g);
    connection_headers(x, g);
    sb_response_kept(x, g);
    sb_debug_headers(x, g);
    sb_gather_lit(g, "\r\n");
    g->head = g->n;
    x->resp_head_sent = (uint32_t)sb_gather_len(g);
}

void sb_response_interim(struct sb_exchange *x, struct sb_gather *g)
{
    sb_gather_lit(g, "HTTP/1.1 ");
    sb_gather_uint(g, (uint64_t)x->resp.status);
    sb_gather_lit(g, " ");
    sb_gather_str(g, x->resp.reason);
    sb_gather_lit(g, "\r\n");
    upstream_headers(x, g);
    sb_gather_lit(g, "\r\n");
    g->head = g->n;
}

/* -- the body -- */

bool sb_response_filter(struct sb_exchange *x, struct sb_chunk *c)
{
    const struct sb_hooks *hooks = sb_exchange_hooks(x);
    const struct sb_hook *h = hooks ? hooks->phase[SB_PHASE_BODY_FILTER] : NULL;

    const void *config;

    for (; h && h->filter; h++) {
        if (!sb_hook_config(x, h, &config) || h->filter(x, config, c) == SB_OK)
            continue;
        sb_error("a body filter broke, request_id: %.32s", x->id);
        return false;
    }
    return true;
}

static void put(struct sb_exchange *x, struct sb_gather *g, struct sb_str data)
{
    if (data.len == 0)
        return;
    if (x->chunk_out) {
        sb_gather_hex(g, data.len);
        sb_gather_lit(g, "\r\n");
    }
    sb_gather_ref(g, data.p, data.len);
    if (x->chunk_out)
        sb_gather_lit(g, "\r\n");
    x->body_sent += data.len;
}

/* Trailers go to clients that asked for them. */
static void last_chunk(struct sb_exchange *x, struct sb_gather *g)
{
    sb_gather_lit(g, "0\r\n");
    if (x->resp_trailers.n && sb_http_has_token(&x->req, SB_H_TE, SB_STR("trailers"))) {
        struct sb_str text = sb_trailers_text(sb_exchange_arena(x), &x->resp_trailers);

        sb_gather_ref(g, text.p, text.len);
    }
    sb_gather_lit(g, "\r\n");
}

/* The end of the body, for filters and for a chunked client. */
static bool put_end(struct sb_exchange *x, struct sb_gather *g)
{
    struct sb_chunk c = {.last = true};

    x->ended = true;
    if (has_body_filters(x)) {
        if (!sb_response_filter(x, &c))
            return false;
        put(x, g, c.data);
    }
    if (x->chunk_out)
        last_chunk(x, g);
    return true;
}

static bool put_data(struct sb_exchange *x, struct sb_gather *g, struct sb_str data)
{
    struct sb_chunk c = {.data = data};

    if (has_body_filters(x) && !sb_response_filter(x, &c))
        return false;
    put(x, g, c.data);
    return true;
}

/* What comes next of a chunked body. */
static bool put_chunk(struct sb_exchange *x, struct sb_str *raw, struct sb_gather *g)
{
    struct sb_str data;

    switch (sb_chunked_next(&x->resp_chunked, raw, &data)) {
    case SB_CHUNK_DATA:
        return put_data(x, g, data);
    case SB_CHUNK_TRAILER:
        sb_trailers_add(sb_exchange_arena(x), &x->resp_trailers, data);
        return true;
    case SB_CHUNK_END:
        return (x->resp_trailers.len == 0 ||
                sb_trailers_end(sb_exchange_arena(x), &x->resp_trailers)) &&
               put_end(x, g);
    case SB_CHUNK_MORE:
        return true;
    default:
        return false;
    }
}

bool sb_response_body(struct sb_exchange *x, struct sb_str *raw, struct sb_gather *g)
{
    struct sb_str data;

    /* A piece takes up to three places, its end one more. */
    while (raw->len && !x->ended && g->n + 5 < SB_GATHER_MAX && g->end - g->at > 64) {
        if (x->resp.framing == SB_BODY_CHUNKED) {
            if (!put_chunk(x, raw, g))
                return false;
            continue;
        }
        data = x->resp.framing == SB_BODY_LENGTH ? sb_str_first(*raw, x->resp_left) : *raw;
        *raw = sb_str_from(*raw, data.len);
        if (!put_data(x, g, data))
            return false;
        if (x->resp.framing != SB_BODY_LENGTH)
            continue;
        x->resp_left -= data.len;
        if (x->resp_left == 0 && !put_end(x, g))
            return false;
    }
    return true;
}

bool sb_response_collected(struct sb_exchange *x, struct sb_gather *g)
{
    struct sb_chunk c = {.data = sb_str_n(x->whole, x->whole_len), .last = true};

    if (!sb_response_filter(x, &c))
        return false;
    x->chunk_out = x->chunk_out && lengthless(x);
    x->ended = true;
    x->resp_left = c.data.len;
    sb_response_head(x, g);
    put(x, g, c.data);
    if (x->chunk_out)
        last_chunk(x, g);
    return !g->full;
}

void sb_response_eof(struct sb_exchange *x, struct sb_gather *g)
{
    if (x->resp.framing == SB_BODY_EOF)
        (void)put_end(x, g);
}
