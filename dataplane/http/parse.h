/* parse.h - HTTP/1.x heads, parsed where they were received.
 *
 * The parser never copies: names and values are slices of the buffer. It is resumable: called again
 * with more bytes it goes on at the line it stopped in. When the buffer moves meanwhile, the owner
 * tells it (sb_http_rebase). Limits come first: a line, the whole head, the number of headers.
 *
 * Which input gets which answer: reference/proxy-http.md 3. Line ends may be bare LF, as Kong takes
 * them, because every line is written anew towards the other side; a CR that no LF follows, NUL, a
 * space before the colon and folded lines are refused.
 */
#ifndef SB_DATAPLANE_HTTP_PARSE_H
#define SB_DATAPLANE_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/router/router.h"
#include "shared/str.h"

/* Headers that the proxy itself has something to do with. */
enum sb_http_name {
    SB_H_OTHER,
    SB_H_ACCEPT,
    SB_H_AUTHORIZATION,
    SB_H_CONNECTION,
    SB_H_CONTENT_LENGTH,
    SB_H_CONTENT_TYPE,
    SB_H_COOKIE,
    SB_H_DATE,
    SB_H_EXPECT,
    SB_H_HOST,
    SB_H_KEEP_ALIVE,
    SB_H_KONG_DEBUG,
    SB_H_ONCE_ANSWERED, /* of responses, the first line counts: ETag, Expires, Location ... */
    SB_H_ONCE_ASKED,    /* twice in a request is refused: If-Match, If-Range ... */
    SB_H_PROXY,
    SB_H_PROXY_CONNECTION,
    SB_H_REFERER,
    SB_H_SERVER,
    SB_H_TE,
    SB_H_TRAILER,
    SB_H_TRANSFER_ENCODING,
    SB_H_UPGRADE,
    SB_H_USER_AGENT,
    SB_H_VIA,
    SB_H_X_ACCEL, /* X-Accel-Expires, -Redirect, -Limit-Rate, -Buffering, -Charset */
    SB_H_X_FORWARDED_FOR,
    SB_H_X_FORWARDED_HOST,
    SB_H_X_FORWARDED_PATH,
    SB_H_X_FORWARDED_PORT,
    SB_H_X_FORWARDED_PREFIX,
    SB_H_X_FORWARDED_PROTO,
    SB_H_X_FORWARDED_SCORED, /* one of these with underscores: X_Forwarded_For */
    SB_H_X_KONG_PROXY_LATENCY,
    SB_H_X_KONG_REQUEST_DEBUG, /* and -Token and -Log */
    SB_H_X_KONG_REQUEST_ID,
    SB_H_X_KONG_RESPONSE_LATENCY,
    SB_H_X_KONG_UPSTREAM_LATENCY,
    SB_H_X_KONG_UPSTREAM_STATUS,
    SB_H_X_PAD,
    SB_H_X_REAL_IP,
    SB_H_NAMES,
};

enum sb_http_name sb_http_name(struct sb_str name);
/* Whether that is the name, in any case, '_' standing for '-'. lower: in small letters. */
bool sb_http_name_is(struct sb_str name, struct sb_str lower);

/* What a parse step came to: done, more bytes wanted, or the status to refuse with. */
enum sb_http_result {
    SB_HTTP_DONE = 0,
    SB_HTTP_MORE = 1,
    SB_HTTP_BAD = 400,
    SB_HTTP_NOT_ALLOWED = 405,
    SB_HTTP_URI_TOO_LONG = 414,
    SB_HTTP_HEADER_TOO_LARGE = 494,
    SB_HTTP_NOT_IMPLEMENTED = 501,
    SB_HTTP_VERSION = 505,
};

enum sb_http_framing { SB_BODY_NONE, SB_BODY_LENGTH, SB_BODY_CHUNKED, SB_BODY_EOF };

enum { SB_HTTP_2 = 200 };

enum { SB_HTTP_LINE_MAX = 8192, SB_HTTP_HEAD_MAX = 4 * 8192 };

struct sb_http_head {
    /* Where headers go: set by the owner, grown by nobody: too many are HEADER_TOO_LARGE. */
    struct sb_router_header *headers;
    uint8_t *ids; /* enum sb_http_name of each */
    size_t nheaders, headers_max;
    size_t line_max, head_max;

    size_t at;    /* start of the line to parse next */
    size_t scan;  /* no LF between at and here */
    size_t len;   /* of the head with its empty line, once DONE */
    bool started; /* the first line is behind us */
    size_t lines; /* of a request: start of the first header line */

    int version;   /* 9, 10, 11; 12..19 for later minors of 1; SB_HTTP_2 */
    uint64_t seen; /* bit per enum sb_http_name */
    uint64_t content_length;
    enum sb_http_framing framing;

    /* Requests */
    struct sb_str method, target;
    struct sb_str path, query; /* of the target; the query ends before a fragment */
    bool has_query;            /* there was a '?', even with nothing behind it */
    struct sb_str authority;   /* of an absolute-form target; p NULL: none */
    struct sb_str host;        /* the Host header; p NULL: absent */

    /* Responses */
    int status;
    struct sb_str reason;
    bool suspect; /* its framing contradicts its kind: nothing behind it is to be believed */
};

/* Empties the head for a new message; keeps the arrays and the limits. */
void sb_http_head_reset(struct sb_http_head *h);

/* Parses buf, which holds the message from its first byte. */
enum sb_http_result sb_http_parse_request(struct sb_http_head *h, const char *buf, size_t len);
/* head_request: the answer to a HEAD has no body whatever it says. */
enum sb_http_result sb_http_parse_response(struct sb_http_head *h, const char *buf, size_t len,
                                           bool head_request);

/* The trailer section of a chunked body, as sb_chunked_next() hands it out: whole lines, without
 * the empty one. What may not stand in trailers is left out of h->headers, which h->headers_max
 * limits. DONE, BAD or HEADER_TOO_LARGE. */
enum sb_http_result sb_http_parse_trailers(struct sb_http_head *h, const char *buf, size_t len);

/* Whether a field of that name may stand in trailers. */
bool sb_http_may_trail(struct sb_str name);

/* For messages that come in fields (HTTP/2), judged as those of HTTP/1. Version and framing are the
 * caller's to set. */
enum sb_http_result sb_http_set_target(struct sb_http_head *h, struct sb_str method,
                                       struct sb_str target);
enum sb_http_result sb_http_add_field(struct sb_http_head *h, struct sb_str name,
                                      struct sb_str value, bool request);

/* The buffer moved from `from` to `to`. */
void sb_http_rebase(struct sb_http_head *h, const char *from, const char *to);

static inline bool sb_http_has(const struct sb_http_head *h, enum sb_http_name name)
{
    return h->seen >> name & 1;
}

/* The first header of that name; p NULL when there is none. */
struct sb_str sb_http_get(const struct sb_http_head *h, enum sb_http_name name);
struct sb_str sb_http_find(const struct sb_http_head *h, struct sb_str name);

/* Whether a comma-separated list holds the token (ASCII case ignored, parameters cut). */
bool sb_http_list_has(struct sb_str list, struct sb_str token);
/* The same of all headers of that name. */
bool sb_http_has_token(const struct sb_http_head *h, enum sb_http_name name, struct sb_str token);

/* A Host value: valid, and its name without port in *name. */
bool sb_http_host_valid(struct sb_str host, struct sb_str *name);

#endif
