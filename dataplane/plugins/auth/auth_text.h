/* auth_text.h - how credentials are written into headers: the words of Authorization, as the
 * authentication plugins take them apart. Nothing here touches an exchange.
 *
 * What is accepted is what Kong accepts (plugins-auth.md), which is more than RFC 7235: a scheme
 * may stand anywhere in the value, and needs no space behind it where its pattern says \s*. Results
 * are slices of the header, or lie in the arena where they were decoded. All of it is linear in the
 * length of the header, whose limit is the parser's of heads.
 */
#ifndef SB_DATAPLANE_PLUGINS_AUTH_AUTH_TEXT_H
#define SB_DATAPLANE_PLUGINS_AUTH_AUTH_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/str.h"

/* "Basic dXNlcjpwYXNz": user is not empty, password may be and may hold colons. */
bool sb_auth_basic(struct sb_arena *a, struct sb_str header, struct sb_str *user,
                   struct sb_str *password);
/* The decoded text of "Basic ...", whatever it is. */
bool sb_auth_basic_text(struct sb_arena *a, struct sb_str header, struct sb_str *text);
/* "Bearer token": the rest of the line. */
bool sb_auth_bearer(struct sb_str header, struct sb_str *token);
/* "<scheme> dXNlcjpwYXNz" from the start, in any case; neither user nor password is empty. */
bool sb_auth_scheme(struct sb_arena *a, struct sb_str header, struct sb_str scheme,
                    struct sb_str *user, struct sb_str *password);

/* hmac username="U", algorithm="A", headers="h1 h2", signature="S" */
struct sb_hmac_words {
    struct sb_str username, algorithm, headers, signature;
};
bool sb_auth_hmac(struct sb_str header, struct sb_hmac_words *out);

/* The value of a cookie in a Cookie header; p NULL: it is not there. */
struct sb_str sb_auth_cookie(struct sb_str header, struct sb_str name);

/* An HTTP date (RFC 9110, all three forms) in seconds since 1970; false when it is none. */
bool sb_auth_http_date(struct sb_str text, int64_t *out);

/* Whether two secrets are equal. Takes as long for the first difference as for the last. */
bool sb_secret_eq(struct sb_str a, struct sb_str b);

#endif
