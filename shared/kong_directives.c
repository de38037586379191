/* kong_directives.c - see kong_directives.h.
 *
 * Kong writes such a setting into nginx.conf; here it is read by who does what it asks for. What
 * nobody reads is warned about when settings are loaded: a limit or a rule that someone relies on
 * must not be missing silently. The families of stream and wasm have their own readers.
 */
#include "shared/kong_directives.h"

/* Of the families http, proxy and location. */
static const char *const http[] = {
    "charset",
    "client_body_buffer_size",
    "client_body_timeout",
    "client_header_timeout",
    "client_max_body_size",
    "http2_max_concurrent_streams",
    "keepalive_requests",
    "keepalive_timeout",
    "large_client_header_buffers",
    "log_format",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_ignore_client_abort",
    "proxy_max_temp_file_size",
    "proxy_next_upstream",
    "proxy_next_upstream_timeout",
    "proxy_next_upstream_tries",
    "proxy_ssl_ciphers",
    "proxy_ssl_crl",
    "proxy_ssl_protocols",
    "proxy_ssl_session_reuse",
    "proxy_ssl_trusted_certificate",
    "proxy_ssl_verify",
    "proxy_ssl_verify_depth",
    "real_ip_header",
    "real_ip_recursive",
    "send_timeout",
    "set_real_ip_from",
    "ssl_client_certificate",
    "ssl_conf_command",
    "ssl_crl",
    "ssl_ecdh_curve",
    "ssl_session_ticket_key",
    "ssl_stapling",
    "ssl_stapling_responder",
    "ssl_trusted_certificate",
    "ssl_verify_client",
    "ssl_verify_depth",
};

/* Of families that have few, written out; what the settings' own table has is not asked for. */
static const char *const others[] = {
    "nginx_admin_ssl_crl",  "nginx_admin_ssl_verify_depth",   "nginx_status_ssl_client_certificate",
    "nginx_status_ssl_crl", "nginx_status_ssl_verify_client", "nginx_status_ssl_verify_depth",
};

static const char *const families[] = {"nginx_http_", "nginx_proxy_", "nginx_location_"};
static const char *const strict[] = {"nginx_main_", "nginx_events_", "nginx_upstream_",
                                     "nginx_admin_", "nginx_status_"};

#define COUNT(list) (sizeof(list) / sizeof *(list))

static bool listed(const char *const *list, size_t n, struct sb_str name)
{
    for (size_t i = 0; i < n; i++)
        if (sb_str_is(name, list[i]))
            return true;
    return false;
}

bool sb_directive_known(struct sb_str setting)
{
    for (size_t i = 0; i < COUNT(families); i++)
        if (sb_str_starts(setting, sb_str_c(families[i])))
            return listed(http, COUNT(http), sb_str_from(setting, strlen(families[i])));
    for (size_t i = 0; i < COUNT(strict); i++)
        if (sb_str_starts(setting, sb_str_c(strict[i])))
            return listed(others, COUNT(others), setting);
    return true;
}
