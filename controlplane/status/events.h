/* events.h - telling authors what is wrong, as Events on their objects
 * (reference/kic-operations.md 7).
 */
#ifndef SB_CONTROLPLANE_STATUS_EVENTS_H
#define SB_CONTROLPLANE_STATUS_EVENTS_H

#include "controlplane/kube/client.h"
#include "controlplane/kube/objects.h"

struct sb_events;

struct sb_events *sb_events_new(struct sb_kube *kube, const struct sb_objects *objects,
                                const char *identity);
void sb_events_free(struct sb_events *events);

/* A Warning on the object, "Ingress/ns/name" or "IngressClass/name"; nothing when it is gone. At
 * most 1,000 wait to be sent; more are dropped. */
void sb_events_warn(struct sb_events *events, struct sb_str object, const char *reason,
                    struct sb_str message);

#endif
