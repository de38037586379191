/* tls_files.c - see tls_files.h. */
#include "dataplane/listen/tls_files.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/buf.h"
#include "shared/digest.h"
#include "shared/settings.h"

enum { PEM_MAX = 1 << 20, GENERATED_DAYS = 20 * 365 };

/* -- what a setting says -- */

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

bool sb_tls_versions(struct sb_str list, int *min, int *max, struct sb_str *bad)
{
    static const struct {
        const char *name;
        int version;
    } all[] = {
        {"TLSv1", TLS1_VERSION},
        {"TLSv1.1", TLS1_1_VERSION},
        {"TLSv1.2", TLS1_2_VERSION},
        {"TLSv1.3", TLS1_3_VERSION},
    };
    size_t i;

    *min = *max = 0;
    *bad = SB_STR("");
    for (struct sb_str word; sb_str_split(&list, ' ', &word);) {
        for (i = 0; i < sizeof all / sizeof *all && !sb_str_is(word, all[i].name); i++)
            ;
        if (i == sizeof all / sizeof *all) {
            if (word.len)
                *bad = word;
            continue;
        }
        if (!*min || all[i].version < *min)
            *min = all[i].version;
        if (all[i].version > *max)
            *max = all[i].version;
    }
    return bad->len == 0;
}

const char *sb_tls_directive(const struct sb_settings *s, const char *family, const char *name)
{
    char full[128];
    const char *text;

    snprintf(full, sizeof full, "nginx_%s_%s", family, name);
    text = sb_settings_str(s, full);
    if (text)
        return text;
    snprintf(full, sizeof full, "nginx_http_%s", name);
    return sb_settings_str(s, full);
}

STACK_OF(X509) * sb_tls_load_bundle(const struct sb_settings *s, const char *text)
{
    struct sb_arena *a = sb_arena_new(0);
    STACK_OF(X509) *all = sk_X509_new_null();
    struct sb_str pem;

    if (sb_tls_load_pem(s, a, sb_str_c(text), &pem)) {
        BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.len);

        for (X509 *next; (next = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL));)
            sk_X509_push(all, next);
        BIO_free(bio);
        ERR_clear_error();
    }
    sb_arena_free(a);
    if (sk_X509_num(all) > 0)
        return all;
    sk_X509_free(all);
    return NULL;
}

/* -- DH parameters -- */

static EVP_PKEY *named_group(const char *name)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "DH", NULL);
    EVP_PKEY *group = NULL;

    if (EVP_PKEY_paramgen_init(ctx) != 1 || EVP_PKEY_CTX_set_group_name(ctx, name) != 1 ||
        EVP_PKEY_paramgen(ctx, &group) != 1)
        group = NULL;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return group;
}

static EVP_PKEY *read_group(const struct sb_settings *s, const char *text)
{
    struct sb_arena *a = sb_arena_new(0);
    EVP_PKEY *group = NULL;
    struct sb_str pem;

    if (sb_tls_load_pem(s, a, sb_str_c(text), &pem)) {
        BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.len);

        group = PEM_read_bio_Parameters(bio, NULL);
        BIO_free(bio);
        ERR_clear_error();
    }
    sb_arena_free(a);
    return group;
}

enum sb_rc sb_tls_set_dh(SSL_CTX *ctx, const struct sb_settings *s, const char *text,
                         struct sb_err *err)
{
    EVP_PKEY *group = named_group(text);

    if (!group)
        group = read_group(s, text);
    if (group && SSL_CTX_set0_tmp_dh_pkey(ctx, group) == 1)
        return SB_OK;
    EVP_PKEY_free(group);
    ERR_clear_error();
    return sb_err_set(err, SB_INVALID, "ssl_dhparam: failed loading certificate from %s",
                      strlen(text) > 200 ? "the text given" : text);
}

/* -- the default certificates -- */

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

enum sb_rc sb_tls_set_default_pairs(SSL_CTX *ctx, const struct sb_settings *s, struct sb_err *err)
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
