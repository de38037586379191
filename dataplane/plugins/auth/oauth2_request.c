/* oauth2_request.c - a request to one of the endpoints of oauth2 (RFC 6749).
 *
 * Where several things are wrong the last of the checks decides what the client is told, as with
 * Kong. Every step may be run again after a pause: what has been written is remembered in the
 * exchange (struct sb_oauth2_progress).
 */
#include "dataplane/plugins/auth/oauth2.h"

#include "dataplane/config/snapshot.h"
#include "dataplane/plugins/auth/auth_text.h"
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/auth/oauth2_text.h"
#include "schema/entity.h"
#include "schema/validate.h"
#include "shared/json.h"

/* -- errors -------------------------------------------------------------------------------------
 */

void sb_oauth2_fail(struct sb_oauth2_request *r, const char *error, const char *description)
{
    r->error = error;
    r->description = sb_str_c(description);
}

void sb_oauth2_fail_client(struct sb_oauth2_request *r)
{
    sb_oauth2_fail(r, "invalid_client", "Invalid client authentication");
}

bool sb_oauth2_is_blank(struct sb_str s)
{
    return sb_str_trim(s).len == 0;
}

struct sb_str sb_oauth2_said(const struct sb_oauth2_request *r, const char *name)
{
    return sb_oauth2_text(&r->p, name);
}

bool sb_oauth2_text_is(const struct sb_oauth2_request *r, const char *name, const char *value)
{
    struct sb_str s = sb_oauth2_said(r, name);

    return s.p && sb_str_is(s, value);
}

/* -- checks that both endpoints make ------------------------------------------------------------
 */

bool sb_oauth2_check_https(struct sb_oauth2_request *r)
{
    struct sb_str proto = sb_exchange_forwarded_proto(r->x);

    if (sb_exchange_https(r->x))
        return true;
    if (r->c->accept_terminated && sb_str_ieq(proto, SB_STR("https")))
        return true;
    sb_oauth2_fail(r, "access_denied",
                   r->c->accept_terminated && sb_str_chr(proto, ',', 0) >= 0
                       ? "Only one X-Forwarded-Proto header allowed"
                       : "You must use HTTPS");
    return false;
}

bool sb_oauth2_check_provision_key(struct sb_oauth2_request *r)
{
    struct sb_str key = sb_oauth2_said(r, "provision_key");

    if (key.p && sb_secret_eq(key, r->c->provision_key))
        return true;
    sb_oauth2_fail(r, "invalid_provision_key", "Invalid provision_key");
    return false;
}

bool sb_oauth2_check_user(struct sb_oauth2_request *r)
{
    if (!sb_oauth2_is_blank(sb_oauth2_said(r, "authenticated_userid")))
        return true;
    sb_oauth2_fail(r, "invalid_authenticated_userid", "Missing authenticated_userid parameter");
    return false;
}

bool sb_oauth2_check_scope(struct sb_oauth2_request *r, struct sb_str *scope)
{
    struct sb_str given, wrong;
    enum sb_auth_field found = sb_oauth2_parameter(&r->p, "scope", &given);

    *scope = (struct sb_str){0};
    if (found == SB_FIELD_ABSENT && r->c->mandatory_scope) {
        sb_oauth2_fail(r, "invalid_scope", "You must specify a scope");
        return false;
    }
    if (found == SB_FIELD_ABSENT || !r->c->scopes)
        return true;
    if (found != SB_FIELD_TEXT) {
        sb_oauth2_fail(r, "invalid_scope", "scope must be a string");
        return false;
    }
    if (sb_oauth2_scope(r->a, r->c->scopes, given, scope, &wrong))
        return true;
    sb_oauth2_fail(r, "invalid_scope",
                   sb_arena_printf(r->a, "\"%.*s\" is an invalid scope", SB_ARG(wrong)).p);
    return false;
}

enum sb_rc sb_oauth2_find_client(struct sb_oauth2_request *r, struct sb_str client_id)
{
    enum sb_rc rc = SB_NOTFOUND;

    if (client_id.len)
        rc = sb_credential_find(r->x, SB_OAUTH2_BY_CLIENT_ID, client_id, &r->client);
    if (rc == SB_NOTFOUND)
        r->client = NULL;
    return rc == SB_NOTFOUND ? SB_OK : rc;
}

/* The URI to go to: the one asked for, or the first that is registered. p NULL: none is. */
struct sb_str sb_oauth2_check_redirect_uri(struct sb_oauth2_request *r)
{
    const struct sb_value *uris = r->client ? sb_get(r->client->value, "redirect_uris") : NULL;
    const struct sb_value *uri;
    struct sb_str wanted = sb_oauth2_said(r, "redirect_uri");

    if (!sb_is(uris, SB_V_ARRAY)) {
        sb_oauth2_fail_client(r);
        r->unauthorized = r->from_header;
        return (struct sb_str){0};
    }
    sb_array_each (uri, uris)
        if (!wanted.p || sb_str_eq(uri->s, wanted))
            return uri->s;
    sb_oauth2_fail(
        r, "invalid_request",
        "Invalid redirect_uri that does not match with any redirect_uri created with the "
        "application");
    return uris->count ? uris->items[0]->s : (struct sb_str){0};
}

bool sb_oauth2_is_public(const struct sb_oauth2_request *r)
{
    return sb_str_is(sb_value_str_at(r->client->value, "client_type"), "public");
}

bool sb_oauth2_needs_challenge(const struct sb_oauth2_request *r)
{
    if (!r->client)
        return false;
    return sb_oauth2_is_public(r) ? r->c->pkce != SB_PKCE_NONE : r->c->pkce == SB_PKCE_STRICT;
}

/* -- rows ---------------------------------------------------------------------------------------
 */

void sb_oauth2_put(struct sb_oauth2_request *r, struct sb_value *row, const char *name,
                   struct sb_str value)
{
    if (value.len)
        sb_object_set(r->a, row, sb_str_c(name), sb_value_str(r->a, value));
}

void sb_oauth2_put_state(struct sb_oauth2_request *r, struct sb_value *answer)
{
    struct sb_str state = sb_oauth2_said(r, "state");

    if (state.p)
        sb_object_set(r->a, answer, SB_STR("state"), sb_value_str(r->a, state));
}

void sb_oauth2_put_id(struct sb_oauth2_request *r, struct sb_value *row, const char *name,
                      struct sb_str id)
{
    struct sb_value *key = sb_value_object(r->a);

    if (!id.len)
        return;
    sb_object_set(r->a, key, SB_STR("id"), sb_value_str(r->a, id));
    sb_object_set(r->a, row, sb_str_c(name), key);
}

void sb_oauth2_put_int(struct sb_oauth2_request *r, struct sb_value *row, const char *name,
                       int64_t value)
{
    sb_object_set(r->a, row, sb_str_c(name), sb_value_int(r->a, value));
}

/* How long the row of a token stays. */
void sb_oauth2_put_ttl(struct sb_oauth2_request *r, struct sb_value *row)
{
    if (r->c->token_expiration_s > 0 && r->c->refresh_token_ttl_s > 0)
        sb_oauth2_put_int(r, row, "ttl", r->c->refresh_token_ttl_s);
}

/* The token as the client is told of it. */
void sb_oauth2_tell_token(struct sb_oauth2_request *r, const struct sb_value *row,
                          struct sb_str refresh_token)
{
    r->body = sb_value_object(r->a);
    sb_oauth2_put(r, r->body, "access_token", sb_value_str_at(row, "access_token"));
    sb_oauth2_put(r, r->body, "token_type", SB_STR("bearer"));
    if (r->c->token_expiration_s > 0)
        sb_oauth2_put_int(r, r->body, "expires_in", sb_value_int_at(row, "expires_in", 0));
    sb_oauth2_put(r, r->body, "refresh_token", refresh_token);
}

enum sb_rc sb_oauth2_make_token(struct sb_oauth2_request *r, struct sb_str user,
                                struct sb_str scope, bool refreshable)
{
    struct sb_value *row = sb_value_object(r->a);
    struct sb_oauth2_progress *p = r->progress;
    enum sb_rc rc;

    if (refreshable && r->c->token_expiration_s > 0 && !p->fresh.p)
        p->fresh = sb_random_string(r->a);
    sb_oauth2_put_id(r, row, "service", r->service_id);
    sb_oauth2_put_id(r, row, "credential", r->client->id);
    sb_oauth2_put(r, row, "authenticated_userid", user);
    sb_oauth2_put(r, row, "scope", scope);
    sb_oauth2_put(r, row, "refresh_token", p->fresh);
    sb_oauth2_put_int(r, row, "expires_in", r->c->token_expiration_s);
    sb_oauth2_put_ttl(r, row);
    rc = sb_credential_insert(r->x, sb_entity_find(SB_STR("oauth2_tokens")), row, &p->made);
    if (!rc)
        sb_oauth2_tell_token(r, p->made.row->value, p->fresh);
    return rc;
}

struct sb_value *sb_oauth2_error_body(struct sb_oauth2_request *r)
{
    struct sb_value *body = sb_value_object(r->a);

    sb_oauth2_put(r, body, "error", sb_str_c(r->error));
    sb_oauth2_put(r, body, "error_description", r->description);
    return body;
}

/* -- both ---------------------------------------------------------------------------------------
 */

static const struct endpoint {
    struct sb_str path;
    const char *name;
    enum sb_rc (*run)(struct sb_oauth2_request *r);
} endpoints[] = {
    {SB_STR_INIT("/oauth2/token"), "token", sb_oauth2_token_endpoint},
    {SB_STR_INIT("/oauth2/authorize"), "authorization", sb_oauth2_authorization_endpoint},
};

static const struct endpoint *find_endpoint(struct sb_str path)
{
    if (path.len && path.p[path.len - 1] == '/')
        path.len--;
    for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++)
        if (sb_str_ends(path, endpoints[i].path))
            return &endpoints[i];
    return NULL;
}

bool sb_oauth2_is_endpoint(struct sb_str path)
{
    return find_endpoint(path) != NULL;
}

static void answer(struct sb_oauth2_request *r)
{
    static const struct sb_str headers[] = {
        SB_STR_INIT("cache-control"),    SB_STR_INIT("no-store"),
        SB_STR_INIT("pragma"),           SB_STR_INIT("no-cache"),
        SB_STR_INIT("www-authenticate"), SB_STR_INIT("Basic realm=\"OAuth2.0\""),
    };
    int status = !r->error ? 200 : r->unauthorized ? 401 : 400;

    if (!r->body)
        r->body = sb_oauth2_error_body(r);
    if (!sb_get(r->body, "redirect_uri"))
        sb_oauth2_put_state(r, r->body);
    sb_exchange_answer(r->x, status, SB_STR("application/json; charset=utf-8"),
                       sb_json_text(r->a, r->body, 0), headers, r->unauthorized ? 6 : 4);
}

static void refuse_method(struct sb_exchange *x, const struct sb_oauth2_config *c,
                          const struct endpoint *e)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_value *body = sb_value_object(a);
    struct sb_str description =
        sb_arena_printf(a, "The HTTP method %.*s is invalid for the %s endpoint",
                        SB_ARG(sb_exchange_method(x)), e->name);
    struct sb_str headers[2] = {
        SB_STR("WWW-Authenticate"),
        sb_arena_printf(a, "%.*s error=\"invalid_method\" error_description=\"%.*s\"",
                        SB_ARG(c->auth.challenge), SB_ARG(description)),
    };

    sb_object_set(a, body, SB_STR("error"), sb_value_text(a, "invalid_method"));
    sb_object_set(a, body, SB_STR("error_description"), sb_value_str(a, description));
    sb_exchange_answer(x, 405, SB_STR("application/json; charset=utf-8"), sb_json_text(a, body, 0),
                       headers, 2);
}

enum sb_rc sb_oauth2_endpoint(struct sb_exchange *x, const struct sb_oauth2_config *c)
{
    const struct endpoint *e = find_endpoint(sb_exchange_path(x));
    const struct sb_service *service = sb_exchange_service(x);
    struct sb_oauth2_request r = {.x = x, .c = c, .a = sb_exchange_arena(x)};
    enum sb_rc rc;

    if (!sb_str_is(sb_exchange_method(x), "POST"))
        return refuse_method(x, c, e), SB_OK;
    rc = sb_oauth2_parameters_get(x, c->auth.body_max, &r.p);
    if (rc)
        return rc;
    r.progress = sb_exchange_state(x, &sb_plugin_oauth2, sizeof *r.progress);
    r.service_id = c->global || !service ? SB_STR("") : service->id;
    rc = e->run(&r);
    if (rc == SB_OK || (rc == SB_DENIED && r.error))
        return answer(&r), SB_OK;
    if (rc == SB_UNAVAILABLE)
        return sb_exchange_answer_error(x, 503, SB_STR("")), SB_OK;
    return rc;
}
