/* unit.h - what is translated at a time, and what that depended on.
 *
 *     topic  "Service/shop/cart"  <── read by ──  unit  "service shop.cart.80"
 *     topic  "=certificate shop/tls"  <── read by ──  unit  "certificates"
 *
 * A unit computes its result from what it reads: objects, and results of other units. Each read
 * subscribes it to a topic, found or not. When something is said to have changed on a topic, its
 * readers run again, stage by stage.
 *
 * (U1) A unit reads only units of an earlier stage, so a run visits each unit at most once.
 * (U2) What a unit computed lives in its arena. The arena of the run before lives until the next
 * run of the translator, so that old and new can be compared. (U3) What a unit published outside of
 * itself is withdrawn before it runs again: a unit's traces are those of its last run and nothing
 * else.
 */
#ifndef SB_CONTROLPLANE_TRANSLATE_UNIT_H
#define SB_CONTROLPLANE_TRANSLATE_UNIT_H

#include <stdbool.h>

#include "controlplane/kube/objects.h"
#include "controlplane/translate/entities.h"
#include "controlplane/translate/translate.h"
#include "shared/map.h"
#include "shared/vec.h"

struct unit;
struct topic;
struct link;

/* In the order in which they run. */
enum stage {
    STAGE_SOURCE,   /* an Ingress ...: which routes, services, certificates does it want? */
    STAGE_DEFAULT,  /* which of the default backends counts */
    STAGE_SERVICE,  /* a Kong service, and its routes */
    STAGE_UPSTREAM, /* the upstream of a host, with its targets */
    STAGE_PAIR,     /* a Secret as a key pair */
    STAGE_CLIENT,   /* a Kong service that has a client certificate */
    STAGES
};

struct unit_type {
    const char *name;
    enum stage stage;
    void (*run)(struct sb_translator *t, struct unit *u);
    void (*withdraw)(struct sb_translator *t, struct unit *u); /* may be NULL */
    void (*release)(struct unit *u);                           /* of state; may be NULL */
};

struct unit {
    const struct unit_type *type;
    struct sb_str id,
        key; /* "=service shop.cart.80", of which the key is the part behind the type */
    struct sb_arena *arena; /* of this run */
    void *result, *before;  /* in the arenas of this run and of the one before */
    void *state;            /* what outlives runs; the type's own */
    struct link *reads;
    SB_VEC(struct sb_translate_failure) failures;
    SB_VEC(struct entity *) entities; /* put by this run */
    bool dirty, gone;
};

/* Finds or makes a unit; a new one is dirty. */
struct unit *unit_of(struct sb_translator *t, const struct unit_type *type, struct sb_str key);
struct unit *unit_find(struct sb_translator *t, const struct unit_type *type, struct sb_str key);
void unit_dirty(struct sb_translator *t, struct unit *u);
/* Says that the unit's result differs from the one before: its readers run. */
void unit_changed(struct sb_translator *t, struct unit *u);

/* Reading subscribes. NULL: not there. */
const struct sb_value *read_object(struct sb_translator *t, struct unit *u, const char *kind,
                                   struct sb_str ns, struct sb_str name);
/* The EndpointSlices of a Service; the array lives in the unit's arena. */
size_t read_slices(struct sb_translator *t, struct unit *u, struct sb_str ns, struct sb_str service,
                   const struct sb_value *const **out);
/* A topic that is no object: TOPIC_... in translator.h. */
void read_topic(struct sb_translator *t, struct unit *u, struct sb_str topic);
void read_unit(struct sb_translator *t, struct unit *u, const struct unit *other);

/* Something of that name changed. */
void topic_changed(struct sb_translator *t, struct sb_str topic);
void topic_changed_object(struct sb_translator *t, const char *kind, struct sb_str ns,
                          struct sb_str name);

/* Puts an entity that is this unit's alone, until it runs again. */
struct entity *unit_put(struct sb_translator *t, struct unit *u, enum entity_kind kind,
                        struct sb_str key, const struct sb_value *value);

/* A problem of an object, as long as the unit does not run again. */
void unit_fail(struct unit *u, struct sb_str object, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Runs what is dirty in a stage. */
void units_run(struct sb_translator *t, enum stage stage);
/* Frees what the last run left behind. */
void units_bury(struct sb_translator *t);
void units_release(struct sb_translator *t);

/* What units keep in the translator. */
struct units {
    struct sb_map all;    /* id -> struct unit */
    struct sb_map topics; /* name -> struct topic */
    SB_VEC(struct unit *) dirty[STAGES];
    SB_VEC(struct sb_arena *) graveyard; /* what changes may still point to */
    SB_VEC(struct unit *) dead;
    bool failures_changed;
};

#endif
