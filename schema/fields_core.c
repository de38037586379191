/* fields_core.c - the entities of Kong's core, a table each (reference/entities.md, part 1).
 *
 * Rows are in the order in which readers see them. Texts in tables are complete sentences of the
 * Admin API; tools compare them. */
#include "schema/fields.h"

#include "schema/hostname.h"
#include "schema/keys.h"
#include "schema/plugins.h"
#include "schema/types.h"
#include "schema/uri.h"
#include "schema/validate.h"

#define STRING(n, ...)                                                                             \
    {                                                                                              \
        .name = (n), .type = SB_T_STRING, __VA_ARGS__                                              \
    }
#define INTEGER(n, ...)                                                                            \
    {                                                                                              \
        .name = (n), .type = SB_T_INTEGER, __VA_ARGS__                                             \
    }
#define NUMBER(n, ...)                                                                             \
    {                                                                                              \
        .name = (n), .type = SB_T_NUMBER, __VA_ARGS__                                              \
    }
#define BOOLEAN(n, ...)                                                                            \
    {                                                                                              \
        .name = (n), .type = SB_T_BOOLEAN, __VA_ARGS__                                             \
    }
#define ARRAY(n, e, ...)                                                                           \
    {                                                                                              \
        .name = (n), .type = SB_T_ARRAY, .elements = (e), __VA_ARGS__                              \
    }
#define SET(n, e, ...)                                                                             \
    {                                                                                              \
        .name = (n), .type = SB_T_SET, .elements = (e), __VA_ARGS__                                \
    }
#define RECORD(n, fs, ...)                                                                         \
    {                                                                                              \
        .name = (n), .type = SB_T_RECORD, .fields = (fs), __VA_ARGS__                              \
    }
#define FOREIGN(n, to, ...)                                                                        \
    {                                                                                              \
        .name = (n), .type = SB_T_FOREIGN, .reference = (to), __VA_ARGS__                          \
    }
#define UTF8_NAME(n, ...)                                                                          \
    STRING(n, .flags = SB_F_UNIQUE __VA_ARGS__, .validate = sb_check_utf8_name)
#define END                                                                                        \
    {                                                                                              \
        .name = NULL                                                                               \
    }

/* What conditions compare with and demand. */
#define VALUE(...)   (&(const struct sb_field){.type = SB_T_JSON, __VA_ARGS__})
#define MUST_BE_NULL VALUE(.eq = "null")
#define IF(field, match, then, demand)                                                             \
    {                                                                                              \
        .kind = SB_C_CONDITIONAL, .if_field = (field), .if_match = (match), .then_field = (then),  \
        .then_match = (demand)                                                                     \
    }

/* -- services ---------------------------------------------------------------------------------- */

static const struct sb_field service_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    UTF8_NAME("name"),
    INTEGER("retries", SB_BETWEEN(0, 32767), .def = "5"),
    STRING("protocol", .flags = SB_F_REQUIRED, .one_of = sb_protocols, .def = "\"http\""),
    STRING("host", .flags = SB_F_REQUIRED, .validate = sb_check_host),
    INTEGER("port", .flags = SB_F_REQUIRED, SB_BETWEEN(0, 65535), .def = "80"),
    STRING("path", .validate = sb_check_path),
    INTEGER("connect_timeout", SB_BETWEEN(1, SB_MAX_TIMEOUT), .def = "60000"),
    INTEGER("write_timeout", SB_BETWEEN(1, SB_MAX_TIMEOUT), .def = "60000"),
    INTEGER("read_timeout", SB_BETWEEN(1, SB_MAX_TIMEOUT), .def = "60000"),
    SB_ROW_TAGS,
    FOREIGN("client_certificate", "certificates"),
    BOOLEAN("tls_verify"),
    INTEGER("tls_verify_depth", SB_BETWEEN(0, 64)),
    ARRAY("ca_certificates", &sb_type_uuid),
    BOOLEAN("enabled", .flags = SB_F_REQUIRED, .def = "true"),
    END,
};

#define NO_PATH_PROTOCOLS VALUE(.one_of = SB_LIST("tcp", "tls", "udp", "grpc", "grpcs"))
#define NO_TLS_PROTOCOLS  VALUE(.not_one_of = SB_LIST("https", "tls"))

static const struct sb_entity_check service_checks[] = {
    IF("protocol", NO_PATH_PROTOCOLS, "path", MUST_BE_NULL),
    IF("protocol", NO_TLS_PROTOCOLS, "client_certificate", MUST_BE_NULL),
    IF("protocol", NO_TLS_PROTOCOLS, "tls_verify", MUST_BE_NULL),
    IF("protocol", NO_TLS_PROTOCOLS, "tls_verify_depth", MUST_BE_NULL),
    IF("protocol", NO_TLS_PROTOCOLS, "ca_certificates", MUST_BE_NULL),
    {0},
};

static struct sb_value *text_or_null(struct sb_arena *a, struct sb_str s)
{
    return s.p ? sb_value_str(a, sb_arena_str(a, s)) : sb_value_null(a);
}

/* The port of a URL: as written, else by its scheme. What is no number stays, to be refused. */
static struct sb_value *port_of(struct sb_arena *a, const struct sb_url *url)
{
    int64_t port;

    if (!url->port.p)
        return sb_value_int(a, sb_str_is(url->scheme, "https") ? 443 : 80);
    return sb_str_int(url->port, &port) ? sb_value_int(a, port) : text_or_null(a, url->port);
}

/* `url` stands for protocol, host, port and path. A null is read as the text that Kong makes of it,
 * whose parts are then refused one by one. */
static void expand_service(struct sb_schema_ctx *ctx, struct sb_value *entity,
                           struct sb_value *errors)
{
    const struct sb_value *text = sb_get(entity, "url");
    struct sb_arena *a = ctx->arena;
    struct sb_str scheme;
    struct sb_url url;

    if (!text)
        return;
    sb_object_remove(entity, SB_STR("url"));
    if (text->type != SB_V_STR && text->type != SB_V_NULL) {
        sb_errors_field(a, errors, "url", "expected a string");
        return;
    }
    if (text->type == SB_V_STR && text->s.len == 0) {
        sb_errors_field(a, errors, "url", "length must be at least 1");
        return;
    }
    sb_url_split(text->type == SB_V_STR ? text->s : SB_STR("userdata: NULL"), &url);
    scheme = url.scheme.p                 ? url.scheme
             : sb_str_is(url.port, "443") ? SB_STR("https")
                                          : SB_STR("http");
    sb_object_set(a, entity, SB_STR("protocol"), text_or_null(a, scheme));
    sb_object_set(a, entity, SB_STR("host"), text_or_null(a, url.host));
    sb_object_set(a, entity, SB_STR("port"), port_of(a, &url));
    sb_object_set(a, entity, SB_STR("path"), text_or_null(a, url.path));
}

const struct sb_entity sb_services = {
    .name = "services",
    .singular = "service",
    .table = "services",
    .path = "services",
    .flags = SB_E_CORE | SB_E_WORKSPACE,
    .primary_key = "id",
    .endpoint_key = "name",
    .fields = service_fields,
    .checks = service_checks,
    .expand = expand_service,
};

/* -- routes ------------------------------------------------------------------------------------ */

static const struct sb_field peer_fields[] = {
    STRING("ip", .validate = sb_check_ip_or_cidr),
    INTEGER("port", SB_BETWEEN(0, 65535)),
    END,
};
static const struct sb_entity_check peer_checks[] = {
    {.kind = SB_C_AT_LEAST_ONE_OF, .fields = SB_LIST("ip", "port")}, {0}};
static const struct sb_field peer = {
    .type = SB_T_RECORD, .fields = peer_fields, .checks = peer_checks};
static const struct sb_field route_sni = {.type = SB_T_STRING,
                                          .validate = sb_check_sni_or_wildcard};
static const struct sb_field method = {.type = SB_T_STRING, .match = "^[A-Z]+$"};
static const struct sb_field router_host = {.type = SB_T_STRING, .validate = sb_check_router_host};
static const struct sb_field router_path = {.type = SB_T_STRING, .validate = sb_check_router_path};
static const struct sb_field header_not_host = {.type = SB_T_STRING,
                                                .validate = sb_check_header_not_host};

#define PROTOCOLS(d)                                                                               \
    SET("protocols", &sb_type_protocol, .flags = SB_F_REQUIRED, .has_len_min = true, .len_min = 1, \
        .def = (d), .validate = sb_check_protocols)

static const struct sb_field route_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    UTF8_NAME("name"),
    PROTOCOLS("[\"http\",\"https\"]"),
    INTEGER("https_redirect_status_code", .flags = SB_F_REQUIRED,
            .one_of = SB_LIST("426", "301", "302", "307", "308"), .def = "426"),
    BOOLEAN("strip_path", .flags = SB_F_REQUIRED, .def = "true"),
    BOOLEAN("preserve_host", .flags = SB_F_REQUIRED, .def = "false"),
    BOOLEAN("request_buffering", .flags = SB_F_REQUIRED, .def = "true"),
    BOOLEAN("response_buffering", .flags = SB_F_REQUIRED, .def = "true"),
    SB_ROW_TAGS,
    FOREIGN("service", "services"),
    SET("snis", &route_sni),
    SET("sources", &peer),
    SET("destinations", &peer),
    SET("methods", &method),
    ARRAY("hosts", &router_host),
    ARRAY("paths", &router_path),
    {.name = "headers", .type = SB_T_MAP, .keys = &header_not_host, .values = &sb_type_strings},
    INTEGER("regex_priority", .def = "0"),
    STRING("path_handling", .one_of = SB_LIST("v0", "v1"), .def = "\"v0\""),
    STRING("expression", .flags = SB_F_EXPRESSIONS),
    INTEGER("priority", .flags = SB_F_REQUIRED | SB_F_EXPRESSIONS, SB_BETWEEN(0, 70368744177663),
            .def = "0"),
    END,
};

/* What an expression takes the place of. */
#define CLASSIC "methods", "hosts", "paths", "headers", "snis", "sources", "destinations"

static bool any_set(const struct sb_value *entity, const char *const *names)
{
    for (; *names; names++) {
        if (!sb_is_blank(sb_value_at(entity, *names)))
            return true;
    }
    return false;
}

/* What an expression may not stand beside; NULL when all is well. */
static const char *expression_clash(const struct sb_value *entity)
{
    bool expression = !sb_is_blank(sb_get(entity, "expression"));
    bool classic = any_set(entity, SB_LIST(CLASSIC));

    if (expression && classic)
        return "Router Expression failed validation: cannot set 'expression' with 'methods', "
               "'hosts', "
               "'paths', 'headers', 'snis', 'sources' or 'destinations' simultaneously";
    if (expression && sb_value_int_at(entity, "regex_priority", 0))
        return "Router Expression failed validation: cannot set 'regex_priority' with 'expression' "
               "simultaneously";
    if (classic && sb_value_int_at(entity, "priority", 0))
        return "Router Expression failed validation: cannot set 'priority' with 'methods', "
               "'hosts', "
               "'paths', 'headers', 'snis', 'sources' or 'destinations' simultaneously";
    return NULL;
}

static void check_route(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                        struct sb_value *errors)
{
    const char *clash = ctx->expressions ? expression_clash(entity) : NULL;
    struct sb_err err;

    if (clash) {
        sb_errors_entity(ctx->arena, errors, clash);
        return;
    }
    if (ctx->route_compiles && !ctx->traditional && !ctx->route_compiles(ctx->arg, entity, &err))
        sb_errors_entity(ctx->arena, errors,
                         sb_say(ctx, "Router Expression failed validation: %s", err.text));
}

static const struct sb_field no_tls_protocol = {
    .type = SB_T_STRING, .not_one_of = SB_LIST("grpcs", "https", "tls", "tls_passthrough")};

static const struct sb_entity_check route_checks[] = {
    {.kind = SB_C_CONDITIONAL,
     .if_field = "protocols",
     .if_match = VALUE(.elements = &no_tls_protocol),
     .then_field = "snis",
     .then_match = VALUE(.has_len_eq = true, .len_eq = 0),
     .err =
         "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"},
    {.kind = SB_C_CUSTOM,
     .fields = SB_LIST("id", "protocols", CLASSIC, "expression", "regex_priority", "priority"),
     .custom = check_route},
    {0},
};

#define WITH(p) VALUE(.contains = (p))
#define NOT_WITH(n, t, p)                                                                          \
    {                                                                                              \
        .name = (n), .type = (t), .eq = "null", .err = "cannot set '" n "' when 'protocols' is " p \
    }
#define ONE_OF_TEXT(l, p) "must set one of " l " when 'protocols' is " p

#define HTTP "'http' or 'https'"
#define TCP  "'tcp', 'tls', 'tls_passthrough' or 'udp'"
#define GRPC "'grpc' or 'grpcs'"

/* Every family twice: as it is, and (suffix _x) with the flavor expressions. */
static const struct sb_field http_fields[] = {NOT_WITH("sources", SB_T_SET, HTTP),
                                              NOT_WITH("destinations", SB_T_SET, HTTP), END};
static const struct sb_field http_fields_x[] = {END};
static const struct sb_field tcp_fields[] = {
    NOT_WITH("methods", SB_T_SET, TCP), NOT_WITH("hosts", SB_T_ARRAY, TCP),
    NOT_WITH("paths", SB_T_ARRAY, TCP), NOT_WITH("headers", SB_T_MAP, TCP), END};

#define NOT_STRIPPED                                                                               \
    {                                                                                              \
        .name = "strip_path", .type = SB_T_BOOLEAN, .flags = SB_F_REQUIRED, .def = "false",        \
        .not_one_of = SB_LIST("true"), .err = "cannot set 'strip_path' when 'protocols' is " GRPC  \
    }
static const struct sb_field grpc_fields[] = {NOT_STRIPPED, NOT_WITH("methods", SB_T_SET, GRPC),
                                              NOT_WITH("sources", SB_T_SET, GRPC),
                                              NOT_WITH("destinations", SB_T_SET, GRPC), END};
static const struct sb_field grpc_fields_x[] = {NOT_STRIPPED, NOT_WITH("methods", SB_T_SET, GRPC),
                                                END};

#define HTTPS_KEYS      "methods", "hosts", "headers", "paths", "snis"
#define HTTPS_KEYS_TEXT "'methods', 'hosts', 'headers', 'paths', 'snis'"
#define HTTP_KEYS       "methods", "hosts", "headers", "paths"
#define HTTP_KEYS_TEXT  "'methods', 'hosts', 'headers', 'paths'"
#define GRPCS_KEYS      "hosts", "headers", "paths", "snis"
#define GRPCS_KEYS_TEXT "'hosts', 'headers', 'paths', 'snis'"
#define GRPC_KEYS       "hosts", "headers", "paths"
#define GRPC_KEYS_TEXT  "'hosts', 'headers', 'paths'"
#define AND_EXPRESSION  , "expression"

#define KEYS(secure, S, plain, P, x, X)                                                            \
    {                                                                                              \
        {.kind = SB_C_CONDITIONAL_AT_LEAST_ONE_OF,                                                 \
         .if_field = "protocols",                                                                  \
         .if_match = WITH(secure),                                                                 \
         .fields = SB_LIST(S##_KEYS x),                                                            \
         .err = ONE_OF_TEXT(S##_KEYS_TEXT X, "'" secure "'"),                                      \
         .else_match = WITH(plain),                                                                \
         .else_fields = SB_LIST(P##_KEYS x),                                                       \
         .else_err = ONE_OF_TEXT(P##_KEYS_TEXT X, "'" plain "'")},                                 \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }
#define STREAM_KEYS(keys, text)                                                                    \
    {                                                                                              \
        {.kind = SB_C_CONDITIONAL_AT_LEAST_ONE_OF,                                                 \
         .if_field = "protocols",                                                                  \
         .if_match = VALUE(.flags = SB_F_REQUIRED),                                                \
         .fields = keys,                                                                           \
         .err = text},                                                                             \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

static const struct sb_entity_check http_checks[] = KEYS("https", HTTPS, "http", HTTP, , "");
static const struct sb_entity_check http_checks_x[] =
    KEYS("https", HTTPS, "http", HTTP, AND_EXPRESSION, ", 'expression'");
static const struct sb_entity_check grpc_checks[] = KEYS("grpcs", GRPCS, "grpc", GRPC, , "");
static const struct sb_entity_check grpc_checks_x[] =
    KEYS("grpcs", GRPCS, "grpc", GRPC, AND_EXPRESSION, ", 'expression'");
static const struct sb_entity_check tcp_checks[] =
    STREAM_KEYS(SB_LIST("sources", "destinations", "snis"),
                ONE_OF_TEXT("'sources', 'destinations', 'snis'", "'tcp', 'tls' or 'udp'"));
static const struct sb_entity_check tcp_checks_x[] = STREAM_KEYS(
    SB_LIST("sources", "destinations", "snis", "expression"),
    ONE_OF_TEXT("'sources', 'destinations', 'snis', 'expression'", "'tcp', 'tls' or 'udp'"));
static const struct sb_entity_check passthrough_checks[] =
    STREAM_KEYS(SB_LIST("snis"), "must set snis when 'protocols' is 'tls_passthrough'");
static const struct sb_entity_check passthrough_checks_x[] = STREAM_KEYS(
    SB_LIST("snis", "expression"), "must set snis when 'protocols' is 'tls_passthrough'");

/* By protocol: without and with expressions. */
static const struct {
    const char *protocol;
    struct sb_subschema classic, expressions;
} route_families[] = {
    {"http", {"http", http_fields, http_checks}, {"http", http_fields_x, http_checks_x}},
    {"https", {"https", http_fields, http_checks}, {"https", http_fields_x, http_checks_x}},
    {"tcp", {"tcp", tcp_fields, tcp_checks}, {"tcp", tcp_fields, tcp_checks_x}},
    {"tls", {"tls", tcp_fields, tcp_checks}, {"tls", tcp_fields, tcp_checks_x}},
    {"udp", {"udp", tcp_fields, tcp_checks}, {"udp", tcp_fields, tcp_checks_x}},
    {"tls_passthrough",
     {"tls_passthrough", tcp_fields, passthrough_checks},
     {"tls_passthrough", tcp_fields, passthrough_checks_x}},
    {"grpc", {"grpc", grpc_fields, grpc_checks}, {"grpc", grpc_fields_x, grpc_checks_x}},
    {"grpcs", {"grpcs", grpc_fields, grpc_checks}, {"grpcs", grpc_fields_x, grpc_checks_x}},
};

static const struct sb_subschema *family_of(const struct sb_schema_ctx *ctx,
                                            const struct sb_value *v)
{
    for (size_t i = 0; sb_is(v, SB_V_STR) && i < sizeof route_families / sizeof *route_families;
         i++) {
        if (sb_str_is(v->s, route_families[i].protocol))
            return ctx->expressions ? &route_families[i].expressions : &route_families[i].classic;
    }
    return NULL;
}

/* What messages call a key that selects no subschema: the text, or the first of a list. */
static struct sb_str key_text(struct sb_schema_ctx *ctx, const struct sb_value *key)
{
    const struct sb_value *first = key;

    if (key->type == SB_V_ARRAY && key->count)
        first = key->items[0];
    if (first->type == SB_V_STR)
        return first->s;
    if (first == key)
        return SB_STR("nil");
    return sb_is_nil(first) ? SB_STR("userdata: NULL") : sb_kong_lua_text(ctx->arena, first);
}

/* The family of the first protocol that is known. */
static const struct sb_subschema *route_subschema(struct sb_schema_ctx *ctx,
                                                  const struct sb_value *key, const char **why)
{
    const struct sb_subschema *s = family_of(ctx, key);
    const struct sb_value *item;

    sb_array_each (item, key) {
        if (!s)
            s = family_of(ctx, item);
    }
    if (!s)
        *why = sb_say(ctx, "unknown type: %.*s", SB_ARG(key_text(ctx, key)));
    return s;
}

const struct sb_entity sb_routes = {
    .name = "routes",
    .singular = "route",
    .table = "routes",
    .path = "routes",
    .flags = SB_E_CORE | SB_E_WORKSPACE,
    .primary_key = "id",
    .endpoint_key = "name",
    .fields = route_fields,
    .checks = route_checks,
    .subschema_key = "protocols",
    .subschema = route_subschema,
};

/* -- consumers --------------------------------------------------------------------------------- */

static const struct sb_field consumer_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    STRING("username", .flags = SB_F_UNIQUE),
    STRING("custom_id", .flags = SB_F_UNIQUE),
    SB_ROW_TAGS,
    END,
};
static const struct sb_entity_check consumer_checks[] = {
    {.kind = SB_C_AT_LEAST_ONE_OF, .fields = SB_LIST("custom_id", "username")}, {0}};

const struct sb_entity sb_consumers = {
    .name = "consumers",
    .singular = "consumer",
    .table = "consumers",
    .path = "consumers",
    .flags = SB_E_CORE | SB_E_WORKSPACE | SB_E_CREDENTIAL,
    .primary_key = "id",
    .endpoint_key = "username",
    .fields = consumer_fields,
    .checks = consumer_checks,
};

/* -- plugins ----------------------------------------------------------------------------------- */

static const struct sb_field plugin_fields[] = {
    SB_ROW_ID,
    STRING("name", .flags = SB_F_REQUIRED),
    UTF8_NAME("instance_name"),
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    FOREIGN("route", "routes", .flags = SB_F_CASCADE),
    FOREIGN("service", "services", .flags = SB_F_CASCADE),
    FOREIGN("consumer", "consumers", .flags = SB_F_CASCADE),
    {.name = "config", .type = SB_T_RECORD, .flags = SB_F_ABSTRACT},
    SET("protocols", &sb_type_protocol, .flags = SB_F_REQUIRED, .def = SB_DEFAULT_PROTOCOLS),
    BOOLEAN("enabled", .flags = SB_F_REQUIRED, .def = "true"),
    SB_ROW_TAGS,
    END,
};

const struct sb_entity sb_plugins = {
    .name = "plugins",
    .singular = "plugin",
    .table = "plugins",
    .path = "plugins",
    .flags = SB_E_CORE | SB_E_WORKSPACE,
    .primary_key = "id",
    .endpoint_key = "instance_name",
    .cache_key = SB_LIST("name", "route", "service", "consumer"),
    .fields = plugin_fields,
    .subschema_key = "name",
    .subschema = sb_plugin_subschema,
};

/* -- upstreams and targets --------------------------------------------------------------------- */

static const struct sb_field statuses_of = {.type = SB_T_INTEGER, SB_BETWEEN(100, 999)};

#define COUNT(n)      INTEGER(n, SB_BETWEEN(0, 255), .def = "0")
#define SECONDS(n, d) NUMBER(n, SB_BETWEEN(0, 65535), .def = (d))
#define STATUSES(d)   ARRAY("http_statuses", &statuses_of, .def = (d))

static const struct sb_field active_healthy[] = {SECONDS("interval", "0"), STATUSES("[200,302]"),
                                                 COUNT("successes"), END};
static const struct sb_field active_unhealthy[] = {
    SECONDS("interval", "0"), STATUSES("[429,404,500,501,502,503,504,505]"),
    COUNT("tcp_failures"),    COUNT("timeouts"),
    COUNT("http_failures"),   END};
static const struct sb_field passive_healthy[] = {
    STATUSES("[200,201,202,203,204,205,206,207,208,226,300,301,302,303,304,305,306,307,308]"),
    COUNT("successes"), END};
static const struct sb_field passive_unhealthy[] = {STATUSES("[429,500,503]"),
                                                    COUNT("tcp_failures"), COUNT("timeouts"),
                                                    COUNT("http_failures"), END};

#define CHECK_TYPE                                                                                 \
    STRING("type", .one_of = SB_LIST("tcp", "http", "https", "grpc", "grpcs"), .def = "\"http\"")

static const struct sb_field active_fields[] = {
    CHECK_TYPE,
    SECONDS("timeout", "1"),
    INTEGER("concurrency", SB_BETWEEN(1, 2147483648), .def = "10"),
    STRING("http_path", .validate = sb_check_path, .def = "\"/\""),
    STRING("https_sni", .validate = sb_check_sni),
    BOOLEAN("https_verify_certificate", .flags = SB_F_REQUIRED, .def = "true"),
    {.name = "headers", .type = SB_T_MAP, .keys = &sb_type_header_name, .values = &sb_type_strings},
    RECORD("healthy", active_healthy),
    RECORD("unhealthy", active_unhealthy),
    END,
};
static const struct sb_field passive_fields[] = {
    CHECK_TYPE,
    RECORD("healthy", passive_healthy),
    RECORD("unhealthy", passive_unhealthy),
    END,
};
static const struct sb_field healthchecks_fields[] = {
    RECORD("active", active_fields),
    RECORD("passive", passive_fields),
    NUMBER("threshold", SB_BETWEEN(0, 100), .def = "0"),
    END,
};

#define HASH_KINDS                                                                                 \
    SB_LIST("none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture")

static const struct sb_field upstream_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    STRING("name", .flags = SB_F_REQUIRED | SB_F_UNIQUE, .validate = sb_check_upstream_name),
    STRING("algorithm",
           .one_of = SB_LIST("consistent-hashing", "least-connections", "round-robin", "latency"),
           .def = "\"round-robin\""),
    STRING("hash_on", .one_of = HASH_KINDS, .def = "\"none\""),
    STRING("hash_fallback", .one_of = HASH_KINDS, .def = "\"none\""),
    STRING("hash_on_header", .validate = sb_check_header_name),
    STRING("hash_fallback_header", .validate = sb_check_header_name),
    STRING("hash_on_cookie", .validate = sb_check_cookie_name),
    STRING("hash_on_cookie_path", .validate = sb_check_path, .def = "\"/\""),
    STRING("hash_on_query_arg"),
    STRING("hash_fallback_query_arg"),
    STRING("hash_on_uri_capture"),
    STRING("hash_fallback_uri_capture"),
    INTEGER("slots", SB_BETWEEN(10, 65536), .def = "10000"),
    RECORD("healthchecks", healthchecks_fields),
    SB_ROW_TAGS,
    STRING("host_header", .validate = sb_check_host_with_optional_port),
    FOREIGN("client_certificate", "certificates"),
    BOOLEAN("use_srv_name", .def = "false"),
    END,
};

/* Of that kind, or null: null meets every condition. */
#define KIND(what)            VALUE(.one_of = SB_LIST(what))
#define MUST_BE(...)          VALUE(.flags = SB_F_REQUIRED, __VA_ARGS__)
#define HASHED(on, what, ...) IF(on, KIND(what), on "_" what, MUST_BE(__VA_ARGS__))
#define COOKIE_FOR(on)                                                                             \
    IF(on, KIND("cookie"), "hash_on_cookie", MUST_BE(.validate = sb_check_cookie_name))
#define NO_FALLBACK(on) IF("hash_on", KIND(on), "hash_fallback", VALUE(.one_of = SB_LIST("none")))
#define OTHER_FALLBACK(on, ...)                                                                    \
    IF("hash_on", KIND(on), "hash_fallback", VALUE(.one_of = SB_LIST(__VA_ARGS__)))
#define DISTINCT(x)                                                                                \
    {                                                                                              \
        .kind = SB_C_DISTINCT, .fields = SB_LIST("hash_on_" x, "hash_fallback_" x)                 \
    }

static const struct sb_entity_check upstream_checks[] = {
    HASHED("hash_on", "header", .validate = sb_check_header_name),
    HASHED("hash_fallback", "header", .validate = sb_check_header_name),
    COOKIE_FOR("hash_on"),
    COOKIE_FOR("hash_fallback"),
    NO_FALLBACK("none"),
    NO_FALLBACK("cookie"),
    OTHER_FALLBACK("consumer", "none", "ip", "header", "cookie", "path", "query_arg",
                   "uri_capture"),
    OTHER_FALLBACK("ip", "none", "consumer", "header", "cookie", "path", "query_arg",
                   "uri_capture"),
    OTHER_FALLBACK("path", "none", "consumer", "header", "cookie", "query_arg", "ip",
                   "uri_capture"),
    DISTINCT("header"),
    HASHED("hash_on", "query_arg"),
    HASHED("hash_fallback", "query_arg"),
    DISTINCT("query_arg"),
    HASHED("hash_on", "uri_capture"),
    HASHED("hash_fallback", "uri_capture"),
    DISTINCT("uri_capture"),
    {0},
};

static void refuse_non_string(struct sb_schema_ctx *ctx, const struct sb_value *v, const char *name,
                              struct sb_value *errors)
{
    if (v && v->type != SB_V_STR && v->type != SB_V_NULL)
        sb_errors_field(ctx->arena, errors, name, "expected a string");
}

/* Algorithm and hash input follow each other: what balances by load hashes nothing, and what hashes
 * balances consistently. */
static void expand_upstream(struct sb_schema_ctx *ctx, struct sb_value *entity,
                            struct sb_value *errors)
{
    const struct sb_value *algorithm = sb_get(entity, "algorithm"),
                          *hash_on = sb_get(entity, "hash_on");
    struct sb_arena *a = ctx->arena;

    refuse_non_string(ctx, algorithm, "algorithm", errors);
    refuse_non_string(ctx, hash_on, "hash_on", errors);
    if (errors->count)
        return;
    if (sb_is(algorithm, SB_V_STR) &&
        (sb_str_is(algorithm->s, "least-connections") || sb_str_is(algorithm->s, "latency"))) {
        sb_object_set(a, entity, SB_STR("hash_on"), sb_value_text(a, "none"));
        return;
    }
    if (!hash_on)
        return;
    if (hash_on->type == SB_V_NULL) {
        sb_object_set(a, entity, SB_STR("hash_on"), sb_value_text(a, "none"));
        return;
    }
    sb_object_set(
        a, entity, SB_STR("algorithm"),
        sb_value_text(a, sb_str_is(hash_on->s, "none") ? "round-robin" : "consistent-hashing"));
}

const struct sb_entity sb_upstreams = {
    .name = "upstreams",
    .singular = "upstream",
    .table = "upstreams",
    .path = "upstreams",
    .flags = SB_E_CORE | SB_E_WORKSPACE,
    .primary_key = "id",
    .endpoint_key = "name",
    .fields = upstream_fields,
    .checks = upstream_checks,
    .expand = expand_upstream,
};

static const struct sb_field target_fields[] = {
    SB_ROW_ID,
    NUMBER("created_at", .flags = SB_F_AUTO | SB_F_TIMESTAMP),
    NUMBER("updated_at", .flags = SB_F_AUTO | SB_F_TIMESTAMP),
    FOREIGN("upstream", "upstreams", .flags = SB_F_REQUIRED | SB_F_CASCADE),
    STRING("target", .flags = SB_F_REQUIRED, .validate = sb_check_target),
    INTEGER("weight", SB_BETWEEN(0, 65535), .def = "100"),
    SB_ROW_TAGS,
    END,
};

/* host:port in the one spelling that duplicates are told by; port 8000 unless given. */
static void normalise_target(struct sb_schema_ctx *ctx, struct sb_value *entity)
{
    struct sb_host h;
    const char *why;

    if (!sb_host_read(ctx->arena, sb_value_str_at(entity, "target"), &h, &why))
        return;
    sb_object_set(ctx->arena, entity, SB_STR("target"),
                  sb_value_str(ctx->arena, sb_arena_printf(ctx->arena, "%.*s:%d", SB_ARG(h.host),
                                                           h.port >= 0 ? h.port : 8000)));
}

static const struct sb_transform target_transforms[] = {
    {.input = "target", .apply = normalise_target, .always = true}, {0}};

const struct sb_entity sb_targets = {
    .name = "targets",
    .singular = "target",
    .table = "targets",
    .path = "targets",
    .flags = SB_E_CORE | SB_E_WORKSPACE,
    .primary_key = "id",
    .endpoint_key = "target",
    .cache_key = SB_LIST("upstream", "target"),
    .fields = target_fields,
    .transforms = target_transforms,
};

/* -- certificates ------------------------------------------------------------------------------ */

static const struct sb_field wildcard_host = {.type = SB_T_STRING,
                                              .validate = sb_check_wildcard_host};

static const char *check_no_duplicates(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                       const struct sb_value *v)
{
    (void)f;
    for (uint32_t i = 0; i < v->count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (sb_value_equal(v->items[i], v->items[j]))
                return sb_say(ctx, "%.*s is duplicated", SB_ARG(v->items[i]->s));
        }
    }
    return NULL;
}

static const struct sb_field certificate_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    STRING("cert", .flags = SB_F_REQUIRED | SB_F_REFERENCEABLE, .validate = sb_check_certificate),
    STRING("key", .flags = SB_F_REQUIRED | SB_F_REFERENCEABLE | SB_F_ENCRYPTED,
           .validate = sb_check_key),
    STRING("cert_alt", .flags = SB_F_REFERENCEABLE, .validate = sb_check_certificate),
    STRING("key_alt", .flags = SB_F_REFERENCEABLE | SB_F_ENCRYPTED, .validate = sb_check_key),
    SB_ROW_TAGS,
    ARRAY("snis", &wildcard_host, .flags = SB_F_TRANSIENT, .validate = check_no_duplicates),
    END,
};
static const struct sb_entity_check certificate_checks[] = {
    {.kind = SB_C_MUTUALLY_REQUIRED, .fields = SB_LIST("cert_alt", "key_alt")},
    {.kind = SB_C_CUSTOM, .fields = SB_LIST("cert", "key"), .custom = sb_check_certificate_pairs},
    {.kind = SB_C_CUSTOM,
     .fields = SB_LIST("cert_alt", "key_alt"),
     .custom = sb_check_alternative_pairs},
    {.kind = SB_C_CUSTOM,
     .fields = SB_LIST("cert", "cert_alt"),
     .custom = sb_check_alternative_types},
    {0},
};

const struct sb_entity sb_certificates = {
    .name = "certificates",
    .singular = "certificate",
    .table = "certificates",
    .path = "certificates",
    .flags = SB_E_CORE | SB_E_WORKSPACE,
    .primary_key = "id",
    .fields = certificate_fields,
    .checks = certificate_checks,
};

static const struct sb_field sni_fields[] = {
    SB_ROW_ID,
    STRING("name", .flags = SB_F_REQUIRED | SB_F_UNIQUE | SB_F_UNIQUE_GLOBAL,
           .validate = sb_check_wildcard_host),
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    SB_ROW_TAGS,
    FOREIGN("certificate", "certificates", .flags = SB_F_REQUIRED),
    END,
};

const struct sb_entity sb_snis = {
    .name = "snis",
    .singular = "sni",
    .table = "snis",
    .path = "snis",
    .flags = SB_E_CORE | SB_E_WORKSPACE,
    .primary_key = "id",
    .endpoint_key = "name",
    .fields = sni_fields,
};

static const struct sb_field ca_certificate_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    STRING("cert", .flags = SB_F_REQUIRED, .validate = sb_check_certificate),
    STRING("cert_digest", .flags = SB_F_UNIQUE),
    SB_ROW_TAGS,
    END,
};
static const struct sb_entity_check ca_checks[] = {
    {.kind = SB_C_CUSTOM, .fields = SB_LIST("cert"), .custom = sb_check_ca}, {0}};
static const struct sb_transform ca_transforms[] = {{.input = "cert", .apply = sb_digest_ca}, {0}};

const struct sb_entity sb_ca_certificates = {
    .name = "ca_certificates",
    .singular = "ca_certificate",
    .table = "ca_certificates",
    .path = "ca_certificates",
    .flags = SB_E_CORE,
    .primary_key = "id",
    .fields = ca_certificate_fields,
    .checks = ca_checks,
    .transforms = ca_transforms,
};

/* -- vaults, keys ------------------------------------------------------------------------------ */

static const struct sb_field vault_fields[] = {
    SB_ROW_ID,
    STRING("prefix", .flags = SB_F_REQUIRED | SB_F_UNIQUE | SB_F_UNIQUE_GLOBAL,
           .not_one_of = SB_LIST("env"), .match = "^[a-z][a-z\\d-]*?[a-z\\d]+$"),
    STRING("name", .flags = SB_F_REQUIRED),
    STRING("description"),
    {.name = "config", .type = SB_T_RECORD, .flags = SB_F_ABSTRACT},
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    SB_ROW_TAGS,
    END,
};
static const struct sb_field env_config[] = {
    STRING("prefix", .match = "^[A-Za-z_-][A-Za-z0-9_-]*$"), END};
static const struct sb_field env_fields[] = {RECORD("config", env_config), END};
static const struct sb_subschema env_vault = {"env", env_fields, NULL};

static const struct sb_subschema *vault_subschema(struct sb_schema_ctx *ctx,
                                                  const struct sb_value *key, const char **why)
{
    struct sb_str name = key_text(ctx, key);

    if (sb_str_is(name, env_vault.name))
        return &env_vault;
    *why = sb_say(ctx, "vault '%.*s' is not installed", SB_ARG(name));
    return NULL;
}

const struct sb_entity sb_vaults = {
    .name = "vaults",
    .singular = "vault",
    .table = "sm_vaults",
    .path = "vaults",
    .flags = SB_E_CORE | SB_E_WORKSPACE,
    .primary_key = "id",
    .endpoint_key = "prefix",
    .cache_key = SB_LIST("prefix"),
    .fields = vault_fields,
    .subschema_key = "name",
    .subschema = vault_subschema,
};

static const struct sb_field key_set_fields[] = {
    SB_ROW_ID,      STRING("name", .flags = SB_F_UNIQUE | SB_F_UNIQUE_GLOBAL),
    SB_ROW_TAGS,    SB_ROW_CREATED,
    SB_ROW_UPDATED, END,
};

const struct sb_entity sb_key_sets = {
    .name = "key_sets",
    .singular = "key_set",
    .table = "key_sets",
    .path = "key-sets",
    .flags = SB_E_CORE | SB_E_WORKSPACE,
    .primary_key = "id",
    .endpoint_key = "name",
    .fields = key_set_fields,
};

static const struct sb_field pem_fields[] = {
    STRING("private_key", .flags = SB_F_REFERENCEABLE | SB_F_ENCRYPTED),
    STRING("public_key", .flags = SB_F_REFERENCEABLE),
    END,
};
static const struct sb_entity_check pem_checks[] = {
    {.kind = SB_C_AT_LEAST_ONE_OF, .fields = SB_LIST("private_key", "public_key")}, {0}};
static const struct sb_field key_fields[] = {
    SB_ROW_ID,
    FOREIGN("set", "key_sets", .flags = SB_F_CASCADE),
    STRING("name", .flags = SB_F_UNIQUE | SB_F_UNIQUE_GLOBAL),
    STRING("kid", .flags = SB_F_REQUIRED),
    STRING("jwk", .flags = SB_F_REFERENCEABLE | SB_F_ENCRYPTED),
    RECORD("pem", pem_fields, .flags = SB_F_OPTIONAL, .checks = pem_checks,
           .validate = sb_check_pem),
    SB_ROW_TAGS,
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    END,
};
static const struct sb_entity_check key_checks[] = {
    {.kind = SB_C_MUTUALLY_EXCLUSIVE, .fields = SB_LIST("pem", "jwk")},
    {.kind = SB_C_AT_LEAST_ONE_OF, .fields = SB_LIST("pem", "jwk")},
    {.kind = SB_C_CUSTOM, .fields = SB_LIST("jwk", "pem", "kid"), .custom = sb_check_jwk},
    {0},
};

const struct sb_entity sb_keys = {
    .name = "keys",
    .singular = "key",
    .table = "keys",
    .path = "keys",
    .flags = SB_E_CORE | SB_E_WORKSPACE,
    .primary_key = "id",
    .endpoint_key = "name",
    .cache_key = SB_LIST("kid", "set"),
    .fields = key_fields,
    .checks = key_checks,
};

/* -- the rest ---------------------------------------------------------------------------------- */

static const struct sb_field filter_fields[] = {
    STRING("name", .flags = SB_F_REQUIRED),
    BOOLEAN("enabled", .flags = SB_F_REQUIRED, .def = "true"),
    {.name = "config", .type = SB_T_JSON},
    END,
};
static const struct sb_field filter = {.type = SB_T_RECORD, .fields = filter_fields};
static const struct sb_field filter_chain_fields[] = {
    SB_ROW_ID,
    UTF8_NAME("name", | SB_F_UNIQUE_GLOBAL),
    BOOLEAN("enabled", .flags = SB_F_REQUIRED, .def = "true"),
    FOREIGN("route", "routes", .flags = SB_F_CASCADE | SB_F_UNIQUE),
    FOREIGN("service", "services", .flags = SB_F_CASCADE | SB_F_UNIQUE),
    ARRAY("filters", &filter, .flags = SB_F_REQUIRED, .has_len_min = true, .len_min = 1),
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    SB_ROW_TAGS,
    END,
};

static void refuse_wasm(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                        struct sb_value *errors)
{
    (void)entity;
    sb_errors_entity(ctx->arena, errors, "wasm support is not enabled");
}

static const struct sb_entity_check filter_chain_checks[] = {
    {.kind = SB_C_MUTUALLY_EXCLUSIVE, .fields = SB_LIST("service", "route")},
    {.kind = SB_C_AT_LEAST_ONE_OF, .fields = SB_LIST("service", "route")},
    {.kind = SB_C_CUSTOM, .fields = SB_LIST("filters"), .custom = refuse_wasm},
    {0},
};

const struct sb_entity sb_filter_chains = {
    .name = "filter_chains",
    .singular = "filter_chain",
    .table = "filter_chains",
    .path = "filter-chains",
    .flags = SB_E_CORE | SB_E_WORKSPACE,
    .primary_key = "id",
    .endpoint_key = "name",
    .cache_key = SB_LIST("route", "service"),
    .fields = filter_chain_fields,
    .checks = filter_chain_checks,
};

static const struct sb_field workspace_fields[] = {
    SB_ROW_ID,
    STRING("name", .flags = SB_F_REQUIRED | SB_F_UNIQUE,
           .not_one_of = SB_LIST("workspaces", "consumers", "certificates", "services", "routes",
                                 "snis", "upstreams", "targets", "plugins", "tags",
                                 "ca_certificates", "clustering_data_planes", "parameters",
                                 "vaults", "key_sets", "keys", "filter_chains"),
           .validate = sb_check_utf8_name),
    STRING("comment"),
    SB_ROW_CREATED,
    SB_ROW_UPDATED,
    {.name = "meta", .type = SB_T_RECORD, .flags = SB_F_REQUIRED | SB_F_ABSTRACT, .def = "{}"},
    {.name = "config", .type = SB_T_RECORD, .flags = SB_F_REQUIRED | SB_F_ABSTRACT, .def = "{}"},
    END,
};

const struct sb_entity sb_workspaces = {
    .name = "workspaces",
    .singular = "workspace",
    .table = "workspaces",
    .path = "workspaces",
    .flags = SB_E_CORE | SB_E_NO_API,
    .primary_key = "id",
    .endpoint_key = "name",
    .cache_key = SB_LIST("name"),
    .fields = workspace_fields,
};

static const struct sb_field tag_fields[] = {
    STRING("tag", .flags = SB_F_REQUIRED),
    STRING("entity_name", .flags = SB_F_REQUIRED),
    STRING("entity_id", .flags = SB_F_UUID),
    END,
};

const struct sb_entity sb_tags = {
    .name = "tags",
    .singular = "tag",
    .table = "tags",
    .path = "tags",
    .flags = SB_E_CORE | SB_E_NO_EXPORT,
    .primary_key = "tag",
    .endpoint_key = "tag",
    .fields = tag_fields,
};

static const struct sb_field parameter_fields[] = {
    SB_ROW_CREATED,
    STRING("key", .flags = SB_F_REQUIRED | SB_F_UNIQUE),
    STRING("value", .flags = SB_F_REQUIRED),
    END,
};

const struct sb_entity sb_parameters = {
    .name = "parameters",
    .singular = "parameter",
    .table = "parameters",
    .path = "parameters",
    .flags = SB_E_CORE | SB_E_NO_API,
    .primary_key = "key",
    .endpoint_key = "key",
    .fields = parameter_fields,
};

static const struct sb_field cert_details_fields[] = {
    NUMBER("expiry_timestamp", .flags = SB_F_TIMESTAMP), END};
static const struct sb_field data_plane_fields[] = {
    {.name = "id", .type = SB_T_STRING, .flags = SB_F_REQUIRED | SB_F_AUTO | SB_F_UUID},
    INTEGER("last_seen", .flags = SB_F_AUTO | SB_F_TIMESTAMP),
    SB_ROW_UPDATED,
    STRING("ip", .flags = SB_F_REQUIRED, .validate = sb_check_ip),
    STRING("config_hash", .has_len_eq = true, .len_eq = 32),
    STRING("hostname", .flags = SB_F_REQUIRED, .validate = sb_check_host),
    STRING("version", .validate = sb_check_version),
    STRING("sync_status", .flags = SB_F_REQUIRED,
           .one_of =
               SB_LIST("unknown", "normal", "kong_version_incompatible", "plugin_set_incompatible",
                       "plugin_version_incompatible", "filter_set_incompatible"),
           .def = "\"unknown\""),
    {.name = "labels", .type = SB_T_MAP, .keys = &sb_type_string, .values = &sb_type_string},
    RECORD("cert_details", cert_details_fields),
    SET("rpc_capabilities", &sb_type_string),
    END,
};

const struct sb_entity sb_clustering_data_planes = {
    .name = "clustering_data_planes",
    .singular = "clustering_data_plane",
    .table = "clustering_data_planes",
    .path = "clustering_data_planes",
    .flags = SB_E_CORE | SB_E_TTL | SB_E_NO_API | SB_E_NO_EXPORT,
    .primary_key = "id",
    .fields = data_plane_fields,
};
