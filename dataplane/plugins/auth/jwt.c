/* jwt.c - JSON Web Tokens in arguments, cookies and headers (reference/plugins-auth.md).
 *
 * Exactly one token is wanted, however often it is given. The order of checks is Kong's, because
 * each has a message of its own.
 */
#include "dataplane/plugins/args.h"
#include "dataplane/plugins/auth/auth.h"
#include "dataplane/plugins/auth/auth_text.h"
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/auth/jwt_token.h"
#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/json.h"

struct names {
    const struct sb_str *p;
    size_t n;
};

struct config {
    struct sb_auth_config auth;
    struct names arguments, cookies, headers, claims;
    struct sb_str key_claim;
    struct sb_str bad_challenge; /* for a token that is no good */
    bool secret_is_base64;
    int64_t expiration_max_s; /* 0: any */
};

static struct names names_of(const struct sb_plugin_source *in, const char *field)
{
    const struct sb_value *list = sb_get(in->config, field), *item;
    struct sb_str *p = SB_NEW_N(in->arena, struct sb_str, list ? list->count + 1 : 1);
    struct names names = {p, 0};

    sb_array_each (item, list)
        p[names.n++] = sb_arena_str(in->arena, item->s);
    return names;
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);

    (void)err;
    sb_auth_compile(in, "Bearer", &c->auth);
    c->bad_challenge =
        sb_arena_printf(in->arena, "%.*s error=\"invalid_token\"", SB_ARG(c->auth.challenge));
    c->arguments = names_of(in, "uri_param_names");
    c->cookies = names_of(in, "cookie_names");
    c->headers = names_of(in, "header_names");
    c->claims = names_of(in, "claims_to_verify");
    c->key_claim = sb_arena_str(in->arena, sb_value_str_at(in->config, "key_claim_name"));
    c->secret_is_base64 = sb_value_bool_at(in->config, "secret_is_base64", false);
    c->expiration_max_s = sb_value_int_at(in->config, "maximum_expiration", 0);
    *out = c;
    return SB_OK;
}

/* -- finding the token --------------------------------------------------------------------------
 */

struct search {
    const struct config *config;
    struct sb_str token; /* p NULL: none yet */
    bool several;        /* that differ */
    bool unreadable;     /* an argument without a value */
};

static void add_token(struct search *s, struct sb_str token)
{
    if (!token.len)
        return;
    s->several |= s->token.p && !sb_str_eq(s->token, token);
    s->token = token;
}

static bool has(const struct names *names, struct sb_str name)
{
    for (size_t i = 0; i < names->n; i++)
        if (sb_str_eq(names->p[i], name))
            return true;
    return false;
}

static void search_arguments(struct sb_exchange *x, struct search *s)
{
    struct sb_str query = sb_exchange_query(x);
    struct sb_arg arg;

    while (s->config->arguments.n && sb_arg_next(sb_exchange_arena(x), &query, &arg))
        if (has(&s->config->arguments, arg.name)) {
            s->unreadable |= !arg.value.p;
            add_token(s, arg.value);
        }
}

static void search_cookies(struct sb_exchange *x, struct search *s)
{
    for (size_t i = 0; i < s->config->cookies.n; i++)
        add_token(s, sb_auth_request_cookie(x, s->config->cookies.p[i]));
}

static void search_headers(struct sb_exchange *x, struct search *s)
{
    struct sb_str token;

    for (size_t i = 0; i < s->config->headers.n; i++) {
        struct sb_str value = sb_auth_request_header(x, s->config->headers.p[i]);

        if (value.p && sb_auth_bearer(value, &token))
            add_token(s, token);
    }
}

/* -- verifying it -------------------------------------------------------------------------------
 */

static enum sb_rc refuse(struct sb_auth_result *result, struct sb_str message)
{
    result->message = message;
    return SB_DENIED;
}

/* The claim that names the credential: of the claims, or else of the header. */
static const struct sb_value *key_claim(const struct config *c, const struct sb_jwt *jwt)
{
    const struct sb_value *v = sb_object_get(jwt->claims, c->key_claim);

    if (!v || (v->type == SB_V_BOOL && !v->b))
        v = sb_object_get(jwt->header, c->key_claim);
    return v && v->type == SB_V_BOOL && !v->b ? NULL : v;
}

static enum sb_rc check_signature(struct sb_exchange *x, const struct config *c,
                                  const struct sb_jwt *jwt, const struct sb_value *row,
                                  struct sb_auth_result *result)
{
    bool hmac = sb_jwt_alg_is_hmac(jwt);
    struct sb_str algorithm = sb_value_str_at(row, "algorithm");
    struct sb_str key = sb_value_str_at(row, hmac ? "secret" : "rsa_public_key");

    if (!sb_str_eq(algorithm.len ? algorithm : SB_STR("HS256"), sb_jwt_alg_name(jwt)))
        return refuse(result, SB_STR("Invalid algorithm"));
    if (hmac && c->secret_is_base64 && !sb_base64url_decode(sb_exchange_arena(x), key, &key))
        key = SB_STR("");
    if (!key.len)
        return refuse(result, SB_STR("Invalid key/secret"));
    switch (sb_jwt_verify(jwt, sb_exchange_worker_state(x, &sb_plugin_jwt), key)) {
    case SB_OK:
        return SB_OK;
    case SB_INVALID:
        return refuse(result, SB_STR("Invalid key/secret"));
    default:
        return refuse(result, SB_STR("Invalid signature"));
    }
}

static enum sb_rc check_claims(struct sb_exchange *x, const struct config *c,
                               const struct sb_jwt *jwt, struct sb_auth_result *result)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_value *errors = sb_value_object(a);
    int64_t now = sb_wall_ms() / 1000;

    for (size_t i = 0; i < c->claims.n; i++) {
        const char *wrong = sb_jwt_claim_check(jwt, c->claims.p[i], now);

        if (wrong)
            sb_object_set(a, errors, c->claims.p[i], sb_value_text(a, wrong));
    }
    if (!errors->count && c->expiration_max_s > 0 &&
        !sb_jwt_expires_within(jwt, now, c->expiration_max_s))
        sb_object_set(a, errors, SB_STR("exp"),
                      sb_value_text(a, "exceeds maximum allowed expiration"));
    if (!errors->count)
        return SB_OK;
    result->json = sb_json_text(a, errors, 0);
    return SB_DENIED;
}

static enum sb_rc find_consumer(struct sb_exchange *x, const struct config *c, struct sb_str key,
                                const struct sb_found *found, struct sb_auth_result *result)
{
    enum sb_rc rc = sb_auth_consumer(x, found, result);

    if (rc != SB_NOTFOUND)
        return rc;
    result->challenge = (struct sb_str){0};
    return refuse(result,
                  sb_arena_printf(sb_exchange_arena(x), "Could not find consumer for '%.*s=%.*s'",
                                  SB_ARG(c->key_claim), SB_ARG(key)));
}

static enum sb_rc verify(struct sb_exchange *x, const struct config *c, struct sb_str token,
                         struct sb_auth_result *result)
{
    struct sb_arena *a = sb_exchange_arena(x);
    const struct sb_value *key;
    const struct sb_found *found;
    struct sb_jwt jwt;
    const char *wrong = sb_jwt_parse(a, token, &jwt);
    enum sb_rc rc;

    if (wrong)
        return refuse(result, sb_arena_printf(a, "Bad token; %s", wrong));
    key = key_claim(c, &jwt);
    if (!key)
        return refuse(result,
                      sb_arena_printf(a, "No mandatory '%.*s' in claims", SB_ARG(c->key_claim)));
    if (key->type != SB_V_STR || !key->s.len)
        return refuse(result, sb_arena_printf(a, "Invalid '%.*s' in claims", SB_ARG(c->key_claim)));
    rc = sb_credential_find(x, SB_JWT_BY_KEY, key->s, &found);
    if (rc == SB_NOTFOUND)
        return refuse(result, sb_arena_printf(a, "No credentials found for given '%.*s'",
                                              SB_ARG(c->key_claim)));
    if (rc || (rc = check_signature(x, c, &jwt, found->value, result)) ||
        (rc = check_claims(x, c, &jwt, result)))
        return rc;
    result->identifier = sb_value_str_at(found->value, "key");
    return find_consumer(x, c, key->s, found, result);
}

static enum sb_rc authenticate(struct sb_exchange *x, const void *config,
                               struct sb_auth_result *result)
{
    const struct config *c = config;
    struct search s = {.config = c};

    search_arguments(x, &s);
    search_cookies(x, &s);
    search_headers(x, &s);
    result->exit = true;
    if (!s.token.p && !s.unreadable)
        return refuse(result, SB_STR("Unauthorized"));
    result->challenge = c->bad_challenge;
    if (s.several || (s.token.p && s.unreadable))
        return refuse(result, SB_STR("Multiple tokens provided"));
    if (s.unreadable)
        return refuse(result, SB_STR("Unrecognizable token"));
    return verify(x, c, s.token, result);
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    return sb_auth_access(x, config, authenticate);
}

static void *keys_new(struct event_base *loop, const struct sb_settings *settings)
{
    (void)loop;
    (void)settings;
    return sb_jwt_keys_new();
}

static void keys_free(void *keys)
{
    sb_jwt_keys_free(keys);
}

const struct sb_plugin sb_plugin_jwt = {
    .name = "jwt",
    .priority = 1450,
    .compile = compile,
    .access = access,
    .worker_new = keys_new,
    .worker_free = keys_free,
};
