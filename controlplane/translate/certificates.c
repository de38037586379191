/* certificates.c - which key pair answers for which host (kic-translation.md 9).
 *
 *     claims in order    key pair of a Secret            certificate by content
 *     shop/a: x, y  ──>  shop/a    ─────────────────┬──> the oldest's id and tags
 *     ops/copy: z   ──>  ops/copy  ── equal to it ──┘
 *     shop/b: y     ──>  shop/b    ────────────────────> another, without hosts
 *        |
 *        '── host: the first claim has it ──> sni of that claim's certificate
 *
 * (C1) A claim is in the list of its Secret's unit and in the slot of each of its hosts.
 * (C2) A Secret's unit knows the id that stands for it; when that changes, the slots of all hosts
 *      claimed with it are put anew. A host is not passed on because the Secret is no good.
 */
#include <stdlib.h>

#include "controlplane/translate/fields.h"
#include "controlplane/translate/pem.h"
#include "controlplane/translate/translator.h"
#include "shared/digest.h"
#include "shared/log.h"

/* What a run found in the Secret. */
struct pair {
    bool exists, good;
    struct sb_str ref;         /* "Secret/ns/name" */
    struct sb_str id, created; /* uid and age of the Secret */
    struct sb_str cert, key;
    struct sb_str digest; /* of both: equal for equal pairs */
    struct sb_value *tags;
};

struct holder {
    struct sorted claims;
    bool serves; /* has a certificate, with this id and key; on the heap */
    struct sb_str id, key;
};

/* -- claims
 * ---------------------------------------------------------------------------------------- */

int claim_cmp(const void *a, const void *b)
{
    return order_cmp(&((const struct claim *)a)->order, &((const struct claim *)b)->order);
}

void claim_join(struct sb_translator *t, struct claim *claim)
{
    struct unit *u = claim->pair = unit_of(t, &pair_type, claim->secret);
    struct holder *h;

    if (!u->state)
        u->state = sb_xcalloc(1, sizeof *h);
    h = u->state;
    sorted_insert(&h->claims, claim, claim_cmp);
    for (size_t i = 0; i < claim->nhosts; i++)
        slot_claim(&t->snis, claim->hosts[i], claim);
    unit_dirty(t, u);
}

void claim_leave(struct sb_translator *t, struct claim *claim)
{
    struct holder *h = claim->pair->state;

    sorted_remove(&h->claims, claim, claim_cmp);
    for (size_t i = 0; i < claim->nhosts; i++)
        slot_leave(&t->snis, claim->hosts[i], claim);
    unit_dirty(t, claim->pair);
}

void sni_put(struct sb_translator *t, struct slot *slot)
{
    const struct claim *claim = slot->claimants.p[0];
    const struct holder *h = claim->pair->state;
    struct sb_arena *a = claim->arena;
    struct sb_value *sni = sb_value_object(a), *ref = sb_value_object(a);
    struct entity *e;

    if (!h->serves)
        return;
    set_str(a, ref, "id", sb_arena_str(a, h->id));
    set_value(a, sni, "certificate", ref);
    set_str(a, sni, "name", sb_arena_str(a, slot->key));
    e = slot_put(t, slot, E_SNIS, slot->key, sni);
    entity_parent(e, E_CERTIFICATES, sb_arena_str(a, h->key));
    entity_objects(e, &claim->parent, 1);
}

/* -- certificates
 * ---------------------------------------------------------------------------------- */

int pair_cmp(const void *a, const void *b)
{
    const struct unit *x = a, *y = b;
    const struct pair *p = x->result, *q = y->result;
    int c = sb_str_cmp(p->created, q->created);

    if (!c)
        c = sb_str_cmp(p->id, q->id);
    return c ? c : sb_str_cmp(x->key, y->key);
}

static void set_text_of(struct sb_str *text, struct sb_str to)
{
    char *p = sb_xmalloc(to.len);

    memcpy(p, to.p ? to.p : "", to.len);
    free((char *)text->p);
    *text = sb_str_n(p, to.len);
}

/* (C2) */
static void serve(struct sb_translator *t, struct unit *u, bool serves, struct sb_str id,
                  struct sb_str key)
{
    struct holder *h = u->state;

    if (h->serves == serves && sb_str_eq(h->id, id) && sb_str_eq(h->key, key))
        return;
    h->serves = serves;
    set_text_of(&h->id, id);
    set_text_of(&h->key, key);
    for (size_t i = 0; i < h->claims.len; i++) {
        const struct claim *claim = h->claims.p[i];

        for (size_t k = 0; k < claim->nhosts; k++)
            slot_touch(&t->snis, claim->hosts[k]);
    }
    unit_changed(t, u);
}

void certificate_put(struct sb_translator *t, struct slot *slot)
{
    struct unit *first = slot->claimants.p[0];
    const struct pair *oldest = first->result;
    struct sb_value *value = sb_value_object(first->arena);
    struct entity *e;

    set_str(first->arena, value, "cert", oldest->cert);
    set_str(first->arena, value, "id", oldest->id);
    set_str(first->arena, value, "key", oldest->key);
    set_value(first->arena, value, "tags", oldest->tags);
    e = slot_put(t, slot, E_CERTIFICATES, slot->key, value);
    entity_objects(e, &oldest->ref, 1);
    for (size_t i = 0; i < slot->claimants.len; i++)
        serve(t, slot->claimants.p[i], true, oldest->id, slot->key);
}

struct sb_str certificate_id(struct sb_translator *t, struct unit *u, struct sb_str secret)
{
    struct unit *pair = unit_find(t, &pair_type, secret);
    const struct holder *h = pair ? pair->state : NULL;

    if (!h)
        return SB_STR("");
    read_unit(t, u, pair);
    return h->serves ? h->id : SB_STR("");
}

/* -- key pairs
 * ------------------------------------------------------------------------------------- */

static struct sb_str digest_of(struct sb_arena *a, const struct pair *p)
{
    struct sb_str both = sb_arena_printf(a, "%.*s %.*s", SB_ARG(p->cert), SB_ARG(p->key));
    uint8_t digest[SB_SHA256_LEN];

    sb_sha256(both, digest);
    return sb_hex(a, digest, sizeof digest);
}

/* NULL when all is well. */
static const char *pair_problem(const struct pair *p)
{
    if (!p->cert.p)
        return "tls.crt: missing";
    if (!p->key.p)
        return "tls.key: missing";
    return pem_pair_problem(p->cert, p->key);
}

/* Checking costs far more than reading: it is done once for the same content, and what is wrong
 * said once. The failure has KIC's words, which do not tell. */
static bool is_good(const struct unit *u, const struct pair *p)
{
    const struct pair *before = u->before;
    const char *problem;

    if (before && before->exists && sb_str_eq(before->digest, p->digest))
        return before->good;
    problem = pair_problem(p);
    if (problem)
        sb_warn("%.*s: %s", SB_ARG(p->ref), problem);
    return !problem;
}

static void pair_read(struct unit *u, struct pair *p, const struct sb_value *secret)
{
    struct sb_arena *a = u->arena;

    p->exists = true;
    p->ref = object_ref(a, secret);
    p->id = sb_arena_str(a, sb_value_str_at(secret, "metadata.uid"));
    p->created = sb_arena_str(a, sb_value_str_at(secret, "metadata.creationTimestamp"));
    p->tags = tags_of(a, secret);
    if (object_data(a, secret, "tls.crt", &p->cert) && object_data(a, secret, "tls.key", &p->key)) {
        p->cert = sb_str_trim(p->cert);
        p->key = sb_str_trim(p->key);
        p->digest = digest_of(a, p);
    }
    p->good = is_good(u, p);
}

/* Each parent once, though it may claim the Secret more than once: claims of one object follow each
 * other. */
static void pair_blame(struct unit *u, const struct holder *h, const struct pair *p)
{
    static const char words[] = "failed to construct certificate from secret";
    struct sb_str last = {0};

    for (size_t i = 0; i < h->claims.len; i++) {
        const struct claim *claim = h->claims.p[i];

        if (sb_str_eq(claim->parent, last))
            continue;
        last = claim->parent;
        if (p->exists)
            unit_fail(u, claim->parent, words);
        else
            unit_fail(u, claim->parent, "Failed to fetch the secret (%.*s)", SB_ARG(u->key));
    }
    if (p->exists)
        unit_fail(u, p->ref, words);
}

static void pair_run(struct sb_translator *t, struct unit *u)
{
    const struct holder *h = u->state;
    struct pair *p = u->result = SB_NEW(u->arena, struct pair);
    struct sb_str name = u->key, ns = {0};
    const struct sb_value *secret;

    u->gone = !h->claims.len;
    if (u->gone)
        return;
    sb_assert(sb_str_split(&name, '/', &ns));
    secret = read_object(t, u, "Secret", ns, name);
    if (secret)
        pair_read(u, p, secret);
    if (p->good) {
        slot_claim(&t->certificates, p->digest, u);
    } else {
        serve(t, u, false, SB_STR(""), SB_STR(""));
        pair_blame(u, h, p);
    }
}

static void pair_withdraw(struct sb_translator *t, struct unit *u)
{
    const struct pair *p = u->result;

    if (p && p->good)
        slot_leave(&t->certificates, p->digest, u);
}

static void pair_release(struct unit *u)
{
    struct holder *h = u->state;

    if (!h)
        return;
    sb_vec_release(&h->claims);
    free((char *)h->id.p);
    free((char *)h->key.p);
    free(h);
}

const struct unit_type pair_type = {
    .name = "key pair",
    .stage = STAGE_PAIR,
    .run = pair_run,
    .withdraw = pair_withdraw,
    .release = pair_release,
};
