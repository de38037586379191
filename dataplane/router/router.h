/* router.h - which route answers a request.
 *
 * A router is immutable and made by the config thread. Lookup: host hash (exact, then wildcard
 * chains) -> candidates of that host in priority order, by path prefix; regexes only where a bucket
 * has them. A change rebuilds the hosts it touches and shares the rest with the router before.
 *
 * Rules: reference/proxy-router.md; flavor traditional_compatible (Kong's actual order).
 */
#ifndef SB_DATAPLANE_ROUTER_ROUTER_H
#define SB_DATAPLANE_ROUTER_ROUTER_H

#include "dataplane/config/snapshot.h"
#include "shared/arena.h"
#include "shared/err.h"
#include "shared/value.h"

enum sb_router_flavor {
    SB_ROUTER_TRADITIONAL_COMPATIBLE,
    SB_ROUTER_TRADITIONAL,
    SB_ROUTER_EXPRESSIONS,
};

struct sb_router;

/* A header of the request, as it came. */
struct sb_router_header {
    struct sb_str name, value;
};

struct sb_router_request {
    struct sb_str method;           /* "GET" */
    enum sb_protocol scheme;        /* HTTP, HTTPS, GRPC, GRPCS */
    struct sb_str host;             /* Host header as sent, port and case included; "" when absent */
    struct sb_str path;             /* normalised (sb_path_normalise), without query */
    struct sb_str query;            /* without '?' */
    struct sb_str sni;              /* "" when none */
    const struct sb_router_header *headers;
    size_t nheaders;
    /* Stream and expression fields */
    struct sb_str source_ip, destination_ip;
    uint16_t source_port, destination_port;
};

struct sb_router_match {
    const struct sb_route *route;
    /* How much of the path the matching route path covers (for strip_path); for a regex the matched
     * length. 0 when no path took part. */
    size_t prefix_len;
    bool matched_regex;
    /* What was looked at: tests assert on these counts. */
    unsigned candidates, regexes;
};

/* False: no route. Takes no memory, no locks. */
bool sb_router_match(const struct sb_router *r, const struct sb_router_request *q,
                     struct sb_router_match *out);

/* The path of the upstream request, without query, by strip_path, path_handling and the service's
 * path (proxy-router.md: the full table). Written to out (cap bytes); false when it does not fit. */
bool sb_router_upstream_path(const struct sb_router_match *m, struct sb_str path, char *out,
                             size_t cap, size_t *len);

/* Percent-decoding and dot segments as Kong normalises request paths; out needs path.len + 1 bytes.
 * Returns false when the path is its own normal form (then out is not written): look first, copy
 * only when there is something to do. */
bool sb_path_normalise(struct sb_str path, char *out, size_t *len);

/* -- building, on the config thread -- */

/* One route to compile: its stored row and what it will point to. */
struct sb_router_source {
    const struct sb_value *row;
    const struct sb_route *route;
};

/* What a router is made of, counted (by its own thread only). */
struct sb_router_builder;

struct sb_router_builder *sb_router_builder_new(enum sb_router_flavor flavor);
void sb_router_builder_free(struct sb_router_builder *b);

/* Puts, replaces (same id) or removes a route in the builder. A route that does not compile is left
 * out: SB_INVALID with the reason; a former version of it is gone too. */
SB_MUST enum sb_rc sb_router_put(struct sb_router_builder *b, const struct sb_router_source *source,
                                 struct sb_err *err);
void sb_router_remove(struct sb_router_builder *b, struct sb_str route_id);

/* The router as of now; hosts untouched since the last build are shared with it. */
const struct sb_router *sb_router_build(struct sb_router_builder *b);
/* Gives one build back (any order); called by the config thread when no worker holds it. */
void sb_router_drop(struct sb_router_builder *b, const struct sb_router *r);

size_t sb_router_size(const struct sb_router *r); /* routes in it */

#endif
