/* oauth2_authorize.c - /oauth2/authorize: a code, or a token for a browser (RFC 6749, 7636). */
#include "dataplane/plugins/auth/oauth2.h"

#include "dataplane/plugins/auth/oauth2_text.h"
#include "schema/entity.h"

enum { CODE_TTL_S = 300 };

static void check_challenge(struct sb_oauth2_request *r, struct sb_str *challenge,
                            struct sb_str *method)
{
    *challenge = sb_oauth2_said(r, "code_challenge");
    *method = sb_oauth2_said(r, "code_challenge_method");
    if (method->p && !challenge->p)
        sb_oauth2_fail(r, "invalid_request",
                       "code_challenge is required when code_method is present");
    else if (method->p && !sb_str_is(*method, "S256") && !sb_str_is(*method, "s256"))
        sb_oauth2_fail(r, "invalid_request",
                       "code_challenge_method is not supported, must be S256");
    else if (!challenge->p && sb_oauth2_needs_challenge(r))
        sb_oauth2_fail(r, "invalid_request",
                       sb_oauth2_is_public(r)
                           ? "code_challenge is required for public clients"
                           : "code_challenge is required for confidential clients");
    if (challenge->p) {
        *challenge = sb_oauth2_challenge(r->a, *challenge);
        *method = SB_STR("S256");
    }
}

static enum sb_rc make_code(struct sb_oauth2_request *r, struct sb_str scope,
                            struct sb_str challenge, struct sb_str method)
{
    struct sb_value *row = sb_value_object(r->a);
    struct sb_write *made = &r->progress->made;
    enum sb_rc rc;

    sb_oauth2_put_id(r, row, "service", r->service_id);
    sb_oauth2_put_id(r, row, "credential", r->client->id);
    sb_oauth2_put_id(r, row, "plugin", r->c->plugin_id);
    sb_oauth2_put(r, row, "authenticated_userid", sb_oauth2_said(r, "authenticated_userid"));
    sb_oauth2_put(r, row, "scope", scope);
    sb_oauth2_put(r, row, "challenge", challenge);
    sb_oauth2_put(r, row, "challenge_method", method);
    sb_oauth2_put_int(r, row, "ttl", CODE_TTL_S);
    rc =
        sb_credential_insert(r->x, sb_entity_find(SB_STR("oauth2_authorization_codes")), row, made);
    if (rc)
        return rc;
    r->body = sb_value_object(r->a);
    sb_oauth2_put(r, r->body, "code", sb_value_str_at(made->row->value, "code"));
    return SB_OK;
}

/* The answer is where to send the user, with what there is to tell in the query, or in the
 * fragment. */
static void tell_redirect(struct sb_oauth2_request *r, struct sb_str uri, bool into_fragment)
{
    struct sb_value *told = r->error ? sb_oauth2_error_body(r) : r->body;

    sb_oauth2_put_state(r, told);
    r->body = sb_value_object(r->a);
    sb_oauth2_put(r, r->body, "redirect_uri", sb_oauth2_redirect(r->a, uri, told, into_fragment));
}

enum sb_rc sb_oauth2_authorization_endpoint(struct sb_oauth2_request *r)
{
    bool code = sb_oauth2_text_is(r, "response_type", "code"),
         token = sb_oauth2_text_is(r, "response_type", "token");
    struct sb_str scope, uri, challenge = {0}, method = {0};
    enum sb_rc rc = SB_OK;

    if (!sb_oauth2_check_https(r) || !sb_oauth2_check_provision_key(r) || !sb_oauth2_check_user(r))
        return SB_OK;
    if (!(code && r->c->code) && !(token && r->c->implicit))
        sb_oauth2_fail(r, "unsupported_response_type", "Invalid response_type");
    (void)sb_oauth2_check_scope(r, &scope);
    rc = sb_oauth2_find_client(r, sb_oauth2_said(r, "client_id"));
    if (rc)
        return rc;
    uri = sb_oauth2_check_redirect_uri(r);
    check_challenge(r, &challenge, &method);
    if (!uri.p)
        return SB_OK;
    if (!r->error && code)
        rc = make_code(r, scope, challenge, method);
    else if (!r->error)
        rc = sb_oauth2_make_token(r, sb_oauth2_said(r, "authenticated_userid"), scope, false);
    if (!rc)
        tell_redirect(r, uri, token && !r->error);
    return rc;
}
