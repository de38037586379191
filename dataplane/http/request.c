/* request.c - from the client's head to the upstream's.
 *
 * Which headers go on and which are made anew is proxy-http.md 5. Headers that the gateway writes
 * come first, then the client's own in their order.
 */
#include <arpa/inet.h>

#include "dataplane/http/downstream.h"
#include "dataplane/http/h2_session.h"

#define BIT(name) (UINT64_C(1) << SB_H_##name)

/* Never passed on as they came. Kept only for trusted peers: the X-Forwarded ones. */
static const uint64_t replaced =
    BIT(HOST) | BIT(CONNECTION) | BIT(KEEP_ALIVE) | BIT(PROXY_CONNECTION) | BIT(PROXY) |
    BIT(TRANSFER_ENCODING) | BIT(TE) | BIT(EXPECT) | BIT(UPGRADE) | BIT(CONTENT_LENGTH) | BIT(VIA) |
    BIT(X_FORWARDED_FOR) | BIT(X_FORWARDED_PROTO) | BIT(X_FORWARDED_HOST) | BIT(X_FORWARDED_PORT) |
    BIT(X_FORWARDED_PATH) | BIT(X_FORWARDED_PREFIX) | BIT(X_REAL_IP) | BIT(X_KONG_REQUEST_ID) |
    BIT(X_KONG_REQUEST_DEBUG);

static void make_id(struct sb_exchange *x)
{
    for (size_t half = 0; half < 32; half += 16) {
        uint64_t r = sb_worker_random(x->w);

        for (size_t i = 0; i < 16; i++, r >>= 4)
            x->id[half + i] = "0123456789abcdef"[r & 15];
    }
}

/* The name that X-Forwarded-Host and redirects speak of: of the target's authority, else of Host,
 * lower case, without port. */
static void note_host(struct sb_exchange *x)
{
    struct sb_str from = x->req.authority.p ? x->req.authority : x->req.host, name;

    x->host = SB_STR("kong");
    if (!from.p || !sb_http_host_valid(from, &name))
        return;
    x->host = name;
    for (size_t i = 0; i < name.len; i++) {
        if (name.p[i] < 'A' || name.p[i] > 'Z')
            continue;
        if (name.len > sizeof x->host_room)
            return;
        for (i = 0; i < name.len; i++)
            x->host_room[i] =
                name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] | 0x20) : name.p[i];
        x->host.p = x->host_room;
        return;
    }
}

/* -- the client's address -- */

static bool is_trusted(const struct sb_exchange *x, const union sb_sockaddr *addr)
{
    return sb_cidr_has(x->w->o->trusted, x->w->o->nreal, &addr->sa);
}

static bool is_port(struct sb_str s)
{
    int64_t n;

    return sb_str_int(s, &n) && n > 0 && n < 65536;
}

/* An address as proxies write it into headers: alone, or with a port, where IPv6 is in brackets. */
static bool header_address(struct sb_str text, union sb_sockaddr *addr)
{
    bool bracket = text.len && text.p[0] == '[';
    ptrdiff_t colon = sb_str_rchr(text, ':');
    struct sb_str host;

    if (!bracket && sb_address_parse(text, 0, addr))
        return true;
    if (colon < 2 || !is_port(sb_str_from(text, (size_t)colon + 1)))
        return false;
    host = sb_str_first(text, (size_t)colon);
    if (!bracket)
        return sb_str_chr(host, ':', 0) < 0 && sb_address_parse(host, 0, addr);
    return host.p[host.len - 1] == ']' &&
           sb_address_parse(sb_str_n(host.p + 1, host.len - 2), 0, addr);
}

static bool parts(char c)
{
    return c == ' ' || c == ',';
}

/* From the right: the last address, or, recursive, the last that is not trusted. Commas and spaces
 * part them. False: there is none. *trusted: all of them are. */
static bool address_of_list(const struct sb_exchange *x, struct sb_str list,
                            union sb_sockaddr *found, bool *trusted)
{
    union sb_sockaddr addr;
    bool any = false;

    for (*trusted = true; *trusted; any = true) {
        struct sb_str item;

        while (list.len && parts(list.p[list.len - 1]))
            list.len--;
        item = list;
        while (list.len && !parts(list.p[list.len - 1]))
            list.len--;
        item = sb_str_from(item, list.len);
        if (!header_address(item, &addr)) {
            *trusted = any && item.len == 0;
            break;
        }
        *found = addr;
        *trusted = x->w->o->real_ip_recursive && is_trusted(x, &addr);
    }
    return any;
}

/* The first line of the header counts, but all lines of X-Forwarded-For, the last one first. */
static bool real_address(const struct sb_exchange *x, union sb_sockaddr *found)
{
    struct sb_str name = x->w->o->real_ip_header;
    bool list = sb_str_ieq(name, SB_STR("x-forwarded-for")), any = false, trusted = true;

    for (size_t k = 0, n = x->req.nheaders; k < n && trusted; k++) {
        size_t i = list ? n - 1 - k : k;

        if (!sb_str_ieq(x->req.headers[i].name, name))
            continue;
        any |= address_of_list(x, x->req.headers[i].value, found, &trusted);
        if (!list)
            break;
    }
    return any;
}

/* Empty: the peer's. */
static struct sb_str real_ip(struct sb_exchange *x)
{
    union sb_sockaddr addr;
    char *text = x->ip_room;

    if (sb_str_is(x->w->o->real_ip_header, "proxy_protocol"))
        return sb_str_n(x->c->proxy_ip, x->c->proxy_ip_len);
    if (!real_address(x, &addr))
        return (struct sb_str){0};
    if (addr.sa.sa_family == AF_INET)
        inet_ntop(AF_INET, &addr.in.sin_addr, text, sizeof x->ip_room);
    else
        inet_ntop(AF_INET6, &addr.in6.sin6_addr, text, sizeof x->ip_room);
    return sb_str_c(text);
}

void sb_request_prepare(struct sb_exchange *x)
{
    struct sb_str ip;
    struct sb_client *c = x->c;

    make_id(x);
    note_host(x);
    x->https = sb_down_tls(x);
    x->head_method = sb_str_is(x->req.method, "HEAD");
    x->keep_alive = x->req.version >= 11
                        ? !sb_http_has_token(&x->req, SB_H_CONNECTION, SB_STR("close"))
                        : sb_http_has_token(&x->req, SB_H_CONNECTION, SB_STR("keep-alive")) &&
                              !sb_http_has_token(&x->req, SB_H_CONNECTION, SB_STR("close"));
    if (++c->requests >= x->w->o->keepalive_requests || x->w->draining ||
        !x->w->o->keepalive_timeout_ms)
        x->keep_alive = false;
    if (x->stream && !x->keep_alive)
        sb_h2_drain(x->stream->h);
    x->websocket = sb_http_has(&x->req, SB_H_UPGRADE) &&
                   sb_str_ieq(sb_http_get(&x->req, SB_H_UPGRADE), SB_STR("websocket"));
    x->client_ip = sb_str_n(c->ip, c->ip_len);
    if (c->relays && (ip = real_ip(x)).len)
        x->client_ip = ip;
}

/* What the client says was forwarded. Kong reads X_Forwarded_Proto as the same header, and before
 * the one with dashes. */
static struct sb_str said(const struct sb_exchange *x, enum sb_http_name id, struct sb_str scored)
{
    struct sb_str value = {0};

    if (sb_http_has(&x->req, SB_H_X_FORWARDED_SCORED))
        value = sb_http_find(&x->req, scored);
    return value.p ? value : sb_http_get(&x->req, id);
}

static struct sb_str trusted_value(const struct sb_exchange *x, enum sb_http_name id,
                                   struct sb_str scored)
{
    return x->c->trusted ? said(x, id, scored) : (struct sb_str){0};
}

#define TRUSTED(x, NAME, scored) trusted_value(x, SB_H_X_FORWARDED_##NAME, SB_STR(scored))

struct sb_str sb_request_forwarded_proto(const struct sb_exchange *x)
{
    struct sb_str value = TRUSTED(x, PROTO, "x_forwarded_proto");

    return value.p ? value : x->https ? SB_STR("https") : SB_STR("http");
}

struct sb_str sb_request_forwarded_host(const struct sb_exchange *x)
{
    struct sb_str value = TRUSTED(x, HOST, "x_forwarded_host");

    return value.p ? value : x->host;
}

/* -- the request line -- */

static bool request_line(struct sb_exchange *x, struct sb_gather *g)
{
    size_t len, room;

    sb_gather_str(g, x->up.method.p ? x->up.method : x->req.method);
    sb_gather_lit(g, " ");
    room = (size_t)(g->end - g->at);
    if (x->up.path.p) {
        sb_gather_str(g, x->up.path);
    } else {
        if (!sb_router_upstream_path(&x->match, x->path, g->at, room, &len))
            return false;
        sb_gather_wrote(g, len);
    }
    if (x->up.query.p ? x->up.query.len > 0 : x->req.has_query) {
        sb_gather_lit(g, "?");
        sb_gather_str(g, x->up.query.p ? x->up.query : x->req.query);
    }
    sb_gather_lit(g, " HTTP/1.1\r\n");
    return true;
}

/* -- headers of the gateway's own -- */

/* What was matched and stripped is decoded text, and goes on so; but what could end a header is
 * escaped. */
static void escaped(struct sb_gather *g, struct sb_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c >= 0x20 && c != 0x7f) {
            sb_gather_add(g, s.p + i, 1);
        } else {
            const char triplet[3] = {'%', "0123456789ABCDEF"[c >> 4], "0123456789ABCDEF"[c & 15]};

            sb_gather_add(g, triplet, sizeof triplet);
        }
    }
}

static void forwarded_prefix(struct sb_exchange *x, struct sb_gather *g)
{
    struct sb_str prefix = TRUSTED(x, PREFIX, "x_forwarded_prefix");

    if (prefix.p ? !prefix.len : !x->route->strip_path || x->match.prefix_len == 0)
        return;
    if (!prefix.p) {
        prefix = x->match.prefix;
        if (sb_str_is(prefix, "/"))
            return;
    }
    sb_gather_lit(g, "X-Forwarded-Prefix: ");
    escaped(g, prefix);
    sb_gather_lit(g, "\r\n");
}

/* An empty value, which only a trusted peer's can be, leaves the header out. */
static void forwarded_as(struct sb_gather *g, struct sb_str name, struct sb_str value)
{
    if (value.len)
        sb_gather_header(g, name, value);
}

static void forwarded(struct sb_exchange *x, struct sb_gather *g)
{
    struct sb_str before = said(x, SB_H_X_FORWARDED_FOR, SB_STR("x_forwarded_for")), value;

    sb_gather_lit(g, "X-Forwarded-For: ");
    if (before.p) {
        sb_gather_str(g, before);
        sb_gather_lit(g, ", ");
        sb_gather_add(g, x->c->ip, x->c->ip_len);
    } else {
        sb_gather_str(g, x->client_ip);
    }
    sb_gather_lit(g, "\r\nX-Real-IP: ");
    sb_gather_str(g, x->client_ip);
    sb_gather_lit(g, "\r\n");
    forwarded_as(g, SB_STR("X-Forwarded-Proto"), sb_request_forwarded_proto(x));
    forwarded_as(g, SB_STR("X-Forwarded-Host"), sb_request_forwarded_host(x));
    value = TRUSTED(x, PORT, "x_forwarded_port");
    forwarded_as(g, SB_STR("X-Forwarded-Port"),
                 value.p ? value : sb_str_c(x->c->listener->listen->port_text));
    value = TRUSTED(x, PATH, "x_forwarded_path");
    forwarded_as(g, SB_STR("X-Forwarded-Path"), value.p ? value : x->req.path);
    forwarded_prefix(x, g);
}

static void via(struct sb_exchange *x, struct sb_gather *g)
{
    struct sb_str before = sb_http_get(&x->req, SB_H_VIA);

    sb_gather_lit(g, "Via: ");
    if (before.p) {
        sb_gather_str(g, before);
        sb_gather_lit(g, ", ");
    }
    switch (x->req.version) {
    case 9:
        sb_gather_lit(g, "0.9 ");
        break;
    case 10:
        sb_gather_lit(g, "1 "); /* Kong's spelling of 1.0 */
        break;
    case 11:
        sb_gather_lit(g, "1.1 ");
        break;
    case SB_HTTP_2:
        sb_gather_lit(g, "2 ");
        break;
    default: /* Kong leaves it out */
        break;
    }
    sb_gather_lit(g, SB_PRODUCT "\r\n");
}

static void framing(struct sb_exchange *x, struct sb_gather *g)
{
    if (!x->body.stream && !sb_body_trails(x) &&
        (x->body.received || sb_http_has(&x->req, SB_H_CONTENT_LENGTH) ||
         x->req.framing == SB_BODY_CHUNKED)) {
        sb_gather_lit(g, "Content-Length: ");
        sb_gather_uint(g, x->body.received);
        sb_gather_lit(g, "\r\n");
    } else if (x->req.framing == SB_BODY_CHUNKED) {
        sb_gather_lit(g, "Transfer-Encoding: chunked\r\n");
    } else if (x->req.framing == SB_BODY_LENGTH) {
        sb_gather_lit(g, "Content-Length: ");
        sb_gather_uint(g, x->req.content_length);
        sb_gather_lit(g, "\r\n");
    }
}

/* -- the client's headers -- */

/* Connection names headers that are for us alone. All lines of it count. */
static bool named_by_connection(const struct sb_exchange *x, struct sb_str name)
{
    for (size_t i = 0; i < x->req.nheaders; i++)
        if (x->req.ids[i] == SB_H_CONNECTION && sb_http_list_has(x->req.headers[i].value, name))
            return true;
    return false;
}

/* keep-alive, close and upgrade, the values that nearly everyone sends, name nothing. */
static bool connection_names(const struct sb_exchange *x)
{
    struct sb_str value;

    for (size_t i = 0; i < x->req.nheaders; i++) {
        if (x->req.ids[i] != SB_H_CONNECTION)
            continue;
        value = x->req.headers[i].value;
        if (!sb_str_ieq(value, SB_STR("keep-alive")) && !sb_str_ieq(value, SB_STR("close")) &&
            !sb_str_ieq(value, SB_STR("upgrade")))
            return true;
    }
    return false;
}

static void client_headers(struct sb_exchange *x, struct sb_gather *g)
{
    bool names = sb_http_has(&x->req, SB_H_CONNECTION) && connection_names(x);

    for (size_t i = 0; i < x->req.nheaders; i++) {
        const struct sb_router_header *h = &x->req.headers[i];

        if (replaced >> x->req.ids[i] & 1)
            continue;
        if (names && named_by_connection(x, h->name))
            continue;
        if (x->request_changes && sb_change_find(x->request_changes, h->name))
            continue;
        sb_gather_header(g, h->name, h->value);
    }
    for (const struct sb_header_change *c = x->request_changes; c; c = c->next)
        if (c->value.p && !(replaced >> sb_http_name(c->name) & 1))
            sb_gather_header(g, c->name, c->value);
}

bool sb_request_build(struct sb_exchange *x, struct sb_gather *g)
{
    char host[SB_UPSTREAM_HOST_MAX];
    size_t host_len = sb_upstream_host(x, host);

    if (!request_line(x, g) || host_len == 0)
        return false;
    sb_gather_lit(g, "Host: ");
    sb_gather_add(g, host, host_len);
    if (x->websocket)
        sb_gather_lit(g, "\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n");
    else
        sb_gather_lit(g, "\r\nConnection: keep-alive\r\n");
    forwarded(x, g);
    via(x, g);
    if (x->w->o->upstream_request_id) {
        sb_gather_lit(g, "X-Kong-Request-Id: ");
        sb_gather_add(g, x->id, sizeof x->id);
        sb_gather_lit(g, "\r\n");
    }
    if (sb_http_has_token(&x->req, SB_H_TE, SB_STR("trailers")))
        sb_gather_lit(g, "TE: trailers\r\n");
    framing(x, g);
    client_headers(x, g);
    sb_gather_lit(g, "\r\n");
    return !g->full;
}
