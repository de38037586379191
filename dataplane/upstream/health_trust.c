#include "dataplane/upstream/health_trust.h"

#include <openssl/pem.h>

#include "dataplane/listen/tls_files.h"
#include "shared/buf.h"
#include "shared/log.h"
#include "shared/settings.h"

enum { CA_FILE_MAX = 4 << 20 };

static bool add_file(struct sb_buf *all, const char *path)
{
    struct sb_buf file;
    struct sb_str text;
    bool good;

    sb_buf_init(&file, CA_FILE_MAX);
    good = sb_buf_read_file(&file, path);
    text = sb_buf_get(&file);
    if (good)
        sb_buf_add(all, text.p, text.len);
    sb_buf_release(&file);
    return good;
}

/* "system" alone is what libcurl does by itself. */
static struct sb_str read_ca(struct sb_arena *a, const struct sb_settings *s)
{
    size_t n;
    const struct sb_str *list = sb_settings_list(s, "lua_ssl_trusted_certificate", &n);
    struct sb_str text = SB_STR("");
    struct sb_buf all;

    if (n == 0 || (n == 1 && sb_str_is(list[0], "system")))
        return text;
    sb_buf_init(&all, CA_FILE_MAX);
    for (size_t i = 0; i < n; i++) {
        bool system = sb_str_is(list[i], "system");
        const char *path =
            system ? "/etc/ssl/certs/ca-certificates.crt" : sb_arena_cstr(a, list[i]);

        if (!add_file(&all, path))
            sb_warn("lua_ssl_trusted_certificate: cannot read %s", path);
    }
    text = sb_arena_str(a, sb_buf_get(&all));
    sb_buf_release(&all);
    return text;
}

static struct sb_str read_own(struct sb_arena *a, const struct sb_settings *s, const char *name)
{
    const char *text = sb_settings_str(s, name);
    struct sb_str pem = SB_STR("");

    if (!text || !sb_settings_bool(s, "client_ssl") || !sb_tls_load_pem(s, a, sb_str_c(text), &pem))
        return SB_STR("");
    return pem;
}

void sb_health_trust_read(struct sb_arena *a, const struct sb_settings *s, struct sb_http_tls *out)
{
    *out = (struct sb_http_tls){.ca = read_ca(a, s),
                                .cert = read_own(a, s, "client_ssl_cert"),
                                .key = read_own(a, s, "client_ssl_cert_key")};
}

static struct sb_str pem_text(struct sb_arena *a, BIO *bio)
{
    char *p;
    long n = BIO_get_mem_data(bio, &p);
    struct sb_str text = sb_arena_str(a, sb_str_n(p, n > 0 ? (size_t)n : 0));

    BIO_free(bio);
    return text;
}

void sb_health_trust_show(struct sb_arena *a, const struct sb_certificate *cert,
                          struct sb_http_tls *tls)
{
    BIO *chain, *key;

    if (!cert || !cert->cert || !cert->key)
        return;
    chain = BIO_new(BIO_s_mem());
    key = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(chain, cert->cert);
    for (int i = 0; cert->chain && i < sk_X509_num(cert->chain); i++)
        PEM_write_bio_X509(chain, sk_X509_value(cert->chain, i));
    PEM_write_bio_PrivateKey(key, cert->key, NULL, NULL, 0, NULL, NULL);
    tls->cert = pem_text(a, chain);
    tls->key = pem_text(a, key);
}
