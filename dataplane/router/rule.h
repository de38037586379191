/* rule.h - a route's conditions, compiled (within dataplane/router only).
 *
 * A rule is one route; its candidates are what competes. Kong splits a route whose paths rank
 * differently: one candidate for all its regexes, one for each length of prefix (traditional: one
 * for each path). All candidates share the other conditions.
 *
 * A rule never changes. It is counted by the builder and by the tree's entries, on the builder's
 * thread; the last to let go frees its arena, in which all of it lives.
 */
#ifndef SB_DATAPLANE_ROUTER_RULE_H
#define SB_DATAPLANE_ROUTER_RULE_H

#include "dataplane/router/regex.h"
#include "dataplane/router/router.h"
#include "dataplane/router/tree.h"

enum sb_host_kind { SB_HOST_EXACT, SB_HOST_SUFFIX, SB_HOST_PREFIX };

/* Kinds of attributes, by the weight that the old router gave them. */
enum {
    SB_KIND_DST = 1 << 0,
    SB_KIND_SRC = 1 << 1,
    SB_KIND_SNI = 1 << 2,
    SB_KIND_METHOD = 1 << 3,
    SB_KIND_PATH = 1 << 4,
    SB_KIND_HEADER = 1 << 5,
    SB_KIND_HOST = 1 << 6,
    SB_CATEGORIES = 1 << 7,
};

/* The text without '*'. */
struct sb_rule_host {
    struct sb_str text;
    enum sb_host_kind kind;
    int32_t port;    /* or SB_ANY_PORT */
    bool port_first; /* ranks before hosts without port */
};

struct sb_rule_value {
    struct sb_str text;            /* compared without case */
    struct sb_router_regex *regex; /* not NULL: instead of text */
};

struct sb_rule_header {
    struct sb_str name; /* lower case */
    const struct sb_rule_value *values;
    size_t nvalues;
};

/* An element of sources or destinations. */
struct sb_rule_net {
    bool has_ip, v6;
    uint8_t addr[16];
    unsigned bits; /* of the address that count */
    int32_t port;  /* or SB_ANY_PORT */
};

struct sb_expr;
struct sb_place;

struct sb_cand {
    struct sb_rule *rule;
    struct sb_rank rank;
    /* Prefixes (all of one length) or regexes; neither: any path. */
    const struct sb_str *prefixes;
    struct sb_router_regex *const *regexes;
    size_t nprefixes, nregexes;
    /* Or an expression, and where it is met. */
    const struct sb_expr *expr;
    struct sb_str text;
    const struct sb_place *places;
    size_t nplaces;
};

struct sb_rule {
    uint32_t refs;
    struct sb_arena *arena;
    const struct sb_route *route;
    struct sb_str id;
    bool stream, path_handling_v1, uses_path;
    unsigned category;  /* SB_KIND bits: what the route sets */
    unsigned protocols; /* of connections that may match, HTTP HTTPS TCP TLS UDP; 0: all */
    unsigned methods;   /* sb_rule_method() bits; 0 and no more_methods: any */
    const struct sb_str *more_methods;
    size_t nmore_methods;
    const struct sb_rule_host *hosts;
    size_t nhosts;
    const struct sb_rule_header *headers;
    size_t nheaders;
    const struct sb_rule_host *snis;
    size_t nsnis;
    const struct sb_rule_net *sources, *destinations;
    size_t nsources, ndestinations;
    struct sb_cand *cands;
    size_t ncands;
};

/* What a route's row says, read once; absent lists are empty. */
struct sb_rule_row {
    struct sb_str id;
    const struct sb_value *methods, *hosts, *paths, *headers, *snis, *sources, *destinations;
    struct sb_str expression; /* p NULL: none, or the flavor has none */
    bool stream, path_handling_v1;
    bool no_hosts;     /* given, but empty: Kong ranks that as hosts without a wildcard */
    unsigned category; /* SB_KIND bits */
    int64_t priority;
    int64_t regex_priority, created_at;
};

/* Slices of row. */
void sb_rule_row_read(enum sb_router_flavor flavor, const struct sb_value *row,
                      struct sb_rule_row *out);

/* The bit of a well-known method; 0 for others. */
unsigned sb_rule_method(struct sb_str method);

/* "host:port" in its parts: a port only when what follows the first ':' is a number. The old router
 * knows brackets besides, and takes them off. */
struct sb_str sb_rule_split_host(enum sb_router_flavor flavor, struct sb_str host, int32_t *port);

/* Compiles a row. The caller holds the result once. */
SB_MUST enum sb_rc sb_rule_compile(enum sb_router_flavor flavor,
                                   const struct sb_router_source *source, struct sb_rule **out,
                                   struct sb_err *err);
void sb_rule_unref(struct sb_rule *rule);

/* Where a candidate ranks: paths is the group of paths it stands for (of `length` bytes each when
 * they are prefixes), index its place among the route's groups, counted from 1; 0 when the route
 * was not split. */
struct sb_rank sb_rank_compatible(const struct sb_rule_row *row, bool regex, size_t length,
                                  size_t index);
struct sb_rank sb_rank_stream(const struct sb_rule_row *row);
struct sb_rank sb_rank_expression(const struct sb_rule_row *row);
/* index: the path's place in the route, counted from 0. */
struct sb_rank sb_rank_traditional(const struct sb_rule_row *row, bool regex, size_t length,
                                   size_t index);
/* The same for a host with a port, which goes before hosts without. */
struct sb_rank sb_rank_port_first(struct sb_rank rank);
/* SB_KIND bits. */
unsigned sb_rank_category(const struct sb_rule_row *row);

/* Calls fn for every key of the tree under which the rule's candidates belong. */
void sb_rule_places(const struct sb_rule *rule,
                    void (*fn)(void *arg, struct sb_str key, const struct sb_tree_entry *entry),
                    void *arg);

#endif
