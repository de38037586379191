/* basic_auth.c - user and password (reference/plugins-auth.md).
 *
 * Proxy-Authorization is tried first, and counts when it names a known user: its password is then
 * not given a second chance. Stored passwords are hex(SHA1(password . consumer id)).
 */
#include "dataplane/plugins/auth/auth.h"
#include "dataplane/plugins/auth/auth_text.h"
#include "dataplane/plugins/bundled.h"
#include "shared/digest.h"

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct sb_auth_config *c = SB_NEW(in->arena, struct sb_auth_config);

    (void)err;
    sb_auth_compile(in, "Basic", c);
    *out = c;
    return SB_OK;
}

/* The credential that a header names, and the password that came with it. */
static enum sb_rc find(struct sb_exchange *x, const struct sb_auth_config *c, struct sb_str header,
                       const struct sb_found **found, struct sb_str *password)
{
    struct sb_str value = sb_exchange_header(x, header), user;

    if (!value.p)
        return SB_NOTFOUND;
    if (c->hide_credentials)
        sb_exchange_set_upstream_header(x, header, (struct sb_str){0});
    if (!sb_auth_basic(sb_exchange_arena(x), value, &user, password))
        return SB_NOTFOUND;
    return sb_credential_find(x, SB_BASICAUTH_BY_USERNAME, user, found);
}

static bool password_fits(struct sb_exchange *x, const struct sb_found *found,
                          struct sb_str password)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_str id = found->consumer_id;
    char *salted = sb_arena_alloc(a, password.len + id.len);
    uint8_t hash[SB_SHA1_LEN];

    memcpy(salted, password.p, password.len);
    memcpy(salted + password.len, id.p, id.len);
    sb_sha1(sb_str_n(salted, password.len + id.len), hash);
    return sb_secret_eq(sb_hex(a, hash, sizeof hash), sb_value_str_at(found->value, "password"));
}

static enum sb_rc authenticate(struct sb_exchange *x, const void *config,
                               struct sb_auth_result *result)
{
    const struct sb_found *found;
    struct sb_str password;
    enum sb_rc rc;

    rc = find(x, config, SB_STR("Proxy-Authorization"), &found, &password);
    if (rc == SB_NOTFOUND)
        rc = find(x, config, SB_STR("Authorization"), &found, &password);
    if (rc)
        return rc == SB_NOTFOUND ? SB_DENIED : rc;
    if (!password_fits(x, found, password))
        return SB_DENIED;
    result->identifier = sb_value_str_at(found->value, "username");
    return sb_auth_consumer(x, found, result);
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    return sb_auth_access(x, config, authenticate);
}

const struct sb_plugin sb_plugin_basic_auth = {
    .name = "basic-auth",
    .priority = 1100,
    .compile = compile,
    .access = access,
};
