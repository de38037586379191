/* debug.c - headers that tell a developer what happened: Kong-Route-Id and its like, and where the
 * time went (proxy-http.md 15).
 *
 *     X-Kong-Request-Debug: *            from this machine, or with the token of the prefix
 *     -> X-Kong-Request-Debug-Output: {"child":{"access":..,"upstream":..},"total_time":..}
 */
#include <stdio.h>
#include <string.h>

#include "dataplane/http/exchange.h"
#include "shared/log.h"

enum { OUTPUT_MAX = 512 };

static void route_headers(struct sb_exchange *x, struct sb_gather *g)
{
    if (!x->w->o->allow_debug_header || !x->route || !sb_http_has(&x->req, SB_H_KONG_DEBUG))
        return;
    sb_gather_header(g, SB_STR("Kong-Route-Id"), x->route->id);
    if (x->route->name.len)
        sb_gather_header(g, SB_STR("Kong-Route-Name"), x->route->name);
    if (!x->service)
        return;
    sb_gather_header(g, SB_STR("Kong-Service-Id"), x->service->id);
    if (x->service->name.len)
        sb_gather_header(g, SB_STR("Kong-Service-Name"), x->service->name);
}

/* -- where the time went ----------------------------------------------------------------------- */

/* In the time that it takes to compare all of it. */
static bool is_token(struct sb_str given, struct sb_str token)
{
    unsigned char differ = 0;

    if (token.len == 0 || given.len != token.len)
        return false;
    for (size_t i = 0; i < token.len; i++)
        differ |= (unsigned char)(given.p[i] ^ token.p[i]);
    return differ == 0;
}

static bool is_local(struct sb_str ip)
{
    return sb_str_starts(ip, SB_STR("127.")) || sb_str_is(ip, "::1");
}

/* The three headers of one name, so to say. */
static struct sb_str debug_header(const struct sb_exchange *x, const char *name)
{
    for (size_t i = 0; i < x->req.nheaders; i++)
        if (x->req.ids[i] == SB_H_X_KONG_REQUEST_DEBUG &&
            sb_http_name_is(x->req.headers[i].name, sb_str_c(name)))
            return x->req.headers[i].value;
    return (struct sb_str){0};
}

static bool may_ask(const struct sb_exchange *x)
{
    if (!sb_str_is(debug_header(x, "x-kong-request-debug"), "*"))
        return false;
    return is_local(x->client_ip) ||
           is_token(debug_header(x, "x-kong-request-debug-token"), x->w->o->debug_token);
}

static long long ms(int64_t us)
{
    return us > 0 ? us / 1000 : 0;
}

static void print_times(struct sb_exchange *x, char out[OUTPUT_MAX])
{
    int64_t total_us, upstream_us = 0, before_us;
    char upstream[128] = "";

    (void)sb_now_ms(x->w);
    total_us = x->w->now_us - x->start_us;
    before_us = total_us;
    if (x->try_us) {
        upstream_us = x->first_byte_us - x->try_us;
        before_us = x->try_us - x->start_us;
        snprintf(upstream, sizeof upstream,
                 ",\"upstream\":{\"child\":{\"time_to_first_byte\":{\"total_time\":%lld}},"
                 "\"total_time\":%lld}",
                 ms(upstream_us), ms(upstream_us));
    }
    snprintf(out, OUTPUT_MAX,
             "{\"child\":{\"access\":{\"total_time\":%lld}%s},\"request_id\":\"%.32s\","
             "\"total_time\":%lld,\"total_time_without_upstream\":%lld}",
             ms(before_us), upstream, x->id, ms(total_us), ms(total_us - upstream_us));
}

static void time_headers(struct sb_exchange *x, struct sb_gather *g)
{
    char text[OUTPUT_MAX];

    if (!x->w->o->request_debug || !sb_http_has(&x->req, SB_H_X_KONG_REQUEST_DEBUG) || !may_ask(x))
        return;
    print_times(x, text);
    sb_gather_lit(g, "X-Kong-Request-Debug-Output: ");
    for (const char *p = text; *p;) { /* text is gone when the message is sent: copied in pieces */
        size_t len = strlen(p) < SB_GATHER_COPY_MAX ? strlen(p) : SB_GATHER_COPY_MAX;

        sb_gather_add(g, p, len);
        p += len;
    }
    sb_gather_lit(g, "\r\n");
    if (sb_str_is(debug_header(x, "x-kong-request-debug-log"), "true"))
        sb_notice("[request-debug] id: %.32s output: %s", x->id, text);
}

void sb_debug_headers(struct sb_exchange *x, struct sb_gather *g)
{
    route_headers(x, g);
    time_headers(x, g);
}
