/* fields.h - setting members of values whose keys are literals, in as few words as it takes. */
#ifndef SB_CONTROLPLANE_TRANSLATE_FIELDS_H
#define SB_CONTROLPLANE_TRANSLATE_FIELDS_H

#include "shared/value.h"

static inline void set_value(struct sb_arena *a, struct sb_value *object, const char *key,
                             struct sb_value *v)
{
    sb_object_set(a, object, sb_str_c(key), v);
}

static inline void set_str(struct sb_arena *a, struct sb_value *object, const char *key,
                           struct sb_str s)
{
    set_value(a, object, key, sb_value_str(a, s));
}

static inline void set_text(struct sb_arena *a, struct sb_value *object, const char *key,
                            const char *text)
{
    set_str(a, object, key, sb_str_c(text));
}

static inline void set_int(struct sb_arena *a, struct sb_value *object, const char *key, int64_t i)
{
    set_value(a, object, key, sb_value_int(a, i));
}

static inline void set_bool(struct sb_arena *a, struct sb_value *object, const char *key, bool b)
{
    set_value(a, object, key, sb_value_bool(a, b));
}

#endif
