/* Any bytes as Authorization, Cookie and Date: what is found lies within the header, and is what it
 * should be. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "dataplane/plugins/auth/auth_text.h"
#include "shared/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct sb_str part, struct sb_str whole)
{
    sb_assert(!part.p || (part.p >= whole.p && part.p + part.len <= whole.p + whole.len));
}

static void decoded(struct sb_arena *a, struct sb_str header)
{
    struct sb_str user, password, text;

    if (sb_auth_basic(a, header, &user, &password)) {
        sb_assert(sb_auth_basic_text(a, header, &text));
        sb_assert(user.len > 0 && user.len + 1 + password.len <= text.len);
        sb_assert(sb_str_chr(user, ':', 0) < 0 && sb_str_chr(password, '\n', 0) < 0);
    }
    if (sb_auth_scheme(a, header, SB_STR("ldap"), &user, &password))
        sb_assert(user.len > 0 && password.len > 0);
}

static void slices(struct sb_str header)
{
    struct sb_hmac_words w;
    struct sb_str token;
    int64_t date;

    if (sb_auth_bearer(header, &token)) {
        within(token, header);
        sb_assert(token.len > 0);
    }
    within(sb_auth_cookie(header, SB_STR("session")), header);
    if (sb_auth_hmac(header, &w)) {
        sb_assert(w.username.len && w.algorithm.len && w.headers.len && w.signature.len);
        within(w.username, header);
        within(w.signature, header);
        sb_assert(w.username.p < w.algorithm.p && w.algorithm.p < w.headers.p &&
                  w.headers.p < w.signature.p);
    }
    if (sb_auth_http_date(header, &date))
        sb_assert(date >= -62167219200 && date < 253402300800); /* years of four digits */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sb_arena *a = sb_arena_new(0);
    char *copy = sb_xmalloc(size); /* so that a read behind it is seen */

    memcpy(copy, data, size);
    decoded(a, sb_str_n(copy, size));
    slices(sb_str_n(copy, size));
    free(copy);
    sb_arena_free(a);
    return 0;
}
