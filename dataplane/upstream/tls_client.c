#include "dataplane/upstream/tls_client.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>

#include "dataplane/listen/tls_files.h"
#include "dataplane/upstream/resolver.h"
#include "shared/arena.h"
#include "shared/buf.h"
#include "shared/digest.h"
#include "shared/log.h"
#include "shared/map.h"

enum { CLIENTS_MAX = 1024, KEY_MAX = 512, SESSIONS_MAX = 1024 };

struct sb_tls_client {
    struct sb_tls_clients *all;
    uint64_t serial;   /* no two clients ever have the same, also not one after the other */
    struct sb_str key; /* behind the struct */
    SSL_CTX *ctx;
    bool verify;
    char text[];
};

/* Whom a session is with: an SSL carries one, and each session that was kept. */
struct peer {
    struct sb_tls_clients *all;
    SSL_SESSION *session;      /* of those kept */
    bool named;                /* the certificate is checked for a name by OpenSSL */
    char ip[INET6_ADDRSTRLEN]; /* and by us for an address; "": none */
    struct sb_str key;
    char text[]; /* client's serial, address, name */
};

struct sb_tls_clients {
    struct sb_map by_key;
    struct sb_map sessions; /* key -> struct peer */
    uint64_t serial;
    bool verify;   /* proxy_ssl_verify */
    char *trusted; /* proxy_ssl_trusted_certificate; NULL: none */
    int depth, min_version, max_version;
    char *ciphers; /* proxy_ssl_ciphers; NULL: OpenSSL's */
    bool reuse, weak;
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

static char *copy_text(const char *text)
{
    size_t len = strlen(text) + 1;

    return memcpy(sb_xmalloc(len), text, len);
}

static const char *injected(const struct sb_settings *s, const char *name)
{
    char full[96];

    snprintf(full, sizeof full, "proxy_ssl_%s", name);
    return sb_tls_directive(s, "proxy", full);
}

struct sb_tls_clients *sb_tls_clients_new(const struct sb_settings *settings)
{
    struct sb_tls_clients *t = sb_xcalloc(1, sizeof *t);
    const char *verify = injected(settings, "verify"), *depth = injected(settings, "verify_depth"),
               *trusted = injected(settings, "trusted_certificate"),
               *protocols = injected(settings, "protocols"),
               *ciphers = injected(settings, "ciphers"),
               *reuse = injected(settings, "session_reuse"),
               *suite = sb_settings_str(settings, "ssl_cipher_suite");
    struct sb_str bad;
    int64_t max;

    t->verify = verify && strcmp(verify, "on") == 0;
    t->depth = depth && sb_str_int(sb_str_c(depth), &max) && max >= 0 && max <= 100 ? (int)max : 1;
    t->reuse = !reuse || strcmp(reuse, "off") != 0;
    t->weak = suite && strcmp(suite, "old") == 0;
    if (trusted)
        t->trusted = copy_text(trusted);
    if (ciphers)
        t->ciphers = copy_text(ciphers);
    if (protocols)
        (void)sb_tls_versions(sb_str_c(protocols), &t->min_version, &t->max_version, &bad);
    if (sb_settings_bool(settings, "client_ssl"))
        load_own(t, settings);
    return t;
}

static void free_peer(struct peer *p)
{
    SSL_SESSION_free(p->session);
    free(p);
}

static void free_sessions(struct sb_tls_clients *t)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, &t->sessions)
        free_peer(slot->value);
    sb_map_release(&t->sessions);
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
    free_sessions(t);
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
    free(t->ciphers);
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

/* -- sessions that may be resumed -- */

static void free_peer_of(void *parent, void *p, CRYPTO_EX_DATA *data, int index, long argl,
                         void *argp)
{
    (void)parent, (void)data, (void)index, (void)argl, (void)argp;
    free(p);
}

static int peer_index_made;

static void make_peer_index(void)
{
    peer_index_made = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_peer_of);
}

static int peer_index(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_peer_index);
    return peer_index_made;
}

/* OpenSSL's callback, for a session that can be resumed: also in the middle of a connection's life
 * (TLS 1.3). 1: the session is ours now. */
static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    const struct peer *with = SSL_get_ex_data(ssl, peer_index());
    struct sb_tls_clients *t = with->all;
    struct peer *p = sb_map_get(&t->sessions, with->key);

    if (!p) {
        if (t->sessions.count >= SESSIONS_MAX) /* peers come and go: start over */
            free_sessions(t);
        p = sb_xcalloc(1, sizeof *p + with->key.len);
        memcpy(p->text, with->text, with->key.len);
        p->key = sb_str_n(p->text, with->key.len);
        sb_map_set(&t->sessions, p->key, p);
    }
    SSL_SESSION_free(p->session);
    p->session = session;
    return 1;
}

/* -- the other side's certificate -- */

/* A name is OpenSSL's to check (SSL_set1_host). An address is in the certificate as such, or, as
 * nginx looks for it, as if it were a name. */
static int verify(X509_STORE_CTX *ctx, void *arg)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct peer *p = SSL_get_ex_data(ssl, peer_index());
    X509 *cert = X509_STORE_CTX_get0_cert(ctx);

    (void)arg;
    if (X509_verify_cert(ctx) <= 0)
        return 0;
    if (p->named || (p->ip[0] && (X509_check_ip_asc(cert, p->ip, 0) == 1 ||
                                  X509_check_host(cert, p->ip, 0, 0, NULL) == 1)))
        return 1;
    X509_STORE_CTX_set_error(ctx, p->ip[0] ? X509_V_ERR_IP_ADDRESS_MISMATCH
                                           : X509_V_ERR_HOSTNAME_MISMATCH);
    return 0;
}

const char *sb_tls_client_trouble(const SSL *ssl)
{
    long result = SSL_get_verify_result(ssl);

    return result == X509_V_OK ? NULL : X509_verify_cert_error_string(result);
}

static bool configure(struct sb_tls_clients *t, SSL_CTX *ctx, const struct wants *w)
{
    const struct sb_certificate *cert = w->cert;

    SSL_CTX_set_session_cache_mode(
        ctx, t->reuse ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL : SSL_SESS_CACHE_OFF);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
    if (t->weak)
        SSL_CTX_set_security_level(ctx, 0);
    if (t->min_version && (!SSL_CTX_set_min_proto_version(ctx, t->min_version) ||
                           !SSL_CTX_set_max_proto_version(ctx, t->max_version)))
        return false;
    if (t->ciphers && !SSL_CTX_set_cipher_list(ctx, t->ciphers))
        return false;
    if (cert && cert->cert && cert->key &&
        !SSL_CTX_use_cert_and_key(ctx, cert->cert, cert->key, cert->chain, 1))
        return false;
    if (!w->verify)
        return true;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, verify, NULL);
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
    c->all = t;
    c->serial = ++t->serial;
    c->ctx = ctx;
    c->verify = w.verify;
    memcpy(c->text, key, len);
    c->key = sb_str_n(c->text, len);
    sb_map_set(&t->by_key, c->key, c);
    return c;
}

struct sb_str sb_tls_client_key(const struct sb_tls_client *c)
{
    return sb_str_n((const char *)&c->serial, sizeof c->serial);
}

/* -- connecting -- */

static struct peer *new_peer(struct sb_tls_client *c, struct sb_str name,
                             const union sb_sockaddr *addr)
{
    bool v4 = addr->sa.sa_family == AF_INET;
    const void *ip = v4 ? (const void *)&addr->in.sin_addr : &addr->in6.sin6_addr;
    size_t ip_len = v4 ? sizeof addr->in.sin_addr : sizeof addr->in6.sin6_addr;
    uint16_t port = v4 ? addr->in.sin_port : addr->in6.sin6_port;
    struct peer *p = sb_xcalloc(1, sizeof *p + sizeof c->serial + sizeof port + ip_len + name.len);
    char *to = p->text;

    p->all = c->all;
    to = (char *)memcpy(to, &c->serial, sizeof c->serial) + sizeof c->serial;
    to = (char *)memcpy(to, &port, sizeof port) + sizeof port;
    to = (char *)memcpy(to, ip, ip_len) + ip_len;
    memcpy(to, name.p, name.len);
    p->key = sb_str_n(p->text, (size_t)(to - p->text) + name.len);
    return p;
}

/* The address that a name is, as text without brackets; "" where it is none. */
static void address_of(struct sb_str name, char out[INET6_ADDRSTRLEN])
{
    unsigned char binary[16];

    if (name.len > 2 && name.p[0] == '[' && name.p[name.len - 1] == ']')
        name = sb_str_n(name.p + 1, name.len - 2);
    out[0] = '\0';
    if (name.len == 0 || name.len >= INET6_ADDRSTRLEN)
        return;
    memcpy(out, name.p, name.len);
    out[name.len] = '\0';
    if (inet_pton(AF_INET, out, binary) != 1 && inet_pton(AF_INET6, out, binary) != 1)
        out[0] = '\0';
}

SSL *sb_tls_client_session(struct sb_tls_client *c, struct sb_str name,
                           const union sb_sockaddr *addr)
{
    SSL *ssl = SSL_new(c->ctx);
    struct peer *p = new_peer(c, name, addr);
    const struct peer *known = sb_map_get(&c->all->sessions, p->key);
    char text[256];

    sb_assert(ssl);
    SSL_set_connect_state(ssl);
    SSL_set_ex_data(ssl, peer_index(), p);
    if (known && SSL_SESSION_is_resumable(known->session))
        SSL_set_session(ssl, known->session);
    address_of(name, p->ip);
    if (!p->ip[0] && name.len && name.len < sizeof text) {
        memcpy(text, name.p, name.len);
        text[name.len] = '\0';
        SSL_set_tlsext_host_name(ssl, text);
        p->named = c->verify && SSL_set1_host(ssl, text) == 1;
    }
    return ssl;
}
