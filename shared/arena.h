/* arena.h - memory with a lifetime.
 *
 * Three lifetimes cover nearly everything: the snapshot, the request, the process. Each has an
 * arena: allocate and forget; freeing the arena frees it all. What is not memory (an fd, a
 * PGresult, an SSL handle) is given to it with sb_arena_defer().
 *
 * An arena belongs to one thread at a time and is never locked. No memory ends the process, so
 * nothing here returns NULL. Blocks are 16-byte aligned.
 */
#ifndef SB_SHARED_ARENA_H
#define SB_SHARED_ARENA_H

#include <stdarg.h>
#include <stddef.h>

#include "shared/str.h"

struct sb_arena;

/* A new arena that grows by blocks of block_len bytes (0: 4 KiB). The caller frees it. */
struct sb_arena *sb_arena_new(size_t block_len);

/* Runs the deferred calls, last given first, and frees everything. NULL is nothing to do. */
void sb_arena_free(struct sb_arena *arena);

/* Runs the deferred calls and empties the arena, but keeps its first block for the next use. */
void sb_arena_clear(struct sb_arena *arena);

/* len bytes, undefined; zero: cleared. len 0 is a valid, unique pointer. */
void *sb_arena_alloc(struct sb_arena *arena, size_t len);
void *sb_arena_zero(struct sb_arena *arena, size_t len);

/* Copies; the results are followed by a NUL that len does not count. */
struct sb_str sb_arena_str(struct sb_arena *arena, struct sb_str s);
char *sb_arena_cstr(struct sb_arena *arena, struct sb_str s);
struct sb_str sb_arena_lower(struct sb_arena *arena, struct sb_str s); /* ASCII in lower case */
struct sb_str sb_arena_printf(struct sb_arena *arena, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
struct sb_str sb_arena_vprintf(struct sb_arena *arena, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

/* Calls fn(arg) when the arena is cleared or freed. */
void sb_arena_defer(struct sb_arena *arena, void (*fn)(void *arg), void *arg);

/* Bytes taken from the system: what the arena costs. */
size_t sb_arena_size(const struct sb_arena *arena);

#define SB_NEW(arena, type)      ((type *)sb_arena_zero((arena), sizeof(type)))
#define SB_NEW_N(arena, type, n) ((type *)sb_arena_zero((arena), sizeof(type) * (size_t)(n)))

/* Memory of the calling thread's own: zeroed, made at the first call, freed when the thread ends.
 * at: a _Thread_local pointer that keeps it. Large _Thread_local arrays would cost every thread
 * their whole length, used or not. */
void *sb_thread_memory_make(void **at, size_t len);

static inline void *sb_thread_memory(void **at, size_t len)
{
    return *at ? *at : sb_thread_memory_make(at, len);
}

/* The heap, for the few that live outside arenas (containers, connections). They never fail. */
void *sb_xmalloc(size_t len);
void *sb_xcalloc(size_t n, size_t len);
void *sb_xrealloc(void *p, size_t len);

#endif
