#include "shared/secret_ref.h"

#include "shared/json.h"

static const char begins[] = "{vault://";

bool sb_secret_ref_is(struct sb_str s)
{
    return sb_str_starts(s, sb_str_c(begins)) && sb_str_ends(s, SB_STR("}"));
}

static void read_query(struct sb_str query, struct sb_secret_ref *out)
{
    struct sb_str one;

    while (sb_str_split(&query, '&', &one)) {
        if (!sb_str_starts(one, SB_STR("prefix=")))
            continue;
        out->prefix = sb_str_from(one, strlen("prefix="));
        out->has_prefix = true;
    }
}

bool sb_secret_ref_parse(struct sb_str s, struct sb_secret_ref *out)
{
    struct sb_str path = sb_str_n(s.p + strlen(begins), s.len - strlen(begins) - 1);
    ptrdiff_t query = sb_str_chr(path, '?', 0);

    *out = (struct sb_secret_ref){0};
    if (query >= 0) {
        read_query(sb_str_from(path, (size_t)query + 1), out);
        path = sb_str_first(path, (size_t)query);
    }
    if (!sb_str_split(&path, '/', &out->vault) || !sb_str_split(&path, '/', &out->resource))
        return false;
    (void)sb_str_split(&path, '/', &out->key);
    return out->vault.len && out->resource.len;
}

const char *sb_secret_env_name(struct sb_arena *a, struct sb_str prefix, struct sb_str resource)
{
    char *name = sb_arena_cstr(a, sb_arena_printf(a, "%.*s%.*s", SB_ARG(prefix), SB_ARG(resource)));

    for (char *p = name; *p; p++)
        *p = *p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? (char)(*p - ('a' - 'A')) : *p;
    return name;
}

bool sb_secret_subfield(struct sb_arena *a, struct sb_str json, struct sb_str key,
                        struct sb_str *out)
{
    struct sb_value *doc, *member;

    if (sb_json_parse(a, json, &doc, NULL))
        return false;
    member = sb_object_get(doc, key);
    if (sb_is_number(member))
        *out = sb_json_text(a, member, 0);
    else if (sb_is(member, SB_V_STR))
        *out = member->s;
    else
        return false;
    return true;
}
