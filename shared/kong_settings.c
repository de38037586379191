/* kong_settings.c - every property of Kong's configuration, in the order of kong.conf.
 * Source of names, types, defaults and texts: reference/configuration.md, sections 3 to 5.
 */
#include "shared/settings.h"

/* clang-format off: one row a line reads best */
#define STRING(n, d, h)                                                                            \
    {                                                                                              \
        .name = n, .type = SB_S_STRING, .def = d, .help = h                                        \
    }
#define NUMBER(n, d, h)                                                                            \
    {                                                                                              \
        .name = n, .type = SB_S_NUMBER, .def = d, .help = h                                        \
    }
#define RANGE(n, d, lo, hi, text, h)                                                               \
    {                                                                                              \
        .name = n, .type = SB_S_NUMBER, .def = d, .ranged = true, .min = lo, .max = hi,            \
        .range_text = text, .help = h                                                              \
    }
#define WHOLE(n, d, lo, hi, text, h)                                                               \
    {                                                                                              \
        .name = n, .type = SB_S_NUMBER, .def = d, .ranged = true, .whole = true, .min = lo,        \
        .max = hi, .range_text = text, .help = h                                                   \
    }
#define BOOL(n, d, h)                                                                              \
    {                                                                                              \
        .name = n, .type = SB_S_BOOL, .def = d, .help = h                                          \
    }
#define NGX_BOOL(n, d, h)                                                                          \
    {                                                                                              \
        .name = n, .type = SB_S_NGX_BOOL, .def = d, .help = h                                      \
    }
#define LIST(n, d, h)                                                                              \
    {                                                                                              \
        .name = n, .type = SB_S_LIST, .def = d, .help = h                                          \
    }
#define ENUM(n, d, c, h)                                                                           \
    {                                                                                              \
        .name = n, .type = SB_S_ENUM, .def = d, .choices = c, .help = h                            \
    }
#define ALIAS(n, t, of, h)                                                                         \
    {                                                                                              \
        .name = n, .type = t, .alias_of = of, .help = h                                            \
    }

const struct sb_setting sb_kong_settings[] = {

    /* General */
    STRING("prefix", "/usr/local/kong/", "working directory; relative paths are below it"),
    ENUM("log_level", "notice", "debug, info, notice, warn, error, crit, alert, emerg",
         "how much goes to the error log"),
    STRING("proxy_access_log", "logs/access.log",
           "where requests are logged: a path, /dev/stdout or off"),
    STRING("proxy_error_log", "logs/error.log", "where errors are logged"),
    STRING("proxy_stream_access_log", "logs/access.log basic", "where stream sessions are logged"),
    STRING("proxy_stream_error_log", "logs/error.log", "where stream errors are logged"),
    STRING("admin_access_log", "logs/admin_access.log", "where Admin API requests are logged"),
    STRING("admin_error_log", "logs/error.log", "where Admin API errors are logged"),
    STRING("admin_gui_access_log", "logs/admin_gui_access.log", "accepted; there is no Manager"),
    STRING("admin_gui_error_log", "logs/admin_gui_error.log", "accepted; there is no Manager"),
    STRING("status_access_log", "off", "where status requests are logged"),
    STRING("status_error_log", "logs/status_error.log", "where status errors are logged"),
    LIST("vaults", "bundled", "vaults that may be used: bundled, off, or names"),
    LIST("plugins", "bundled", "plugins that may be used: bundled, off, or names"),
    LIST("pluginserver_names", NULL, "external plugin servers"),
    BOOL("anonymous_reports", "on", "accepted; nothing is reported to anyone"),
    STRING("proxy_server", NULL, "forward proxy for outgoing calls of plugins"),
    BOOL("proxy_server_ssl_verify", "on", "verify the forward proxy's certificate"),
    STRING("error_template_html", NULL, "file with a template for html errors"),
    STRING("error_template_json", NULL, "file with a template for json errors"),
    STRING("error_template_xml", NULL, "file with a template for xml errors"),
    STRING("error_template_plain", NULL, "file with a template for plain errors"),
    STRING("node_id", NULL, "UUID of this node; random when unset"),
    ALIAS("opentelemetry_tracing", SB_S_LIST, "tracing_instrumentations",
          "old name of tracing_instrumentations"),
    ALIAS("opentelemetry_tracing_sampling_rate", SB_S_NUMBER, "tracing_sampling_rate",
          "old name of tracing_sampling_rate"),
    LIST("tracing_instrumentations", "off", "what is traced"),
    RANGE("tracing_sampling_rate", "0.01", 0, 1, "must be between 0 and 1",
          "share of new traces that are sampled"),

    /* Roles */
    ENUM("role", "traditional", "traditional, control_plane, data_plane",
         "only traditional is served here"),
    BOOL("kic", "off", "set by the chart; informational"),
    STRING("cluster_control_plane", "127.0.0.1:8005", "accepted; hybrid mode is not served"),
    STRING("cluster_cert", NULL, "accepted; hybrid mode is not served"),
    STRING("cluster_cert_key", NULL, "accepted; hybrid mode is not served"),
    STRING("cluster_ca_cert", NULL, "accepted; hybrid mode is not served"),
    STRING("cluster_server_name", NULL, "accepted; hybrid mode is not served"),
    STRING("cluster_telemetry_server_name", NULL, "accepted; hybrid mode is not served"),
    ENUM("cluster_mtls", "shared", "shared, pki", "accepted; hybrid mode is not served"),
    RANGE("cluster_data_plane_purge_delay", "1209600", 60, 1e+18, "must be 60 or greater",
          "seconds after which a vanished node is forgotten"),
    ENUM("cluster_ocsp", "off", "on, off, optional", "accepted; hybrid mode is not served"),
    RANGE("cluster_max_payload", "16777216", 4194304, 1e+18, "must be 4194304 (4MB) or greater",
          "accepted; hybrid mode is not served"),
    BOOL("cluster_use_proxy", "off", "accepted; hybrid mode is not served"),
    BOOL("cluster_rpc", "off", "accepted; hybrid mode is not served"),
    BOOL("cluster_incremental_sync", "off", "accepted; hybrid mode is not served"),
    BOOL("cluster_cjson", "off", "accepted; hybrid mode is not served"),
    LIST("cluster_dp_labels", NULL, "accepted; hybrid mode is not served"),

    /* Listeners */
    LIST("proxy_listen",
         "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384",
         "addresses for HTTP and HTTPS traffic"),
    LIST("stream_listen", "off", "addresses for TCP, TLS and UDP traffic"),
    LIST("admin_listen",
         "127.0.0.1:8001 reuseport backlog=16384, 127.0.0.1:8444 http2 ssl reuseport backlog=16384",
         "addresses of the Admin API"),
    LIST("admin_gui_listen", "0.0.0.0:8002, 0.0.0.0:8445 ssl", "accepted; there is no Manager"),
    LIST("status_listen", "127.0.0.1:8007 reuseport backlog=16384", "addresses of the status API"),
    LIST("cluster_listen", "0.0.0.0:8005", "accepted; hybrid mode is not served"),
    LIST("port_maps", NULL, "PUBLIC:LISTEN pairs: the port that clients see"),

    /* TLS */
    LIST("ssl_cert", NULL, "default certificate of the proxy listeners: path, PEM or base64"),
    LIST("ssl_cert_key", NULL, "its key"),
    LIST("admin_ssl_cert", NULL,
         "default certificate of the Admin API listeners: path, PEM or base64"),
    LIST("admin_ssl_cert_key", NULL, "its key"),
    LIST("admin_gui_ssl_cert", NULL,
         "default certificate of the Manager listeners: path, PEM or base64"),
    LIST("admin_gui_ssl_cert_key", NULL, "its key"),
    LIST("status_ssl_cert", NULL,
         "default certificate of the status listeners: path, PEM or base64"),
    LIST("status_ssl_cert_key", NULL, "its key"),
    STRING("ssl_cipher_suite", "intermediate", "modern, intermediate, old, fips or custom"),
    STRING("ssl_ciphers", NULL, "OpenSSL cipher list, with ssl_cipher_suite custom"),
    STRING("ssl_protocols", "TLSv1.2 TLSv1.3", "protocols, with ssl_cipher_suite custom"),
    NGX_BOOL("ssl_prefer_server_ciphers", "on",
             "the server's order wins, with ssl_cipher_suite custom"),
    STRING("ssl_dhparam", NULL, "DH group or parameters"),
    NGX_BOOL("ssl_session_tickets", "on", "resumption by ticket"),
    STRING("ssl_session_timeout", "1d", "how long a TLS session may be resumed"),
    STRING("ssl_session_cache_size", "10m", "sessions kept for clients without tickets"),
    BOOL("client_ssl", "off",
         "present client_ssl_cert to upstreams that have no certificate of their own"),
    STRING("client_ssl_cert", NULL, "client certificate for upstreams"),
    STRING("client_ssl_cert_key", NULL, "its key"),
    LIST("lua_ssl_trusted_certificate", "system",
         "CA bundle for outgoing TLS: system, path, PEM or base64"),
    NUMBER("lua_ssl_verify_depth", "1", "longest chain of intermediates for outgoing TLS"),
    STRING("lua_ssl_protocols", "TLSv1.2 TLSv1.3", "protocols for outgoing TLS"),

    /* Client address, headers, errors, keep-alive */
    LIST("trusted_ips", NULL, "peers whose forwarded headers are believed: addresses, CIDRs"),
    STRING("real_ip_header", "X-Real-IP", "header with the client's address, or proxy_protocol"),
    NGX_BOOL("real_ip_recursive", "off", "walk the header from the right past trusted addresses"),
    LIST("headers", "server_tokens, latency_tokens, x-kong-request-id",
         "headers added to responses"),
    LIST("headers_upstream", "x-kong-request-id", "headers added to upstream requests"),
    ENUM("error_default_type", "text/plain",
         "application/json, application/xml, text/html, text/plain",
         "type of errors when the request has no Accept"),
    RANGE("upstream_keepalive_pool_size", "512", 0, 1e+18, "must be 0 or greater",
          "idle upstream connections per pool and worker; 0: none"),
    RANGE("upstream_keepalive_max_requests", "10000", 0, 1e+18, "must be 0 or greater",
          "requests per upstream connection; 0: no limit"),
    RANGE("upstream_keepalive_idle_timeout", "60", 0, 1e+18, "must be 0 or greater",
          "seconds an upstream connection may idle; 0: no limit"),
    BOOL("allow_debug_header", "off",
         "Kong-Debug: 1 asks for the route and service in response headers"),
    BOOL("request_debug", "on", "timing report on X-Kong-Request-Debug"),
    STRING("request_debug_token", NULL, "token for it; random when unset"),
    STRING("client_body_buffer_size", NULL, "no effect; use nginx_http_client_body_buffer_size"),

    /* Process */
    ALIAS("nginx_user", SB_S_STRING, "nginx_main_user", "short for nginx_main_user"),
    STRING("nginx_main_user", "kong kong", "user and group of the workers when started as root"),
    ALIAS("nginx_worker_processes", SB_S_STRING, "nginx_main_worker_processes",
          "short for nginx_main_worker_processes"),
    STRING("nginx_main_worker_processes", "auto",
           "worker threads: a number, or auto for one a core"),
    ALIAS("nginx_daemon", SB_S_NGX_BOOL, "nginx_main_daemon", "short for nginx_main_daemon"),
    NGX_BOOL("nginx_main_daemon", "on", "go to the background"),
    STRING("nginx_main_worker_rlimit_nofile", "auto", "open files"),
    STRING("nginx_events_worker_connections", "auto", "connections per worker"),
    NGX_BOOL("nginx_events_multi_accept", "on", "accept all that wait at once"),
    STRING("nginx_main_worker_shutdown_timeout", NULL, "longest drain on a graceful stop"),
    STRING("nginx_http_client_max_body_size", "0", "largest request body; 0: no limit"),
    STRING("nginx_http_client_body_buffer_size", "8k",
           "request body kept in memory before it spills to disk"),
    STRING("nginx_http_client_header_buffer_size", "1k", "first buffer for a request head"),
    STRING("nginx_http_large_client_header_buffers", "4 8k",
           "number and size of buffers for large heads"),
    STRING("nginx_http_client_header_timeout", "60s", "as nginx's client_header_timeout"),
    STRING("nginx_http_client_body_timeout", "60s", "as nginx's client_body_timeout"),
    STRING("nginx_http_send_timeout", "60s", "as nginx's send_timeout"),
    STRING("nginx_http_keepalive_timeout", "75s", "as nginx's keepalive_timeout"),
    STRING("nginx_http_charset", "UTF-8", "charset added to text responses"),
    STRING("nginx_http_keepalive_requests", "10000", "requests per client connection"),
    NUMBER("nginx_http_lua_regex_match_limit", "100000", "steps a regular expression may take"),
    NUMBER("nginx_http_lua_regex_cache_max_entries", "8192",
           "accepted; expressions are compiled once"),
    NUMBER("nginx_http_http2_max_concurrent_streams", "128", "streams per HTTP/2 connection"),
    STRING("nginx_admin_client_max_body_size", "10m", "largest Admin API body"),
    STRING("nginx_admin_client_body_buffer_size", "10m", "accepted"),
    STRING("nginx_admin_ssl_verify_client", NULL,
           "on: Admin API clients must present a certificate"),
    STRING("nginx_admin_ssl_client_certificate", NULL, "CA file for it"),
    STRING("mem_cache_size", "128m", "bound of the consumer and credential cache"),
    NUMBER("worker_events_max_payload", "65535", "accepted"),
    STRING("lmdb_environment_path", "dbless.lmdb",
           "accepted; the saved snapshot is a file below the prefix"),
    STRING("lmdb_map_size", "2048m", "accepted"),
    STRING("openresty_path", NULL, "accepted"),

    /* Datastore */
    ENUM("database", "postgres", "postgres, off, cassandra", "postgres or off"),
    STRING("pg_host", "127.0.0.1", "host, or several, comma separated"),
    NUMBER("pg_port", "5432", "port"),
    NUMBER("pg_timeout", "5000", "milliseconds to connect and for a statement"),
    STRING("pg_user", "kong", "user"),
    STRING("pg_password", NULL, "password"),
    STRING("pg_database", "kong", "database"),
    STRING("pg_schema", NULL, "schema; unset: the session's default"),
    BOOL("pg_ssl", "off", "use TLS"),
    BOOL("pg_ssl_required", "off", "refuse to go on without TLS"),
    BOOL("pg_ssl_verify", "off", "verify the server's certificate by lua_ssl_trusted_certificate"),
    STRING("pg_ssl_version", "tlsv1_2", "oldest TLS version"),
    STRING("pg_ssl_cert", NULL, "client certificate"),
    STRING("pg_ssl_cert_key", NULL, "its key"),
    WHOLE("pg_max_concurrent_queries", "0", 0, 1e+18, "must be greater than 0", "pool tuning"),
    WHOLE("pg_semaphore_timeout", "60000", 0, 1e+18, "must be greater than 0", "pool tuning"),
    WHOLE("pg_keepalive_timeout", NULL, 0, 1e+18, "must be greater than 0", "pool tuning"),
    WHOLE("pg_pool_size", NULL, 0, 1e+18, "must be greater than 0", "pool tuning"),
    WHOLE("pg_backlog", NULL, 0, 1e+18, "must be greater than 0", "pool tuning"),
    STRING("pg_ro_host", NULL, "host of the read replica, or several, comma separated"),
    NUMBER("pg_ro_port", NULL, "port of the read replica"),
    NUMBER("pg_ro_timeout", NULL, "milliseconds to connect and for a statement"),
    STRING("pg_ro_user", NULL, "user of the read replica"),
    STRING("pg_ro_password", NULL, "password of the read replica"),
    STRING("pg_ro_database", NULL, "database of the read replica"),
    STRING("pg_ro_schema", NULL, "schema; unset: the session's default"),
    BOOL("pg_ro_ssl", NULL, "use TLS of the read replica"),
    BOOL("pg_ro_ssl_required", NULL, "refuse to go on without TLS of the read replica"),
    BOOL("pg_ro_ssl_verify", NULL,
         "verify the server's certificate by lua_ssl_trusted_certificate"),
    STRING("pg_ro_ssl_version", NULL, "oldest TLS version"),
    STRING("pg_ro_ssl_cert", NULL, "client certificate of the read replica"),
    STRING("pg_ro_ssl_cert_key", NULL, "its key"),
    WHOLE("pg_ro_max_concurrent_queries", NULL, 0, 1e+18, "must be greater than 0",
          "pool tuning of the read replica"),
    WHOLE("pg_ro_semaphore_timeout", NULL, 0, 1e+18, "must be greater than 0",
          "pool tuning of the read replica"),
    WHOLE("pg_ro_keepalive_timeout", NULL, 0, 1e+18, "must be greater than 0",
          "pool tuning of the read replica"),
    WHOLE("pg_ro_pool_size", NULL, 0, 1e+18, "must be greater than 0",
          "pool tuning of the read replica"),
    WHOLE("pg_ro_backlog", NULL, 0, 1e+18, "must be greater than 0",
          "pool tuning of the read replica"),
    NUMBER("_debug_pg_ttl_cleanup_interval", "300", "seconds between clean-ups of expired rows"),
    STRING("declarative_config", NULL, "file with the configuration, with database off"),
    STRING("declarative_config_string", NULL, "the configuration as text, with database off"),
    NUMBER("db_update_frequency", "5", "seconds between polls where notifications do not arrive"),
    NUMBER("db_update_propagation", "0", "seconds a replica may lag"),
    NUMBER("db_cache_ttl", "0", "seconds an entity stays cached; 0: until it changes"),
    NUMBER("db_cache_neg_ttl", NULL, "seconds a miss stays cached; unset: db_cache_ttl"),
    NUMBER("db_resurrect_ttl", "30", "seconds a stale entity is served while the database is away"),
    LIST("db_cache_warmup_entities", "services",
         "consumers and kinds of credentials that are cached from the start"),
    ENUM("worker_consistency", "eventual", "strict, eventual",
         "accepted; changes are live at once"),
    RANGE("worker_state_update_frequency", "5", 1e-09, 1e+18, "must be greater than 0",
          "accepted; changes are live at once"),
    BOOL("dedicated_config_processing", "on",
         "accepted; configuration always has a thread of its own"),
    ALIAS("privileged_worker", SB_S_BOOL, "dedicated_config_processing",
          "old name of dedicated_config_processing"),
    ENUM("router_flavor", "traditional_compatible",
         "traditional, traditional_compatible, expressions", "how routes are matched"),

    /* DNS */
    LIST("dns_resolver", NULL, "name servers; unset: resolv.conf"),
    STRING("dns_hostsfile", "/etc/hosts", "hosts file"),
    LIST("dns_order", "LAST,SRV,A,CNAME", "order of record types"),
    NUMBER("dns_valid_ttl", NULL, "DNS cache: valid_ttl"),
    NUMBER("dns_stale_ttl", "3600", "DNS cache: stale_ttl"),
    NUMBER("dns_cache_size", "10000", "DNS cache: cache_size"),
    NUMBER("dns_not_found_ttl", "30", "DNS cache: not_found_ttl"),
    NUMBER("dns_error_ttl", "1", "DNS cache: error_ttl"),
    BOOL("dns_no_sync", "off", "do not join equal queries"),
    BOOL("new_dns_client", "off", "use the resolver_* settings"),
    LIST("resolver_address", NULL, "name servers, with new_dns_client"),
    STRING("resolver_hosts_file", "/etc/hosts", "hosts file, with new_dns_client"),
    LIST("resolver_family", "A,SRV", "record types, with new_dns_client"),
    NUMBER("resolver_valid_ttl", NULL, "DNS cache, with new_dns_client: valid_ttl"),
    NUMBER("resolver_stale_ttl", "3600", "DNS cache, with new_dns_client: stale_ttl"),
    NUMBER("resolver_error_ttl", "1", "DNS cache, with new_dns_client: error_ttl"),
    NUMBER("resolver_lru_cache_size", "10000", "DNS cache, with new_dns_client: lru_cache_size"),
    STRING("resolver_mem_cache_size", "5m", "accepted"),

    /* Vaults, Lua, Wasm, Manager */
    STRING("vault_env_prefix", NULL, "prefix of {vault://env/...} variables"),
    ENUM("untrusted_lua", "sandbox", "on, off, sandbox", "what serverless functions may do"),
    LIST("untrusted_lua_sandbox_requires", NULL, "for serverless functions"),
    LIST("untrusted_lua_sandbox_environment", NULL, "for serverless functions"),
    NUMBER("lua_socket_pool_size", "256", "idle outgoing plugin connections"),
    STRING("lua_package_path", "./?.lua;./?/init.lua;", "where Lua plugins are found"),
    STRING("lua_package_cpath", NULL, "where Lua C modules are found"),
    STRING("silverback_plugin_path", "/usr/local/lib/silverback/plugins/?.so",
           "where plugins in shared objects are found: templates, separated by ;"),
    WHOLE("lua_max_req_headers", "100", 1, 1000, "must be an integer between 1 and 1000",
          "how many are looked at"),
    WHOLE("lua_max_resp_headers", "100", 1, 1000, "must be an integer between 1 and 1000",
          "how many are looked at"),
    WHOLE("lua_max_uri_args", "100", 1, 1000, "must be an integer between 1 and 1000",
          "how many are looked at"),
    WHOLE("lua_max_post_args", "100", 1, 1000, "must be an integer between 1 and 1000",
          "how many are looked at"),
    BOOL("wasm", "off", "accepted; proxy-wasm filters are not served"),
    STRING("wasm_filters_path", NULL, "accepted"),
    LIST("wasm_filters", "bundled,user", "accepted"),
    LIST("admin_gui_url", NULL, "accepted; there is no Manager"),
    STRING("admin_gui_path", "/", "accepted"),
    STRING("admin_gui_api_url", NULL, "accepted"),
    {0},
};
/* clang-format on */
