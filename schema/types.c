/* types.c - is this a name, a host, a path? One validator a type; each says Kong's words. */
#include "schema/types.h"

#include <ctype.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "schema/hostname.h"
#include "schema/uri.h"
#include "schema/validate.h"
#include "shared/buf.h"

const char *const sb_protocols[] = {"grpc", "grpcs",           "http", "https", "tcp",
                                    "tls",  "tls_passthrough", "udp",  NULL};
const char *const sb_http_protocols[] = {"grpc", "grpcs", "http", "https", NULL};

const struct sb_field sb_type_string = {.type = SB_T_STRING};
const struct sb_field sb_type_uuid = {.type = SB_T_STRING, .flags = SB_F_UUID};
const struct sb_field sb_type_tag = {
    .type = SB_T_STRING, .flags = SB_F_REQUIRED, .validate = sb_check_tag};
const struct sb_field sb_type_protocol = {.type = SB_T_STRING, .one_of = sb_protocols};
const struct sb_field sb_type_header_name = {.type = SB_T_STRING, .validate = sb_check_header_name};
const struct sb_field sb_type_strings = {.type = SB_T_ARRAY, .elements = &sb_type_string};

/* -- names ------------------------------------------------------------------------------------- */

/* The length of the UTF-8 sequence at s; 0 when it is none. */
static size_t utf8_at(struct sb_str s)
{
    unsigned char c = (unsigned char)s.p[0], d = s.len > 1 ? (unsigned char)s.p[1] : 0;
    size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;

    if (n == 0 || n > s.len)
        return 0;
    if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) ||
        (c == 0xf4 && d > 0x8f))
        return 0;
    for (size_t i = 1; i < n; i++) {
        if (((unsigned char)s.p[i] & 0xc0) != 0x80)
            return 0;
    }
    return n;
}

static const char *bad_utf8(struct sb_schema_ctx *ctx, struct sb_str s)
{
    size_t n;

    for (size_t i = 0; i < s.len; i += n) {
        n = utf8_at(sb_str_from(s, i));
        if (n == 0)
            return sb_say(ctx, "invalid utf-8 character sequence detected at position %zu", i + 1);
    }
    return NULL;
}

const char *sb_check_tag(struct sb_schema_ctx *ctx, const struct sb_field *f,
                         const struct sb_value *v)
{
    const char *why = bad_utf8(ctx, v->s);

    (void)f;
    for (size_t i = 0; !why && i < v->s.len; i++) {
        unsigned char c = (unsigned char)v->s.p[i];

        if (c < 0x20 || c == 0x7f || c == ',' || c == '/')
            return sb_say(
                ctx,
                "invalid tag '%.*s': expected printable ascii (except `,` and `/`) or valid "
                "utf-8 sequences",
                SB_ARG(v->s));
    }
    return why;
}

static bool is_unreserved(unsigned char c)
{
    return isalnum(c) || c == '.' || c == '-' || c == '_' || c == '~';
}

const char *sb_check_utf8_name(struct sb_schema_ctx *ctx, const struct sb_field *f,
                               const struct sb_value *v)
{
    const char *why = bad_utf8(ctx, v->s);

    (void)f;
    for (size_t i = 0; !why && i < v->s.len; i++) {
        unsigned char c = (unsigned char)v->s.p[i];

        if (c < 0x80 && !is_unreserved(c))
            return sb_say(
                ctx,
                "invalid value '%.*s': the only accepted ascii characters are alphanumerics "
                "or ., -, _, and ~",
                SB_ARG(v->s));
    }
    return why;
}

const char *sb_check_name(struct sb_schema_ctx *ctx, const struct sb_field *f,
                          const struct sb_value *v)
{
    (void)f;
    for (size_t i = 0; i < v->s.len; i++) {
        if (!is_unreserved((unsigned char)v->s.p[i]))
            return sb_say(
                ctx,
                "invalid value '%.*s': it must only contain alphanumeric and '., -, _, ~' "
                "characters",
                SB_ARG(v->s));
    }
    return NULL;
}

const char *sb_check_header_name(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                 const struct sb_value *v)
{
    (void)f;
    for (size_t i = 0; i < v->s.len; i++) {
        if (!isalnum((unsigned char)v->s.p[i]) && v->s.p[i] != '-' && v->s.p[i] != '_')
            return sb_say(
                ctx, "bad header name '%.*s', allowed characters are A-Z, a-z, 0-9, '_', and '-'",
                SB_ARG(v->s));
    }
    return NULL;
}

const char *sb_check_header_not_host(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                     const struct sb_value *v)
{
    if (sb_str_ieq(v->s, SB_STR("host")))
        return "cannot contain 'host' header, which must be specified in the 'hosts' attribute";
    return sb_check_header_name(ctx, f, v);
}

const char *sb_check_cookie_name(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                 const struct sb_value *v)
{
    (void)ctx;
    (void)f;
    for (size_t i = 0; i < v->s.len; i++) {
        unsigned char c = (unsigned char)v->s.p[i];

        if (c <= 0x20 || c >= 0x7f || strchr("()<>@,;:\\\"/?={}[]", c))
            return "contains one or more invalid characters. ASCII control characters (0-31;127), "
                   "space, tab and the characters ()<>@,;:\\\"/?={}[] are not allowed.";
    }
    return NULL;
}

const char *sb_check_version(struct sb_schema_ctx *ctx, const struct sb_field *f,
                             const struct sb_value *v)
{
    (void)ctx;
    (void)f;
    if (sb_str_find(v->s, SB_STR(".."), 0) >= 0)
        return "must not have empty version segments";
    if (v->s.len == 0 || !isdigit((unsigned char)v->s.p[0]))
        return "invalid version number: must be in format of X.Y.Z";
    return NULL;
}

const char *sb_check_regex(struct sb_schema_ctx *ctx, const struct sb_field *f,
                           const struct sb_value *v)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)(v->s.len ? v->s.p : ""), v->s.len, 0, &code, &at, NULL);

    (void)f;
    if (!re)
        return sb_say(ctx, "not a valid regex: %.*s", SB_ARG(v->s));
    pcre2_code_free(re);
    return NULL;
}

/* -- protocols --------------------------------------------------------------------------------- */

/* The families that protocols can be of, each ended by NULL. */
static const char *const families[][4] = {
    {"http", "https"}, {"tcp", "tls", "udp"}, {"tls_passthrough"}, {"grpc", "grpcs"}};

enum { FAMILIES = sizeof families / sizeof *families };

static unsigned family_of(const struct sb_value *protocol)
{
    unsigned family = 0;

    for (; family < FAMILIES; family++) {
        for (const char *const *n = families[family]; *n; n++) {
            if (sb_is(protocol, SB_V_STR) && sb_str_is(protocol->s, *n))
                return family;
        }
    }
    return family;
}

/* The protocols of a route are of one family. Several named: the message lists all of them. */
const char *sb_check_protocols(struct sb_schema_ctx *ctx, const struct sb_field *f,
                               const struct sb_value *v)
{
    const struct sb_value *item;
    struct sb_str list = SB_STR("");
    unsigned seen = 0, count = 0;

    (void)f;
    sb_array_each (item, v) {
        unsigned family = family_of(item);

        if (family == FAMILIES || seen & 1u << family)
            continue;
        seen |= 1u << family;
        list = sb_arena_printf(ctx->arena, "%.*s%s(%.*s)", SB_ARG(list), count++ ? ", " : "",
                               SB_ARG(sb_quoted_list(ctx->arena, families[family])));
    }
    if (count < 2)
        return NULL;
    return sb_say(ctx, "these sets are mutually exclusive: %.*s", SB_ARG(list));
}

/* -- hosts ------------------------------------------------------------------------------------- */

static const char *bad_port = "invalid port number";

static const char *must_be_host(struct sb_schema_ctx *ctx, struct sb_str s, bool name_only)
{
    struct sb_host h;
    const char *why;
    bool ok = sb_host_read(ctx->arena, s, &h, &why);

    if (!ok && strcmp(why, bad_port) != 0)
        return sb_say(ctx, "invalid value: %.*s", SB_ARG(s));
    if (ok && name_only && h.type != SB_HOST_NAME)
        return "must not be an IP";
    if (!ok || h.port >= 0)
        return "must not have a port";
    return NULL;
}

const char *sb_check_host(struct sb_schema_ctx *ctx, const struct sb_field *f,
                          const struct sb_value *v)
{
    (void)f;
    return must_be_host(ctx, v->s, false);
}

const char *sb_check_sni(struct sb_schema_ctx *ctx, const struct sb_field *f,
                         const struct sb_value *v)
{
    (void)f;
    return must_be_host(ctx, v->s, true);
}

static const char *host_with_optional_port(struct sb_schema_ctx *ctx, struct sb_str s,
                                           struct sb_str shown)
{
    struct sb_host h;
    const char *why;

    if (sb_host_read(ctx->arena, s, &h, &why))
        return NULL;
    if (strcmp(why, bad_port) == 0)
        return why;
    return sb_say(ctx, "%s%.*s", why, SB_ARG(shown));
}

const char *sb_check_host_with_optional_port(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                             const struct sb_value *v)
{
    (void)f;
    return host_with_optional_port(ctx, v->s, v->s);
}

/* With every `*` spelled out, and how many there were. */
static struct sb_str without_stars(struct sb_schema_ctx *ctx, struct sb_str s, const char *instead,
                                   int *stars)
{
    struct sb_buf b;
    struct sb_str text;

    sb_buf_init(&b, 0);
    *stars = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] != '*') {
            sb_buf_char(&b, s.p[i]);
            continue;
        }
        sb_buf_cstr(&b, instead);
        ++*stars;
    }
    text = sb_arena_str(ctx->arena, sb_buf_get(&b));
    sb_buf_release(&b);
    return text;
}

const char *sb_check_wildcard_host(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                   const struct sb_value *v)
{
    ptrdiff_t star = sb_str_chr(v->s, '*', 0);
    struct sb_str host;
    int stars;

    (void)f;
    if (star < 0)
        return must_be_host(ctx, v->s, true);
    if (star != 0 && (size_t)star + 1 != v->s.len)
        return "wildcard must be leftmost or rightmost character";
    host = without_stars(ctx, v->s, "wildcard", &stars);
    if (stars > 1)
        return "only one wildcard must be specified";
    return must_be_host(ctx, host, true);
}

/* The traditional router knows no wildcards in SNIs of routes. */
const char *sb_check_sni_or_wildcard(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                     const struct sb_value *v)
{
    return ctx->traditional ? sb_check_sni(ctx, f, v) : sb_check_wildcard_host(ctx, f, v);
}

const char *sb_check_router_host(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                 const struct sb_value *v)
{
    int stars;
    struct sb_str host = without_stars(ctx, v->s, "abc", &stars);

    (void)f;
    if (stars > 1)
        return "invalid wildcard: must have at most one wildcard";
    if (stars && !sb_str_starts(v->s, SB_STR("*.")) && !sb_str_ends(v->s, SB_STR(".*")))
        return "invalid wildcard: must be placed at leftmost or rightmost label";
    return host_with_optional_port(ctx, host, host);
}

const char *sb_check_upstream_name(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                   const struct sb_value *v)
{
    struct sb_host h;
    const char *why;

    (void)f;
    if (!sb_host_read(ctx->arena, v->s, &h, &why))
        return sb_say(ctx, "Invalid name ('%.*s'); must be a valid hostname", SB_ARG(v->s));
    if (h.type != SB_HOST_NAME)
        return sb_say(ctx, "Invalid name ('%.*s'); no ip addresses allowed", SB_ARG(v->s));
    if (h.port >= 0)
        return sb_say(ctx, "Invalid name ('%.*s'); no port allowed", SB_ARG(v->s));
    return NULL;
}

const char *sb_check_target(struct sb_schema_ctx *ctx, const struct sb_field *f,
                            const struct sb_value *v)
{
    struct sb_host h;
    const char *why;

    (void)f;
    if (sb_host_read(ctx->arena, v->s, &h, &why))
        return NULL;
    return sb_say(ctx, "Invalid target ('%.*s'); not a valid hostname or ip address", SB_ARG(v->s));
}

const char *sb_check_ip(struct sb_schema_ctx *ctx, const struct sb_field *f,
                        const struct sb_value *v)
{
    (void)f;
    return sb_ip_valid(v->s, false, false) ? NULL
                                           : sb_say(ctx, "not an ip address: %.*s", SB_ARG(v->s));
}

const char *sb_check_ip_or_cidr(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                const struct sb_value *v)
{
    (void)f;
    return sb_ip_valid(v->s, true, false)
               ? NULL
               : sb_say(ctx, "invalid ip or cidr range: '%.*s'", SB_ARG(v->s));
}

const char *sb_check_cidr_v4(struct sb_schema_ctx *ctx, const struct sb_field *f,
                             const struct sb_value *v)
{
    (void)f;
    return sb_ip_valid(v->s, true, true)
               ? NULL
               : sb_say(ctx, "invalid ipv4 cidr range: '%.*s'", SB_ARG(v->s));
}

/* -- paths and URLs ---------------------------------------------------------------------------- */

static const char *bad_escape(struct sb_schema_ctx *ctx, struct sb_str path)
{
    struct sb_str at = sb_path_bad_escape(path);

    return at.p ? sb_say(ctx, "invalid url-encoded value: '%.*s'", SB_ARG(at)) : NULL;
}

const char *sb_check_path(struct sb_schema_ctx *ctx, const struct sb_field *f,
                          const struct sb_value *v)
{
    (void)f;
    if (!sb_str_starts(v->s, SB_STR("/")))
        return "should start with: /";
    if (sb_str_find(v->s, SB_STR("//"), 0) >= 0)
        return "must not have empty segments";
    for (size_t i = 0; i < v->s.len; i++) {
        if (!is_unreserved((unsigned char)v->s.p[i]) &&
            (v->s.p[i] == '\0' || !strchr("/%:@!$&'()*+,;=", v->s.p[i])))
            return sb_say(
                ctx,
                "invalid path: '%.*s' (characters outside of the reserved list of RFC 3986 "
                "found)",
                SB_ARG(v->s));
    }
    return bad_escape(ctx, v->s);
}

static const char *bad_regex_path(struct sb_schema_ctx *ctx, struct sb_str regex)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)regex.p, regex.len, 0, &code, &at, NULL);
    char text[256] = "";
    struct sb_str rest;

    if (re) {
        pcre2_code_free(re);
        return NULL;
    }
    pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
    rest = sb_str_from(regex, at);
    if (rest.len == 0)
        return sb_say(
            ctx, "invalid regex: '%.*s' (PCRE returned: pcre2_compile() failed: %s in \"%.*s\")",
            SB_ARG(regex), text, SB_ARG(regex));
    return sb_say(ctx,
                  "invalid regex: '%.*s' (PCRE returned: pcre2_compile() failed: %s in \"%.*s\" at "
                  "\"%.*s\")",
                  SB_ARG(regex), text, SB_ARG(regex), SB_ARG(rest));
}

const char *sb_check_router_path(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                 const struct sb_value *v)
{
    bool regex = sb_str_starts(v->s, SB_STR("~/"));
    struct sb_str normal;
    const char *why;

    (void)f;
    if (sb_str_find(v->s, SB_STR("//"), 0) >= 0)
        return "must not have empty segments";
    if (!regex && !sb_str_starts(v->s, SB_STR("/")))
        return "should start with: / (fixed path) or ~/ (regex path)";
    why = bad_escape(ctx, v->s);
    if (why)
        return why;
    if (regex)
        return bad_regex_path(ctx, sb_str_from(v->s, 1));
    normal = sb_path_normal(ctx->arena, v->s);
    if (sb_str_eq(normal, v->s))
        return NULL;
    return sb_say(ctx, "non-normalized path, consider use '%.*s' instead", SB_ARG(normal));
}

const char *sb_check_url(struct sb_schema_ctx *ctx, const struct sb_field *f,
                         const struct sb_value *v)
{
    struct sb_url url;

    (void)f;
    (void)ctx;
    sb_url_split(v->s, &url);
    if (!url.host.p)
        return "missing host in url";
    return url.scheme.p ? NULL : "missing scheme in url";
}

const char *sb_check_redirect_uri(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                  const struct sb_value *v)
{
    struct sb_url url;

    (void)f;
    sb_url_split(v->s, &url);
    if (!url.host.p || !url.scheme.p)
        return sb_say(ctx, "cannot parse '%.*s'", SB_ARG(v->s));
    return url.fragment.p ? sb_say(ctx, "fragment not allowed in '%.*s'", SB_ARG(v->s)) : NULL;
}
