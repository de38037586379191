#include "schema/plugin_checks.h"

#include "schema/types.h"
#include "schema/uri.h"
#include "schema/validate.h"
#include "shared/lua_code.h"

static const char *const periods[] = {"second", "minute", "hour", "day", "month", "year", NULL};

/* A longer period never allows less than a shorter one. */
static const char *check_periods(struct sb_schema_ctx *ctx, const struct sb_value *v,
                                 const char *the)
{
    for (const char *const *x = periods; *x; x++) {
        const struct sb_value *low = sb_get(v, *x);

        for (const char *const *y = x + 1; sb_is_number(low) && *y; y++) {
            const struct sb_value *high = sb_get(v, *y);

            if (sb_is_number(high) && sb_number(high) < sb_number(low))
                return sb_say(ctx,
                              "%s limit for %s(%.1f) cannot be lower than the limit for %s(%.1f)",
                              the, *y, sb_number(high), *x, sb_number(low));
        }
    }
    return NULL;
}

const char *sb_check_rate_limit_periods(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                        const struct sb_value *v)
{
    (void)f;
    return check_periods(ctx, v, "the");
}

const char *sb_check_rate_limits(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                 const struct sb_value *v)
{
    const struct sb_value *rate = sb_get(v, "sync_rate");
    bool redis = sb_str_is(sb_value_str_at(v, "policy"), "redis");
    const char *why = check_periods(ctx, v, "The");

    (void)f;
    if (why || !sb_is_number(rate) || sb_number(rate) == -1)
        return why;
    if (!redis)
        return "sync_rate can only be used with the redis policy";
    return sb_number(rate) < 0.02 ? "sync_rate must be greater than 0.02, or -1 to disable" : NULL;
}

const char *sb_check_termination(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                 const struct sb_value *v)
{
    bool message = !sb_is_nil(sb_get(v, "message")), body = !sb_is_nil(sb_get(v, "body"));
    bool content_type = !sb_is_nil(sb_get(v, "content_type"));

    (void)ctx;
    (void)f;
    if (message && (content_type || body))
        return "message cannot be used with content_type or body";
    if (content_type && !body)
        return "content_type requires a body";
    if (sb_value_bool_at(v, "echo", false) && (content_type || body))
        return "echo cannot be used with content_type and body";
    return NULL;
}

const char *sb_check_oauth2_grants(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                   const struct sb_value *v)
{
    static const char *const grants[] = {"enable_authorization_code", "enable_implicit_grant",
                                         "enable_client_credentials", "enable_password_grant",
                                         NULL};

    (void)ctx;
    (void)f;
    for (const char *const *g = grants; *g; g++) {
        if (sb_value_bool_at(v, *g, false))
            return NULL;
    }
    return "at least one of these fields must be true: enable_authorization_code, "
           "enable_implicit_grant, enable_client_credentials, enable_password_grant";
}

const char *sb_check_http_log(struct sb_schema_ctx *ctx, const struct sb_field *f,
                              const struct sb_value *v)
{
    const struct sb_member *m;
    struct sb_url url;

    (void)ctx;
    (void)f;
    sb_url_split(sb_value_str_at(v, "http_endpoint"), &url);
    if (!url.userinfo.p)
        return NULL;
    sb_object_each (m, sb_get(v, "headers")) {
        if (sb_str_ieq(m->key, SB_STR("authorization")))
            return "specifying both an 'Authorization' header and user info in 'http_endpoint' is "
                   "not "
                   "allowed";
    }
    return NULL;
}

/* Headers that a log request sets itself. */
const char *sb_check_log_header(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                const struct sb_value *v)
{
    static const char *const own[] = {"Host", "Content-Length", "Content-Type", NULL};

    for (const char *const *h = own; *h; h++) {
        if (sb_str_ieq(v->s, sb_str_c(*h)))
            return sb_say(ctx, "cannot contain '%s' header", *h);
    }
    return sb_check_header_name(ctx, f, v);
}

const char *sb_check_cors_origin(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                 const struct sb_value *v)
{
    if (sb_str_is(v->s, "*") || !sb_check_regex(ctx, f, v))
        return NULL;
    return sb_say(ctx, "'%.*s' is not a valid regex", SB_ARG(v->s));
}

/* -- transformers: entries are name:value ----------------------------------------------------- */

static void split_entry(struct sb_str entry, struct sb_str *name, struct sb_str *value)
{
    ptrdiff_t colon = sb_str_chr(entry, ':', 0);

    *name = colon < 0 ? entry : sb_str_first(entry, (size_t)colon);
    *value = colon < 0 ? SB_STR("") : sb_str_from(entry, (size_t)colon);
    while (value->len && value->p[0] == ':')
        *value = sb_str_from(*value, 1);
}

static const char *must_be_header(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                  struct sb_str name)
{
    const struct sb_value v = {.type = SB_V_STR, .s = name};

    if (name.len && !sb_check_header_name(ctx, f, &v))
        return NULL;
    return sb_say(ctx, "'%.*s' is not a valid header", SB_ARG(name));
}

const char *sb_check_header_entry(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                  const struct sb_value *v)
{
    struct sb_str name, value;

    split_entry(v->s, &name, &value);
    return must_be_header(ctx, f, name);
}

const char *sb_check_header_rename(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                   const struct sb_value *v)
{
    struct sb_str name, value;
    const char *why;

    split_entry(v->s, &name, &value);
    why = must_be_header(ctx, f, name);
    return why ? why : must_be_header(ctx, f, value);
}

const char *sb_check_has_value(struct sb_schema_ctx *ctx, const struct sb_field *f,
                               const struct sb_value *v)
{
    struct sb_str name, value;

    (void)f;
    split_entry(v->s, &name, &value);
    return value.len ? NULL : sb_say(ctx, "key '%.*s' has no value", SB_ARG(name));
}

/* -- serverless functions --------------------------------------------------------------------- */

static const char *must_be_lua(struct sb_schema_ctx *ctx, const char *plugin,
                               const struct sb_value *v)
{
    struct sb_str why;

    if (sb_lua_parses(ctx->arena, v->s, NULL, &why))
        return NULL;
    return sb_say(ctx, "error parsing %s: %.*s", plugin, SB_ARG(why));
}

const char *sb_check_pre_function(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                  const struct sb_value *v)
{
    (void)f;
    return must_be_lua(ctx, "pre-function", v);
}

const char *sb_check_post_function(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                   const struct sb_value *v)
{
    (void)f;
    return must_be_lua(ctx, "post-function", v);
}

void sb_check_proxy_scheme(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                           struct sb_value *errors)
{
    const struct sb_value *text = sb_value_at(entity, "config.proxy_url");
    struct sb_url url;

    if (!sb_is(text, SB_V_STR))
        return;
    sb_url_split(text->s, &url);
    if (url.scheme.p && !sb_str_is(url.scheme, "http"))
        sb_errors_entity(ctx->arena, errors, "proxy_url scheme must be http");
}
