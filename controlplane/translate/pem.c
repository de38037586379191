#include "controlplane/translate/pem.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

enum { PEM_LEN_MAX = 1 << 20 };

/* An encrypted key is no key: there is nobody to ask. */
static int no_password(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return -1;
}

static BIO *open_text(struct sb_str text)
{
    return text.len && text.len <= PEM_LEN_MAX ? BIO_new_mem_buf(text.p, (int)text.len) : NULL;
}

static X509 *read_certificate(struct sb_str text)
{
    BIO *bio = open_text(text);
    X509 *x = bio ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;

    BIO_free(bio);
    return x;
}

static EVP_PKEY *read_key(struct sb_str text)
{
    BIO *bio = open_text(text);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;

    BIO_free(bio);
    return key;
}

const char *pem_pair_problem(struct sb_str cert, struct sb_str key)
{
    X509 *x = read_certificate(cert);
    EVP_PKEY *pkey = read_key(key);
    const char *problem = NULL;

    if (!x)
        problem = "tls.crt: is no certificate in PEM";
    else if (!pkey)
        problem = "tls.key: is no private key in PEM without a password";
    else if (X509_check_private_key(x, pkey) != 1)
        problem = "tls.key: belongs to another certificate than tls.crt";
    EVP_PKEY_free(pkey);
    X509_free(x);
    ERR_clear_error();
    return problem;
}

/* -- authorities
 * ----------------------------------------------------------------------------------- */

/* Blocks of the text: the first one's bytes, how many there are; false when one is no PEM. */
struct block {
    unsigned char *der;
    long len;
    int count;
};

static const char *read_blocks(struct sb_str text, struct block *out)
{
    BIO *bio = open_text(text);
    const char *wrong = bio ? NULL : "invalid PEM block";
    char *type = NULL, *header = NULL;

    while (!wrong && BIO_pending(bio) > 0) {
        unsigned char *der = NULL;
        long len;

        if (!PEM_read_bio(bio, &type, &header, &der, &len)) {
            wrong = "invalid PEM block";
            break;
        }
        if (strcmp(type, "CERTIFICATE"))
            wrong = "invalid PEM block type";
        OPENSSL_free(type);
        OPENSSL_free(header);
        if (out->count++)
            OPENSSL_free(der);
        else
            *out = (struct block){der, len, 1};
    }
    BIO_free(bio);
    if (!wrong && out->count > 1)
        wrong = "multiple PEM certificates found";
    return wrong ? wrong : out->count ? NULL : "invalid PEM block";
}

static const char *check_authority(X509 *x)
{
    if (!x)
        return "failed to parse certificate";
    if (!(X509_get_extension_flags(x) & EXFLAG_CA))
        return "certificate is missing the 'CA' basic constraint";
    if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
        return "expired";
    return NULL;
}

static void write_certificate(struct sb_arena *a, const struct block *block, struct sb_str *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *p;
    long len;

    PEM_write_bio(bio, "CERTIFICATE", "", block->der, block->len);
    len = BIO_get_mem_data(bio, &p);
    *out = sb_arena_str(a, sb_str_n(p, (size_t)len));
    BIO_free(bio);
}

const char *pem_authority(struct sb_arena *a, struct sb_str text, struct sb_str *out)
{
    struct block block = {0};
    const char *wrong = read_blocks(sb_str_trim(text), &block);
    const unsigned char *der = block.der;
    X509 *x = NULL;

    if (!wrong) {
        x = d2i_X509(NULL, &der, block.len);
        wrong = check_authority(x);
    }
    if (!wrong)
        write_certificate(a, &block, out);
    X509_free(x);
    OPENSSL_free(block.der);
    ERR_clear_error();
    return wrong;
}
