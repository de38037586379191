/* ingress.c - see ingress.h.
 *
 *   object changed ──> changed ──(in the database)──> waiting ──(a few at a time)──> PATCH
 *
 * Whether a PATCH is needed is decided just before it is sent: many changes of one object are one.
 */
#include "controlplane/status/ingress.h"

#include <stdlib.h>

#include "controlplane/translate/classes.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/map.h"

enum { IN_FLIGHT_MAX = 8, TIMEOUT_MS = 10 * 1000 };

struct patch {
    struct patch *next;
    struct sb_ingress_status *status;
    struct sb_http_call *call;
    char *key; /* "ns/name" */
};

struct sb_ingress_status {
    struct sb_ingress_status_config config;
    struct sb_map changed, waiting; /* "ns/name" -> its heap copy */
    bool all_changed;
    struct patch *patches;
    size_t in_flight;
};

/* -- what changed ---------------------------------------------------------------------------------
 */

static char *new_key(struct sb_str ns, struct sb_str name)
{
    size_t len = ns.len + 1 + name.len;
    char *key = sb_xmalloc(len + 1);

    memcpy(key, ns.p ? ns.p : "", ns.len);
    key[ns.len] = '/';
    memcpy(key + ns.len + 1, name.p, name.len);
    key[len] = '\0';
    return key;
}

static void add_key(struct sb_map *set, char *key)
{
    if (sb_map_get(set, sb_str_c(key)))
        free(key);
    else
        sb_map_set(set, sb_str_c(key), key);
}

static void clear_keys(struct sb_map *set)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, set)
        free(slot->value);
    sb_map_release(set);
    *set = (struct sb_map){0};
}

/* "ns/name" in its parts. */
static struct sb_str split_key(struct sb_str key, struct sb_str *name)
{
    struct sb_str ns;

    sb_str_split(&key, '/', &ns);
    *name = key;
    return ns;
}

static bool is_published(const struct sb_ingress_status *st, const struct sb_value *service)
{
    for (const char *const *s = st->config.services; s && *s; s++) {
        struct sb_str name, ns = split_key(sb_str_c(*s), &name);

        if (sb_str_eq(ns, sb_object_ns(service)) && sb_str_eq(name, sb_object_name(service)))
            return true;
    }
    return false;
}

static void on_change(void *arg, const struct sb_kind *kind, const struct sb_value *before,
                      const struct sb_value *after)
{
    struct sb_ingress_status *st = arg;

    if (!strcmp(kind->kind, "Ingress") && after)
        add_key(&st->changed, new_key(sb_object_ns(after), sb_object_name(after)));
    else if (!strcmp(kind->kind, "IngressClass"))
        st->all_changed = true;
    else if (!strcmp(kind->kind, "Service") && is_published(st, after ? after : before))
        st->all_changed = true;
}

/* -- what it should be ----------------------------------------------------------------------------
 */

static bool is_ip(struct sb_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == ':')
            return true;
        if ((s.p[i] < '0' || s.p[i] > '9') && s.p[i] != '.')
            return false;
    }
    return s.len > 0;
}

static void add_address(struct sb_arena *a, struct sb_value *list, struct sb_str address)
{
    struct sb_value *entry = sb_value_object(a);

    if (!address.len || sb_str_is(address, "None"))
        return;
    sb_object_set(a, entry, is_ip(address) ? SB_STR("ip") : SB_STR("hostname"),
                  sb_value_str(a, address));
    sb_array_push(a, list, entry);
}

static void add_service(struct sb_arena *a, struct sb_value *list, const struct sb_value *service)
{
    struct sb_value *item;

    if (sb_str_is(sb_value_str_at(service, "spec.type"), "LoadBalancer")) {
        sb_array_each (item, sb_value_at(service, "status.loadBalancer.ingress")) {
            add_address(a, list, sb_value_str_at(item, "ip"));
            add_address(a, list, sb_value_str_at(item, "hostname"));
        }
        return;
    }
    sb_array_each (item, sb_value_at(service, "spec.clusterIPs")) {
        if (sb_is(item, SB_V_STR))
            add_address(a, list, item->s);
    }
}

static struct sb_value *wanted_addresses(const struct sb_ingress_status *st, struct sb_arena *a)
{
    struct sb_value *list = sb_value_array(a);

    for (const char *const *s = st->config.addresses; s && *s; s++)
        add_address(a, list, sb_str_c(*s));
    if (list->count)
        return list;
    for (const char *const *s = st->config.services; s && *s; s++) {
        struct sb_str name, ns = split_key(sb_str_c(*s), &name);
        const struct sb_value *service = sb_objects_get(st->config.objects, "Service", ns, name);

        if (service)
            add_service(a, list, service);
    }
    return list;
}

static bool is_ours(const struct sb_ingress_status *st, const struct sb_value *ingress)
{
    const char *ours = st->config.ingress_class;
    enum sb_class of = sb_class_of(ingress, ours);

    return of == SB_CLASS_OURS ||
           (of == SB_CLASS_UNNAMED &&
            sb_class_is_default(
                sb_objects_get(st->config.objects, "IngressClass", SB_STR(""), sb_str_c(ours))));
}

/* The server keeps more in an entry (ipMode, ports) than we give. */
static bool same_addresses(const struct sb_value *there, const struct sb_value *wanted)
{
    uint32_t n = sb_is(there, SB_V_ARRAY) ? there->count : 0;

    if (n != wanted->count)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const struct sb_value *a = there->items[i], *b = wanted->items[i];

        if (!sb_str_eq(sb_value_str_at(a, "ip"), sb_value_str_at(b, "ip")) ||
            !sb_str_eq(sb_value_str_at(a, "hostname"), sb_value_str_at(b, "hostname")))
            return false;
    }
    return true;
}

/* -- writing --------------------------------------------------------------------------------------
 */

static void send_waiting(struct sb_ingress_status *st);

static void patch_free(struct patch *p)
{
    struct patch **link = &p->status->patches;

    while (*link != p)
        link = &(*link)->next;
    *link = p->next;
    p->status->in_flight--;
    free(p->key);
    free(p);
}

static void on_patched(void *arg, const struct sb_http_result *result)
{
    struct patch *p = arg;
    struct sb_ingress_status *st = p->status;
    struct sb_str name, ns = split_key(sb_str_c(p->key), &name);
    struct sb_err err;
    enum sb_rc rc = sb_kube_result(result, &err);

    if (rc && rc != SB_NOTFOUND) {
        sb_warn("status of Ingress %s: %s", p->key, err.text);
        add_key(&st->changed, new_key(ns, name)); /* again with the next update */
    }
    patch_free(p);
    send_waiting(st);
}

static struct sb_str patch_body(struct sb_arena *a, struct sb_value *addresses)
{
    struct sb_value *balancer = sb_value_object(a), *status = sb_value_object(a);
    struct sb_value *body = sb_value_object(a);

    sb_object_set(a, balancer, SB_STR("ingress"), addresses);
    sb_object_set(a, status, SB_STR("loadBalancer"), balancer);
    sb_object_set(a, body, SB_STR("status"), status);
    return sb_json_text(a, body, 0);
}

static void send_patch(struct sb_ingress_status *st, struct sb_str ns, struct sb_str name,
                       struct sb_value *addresses, struct sb_arena *a)
{
    struct patch *p = sb_xcalloc(1, sizeof *p);
    struct sb_str path =
        sb_arena_printf(a, "/apis/networking.k8s.io/v1/namespaces/%.*s/ingresses/%.*s/status",
                        SB_ARG(ns), SB_ARG(name));

    p->status = st;
    p->key = new_key(ns, name);
    p->next = st->patches;
    st->patches = p;
    st->in_flight++;
    p->call = sb_kube_start(st->config.kube, path.p, "application/merge-patch+json",
                            &(struct sb_http_request){
                                .method = "PATCH",
                                .body = patch_body(a, addresses),
                                .timeout_ms = TIMEOUT_MS,
                                .on_done = on_patched,
                                .arg = p,
                            });
}

static void update_one(struct sb_ingress_status *st, struct sb_str key, struct sb_arena *a)
{
    struct sb_str name, ns = split_key(key, &name);
    const struct sb_value *ingress = sb_objects_get(st->config.objects, "Ingress", ns, name);
    struct sb_str object = sb_arena_printf(a, "Ingress/%.*s", SB_ARG(key));
    struct sb_value *wanted;

    if (!ingress || !is_ours(st, ingress))
        return;
    if (st->config.is_broken(st->config.arg, object)) {
        add_key(&st->changed, new_key(ns, name)); /* what repairs it may be another object */
        return;
    }
    wanted = wanted_addresses(st, a);
    if (!same_addresses(sb_value_at(ingress, "status.loadBalancer.ingress"), wanted))
        send_patch(st, ns, name, wanted, a);
}

static char *take_key(struct sb_map *set)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, set)
        return sb_map_remove(set, slot->key);
    return NULL;
}

static void send_waiting(struct sb_ingress_status *st)
{
    char *key;

    while (st->in_flight < IN_FLIGHT_MAX && (key = take_key(&st->waiting))) {
        struct sb_arena *a = sb_arena_new(0);

        update_one(st, sb_str_c(key), a);
        free(key);
        sb_arena_free(a);
    }
}

void sb_ingress_status_all(struct sb_ingress_status *st)
{
    st->all_changed = true;
}

void sb_ingress_status_update(struct sb_ingress_status *st)
{
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_value *const *list = NULL;
    size_t n = 0;
    char *key;

    if (st->all_changed)
        n = sb_objects_list(st->config.objects, "Ingress", a, &list);
    for (size_t i = 0; i < n; i++)
        add_key(&st->waiting, new_key(sb_object_ns(list[i]), sb_object_name(list[i])));
    while ((key = take_key(&st->changed)))
        add_key(&st->waiting, key);
    st->all_changed = false;
    sb_arena_free(a);
    send_waiting(st);
}

struct sb_ingress_status *sb_ingress_status_new(const struct sb_ingress_status_config *config)
{
    struct sb_ingress_status *st = sb_xcalloc(1, sizeof *st);

    st->config = *config;
    st->all_changed = true;
    sb_objects_listen(config->objects, on_change, st);
    return st;
}

void sb_ingress_status_free(struct sb_ingress_status *st)
{
    if (!st)
        return;
    sb_objects_unlisten(st->config.objects, on_change, st);
    while (st->patches) {
        sb_http_cancel(st->patches->call);
        patch_free(st->patches);
    }
    clear_keys(&st->changed);
    clear_keys(&st->waiting);
    free(st);
}
