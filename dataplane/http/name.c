/* name.c - header names that the engine knows, and lookups by them. */
#include "dataplane/http/parse.h"

static bool same_name(struct sb_str name, const char *lower)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.p[i];

        if (c >= 'A' && c <= 'Z')
            c |= 0x20;
        if (c != lower[i])
            return false;
    }
    return true;
}

bool sb_http_name_is(struct sb_str name, struct sb_str lower)
{
    for (size_t i = 0; i < lower.len && i < name.len; i++) {
        char c = name.p[i];

        if (c >= 'A' && c <= 'Z')
            c |= 0x20;
        if (c != lower.p[i] && (c != '_' || lower.p[i] != '-'))
            return false;
    }
    return name.len == lower.len;
}

#define TRY(text, id)                                                                              \
    if (same_name(name, text))                                                                     \
    return SB_H_##id

enum sb_http_name sb_http_name(struct sb_str name)
{
    switch (name.len) {
    case 2:
        TRY("te", TE);
        break;
    case 3:
        TRY("via", VIA);
        break;
    case 4:
        TRY("host", HOST);
        TRY("date", DATE);
        TRY("etag", ONCE_ANSWERED);
        break;
    case 5:
        TRY("proxy", PROXY);
        TRY("x-pad", X_PAD);
        break;
    case 6:
        TRY("accept", ACCEPT);
        TRY("cookie", COOKIE);
        TRY("server", SERVER);
        TRY("expect", EXPECT);
        TRY("status", ONCE_ANSWERED);
        break;
    case 7:
        TRY("referer", REFERER);
        TRY("upgrade", UPGRADE);
        TRY("trailer", TRAILER);
        TRY("expires", ONCE_ANSWERED);
        TRY("refresh", ONCE_ANSWERED);
        break;
    case 8:
        TRY("if-match", ONCE_ASKED);
        TRY("if-range", ONCE_ASKED);
        TRY("location", ONCE_ANSWERED);
        break;
    case 9:
        TRY("x-real-ip", X_REAL_IP);
        break;
    case 10:
        TRY("connection", CONNECTION);
        TRY("user-agent", USER_AGENT);
        TRY("keep-alive", KEEP_ALIVE);
        TRY("kong-debug", KONG_DEBUG);
        break;
    case 12:
        TRY("content-type", CONTENT_TYPE);
        break;
    case 13:
        TRY("authorization", AUTHORIZATION);
        TRY("content-range", ONCE_ASKED);
        TRY("if-none-match", ONCE_ASKED);
        TRY("last-modified", ONCE_ANSWERED);
        break;
    case 14:
        TRY("content-length", CONTENT_LENGTH);
        break;
    case 15:
        TRY("x-forwarded-for", X_FORWARDED_FOR);
        TRY("x_forwarded_for", X_FORWARDED_SCORED);
        TRY("x-accel-expires", X_ACCEL);
        TRY("x-accel-charset", X_ACCEL);
        break;
    case 16:
        TRY("x-forwarded-host", X_FORWARDED_HOST);
        TRY("x-forwarded-port", X_FORWARDED_PORT);
        TRY("x-forwarded-path", X_FORWARDED_PATH);
        TRY("x_forwarded_host", X_FORWARDED_SCORED);
        TRY("x_forwarded_port", X_FORWARDED_SCORED);
        TRY("x_forwarded_path", X_FORWARDED_SCORED);
        TRY("proxy-connection", PROXY_CONNECTION);
        TRY("x-accel-redirect", X_ACCEL);
        break;
    case 17:
        TRY("transfer-encoding", TRANSFER_ENCODING);
        TRY("x-forwarded-proto", X_FORWARDED_PROTO);
        TRY("x_forwarded_proto", X_FORWARDED_SCORED);
        TRY("x-kong-request-id", X_KONG_REQUEST_ID);
        TRY("x-accel-buffering", X_ACCEL);
        TRY("if-modified-since", ONCE_ASKED);
        break;
    case 18:
        TRY("x-forwarded-prefix", X_FORWARDED_PREFIX);
        TRY("x_forwarded_prefix", X_FORWARDED_SCORED);
        TRY("x-accel-limit-rate", X_ACCEL);
        break;
    case 19:
        TRY("if-unmodified-since", ONCE_ASKED);
        break;
    case 20:
        TRY("x-kong-proxy-latency", X_KONG_PROXY_LATENCY);
        TRY("x-kong-request-debug", X_KONG_REQUEST_DEBUG);
        break;
    case 22:
        TRY("x-kong-upstream-status", X_KONG_UPSTREAM_STATUS);
        break;
    case 23:
        TRY("x-kong-upstream-latency", X_KONG_UPSTREAM_LATENCY);
        TRY("x-kong-response-latency", X_KONG_RESPONSE_LATENCY);
        break;
    case 24:
        TRY("x-kong-request-debug-log", X_KONG_REQUEST_DEBUG);
        break;
    case 26:
        TRY("x-kong-request-debug-token", X_KONG_REQUEST_DEBUG);
        break;
    default:
        break;
    }
    return SB_H_OTHER;
}
#undef TRY

struct sb_str sb_http_get(const struct sb_http_head *h, enum sb_http_name name)
{
    if (sb_http_has(h, name))
        for (size_t i = 0; i < h->nheaders; i++)
            if (h->ids[i] == name)
                return h->headers[i].value;
    return (struct sb_str){0};
}

struct sb_str sb_http_find(const struct sb_http_head *h, struct sb_str name)
{
    for (size_t i = 0; i < h->nheaders; i++)
        if (sb_str_ieq(h->headers[i].name, name))
            return h->headers[i].value;
    return (struct sb_str){0};
}

bool sb_http_list_has(struct sb_str list, struct sb_str token)
{
    struct sb_str item;

    while (sb_str_split(&list, ',', &item)) {
        ptrdiff_t semicolon = sb_str_chr(item, ';', 0);

        if (semicolon >= 0)
            item = sb_str_first(item, (size_t)semicolon);
        if (sb_str_ieq(sb_str_trim(item), token))
            return true;
    }
    return false;
}

bool sb_http_has_token(const struct sb_http_head *h, enum sb_http_name name, struct sb_str token)
{
    if (sb_http_has(h, name))
        for (size_t i = 0; i < h->nheaders; i++)
            if (h->ids[i] == name && sb_http_list_has(h->headers[i].value, token))
                return true;
    return false;
}
