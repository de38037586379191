/* conditions.c - a row's attributes become conditions that are quick to check. */
#include <arpa/inet.h>

#include "dataplane/router/compile.h"

enum sb_rc sb_compile_want_strings(const struct sb_compiler *c, const struct sb_value *list,
                                   const char *field)
{
    const struct sb_value *item;

    if (list && list->type != SB_V_ARRAY)
        return sb_err_set(c->err, SB_INVALID, "%s: expected an array", field);
    sb_array_each (item, list) {
        if (item->type != SB_V_STR)
            return sb_err_set(c->err, SB_INVALID, "%s: expected a string", field);
    }
    return SB_OK;
}

static enum sb_rc methods(struct sb_compiler *c)
{
    struct sb_rule *rule = c->rule;
    const struct sb_value *item;
    struct sb_str *more;
    enum sb_rc rc = sb_compile_want_strings(c, c->row->methods, "methods");

    if (rc || !c->row->methods)
        return rc;
    rule->more_methods = more = SB_NEW_N(rule->arena, struct sb_str, c->row->methods->count);
    sb_array_each (item, c->row->methods) {
        unsigned bit = sb_rule_method(item->s);

        rule->methods |= bit;
        if (!bit)
            more[rule->nmore_methods++] = sb_arena_str(rule->arena, item->s);
    }
    return SB_OK;
}

/* *.a.com, a.*, or plain. */
static enum sb_rc pattern(struct sb_compiler *c, const char *field, struct sb_str text,
                          struct sb_rule_host *out)
{
    ptrdiff_t star = sb_str_chr(text, '*', 0);

    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.p[i] <= ' ') /* the tree's marks are among them */
            return sb_err_set(c->err, SB_INVALID, "%s: invalid value '%.*s'", field, SB_ARG(text));
    }
    if (star >= 0) {
        bool first = star == 0 && text.len > 2 && text.p[1] == '.';
        bool last = (size_t)star + 1 == text.len && text.len > 2 && text.p[text.len - 2] == '.';

        if (sb_str_rchr(text, '*') != star || (!first && !last))
            return sb_err_set(c->err, SB_INVALID, "%s: invalid wildcard '%.*s'", field,
                              SB_ARG(text));
        out->kind = first ? SB_HOST_SUFFIX : SB_HOST_PREFIX;
        text = first ? sb_str_from(text, 1) : sb_str_first(text, text.len - 1);
    }
    out->text = sb_arena_str(c->rule->arena, text);
    return SB_OK;
}

static enum sb_rc hosts(struct sb_compiler *c)
{
    struct sb_rule *rule = c->rule;
    const struct sb_value *item;
    struct sb_rule_host *out;
    enum sb_rc rc = sb_compile_want_strings(c, c->row->hosts, "hosts");

    if (rc || !c->row->hosts)
        return rc;
    rule->hosts = out = SB_NEW_N(rule->arena, struct sb_rule_host, c->row->hosts->count);
    sb_array_each (item, c->row->hosts) {
        struct sb_rule_host *host = &out[rule->nhosts++];
        struct sb_str name = sb_rule_split_host(c->flavor, item->s, &host->port);

        /* The old router compares a plain host with what was sent, port and all. */
        if (c->flavor == SB_ROUTER_TRADITIONAL && sb_str_chr(item->s, '*', 0) < 0) {
            name = item->s;
            host->port_first = host->port != SB_ANY_PORT;
            host->port = SB_ANY_PORT;
        }
        rc = pattern(c, "hosts", name, host);
        if (rc)
            return rc;
    }
    return SB_OK;
}

static enum sb_rc snis(struct sb_compiler *c)
{
    struct sb_rule *rule = c->rule;
    const struct sb_value *item;
    struct sb_rule_host *out;
    enum sb_rc rc = sb_compile_want_strings(c, c->row->snis, "snis");

    if (rc || !c->row->snis)
        return rc;
    rule->snis = out = SB_NEW_N(rule->arena, struct sb_rule_host, c->row->snis->count);
    sb_array_each (item, c->row->snis) {
        struct sb_str name = item->s;

        if (name.len > 1 && name.p[name.len - 1] == '.')
            name.len--;
        out[rule->nsnis].port = SB_ANY_PORT;
        rc = pattern(c, "snis", name, &out[rule->nsnis++]);
        if (rc)
            return rc;
        if (c->flavor == SB_ROUTER_TRADITIONAL && out[rule->nsnis - 1].kind != SB_HOST_EXACT)
            return sb_err_set(c->err, SB_INVALID, "snis: wildcards need another router flavor");
    }
    return SB_OK;
}

static void free_regex(void *arg)
{
    sb_regex_free(arg);
}

enum sb_rc sb_compile_regex(struct sb_compiler *c, enum sb_regex_kind kind, struct sb_str text,
                            struct sb_router_regex **out)
{
    enum sb_rc rc = sb_regex_new(kind, text, out, c->err);

    if (rc)
        return rc;
    sb_arena_defer(c->rule->arena, free_regex, *out);
    return SB_OK;
}

static struct sb_str lower(struct sb_arena *a, struct sb_str s, bool fold)
{
    char *p = sb_arena_cstr(a, s);

    for (size_t i = 0; i < s.len; i++) {
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] + ('a' - 'A'));
        else if (fold && p[i] == '-')
            p[i] = '_';
    }
    return (struct sb_str){p, s.len};
}

/* Kong's old router takes "~*" for a regex only where it is the header's only value. */
static bool is_regex_value(const struct sb_compiler *c, struct sb_str text, size_t of)
{
    return sb_str_starts(text, SB_STR("~*")) && (c->flavor != SB_ROUTER_TRADITIONAL || of == 1);
}

static enum sb_rc header(struct sb_compiler *c, const struct sb_member *m,
                         struct sb_rule_header *out)
{
    struct sb_rule_value *values;
    const struct sb_value *item;
    enum sb_rc rc = sb_compile_want_strings(c, m->value, "headers");

    if (rc)
        return rc;
    out->name = lower(c->rule->arena, m->key, c->flavor != SB_ROUTER_TRADITIONAL);
    out->values = values = SB_NEW_N(c->rule->arena, struct sb_rule_value, m->value->count);
    sb_array_each (item, m->value) {
        struct sb_rule_value *v = &values[out->nvalues++];

        v->text = sb_arena_str(c->rule->arena, item->s);
        if (is_regex_value(c, item->s, m->value->count)) {
            rc = sb_compile_regex(
                c, c->flavor == SB_ROUTER_TRADITIONAL ? SB_REGEX_PCRE_HEADER : SB_REGEX_HEADER,
                sb_str_from(item->s, 2), &v->regex);
            if (rc) {
                sb_err_at(c->err, "headers.%.*s", SB_ARG(m->key));
                return rc;
            }
        }
    }
    return SB_OK;
}

static enum sb_rc headers(struct sb_compiler *c)
{
    struct sb_rule_header *out;
    const struct sb_member *m;

    if (!c->row->headers)
        return SB_OK;
    if (c->row->headers->type != SB_V_OBJECT)
        return sb_err_set(c->err, SB_INVALID, "headers: expected a map");
    c->rule->headers = out =
        SB_NEW_N(c->rule->arena, struct sb_rule_header, c->row->headers->count);
    sb_object_each (m, c->row->headers) {
        enum sb_rc rc = header(c, m, &out[c->rule->nheaders++]);

        if (rc)
            return rc;
    }
    return SB_OK;
}

/* An address or a range; what lies beyond the mask does not count. */
static bool parse_ip(struct sb_str text, struct sb_rule_net *out)
{
    ptrdiff_t slash = sb_str_chr(text, '/', 0);
    struct sb_str addr = slash < 0 ? text : sb_str_first(text, (size_t)slash);
    char c[INET6_ADDRSTRLEN + 1];
    int64_t bits;

    if (addr.len >= sizeof c)
        return false;
    memcpy(c, addr.p, addr.len);
    c[addr.len] = '\0';
    out->v6 = strchr(c, ':') != NULL;
    if (inet_pton(out->v6 ? AF_INET6 : AF_INET, c, out->addr) != 1)
        return false;
    bits = out->v6 ? 128 : 32;
    if (slash >= 0 && (!sb_str_int(sb_str_from(text, (size_t)slash + 1), &bits) || bits < 0 ||
                       bits > (out->v6 ? 128 : 32)))
        return false;
    out->bits = (unsigned)bits;
    out->has_ip = true;
    return true;
}

static enum sb_rc nets(struct sb_compiler *c, const struct sb_value *list, const char *field,
                       const struct sb_rule_net **out, size_t *n)
{
    struct sb_rule_net *made;
    const struct sb_value *item;

    if (!list)
        return SB_OK;
    *out = made = SB_NEW_N(c->rule->arena, struct sb_rule_net, list->count);
    sb_array_each (item, list) {
        struct sb_rule_net *net = &made[(*n)++];
        struct sb_str ip = sb_value_str_at(item, "ip");

        net->port = (int32_t)sb_value_int_at(item, "port", SB_ANY_PORT);
        if (ip.len && !parse_ip(ip, net))
            return sb_err_set(c->err, SB_INVALID, "%s: invalid ip or cidr range: '%.*s'", field,
                              SB_ARG(ip));
        if (!net->has_ip && net->port == SB_ANY_PORT)
            return sb_err_set(c->err, SB_INVALID, "%s: elements must not be empty", field);
    }
    return SB_OK;
}

enum sb_rc sb_compile_conditions(struct sb_compiler *c)
{
    enum sb_rc rc = snis(c);

    rc = rc ? rc : nets(c, c->row->sources, "sources", &c->rule->sources, &c->rule->nsources);
    rc = rc ? rc
            : nets(c, c->row->destinations, "destinations", &c->rule->destinations,
                   &c->rule->ndestinations);
    if (c->row->stream)
        return rc;
    rc = rc ? rc : methods(c);
    rc = rc ? rc : hosts(c);
    return rc ? rc : headers(c);
}
