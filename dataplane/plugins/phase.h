/* phase.h - where plugins hook into an exchange.
 *
 *     rewrite -> (route) -> access -> (upstream) -> header_filter -> body_filter* -> log
 *
 * A route or a snapshot carries one struct sb_hooks, compiled by the config thread: per phase an
 * array in the order to run, NULL where there is nothing to do. The plain path tests one pointer.
 *
 * A hook runs on the exchange's worker and must not block. It returns
 *   SB_OK     go on with the next one; or, after sb_exchange_answer(), stop here and answer;
 *   SB_AGAIN  suspended: the exchange waits until sb_exchange_resume(), called on the same worker
 *             (later, not from within the hook), and then goes on with the next hook (resume_again:
 *             with the same one). The exchange may end meanwhile, because its client left, or in
 *             the very call that resumes it: what waits for something else gives the exchange's
 *             arena a deferred call that cancels it. Not in body_filter and log;
 *   anything else: it broke; logged, and the answer is Kong's 500.
 * rewrite hooks come from the snapshot, the others from the route, or from the snapshot where no
 * route was found (404, refused requests).
 */
#ifndef SB_DATAPLANE_PLUGINS_PHASE_H
#define SB_DATAPLANE_PLUGINS_PHASE_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/str.h"

struct sb_exchange;
struct sb_plugin;
struct sb_plugin_instance;
struct sb_route;
struct sb_service;
struct sb_snapshot;
struct sb_value;
struct event_base;

enum sb_phase {
    SB_PHASE_REWRITE,
    SB_PHASE_ACCESS,
    SB_PHASE_HEADER_FILTER,
    SB_PHASE_BODY_FILTER,
    SB_PHASE_LOG,
    SB_PHASES,
};

/* A piece of the response body. A filter may point data elsewhere (arena, or memory that lives as
 * long as the exchange), or empty it; last marks the end, with or without data. */
struct sb_chunk {
    struct sb_str data;
    bool last;
};

/* instance and slot are the chain's (chain.h). With a slot the config is not this row's but that of
 * the instance that was chosen for the exchange, for it depends on the consumer. */
struct sb_hook {
    enum sb_rc (*run)(struct sb_exchange *x, const void *config); /* all but body */
    enum sb_rc (*filter)(struct sb_exchange *x, const void *config, struct sb_chunk *c); /* body */
    const void *config;
    const struct sb_plugin *plugin;
    const struct sb_plugin_instance *instance; /* NULL with a slot: only for some consumers */
    uint16_t slot;                             /* 1..; 0: fixed */
};

struct sb_hooks {
    const struct sb_hook *phase[SB_PHASES]; /* each ends with a row of NULLs; or NULL */
    bool response_buffered;                 /* some body filter wants the whole body in one piece */
    uint16_t slots;                         /* plugins that depend on the consumer */
};

/* Ends the way towards the upstream: this is what the client gets. Everything is copied. headers:
 * name, value, name, value ... (nheaders counts both); content_type "" for none. In rewrite, access
 * and header_filter: there the upstream's headers stay, but for those that are given and for
 * Content-Encoding, and its body is replaced; the other plugins' filters still run. Headers of an
 * answer may also be set with sb_exchange_set_response_header().
 */
void sb_exchange_answer(struct sb_exchange *x, int status, struct sb_str content_type,
                        struct sb_str body, const struct sb_str *headers, size_t nheaders);
/* The same in the format that the client accepts, with the request id (proxy-http.md 8). message ""
 * takes the status' default. */
void sb_exchange_answer_error(struct sb_exchange *x, int status, struct sb_str message);
/* With the body that the status itself brings: nginx's page, the error template, or nothing. */
void sb_exchange_answer_status(struct sb_exchange *x, int status);
/* {"message": ...} as JSON; message "" : {}. */
void sb_exchange_answer_message(struct sb_exchange *x, int status, struct sb_str message);

/* -- who it is -- */

/* As an authentication plugin found them, for all that run after it: consumer-scoped plugins are
 * chosen by the consumer's id from there on. What pointers and slices point to must live as long as
 * the exchange: its arena, or something counted that a call deferred to its arena gives back. */
struct sb_consumer {
    struct sb_str id, username, custom_id; /* "" where null */
};
struct sb_credential {
    struct sb_str id;          /* of the credential's row; "" when it has none */
    struct sb_str consumer_id; /* "" */
    const void *row;           /* the plugin's own idea of it, for its kind; may be NULL */
    const char *kind;          /* the entity's name ("keyauth_credentials"); tells what row is */
};

/* Sets both; NULL clears one. In access only. */
void sb_exchange_authenticate(struct sb_exchange *x, const struct sb_consumer *consumer,
                              const struct sb_credential *credential);
const struct sb_consumer *sb_exchange_consumer(const struct sb_exchange *x);     /* NULL: none */
const struct sb_credential *sb_exchange_credential(const struct sb_exchange *x); /* NULL: none */
/* Groups that authentication itself told (ldap-auth, openid); acl reads them. Kept, not copied. */
void sb_exchange_set_groups(struct sb_exchange *x, const struct sb_str *groups, size_t n);
const struct sb_str *sb_exchange_groups(const struct sb_exchange *x, size_t *n); /* NULL: not set */

/* -- waiting -- */

/* Goes on after SB_AGAIN. */
void sb_exchange_resume(struct sb_exchange *x);
void sb_exchange_resume_again(struct sb_exchange *x);

/* The exchange's memory: freed when it ends. */
struct sb_arena *sb_exchange_arena(struct sb_exchange *x);
/* Memory of a hook's own: zeroed at first, the same at each further call with that owner (its
 * config, say), in every phase, until the exchange ends. */
void *sb_exchange_state(struct sb_exchange *x, const void *owner, size_t len);
struct event_base *
sb_exchange_loop(struct sb_exchange *x); /* the worker's, for timers and sockets */

/* What came. Slices live as long as the exchange. Query and headers are as the plugins before this
 * one left them; what a hook changes itself it does not find changed, so that it finds the same
 * when it is called again. */
const struct sb_snapshot *sb_exchange_snapshot(const struct sb_exchange *x);
const struct sb_route *sb_exchange_route(const struct sb_exchange *x);     /* NULL: none matched */
const struct sb_service *sb_exchange_service(const struct sb_exchange *x); /* NULL: none */
/* Both as Kong shows them: the entity's fields that are not null, and ws_id. Read from the stored
 * row at the first call (some 10 us), then the same. NULL: none. */
const struct sb_value *sb_exchange_route_entity(struct sb_exchange *x);
const struct sb_value *sb_exchange_service_entity(struct sb_exchange *x);
struct sb_str sb_exchange_method(const struct sb_exchange *x);
struct sb_str sb_exchange_path(const struct sb_exchange *x); /* normalised, without query */
struct sb_str sb_exchange_query(const struct sb_exchange *x);
/* As received: the target with its query; the version as text, "1.1". */
struct sb_str sb_exchange_target(const struct sb_exchange *x);
struct sb_str sb_exchange_http_version(const struct sb_exchange *x);
struct sb_str sb_exchange_client_ip(const struct sb_exchange *x); /* after real-ip */
struct sb_str sb_exchange_request_id(const struct sb_exchange *x);
/* The first header of that name; p NULL: absent. */
struct sb_str sb_exchange_header(const struct sb_exchange *x, struct sb_str name);
/* The same as the client sent it, whatever plugins made of it. */
struct sb_str sb_exchange_sent_header(const struct sb_exchange *x, struct sb_str name);
/* Calls fn for every header in the order received, those of one name too, until it says false. */
void sb_exchange_each_header(const struct sb_exchange *x,
                             bool (*fn)(void *arg, struct sb_str name, struct sb_str value),
                             void *arg);
bool sb_exchange_https(const struct sb_exchange *x); /* the connection's own scheme */
/* The same as text or, from a trusted peer, its X-Forwarded-Proto, whatever that says. */
struct sb_str sb_exchange_forwarded_proto(const struct sb_exchange *x);
/* The client's certificate (PEM chain and so on: its connection); NULL: plain, or none given. */
struct ssl_st *sb_exchange_tls(const struct sb_exchange *x);

/* The connection that the request came on. */
struct sb_connection {
    char local_ip[46]; /* where it was accepted, as text */
    uint16_t local_port;
    uint64_t serial;   /* a number of its own in this process, from 1 */
    uint64_t requests; /* that came on it so far, this one too */
};
struct sb_connection sb_exchange_connection(const struct sb_exchange *x);

/* The whole request body, in one piece, up to max bytes. SB_OK: in *body, "" when there is none;
 * valid as long as the exchange. SB_AGAIN: it is still coming in; return SB_AGAIN from the hook,
 * which is called again when it is there. SB_TOOLARGE: longer than max; it goes to the upstream all
 * the same. SB_IO, SB_INVALID: the client broke off; return it. In rewrite and access. */
SB_MUST enum sb_rc sb_exchange_body(struct sb_exchange *x, size_t max, struct sb_str *body);

/* What goes on to the upstream, in access (headers, query and method in rewrite, too). Setting
 * replaces all of that name, value p NULL removes; copied. Host may be set like any other; what the
 * gateway itself writes (X-Forwarded-*, Via, Connection, framing) stays its own. Control characters
 * are escaped, here and in headers of responses: values may come from the request. */
void sb_exchange_set_upstream_header(struct sb_exchange *x, struct sb_str name,
                                     struct sb_str value);
void sb_exchange_add_upstream_header(struct sb_exchange *x, struct sb_str name,
                                     struct sb_str value);
/* The header as the upstream will see it now: changed, else as the client sent it. */
struct sb_str sb_exchange_upstream_header(const struct sb_exchange *x, struct sb_str name);
void sb_exchange_set_upstream_method(struct sb_exchange *x, struct sb_str method);
/* In place of the path that the route makes, escaped as it should be sent, with its leading slash;
 * and of the query, without "?" ("" : none). */
void sb_exchange_set_upstream_path(struct sb_exchange *x, struct sb_str path);
void sb_exchange_set_upstream_query(struct sb_exchange *x, struct sb_str query);
struct sb_str sb_exchange_upstream_query(const struct sb_exchange *x); /* as it is now */
/* In place of what the client sends, which is read and thrown away. */
void sb_exchange_set_upstream_body(struct sb_exchange *x, struct sb_str body);
/* https or plain http to the upstream, whatever the service says. */
void sb_exchange_set_upstream_https(struct sb_exchange *x, bool https);
/* A host (name, address, upstream) and port in place of the service's; Host becomes the host. */
void sb_exchange_set_target(struct sb_exchange *x, struct sb_str host, uint16_t port);
/* The upstream of that name balances in place of the service's host. SB_NOTFOUND: there is none. */
SB_MUST enum sb_rc sb_exchange_set_upstream(struct sb_exchange *x, struct sb_str name);

/* -- the response -- */

/* In header_filter: this config's body_filter has nothing to do with this response, and is not
 * called. Where that is so of all of them, the length that the upstream gave stays. */
void sb_exchange_leave_body(struct sb_exchange *x, const void *config);
int sb_exchange_status(const struct sb_exchange *x); /* of the response; 0 before header_filter */
void sb_exchange_set_status(struct sb_exchange *x, int status);
struct sb_str sb_exchange_response_header(const struct sb_exchange *x, struct sb_str name);
/* Calls fn with each value of that name, as it stands now, until it says false; fn may change the
 * response's headers. */
void sb_exchange_each_response_header(struct sb_exchange *x, struct sb_str name,
                                      bool (*fn)(void *arg, struct sb_str value), void *arg);
/* Setting replaces all of that name, value p NULL removes; copied. From rewrite on, whoever will
 * answer; until the head is sent. */
void sb_exchange_set_response_header(struct sb_exchange *x, struct sb_str name,
                                     struct sb_str value);
void sb_exchange_add_response_header(struct sb_exchange *x, struct sb_str name,
                                     struct sb_str value);
/* Where the response came from (kong.response.get_source). */
enum sb_response_source { SB_FROM_UPSTREAM, SB_FROM_PLUGIN, SB_FROM_ERROR };
enum sb_response_source sb_exchange_source(const struct sb_exchange *x);

/* Microseconds since start; -1: did not happen. For log. */
struct sb_timings {
    int64_t start_us;      /* the request's first byte was there: wall clock, since 1970 */
    int64_t picked_us;     /* the plugins were through, and the last target was picked */
    int64_t first_byte_us; /* of the upstream's response */
    int64_t end_us;        /* the response was sent */
};
struct sb_timings sb_exchange_timings(const struct sb_exchange *x);
uint64_t sb_exchange_request_size(const struct sb_exchange *x);  /* head and body, as received */
uint64_t sb_exchange_response_size(const struct sb_exchange *x); /* body bytes sent */

#endif
