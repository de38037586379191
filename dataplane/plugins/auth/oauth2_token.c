/* oauth2_token.c - /oauth2/token: who gets a token, and for what (RFC 6749, 7636).
 *
 * What may be used once (a code, a refresh token) is deleted before anything is made of it, so that
 * of two who race one gets it.
 */
#include "dataplane/plugins/auth/oauth2.h"

#include "dataplane/plugins/auth/auth_text.h"
#include "dataplane/plugins/auth/oauth2_text.h"
#include "schema/entity.h"
#include "schema/keys.h"
#include "schema/validate.h"
#include "shared/clock.h"

enum { VERIFIER_MIN = 43, VERIFIER_MAX = 128 };

/* Deletes what may be used once. SB_DENIED: someone else was faster. */
static enum sb_rc use_up(struct sb_oauth2_request *r, const struct sb_entity *kind,
                         struct sb_str id, const char *description)
{
    enum sb_rc rc = sb_credential_delete(r->x, kind, id, &r->progress->used);

    if (rc == SB_NOTFOUND)
        sb_oauth2_fail(r, "invalid_request", description);
    return rc == SB_NOTFOUND ? SB_DENIED : rc;
}

/* -- grants --------------------------------------------------------------------------------------
 * Each gives SB_OK, SB_DENIED with an error, or what kept it from going on. */

static enum sb_rc check_verifier(struct sb_oauth2_request *r, const struct sb_value *code)
{
    struct sb_str verifier;
    enum sb_auth_field found;

    if (!sb_value_str_at(code, "challenge_method").len && !sb_oauth2_needs_challenge(r))
        return SB_OK;
    found = sb_oauth2_parameter(&r->p, "code_verifier", &verifier);
    if (found == SB_FIELD_ABSENT)
        sb_oauth2_fail(r, "invalid_request",
                       "code_verifier is required for PKCE authorization requests");
    else if (found != SB_FIELD_TEXT)
        sb_oauth2_fail(r, "invalid_request", "code_verifier is not a string");
    else if (verifier.len < VERIFIER_MIN || verifier.len > VERIFIER_MAX)
        sb_oauth2_fail(r, "invalid_request", "code_verifier must be between 43 and 128 characters");
    else if (!sb_oauth2_verifier_fits(r->a, verifier, sb_value_str_at(code, "challenge")))
        sb_oauth2_fail(r, "invalid_grant", "Invalid code");
    return r->error ? SB_DENIED : SB_OK;
}

static bool code_is_for(const struct sb_oauth2_request *r, const struct sb_value *code)
{
    struct sb_str issuer = sb_value_str_at(code, "plugin.id");

    if (!sb_str_eq(sb_value_str_at(code, "credential.id"), r->client->id))
        return false;
    if (r->c->global)
        return !issuer.len || sb_str_eq(issuer, r->c->plugin_id);
    return sb_str_eq(sb_value_str_at(code, "service.id"), r->service_id);
}

static enum sb_rc grant_code(struct sb_oauth2_request *r)
{
    const struct sb_found *code;
    struct sb_str value = sb_oauth2_said(r, "code");
    enum sb_rc rc = SB_NOTFOUND;

    if (value.len)
        rc = sb_credential_find(r->x, SB_CODE_BY_CODE, value, &code);
    if (rc == SB_NOTFOUND || (!rc && !code_is_for(r, code->value))) {
        sb_oauth2_fail(r, "invalid_request", "Invalid code");
        return SB_DENIED;
    }
    if (rc || (rc = check_verifier(r, code->value)) ||
        (rc = use_up(r, sb_entity_find(SB_STR("oauth2_authorization_codes")), code->id,
                     "Invalid code")))
        return rc;
    return sb_oauth2_make_token(r, sb_value_str_at(code->value, "authenticated_userid"),
                                sb_value_str_at(code->value, "scope"), true);
}

static enum sb_rc grant_client_credentials(struct sb_oauth2_request *r)
{
    struct sb_str scope, user = sb_oauth2_said(r, "authenticated_userid");

    if (user.p && !sb_oauth2_check_provision_key(r))
        return SB_DENIED;
    if (!r->client) {
        sb_oauth2_fail_client(r);
        return SB_DENIED;
    }
    if (!sb_oauth2_check_scope(r, &scope))
        return SB_DENIED;
    return sb_oauth2_make_token(r, user, scope, false);
}

static enum sb_rc grant_password(struct sb_oauth2_request *r)
{
    struct sb_str scope;

    if (!sb_oauth2_check_provision_key(r) || !sb_oauth2_check_user(r) ||
        !sb_oauth2_check_scope(r, &scope))
        return SB_DENIED;
    return sb_oauth2_make_token(r, sb_oauth2_said(r, "authenticated_userid"), scope, true);
}

/* The same row with a new access token. */
static enum sb_rc renew_token(struct sb_oauth2_request *r, const struct sb_found *token)
{
    struct sb_value *patch = sb_value_object(r->a);
    struct sb_write *made = &r->progress->made;
    enum sb_rc rc;

    if (!r->progress->fresh.p)
        r->progress->fresh = sb_random_string(r->a);
    sb_oauth2_put(r, patch, "access_token", r->progress->fresh);
    sb_oauth2_put_int(r, patch, "expires_in", r->c->token_expiration_s);
    sb_oauth2_put_int(r, patch, "created_at", sb_wall_ms() / 1000);
    sb_oauth2_put_ttl(r, patch);
    rc =
        sb_credential_update(r->x, sb_entity_find(SB_STR("oauth2_tokens")), token->id, patch, made);
    if (!rc)
        sb_oauth2_tell_token(r, made->row->value, sb_value_str_at(token->value, "refresh_token"));
    return rc;
}

/* The scope of a token must still be one of the configured. */
static bool check_old_scope(struct sb_oauth2_request *r, struct sb_str scope)
{
    struct sb_str kept, wrong;

    if (!scope.len || sb_oauth2_scope(r->a, r->c->scopes, scope, &kept, &wrong))
        return true;
    sb_oauth2_fail(r, "invalid_scope", "Scope mismatch");
    return false;
}

static enum sb_rc grant_refresh(struct sb_oauth2_request *r)
{
    struct sb_str value = sb_oauth2_said(r, "refresh_token"), scope;
    const struct sb_found *token;
    enum sb_rc rc = SB_NOTFOUND;

    if (value.len)
        rc = sb_credential_find(r->x, SB_TOKEN_BY_REFRESH_TOKEN, value, &token);
    if (rc == SB_NOTFOUND ||
        (!rc && !r->c->global &&
         !sb_str_eq(sb_value_str_at(token->value, "service.id"), r->service_id))) {
        sb_oauth2_fail(r, "invalid_request", "Invalid refresh_token");
        return SB_DENIED;
    }
    if (rc)
        return rc;
    if (!sb_str_eq(sb_value_str_at(token->value, "credential.id"), r->client->id)) {
        sb_oauth2_fail_client(r);
        return SB_DENIED;
    }
    scope = sb_value_str_at(token->value, "scope");
    if (!check_old_scope(r, scope))
        return SB_DENIED;
    if (r->c->reuse_refresh_token)
        return renew_token(r, token);
    rc = use_up(r, sb_entity_find(SB_STR("oauth2_tokens")), token->id, "Invalid refresh_token");
    if (rc)
        return rc;
    return sb_oauth2_make_token(r, sb_value_str_at(token->value, "authenticated_userid"), scope,
                                true);
}

struct grant {
    const char *name;
    size_t enabled; /* offset of a bool in the config; 0: always */
    enum sb_rc (*run)(struct sb_oauth2_request *r);
};

static const struct grant grants[] = {
    {"authorization_code", 0, grant_code},
    {"refresh_token", 0, grant_refresh},
    {"client_credentials", offsetof(struct sb_oauth2_config, client_credentials),
     grant_client_credentials},
    {"password", offsetof(struct sb_oauth2_config, password), grant_password},
};

/* -- clients ------------------------------------------------------------------------------------
 */

static const struct grant *find_grant(struct sb_oauth2_request *r)
{
    for (size_t i = 0; i < sizeof grants / sizeof *grants; i++) {
        const bool *enabled = (const bool *)((const char *)r->c + grants[i].enabled);

        if (sb_oauth2_text_is(r, "grant_type", grants[i].name) && (!grants[i].enabled || *enabled))
            return &grants[i];
    }
    sb_oauth2_fail(r, "unsupported_grant_type", "Invalid grant_type");
    return NULL;
}

/* Who the client says it is, and what proves it: parameters, or else the header, whatever that
 * says. Of a decoded header only the second of its words is the secret. */
static void client_words(struct sb_oauth2_request *r, struct sb_str *id, struct sb_str *secret)
{
    struct sb_str header = sb_auth_request_header(r->x, r->c->auth_header_name), decoded;

    *id = sb_oauth2_said(r, "client_id");
    *secret = sb_oauth2_said(r, "client_secret");
    if ((id->p && secret->p) || !header.p) {
        if (!id->p)
            *secret = (struct sb_str){0};
        return;
    }
    r->from_header = true;
    *id = *secret = (struct sb_str){0};
    if (!sb_auth_basic_text(r->a, header, &decoded))
        return;
    sb_str_split(&decoded, ':', id);
    if (!sb_str_split(&decoded, ':', secret))
        *secret = (struct sb_str){0};
}

/* A hash of other parameters than new ones have is made anew, now that the secret is at hand. */
static void hash_again(struct sb_oauth2_request *r, struct sb_str secret)
{
    struct sb_schema_ctx ctx = {.arena = r->a};
    struct sb_value *row = sb_value_object(r->a), *patch = sb_value_object(r->a);

    sb_oauth2_put(r, row, "client_secret", secret);
    sb_object_set(r->a, row, SB_STR("hash_secret"), sb_value_bool(r->a, true));
    sb_hash_oauth2_secret(&ctx, row);
    sb_oauth2_put(r, patch, "client_secret", sb_value_str_at(row, "client_secret"));
    (void)!sb_credential_update(r->x, sb_entity_find(SB_STR("oauth2_credentials")), r->client->id,
                                patch, NULL);
}

static bool secret_fits(struct sb_oauth2_request *r, struct sb_str secret)
{
    struct sb_str stored = sb_value_str_at(r->client->value, "client_secret");
    bool current = true;

    if (r->progress->secret_fits)
        return true;
    if (!secret.p || !stored.len)
        return false;
    if (!sb_value_bool_at(r->client->value, "hash_secret", false))
        return sb_secret_eq(stored, secret);
    if (!sb_oauth2_hash_fits(r->a, stored, secret, &current))
        return false;
    if (!current)
        hash_again(r, secret);
    r->progress->secret_fits = true;
    return true;
}

static void check_client(struct sb_oauth2_request *r, struct sb_str secret)
{
    if (sb_oauth2_is_public(r)) {
        if (!sb_oauth2_is_blank(secret))
            sb_oauth2_fail(r, "invalid_request", "client_secret is disallowed for public clients");
    } else if (!secret_fits(r, secret)) {
        sb_oauth2_fail_client(r);
        r->unauthorized = r->from_header;
    }
}

enum sb_rc sb_oauth2_token_endpoint(struct sb_oauth2_request *r)
{
    const struct grant *grant;
    struct sb_str id, secret;
    enum sb_rc rc;

    if (!sb_oauth2_check_https(r))
        return SB_OK;
    grant = find_grant(r);
    client_words(r, &id, &secret);
    rc = sb_oauth2_find_client(r, id);
    if (rc)
        return rc;
    if (!sb_oauth2_text_is(r, "grant_type", "client_credentials"))
        (void)sb_oauth2_check_redirect_uri(r);
    if (r->client)
        check_client(r, secret);
    return r->error ? SB_OK : grant->run(r);
}
