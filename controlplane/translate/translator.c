/* translator.c - the whole: what a change of an object means, and the order of a run. */
#include <stdlib.h>

#include "controlplane/translate/annotations.h"
#include "controlplane/translate/translator.h"

/* In rank order. */
const struct source_kind source_kinds[] = {
    {"Ingress", ingress_translate},
    {0},
};

/* -- what changed
 * ---------------------------------------------------------------------------------- */

static void note_slice(struct sb_translator *t, const struct sb_value *slice)
{
    const struct sb_value *labels = sb_value_at(slice, "metadata.labels");
    const struct sb_value *service = sb_get(labels, "kubernetes.io/service-name");

    if (sb_is(service, SB_V_STR))
        topic_changed_object(t, SLICES_OF, sb_object_ns(slice), service->s);
}

/* A new source has no unit yet that could be woken. */
static void note_source(struct sb_translator *t, const char *kind, const struct sb_value *object)
{
    struct sb_str ns = sb_object_ns(object), name = sb_object_name(object);

    for (const struct source_kind *k = source_kinds; k->kind; k++) {
        if (strcmp(k->kind, kind))
            continue;
        sb_buf_clear(&t->key);
        sb_buf_printf(&t->key, "%s/%.*s/%.*s", kind, SB_ARG(ns), SB_ARG(name));
        unit_of(t, &source_type, sb_buf_get(&t->key));
    }
}

static void note_object(struct sb_translator *t, const char *kind, const struct sb_value *object)
{
    if (!object)
        return;
    topic_changed_object(t, kind, sb_object_ns(object), sb_object_name(object));
    if (!strcmp(kind, "EndpointSlice"))
        note_slice(t, object);
    else if ((!strcmp(kind, "Secret") || !strcmp(kind, "ConfigMap")) && is_authority(object))
        topic_changed(t, TOPIC_CA);
}

void sb_translator_note(void *translator, const struct sb_kind *kind, const struct sb_value *before,
                        const struct sb_value *after)
{
    struct sb_translator *t = translator;

    t->noted = true;
    note_object(t, kind->kind, before);
    note_object(t, kind->kind, after);
    if (after)
        note_source(t, kind->kind, after);
}

bool sb_translator_pending(const struct sb_translator *t)
{
    return t->noted;
}

/* -- the translator
 * -------------------------------------------------------------------------------- */

static void note_all(struct sb_translator *t)
{
    struct sb_arena *arena = sb_arena_new(0);
    const struct sb_value *const *objects;

    for (const struct source_kind *k = source_kinds; k->kind; k++) {
        size_t n = sb_objects_list(t->objects, k->kind, arena, &objects);

        for (size_t i = 0; i < n; i++)
            note_source(t, k->kind, objects[i]);
    }
    sb_arena_free(arena);
}

struct sb_translator *sb_translator_new(const struct sb_translate_settings *settings,
                                        const struct sb_objects *objects)
{
    struct sb_translator *t = sb_xcalloc(1, sizeof *t);

    t->settings = settings;
    t->objects = objects;
    t->routes = (struct slots){.cmp = part_cmp, .put = route_put};
    t->certificates = (struct slots){.cmp = pair_cmp, .put = certificate_put};
    t->snis = (struct slots){.cmp = claim_cmp, .put = sni_put};
    sb_buf_init(&t->name, 0);
    sb_buf_init(&t->key, 0);
    identity_init(t);
    unit_of(t, &default_type, SB_STR(""));
    unit_of(t, &ca_certificates_type, SB_STR(""));
    note_all(t);
    t->noted = true;
    return t;
}

void sb_translator_free(struct sb_translator *t)
{
    if (!t)
        return;
    units_release(t);
    slots_release(&t->routes);
    slots_release(&t->certificates);
    slots_release(&t->snis);
    entities_release(&t->entities);
    sb_vec_release(&t->defaults);
    sb_buf_release(&t->name);
    sb_buf_release(&t->key);
    free(t);
}

/* Names are given once all who want them have spoken. */
static void stage_settle(struct sb_translator *t, enum stage stage)
{
    if (stage == STAGE_SERVICE)
        slots_settle(t, &t->routes);
    if (stage != STAGE_PAIR)
        return;
    slots_settle(t, &t->certificates); /* touches the hosts of those whose id changed */
    slots_settle(t, &t->snis);
}

size_t sb_translator_run(struct sb_translator *t, const struct sb_translated **changes)
{
    t->noted = false;
    t->units.failures_changed = false;
    entities_begin(&t->entities);
    units_bury(t);
    for (enum stage stage = 0; stage < STAGES; stage++) {
        units_run(t, stage);
        stage_settle(t, stage);
    }
    entities_end(&t->entities);
    *changes = t->entities.changes.p;
    return t->entities.changes.len;
}

/* -- what came out
 * --------------------------------------------------------------------------------- */

size_t sb_translator_entities(const struct sb_translator *t, struct sb_arena *arena,
                              const struct sb_translated **out)
{
    size_t n = 0, count = 0;
    struct sb_translated *list;
    struct sb_map_slot *slot;

    for (size_t k = 0; k < ENTITY_KINDS; k++)
        count += t->entities.kinds[k].count;
    list = SB_NEW_N(arena, struct sb_translated, count);
    for (size_t k = 0; k < ENTITY_KINDS; k++) {
        sb_map_each (slot, &t->entities.kinds[k]) {
            if (entity_is(slot->value))
                entity_export(slot->value, &list[n++]);
        }
    }
    *out = list;
    return n;
}

static int by_words(const void *a, const void *b)
{
    const struct sb_translate_failure *x = a, *y = b;
    int c = sb_str_cmp(x->object, y->object);

    return c ? c : sb_str_cmp(x->message, y->message);
}

size_t sb_translator_failures(const struct sb_translator *t, struct sb_arena *arena,
                              const struct sb_translate_failure **out)
{
    struct sb_translate_failure *list;
    struct sb_map_slot *slot;
    size_t n = 0;

    sb_map_each (slot, &t->units.all)
        n += ((const struct unit *)slot->value)->failures.len;
    list = SB_NEW_N(arena, struct sb_translate_failure, n);
    n = 0;
    sb_map_each (slot, &t->units.all) {
        const struct unit *u = slot->value;

        for (size_t i = 0; i < u->failures.len; i++)
            list[n++] = u->failures.p[i];
    }
    qsort(list, n, sizeof *list, by_words);
    *out = list;
    return n;
}

bool sb_translator_failures_changed(const struct sb_translator *t)
{
    return t->units.failures_changed;
}
