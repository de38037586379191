/* jwt_token.h - JSON Web Tokens (RFC 7515, 7519): taken apart, and their signatures verified.
 *
 * Which algorithm verifies is the token's word only as far as the caller compares it with what the
 * credential says: sb_jwt_verify takes the algorithm from the token, so compare first. Messages are
 * Kong's (plugins-auth.md, jwt). Verification is OpenSSL's EVP.
 */
#ifndef SB_DATAPLANE_PLUGINS_AUTH_JWT_TOKEN_H
#define SB_DATAPLANE_PLUGINS_AUTH_JWT_TOKEN_H

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/value.h"

enum { SB_JWT_LEN_MAX = 64 * 1024 }; /* longer tokens are no JSON to us */

struct sb_jwt_alg; /* a row of the table of algorithms */
struct sb_jwt_keys;

struct sb_jwt {
    const struct sb_jwt_alg *alg;
    struct sb_value *header, *claims; /* claims may be any JSON but null and false */
    struct sb_str input;              /* what is signed: "header.claims" */
    struct sb_str signature;          /* decoded */
};

/* Slices of the token and values in the arena. NULL when the token is well formed, else what is
 * wrong: "invalid JSON", "invalid alg", "invalid claims", "invalid signature". */
const char *sb_jwt_parse(struct sb_arena *a, struct sb_str token, struct sb_jwt *out);

/* The name of the token's algorithm, and whether its key is a shared secret. */
struct sb_str sb_jwt_alg_name(const struct sb_jwt *jwt);
bool sb_jwt_alg_is_hmac(const struct sb_jwt *jwt);

/* Public keys that were parsed and are kept for the next token: parsing a PEM costs more than most
 * verifications, and few credentials sign most tokens. For one thread. */
struct sb_jwt_keys *sb_jwt_keys_new(void);
void sb_jwt_keys_free(struct sb_jwt_keys *keys);

/* By a shared secret (HS*), or else by a key in PEM (sb_pem_key). SB_OK; SB_DENIED: the signature
 * is another's, of the wrong length, or the key is one for another algorithm; SB_INVALID: the text
 * is no key. */
SB_MUST enum sb_rc sb_jwt_verify(const struct sb_jwt *jwt, struct sb_jwt_keys *keys,
                                 struct sb_str key);

/* Checks a registered claim ("exp", "nbf") against a time in seconds: NULL, or what is wrong. */
const char *sb_jwt_claim_check(const struct sb_jwt *jwt, struct sb_str claim, int64_t now_s);
/* exp is there and not further away than max_s. */
bool sb_jwt_expires_within(const struct sb_jwt *jwt, int64_t now_s, int64_t max_s);

#endif
