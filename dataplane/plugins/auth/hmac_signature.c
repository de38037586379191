#include "dataplane/plugins/auth/hmac_signature.h"

#include <ctype.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "shared/buf.h"
#include "shared/digest.h"

static const EVP_MD *digest_of(struct sb_str algorithm)
{
    static const struct {
        struct sb_str name;
        const EVP_MD *(*digest)(void);
    } rows[] = {
        {SB_STR_INIT("hmac-sha1"), EVP_sha1},
        {SB_STR_INIT("hmac-sha256"), EVP_sha256},
        {SB_STR_INIT("hmac-sha384"), EVP_sha384},
        {SB_STR_INIT("hmac-sha512"), EVP_sha512},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (sb_str_eq(rows[i].name, algorithm))
            return rows[i].digest();
    return NULL;
}

bool sb_hmac_known(struct sb_str algorithm)
{
    return digest_of(algorithm) != NULL;
}

/* One line, for a name of the list. */
static void sign_line(struct sb_buf *b, struct sb_str name, const struct sb_hmac_subject *s)
{
    struct sb_str value = s->header(s->arg, name);

    if (value.p) {
        sb_buf_str(b, name);
        sb_buf_cstr(b, ": ");
        sb_buf_str(b, value);
    } else if (sb_str_is(name, "request-line")) {
        sb_buf_printf(b, "%.*s %.*s HTTP/%.*s", SB_ARG(s->method), SB_ARG(s->target),
                      SB_ARG(s->version));
    } else if (sb_str_is(name, "@request-target")) {
        sb_buf_cstr(b, "@request-target: ");
        for (size_t i = 0; i < s->method.len; i++)
            sb_buf_char(b, (char)tolower((unsigned char)s->method.p[i]));
        sb_buf_char(b, ' ');
        sb_buf_str(b, s->target);
    } else {
        sb_buf_str(b, name);
        sb_buf_char(b, ':');
    }
}

static void sign_text(struct sb_buf *b, struct sb_str names, const struct sb_hmac_subject *s)
{
    struct sb_str name;
    bool first = true;

    while (!b->full && sb_str_split(&names, ' ', &name)) {
        if (!first)
            sb_buf_char(b, '\n');
        first = false;
        sign_line(b, name, s);
    }
}

bool sb_hmac_matches(const struct sb_hmac_words *words, struct sb_str secret,
                     const struct sb_hmac_subject *subject)
{
    const EVP_MD *md = digest_of(words->algorithm);
    struct sb_arena *a = sb_arena_new(256);
    uint8_t mac[EVP_MAX_MD_SIZE];
    struct sb_str given;
    unsigned len = 0;
    struct sb_buf b;
    bool ok;

    sb_buf_init(&b, SB_HMAC_SIGNED_MAX);
    sign_text(&b, words->headers, subject);
    ok = md && !b.full && sb_base64_decode(a, words->signature, &given) &&
         HMAC(md, secret.p, (int)secret.len, (const uint8_t *)sb_buf_get(&b).p, b.len, mac, &len) &&
         sb_secret_eq(given, sb_str_n((const char *)mac, len));
    sb_buf_release(&b);
    sb_arena_free(a);
    return ok;
}

bool sb_hmac_digest_matches(struct sb_str digest, struct sb_str body)
{
    static const struct sb_str prefix = SB_STR_INIT("SHA-256=");
    uint8_t sha[SB_SHA256_LEN];
    char text[2 * SB_SHA256_LEN];
    int len;

    if (!digest.p)
        return body.len == 0;
    if (!sb_str_starts(digest, prefix))
        return false;
    sb_sha256(body, sha);
    len = EVP_EncodeBlock((unsigned char *)text, sha, sizeof sha);
    return sb_secret_eq(sb_str_from(digest, prefix.len), sb_str_n(text, (size_t)len));
}
