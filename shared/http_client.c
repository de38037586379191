/* http_client.c - libcurl's multi interface, driven by libevent.
 *
 *   sb_http_start ──> waiting ──(loop)──> curl multi <── sockets, timer ── libevent
 *                                             | finished
 *                                             v
 *                                          on_done, freed
 *
 * libcurl must not be called from within its own callbacks, but ours (on_body) are such and may
 * well start or cancel other calls. So both only put the call on a list; one event does the work
 * from the loop.
 */
#include "shared/http_client.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <stdlib.h>

#include "shared/arena.h"
#include "shared/buf.h"

enum {
    CONNECT_TIMEOUT_MS = 10 * 1000,
    BODY_MAX = 64 << 20,
    ERROR_STATUS = 400,
    KEEPALIVE_S = 15, /* a server that vanished without a word is noticed by TCP itself */
};

enum call_state { CALL_WAITING, CALL_RUNNING, CALL_CANCELLED };

struct sb_http_call {
    struct sb_http *http;
    struct sb_http_call *next, *prev; /* in http->calls */
    enum call_state state;
    CURL *easy;
    struct curl_slist *headers, *connect_to;
    struct sb_buf body;
    bool (*on_header)(void *arg, struct sb_str line);
    bool (*on_body)(void *arg, struct sb_str bytes);
    void (*on_done)(void *arg, const struct sb_http_result *result);
    void *arg;
    int retry_after_s;
    bool stopped; /* on_body said so */
    char error[CURL_ERROR_SIZE];
};

struct sb_http {
    struct event_base *base;
    CURLM *multi;
    struct event *timer, *todo;
    struct sb_http_call *calls;
};

struct watched_socket {
    struct event *event;
};

static void call_free(struct sb_http_call *call)
{
    struct sb_http *http = call->http;

    if (call->prev)
        call->prev->next = call->next;
    else
        http->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    curl_slist_free_all(call->connect_to);
    sb_buf_release(&call->body);
    free(call);
}

static enum sb_rc rc_of(CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return SB_OK;
    case CURLE_OPERATION_TIMEDOUT:
        return SB_TIMEOUT;
    case CURLE_WRITE_ERROR:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
        return SB_INVALID;
    default:
        return SB_UNAVAILABLE;
    }
}

/* The call is over: tells its owner and forgets it. */
static void call_finish(struct sb_http_call *call, CURLcode code)
{
    struct sb_http_result result = {.rc = rc_of(code), .retry_after_s = call->retry_after_s};
    curl_off_t connect_us = 0;
    long status = 0;

    if (call->body.full)
        result.rc = SB_TOOLARGE;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    result.status = (int)status;
    curl_easy_getinfo(call->easy, CURLINFO_CONNECT_TIME_T, &connect_us);
    result.connected = connect_us > 0;
    result.garbled = code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_UNSUPPORTED_PROTOCOL;
    result.body = sb_buf_get(&call->body);
    if (result.rc == SB_TOOLARGE)
        result.error = "the answer is larger than allowed";
    else if (call->stopped)
        result.error = "ended by the reader";
    else if (result.rc)
        result.error = call->error[0] ? call->error : curl_easy_strerror(code);
    call->on_done(call->arg, &result);
    call_free(call);
}

static void take_finished(struct sb_http *http)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(http->multi, &left))) {
        struct sb_http_call *call = NULL;
        CURLcode code;

        if (msg->msg != CURLMSG_DONE)
            continue;
        code = msg->data.result;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        curl_multi_remove_handle(http->multi, call->easy);
        if (call->state == CALL_CANCELLED)
            call_free(call);
        else
            call_finish(call, code);
    }
}

static void on_socket_ready(evutil_socket_t fd, short what, void *arg)
{
    struct sb_http *http = arg;
    int running,
        flags = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);

    curl_multi_socket_action(http->multi, fd, flags, &running);
    take_finished(http);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct sb_http *http = arg;
    int running;

    (void)fd, (void)what;
    curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    take_finished(http);
}

/* Starts what waits and removes what was cancelled, outside of libcurl's callbacks. */
static void on_todo(evutil_socket_t fd, short what, void *arg)
{
    struct sb_http *http = arg;
    struct sb_http_call *call, *next;

    (void)fd, (void)what;
    for (call = http->calls; call; call = next) {
        next = call->next;
        if (call->state == CALL_CANCELLED) {
            curl_multi_remove_handle(http->multi, call->easy);
            call_free(call);
        } else if (call->state == CALL_WAITING) {
            call->state = CALL_RUNNING;
            curl_multi_add_handle(http->multi, call->easy);
        }
    }
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct sb_http *http = arg;
    struct watched_socket *w = socket_arg;
    short events = EV_PERSIST;

    (void)easy;
    if (w)
        event_free(w->event);
    if (what == CURL_POLL_REMOVE) {
        free(w);
        return 0;
    }
    if (!w) {
        w = sb_xcalloc(1, sizeof *w);
        curl_multi_assign(http->multi, fd, w);
    }
    if (what & CURL_POLL_IN)
        events |= EV_READ;
    if (what & CURL_POLL_OUT)
        events |= EV_WRITE;
    w->event = event_new(http->base, fd, events, on_socket_ready, http);
    event_add(w->event, NULL);
    return 0;
}

static int want_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct sb_http *http = arg;
    struct timeval tv = {timeout_ms / 1000, timeout_ms % 1000 * 1000};

    (void)multi;
    if (timeout_ms < 0)
        event_del(http->timer);
    else
        event_add(http->timer, &tv);
    return 0;
}

struct sb_http *sb_http_new(struct event_base *base)
{
    struct sb_http *http = sb_xcalloc(1, sizeof *http);

    curl_global_init(CURL_GLOBAL_DEFAULT);
    http->base = base;
    http->timer = event_new(base, -1, 0, on_timer, http);
    http->todo = event_new(base, -1, 0, on_todo, http);
    http->multi = curl_multi_init();
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, want_timer);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    return http;
}

void sb_http_free(struct sb_http *http)
{
    if (!http)
        return;
    while (http->calls) {
        curl_multi_remove_handle(http->multi, http->calls->easy);
        call_free(http->calls);
    }
    curl_multi_cleanup(http->multi);
    event_free(http->timer);
    event_free(http->todo);
    free(http);
    curl_global_cleanup();
}

static size_t on_bytes(char *p, size_t size, size_t n, void *arg)
{
    struct sb_http_call *call = arg;
    size_t len = size * n;
    long status = 0;

    if (call->state == CALL_CANCELLED)
        return len;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (call->on_body && status < ERROR_STATUS) {
        call->stopped = !call->on_body(call->arg, sb_str_n(p, len));
        return call->stopped ? 0 : len;
    }
    sb_buf_add(&call->body, p, len);
    return call->body.full ? 0 : len;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    static const struct sb_str retry_after = SB_STR_INIT("retry-after:");
    struct sb_http_call *call = arg;
    struct sb_str line = sb_str_n(p, size * n);
    int64_t seconds;

    if (sb_str_ieq(sb_str_first(line, retry_after.len), retry_after) &&
        sb_str_int(sb_str_trim(sb_str_from(line, retry_after.len)), &seconds) && seconds > 0)
        call->retry_after_s = seconds > 3600 ? 3600 : (int)seconds;
    if (call->on_header && call->state != CALL_CANCELLED) {
        call->stopped = !call->on_header(call->arg, sb_str_trim(line));
        return call->stopped ? 0 : size * n;
    }
    return size * n;
}

static void set_blob(CURL *easy, CURLoption option, struct sb_str pem)
{
    struct curl_blob blob = {(void *)pem.p, pem.len, CURL_BLOB_COPY};

    if (pem.len)
        curl_easy_setopt(easy, option, &blob);
}

static void set_tls(CURL *easy, const struct sb_http_tls *tls)
{
    set_blob(easy, CURLOPT_CAINFO_BLOB, tls->ca);
    set_blob(easy, CURLOPT_SSLCERT_BLOB, tls->cert);
    set_blob(easy, CURLOPT_SSLKEY_BLOB, tls->key);
    if (tls->skip_verify) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

static void set_connect_to(struct sb_http_call *call, const char *where)
{
    struct sb_arena *a = sb_arena_new(0);

    call->connect_to = curl_slist_append(NULL, sb_arena_printf(a, "::%s", where).p);
    curl_easy_setopt(call->easy, CURLOPT_CONNECT_TO, call->connect_to);
    sb_arena_free(a);
}

static void set_request(struct sb_http_call *call, const struct sb_http_request *r)
{
    CURL *easy = call->easy;

    curl_easy_setopt(easy, CURLOPT_URL, r->url);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
    if (r->body.len) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
        curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, r->body.p);
    }
    for (const char *const *h = r->headers; h && *h; h++)
        call->headers = curl_slist_append(call->headers, *h);
    call->headers = curl_slist_append(call->headers, "Expect:");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    if (r->tls)
        set_tls(easy, r->tls);
    if (r->connect_to)
        set_connect_to(call, r->connect_to);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, (long)r->fresh);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, (long)r->fresh);
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, (long)r->connect_only);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     !r->http2 ? (long)CURL_HTTP_VERSION_1_1
                     : strncmp(r->url, "https:", 6) == 0
                         ? (long)CURL_HTTP_VERSION_2TLS
                         : (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
}

struct sb_http_call *sb_http_start(struct sb_http *http, const struct sb_http_request *r)
{
    struct sb_http_call *call = sb_xcalloc(1, sizeof *call);
    CURL *easy = call->easy = curl_easy_init();

    call->http = http;
    call->on_header = r->on_header;
    call->on_body = r->on_body;
    call->on_done = r->on_done;
    call->arg = r->arg;
    sb_buf_init(&call->body, r->body_max ? r->body_max : BODY_MAX);
    set_request(call, r);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, (char *)call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)(r->connect_timeout_ms ? r->connect_timeout_ms : CONNECT_TIMEOUT_MS));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_S);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_S);

    call->next = http->calls;
    if (call->next)
        call->next->prev = call;
    http->calls = call;
    event_active(http->todo, 0, 0);
    return call;
}

void sb_http_cancel(struct sb_http_call *call)
{
    if (!call)
        return;
    call->state = CALL_CANCELLED;
    event_active(call->http->todo, 0, 0);
}
