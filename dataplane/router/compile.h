/* compile.h - a rule in the making (within dataplane/router only). */
#ifndef SB_DATAPLANE_ROUTER_COMPILE_H
#define SB_DATAPLANE_ROUTER_COMPILE_H

#include "dataplane/router/rule.h"

struct sb_compiler {
    struct sb_rule *rule; /* its arena takes everything */
    const struct sb_rule_row *row;
    enum sb_router_flavor flavor;
    struct sb_err *err;
};

/* All that candidates share: SNIs, addresses, methods, hosts, headers (conditions.c). */
SB_MUST enum sb_rc sb_compile_conditions(struct sb_compiler *c);
/* What competes, with its rank and its paths (candidates.c). */
SB_MUST enum sb_rc sb_compile_candidates(struct sb_compiler *c);

/* list is absent or an array of strings. */
SB_MUST enum sb_rc sb_compile_want_strings(const struct sb_compiler *c, const struct sb_value *list,
                                           const char *field);
/* A regex that lives as long as the rule. */
SB_MUST enum sb_rc sb_compile_regex(struct sb_compiler *c, enum sb_regex_kind kind,
                                    struct sb_str text, struct sb_router_regex **out);

#endif
