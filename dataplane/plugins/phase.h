/* phase.h - where plugins hook into an exchange.
 *
 *     rewrite -> (route) -> access -> (upstream) -> header_filter -> body_filter* -> log
 *
 * A route or a snapshot carries one struct sb_hooks, compiled by the config thread: per phase an
 * array in the order to run, NULL where there is nothing to do. The plain path tests one pointer.
 *
 * A hook runs on the exchange's worker and must not block. It returns
 *   SB_OK     go on with the next one; or, after sb_exchange_answer(), stop here and answer;
 *   SB_AGAIN  suspended: the exchange waits until sb_exchange_resume(), called on the same worker,
 *             and then goes on with the next hook (resume_again: with the same one). The exchange
 *             may end meanwhile, because its client left: what waits for something else gives the
 *             exchange's arena a deferred call that cancels it. Not in body_filter and log;
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
struct sb_route;
struct sb_service;
struct sb_snapshot;
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

struct sb_hook {
    enum sb_rc (*run)(struct sb_exchange *x, const void *config); /* all but body */
    enum sb_rc (*filter)(struct sb_exchange *x, const void *config, struct sb_chunk *c); /* body */
    const void *config;
};

struct sb_hooks {
    const struct sb_hook *phase[SB_PHASES]; /* each ends with a row of NULLs; or NULL */
    bool response_buffered;                 /* some body filter wants the whole body in one piece */
};

/* Ends the way towards the upstream: this is what the client gets. Everything is copied. headers:
 * name, value, name, value ...; content_type "" for none. May be called in rewrite and access. */
void sb_exchange_answer(struct sb_exchange *x, int status, struct sb_str content_type,
                        struct sb_str body, const struct sb_str *headers, size_t nheaders);
/* The same in the format that the client accepts, with the request id (proxy-http.md 8). message ""
 * takes the status' default. */
void sb_exchange_answer_error(struct sb_exchange *x, int status, struct sb_str message);

/* Goes on after SB_AGAIN. */
void sb_exchange_resume(struct sb_exchange *x);
void sb_exchange_resume_again(struct sb_exchange *x);

/* The exchange's memory: freed when it ends. */
struct sb_arena *sb_exchange_arena(struct sb_exchange *x);
struct event_base *
sb_exchange_loop(struct sb_exchange *x); /* the worker's, for timers and sockets */

/* What came. Slices live as long as the exchange. */
const struct sb_snapshot *sb_exchange_snapshot(const struct sb_exchange *x);
const struct sb_route *sb_exchange_route(const struct sb_exchange *x);     /* NULL: none matched */
const struct sb_service *sb_exchange_service(const struct sb_exchange *x); /* NULL: none */
struct sb_str sb_exchange_method(const struct sb_exchange *x);
struct sb_str sb_exchange_path(const struct sb_exchange *x); /* normalised, without query */
struct sb_str sb_exchange_query(const struct sb_exchange *x);
struct sb_str sb_exchange_client_ip(const struct sb_exchange *x); /* after real-ip */
struct sb_str sb_exchange_request_id(const struct sb_exchange *x);
/* The first header of that name as the client sent it; p NULL: absent. */
struct sb_str sb_exchange_header(const struct sb_exchange *x, struct sb_str name);

/* What goes on. Setting replaces all of that name, value p NULL removes; copied. */
void sb_exchange_set_upstream_header(struct sb_exchange *x, struct sb_str name,
                                     struct sb_str value);
int sb_exchange_status(const struct sb_exchange *x); /* of the response; 0 before header_filter */
void sb_exchange_set_status(struct sb_exchange *x, int status);
struct sb_str sb_exchange_response_header(const struct sb_exchange *x, struct sb_str name);
void sb_exchange_set_response_header(struct sb_exchange *x, struct sb_str name,
                                     struct sb_str value);

#endif
