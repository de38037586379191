/* objects.c - the cache of Kubernetes objects.
 *
 *   kind ──> list of entries, sorted by namespace and name     (walks, and finding by bisection)
 *   reference (say "Services named by Ingresses", "shop/cart") ──> list of entries, sorted alike
 *
 * (I1) An entry owns one arena with its pruned object and the keys of its references.
 * (I2) An entry is in the list of its kind, and in one list for each of its references.
 * (I3) Lists from an API server come sorted, so filling the cache appends.
 */
#include "controlplane/kube/objects.h"

#include <stdio.h>
#include <stdlib.h>

#include "shared/err.h"
#include "shared/map.h"
#include "shared/vec.h"

enum { KINDS_MAX = 64, PATH_MAX_LEN = 256 };

struct entry {
    struct sb_arena *arena;
    struct sb_str ns, name;
    struct sb_value *object;
    struct sb_str *refs; /* keys in objects->refs */
    size_t nrefs;
};

struct entries {
    struct entry **p;
    size_t len, cap;
    char *key; /* of a reference list: the map's key */
};

struct listener {
    sb_objects_change *fn;
    void *arg;
};

struct sb_objects {
    struct entries kinds[KINDS_MAX];
    struct sb_map refs; /* struct entries */
    SB_VEC(struct listener) listeners;
};

struct sb_str sb_object_ns(const struct sb_value *object)
{
    return sb_value_str_at(object, "metadata.namespace");
}

struct sb_str sb_object_name(const struct sb_value *object)
{
    return sb_value_str_at(object, "metadata.name");
}

/* -- sorted lists of entries ----------------------------------------------------------------------
 */

static int entry_cmp(const struct entry *e, struct sb_str ns, struct sb_str name)
{
    int c = sb_str_cmp(e->ns, ns);

    return c ? c : sb_str_cmp(e->name, name);
}

/* Where ns/name is, or belongs. */
static size_t position(const struct entries *list, struct sb_str ns, struct sb_str name,
                       bool *found)
{
    size_t low = 0, high = list->len;

    *found = false;
    if (high && entry_cmp(list->p[high - 1], ns, name) < 0)
        return high;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = entry_cmp(list->p[mid], ns, name);

        if (!c) {
            *found = true;
            return mid;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void entries_put(struct entries *list, struct entry *e)
{
    bool found;
    size_t at = position(list, e->ns, e->name, &found);

    if (!found) {
        sb_vec_push(list, e);
        memmove(list->p + at + 1, list->p + at, (list->len - 1 - at) * sizeof *list->p);
    }
    list->p[at] = e;
}

static void entries_remove(struct entries *list, const struct entry *e)
{
    bool found;
    size_t at = position(list, e->ns, e->name, &found);

    sb_assert(found);
    memmove(list->p + at, list->p + at + 1, (list->len - 1 - at) * sizeof *list->p);
    list->len--;
}

static struct entry *entries_find(const struct entries *list, struct sb_str ns, struct sb_str name)
{
    bool found;
    size_t at = position(list, ns, name, &found);

    return found ? list->p[at] : NULL;
}

static size_t entries_copy(const struct entries *list, struct sb_arena *arena,
                           const struct sb_value *const **out)
{
    const struct sb_value **objects;

    *out = NULL;
    if (!list || !list->len)
        return 0;
    objects = sb_arena_alloc(arena, list->len * sizeof *objects);
    for (size_t i = 0; i < list->len; i++)
        objects[i] = list->p[i]->object;
    *out = objects;
    return list->len;
}

/* -- pruning --------------------------------------------------------------------------------------
 */

static const char *const metadata_kept[] = {
    "name",   "namespace",   "uid", "creationTimestamp", "deletionTimestamp",
    "labels", "annotations", NULL,
};

/* What kubectl writes for itself: the whole object once more. */
static const struct sb_str last_applied =
    SB_STR_INIT("kubectl.kubernetes.io/last-applied-configuration");

enum fit { FIT_NONE, FIT_INSIDE, FIT_WHOLE };

static enum fit path_fits(const char *const *keep, struct sb_str path)
{
    enum fit fit = FIT_NONE;

    for (; *keep; keep++) {
        struct sb_str k = sb_str_c(*keep);

        if (sb_str_eq(k, path))
            return FIT_WHOLE;
        if (k.len > path.len && k.p[path.len] == '.' && sb_str_starts(k, path))
            fit = FIT_INSIDE;
    }
    return fit;
}

static struct sb_value *keep_paths(struct sb_arena *a, const struct sb_value *v,
                                   struct sb_str prefix, const char *const *keep)
{
    struct sb_value *out, *item;
    struct sb_member *m;

    if (v->type == SB_V_ARRAY) {
        out = sb_value_array(a);
        sb_array_each (item, v)
            sb_array_push(a, out, keep_paths(a, item, prefix, keep));
        return out;
    }
    out = sb_value_object(a);
    sb_object_each (m, v) {
        char text[PATH_MAX_LEN];
        int len = snprintf(text, sizeof text, "%.*s%s%.*s", SB_ARG(prefix), prefix.len ? "." : "",
                           SB_ARG(m->key));
        struct sb_str path = sb_str_n(text, (size_t)len);
        enum fit fit = len < (int)sizeof text ? path_fits(keep, path) : FIT_NONE;

        if (fit == FIT_WHOLE)
            sb_object_set(a, out, sb_arena_str(a, m->key), sb_value_copy(a, m->value));
        else if (fit == FIT_INSIDE)
            sb_object_set(a, out, sb_arena_str(a, m->key), keep_paths(a, m->value, path, keep));
    }
    return out;
}

static struct sb_value *prune(struct sb_arena *a, const struct sb_kind *kind,
                              const struct sb_value *object)
{
    struct sb_value *out = sb_value_object(a), *metadata, *body;
    struct sb_member *m;

    sb_object_set(a, out, SB_STR("apiVersion"), sb_value_str(a, sb_kind_api_version(a, kind)));
    sb_object_set(a, out, SB_STR("kind"), sb_value_text(a, kind->kind));
    metadata = keep_paths(a, sb_get(object, "metadata"), SB_STR(""), metadata_kept);
    sb_object_remove(sb_get(metadata, "annotations"), last_applied);
    sb_object_set(a, out, SB_STR("metadata"), metadata);
    body = keep_paths(a, object, SB_STR(""), kind->keep);
    sb_object_each (m, body)
        sb_object_set(a, out, m->key, m->value);
    return out;
}

/* -- references -----------------------------------------------------------------------------------
 */

struct ref_list {
    struct sb_arena *arena;
    struct sb_str ns;
    SB_VEC(struct sb_str) keys;
};

static struct sb_str ref_key(struct sb_arena *a, enum sb_objects_ref ref, struct sb_str ns,
                             struct sb_str name)
{
    return sb_arena_printf(a, "%c%.*s/%.*s", '0' + (char)ref, SB_ARG(ns), SB_ARG(name));
}

static void add_ref(struct ref_list *list, enum sb_objects_ref ref, struct sb_str name)
{
    struct sb_str key, *k;

    if (!name.len)
        return;
    key = ref_key(list->arena, ref, list->ns, name);
    sb_vec_each (k, &list->keys) {
        if (sb_str_eq(*k, key))
            return;
    }
    sb_vec_push(&list->keys, key);
}

static void ingress_refs(struct ref_list *list, const struct sb_value *object)
{
    const struct sb_value *spec = sb_get(object, "spec");
    struct sb_value *rule, *path, *tls;

    add_ref(list, SB_REF_INGRESSES_OF_SERVICE,
            sb_value_str_at(spec, "defaultBackend.service.name"));
    sb_array_each (rule, sb_get(spec, "rules")) {
        sb_array_each (path, sb_value_at(rule, "http.paths"))
            add_ref(list, SB_REF_INGRESSES_OF_SERVICE,
                    sb_value_str_at(path, "backend.service.name"));
    }
    sb_array_each (tls, sb_get(spec, "tls"))
        add_ref(list, SB_REF_INGRESSES_OF_SECRET, sb_value_str_at(tls, "secretName"));
}

static void slice_refs(struct ref_list *list, const struct sb_value *object)
{
    const struct sb_value *labels = sb_value_at(object, "metadata.labels");
    const struct sb_value *service = sb_get(labels, "kubernetes.io/service-name");

    if (sb_is(service, SB_V_STR))
        add_ref(list, SB_REF_SLICES_OF_SERVICE, service->s);
}

static const struct {
    const char *kind;
    void (*refs)(struct ref_list *list, const struct sb_value *object);
} ref_finders[] = {
    {"Ingress", ingress_refs},
    {"EndpointSlice", slice_refs},
};

static void find_refs(struct entry *e, const struct sb_kind *kind)
{
    struct ref_list list = {.arena = e->arena, .ns = e->ns};

    for (size_t i = 0; i < sizeof ref_finders / sizeof *ref_finders; i++) {
        if (!strcmp(kind->kind, ref_finders[i].kind))
            ref_finders[i].refs(&list, e->object);
    }
    e->nrefs = list.keys.len;
    e->refs = sb_arena_alloc(e->arena, e->nrefs * sizeof *e->refs);
    if (e->nrefs)
        memcpy(e->refs, list.keys.p, e->nrefs * sizeof *e->refs);
    sb_vec_release(&list.keys);
}

static void link_refs(struct sb_objects *objects, struct entry *e)
{
    for (size_t i = 0; i < e->nrefs; i++) {
        struct entries *list = sb_map_get(&objects->refs, e->refs[i]);

        if (!list) {
            list = sb_xcalloc(1, sizeof *list);
            list->key = sb_xmalloc(e->refs[i].len);
            memcpy(list->key, e->refs[i].p, e->refs[i].len);
            sb_map_set(&objects->refs, sb_str_n(list->key, e->refs[i].len), list);
        }
        entries_put(list, e);
    }
}

static void ref_list_free(struct entries *list)
{
    free(list->p);
    free(list->key);
    free(list);
}

static void unlink_refs(struct sb_objects *objects, const struct entry *e)
{
    for (size_t i = 0; i < e->nrefs; i++) {
        struct entries *list = sb_map_get(&objects->refs, e->refs[i]);

        entries_remove(list, e);
        if (!list->len) {
            sb_map_remove(&objects->refs, e->refs[i]);
            ref_list_free(list);
        }
    }
}

/* -- the cache ------------------------------------------------------------------------------------
 */

struct sb_objects *sb_objects_new(void)
{
    return sb_xcalloc(1, sizeof(struct sb_objects));
}

static void entry_free(struct entry *e)
{
    sb_arena_free(e->arena);
    free(e);
}

void sb_objects_free(struct sb_objects *objects)
{
    struct sb_map_slot *slot;

    if (!objects)
        return;
    for (size_t k = 0; k < KINDS_MAX; k++) {
        for (size_t i = 0; i < objects->kinds[k].len; i++)
            entry_free(objects->kinds[k].p[i]);
        free(objects->kinds[k].p);
    }
    sb_map_each (slot, &objects->refs)
        ref_list_free(slot->value);
    sb_map_release(&objects->refs);
    sb_vec_release(&objects->listeners);
    free(objects);
}

static struct entries *kind_list(const struct sb_objects *objects, const struct sb_kind *kind)
{
    size_t at = (size_t)(kind - sb_kinds);

    sb_assert(at < KINDS_MAX);
    return (struct entries *)&objects->kinds[at];
}

static const struct entries *kind_list_named(const struct sb_objects *objects, const char *kind)
{
    for (const struct sb_kind *k = sb_kinds; k->kind; k++) {
        if (!strcmp(k->kind, kind))
            return kind_list(objects, k);
    }
    return NULL;
}

void sb_objects_listen(struct sb_objects *objects, sb_objects_change *fn, void *arg)
{
    sb_vec_push(&objects->listeners, ((struct listener){fn, arg}));
}

void sb_objects_unlisten(struct sb_objects *objects, sb_objects_change *fn, void *arg)
{
    for (size_t i = 0; i < objects->listeners.len; i++) {
        struct listener *l = &objects->listeners.p[i];

        if (l->fn == fn && l->arg == arg)
            objects->listeners.p[i--] = objects->listeners.p[--objects->listeners.len];
    }
}

static void tell(const struct sb_objects *objects, const struct sb_kind *kind,
                 const struct entry *before, const struct entry *after)
{
    const struct listener *l;

    sb_vec_each (l, &objects->listeners)
        l->fn(l->arg, kind, before ? before->object : NULL, after ? after->object : NULL);
}

/* Pruned on a scratch arena, so that what grows while pruning leaves no holes in what is kept. */
static struct entry *entry_new(const struct sb_kind *kind, const struct sb_value *object)
{
    struct sb_arena *scratch = sb_arena_new(0);
    struct sb_value *pruned = prune(scratch, kind, object);
    struct entry *e = sb_xcalloc(1, sizeof *e);

    e->arena = sb_arena_new(512);
    e->object = sb_value_copy(e->arena, pruned);
    e->ns = sb_object_ns(e->object);
    e->name = sb_object_name(e->object);
    find_refs(e, kind);
    sb_arena_free(scratch);
    return e;
}

bool sb_objects_put(struct sb_objects *objects, const struct sb_kind *kind,
                    const struct sb_value *object)
{
    struct entries *list = kind_list(objects, kind);
    struct entry *after = entry_new(kind, object);
    struct entry *before = entries_find(list, after->ns, after->name);

    if (before && sb_value_equal(before->object, after->object)) {
        entry_free(after);
        return false;
    }
    if (before)
        unlink_refs(objects, before);
    entries_put(list, after);
    link_refs(objects, after);
    tell(objects, kind, before, after);
    if (before)
        entry_free(before);
    return true;
}

bool sb_objects_remove(struct sb_objects *objects, const struct sb_kind *kind, struct sb_str ns,
                       struct sb_str name)
{
    struct entries *list = kind_list(objects, kind);
    struct entry *before = entries_find(list, ns, name);

    if (!before)
        return false;
    entries_remove(list, before);
    unlink_refs(objects, before);
    tell(objects, kind, before, NULL);
    entry_free(before);
    return true;
}

const struct sb_value *sb_objects_get(const struct sb_objects *objects, const char *kind,
                                      struct sb_str ns, struct sb_str name)
{
    const struct entries *list = kind_list_named(objects, kind);
    const struct entry *e = list ? entries_find(list, ns, name) : NULL;

    return e ? e->object : NULL;
}

size_t sb_objects_list(const struct sb_objects *objects, const char *kind, struct sb_arena *arena,
                       const struct sb_value *const **out)
{
    return entries_copy(kind_list_named(objects, kind), arena, out);
}

size_t sb_objects_count(const struct sb_objects *objects, const char *kind)
{
    const struct entries *list = kind_list_named(objects, kind);

    return list ? list->len : 0;
}

size_t sb_objects_refs(const struct sb_objects *objects, enum sb_objects_ref ref, struct sb_str ns,
                       struct sb_str name, struct sb_arena *arena,
                       const struct sb_value *const **out)
{
    return entries_copy(sb_map_get(&objects->refs, ref_key(arena, ref, ns, name)), arena, out);
}
