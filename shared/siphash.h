/* siphash.h - SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012): a keyed hash for
 * short strings that strangers choose. Who does not know the key can neither make two strings
 * collide nor learn anything from how long it takes to compare two hashes.
 */
#ifndef SB_SHARED_SIPHASH_H
#define SB_SHARED_SIPHASH_H

#include <stdint.h>

#include "shared/str.h"

struct sb_siphash_key {
    uint64_t k[2];
};

/* Of the eight bytes of `tweak`, least first, and then the string. */
void sb_siphash(const struct sb_siphash_key *key, uint64_t tweak, struct sb_str in,
                uint64_t out[2]);

#endif
