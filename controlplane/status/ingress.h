/* ingress.h - the addresses in the status of our Ingresses (reference/kic-operations.md 6.1).
 *
 * An Ingress gets them once it is in the database and nothing is wrong with it; they are written
 * only when they differ, a few at a time, and only while we lead.
 */
#ifndef SB_CONTROLPLANE_STATUS_INGRESS_H
#define SB_CONTROLPLANE_STATUS_INGRESS_H

#include "controlplane/kube/client.h"
#include "controlplane/kube/objects.h"

struct sb_ingress_status;

struct sb_ingress_status_config {
    struct sb_kube *kube;
    struct sb_objects *objects;
    const char *ingress_class;
    const char *const *services;  /* "namespace/name", ended by NULL */
    const char *const *addresses; /* in place of the services'; NULL or empty: none */
    bool (*is_broken)(void *arg, struct sb_str object); /* "Ingress/ns/name" */
    void *arg;
};

/* Listens to the objects. Texts of the config must live as long. */
struct sb_ingress_status *sb_ingress_status_new(const struct sb_ingress_status_config *config);
void sb_ingress_status_free(struct sb_ingress_status *status);

/* The database equals the objects: brings the status of what changed since up to date. */
void sb_ingress_status_update(struct sb_ingress_status *status);
/* Look at all again with the next update: we lead anew. */
void sb_ingress_status_all(struct sb_ingress_status *status);

#endif
