#include "dataplane/plugins/auth/auth_text.h"

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

/* Colons in front belong to no one, and the password ends where its line does. */
bool sb_auth_basic(struct sb_arena *a, struct sb_str header, struct sb_str *user,
                   struct sb_str *password)
{
    struct sb_str text;
    ptrdiff_t line_end;

    if (!sb_auth_basic_text(a, header, &text))
        return false;
    while (text.len && text.p[0] == ':')
        text = sb_str_from(text, 1);
    if (!split_colon(text, user, password))
        return false;
    line_end = sb_str_chr(*password, '\n', 0);
    if (line_end >= 0)
        *password = sb_str_first(*password, (size_t)line_end);
    return true;
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

/* -- cookies -------------------------------------------------------------------------------------
 */

/* Names are compared as nginx compares them: in any case, with spaces around '='. What isn't looked
 * for ends with a comma, too. */
struct sb_str sb_auth_cookie(struct sb_str header, struct sb_str name)
{
    struct sb_str rest, value;
    size_t n;

    while (header.len) {
        rest = skip_spaces(sb_str_from(header, name.len));
        if (sb_str_ieq(sb_str_first(header, name.len), name) && sb_str_starts(rest, SB_STR("=")) &&
            sb_str_split(&rest, ';', &value))
            return skip_spaces(sb_str_from(value, 1));
        for (n = 0; n < header.len && header.p[n] != ';' && header.p[n] != ',';)
            n++;
        header = skip_spaces(sb_str_from(header, n + 1));
    }
    return (struct sb_str){0};
}

/* -- dates --------------------------------------------------------------------------------------
 * As nginx reads them: the name of the day and what follows the time don't matter. */

static bool take(struct sb_str *s, char c)
{
    if (!s->len || s->p[0] != c)
        return false;
    *s = sb_str_from(*s, 1);
    return true;
}

static bool take_number(struct sb_str *s, size_t digits, int *out)
{
    *out = 0;
    for (size_t i = 0; i < digits; i++) {
        if (i >= s->len || s->p[i] < '0' || s->p[i] > '9')
            return false;
        *out = *out * 10 + s->p[i] - '0';
    }
    *s = sb_str_from(*s, digits);
    return true;
}

static bool take_month(struct sb_str *s, struct tm *tm)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (tm->tm_mon = 0; tm->tm_mon < 12; tm->tm_mon++)
        if (sb_str_starts(*s, sb_str_n(names + 3 * tm->tm_mon, 3))) {
            *s = sb_str_from(*s, 3);
            return true;
        }
    return false;
}

static bool take_time(struct sb_str *s, struct tm *tm)
{
    return take_number(s, 2, &tm->tm_hour) && take(s, ':') && take_number(s, 2, &tm->tm_min) &&
           take(s, ':') && take_number(s, 2, &tm->tm_sec) && tm->tm_hour < 24 && tm->tm_min < 60 &&
           tm->tm_sec < 60;
}

static bool take_year(struct sb_str *s, struct tm *tm)
{
    bool ok = take_number(s, 4, &tm->tm_year);

    tm->tm_year -= 1900;
    return ok;
}

/* "06 Nov 1994 08:49:37", and "06-Nov-94 08:49:37" whose years are 1970 to 2069. */
static bool take_rfc_date(struct sb_str s, struct tm *tm)
{
    bool old;

    if (!take_number(&s, 2, &tm->tm_mday))
        return false;
    old = take(&s, '-');
    if ((!old && !take(&s, ' ')) || !take_month(&s, tm) || !take(&s, old ? '-' : ' '))
        return false;
    if (!(old ? take_number(&s, 2, &tm->tm_year) : take_year(&s, tm)))
        return false;
    if (old && tm->tm_year < 70)
        tm->tm_year += 100;
    return take(&s, ' ') && take_time(&s, tm);
}

/* "Nov  6 08:49:37 1994" */
static bool take_c_date(struct sb_str s, struct tm *tm)
{
    if (!take_month(&s, tm) || !take(&s, ' '))
        return false;
    return take_number(&s, take(&s, ' ') ? 1 : 2, &tm->tm_mday) && take(&s, ' ') &&
           take_time(&s, tm) && take(&s, ' ') && take_year(&s, tm);
}

bool sb_auth_http_date(struct sb_str text, int64_t *out)
{
    struct tm tm = {0}, same;
    size_t n = 0;
    time_t when;
    bool comma;

    while (n < text.len && text.p[n] != ',' && text.p[n] != ' ')
        n++;
    comma = n < text.len && text.p[n] == ',';
    text = skip_spaces(sb_str_from(text, n + 1));
    if (!(comma ? take_rfc_date(text, &tm) : take_c_date(text, &tm)))
        return false;
    same = tm;
    when = timegm(&same);
    if (same.tm_mday != tm.tm_mday) /* there is no such day */
        return false;
    *out = when;
    return true;
}

bool sb_secret_eq(struct sb_str a, struct sb_str b)
{
    return a.len == b.len && (!a.len || CRYPTO_memcmp(a.p, b.p, a.len) == 0);
}
