/* tls_stapling.c - see tls_stapling.h.
 *
 *   handshake --find(certificate)--> [ table: digest of the certificate -> staple ] <-- thread
 *        |  not there: added, thread woken                                              |
 *        +--> response, or nothing          state: WANTED -> GOOD -> (stale) -> GOOD ...
 *                                                  HOPELESS: names no responder, no issuer
 *
 * (I1) What the thread works on stays: only the thread removes staples.
 * (I2) The lock is never held while a responder is asked or a signature checked.
 */
#include "dataplane/listen/tls_stapling.h"

#include <openssl/err.h>
#include <openssl/http.h>
#include <openssl/ocsp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dataplane/listen/tls_files.h"
#include "shared/arena.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/map.h"
#include "shared/settings.h"

enum {
    ASK_TIMEOUT_S = 10,
    SKEW_S = 300,         /* clocks differ */
    RETRY_S = 60,         /* after a failure */
    REFRESH_MAX_S = 3600, /* a good response is asked for again after half its life or this */
    UNUSED_S = 24 * 3600, /* a certificate nobody saw any more is forgotten */
    STAPLES_MAX = 10000,
    RESPONSE_MAX = 100 * 1024,
};

enum state { WANTED, GOOD, HOPELESS };

struct staple {
    unsigned char digest[32];
    X509 *cert, *issuer; /* issuer NULL: HOPELESS */
    char *url;
    enum state state;
    unsigned char *response; /* OpenSSL's memory */
    int response_len;
    int64_t next_s;  /* when the responder is asked again; monotonic, as the others */
    int64_t until_s; /* the response is good so long */
    int64_t used_s;
};

struct sb_tls_stapling {
    char *responder;          /* for all certificates; NULL: as each says */
    STACK_OF(X509) * trusted; /* where issuers are looked for, too */
    pthread_t thread;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct sb_map staples;
        bool asking;   /* the thread is with a responder */
        bool stopping; /* and it was asking then: it frees all of it */
    } shared;
};

static int64_t now_s(void)
{
    return sb_clock_ms() / 1000;
}

/* -- a certificate's staple -- */

static void free_staple(struct staple *e)
{
    X509_free(e->cert);
    X509_free(e->issuer);
    OPENSSL_free(e->response);
    free(e->url);
    free(e);
}

static X509 *find_issuer(X509 *cert, STACK_OF(X509) * among)
{
    for (int i = 0; i < sk_X509_num(among); i++)
        if (X509_check_issued(sk_X509_value(among, i), cert) == X509_V_OK)
            return sk_X509_value(among, i);
    return NULL;
}

static char *copy_text(const char *text)
{
    size_t len = strlen(text) + 1;

    return memcpy(sb_xmalloc(len), text, len);
}

static char *responder_of(const struct sb_tls_stapling *t, X509 *cert)
{
    STACK_OF(OPENSSL_STRING) *urls = X509_get1_ocsp(cert);
    const char *text = t->responder                      ? t->responder
                       : sk_OPENSSL_STRING_num(urls) > 0 ? sk_OPENSSL_STRING_value(urls, 0)
                                                         : NULL;
    char *url = text && strncmp(text, "http://", 7) == 0 ? copy_text(text) : NULL;

    X509_email_free(urls);
    return url;
}

/* Called in a handshake; chain is the certificate's, or NULL. */
static struct staple *add_locked(struct sb_tls_stapling *t, const unsigned char digest[32],
                                 X509 *cert, STACK_OF(X509) * chain)
{
    struct staple *e = sb_xcalloc(1, sizeof *e);
    X509 *issuer = find_issuer(cert, chain);

    memcpy(e->digest, digest, sizeof e->digest);
    e->url = responder_of(t, cert);
    if (!issuer)
        issuer = find_issuer(cert, t->trusted);
    e->state = e->url && issuer ? WANTED : HOPELESS;
    if (e->state == WANTED) {
        X509_up_ref(cert);
        X509_up_ref(issuer);
        e->cert = cert;
        e->issuer = issuer;
    }
    sb_map_set(&t->shared.staples, sb_str_n((const char *)e->digest, sizeof e->digest), e);
    return e;
}

/* OpenSSL's callback, when the client asked for a response and the certificate is chosen. */
static int staple(SSL *ssl, void *arg)
{
    struct sb_tls_stapling *t = arg;
    X509 *cert = SSL_get_certificate(ssl);
    STACK_OF(X509) *chain = NULL;
    unsigned char digest[32];
    int64_t now = now_s();
    void *copy = NULL;
    struct staple *e;

    if (!cert || X509_digest(cert, EVP_sha256(), digest, NULL) != 1)
        return SSL_TLSEXT_ERR_NOACK;
    SSL_get0_chain_certs(ssl, &chain);
    if (!chain)
        SSL_CTX_get0_chain_certs(SSL_get_SSL_CTX(ssl), &chain);
    pthread_mutex_lock(&t->shared.lock);
    e = sb_map_get(&t->shared.staples, sb_str_n((const char *)digest, sizeof digest));
    if (!e && t->shared.staples.count < STAPLES_MAX) {
        e = add_locked(t, digest, cert, chain);
        pthread_cond_signal(&t->shared.wake);
    }
    if (e)
        e->used_s = now;
    if (e && e->state == GOOD && now < e->until_s &&
        (copy = OPENSSL_memdup(e->response, (size_t)e->response_len)))
        SSL_set_tlsext_status_ocsp_resp(ssl, copy, e->response_len);
    pthread_mutex_unlock(&t->shared.lock);
    return copy ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* -- asking -- */

static OCSP_CERTID *id_of(const struct staple *e)
{
    return OCSP_cert_to_id(EVP_sha1(), e->cert, e->issuer);
}

/* The request as responders take it in an URL-free form: a POST. */
static BIO *request_for(const struct staple *e)
{
    OCSP_REQUEST *request = OCSP_REQUEST_new();
    BIO *bio = BIO_new(BIO_s_mem());

    if (!OCSP_request_add0_id(request, id_of(e)) ||
        !ASN1_item_i2d_bio(ASN1_ITEM_rptr(OCSP_REQUEST), bio, request)) {
        BIO_free(bio);
        bio = NULL;
    }
    OCSP_REQUEST_free(request);
    return bio;
}

static OCSP_RESPONSE *ask(const struct staple *e)
{
    char *host = NULL, *port = NULL, *path = NULL;
    BIO *request = request_for(e), *answer = NULL;
    OCSP_RESPONSE *response = NULL;

    if (request && OSSL_HTTP_parse_url(e->url, NULL, NULL, &host, &port, NULL, &path, NULL, NULL))
        answer = OSSL_HTTP_transfer(NULL, host, port, path, 0, NULL, NULL, NULL, NULL, NULL, NULL,
                                    0, NULL, "application/ocsp-request", request,
                                    "application/ocsp-response", 1, RESPONSE_MAX, ASK_TIMEOUT_S, 0);
    if (answer)
        response = ASN1_item_d2i_bio(ASN1_ITEM_rptr(OCSP_RESPONSE), answer, NULL);
    BIO_free(answer);
    BIO_free(request);
    OPENSSL_free(host);
    OPENSSL_free(port);
    OPENSSL_free(path);
    return response;
}

/* Signed by the issuer, or by someone whom the issuer lets sign responses. */
static bool is_genuine(const struct staple *e, OCSP_BASICRESP *basic)
{
    STACK_OF(X509) *signers = sk_X509_new_null();
    X509_STORE *store = X509_STORE_new();
    bool ok;

    sk_X509_push(signers, e->issuer);
    X509_STORE_add_cert(store, e->issuer);
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    ok = OCSP_basic_verify(basic, signers, store, 0) == 1;
    X509_STORE_free(store);
    sk_X509_free(signers);
    return ok;
}

/* Seconds from now; "far" where the response says no end. */
static int64_t seconds_until(const ASN1_GENERALIZEDTIME *at)
{
    int days = 0, seconds = 0;

    if (!at)
        return REFRESH_MAX_S;
    return ASN1_TIME_diff(&days, &seconds, NULL, at) ? days * (int64_t)86400 + seconds : 0;
}

/* NULL: a response to staple for so long. Else why not. */
static const char *judge(const struct staple *e, OCSP_RESPONSE *response, int64_t *good_for_s,
                         bool *revoked)
{
    ASN1_GENERALIZEDTIME *updated = NULL, *next = NULL;
    OCSP_BASICRESP *basic;
    OCSP_CERTID *id;
    const char *why = NULL;
    int status = -1;

    if (!response)
        return "no answer";
    if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        return OCSP_response_status_str(OCSP_response_status(response));
    basic = OCSP_response_get1_basic(response);
    if (!basic)
        return "not a basic response";
    id = id_of(e);
    if (!is_genuine(e, basic))
        why = "signed by someone else";
    else if (!OCSP_resp_find_status(basic, id, &status, NULL, NULL, &updated, &next))
        why = "about another certificate";
    else if (status != V_OCSP_CERTSTATUS_GOOD)
        why = OCSP_cert_status_str(status), *revoked = status == V_OCSP_CERTSTATUS_REVOKED;
    else if (!OCSP_check_validity(updated, next, SKEW_S, -1))
        why = "not valid now";
    else
        *good_for_s = seconds_until(next);
    OCSP_CERTID_free(id);
    OCSP_BASICRESP_free(basic);
    return why;
}

/* Half of its life, but not for ever, and not at once. */
static int64_t ask_again_in(int64_t good_for_s)
{
    int64_t in = good_for_s / 2;

    return in > REFRESH_MAX_S ? REFRESH_MAX_S : in < 1 ? 1 : in;
}

/* What was good stays so until its time is over, whatever happens to the responder; what the
 * responder calls revoked does not. */
static void refresh(struct sb_tls_stapling *t, struct staple *e)
{
    OCSP_RESPONSE *response = ask(e);
    int64_t good_for_s = 0, now = now_s();
    bool revoked = false;
    const char *why = judge(e, response, &good_for_s, &revoked);
    unsigned char *der = NULL, *old = NULL;
    int len = why ? 0 : i2d_OCSP_RESPONSE(response, &der);

    ERR_clear_error();
    if (why)
        sb_warn("OCSP responder %s: %s; asked again in %d s", e->url, why, RETRY_S);
    pthread_mutex_lock(&t->shared.lock);
    if (len > 0 || revoked) {
        old = e->response;
        e->response = len > 0 ? der : NULL;
        e->response_len = len;
        e->state = len > 0 ? GOOD : WANTED;
        e->until_s = now + good_for_s;
    }
    e->next_s = now + (len > 0 ? ask_again_in(good_for_s) : RETRY_S);
    pthread_mutex_unlock(&t->shared.lock);
    OPENSSL_free(old);
    OCSP_RESPONSE_free(response);
}

/* -- the thread -- */

/* The one to ask for now; NULL: none, and *next_s says when there will be. Forgets on the way what
 * nobody used for long. */
static struct staple *due_locked(struct sb_tls_stapling *t, int64_t now, int64_t *next_s)
{
    struct staple *due = NULL, *unused = NULL;
    struct sb_map_slot *slot;

    *next_s = now + REFRESH_MAX_S;
    sb_map_each (slot, &t->shared.staples) {
        struct staple *e = slot->value;

        if (now - e->used_s > UNUSED_S)
            unused = e;
        else if (e->state == HOPELESS)
            continue;
        else if (e->next_s <= now)
            due = e;
        else if (e->next_s < *next_s)
            *next_s = e->next_s;
    }
    if (unused) { /* one a round is enough */
        sb_map_remove(&t->shared.staples,
                      sb_str_n((const char *)unused->digest, sizeof unused->digest));
        free_staple(unused);
    }
    return due;
}

static void release(struct sb_tls_stapling *t)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, &t->shared.staples)
        free_staple(slot->value);
    sb_map_release(&t->shared.staples);
    pthread_cond_destroy(&t->shared.wake);
    pthread_mutex_destroy(&t->shared.lock);
    sk_X509_pop_free(t->trusted, X509_free);
    free(t->responder);
    free(t);
}

static void *run(void *arg)
{
    struct sb_tls_stapling *t = arg;
    sigset_t all;

    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    pthread_mutex_lock(&t->shared.lock);
    while (!t->shared.stopping) {
        int64_t now = now_s(), next_s;
        struct staple *due = due_locked(t, now, &next_s);
        struct timespec until;

        if (due) {
            t->shared.asking = true;
            pthread_mutex_unlock(&t->shared.lock);
            refresh(t, due);
            pthread_mutex_lock(&t->shared.lock);
            t->shared.asking = false;
            if (t->shared.stopping) {
                pthread_mutex_unlock(&t->shared.lock);
                release(t);
                return NULL;
            }
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += next_s - now;
        pthread_cond_timedwait(&t->shared.wake, &t->shared.lock, &until);
    }
    pthread_mutex_unlock(&t->shared.lock);
    return NULL;
}

static void init_shared(struct sb_tls_stapling *t)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->shared.wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&t->shared.lock, NULL);
}

enum sb_rc sb_tls_stapling_new(SSL_CTX *ctx, const struct sb_settings *s,
                               struct sb_tls_stapling **out, struct sb_err *err)
{
    const char *on = sb_tls_directive(s, "proxy", "ssl_stapling");
    const char *responder = sb_tls_directive(s, "proxy", "ssl_stapling_responder");
    const char *trusted = sb_tls_directive(s, "proxy", "ssl_trusted_certificate");
    struct sb_tls_stapling *t;

    *out = NULL;
    if (!on || strcmp(on, "on") != 0)
        return SB_OK;
    t = sb_xcalloc(1, sizeof *t);
    init_shared(t);
    if (responder)
        t->responder = copy_text(responder);
    if (trusted && !(t->trusted = sb_tls_load_bundle(s, trusted))) {
        release(t);
        return sb_err_set(err, SB_INVALID,
                          "ssl_trusted_certificate: failed loading certificate from %s", trusted);
    }
    if (pthread_create(&t->thread, NULL, run, t)) {
        release(t);
        return sb_err_set(err, SB_IO, "cannot start the thread for OCSP stapling");
    }
    SSL_CTX_set_tlsext_status_cb(ctx, staple);
    SSL_CTX_set_tlsext_status_arg(ctx, t);
    *out = t;
    return SB_OK;
}

void sb_tls_stapling_free(struct sb_tls_stapling *t)
{
    bool asking;

    if (!t)
        return;
    pthread_mutex_lock(&t->shared.lock);
    t->shared.stopping = true;
    asking = t->shared.asking;
    pthread_cond_signal(&t->shared.wake);
    if (asking)
        pthread_detach(t->thread);
    pthread_mutex_unlock(&t->shared.lock);
    if (asking)
        return;
    pthread_join(t->thread, NULL);
    release(t);
}
