/* secret_ref.h - references to secrets: {vault://NAME/RESOURCE[/KEY][?OPTION=VALUE&...][#VERSION]}.
 *
 * A reference stands where a secret would: in a setting, or in a referenceable field of an entity.
 * NAME is a kind of vault ("env") or the prefix of a vault entity. KEY, the last of several parts
 * of the path, picks a member of a secret that is a JSON object; a path that ends in a slash has
 * none. Rules and words are those of kong/pdk/vault.lua.
 */
#ifndef SB_SHARED_SECRET_REF_H
#define SB_SHARED_SECRET_REF_H

#include <stdbool.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/str.h"

struct sb_secret_ref {
    struct sb_str vault, resource;
    struct sb_str key;   /* "": the whole secret */
    struct sb_str query; /* as written */
    int version;         /* 0: not said */
};

/* By its looks: begins with {vault:// and ends with }. */
bool sb_secret_ref_is(struct sb_str s);
/* s: one by its looks. In the arena, or slices of s. SB_INVALID, with the reason. */
SB_MUST enum sb_rc sb_secret_ref_parse(struct sb_arena *a, struct sb_str s,
                                       struct sb_secret_ref *out, struct sb_err *err);
/* What the reference gives for an option; false: nothing. */
bool sb_secret_ref_option(struct sb_arena *a, const struct sb_secret_ref *ref, const char *name,
                          struct sb_str *value);

/* The variable that holds a secret of the vault env: MY_SECRET for my-secret, of the version 2
 * MY_SECRET_PREVIOUS. */
const char *sb_secret_env_name(struct sb_arena *a, struct sb_str prefix, struct sb_str resource,
                               int version);
/* What may be a prefix there: any other is as none. */
bool sb_secret_env_prefix(struct sb_str prefix);
/* The text that a JSON object has under the key. SB_NOTFOUND, with the reason. */
SB_MUST enum sb_rc sb_secret_subfield(struct sb_arena *a, struct sb_str json, struct sb_str key,
                                      struct sb_str *out, struct sb_err *err);

#endif
