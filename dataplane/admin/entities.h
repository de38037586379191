/* entities.h - inside admin/: what the generic endpoints share with those of a few entities that go
 * ways of their own. Every function that can fail has answered the call when it says so. */
#ifndef SB_DATAPLANE_ADMIN_ENTITIES_H
#define SB_DATAPLANE_ADMIN_ENTITIES_H

#include "dataplane/admin/node.h"

/* A call about entities. */
struct sb_entities {
    struct sb_call *c;
    struct sb_store *store;
    struct sb_schema_ctx ctx;
    struct sb_kong_error e;
};

bool sb_entities_open(struct sb_call *c, struct sb_entities *x);
bool sb_entities_ok(struct sb_entities *x, enum sb_rc rc);

enum sb_found { SB_FOUND, SB_MISSING, SB_ANSWERED };

/* From a parameter to a key: an id, else the endpoint key, else an id that will be refused. */
enum sb_found sb_entities_key(struct sb_entities *x, const struct sb_entity *kind,
                              struct sb_str text, struct sb_store_key *key);
/* NULL: the call is answered, with 404 when there is none. */
struct sb_value *sb_entities_find(struct sb_entities *x, const struct sb_entity *kind,
                                  struct sb_str text);
/* The same of one that must belong to the parent. */
struct sb_value *sb_entities_child(struct sb_entities *x, const struct sb_endpoint *e,
                                   const struct sb_value *parent, struct sb_str text);

bool sb_entities_size(struct sb_entities *x, int *size);
/* {"data", "next", "offset"}; offset "": the last page. repeat: next has tags and size again. */
void sb_entities_page(struct sb_call *c, struct sb_value *rows, struct sb_str path,
                      struct sb_str offset, bool repeat);

void sb_entities_upsert(struct sb_entities *x, const struct sb_entity *kind,
                        struct sb_store_key key, const struct sb_value *in);
void sb_entities_update(struct sb_entities *x, const struct sb_entity *kind,
                        struct sb_store_key key, const struct sb_value *in);
void sb_entities_delete(struct sb_entities *x, const struct sb_entity *kind,
                        struct sb_store_key key);

/* Handlers. */
void sb_entities_collection(struct sb_call *c, const struct sb_endpoint *e);
void sb_entities_entity(struct sb_call *c, const struct sb_endpoint *e);
void sb_entities_nested(struct sb_call *c, const struct sb_endpoint *e);
void sb_entities_nested_entity(struct sb_call *c, const struct sb_endpoint *e);

/* What was sent, with the texts of a form read by type. */
const struct sb_value *sb_entities_input(struct sb_entities *x, const struct sb_entity *kind);

#endif
