/* ldap_auth.c - a directory says whether name and password are right (reference/plugins-auth.md).
 *
 * What it said is remembered for cache_ttl, yes and no alike, by a digest of all that was asked, so
 * that no password is kept. Each worker remembers for itself, at most so many; requests that ask
 * the same thing at the same time share one bind (ldap_bind.h).
 *
 *     request --> answers known? --> yes, no
 *                    | no: one asks, all wait (SB_AGAIN)
 *                    +--> bind --> answer --> all that waited go on
 *
 * Other than with Kong the user's name can't break out of its place in the DN: it is escaped.
 */
#include <stdlib.h>

#include "dataplane/plugins/auth/auth.h"
#include "dataplane/plugins/auth/auth_text.h"
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/auth/ldap_bind.h"
#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/map.h"
#include "shared/settings.h"

enum { KEY_LEN = 2 * SB_SHA256_LEN, ANSWERS_MAX = 10000 };

struct config {
    struct sb_auth_config auth;
    struct sb_ldap_server server;
    struct sb_str header_type, base_dn, attribute;
    struct sb_str salt; /* what the answer depends on beside name and password */
    int64_t cache_ttl_ms;
};

/* -- config -------------------------------------------------------------------------------------
 */

static struct sb_str lower(struct sb_arena *a, struct sb_str s)
{
    char *out = sb_arena_cstr(a, s);

    for (size_t i = 0; i < s.len; i++)
        if (out[i] >= 'A' && out[i] <= 'Z')
            out[i] |= 0x20;
    return sb_str_n(out, s.len);
}

static struct sb_str ca_file_of(const struct sb_plugin_source *in)
{
    size_t n = 0;
    const struct sb_str *list = sb_settings_list(in->settings, "lua_ssl_trusted_certificate", &n);

    for (size_t i = 0; i < n; i++)
        if (!sb_str_is(list[i], "system"))
            return sb_arena_str(in->arena, list[i]);
    return SB_STR("");
}

static void server_of(const struct sb_plugin_source *in, struct sb_ldap_server *out)
{
    const struct sb_value *v = in->config;
    struct sb_str host = sb_value_str_at(v, "ldap_host");
    bool v6 = sb_str_chr(host, ':', 0) >= 0 && host.p[0] != '[';

    out->uri = sb_arena_printf(in->arena, "%s://%s%.*s%s:%lld",
                               sb_value_bool_at(v, "ldaps", false) ? "ldaps" : "ldap",
                               v6 ? "[" : "", SB_ARG(host), v6 ? "]" : "",
                               (long long)sb_value_int_at(v, "ldap_port", 389));
    out->start_tls = sb_value_bool_at(v, "start_tls", false);
    out->verify = sb_value_bool_at(v, "verify_ldap_host", false);
    out->ca_file = ca_file_of(in);
    out->timeout_ms = (int)sb_value_int_at(v, "timeout", 10000);
    out->keepalive_ms = (int)sb_value_int_at(v, "keepalive", 60000);
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    struct sb_str type = sb_value_str_at(in->config, "header_type");
    int64_t ttl_s = sb_value_int_at(in->config, "cache_ttl", 60);

    (void)err;
    c->header_type = sb_arena_str(in->arena, type.len ? type : SB_STR("ldap"));
    sb_auth_compile(in, sb_str_is(c->header_type, "ldap") ? "LDAP" : c->header_type.p, &c->auth);
    server_of(in, &c->server);
    c->base_dn = sb_arena_str(in->arena, sb_value_str_at(in->config, "base_dn"));
    c->attribute = sb_arena_str(in->arena, sb_value_str_at(in->config, "attribute"));
    c->cache_ttl_ms = ttl_s * 1000;
    c->salt = sb_arena_printf(in->arena, "%.*s:%lld:%.*s:%.*s:%lld:",
                              SB_ARG(lower(in->arena, sb_value_str_at(in->config, "ldap_host"))),
                              (long long)sb_value_int_at(in->config, "ldap_port", 389),
                              SB_ARG(c->base_dn), SB_ARG(c->attribute), (long long)ttl_s);
    *out = c;
    return SB_OK;
}

/* -- what is known ------------------------------------------------------------------------------
 */

struct answer;

/* An exchange that waits; in its own memory. */
struct waiter {
    struct waiter *next, **link; /* link NULL: it does not wait */
    struct sb_exchange *x;
    bool has_rc; /* this is the answer, however short it is remembered */
    enum sb_rc rc;
};

struct answer {
    struct answer *newer; /* in the order they came in */
    char key[KEY_LEN];
    bool pending;
    enum sb_rc rc;
    int64_t until_ms, ttl_ms;
    struct waiter *waiters;
    struct directory *directory;
};

/* A worker's. */
struct directory {
    struct sb_ldap_binder *binder;
    struct sb_map answers;
    struct answer *oldest, *newest;
    size_t count;
};

static void *directory_new(struct event_base *loop, const struct sb_settings *settings)
{
    struct directory *d = sb_xcalloc(1, sizeof *d);

    (void)settings;
    d->binder = sb_ldap_binder_new(loop);
    return d;
}

/* The oldest goes; one that is still asked for stays, behind the others. */
static void forget_oldest(struct directory *d)
{
    struct answer *a = d->oldest;

    d->oldest = a->newer;
    a->newer = NULL;
    if (!d->oldest)
        d->newest = NULL;
    if (a->pending) {
        *(d->newest ? &d->newest->newer : &d->oldest) = a;
        d->newest = a;
        return;
    }
    sb_map_remove(&d->answers, sb_str_n(a->key, KEY_LEN));
    d->count--;
    free(a);
}

static void directory_free(void *state)
{
    struct directory *d = state;
    struct answer *a;

    sb_ldap_binder_free(d->binder);
    while ((a = d->oldest)) {
        d->oldest = a->newer;
        free(a);
    }
    sb_map_release(&d->answers);
    free(d);
}

static struct answer *remember(struct directory *d, struct sb_str key)
{
    struct answer *a = sb_xcalloc(1, sizeof *a);

    for (size_t tries = d->count; d->count >= ANSWERS_MAX && tries--;)
        forget_oldest(d);
    memcpy(a->key, key.p, KEY_LEN);
    a->directory = d;
    *(d->newest ? &d->newest->newer : &d->oldest) = a;
    d->newest = a;
    d->count++;
    sb_map_set(&d->answers, sb_str_n(a->key, KEY_LEN), a);
    return a;
}

/* -- asking -------------------------------------------------------------------------------------
 */

static void stop_waiting(void *arg)
{
    struct waiter *w = arg;

    if (!w->link)
        return;
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->link = NULL;
}

static void wait_for(struct answer *a, struct waiter *w)
{
    w->next = a->waiters;
    w->link = &a->waiters;
    if (w->next)
        w->next->link = &w->next;
    a->waiters = w;
}

static void on_answer(void *arg, enum sb_rc rc)
{
    struct answer *a = arg;
    struct waiter *w;

    a->pending = false;
    a->rc = rc;
    a->until_ms = rc == SB_UNAVAILABLE ? 0 : sb_clock_ms() + a->ttl_ms;
    while ((w = a->waiters)) {
        stop_waiting(w);
        w->has_rc = true;
        w->rc = rc;
        sb_exchange_resume_again(w->x);
    }
}

static struct sb_str key_of(struct sb_exchange *x, const struct config *c, struct sb_str user,
                            struct sb_str password)
{
    struct sb_arena *a = sb_exchange_arena(x);
    size_t len = c->salt.len + user.len + 1 + password.len;
    char *text = sb_arena_alloc(a, len);
    uint8_t digest[SB_SHA256_LEN];

    memcpy(text, c->salt.p, c->salt.len);
    memcpy(text + c->salt.len, user.p, user.len);
    text[c->salt.len + user.len] = ':';
    memcpy(text + c->salt.len + user.len + 1, password.p, password.len);
    sb_sha256(sb_str_n(text, len), digest);
    return sb_hex(a, digest, sizeof digest);
}

/* SB_OK, SB_DENIED, SB_AGAIN, SB_UNAVAILABLE, SB_TOOLARGE. */
static enum sb_rc ask(struct sb_exchange *x, const struct config *c, struct waiter *w,
                      struct sb_str key, struct sb_str user, struct sb_str password)
{
    struct directory *d = sb_exchange_worker_state(x, &sb_plugin_ldap_auth);
    struct sb_arena *arena = sb_exchange_arena(x);
    struct answer *a = sb_map_get(&d->answers, key);
    struct sb_str dn;
    enum sb_rc rc;

    if (w->has_rc)
        return w->rc;
    if (a && !a->pending && a->until_ms > sb_clock_ms())
        return a->rc;
    if (!a || !a->pending) {
        a = a ? a : remember(d, key);
        dn = sb_arena_printf(arena, "%.*s=%.*s,%.*s", SB_ARG(c->attribute),
                             SB_ARG(sb_ldap_escape(arena, user)), SB_ARG(c->base_dn));
        a->ttl_ms = c->cache_ttl_ms;
        rc = sb_ldap_bind(d->binder, &c->server, dn, password, on_answer, a);
        if (rc)
            return rc;
        a->pending = true;
    }
    if (!w->x)
        sb_arena_defer(arena, stop_waiting, w);
    w->x = x;
    wait_for(a, w);
    return SB_AGAIN;
}

/* -- the phase ----------------------------------------------------------------------------------
 */

static bool words_of(struct sb_exchange *x, const struct config *c, struct sb_str header,
                     struct sb_str *user, struct sb_str *password)
{
    struct sb_str value = sb_exchange_header(x, header);

    return value.p && sb_auth_scheme(sb_exchange_arena(x), value, c->header_type, user, password) &&
           !memchr(user->p, '\0', user->len);
}

/* Who the header says it is, as far as the directory agrees: SB_DENIED, too, where it says nothing.
 */
static enum sb_rc try_header(struct sb_exchange *x, const struct config *c, struct waiter *w,
                             struct sb_str header, struct sb_auth_result *result)
{
    struct sb_credential *credential;
    struct sb_str user, password, key;
    enum sb_rc rc;

    if (!words_of(x, c, header, &user, &password))
        return SB_DENIED;
    key = key_of(x, c, user, password);
    rc = ask(x, c, w, key, user, password);
    if (rc) /* the directory is away: Kong's 500; too many ask: 503 */
        return rc == SB_UNAVAILABLE ? SB_TIMEOUT : rc == SB_TOOLARGE ? SB_UNAVAILABLE : rc;
    credential = SB_NEW(sb_exchange_arena(x), struct sb_credential);
    credential->id = sb_arena_printf(sb_exchange_arena(x), "ldap_auth_cache:%.*s", SB_ARG(key));
    credential->kind = "ldap_auth";
    result->credential = credential;
    result->identifier = user;
    return SB_OK;
}

static enum sb_rc authenticate(struct sb_exchange *x, const void *config,
                               struct sb_auth_result *result)
{
    static const struct sb_str headers[] = {SB_STR_INIT("Proxy-Authorization"),
                                            SB_STR_INIT("Authorization")};
    const struct config *c = config;
    struct waiter *waiters = sb_exchange_state(x, c, 2 * sizeof *waiters);
    enum sb_rc rc = SB_DENIED;

    for (int i = 0; i < 2 && rc == SB_DENIED; i++)
        rc = try_header(x, c, &waiters[i], headers[i], result);
    if (!rc && c->auth.hide_credentials)
        for (int i = 0; i < 2; i++)
            sb_exchange_set_upstream_header(x, headers[i], (struct sb_str){0});
    return rc;
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    return sb_auth_access(x, config, authenticate);
}

const struct sb_plugin sb_plugin_ldap_auth = {
    .name = "ldap-auth",
    .priority = 1200,
    .compile = compile,
    .access = access,
    .worker_new = directory_new,
    .worker_free = directory_free,
};
