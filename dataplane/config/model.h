/* model.h - the stored rows and what refers to what.
 *
 * A node is a row, or a place that rows refer to and that is empty: a route whose service is
 * missing comes alive when the service is stored, because the edge is there already.
 *
 *     route r1 --\                 refs:  what a row names; fixed by the row
 *     route r2 ---> service s1     users: who names it; a list that nodes enter and leave in O(1)
 *                     |
 *                     v
 *                   certificate c1
 *
 * Rows are kept as JSON text, one block each: a fifth of what a tree of values costs, ready for the
 * disk, and equal rows are equal bytes. One thread's.
 */
#ifndef SB_DATAPLANE_CONFIG_MODEL_H
#define SB_DATAPLANE_CONFIG_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/map.h"
#include "shared/str.h"
#include "shared/value.h"

enum { SB_MODEL_REFS_MAX = 2 };

struct sb_builder;
struct sb_node;

/* What the builder makes of a kind of entity. */
struct sb_kind_rules {
    const char *name;                    /* of the entity */
    const char *refs[SB_MODEL_REFS_MAX]; /* fields that hold {"id"}, or an array of ids */
    const char *ref_kinds[SB_MODEL_REFS_MAX];
    int rank;   /* built in this order: users come after what they use */
    bool part;  /* a change is one of what it refers to (targets) */
    bool shown; /* what is built keeps the row's text: any change of it is one */
    void (*build)(struct sb_builder *b, struct sb_node *node);
};

struct sb_kind {
    const char *name;
    const struct sb_kind_rules *rules; /* NULL: rows of this kind are only kept */
    struct sb_map nodes;               /* by id */
    size_t rows;
};

struct sb_edge {
    struct sb_node *from, *to;
    struct sb_edge *prev, *next; /* among the users of `to` */
};

struct sb_node {
    struct sb_kind *kind;
    struct sb_str id;
    struct sb_str text; /* the row; p NULL: nothing is stored here */
    uint32_t text_body; /* so much of the text comes before the timestamps */
    uint32_t seen;      /* by which replacement */
    struct sb_edge *refs;
    uint32_t nrefs;
    bool dirty;
    struct sb_edge *users;
    struct sb_node *prev, *next; /* all stored rows, oldest first */
    void *built;                 /* the builder's */
};

/* Told of every change of a stored row, or that it is about to go. */
typedef void sb_model_watch(void *arg, const struct sb_node *node, bool going);

struct sb_model;

/* rules: ended by name NULL. on_dirty is called for each node that must be built anew, once until
 * the builder clears `dirty`. */
struct sb_model *sb_model_new(const struct sb_kind_rules *rules,
                              void (*on_dirty)(void *arg, struct sb_node *node), void *arg);
void sb_model_free(struct sb_model *m);
void sb_model_watch_rows(struct sb_model *m, sb_model_watch *watch, void *arg);
/* Texts of rows that are shown go to take once they are replaced or dropped, to be given to free()
 * when nothing shows them any more. */
void sb_model_give_texts(struct sb_model *m, void (*take)(void *arg, void *text), void *arg);

/* Stores a row (an object with a string "id"; others are ignored). auto_times: timestamps that were
 * filled in while reading (created_at and updated_at equal) are no change. */
void sb_model_put(struct sb_model *m, struct sb_str kind, const struct sb_value *row,
                  bool auto_times);
/* The same from the text of a stored row, as sb_node.text has it. False: not one. */
bool sb_model_put_text(struct sb_model *m, struct sb_str kind, struct sb_str text);
void sb_model_drop(struct sb_model *m, struct sb_str kind, struct sb_str id);

/* A replacement: what is not put between begin and end is dropped; of one kind, or of all (NULL).
 */
void sb_model_replace_begin(struct sb_model *m);
void sb_model_replace_end(struct sb_model *m, const char *kind);
/* The rows, {entity: [rows]}, in the place of all that there are. */
void sb_model_replace_all(struct sb_model *m, const struct sb_value *rows);

/* Marks a node to be built anew; its users, when it was and they must too. */
void sb_model_touch(struct sb_model *m, struct sb_node *node);
void sb_model_touch_users(struct sb_model *m, struct sb_node *node);
/* Frees the node when nothing is stored in it, nothing refers to it and it is not dirty. The
 * builder calls it for each node that it built; `built` must be NULL then. */
void sb_model_collect(struct sb_model *m, struct sb_node *node);

struct sb_node *sb_model_find(const struct sb_model *m, struct sb_str kind, struct sb_str id);
/* The oldest stored row; walk by node->next. A walk that pauses on a node moves on when it is told
 * that the node is going. */
struct sb_node *sb_model_first(const struct sb_model *m);
size_t sb_model_rows(const struct sb_model *m);
/* The row as a value; NULL when nothing is stored. */
struct sb_value *sb_node_row(const struct sb_node *node, struct sb_arena *a);

#endif
