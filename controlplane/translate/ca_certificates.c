/* ca_certificates.c - authorities from Secrets and ConfigMaps labelled konghq.com/ca-cert: "true"
 * (kic-translation.md 10). They are few: one unit for all of them.
 */
#include <stdlib.h>

#include "controlplane/translate/annotations.h"
#include "controlplane/translate/fields.h"
#include "controlplane/translate/pem.h"
#include "controlplane/translate/translator.h"

struct authority {
    const struct sb_value *object;
    struct order order;
    struct sb_str id;
};

bool is_authority(const struct sb_value *object)
{
    const struct sb_value *label =
        sb_get(sb_value_at(object, "metadata.labels"), "konghq.com/ca-cert");

    return sb_is(label, SB_V_STR) && sb_str_is(label->s, "true");
}

static int by_id(const void *a, const void *b)
{
    const struct authority *x = a, *y = b;
    int c = sb_str_cmp(x->id, y->id);

    if (!c)
        c = sb_str_cmp(x->order.created, y->order.created);
    if (!c)
        c = sb_str_cmp(x->order.ns, y->order.ns);
    return c ? c : sb_str_cmp(x->order.name, y->order.name);
}

static void fail(struct unit *u, const struct authority *ca, const char *words)
{
    unit_fail(u, object_ref(u->arena, ca->object), "invalid secret CA certificate: %s", words);
}

static size_t find(struct sb_translator *t, struct unit *u, const char *kind,
                   struct authority *list)
{
    const struct sb_value *const *objects;
    size_t n = sb_objects_list(t->objects, kind, u->arena, &objects), found = 0;

    for (size_t i = 0; i < n; i++) {
        struct authority ca = {.object = objects[i]};

        if (!is_authority(objects[i]))
            continue;
        if (list) {
            ca.order = order_of(u->arena, 0, objects[i]);
            if (!object_data(u->arena, objects[i], "id", &ca.id)) {
                fail(u, &ca, "missing 'id' field in data");
                continue;
            }
            list[found] = ca;
        }
        found++;
    }
    return found;
}

static void put(struct sb_translator *t, struct unit *u, const struct authority *ca)
{
    struct sb_arena *a = u->arena;
    struct sb_value *value = sb_value_object(a);
    struct sb_str text, cert, *ref = SB_NEW(a, struct sb_str);
    const char *wrong;
    struct entity *e;

    *ref = object_ref(a, ca->object);
    if (!object_data(a, ca->object, "cert", &text) &&
        !object_data(a, ca->object, "ca.crt", &text)) {
        unit_fail(u, *ref,
                  "invalid secret CA certificate %.*s/%.*s, neither \"cert\" nor \"ca.crt\" key "
                  "exist",
                  SB_ARG(ca->order.ns), SB_ARG(ca->order.name));
        return;
    }
    wrong = pem_authority(a, text, &cert);
    if (wrong) {
        fail(u, ca, wrong);
        return;
    }
    set_str(a, value, "cert", cert);
    set_str(a, value, "id", ca->id);
    set_value(a, value, "tags", tags_of(a, ca->object));
    e = unit_put(t, u, E_CA_CERTIFICATES, ca->id, value);
    entity_objects(e, ref, 1);
}

static void ca_run(struct sb_translator *t, struct unit *u)
{
    static const char *const kinds[] = {"Secret", "ConfigMap"};
    size_t n = find(t, u, kinds[0], NULL) + find(t, u, kinds[1], NULL);
    struct authority *list = SB_NEW_N(u->arena, struct authority, n);

    read_topic(t, u, TOPIC_CA);
    n = find(t, u, kinds[0], list);
    n += find(t, u, kinds[1], list + n);
    qsort(list, n, sizeof *list, by_id);
    for (size_t i = 0; i < n; i++) {
        if (i && sb_str_eq(list[i - 1].id, list[i].id))
            fail(u, &list[i], "duplicate 'id' field in multiple objects");
        else
            put(t, u, &list[i]);
    }
}

const struct unit_type ca_certificates_type = {
    .name = "ca certificates",
    .stage = STAGE_PAIR,
    .run = ca_run,
};
