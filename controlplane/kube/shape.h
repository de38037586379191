/* shape.h - whether an object's members are of the kind that the API says.
 *
 * An API server refuses an object whose path is a number or whose annotation is a bare true; in a
 * file nobody has. What a translator would silently take for absent is named here instead.
 */
#ifndef SB_CONTROLPLANE_KUBE_SHAPE_H
#define SB_CONTROLPLANE_KUBE_SHAPE_H

#include "controlplane/kube/objects.h"
#include "shared/err.h"

/* SB_INVALID with the first wrong member: "spec.rules[0].host: must be a string, not a number".
 * Members that are absent, null or unknown are well. */
SB_MUST enum sb_rc sb_shape_check(const struct sb_kind *kind, const struct sb_value *object,
                                  struct sb_err *err);

#endif
