/* oauth2.c - access tokens of clients that were granted them (reference/plugins-auth.md).
 *
 * Tokens are rows; the endpoints that make them are on every route with the plugin
 * (oauth2_request.c). A token belongs to the service that it was made for, unless it is global.
 */
#include "dataplane/plugins/auth/oauth2.h"

#include "dataplane/config/snapshot.h"
#include "dataplane/plugins/bundled.h"
#include "shared/clock.h"
#include "shared/json.h"

static enum sb_oauth2_pkce pkce_of(struct sb_str name)
{
    return sb_str_is(name, "none")     ? SB_PKCE_NONE
           : sb_str_is(name, "strict") ? SB_PKCE_STRICT
                                       : SB_PKCE_LAX;
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct sb_oauth2_config *c = SB_NEW(in->arena, struct sb_oauth2_config);
    const struct sb_value *scopes = sb_get(in->config, "scopes"), *v = in->config;

    (void)err;
    sb_auth_compile(in, "Bearer", &c->auth);
    c->plugin_id = in->instance->id;
    c->provision_key = sb_arena_str(in->arena, sb_value_str_at(v, "provision_key"));
    c->auth_header_name = sb_arena_str(in->arena, sb_value_str_at(v, "auth_header_name"));
    c->scopes = sb_is(scopes, SB_V_ARRAY) ? sb_value_copy(in->arena, scopes) : NULL;
    c->mandatory_scope = sb_value_bool_at(v, "mandatory_scope", false);
    c->accept_terminated = sb_value_bool_at(v, "accept_http_if_already_terminated", false);
    c->global = sb_value_bool_at(v, "global_credentials", false);
    c->reuse_refresh_token = sb_value_bool_at(v, "reuse_refresh_token", false);
    c->code = sb_value_bool_at(v, "enable_authorization_code", false);
    c->implicit = sb_value_bool_at(v, "enable_implicit_grant", false);
    c->client_credentials = sb_value_bool_at(v, "enable_client_credentials", false);
    c->password = sb_value_bool_at(v, "enable_password_grant", false);
    c->pkce = pkce_of(sb_value_str_at(v, "pkce"));
    c->token_expiration_s = sb_value_int_at(v, "token_expiration", 7200);
    c->refresh_token_ttl_s = sb_value_int_at(v, "refresh_token_ttl", 1209600);
    *out = c;
    return SB_OK;
}

/* -- parameters ---------------------------------------------------------------------------------
 */

static bool has_body(struct sb_str method)
{
    return sb_str_is(method, "POST") || sb_str_is(method, "PUT") || sb_str_is(method, "PATCH");
}

enum sb_rc sb_oauth2_parameters_get(struct sb_exchange *x, size_t body_max,
                                    struct sb_oauth2_parameters *out)
{
    *out =
        (struct sb_oauth2_parameters){.arena = sb_exchange_arena(x), .query = sb_exchange_query(x)};
    return has_body(sb_exchange_method(x)) ? sb_auth_body_get(x, body_max, &out->body) : SB_OK;
}

enum sb_auth_field sb_oauth2_parameter(const struct sb_oauth2_parameters *p, const char *name,
                                       struct sb_str *value)
{
    enum sb_auth_field found = sb_auth_body_find(p->arena, &p->body, sb_str_c(name), value);

    return found ? found : sb_auth_query_find(p->arena, p->query, sb_str_c(name), value);
}

struct sb_str sb_oauth2_text(const struct sb_oauth2_parameters *p, const char *name)
{
    struct sb_str value;

    return sb_oauth2_parameter(p, name, &value) == SB_FIELD_TEXT ? value : (struct sb_str){0};
}

/* -- requests for a resource --------------------------------------------------------------------
 */

/* "Bearer x" and "token x" are x; anything else is the token itself, and then plain is true. */
static struct sb_str header_token(struct sb_str value, bool *plain)
{
    struct sb_str rest = sb_str_trim(value), scheme;
    size_t n = 0;

    while (n < rest.len && rest.p[n] != ' ' && rest.p[n] != '\t')
        n++;
    scheme = sb_str_first(rest, n);
    rest = sb_str_trim(sb_str_from(rest, n));
    *plain = !rest.len || sb_str_chr(rest, ' ', 0) >= 0 || sb_str_chr(rest, '\t', 0) >= 0 ||
             (!sb_str_ieq(scheme, SB_STR("bearer")) && !sb_str_ieq(scheme, SB_STR("token")));
    return *plain ? value : rest;
}

static void hide_parameter(struct sb_exchange *x, const struct sb_oauth2_parameters *p)
{
    struct sb_str name = SB_STR("access_token"), query = sb_exchange_upstream_query(x), text;

    if (query.len)
        sb_exchange_set_upstream_query(x, sb_auth_args_without(p->arena, query, name));
    if (!p->body.text.len ||
        !sb_str_starts(p->body.type, SB_STR("application/x-www-form-urlencoded")))
        return;
    text = sb_auth_body_without(p->arena, &p->body, name);
    sb_exchange_set_upstream_body(x, text);
}

/* What the client sent as a token. */
struct sent {
    struct sb_str token; /* p NULL: none */
    bool plain;          /* the whole header; it may as well be meant for another plugin */
};

static enum sb_rc find_token(struct sb_exchange *x, const struct sb_oauth2_config *c,
                             struct sent *out)
{
    struct sb_str header = sb_auth_request_header(x, c->auth_header_name);
    struct sb_oauth2_parameters p;
    enum sb_rc rc;

    *out = (struct sent){0};
    if (header.p) {
        out->token = header_token(header, &out->plain);
        if (c->auth.hide_credentials && !out->plain)
            sb_exchange_set_upstream_header(x, c->auth_header_name, (struct sb_str){0});
        return SB_OK;
    }
    rc = sb_oauth2_parameters_get(x, c->auth.body_max, &p);
    if (rc)
        return rc;
    out->token = sb_oauth2_text(&p, "access_token");
    if (out->token.p && c->auth.hide_credentials)
        hide_parameter(x, &p);
    return SB_OK;
}

/* A refusal in the words of RFC 6750. told: the description in the challenge; NULL: none of both.
 */
static enum sb_rc refuse(struct sb_exchange *x, struct sb_auth_result *result, const char *error,
                         const char *description, const char *told)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_value *body = sb_value_object(a);

    sb_object_set(a, body, SB_STR("error"), sb_value_text(a, error));
    sb_object_set(a, body, SB_STR("error_description"), sb_value_text(a, description));
    result->json = sb_json_text(a, body, 0);
    if (told)
        result->challenge = sb_arena_printf(a, "%.*s error=\"%s\" error_description=\"%s\"",
                                            SB_ARG(result->challenge), error, told);
    return SB_DENIED;
}

static const char invalid[] = "The access token is invalid or has expired";

static enum sb_rc refuse_token(struct sb_exchange *x, struct sb_auth_result *result)
{
    return refuse(x, result, "invalid_token", invalid, invalid);
}

static bool is_expired(const struct sb_value *token)
{
    const struct sb_value *created = sb_get(token, "created_at");
    int64_t expires_in = sb_value_int_at(token, "expires_in", 0);

    return expires_in > 0 && sb_is_number(created) &&
           sb_wall_s() - sb_number(created) > (double)expires_in;
}

/* Whether the token counts here: one that belongs to a service counts only there, and one that
 * belongs to none only where credentials are global. */
static enum sb_rc check_token(struct sb_exchange *x, const struct sb_oauth2_config *c,
                              const struct sb_value *token, struct sb_auth_result *result)
{
    const struct sb_service *service = sb_exchange_service(x);
    struct sb_str owner = sb_value_str_at(token, "service.id");

    if (!c->global && !owner.len) {
        result->final = true;
        return refuse(x, result, "invalid_token",
                      "The access token is global, but the current plugin is configured without "
                      "'global_credentials'",
                      invalid);
    }
    if (owner.len && (!service || !sb_str_eq(service->id, owner)))
        return refuse_token(x, result);
    return is_expired(token) ? refuse_token(x, result) : SB_OK;
}

static enum sb_rc authenticate(struct sb_exchange *x, const void *config,
                               struct sb_auth_result *result)
{
    const struct sb_oauth2_config *c = config;
    const struct sb_found *token, *client;
    struct sent sent;
    enum sb_rc rc = find_token(x, c, &sent);

    if (rc)
        return rc;
    if (!sent.token.len)
        return refuse(x, result, "invalid_request", "The access token is missing", NULL);
    rc = sb_credential_find(x, SB_TOKEN_BY_ACCESS_TOKEN, sent.token, &token);
    if (rc == SB_NOTFOUND)
        return refuse_token(x, result);
    if (rc || (rc = check_token(x, c, token->value, result)))
        return rc;
    rc = sb_credential_find(x, SB_OAUTH2_BY_ID, sb_value_str_at(token->value, "credential.id"),
                            &client);
    if (rc || (rc = sb_auth_consumer(x, client, result)))
        return rc;
    if (sent.plain && c->auth.hide_credentials)
        sb_exchange_set_upstream_header(x, c->auth_header_name, (struct sb_str){0});
    sb_auth_header(x, SB_STR("X-Authenticated-Scope"), sb_value_str_at(token->value, "scope"));
    sb_auth_header(x, SB_STR("X-Authenticated-UserId"),
                   sb_value_str_at(token->value, "authenticated_userid"));
    result->identifier = sb_value_str_at(client->value, "client_id");
    return SB_OK;
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    if (sb_oauth2_is_endpoint(sb_exchange_path(x)))
        return sb_oauth2_endpoint(x, config);
    sb_auth_header(x, SB_STR("X-Authenticated-Scope"), SB_STR(""));
    sb_auth_header(x, SB_STR("X-Authenticated-UserId"), SB_STR(""));
    return sb_auth_access(x, config, authenticate);
}

const struct sb_plugin sb_plugin_oauth2 = {
    .name = "oauth2",
    .priority = 1400,
    .compile = compile,
    .access = access,
};
