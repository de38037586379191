/* acl.c - lets groups in, or keeps them out (reference/plugins-auth.md).
 *
 * Groups come from the consumer's acls rows, or from what authentication itself told
 * ("authenticated groups"): these where there is no consumer, where nobody proved to be the
 * consumer (anonymous), or where the config always prefers them.
 *
 * Other than with Kong the upstream can trust both headers that tell groups: one is set, the other
 * one of the client's is removed.
 */
#include <stdlib.h>

#include "dataplane/plugins/auth/auth.h"
#include "dataplane/plugins/bundled.h"
#include "shared/buf.h"

struct config {
    const struct sb_str *groups; /* of allow or of deny */
    size_t ngroups;
    bool deny, hide_header, prefer_authenticated;
};

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    const struct sb_value *allow = sb_get(in->config, "allow"), *list, *group;
    struct sb_str *groups;

    (void)err;
    c->deny = !sb_is(allow, SB_V_ARRAY) || !allow->count;
    list = c->deny ? sb_get(in->config, "deny") : allow;
    groups = SB_NEW_N(in->arena, struct sb_str, list ? list->count : 0);
    c->groups = groups;
    sb_array_each (group, list)
        groups[c->ngroups++] = sb_arena_str(in->arena, group->s);
    c->hide_header = sb_value_bool_at(in->config, "hide_groups_header", false);
    c->prefer_authenticated =
        sb_value_bool_at(in->config, "always_use_authenticated_groups", false);
    *out = c;
    return SB_OK;
}

struct groups {
    const struct sb_str *names;
    size_t n;
    bool authenticated; /* by the authentication, not by rows */
};

static int by_id(const void *a, const void *b)
{
    return sb_str_cmp((*(const struct sb_found *const *)a)->id,
                      (*(const struct sb_found *const *)b)->id);
}

static enum sb_rc groups_of_rows(struct sb_exchange *x, struct sb_str consumer_id,
                                 struct groups *out)
{
    struct sb_arena *a = sb_exchange_arena(x);
    const struct sb_found *rows, **sorted;
    struct sb_str *names;
    size_t n;
    enum sb_rc rc = sb_credential_list(x, SB_ACLS_BY_CONSUMER, consumer_id, &rows, &n);

    if (rc)
        return rc;
    sorted = SB_NEW_N(a, const struct sb_found *, n);
    names = SB_NEW_N(a, struct sb_str, n);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &rows[i];
    qsort(sorted, n, sizeof *sorted, by_id);
    for (size_t i = 0; i < n; i++)
        names[i] = sb_value_str_at(sorted[i]->value, "group");
    *out = (struct groups){names, n, false};
    return SB_OK;
}

/* SB_DENIED: nobody is there whose groups could be looked at. */
static enum sb_rc find_groups(struct sb_exchange *x, const struct config *c, struct groups *out)
{
    const struct sb_consumer *consumer = sb_exchange_consumer(x);
    const struct sb_credential *credential = sb_exchange_credential(x);
    struct sb_str id = consumer ? consumer->id : credential ? credential->consumer_id : SB_STR("");
    size_t n;
    const struct sb_str *told = sb_exchange_groups(x, &n);

    if (told && (!id.len || !credential || c->prefer_authenticated)) {
        *out = (struct groups){told, n, true};
        return SB_OK;
    }
    if (!id.len)
        return SB_DENIED;
    return groups_of_rows(x, id, out);
}

static bool is_member(const struct config *c, const struct groups *groups)
{
    for (size_t i = 0; i < groups->n; i++)
        for (size_t k = 0; k < c->ngroups; k++)
            if (sb_str_eq(groups->names[i], c->groups[k]))
                return true;
    return false;
}

static struct sb_str joined(struct sb_exchange *x, const struct groups *groups)
{
    struct sb_str text;
    struct sb_buf b;

    sb_buf_init(&b, 0);
    for (size_t i = 0; i < groups->n; i++) {
        if (i)
            sb_buf_cstr(&b, ", ");
        sb_buf_str(&b, groups->names[i]);
    }
    text = sb_arena_str(sb_exchange_arena(x), sb_buf_get(&b));
    sb_buf_release(&b);
    return text;
}

/* The header that the client sent, not one that a plugin has set in its place. */
static void drop_own(struct sb_exchange *x, struct sb_str name)
{
    if (sb_exchange_upstream_header(x, name).p == sb_exchange_sent_header(x, name).p)
        sb_exchange_set_upstream_header(x, name, (struct sb_str){0});
}

/* Who is not denied by authenticated groups goes on without being told of them here. */
static void tell_groups(struct sb_exchange *x, const struct config *c, const struct groups *groups)
{
    struct sb_str consumers = SB_STR("X-Consumer-Groups");
    struct sb_str told = SB_STR("X-Authenticated-Groups");
    struct sb_str text = c->hide_header ? (struct sb_str){0} : joined(x, groups), none = {0};

    sb_exchange_set_upstream_header(x, consumers, groups->authenticated ? none : text);
    if (groups->authenticated && c->deny)
        drop_own(x, told);
    else
        sb_exchange_set_upstream_header(x, told, groups->authenticated ? text : none);
}

static enum sb_rc refuse(struct sb_exchange *x, bool known)
{
    if (known)
        sb_exchange_answer_error(x, 403, SB_STR("You cannot consume this service"));
    else
        sb_exchange_answer_error(x, 401, SB_STR(""));
    return SB_OK;
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct groups groups;
    enum sb_rc rc = find_groups(x, c, &groups);

    if (rc == SB_UNAVAILABLE)
        return sb_exchange_answer_error(x, 503, SB_STR("")), SB_OK;
    if (rc == SB_DENIED || (!rc && !groups.n && !c->deny))
        return refuse(x, sb_exchange_credential(x) != NULL);
    if (rc)
        return rc;
    if (is_member(c, &groups) == c->deny)
        return refuse(x, true);
    tell_groups(x, c, &groups);
    return SB_OK;
}

const struct sb_plugin sb_plugin_acl = {
    .name = "acl",
    .priority = 950,
    .compile = compile,
    .access = access,
};
