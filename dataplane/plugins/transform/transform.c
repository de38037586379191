#include "dataplane/plugins/transform/transform.h"

const char *const sb_verbs[SB_VERBS] = {"remove", "rename", "replace", "add", "append"};

struct sb_rule sb_rule_of(struct sb_arena *a, struct sb_str text)
{
    ptrdiff_t colon = sb_str_chr(text, ':', 0);
    struct sb_rule r = {.name = text};
    size_t at;

    if (colon >= 0) {
        r.name = sb_str_first(text, (size_t)colon);
        for (at = (size_t)colon; at < text.len && text.p[at] == ':'; at++)
            ;
        if (at < text.len)
            r.value = sb_arena_str(a, sb_str_from(text, at));
    }
    r.name = sb_arena_str(a, r.name);
    return r;
}

bool sb_member_rename(struct sb_arena *a, struct sb_value *object, struct sb_str name,
                      struct sb_str to)
{
    struct sb_value *old = sb_object_get(object, name);

    if (!old || sb_str_eq(name, to))
        return false;
    (void)sb_object_remove(object, name);
    sb_object_set(a, object, to, old);
    return true;
}

/* A text becomes a list of two, a list grows; an object, which is a list to Lua, gets the member
 * "1". Anything else gives way to a list. */
static void append(struct sb_arena *a, struct sb_value *object, struct sb_str name,
                   struct sb_value *value)
{
    struct sb_value *old = sb_object_get(object, name), *list;

    if (sb_is(old, SB_V_ARRAY)) {
        sb_array_push(a, old, value);
        return;
    }
    if (sb_is(old, SB_V_OBJECT) && old->count) {
        sb_object_set(a, old, SB_STR("1"), value);
        return;
    }
    list = sb_value_array(a);
    if (sb_is(old, SB_V_STR))
        sb_array_push(a, list, old);
    sb_array_push(a, list, value);
    sb_object_set(a, object, name, list);
}

bool sb_member_change(struct sb_arena *a, struct sb_value *object, enum sb_verb verb,
                      struct sb_str name, struct sb_value *value)
{
    const struct sb_value *old = sb_object_get(object, name);
    bool there = old && !(sb_is(old, SB_V_BOOL) && !old->b);

    if (verb == SB_APPEND) {
        append(a, object, name, value);
        return true;
    }
    if (there != (verb == SB_REPLACE))
        return false;
    sb_object_set(a, object, name, value);
    return true;
}
