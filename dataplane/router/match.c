/* match.c - the lookup.
 *
 * Two walks down the tree collect the lists that the request's host and path lead to: at most a
 * few, whatever the number of routes, for each is a route's own host pattern (or none) with a
 * prefix of the path. Then the lists are merged by rank: the best head of all is looked at, the
 * first candidate that fits is the answer.
 *
 *     GET x.a.com /foo/bar        any host:     /        [r7 r2]
 *                                 *.a.com:      /foo     [r9]
 *                                 x.a.com:      /foo/bar [r1]   /foo [r3 r4]
 *
 * No memory, no lock. Costs: a step for each byte of host and path that the tree knows, a check for
 * each candidate that ranks above the answer.
 */
#include "dataplane/router/lookup.h"

/* More lists than this on one way (prefixes nested deeper than 64) are looked at as they are met.
 */
enum { RUNS_MAX = 64, MARK_MAX = ' ' };

struct run {
    const struct sb_tree_entry *at, *end, *first;
};

struct search {
    struct sb_lookup *l;
    struct run runs[RUNS_MAX];
    size_t nruns;
    bool host_known;                  /* some route names it */
    const struct sb_tree_entry *best; /* of the lists that did not fit into runs */
    struct sb_hit best_hit;
};

/* -- does a candidate fit? -------------------------------------------------------------------- */

/* Which kinds of attributes the request satisfies, each by itself, of a candidate that its host and
 * path lead to. */
static unsigned kinds_hit(struct sb_lookup *l, const struct sb_tree_entry *entry)
{
    const struct sb_rule *rule = entry->cand->rule;
    struct sb_hit hit = {0};

    if (!sb_fits_port(l, entry) || !sb_fits_path(l, entry->cand, &hit))
        return 0;
    return (rule->category & (SB_KIND_HOST | SB_KIND_PATH)) |
           (rule->category & SB_KIND_METHOD && sb_fits_method(l, rule) ? SB_KIND_METHOD : 0) |
           (sb_has_header(l, rule) ? SB_KIND_HEADER : 0);
}

/* The old router skips SNIs without TLS too, but looks at the route only when it starts at a
 * category before it: where a category is just what the request can satisfy, it starts there. The
 * request can satisfy all that the route sets besides; so the question is whether it can satisfy
 * more. (Kong asks that of all routes, we of those that the request's host and path lead to.) */
static bool sni_waived(struct search *s, const struct sb_rule *rule)
{
    unsigned rest = rule->category & ~(unsigned)SB_KIND_SNI, hit = 0;

    for (size_t i = 0; i < s->nruns; i++) {
        for (const struct sb_tree_entry *e = s->runs[i].first; e < s->runs[i].end; e++)
            hit |= kinds_hit(s->l, e);
    }
    return (hit & ~rest) || (rest && !s->l->r->categories[rest]);
}

/* On a connection without TLS the condition is skipped, so that it can be redirected. */
static bool sni_fits(struct search *s, const struct sb_rule *rule)
{
    const struct sb_lookup *l = s->l;

    if (!rule->nsnis)
        return true;
    if (!l->tls && !(l->stream && l->traditional))
        return !l->traditional || sni_waived(s, rule);
    return sb_fits_sni(l, rule);
}

static bool fits(struct search *s, const struct sb_tree_entry *entry, struct sb_hit *hit)
{
    const struct sb_rule *rule = entry->cand->rule;
    struct sb_lookup *l = s->l;

    *hit = (struct sb_hit){0};
    l->candidates++;
    return sb_fits_port(l, entry) && sb_fits_protocol(l, rule) && sb_fits_method(l, rule) &&
           sni_fits(s, rule) && sb_fits_nets(l, rule) && sb_fits_headers(l, rule) &&
           sb_fits_path(l, entry->cand, hit);
}

/* -- the walk --------------------------------------------------------------------------------- */

/* A place in the tree: so many bytes of a node's label are behind us. */
struct cursor {
    const struct sb_tree_node *n;
    size_t at;
};

static bool step(struct cursor *c, char byte)
{
    if (c->at == c->n->label_len) {
        const struct sb_tree_node *child = sb_tree_child(c->n, byte);

        if (!child)
            return false;
        *c = (struct cursor){child, 1};
        return true;
    }
    if (sb_tree_label(c->n).p[c->at] != byte)
        return false;
    c->at++;
    return true;
}

static void take_list(struct search *s, const struct sb_tree_list *list)
{
    if (s->nruns < RUNS_MAX) {
        s->runs[s->nruns++] = (struct run){list->e, list->e + list->len, list->e};
        return;
    }
    for (uint32_t i = 0; i < list->len; i++) {
        struct sb_hit hit;

        if (s->best && sb_rank_cmp(&list->e[i].rank, &s->best->rank) <= 0)
            return;
        if (fits(s, &list->e[i], &hit)) {
            s->best = &list->e[i];
            s->best_hit = hit;
            return;
        }
    }
}

/* Takes the lists of all prefixes of the path. */
static void walk_path(struct search *s, struct cursor c, struct sb_str path)
{
    for (;;) {
        struct sb_str rest = sb_str_from(sb_tree_label(c.n), c.at);

        if (!sb_str_starts(path, rest))
            return;
        path = sb_str_from(path, rest.len);
        if (c.n->list)
            take_list(s, c.n->list);
        if (!path.len)
            return;
        c = (struct cursor){sb_tree_child(c.n, path.p[0]), 0};
        if (!c.n)
            return;
    }
}

static void walk_mark(struct search *s, struct cursor c, char mark, struct sb_str path)
{
    if (step(&c, mark))
        walk_path(s, c, path);
}

/* Host backwards: the exact one at its end, and a wildcard behind every dot. (To the old router a
 * '*' is at least one character.) */
static void walk_host(struct search *s, struct cursor c, struct sb_str host, struct sb_str path)
{
    if (!step(&c, SB_TREE_HOST))
        return;
    for (size_t i = host.len; i-- > 0;) {
        if ((unsigned char)host.p[i] <= MARK_MAX || !step(&c, host.p[i]))
            return;
        if (host.p[i] == '.' && (i > 0 || !s->l->traditional))
            walk_mark(s, c, SB_TREE_WILD, path);
    }
    walk_mark(s, c, SB_TREE_EXACT, path);
}

/* A host as it was sent, port and all. */
static void walk_exact(struct search *s, struct cursor c, struct sb_str host, struct sb_str path)
{
    if (!step(&c, SB_TREE_HOST))
        return;
    for (size_t i = host.len; i-- > 0;) {
        if ((unsigned char)host.p[i] <= MARK_MAX || !step(&c, host.p[i]))
            return;
    }
    walk_mark(s, c, SB_TREE_EXACT, path);
}

/* Host forwards: a right wildcard behind every dot. */
static void walk_host_prefixes(struct search *s, struct cursor c, struct sb_str host,
                               struct sb_str path)
{
    if (!step(&c, SB_TREE_PREFIX))
        return;
    for (size_t i = 0; i < host.len; i++) {
        if ((unsigned char)host.p[i] <= MARK_MAX || !step(&c, host.p[i]))
            return;
        if (host.p[i] == '.')
            walk_mark(s, c, SB_TREE_WILD, path);
    }
}

static void walk(struct search *s, const struct sb_tree_node *root, struct sb_str host,
                 struct sb_str path)
{
    struct cursor c = {root, 0};

    if (host.len) {
        walk_host(s, c, host, path);
        walk_host_prefixes(s, c, host, path);
    }
    walk_mark(s, c, SB_TREE_ANY, path);
}

/* -- the choice ------------------------------------------------------------------------------- */

/* The run with the best head; NULL: none is left. */
static struct run *best_run(struct search *s)
{
    struct run *best = NULL;

    for (struct run *run = s->runs; run < s->runs + s->nruns; run++) {
        if (run->at < run->end && (!best || sb_rank_cmp(&run->at->rank, &best->at->rank) > 0))
            best = run;
    }
    return best;
}

static const struct sb_tree_entry *choose(struct search *s, struct sb_hit *hit)
{
    struct run *run;

    while ((run = best_run(s))) {
        const struct sb_tree_entry *entry = run->at++;

        if (s->best && sb_rank_cmp(&entry->rank, &s->best->rank) < 0)
            break;
        if (fits(s, entry, hit))
            return entry;
    }
    *hit = s->best_hit;
    return s->best;
}

static bool is_utf8(struct sb_str s)
{
    size_t i = 0;

    while (i < s.len) {
        unsigned char c = (unsigned char)s.p[i];
        size_t more = c < 0x80 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
        unsigned second = i + 1 < s.len ? (unsigned char)s.p[i + 1] : 0;

        if (c >= 0x80 && (c < 0xC2 || c > 0xF4 || s.len - i <= more))
            return false;
        for (size_t k = 1; k <= more; k++) {
            if (((unsigned char)s.p[i + k] & 0xC0) != 0x80)
                return false;
        }
        if ((c == 0xE0 && second < 0xA0) || (c == 0xED && second > 0x9F) ||
            (c == 0xF0 && second < 0x90) || (c == 0xF4 && second > 0x8F))
            return false;
        i += 1 + more;
    }
    return true;
}

void sb_lookup_init(struct sb_lookup *l, const struct sb_router *r,
                    const struct sb_router_request *q)
{
    *l = (struct sb_lookup){.r = r, .q = q};
    l->traditional = r->flavor == SB_ROUTER_TRADITIONAL;
    l->stream = q->scheme >= SB_PROTO_TCP;
    if (l->stream) {
        l->tls = q->sni.len > 0;
        l->port = q->destination_port;
        return;
    }
    l->tls = q->scheme == SB_PROTO_HTTPS || q->scheme == SB_PROTO_GRPCS;
    l->method = sb_rule_method(q->method);
    l->host = sb_rule_split_host(r->flavor, q->host, &l->port);
    if (l->port == SB_ANY_PORT)
        l->port = !l->traditional ? q->destination_port : l->tls ? 443 : 80;
}

static void collect(const struct sb_router *r, struct search *s)
{
    const struct sb_router_request *q = s->l->q;
    const char port[] = {(char)(q->destination_port >> 8), (char)q->destination_port};

    if (!s->l->stream) {
        walk(s, r->http, s->l->host, q->path);
        if (s->l->traditional && q->host.len != s->l->host.len)
            walk_exact(s, (struct cursor){r->http, 0}, q->host, q->path);
        return;
    }
    walk(s, r->stream, q->sni, sb_str_n(port, sizeof port));
    if (!s->l->tls && !s->l->traditional)
        walk_mark(s, (struct cursor){r->stream, 0}, SB_TREE_NO_SNI, sb_str_n(port, sizeof port));
}

bool sb_router_match(const struct sb_router *r, const struct sb_router_request *q,
                     struct sb_router_match *out)
{
    struct sb_lookup l;
    struct search s = {.l = &l};
    const struct sb_tree_entry *entry = NULL;
    struct sb_hit hit = {0};

    sb_lookup_init(&l, r, q);
    /* Kong's engine refuses the whole request where a field that it reads is not UTF-8. */
    if (!(r->utf8_paths && !l.stream && !is_utf8(q->path))) {
        collect(r, &s);
        entry = choose(&s, &hit);
    }
    *out = (struct sb_router_match){.candidates = l.candidates, .regexes = l.regexes};
    if (!entry)
        return false;
    out->route = entry->cand->rule->route;
    out->prefix = hit.prefix;
    out->prefix_len = hit.prefix.len;
    out->regex = hit.regex;
    out->path_handling_v1 = entry->cand->rule->path_handling_v1;
    return true;
}
