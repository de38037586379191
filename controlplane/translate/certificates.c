/* certificates.c - which key pair answers for which host (kic-translation.md 9).
 *
 *     claims in order     first claim of a host wins     equal pairs are one certificate
 *     shop/a: x, y   ──>  shop/a: x, y              ──>  certificate (shop/a, ops/copy)  x y
 *     shop/b: y      ──>  shop/b: -                 ──>  certificate (shop/b)            -
 *     ops/copy: x    ──>  ops/copy: -
 *
 * A Secret is read and checked by a unit of its own, once, whoever claims it. The merging is done
 * anew whenever a claim or a Secret changes: it is one pass over the claims. What it keeps of them
 * is copied, for a source may run again and claim the same.
 */
#include <stdlib.h>

#include "controlplane/translate/fields.h"
#include "controlplane/translate/pem.h"
#include "controlplane/translate/translator.h"
#include "shared/digest.h"

/* -- a Secret as a key pair
 * ------------------------------------------------------------------------ */

struct pair {
    bool exists, good;
    struct sb_str ref;         /* "Secret/ns/name" */
    struct sb_str id, created; /* uid and age of the Secret */
    struct sb_str cert, key;
    struct sb_str digest; /* of both: equal for equal pairs */
    struct sb_value *tags;
};

static struct sb_str digest_of(struct sb_arena *a, const struct pair *p)
{
    struct sb_str both = sb_arena_printf(a, "%.*s %.*s", SB_ARG(p->cert), SB_ARG(p->key));
    uint8_t digest[SB_SHA256_LEN];

    sb_sha256(both, digest);
    return sb_hex(a, digest, sizeof digest);
}

static void secret_run(struct sb_translator *t, struct unit *u)
{
    struct sb_str name = u->key, ns = {0};
    struct pair *p = u->result = SB_NEW(u->arena, struct pair);
    const struct sb_value *secret;

    sb_assert(sb_str_split(&name, '/', &ns));
    secret = read_object(t, u, "Secret", ns, name);
    unit_changed(t, u);
    if (!secret)
        return;
    p->exists = true;
    p->ref = object_ref(u->arena, secret);
    p->id = sb_arena_str(u->arena, sb_value_str_at(secret, "metadata.uid"));
    p->created = sb_arena_str(u->arena, sb_value_str_at(secret, "metadata.creationTimestamp"));
    p->tags = tags_of(u->arena, secret);
    if (!object_data(u->arena, secret, "tls.crt", &p->cert) ||
        !object_data(u->arena, secret, "tls.key", &p->key))
        return;
    p->cert = sb_str_trim(p->cert);
    p->key = sb_str_trim(p->key);
    p->good = pem_is_pair(p->cert, p->key);
    p->digest = digest_of(u->arena, p);
}

const struct unit_type secret_type = {
    .name = "key pair",
    .stage = STAGE_SECRET,
    .on_demand = true,
    .run = secret_run,
};

/* -- merging
 * --------------------------------------------------------------------------------------- */

struct texts {
    struct texts *next;
    struct sb_str text;
};

/* All that is claimed of a Secret. */
struct claimed {
    struct claimed *next;
    struct sb_str secret; /* "ns/name" */
    const struct pair *pair;
    struct texts *parents, *hosts;
    struct certificate *certificate;
};

struct certificate {
    struct certificate *next;
    const struct pair *oldest; /* gives id and tags */
    struct claimed *first;     /* gives the text: all are equal */
    struct texts *hosts;
    size_t nhosts;
};

struct merge {
    struct sb_translator *t;
    struct unit *u;
    struct sb_map secrets, hosts, pairs; /* claimed by "ns/name"; seen; certificate by digest */
    struct claimed *claimed, **last_claimed;
    struct certificate *certificates;
    struct sb_map *ids;
};

static void text_add(struct sb_arena *a, struct texts **list, struct sb_str text)
{
    struct texts *item;

    for (item = *list; item; item = item->next) {
        if (sb_str_eq(item->text, text))
            return;
    }
    item = SB_NEW(a, struct texts);
    *item = (struct texts){*list, sb_arena_str(a, text)};
    *list = item;
}

static struct claimed *claimed_of(struct merge *m, struct sb_str secret)
{
    struct claimed *c = sb_map_get(&m->secrets, secret);

    if (c)
        return c;
    c = SB_NEW(m->u->arena, struct claimed);
    c->secret = secret;
    c->pair = read_unit(m->t, m->u, &secret_type, secret)->result;
    *m->last_claimed = c;
    m->last_claimed = &c->next;
    sb_map_set(&m->secrets, secret, c);
    return c;
}

static void take_claim(struct merge *m, const struct claim *claim)
{
    struct sb_arena *a = m->u->arena;
    struct sb_str secret =
        sb_arena_printf(a, "%.*s/%.*s", SB_ARG(claim->ns), SB_ARG(claim->secret));
    struct claimed *c = claimed_of(m, secret);

    text_add(a, &c->parents, claim->parent);
    for (size_t i = 0; i < claim->nhosts; i++) {
        struct texts *host;

        if (sb_map_get(&m->hosts, claim->hosts[i]))
            continue;
        host = SB_NEW(a, struct texts);
        *host = (struct texts){c->hosts, sb_arena_str(a, claim->hosts[i])};
        c->hosts = host;
        sb_map_set(&m->hosts, host->text, c);
    }
}

static void take_claims(struct merge *m)
{
    for (size_t i = 0; i < m->t->claimants.len; i++) {
        const struct source *s = m->t->claimants.p[i]->result;

        for (const struct claim *claim = s->claims; claim; claim = claim->next)
            take_claim(m, claim);
    }
    for (size_t i = 0; i < m->t->clients.len; i++) {
        const struct outcome *o = m->t->clients.p[i]->result;
        struct claimed *c = claimed_of(m, sb_arena_str(m->u->arena, o->client));

        text_add(m->u->arena, &c->parents, o->client_parent);
    }
}

static bool is_older(const struct pair *a, const struct pair *b)
{
    int c = sb_str_cmp(a->created, b->created);

    return c ? c < 0 : sb_str_cmp(a->id, b->id) < 0;
}

static struct certificate *certificate_of(struct merge *m, struct claimed *c)
{
    struct certificate *cert = sb_map_get(&m->pairs, c->pair->digest);

    if (!cert) {
        cert = SB_NEW(m->u->arena, struct certificate);
        cert->first = c;
        cert->oldest = c->pair;
        cert->next = m->certificates;
        m->certificates = cert;
        sb_map_set(&m->pairs, c->pair->digest, cert);
    } else if (is_older(c->pair, cert->oldest)) {
        cert->oldest = c->pair;
    }
    return cert;
}

static void blame(struct merge *m, const struct claimed *c)
{
    const char *words = "failed to construct certificate from secret";

    for (const struct texts *parent = c->parents; parent; parent = parent->next) {
        if (!c->pair->exists)
            unit_fail(m->u, parent->text, "Failed to fetch the secret (%.*s)", SB_ARG(c->secret));
        else
            unit_fail(m->u, parent->text, "%s", words);
    }
    if (c->pair->exists)
        unit_fail(m->u, c->pair->ref, "%s", words);
}

static void merge_pairs(struct merge *m)
{
    for (struct claimed *c = m->claimed; c; c = c->next) {
        if (!c->pair->good) {
            blame(m, c);
            continue;
        }
        c->certificate = certificate_of(m, c);
        for (struct texts *host = c->hosts, *next; host; host = next) {
            next = host->next;
            host->next = c->certificate->hosts;
            c->certificate->hosts = host;
            c->certificate->nhosts++;
        }
    }
}

/* -- publishing
 * ------------------------------------------------------------------------------------ */

static void put_snis(struct merge *m, const struct certificate *c, const struct entity *e)
{
    struct sb_arena *a = m->u->arena;

    for (const struct texts *host = c->hosts; host; host = host->next) {
        struct sb_value *sni = sb_value_object(a), *ref = sb_value_object(a);
        struct entity *child;

        set_str(a, ref, "id", c->oldest->id);
        set_value(a, sni, "certificate", ref);
        set_str(a, sni, "name", host->text);
        child = unit_put(m->t, m->u, E_SNIS, host->text, sni);
        entity_parent(child, E_CERTIFICATES, e->key);
        entity_objects(child, e->objects, e->nobjects);
    }
}

static void put_certificate(struct merge *m, const struct certificate *c)
{
    struct sb_arena *a = m->u->arena;
    struct sb_value *value = sb_value_object(a);
    struct entity *e;

    set_str(a, value, "cert", c->first->pair->cert);
    set_str(a, value, "id", c->oldest->id);
    set_str(a, value, "key", c->first->pair->key);
    set_value(a, value, "tags", c->oldest->tags);
    e = unit_put(m->t, m->u, E_CERTIFICATES, c->oldest->id.len ? c->oldest->id : c->oldest->digest,
                 value);
    entity_objects(e, &c->oldest->ref, 1);
    put_snis(m, c, e);
}

static void publish(struct merge *m)
{
    for (const struct certificate *c = m->certificates; c; c = c->next)
        put_certificate(m, c);
    for (const struct claimed *c = m->claimed; c; c = c->next) {
        if (c->certificate && c->certificate->oldest->id.len)
            sb_map_set(m->ids, c->secret, (void *)&c->certificate->oldest->id);
    }
}

static void ids_release(void *arg)
{
    sb_map_release(arg);
}

static void certificates_run(struct sb_translator *t, struct unit *u)
{
    struct merge m = {.t = t, .u = u, .last_claimed = &m.claimed};

    u->result = m.ids = SB_NEW(u->arena, struct sb_map);
    sb_arena_defer(u->arena, ids_release, m.ids);
    read_topic(t, u, TOPIC_CLAIMS);
    take_claims(&m);
    merge_pairs(&m);
    publish(&m);
    sb_map_release(&m.secrets);
    sb_map_release(&m.hosts);
    sb_map_release(&m.pairs);
    unit_changed(t, u);
}

const struct unit_type certificates_type = {
    .name = "certificates",
    .stage = STAGE_CERTIFICATES,
    .run = certificates_run,
};

struct sb_str certificate_id(const struct unit *certificates, struct sb_str secret)
{
    const struct sb_str *id = sb_map_get(certificates->result, secret);

    return id ? *id : SB_STR("");
}
