/* slots.h - names that several may claim, of which the order decides.
 *
 * Route names and upstream hosts are made by rules that give two objects the same name at times
 * (dots are separators and may also be in names; an Ingress and a TCPIngress may use one upstream).
 * Claims are kept, so that the next in line has the name when the first one goes.
 */
#ifndef SB_CONTROLPLANE_TRANSLATE_SLOTS_H
#define SB_CONTROLPLANE_TRANSLATE_SLOTS_H

#include "controlplane/translate/entities.h"
#include "controlplane/translate/sorted.h"

struct slot {
    struct sb_str key;
    struct sorted claimants;
    SB_VEC(struct entity *) entities; /* that were put for them */
    bool dirty;
};

struct slots {
    sorted_cmp *cmp;                                         /* a total order of claimants */
    void (*put)(struct sb_translator *t, struct slot *slot); /* puts what the claimants give */
    struct sb_map all;
    SB_VEC(struct slot *) dirty;
};

void slot_claim(struct slots *slots, struct sb_str key, void *who);
void slot_leave(struct slots *slots, struct sb_str key, void *who);
/* The claimant's result changed, its claim did not. */
void slot_touch(struct slots *slots, struct sb_str key);
/* Puts the entities of slots that were touched. */
void slots_settle(struct sb_translator *t, struct slots *slots);
struct entity *slot_put(struct sb_translator *t, struct slot *slot, enum entity_kind kind,
                        struct sb_str key, const struct sb_value *value);
void slots_release(struct slots *slots);

#endif
