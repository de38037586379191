/* entities.h - what a translation gives: flat entities by kind and key, and what changed in a run.
 *
 * (E1) An entity has one value. Where several may claim a name, slots.h decides first.
 *      Where it passes from one owner to another, both run in the same run, and what the old one
 *      withdraws after the new one put it stays.
 * (E2) Putting an equal value is no change, whoever puts it.
 */
#ifndef SB_CONTROLPLANE_TRANSLATE_ENTITIES_H
#define SB_CONTROLPLANE_TRANSLATE_ENTITIES_H

#include "controlplane/translate/translate.h"
#include "shared/map.h"
#include "shared/vec.h"

/* Parents before children; the declarative document nests by this table (document.c). */
enum entity_kind {
    E_CERTIFICATES,
    E_SNIS,
    E_CA_CERTIFICATES,
    E_UPSTREAMS,
    E_TARGETS,
    E_SERVICES,
    E_ROUTES,
    E_PLUGINS,
    ENTITY_KINDS,
    E_NONE = ENTITY_KINDS,
};

extern const char *const entity_names[ENTITY_KINDS];

struct entity {
    enum entity_kind kind, parent_kind;
    struct sb_str key;            /* ours */
    const void *owner;            /* a unit, or a slot: who put it last */
    unsigned lists;               /* of owners that hold it */
    struct sb_str parent;         /* with value and objects: in the arena of the unit that put it */
    const struct sb_value *value; /* NULL: withdrawn */
    const struct sb_str *objects;
    size_t nobjects;
    /* as it was before this run */
    bool touched;
    enum entity_kind parent_kind_before;
    const struct sb_value *before;
    struct sb_str parent_before;
};

struct entities {
    struct sb_map kinds[ENTITY_KINDS]; /* key -> struct entity */
    SB_VEC(struct entity *) touched;   /* in this run */
    SB_VEC(struct entity *) dropped;   /* freed when the next run begins */
    SB_VEC(struct sb_translated) changes;
};

/* Sets the value; parent and objects are empty until they are set. The owner keeps the entity in a
 * list, once for each put, and withdraws what is in it. */
struct entity *entity_put(struct entities *es, const void *owner, enum entity_kind kind,
                          struct sb_str key, const struct sb_value *value);
void entity_parent(struct entity *e, enum entity_kind kind, struct sb_str key);
void entity_objects(struct entity *e, const struct sb_str *objects, size_t n);
void entity_withdraw(struct entities *es, const void *owner, struct entity *e);

/* It has a value. */
static inline bool entity_is(const struct entity *e)
{
    return e->value != NULL;
}

void entities_begin(struct entities *es); /* a run: forgets the changes of the one before */
void entities_end(struct entities *es);   /* finds out what changed */
void entities_release(struct entities *es);

void entity_export(const struct entity *e, struct sb_translated *out);

#endif
