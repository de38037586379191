/* fit.c - does a request satisfy a condition? One function a kind of condition; match.c asks them
 * in the order of their cost, explain.c says which one said no. */
#include <arpa/inet.h>

#include "dataplane/router/expr.h"

bool sb_fits_port(const struct sb_lookup *l, const struct sb_tree_entry *entry)
{
    return entry->port == SB_ANY_PORT || entry->port == l->port;
}

unsigned sb_lookup_protocol(const struct sb_lookup *l)
{
    if (l->stream)
        return l->q->scheme == SB_PROTO_UDP ? SB_PROTO_UDP : l->tls ? SB_PROTO_TLS : SB_PROTO_TCP;
    return l->tls ? SB_PROTO_HTTPS : SB_PROTO_HTTP;
}

bool sb_fits_protocol(const struct sb_lookup *l, const struct sb_rule *rule)
{
    return !rule->protocols || rule->protocols & sb_lookup_protocol(l);
}

bool sb_fits_method(const struct sb_lookup *l, const struct sb_rule *rule)
{
    if (!rule->methods && !rule->nmore_methods)
        return true;
    if (rule->methods & l->method)
        return true;
    for (size_t i = 0; i < rule->nmore_methods; i++) {
        if (sb_str_eq(rule->more_methods[i], l->q->method))
            return true;
    }
    return false;
}

/* A '_' in the route's name stands for '-' too. */
bool sb_header_name_fits(struct sb_str name, struct sb_str lower)
{
    if (name.len != lower.len)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.p[i];

        if (c >= 'A' && c <= 'Z')
            c = (char)(c + ('a' - 'A'));
        if (c != lower.p[i] && !(c == '-' && lower.p[i] == '_'))
            return false;
    }
    return true;
}

static bool value_fits(struct sb_lookup *l, const struct sb_rule_header *h, struct sb_str value)
{
    size_t start, end;

    for (size_t i = 0; i < h->nvalues; i++) {
        if (h->values[i].regex
                ? sb_regex_match(h->values[i].regex, value, &start, &end, &l->regexes)
                : sb_str_ieq(h->values[i].text, value))
            return true;
    }
    return false;
}

static bool header_fits(struct sb_lookup *l, const struct sb_rule_header *h)
{
    for (size_t i = 0; i < l->q->nheaders; i++) {
        if (sb_header_name_fits(l->q->headers[i].name, h->name) &&
            value_fits(l, h, l->q->headers[i].value))
            return true;
    }
    return false;
}

bool sb_fits_headers(struct sb_lookup *l, const struct sb_rule *rule)
{
    for (size_t i = 0; i < rule->nheaders; i++) {
        if (!header_fits(l, &rule->headers[i]))
            return false;
    }
    return true;
}

bool sb_host_fits(const struct sb_rule_host *h, struct sb_str name)
{
    switch (h->kind) {
    case SB_HOST_SUFFIX:
        return sb_str_ends(name, h->text);
    case SB_HOST_PREFIX:
        return sb_str_starts(name, h->text);
    case SB_HOST_EXACT:
        break;
    }
    return sb_str_eq(name, h->text);
}

/* The tree saw to a prefix already; of regexes the first listed that matches counts. */
bool sb_fits_path(struct sb_lookup *l, const struct sb_cand *cand, struct sb_hit *hit)
{
    if (cand->expr)
        return sb_expr_eval(cand->expr, l, hit);
    if (!cand->nregexes) {
        hit->prefix = sb_str_first(l->q->path, cand->nprefixes ? cand->prefixes[0].len : 0);
        return true;
    }
    for (size_t i = 0; i < cand->nregexes; i++) {
        size_t start, end;

        if (!sb_regex_match(cand->regexes[i], l->q->path, &start, &end, &l->regexes))
            continue;
        hit->prefix = sb_str_n(l->q->path.p + start, end - start);
        hit->regex = cand->regexes[i];
        return true;
    }
    return false;
}

bool sb_has_header(const struct sb_lookup *l, const struct sb_rule *rule)
{
    for (size_t h = 0; h < rule->nheaders; h++) {
        for (size_t i = 0; i < l->q->nheaders; i++) {
            if (sb_header_name_fits(l->q->headers[i].name, rule->headers[h].name))
                return true;
        }
    }
    return false;
}

bool sb_fits_sni(const struct sb_lookup *l, const struct sb_rule *rule)
{
    for (size_t i = 0; l->q->sni.len && i < rule->nsnis; i++) {
        if (sb_host_fits(&rule->snis[i], l->q->sni))
            return true;
    }
    return false;
}

bool sb_addr_fits(const struct sb_rule_net *net, const struct sb_addr *addr)
{
    unsigned whole = net->bits / 8, rest = net->bits % 8;

    if (!net->has_ip)
        return true;
    if (!addr->known || addr->v6 != net->v6 || memcmp(addr->b, net->addr, whole) != 0)
        return false;
    return !rest || ((addr->b[whole] ^ net->addr[whole]) & (0xFF << (8 - rest)) & 0xFF) == 0;
}

static bool net_fits(const struct sb_rule_net *nets, size_t n, const struct sb_addr *addr,
                     int32_t port)
{
    for (size_t i = 0; i < n; i++) {
        if (sb_addr_fits(&nets[i], addr) && (nets[i].port == SB_ANY_PORT || nets[i].port == port))
            return true;
    }
    return n == 0;
}

static void read_addr(struct sb_str text, struct sb_addr *out)
{
    char c[INET6_ADDRSTRLEN];

    if (!text.len || text.len >= sizeof c)
        return;
    memcpy(c, text.p, text.len);
    c[text.len] = '\0';
    out->v6 = strchr(c, ':') != NULL;
    out->known = inet_pton(out->v6 ? AF_INET6 : AF_INET, c, out->b) == 1;
}

void sb_lookup_addrs(struct sb_lookup *l)
{
    if (l->have_addrs)
        return;
    read_addr(l->q->source_ip, &l->source);
    read_addr(l->q->destination_ip, &l->destination);
    l->have_addrs = true;
}

bool sb_fits_nets(struct sb_lookup *l, const struct sb_rule *rule)
{
    if (!rule->nsources && !rule->ndestinations)
        return true;
    sb_lookup_addrs(l);
    return net_fits(rule->sources, rule->nsources, &l->source, l->q->source_port) &&
           net_fits(rule->destinations, rule->ndestinations, &l->destination, l->port);
}
