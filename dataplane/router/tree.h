/* tree.h - the index of the router: a prefix tree that versions share.
 *
 * A key leads to a list of entries, best rank first. Keys are made of sections so that one tree
 * answers every question (match.c walks it):
 *
 *     \1 host reversed \2 path     that host             moc.a \2 /foo
 *     \1 host reversed \3 path     hosts that end so     moc.a. \3 /foo     (*.a.com)
 *     \4 host          \3 path     hosts that begin so   a. \3 /foo         (a.*)
 *     \5               path        any host
 *     \6               path        connections without a server name (streams only)
 *
 * so one walk over the reversed host meets the exact host and all its wildcards, and one walk over
 * the path behind them meets every prefix of it. What has no path lies at the empty one; a regex
 * lies at the literal text it begins with. On a stream the server name plays the host, and the two
 * bytes of the destination port the path.
 *
 * Versions: nodes and lists are counted by what points to them. Changing one that only we hold
 * happens in place; one that an older version holds too is copied first. So a change costs the
 * nodes on its way, and a new version costs one count. The counts belong to the builder's thread;
 * readers never touch them.
 */
#ifndef SB_DATAPLANE_ROUTER_TREE_H
#define SB_DATAPLANE_ROUTER_TREE_H

#include <stdint.h>

#include "shared/str.h"

struct sb_cand;

enum {
    SB_TREE_HOST = 1,   /* section: reversed host */
    SB_TREE_EXACT = 2,  /* the host ends here */
    SB_TREE_WILD = 3,   /* anything may follow */
    SB_TREE_PREFIX = 4, /* section: host */
    SB_TREE_ANY = 5,
    SB_TREE_NO_SNI = 6,
};

/* Precedence: compared from hi to tie, the greater is tried first. */
struct sb_rank {
    uint64_t hi, lo, tie;
};

static inline int sb_rank_cmp(const struct sb_rank *a, const struct sb_rank *b)
{
    if (a->hi != b->hi)
        return a->hi < b->hi ? -1 : 1;
    if (a->lo != b->lo)
        return a->lo < b->lo ? -1 : 1;
    return (a->tie > b->tie) - (a->tie < b->tie);
}

enum { SB_ANY_PORT = -1 };

struct sb_tree_entry {
    struct sb_rank rank;
    struct sb_cand *cand; /* counted by its rule */
    int32_t port;         /* the port that its host pattern asks for, or SB_ANY_PORT */
};

struct sb_tree_list {
    uint32_t refs, len, cap;
    struct sb_tree_entry e[];
};

/* A node's label is the whole text from its parent, first byte included; its memory goes on with
 * the children, their first bytes, and the label. */
struct sb_tree_node {
    uint32_t refs, label_len;
    struct sb_tree_list *list; /* NULL: no key ends here */
    uint32_t nchildren;
    struct sb_tree_node *child[];
};

static inline const unsigned char *sb_tree_bytes(const struct sb_tree_node *n)
{
    return (const unsigned char *)(n->child + n->nchildren);
}

static inline struct sb_str sb_tree_label(const struct sb_tree_node *n)
{
    return (struct sb_str){(const char *)sb_tree_bytes(n) + n->nchildren, n->label_len};
}

/* The child whose label begins with c, or NULL. */
static inline const struct sb_tree_node *sb_tree_child(const struct sb_tree_node *n, char c)
{
    const unsigned char *bytes = sb_tree_bytes(n);
    const unsigned char *at = n->nchildren ? memchr(bytes, c, n->nchildren) : NULL;

    return at ? n->child[at - bytes] : NULL;
}

/* -- for the builder's thread -- */

struct sb_tree_node *sb_tree_new(void); /* empty, held once */
struct sb_tree_node *sb_tree_ref(struct sb_tree_node *n);
void sb_tree_unref(struct sb_tree_node *n);

/* Adds the entry at key to the tree at *root, which becomes another node where it is shared. */
void sb_tree_put(struct sb_tree_node **root, struct sb_str key, const struct sb_tree_entry *entry);
/* Removes the entries of cand at key; none is nothing to do. */
void sb_tree_remove(struct sb_tree_node **root, struct sb_str key, const struct sb_cand *cand);

#endif
