#include "dataplane/admin/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/buf.h"
#include "shared/digest.h"
#include "shared/settings.h"

enum { YEARS_20_S = 20 * 365 * 24 * 3600, PEM_LEN_MAX = 1 << 20 };

struct pair {
    X509 *cert;
    EVP_PKEY *key;
    STACK_OF(X509) * chain;
};

static void pair_release(struct pair *p)
{
    X509_free(p->cert);
    EVP_PKEY_free(p->key);
    sk_X509_pop_free(p->chain, X509_free);
}

/* -- a pair that is configured ----------------------------------------------------------------- */

/* The setting's first item: a path, PEM, or base64 of PEM. NULL when it is unset. */
static BIO *open_pem(const struct sb_settings *settings, struct sb_arena *a, const char *name,
                     struct sb_err *err)
{
    size_t n;
    const struct sb_str *items = sb_settings_list(settings, name, &n);
    struct sb_str text;
    struct sb_buf file;
    BIO *bio;

    if (!n)
        return NULL;
    if (sb_str_find(items[0], SB_STR("-----BEGIN"), 0) >= 0)
        return BIO_new_mem_buf(items[0].p, (int)items[0].len);
    sb_buf_init(&file, PEM_LEN_MAX);
    if (sb_buf_read_file(&file, sb_arena_cstr(a, items[0]))) {
        text = sb_arena_str(a, sb_buf_get(&file));
    } else if (!sb_base64_decode(a, items[0], &text)) {
        sb_err_set(err, SB_INVALID, "%s: cannot read %.*s: %s", name, SB_ARG(items[0]),
                   strerror(errno));
        text = SB_STR("");
    }
    sb_buf_release(&file);
    bio = BIO_new(BIO_s_mem());
    BIO_write(bio, text.p, (int)text.len);
    return bio;
}

static enum sb_rc read_pair(BIO *cert, BIO *key, const char *prefix, struct pair *p,
                            struct sb_err *err)
{
    X509 *next;

    p->cert = PEM_read_bio_X509(cert, NULL, NULL, NULL);
    if (!p->cert)
        return sb_err_set(err, SB_INVALID, "%s_cert: failed loading certificate", prefix);
    p->chain = sk_X509_new_null();
    while ((next = PEM_read_bio_X509(cert, NULL, NULL, NULL)))
        sk_X509_push(p->chain, next);
    ERR_clear_error(); /* the end of the file is where the chain ends */
    p->key = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
    if (!p->key)
        return sb_err_set(err, SB_INVALID, "%s_cert_key: failed loading key", prefix);
    return SB_OK;
}

/* SB_NOTFOUND when none is configured. */
static enum sb_rc configured_pair(const struct sb_settings *settings, const char *prefix,
                                  struct pair *p, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    BIO *cert = open_pem(settings, a, sb_arena_printf(a, "%s_cert", prefix).p, err);
    BIO *key = open_pem(settings, a, sb_arena_printf(a, "%s_cert_key", prefix).p, err);
    enum sb_rc rc = cert && key ? read_pair(cert, key, prefix, p, err) : SB_NOTFOUND;

    BIO_free(cert);
    BIO_free(key);
    sb_arena_free(a);
    return rc;
}

/* -- a pair of our own ------------------------------------------------------------------------- */

static void add_name(X509_NAME *name, const char *field, const char *value)
{
    X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, (const unsigned char *)value, -1, -1, 0);
}

static X509 *self_signed(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    X509_EXTENSION *alt;
    uint32_t serial;

    X509_set_version(cert, 2);
    sb_random(&serial, sizeof serial);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), (long)(serial >> 1));
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), YEARS_20_S);
    add_name(name, "O", "Silverback");
    add_name(name, "CN", "localhost");
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    alt = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost");
    X509_add_ext(cert, alt, -1);
    X509_EXTENSION_free(alt);
    if (!X509_sign(cert, key, EVP_sha256())) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

static bool write_file(const char *path, mode_t mode, const struct pair *p, bool key)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool ok;

    if (!f)
        return false;
    ok = key ? PEM_write_PrivateKey(f, p->key, NULL, NULL, 0, NULL, NULL)
             : PEM_write_X509(f, p->cert);
    return fclose(f) == 0 && ok;
}

static enum sb_rc make_pair(const char *cert_path, const char *key_path, struct pair *p,
                            struct sb_err *err)
{
    p->key = EVP_EC_gen("P-256");
    p->cert = p->key ? self_signed(p->key) : NULL;
    if (!p->cert)
        return sb_err_set(err, SB_IO, "cannot make a certificate");
    if (!write_file(key_path, 0600, p, true) || !write_file(cert_path, 0644, p, false))
        return sb_err_set(err, SB_IO, "cannot write %s: %s", cert_path, strerror(errno));
    return SB_OK;
}

/* "admin_ssl" has admin-kong-default-ecdsa.crt; "ssl" would have kong-default-ecdsa.crt. */
static enum sb_rc default_pair(const struct sb_settings *settings, const char *prefix,
                               struct pair *p, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str who = sb_str_first(sb_str_c(prefix), strlen(prefix) - strlen("ssl"));
    char *stem = sb_arena_cstr(a, who);
    const char *dir = sb_settings_path(settings, a, "ssl").p, *cert_path, *key_path;
    BIO *cert, *key;
    enum sb_rc rc;

    for (char *c = stem; *c; c++)
        *c = *c == '_' ? '-' : *c;
    mkdir(dir, 0755);
    cert_path = sb_arena_printf(a, "%s/%skong-default-ecdsa.crt", dir, stem).p;
    key_path = sb_arena_printf(a, "%s/%skong-default-ecdsa.key", dir, stem).p;
    cert = BIO_new_file(cert_path, "r");
    key = BIO_new_file(key_path, "r");
    ERR_clear_error();
    rc =
        cert && key ? read_pair(cert, key, prefix, p, err) : make_pair(cert_path, key_path, p, err);
    BIO_free(cert);
    BIO_free(key);
    sb_arena_free(a);
    return rc;
}

/* -- the context ------------------------------------------------------------------------------- */

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *len,
                           const unsigned char *in, unsigned int in_len, void *arg)
{
    static const unsigned char http1[] = "\x08http/1.1";

    (void)ssl, (void)arg;
    if (SSL_select_next_proto((unsigned char **)(void *)out, len, http1, sizeof http1 - 1, in,
                              in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    return SSL_TLSEXT_ERR_OK;
}

/* "admin_ssl" is of the family "admin". */
static enum sb_rc set_verify(SSL_CTX *ctx, const struct sb_settings *settings, const char *prefix,
                             enum sb_tls_wants *wants, struct sb_err *err)
{
    char family[32];

    snprintf(family, sizeof family, "%.*s", (int)(strlen(prefix) - strlen("_ssl")), prefix);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)prefix, (unsigned)strlen(prefix));
    return sb_tls_verify_setup(ctx, settings, family, wants, err);
}

enum sb_rc sb_admin_tls(const struct sb_settings *settings, const char *prefix, SSL_CTX **out,
                        enum sb_tls_wants *wants, struct sb_err *err)
{
    struct pair p = {0};
    enum sb_rc rc = configured_pair(settings, prefix, &p, err);
    SSL_CTX *ctx;

    if (rc == SB_NOTFOUND)
        rc = default_pair(settings, prefix, &p, err);
    if (rc)
        goto out;
    ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    if (!SSL_CTX_use_cert_and_key(ctx, p.cert, p.key, p.chain, 1)) {
        SSL_CTX_free(ctx);
        rc = sb_err_set(err, SB_INVALID, "%s_cert: the key does not belong to the certificate",
                        prefix);
        goto out;
    }
    rc = set_verify(ctx, settings, prefix, wants, err);
    if (rc)
        SSL_CTX_free(ctx);
    else
        *out = ctx;
out:
    pair_release(&p);
    return rc;
}
