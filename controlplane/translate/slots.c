#include "controlplane/translate/slots.h"

#include <stdlib.h>

#include "controlplane/translate/translator.h"

static struct slot *slot_of(struct slots *slots, struct sb_str key)
{
    struct slot *slot = sb_map_get(&slots->all, key);
    char *text;

    if (slot)
        return slot;
    slot = sb_xcalloc(1, sizeof *slot + key.len + 1);
    text = (char *)(slot + 1);
    memcpy(text, key.p, key.len);
    slot->key = sb_str_n(text, key.len);
    sb_map_set(&slots->all, slot->key, slot);
    return slot;
}

static void dirty(struct slots *slots, struct slot *slot)
{
    if (slot->dirty)
        return;
    slot->dirty = true;
    sb_vec_push(&slots->dirty, slot);
}

void slot_claim(struct slots *slots, struct sb_str key, void *who)
{
    struct slot *slot = slot_of(slots, key);

    sorted_insert(&slot->claimants, who, slots->cmp);
    dirty(slots, slot);
}

void slot_leave(struct slots *slots, struct sb_str key, void *who)
{
    struct slot *slot = slot_of(slots, key);

    sorted_remove(&slot->claimants, who, slots->cmp);
    dirty(slots, slot);
}

void slot_touch(struct slots *slots, struct sb_str key)
{
    dirty(slots, slot_of(slots, key));
}

static void slot_free(struct slot *slot)
{
    sb_vec_release(&slot->claimants);
    sb_vec_release(&slot->entities);
    free(slot);
}

/* All are withdrawn before any is put, so that a name may move from one slot to another. */
void slots_settle(struct sb_translator *t, struct slots *slots)
{
    struct slot **slot;
    struct entity **e;

    sb_vec_each (slot, &slots->dirty) {
        sb_vec_each (e, &(*slot)->entities)
            entity_withdraw(&t->entities, *slot, *e);
        sb_vec_clear(&(*slot)->entities);
    }
    sb_vec_each (slot, &slots->dirty) {
        (*slot)->dirty = false;
        if ((*slot)->claimants.len) {
            slots->put(t, *slot);
            continue;
        }
        sb_map_remove(&slots->all, (*slot)->key);
        slot_free(*slot);
    }
    sb_vec_clear(&slots->dirty);
}

struct entity *slot_put(struct sb_translator *t, struct slot *slot, enum entity_kind kind,
                        struct sb_str key, const struct sb_value *value)
{
    struct entity *e = entity_put(&t->entities, slot, kind, key, value);

    sb_vec_push(&slot->entities, e);
    return e;
}

void slots_release(struct slots *slots)
{
    struct sb_map_slot *s;

    sb_map_each (s, &slots->all)
        slot_free(s->value);
    sb_map_release(&slots->all);
    sb_vec_release(&slots->dirty);
}
