#include "shared/uuid.h"

#include <openssl/evp.h>

#include "shared/digest.h"
#include "shared/err.h"

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool dash_at(size_t i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

bool sb_uuid_parse(struct sb_str s, struct sb_uuid *out)
{
    struct sb_uuid u;
    size_t n = 0;

    if (s.len != SB_UUID_TEXT_LEN)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        int v = nibble(s.p[i]);

        if (dash_at(i)) {
            if (s.p[i] != '-')
                return false;
            continue;
        }
        if (v < 0)
            return false;
        if (n % 2 == 0)
            u.b[n / 2] = (uint8_t)(v << 4);
        else
            u.b[n / 2] |= (uint8_t)v;
        n++;
    }
    *out = u;
    return true;
}

void sb_uuid_format(const struct sb_uuid *u, char out[SB_UUID_TEXT_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    char *p = out;

    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = digits[u->b[i] >> 4];
        *p++ = digits[u->b[i] & 15];
    }
    *p = '\0';
}

static struct sb_uuid stamped(struct sb_uuid u, uint8_t version)
{
    u.b[6] = (uint8_t)((u.b[6] & 0x0f) | version << 4);
    u.b[8] = (uint8_t)((u.b[8] & 0x3f) | 0x80);
    return u;
}

struct sb_uuid sb_uuid_v4(void)
{
    struct sb_uuid u;

    sb_random(u.b, sizeof u.b);
    return stamped(u, 4);
}

struct sb_uuid sb_uuid_v5(const struct sb_uuid *ns, struct sb_str name)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t sum[SB_SHA1_LEN];
    struct sb_uuid u;
    int ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha1(), NULL) &&
             EVP_DigestUpdate(ctx, ns->b, sizeof ns->b) &&
             EVP_DigestUpdate(ctx, name.p, name.len) && EVP_DigestFinal_ex(ctx, sum, NULL);

    EVP_MD_CTX_free(ctx);
    sb_assert(ok);
    memcpy(u.b, sum, sizeof u.b);
    return stamped(u, 5);
}
