/* expr_parser.h - what the parts of the expression parser share (within dataplane/router only). */
#ifndef SB_DATAPLANE_ROUTER_EXPR_PARSER_H
#define SB_DATAPLANE_ROUTER_EXPR_PARSER_H

#include "dataplane/router/expr.h"

enum { SB_PARSE_DEPTH_MAX = 200, SB_PARSE_TRIED_MAX = 64 };

/* In the order in which a message lists them. */
enum sb_parse_rule {
    R_EOI,
    R_AND_OP,
    R_BINARY_OPERATOR,
    R_DEC_DIGITS,
    R_EXPRESSION,
    R_HEX_DIGITS,
    R_IDENT,
    R_INT_LITERAL,
    R_IP_LITERAL,
    R_IPV4_CIDR_LITERAL,
    R_IPV4_LITERAL,
    R_IPV6_CIDR_LITERAL,
    R_IPV6_LITERAL,
    R_LHS,
    R_MATCHER,
    R_OCT_DIGITS,
    R_OR_OP,
    R_PARENTHESISED,
    R_PREDICATE,
    R_RAWSTR_CHAR,
    R_RAWSTR_LITERAL,
    R_RHS,
    R_STR_CHAR,
    R_STR_ESC,
    R_STR_LITERAL,
    R_TERM,
    R_TRANSFORM_FUNC,
};

struct sb_parser {
    struct sb_arena *a;
    struct sb_str s;
    size_t i;
    size_t depth;
    /* What was tried in vain at the furthest place. */
    size_t furthest;
    enum sb_parse_rule tried[SB_PARSE_TRIED_MAX];
    size_t ntried;
    /* The first mistake in a value, and where. */
    struct sb_buf mistake;
    size_t from, to;
    bool mistaken, too_deep;
};

/* -- the book of what was tried: every rule is a function between these two -- */

struct sb_parse_mark {
    size_t at, kept, tried;
};

struct sb_parse_mark sb_parse_enter(const struct sb_parser *p);
/* Returns ok; when that is false, notes the rule and goes back to where it began. */
bool sb_parse_leave(struct sb_parser *p, const struct sb_parse_mark *m, enum sb_parse_rule rule,
                    bool ok);

/* Something wrong with the value of the text from..to; the first is kept. */
void sb_parse_mistake(struct sb_parser *p, size_t from, size_t to, const char *words);
/* The message of a parse that failed, drawn. */
enum sb_rc sb_parse_draw(struct sb_parser *p, bool syntax, struct sb_err *err);

/* -- characters -- */

void sb_parse_skip(struct sb_parser *p); /* white space */
bool sb_parse_take(struct sb_parser *p, const char *text);
bool sb_parse_take_next(struct sb_parser *p, const char *text); /* behind white space */
/* Up to max characters of a kind; how many. */
size_t sb_parse_take_while(struct sb_parser *p, bool (*kind)(char), size_t max);
struct sb_str sb_parse_since(const struct sb_parser *p, size_t from);
bool sb_parse_is_alpha(char c);
bool sb_parse_is_digit(char c);

/* A constant (expr_values.c). */
bool sb_parse_rhs(struct sb_parser *p, struct sb_expr_value *v);

#endif
