/* rule.c - a route's row becomes a rule: conditions.c and candidates.c do the work. */
#include "dataplane/router/compile.h"

/* Blocks are small: a rule is a few hundred bytes, and there may be 100,000. */
enum { RULE_BLOCK_LEN = 448 };

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
        {"http", SB_PROTO_HTTP},   {"grpc", SB_PROTO_HTTP}, {"https", SB_PROTO_HTTPS},
        {"grpcs", SB_PROTO_HTTPS}, {"tcp", SB_PROTO_TCP},   {"tls_passthrough", SB_PROTO_TCP},
        {"tls", SB_PROTO_TLS},     {"udp", SB_PROTO_UDP},
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
        .no_hosts = sb_is(sb_get(row, "hosts"), SB_V_ARRAY) && !sb_get(row, "hosts")->count,
        .path_handling_v1 = sb_str_eq(sb_value_str_at(row, "path_handling"), SB_STR("v1")),
    };
    out->category = sb_rank_category(out);
}

enum sb_rc sb_rule_compile(enum sb_router_flavor flavor, const struct sb_router_source *source,
                           struct sb_rule **out, struct sb_err *err)
{
    struct sb_arena *arena = sb_arena_new(RULE_BLOCK_LEN);
    struct sb_rule *rule = SB_NEW(arena, struct sb_rule);
    struct sb_rule_row row;
    struct sb_compiler c = {.rule = rule, .row = &row, .flavor = flavor, .err = err};
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
    rc = sb_compile_conditions(&c);
    rc = rc ? rc : sb_compile_candidates(&c);
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
