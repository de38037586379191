#include "dataplane/listen/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dataplane/http/client.h"
#include "dataplane/listen/worker.h"
#include "shared/buf.h"
#include "shared/digest.h"
#include "shared/log.h"
#include "shared/settings.h"

#define INTERMEDIATE                                                                               \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"     \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"       \
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"

enum { PEM_MAX = 1 << 20, GENERATED_DAYS = 20 * 365 };

struct sb_tls {
    SSL_CTX *ctx;
    bool http2;
};

/* -- suites -- */

static const struct suite {
    const char *name;
    int min, max;
    const char *ciphers;
    bool prefer_server;
} suites[] = {
    {"modern", TLS1_3_VERSION, TLS1_3_VERSION, NULL, false},
    {"intermediate", TLS1_2_VERSION, TLS1_3_VERSION, INTERMEDIATE, false},
    {"old", TLS1_VERSION, TLS1_3_VERSION,
     INTERMEDIATE ":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:"
                  "ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:"
                  "ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:DHE-RSA-AES128-SHA256:"
                  "DHE-RSA-AES256-SHA256:AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:"
                  "AES256-SHA256:AES128-SHA:AES256-SHA:DES-CBC3-SHA:@SECLEVEL=0",
     true},
    {"fips", TLS1_2_VERSION, TLS1_2_VERSION, "TLSv1.2+FIPS:kRSA+FIPS:!eNULL:!aNULL", true},
};

static const struct {
    const char *name;
    int version;
} versions[] = {
    {"TLSv1", TLS1_VERSION},
    {"TLSv1.1", TLS1_1_VERSION},
    {"TLSv1.2", TLS1_2_VERSION},
    {"TLSv1.3", TLS1_3_VERSION},
};

/* ssl_cipher_suite=custom: from ssl_protocols, ssl_ciphers, ssl_prefer_server_ciphers. */
static struct suite custom_suite(const struct sb_settings *s)
{
    const char *protocols = sb_settings_str(s, "ssl_protocols");
    struct sb_str rest = sb_str_c(protocols ? protocols : "TLSv1.2 TLSv1.3"), word;
    struct suite suite = {.name = "custom",
                          .ciphers = sb_settings_str(s, "ssl_ciphers"),
                          .prefer_server = sb_settings_bool(s, "ssl_prefer_server_ciphers")};

    while (sb_str_split(&rest, ' ', &word))
        for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
            if (!sb_str_is(word, versions[i].name))
                continue;
            if (!suite.min || versions[i].version < suite.min)
                suite.min = versions[i].version;
            if (versions[i].version > suite.max)
                suite.max = versions[i].version;
        }
    return suite;
}

static enum sb_rc set_suite(SSL_CTX *ctx, const struct sb_settings *s, struct sb_err *err)
{
    const char *name = sb_settings_str(s, "ssl_cipher_suite");
    struct suite suite = {0};

    if (!name)
        name = "intermediate";
    if (strcmp(name, "custom") == 0)
        suite = custom_suite(s);
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++)
        if (strcmp(name, suites[i].name) == 0)
            suite = suites[i];
    if (!suite.name)
        return sb_err_set(err, SB_INVALID, "Undefined cipher suite %s", name);
    SSL_CTX_set_min_proto_version(ctx, suite.min);
    SSL_CTX_set_max_proto_version(ctx, suite.max);
    if (suite.ciphers && !SSL_CTX_set_cipher_list(ctx, suite.ciphers))
        return sb_err_set(err, SB_INVALID, "ssl_ciphers: no cipher can be used of %s",
                          suite.ciphers);
    if (suite.prefer_server)
        SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_dh_auto(ctx, 1);
    return SB_OK;
}

/* -- the default certificates -- */

bool sb_tls_load_pem(const struct sb_settings *s, struct sb_arena *a, struct sb_str text,
                     struct sb_str *out)
{
    struct sb_buf file;
    struct sb_str decoded;
    bool ok;

    if (sb_str_starts(sb_str_trim(text), SB_STR("-----BEGIN"))) {
        *out = text;
        return true;
    }
    sb_buf_init(&file, PEM_MAX);
    ok = sb_buf_read_file(&file, sb_settings_path(s, a, sb_arena_cstr(a, text)).p);
    if (ok)
        *out = sb_arena_str(a, sb_buf_get(&file));
    sb_buf_release(&file);
    if (ok)
        return true;
    if (!sb_base64_decode(a, text, &decoded) || sb_str_find(decoded, SB_STR("-----BEGIN"), 0) < 0)
        return false;
    *out = decoded;
    return true;
}

static bool use_chain(SSL_CTX *ctx, struct sb_str pem)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.len);
    X509 *cert = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL), *next;
    bool ok = cert && SSL_CTX_use_certificate(ctx, cert) == 1;

    if (ok)
        SSL_CTX_clear_chain_certs(ctx);
    while (ok && (next = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
        if (!SSL_CTX_add0_chain_cert(ctx, next)) {
            X509_free(next);
            ok = false;
        }
    ERR_clear_error();
    X509_free(cert);
    BIO_free(bio);
    return ok;
}

static bool use_key(SSL_CTX *ctx, struct sb_str pem)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    bool ok = key && SSL_CTX_use_PrivateKey(ctx, key) == 1;

    ERR_clear_error();
    EVP_PKEY_free(key);
    BIO_free(bio);
    return ok;
}

static enum sb_rc use_pair(SSL_CTX *ctx, const struct sb_settings *s, struct sb_str cert,
                           struct sb_str key, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str pem;
    enum sb_rc rc = SB_OK;

    if (!sb_tls_load_pem(s, a, cert, &pem) || !use_chain(ctx, pem))
        rc = sb_err_set(err, SB_INVALID, "ssl_cert: failed loading certificate from %.*s",
                        SB_ARG(cert));
    else if (!sb_tls_load_pem(s, a, key, &pem) || !use_key(ctx, pem))
        rc = sb_err_set(err, SB_INVALID, "ssl_cert_key: failed loading key from %.*s",
                        SB_ARG(key.len > 200 ? SB_STR("the text given") : key));
    sb_arena_free(a);
    return rc;
}

/* -- the self-signed pair -- */

static void name_entry(X509_NAME *name, const char *field, const char *value)
{
    X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, (const unsigned char *)value, -1, -1, 0);
}

static void extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    if (e)
        X509_add_ext(cert, e, -1);
    X509_EXTENSION_free(e);
}

static X509 *self_sign(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    uint64_t serial;

    sb_random(&serial, sizeof serial);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_time_adj_ex(X509_getm_notAfter(cert), GENERATED_DAYS, 0, NULL);
    name_entry(name, "C", "US");
    name_entry(name, "ST", "California");
    name_entry(name, "L", "San Francisco");
    name_entry(name, "O", "Kong");
    name_entry(name, "OU", "IT Department");
    name_entry(name, "CN", "localhost");
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    extension(cert, NID_basic_constraints, "CA:FALSE");
    extension(cert, NID_ext_key_usage, "serverAuth,clientAuth");
    if (X509_sign(cert, key, EVP_sha256()))
        return cert;
    X509_free(cert);
    return NULL;
}

static FILE *create(const char *path, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    return fd < 0 ? NULL : fdopen(fd, "w");
}

static bool generate(EVP_PKEY *key, const char *cert_path, const char *key_path)
{
    X509 *cert = key ? self_sign(key) : NULL;
    FILE *f = cert ? create(key_path, 0600) : NULL;
    bool ok = f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);

    if (f)
        ok = fclose(f) == 0 && ok;
    f = ok ? create(cert_path, 0644) : NULL;
    ok = f && PEM_write_X509(f, cert);
    if (f)
        ok = fclose(f) == 0 && ok;
    X509_free(cert);
    EVP_PKEY_free(key);
    return ok;
}

static enum sb_rc use_generated(SSL_CTX *ctx, const struct sb_settings *s, const char *suffix,
                                bool ecdsa, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str dir = sb_settings_path(s, a, "ssl");
    struct sb_str cert = sb_arena_printf(a, "%s/kong-default%s.crt", dir.p, suffix);
    struct sb_str key = sb_arena_printf(a, "%s/kong-default%s.key", dir.p, suffix);
    enum sb_rc rc = SB_OK;

    mkdir(sb_settings_path(s, a, "").p, 0755);
    mkdir(dir.p, 0700);
    if (access(cert.p, R_OK) != 0 || access(key.p, R_OK) != 0) {
        EVP_PKEY *pair = ecdsa ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048);

        if (!generate(pair, cert.p, key.p))
            rc =
                sb_err_set(err, SB_IO, "ssl_cert: cannot generate %s: %s", cert.p, strerror(errno));
    }
    if (!rc)
        rc = use_pair(ctx, s, cert, key, err);
    sb_arena_free(a);
    return rc;
}

static enum sb_rc set_certificates(SSL_CTX *ctx, const struct sb_settings *s, struct sb_err *err)
{
    size_t ncerts, nkeys;
    const struct sb_str *certs = sb_settings_list(s, "ssl_cert", &ncerts);
    const struct sb_str *keys = sb_settings_list(s, "ssl_cert_key", &nkeys);
    enum sb_rc rc;

    if (ncerts != nkeys)
        return sb_err_set(err, SB_INVALID,
                          nkeys == 0    ? "ssl_cert_key must be specified"
                          : ncerts == 0 ? "ssl_cert must be specified"
                                        : "ssl_cert was specified %zu times while ssl_cert_key was "
                                          "specified %zu times",
                          ncerts, nkeys);
    for (size_t i = 0; i < ncerts; i++) {
        rc = use_pair(ctx, s, certs[i], keys[i], err);
        if (rc)
            return rc;
    }
    if (ncerts)
        return SB_OK;
    rc = use_generated(ctx, s, "", false, err);
    return rc ? rc : use_generated(ctx, s, "-ecdsa", true, err);
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
        rc = set_certificates(t->ctx, settings, err);
    if (rc) {
        sb_tls_free(t);
        return rc;
    }
    SSL_CTX_set_cert_cb(t->ctx, choose_certificate, NULL);
    SSL_CTX_set_tlsext_servername_callback(t->ctx, accept_name);
    SSL_CTX_set_alpn_select_cb(t->ctx, choose_protocol, t);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_id_context(t->ctx, (const unsigned char *)"silverback", 10);
    SSL_CTX_set_timeout(
        t->ctx, (long)(sb_settings_time_ms(settings, "ssl_session_timeout", 86400000) / 1000));
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF); /* tickets carry the state */
    SSL_CTX_set_num_tickets(t->ctx, 1);
    if (!sb_settings_bool(settings, "ssl_session_tickets"))
        SSL_CTX_set_options(t->ctx, SSL_OP_NO_TICKET);
    *out = t;
    return SB_OK;
}

void sb_tls_free(struct sb_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->ctx);
    free(tls);
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
