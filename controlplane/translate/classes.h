/* classes.h - whose Ingress is it? One rule for translation and status. */
#ifndef SB_CONTROLPLANE_TRANSLATE_CLASSES_H
#define SB_CONTROLPLANE_TRANSLATE_CLASSES_H

#include "shared/value.h"

enum sb_class { SB_CLASS_OURS, SB_CLASS_OTHER, SB_CLASS_UNNAMED };

/* The annotation where it says anything, else the field. UNNAMED: neither; such an Ingress is ours
 * when our IngressClass is the default. */
enum sb_class sb_class_of(const struct sb_value *ingress, const char *ours);
/* class: our IngressClass; NULL when there is none. */
bool sb_class_is_default(const struct sb_value *class);

#endif
