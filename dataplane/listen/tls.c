#include "dataplane/listen/tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "dataplane/http/client.h"
#include "dataplane/listen/tls_files.h"
#include "dataplane/listen/tls_stapling.h"
#include "dataplane/listen/tls_tickets.h"
#include "dataplane/listen/tls_verify.h"
#include "dataplane/listen/worker.h"
#include "shared/buf.h"
#include "shared/log.h"
#include "shared/settings.h"

#define INTERMEDIATE                                                                               \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"     \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"       \
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"

enum { SESSION_LEN = 1024 }; /* what a cached session takes, about */
enum { TICKET_KEY_LEN_MAX = 4096 };

struct sb_tls {
    SSL_CTX *ctx;
    bool http2;
    enum sb_tls_wants wants;
    struct sb_tls_tickets *tickets;
    struct sb_tls_stapling *stapling; /* NULL: off */
};

/* -- suites -- */

static const struct suite {
    const char *name;
    int min, max;
    const char *ciphers;
    const char *dh; /* group or parameters; NULL: none */
    bool prefer_server;
} suites[] = {
    {"modern", TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL, false},
    {"intermediate", TLS1_2_VERSION, TLS1_3_VERSION, INTERMEDIATE, "ffdhe2048", false},
    {"old", TLS1_VERSION, TLS1_3_VERSION,
     INTERMEDIATE ":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:"
                  "ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:"
                  "ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:DHE-RSA-AES128-SHA256:"
                  "DHE-RSA-AES256-SHA256:AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:"
                  "AES256-SHA256:AES128-SHA:AES256-SHA:DES-CBC3-SHA:@SECLEVEL=0",
     NULL, true},
    {"fips", TLS1_2_VERSION, TLS1_2_VERSION, "TLSv1.2+FIPS:kRSA+FIPS:!eNULL:!aNULL", NULL, true},
};

/* ssl_cipher_suite=custom: from ssl_protocols, ssl_ciphers, ssl_prefer_server_ciphers. */
static enum sb_rc custom_suite(const struct sb_settings *s, struct suite *suite, struct sb_err *err)
{
    const char *protocols = sb_settings_str(s, "ssl_protocols");
    struct sb_str bad;

    *suite = (struct suite){.name = "custom",
                            .ciphers = sb_settings_str(s, "ssl_ciphers"),
                            .prefer_server = sb_settings_bool(s, "ssl_prefer_server_ciphers")};
    if (!sb_tls_versions(sb_str_c(protocols ? protocols : "TLSv1.2 TLSv1.3"), &suite->min,
                         &suite->max, &bad))
        return sb_err_set(err, SB_INVALID, "ssl_protocols: invalid value \"%.*s\"", SB_ARG(bad));
    return SB_OK;
}

/* dh: only `old` and `custom` ask the settings for it. */
static enum sb_rc find_suite(const struct sb_settings *s, struct suite *suite, struct sb_err *err)
{
    const char *name = sb_settings_str(s, "ssl_cipher_suite");
    enum sb_rc rc = SB_OK;
    size_t i = 0;

    if (!name)
        name = "intermediate";
    if (strcmp(name, "custom") == 0) {
        rc = custom_suite(s, suite, err);
    } else {
        while (i < sizeof suites / sizeof *suites && strcmp(name, suites[i].name) != 0)
            i++;
        if (i == sizeof suites / sizeof *suites)
            return sb_err_set(err, SB_INVALID, "Undefined cipher suite %s", name);
        *suite = suites[i];
    }
    if (!rc && (strcmp(name, "custom") == 0 || strcmp(name, "old") == 0))
        suite->dh = sb_settings_str(s, "ssl_dhparam");
    return rc;
}

static enum sb_rc set_suite(SSL_CTX *ctx, const struct sb_settings *s, struct sb_err *err)
{
    struct suite suite = {0};
    enum sb_rc rc = find_suite(s, &suite, err);

    if (rc)
        return rc;
    SSL_CTX_set_min_proto_version(ctx, suite.min);
    SSL_CTX_set_max_proto_version(ctx, suite.max);
    if (suite.ciphers && !SSL_CTX_set_cipher_list(ctx, suite.ciphers)) {
        ERR_clear_error();
        return sb_err_set(err, SB_INVALID, "ssl_ciphers: no cipher can be used of %s",
                          suite.ciphers);
    }
    if (suite.prefer_server)
        SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    return suite.dh ? sb_tls_set_dh(ctx, s, suite.dh, err) : SB_OK;
}

/* nginx's ssl_ecdh_curve; and ssl_conf_command, "Name value" of SSL_CONF_cmd(3). */
static enum sb_rc set_injected(SSL_CTX *ctx, const struct sb_settings *s, struct sb_err *err)
{
    const char *curves = sb_tls_directive(s, "proxy", "ssl_ecdh_curve");
    const char *command = sb_tls_directive(s, "proxy", "ssl_conf_command");
    char name[64] = "";
    SSL_CONF_CTX *conf;
    int n = 0, done;

    if (curves && strcmp(curves, "auto") != 0 && SSL_CTX_set1_curves_list(ctx, curves) != 1)
        return sb_err_set(err, SB_INVALID, "ssl_ecdh_curve: unknown curves in %s", curves);
    if (!command)
        return SB_OK;
    conf = SSL_CONF_CTX_new();
    SSL_CONF_CTX_set_flags(conf, SSL_CONF_FLAG_FILE | SSL_CONF_FLAG_SERVER);
    SSL_CONF_CTX_set_ssl_ctx(conf, ctx);
    done = sscanf(command, "%63s %n", name, &n) == 1 ? SSL_CONF_cmd(conf, name, command + n) : 0;
    SSL_CONF_CTX_free(conf);
    ERR_clear_error();
    if (done > 0)
        return SB_OK;
    return sb_err_set(err, SB_INVALID, "ssl_conf_command: cannot be done: %s", command);
}

/* -- handshakes -- */

static bool use_certificate(SSL *ssl, const struct sb_certificate *c)
{
    SSL_certs_clear(ssl);
    if (!SSL_use_cert_and_key(ssl, c->cert, c->key, c->chain, 1))
        return false;
    return !c->cert_alt || SSL_use_cert_and_key(ssl, c->cert_alt, c->key_alt, c->chain_alt, 1);
}

/* The snapshot of this moment may go before the handshake ends: OpenSSL counts what it uses. */
static int choose_certificate(SSL *ssl, void *arg)
{
    struct sb_client *c = SSL_get_app_data(ssl);
    const char *text = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const struct sb_certificate *cert;
    char lower[256];
    struct sb_str name = sb_str_c(text);

    (void)arg;
    if (!text || name.len >= sizeof lower || !c->w->hold->snap->snis)
        return 1;
    for (size_t i = 0; i < name.len; i++)
        lower[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] | 0x20) : text[i];
    name.p = lower;
    cert = sb_snapshot_certificate(c->w->hold->snap, name);
    if (!cert || !cert->cert || use_certificate(ssl, cert))
        return 1;
    sb_error("certificate %.*s for %s: %s", SB_ARG(cert->id), text,
             ERR_reason_error_string(ERR_get_error()));
    ERR_clear_error();
    return 0;
}

/* h2 first: OpenSSL takes the first of ours that the client has, too. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char offers[] = "\x02h2\x08http/1.1";
    const struct sb_tls *t = arg;
    const unsigned char *offer = t->http2 ? offers : offers + 3;
    unsigned len = sizeof offers - 1 - (t->http2 ? 0 : 3);
    union {
        const unsigned char **in;
        unsigned char **out;
    } chosen = {.in = out};

    (void)ssl;
    if (SSL_select_next_proto(chosen.out, out_len, offer, len, in, in_len) ==
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_OK;
    return SSL_TLSEXT_ERR_NOACK;
}

bool sb_tls_chose_h2(const SSL *ssl)
{
    const unsigned char *name;
    unsigned len;

    SSL_get0_alpn_selected(ssl, &name, &len);
    return len == 2 && memcmp(name, "h2", 2) == 0;
}

static int accept_name(SSL *ssl, int *alert, void *arg)
{
    (void)alert;
    (void)arg;
    return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) ? SSL_TLSEXT_ERR_OK
                                                              : SSL_TLSEXT_ERR_NOACK;
}

static bool read_file(const struct sb_settings *s, const char *path, struct sb_buf *out)
{
    struct sb_arena *a = sb_arena_new(0);
    bool ok = sb_buf_read_file(out, sb_settings_path(s, a, path).p);

    sb_arena_free(a);
    return ok;
}

/* The cache serves who takes no tickets, or gets none. It forgets its oldest when it is full;
 * walking it for what expired would hold up a worker. */
static enum sb_rc set_sessions(struct sb_tls *t, const struct sb_settings *s, struct sb_err *err)
{
    int64_t timeout_s = sb_settings_time_ms(s, "ssl_session_timeout", 86400000) / 1000;
    int64_t cache_len = sb_settings_size(s, "ssl_session_cache_size", 10 << 20);
    const char *path = sb_tls_directive(s, "proxy", "ssl_session_ticket_key");
    struct sb_str key = {0};
    struct sb_buf file;

    SSL_CTX_set_session_id_context(t->ctx, (const unsigned char *)"silverback", 10);
    SSL_CTX_set_timeout(t->ctx, (long)timeout_s);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_AUTO_CLEAR);
    SSL_CTX_sess_set_cache_size(t->ctx, cache_len > SESSION_LEN ? (long)(cache_len / SESSION_LEN)
                                                                : 1); /* 0: no limit */
    SSL_CTX_set_num_tickets(t->ctx, 1);
    if (!sb_settings_bool(s, "ssl_session_tickets"))
        SSL_CTX_set_options(t->ctx, SSL_OP_NO_TICKET);
    sb_buf_init(&file, TICKET_KEY_LEN_MAX);
    if (path)
        key = read_file(s, path, &file) ? sb_buf_get(&file) : SB_STR("");
    t->tickets = sb_tls_tickets_new(t->ctx, timeout_s, key);
    sb_buf_release(&file);
    return t->tickets
               ? SB_OK
               : sb_err_set(err, SB_INVALID,
                            "ssl_session_ticket_key: %s must be a file of 48 or 80 bytes", path);
}

enum sb_rc sb_tls_new(const struct sb_settings *settings, bool http2, struct sb_tls **out,
                      struct sb_err *err)
{
    struct sb_tls *t = sb_xcalloc(1, sizeof *t);
    enum sb_rc rc;

    t->http2 = http2;
    t->ctx = SSL_CTX_new(TLS_server_method());
    sb_assert(t->ctx);
    rc = set_suite(t->ctx, settings, err);
    if (!rc)
        rc = set_injected(t->ctx, settings, err);
    if (!rc)
        rc = sb_tls_set_default_pairs(t->ctx, settings, err);
    if (!rc)
        rc = sb_tls_verify_setup(t->ctx, settings, "proxy", &t->wants, err);
    if (!rc)
        rc = sb_tls_stapling_new(t->ctx, settings, &t->stapling, err);
    if (!rc)
        rc = set_sessions(t, settings, err);
    if (rc) {
        sb_tls_free(t);
        return rc;
    }
    SSL_CTX_set_cert_cb(t->ctx, choose_certificate, NULL);
    SSL_CTX_set_tlsext_servername_callback(t->ctx, accept_name);
    SSL_CTX_set_alpn_select_cb(t->ctx, choose_protocol, t);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    *out = t;
    return SB_OK;
}

void sb_tls_free(struct sb_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->ctx);
    sb_tls_tickets_free(tls->tickets);
    sb_tls_stapling_free(tls->stapling);
    free(tls);
}

const char *sb_tls_refusal(const struct sb_tls *tls, const SSL *ssl)
{
    return sb_tls_verify_refusal(ssl, tls->wants);
}

SSL *sb_tls_accept(struct sb_tls *tls, struct sb_client *c)
{
    SSL *ssl = SSL_new(tls->ctx);

    if (!ssl)
        return NULL;
    SSL_set_app_data(ssl, c);
    SSL_set_accept_state(ssl);
    return ssl;
}
