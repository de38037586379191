/* Any bytes as a token, verified with keys of each kind: no token is good that these keys did not
 * sign, and what is well formed says what it is. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "dataplane/plugins/auth/jwt_token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pems[] = {
    "secret",
    "-----BEGIN PUBLIC KEY-----\n"
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\n"
    "q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==\n"
    "-----END PUBLIC KEY-----\n",
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
    "-----END PUBLIC KEY-----\n",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sb_jwt_keys *keys;
    struct sb_arena *a = sb_arena_new(0);
    char *copy = sb_xmalloc(size);
    struct sb_jwt jwt;

    if (!keys)
        keys = sb_jwt_keys_new();
    memcpy(copy, data, size);
    if (!sb_jwt_parse(a, sb_str_n(copy, size), &jwt)) {
        sb_assert(sb_jwt_alg_name(&jwt).len > 0 && !sb_is_nil(jwt.claims));
        sb_assert(jwt.input.len < size && jwt.input.p == copy);
        for (size_t i = 0; i < sizeof pems / sizeof *pems; i++)
            (void)!sb_jwt_verify(&jwt, keys, sb_str_c(pems[i]));
        (void)sb_jwt_claim_check(&jwt, SB_STR("exp"), 100);
        (void)sb_jwt_expires_within(&jwt, 100, 10);
    }
    free(copy);
    sb_arena_free(a);
    return 0;
}
