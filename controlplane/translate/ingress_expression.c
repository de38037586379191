/* ingress_expression.c - an Ingress route for a gateway of router flavour `expressions`
 * (kic-translation.md 3.7): one text that says all criteria, and a priority that makes the order of
 * routes come out as the traditional router's.
 *
 *     45  44 43   41 40       33  32        31     17  16     15            0
 *    [ kind ][fields][ headers ][plain hosts][ zeros ][regex][ longest path ]
 *
 * What counts for the priority is that an annotation says something, even where a value in it is no
 * good and does not make it into the expression.
 */
#include "controlplane/translate/annotations.h"
#include "controlplane/translate/expression.h"
#include "controlplane/translate/fields.h"
#include "controlplane/translate/translator.h"

enum {
    KIND_INGRESS = 3,
    SHIFT_KIND = 44,
    SHIFT_FIELDS = 41,
    SHIFT_HEADERS = 33,
    SHIFT_PLAIN_HOSTS = 32,
    SHIFT_REGEX = 16,
    HEADERS_MAX = 255,
    PATH_LEN_MAX = 65535,
};

/* What the annotations say, read once. */
struct criteria {
    struct sb_str regex_prefix;
    struct sb_value *hosts, *methods, *snis;
    struct sb_value *headers; /* NULL: none */
};

static struct criteria criteria_of(struct sb_arena *a, const struct sb_value *annotations,
                                   struct sb_str host)
{
    struct criteria c = {
        .regex_prefix = kong_annotation(annotations, "regex-prefix"),
        .hosts = sb_value_array(a),
        .methods = method_annotation(a, annotations),
        .snis = comma_list(a, kong_annotation(annotations, "snis")),
        .headers = header_annotations(a, annotations),
    };
    const struct sb_value *aliases = comma_list(a, kong_annotation(annotations, "host-aliases"));
    struct sb_value *alias;

    if (!c.regex_prefix.len)
        c.regex_prefix = SB_STR("/~");
    if (host.len)
        sb_array_push(a, c.hosts, sb_value_str(a, host));
    sb_array_each (alias, aliases)
        sb_array_push(a, c.hosts, alias);
    return c;
}

/* -- the expression
 * -------------------------------------------------------------------------------- */

/* field == item, for each that fits. */
static struct sb_str any_equal(struct sb_arena *a, const char *field, const struct sb_value *list,
                               bool (*fits)(struct sb_str s))
{
    struct operands any = {0};
    struct sb_value *item;

    sb_array_each (item, list) {
        if (fits(item->s))
            operand_add(a, &any, predicate(a, sb_str_c(field), "==", item->s));
    }
    return any_of(a, &any);
}

static struct sb_str any_host(struct sb_arena *a, const struct sb_value *hosts)
{
    static const struct sb_str field = SB_STR_INIT("http.host");
    struct operands any = {0};
    struct sb_value *host;

    sb_array_each (host, hosts) {
        if (!is_host_alias(host->s))
            continue;
        if (host->s.p[0] == '*')
            operand_add(a, &any, predicate(a, field, "=^", sb_str_from(host->s, 1)));
        else
            operand_add(a, &any, predicate(a, field, "==", host->s));
    }
    return any_of(a, &any);
}

static struct sb_str path_prefix(struct sb_arena *a, struct sb_str base)
{
    static const struct sb_str field = SB_STR_INIT("http.path");
    struct operands any = {0};

    if (!base.len)
        return predicate(a, field, "^=", SB_STR("/"));
    operand_add(a, &any, predicate(a, field, "==", sb_arena_printf(a, "/%.*s", SB_ARG(base))));
    operand_add(a, &any, predicate(a, field, "^=", sb_arena_printf(a, "/%.*s/", SB_ARG(base))));
    return any_of(a, &any);
}

static struct sb_str path_regex(struct sb_arena *a, struct sb_str regex)
{
    if (!regex.len)
        regex = SB_STR("^/");
    else if (regex.p[0] != '^')
        regex = sb_arena_printf(a, "^%.*s", SB_ARG(regex));
    return predicate(a, SB_STR("http.path"), "~", regex);
}

static struct sb_str one_path(struct sb_arena *a, const struct ingress_path *path,
                              struct sb_str regex_prefix)
{
    struct sb_str base = trim_slashes(path->path, path->type == PATH_PREFIX);

    switch (path->type) {
    case PATH_PREFIX:
        return path_prefix(a, base);
    case PATH_EXACT:
        return predicate(a, SB_STR("http.path"), "==", sb_arena_printf(a, "/%.*s", SB_ARG(base)));
    case PATH_IMPLEMENTATION:
        if (sb_str_starts(path->path, regex_prefix))
            return path_regex(a, sb_str_from(path->path, regex_prefix.len));
        return predicate(a, SB_STR("http.path"), "^=", path->path);
    case PATH_UNKNOWN:
        break;
    }
    return SB_STR("");
}

static struct sb_str any_path(struct sb_arena *a, const struct ingress_path *paths,
                              struct sb_str regex_prefix)
{
    struct operands any = {0};

    for (; paths; paths = paths->next)
        operand_add(a, &any, one_path(a, paths, regex_prefix));
    return any_of(a, &any);
}

/* http.headers.x_name; the host has a field of its own. */
static struct sb_str header_field(struct sb_arena *a, struct sb_str name)
{
    struct sb_str field = sb_arena_printf(a, "http.headers.%.*s", SB_ARG(name));
    char *text = sb_arena_cstr(a, field);

    for (size_t i = 0; i < field.len; i++) {
        if (text[i] >= 'A' && text[i] <= 'Z')
            text[i] = (char)(text[i] + 32);
        else if (text[i] == '-')
            text[i] = '_';
    }
    return sb_str_n(text, field.len);
}

static struct sb_str any_value(struct sb_arena *a, struct sb_str field,
                               const struct sb_value *values)
{
    struct operands any = {0};
    struct sb_value *value;

    sb_array_each (value, values) {
        bool regex = sb_str_starts(value->s, SB_STR("~*"));

        operand_add(a, &any,
                    predicate(a, field, regex ? "~" : "==", sb_str_from(value->s, regex ? 2 : 0)));
    }
    return any_of(a, &any);
}

static struct sb_str all_headers(struct sb_arena *a, const struct sb_value *headers)
{
    struct operands all = {0};
    const struct sb_member *m;

    sb_object_each (m, headers) {
        struct sb_str field = header_field(a, m->key);

        if (!sb_str_is(field, "http.headers.host"))
            operand_add(a, &all, any_value(a, field, m->value));
    }
    return all_of(a, &all);
}

/* -- the priority
 * ---------------------------------------------------------------------------------- */

static size_t path_len(const struct ingress_path *path, struct sb_str regex_prefix, bool *regex)
{
    struct sb_str base = trim_slashes(path->path, path->type == PATH_PREFIX);

    *regex = true; /* the traditional router has regexes for Exact and Prefix */
    switch (path->type) {
    case PATH_PREFIX:
        return base.len ? base.len + 2 : 1;
    case PATH_EXACT:
        return base.len + 1;
    case PATH_IMPLEMENTATION:
        if (sb_str_starts(path->path, regex_prefix))
            return path->path.len - regex_prefix.len;
        *regex = false;
        return path->path.len;
    case PATH_UNKNOWN:
        break;
    }
    *regex = false;
    return 0;
}

static uint64_t path_bits(const struct ingress_path *paths, struct sb_str regex_prefix)
{
    uint64_t longest = 0;
    bool any_regex = false, regex;

    for (; paths; paths = paths->next) {
        size_t len = path_len(paths, regex_prefix, &regex);

        longest = len > longest ? len : longest;
        any_regex = any_regex || regex;
    }
    if (longest > PATH_LEN_MAX)
        longest = PATH_LEN_MAX;
    return longest | (uint64_t)any_regex << SHIFT_REGEX;
}

static bool all_plain(const struct sb_value *hosts)
{
    struct sb_value *host;

    sb_array_each (host, hosts) {
        if (host->s.p[0] == '*')
            return false;
    }
    return hosts->count > 0;
}

static uint64_t priority(const struct criteria *c, const struct ingress_path *paths)
{
    uint64_t headers = c->headers ? c->headers->count : 0;
    uint64_t fields = (paths ? 1 : 0) + (c->hosts->count > 0) + (headers > 0) +
                      (c->methods->count > 0) + (c->snis->count > 0);

    if (headers > HEADERS_MAX)
        headers = HEADERS_MAX;
    return (uint64_t)KIND_INGRESS << SHIFT_KIND | fields << SHIFT_FIELDS |
           headers << SHIFT_HEADERS | (uint64_t)all_plain(c->hosts) << SHIFT_PLAIN_HOSTS |
           path_bits(paths, c->regex_prefix);
}

void ingress_expression(struct sb_arena *a, struct sb_value *route,
                        const struct sb_value *annotations, struct sb_str host,
                        const struct ingress_path *paths)
{
    struct criteria c = criteria_of(a, annotations, host);
    struct operands all = {0};

    operand_add(a, &all, any_host(a, c.hosts));
    operand_add(a, &all, any_path(a, paths, c.regex_prefix));
    operand_add(a, &all, all_headers(a, c.headers));
    operand_add(a, &all, any_equal(a, "http.method", c.methods, is_method));
    operand_add(a, &all, any_equal(a, "tls.sni", c.snis, is_plain_host));
    set_str(a, route, "expression", all_of(a, &all));
    set_int(a, route, "priority", (int64_t)priority(&c, paths));
}
