/* arena.c - blocks in a list, bump allocation within the newest.
 *
 *   arena -> [ block | block | block ]      newest first; big allocations get a block of their own
 *
 * The unused rest of a block is poisoned for AddressSanitizer, so that it sees into the arena.
 */
#include "shared/arena.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/err.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

enum { ALIGN = 16, BLOCK_LEN = 4096 };

struct block {
    struct block *next;
    size_t cap, used;
    _Alignas(ALIGN) char data[];
};

struct deferred {
    struct deferred *next;
    void (*fn)(void *arg);
    void *arg;
};

struct sb_arena {
    struct block *blocks;
    struct deferred *deferred;
    size_t block_len, size;
};

static void out_of_memory(void)
{
    static const char msg[] = "out of memory\n";

    fwrite(msg, 1, sizeof msg - 1, stderr);
    abort();
}

void *sb_xmalloc(size_t len)
{
    void *p = malloc(len ? len : 1);

    if (!p)
        out_of_memory();
    return p;
}

void *sb_xcalloc(size_t n, size_t len)
{
    void *p = calloc(n ? n : 1, len ? len : 1);

    if (!p)
        out_of_memory();
    return p;
}

void *sb_xrealloc(void *p, size_t len)
{
    p = realloc(p, len ? len : 1);
    if (!p)
        out_of_memory();
    return p;
}

struct sb_arena *sb_arena_new(size_t block_len)
{
    struct sb_arena *arena = sb_xcalloc(1, sizeof *arena);

    arena->block_len = block_len ? block_len : BLOCK_LEN;
    return arena;
}

static void run_deferred(struct sb_arena *arena)
{
    while (arena->deferred) {
        struct deferred *d = arena->deferred;

        arena->deferred = d->next; /* d itself lives in the arena */
        d->fn(d->arg);
    }
}

static void free_blocks(struct sb_arena *arena, struct block *keep)
{
    struct block *next;

    for (struct block *b = arena->blocks; b; b = next) {
        next = b->next;
        if (b == keep)
            continue;
        arena->size -= sizeof *b + b->cap;
        UNPOISON(b->data, b->cap);
        free(b);
    }
    arena->blocks = keep;
}

void sb_arena_free(struct sb_arena *arena)
{
    if (!arena)
        return;
    run_deferred(arena);
    free_blocks(arena, NULL);
    free(arena);
}

void sb_arena_clear(struct sb_arena *arena)
{
    struct block *first = arena->blocks;

    run_deferred(arena);
    while (first && first->next)
        first = first->next;
    if (first && first->cap > arena->block_len)
        first = NULL; /* a big one of its own is not worth keeping */
    free_blocks(arena, first);
    if (first) {
        first->next = NULL;
        first->used = 0;
        POISON(first->data, first->cap);
    }
}

static struct block *new_block(struct sb_arena *arena, size_t cap)
{
    struct block *b = sb_xmalloc(sizeof *b + cap);

    b->cap = cap;
    b->used = 0;
    POISON(b->data, cap);
    arena->size += sizeof *b + cap;
    return b;
}

/* A block for len bytes. One that only this allocation fits goes behind the newest, which keeps
 * serving the small ones. */
static struct block *block_for(struct sb_arena *arena, size_t len)
{
    struct block *b = new_block(arena, len > arena->block_len ? len : arena->block_len);

    if (len > arena->block_len / 2 && arena->blocks) {
        b->next = arena->blocks->next;
        arena->blocks->next = b;
    } else {
        b->next = arena->blocks;
        arena->blocks = b;
    }
    return b;
}

void *sb_arena_alloc(struct sb_arena *arena, size_t len)
{
    struct block *b = arena->blocks;
    size_t need = (len + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    char *p;

    if (need < len)
        out_of_memory();
    if (need == 0)
        need = ALIGN;
    if (!b || b->cap - b->used < need)
        b = block_for(arena, need);
    p = b->data + b->used;
    b->used += need;
    UNPOISON(p, len ? len : 1);
    return p;
}

void *sb_arena_zero(struct sb_arena *arena, size_t len)
{
    return memset(sb_arena_alloc(arena, len), 0, len);
}

char *sb_arena_cstr(struct sb_arena *arena, struct sb_str s)
{
    char *p = sb_arena_alloc(arena, s.len + 1);

    if (s.len)
        memcpy(p, s.p, s.len);
    p[s.len] = '\0';
    return p;
}

struct sb_str sb_arena_lower(struct sb_arena *arena, struct sb_str s)
{
    char *copy = sb_arena_cstr(arena, s);

    for (size_t i = 0; i < s.len; i++)
        if (copy[i] >= 'A' && copy[i] <= 'Z')
            copy[i] |= 0x20;
    return sb_str_n(copy, s.len);
}

struct sb_str sb_arena_str(struct sb_arena *arena, struct sb_str s)
{
    return (struct sb_str){sb_arena_cstr(arena, s), s.len};
}

struct sb_str sb_arena_vprintf(struct sb_arena *arena, const char *fmt, va_list ap)
{
    va_list again;
    char *p;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    sb_assert(n >= 0);
    p = sb_arena_alloc(arena, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return (struct sb_str){p, (size_t)n};
}

struct sb_str sb_arena_printf(struct sb_arena *arena, const char *fmt, ...)
{
    struct sb_str s;
    va_list ap;

    va_start(ap, fmt);
    s = sb_arena_vprintf(arena, fmt, ap);
    va_end(ap);
    return s;
}

void sb_arena_defer(struct sb_arena *arena, void (*fn)(void *arg), void *arg)
{
    struct deferred *d = sb_arena_alloc(arena, sizeof *d);

    *d = (struct deferred){arena->deferred, fn, arg};
    arena->deferred = d;
}

size_t sb_arena_size(const struct sb_arena *arena)
{
    return arena->size;
}

/* -- a thread's own memory -- */

struct thread_memory {
    struct thread_memory *next;
    max_align_t memory[];
};

static pthread_once_t thread_memory_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_memory_key;

static void free_thread_memory(void *arg)
{
    for (struct thread_memory *m = arg, *next; m; m = next) {
        next = m->next;
        free(m);
    }
}

static void make_thread_memory_key(void)
{
    sb_assert(pthread_key_create(&thread_memory_key, free_thread_memory) == 0);
}

void *sb_thread_memory_make(void **at, size_t len)
{
    struct thread_memory *m = sb_xcalloc(1, sizeof *m + len);

    pthread_once(&thread_memory_once, make_thread_memory_key);
    m->next = pthread_getspecific(thread_memory_key);
    pthread_setspecific(thread_memory_key, m);
    *at = m->memory;
    return *at;
}
