/* oauth2_text.h - the parts of OAuth 2.0 (RFC 6749, 7636) that are text: redirect URIs, scopes,
 * challenges, hashed secrets. Nothing here touches an exchange.
 */
#ifndef SB_DATAPLANE_PLUGINS_AUTH_OAUTH2_TEXT_H
#define SB_DATAPLANE_PLUGINS_AUTH_OAUTH2_TEXT_H

#include "shared/value.h"

/* The words of a scope, each of which must be allowed, joined by a space; p NULL where there are
 * none. False: *wrong is not allowed. */
bool sb_oauth2_scope(struct sb_arena *a, const struct sb_value *allowed, struct sb_str scope,
                     struct sb_str *out, struct sb_str *wrong);

/* The URI with these parameters merged into its query, or into its fragment: the members of an
 * object, texts and whole numbers, in order of names. What is in the URI is written anew, too: of
 * several arguments of a name as name[1], name[2], of one without a value as name=true. */
struct sb_str sb_oauth2_redirect(struct sb_arena *a, struct sb_str uri,
                                 const struct sb_value *parameters, bool into_fragment);

/* base64url without padding, whatever alphabet and padding it came in. */
struct sb_str sb_oauth2_challenge(struct sb_arena *a, struct sb_str challenge);
/* Whether the verifier is what the challenge (S256) was made of. */
bool sb_oauth2_verifier_fits(struct sb_arena *a, struct sb_str verifier, struct sb_str challenge);

/* Whether the stored text, "$pbkdf2-sha512$i=10000,l=32$<salt>$<hash>", is the hash of secret.
 * Costs the iterations that it asks for (at most a million). *current: its parameters are those of
 * new hashes. */
bool sb_oauth2_hash_fits(struct sb_arena *a, struct sb_str stored, struct sb_str secret,
                         bool *current);

#endif
