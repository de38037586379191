/* options.h - the settings that serving traffic depends on, read once and compiled.
 *
 * Immutable while the workers run; shared by all of them.
 */
#ifndef SB_DATAPLANE_LISTEN_OPTIONS_H
#define SB_DATAPLANE_LISTEN_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "dataplane/http/access_log.h"
#include "shared/arena.h"
#include "shared/err.h"
#include "shared/settings.h"
#include "shared/str.h"

/* One entry of proxy_listen. */
struct sb_listen {
    struct sb_str text; /* address and port, for messages */
    struct sockaddr_storage addr;
    socklen_t addr_len;
    uint16_t port, forwarded_port; /* after port_maps */
    char port_text[6];             /* forwarded_port */
    bool ssl, http2, proxy_protocol, deferred, ipv6only;
    int backlog;
    bool so_keepalive, so_keepalive_set;
    int keepalive_idle_s, keepalive_interval_s, keepalive_count; /* 0: the system's */
};

/* A range of addresses, as 16 bytes (IPv4 mapped). */
struct sb_cidr {
    uint8_t addr[16];
    unsigned bits;
};

enum sb_token { /* bits of the `headers` setting */
                SB_TOKEN_VIA = 1,
                SB_TOKEN_SERVER = 2,
                SB_TOKEN_PROXY_LATENCY = 4,
                SB_TOKEN_RESPONSE_LATENCY = 8,
                SB_TOKEN_UPSTREAM_LATENCY = 16,
                SB_TOKEN_UPSTREAM_STATUS = 32,
                SB_TOKEN_REQUEST_ID = 64,
};

enum sb_next { /* bits of proxy_next_upstream: what another try may follow */
               SB_NEXT_ERROR = 1,
               SB_NEXT_TIMEOUT = 2,
               SB_NEXT_INVALID = 4,
               SB_NEXT_ANY_METHOD = 8, /* POST, PATCH and LOCK, too */
               SB_NEXT_403 = 16,       /* from here on, answers with that status */
               SB_NEXT_404 = 32,
               SB_NEXT_429 = 64,
               SB_NEXT_500 = 128,
               SB_NEXT_502 = 256,
               SB_NEXT_503 = 512,
               SB_NEXT_504 = 1024,
};

enum sb_error_format { SB_FORMAT_JSON, SB_FORMAT_PLAIN, SB_FORMAT_HTML, SB_FORMAT_XML, SB_FORMATS };

struct sb_proxy_options {
    struct sb_arena *arena;
    const struct sb_settings *settings; /* only while starting */

    unsigned workers, connections_max; /* of clients, a worker; 0: no limit */
    struct sb_listen *listens;
    size_t nlistens;
    bool http2; /* one listener's flag is everyone's */

    struct sb_cidr *trusted;      /* trusted_ips, and behind these what set_real_ip_from adds */
    size_t ntrusted, nreal;       /* peers to be believed X-Forwarded-*; the client's address */
    struct sb_str real_ip_header; /* "proxy_protocol" for the PROXY header's address */
    bool real_ip_recursive;

    unsigned tokens; /* enum sb_token */
    bool upstream_request_id, allow_debug_header, request_debug;
    struct sb_str debug_token; /* of X-Kong-Request-Debug-Token */
    bool wants_local_ip;       /* expressions may look at the address a connection came to */

    enum sb_error_format error_default;
    struct sb_str error_template[SB_FORMATS]; /* p NULL: the built-in one */
    struct sb_str charset;                    /* "" for off */

    size_t line_max, head_max; /* large_client_header_buffers */
    uint64_t body_max;         /* 0: no limit */
    size_t body_memory;        /* client_body_buffer_size: beyond it a temporary file */
    int64_t header_timeout_ms, body_timeout_ms, send_timeout_ms, keepalive_timeout_ms;
    uint64_t keepalive_requests;
    uint32_t h2_streams;        /* http2_max_concurrent_streams */
    unsigned next, next_tries;  /* of enum sb_next; at most so many tries, 0: as `retries` says */
    int64_t next_timeout_ms;    /* 0: none */
    bool response_buffering;    /* proxy_buffering; a route and a response may say no */
    size_t response_memory;     /* proxy_buffers, all of them */
    uint64_t response_file_max; /* proxy_max_temp_file_size; 0: no file */
    int64_t half_closed_ms;     /* how long a client that closed its side may wait for an answer */

    size_t pool_size;
    uint64_t pool_requests;
    int64_t pool_idle_ms; /* 0: for ever */

    struct sb_access_options access;
    bool log_wants_response; /* headers of the response appear in the access log */
    const char *temp_dir;    /* for bodies too large for memory */
};

/* err names the setting. The settings must outlive the call only. */
SB_MUST enum sb_rc sb_proxy_options_load(const struct sb_settings *settings,
                                         struct sb_proxy_options **out, struct sb_err *err);
void sb_proxy_options_free(struct sb_proxy_options *o);

/* Kong's listen grammar; "off" gives none. name: the setting, for the message. */
SB_MUST enum sb_rc sb_listen_parse(struct sb_arena *a, const char *name, const struct sb_str *items,
                                   size_t n, struct sb_listen **out, size_t *nout,
                                   struct sb_err *err);
/* "10.0.0.0/8", "::1"; false when it is neither. */
bool sb_cidr_parse(struct sb_str text, struct sb_cidr *out);
bool sb_cidr_has(const struct sb_cidr *set, size_t n, const struct sockaddr *sa);

#endif
