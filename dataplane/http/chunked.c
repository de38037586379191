#include "dataplane/http/chunked.h"

#include <string.h>

enum {
    SIZE,
    BLANK, /* behind a size */
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER,
    TRAILER_LF,
    ENDED
};

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_control(char c)
{
    return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
}

/* Behind the digits: blanks, then an extension or the end of the line. */
static bool behind_size(struct sb_chunked *d, char c)
{
    if (c == '\r')
        d->state = SIZE_LF;
    else if (c == ';')
        d->state = EXTENSION;
    else if (c == ' ' || c == '\t')
        d->state = BLANK;
    else
        return false;
    return ++d->extension <= SB_CHUNK_OVERHEAD_MAX || c == '\r';
}

/* One byte of framing. False: refused. */
static bool framing(struct sb_chunked *d, char c)
{
    int digit;

    switch (d->state) {
    case SIZE:
        digit = hex(c);
        if (digit < 0)
            return d->digits && behind_size(d, c);
        d->left = d->left << 4 | (unsigned)digit;
        return ++d->digits <= 15;
    case BLANK:
        return behind_size(d, c);
    case EXTENSION:
        if (c == '\r')
            d->state = SIZE_LF;
        else if (is_control(c))
            return false;
        return ++d->extension <= SB_CHUNK_OVERHEAD_MAX;
    case SIZE_LF:
        d->state = d->left ? DATA : TRAILER;
        d->line_empty = true;
        d->digits = 0;
        return c == '\n';
    case DATA_CR:
        d->state = DATA_LF;
        return c == '\r';
    case DATA_LF:
        d->state = SIZE;
        return c == '\n';
    case TRAILER:
        d->state = TRAILER_LF;
        return c == '\r';
    case TRAILER_LF:
        d->state = d->line_empty ? ENDED : TRAILER;
        return c == '\n';
    default:
        return false;
    }
}

static void take_data(struct sb_chunked *d, struct sb_str *in, struct sb_str *data)
{
    *data = sb_str_first(*in, d->left);
    *in = sb_str_from(*in, data->len);
    d->left -= data->len;
    if (d->left == 0)
        d->state = DATA_CR;
}

/* The bytes of a trailer line up to its CR; of its end, the LF. */
static enum sb_chunk_result take_trailer(struct sb_chunked *d, struct sb_str *in,
                                         struct sb_str *data)
{
    size_t n = 0;

    if (d->state == TRAILER_LF) {
        d->state = TRAILER;
        d->line_empty = true;
        n = in->p[0] == '\n';
    } else {
        while (n < in->len && !is_control(in->p[n]))
            n++;
        d->line_empty = false;
    }
    d->trailer += (uint32_t)n;
    *data = sb_str_first(*in, n);
    *in = sb_str_from(*in, n);
    return n && d->trailer <= SB_CHUNK_OVERHEAD_MAX ? SB_CHUNK_TRAILER : SB_CHUNK_BAD;
}

enum sb_chunk_result sb_chunked_next(struct sb_chunked *d, struct sb_str *in, struct sb_str *data)
{
    while (in->len) {
        if (d->state == DATA) {
            take_data(d, in, data);
            return SB_CHUNK_DATA;
        }
        if ((d->state == TRAILER && in->p[0] != '\r') || (d->state == TRAILER_LF && !d->line_empty))
            return take_trailer(d, in, data);
        if (!framing(d, in->p[0]))
            return SB_CHUNK_BAD;
        *in = sb_str_from(*in, 1);
        if (d->state == ENDED)
            return SB_CHUNK_END;
    }
    return SB_CHUNK_MORE;
}
