/* clang-format off: version 14 falls over it */
/* recorded.h - the cases of tests/conformance/kong-cases, for units that replay some of their steps
 * in-process: the files, ports filled in, and answers compared under their masks. */
#ifndef SB_TESTS_RECORDED_H
#define SB_TESTS_RECORDED_H

#include <dirent.h>
#include <stdio.h>

#include "shared/yaml.h"

/* {{o1}} is a port in texts, "{{#o1}}" a number. */
static inline struct sb_str with_ports(struct sb_arena *a, struct sb_str s)
{
    ptrdiff_t open = sb_str_find(s, SB_STR("{{"), 0), close;

    while (open >= 0) {
        close = sb_str_find(s, SB_STR("}}"), (size_t)open);
        if (close < 0 || close - open > 12)
            return s;
        s = sb_arena_printf(a, "%.*s80%.*s", (int)open, s.p, (int)(s.len - (size_t)close - 2),
                            s.p + close + 2);
        open = sb_str_find(s, SB_STR("{{"), 0);
    }
    return s;
}

static inline void recorded_fill_ports(struct sb_arena *a, struct sb_value *v)
{
    struct sb_value *item;
    struct sb_member *m;

    if (v->type == SB_V_STR && sb_str_starts(v->s, SB_STR("{{#")))
        *v = (struct sb_value){.type = SB_V_INT, .i = 80};
    else if (v->type == SB_V_STR)
        v->s = with_ports(a, v->s);
    sb_array_each (item, v)
        recorded_fill_ports(a, item);
    sb_object_each (m, v)
        recorded_fill_ports(a, m->value);
}

/* Recorded texts are masked: <time>, <uuid>, parts of messages. */
static inline bool same_text(struct sb_str got, struct sb_str want)
{
    ptrdiff_t mask = sb_str_chr(want, '<', 0);

    if (sb_str_eq(got, want))
        return true;
    return mask >= 0 && sb_str_starts(got, sb_str_first(want, (size_t)mask));
}

static inline bool recorded_same(const struct sb_value *got, const struct sb_value *want);

static inline bool same_members(const struct sb_value *got, const struct sb_value *want)
{
    const struct sb_member *m;

    if (got->count != want->count)
        return false;
    sb_object_each (m, want) {
        if (sb_str_starts(m->key, SB_STR("<")))
            continue;
        if (!sb_object_get(got, m->key) || !recorded_same(sb_object_get(got, m->key), m->value))
            return false;
    }
    return true;
}

static inline bool recorded_same(const struct sb_value *got, const struct sb_value *want)
{
    if (want->type == SB_V_STR &&
        (sb_str_is(want->s, "<time>") || sb_str_starts(want->s, SB_STR("<uuid"))))
        return got->type != SB_V_NULL;
    if (want->type == SB_V_STR)
        return got->type == SB_V_STR &&
               (sb_str_chr(want->s, '<', 0) == 0 || same_text(got->s, want->s));
    if ((want->type == SB_V_ARRAY || want->type == SB_V_OBJECT) && want->count == 0)
        return (got->type == SB_V_ARRAY || got->type == SB_V_OBJECT) && got->count == 0;
    if (want->type == SB_V_OBJECT && got->type == SB_V_OBJECT)
        return same_members(got, want);
    if (want->type != SB_V_ARRAY || got->type != SB_V_ARRAY)
        return sb_value_equal(got, want);
    for (uint32_t i = 0; i < want->count; i++) {
        if (i >= got->count || !recorded_same(got->items[i], want->items[i]))
            return false;
    }
    return got->count == want->count;
}

typedef void recorded_step(struct sb_str name, const struct sb_value *file, struct sb_value *step);

static inline void recorded_replay_file(const char *path, recorded_step *replay)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *doc, *c, *step;
    struct sb_buf text;
    struct sb_err err;

    sb_buf_init(&text, 0);
    if (!sb_buf_read_file(&text, path) || sb_yaml_parse(a, sb_buf_get(&text), &doc, &err))
        fail_msg("cannot read %s", path);
    sb_array_each (c, sb_get(doc, "cases")) {
        sb_array_each (step, sb_get(c, "steps"))
            replay(sb_value_str_at(c, "name"), doc, step);
    }
    sb_buf_release(&text);
    sb_arena_free(a);
}

/* All files of one folder. */
static inline void recorded_replay(const char *folder, recorded_step *replay)
{
    char path[512];
    struct dirent *entry;
    DIR *d;

    snprintf(path, sizeof path, "tests/conformance/kong-cases/%s", folder);
    d = opendir(path);
    assert_non_null(d);
    while ((entry = readdir(d))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "tests/conformance/kong-cases/%s/%s", folder, entry->d_name);
        recorded_replay_file(path, replay);
    }
    closedir(d);
}

#endif
