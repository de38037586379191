/* options.c - settings to structs: listeners, trusted addresses, header tokens, limits. */
#include "dataplane/listen/options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

#include "dataplane/http/parse.h"
#include "dataplane/listen/limits.h"
#include "shared/buf.h"
#include "shared/log.h"
#include "shared/uuid.h"
#include "shared/vec.h"

/* -- injected directives -- */

static const char *directive(const struct sb_settings *s, const char *name)
{
    return sb_settings_str(s, sb_settings_directive(s, name));
}

static int64_t size_of(const struct sb_settings *s, const char *name, int64_t def)
{
    return sb_settings_size(s, sb_settings_directive(s, name), def);
}

static int64_t time_ms(const struct sb_settings *s, const char *name, int64_t def)
{
    return sb_settings_time_ms(s, sb_settings_directive(s, name), def);
}

/* -- proxy_listen -- */

static enum sb_rc bad_listen(const char *name, struct sb_err *err)
{
    return sb_err_set(err, SB_INVALID, SB_LISTEN_GRAMMAR, name);
}

/* Seconds, with nginx's unit letters; "" is 0, the system's default. */
static bool keepalive_number(struct sb_str s, int *out)
{
    int64_t n = 0, unit = 1;

    if (s.len && (s.p[s.len - 1] == 'm' || s.p[s.len - 1] == 's')) {
        unit = s.p[s.len - 1] == 'm' ? 60 : 1;
        s.len--;
    }
    if (s.len && (!sb_str_int(s, &n) || n < 0 || n > 86400))
        return false;
    *out = (int)(n * unit);
    return true;
}

static bool parse_keepalive(struct sb_str value, struct sb_listen *l)
{
    struct sb_str piece;
    int *const parts[] = {&l->keepalive_idle_s, &l->keepalive_interval_s, &l->keepalive_count};
    size_t n = 0;

    l->so_keepalive_set = true;
    l->so_keepalive = !sb_str_is(value, "off");
    if (sb_str_is(value, "on") || sb_str_is(value, "off"))
        return true;
    while (sb_str_split(&value, ':', &piece))
        if (n == 3 || !keepalive_number(piece, parts[n++]))
            return false;
    return n == 3;
}

static bool parse_flag(struct sb_str flag, struct sb_listen *l)
{
    int64_t n;

    if (sb_str_is(flag, "ssl"))
        l->ssl = true;
    else if (sb_str_is(flag, "http2"))
        l->http2 = true;
    else if (sb_str_is(flag, "proxy_protocol"))
        l->proxy_protocol = true;
    else if (sb_str_is(flag, "deferred"))
        l->deferred = true;
    else if (sb_str_is(flag, "ipv6only=on") || sb_str_is(flag, "ipv6only=off"))
        l->ipv6only = sb_str_ends(flag, SB_STR("on"));
    else if (sb_str_starts(flag, SB_STR("so_keepalive=")))
        return parse_keepalive(sb_str_from(flag, 13), l);
    else if (sb_str_starts(flag, SB_STR("backlog=")) && sb_str_int(sb_str_from(flag, 8), &n) &&
             n > 0 && n <= INT32_MAX)
        l->backlog = (int)n;
    else
        return sb_str_is(flag, "bind") || sb_str_is(flag, "reuseport");
    return true;
}

/* Names are resolved here, once, by the system's resolver. */
static bool resolve_address(struct sb_arena *a, struct sb_str host, uint16_t port,
                            struct sb_listen *l)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    bool ok;

    if (host.len > 2 && host.p[0] == '[' && host.p[host.len - 1] == ']')
        host = sb_str_n(host.p + 1, host.len - 2);
    ok = host.len && getaddrinfo(sb_arena_cstr(a, host), NULL, &hints, &list) == 0 && list;
    if (ok) {
        memcpy(&l->addr, list->ai_addr, list->ai_addrlen);
        l->addr_len = list->ai_addrlen;
        if (l->addr.ss_family == AF_INET6)
            ((struct sockaddr_in6 *)&l->addr)->sin6_port = htons(port);
        else
            ((struct sockaddr_in *)&l->addr)->sin_port = htons(port);
    }
    if (list)
        freeaddrinfo(list);
    return ok;
}

static bool parse_listen(struct sb_arena *a, struct sb_str item, struct sb_listen *l)
{
    struct sb_str word;
    ptrdiff_t colon;
    int64_t port;

    *l = (struct sb_listen){.ipv6only = true, .backlog = 511};
    item = sb_str_trim(item);
    if (!sb_str_split(&item, ' ', &word))
        return false;
    l->text = sb_arena_str(a, word);
    colon = sb_str_rchr(word, ':');
    if (colon <= 0 || !sb_str_int(sb_str_from(word, (size_t)colon + 1), &port) || port < 0 ||
        port > 65535)
        return false;
    l->port = l->forwarded_port = (uint16_t)port;
    if (!resolve_address(a, sb_str_first(word, (size_t)colon), l->port, l))
        return false;
    while (sb_str_split(&item, ' ', &word))
        if (word.len && !parse_flag(word, l))
            return false;
    return true;
}

enum sb_rc sb_listen_parse(struct sb_arena *a, const char *name, const struct sb_str *items,
                           size_t n, struct sb_listen **out, size_t *nout, struct sb_err *err)
{
    struct sb_listen *list = SB_NEW_N(a, struct sb_listen, n ? n : 1);

    if (n == 0)
        return bad_listen(name, err);
    *out = list;
    *nout = 0;
    if (sb_str_is(items[0], "off"))
        return SB_OK;
    for (size_t i = 0; i < n; i++)
        if (!parse_listen(a, items[i], &list[i]))
            return sb_err_set(err, SB_INVALID, SB_LISTEN_GRAMMAR ", not '%.*s'", name,
                              SB_ARG(items[i]));
    *nout = n;
    return SB_OK;
}

/* -- port_maps -- */

static enum sb_rc map_ports(struct sb_proxy_options *o, struct sb_err *err)
{
    size_t n;
    const struct sb_str *items = sb_settings_list(o->settings, "port_maps", &n);

    for (size_t i = 0; i < n; i++) {
        ptrdiff_t colon = sb_str_chr(items[i], ':', 0);
        int64_t outside, inside;

        if (colon < 0 || !sb_str_int(sb_str_first(items[i], (size_t)colon), &outside) ||
            !sb_str_int(sb_str_from(items[i], (size_t)colon + 1), &inside) || outside < 1 ||
            outside > 65535 || inside < 1 || inside > 65535)
            return sb_err_set(err, SB_INVALID, "invalid port mapping (`port_maps`): %.*s",
                              SB_ARG(items[i]));
        for (size_t k = 0; k < o->nlistens; k++)
            if (o->listens[k].port == inside)
                o->listens[k].forwarded_port = (uint16_t)outside;
    }
    for (size_t k = 0; k < o->nlistens; k++)
        snprintf(o->listens[k].port_text, sizeof o->listens[k].port_text, "%u",
                 o->listens[k].forwarded_port);
    return SB_OK;
}

/* -- trusted_ips -- */

bool sb_cidr_parse(struct sb_str text, struct sb_cidr *out)
{
    ptrdiff_t slash = sb_str_chr(text, '/', 0);
    char addr[INET6_ADDRSTRLEN];
    int64_t bits = -1;
    struct in_addr v4;

    if (slash >= 0 && !sb_str_int(sb_str_from(text, (size_t)slash + 1), &bits))
        return false;
    if (slash >= 0)
        text = sb_str_first(text, (size_t)slash);
    if (text.len >= sizeof addr)
        return false;
    memcpy(addr, text.p, text.len);
    addr[text.len] = '\0';
    *out = (struct sb_cidr){.bits = 128};
    if (inet_pton(AF_INET, addr, &v4) == 1) {
        out->addr[10] = out->addr[11] = 0xff;
        memcpy(out->addr + 12, &v4, 4);
        out->bits = bits < 0 ? 128 : (unsigned)bits + 96;
        return bits <= 32;
    }
    out->bits = bits < 0 ? 128 : (unsigned)bits;
    return bits <= 128 && inet_pton(AF_INET6, addr, out->addr) == 1;
}

static bool within(const struct sb_cidr *c, const uint8_t addr[16])
{
    unsigned whole = c->bits / 8, rest = c->bits % 8;

    if (memcmp(c->addr, addr, whole) != 0)
        return false;
    return !rest || (c->addr[whole] ^ addr[whole]) >> (8 - rest) == 0;
}

bool sb_cidr_has(const struct sb_cidr *set, size_t n, const struct sockaddr *sa)
{
    uint8_t addr[16] = {[10] = 0xff, [11] = 0xff};

    if (sa->sa_family == AF_INET)
        memcpy(addr + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
    else if (sa->sa_family == AF_INET6)
        memcpy(addr, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
    else
        return false;
    for (size_t i = 0; i < n; i++)
        if (within(&set[i], addr))
            return true;
    return false;
}

enum { MORE_MAX = 64 };

/* set_real_ip_from: one range, or several as they are smuggled in, each behind ";
 * set_real_ip_from".
 */
static enum sb_rc add_real_from(struct sb_proxy_options *o, const char *text, struct sb_err *err)
{
    struct sb_str rest = sb_str_c(text ? text : ""), piece;
    size_t max = o->nreal + MORE_MAX;

    while (sb_str_split(&rest, ';', &piece)) {
        piece = sb_str_trim(piece);
        if (sb_str_starts(piece, SB_STR("set_real_ip_from ")))
            piece = sb_str_trim(sb_str_from(piece, 17));
        if (piece.len == 0 || sb_str_is(piece, "unix:"))
            continue;
        if (o->nreal == max || !sb_cidr_parse(piece, &o->trusted[o->nreal++]))
            return sb_err_set(err, SB_INVALID, "set_real_ip_from: invalid value '%.*s'",
                              SB_ARG(piece));
    }
    return SB_OK;
}

static enum sb_rc load_trusted(struct sb_proxy_options *o, struct sb_err *err)
{
    const struct sb_settings *s = o->settings;
    size_t n;
    const struct sb_str *items = sb_settings_list(s, "trusted_ips", &n);
    const char *header = directive(s, "real_ip_header"),
               *recursive = directive(s, "real_ip_recursive");

    o->trusted = SB_NEW_N(o->arena, struct sb_cidr, n + MORE_MAX);
    for (size_t i = 0; i < n; i++) {
        if (sb_str_is(items[i], "unix:"))
            continue; /* we have no such listeners */
        if (!sb_cidr_parse(items[i], &o->trusted[o->ntrusted++]))
            return sb_err_set(err, SB_INVALID,
                              "trusted_ips must be a comma separated list in the form of IPv4 or "
                              "IPv6 address or CIDR block or 'unix:', got '%.*s'",
                              SB_ARG(items[i]));
    }
    o->nreal = o->ntrusted;
    if (!header)
        header = sb_settings_str(s, "real_ip_header");
    o->real_ip_header = sb_arena_str(o->arena, sb_str_c(header ? header : "X-Real-IP"));
    o->real_ip_recursive =
        recursive ? strcmp(recursive, "on") == 0 : sb_settings_bool(s, "real_ip_recursive");
    return add_real_from(o, directive(s, "set_real_ip_from"), err);
}

/* -- headers -- */

static const struct {
    const char *name;
    unsigned bits;
} tokens[] = {
    {"server_tokens", SB_TOKEN_SERVER | SB_TOKEN_VIA},
    {"latency_tokens",
     SB_TOKEN_PROXY_LATENCY | SB_TOKEN_RESPONSE_LATENCY | SB_TOKEN_UPSTREAM_LATENCY},
    {"via", SB_TOKEN_VIA},
    {"server", SB_TOKEN_SERVER},
    {"x-kong-proxy-latency", SB_TOKEN_PROXY_LATENCY},
    {"x-kong-response-latency", SB_TOKEN_RESPONSE_LATENCY},
    {"x-kong-admin-latency", 0},
    {"off", 0}, /* means something only where it comes first */
    {"x-kong-upstream-latency", SB_TOKEN_UPSTREAM_LATENCY},
    {"x-kong-upstream-status", SB_TOKEN_UPSTREAM_STATUS},
    {"x-kong-request-id", SB_TOKEN_REQUEST_ID},
};

static enum sb_rc load_tokens(const struct sb_settings *s, const char *name, unsigned *out,
                              struct sb_err *err)
{
    size_t n;
    const struct sb_str *items = sb_settings_list(s, name, &n);

    *out = 0;
    if (n && sb_str_is(items[0], "off"))
        return SB_OK;
    for (size_t i = 0, k; i < n; i++) {
        for (k = 0; k < sizeof tokens / sizeof *tokens; k++)
            if (sb_str_ieq(items[i], sb_str_c(tokens[k].name)))
                break;
        if (k == sizeof tokens / sizeof *tokens)
            return sb_err_set(err, SB_INVALID, "%s: invalid entry '%.*s'", name, SB_ARG(items[i]));
        *out |= tokens[k].bits;
    }
    return SB_OK;
}

/* -- errors -- */

static const struct {
    const char *name, *type;
} formats[SB_FORMATS] = {
    [SB_FORMAT_JSON] = {"error_template_json", "application/json"},
    [SB_FORMAT_PLAIN] = {"error_template_plain", "text/plain"},
    [SB_FORMAT_HTML] = {"error_template_html", "text/html"},
    [SB_FORMAT_XML] = {"error_template_xml", "application/xml"},
};

enum { TEMPLATE_LEN_MAX = 1 << 20 };

static enum sb_rc load_errors(struct sb_proxy_options *o, struct sb_err *err)
{
    const char *type = sb_settings_str(o->settings, "error_default_type");
    struct sb_buf file;

    o->error_default = SB_FORMAT_PLAIN;
    for (size_t i = 0; i < SB_FORMATS; i++) {
        const char *path = sb_settings_str(o->settings, formats[i].name);

        if (type && strcmp(type, formats[i].type) == 0)
            o->error_default = (enum sb_error_format)i;
        if (!path)
            continue;
        sb_buf_init(&file, TEMPLATE_LEN_MAX);
        if (sb_buf_read_file(&file, sb_settings_path(o->settings, o->arena, path).p))
            o->error_template[i] = sb_arena_str(o->arena, sb_buf_get(&file));
        sb_buf_release(&file);
        if (!o->error_template[i].p)
            return sb_err_set(err, SB_INVALID, "%s: cannot read %s", formats[i].name, path);
    }
    return SB_OK;
}

/* -- limits -- */

enum {
    HALF_CLOSED_MS = 1000,
    RESPONSE_BUFFERS = 8,
    RESPONSE_BUFFER_LEN = 4096,
    RESPONSE_FILE_MAX = 1 << 30,
    H2_STREAMS = 128,
    H2_STREAMS_MAX = 10000,
};

/* nginx's "number size", up to 64 of a MiB; anything else leaves both as they are. */
static void buffers(const char *text, size_t *number, size_t *size)
{
    unsigned n, each;
    char unit = 0;
    size_t len;

    if (!text || sscanf(text, "%u %u%c", &n, &each, &unit) < 2 || n == 0 || each == 0)
        return;
    len = (size_t)each * (unit == 'k' || unit == 'K' ? 1024 : unit == 'm' ? 1 << 20 : 1);
    *size = len > 1 << 20 ? 1 << 20 : len;
    *number = n > 64 ? 64 : n;
}

static void load_header_buffers(struct sb_proxy_options *o)
{
    size_t n = SB_HTTP_HEAD_MAX / SB_HTTP_LINE_MAX;

    o->line_max = SB_HTTP_LINE_MAX;
    buffers(directive(o->settings, "large_client_header_buffers"), &n, &o->line_max);
    o->head_max = o->line_max * n;
}

/* "8 4k" buffers of a response in memory, and the file behind them. */
static void load_response_buffers(struct sb_proxy_options *o)
{
    const struct sb_settings *s = o->settings;
    const char *on = directive(s, "proxy_buffering");
    size_t n = RESPONSE_BUFFERS, size = RESPONSE_BUFFER_LEN;

    buffers(directive(s, "proxy_buffers"), &n, &size);
    o->response_buffering = !sb_str_is(sb_str_c(on), "off");
    o->response_memory = n * size;
    o->response_file_max = (uint64_t)size_of(s, "proxy_max_temp_file_size", RESPONSE_FILE_MAX);
}

static void load_retries(struct sb_proxy_options *o)
{
    static const struct {
        const char *word;
        unsigned bit;
    } words[] = {
        {"error", SB_NEXT_ERROR},
        {"timeout", SB_NEXT_TIMEOUT},
        {"invalid_header", SB_NEXT_INVALID},
        {"non_idempotent", SB_NEXT_ANY_METHOD},
        {"http_403", SB_NEXT_403},
        {"http_404", SB_NEXT_404},
        {"http_429", SB_NEXT_429},
        {"http_500", SB_NEXT_500},
        {"http_502", SB_NEXT_502},
        {"http_503", SB_NEXT_503},
        {"http_504", SB_NEXT_504},
    };
    const char *text = directive(o->settings, "proxy_next_upstream");
    struct sb_str rest = sb_str_c(text ? text : "error timeout"), word;

    while (sb_str_split(&rest, ' ', &word))
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (sb_str_is(word, words[i].word))
                o->next |= words[i].bit;
    o->next_tries = (unsigned)sb_settings_int(
        o->settings, sb_settings_directive(o->settings, "proxy_next_upstream_tries"), 0);
    o->next_timeout_ms = time_ms(o->settings, "proxy_next_upstream_timeout", 0);
}

static void load_limits(struct sb_proxy_options *o)
{
    const struct sb_settings *s = o->settings;
    const char *requests = directive(s, "keepalive_requests");
    const char *charset = directive(s, "charset");
    int64_t n;

    load_header_buffers(o);
    load_response_buffers(o);
    load_retries(o);
    n = sb_settings_int(s, sb_settings_directive(s, "http2_max_concurrent_streams"), 0);
    o->h2_streams = n > 0 && n <= H2_STREAMS_MAX ? (uint32_t)n : H2_STREAMS;
    o->body_max = (uint64_t)size_of(s, "client_max_body_size", 0);
    o->body_memory = (size_t)size_of(s, "client_body_buffer_size", 8192);
    o->header_timeout_ms = time_ms(s, "client_header_timeout", 60000);
    o->body_timeout_ms = time_ms(s, "client_body_timeout", 60000);
    o->send_timeout_ms = time_ms(s, "send_timeout", 60000);
    o->keepalive_timeout_ms = time_ms(s, "keepalive_timeout", 75000);
    o->half_closed_ms = HALF_CLOSED_MS;
    if (sb_str_is(sb_str_c(directive(s, "proxy_ignore_client_abort")), "on"))
        o->half_closed_ms = INT32_MAX;
    o->keepalive_requests = 10000;
    if (requests && sb_str_int(sb_str_c(requests), &n) && n >= 0)
        o->keepalive_requests = (uint64_t)n;
    o->charset = sb_arena_str(o->arena, sb_str_c(charset ? charset : "UTF-8"));
    if (sb_str_is(o->charset, "off"))
        o->charset.len = 0;
    o->pool_size = (size_t)sb_settings_int(s, "upstream_keepalive_pool_size", 512);
    o->pool_requests = (uint64_t)sb_settings_int(s, "upstream_keepalive_max_requests", 10000);
    o->pool_idle_ms = (int64_t)(sb_settings_num(s, "upstream_keepalive_idle_timeout", 60) * 1000);
}

/* Given, or a new one for each start; either way where an administrator of the node finds it. */
static void load_debug(struct sb_proxy_options *o)
{
    const char *given = sb_settings_str(o->settings, "request_debug_token");
    const char *path = sb_settings_path(o->settings, o->arena, ".request_debug_token").p;
    char random[SB_UUID_TEXT_LEN + 1];
    struct sb_uuid id;
    int fd;

    o->request_debug = sb_settings_bool(o->settings, "request_debug");
    if (!o->request_debug)
        return;
    if (!given) {
        id = sb_uuid_v4();
        sb_uuid_format(&id, random);
        given = random;
    }
    o->debug_token = sb_arena_str(o->arena, sb_str_c(given));
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, o->debug_token.p, o->debug_token.len) < 0)
        sb_info("%s cannot be written: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

static void load_workers(struct sb_proxy_options *o)
{
    const char *text = sb_settings_str(o->settings, "nginx_main_worker_processes");
    int64_t n = 0;

    if (!text)
        text = sb_settings_str(o->settings, "nginx_worker_processes");
    if (!text || !sb_str_int(sb_str_c(text), &n) || n < 1)
        n = sb_limits_cores();
    o->workers = n < 1 ? 1 : n > 1024 ? 1024 : (unsigned)n;
    text = sb_settings_str(o->settings, "nginx_events_worker_connections");
    if (text && sb_str_int(sb_str_c(text), &n) && n > 0 && n <= UINT32_MAX)
        o->connections_max = (unsigned)n;
}

enum sb_rc sb_proxy_options_load(const struct sb_settings *settings, struct sb_proxy_options **out,
                                 struct sb_err *err)
{
    struct sb_arena *arena = sb_arena_new(0);
    struct sb_proxy_options *o = SB_NEW(arena, struct sb_proxy_options);
    const char *flavor = sb_settings_str(settings, "router_flavor");
    unsigned upstream_tokens = 0, wants;
    size_t n;
    const struct sb_str *items = sb_settings_list(settings, "proxy_listen", &n);
    enum sb_rc rc;

    o->arena = arena;
    o->settings = settings;
    rc = sb_listen_parse(arena, "proxy_listen", items, n, &o->listens, &o->nlistens, err);
    for (size_t i = 0; !rc && i < o->nlistens; i++)
        o->http2 |= o->listens[i].http2;
    if (!rc)
        rc = map_ports(o, err);
    if (!rc)
        rc = load_trusted(o, err);
    if (!rc)
        rc = load_tokens(settings, "headers", &o->tokens, err);
    if (!rc)
        rc = load_tokens(settings, "headers_upstream", &upstream_tokens, err);
    if (!rc)
        rc = load_errors(o, err);
    if (!rc)
        rc = sb_access_options_load(arena, settings, &o->access, err);
    if (rc) {
        sb_arena_free(arena);
        return rc;
    }
    o->upstream_request_id = upstream_tokens & SB_TOKEN_REQUEST_ID;
    o->allow_debug_header = sb_settings_bool(settings, "allow_debug_header");
    wants = o->access.format ? sb_log_format_wants(o->access.format) : 0;
    o->log_wants_response = wants & SB_LOG_WANTS_RESPONSE;
    o->wants_local_ip =
        (flavor && strcmp(flavor, "expressions") == 0) || (wants & SB_LOG_WANTS_LOCAL_IP);
    o->temp_dir = sb_settings_path(settings, arena, "").p;
    load_limits(o);
    load_workers(o);
    load_debug(o);
    *out = o;
    return SB_OK;
}

void sb_proxy_options_free(struct sb_proxy_options *o)
{
    if (o)
        sb_arena_free(o->arena);
}
