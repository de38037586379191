/* objects.h - the Kubernetes objects that the controller knows, whoever brought them: an API
 * server's watch or a directory of manifests.
 *
 * An object is a struct sb_value as the API would give it (apiVersion, kind, metadata, spec, ...),
 * with only the members that are used (kube/kinds.c prunes the rest). Kinds are rows of one table.
 *
 * The cache belongs to one thread. It also keeps the reverse references that make translation
 * incremental: which Ingresses name a Service, which EndpointSlices belong to it, and so on.
 */
#ifndef SB_CONTROLPLANE_KUBE_OBJECTS_H
#define SB_CONTROLPLANE_KUBE_OBJECTS_H

#include <stdbool.h>

#include "shared/arena.h"
#include "shared/value.h"

/* What is needed to list, watch and keep a kind. */
struct sb_kind {
    const char *kind;     /* "Ingress" */
    const char *group;    /* "networking.k8s.io"; "" for core */
    const char *version;  /* "v1" */
    const char *resource; /* "ingresses" */
    bool namespaced;
    bool optional;           /* a custom resource: the API server may not know it */
    const char *const *keep; /* dotted paths beside apiVersion, kind and metadata; ended by NULL */
    const char *selector;    /* field selector of lists and watches; NULL: all */
};

/* All kinds, ended by kind NULL; NULL when there is none of that name (and group). */
extern const struct sb_kind sb_kinds[];
const struct sb_kind *sb_kind_find(struct sb_str kind, struct sb_str api_version);
/* "networking.k8s.io/v1", "v1". */
struct sb_str sb_kind_api_version(struct sb_arena *a, const struct sb_kind *kind);

struct sb_objects;

struct sb_objects *sb_objects_new(void);
void sb_objects_free(struct sb_objects *objects);

/* Puts or replaces by kind, namespace and name; the value is copied, pruned. Returns false when
 * nothing changed that anyone could see (same content but for resourceVersion and generation). */
bool sb_objects_put(struct sb_objects *objects, const struct sb_kind *kind,
                    const struct sb_value *object);
/* False when it was not there. */
bool sb_objects_remove(struct sb_objects *objects, const struct sb_kind *kind, struct sb_str ns,
                       struct sb_str name);

/* Called after each visible change, before the old value goes; before or after is NULL when the
 * object appeared or went. Listeners must not change the cache. */
typedef void sb_objects_change(void *arg, const struct sb_kind *kind, const struct sb_value *before,
                               const struct sb_value *after);
void sb_objects_listen(struct sb_objects *objects, sb_objects_change *fn, void *arg);
void sb_objects_unlisten(struct sb_objects *objects, sb_objects_change *fn, void *arg);

/* NULL: not there. Valid until the object is put again or removed. */
const struct sb_value *sb_objects_get(const struct sb_objects *objects, const char *kind,
                                      struct sb_str ns, struct sb_str name);
/* All of a kind, ordered by namespace, then name; the array lives in the arena. */
size_t sb_objects_list(const struct sb_objects *objects, const char *kind, struct sb_arena *arena,
                       const struct sb_value *const **out);
size_t sb_objects_count(const struct sb_objects *objects, const char *kind);

/* Reverse references, ordered as sb_objects_list orders. */
enum sb_objects_ref {
    SB_REF_SLICES_OF_SERVICE,    /* EndpointSlices labelled kubernetes.io/service-name */
    SB_REF_INGRESSES_OF_SERVICE, /* Ingresses that name it as a backend, default backend included */
    SB_REF_INGRESSES_OF_SECRET,  /* Ingresses whose tls names it */
};
enum { SB_REFS = 3 };
size_t sb_objects_refs(const struct sb_objects *objects, enum sb_objects_ref ref, struct sb_str ns,
                       struct sb_str name, struct sb_arena *arena,
                       const struct sb_value *const **out);

/* Short hands for the members every object has. */
struct sb_str sb_object_ns(const struct sb_value *object);
struct sb_str sb_object_name(const struct sb_value *object);

#endif
