/* answer.c - responses that the gateway itself gives: errors in the format that the client accepts,
 * redirects, what plugins answer. Texts and formats are Kong's, byte for byte (proxy-http.md 8). */
#include "dataplane/http/error_body.h"
#include "dataplane/http/grpc_answer.h"
#include "dataplane/http/steps.h"

static const struct {
    int status;
    const char *text;    /* of the status line */
    const char *message; /* Kong's default, without its final dot; NULL: the generic one */
} statuses[] = {
    {200, "OK", NULL},
    {201, "Created", NULL},
    {202, "Accepted", NULL},
    {204, "No Content", NULL},
    {206, "Partial Content", NULL},
    {301, "Moved Permanently", NULL},
    {302, "Moved Temporarily", NULL},
    {303, "See Other", NULL},
    {304, "Not Modified", NULL},
    {307, "Temporary Redirect", NULL},
    {308, "Permanent Redirect", NULL},
    {400, "Bad Request", "Bad request"},
    {401, "Unauthorized", "Unauthorized"},
    {402, "Payment Required", "Payment required"},
    {403, "Forbidden", "Forbidden"},
    {404, "Not Found", "Not found"},
    {405, "Not Allowed", "Method not allowed"},
    {406, "Not Acceptable", "Not acceptable"},
    {407, "Proxy Authentication Required", "Proxy authentication required"},
    {408, "Request Time-out", "Request timeout"},
    {409, "Conflict", "Conflict"},
    {410, "Gone", "Gone"},
    {411, "Length Required", "Length required"},
    {412, "Precondition Failed", "Precondition failed"},
    {413, "Request Entity Too Large", "Payload too large"},
    {414, "Request-URI Too Large", "URI too long"},
    {415, "Unsupported Media Type", "Unsupported media type"},
    {416, "Requested Range Not Satisfiable", "Range not satisfiable"},
    {417, "Expectation Failed", "Expectation failed"},
    {418, "I'm a teapot", "I'm a teapot"},
    {421, "Misdirected Request", "Misdirected request"},
    {422, "Unprocessable Entity", "Unprocessable entity"},
    {423, "Locked", "Locked"},
    {424, "Failed Dependency", "Failed dependency"},
    {425, "Too Early", "Too early"},
    {426, "Upgrade Required", "Upgrade required"},
    {428, "Precondition Required", "Precondition required"},
    {429, "Too Many Requests", "Too many requests"},
    {431, "Request Header Fields Too Large", "Request header fields too large"},
    {451, "Unavailable For Legal Reasons", "Unavailable for legal reasons"},
    {494, "Bad Request", "Request header or cookie too large"},
    {500, "Internal Server Error", "An unexpected error occurred"},
    {501, "Not Implemented", "Not implemented"},
    {502, "Bad Gateway", "An invalid response was received from the upstream server"},
    {503, "Service Temporarily Unavailable", "The upstream server is currently unavailable"},
    {504, "Gateway Time-out", "The upstream server is timing out"},
    {505, "HTTP Version Not Supported", "HTTP version not supported"},
    {506, "Variant Also Negotiates", "Variant also negotiates"},
    {507, "Insufficient Storage", "Insufficient storage"},
    {508, "Loop Detected", "Loop detected"},
    {510, "Not Extended", "Not extended"},
    {511, "Network Authentication Required", "Network authentication required"},
};

static const char *find_message(int status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == status)
            return statuses[i].message;
    return NULL;
}

static struct sb_str error_message(struct sb_exchange *x)
{
    const char *text = find_message(x->answer.status);

    if (x->answer.message.len)
        return x->answer.message;
    if (text)
        return sb_str_c(text);
    return sb_arena_printf(sb_exchange_arena(x), "The upstream server responded with %d",
                           x->answer.status);
}

struct sb_str sb_status_text(int status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == status)
            return sb_str_c(statuses[i].text);
    return SB_STR("Unknown");
}

/* nginx's pages and its status lines differ in two names. */
static struct sb_str page_title(int status)
{
    if (status == 302)
        return SB_STR("Found");
    return status == 401 ? SB_STR("Authorization Required") : sb_status_text(status);
}

/* As with the upstream's pages: no charset on 301 and 302. */
static struct sb_str page_type(struct sb_exchange *x)
{
    struct sb_str charset = x->w->o->charset;

    if (charset.len == 0 || x->status == 301 || x->status == 302)
        return SB_STR("text/html");
    return sb_arena_printf(sb_exchange_arena(x), "text/html; charset=%.*s", SB_ARG(charset));
}

static void page_body(struct sb_exchange *x, struct sb_gather *g)
{
    int status = x->answer.status;
    struct sb_str text = page_title(status);

    sb_gather_lit(g, "<html>\r\n<head><title>");
    sb_gather_uint(g, (uint64_t)status);
    sb_gather_lit(g, " ");
    sb_gather_str(g, x->answer.message.len ? x->answer.message : text);
    sb_gather_lit(g, "</title></head>\r\n<body>\r\n<center><h1>");
    sb_gather_uint(g, (uint64_t)status);
    sb_gather_lit(g, " ");
    sb_gather_str(g, text);
    sb_gather_lit(g, "</h1></center>\r\n");
    if (x->answer.message.len) {
        sb_gather_lit(g, "<center>");
        sb_gather_str(g, x->answer.message);
        sb_gather_lit(g, "</center>\r\n");
    }
    sb_gather_lit(g, "</body>\r\n</html>\r\n");
}

/* -- heads -- */

static void status_line(struct sb_exchange *x, struct sb_gather *g)
{
    sb_gather_lit(g, "HTTP/1.1 ");
    sb_gather_uint(g, (uint64_t)x->status);
    sb_gather_lit(g, " ");
    sb_gather_str(g, sb_status_text(x->status));
    sb_gather_lit(g, "\r\n");
    if (x->answer.keeps && sb_http_has(&x->resp, SB_H_DATE))
        return;
    sb_gather_lit(g, "Date: ");
    sb_gather_str(g, sb_worker_date(x->w));
    sb_gather_lit(g, "\r\n");
}

static void gateway_headers(struct sb_exchange *x, struct sb_gather *g)
{
    unsigned tokens = x->w->o->tokens;

    if (tokens & SB_TOKEN_SERVER)
        sb_gather_lit(g, "Server: " SB_PRODUCT "\r\n");
    if (x->try_us) { /* an upstream was involved */
        sb_response_tokens(x, (struct sb_str){0}, g);
        return;
    }
    if (tokens & SB_TOKEN_RESPONSE_LATENCY) {
        (void)sb_now_ms(x->w);
        sb_gather_lit(g, "X-Kong-Response-Latency: ");
        sb_gather_uint(g, (uint64_t)(x->w->now_us - x->start_us) / 1000);
        sb_gather_lit(g, "\r\n");
    }
    if (tokens & SB_TOKEN_REQUEST_ID) {
        sb_gather_lit(g, "X-Kong-Request-Id: ");
        sb_gather_add(g, x->id, sizeof x->id);
        sb_gather_lit(g, "\r\n");
    }
}

/* x: those of plugins; NULL: our own. */
static void add_headers(const struct sb_exchange *x, struct sb_gather *g,
                        const struct sb_header_change *list)
{
    for (; list; list = list->next)
        if (list->value.p && !(x && sb_response_owns(x, list->name)))
            sb_gather_header(g, list->name, list->value);
}

static struct sb_str make_body(struct sb_exchange *x, struct sb_gather *body)
{
    if (sb_grpc_answers(x))
        return SB_STR("application/grpc");
    if (x->answer.kind == SB_ANSWER_BODY) {
        sb_gather_str(body, x->answer.body);
        return x->answer.type;
    }
    if (x->answer.kind == SB_ANSWER_PAGE) {
        page_body(x, body);
        return page_type(x);
    }
    return sb_error_body(x, error_message(x), body);
}

/* Body filters see an answer of ours in one piece. */
static bool filter_body(struct sb_exchange *x, struct sb_gather *body)
{
    struct sb_chunk c = {.last = true};
    size_t len = 0, at = 0;
    char *flat;

    if (!sb_hooks_any(x, SB_PHASE_BODY_FILTER))
        return true;
    for (int i = 0; i < body->n; i++)
        len += body->iov[i].iov_len;
    flat = sb_arena_alloc(sb_exchange_arena(x), len);
    for (int i = 0; i < body->n; i++) {
        memcpy(flat + at, body->iov[i].iov_base, body->iov[i].iov_len);
        at += body->iov[i].iov_len;
    }
    c.data = sb_str_n(flat, len);
    if (!sb_response_filter(x, &c))
        return false;
    body->n = 0;
    sb_gather_ref(body, c.data.p, c.data.len);
    return true;
}

/* The body is put together behind the room for the head, because the head tells its length. */
bool sb_answer_gather(struct sb_exchange *x, struct sb_gather *g)
{
    bool no_body = x->head_method || x->status == 204 || x->status == 304;
    struct sb_gather body;
    struct sb_str type;
    size_t len = 0;

    sb_gather_init(&body, x->w);
    body.at += SB_SCRATCH_LEN / 2;
    g->end = body.at;
    type = make_body(x, &body);
    if (!filter_body(x, &body))
        return false;
    for (int i = 0; i < body.n; i++)
        len += body.iov[i].iov_len;
    status_line(x, g);
    if (type.len == 0 && x->answer.keeps)
        type = sb_http_get(&x->resp, SB_H_CONTENT_TYPE);
    sb_response_type(x, type, g);
    if (x->status != 204 && x->status != 304) {
        sb_gather_lit(g, "Content-Length: ");
        sb_gather_uint(g, len);
        sb_gather_lit(g, "\r\n");
    }
    sb_response_connection(x, g);
    add_headers(NULL, g, x->answer.headers);
    if (sb_grpc_answers(x))
        sb_grpc_headers(x, sb_str_c(find_message(x->answer.status)), g);
    if (x->answer.keeps) {
        sb_response_kept(x, g);
    } else {
        add_headers(x, g, x->response_changes);
        gateway_headers(x, g);
    }
    sb_debug_headers(x, g);
    sb_gather_lit(g, "\r\n");
    if (x->req.version == 9 && !x->refused) /* HTTP/0.9 knows no heads */
        g->n = 0;
    g->head = g->n;
    x->resp_head_sent = (uint32_t)sb_gather_len(g);
    for (int i = 0; i < body.n && !no_body; i++)
        sb_gather_ref(g, body.iov[i].iov_base, body.iov[i].iov_len);
    x->body_sent = no_body ? 0 : len;
    return !g->full && !body.full;
}

/* -- what plugins use -- */

/* In a header filter the head that is there stays, but for what it says of the body that is not
 * sent any more. */
static void keep_head(struct sb_exchange *x, struct sb_str type)
{
    x->answer.keeps = x->state == SB_X_FILTER;
    if (!x->answer.keeps)
        return;
    sb_exchange_set_response_header(x, SB_STR("Content-Encoding"), (struct sb_str){0});
    if (type.len && sb_change_find(x->response_changes, SB_STR("Content-Type")))
        sb_exchange_set_response_header(x, SB_STR("Content-Type"), type);
}

/* In place of what the head has of that name; more of one name stand beside each other. */
static void replace_headers(struct sb_exchange *x, const struct sb_str *headers, size_t n)
{
    bool again;

    for (size_t i = 0; i + 1 < n; i += 2) {
        again = false;
        for (size_t before = 0; before < i; before += 2)
            again |= sb_str_ieq(headers[before], headers[i]);
        if (again)
            sb_exchange_add_response_header(x, headers[i], headers[i + 1]);
        else
            sb_exchange_set_response_header(x, headers[i], headers[i + 1]);
    }
}

void sb_exchange_answer(struct sb_exchange *x, int status, struct sb_str content_type,
                        struct sb_str body, const struct sb_str *headers, size_t nheaders)
{
    struct sb_arena *a = sb_exchange_arena(x);

    x->answer = (struct sb_answer){.status = status,
                                   .kind = SB_ANSWER_BODY,
                                   .type = sb_arena_str(a, content_type),
                                   .body = sb_arena_str(a, body)};
    keep_head(x, content_type);
    if (x->answer.keeps) {
        replace_headers(x, headers, nheaders);
        return;
    }
    for (size_t i = 0; i + 1 < nheaders; i += 2)
        sb_exchange_add_change(x, &x->answer.headers, headers[i], headers[i + 1]);
}

void sb_exchange_answer_error(struct sb_exchange *x, int status, struct sb_str message)
{
    x->answer = (struct sb_answer){.status = status,
                                   .kind = SB_ANSWER_ERROR,
                                   .message = sb_arena_str(sb_exchange_arena(x), message)};
    keep_head(x, (struct sb_str){0});
}

struct sb_arena *sb_exchange_arena(struct sb_exchange *x)
{
    if (!x->arena)
        x->arena = sb_arena_new(0);
    return x->arena;
}

struct sb_hook_state {
    struct sb_hook_state *next;
    const void *owner;
    _Alignas(16) char data[];
};

void *sb_exchange_state(struct sb_exchange *x, const void *owner, size_t len)
{
    struct sb_hook_state *s = x->states;

    while (s && s->owner != owner)
        s = s->next;
    if (s)
        return s->data;
    s = sb_arena_zero(sb_exchange_arena(x), sizeof *s + len);
    s->owner = owner;
    s->next = x->states;
    x->states = s;
    return s->data;
}

struct event_base *sb_exchange_loop(struct sb_exchange *x)
{
    return x->w->base;
}

const struct sb_snapshot *sb_exchange_snapshot(const struct sb_exchange *x)
{
    return x->hold->snap;
}

const struct sb_route *sb_exchange_route(const struct sb_exchange *x)
{
    return x->route;
}

const struct sb_service *sb_exchange_service(const struct sb_exchange *x)
{
    return x->route ? x->route->service : NULL;
}

struct sb_str sb_exchange_method(const struct sb_exchange *x)
{
    return x->req.method;
}

struct sb_str sb_exchange_path(const struct sb_exchange *x)
{
    return x->path;
}

struct sb_str sb_exchange_client_ip(const struct sb_exchange *x)
{
    return x->client_ip;
}

struct sb_str sb_exchange_request_id(const struct sb_exchange *x)
{
    return sb_str_n(x->id, sizeof x->id);
}

int sb_exchange_status(const struct sb_exchange *x)
{
    return x->status;
}

void sb_exchange_set_status(struct sb_exchange *x, int status)
{
    x->status = status;
}

struct sb_str sb_exchange_response_header(const struct sb_exchange *x, struct sb_str name)
{
    const struct sb_header_change *c = sb_change_find(x->response_changes, name);

    return c ? c->value : sb_http_find(&x->resp, name);
}
