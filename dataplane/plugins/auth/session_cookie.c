#include "dataplane/plugins/auth/session_cookie.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <zlib.h>

#include "shared/json.h"

enum {
    TYPE = 1,
    FLAG_STORED = 0x0001,
    FLAG_DEFLATED = 0x0010,
    AT_FLAGS = 1,
    AT_ID = 3,
    AT_CREATED = 35,
    AT_ROLLING = 40,
    AT_SIZE = 44,
    AT_TAG = 47,
    AT_IDLING = 63,
    AT_MAC = 66,
    RAW_LEN = 82,
    MAC_LEN = 16,
    KEY_LEN = 32,
    IV_LEN = 12,
    STRETCH_ROUNDS = 10000,
    DEFLATE_FROM = 1024,
};

/* -- keys ---------------------------------------------------------------------------------------
 */

void sb_session_keys_init(struct sb_session_keys *keys, struct sb_str secret, bool remember)
{
    sb_sha256(secret, keys->ikm);
    keys->remember = remember;
}

static size_t info_of(const char *purpose, const struct sb_session_header *h, uint8_t out[64])
{
    size_t n = strlen(purpose);

    memcpy(out, purpose, n);
    memcpy(out + n, h->id, sizeof h->id);
    return n + sizeof h->id;
}

static void hkdf(const struct sb_session_keys *keys, const uint8_t *info, size_t info_len,
                 uint8_t *out, size_t len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    bool ok = ctx && EVP_PKEY_derive_init(ctx) == 1 &&
              EVP_PKEY_CTX_set_hkdf_md(ctx, EVP_sha256()) == 1 &&
              EVP_PKEY_CTX_set1_hkdf_key(ctx, keys->ikm, sizeof keys->ikm) == 1 &&
              EVP_PKEY_CTX_add1_hkdf_info(ctx, info, (int)info_len) == 1 &&
              EVP_PKEY_derive(ctx, out, &len) == 1;

    EVP_PKEY_CTX_free(ctx);
    sb_assert(ok);
}

static void content_key(const struct sb_session_keys *keys, const struct sb_session_header *h,
                        uint8_t out[KEY_LEN + IV_LEN])
{
    uint8_t info[64];
    size_t n = info_of("encryption:", h, info);
    int ok = 1;

    if (keys->remember)
        ok = PKCS5_PBKDF2_HMAC((const char *)keys->ikm, sizeof keys->ikm, info, (int)n,
                               STRETCH_ROUNDS, EVP_sha256(), KEY_LEN + IV_LEN, out);
    else
        hkdf(keys, info, n, out, KEY_LEN + IV_LEN);
    sb_assert(ok == 1);
}

static void header_mac(const struct sb_session_keys *keys, const struct sb_session_header *h,
                       const uint8_t raw[RAW_LEN], uint8_t out[EVP_MAX_MD_SIZE])
{
    uint8_t info[64], key[KEY_LEN];
    size_t n = info_of("authentication:", h, info);
    unsigned len;

    hkdf(keys, info, n, key, sizeof key);
    sb_assert(HMAC(EVP_sha256(), key, sizeof key, raw, AT_MAC, out, &len));
}

/* -- the header ---------------------------------------------------------------------------------
 */

static void put(uint8_t *to, size_t len, int64_t value)
{
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static int64_t get(const uint8_t *from, size_t len)
{
    int64_t value = 0;

    for (size_t i = len; i-- > 0;)
        value = value << 8 | from[i];
    return value;
}

bool sb_session_header_read(const struct sb_session_keys *keys, struct sb_str cookie,
                            struct sb_session_header *out)
{
    struct sb_arena *a = sb_arena_new(256);
    uint8_t mac[EVP_MAX_MD_SIZE];
    struct sb_str raw;
    const uint8_t *p;
    bool ok = cookie.len >= SB_SESSION_HEADER_LEN &&
              sb_base64url_decode(a, sb_str_first(cookie, SB_SESSION_HEADER_LEN), &raw) &&
              raw.len == RAW_LEN && raw.p[0] == TYPE;

    if (ok) {
        p = (const uint8_t *)raw.p;
        memcpy(out->id, p + AT_ID, sizeof out->id);
        header_mac(keys, out, p, mac);
        ok = CRYPTO_memcmp(mac, p + AT_MAC, MAC_LEN) == 0;
    }
    if (ok) {
        out->stored = get(p + AT_FLAGS, 2) & FLAG_STORED;
        out->deflated = get(p + AT_FLAGS, 2) & FLAG_DEFLATED;
        out->created_s = get(p + AT_CREATED, 5);
        out->rolling_s = get(p + AT_ROLLING, 4);
        out->idling_s = get(p + AT_IDLING, 3);
        out->payload_len = (uint32_t)get(p + AT_SIZE, 3);
        memcpy(out->tag, p + AT_TAG, sizeof out->tag);
        memcpy(out->sealed, p, sizeof out->sealed);
    }
    sb_arena_free(a);
    return ok;
}

/* The first bytes, which the tag vouches for. */
static void seal_header(struct sb_session_header *h)
{
    h->sealed[0] = TYPE;
    put(h->sealed + AT_FLAGS, 2, (h->stored ? FLAG_STORED : 0) | (h->deflated ? FLAG_DEFLATED : 0));
    memcpy(h->sealed + AT_ID, h->id, sizeof h->id);
    put(h->sealed + AT_CREATED, 5, h->created_s);
    put(h->sealed + AT_ROLLING, 4, h->rolling_s);
    put(h->sealed + AT_SIZE, 3, h->payload_len);
}

void sb_session_header_write(const struct sb_session_keys *keys,
                             const struct sb_session_header *header,
                             char out[SB_SESSION_HEADER_LEN])
{
    enum { IDLING_MAX = 0xffffff };
    struct sb_arena *a = sb_arena_new(256);
    uint8_t raw[RAW_LEN], mac[EVP_MAX_MD_SIZE];
    int64_t idling = header->idling_s < IDLING_MAX ? header->idling_s : IDLING_MAX;

    memcpy(raw, header->sealed, sizeof header->sealed);
    memcpy(raw + AT_TAG, header->tag, sizeof header->tag);
    put(raw + AT_IDLING, 3, idling);
    header_mac(keys, header, raw, mac);
    memcpy(raw + AT_MAC, mac, MAC_LEN);
    memcpy(out, sb_base64url_encode(a, sb_str_n((char *)raw, RAW_LEN)).p, SB_SESSION_HEADER_LEN);
    sb_arena_free(a);
}

/* -- the content --------------------------------------------------------------------------------
 */

/* Sealing and opening differ in a flag and in who gives the tag. */
static bool run_cipher(const struct sb_session_keys *keys, struct sb_session_header *h, bool seal,
                       struct sb_str in, uint8_t *out)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t key[KEY_LEN + IV_LEN];
    int n, last;
    bool ok;

    content_key(keys, h, key);
    ok = ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, key + KEY_LEN, seal) == 1 &&
         EVP_CipherUpdate(ctx, NULL, &n, h->sealed, sizeof h->sealed) == 1 &&
         EVP_CipherUpdate(ctx, out, &n, (const uint8_t *)in.p, (int)in.len) == 1 &&
         (seal || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, sizeof h->tag, h->tag) == 1) &&
         EVP_CipherFinal_ex(ctx, out + n, &last) == 1 &&
         (!seal || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, sizeof h->tag, h->tag) == 1);
    EVP_CIPHER_CTX_free(ctx);
    OPENSSL_cleanse(key, sizeof key);
    return ok;
}

/* The text, raw-deflated where that makes a long one shorter. */
static struct sb_str deflated(struct sb_arena *a, struct sb_str text, bool *is)
{
    z_stream z = {0};
    uint8_t *out = sb_arena_alloc(a, text.len);
    union {
        const char *in;
        Bytef *bytes;
    } p = {.in = text.p};

    *is = false;
    if (text.len <= DEFLATE_FROM ||
        deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return text;
    z.next_in = p.bytes;
    z.avail_in = (uInt)text.len;
    z.next_out = out;
    z.avail_out = (uInt)text.len;
    *is = deflate(&z, Z_FINISH) == Z_STREAM_END && z.total_out < text.len;
    deflateEnd(&z);
    return *is ? sb_str_n((char *)out, z.total_out) : text;
}

static bool inflated(struct sb_arena *a, struct sb_str *text)
{
    z_stream z = {0};
    uint8_t *out = sb_arena_alloc(a, SB_SESSION_CONTENT_MAX);
    union {
        const char *in;
        Bytef *bytes;
    } p = {.in = text->p};
    bool ok;

    if (inflateInit2(&z, -15) != Z_OK)
        return false;
    z.next_in = p.bytes;
    z.avail_in = (uInt)text->len;
    z.next_out = out;
    z.avail_out = SB_SESSION_CONTENT_MAX;
    ok = inflate(&z, Z_FINISH) == Z_STREAM_END;
    *text = sb_str_n((char *)out, z.total_out);
    inflateEnd(&z);
    return ok;
}

struct sb_value *sb_session_open(struct sb_arena *a, const struct sb_session_keys *keys,
                                 const struct sb_session_header *header, struct sb_str payload)
{
    struct sb_session_header h = *header;
    struct sb_str cipher, text;
    struct sb_value *content;
    uint8_t *plain;

    if (payload.len != h.payload_len || payload.len > SB_SESSION_PAYLOAD_MAX ||
        !sb_base64url_decode(a, payload, &cipher))
        return NULL;
    plain = sb_arena_alloc(a, cipher.len + 16);
    if (!run_cipher(keys, &h, false, cipher, plain))
        return NULL;
    text = sb_str_n((char *)plain, cipher.len);
    if ((h.deflated && !inflated(a, &text)) || sb_json_parse(a, text, &content, NULL))
        return NULL;
    return content;
}

/* Without padding, four characters stand for three bytes. */
static size_t coded_len(size_t len)
{
    return (len * 4 + 2) / 3;
}

struct sb_str sb_session_seal(struct sb_arena *a, const struct sb_session_keys *keys,
                              struct sb_session_header *header, const struct sb_value *content)
{
    struct sb_str text = sb_json_text(a, content, 0);
    uint8_t *cipher;

    if (text.len > SB_SESSION_CONTENT_MAX)
        return (struct sb_str){0};
    text = deflated(a, text, &header->deflated);
    if (coded_len(text.len) > SB_SESSION_PAYLOAD_MAX - 512)
        return (struct sb_str){0};
    sb_random(header->id, sizeof header->id);
    header->payload_len = (uint32_t)coded_len(text.len);
    seal_header(header);
    cipher = sb_arena_alloc(a, text.len + 16);
    sb_assert(run_cipher(keys, header, true, text, cipher));
    return sb_base64url_encode(a, sb_str_n((char *)cipher, text.len));
}

/* -- time ---------------------------------------------------------------------------------------
 */

static int64_t left(int64_t timeout_s, int64_t since_s, int64_t now_s)
{
    return timeout_s > 0 ? since_s + timeout_s - now_s : INT64_MAX;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct sb_session_left sb_session_left(const struct sb_session_header *header,
                                       const struct sb_session_timeouts *timeouts, int64_t now_s)
{
    int64_t saved = header->created_s + header->rolling_s;
    struct sb_session_left l = {
        .idling_s = left(timeouts->idling_s, saved + header->idling_s, now_s),
        .rolling_s = left(timeouts->rolling_s, saved, now_s),
        .absolute_s = left(timeouts->absolute_s, header->created_s, now_s),
    };

    l.least_s = least(l.idling_s, least(l.rolling_s, l.absolute_s));
    return l;
}
