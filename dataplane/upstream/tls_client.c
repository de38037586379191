#include "dataplane/upstream/tls_client.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "dataplane/listen/tls_files.h"
#include "shared/arena.h"
#include "shared/buf.h"
#include "shared/digest.h"
#include "shared/log.h"
#include "shared/map.h"

enum { CLIENTS_MAX = 1024, KEY_MAX = 512 };

struct sb_tls_client {
    struct sb_str key; /* behind the struct */
    SSL_CTX *ctx;
    bool verify;
    char text[];
};

struct sb_tls_clients {
    struct sb_map by_key;
    bool verify;   /* nginx_proxy_proxy_ssl_verify */
    char *trusted; /* nginx_proxy_proxy_ssl_trusted_certificate; NULL: none */
    int depth;
    struct sb_certificate own; /* client_ssl; key NULL: off */
};

static BIO *open_pem(const struct sb_settings *s, struct sb_arena *a, const char *name)
{
    const char *text = sb_settings_str(s, name);
    struct sb_str pem;

    if (!text || !sb_tls_load_pem(s, a, sb_str_c(text), &pem))
        return NULL;
    return BIO_new_mem_buf(pem.p, (int)pem.len);
}

/* The certificate that upstreams see where neither service nor upstream has one. */
static void load_own(struct sb_tls_clients *t, const struct sb_settings *s)
{
    struct sb_arena *a = sb_arena_new(0);
    BIO *cert = open_pem(s, a, "client_ssl_cert"), *key = open_pem(s, a, "client_ssl_cert_key");
    X509 *next;

    if (cert && key) {
        t->own.cert = PEM_read_bio_X509_AUX(cert, NULL, NULL, NULL);
        t->own.key = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
        t->own.chain = sk_X509_new_null();
        while ((next = PEM_read_bio_X509(cert, NULL, NULL, NULL)))
            sk_X509_push(t->own.chain, next);
        ERR_clear_error();
    }
    if (!t->own.cert || !t->own.key)
        sb_error("client_ssl: cannot load client_ssl_cert and client_ssl_cert_key");
    BIO_free(cert);
    BIO_free(key);
    sb_arena_free(a);
}

struct sb_tls_clients *sb_tls_clients_new(const struct sb_settings *settings)
{
    struct sb_tls_clients *t = sb_xcalloc(1, sizeof *t);
    const char *verify = sb_settings_str(settings, "nginx_proxy_proxy_ssl_verify");
    const char *trusted = sb_settings_str(settings, "nginx_proxy_proxy_ssl_trusted_certificate");

    t->verify = verify && strcmp(verify, "on") == 0;
    t->depth = 1;
    if (trusted) {
        t->trusted = sb_xmalloc(strlen(trusted) + 1);
        memcpy(t->trusted, trusted, strlen(trusted) + 1);
    }
    if (sb_settings_bool(settings, "client_ssl"))
        load_own(t, settings);
    return t;
}

static void free_clients(struct sb_tls_clients *t)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, &t->by_key) {
        struct sb_tls_client *c = slot->value;

        SSL_CTX_free(c->ctx);
        free(c);
    }
    sb_map_release(&t->by_key);
}

void sb_tls_clients_free(struct sb_tls_clients *t)
{
    if (!t)
        return;
    free_clients(t);
    X509_free(t->own.cert);
    EVP_PKEY_free(t->own.key);
    sk_X509_pop_free(t->own.chain, X509_free);
    free(t->trusted);
    free(t);
}

struct wants {
    bool verify;
    int depth;
    const struct sb_certificate *cert;
    const struct sb_service *s;
};

static struct wants wants_of(const struct sb_tls_clients *t, const struct sb_service *s,
                             const struct sb_upstream *upstream)
{
    return (struct wants){
        .verify = s->tls_verify < 0 ? t->verify : s->tls_verify,
        .depth = s->tls_verify_depth < 0 ? t->depth : s->tls_verify_depth,
        .cert = s->client_certificate                      ? s->client_certificate
                : upstream && upstream->client_certificate ? upstream->client_certificate
                : t->own.key                               ? &t->own
                                                           : NULL,
        .s = s,
    };
}

/* verify, depth, digest of the client's certificate, ids of the CA set. */
static size_t make_key(const struct wants *w, char out[KEY_MAX])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    size_t n = 0;
    uint8_t ids[SB_SHA256_LEN];

    out[n++] = (char)w->verify;
    out[n++] = (char)(w->depth & 127);
    if (w->cert && w->cert->cert && X509_digest(w->cert->cert, EVP_sha256(), digest, &digest_len)) {
        memcpy(out + n, digest, digest_len);
        n += digest_len;
    }
    out[n++] = '|';
    if (w->verify && w->s->nca_certificates) {
        struct sb_buf all;

        sb_buf_init(&all, 0);
        for (size_t i = 0; i < w->s->nca_certificates; i++) {
            sb_buf_str(&all, w->s->ca_certificates[i]);
            sb_buf_char(&all, ',');
        }
        /* The set may be made anew with the same ids: the store tells them apart. */
        sb_buf_add(&all, &w->s->ca_store, sizeof w->s->ca_store);
        sb_sha256(sb_buf_get(&all), ids);
        sb_buf_release(&all);
        memcpy(out + n, ids, sizeof ids);
        n += sizeof ids;
    }
    return n;
}

static bool configure(struct sb_tls_clients *t, SSL_CTX *ctx, const struct wants *w)
{
    const struct sb_certificate *cert = w->cert;

    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (cert && cert->cert && cert->key &&
        !SSL_CTX_use_cert_and_key(ctx, cert->cert, cert->key, cert->chain, 1))
        return false;
    if (!w->verify)
        return true;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_verify_depth(ctx, w->depth);
    if (w->s->ca_store)
        SSL_CTX_set1_cert_store(ctx, w->s->ca_store);
    else if (t->trusted)
        return SSL_CTX_load_verify_file(ctx, t->trusted) == 1;
    return true;
}

struct sb_tls_client *sb_tls_client_for(struct sb_tls_clients *t, const struct sb_service *s,
                                        const struct sb_upstream *upstream)
{
    struct wants w = wants_of(t, s, upstream);
    char key[KEY_MAX];
    size_t len = make_key(&w, key);
    struct sb_tls_client *c = sb_map_get(&t->by_key, sb_str_n(key, len));
    SSL_CTX *ctx;

    if (c)
        return c;
    if (t->by_key.count >= CLIENTS_MAX) /* certificates come and go: start over */
        free_clients(t);
    ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx || !configure(t, ctx, &w)) {
        sb_error("TLS to %.*s: %s", SB_ARG(s->host), ERR_reason_error_string(ERR_get_error()));
        ERR_clear_error();
        SSL_CTX_free(ctx);
        return NULL;
    }
    c = sb_xcalloc(1, sizeof *c + len);
    c->ctx = ctx;
    c->verify = w.verify;
    memcpy(c->text, key, len);
    c->key = sb_str_n(c->text, len);
    sb_map_set(&t->by_key, c->key, c);
    return c;
}

struct sb_str sb_tls_client_key(const struct sb_tls_client *c)
{
    return c->key;
}

SSL *sb_tls_client_session(struct sb_tls_client *c, struct sb_str sni)
{
    SSL *ssl = SSL_new(c->ctx);
    char name[256];

    sb_assert(ssl);
    SSL_set_connect_state(ssl);
    if (sni.len && sni.len < sizeof name) {
        memcpy(name, sni.p, sni.len);
        name[sni.len] = '\0';
        SSL_set_tlsext_host_name(ssl, name);
        if (c->verify)
            SSL_set1_host(ssl, name);
    }
    return ssl;
}
