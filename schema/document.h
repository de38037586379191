/* document.h - inside schema/: a declarative document being loaded, as a tree of nodes. */
#ifndef SB_SCHEMA_DOCUMENT_H
#define SB_SCHEMA_DOCUMENT_H

#include "schema/entity.h"
#include "shared/map.h"

/* The entities under one key: of the root, or of a parent entity. */
struct sb_doc_list {
    struct sb_str key;
    struct sb_doc_node **nodes;
    uint32_t count;
    struct sb_doc_list *next;
};

struct sb_doc_node {
    const struct sb_entity *kind;
    const struct sb_value *input; /* as written; not an object: errors says so */
    struct sb_doc_node *parent;   /* NULL: at the root */
    const char *link;             /* our foreign field that names the parent */
    uint32_t position;            /* in its list, from 1 */
    struct sb_str id;             /* given, computed or random; of parameters their key */
    struct sb_str endpoint;       /* value of the endpoint key; empty: none */
    bool id_given;
    struct sb_value *plain, *row; /* before and after transformations */
    struct sb_value *errors;      /* by field; a text when it is no object; NULL: none */
    struct sb_doc_list *children;
    struct sb_doc_node *next; /* all nodes, parents first */
};

/* What is wrong with an entity among others. */
struct sb_doc_problem {
    const struct sb_doc_node *node;
    const char *field; /* NULL: the entity as a whole */
    const char *text;
    enum {
        SB_DOC_BY_POSITION, /* in a list of its kind */
        SB_DOC_BY_KEY,
        SB_DOC_LIST_BY_KEY,
        SB_DOC_NESTED /* below its parent, if it has one */
    } place;          /* in the plain body */
    struct sb_doc_problem *next;
};

struct sb_doc {
    struct sb_schema_ctx ctx;
    struct sb_arena *arena;
    struct sb_doc_list *lists;
    struct sb_doc_node *first, **last;
    struct sb_map by_id, by_key; /* "<entity>:<text>" to node */
    struct sb_value *root_errors;
    struct sb_doc_problem *problems, **last_problem;
};

/* Code 14 from the nodes' errors and the root's, or from the problems. */
void sb_doc_refuse_entities(struct sb_doc *d, struct sb_kong_error *e);
void sb_doc_refuse_problems(struct sb_doc *d, struct sb_kong_error *e);

/* Whether a member of an entity is a list of children: their kind, else NULL. */
const struct sb_entity *sb_doc_child_kind(const struct sb_doc *d, const struct sb_entity *parent,
                                          struct sb_str key);

#endif
