/* secret_ref.h - references to secrets: {vault://NAME/RESOURCE[/KEY][?prefix=P]}.
 *
 * A reference stands where a secret would: in a setting, or in a referenceable field of an entity.
 * NAME is a kind of vault ("env") or the prefix of a vault entity; KEY picks a member of a secret
 * that is a JSON object.
 */
#ifndef SB_SHARED_SECRET_REF_H
#define SB_SHARED_SECRET_REF_H

#include <stdbool.h>

#include "shared/arena.h"
#include "shared/str.h"

struct sb_secret_ref {
    struct sb_str vault, resource;
    struct sb_str key; /* "": the whole secret */
    struct sb_str prefix;
    bool has_prefix;
};

/* By its looks: begins with {vault:// and ends with }. */
bool sb_secret_ref_is(struct sb_str s);
/* Slices of s. False: it names no vault, or nothing in it. */
bool sb_secret_ref_parse(struct sb_str s, struct sb_secret_ref *out);

/* The variable that holds a secret of the vault env: MY_SECRET for my-secret. */
const char *sb_secret_env_name(struct sb_arena *a, struct sb_str prefix, struct sb_str resource);
/* The text or number that a JSON object has under the key. False: no object, or no such member. */
bool sb_secret_subfield(struct sb_arena *a, struct sb_str json, struct sb_str key,
                        struct sb_str *out);

#endif
