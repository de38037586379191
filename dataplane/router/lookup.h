/* lookup.h - a router, and what one lookup knows (within dataplane/router only). */
#ifndef SB_DATAPLANE_ROUTER_LOOKUP_H
#define SB_DATAPLANE_ROUTER_LOOKUP_H

#include "dataplane/router/rule.h"

struct sb_router {
    struct sb_tree_node *http, *stream; /* counted; changed by nobody while we hold them */
    size_t size;
    enum sb_router_flavor flavor;
    bool utf8_paths; /* some route reads the path, and the flavor wants UTF-8 there */
    bool categories[SB_CATEGORIES]; /* what HTTP routes there are, by what they set */
};

struct sb_addr {
    bool known, v6;
    uint8_t b[16];
};

struct sb_lookup {
    const struct sb_router *r;
    const struct sb_router_request *q;
    struct sb_str host; /* without port */
    int32_t port;    /* destination: the Host header's, else the connection's (or its scheme's) */
    unsigned method; /* sb_rule_method() */
    bool stream, tls, traditional;
    bool have_addrs;
    struct sb_addr source, destination;
    unsigned candidates, regexes;
};

/* What a match leaves behind. */
struct sb_hit {
    struct sb_str prefix;
    const struct sb_router_regex *regex;
};

/* Reads the request's addresses, once. */
void sb_lookup_addrs(struct sb_lookup *l);

#endif
