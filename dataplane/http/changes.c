/* changes.c - what plugins change in the heads of the request that goes on, and of the response.
 *
 * A change stands beside the head that came and is merged with it when the head is written: it
 * replaces all of its name, or is one more beside them. So the plain path has nothing to copy.
 */
#include "dataplane/http/exchange.h"

/* Ends no line and begins none: a tab passes, other control characters are escaped. */
static bool ends_header(char c)
{
    return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
}

/* A copy that is safe in a head: what plugins write there may come from the request. */
static struct sb_str header_text(struct sb_arena *a, struct sb_str s)
{
    size_t n = 0, at = 0;
    char *out;

    for (size_t i = 0; i < s.len; i++)
        n += ends_header(s.p[i]);
    if (n == 0)
        return sb_arena_str(a, s);
    out = sb_arena_alloc(a, s.len + 2 * n + 1);
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (!ends_header(s.p[i])) {
            out[at++] = s.p[i];
            continue;
        }
        out[at++] = '%';
        out[at++] = "0123456789ABCDEF"[c >> 4];
        out[at++] = "0123456789ABCDEF"[c & 15];
    }
    out[at] = '\0';
    return sb_str_n(out, at);
}

void sb_exchange_add_change(struct sb_exchange *x, struct sb_header_change **list,
                            struct sb_str name, struct sb_str value)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_header_change *c = SB_NEW(a, struct sb_header_change);

    c->name = header_text(a, name);
    c->value = value.p ? header_text(a, value) : value;
    while (*list)
        list = &(*list)->next;
    *list = c;
}

const struct sb_header_change *sb_change_find(const struct sb_header_change *list,
                                              struct sb_str name)
{
    for (; list; list = list->next)
        if (!list->add && sb_str_ieq(list->name, name))
            return list;
    return NULL;
}

/* Beside what there is of that name. */
static void add_beside(struct sb_exchange *x, struct sb_header_change **last, struct sb_str name,
                       struct sb_str value)
{
    sb_exchange_add_change(x, last, name, value);
    while ((*last)->next)
        last = &(*last)->next;
    (*last)->add = true;
}

void sb_exchange_set_cookie(struct sb_exchange *x, struct sb_str name, struct sb_str value)
{
    struct sb_header_change *c;

    sb_exchange_add_response_header(x, SB_STR("Set-Cookie"), value);
    for (c = x->response_changes; c->next; c = c->next)
        ;
    c->cookie = sb_arena_str(sb_exchange_arena(x), name);
}

bool sb_change_replaces(const struct sb_header_change *list, struct sb_str name,
                        struct sb_str value)
{
    for (const struct sb_header_change *c = list; c; c = c->next) {
        if (!sb_str_ieq(c->name, name))
            continue;
        if (!c->add)
            return true;
        if (c->cookie.len && sb_str_starts(value, c->cookie) && value.len > c->cookie.len &&
            value.p[c->cookie.len] == '=')
            return true;
    }
    return false;
}

void sb_exchange_add_response_header(struct sb_exchange *x, struct sb_str name, struct sb_str value)
{
    add_beside(x, &x->response_changes, name, value);
}

void sb_exchange_keep_found(struct sb_exchange *x)
{
    struct sb_header_change **last = &x->found.changes;

    if (x->found.by == x->hook)
        return;
    x->found = (struct sb_found_request){
        .by = x->hook, .host = x->up.host, .query = sb_exchange_upstream_query(x)};
    for (const struct sb_header_change *c = x->request_changes; c; c = c->next) {
        *last = SB_NEW(sb_exchange_arena(x), struct sb_header_change);
        **last = *c;
        last = &(*last)->next;
    }
}

void sb_exchange_add_upstream_header(struct sb_exchange *x, struct sb_str name, struct sb_str value)
{
    sb_exchange_keep_found(x);
    add_beside(x, &x->request_changes, name, value);
}

/* In place of all that was said of that name before. */
static void set_change(struct sb_exchange *x, struct sb_header_change **list, struct sb_str name,
                       struct sb_str value)
{
    struct sb_header_change **at = list;

    while (*at) {
        if (sb_str_ieq((*at)->name, name))
            *at = (*at)->next;
        else
            at = &(*at)->next;
    }
    sb_exchange_add_change(x, list, name, value);
}

void sb_exchange_set_upstream_header(struct sb_exchange *x, struct sb_str name, struct sb_str value)
{
    sb_exchange_keep_found(x);
    if (sb_str_ieq(name, SB_STR("host")))
        x->up.host = header_text(sb_exchange_arena(x), value);
    else
        set_change(x, &x->request_changes, name, value);
}

void sb_exchange_set_response_header(struct sb_exchange *x, struct sb_str name, struct sb_str value)
{
    set_change(x, &x->response_changes, name, value);
}
