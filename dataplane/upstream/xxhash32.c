#include "dataplane/upstream/xxhash32.h"

#define P1 2654435761U
#define P2 2246822519U
#define P3 3266489917U
#define P4 668265263U
#define P5 374761393U

static uint32_t rotl(uint32_t x, int r)
{
    return x << r | x >> (32 - r);
}

static uint32_t le32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;

    return u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

static uint32_t mix(uint32_t acc, const char *p)
{
    return rotl(acc + le32(p) * P2, 13) * P1;
}

/* The 16-byte stripes; *s is left with what is behind them. */
static uint32_t stripes(struct sb_str *s)
{
    uint32_t a = P1 + P2, b = P2, c = 0, d = 0 - P1;

    while (s->len >= 16) {
        a = mix(a, s->p);
        b = mix(b, s->p + 4);
        c = mix(c, s->p + 8);
        d = mix(d, s->p + 12);
        *s = sb_str_from(*s, 16);
    }
    return rotl(a, 1) + rotl(b, 7) + rotl(c, 12) + rotl(d, 18);
}

uint32_t sb_xxhash32(struct sb_str s)
{
    uint32_t len = (uint32_t)s.len, h = s.len >= 16 ? stripes(&s) : P5;

    h += len;
    for (; s.len >= 4; s = sb_str_from(s, 4))
        h = rotl(h + le32(s.p) * P3, 17) * P4;
    for (; s.len; s = sb_str_from(s, 1))
        h = rotl(h + (unsigned char)s.p[0] * P5, 11) * P1;
    h ^= h >> 15;
    h *= P2;
    h ^= h >> 13;
    h *= P3;
    return h ^ h >> 16;
}
