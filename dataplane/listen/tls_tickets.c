/* tls_tickets.c - see tls_tickets.h.
 *
 *     keys   [ 3 | 2 | 1 | 0 ]      newest first: 3 seals, all open
 *
 * They lie in memory that the master made and that the processes which it starts share, so a ticket
 * outlives a reload. Who dies with the lock in hand leaves keys that are at worst of no use: what
 * they sealed does not verify.
 *
 * (I1) A key seals for every_s after it was made, so it may go lifetime_s after that: no ticket of
 * its lives longer.
 *
 * A TLS 1.3 client uses a ticket once (RFC 8446, C.4), so who resumes gets the next one.
 *
 * The cipher is fetched once: OpenSSL's own way looks it up again for every ticket.
 */
#include "dataplane/listen/tls_tickets.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/arena.h"
#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/err.h"

enum { NAME_LEN = 16, SHARE = 5, KEYS_MAX = SHARE + 2 };

struct key {
    int64_t made_s;
    unsigned char name[NAME_LEN], aes[32], hmac[32];
};

struct shared {
    pthread_mutex_t lock;      /* guards the rest; processes share it */
    struct key keys[KEYS_MAX]; /* newest first */
    unsigned n;
};

struct sb_tls_tickets {
    EVP_CIPHER *cipher;
    int64_t lifetime_s, every_s;
    size_t secret_len; /* of each half of a key: 32, or what a given key has */
    struct key *given; /* ssl_session_ticket_key; NULL: keys are made */
    struct shared *shared;
    bool own;
};

static struct shared *handed; /* by the master; NULL: none */

static int64_t now_s(void)
{
    return sb_clock_ms() / 1000;
}

static void init_shared(struct shared *s)
{
    pthread_mutexattr_t how;

    pthread_mutexattr_init(&how);
    pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&s->lock, &how);
    pthread_mutexattr_destroy(&how);
}

static void lock(struct sb_tls_tickets *t)
{
    if (pthread_mutex_lock(&t->shared->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&t->shared->lock);
    if (t->shared->n > KEYS_MAX)
        t->shared->n = 0;
}

static struct shared *map(int fd)
{
    void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    return p == MAP_FAILED ? NULL : p;
}

int sb_tls_tickets_memory(void)
{
    int fd = memfd_create("tickets", MFD_CLOEXEC);
    struct shared *s = fd >= 0 && !ftruncate(fd, sizeof *s) ? map(fd) : NULL;

    if (s) {
        init_shared(s);
        munmap(s, sizeof *s);
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

void sb_tls_tickets_share(int fd)
{
    handed = map(fd);
    close(fd);
}

static bool is_open(const struct sb_tls_tickets *t, const struct key *key, int64_t now)
{
    return now < key->made_s + t->every_s + t->lifetime_s;
}

static bool seals(const struct sb_tls_tickets *t, int64_t now)
{
    return t->shared->n && now < t->shared->keys[0].made_s + t->every_s;
}

/* Puts a new key in front and forgets the old ones. */
static void renew_locked(struct sb_tls_tickets *t, int64_t now)
{
    struct key *keys = t->shared->keys;

    if (t->shared->n == KEYS_MAX)
        t->shared->n--;
    memmove(keys + 1, keys, t->shared->n * sizeof *keys);
    sb_random(keys, sizeof *keys);
    keys[0].made_s = now;
    t->shared->n++;
    while (!is_open(t, &keys[t->shared->n - 1], now))
        t->shared->n--;
    OPENSSL_cleanse(keys + t->shared->n, (KEYS_MAX - t->shared->n) * sizeof *keys);
}

static struct key newest(struct sb_tls_tickets *t)
{
    int64_t now = now_s();
    struct key key;

    if (t->given)
        return *t->given;
    lock(t);
    if (!seals(t, now))
        renew_locked(t, now);
    key = t->shared->keys[0];
    pthread_mutex_unlock(&t->shared->lock);
    return key;
}

/* Which one: 0 is the newest, -1 none. */
static int find(struct sb_tls_tickets *t, const unsigned char name[NAME_LEN], struct key *out)
{
    int64_t now = now_s();
    int found = -1;

    if (t->given) {
        *out = *t->given;
        return memcmp(out->name, name, NAME_LEN) == 0 ? 0 : -1;
    }
    lock(t);
    for (unsigned i = 0; found < 0 && i < t->shared->n; i++) {
        const struct key *key = &t->shared->keys[i];

        if (memcmp(key->name, name, NAME_LEN) != 0 || !is_open(t, key, now))
            continue;
        *out = *key;
        found = (int)i;
    }
    pthread_mutex_unlock(&t->shared->lock);
    return found;
}

static bool set_mac(const struct sb_tls_tickets *t, EVP_MAC_CTX *mac, struct key *key)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->hmac, t->secret_len),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* OpenSSL's callback: 1 done, 2 done and send a new ticket, 0 unknown ticket, -1 failed. */
static int use_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                   EVP_MAC_CTX *mac, int seal)
{
    struct sb_tls_tickets *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct key key = {0};
    int at = 0;

    if (seal) {
        key = newest(t);
        memcpy(name, key.name, NAME_LEN);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(t->cipher)) != 1)
            at = -2;
    } else {
        at = find(t, name, &key);
    }
    if (at >= 0 && (EVP_CipherInit_ex(cipher, t->cipher, NULL, key.aes, iv, seal) != 1 ||
                    !set_mac(t, mac, &key)))
        at = -2;
    OPENSSL_cleanse(&key, sizeof key);
    if (at < 0)
        return at == -1 ? 0 : -1;
    return !seal && (at > 0 || SSL_version(ssl) >= TLS1_3_VERSION) ? 2 : 1;
}

/* As nginx has it: a name of 16 bytes, then key and HMAC key, of 16 bytes each with AES-128, or
 * HMAC key and key, of 32 bytes each with AES-256. */
static bool take_given(struct sb_tls_tickets *t, struct sb_str text)
{
    const unsigned char *p = (const unsigned char *)text.p;

    if (!text.p)
        return true;
    if (text.len != NAME_LEN + 2 * 16 && text.len != NAME_LEN + 2 * 32)
        return false;
    t->secret_len = (text.len - NAME_LEN) / 2;
    t->given = sb_xcalloc(1, sizeof *t->given);
    memcpy(t->given->name, p, NAME_LEN);
    memcpy(t->secret_len == 16 ? t->given->aes : t->given->hmac, p + NAME_LEN, t->secret_len);
    memcpy(t->secret_len == 16 ? t->given->hmac : t->given->aes, p + NAME_LEN + t->secret_len,
           t->secret_len);
    return true;
}

struct sb_tls_tickets *sb_tls_tickets_new(SSL_CTX *ctx, int64_t lifetime_s, struct sb_str given)
{
    struct sb_tls_tickets *t = sb_xcalloc(1, sizeof *t);

    t->secret_len = sizeof t->shared->keys[0].aes;
    if (!take_given(t, given)) {
        free(t);
        return NULL;
    }
    t->cipher = EVP_CIPHER_fetch(NULL, t->secret_len == 16 ? "AES-128-CBC" : "AES-256-CBC", NULL);
    sb_assert(t->cipher);
    t->lifetime_s = lifetime_s;
    t->every_s = lifetime_s / SHARE > 0 ? lifetime_s / SHARE : 1;
    t->shared = handed;
    t->own = !handed;
    if (t->own) {
        t->shared = sb_xcalloc(1, sizeof *t->shared);
        init_shared(t->shared);
    }
    SSL_CTX_set_app_data(ctx, t);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, use_key);
    return t;
}

void sb_tls_tickets_free(struct sb_tls_tickets *t)
{
    if (!t)
        return;
    EVP_CIPHER_free(t->cipher);
    if (t->own) {
        OPENSSL_cleanse(t->shared->keys, sizeof t->shared->keys);
        free(t->shared);
    }
    if (t->given)
        OPENSSL_cleanse(t->given, sizeof *t->given);
    free(t->given);
    free(t);
}
