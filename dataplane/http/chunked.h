/* chunked.h - the chunked transfer coding, taken off as it streams by.
 *
 * Strict: sizes are 1 to 15 hex digits, lines end with CRLF and have no controls. Blanks may stand
 * between a size and its extension. Extensions are skipped, trailers handed out, both up to a limit
 * a message. Data and trailers are slices of the input, never copied.
 */
#ifndef SB_DATAPLANE_HTTP_CHUNKED_H
#define SB_DATAPLANE_HTTP_CHUNKED_H

#include <stdint.h>

#include "shared/str.h"

enum { SB_CHUNK_OVERHEAD_MAX = 16384 }; /* bytes of extensions, and of trailers, in one message */

struct sb_chunked {
    uint8_t state, digits;
    bool line_empty; /* of a trailer */
    uint32_t extension, trailer;
    uint64_t left; /* of the current chunk's data */
};

enum sb_chunk_result {
    SB_CHUNK_MORE,    /* input used up */
    SB_CHUNK_DATA,    /* *data is the next piece, not empty */
    SB_CHUNK_TRAILER, /* *data is the next piece of the trailer section; its lines end with LF */
    SB_CHUNK_END,     /* the message ended; what follows stays in *in */
    SB_CHUNK_BAD,
};

/* A zeroed struct starts a message. Takes bytes off the front of *in. */
enum sb_chunk_result sb_chunked_next(struct sb_chunked *d, struct sb_str *in, struct sb_str *data);

#endif
