/* chunked.h - the chunked transfer coding, taken off as it streams by.
 *
 * Strict: sizes are 1 to 16 hex digits, lines end with CRLF, extensions and trailers are skipped up
 * to a limit a message. Data is handed out as slices of the input, never copied.
 */
#ifndef SB_DATAPLANE_HTTP_CHUNKED_H
#define SB_DATAPLANE_HTTP_CHUNKED_H

#include <stdint.h>

#include "shared/str.h"

enum { SB_CHUNK_OVERHEAD_MAX = 16384 }; /* bytes of extensions, and of trailers, in one message */

struct sb_chunked {
    uint8_t state, digits;
    bool trailer_empty;
    uint32_t extension, trailer;
    uint64_t left; /* of the current chunk's data */
};

enum sb_chunk_result {
    SB_CHUNK_MORE, /* input used up */
    SB_CHUNK_DATA, /* *data is the next piece, not empty */
    SB_CHUNK_END,  /* the message ended; what follows stays in *in */
    SB_CHUNK_BAD,
};

/* A zeroed struct starts a message. Takes bytes off the front of *in. */
enum sb_chunk_result sb_chunked_next(struct sb_chunked *d, struct sb_str *in, struct sb_str *data);

#endif
