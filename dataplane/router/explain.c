/* explain.c - why this route and not that one.
 *
 * Asks of every candidate what match.c asks of the few that the tree leads to, in words. The winner
 * is whom the router itself names, so that the explanation can't differ from what traffic sees.
 */
#include <stdlib.h>

#include "dataplane/router/builder.h"
#include "dataplane/router/expr.h"
#include "shared/buf.h"
#include "shared/vec.h"

struct entry {
    const struct sb_cand *cand;
    struct sb_rank rank;
    struct sb_str why; /* p NULL: it fits */
};

struct explainer {
    struct sb_arena *a;
    struct sb_lookup l;
    SB_VEC(struct entry) entries;
};

/* -- conditions ------------------------------------------------------------------------------- */

static struct sb_str host_text(struct sb_arena *a, const struct sb_rule_host *h)
{
    const char *first = h->kind == SB_HOST_SUFFIX ? "*" : "";
    const char *last = h->kind == SB_HOST_PREFIX ? "*" : "";

    if (h->port == SB_ANY_PORT)
        return sb_arena_printf(a, "%s%.*s%s", first, SB_ARG(h->text), last);
    return sb_arena_printf(a, "%s%.*s%s:%d", first, SB_ARG(h->text), last, (int)h->port);
}

static struct sb_str list_text(struct sb_arena *a, const struct sb_rule_host *list, size_t n)
{
    struct sb_str out = SB_STR("");

    for (size_t i = 0; i < n; i++)
        out = sb_arena_printf(a, "%.*s%s%.*s", SB_ARG(out), i ? ", " : "",
                              SB_ARG(host_text(a, &list[i])));
    return out;
}

static bool host_holds(const struct sb_lookup *l, const struct sb_rule_host *h)
{
    bool sent = l->traditional && h->kind == SB_HOST_EXACT && sb_str_eq(l->q->host, h->text);

    if (!l->q->host.len || (h->port != SB_ANY_PORT && h->port != l->port))
        return false;
    if (l->traditional && h->kind == SB_HOST_SUFFIX && l->host.len == h->text.len)
        return false;
    return sent || sb_host_fits(h, l->host);
}

static struct sb_str host_why(struct explainer *x, const struct sb_rule *rule)
{
    for (size_t i = 0; i < rule->nhosts; i++) {
        if (host_holds(&x->l, &rule->hosts[i]))
            return (struct sb_str){NULL, 0};
    }
    if (!rule->nhosts)
        return (struct sb_str){NULL, 0};
    return sb_arena_printf(x->a, "hosts: '%.*s' (port %d) is none of %.*s", SB_ARG(x->l.q->host),
                           (int)x->l.port, SB_ARG(list_text(x->a, rule->hosts, rule->nhosts)));
}

/* The name as people write it: rules hold it with underscores. */
static struct sb_str header_text(struct sb_arena *a, struct sb_str name)
{
    char *text = sb_arena_alloc(a, name.len + 1);

    for (size_t i = 0; i < name.len; i++)
        text[i] = name.p[i] == '_' ? '-' : name.p[i];
    return sb_str_n(text, name.len);
}

static struct sb_str header_why(struct explainer *x, const struct sb_rule *rule)
{
    for (size_t i = 0; i < rule->nheaders; i++) {
        const struct sb_rule_header *h = &rule->headers[i];
        struct sb_rule one = {.headers = h, .nheaders = 1};

        if (!sb_has_header(&x->l, &one))
            return sb_arena_printf(x->a, "headers: the request has no %.*s",
                                   SB_ARG(header_text(x->a, h->name)));
        if (!sb_fits_headers(&x->l, &one))
            return sb_arena_printf(x->a, "headers: %.*s has another value",
                                   SB_ARG(header_text(x->a, h->name)));
    }
    return (struct sb_str){NULL, 0};
}

static bool prefix_holds(const struct sb_lookup *l, const struct sb_cand *cand)
{
    for (size_t i = 0; i < cand->nprefixes; i++) {
        if (sb_str_starts(l->q->path, cand->prefixes[i]))
            return true;
    }
    return cand->nprefixes == 0;
}

static struct sb_str path_why(struct explainer *x, const struct sb_cand *cand)
{
    struct sb_hit hit = {0};

    if (cand->expr)
        return sb_fits_path(&x->l, cand, &hit) ? (struct sb_str){NULL, 0}
                                               : SB_STR("expression: false");
    if (!prefix_holds(&x->l, cand))
        return sb_arena_printf(x->a, "paths: '%.*s' does not begin so", SB_ARG(x->l.q->path));
    if (!sb_fits_path(&x->l, cand, &hit))
        return sb_arena_printf(x->a, "paths: '%.*s' does not match", SB_ARG(x->l.q->path));
    return (struct sb_str){NULL, 0};
}

static struct sb_str sni_why(struct explainer *x, const struct sb_rule *rule)
{
    bool asked = x->l.tls || (x->l.stream && x->l.traditional);

    if (!rule->nsnis || !asked || sb_fits_sni(&x->l, rule))
        return (struct sb_str){NULL, 0};
    return sb_arena_printf(x->a, "snis: '%.*s' is none of %.*s", SB_ARG(x->l.q->sni),
                           SB_ARG(list_text(x->a, rule->snis, rule->nsnis)));
}

static struct sb_str simple_why(struct explainer *x, const struct sb_rule *rule)
{
    if (!sb_fits_protocol(&x->l, rule))
        return SB_STR("protocols: the connection has another one");
    if (!sb_fits_method(&x->l, rule))
        return sb_arena_printf(x->a, "methods: not %.*s", SB_ARG(x->l.q->method));
    if (!sb_fits_nets(&x->l, rule))
        return SB_STR("sources, destinations: none of them");
    return (struct sb_str){NULL, 0};
}

/* The first condition that does not hold; p NULL: all do. */
static struct sb_str why_not(struct explainer *x, const struct sb_cand *cand)
{
    const struct sb_rule *rule = cand->rule;
    struct sb_str why = host_why(x, rule);

    why = why.p ? why : path_why(x, cand);
    why = why.p ? why : simple_why(x, rule);
    why = why.p ? why : sni_why(x, rule);
    return why.p ? why : header_why(x, rule);
}

/* -- ranks ------------------------------------------------------------------------------------ */

struct reason {
    uint64_t hi, lo; /* the bits that hold it */
    const char *words;
};

static const struct reason compatible_reasons[] = {
    {0xFFULL << 56, 0, NULL}, /* expressions */
    {1ULL << 63, 0, "sets four kinds of attributes or more"},
    {1ULL << 60, 0, "has hosts, and none of them is a wildcard"},
    {1ULL << 51, 0, "has a regex path"},
    {7ULL << 29, 0, "sets more kinds of attributes"},
    {0x3FFULL << 19, 0, "has more headers, or a higher regex_priority"},
    {0x7FFFF, 0, "has the longer prefix"},
    {0, UINT64_MAX, "has the higher id"},
    {0, 0, "has the higher id"},
};

static const struct reason traditional_reasons[] = {
    {7ULL << 61, 0, "sets more kinds of attributes"},
    {0x7FULL << 54, 0, "sets weightier kinds of attributes"},
    {1ULL << 53, 0, "has the host with its port"},
    {7ULL << 50, 0, "has plainer hosts, or a regex path"},
    {0xFFULL << 42, 0, "has more headers"},
    {0xFFFFFFFFULL << 10, 0, "has the higher regex_priority"},
    {0, 0xFFFFFFULL << 40, "has the longer prefix"},
    {0, 0xFFFFFFFFFFULL, "is older"},
    {0, 0, "comes first by its id"},
};

static const struct reason stream_reasons[] = {
    {0xFFULL << 56, 0, NULL},
    {1ULL << 61, 0, "has SNIs, or sources and destinations"},
    {0xF0, 0, "says more of sources"},
    {0x0F, 0, "says more of destinations"},
    {0, UINT64_MAX, "has the higher id"},
    {0, 0, "has the higher id"},
};

static const char *reason_of(const struct reason *table, const struct sb_rank *a,
                             const struct sb_rank *b)
{
    for (;; table++) {
        if (!table->words) {
            if ((a->hi & table->hi) != table->hi)
                continue;
            return a->hi == b->hi ? "has the higher id"
                                  : "has an expression, and the higher priority";
        }
        if ((a->hi & table->hi) != (b->hi & table->hi) ||
            (a->lo & table->lo) != (b->lo & table->lo) || (!table->hi && !table->lo))
            return table->words;
    }
}

/* Of one that fits and yet lost; winner is NULL when nobody won. */
static struct sb_str outranked(struct explainer *x, const struct entry *winner,
                               const struct entry *loser)
{
    const struct reason *table = x->l.traditional ? traditional_reasons
                                 : x->l.stream    ? stream_reasons
                                                  : compatible_reasons;

    if (!winner && !x->l.traditional)
        return SB_STR("the path is not UTF-8");
    if (!winner || sb_rank_cmp(&loser->rank, &winner->rank) > 0)
        return SB_STR("snis: skipped without TLS, but not where routes set just what the request "
                      "can satisfy");
    if (loser->cand->rule == winner->cand->rule)
        return SB_STR("another of its paths ranks above");
    return sb_arena_printf(x->a, "fits, but %.*s %s",
                           SB_ARG(winner->cand->rule->route->name.len
                                      ? winner->cand->rule->route->name
                                      : winner->cand->rule->id),
                           reason_of(table, &winner->rank, &loser->rank));
}

/* -- the whole -------------------------------------------------------------------------------- */

static int by_rank(const void *a, const void *b)
{
    return -sb_rank_cmp(&((const struct entry *)a)->rank, &((const struct entry *)b)->rank);
}

static struct sb_str paths_text(struct sb_arena *a, const struct sb_cand *cand)
{
    struct sb_str out = SB_STR("");

    if (cand->expr)
        return cand->text;
    for (size_t i = 0; i < cand->nprefixes; i++)
        out =
            sb_arena_printf(a, "%.*s%s%.*s", SB_ARG(out), i ? " " : "", SB_ARG(cand->prefixes[i]));
    for (size_t i = 0; i < cand->nregexes; i++)
        out = sb_arena_printf(a, "%.*s%s~%.*s", SB_ARG(out), i ? " " : "",
                              SB_ARG(sb_regex_text(cand->regexes[i])));
    return out;
}

/* With the port that its host has and the request sent too. */
static struct sb_rank rank_of(const struct sb_lookup *l, const struct sb_cand *cand)
{
    for (size_t i = 0; i < cand->rule->nhosts; i++) {
        const struct sb_rule_host *h = &cand->rule->hosts[i];

        if (h->port_first && sb_str_eq(l->q->host, h->text))
            return sb_rank_port_first(cand->rank);
    }
    return cand->rank;
}

static void collect(struct sb_router_builder *b, struct explainer *x)
{
    const struct sb_map_slot *slot;

    sb_map_each (slot, &b->rules) {
        const struct sb_rule *rule = slot->value;

        if (rule->stream != x->l.stream)
            continue;
        for (size_t i = 0; i < rule->ncands; i++) {
            const struct sb_cand *cand = &rule->cands[i];
            struct entry e = {cand, rank_of(&x->l, cand), why_not(x, cand)};

            sb_vec_push(&x->entries, e);
        }
    }
    if (x->entries.len)
        qsort(x->entries.p, x->entries.len, sizeof *x->entries.p, by_rank);
}

/* The entry that the router chose: of its route, the one that fits and ranks highest. */
static const struct entry *winner_of(const struct explainer *x, const struct sb_router *r)
{
    struct sb_router_match m;
    const struct entry *e;

    if (!sb_router_match(r, x->l.q, &m))
        return NULL;
    sb_vec_each (e, &x->entries) {
        if (e->cand->rule->route == m.route && !e->why.p)
            return e;
    }
    return NULL;
}

size_t sb_router_explain(struct sb_router_builder *b, const struct sb_router_request *q,
                         struct sb_arena *arena, struct sb_router_verdict **out)
{
    const struct sb_router *r = sb_router_build(b);
    struct explainer x = {.a = arena};
    const struct entry *winner;
    size_t n;

    sb_lookup_init(&x.l, r, q);
    collect(b, &x);
    winner = winner_of(&x, r);
    n = x.entries.len;
    *out = SB_NEW_N(arena, struct sb_router_verdict, n);
    for (size_t i = 0; i < n; i++) {
        const struct entry *e = &x.entries.p[i];

        (*out)[i] = (struct sb_router_verdict){
            .route = e->cand->rule->route,
            .paths = paths_text(arena, e->cand),
            .wins = e == winner,
            .fits = !e->why.p,
            .why = e == winner ? SB_STR("")
                   : e->why.p  ? e->why
                               : outranked(&x, winner, e),
        };
    }
    sb_vec_release(&x.entries);
    sb_router_drop(b, r);
    return n;
}
