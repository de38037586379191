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

void sb_lookup_init(struct sb_lookup *l, const struct sb_router *r,
                    const struct sb_router_request *q);
/* Reads the request's addresses, once. */
void sb_lookup_addrs(struct sb_lookup *l);
/* The connection's protocol, as expressions call it: one bit of HTTP, HTTPS, TCP, TLS, UDP. */
unsigned sb_lookup_protocol(const struct sb_lookup *l);

/* The conditions, one by one (fit.c). SNIs: those of a TLS connection. */
bool sb_fits_port(const struct sb_lookup *l, const struct sb_tree_entry *entry);
bool sb_fits_protocol(const struct sb_lookup *l, const struct sb_rule *rule);
bool sb_fits_method(const struct sb_lookup *l, const struct sb_rule *rule);
bool sb_fits_sni(const struct sb_lookup *l, const struct sb_rule *rule);
bool sb_fits_nets(struct sb_lookup *l, const struct sb_rule *rule);
bool sb_fits_headers(struct sb_lookup *l, const struct sb_rule *rule);
bool sb_fits_path(struct sb_lookup *l, const struct sb_cand *cand, struct sb_hit *hit);

bool sb_host_fits(const struct sb_rule_host *h, struct sb_str name);
bool sb_header_name_fits(struct sb_str name, struct sb_str lower);
bool sb_has_header(const struct sb_lookup *l, const struct sb_rule *rule); /* one it names */
bool sb_addr_fits(const struct sb_rule_net *net, const struct sb_addr *addr);

#endif
