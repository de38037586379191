/* log_variables.c - the variables of log formats: a row each. What they mean is nginx's
 * documentation
 * ("Embedded Variables"), for what exists here; with several tries, the last upstream's are told.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "dataplane/http/exchange.h"
#include "dataplane/http/log_format.h"
#include "shared/clock.h"
#include "shared/digest.h"

#define VARIABLE(name)                                                                             \
    static void put_##name(struct sb_line *l, struct sb_exchange *x, struct sb_str rest)
#define UNUSED_REST (void)rest
#define UNUSED_X    (void)x, (void)rest

static void put_flag(struct sb_line *l, bool set, const char *text)
{
    sb_line_value(l, set ? sb_str_c(text) : (struct sb_str){0});
}

/* -- who --------------------------------------------------------------------------------------- */

VARIABLE(remote_addr)
{
    UNUSED_REST;
    sb_line_value(l, x->client_ip.p ? x->client_ip : sb_str_n(x->c->ip, x->c->ip_len));
}

VARIABLE(realip_remote_addr)
{
    UNUSED_REST;
    sb_line_value(l, sb_str_n(x->c->ip, x->c->ip_len));
}

VARIABLE(remote_port)
{
    UNUSED_REST;
    sb_line_number(l, x->c->port);
}

VARIABLE(proxy_protocol_addr)
{
    UNUSED_REST;
    sb_line_value(l, sb_str_n(x->c->proxy_ip, x->c->proxy_ip_len));
}

VARIABLE(proxy_protocol_port)
{
    UNUSED_REST;
    if (x->c->proxy_ip_len)
        sb_line_number(l, x->c->proxy_port);
    else
        sb_line_value(l, (struct sb_str){0});
}

/* The user of Basic credentials. */
VARIABLE(remote_user)
{
    struct sb_str auth = sb_http_get(&x->req, SB_H_AUTHORIZATION), plain = {0};
    ptrdiff_t colon;

    UNUSED_REST;
    if (auth.len > 6 && auth.len < 1024 && sb_str_ieq(sb_str_first(auth, 6), SB_STR("basic ")))
        (void)sb_base64_decode(sb_exchange_arena(x), sb_str_trim(sb_str_from(auth, 6)), &plain);
    colon = sb_str_chr(plain, ':', 0);
    sb_line_value(l, colon < 0 ? (struct sb_str){0} : sb_str_first(plain, (size_t)colon));
}

/* -- when -------------------------------------------------------------------------------------- */

VARIABLE(time_local)
{
    struct sb_str date = sb_worker_local_date(x->w);

    UNUSED_REST;
    sb_line_text(l, date.p, date.len);
}

VARIABLE(time_iso8601)
{
    time_t now = time(NULL);
    char text[32];
    struct tm tm;
    size_t n;

    UNUSED_X;
    localtime_r(&now, &tm);
    n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S%z", &tm);
    sb_line_text(l, text, n - 2); /* +hh:mm, where strftime has +hhmm */
    sb_line_text(l, ":", 1);
    sb_line_text(l, text + n - 2, 2);
}

VARIABLE(msec)
{
    UNUSED_X;
    sb_line_seconds(l, sb_wall_ms());
}

VARIABLE(request_time)
{
    UNUSED_REST;
    (void)sb_now_ms(x->w);
    sb_line_seconds(l, (x->w->now_us - x->start_us) / 1000);
}

/* -- the request ------------------------------------------------------------------------------- */

/* The first line of an HTTP/1 request as it came; else what it would have been. */
VARIABLE(request)
{
    struct sb_str s = x->req.method;

    UNUSED_REST;
    if (!x->req.started || !s.p) {
        sb_line_value(l, (struct sb_str){0});
    } else if (x->stream) {
        sb_line_value(l, s);
        sb_line_text(l, " ", 1);
        sb_line_value(l, x->req.target);
        sb_line_text(l, " HTTP/2.0", 9);
    } else {
        s.len = (size_t)(x->in + x->req.lines - s.p);
        if (x->req.lines == 0)
            s.len = x->req.at > (size_t)(s.p - x->in) ? x->req.at - (size_t)(s.p - x->in) : 0;
        sb_line_value(l, sb_str_trim(s));
    }
}

VARIABLE(request_method)
{
    UNUSED_REST;
    sb_line_value(l, x->req.method);
}

VARIABLE(request_uri)
{
    UNUSED_REST;
    sb_line_value(l, x->req.target);
}

VARIABLE(uri)
{
    UNUSED_REST;
    sb_line_value(l, x->path.p ? x->path : x->req.path);
}

VARIABLE(args)
{
    UNUSED_REST;
    sb_line_value(l, x->req.query);
}

VARIABLE(is_args)
{
    UNUSED_REST;
    if (x->req.query.len)
        sb_line_text(l, "?", 1);
    else
        sb_line_value(l, (struct sb_str){0});
}

/* The value behind name= in a list. */
static struct sb_str listed_value(struct sb_str list, char separator, struct sb_str name)
{
    struct sb_str item;

    while (sb_str_split(&list, separator, &item)) {
        item = sb_str_trim(item);
        if (item.len > name.len && item.p[name.len] == '=' &&
            sb_str_ieq(sb_str_first(item, name.len), name))
            return sb_str_from(item, name.len + 1);
    }
    return (struct sb_str){0};
}

VARIABLE(arg_)
{
    sb_line_value(l, listed_value(x->req.query, '&', rest));
}

VARIABLE(cookie_)
{
    sb_line_value(l, listed_value(sb_http_get(&x->req, SB_H_COOKIE), ';', rest));
}

static struct sb_str find_header(const struct sb_http_head *h, struct sb_str name)
{
    for (size_t i = 0; i < h->nheaders; i++)
        if (sb_http_name_is(h->headers[i].name, name))
            return h->headers[i].value;
    return (struct sb_str){0};
}

/* As the upstream got it: what plugins set comes first. */
VARIABLE(http_)
{
    for (const struct sb_header_change *c = x->request_changes; c; c = c->next) {
        if (!sb_http_name_is(c->name, rest))
            continue;
        sb_line_value(l, c->value);
        return;
    }
    sb_line_value(l, find_header(&x->req, rest));
}

VARIABLE(content_type)
{
    UNUSED_REST;
    sb_line_value(l, sb_http_get(&x->req, SB_H_CONTENT_TYPE));
}

VARIABLE(content_length)
{
    UNUSED_REST;
    sb_line_value(l, sb_http_get(&x->req, SB_H_CONTENT_LENGTH));
}

VARIABLE(request_length)
{
    UNUSED_REST;
    sb_line_number(l, x->req.len + x->body.received);
}

VARIABLE(host)
{
    UNUSED_REST;
    sb_line_value(l, x->host);
}

VARIABLE(scheme)
{
    UNUSED_REST;
    put_flag(l, true, x->https ? "https" : "http");
}

VARIABLE(https)
{
    UNUSED_REST;
    if (x->https)
        sb_line_text(l, "on", 2);
    else if (l->escape == SB_LOG_ESCAPE_DEFAULT)
        sb_line_text(l, "-", 1);
}

VARIABLE(server_protocol)
{
    struct sb_str version = sb_exchange_http_version(x);

    UNUSED_REST;
    sb_line_text(l, "HTTP/", 5);
    sb_line_value(l, sb_str_is(version, "2") ? SB_STR("2.0") : version);
}

VARIABLE(server_addr)
{
    UNUSED_REST;
    sb_line_value(l, sb_str_c(x->c->local_ip));
}

VARIABLE(server_port)
{
    UNUSED_REST;
    sb_line_number(l, x->c->listener->listen->port);
}

VARIABLE(server_name)
{
    UNUSED_X;
    sb_line_text(l, "kong", 4);
}

VARIABLE(connection_requests)
{
    UNUSED_REST;
    sb_line_number(l, x->c->requests);
}

VARIABLE(request_id)
{
    UNUSED_REST;
    sb_line_text(l, x->id, sizeof x->id);
}

VARIABLE(pid)
{
    UNUSED_X;
    sb_line_number(l, (uint64_t)getpid());
}

VARIABLE(hostname)
{
    char name[256] = "";

    UNUSED_X;
    gethostname(name, sizeof name - 1);
    sb_line_value(l, sb_str_c(name));
}

/* -- TLS --------------------------------------------------------------------------------------- */

VARIABLE(ssl_protocol)
{
    const SSL *ssl = x->c->io.ssl;

    UNUSED_REST;
    put_flag(l, ssl != NULL, ssl ? SSL_get_version(ssl) : "");
}

VARIABLE(ssl_cipher)
{
    const SSL *ssl = x->c->io.ssl;

    UNUSED_REST;
    put_flag(l, ssl != NULL, ssl ? SSL_get_cipher_name(ssl) : "");
}

VARIABLE(ssl_server_name)
{
    UNUSED_REST;
    sb_line_value(l, x->c->sni);
}

VARIABLE(ssl_session_reused)
{
    UNUSED_REST;
    put_flag(l, x->c->io.ssl && SSL_session_reused(x->c->io.ssl), "r");
}

/* -- the response ------------------------------------------------------------------------------ */

VARIABLE(status)
{
    UNUSED_REST;
    sb_line_number(l, (uint64_t)x->status);
}

VARIABLE(body_bytes_sent)
{
    UNUSED_REST;
    sb_line_number(l, x->body_sent);
}

VARIABLE(bytes_sent)
{
    UNUSED_REST;
    sb_line_number(l, x->resp_head_sent + x->body_sent);
}

VARIABLE(sent_http_)
{
    for (const struct sb_header_change *c = x->response_changes; c; c = c->next) {
        if (!sb_http_name_is(c->name, rest))
            continue;
        sb_line_value(l, c->value);
        return;
    }
    if (x->answer.status && sb_str_is(rest, "content-type") && x->answer.type.len)
        sb_line_value(l, x->answer.type);
    else
        sb_line_value(l, x->answer.status ? (struct sb_str){0} : find_header(&x->resp, rest));
}

/* -- the upstream ------------------------------------------------------------------------------ */

VARIABLE(upstream_http_)
{
    sb_line_value(l, x->upstream_status ? find_header(&x->resp, rest) : (struct sb_str){0});
}

VARIABLE(upstream_addr)
{
    const union sb_sockaddr *a = &x->pick.addr;
    char ip[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN + 10] = "";

    UNUSED_REST;
    if (x->try_us && a->sa.sa_family == AF_INET6)
        snprintf(text, sizeof text, "[%s]:%u",
                 inet_ntop(AF_INET6, &a->in6.sin6_addr, ip, sizeof ip), ntohs(a->in6.sin6_port));
    else if (x->try_us)
        snprintf(text, sizeof text, "%s:%u", inet_ntop(AF_INET, &a->in.sin_addr, ip, sizeof ip),
                 ntohs(a->in.sin_port));
    sb_line_value(l, sb_str_c(text));
}

VARIABLE(upstream_status)
{
    UNUSED_REST;
    if (x->upstream_status)
        sb_line_number(l, (uint64_t)x->upstream_status);
    else
        sb_line_value(l, (struct sb_str){0});
}

VARIABLE(upstream_header_time)
{
    UNUSED_REST;
    if (x->upstream_status)
        sb_line_seconds(l, (x->first_byte_us - x->try_us) / 1000);
    else
        sb_line_value(l, (struct sb_str){0});
}

VARIABLE(upstream_response_time)
{
    UNUSED_REST;
    (void)sb_now_ms(x->w);
    if (x->try_us)
        sb_line_seconds(l, (x->w->now_us - x->try_us) / 1000);
    else
        sb_line_value(l, (struct sb_str){0});
}

const struct sb_log_variable sb_log_variables[] = {
    {"arg_", put_arg_},
    {"args", put_args},
    {"body_bytes_sent", put_body_bytes_sent},
    {"bytes_sent", put_bytes_sent},
    {"connection_requests", put_connection_requests},
    {"content_length", put_content_length},
    {"content_type", put_content_type},
    {"cookie_", put_cookie_},
    {"document_uri", put_uri},
    {"host", put_host},
    {"hostname", put_hostname},
    {"http_", put_http_, 0, true},
    {"https", put_https},
    {"is_args", put_is_args},
    {"kong_request_id", put_request_id},
    {"msec", put_msec},
    {"pid", put_pid},
    {"proxy_protocol_addr", put_proxy_protocol_addr},
    {"proxy_protocol_port", put_proxy_protocol_port},
    {"query_string", put_args},
    {"realip_remote_addr", put_realip_remote_addr},
    {"realip_remote_port", put_remote_port},
    {"remote_addr", put_remote_addr},
    {"remote_port", put_remote_port},
    {"remote_user", put_remote_user},
    {"request", put_request},
    {"request_id", put_request_id},
    {"request_length", put_request_length},
    {"request_method", put_request_method},
    {"request_time", put_request_time},
    {"request_uri", put_request_uri},
    {"scheme", put_scheme},
    {"sent_http_", put_sent_http_, SB_LOG_WANTS_RESPONSE, true},
    {"server_addr", put_server_addr, SB_LOG_WANTS_LOCAL_IP},
    {"server_name", put_server_name},
    {"server_port", put_server_port},
    {"server_protocol", put_server_protocol},
    {"ssl_cipher", put_ssl_cipher},
    {"ssl_protocol", put_ssl_protocol},
    {"ssl_server_name", put_ssl_server_name},
    {"ssl_session_reused", put_ssl_session_reused},
    {"status", put_status},
    {"time_iso8601", put_time_iso8601},
    {"time_local", put_time_local},
    {"upstream_addr", put_upstream_addr},
    {"upstream_header_time", put_upstream_header_time},
    {"upstream_http_", put_upstream_http_, SB_LOG_WANTS_RESPONSE, true},
    {"upstream_response_time", put_upstream_response_time},
    {"upstream_status", put_upstream_status},
    {"uri", put_uri},
    {0},
};
