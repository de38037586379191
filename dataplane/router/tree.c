#include "dataplane/router/tree.h"

#include <stdlib.h>

#include "dataplane/router/rule.h"
#include "shared/arena.h"
#include "shared/err.h"

enum { FIRST_LIST_CAP = 1 };

/* -- lists ------------------------------------------------------------------------------------ */

static void list_unref(struct sb_tree_list *list)
{
    if (!list || --list->refs)
        return;
    for (uint32_t i = 0; i < list->len; i++)
        sb_rule_unref(list->e[i].cand->rule);
    free(list);
}

static struct sb_tree_list *list_alloc(uint32_t cap)
{
    struct sb_tree_list *list = sb_xmalloc(sizeof *list + cap * sizeof *list->e);

    list->refs = 1;
    list->len = 0;
    list->cap = cap;
    return list;
}

/* The list, ours alone, with room for one more. */
static struct sb_tree_list *list_own(struct sb_tree_list *list)
{
    uint32_t cap = list ? list->len == list->cap ? list->cap * 2 : list->cap : FIRST_LIST_CAP;
    struct sb_tree_list *copy;

    if (list && list->refs == 1) {
        if (cap == list->cap)
            return list;
        list = sb_xrealloc(list, sizeof *list + cap * sizeof *list->e);
        list->cap = cap;
        return list;
    }
    copy = list_alloc(cap);
    for (uint32_t i = 0; list && i < list->len; i++) {
        copy->e[i] = list->e[i];
        copy->e[i].cand->rule->refs++;
    }
    copy->len = list ? list->len : 0;
    list_unref(list);
    return copy;
}

/* The place of the first entry that ranks below `rank`. */
static uint32_t list_place(const struct sb_tree_list *list, const struct sb_rank *rank)
{
    uint32_t lo = 0, hi = list->len;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (sb_rank_cmp(&list->e[mid].rank, rank) >= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void list_put(struct sb_tree_list **slot, const struct sb_tree_entry *entry)
{
    struct sb_tree_list *list = *slot = list_own(*slot);
    uint32_t at = list_place(list, &entry->rank);

    memmove(list->e + at + 1, list->e + at, (list->len - at) * sizeof *list->e);
    list->e[at] = *entry;
    list->len++;
    entry->cand->rule->refs++;
}

static void list_remove(struct sb_tree_list **slot, const struct sb_cand *cand)
{
    struct sb_tree_list *list = *slot = list_own(*slot);
    uint32_t kept = 0;

    for (uint32_t i = 0; i < list->len; i++) {
        if (list->e[i].cand == cand)
            sb_rule_unref(list->e[i].cand->rule);
        else
            list->e[kept++] = list->e[i];
    }
    list->len = kept;
    if (!kept) {
        list_unref(list);
        *slot = NULL;
    }
}

/* -- nodes ------------------------------------------------------------------------------------ */

static size_t node_size(size_t nchildren, size_t label_len)
{
    return sizeof(struct sb_tree_node) + nchildren * (sizeof(struct sb_tree_node *) + 1) +
           label_len;
}

static unsigned char *bytes_of(struct sb_tree_node *n)
{
    return (unsigned char *)(n->child + n->nchildren);
}

/* A node with that label and room for children, which the caller fills. */
static struct sb_tree_node *node_alloc(struct sb_str label, size_t nchildren)
{
    struct sb_tree_node *n = sb_xmalloc(node_size(nchildren, label.len));

    sb_assert(label.len <= UINT32_MAX);
    n->refs = 1;
    n->label_len = (uint32_t)label.len;
    n->list = NULL;
    n->nchildren = (uint32_t)nchildren;
    if (label.len)
        memcpy(bytes_of(n) + nchildren, label.p, label.len);
    return n;
}

struct sb_tree_node *sb_tree_new(void)
{
    return node_alloc(SB_STR(""), 0);
}

struct sb_tree_node *sb_tree_ref(struct sb_tree_node *n)
{
    n->refs++;
    return n;
}

void sb_tree_unref(struct sb_tree_node *n)
{
    if (!n || --n->refs)
        return;
    for (uint32_t i = 0; i < n->nchildren; i++)
        sb_tree_unref(n->child[i]);
    list_unref(n->list);
    free(n);
}

/* Another node of the same content, with another label, one more child (when `more`) or one less
 * (when `less` < nchildren). Takes over the caller's hold on n: what n alone held moves along. */
static struct sb_tree_node *node_remake(struct sb_tree_node *n, struct sb_str label,
                                        struct sb_tree_node *more, uint32_t less)
{
    bool shared = n->refs > 1;
    uint32_t kept = n->nchildren - (less < n->nchildren);
    struct sb_tree_node *copy = node_alloc(label, kept + (more != NULL));
    uint32_t w = 0;

    copy->list = n->list;
    if (shared && copy->list)
        copy->list->refs++;
    for (uint32_t i = 0; i < n->nchildren; i++) {
        if (i == less) {
            if (!shared)
                sb_tree_unref(n->child[i]);
            continue;
        }
        copy->child[w] = shared ? sb_tree_ref(n->child[i]) : n->child[i];
        bytes_of(copy)[w++] = bytes_of(n)[i];
    }
    if (more) {
        copy->child[w] = more;
        bytes_of(copy)[w] = (unsigned char)sb_tree_label(more).p[0];
    }
    if (shared)
        n->refs--;
    else
        free(n);
    return copy;
}

enum { NO_CHILD = UINT32_MAX };

/* *slot, ours alone. */
static struct sb_tree_node *node_own(struct sb_tree_node **slot)
{
    if ((*slot)->refs > 1)
        *slot = node_remake(*slot, sb_tree_label(*slot), NULL, NO_CHILD);
    return *slot;
}

static size_t common_len(struct sb_str a, struct sb_str b)
{
    size_t n = 0;

    while (n < a.len && n < b.len && a.p[n] == b.p[n])
        n++;
    return n;
}

/* Cuts the node in *slot after `at` bytes of its label: the rest becomes its only child. */
static void node_split(struct sb_tree_node **slot, size_t at)
{
    struct sb_tree_node *lower = *slot, *upper;
    struct sb_str label = sb_tree_label(lower);

    upper = node_alloc(sb_str_first(label, at), 1);
    lower = node_remake(lower, sb_str_from(label, at), NULL, NO_CHILD);
    upper->child[0] = lower;
    bytes_of(upper)[0] = (unsigned char)sb_tree_label(lower).p[0];
    *slot = upper;
}

static struct sb_tree_node **child_slot(struct sb_tree_node *n, char c)
{
    const unsigned char *at = n->nchildren ? memchr(bytes_of(n), c, n->nchildren) : NULL;

    return at ? &n->child[at - bytes_of(n)] : NULL;
}

void sb_tree_put(struct sb_tree_node **root, struct sb_str key, const struct sb_tree_entry *entry)
{
    struct sb_tree_node **slot = root;

    for (;;) {
        struct sb_tree_node *n = node_own(slot), **next;
        size_t common = common_len(sb_tree_label(n), key);

        if (common < n->label_len) {
            node_split(slot, common);
            n = *slot;
        }
        key = sb_str_from(key, common);
        if (!key.len) {
            list_put(&n->list, entry);
            return;
        }
        next = child_slot(n, key.p[0]);
        if (!next) {
            struct sb_tree_node *leaf = node_alloc(key, 0);

            list_put(&leaf->list, entry);
            *slot = node_remake(n, sb_tree_label(n), leaf, NO_CHILD);
            return;
        }
        slot = next;
    }
}

/* A node without list and with one child says nothing: the child takes its text over. */
static void node_merge(struct sb_tree_node **slot)
{
    struct sb_tree_node *n = *slot, *child = n->child[0];
    struct sb_str a = sb_tree_label(n), b = sb_tree_label(child);
    char *text = sb_xmalloc(a.len + b.len);

    if (a.len)
        memcpy(text, a.p, a.len);
    memcpy(text + a.len, b.p, b.len);
    *slot = node_remake(child, (struct sb_str){text, a.len + b.len}, NULL, NO_CHILD);
    free(text);
    free(n); /* ours alone, and its child is taken */
}

/* Takes cand out below the node in *slot, which has a parent unless it is the root. */
static void remove_below(struct sb_tree_node **slot, struct sb_str key, const struct sb_cand *cand,
                         bool root)
{
    struct sb_tree_node *n, **next;

    if (!sb_str_starts(key, sb_tree_label(*slot)))
        return;
    n = node_own(slot);
    key = sb_str_from(key, n->label_len);
    if (!key.len) {
        if (n->list)
            list_remove(&n->list, cand);
    } else if ((next = child_slot(n, key.p[0]))) {
        remove_below(next, key, cand, false);
        if (!(*next)->list && !(*next)->nchildren)
            n = *slot = node_remake(n, sb_tree_label(n), NULL, (uint32_t)(next - n->child));
    }
    if (!root && !n->list && n->nchildren == 1)
        node_merge(slot);
}

void sb_tree_remove(struct sb_tree_node **root, struct sb_str key, const struct sb_cand *cand)
{
    remove_below(root, key, cand, true);
}
