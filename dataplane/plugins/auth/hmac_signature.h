/* hmac_signature.h - what a client signed, and whether it did: HTTP signatures as hmac-auth takes
 * them (plugins-auth.md). Nothing here touches an exchange.
 */
#ifndef SB_DATAPLANE_PLUGINS_AUTH_HMAC_SIGNATURE_H
#define SB_DATAPLANE_PLUGINS_AUTH_HMAC_SIGNATURE_H

#include "dataplane/plugins/auth/auth_text.h"

/* A list of headers may name a long one many times: more than this is not signed. */
enum { SB_HMAC_SIGNED_MAX = 1024 * 1024 };

/* The request as far as it can be signed. */
struct sb_hmac_subject {
    struct sb_str method, target; /* as received, the target with its query */
    struct sb_str version;        /* "1.1" */
    struct sb_str (*header)(void *arg, struct sb_str name); /* first value; p NULL: none */
    void *arg;
};

/* Whether sha1, sha256, sha384 or sha512 stands behind the name ("hmac-sha256"). */
bool sb_hmac_known(struct sb_str algorithm);
/* Whether the words' signature is that of the subject under the secret. */
bool sb_hmac_matches(const struct sb_hmac_words *words, struct sb_str secret,
                     const struct sb_hmac_subject *subject);
/* Whether a Digest header tells the body's: "SHA-256=..."; without one, whether it is empty. */
bool sb_hmac_digest_matches(struct sb_str digest, struct sb_str body);

#endif
