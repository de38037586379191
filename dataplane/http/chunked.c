#include "dataplane/http/chunked.h"

enum { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LF, ENDED };

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of framing. False: refused. */
static bool framing(struct sb_chunked *d, char c)
{
    int digit;

    switch (d->state) {
    case SIZE:
        digit = hex(c);
        if (digit >= 0) {
            d->left = d->left << 4 | (unsigned)digit;
            return ++d->digits <= 15;
        }
        if (d->digits == 0)
            return false;
        d->state = c == '\r' ? SIZE_LF : EXTENSION;
        return c == '\r' || c == ';' || c == ' ' || c == '\t';
    case EXTENSION:
        if (c == '\r')
            d->state = SIZE_LF;
        return c != '\n' && c != '\0' && ++d->extension <= SB_CHUNK_OVERHEAD_MAX;
    case SIZE_LF:
        d->state = d->left ? DATA : TRAILER;
        d->trailer_empty = true;
        d->digits = 0;
        return c == '\n';
    case DATA_CR:
        d->state = DATA_LF;
        return c == '\r';
    case DATA_LF:
        d->state = SIZE;
        return c == '\n';
    case TRAILER:
        if (c == '\r') {
            d->state = TRAILER_LF;
            return true;
        }
        d->trailer_empty = false;
        return c != '\n' && c != '\0' && ++d->trailer <= SB_CHUNK_OVERHEAD_MAX;
    case TRAILER_LF:
        d->state = d->trailer_empty ? ENDED : TRAILER;
        d->trailer_empty = true;
        return c == '\n';
    default:
        return false;
    }
}

enum sb_chunk_result sb_chunked_next(struct sb_chunked *d, struct sb_str *in, struct sb_str *data)
{
    while (in->len) {
        if (d->state == DATA) {
            *data = sb_str_first(*in, d->left);
            *in = sb_str_from(*in, data->len);
            d->left -= data->len;
            if (d->left == 0)
                d->state = DATA_CR;
            return SB_CHUNK_DATA;
        }
        if (!framing(d, in->p[0]))
            return SB_CHUNK_BAD;
        *in = sb_str_from(*in, 1);
        if (d->state == ENDED)
            return SB_CHUNK_END;
    }
    return SB_CHUNK_MORE;
}
