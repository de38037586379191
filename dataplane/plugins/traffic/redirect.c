/* redirect.c - sends the client elsewhere (reference/plugins-traffic.md). */
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/plugin.h"
#include "dataplane/router/router.h"

struct config {
    int status;
    bool keeps_path;
    struct sb_str location;         /* as it is given */
    struct sb_str origin, fragment; /* where the path is kept: what stands around it */
};

/* The part of a URL in front of its path, in its usual spelling: lower case, without the scheme's
 * own port; a user stays as it is. */
static struct sb_str origin_of(struct sb_arena *a, struct sb_str url, size_t *end)
{
    ptrdiff_t colon = sb_str_find(url, SB_STR("://"), 0), at;
    size_t host = colon < 0 ? 0 : (size_t)colon + 3, i;
    struct sb_str scheme = sb_arena_lower(a, sb_str_first(url, host)), user, name;

    for (i = host; i < url.len && !strchr("/\\?#", url.p[i]); i++)
        ;
    *end = i;
    name = sb_str_n(url.p + host, i - host);
    at = sb_str_rchr(name, '@');
    user = sb_str_first(name, (size_t)(at + 1));
    name = sb_arena_lower(a, sb_str_from(name, (size_t)(at + 1)));
    if (sb_str_is(scheme, "https://") && sb_str_ends(name, SB_STR(":443")))
        name.len -= 4;
    if (sb_str_is(scheme, "http://") && sb_str_ends(name, SB_STR(":80")))
        name.len -= 3;
    return sb_arena_printf(a, "%.*s%.*s%.*s", SB_ARG(scheme), SB_ARG(user), SB_ARG(name));
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    ptrdiff_t fragment;
    size_t end;

    (void)err;
    c->status = (int)sb_value_int_at(in->config, "status_code", 301);
    c->keeps_path = sb_value_bool_at(in->config, "keep_incoming_path", false);
    c->location = sb_arena_str(in->arena, sb_value_str_at(in->config, "location"));
    c->origin = origin_of(in->arena, c->location, &end);
    fragment = sb_str_chr(c->location, '#', end);
    c->fragment = sb_str_from(c->location, fragment < 0 ? c->location.len : (size_t)fragment);
    *out = c;
    return SB_OK;
}

static struct sb_str location_of(struct sb_exchange *x, const struct config *c)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_str path = sb_exchange_path(x), query = sb_exchange_upstream_query(x);
    char *escaped = sb_arena_alloc(a, 3 * path.len);

    path = sb_str_n(escaped, sb_path_escape(path, escaped));
    return sb_arena_printf(a, "%.*s%.*s%s%.*s%.*s", SB_ARG(c->origin), SB_ARG(path),
                           query.len ? "?" : "", SB_ARG(query), SB_ARG(c->fragment));
}

static enum sb_rc run_access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    const struct sb_str header[] = {SB_STR_INIT("Location"),
                                    c->keeps_path ? location_of(x, c) : c->location};

    sb_exchange_answer(x, c->status, SB_STR(""), SB_STR("redirecting"), header, 2);
    return SB_OK;
}

const struct sb_plugin sb_plugin_redirect = {
    .name = "redirect",
    .priority = 779,
    .compile = compile,
    .access = run_access,
};
