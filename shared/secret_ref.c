#include "shared/secret_ref.h"

#include <ctype.h>
#include <limits.h>

#include "shared/json.h"

static const char begins[] = "{vault://";

bool sb_secret_ref_is(struct sb_str s)
{
    return sb_str_starts(s, sb_str_c(begins)) && sb_str_ends(s, SB_STR("}"));
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : isxdigit((unsigned char)c) ? (c | 0x20) - 'a' + 10 : -1;
}

/* %41 is A, + a space. */
static struct sb_str unescape(struct sb_arena *a, struct sb_str s)
{
    char *text = sb_arena_alloc(a, s.len + 1), *to = text;

    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '%' && s.len - i > 2 && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
            *to++ = (char)(hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]));
            i += 2;
        } else {
            *to++ = s.p[i] == '+' ? ' ' : s.p[i];
        }
    }
    *to = '\0';
    return sb_str_n(text, (size_t)(to - text));
}

static bool read_version(struct sb_str text, int *out)
{
    int n = 0;

    if (!text.len)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (!isdigit((unsigned char)text.p[i]) || n > INT_MAX / 10 - 1)
            return false;
        n = n * 10 + (text.p[i] - '0');
    }
    *out = n;
    return true;
}

/* What comes after the first c, taken off; p NULL: there is no c. */
static struct sb_str cut(struct sb_str *s, char c)
{
    ptrdiff_t at = sb_str_chr(*s, c, 0);
    struct sb_str rest;

    if (at < 0)
        return (struct sb_str){0};
    rest = sb_str_from(*s, (size_t)at + 1);
    *s = sb_str_first(*s, (size_t)at);
    return rest;
}

/* Parts of the path: the last is the key, if there are several and no slash ends them. */
static void read_path(struct sb_arena *a, struct sb_str path, struct sb_secret_ref *out)
{
    bool folder = sb_str_ends(path, SB_STR("/"));
    struct sb_str part, whole = {0}, last = {0};

    while (sb_str_split(&path, '/', &part)) {
        if (!part.len)
            continue;
        if (last.len)
            whole = whole.len ? sb_arena_printf(a, "%.*s/%.*s", SB_ARG(whole), SB_ARG(last)) : last;
        last = part;
    }
    if (whole.len && folder)
        whole = sb_arena_printf(a, "%.*s/%.*s", SB_ARG(whole), SB_ARG(last));
    else if (whole.len)
        out->key = unescape(a, last);
    out->resource = unescape(a, whole.len ? whole : last);
}

enum sb_rc sb_secret_ref_parse(struct sb_arena *a, struct sb_str s, struct sb_secret_ref *out,
                               struct sb_err *err)
{
    struct sb_str url = sb_str_n(s.p + strlen(begins), s.len - strlen(begins) - 1);
    struct sb_str version = cut(&url, '#'), query = cut(&url, '?'), path = cut(&url, '/');

    *out = (struct sb_secret_ref){.vault = url, .query = query};
    if (!url.len)
        return sb_err_set(err, SB_INVALID, "reference url is missing host [%.*s]", SB_ARG(s));
    if (!path.p)
        return sb_err_set(err, SB_INVALID, "reference url is missing path [%.*s]", SB_ARG(s));
    if (!path.len)
        return sb_err_set(err, SB_INVALID, "reference url has empty path [%.*s]", SB_ARG(s));
    if (version.p && !read_version(version, &out->version))
        return sb_err_set(err, SB_INVALID, "reference url has invalid version [%.*s]", SB_ARG(s));
    read_path(a, path, out);
    if (!out->resource.len)
        return sb_err_set(err, SB_INVALID, "reference url has invalid path [%.*s]", SB_ARG(s));
    return SB_OK;
}

bool sb_secret_ref_option(struct sb_arena *a, const struct sb_secret_ref *ref, const char *name,
                          struct sb_str *value)
{
    struct sb_str query = ref->query, one;

    while (sb_str_split(&query, '&', &one)) {
        struct sb_str text = cut(&one, '=');

        if (!text.p || !sb_str_is(unescape(a, one), name))
            continue;
        *value = unescape(a, text);
        return true;
    }
    return false;
}

const char *sb_secret_env_name(struct sb_arena *a, struct sb_str prefix, struct sb_str resource,
                               int version)
{
    char *name = sb_arena_cstr(a, sb_arena_printf(a, "%.*s%.*s%s", SB_ARG(prefix), SB_ARG(resource),
                                                  version == 2 ? "_PREVIOUS" : ""));

    for (char *p = name; *p; p++)
        *p = *p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? (char)(*p - ('a' - 'A')) : *p;
    return name;
}

bool sb_secret_env_prefix(struct sb_str prefix)
{
    for (size_t i = 0; i < prefix.len; i++) {
        unsigned char c = (unsigned char)prefix.p[i];

        if (c > 127 || !(isalpha(c) || c == '_' || c == '-' || (i && isdigit(c))))
            return false;
    }
    return prefix.len > 0;
}

static const char *const lua_types[] = {
    [SB_V_NULL] = "userdata", [SB_V_BOOL] = "boolean", [SB_V_INT] = "number",
    [SB_V_NUM] = "number",    [SB_V_ARRAY] = "table",  [SB_V_OBJECT] = "table",
};

enum sb_rc sb_secret_subfield(struct sb_arena *a, struct sb_str json, struct sb_str key,
                              struct sb_str *out, struct sb_err *err)
{
    struct sb_value *doc, *member;
    struct sb_err why;

    if (sb_json_parse(a, json, &doc, &why))
        return sb_err_set(err, SB_NOTFOUND, "unable to json decode value (nil): %s", why.text);
    member = sb_is(doc, SB_V_OBJECT) ? sb_object_get(doc, key) : NULL;
    if (!member)
        return sb_err_set(err, SB_NOTFOUND, "subfield %.*s not found in JSON secret", SB_ARG(key));
    if (!sb_is(member, SB_V_STR))
        return sb_err_set(err, SB_NOTFOUND, "unexpected %s value in JSON secret for subfield %.*s",
                          lua_types[member->type], SB_ARG(key));
    *out = member->s;
    return SB_OK;
}
