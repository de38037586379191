#include "dataplane/plugins/auth_text.h"

#include <openssl/crypto.h>
#include <time.h>

#include "shared/digest.h"

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct sb_str skip_spaces(struct sb_str s)
{
    size_t n = 0;

    while (n < s.len && is_space(s.p[n]))
        n++;
    return sb_str_from(s, n);
}

/* What follows the first "Xtail" whose first letter may be of either case, anywhere in the text. */
static bool after_word(struct sb_str text, const char *word, struct sb_str *rest)
{
    struct sb_str tail = sb_str_c(word + 1);
    ptrdiff_t at = 0;

    while ((at = sb_str_find(text, tail, (size_t)at)) >= 0) {
        if (at > 0 && (text.p[at - 1] | 0x20) == word[0]) {
            *rest = sb_str_from(text, (size_t)at + tail.len);
            return true;
        }
        at++;
    }
    return false;
}

bool sb_auth_basic_text(struct sb_arena *a, struct sb_str header, struct sb_str *text)
{
    struct sb_str rest;

    if (!after_word(header, "basic", &rest))
        return false;
    rest = skip_spaces(rest);
    return rest.len && sb_base64_decode(a, rest, text);
}

static bool split_colon(struct sb_str text, struct sb_str *user, struct sb_str *password)
{
    ptrdiff_t colon = sb_str_chr(text, ':', 0);

    if (colon < 0)
        return false;
    *user = sb_str_first(text, (size_t)colon);
    *password = sb_str_from(text, (size_t)colon + 1);
    return true;
}

bool sb_auth_basic(struct sb_arena *a, struct sb_str header, struct sb_str *user,
                   struct sb_str *password)
{
    struct sb_str text;

    return sb_auth_basic_text(a, header, &text) && split_colon(text, user, password) && user->len;
}

bool sb_auth_bearer(struct sb_str header, struct sb_str *token)
{
    struct sb_str rest = header;

    while (after_word(rest, "bearer", &rest)) {
        *token = skip_spaces(rest);
        if (token->len && token->p > rest.p)
            return true;
    }
    return false;
}

bool sb_auth_scheme(struct sb_arena *a, struct sb_str header, struct sb_str scheme,
                    struct sb_str *user, struct sb_str *password)
{
    struct sb_str rest = skip_spaces(header), text;

    if (!sb_str_ieq(sb_str_first(rest, scheme.len), scheme))
        return false;
    rest = sb_str_from(rest, scheme.len);
    if (!rest.len || !is_space(rest.p[0]))
        return false;
    return sb_base64_decode(a, skip_spaces(rest), &text) && split_colon(text, user, password) &&
           user->len && password->len;
}

/* -- hmac ---------------------------------------------------------------------------------------
 */

/* Cuts `left",<spaces>name="right` at its last place where neither side is empty. */
static bool cut_last(struct sb_str text, struct sb_str name, struct sb_str *left,
                     struct sb_str *right)
{
    for (size_t at = text.len; at-- > 1;) {
        struct sb_str rest = sb_str_from(text, at);

        if (!sb_str_starts(rest, SB_STR("\",")))
            continue;
        rest = skip_spaces(sb_str_from(rest, 2));
        if (!sb_str_starts(rest, name) || rest.len == name.len)
            continue;
        *left = sb_str_first(text, at);
        *right = sb_str_from(rest, name.len);
        return true;
    }
    return false;
}

bool sb_auth_hmac(struct sb_str header, struct sb_hmac_words *out)
{
    ptrdiff_t end = sb_str_rchr(header, '"');
    struct sb_str text, scheme = SB_STR("username=\"");

    if (end < 0)
        return false;
    text = sb_str_first(header, (size_t)end);
    if (!cut_last(text, SB_STR("signature=\""), &text, &out->signature) ||
        !cut_last(text, SB_STR("headers=\""), &text, &out->headers) ||
        !cut_last(text, SB_STR("algorithm=\""), &text, &out->algorithm))
        return false;
    while (after_word(text, "hmac", &text)) {
        struct sb_str rest = skip_spaces(text);

        if (sb_str_starts(rest, scheme) && rest.len > scheme.len) {
            out->username = sb_str_from(rest, scheme.len);
            return true;
        }
    }
    return false;
}

/* -- cookies, dates ------------------------------------------------------------------ */

/* Names are compared as nginx compares them: in any case, with spaces around '='. */
struct sb_str sb_auth_cookie(struct sb_str header, struct sb_str name)
{
    struct sb_str piece;

    while (header.len && sb_str_split(&header, ';', &piece)) {
        piece = skip_spaces(piece);
        if (!sb_str_ieq(sb_str_first(piece, name.len), name))
            continue;
        piece = skip_spaces(sb_str_from(piece, name.len));
        if (piece.len && piece.p[0] == '=')
            return skip_spaces(sb_str_from(piece, 1));
    }
    return (struct sb_str){0};
}

bool sb_auth_http_date(struct sb_str text, int64_t *out)
{
    static const char *const forms[] = {
        "%a, %d %b %Y %H:%M:%S GMT",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y",
    };
    char room[64];

    if (text.len >= sizeof room || memchr(text.p ? text.p : "", '\0', text.len))
        return false;
    memcpy(room, text.p ? text.p : "", text.len);
    room[text.len] = '\0';
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tm tm = {0};
        const char *end = strptime(room, forms[i], &tm);

        if (end && !*end) {
            *out = timegm(&tm);
            return true;
        }
    }
    return false;
}

bool sb_secret_eq(struct sb_str a, struct sb_str b)
{
    return a.len == b.len && (!a.len || CRYPTO_memcmp(a.p, b.p, a.len) == 0);
}
