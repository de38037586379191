/* builder.c - the router of now, and the versions made of it.
 *
 *     rules   id -> rule         what was put, by id: needed to take it out again
 *     roots   http, stream       the trees, always up to date
 *
 * A put takes the rule's former version out of the tree and the new one in, which costs the nodes
 * on the way to each of its keys; a build costs two counts. Versions share what no change touched,
 * and the first change after a build copies only what it changes (tree.h).
 */
#include <stdlib.h>

#include "dataplane/router/builder.h"

struct sb_router_builder *sb_router_builder_new(enum sb_router_flavor flavor)
{
    struct sb_router_builder *b = sb_xcalloc(1, sizeof *b);

    b->flavor = flavor;
    b->http = sb_tree_new();
    b->stream = sb_tree_new();
    return b;
}

void sb_router_builder_free(struct sb_router_builder *b)
{
    struct sb_map_slot *slot;

    if (!b)
        return;
    sb_map_each (slot, &b->rules)
        sb_rule_unref(slot->value);
    sb_map_release(&b->rules);
    sb_tree_unref(b->http);
    sb_tree_unref(b->stream);
    free(b);
}

static void put_place(void *arg, struct sb_str key, const struct sb_tree_entry *entry)
{
    sb_tree_put(arg, key, entry);
}

static void remove_place(void *arg, struct sb_str key, const struct sb_tree_entry *entry)
{
    sb_tree_remove(arg, key, entry->cand);
}

/* What a router knows about its rules as a whole. */
static void count_rule(struct sb_router_builder *b, const struct sb_rule *rule, int by)
{
    b->path_users += rule->uses_path ? by : 0;
    if (!rule->stream)
        b->categories[rule->category] += by;
}

static struct sb_tree_node **root_of(struct sb_router_builder *b, const struct sb_rule *rule)
{
    return rule->stream ? &b->stream : &b->http;
}

void sb_router_remove(struct sb_router_builder *b, struct sb_str route_id)
{
    struct sb_rule *rule = sb_map_remove(&b->rules, route_id);

    if (!rule)
        return;
    sb_rule_places(rule, remove_place, root_of(b, rule));
    count_rule(b, rule, -1);
    sb_rule_unref(rule);
}

enum sb_rc sb_router_put(struct sb_router_builder *b, const struct sb_router_source *source,
                         struct sb_err *err)
{
    struct sb_rule *rule;
    enum sb_rc rc = sb_rule_compile(b->flavor, source, &rule, err);

    sb_router_remove(b, sb_value_str_at(source->row, "id"));
    if (rc)
        return rc;
    sb_map_set(&b->rules, rule->id, rule);
    sb_rule_places(rule, put_place, root_of(b, rule));
    count_rule(b, rule, 1);
    return SB_OK;
}

const struct sb_router *sb_router_build(struct sb_router_builder *b)
{
    struct sb_router *r = sb_xcalloc(1, sizeof *r);

    r->http = sb_tree_ref(b->http);
    r->stream = sb_tree_ref(b->stream);
    r->size = b->rules.count;
    r->flavor = b->flavor;
    r->utf8_paths = b->path_users > 0 && b->flavor != SB_ROUTER_TRADITIONAL;
    for (unsigned i = 0; i < SB_CATEGORIES; i++)
        r->categories[i] = b->categories[i] > 0;
    return r;
}

void sb_router_drop(struct sb_router_builder *b, const struct sb_router *r)
{
    (void)b;
    if (!r)
        return;
    sb_tree_unref(r->http);
    sb_tree_unref(r->stream);
    free((struct sb_router *)r);
}

size_t sb_router_size(const struct sb_router *r)
{
    return r->size;
}
