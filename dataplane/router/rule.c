/* rule.c - a route's row becomes conditions that are quick to check, and keys of the tree. */
#include "dataplane/router/expr.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "shared/buf.h"

/* Blocks are small: a rule is a few hundred bytes, and there may be 100,000. */
enum { RULE_BLOCK_LEN = 384 };

static const char *const method_names[] = {"GET",    "HEAD",    "POST",    "PUT",  "PATCH",
                                           "DELETE", "OPTIONS", "CONNECT", "TRACE"};

unsigned sb_rule_method(struct sb_str method)
{
    for (unsigned i = 0; i < sizeof method_names / sizeof *method_names; i++) {
        if (sb_str_is(method, method_names[i]))
            return 1u << i;
    }
    return 0;
}

/* The decimal number in s; false for anything else. */
static bool port_number(struct sb_str s, int32_t *out)
{
    int32_t n = 0;

    if (!s.len || s.len > 9)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        n = n * 10 + (s.p[i] - '0');
    }
    *out = n;
    return true;
}

/* [::1] and [::1]:80 without their brackets; what else begins with one is a name as it is. */
static struct sb_str split_brackets(struct sb_str host, int32_t *port)
{
    ptrdiff_t close = sb_str_chr(host, ']', 0);
    struct sb_str inner = sb_str_n(host.p + 1, (size_t)close - 1);

    if (close < 1)
        return host;
    if ((size_t)close + 1 == host.len ||
        (host.p[close + 1] == ':' && ((size_t)close + 2 == host.len ||
                                      port_number(sb_str_from(host, (size_t)close + 2), port))))
        return inner;
    return host;
}

struct sb_str sb_rule_split_host(enum sb_router_flavor flavor, struct sb_str host, int32_t *port)
{
    ptrdiff_t colon = sb_str_chr(host, ':', 0);
    bool traditional = flavor == SB_ROUTER_TRADITIONAL;

    *port = SB_ANY_PORT;
    if (traditional && host.len && host.p[0] == '[')
        return split_brackets(host, port);
    if (colon < 0)
        return host;
    if (port_number(sb_str_from(host, (size_t)colon + 1), port) ||
        (traditional && (size_t)colon + 1 == host.len))
        return sb_str_first(host, (size_t)colon);
    return host;
}

/* -- conditions ----------------------------------------------------------------------------------
 */

struct compiler {
    struct sb_rule *rule;
    const struct sb_rule_row *row;
    enum sb_router_flavor flavor;
    struct sb_err *err;
};

static enum sb_rc want_strings(const struct compiler *c, const struct sb_value *list,
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

static enum sb_rc methods(struct compiler *c)
{
    struct sb_rule *rule = c->rule;
    const struct sb_value *item;
    struct sb_str *more;
    enum sb_rc rc = want_strings(c, c->row->methods, "methods");

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
static enum sb_rc pattern(struct compiler *c, const char *field, struct sb_str text,
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

static enum sb_rc hosts(struct compiler *c)
{
    struct sb_rule *rule = c->rule;
    const struct sb_value *item;
    struct sb_rule_host *out;
    enum sb_rc rc = want_strings(c, c->row->hosts, "hosts");

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

static enum sb_rc snis(struct compiler *c)
{
    struct sb_rule *rule = c->rule;
    const struct sb_value *item;
    struct sb_rule_host *out;
    enum sb_rc rc = want_strings(c, c->row->snis, "snis");

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

static enum sb_rc regex(struct compiler *c, enum sb_regex_kind kind, struct sb_str text,
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
static bool is_regex_value(const struct compiler *c, struct sb_str text, size_t of)
{
    return sb_str_starts(text, SB_STR("~*")) && (c->flavor != SB_ROUTER_TRADITIONAL || of == 1);
}

static enum sb_rc header(struct compiler *c, const struct sb_member *m, struct sb_rule_header *out)
{
    struct sb_rule_value *values;
    const struct sb_value *item;
    enum sb_rc rc = want_strings(c, m->value, "headers");

    if (rc)
        return rc;
    out->name = lower(c->rule->arena, m->key, c->flavor != SB_ROUTER_TRADITIONAL);
    out->values = values = SB_NEW_N(c->rule->arena, struct sb_rule_value, m->value->count);
    sb_array_each (item, m->value) {
        struct sb_rule_value *v = &values[out->nvalues++];

        v->text = sb_arena_str(c->rule->arena, item->s);
        if (is_regex_value(c, item->s, m->value->count)) {
            rc = regex(c,
                       c->flavor == SB_ROUTER_TRADITIONAL ? SB_REGEX_PCRE_HEADER : SB_REGEX_HEADER,
                       sb_str_from(item->s, 2), &v->regex);
            if (rc) {
                sb_err_at(c->err, "headers.%.*s", SB_ARG(m->key));
                return rc;
            }
        }
    }
    return SB_OK;
}

static enum sb_rc headers(struct compiler *c)
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

static enum sb_rc nets(struct compiler *c, const struct sb_value *list, const char *field,
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

/* -- candidates ----------------------------------------------------------------------------------
 */

static bool is_regex(struct sb_str path)
{
    return path.len && path.p[0] == '~';
}

/* What keeps paths together: their length, or being regexes. */
static size_t group_of(struct sb_str path)
{
    return is_regex(path) ? SIZE_MAX : path.len;
}

static enum sb_rc cand_regexes(struct compiler *c, struct sb_cand *cand)
{
    struct sb_router_regex **out =
        SB_NEW_N(c->rule->arena, struct sb_router_regex *, c->row->paths->count);
    const struct sb_value *path;

    cand->regexes = out;
    sb_array_each (path, c->row->paths) {
        enum sb_rc rc;

        if (!is_regex(path->s))
            continue;
        rc = regex(c, SB_REGEX_PATH, sb_str_from(path->s, 1), &out[cand->nregexes++]);
        if (rc) {
            sb_err_at(c->err, "paths");
            return rc;
        }
    }
    return SB_OK;
}

static void cand_prefixes(struct compiler *c, struct sb_cand *cand, size_t group)
{
    struct sb_str *out = SB_NEW_N(c->rule->arena, struct sb_str, c->row->paths->count);
    const struct sb_value *path;

    cand->prefixes = out;
    sb_array_each (path, c->row->paths) {
        if (group_of(path->s) == group)
            out[cand->nprefixes++] = sb_arena_str(c->rule->arena, path->s);
    }
}

static bool seen_before(const struct sb_value *paths, uint32_t at)
{
    for (uint32_t i = 0; i < at; i++) {
        if (group_of(paths->items[i]->s) == group_of(paths->items[at]->s))
            return true;
    }
    return false;
}

static struct sb_cand *add_cand(struct sb_rule *rule, struct sb_rank rank)
{
    struct sb_cand *cand = &rule->cands[rule->ncands++];

    cand->rule = rule;
    cand->rank = rank;
    return cand;
}

/* One candidate a group; groups in order of appearance. */
static enum sb_rc split_by_paths(struct compiler *c)
{
    const struct sb_value *paths = c->row->paths;
    size_t index = 0;

    for (uint32_t i = 0; i < paths->count; i++) {
        struct sb_str path = paths->items[i]->s;
        struct sb_rank rank;
        enum sb_rc rc = SB_OK;

        if (seen_before(paths, i))
            continue;
        rank = sb_rank_compatible(c->row, is_regex(path), is_regex(path) ? 0 : path.len,
                                  paths->count > 1 ? ++index : 0);
        if (is_regex(path))
            rc = cand_regexes(c, add_cand(c->rule, rank));
        else
            cand_prefixes(c, add_cand(c->rule, rank), group_of(path));
        if (rc)
            return rc;
    }
    return SB_OK;
}

static void cand_prefix(struct compiler *c, struct sb_cand *cand, struct sb_str path)
{
    struct sb_str *out = SB_NEW(c->rule->arena, struct sb_str);

    *out = sb_arena_str(c->rule->arena, path);
    cand->prefixes = out;
    cand->nprefixes = 1;
}

static enum sb_rc cand_regex(struct compiler *c, struct sb_cand *cand, struct sb_str path)
{
    struct sb_router_regex **out = SB_NEW(c->rule->arena, struct sb_router_regex *);
    enum sb_rc rc = regex(c, SB_REGEX_PCRE_PATH, sb_str_from(path, 1), out);

    if (rc) {
        sb_err_at(c->err, "paths");
        return rc;
    }
    cand->regexes = out;
    cand->nregexes = 1;
    return SB_OK;
}

/* The old router: one candidate a path. */
static enum sb_rc split_traditional(struct compiler *c)
{
    const struct sb_value *path;

    sb_array_each (path, c->row->paths) {
        bool re = is_regex(path->s);
        struct sb_rank rank =
            sb_rank_traditional(c->row, re, re ? 0 : path->s.len, c->rule->ncands);
        struct sb_cand *cand = add_cand(c->rule, rank);
        enum sb_rc rc = SB_OK;

        if (re)
            rc = cand_regex(c, cand, path->s);
        else
            cand_prefix(c, cand, path->s);
        if (rc)
            return rc;
    }
    return SB_OK;
}

static enum sb_rc expression(struct compiler *c)
{
    struct sb_rule *rule = c->rule;
    struct sb_cand *cand;
    struct sb_expr *expr;
    enum sb_rc rc = sb_expr_parse(rule->arena, c->row->expression, rule->stream, &expr, c->err);

    if (rc)
        return rc;
    rule->cands = SB_NEW(rule->arena, struct sb_cand);
    rule->uses_path = sb_expr_reads_path(expr);
    cand = add_cand(rule, sb_rank_expression(c->row));
    cand->expr = expr;
    sb_expr_places(rule->arena, expr, rule->stream, &cand->places, &cand->nplaces);
    return SB_OK;
}

static enum sb_rc candidates(struct compiler *c)
{
    bool traditional = c->flavor == SB_ROUTER_TRADITIONAL;
    struct sb_rule *rule = c->rule;
    size_t npaths = c->row->paths ? c->row->paths->count : 0;

    if (c->row->expression.p)
        return expression(c);
    rule->cands = SB_NEW_N(rule->arena, struct sb_cand, npaths ? npaths : 1);
    if (!npaths || c->row->stream) {
        add_cand(rule, traditional      ? sb_rank_traditional(c->row, false, 0, 0)
                       : c->row->stream ? sb_rank_stream(c->row)
                                        : sb_rank_compatible(c->row, false, 0, 0));
    } else {
        enum sb_rc rc = want_strings(c, c->row->paths, "paths");

        rule->uses_path = true;
        return rc ? rc : traditional ? split_traditional(c) : split_by_paths(c);
    }
    return SB_OK;
}

/* -- the whole -----------------------------------------------------------------------------------
 */

static const struct sb_value *list_at(const struct sb_value *row, const char *key)
{
    const struct sb_value *v = sb_get(row, key);

    return (sb_is(v, SB_V_ARRAY) || sb_is(v, SB_V_OBJECT)) && v->count ? v : NULL;
}

/* What the connection of a protocol is; 0 for unknown ones. */
static unsigned connection_of(struct sb_str protocol)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {
        {"http",            SB_PROTO_HTTP },
        {"grpc",            SB_PROTO_HTTP },
        {"https",           SB_PROTO_HTTPS},
        {"grpcs",           SB_PROTO_HTTPS},
        {"tcp",             SB_PROTO_TCP  },
        {"tls_passthrough", SB_PROTO_TCP  },
        {"tls",             SB_PROTO_TLS  },
        {"udp",             SB_PROTO_UDP  },
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (sb_str_is(protocol, names[i].name))
            return names[i].bit;
    }
    return 0;
}

static unsigned connections_of(const struct sb_value *row)
{
    const struct sb_value *item;
    unsigned set = 0;

    sb_array_each (item, sb_get(row, "protocols"))
        set |= sb_is(item, SB_V_STR) ? connection_of(item->s) : 0;
    return set;
}

/* In the flavor expressions protocols are part of matching, but for a route of TLS alone: that one
 * also meets plain connections, to redirect them. */
static unsigned protocols_of(enum sb_router_flavor flavor, const struct sb_value *row)
{
    const struct sb_value *list = sb_get(row, "protocols");
    struct sb_str only =
        sb_is(list, SB_V_ARRAY) && list->count == 1 && list->items[0]->type == SB_V_STR
            ? list->items[0]->s
            : SB_STR("");

    if (flavor != SB_ROUTER_EXPRESSIONS || sb_str_is(only, "https") || sb_str_is(only, "tls") ||
        sb_str_is(only, "tls_passthrough"))
        return 0;
    return connections_of(row);
}

void sb_rule_row_read(enum sb_router_flavor flavor, const struct sb_value *row,
                      struct sb_rule_row *out)
{
    const struct sb_value *expression =
        flavor == SB_ROUTER_EXPRESSIONS ? sb_get(row, "expression") : NULL;

    *out = (struct sb_rule_row){
        .id = sb_value_str_at(row, "id"),
        .methods = list_at(row, "methods"),
        .hosts = list_at(row, "hosts"),
        .paths = list_at(row, "paths"),
        .headers = list_at(row, "headers"),
        .snis = list_at(row, "snis"),
        .sources = list_at(row, "sources"),
        .destinations = list_at(row, "destinations"),
        .expression = sb_is(expression, SB_V_STR) ? expression->s : (struct sb_str){NULL, 0},
        .stream = connections_of(row) >= SB_PROTO_TCP,
        .priority = sb_value_int_at(row, "priority", 0),
        .regex_priority = sb_value_int_at(row, "regex_priority", 0),
        .created_at = sb_value_int_at(row, "created_at", 0),
        .path_handling_v1 = sb_str_eq(sb_value_str_at(row, "path_handling"), SB_STR("v1")),
    };
    out->category = sb_rank_category(out);
}

static enum sb_rc conditions(struct compiler *c)
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

enum sb_rc sb_rule_compile(enum sb_router_flavor flavor, const struct sb_router_source *source,
                           struct sb_rule **out, struct sb_err *err)
{
    struct sb_arena *arena = sb_arena_new(RULE_BLOCK_LEN);
    struct sb_rule *rule = SB_NEW(arena, struct sb_rule);
    struct sb_rule_row row;
    struct compiler c = {.rule = rule, .row = &row, .flavor = flavor, .err = err};
    enum sb_rc rc;

    sb_rule_row_read(flavor, source->row, &row);
    rule->refs = 1;
    rule->arena = arena;
    rule->route = source->route;
    rule->id = sb_arena_str(arena, row.id);
    rule->stream = row.stream;
    rule->category = row.category;
    rule->protocols = protocols_of(flavor, source->row);
    rule->path_handling_v1 = row.path_handling_v1 && flavor == SB_ROUTER_TRADITIONAL;
    rc = conditions(&c);
    rc = rc ? rc : candidates(&c);
    if (rc)
        sb_arena_free(arena);
    else
        *out = rule;
    return rc;
}

void sb_rule_unref(struct sb_rule *rule)
{
    if (rule && --rule->refs == 0)
        sb_arena_free(rule->arena);
}

/* -- places in the tree --------------------------------------------------------------------------
 */

struct placer {
    const struct sb_rule *rule;
    void (*fn)(void *arg, struct sb_str key, const struct sb_tree_entry *entry);
    void *arg;
    struct sb_buf key;
    struct sb_tree_entry entry;
};

static void key_host(struct sb_buf *key, const struct sb_rule_host *host)
{
    sb_buf_char(key, host->kind == SB_HOST_PREFIX ? SB_TREE_PREFIX : SB_TREE_HOST);
    if (host->kind == SB_HOST_PREFIX) {
        sb_buf_str(key, host->text);
    } else {
        for (size_t i = host->text.len; i-- > 0;)
            sb_buf_char(key, host->text.p[i]);
    }
    sb_buf_char(key, host->kind == SB_HOST_EXACT ? SB_TREE_EXACT : SB_TREE_WILD);
}

static void place_at(struct placer *p, struct sb_str path)
{
    size_t len = p->key.len;

    sb_buf_str(&p->key, path);
    p->fn(p->arg, sb_buf_get(&p->key), &p->entry);
    p->key.len = len;
}

/* A regex that begins with another one's head is met there already. */
static bool head_covered(const struct sb_cand *cand, size_t at)
{
    for (size_t i = 0; i < cand->nregexes; i++) {
        struct sb_str other = sb_regex_head(cand->regexes[i]),
                      mine = sb_regex_head(cand->regexes[at]);

        if (i != at && sb_str_starts(mine, other) && (i < at || other.len < mine.len))
            return true;
    }
    return false;
}

static void place_paths(struct placer *p)
{
    const struct sb_cand *cand = p->entry.cand;

    for (size_t i = 0; i < cand->nprefixes; i++)
        place_at(p, cand->prefixes[i]);
    for (size_t i = 0; i < cand->nregexes; i++) {
        if (!head_covered(cand, i))
            place_at(p, sb_regex_head(cand->regexes[i]));
    }
    if (!cand->nprefixes && !cand->nregexes)
        place_at(p, SB_STR(""));
}

/* On a stream the destination ports are the path; an element without one takes any. */
static void place_ports(struct placer *p)
{
    const struct sb_rule *rule = p->rule;
    bool any = !rule->ndestinations;

    for (size_t i = 0; i < rule->ndestinations; i++)
        any |= rule->destinations[i].port == SB_ANY_PORT;
    if (any)
        place_at(p, SB_STR(""));
    for (size_t i = 0; !any && i < rule->ndestinations; i++) {
        const char port[] = {(char)(rule->destinations[i].port >> 8),
                             (char)rule->destinations[i].port};

        place_at(p, sb_str_n(port, 2));
    }
}

/* Under the key begun, by path or port. */
static void place_below(struct placer *p)
{
    if (p->rule->stream)
        place_ports(p);
    else
        place_paths(p);
    sb_buf_clear(&p->key);
}

static void place_host(struct placer *p, struct sb_cand *cand, const struct sb_rule_host *host)
{
    p->entry = (struct sb_tree_entry){
        host->port_first ? sb_rank_port_first(cand->rank) : cand->rank, cand, host->port};
    key_host(&p->key, host);
    place_below(p);
}

static void place_section(struct placer *p, struct sb_cand *cand, char section)
{
    p->entry = (struct sb_tree_entry){cand->rank, cand, SB_ANY_PORT};
    sb_buf_char(&p->key, section);
    place_below(p);
}

static void place_expression(struct placer *p, struct sb_cand *cand)
{
    p->entry = (struct sb_tree_entry){cand->rank, cand, SB_ANY_PORT};
    for (size_t i = 0; i < cand->nplaces; i++) {
        if (cand->places[i].section == SB_PLACE_HOST)
            key_host(&p->key, &cand->places[i].host);
        else
            sb_buf_char(&p->key, SB_TREE_ANY);
        place_at(p, cand->places[i].path);
        sb_buf_clear(&p->key);
    }
}

static void place_cand(struct placer *p, struct sb_cand *cand)
{
    const struct sb_rule *rule = p->rule;
    const struct sb_rule_host *list = rule->stream ? rule->snis : rule->hosts;
    size_t n = rule->stream ? rule->nsnis : rule->nhosts;

    if (cand->expr) {
        place_expression(p, cand);
        return;
    }
    for (size_t h = 0; h < n; h++)
        place_host(p, cand, &list[h]);
    if (!n)
        place_section(p, cand, SB_TREE_ANY);
    else if (rule->stream)
        place_section(p, cand, SB_TREE_NO_SNI);
}

void sb_rule_places(const struct sb_rule *rule,
                    void (*fn)(void *arg, struct sb_str key, const struct sb_tree_entry *entry),
                    void *arg)
{
    struct placer p = {.rule = rule, .fn = fn, .arg = arg};

    sb_buf_init(&p.key, 0);
    for (size_t i = 0; i < rule->ncands; i++)
        place_cand(&p, &rule->cands[i]);
    sb_buf_release(&p.key);
}
