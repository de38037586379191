/* The chunked decoder: data never grows, and the pieces the input comes in change nothing. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/http/chunked.h"
#include "shared/arena.h"
#include "shared/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    enum sb_chunk_result result;
    size_t decoded, used;
    uint64_t sum;
};

static struct outcome decode(const char *buf, size_t size, size_t step)
{
    struct sb_chunked d = {0};
    struct outcome o = {.result = SB_CHUNK_MORE};

    while (o.result == SB_CHUNK_MORE && o.used < size) {
        size_t n = size - o.used < step ? size - o.used : step;
        struct sb_str in = sb_str_n(buf + o.used, n), piece;

        while ((o.result = sb_chunked_next(&d, &in, &piece)) == SB_CHUNK_DATA ||
               o.result == SB_CHUNK_TRAILER) {
            sb_assert(piece.len > 0);
            for (size_t i = 0; i < piece.len; i++)
                o.sum = o.sum * 31 + (unsigned char)piece.p[i];
            o.decoded += piece.len;
        }
        o.used += n - in.len;
    }
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *buf = sb_xmalloc(size);
    struct outcome whole, pieces;

    memcpy(buf, data, size);
    whole = decode(buf, size, size ? size : 1);
    pieces = decode(buf, size, size ? 1 + data[0] % 5 : 1);
    sb_assert(whole.decoded <= size);
    sb_assert(whole.result == pieces.result);
    if (whole.result != SB_CHUNK_BAD)
        sb_assert(whole.decoded == pieces.decoded && whole.sum == pieces.sum &&
                  whole.used == pieces.used);
    free(buf);
    return 0;
}
