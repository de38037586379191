/* transform.h - what both transformers share: rules, and what they do to the members of an object.
 *
 * The object is a JSON body, or the arguments of a query or of a form (args.h): all three are
 * changed alike.
 */
#ifndef SB_DATAPLANE_PLUGINS_TRANSFORM_TRANSFORM_H
#define SB_DATAPLANE_PLUGINS_TRANSFORM_TRANSFORM_H

#include "shared/value.h"

enum sb_verb { SB_REMOVE, SB_RENAME, SB_REPLACE, SB_ADD, SB_APPEND, SB_VERBS }; /* their order */

/* As they are called in configs. */
extern const char *const sb_verbs[SB_VERBS];

struct sb_rule {
    struct sb_str name, value; /* value p NULL: there is none */
};

/* "name:value"; further colons right behind the first do not count. Copied. */
struct sb_rule sb_rule_of(struct sb_arena *a, struct sb_str text);

/* Gives a member another name, in place of what has that. False: it is not there. */
bool sb_member_rename(struct sb_arena *a, struct sb_value *object, struct sb_str name,
                      struct sb_str to);
/* REPLACE: where it is there; ADD: where it is not, or false; APPEND: behind what there is. Null
 * counts as there. Returns whether something changed; name and value are kept, not copied. */
bool sb_member_change(struct sb_arena *a, struct sb_value *object, enum sb_verb verb,
                      struct sb_str name, struct sb_value *value);

#endif
