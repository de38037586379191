/* source.c - units that want something: an object of a kind of source_kinds, or the default backend
 * that counts. What they want is handed to services and certificates, and taken back before they
 * run again.
 */
#include "controlplane/translate/translator.h"

static int full_name_char(const struct order *o, size_t at)
{
    if (at < o->ns.len)
        return (unsigned char)o->ns.p[at];
    if (at == o->ns.len)
        return '/';
    at -= o->ns.len + 1;
    return at < o->name.len ? (unsigned char)o->name.p[at] : -1;
}

/* Of "namespace/name" as one text: a '-' in a namespace sorts before the end of a shorter one. */
static int full_name_cmp(const struct order *a, const struct order *b)
{
    for (size_t at = 0;; at++) {
        int x = full_name_char(a, at), y = full_name_char(b, at);

        if (x != y)
            return x < y ? -1 : 1;
        if (x < 0)
            return 0;
    }
}

int order_cmp(const struct order *a, const struct order *b)
{
    int c;

    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->last != b->last)
        return a->last ? 1 : -1;
    c = sb_str_cmp(a->created, b->created);
    if (!c)
        c = full_name_cmp(a, b);
    if (c)
        return c;
    return (a->index > b->index) - (a->index < b->index);
}

struct order order_of(struct sb_arena *a, int rank, const struct sb_value *object)
{
    return (struct order){
        .rank = rank,
        .created = sb_arena_str(a, sb_value_str_at(object, "metadata.creationTimestamp")),
        .ns = sb_arena_str(a, sb_object_ns(object)),
        .name = sb_arena_str(a, sb_object_name(object)),
    };
}

struct part *source_part(struct unit *u, struct source *s)
{
    struct part *part = SB_NEW(u->arena, struct part);

    part->arena = u->arena;
    part->order = s->order;
    part->order.index = s->nparts++;
    *s->last_part = part;
    s->last_part = &part->next;
    return part;
}

struct claim *source_claim(struct unit *u, struct source *s)
{
    struct claim *claim = SB_NEW(u->arena, struct claim);

    claim->arena = u->arena;
    claim->order = s->order;
    claim->order.index = s->nclaims++;
    *s->last_claim = claim;
    s->last_claim = &claim->next;
    return claim;
}

static struct source *source_new(struct unit *u)
{
    struct source *s = SB_NEW(u->arena, struct source);

    s->last_part = &s->parts;
    s->last_claim = &s->claims;
    u->result = s;
    return s;
}

static int by_source(const void *a, const void *b)
{
    const struct source *x = ((const struct unit *)a)->result;
    const struct source *y = ((const struct unit *)b)->result;

    return order_cmp(&x->order, &y->order);
}

static void source_publish(struct sb_translator *t, struct unit *u)
{
    struct source *s = u->result;

    for (struct part *part = s->parts; part; part = part->next)
        part_join(t, part);
    for (struct claim *claim = s->claims; claim; claim = claim->next)
        claim_join(t, claim);
    if (s->has_default) {
        sorted_insert(&t->defaults, u, by_source);
        topic_changed(t, TOPIC_DEFAULTS);
    }
}

static void source_withdraw(struct sb_translator *t, struct unit *u)
{
    struct source *s = u->result;

    if (!s)
        return;
    for (struct part *part = s->parts; part; part = part->next)
        part_leave(t, part);
    for (struct claim *claim = s->claims; claim; claim = claim->next)
        claim_leave(t, claim);
    if (s->has_default) {
        sorted_remove(&t->defaults, u, by_source);
        topic_changed(t, TOPIC_DEFAULTS);
    }
}

/* -- objects
 * --------------------------------------------------------------------------------------- */

/* The key is "Kind/ns/name". */
static int kind_of(struct sb_str key, struct sb_str *ns, struct sb_str *name)
{
    struct sb_str kind;
    int rank = 0;

    sb_assert(sb_str_split(&key, '/', &kind) && sb_str_split(&key, '/', ns));
    *name = key;
    while (source_kinds[rank].kind && !sb_str_is(kind, source_kinds[rank].kind))
        rank++;
    sb_assert(source_kinds[rank].kind);
    return rank;
}

static void source_run(struct sb_translator *t, struct unit *u)
{
    struct sb_str ns, name;
    int rank = kind_of(u->key, &ns, &name);
    const struct sb_value *object = read_object(t, u, source_kinds[rank].kind, ns, name);
    struct source *s = source_new(u);

    u->gone = !object;
    if (object) {
        s->order = order_of(u->arena, rank, object);
        source_kinds[rank].translate(t, u, s, object);
    }
    source_publish(t, u);
}

const struct unit_type source_type = {
    .name = "source",
    .stage = STAGE_SOURCE,
    .run = source_run,
    .withdraw = source_withdraw,
};

/* -- the default backend
 * --------------------------------------------------------------------------- */

/* Only the oldest Ingress with one counts; the others are ignored, without a word. */
static void default_run(struct sb_translator *t, struct unit *u)
{
    struct source *s = source_new(u);

    read_topic(t, u, TOPIC_DEFAULTS);
    if (t->defaults.len) {
        const struct unit *first = t->defaults.p[0];
        const struct source *oldest = first->result;
        const struct sb_value *ingress =
            read_object(t, u, "Ingress", oldest->order.ns, oldest->order.name);

        s->order = order_of(u->arena, oldest->order.rank, ingress);
        s->order.last = true;
        ingress_default(t, u, s, ingress);
    }
    source_publish(t, u);
}

const struct unit_type default_type = {
    .name = "default backend",
    .stage = STAGE_DEFAULT,
    .run = default_run,
    .withdraw = source_withdraw,
};
