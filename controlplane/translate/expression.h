/* expression.h - texts of the expressions language, put together from the inside out.
 *
 * An empty text is "no condition": it vanishes from what it is put into. A single operand stands
 * bare, several are each in parentheses.
 */
#ifndef SB_CONTROLPLANE_TRANSLATE_EXPRESSION_H
#define SB_CONTROLPLANE_TRANSLATE_EXPRESSION_H

#include "shared/arena.h"
#include "shared/value.h"

/* field op "literal", the literal escaped. */
struct sb_str predicate(struct sb_arena *a, struct sb_str field, const char *op,
                        struct sb_str literal);

/* Operands, in the order in which they are added; a zeroed struct is an empty list. */
struct operands {
    struct sb_value *list;
};
void operand_add(struct sb_arena *a, struct operands *o, struct sb_str operand);
struct sb_str all_of(struct sb_arena *a, const struct operands *o);
struct sb_str any_of(struct sb_arena *a, const struct operands *o);

#endif
