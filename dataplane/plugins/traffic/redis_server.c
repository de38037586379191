/* redis_server.c - from a config's `redis` record to a server that can be connected to. */
#include <openssl/err.h>
#include <openssl/pem.h>

#include "dataplane/listen/tls_files.h"
#include "dataplane/plugins/plugin.h"
#include "dataplane/plugins/traffic/redis.h"
#include "shared/digest.h"
#include "shared/settings.h"

static void free_context(void *ctx)
{
    SSL_CTX_free(ctx);
}

static enum sb_rc trust_pem(SSL_CTX *ctx, struct sb_str pem, struct sb_err *err)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.len);
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    size_t n = 0;
    X509 *cert;

    while ((cert = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL))) {
        X509_STORE_add_cert(store, cert);
        X509_free(cert);
        n++;
    }
    BIO_free(bio);
    ERR_clear_error();
    return n ? SB_OK
             : sb_err_set(err, SB_INVALID, "lua_ssl_trusted_certificate: there is no certificate");
}

static enum sb_rc trust(const struct sb_plugin_source *in, SSL_CTX *ctx, struct sb_err *err)
{
    size_t n = 0;
    const struct sb_str *list = sb_settings_list(in->settings, "lua_ssl_trusted_certificate", &n);
    enum sb_rc rc = SB_OK;
    struct sb_str pem;

    if (n == 0)
        SSL_CTX_set_default_verify_paths(ctx);
    for (size_t i = 0; !rc && i < n; i++) {
        if (sb_str_is(list[i], "system"))
            SSL_CTX_set_default_verify_paths(ctx);
        else if (sb_tls_load_pem(in->settings, in->arena, list[i], &pem))
            rc = trust_pem(ctx, pem, err);
        else
            rc = sb_err_set(err, SB_INVALID, "lua_ssl_trusted_certificate: cannot read %.*s",
                            SB_ARG(list[i]));
    }
    return rc;
}

/* "TLSv1.2 TLSv1.3": the lowest and the highest of them. */
static void set_protocols(SSL_CTX *ctx, struct sb_str text)
{
    static const char *const names[] = {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"};
    int lowest = 0, highest = 0;
    struct sb_str word;

    while (sb_str_split(&text, ' ', &word))
        for (int i = 0; i < 4; i++) {
            if (!sb_str_is(word, names[i]))
                continue;
            lowest = !lowest || TLS1_VERSION + i < lowest ? TLS1_VERSION + i : lowest;
            highest = TLS1_VERSION + i > highest ? TLS1_VERSION + i : highest;
        }
    SSL_CTX_set_min_proto_version(ctx, lowest);
    SSL_CTX_set_max_proto_version(ctx, highest);
}

static enum sb_rc make_tls(const struct sb_plugin_source *in, struct sb_redis_server *out,
                           struct sb_err *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (!ctx)
        return sb_err_set(err, SB_IO, "OpenSSL gives no context");
    sb_arena_defer(in->arena, free_context, ctx);
    out->tls = ctx;
    set_protocols(ctx, sb_str_c(sb_settings_str(in->settings, "lua_ssl_protocols")));
    SSL_CTX_set_verify_depth(ctx, (int)sb_settings_int(in->settings, "lua_ssl_verify_depth", 1));
    SSL_CTX_set_verify(ctx, out->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    return out->verify ? trust(in, ctx, err) : SB_OK;
}

/* A password is in it as a digest only. */
static struct sb_str key_of(struct sb_arena *a, const struct sb_redis_server *s)
{
    uint8_t secret[SB_SHA256_LEN];

    sb_sha256(s->password, secret);
    return sb_arena_printf(a, "%.*s:%u;%lld %d %d%d %.*s %.*s %.*s", SB_ARG(s->host), s->port,
                           (long long)s->database, s->timeout_ms, s->tls != NULL, s->verify,
                           SB_ARG(s->name), SB_ARG(s->username),
                           SB_ARG(sb_hex(a, secret, sizeof secret)));
}

enum sb_rc sb_redis_server_compile(const struct sb_plugin_source *in, const struct sb_value *v,
                                   struct sb_redis_server *out, struct sb_err *err)
{
    struct sb_arena *a = in->arena;
    enum sb_rc rc = SB_OK;

    *out = (struct sb_redis_server){
        .host = sb_arena_str(a, sb_value_str_at(v, "host")),
        .port = (uint16_t)sb_value_int_at(v, "port", 6379),
        .timeout_ms = (int)sb_value_int_at(v, "timeout", 2000),
        .username = sb_arena_str(a, sb_value_str_at(v, "username")),
        .password = sb_arena_str(a, sb_value_str_at(v, "password")),
        .database = sb_value_int_at(v, "database", 0),
        .verify = sb_value_bool_at(v, "ssl_verify", false),
        .name = sb_arena_str(a, sb_value_str_at(v, "server_name")),
    };
    if (sb_value_bool_at(v, "ssl", false))
        rc = make_tls(in, out, err);
    out->key = key_of(a, out);
    return rc;
}

void sb_redis_server_copy(struct sb_arena *a, const struct sb_redis_server *from,
                          struct sb_redis_server *to)
{
    struct sb_str *strings[] = {&to->key, &to->host, &to->username, &to->password, &to->name};

    *to = *from;
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        *strings[i] = sb_arena_str(a, *strings[i]);
    if (to->tls)
        SSL_CTX_up_ref(to->tls);
}
