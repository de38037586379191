/* hmac_auth.c - requests that their sender signed (reference/plugins-auth.md). */
#include "dataplane/plugins/auth/auth.h"
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/auth/hmac_signature.h"
#include "shared/clock.h"

struct config {
    struct sb_auth_config auth;
    double clock_skew_s;
    bool validate_body;
    const struct sb_value *enforced, *algorithms; /* lists of texts */
};

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    const struct sb_value *skew = sb_get(in->config, "clock_skew");

    (void)err;
    sb_auth_compile(in, "hmac", &c->auth);
    c->clock_skew_s = sb_is_number(skew) ? sb_number(skew) : 300;
    c->validate_body = sb_value_bool_at(in->config, "validate_request_body", false);
    c->enforced = sb_value_copy(in->arena, sb_get(in->config, "enforce_headers"));
    c->algorithms = sb_value_copy(in->arena, sb_get(in->config, "algorithms"));
    *out = c;
    return SB_OK;
}

static bool date_fits(struct sb_exchange *x, const struct config *c, struct sb_str header)
{
    struct sb_str text = sb_exchange_header(x, header);
    double now = (double)(sb_wall_ms() / 1000), skew;
    int64_t date;

    if (!text.p || !sb_auth_http_date(text, &date))
        return false;
    skew = now - (double)date;
    return skew <= c->clock_skew_s && -skew <= c->clock_skew_s;
}

/* What the client says that it signed. */
static bool find_words(struct sb_exchange *x, const struct config *c, struct sb_hmac_words *out)
{
    struct sb_str header = SB_STR("Proxy-Authorization");
    struct sb_str value = sb_exchange_header(x, header);
    bool found = value.p && sb_auth_hmac(value, out);

    if (!found) {
        header = SB_STR("Authorization");
        value = sb_exchange_header(x, header);
        found = value.p && sb_auth_hmac(value, out);
    }
    if (c->auth.hide_credentials)
        sb_exchange_set_upstream_header(x, header, (struct sb_str){0});
    return found;
}

static bool list_has(struct sb_str list, char separator, struct sb_str word)
{
    struct sb_str piece;

    while (sb_str_split(&list, separator, &piece))
        if (sb_str_eq(piece, word))
            return true;
    return false;
}

static bool words_allowed(const struct config *c, const struct sb_hmac_words *words)
{
    const struct sb_value *item;
    bool allowed = false;

    sb_array_each (item, c->enforced)
        if (!list_has(words->headers, ' ', item->s))
            return false;
    sb_array_each (item, c->algorithms)
        allowed |= sb_str_eq(item->s, words->algorithm);
    return allowed;
}

static struct sb_str header_of(void *x, struct sb_str name)
{
    return sb_auth_request_header(x, name);
}

/* Path and query, of a target with scheme and host, too. */
static struct sb_str uri_of(struct sb_str target)
{
    ptrdiff_t at = sb_str_starts(target, SB_STR("/")) ? -1 : sb_str_find(target, SB_STR("://"), 0);

    if (at < 0)
        return target;
    target = sb_str_from(target, (size_t)at + 3);
    while (target.len && target.p[0] != '/' && target.p[0] != '?')
        target = sb_str_from(target, 1);
    return target.len ? target : SB_STR("/");
}

static bool signature_fits(struct sb_exchange *x, const struct sb_hmac_words *words,
                           struct sb_str secret)
{
    const struct sb_hmac_subject subject = {
        .method = sb_exchange_method(x),
        .target = uri_of(sb_exchange_target(x)),
        .version = sb_exchange_http_version(x),
        .header = header_of,
        .arg = x,
    };

    return sb_hmac_matches(words, secret, &subject);
}

/* SB_DENIED: it is another body than the one that was digested, or too long to tell. */
static enum sb_rc check_body(struct sb_exchange *x, size_t max)
{
    struct sb_str body;
    enum sb_rc rc = sb_exchange_body(x, max, &body);

    if (rc)
        return rc == SB_TOOLARGE ? SB_DENIED : rc;
    return sb_hmac_digest_matches(sb_exchange_header(x, SB_STR("Digest")), body) ? SB_OK
                                                                                 : SB_DENIED;
}

static enum sb_rc refuse(struct sb_auth_result *result, struct sb_str message)
{
    result->message = message;
    return SB_DENIED;
}

static enum sb_rc authenticate(struct sb_exchange *x, const void *config,
                               struct sb_auth_result *result)
{
    const struct config *c = config;
    const struct sb_found *found;
    struct sb_hmac_words words;
    enum sb_rc rc;

    if (!sb_exchange_header(x, SB_STR("Authorization")).p &&
        !sb_exchange_header(x, SB_STR("Proxy-Authorization")).p)
        return SB_DENIED;
    if (!date_fits(x, c, SB_STR("X-Date")) && !date_fits(x, c, SB_STR("Date")))
        return refuse(result, SB_STR("HMAC signature cannot be verified, a valid date or x-date "
                                     "header is required for HMAC Authentication"));
    if (!find_words(x, c, &words) || !words_allowed(c, &words))
        return refuse(result, SB_STR("HMAC signature cannot be verified"));
    rc = sb_credential_find(x, SB_HMACAUTH_BY_USERNAME, words.username, &found);
    if (rc == SB_NOTFOUND)
        return refuse(result, SB_STR("HMAC signature cannot be verified"));
    if (rc)
        return rc;
    if (!signature_fits(x, &words, sb_value_str_at(found->value, "secret")))
        return refuse(result, SB_STR("HMAC signature does not match"));
    if (c->validate_body && (rc = check_body(x, c->auth.body_max)))
        return rc == SB_DENIED ? refuse(result, SB_STR("HMAC signature does not match")) : rc;
    result->identifier = sb_value_str_at(found->value, "username");
    return sb_auth_consumer(x, found, result);
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    return sb_auth_access(x, config, authenticate);
}

const struct sb_plugin sb_plugin_hmac_auth = {
    .name = "hmac-auth",
    .priority = 1030,
    .compile = compile,
    .access = access,
};
