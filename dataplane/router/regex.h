/* regex.h - the regexes of routes, on PCRE2 (within dataplane/router only).
 *
 * Two dialects: the `regex` crate's, which Kong's engine for the flavors traditional_compatible and
 * expressions speaks (no look-around, no back-references; \d, \w, \s and \b know Unicode, '$' is
 * the very end), and PCRE's for traditional. The first is checked by dialect.c, for PCRE2 takes
 * more.
 *
 * PCRE2 backtracks: every run has a limit of steps, and one that meets it counts as no match, so
 * that no request costs more than a bounded time whatever the pattern. A regex that is only literal
 * text (the controller writes /foo$ for exact paths) is compared and never run.
 */
#ifndef SB_DATAPLANE_ROUTER_REGEX_H
#define SB_DATAPLANE_ROUTER_REGEX_H

#include <stdbool.h>

#include "dataplane/router/router.h"
#include "shared/err.h"
#include "shared/str.h"

enum sb_regex_kind {
    SB_REGEX_PATH,        /* '^' before the text: binds to its first alternative only, as Kong's */
    SB_REGEX_SEARCH,      /* anywhere */
    SB_REGEX_HEADER,      /* anywhere, the pattern lower-cased, the subject of any case */
    SB_REGEX_PCRE_PATH,   /* PCRE: anchored in every alternative */
    SB_REGEX_PCRE_HEADER, /* PCRE: anywhere, the subject of any case */
};

/* Compiles; the caller frees. Errors are the dialect's words. */
SB_MUST enum sb_rc sb_regex_new(enum sb_regex_kind kind, struct sb_str pattern,
                                struct sb_router_regex **out, struct sb_err *err);
void sb_regex_free(struct sb_router_regex *re);

/* Where it matches: the first match from the left. *runs counts what was really run. */
bool sb_regex_match(const struct sb_router_regex *re, struct sb_str subject, size_t *start,
                    size_t *end, unsigned *runs);

struct sb_str sb_regex_text(const struct sb_router_regex *re); /* the pattern as given */

/* Every match begins with this text, at the very start of the subject. */
struct sb_str sb_regex_head(const struct sb_router_regex *re);

/* Is this a pattern of the `regex` crate? If not, its message. */
SB_MUST enum sb_rc sb_regex_check_dialect(struct sb_str pattern, struct sb_err *err);

#endif
