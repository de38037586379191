#include "shared/siphash.h"

#include <endian.h>

struct state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static inline void rounds(struct state *s, int n)
{
    while (n--) {
        s->v0 += s->v1;
        s->v2 += s->v3;
        s->v1 = rotl(s->v1, 13) ^ s->v0;
        s->v3 = rotl(s->v3, 16) ^ s->v2;
        s->v0 = rotl(s->v0, 32);
        s->v2 += s->v1;
        s->v0 += s->v3;
        s->v1 = rotl(s->v1, 17) ^ s->v2;
        s->v3 = rotl(s->v3, 21) ^ s->v0;
        s->v2 = rotl(s->v2, 32);
    }
}

static inline void absorb(struct state *s, uint64_t word)
{
    s->v3 ^= word;
    rounds(s, 2);
    s->v0 ^= word;
}

static inline uint64_t squeeze(struct state *s)
{
    rounds(s, 4);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

/* Up to eight bytes, least first. */
static inline uint64_t word_at(const char *p, size_t len)
{
    uint64_t word = 0;

    memcpy(&word, p, len);
    return le64toh(word);
}

void sb_siphash(const struct sb_siphash_key *key, uint64_t tweak, struct sb_str in, uint64_t out[2])
{
    struct state s = {
        .v0 = key->k[0] ^ 0x736f6d6570736575,
        .v1 = key->k[1] ^ 0x646f72616e646f6d ^ 0xee,
        .v2 = key->k[0] ^ 0x6c7967656e657261,
        .v3 = key->k[1] ^ 0x7465646279746573,
    };
    size_t whole = in.len & ~(size_t)7, rest = in.len - whole;
    uint64_t last = (uint64_t)(in.len + 8) << 56;

    absorb(&s, tweak);
    for (size_t i = 0; i < whole; i += 8)
        absorb(&s, word_at(in.p + i, 8));
    if (rest)
        last |= word_at(in.p + whole, rest);
    absorb(&s, last);
    s.v2 ^= 0xee;
    out[0] = squeeze(&s);
    s.v1 ^= 0xdd;
    out[1] = squeeze(&s);
}
