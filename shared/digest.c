#include "shared/digest.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "shared/err.h"

static void digest(const EVP_MD *md, struct sb_str in, uint8_t *out)
{
    int ok = EVP_Digest(in.p, in.len, out, NULL, md, NULL);

    sb_assert(ok == 1);
}

void sb_md5(struct sb_str in, uint8_t out[SB_MD5_LEN])
{
    digest(EVP_md5(), in, out);
}

void sb_sha1(struct sb_str in, uint8_t out[SB_SHA1_LEN])
{
    digest(EVP_sha1(), in, out);
}

void sb_sha256(struct sb_str in, uint8_t out[SB_SHA256_LEN])
{
    digest(EVP_sha256(), in, out);
}

struct sb_str sb_hex(struct sb_arena *a, const void *p, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *in = p;
    char *out = sb_arena_alloc(a, len * 2 + 1);

    for (size_t i = 0; i < len; i++) {
        out[i * 2] = digits[in[i] >> 4];
        out[i * 2 + 1] = digits[in[i] & 15];
    }
    out[len * 2] = '\0';
    return (struct sb_str){out, len * 2};
}

struct sb_str sb_base64_encode(struct sb_arena *a, struct sb_str in)
{
    char *out = sb_arena_alloc(a, (in.len + 2) / 3 * 4 + 1);
    int n = EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)in.p, (int)in.len);

    return (struct sb_str){out, (size_t)n};
}

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool sb_base64_decode(struct sb_arena *a, struct sb_str in, struct sb_str *out)
{
    char *to = sb_arena_alloc(a, in.len / 4 * 3 + 4);
    size_t n = 0, chars = 0;
    uint32_t acc = 0;
    bool padded = false;

    for (size_t i = 0; i < in.len; i++) {
        int v = sextet(in.p[i]);

        if (in.p[i] == '\n' || in.p[i] == '\r')
            continue;
        if (in.p[i] == '=') {
            padded = true;
            continue;
        }
        if (v < 0 || padded)
            return false;
        acc = acc << 6 | (uint32_t)v;
        if (++chars % 4 != 1)
            to[n++] = (char)(acc >> (6 - 2 * ((chars - 1) % 4)));
    }
    if (chars % 4 == 1)
        return false;
    to[n] = '\0';
    *out = (struct sb_str){to, n};
    return true;
}

struct sb_str sb_base64url_encode(struct sb_arena *a, struct sb_str in)
{
    char *out = sb_arena_alloc(a, (in.len + 2) / 3 * 4 + 1);
    size_t n =
        (size_t)EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)in.p, (int)in.len);

    while (n && out[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++)
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    out[n] = '\0';
    return (struct sb_str){out, n};
}

/* The same six bits in the standard alphabet; 0 for what is in neither, or only there. */
static char of_url(char c)
{
    return c == '-' ? '+' : c == '_' ? '/' : c == '+' || c == '/' || c == '\r' || c == '\n' ? 0 : c;
}

bool sb_base64url_decode(struct sb_arena *a, struct sb_str in, struct sb_str *out)
{
    char *standard = sb_arena_alloc(a, in.len + 1);
    size_t n = 0;

    while (n < in.len && in.p[n] != '=') {
        standard[n] = of_url(in.p[n]);
        n++;
    }
    return sb_base64_decode(a, sb_str_n(standard, n), out);
}

void sb_random(void *p, size_t len)
{
    int ok = RAND_bytes(p, (int)len);

    sb_assert(ok == 1);
}
