/* crypto_memory.c - see crypto_memory.h.
 *
 *   [ size, class | the piece ... ]     every piece knows where it belongs
 *
 * Classes are 16 bytes apart up to 1 KiB, then grow by a half or a third up to what holds a TLS
 * record; what is larger is malloc's. (I1) A piece in class c is exactly as large as c says, so it
 * may go to any thread's list of c.
 */
#include "shared/crypto_memory.h"

#include <openssl/crypto.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEP = 16,
    SMALL_MAX = 1024,
    SMALL_CLASSES = SMALL_MAX / STEP,
    KEEP_LEN = 32 * 1024, /* bytes that a list keeps ... */
    KEEP_MIN = 4,         /* ... or so many pieces */
};

static const size_t large[] = {1536, 2048, 3072, 4096, 6144, 8192, 12288, 18432, 24576, 36864};

enum {
    LARGE_CLASSES = sizeof large / sizeof *large,
    CLASSES = SMALL_CLASSES + LARGE_CLASSES,
    NO_CLASS = CLASSES,
};

struct piece {
    union {
        size_t len; /* in use */
        struct piece *next;
    };
    uint32_t class;
    uint32_t unused;
};

_Static_assert(sizeof(struct piece) == 16, "what follows must be aligned");

struct list {
    struct piece *first;
    uint32_t count, keep_max; /* keep_max: 0 where the thread keeps nothing */
};

static _Thread_local struct list lists[CLASSES + 1]; /* NO_CLASS keeps nothing */

static __attribute__((noinline)) unsigned large_class_of(size_t len)
{
    for (unsigned i = 0; i < LARGE_CLASSES; i++)
        if (len <= large[i])
            return SMALL_CLASSES + i;
    return NO_CLASS;
}

static inline unsigned class_of(size_t len)
{
    return len <= SMALL_MAX ? (unsigned)((len + STEP - 1) / STEP - (len > 0)) : large_class_of(len);
}

static size_t class_len(unsigned class)
{
    return class < SMALL_CLASSES ? (size_t)(class + 1) * STEP : large[class - SMALL_CLASSES];
}

static __attribute__((noinline)) void *take_new(size_t len, unsigned class)
{
    struct piece *p = malloc(sizeof *p + (class == NO_CLASS ? len : class_len(class)));

    if (!p)
        return NULL;
    p->class = class;
    p->len = len;
    return p + 1;
}

static void *take(size_t len, const char *file, int line)
{
    unsigned class = class_of(len);
    struct piece *p;

    (void)file;
    (void)line;
    p = lists[class].first;
    if (!p)
        return take_new(len, class);
    lists[class].first = p->next;
    lists[class].count--;
    p->len = len;
    return p + 1;
}

static void give(void *block, const char *file, int line)
{
    struct piece *p = block;
    struct list *list;

    (void)file;
    (void)line;
    if (!p--)
        return;
    list = &lists[p->class];
    if (list->count >= list->keep_max) {
        free(p);
        return;
    }
    p->next = list->first;
    list->first = p;
    list->count++;
}

static void *resize(void *block, size_t len, const char *file, int line)
{
    struct piece *p = block;
    void *other;

    if (!p--)
        return take(len, file, line);
    if (p->class != NO_CLASS && len <= class_len(p->class)) {
        p->len = len;
        return block;
    }
    other = take(len, file, line);
    if (!other)
        return NULL;
    memcpy(other, block, p->len < len ? p->len : len);
    give(block, file, line);
    return other;
}

/* A sanitizer wants to see every allocation for itself. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

void sb_crypto_memory_init(void)
{
    if (!SANITIZED)
        (void)CRYPTO_set_mem_functions(take, resize, give);
}

void sb_crypto_memory_pool(void)
{
    for (unsigned i = 0; i < CLASSES; i++) {
        size_t n = KEEP_LEN / class_len(i);

        lists[i].keep_max = n > KEEP_MIN ? (uint32_t)n : KEEP_MIN;
    }
}

void sb_crypto_memory_release(void)
{
    for (unsigned i = 0; i < CLASSES; i++)
        for (struct piece *p = lists[i].first, *next; p; p = next) {
            next = p->next;
            free(p);
        }
    memset(lists, 0, sizeof lists);
}
