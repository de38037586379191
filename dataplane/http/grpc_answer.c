#include "dataplane/http/grpc_answer.h"

#include "shared/json.h"

enum { UNKNOWN = 2, INVALID_ARGUMENT = 3, INTERNAL = 13 };

static const struct {
    int http, grpc;
} codes[] = {{200, 0}, {400, 3}, {401, 16}, {403, 7},  {404, 5},  {409, 6},
             {429, 8}, {499, 1}, {500, 13}, {501, 12}, {503, 14}, {504, 4}};

static const char *const names[] = {
    "OK",       "Canceled",        "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",   "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",      "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated",
};

static int code_of(int status)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].http == status)
            return codes[i].grpc;
    switch (status / 100) {
    case 2:
        return 0;
    case 4:
        return INVALID_ARGUMENT;
    case 5:
        return INTERNAL;
    default:
        return UNKNOWN;
    }
}

static bool is_grpc(struct sb_str type)
{
    return sb_str_starts(type, SB_STR("application/grpc"));
}

bool sb_grpc_request(const struct sb_exchange *x)
{
    return x->stream && is_grpc(sb_http_get(&x->req, SB_H_CONTENT_TYPE));
}

bool sb_grpc_answers(const struct sb_exchange *x)
{
    if (!sb_grpc_request(x))
        return false;
    switch (x->answer.kind) {
    case SB_ANSWER_ERROR:
        return true;
    case SB_ANSWER_REFUSED:
        return !sb_http_has(&x->req, SB_H_ACCEPT) || is_grpc(sb_http_get(&x->req, SB_H_ACCEPT));
    case SB_ANSWER_BODY:
        return x->answer.type.len == 0 || sb_str_starts(x->answer.type, SB_STR("application/json"));
    default:
        return false;
    }
}

/* What a plugin's JSON says: {"message": "..."}. */
static struct sb_str message_of(struct sb_exchange *x)
{
    struct sb_value *body = NULL;
    struct sb_err err;

    if (x->answer.body.len == 0 || sb_json_parse(sb_exchange_arena(x), x->answer.body, &body, &err))
        return (struct sb_str){0};
    return sb_value_str_at(body, "message");
}

/* Percent-encoded, as the gRPC protocol asks for. */
static void encoded(struct sb_gather *g, struct sb_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        const char hex[3] = {'%', "0123456789ABCDEF"[c >> 4], "0123456789ABCDEF"[c & 15]};

        if (c < 0x20 || c > 0x7e || c == '%')
            sb_gather_add(g, hex, sizeof hex);
        else
            sb_gather_add(g, s.p + i, 1);
    }
}

void sb_grpc_headers(struct sb_exchange *x, struct sb_str text, struct sb_gather *g)
{
    int code = code_of(x->status);
    struct sb_str message = {0};

    if (sb_change_find(x->answer.headers, SB_STR("grpc-status")))
        return;
    sb_gather_lit(g, "grpc-status: ");
    sb_gather_uint(g, (uint64_t)code);
    sb_gather_lit(g, "\r\n");
    if (sb_change_find(x->answer.headers, SB_STR("grpc-message")))
        return;
    if (x->answer.kind == SB_ANSWER_REFUSED)
        message = text;
    else if (x->answer.kind == SB_ANSWER_BODY)
        message = message_of(x);
    sb_gather_lit(g, "grpc-message: ");
    encoded(g, message.len ? message : sb_str_c(names[code]));
    sb_gather_lit(g, "\r\n");
}
