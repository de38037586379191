/* OpenSSL's memory from a thread's lists: what was written stays, whoever gives it back. */
#include <openssl/crypto.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shared/crypto_memory.h"

enum { PIECES = 400, ROUNDS = 20000, LEN_MAX = 40000 };

struct piece {
    unsigned char *p;
    size_t len;
    unsigned char fill;
};

static void fill(struct piece *it, unsigned char with)
{
    it->fill = with;
    memset(it->p, with, it->len);
}

static void check(const struct piece *it, size_t len)
{
    for (size_t i = 0; i < len; i++)
        assert_int_equal(it->p[i], it->fill);
}

/* Small ones mostly, as with handshakes. */
static size_t some_len(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 8) % ((*seed >> 28) ? 1200 : LEN_MAX) + 1;
}

static void churn(struct piece *pieces, uint32_t seed)
{
    for (int i = 0; i < ROUNDS; i++) {
        size_t len = some_len(&seed);
        struct piece *it = &pieces[(seed >> 4) % PIECES];

        if (!it->p) {
            *it = (struct piece){.p = OPENSSL_malloc(len), .len = len};
            assert_int_equal((uintptr_t)it->p % 16, 0);
        } else if (seed & 1) {
            check(it, it->len);
            OPENSSL_free(it->p);
            it->p = NULL;
            continue;
        } else {
            it->p = OPENSSL_realloc(it->p, len);
            check(it, len < it->len ? len : it->len);
            it->len = len;
        }
        fill(it, (unsigned char)i);
    }
}

static void give_back(struct piece *pieces)
{
    for (int i = 0; i < PIECES; i++) {
        if (pieces[i].p)
            check(&pieces[i], pieces[i].len);
        OPENSSL_free(pieces[i].p);
        pieces[i].p = NULL;
    }
}

static void *worker(void *arg)
{
    sb_crypto_memory_pool();
    give_back(arg); /* what another thread took */
    churn(arg, 7);
    sb_crypto_memory_release();
    return NULL;
}

static void test_pieces_keep_what_is_in_them(void **state)
{
    static struct piece pieces[PIECES];
    pthread_t thread;

    (void)state;
    churn(pieces, 1);
    sb_crypto_memory_pool();
    churn(pieces, 2);
    assert_int_equal(pthread_create(&thread, NULL, worker, pieces), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    give_back(pieces);
    sb_crypto_memory_release();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_keep_what_is_in_them),
    };

    sb_crypto_memory_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
