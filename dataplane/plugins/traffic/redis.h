/* redis.h - a worker's connections to Redis servers: pipelined, on its loop, nothing blocks.
 *
 *     send --> waiting --(end of this round of the loop)--> sent --> done()
 *                 |            |
 *                 |            +-- OFF: name, TCP, TLS, AUTH, SELECT; then UP
 *                 +-- all of them fail where that fails, or takes longer than the timeout
 *
 * One connection for each server (host, port, database, user, TLS); libevent carries its bytes, in
 * TLS or plain, hiredis puts them into Redis' protocol and takes them out. After a failure the
 * server is left alone for a moment, and whoever asks meanwhile is refused at once; the first who
 * asks after that tries again. What is not used for ten seconds is closed.
 *
 * Belongs to its loop's thread.
 */
#ifndef SB_DATAPLANE_PLUGINS_TRAFFIC_REDIS_H
#define SB_DATAPLANE_PLUGINS_TRAFFIC_REDIS_H

#include <openssl/ssl.h>

#include "dataplane/plugins/traffic/redis_reply.h"

struct event_base;
struct sb_arena;
struct sb_plugin_source;
struct sb_redis;
struct sb_resolver;
struct sb_value;

struct sb_redis_server {
    struct sb_str key; /* equal for equal servers only; not for logs */
    struct sb_str host;
    uint16_t port;
    int timeout_ms;                   /* of connecting, and of each answer */
    struct sb_str username, password; /* "": none */
    int64_t database;
    SSL_CTX *tls; /* NULL: plain */
    bool verify;
    struct sb_str name; /* that its certificate must have, and SNI; "": the host */
};

/* From a config's `redis` record, in the source's arena. lua_ssl_trusted_certificate,
 * lua_ssl_verify_depth and lua_ssl_protocols say what TLS trusts. SB_INVALID and words. */
SB_MUST enum sb_rc sb_redis_server_compile(const struct sb_plugin_source *in,
                                           const struct sb_value *redis,
                                           struct sb_redis_server *out, struct sb_err *err);

/* A copy whose strings are in the arena; it counts for the TLS context, which must be freed. */
void sb_redis_server_copy(struct sb_arena *a, const struct sb_redis_server *from,
                          struct sb_redis_server *to);

/* A command under way: the caller's until done is called. */
struct sb_redis_task {
    /* SB_OK: the reply, during the call only. SB_UNAVAILABLE: there is none, or the server refused
     * the command; err says why. May send again. */
    void (*done)(struct sb_redis_task *task, enum sb_rc rc, const struct sb_redis_reply *reply,
                 const struct sb_err *err);
    struct sb_redis_task *next;
    int64_t deadline_ms;
};

/* The resolver is of the same loop, and outlives it. */
struct sb_redis *sb_redis_new(struct event_base *base, struct sb_resolver *resolver);
/* Commands under way are forgotten; done is not called any more. */
void sb_redis_free(struct sb_redis *r);

/* Words are copied. SB_OK: done will be called, never before this returns. SB_UNAVAILABLE: it
 * failed a moment ago. */
SB_MUST enum sb_rc sb_redis_send(struct sb_redis *r, const struct sb_redis_server *server,
                                 const struct sb_str *words, size_t nwords,
                                 struct sb_redis_task *task);

#endif
