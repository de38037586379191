/* crypto_memory.h - OpenSSL's memory, from lists of the thread that asks.
 *
 * A TLS handshake takes and gives back some 750 pieces of memory, and a connection that speaks
 * takes its record buffers anew each time it has something to say. Threads that call
 * sb_crypto_memory_pool() get them from lists of their own, a size class each, without locks; what
 * a list may keep is bounded. Every other thread is served by malloc as ever, and a piece may be
 * given back by another thread than took it.
 */
#ifndef SB_SHARED_CRYPTO_MEMORY_H
#define SB_SHARED_CRYPTO_MEMORY_H

/* Once, first thing in main(): OpenSSL takes an allocator only before it allocated anything. With a
 * sanitizer that watches the heap it leaves OpenSSL alone. */
void sb_crypto_memory_init(void);

/* This thread keeps what it gets back, until sb_crypto_memory_release(). */
void sb_crypto_memory_pool(void);
void sb_crypto_memory_release(void);

#endif
