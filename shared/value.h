/* value.h - a JSON-like tree: how documents travel between parsers, schemas and stores.
 *
 * A Kubernetes object, an entity, a plugin's configuration and a declarative file are all a
 * struct sb_value. Nodes live in an arena and are never freed one by one; strings are slices, so
 * what they point into must live as long (parsers copy into the arena). Objects keep the order in
 * which members were set. Absent (NULL pointer), null (SB_V_NULL) and a value are three things.
 *
 * Hot paths don't read trees: snapshots compile them into structs once.
 */
#ifndef SB_SHARED_VALUE_H
#define SB_SHARED_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/str.h"

enum sb_vtype { SB_V_NULL, SB_V_BOOL, SB_V_INT, SB_V_NUM, SB_V_STR, SB_V_ARRAY, SB_V_OBJECT };

struct sb_value;

struct sb_member {
    struct sb_str key;
    struct sb_value *value; /* never NULL */
};

struct sb_value {
    enum sb_vtype type;
    uint32_t count, cap; /* of an array's items or an object's members */
    union {
        bool b;
        int64_t i;
        double n;
        struct sb_str s;
        struct sb_value **items;
        struct sb_member *members;
    };
};

/* Makers. str keeps the slice; text copies it. */
struct sb_value *sb_value_null(struct sb_arena *a);
struct sb_value *sb_value_bool(struct sb_arena *a, bool b);
struct sb_value *sb_value_int(struct sb_arena *a, int64_t i);
struct sb_value *sb_value_num(struct sb_arena *a, double n);
struct sb_value *sb_value_str(struct sb_arena *a, struct sb_str s);
struct sb_value *sb_value_text(struct sb_arena *a, const char *c);
struct sb_value *sb_value_array(struct sb_arena *a);
struct sb_value *sb_value_object(struct sb_arena *a);
struct sb_value *sb_value_copy(struct sb_arena *a,
                               const struct sb_value *v); /* deep, strings too */

void sb_array_push(struct sb_arena *a, struct sb_value *array, struct sb_value *v);

/* Sets or replaces in place; the key slice is kept, not copied. */
void sb_object_set(struct sb_arena *a, struct sb_value *object, struct sb_str key,
                   struct sb_value *v);
/* The same for a key that is known not to be there yet: no look-up, so that large objects build in
 * linear time. */
void sb_object_append(struct sb_arena *a, struct sb_value *object, struct sb_str key,
                      struct sb_value *v);
bool sb_object_remove(struct sb_value *object, struct sb_str key); /* order of the rest stays */

/* The member, or NULL: also when object is NULL or not an object, so that look-ups chain. */
struct sb_value *sb_object_get(const struct sb_value *object, struct sb_str key);
struct sb_value *sb_get(const struct sb_value *object, const char *key);
/* By a dotted path of member names: sb_value_at(pod, "metadata.name"). */
struct sb_value *sb_value_at(const struct sb_value *v, const char *path);

/* Typed look-ups by dotted path; what is absent, null or of another type gives the default (for
 * strings: the empty string). */
struct sb_str sb_value_str_at(const struct sb_value *v, const char *path);
bool sb_value_bool_at(const struct sb_value *v, const char *path, bool def);
int64_t sb_value_int_at(const struct sb_value *v, const char *path, int64_t def);

/* Of a value that may be NULL. */
static inline bool sb_is(const struct sb_value *v, enum sb_vtype type)
{
    return v && v->type == type;
}

static inline bool sb_is_nil(const struct sb_value *v) /* absent or null */
{
    return !v || v->type == SB_V_NULL;
}

static inline bool sb_is_number(const struct sb_value *v)
{
    return v && (v->type == SB_V_INT || v->type == SB_V_NUM);
}

static inline double sb_number(const struct sb_value *v)
{
    return v->type == SB_V_INT ? (double)v->i : v->n;
}

/* Deep equality: numbers by value, objects whatever their order, absent equals only absent. */
bool sb_value_equal(const struct sb_value *a, const struct sb_value *b);
/* Zero for equal values; an order for scalars and arrays (of objects only equality is meaningful).
 */
int sb_value_cmp(const struct sb_value *a, const struct sb_value *b);

/* for (each item / member); v may be NULL or of another type: then nothing is visited. */
#define sb_array_each(item, v)                                                                     \
    for (uint32_t sb_i_##item = 0; sb_is((v), SB_V_ARRAY) && sb_i_##item < (v)->count &&           \
                                   ((item) = (v)->items[sb_i_##item], 1);                          \
         sb_i_##item++)
#define sb_object_each(m, v)                                                                       \
    for ((m) = sb_is((v), SB_V_OBJECT) ? (v)->members : NULL;                                      \
         (m) && (m) < (v)->members + (v)->count; (m)++)

#endif
