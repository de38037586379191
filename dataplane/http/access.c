/* access.c - REWRITE, ROUTE, ACCESS: which route a request takes, and whether it may. */
#include "dataplane/http/steps.h"

enum sb_xstate sb_step_rewrite(struct sb_exchange *x)
{
    switch (sb_hooks_run(x, x->hold->snap->hooks, SB_PHASE_REWRITE)) {
    case SB_OK:
        return SB_X_ROUTE;
    case SB_AGAIN:
        return sb_step_wait_for_hook(x);
    case SB_IO:
        return sb_step_body_failed(x, x->body_lost);
    default:
        return SB_X_ANSWER;
    }
}

/* -- ROUTE -- */

static void normalise(struct sb_exchange *x)
{
    struct sb_str raw = x->req.path;
    char *out = x->path_room;
    size_t len;

    x->path = raw;
    if (raw.len + 1 > sizeof x->path_room)
        out = sb_arena_alloc(sb_exchange_arena(x), raw.len + 1);
    if (sb_path_normalise(raw, out, &len))
        x->path = sb_str_n(out, len);
}

static bool match(struct sb_exchange *x)
{
    const struct sb_router *router = x->hold->snap->router;
    const struct sb_router_request q = {
        .method = x->req.method,
        .scheme = x->https ? SB_PROTO_HTTPS : SB_PROTO_HTTP,
        .host = x->req.host.p ? x->req.host : SB_STR(""),
        .path = x->path,
        .query = x->req.has_query ? x->req.query : SB_STR(""),
        .sni = x->c->sni.p ? x->c->sni : SB_STR(""),
        .headers = x->req.headers,
        .nheaders = x->req.nheaders,
        .source_ip = x->client_ip,
        .source_port = x->c->port,
        .destination_ip = sb_str_c(x->c->local_ip),
        .destination_port = x->c->listener->listen->forwarded_port,
    };

    if (!router || !sb_router_match(router, &q, &x->match))
        return false;
    x->route = x->match.route;
    x->service = x->route->service;
    if (x->service)
        x->upstream = sb_service_upstream(x->hold->snap, x->service);
    x->hooks = sb_route_hooks(x->hold->snap, x->route);
    return true;
}

static enum sb_xstate redirect(struct sb_exchange *x)
{
    int status = x->route->https_redirect_status_code;
    struct sb_str host = sb_request_forwarded_host(x), target = x->req.target;

    if (status == 0 || status == 426) {
        sb_step_error(x, 426, "Please use HTTPS protocol");
        sb_exchange_add_change(x, &x->answer.headers, SB_STR("Connection"), SB_STR("Upgrade"));
        sb_exchange_add_change(x, &x->answer.headers, SB_STR("Upgrade"),
                               SB_STR("TLS/1.2, HTTP/1.1"));
        return SB_X_ANSWER;
    }
    if (x->req.authority.p) /* absolute form: what is behind the authority */
        target =
            sb_str_from(target, (size_t)(x->req.authority.p + x->req.authority.len - target.p));
    x->answer = (struct sb_answer){.status = status, .kind = SB_ANSWER_PAGE};
    sb_exchange_add_change(x, &x->answer.headers, SB_STR("Location"),
                           sb_arena_printf(sb_exchange_arena(x), "https://%.*s%s%.*s", SB_ARG(host),
                                           target.len && target.p[0] == '/' ? "" : "/",
                                           SB_ARG(target)));
    return SB_X_ANSWER;
}

/* A gRPC route wants gRPC, over HTTP/2, and over TLS where it is for grpcs alone. */
static enum sb_xstate grpc_rules(struct sb_exchange *x)
{
    struct sb_str type = sb_http_get(&x->req, SB_H_CONTENT_TYPE);

    if (!sb_str_starts(type, SB_STR("application/grpc")))
        return sb_step_error(x, 415, "Non-gRPC request matched gRPC route");
    if (!x->stream) {
        sb_step_error(x, 426, "Please use HTTP2 protocol");
        sb_exchange_add_change(x, &x->answer.headers, SB_STR("Connection"), SB_STR("Upgrade"));
        sb_exchange_add_change(x, &x->answer.headers, SB_STR("Upgrade"), SB_STR("HTTP/2"));
        return SB_X_ANSWER;
    }
    if ((x->route->protocols & SB_PROTO_GRPC) || sb_str_is(sb_request_forwarded_proto(x), "https"))
        return SB_X_ACCESS;
    x->answer = (struct sb_answer){
        .status = 200, .kind = SB_ANSWER_BODY, .type = SB_STR("application/grpc")};
    sb_exchange_add_change(x, &x->answer.headers, SB_STR("grpc-status"), SB_STR("1"));
    sb_exchange_add_change(x, &x->answer.headers, SB_STR("grpc-message"),
                           SB_STR("gRPC request matched gRPCs route"));
    return SB_X_ANSWER;
}

/* proxy-router.md 8. SB_X_ACCESS: nothing against it. */
static enum sb_xstate protocol_rules(struct sb_exchange *x)
{
    unsigned protocols = x->route->protocols;

    if ((protocols & SB_PROTO_HTTPS) && !(protocols & SB_PROTO_HTTP) &&
        !sb_str_is(sb_request_forwarded_proto(x), "https"))
        return redirect(x);
    if (!(protocols & (SB_PROTO_GRPC | SB_PROTO_GRPCS)) ||
        (protocols & (SB_PROTO_HTTP | SB_PROTO_HTTPS)))
        return SB_X_ACCESS;
    return grpc_rules(x);
}

enum sb_xstate sb_step_route(struct sb_exchange *x)
{
    enum sb_xstate next;

    normalise(x);
    if (!match(x)) {
        x->hooks = x->hold->snap->hooks;
        return sb_step_error(x, 404, "no Route matched with those values");
    }
    next = protocol_rules(x);
    if (next != SB_X_ACCESS) /* the route's plugins are not asked */
        x->hooks = x->hold->snap->hooks;
    return next;
}

/* -- ACCESS -- */

enum sb_xstate sb_step_access(struct sb_exchange *x)
{
    switch (sb_hooks_run(x, x->hooks, SB_PHASE_ACCESS)) {
    case SB_OK:
        break;
    case SB_AGAIN:
        return sb_step_wait_for_hook(x);
    case SB_IO:
        return sb_step_body_failed(x, x->body_lost);
    default:
        return SB_X_ANSWER;
    }
    if (!x->service)
        return sb_step_error(x, 503, "no Service found with those values");
    return SB_X_PICK;
}
