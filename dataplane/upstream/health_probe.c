#include "dataplane/upstream/health_probe.h"

#include <stdlib.h>

enum { GRPC_FRAME_HEAD = 5, GRPC_ANSWER_MAX = 4096 };

struct sb_probe {
    struct sb_http_call *call;
    void (*done)(void *arg, const struct sb_probe_result *result);
    void *arg;
    enum sb_health_type type;
    int status;
    int grpc_status; /* -1: not said */
};

static bool is_grpc(const struct sb_probe *p)
{
    return p->type == SB_CHECK_GRPC || p->type == SB_CHECK_GRPCS;
}

static bool is_tls(enum sb_health_type type)
{
    return type == SB_CHECK_HTTPS || type == SB_CHECK_GRPCS;
}

/* The status line is all that http is about: the call ends with the head of the answer. */
static bool on_header(void *arg, struct sb_str line)
{
    static const struct sb_str grpc_status = SB_STR_INIT("grpc-status:");
    struct sb_probe *p = arg;
    int64_t n;

    if (sb_str_starts(line, SB_STR("HTTP/"))) {
        ptrdiff_t space = sb_str_chr(line, ' ', 0);
        struct sb_str code = sb_str_first(sb_str_from(line, (size_t)(space + 1)), 3);

        p->status = space > 0 && sb_str_int(code, &n) ? (int)n : 0;
    } else if (sb_str_ieq(sb_str_first(line, grpc_status.len), grpc_status)) {
        if (sb_str_int(sb_str_trim(sb_str_from(line, grpc_status.len)), &n))
            p->grpc_status = (int)n;
    }
    return is_grpc(p) || line.len || p->status < 200;
}

/* HealthCheckResponse{status: SERVING}: field 1, a varint, 1. */
static bool serving(const struct sb_probe *p, struct sb_str body)
{
    struct sb_str message = sb_str_from(body, GRPC_FRAME_HEAD);

    return p->status == 200 && p->grpc_status == 0 && body.len > GRPC_FRAME_HEAD &&
           message.len >= 2 && message.p[0] == 8 && message.p[1] == 1;
}

static void on_done(void *arg, const struct sb_http_result *result)
{
    struct sb_probe *p = arg, probe = *p;
    struct sb_probe_result r = {.report = SB_HEALTH_TCP_FAILURE};

    if (is_grpc(p) && (p->status || result->rc == SB_OK))
        r.report = serving(p, result->body) ? SB_HEALTH_SUCCESS : SB_HEALTH_HTTP_FAILURE;
    else if (p->status >= 200)
        r.status = p->status;
    else if (p->type == SB_CHECK_TCP && result->rc == SB_OK)
        r.report = SB_HEALTH_SUCCESS;
    else if (result->rc == SB_TIMEOUT)
        r.report = SB_HEALTH_TIMEOUT;
    else if (result->garbled)
        r.report = SB_HEALTH_HTTP_FAILURE;
    free(p);
    probe.done(probe.arg, &r);
}

static bool has_host(const char *const *headers)
{
    for (; *headers; headers++)
        if (sb_str_ieq(sb_str_first(sb_str_c(*headers), 5), SB_STR("host:")))
            return true;
    return false;
}

static const char *const *make_headers(struct sb_arena *a, const struct sb_probe_order *o,
                                       bool grpc)
{
    const char *const *given = o->checks->headers;
    struct sb_str host = o->host_header.len ? o->host_header : o->host;
    const char **all;
    size_t n = 0;

    while (given[n])
        n++;
    all = SB_NEW_N(a, const char *, n + 4);
    memcpy(all, given, n * sizeof *all);
    if (!has_host(given))
        all[n++] = sb_arena_printf(a, "Host: %.*s", SB_ARG(host)).p;
    if (grpc) {
        all[n++] = "Content-Type: application/grpc";
        all[n++] = "TE: trailers";
    }
    return all;
}

/* The name that TLS speaks of; where the connection goes to is said apart. */
static const char *make_url(struct sb_arena *a, const struct sb_probe_order *o, bool grpc)
{
    const struct sb_health_checks *c = o->checks;
    struct sb_str name = c->https_sni.len     ? c->https_sni
                         : o->host_header.len ? o->host_header
                                              : o->host;
    bool tls = is_tls(c->type);
    struct sb_str path = grpc               ? SB_STR("/grpc.health.v1.Health/Check")
                         : c->http_path.len ? c->http_path
                                            : SB_STR("/");
    ptrdiff_t colon = sb_str_chr(name, ':', 0);

    if (colon > 0 && sb_str_chr(name, ':', (size_t)colon + 1) < 0)
        name = sb_str_first(name, (size_t)colon); /* a port in host_header */
    return sb_arena_printf(a, "%s://%.*s%.*s", tls ? "https" : "http",
                           SB_ARG(tls ? name : SB_STR("target")), SB_ARG(path))
        .p;
}

struct sb_probe *sb_probe_start(struct sb_http *http, const struct sb_probe_order *o,
                                void (*done)(void *arg, const struct sb_probe_result *result),
                                void *arg)
{
    static const struct sb_str empty_frame = SB_STR_INIT("\0\0\0\0\0");
    struct sb_arena *a = sb_arena_new(0);
    struct sb_probe *p = sb_xcalloc(1, sizeof *p);
    struct sb_http_request r = {.method = "GET", .fresh = true, .arg = p};
    char ip[SB_ADDRESS_TEXT];
    bool grpc;

    *p = (struct sb_probe){.done = done, .arg = arg, .type = o->checks->type, .grpc_status = -1};
    grpc = is_grpc(p);
    r.url = make_url(a, o, grpc);
    r.connect_to =
        sb_arena_printf(a, "%s:%u", sb_address_text(o->addr, ip), ntohs(o->addr->in.sin_port)).p;
    r.headers = make_headers(a, o, grpc);
    r.tls = o->tls;
    r.timeout_ms = r.connect_timeout_ms = o->checks->timeout_ms;
    r.connect_only = p->type == SB_CHECK_TCP;
    r.http2 = grpc;
    r.body_max = GRPC_ANSWER_MAX;
    r.on_header = on_header;
    r.on_done = on_done;
    if (grpc) {
        r.method = "POST";
        r.body = empty_frame;
    }
    p->call = sb_http_start(http, &r);
    sb_arena_free(a);
    return p;
}

void sb_probe_cancel(struct sb_probe *p)
{
    sb_http_cancel(p->call);
    free(p);
}
