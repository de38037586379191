/* unit.c - units, topics, and the links between them.
 *
 * A link sits in two lists: of what its unit read (singly linked, dropped whole before a run), and
 * of who reads its topic (doubly linked, for a topic like the IngressClass is read by every Ingress
 * and leaving must not cost a walk). Links live in the arena of the run that made them.
 */
#include "controlplane/translate/unit.h"

#include <stdlib.h>

#include "controlplane/translate/translator.h"

struct topic {
    struct sb_str name;
    struct link *readers;
};

struct link {
    struct topic *topic;
    struct unit *reader;
    struct link *next_read;                 /* of the unit */
    struct link *prev_reader, *next_reader; /* of the topic */
};

static struct sb_str heap_str(struct sb_str s)
{
    char *p = sb_xmalloc(s.len + 1);

    memcpy(p, s.p, s.len);
    p[s.len] = 0;
    return sb_str_n(p, s.len);
}

/* -- names
 * ----------------------------------------------------------------------------------------- */

/* In the translator's buffer for names: good until the next name. */
static struct sb_str unit_id(struct sb_translator *t, const struct unit_type *type,
                             struct sb_str key)
{
    sb_buf_clear(&t->name);
    sb_buf_printf(&t->name, "=%s ", type->name);
    sb_buf_str(&t->name, key);
    return sb_buf_get(&t->name);
}

static struct sb_str object_topic(struct sb_translator *t, const char *kind, struct sb_str ns,
                                  struct sb_str name)
{
    sb_buf_clear(&t->name);
    sb_buf_printf(&t->name, "%s/%.*s/%.*s", kind, SB_ARG(ns), SB_ARG(name));
    return sb_buf_get(&t->name);
}

/* -- topics
 * ---------------------------------------------------------------------------------------- */

static struct topic *topic_of(struct sb_translator *t, struct sb_str name)
{
    struct topic *topic = sb_map_get(&t->units.topics, name);

    if (topic)
        return topic;
    topic = sb_xcalloc(1, sizeof *topic);
    topic->name = heap_str(name);
    sb_map_set(&t->units.topics, topic->name, topic);
    return topic;
}

static void topic_free(struct sb_translator *t, struct topic *topic)
{
    sb_map_remove(&t->units.topics, topic->name);
    free((char *)topic->name.p);
    free(topic);
}

static void subscribe(struct unit *u, struct topic *topic)
{
    struct link *link;

    if (topic->readers && topic->readers->reader == u)
        return; /* the usual case of reading twice in a row */
    link = SB_NEW(u->arena, struct link);
    *link = (struct link){.topic = topic, .reader = u, .next_read = u->reads};
    link->next_reader = topic->readers;
    if (topic->readers)
        topic->readers->prev_reader = link;
    topic->readers = link;
    u->reads = link;
}

static void unsubscribe(struct sb_translator *t, struct unit *u)
{
    for (struct link *link = u->reads; link; link = link->next_read) {
        struct topic *topic = link->topic;

        if (link->prev_reader)
            link->prev_reader->next_reader = link->next_reader;
        else
            topic->readers = link->next_reader;
        if (link->next_reader)
            link->next_reader->prev_reader = link->prev_reader;
        if (!topic->readers)
            topic_free(t, topic);
    }
    u->reads = NULL;
}

static void topic_wake(struct sb_translator *t, const struct topic *topic)
{
    for (const struct link *link = topic->readers; link; link = link->next_reader)
        unit_dirty(t, link->reader);
}

void topic_changed(struct sb_translator *t, struct sb_str name)
{
    const struct topic *topic = sb_map_get(&t->units.topics, name);

    if (topic)
        topic_wake(t, topic);
}

void topic_changed_object(struct sb_translator *t, const char *kind, struct sb_str ns,
                          struct sb_str name)
{
    topic_changed(t, object_topic(t, kind, ns, name));
}

/* -- units
 * ----------------------------------------------------------------------------------------- */

struct unit *unit_find(struct sb_translator *t, const struct unit_type *type, struct sb_str key)
{
    return sb_map_get(&t->units.all, unit_id(t, type, key));
}

struct unit *unit_of(struct sb_translator *t, const struct unit_type *type, struct sb_str key)
{
    struct sb_str id = unit_id(t, type, key);
    struct unit *u = sb_map_get(&t->units.all, id);

    if (u)
        return u;
    u = sb_xcalloc(1, sizeof *u);
    u->type = type;
    u->id = heap_str(id);
    u->key = sb_str_from(u->id, id.len - key.len);
    sb_map_set(&t->units.all, u->id, u);
    unit_dirty(t, u);
    return u;
}

void unit_dirty(struct sb_translator *t, struct unit *u)
{
    if (u->dirty)
        return;
    u->dirty = true;
    sb_vec_push(&t->units.dirty[u->type->stage], u);
}

void unit_changed(struct sb_translator *t, struct unit *u)
{
    topic_changed(t, u->id);
}

static void unit_clear(struct sb_translator *t, struct unit *u)
{
    struct entity **e;

    if (u->type->withdraw)
        u->type->withdraw(t, u);
    unsubscribe(t, u);
    sb_vec_each (e, &u->entities)
        entity_withdraw(&t->entities, u, *e);
    sb_vec_clear(&u->entities);
    if (u->failures.len)
        t->units.failures_changed = true;
    sb_vec_clear(&u->failures);
}

static void unit_bury(struct unit *u)
{
    sb_vec_release(&u->failures);
    sb_vec_release(&u->entities);
    free((char *)u->id.p);
    free(u);
}

static void unit_free(struct sb_translator *t, struct unit *u)
{
    if (u->type->release)
        u->type->release(u);
    if (u->arena)
        sb_vec_push(&t->units.graveyard, u->arena);
    sb_map_remove(&t->units.all, u->id);
    sb_vec_push(&t->units.dead, u);
}

static void unit_run(struct sb_translator *t, struct unit *u)
{
    unit_clear(t, u);
    if (u->arena)
        sb_vec_push(&t->units.graveyard, u->arena);
    u->before = u->result;
    u->result = NULL;
    u->arena = sb_arena_new(1024);
    u->dirty = false;
    u->type->run(t, u);
    if (u->failures.len)
        t->units.failures_changed = true;
}

/* Units that become dirty in a stage while it runs are run, too. */
void units_run(struct sb_translator *t, enum stage stage)
{
    for (size_t i = 0; i < t->units.dirty[stage].len; i++) {
        struct unit *u = t->units.dirty[stage].p[i];

        unit_run(t, u);
        if (u->gone) {
            unit_clear(t, u);
            unit_free(t, u);
        }
    }
    sb_vec_clear(&t->units.dirty[stage]);
}

void units_bury(struct sb_translator *t)
{
    struct sb_arena **arena;
    struct unit **u;

    sb_vec_each (arena, &t->units.graveyard)
        sb_arena_free(*arena);
    sb_vec_clear(&t->units.graveyard);
    sb_vec_each (u, &t->units.dead)
        unit_bury(*u);
    sb_vec_clear(&t->units.dead);
}

void units_release(struct sb_translator *t)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, &t->units.all) {
        struct unit *u = slot->value;

        if (u->type->release)
            u->type->release(u);
        sb_arena_free(u->arena);
        unit_bury(u);
    }
    sb_map_each (slot, &t->units.topics) {
        struct topic *topic = slot->value;

        free((char *)topic->name.p);
        free(topic);
    }
    units_bury(t);
    for (size_t i = 0; i < STAGES; i++)
        sb_vec_release(&t->units.dirty[i]);
    sb_vec_release(&t->units.graveyard);
    sb_vec_release(&t->units.dead);
    sb_map_release(&t->units.all);
    sb_map_release(&t->units.topics);
}

/* -- reading
 * --------------------------------------------------------------------------------------- */

void read_topic(struct sb_translator *t, struct unit *u, struct sb_str topic)
{
    subscribe(u, topic_of(t, topic));
}

const struct sb_value *read_object(struct sb_translator *t, struct unit *u, const char *kind,
                                   struct sb_str ns, struct sb_str name)
{
    read_topic(t, u, object_topic(t, kind, ns, name));
    return sb_objects_get(t->objects, kind, ns, name);
}

size_t read_slices(struct sb_translator *t, struct unit *u, struct sb_str ns, struct sb_str service,
                   const struct sb_value *const **out)
{
    read_topic(t, u, object_topic(t, SLICES_OF, ns, service));
    return sb_objects_refs(t->objects, SB_REF_SLICES_OF_SERVICE, ns, service, u->arena, out);
}

void read_unit(struct sb_translator *t, struct unit *u, const struct unit *other)
{
    sb_assert(other->type->stage < u->type->stage);
    read_topic(t, u, other->id);
}

/* -- publishing
 * ------------------------------------------------------------------------------------ */

struct entity *unit_put(struct sb_translator *t, struct unit *u, enum entity_kind kind,
                        struct sb_str key, const struct sb_value *value)
{
    struct entity *e = entity_put(&t->entities, u, kind, key, value);

    sb_vec_push(&u->entities, e);
    return e;
}

void unit_fail(struct unit *u, struct sb_str object, const char *fmt, ...)
{
    struct sb_translate_failure failure = {.object = sb_arena_str(u->arena, object)};
    va_list ap;

    va_start(ap, fmt);
    failure.message = sb_arena_vprintf(u->arena, fmt, ap);
    va_end(ap);
    sb_vec_push(&u->failures, failure);
}
