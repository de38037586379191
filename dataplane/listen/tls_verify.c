#include "dataplane/listen/tls_verify.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "dataplane/listen/tls_files.h"
#include "shared/settings.h"
#include "shared/str.h"

static const struct {
    const char *word;
    enum sb_tls_wants wants;
} words[] = {
    {"off", SB_TLS_WANTS_NONE},
    {"optional", SB_TLS_WANTS_OPTIONAL},
    {"optional_no_ca", SB_TLS_WANTS_OPTIONAL_NO_CA},
    {"on", SB_TLS_WANTS_ON},
};

/* What does not come from the CA that we know: nginx forgives it for optional_no_ca. */
static bool is_about_the_ca(long error)
{
    return error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
           error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
           error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
           error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE;
}

/* The result is kept and looked at when a request comes. */
static int go_on(int ok, X509_STORE_CTX *ctx)
{
    (void)ok;
    (void)ctx;
    return 1;
}

/* named: clients are told which issuers we take. */
static enum sb_rc add_trusted(SSL_CTX *ctx, const struct sb_settings *s, const char *family,
                              const char *name, bool named, struct sb_err *err)
{
    const char *text = sb_tls_directive(s, family, name);
    STACK_OF(X509) *all = text ? sb_tls_load_bundle(s, text) : NULL;

    if (text && !all)
        return sb_err_set(err, SB_INVALID, "%s: failed loading certificate from %s", name, text);
    for (int i = 0; i < sk_X509_num(all); i++) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), sk_X509_value(all, i));
        if (named)
            SSL_CTX_add_client_CA(ctx, sk_X509_value(all, i));
    }
    sk_X509_pop_free(all, X509_free);
    return SB_OK;
}

static enum sb_rc add_crl(SSL_CTX *ctx, const struct sb_settings *s, const char *family,
                          struct sb_err *err)
{
    const char *text = sb_tls_directive(s, family, "ssl_crl");
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    X509_LOOKUP *lookup = text ? X509_STORE_add_lookup(store, X509_LOOKUP_file()) : NULL;

    if (!text)
        return SB_OK;
    if (!lookup || X509_load_crl_file(lookup, text, X509_FILETYPE_PEM) < 1) {
        ERR_clear_error();
        return sb_err_set(err, SB_INVALID, "ssl_crl: failed loading lists from %s", text);
    }
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return SB_OK;
}

enum sb_rc sb_tls_verify_setup(SSL_CTX *ctx, const struct sb_settings *s, const char *family,
                               enum sb_tls_wants *wants, struct sb_err *err)
{
    const char *text = sb_tls_directive(s, family, "ssl_verify_client");
    const char *depth = sb_tls_directive(s, family, "ssl_verify_depth");
    int64_t max = 1;
    enum sb_rc rc;
    size_t i = 0;

    *wants = SB_TLS_WANTS_NONE;
    while (text && i < sizeof words / sizeof *words && strcmp(text, words[i].word) != 0)
        i++;
    if (i == sizeof words / sizeof *words)
        return sb_err_set(err, SB_INVALID, "ssl_verify_client: invalid value \"%s\"", text);
    *wants = words[i].wants;
    if (*wants == SB_TLS_WANTS_NONE)
        return SB_OK;
    if (depth && (!sb_str_int(sb_str_c(depth), &max) || max < 0 || max > 100))
        return sb_err_set(err, SB_INVALID, "ssl_verify_depth: invalid value \"%s\"", depth);
    if (*wants != SB_TLS_WANTS_OPTIONAL_NO_CA &&
        !sb_tls_directive(s, family, "ssl_client_certificate"))
        return sb_err_set(err, SB_INVALID, "no ssl_client_certificate for ssl_verify_client");
    rc = add_trusted(ctx, s, family, "ssl_client_certificate", true, err);
    if (!rc)
        rc = add_trusted(ctx, s, family, "ssl_trusted_certificate", false, err);
    if (!rc)
        rc = add_crl(ctx, s, family, err);
    ERR_clear_error(); /* a certificate that was there twice */
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, go_on);
    SSL_CTX_set_verify_depth(ctx, (int)max);
    return rc;
}

const char *sb_tls_verify_refusal(const SSL *ssl, enum sb_tls_wants wants)
{
    bool has = SSL_get0_peer_certificate(ssl) != NULL;
    long result = SSL_get_verify_result(ssl);

    if (wants == SB_TLS_WANTS_NONE)
        return NULL;
    if (!has)
        return wants == SB_TLS_WANTS_ON ? "No required SSL certificate was sent" : NULL;
    if (result == X509_V_OK || (wants == SB_TLS_WANTS_OPTIONAL_NO_CA && is_about_the_ca(result)))
        return NULL;
    return "The SSL certificate error";
}
