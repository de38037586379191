/* xxhash32.h - the 32-bit xxHash, which Kong's consistent hashing is defined by. */
#ifndef SB_DATAPLANE_UPSTREAM_XXHASH32_H
#define SB_DATAPLANE_UPSTREAM_XXHASH32_H

#include <stdint.h>

#include "shared/str.h"

uint32_t sb_xxhash32(struct sb_str s); /* seed 0 */

#endif
