#include "controlplane/translate/annotations.h"

#include <stdlib.h>

#include "controlplane/translate/fields.h"

#define PREFIX "konghq.com/"

const struct sb_value *annotations_of(const struct sb_value *object)
{
    const struct sb_value *map = sb_value_at(object, "metadata.annotations");

    return sb_is(map, SB_V_OBJECT) ? map : NULL;
}

struct sb_str annotation(const struct sb_value *annotations, const char *name)
{
    const struct sb_value *v = sb_get(annotations, name);

    if (!sb_is(v, SB_V_STR))
        return (struct sb_str){0};
    return sb_str_n(v->s.p ? v->s.p : "", v->s.len);
}

struct sb_str kong_annotation(const struct sb_value *annotations, const char *name)
{
    char full[96];
    size_t len = strlen(name);

    if (sizeof PREFIX + len > sizeof full)
        return (struct sb_str){0};
    memcpy(full, PREFIX, sizeof PREFIX - 1);
    memcpy(full + sizeof PREFIX - 1, name, len + 1);
    return annotation(annotations, full);
}

struct sb_value *comma_list(struct sb_arena *a, struct sb_str s)
{
    struct sb_value *list = sb_value_array(a);
    struct sb_str piece;

    while (sb_str_split(&s, ',', &piece)) {
        piece = sb_str_trim(piece);
        if (piece.len)
            sb_array_push(a, list, sb_value_str(a, sb_arena_str(a, piece)));
    }
    return list;
}

bool go_bool(struct sb_str s, bool any_case, bool *out)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {
        {"1", true},      {"t", true},    {"true", true},   {"T", true},
        {"TRUE", true},   {"True", true}, {"0", false},     {"f", false},
        {"false", false}, {"F", false},   {"FALSE", false}, {"False", false},
    };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        struct sb_str word = sb_str_c(words[i].word);

        if (any_case ? sb_str_ieq(s, word) : sb_str_eq(s, word)) {
            *out = words[i].value;
            return true;
        }
    }
    return false;
}

struct sb_str go_quoted(struct sb_arena *a, struct sb_str s)
{
    static const char plain[] = "\\\"\n\r\t", escaped[] = "\\\"nrt";
    char *text = sb_arena_alloc(a, s.len * 2 + 2);
    size_t len = 0;

    text[len++] = '"';
    for (size_t i = 0; i < s.len; i++) {
        const char *special = memchr(plain, s.p[i], sizeof plain - 1);

        if (special)
            text[len++] = '\\';
        text[len++] = special ? escaped[special - plain] : s.p[i];
    }
    text[len++] = '"';
    return sb_str_n(text, len);
}

/* -- what values may be
 * ---------------------------------------------------------------------------- */

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_method(struct sb_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < 'A' || s.p[i] > 'Z')
            return false;
    }
    return s.len > 0;
}

bool is_plain_host(struct sb_str s)
{
    bool after_alnum = false;

    for (size_t i = 0; i < s.len; i++) {
        bool alnum = is_alnum(s.p[i]);

        if (!alnum && !(after_alnum && (s.p[i] == '-' || s.p[i] == '.')))
            return false;
        after_alnum = alnum;
    }
    return after_alnum;
}

bool is_host_alias(struct sb_str s)
{
    if (sb_str_starts(s, SB_STR("*.")))
        s = sb_str_from(s, 2);
    if (sb_str_ends(s, SB_STR(".*")))
        s = sb_str_first(s, s.len - 2);
    return is_plain_host(s);
}

bool is_protocol(struct sb_str s)
{
    static const char *const names[] = {
        "http", "https", "grpc", "grpcs", "ws", "wss", "tls", "tcp", "tls_passthrough",
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (sb_str_is(s, names[i]))
            return true;
    }
    return false;
}

static bool all(const struct sb_value *list, bool (*fits)(struct sb_str s))
{
    struct sb_value *item;

    sb_array_each (item, list) {
        if (!fits(item->s))
            return false;
    }
    return true;
}

/* -- konghq.com/headers.*
 * -------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    return sb_str_cmp(((const struct sb_member *)a)->key, ((const struct sb_member *)b)->key);
}

static struct sb_value *header_values(struct sb_arena *a, struct sb_str text,
                                      struct sb_str separator)
{
    struct sb_value *values = sb_value_array(a);
    ptrdiff_t at;

    while ((at = sb_str_find(text, separator, 0)) >= 0) {
        sb_array_push(a, values, sb_value_str(a, sb_str_trim(sb_str_first(text, (size_t)at))));
        text = sb_str_from(text, (size_t)at + separator.len);
    }
    sb_array_push(a, values, sb_value_str(a, sb_str_trim(text)));
    return values;
}

struct sb_value *header_annotations(struct sb_arena *a, const struct sb_value *annotations)
{
    static const struct sb_str prefix = SB_STR_INIT(PREFIX "headers.");
    struct sb_str separator = kong_annotation(annotations, "headers-separator");
    struct sb_value *headers = sb_value_object(a);
    const struct sb_member *m;

    if (!separator.len)
        separator = SB_STR(",");
    sb_object_each (m, annotations) {
        struct sb_str name = sb_str_from(m->key, prefix.len);

        if (sb_str_starts(m->key, prefix) && name.len && sb_is(m->value, SB_V_STR) &&
            m->value->s.len)
            sb_object_set(a, headers, sb_arena_str(a, name),
                          header_values(a, sb_arena_str(a, m->value->s), separator));
    }
    if (!headers->count)
        return NULL;
    qsort(headers->members, headers->count, sizeof *headers->members, by_key);
    return headers;
}

/* -- routes
 * ---------------------------------------------------------------------------------------- */

static void route_flag(struct sb_arena *a, struct sb_value *route,
                       const struct sb_value *annotations, const char *name, const char *field)
{
    struct sb_str text = kong_annotation(annotations, name);

    if (sb_str_ieq(text, SB_STR("true")) || sb_str_ieq(text, SB_STR("false")))
        set_bool(a, route, field, text.len == 4);
}

static void route_go_flag(struct sb_arena *a, struct sb_value *route,
                          const struct sb_value *annotations, const char *name, const char *field)
{
    bool value;

    if (go_bool(kong_annotation(annotations, name), true, &value))
        set_bool(a, route, field, value);
}

static bool any_holds(const struct sb_value *list, const char *needle)
{
    struct sb_value *item;

    sb_array_each (item, list) {
        if (sb_str_find(item->s, sb_str_c(needle), 0) >= 0)
            return true;
    }
    return false;
}

/* ingress.kubernetes.io/force-ssl-redirect: the TLS sister of each protocol. */
static void force_ssl(struct sb_arena *a, struct sb_value *route)
{
    const struct sb_value *before = sb_get(route, "protocols");
    bool grpc = any_holds(before, "grpc"), http = any_holds(before, "http");
    struct sb_value *protocols = sb_value_array(a);

    if (grpc)
        sb_array_push(a, protocols, sb_value_text(a, "grpcs"));
    if (http || !grpc)
        sb_array_push(a, protocols, sb_value_text(a, "https"));
    set_int(a, route, "https_redirect_status_code", 302);
    set_value(a, route, "protocols", protocols);
}

static void route_redirect(struct sb_arena *a, struct sb_value *route,
                           const struct sb_value *annotations)
{
    static const int codes[] = {426, 301, 302, 307, 308};
    int64_t code;

    if (sb_str_is(annotation(annotations, "ingress.kubernetes.io/force-ssl-redirect"), "true"))
        force_ssl(a, route);
    if (!sb_str_int(kong_annotation(annotations, "https-redirect-status-code"), &code))
        return;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (code == codes[i])
            set_int(a, route, "https_redirect_status_code", code);
    }
}

/* A list counts as a whole or not at all. */
static void route_list(struct sb_arena *a, struct sb_value *route, const char *field,
                       struct sb_value *list, bool (*fits)(struct sb_str s))
{
    if (list->count && all(list, fits))
        set_value(a, route, field, list);
}

static void upper(struct sb_arena *a, struct sb_value *list)
{
    struct sb_value *item;

    sb_array_each (item, list) {
        char *text = sb_arena_cstr(a, item->s);

        for (size_t i = 0; i < item->s.len; i++)
            text[i] = text[i] >= 'a' && text[i] <= 'z' ? (char)(text[i] - 32) : text[i];
        item->s.p = text;
    }
}

struct sb_value *method_annotation(struct sb_arena *a, const struct sb_value *annotations)
{
    struct sb_value *methods = comma_list(a, kong_annotation(annotations, "methods"));

    upper(a, methods);
    return methods;
}

/* Present but empty says: no SNIs. */
static void route_snis(struct sb_arena *a, struct sb_value *route,
                       const struct sb_value *annotations)
{
    struct sb_str text = kong_annotation(annotations, "snis");
    struct sb_value *snis;

    if (!text.p)
        return;
    snis = comma_list(a, text);
    if (!snis->count)
        sb_object_remove(route, SB_STR("snis"));
    route_list(a, route, "snis", snis, is_plain_host);
}

static bool holds(const struct sb_value *list, struct sb_str s)
{
    struct sb_value *item;

    sb_array_each (item, list) {
        if (sb_str_eq(item->s, s))
            return true;
    }
    return false;
}

static void route_hosts(struct sb_arena *a, struct sb_value *route,
                        const struct sb_value *annotations)
{
    struct sb_value *aliases = comma_list(a, kong_annotation(annotations, "host-aliases"));
    struct sb_value *hosts = sb_value_array(a), *host;

    if (!aliases->count || !all(aliases, is_host_alias))
        return;
    sb_array_each (host, sb_get(route, "hosts"))
        sb_array_push(a, hosts, host);
    sb_array_each (host, aliases) {
        if (!holds(hosts, host->s))
            sb_array_push(a, hosts, host);
    }
    set_value(a, route, "hosts", hosts);
}

/* A 'v' and a digit somewhere; the text is sent as written. */
static void route_path_handling(struct sb_arena *a, struct sb_value *route,
                                const struct sb_value *annotations)
{
    struct sb_str text = kong_annotation(annotations, "path-handling");

    for (size_t i = 0; i + 1 < text.len; i++) {
        if (text.p[i] == 'v' && text.p[i + 1] >= '0' && text.p[i + 1] <= '9') {
            set_str(a, route, "path_handling", sb_arena_str(a, text));
            return;
        }
    }
}

/* What the router of flavour `expressions` has no fields for. */
static void route_criteria(struct sb_arena *a, struct sb_value *route,
                           const struct sb_value *annotations)
{
    struct sb_value *headers = header_annotations(a, annotations);
    int64_t priority;

    if (sb_str_int(kong_annotation(annotations, "regex-priority"), &priority))
        set_int(a, route, "regex_priority", priority);
    route_list(a, route, "methods", method_annotation(a, annotations), is_method);
    route_snis(a, route, annotations);
    route_hosts(a, route, annotations);
    if (headers)
        set_value(a, route, "headers", headers);
    route_path_handling(a, route, annotations);
}

/* Kong takes grpc and http on one route only as http, and grpc never with strip_path. */
static void normalize_protocols(struct sb_arena *a, struct sb_value *route)
{
    const struct sb_value *protocols = sb_get(route, "protocols");
    struct sb_value *both;

    if (!any_holds(protocols, "grpc"))
        return;
    if (any_holds(protocols, "http") || !all(protocols, is_protocol)) {
        both = sb_value_array(a);
        sb_array_push(a, both, sb_value_text(a, "http"));
        sb_array_push(a, both, sb_value_text(a, "https"));
        set_value(a, route, "protocols", both);
    }
    sb_object_remove(route, SB_STR("strip_path"));
}

void route_annotations(struct sb_arena *a, struct sb_value *route,
                       const struct sb_value *annotations, bool expressions)
{
    route_flag(a, route, annotations, "strip-path", "strip_path");
    route_redirect(a, route, annotations);
    route_flag(a, route, annotations, "preserve-host", "preserve_host");
    route_go_flag(a, route, annotations, "request-buffering", "request_buffering");
    route_go_flag(a, route, annotations, "response-buffering", "response_buffering");
    route_list(a, route, "protocols", comma_list(a, kong_annotation(annotations, "protocols")),
               is_protocol);
    if (expressions)
        return;
    route_criteria(a, route, annotations);
    normalize_protocols(a, route);
}

/* -- services
 * -------------------------------------------------------------------------------------- */

bool service_annotations(struct sb_arena *a, struct sb_value *service,
                         const struct sb_value *annotations)
{
    static const struct {
        const char *name, *field;
    } numbers[] = {
        {"connect-timeout", "connect_timeout"},   {"write-timeout", "write_timeout"},
        {"read-timeout", "read_timeout"},         {"retries", "retries"},
        {"tls-verify-depth", "tls_verify_depth"},
    };
    struct sb_str protocol = kong_annotation(annotations, "protocol");
    struct sb_str path = kong_annotation(annotations, "path");
    int64_t number;
    bool verify;

    if (is_protocol(protocol))
        set_str(a, service, "protocol", sb_arena_str(a, protocol));
    if (path.len && path.p[0] == '/')
        set_str(a, service, "path", sb_arena_str(a, path));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (sb_str_int(kong_annotation(annotations, numbers[i].name), &number))
            set_int(a, service, numbers[i].field, number);
    }
    if (go_bool(kong_annotation(annotations, "tls-verify"), false, &verify))
        set_bool(a, service, "tls_verify", verify);
    return !protocol.len || is_protocol(protocol);
}
