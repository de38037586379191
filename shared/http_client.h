/* http_client.h - HTTP and HTTPS requests from an event loop, on libcurl.
 *
 * One client belongs to one struct event_base and its thread; nothing here blocks. Connections are
 * kept and used again by requests with the same TLS material. Answers either stream (on_body) or
 * are collected up to a limit. Requests go out as HTTP/1.1 where they don't ask for more: a stalled
 * watch then holds up nobody.
 */
#ifndef SB_SHARED_HTTP_CLIENT_H
#define SB_SHARED_HTTP_CLIENT_H

#include <stdbool.h>

#include "shared/err.h"
#include "shared/str.h"

struct event_base;
struct sb_http;
struct sb_http_call;

/* PEM texts; what is empty is not used. Copied by libcurl, so they may go once a call started. */
struct sb_http_tls {
    struct sb_str ca;        /* empty: the system's */
    struct sb_str cert, key; /* the client's certificate chain and key */
    bool skip_verify;
};

struct sb_http_result {
    enum sb_rc rc; /* SB_OK: there was an answer, whatever its status */
    int status;
    struct sb_str body; /* collected; empty when it streamed. Until on_done returns. */
    int retry_after_s;  /* from the header; 0: none */
    bool connected;     /* the TCP connection was made */
    bool garbled;       /* what came was no HTTP */
    const char *error;  /* rc is not SB_OK: what happened, with host and port */
};

struct sb_http_request {
    const char *method, *url;
    const char *const *headers; /* "Name: value", ended by NULL; NULL: none */
    struct sb_str body;         /* copied */
    const struct sb_http_tls *tls;
    const char *connect_to; /* "host:port" to go to in place of the URL's, which names the
                             * certificate and the Host header; NULL: the URL's */
    bool fresh;             /* on a connection of its own, which is closed afterwards */
    bool connect_only;      /* connects (and, for https, shakes hands) and sends nothing */
    bool http2;             /* speaks HTTP/2: over TLS by ALPN, else from the start */
    int connect_timeout_ms; /* 0: 10 s */
    int timeout_ms;         /* of the whole exchange; 0: none */
    size_t body_max;        /* of a collected answer; 0: 64 MiB */

    /* Each line of the answer's head and of its trailers; status is known from the second on. False
     * ends the call (SB_INVALID). NULL: no interest. */
    bool (*on_header)(void *arg, struct sb_str line);
    /* Bytes of the answer as they come; status is known by then. False ends the call (SB_INVALID).
     * Not called for statuses of 400 and above, which are collected. NULL: collect all. */
    bool (*on_body)(void *arg, struct sb_str bytes);
    /* Called exactly once, never from within sb_http_start, unless the call is cancelled. */
    void (*on_done)(void *arg, const struct sb_http_result *result);
    void *arg;
};

struct sb_http *sb_http_new(struct event_base *base);
/* Cancels what is under way; on_done is not called for it. */
void sb_http_free(struct sb_http *http);

/* Everything in the request may go once this returned. */
struct sb_http_call *sb_http_start(struct sb_http *http, const struct sb_http_request *request);
/* Ends a call without on_done. NULL is nothing to do. Not from within its own callbacks. */
void sb_http_cancel(struct sb_http_call *call);

#endif
