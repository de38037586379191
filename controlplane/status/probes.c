/* probes.c - see probes.h. */
#include "controlplane/status/probes.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <stdlib.h>

enum { REQUEST_MAX = 16 << 10, TIMEOUT_S = 10 };

#define TEXT_PLAIN "text/plain; charset=utf-8"

struct sb_probes {
    struct sb_probes_config config;
    struct evhttp *health, *metrics;
};

static void answer(struct evhttp_request *request, int status, const char *type, struct sb_str body)
{
    struct evbuffer *out = evbuffer_new();

    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", type);
    evbuffer_add(out, body.p, body.len);
    evhttp_send_reply(request, status, NULL, out);
    evbuffer_free(out);
}

static void on_healthz(struct evhttp_request *request, void *arg)
{
    (void)arg;
    answer(request, 200, TEXT_PLAIN, SB_STR("ok"));
}

static void on_readyz(struct evhttp_request *request, void *arg)
{
    const struct sb_probes *p = arg;
    const char *why = p->config.not_ready(p->config.arg);
    struct sb_buf text;

    sb_buf_init(&text, 0);
    if (why)
        sb_buf_printf(&text, "internal server error: %s\n", why);
    else
        sb_buf_cstr(&text, "ok");
    answer(request, why ? 500 : 200, TEXT_PLAIN, sb_buf_get(&text));
    sb_buf_release(&text);
}

static void on_metrics(struct evhttp_request *request, void *arg)
{
    const struct sb_probes *p = arg;
    struct sb_buf text;

    sb_buf_init(&text, 0);
    p->config.write_metrics(p->config.arg, &text);
    answer(request, 200, "text/plain; version=0.0.4; charset=utf-8", sb_buf_get(&text));
    sb_buf_release(&text);
}

/* Of ":8080", "1.2.3.4:8080" or "[::1]:8080". */
static struct evhttp *bound(struct event_base *base, const char *address, const char *colon)
{
    struct evhttp *http = evhttp_new(base);
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str host = sb_str_n(address, (size_t)(colon - address));
    int64_t port = 0;
    bool ok;

    if (host.len > 1 && host.p[0] == '[')
        host = sb_str_n(host.p + 1, host.len - 2);
    evhttp_set_max_headers_size(http, REQUEST_MAX);
    evhttp_set_max_body_size(http, REQUEST_MAX);
    evhttp_set_timeout(http, TIMEOUT_S);
    ok = sb_str_int(sb_str_c(colon + 1), &port) &&
         !evhttp_bind_socket(http, host.len ? sb_arena_cstr(a, host) : "0.0.0.0", (uint16_t)port);
    sb_arena_free(a);
    if (ok)
        return http;
    evhttp_free(http);
    return NULL;
}

static enum sb_rc listen_on(struct sb_probes *p, const char *address, const char *flag,
                            struct evhttp **out, struct sb_err *err)
{
    const char *colon = address ? strrchr(address, ':') : NULL;

    if (!colon)
        return SB_OK;
    *out = bound(p->config.base, address, colon);
    if (*out)
        return SB_OK;
    return sb_err_set(err, SB_IO, "--%s: cannot listen on %s: %s", flag, address, strerror(errno));
}

enum sb_rc sb_probes_start(const struct sb_probes_config *config, struct sb_probes **out,
                           struct sb_err *err)
{
    struct sb_probes *p = sb_xcalloc(1, sizeof *p);
    enum sb_rc rc;

    p->config = *config;
    rc = listen_on(p, config->health, "health-probe-bind-address", &p->health, err);
    if (!rc)
        rc = listen_on(p, config->metrics, "metrics-bind-address", &p->metrics, err);
    if (rc) {
        sb_probes_stop(p);
        return rc;
    }
    if (p->health) {
        evhttp_set_cb(p->health, "/healthz", on_healthz, p);
        evhttp_set_cb(p->health, "/readyz", on_readyz, p);
    }
    if (p->metrics)
        evhttp_set_cb(p->metrics, "/metrics", on_metrics, p);
    *out = p;
    return SB_OK;
}

void sb_probes_stop(struct sb_probes *p)
{
    if (!p)
        return;
    if (p->health)
        evhttp_free(p->health);
    if (p->metrics)
        evhttp_free(p->metrics);
    free(p);
}
