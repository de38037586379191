/* silverback/plugin.h - plugins in shared objects: the whole interface, and all that one needs.
 *
 * A plugin is a file NAME.so with one visible function:
 *
 *     const struct sbp_plugin *silverback_plugin(const struct sbp_gateway *gateway);
 *
 * The gateway calls it once at the start, keeps what it returns for good, and calls the functions
 * in it. The plugin calls the gateway through the table that it was given, so it links with
 * nothing. docs/plugins.md tells how to write, install and configure one; examples/plugin has a
 * whole one.
 *
 * Threads: configure and release run on the configuration's thread, everything else on the worker
 * that the exchange is on. There are several workers, which run the same plugin at the same time: a
 * config is read-only once configure has returned. Nothing may block.
 *
 * Versions: SILVERBACK_PLUGIN_ABI counts changes that old plugins can't live with; a plugin made
 * for another number is refused at the start. Functions are only ever added at the ends of the
 * tables: `size` tells how much of the gateway's table there is, and what lies behind the end of
 * the plugin's is taken as NULL.
 */
#ifndef SILVERBACK_PLUGIN_H
#define SILVERBACK_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SILVERBACK_PLUGIN_ABI 1

struct sbp_exchange; /* a request and its response */

/* Bytes with a length, not ended by NUL. p NULL: there is none. */
struct sbp_str {
    const char *p;
    size_t len;
};

enum sbp_result {
    SBP_OK = 0,
    SBP_WAIT = 1,     /* suspended, until gateway->resume */
    SBP_TOOLARGE = 2, /* of gateway->body */
    SBP_ERROR = 3,    /* it broke: logged, the client gets 500 */
};

/* A piece of the response's body. Point data elsewhere (memory of the exchange, or what lives as
 * long) to change it; last: nothing follows. */
struct sbp_chunk {
    struct sbp_str data;
    bool last;
};

enum sbp_log { SBP_LOG_DEBUG, SBP_LOG_INFO, SBP_LOG_NOTICE, SBP_LOG_WARN, SBP_LOG_ERROR };

/* What the gateway does for plugins. Slices that it returns live as long as the exchange; what it
 * is given, it copies. */
struct sbp_gateway {
    uint32_t abi;
    uint32_t size; /* of this struct, in bytes */

    void (*log)(enum sbp_log level, const char *text);

    /* Memory: freed with the exchange. state: zeroed at first, then the same for the same key. */
    void *(*alloc)(struct sbp_exchange *x, size_t len);
    void *(*state)(struct sbp_exchange *x, const void *key, size_t len);

    /* The request, as it came. */
    struct sbp_str (*method)(const struct sbp_exchange *x);
    struct sbp_str (*path)(const struct sbp_exchange *x); /* normalised, without query */
    struct sbp_str (*query)(const struct sbp_exchange *x);
    struct sbp_str (*header)(const struct sbp_exchange *x, struct sbp_str name); /* the first */
    struct sbp_str (*client_ip)(const struct sbp_exchange *x);
    struct sbp_str (*request_id)(const struct sbp_exchange *x);
    struct sbp_str (*route_id)(const struct sbp_exchange *x);
    struct sbp_str (*service_id)(const struct sbp_exchange *x);
    struct sbp_str (*consumer_id)(const struct sbp_exchange *x); /* behind authentication */
    struct sbp_str (*consumer_username)(const struct sbp_exchange *x);
    /* The whole body, when it has at most max bytes; else SBP_TOOLARGE. SBP_WAIT: it still comes
     * in; return SBP_WAIT, and the function is called again when it is there. In access. */
    enum sbp_result (*body)(struct sbp_exchange *x, size_t max, struct sbp_str *out);

    /* What goes to the upstream. set replaces all of that name, p NULL removes. In access. */
    void (*set_upstream_header)(struct sbp_exchange *x, struct sbp_str name, struct sbp_str value);
    void (*add_upstream_header)(struct sbp_exchange *x, struct sbp_str name, struct sbp_str value);
    void (*set_upstream_method)(struct sbp_exchange *x, struct sbp_str method);
    void (*set_upstream_path)(struct sbp_exchange *x, struct sbp_str path); /* escaped, with "/" */
    void (*set_upstream_query)(struct sbp_exchange *x, struct sbp_str query); /* without "?" */
    void (*set_upstream_body)(struct sbp_exchange *x, struct sbp_str body);
    void (*set_target)(struct sbp_exchange *x, struct sbp_str host, uint16_t port);

    /* Answers in place of the upstream, in rewrite, access and header_filter. type "": none.
     * answer_error: in the format that the client accepts, message "": the status' own. */
    void (*answer)(struct sbp_exchange *x, int status, struct sbp_str type, struct sbp_str body);
    void (*answer_error)(struct sbp_exchange *x, int status, struct sbp_str message);

    /* The response. Headers of answers, too; until the head is sent. */
    int (*status)(const struct sbp_exchange *x);
    void (*set_status)(struct sbp_exchange *x, int status);
    struct sbp_str (*response_header)(const struct sbp_exchange *x, struct sbp_str name);
    void (*set_response_header)(struct sbp_exchange *x, struct sbp_str name, struct sbp_str value);
    void (*add_response_header)(struct sbp_exchange *x, struct sbp_str name, struct sbp_str value);

    /* Waiting, in rewrite, access and header_filter. Calls fn once, on the exchange's worker, when
     * the time is over, or when the descriptor is ready (which stays the plugin's). The exchange
     * may end before, because its client left: then fn is never called. */
    void (*after)(struct sbp_exchange *x, uint32_t ms,
                  void (*fn)(struct sbp_exchange *x, void *arg), void *arg);
    void (*when_readable)(struct sbp_exchange *x, int fd,
                          void (*fn)(struct sbp_exchange *x, void *arg), void *arg);
    void (*when_writable)(struct sbp_exchange *x, int fd,
                          void (*fn)(struct sbp_exchange *x, void *arg), void *arg);
    /* Calls fn when the exchange ends, however it does: for what is not memory. */
    void (*at_end)(struct sbp_exchange *x, void (*fn)(void *arg), void *arg);
    /* From such a fn: goes on with what comes behind the function that said SBP_WAIT, or calls it
     * again. The exchange may be over when this returns: do nothing with it afterwards. */
    void (*resume)(struct sbp_exchange *x, bool again);
};

struct sbp_plugin {
    uint32_t abi;  /* SILVERBACK_PLUGIN_ABI */
    uint32_t size; /* sizeof(struct sbp_plugin) */

    const char *name; /* as in the setting `plugins` */
    int priority;     /* the greater runs first; those of the bundled plugins: docs/plugins.md */
    const char *version;
    /* What config may hold, as JSON (docs/plugins.md). The Admin API, declarative files and the
     * database are checked against it, so configure sees only what it allows, with all defaults. */
    const char *schema;

    /* From config (JSON, complete) to what the functions below are called with. NULL: it can't be;
     * say why in error, and the routes that it is for answer 503 until it is repaired. Without
     * configure they are called with NULL. release: no one uses it any more. */
    void *(*configure)(struct sbp_str config, char *error, size_t error_len);
    void (*release)(void *config);

    /* A function per phase; NULL: nothing to do. */
    enum sbp_result (*rewrite)(struct sbp_exchange *x, const void *config); /* global only */
    enum sbp_result (*access)(struct sbp_exchange *x, const void *config);
    enum sbp_result (*header_filter)(struct sbp_exchange *x, const void *config);
    enum sbp_result (*body_filter)(struct sbp_exchange *x, const void *config, struct sbp_chunk *c);
    enum sbp_result (*log)(struct sbp_exchange *x, const void *config);

    bool whole_response; /* body_filter wants the body in one piece */
};

#define SILVERBACK_PLUGIN_SYMBOL "silverback_plugin"
typedef const struct sbp_plugin *sbp_entry(const struct sbp_gateway *gateway);

/* To be defined by the plugin. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const struct sbp_plugin *
silverback_plugin(const struct sbp_gateway *gateway);

#ifdef __cplusplus
}
#endif

#endif
