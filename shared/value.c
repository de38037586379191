#include "shared/value.h"

#include <math.h>

#include "shared/err.h"

static struct sb_value *make(struct sb_arena *a, enum sb_vtype type)
{
    struct sb_value *v = SB_NEW(a, struct sb_value);

    v->type = type;
    return v;
}

struct sb_value *sb_value_null(struct sb_arena *a)
{
    return make(a, SB_V_NULL);
}

struct sb_value *sb_value_bool(struct sb_arena *a, bool b)
{
    struct sb_value *v = make(a, SB_V_BOOL);

    v->b = b;
    return v;
}

struct sb_value *sb_value_int(struct sb_arena *a, int64_t i)
{
    struct sb_value *v = make(a, SB_V_INT);

    v->i = i;
    return v;
}

struct sb_value *sb_value_num(struct sb_arena *a, double n)
{
    struct sb_value *v = make(a, SB_V_NUM);

    v->n = n;
    return v;
}

struct sb_value *sb_value_str(struct sb_arena *a, struct sb_str s)
{
    struct sb_value *v = make(a, SB_V_STR);

    v->s = s;
    return v;
}

struct sb_value *sb_value_text(struct sb_arena *a, const char *c)
{
    return sb_value_str(a, sb_arena_str(a, sb_str_c(c)));
}

struct sb_value *sb_value_array(struct sb_arena *a)
{
    return make(a, SB_V_ARRAY);
}

struct sb_value *sb_value_object(struct sb_arena *a)
{
    return make(a, SB_V_OBJECT);
}

struct sb_value *sb_value_copy(struct sb_arena *a, const struct sb_value *v)
{
    struct sb_value *c = SB_NEW(a, struct sb_value);

    *c = *v;
    c->cap = c->count;
    if (v->type == SB_V_STR) {
        c->s = sb_arena_str(a, v->s);
    } else if (v->type == SB_V_ARRAY) {
        c->items = SB_NEW_N(a, struct sb_value *, v->count);
        for (uint32_t i = 0; i < v->count; i++)
            c->items[i] = sb_value_copy(a, v->items[i]);
    } else if (v->type == SB_V_OBJECT) {
        c->members = SB_NEW_N(a, struct sb_member, v->count);
        for (uint32_t i = 0; i < v->count; i++) {
            c->members[i].key = sb_arena_str(a, v->members[i].key);
            c->members[i].value = sb_value_copy(a, v->members[i].value);
        }
    }
    return c;
}

/* Room for one more of item_len bytes in what v holds. */
static void *grown(struct sb_arena *a, struct sb_value *v, const void *old, size_t item_len)
{
    void *p;

    v->cap = v->cap ? v->cap * 2 : 4;
    p = sb_arena_alloc(a, v->cap * item_len);
    if (v->count)
        memcpy(p, old, v->count * item_len);
    return p;
}

void sb_array_push(struct sb_arena *a, struct sb_value *array, struct sb_value *v)
{
    sb_assert(array->type == SB_V_ARRAY && v);
    if (array->count == array->cap)
        array->items = grown(a, array, array->items, sizeof *array->items);
    array->items[array->count++] = v;
}

static struct sb_member *member(const struct sb_value *object, struct sb_str key)
{
    struct sb_member *m;

    sb_object_each (m, object) {
        if (sb_str_eq(m->key, key))
            return m;
    }
    return NULL;
}

void sb_object_append(struct sb_arena *a, struct sb_value *object, struct sb_str key,
                      struct sb_value *v)
{
    sb_assert(object->type == SB_V_OBJECT && v);
    if (object->count == object->cap)
        object->members = grown(a, object, object->members, sizeof *object->members);
    object->members[object->count++] = (struct sb_member){key, v};
}

void sb_object_set(struct sb_arena *a, struct sb_value *object, struct sb_str key,
                   struct sb_value *v)
{
    struct sb_member *m = member(object, key);

    if (m)
        m->value = v;
    else
        sb_object_append(a, object, key, v);
    sb_assert(v);
}

bool sb_object_remove(struct sb_value *object, struct sb_str key)
{
    struct sb_member *m = member(object, key);

    if (!m)
        return false;
    memmove(m, m + 1, (size_t)(object->members + object->count - (m + 1)) * sizeof *m);
    object->count--;
    return true;
}

struct sb_value *sb_object_get(const struct sb_value *object, struct sb_str key)
{
    struct sb_member *m = member(object, key);

    return m ? m->value : NULL;
}

struct sb_value *sb_get(const struct sb_value *object, const char *key)
{
    return sb_object_get(object, sb_str_c(key));
}

struct sb_value *sb_value_at(const struct sb_value *v, const char *path)
{
    struct sb_str rest = sb_str_c(path), name;

    while (v && sb_str_split(&rest, '.', &name))
        v = sb_object_get(v, name);
    return (struct sb_value *)v;
}

struct sb_str sb_value_str_at(const struct sb_value *v, const char *path)
{
    v = sb_value_at(v, path);
    return sb_is(v, SB_V_STR) ? v->s : SB_STR("");
}

bool sb_value_bool_at(const struct sb_value *v, const char *path, bool def)
{
    v = sb_value_at(v, path);
    return sb_is(v, SB_V_BOOL) ? v->b : def;
}

int64_t sb_value_int_at(const struct sb_value *v, const char *path, int64_t def)
{
    v = sb_value_at(v, path);
    if (sb_is(v, SB_V_NUM) && v->n == floor(v->n) && fabs(v->n) < 9e15)
        return (int64_t)v->n;
    return sb_is(v, SB_V_INT) ? v->i : def;
}

static int cmp_num(double a, double b)
{
    return (a > b) - (a < b);
}

static int cmp_arrays(const struct sb_value *a, const struct sb_value *b)
{
    for (uint32_t i = 0; i < a->count && i < b->count; i++) {
        int c = sb_value_cmp(a->items[i], b->items[i]);

        if (c)
            return c;
    }
    return cmp_num(a->count, b->count);
}

/* Members count as a set: compared in the order of a, then by size. */
static int cmp_objects(const struct sb_value *a, const struct sb_value *b)
{
    struct sb_member *m;

    if (a->count != b->count)
        return cmp_num(a->count, b->count);
    sb_object_each (m, a) {
        struct sb_value *other = sb_object_get(b, m->key);
        int c = other ? sb_value_cmp(m->value, other) : 1;

        if (c)
            return c;
    }
    return 0;
}

int sb_value_cmp(const struct sb_value *a, const struct sb_value *b)
{
    if (sb_is_number(a) && sb_is_number(b)) {
        if (a->type == SB_V_INT && b->type == SB_V_INT)
            return (a->i > b->i) - (a->i < b->i);
        return cmp_num(sb_number(a), sb_number(b));
    }
    if (a->type != b->type)
        return a->type < b->type ? -1 : 1;
    switch (a->type) {
    case SB_V_BOOL:
        return (int)a->b - (int)b->b;
    case SB_V_STR:
        return sb_str_cmp(a->s, b->s);
    case SB_V_ARRAY:
        return cmp_arrays(a, b);
    case SB_V_OBJECT:
        return cmp_objects(a, b);
    default:
        return 0;
    }
}

bool sb_value_equal(const struct sb_value *a, const struct sb_value *b)
{
    return a == b || (a && b && sb_value_cmp(a, b) == 0);
}
