/* objects.h - the Kubernetes objects that the controller knows, whoever brought them: an API server's
 * watch or a directory of manifests.
 *
 * An object is a struct sb_value as the API would give it (apiVersion, kind, metadata, spec, ...),
 * with only the members that are used (kube/kinds.c prunes the rest). Kinds are rows of one table.
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
};

/* All kinds, ended by kind NULL; NULL when there is none of that name (and group). */
extern const struct sb_kind sb_kinds[];
const struct sb_kind *sb_kind_find(struct sb_str kind, struct sb_str api_version);

struct sb_objects;

struct sb_objects *sb_objects_new(void);
void sb_objects_free(struct sb_objects *objects);

/* Puts or replaces by kind, namespace and name; the value is copied. Returns false when nothing
 * changed that anyone could see (same content but for resourceVersion). */
bool sb_objects_put(struct sb_objects *objects, const struct sb_kind *kind,
                    const struct sb_value *object);
/* False when it was not there. */
bool sb_objects_remove(struct sb_objects *objects, const struct sb_kind *kind, struct sb_str ns,
                       struct sb_str name);

/* NULL: not there. Valid until the object is put again or removed. */
const struct sb_value *sb_objects_get(const struct sb_objects *objects, const char *kind,
                                      struct sb_str ns, struct sb_str name);
/* All of a kind, ordered by namespace, then name; the array lives in the arena. */
size_t sb_objects_list(const struct sb_objects *objects, const char *kind, struct sb_arena *arena,
                       const struct sb_value *const **out);

#endif
