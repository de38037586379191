/* pem.h - what of a certificate has to be known before it is sent. */
#ifndef SB_CONTROLPLANE_TRANSLATE_PEM_H
#define SB_CONTROLPLANE_TRANSLATE_PEM_H

#include <stdbool.h>

#include "shared/arena.h"

/* NULL when the key belongs to the first certificate of the text; else the Secret's field and what
 * is wrong with it. */
const char *pem_pair_problem(struct sb_str cert, struct sb_str key);

/* One certificate of an authority that has not expired, written anew; NULL, or what is wrong in the
 * words of KIC. */
const char *pem_authority(struct sb_arena *a, struct sb_str text, struct sb_str *out);

#endif
