/* problems.h - what is wrong with which object, and whether its author was told already.
 *
 *     sb_problems_begin(p);
 *     sb_problems_add(p, SB_STR("Ingress/shop/web"), SB_STR("..."), false);    all there are now
 *     sb_problems_end(p);                                                      new ones were told
 */
#ifndef SB_CONTROLPLANE_SYNC_PROBLEMS_H
#define SB_CONTROLPLANE_SYNC_PROBLEMS_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/str.h"

struct sb_problems;

/* refused: by the schema, the database or a gateway, not by the translation. */
typedef void sb_on_problem(void *arg, struct sb_str object, struct sb_str message, bool refused);

struct sb_problems *sb_problems_new(sb_on_problem *tell, void *arg);
void sb_problems_free(struct sb_problems *p);

void sb_problems_begin(struct sb_problems *p);
void sb_problems_add(struct sb_problems *p, struct sb_str object, struct sb_str message,
                     bool refused);
void sb_problems_end(struct sb_problems *p);
/* All count as new again. */
void sb_problems_forget(struct sb_problems *p);

/* As of the last end. */
bool sb_problems_has(const struct sb_problems *p, struct sb_str object);
size_t sb_problems_objects(const struct sb_problems *p);

#endif
