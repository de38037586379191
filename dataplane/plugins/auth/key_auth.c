/* key_auth.c - a key in a header, the query or the body (reference/plugins-auth.md).
 *
 * The first name that brings a text decides, whether that key is good or not. A name is hidden
 * before its key is looked up, so a wrong one does not reach the upstream either.
 */
#include "dataplane/plugins/auth/auth.h"
#include "dataplane/plugins/auth/auth_body.h"
#include "dataplane/plugins/bundled.h"

struct config {
    struct sb_auth_config auth;
    bool in_header, in_query, in_body;
    struct sb_str *names, *hyphened; /* of headers: where a name has an underscore, else p NULL */
    size_t nnames;
};

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    const struct sb_value *names = sb_get(in->config, "key_names"), *name;

    (void)err;
    sb_auth_compile(in, "Key", &c->auth);
    c->in_header = sb_value_bool_at(in->config, "key_in_header", true);
    c->in_query = sb_value_bool_at(in->config, "key_in_query", true);
    c->in_body = sb_value_bool_at(in->config, "key_in_body", false);
    c->names = SB_NEW_N(in->arena, struct sb_str, names ? names->count : 0);
    c->hyphened = SB_NEW_N(in->arena, struct sb_str, names ? names->count : 0);
    sb_array_each (name, names) {
        if (sb_str_chr(name->s, '_', 0) >= 0)
            c->hyphened[c->nnames] = sb_auth_hyphens(in->arena, name->s);
        c->names[c->nnames++] = sb_arena_str(in->arena, name->s);
    }
    *out = c;
    return SB_OK;
}

struct header_search {
    struct sb_str name, value;
    enum sb_auth_field found;
};

static bool search_header(void *arg, struct sb_str name, struct sb_str value)
{
    struct header_search *s = arg;

    if (!sb_str_ieq(name, s->name))
        return true;
    s->found = s->found == SB_FIELD_ABSENT ? SB_FIELD_TEXT : SB_FIELD_REPEATED;
    s->value = value;
    return s->found != SB_FIELD_REPEATED;
}

static enum sb_auth_field find_header(struct sb_exchange *x, struct sb_str name, struct sb_str *key)
{
    struct header_search s = {.name = name};

    sb_exchange_each_header(x, search_header, &s);
    *key = s.value;
    return s.found;
}

/* In the first place that has anything of that name. */
static enum sb_auth_field find(struct sb_exchange *x, const struct config *c,
                               const struct sb_auth_body *body, size_t i, struct sb_str *key)
{
    struct sb_str name = c->names[i];
    enum sb_auth_field found = SB_FIELD_ABSENT;
    struct sb_arena *a;

    if (c->in_header)
        found = find_header(x, name, key);
    if (c->in_header && found == SB_FIELD_ABSENT && c->hyphened[i].p)
        found = find_header(x, c->hyphened[i], key);
    if (found != SB_FIELD_ABSENT || (!c->in_query && !c->in_body))
        return found;
    a = sb_exchange_arena(x);
    if (c->in_query)
        found = sb_auth_query_find(a, sb_exchange_query(x), name, key);
    if (found == SB_FIELD_ABSENT && c->in_body)
        found = sb_auth_body_find(a, body, name, key);
    return found;
}

static void hide(struct sb_exchange *x, const struct config *c, const struct sb_auth_body *body,
                 size_t i)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_str name = c->names[i], query = sb_exchange_upstream_query(x), text;

    sb_exchange_set_upstream_header(x, name, (struct sb_str){0});
    if (c->hyphened[i].p)
        sb_exchange_set_upstream_header(x, c->hyphened[i], (struct sb_str){0});
    if (query.len)
        sb_exchange_set_upstream_query(x, sb_auth_query_without(a, query, name));
    if (!c->in_body || !body->text.len)
        return;
    text = sb_auth_body_without(a, body, name);
    if (text.p != body->text.p)
        sb_exchange_set_upstream_body(x, text);
}

static enum sb_rc authenticate(struct sb_exchange *x, const void *config,
                               struct sb_auth_result *result)
{
    const struct config *c = config;
    struct sb_auth_body body = {.text = SB_STR("")};
    enum sb_auth_field found = SB_FIELD_ABSENT;
    const struct sb_found *credential;
    struct sb_str key = {0};
    enum sb_rc rc;

    if (c->in_body && (rc = sb_auth_body_get(x, c->auth.body_max, &body)))
        return rc;
    for (size_t i = 0; i < c->nnames && found != SB_FIELD_TEXT; i++) {
        found = find(x, c, &body, i, &key);
        if (found == SB_FIELD_REPEATED) {
            result->message = SB_STR("Duplicate API key found");
            return SB_DENIED;
        }
        if (found == SB_FIELD_TEXT && c->auth.hide_credentials)
            hide(x, c, &body, i);
    }
    if (found != SB_FIELD_TEXT || !key.len) {
        result->message = SB_STR("No API key found in request");
        return SB_DENIED;
    }
    rc = sb_credential_find(x, SB_KEYAUTH_BY_KEY, key, &credential);
    if (rc)
        return rc == SB_NOTFOUND ? SB_DENIED : rc;
    result->identifier = credential->id;
    return sb_auth_consumer(x, credential, result);
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    return sb_auth_access(x, config, authenticate);
}

const struct sb_plugin sb_plugin_key_auth = {
    .name = "key-auth",
    .priority = 1250,
    .compile = compile,
    .access = access,
};
