#include "dataplane/plugins/auth/auth.h"

#include "dataplane/plugins/auth/auth_body.h"
#include "dataplane/plugins/auth/auth_text.h"
#include "shared/log.h"
#include "shared/uuid.h"

void sb_auth_compile(const struct sb_plugin_source *in, const char *scheme,
                     struct sb_auth_config *out)
{
    struct sb_str realm = sb_value_str_at(in->config, "realm");

    out->anonymous = sb_arena_str(in->arena, sb_value_str_at(in->config, "anonymous"));
    out->skip_preflight = !sb_value_bool_at(in->config, "run_on_preflight", true);
    out->hide_credentials = sb_value_bool_at(in->config, "hide_credentials", false);
    out->body_max = sb_auth_body_max(in->settings);
    out->challenge = realm.len
                         ? sb_arena_printf(in->arena, "%s realm=\"%.*s\"", scheme, SB_ARG(realm))
                         : sb_arena_str(in->arena, sb_str_c(scheme));
}

/* -- what came ----------------------------------------------------------------------------------
 */

struct sb_str sb_auth_hyphens(struct sb_arena *a, struct sb_str name)
{
    char *out = sb_arena_cstr(a, name);

    for (size_t i = 0; i < name.len; i++)
        if (out[i] == '_')
            out[i] = '-';
    return sb_str_n(out, name.len);
}

struct sb_str sb_auth_request_header(struct sb_exchange *x, struct sb_str name)
{
    struct sb_str value = sb_exchange_header(x, name);

    if (value.p || sb_str_chr(name, '_', 0) < 0)
        return value;
    return sb_exchange_header(x, sb_auth_hyphens(sb_exchange_arena(x), name));
}

struct cookie_search {
    struct sb_str name, value;
};

static bool search_cookie(void *arg, struct sb_str name, struct sb_str value)
{
    struct cookie_search *s = arg;

    if (sb_str_ieq(name, SB_STR("Cookie")))
        s->value = sb_auth_cookie(value, s->name);
    return !s->value.p;
}

struct sb_str sb_auth_request_cookie(struct sb_exchange *x, struct sb_str name)
{
    struct cookie_search s = {.name = name};

    sb_exchange_each_header(x, search_cookie, &s);
    return s.value;
}

/* -- who it is ----------------------------------------------------------------------------------
 */

void sb_auth_header(struct sb_exchange *x, struct sb_str name, struct sb_str value)
{
    sb_exchange_set_upstream_header(x, name, value.len ? value : (struct sb_str){0});
}

void sb_auth_identify(struct sb_exchange *x, const struct sb_consumer *consumer,
                      const struct sb_credential *credential, struct sb_str identifier)
{
    static const struct sb_consumer nobody;
    const struct sb_consumer *c = consumer ? consumer : &nobody;

    sb_auth_header(x, SB_STR("X-Consumer-ID"), c->id);
    sb_auth_header(x, SB_STR("X-Consumer-Custom-ID"), c->custom_id);
    sb_auth_header(x, SB_STR("X-Consumer-Username"), c->username);
    sb_auth_header(x, SB_STR("X-Credential-Identifier"), identifier);
    sb_auth_header(x, SB_STR("X-Anonymous-Consumer"), credential ? SB_STR("") : SB_STR("true"));
    sb_exchange_authenticate(x, consumer, credential);
}

enum sb_rc sb_auth_consumer(struct sb_exchange *x, const struct sb_found *found,
                            struct sb_auth_result *result)
{
    const struct sb_found *consumer;
    enum sb_rc rc = sb_credential_find(x, SB_CONSUMER_BY_ID, found->consumer_id, &consumer);

    if (rc)
        return rc;
    result->consumer = consumer->consumer;
    result->credential = found->credential;
    return SB_OK;
}

enum sb_rc sb_auth_consumer_named(struct sb_exchange *x, struct sb_str name,
                                  const struct sb_consumer **out)
{
    const struct sb_found *found;
    enum sb_rc rc = SB_NOTFOUND;
    struct sb_uuid id;

    if (sb_uuid_parse(name, &id))
        rc = sb_credential_find(x, SB_CONSUMER_BY_ID, name, &found);
    if (rc == SB_NOTFOUND)
        rc = sb_credential_find(x, SB_CONSUMER_BY_USERNAME, name, &found);
    if (!rc)
        *out = found->consumer;
    return rc;
}

/* -- answers ------------------------------------------------------------------------------------
 */

static enum sb_rc refuse(struct sb_exchange *x, const struct sb_auth_result *result)
{
    if (result->json.p)
        sb_exchange_answer(x, result->status, SB_STR("application/json; charset=utf-8"),
                           result->json, NULL, 0);
    else if (result->exit)
        sb_exchange_answer_message(x, result->status, result->message);
    else
        sb_exchange_answer_error(x, result->status, result->message);
    if (result->challenge.p)
        sb_exchange_set_response_header(x, SB_STR("WWW-Authenticate"), result->challenge);
    return SB_OK;
}

/* What a look-up that found nothing out means. */
static enum sb_rc fail(struct sb_exchange *x, enum sb_rc rc)
{
    if (rc == SB_AGAIN || rc == SB_IO || rc == SB_INVALID)
        return rc;
    sb_exchange_answer_error(x, rc == SB_UNAVAILABLE ? 503 : 500, SB_STR(""));
    return SB_OK;
}

static enum sb_rc as_anonymous(struct sb_exchange *x, const struct sb_auth_config *config)
{
    const struct sb_consumer *consumer;
    enum sb_rc rc = sb_auth_consumer_named(x, config->anonymous, &consumer);

    if (rc == SB_NOTFOUND)
        sb_error("anonymous consumer '%.*s' does not exist", SB_ARG(config->anonymous));
    if (rc)
        return fail(x, rc);
    sb_auth_identify(x, consumer, NULL, (struct sb_str){0});
    return SB_OK;
}

enum sb_rc sb_auth_access(struct sb_exchange *x, const void *config, sb_authenticate authenticate)
{
    const struct sb_auth_config *c = config;
    struct sb_auth_result result = {.status = 401, .challenge = c->challenge};
    enum sb_rc rc;

    if (c->skip_preflight && sb_str_is(sb_exchange_method(x), "OPTIONS"))
        return SB_OK;
    if (c->anonymous.len && sb_exchange_credential(x))
        return SB_OK;
    rc = authenticate(x, config, &result);
    if (rc == SB_OK)
        sb_auth_identify(x, result.consumer, result.credential, result.identifier);
    else if (rc == SB_DENIED && c->anonymous.len && !result.final)
        rc = as_anonymous(x, c);
    else if (rc == SB_DENIED)
        rc = refuse(x, &result);
    else
        rc = fail(x, rc);
    return rc;
}
