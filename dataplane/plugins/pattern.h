/* pattern.h - regular expressions that configs bring, as Kong's plugins use them: PCRE, with case.
 *
 * A run has a limit of steps; one that meets it is no match, so that no text costs more than a
 * bounded time, whatever the pattern.
 */
#ifndef SB_DATAPLANE_PLUGINS_PATTERN_H
#define SB_DATAPLANE_PLUGINS_PATTERN_H

#include <stdbool.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/str.h"

struct sb_pattern; /* immutable: for all threads */

/* In the arena. anchored: it fits only from the start of a text. SB_INVALID: PCRE's words. */
SB_MUST enum sb_rc sb_pattern_new(struct sb_arena *a, struct sb_str text, bool anchored,
                                  const struct sb_pattern **out, struct sb_err *err);
bool sb_pattern_fits(const struct sb_pattern *p, struct sb_str text);

#endif
