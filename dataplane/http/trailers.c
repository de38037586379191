#include "dataplane/http/trailers.h"

#include <string.h>

/* Fields that mean something before the body only (RFC 9110 6.5.1), or that we vouch for. */
bool sb_http_may_trail(struct sb_str name)
{
    static const char *const never[] = {"transfer-encoding",
                                        "content-length",
                                        "host",
                                        "content-encoding",
                                        "content-type",
                                        "content-range",
                                        "trailer",
                                        "te",
                                        "connection",
                                        "keep-alive",
                                        "proxy",
                                        "proxy-connection",
                                        "upgrade",
                                        "expect",
                                        "cache-control",
                                        "max-forwards",
                                        "pragma",
                                        "range",
                                        "if-match",
                                        "if-none-match",
                                        "if-modified-since",
                                        "if-unmodified-since",
                                        "if-range",
                                        "authorization",
                                        "proxy-authorization",
                                        "proxy-authenticate",
                                        "www-authenticate",
                                        "authentication-info",
                                        "proxy-authentication-info",
                                        "cookie",
                                        "set-cookie",
                                        "age",
                                        "date",
                                        "expires",
                                        "location",
                                        "retry-after",
                                        "vary",
                                        "warning",
                                        "via",
                                        "server",
                                        "forwarded",
                                        "x-real-ip"};
    static const char *const families[] = {"x-forwarded-", "x-kong-",       "x-accel-",
                                           "x-consumer-",  "x-credential-", "x-anonymous-"};

    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (sb_http_name_is(name, sb_str_c(never[i])))
            return false;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (sb_http_name_is(sb_str_first(name, strlen(families[i])), sb_str_c(families[i])))
            return false;
    return true;
}

void sb_trailers_add(struct sb_arena *a, struct sb_trailers *t, struct sb_str piece)
{
    if (piece.len > t->cap - t->len) {
        size_t cap = 2 * (t->len + piece.len);
        char *raw = sb_arena_alloc(a, cap);

        memcpy(raw, t->raw ? t->raw : "", t->len);
        t->raw = raw;
        t->cap = cap;
    }
    memcpy(t->raw + t->len, piece.p, piece.len);
    t->len += piece.len;
}

bool sb_trailers_put(struct sb_arena *a, struct sb_trailers *t, struct sb_str name,
                     struct sb_str value)
{
    if (!sb_http_may_trail(name))
        return true;
    if (t->n == SB_TRAILERS_MAX)
        return false;
    if (!t->fields)
        t->fields = SB_NEW_N(a, struct sb_router_header, SB_TRAILERS_MAX);
    t->fields[t->n].name = sb_arena_str(a, name);
    t->fields[t->n++].value = sb_arena_str(a, value);
    return true;
}

bool sb_trailers_end(struct sb_arena *a, struct sb_trailers *t)
{
    struct sb_http_head h = {.headers_max = SB_TRAILERS_MAX};

    if (t->len == 0)
        return true;
    h.headers = SB_NEW_N(a, struct sb_router_header, SB_TRAILERS_MAX);
    h.ids = SB_NEW_N(a, uint8_t, SB_TRAILERS_MAX);
    if (sb_http_parse_trailers(&h, t->raw, t->len))
        return false;
    t->fields = h.headers;
    t->n = h.nheaders;
    return true;
}

struct sb_str sb_trailers_text(struct sb_arena *a, const struct sb_trailers *t)
{
    size_t len = 0;
    char *p, *start;

    for (size_t i = 0; i < t->n; i++)
        len += t->fields[i].name.len + t->fields[i].value.len + 4;
    p = start = sb_arena_alloc(a, len + 1);
    for (size_t i = 0; i < t->n; i++) {
        p = mempcpy(p, t->fields[i].name.p, t->fields[i].name.len);
        p = mempcpy(p, ": ", 2);
        p = mempcpy(p, t->fields[i].value.p, t->fields[i].value.len);
        p = mempcpy(p, "\r\n", 2);
    }
    return sb_str_n(start, len);
}
