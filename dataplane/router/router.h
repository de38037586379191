/* router.h - which route answers a request.
 *
 * A router is immutable and made by the config thread. A lookup walks one prefix tree, host first
 * and path behind it, and looks at the routes it meets in priority order (match.c tells how); a
 * change copies the few tree nodes on its way and shares the rest with the router before (tree.h).
 *
 * Rules: Kong's, of each flavor, in its actual order of precedence (priority.c).
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
    struct sb_str method;    /* "GET" */
    enum sb_protocol scheme; /* of the connection: HTTP, HTTPS; TCP, TLS, UDP on a stream */
    struct sb_str host;      /* Host header as sent, port and case included; "" when absent */
    struct sb_str path;      /* normalised (sb_path_normalise), without query */
    struct sb_str query;     /* without '?' */
    struct sb_str sni;       /* "" when none */
    const struct sb_router_header *headers;
    size_t nheaders;
    /* The client after real-ip processing, and the local end (the port after port_maps; a port in
     * the Host header goes before it, which is the router's business). IPs as text, "" unknown. */
    struct sb_str source_ip, destination_ip;
    uint16_t source_port, destination_port;
};

struct sb_router_regex;

struct sb_router_match {
    const struct sb_route *route;
    /* How many bytes strip_path takes off the front of the path; 0 when no path took part. */
    size_t prefix_len;
    /* The text that matched, for X-Forwarded-Prefix: nearly always those bytes, but Kong strips as
     * many bytes as matched even where they matched elsewhere. Lives as long as request and router.
     */
    struct sb_str prefix;
    bool path_handling_v1;               /* the route's, where the flavor knows it */
    const struct sb_router_regex *regex; /* the regex that matched the path; NULL: none did */
    /* What was looked at: tests assert on these counts. */
    unsigned candidates, regexes;
};

/* False: no route. Takes no memory, no locks. */
bool sb_router_match(const struct sb_router *r, const struct sb_router_request *q,
                     struct sb_router_match *out);

/* The path of the upstream request, escaped, without query, by strip_path, path_handling and the
 * service's path. Written to out (cap bytes, no NUL); false when it does not fit: 3 * path.len +
 * the service path's length * 3 + 2 always do. */
bool sb_router_upstream_path(const struct sb_router_match *m, struct sb_str path, char *out,
                             size_t cap, size_t *len);

/* One capture of a regex path, for plugins and hashing. */
struct sb_router_capture {
    struct sb_str name;  /* "" when the group has none */
    struct sb_str value; /* p NULL: the group took no part */
};

/* The captures of the path that matched, 0 (everything) first; at most max, how many is returned. 0
 * when no regex matched or it has no groups. Runs the regex once more: ask only when wanted. */
size_t sb_router_captures(const struct sb_router_match *m, struct sb_str path,
                          struct sb_router_capture *out, size_t max);

/* Percent-decoding and dot segments as Kong normalises request paths; out needs path.len + 1 bytes.
 * Returns false when the path is its own normal form (then out is not written): look first, copy
 * only when there is something to do. */
bool sb_path_normalise(struct sb_str path, char *out, size_t *len);

/* As paths are escaped on the way to the upstream: what is reserved in URIs, and '%', stays. out
 * has room for three times path.len; returns how much of it was written. */
size_t sb_path_escape(struct sb_str path, char *out);

/* Is this route's expression, or what stands for its attributes, right? flavor points to an enum
 * sb_router_flavor (sb_schema_ctx.route_compiles has this shape). Not for the flavor traditional,
 * whose rules are the schema's alone. The message is what Kong puts behind "Router Expression
 * failed validation: ". Any thread. */
bool sb_router_route_compiles(void *flavor, const struct sb_value *route, struct sb_err *err);

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

/* -- why, for people (the builder's thread; not for the request path) -- */

/* What came of one candidate: a route, or the part of it that competes with these paths. */
struct sb_router_verdict {
    const struct sb_route *route;
    struct sb_str paths; /* "/a /b", "~/x", an expression; "" for any path */
    bool wins, fits;     /* fits: all its conditions hold, but another one ranks above */
    struct sb_str why;   /* in a sentence; "" for the winner */
};

/* All candidates, best rank first, in the arena; returns how many. */
size_t sb_router_explain(struct sb_router_builder *b, const struct sb_router_request *q,
                         struct sb_arena *arena, struct sb_router_verdict **out);

#endif
