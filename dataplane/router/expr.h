/* expr.h - the expression language of routes (within dataplane/router only).
 *
 *     http.host == "a.com" && (http.path ^= "/x" || any(http.headers.v) ~ "^[12]$")
 *
 * What is peculiar to it: '||' binds tighter than '&&'; '!' stands only before parentheses; a field
 * that the request lacks makes every predicate on it false, != and "not in" too; a field of several
 * values wants all of them to fit, any() one; the last predicate on http.path that held says what
 * strip_path takes off.
 *
 * Parsing tells a mistake in the words and with the drawing that users of Kong know:
 *
 *      --> 1:11
 *       |
 *     1 | http.path = "/a"
 *       |           ^---
 *       |
 *       = expected binary_operator
 */
#ifndef SB_DATAPLANE_ROUTER_EXPR_H
#define SB_DATAPLANE_ROUTER_EXPR_H

#include "dataplane/router/lookup.h"
#include "shared/buf.h"

enum sb_expr_kind { SB_EXPR_AND, SB_EXPR_OR, SB_EXPR_NOT, SB_EXPR_PREDICATE };

enum sb_expr_op {
    SB_OP_EQUAL,
    SB_OP_NOT_EQUAL,
    SB_OP_REGEX,
    SB_OP_PREFIX,
    SB_OP_SUFFIX,
    SB_OP_GREATER_EQUAL,
    SB_OP_GREATER,
    SB_OP_LESS_EQUAL,
    SB_OP_LESS,
    SB_OP_IN,
    SB_OP_NOT_IN,
    SB_OP_CONTAINS,
};

enum sb_expr_type { SB_EXPR_STRING, SB_EXPR_INT, SB_EXPR_ADDR, SB_EXPR_CIDR };

enum sb_expr_field {
    SB_FIELD_PROTOCOL,
    SB_FIELD_SNI,
    SB_FIELD_METHOD,
    SB_FIELD_HOST,
    SB_FIELD_PATH,
    SB_FIELD_SEGMENTS, /* from..to */
    SB_FIELD_SEGMENTS_LEN,
    SB_FIELD_HEADER, /* name */
    SB_FIELD_QUERY,  /* name */
    SB_FIELD_SRC_IP,
    SB_FIELD_SRC_PORT,
    SB_FIELD_DST_IP,
    SB_FIELD_DST_PORT,
};

struct sb_expr_value {
    enum sb_expr_type type;
    struct sb_str str;
    int64_t i;
    struct sb_rule_net net; /* ADDR and CIDR */
    struct sb_router_regex *regex;
};

struct sb_expr {
    enum sb_expr_kind kind;
    /* AND, OR: at least one; NOT: one. */
    struct sb_expr *const *items;
    size_t nitems;
    /* PREDICATE */
    struct sb_str field_name; /* as written */
    enum sb_expr_field field;
    struct sb_str name; /* of header or query argument */
    size_t from, to;    /* segments, counted from 0 */
    bool lower, any;
    enum sb_expr_op op;
    struct sb_expr_value value;
};

/* Reads and checks an expression for HTTP or stream routes; all of it lives in the arena. */
SB_MUST enum sb_rc sb_expr_parse(struct sb_arena *a, struct sb_str text, bool stream,
                                 struct sb_expr **out, struct sb_err *err);

/* The syntax alone, fields unresolved (expr_check.c goes on from there). */
SB_MUST enum sb_rc sb_expr_read(struct sb_arena *a, struct sb_str text, struct sb_expr **out,
                                struct sb_err *err);
SB_MUST enum sb_rc sb_expr_check(struct sb_expr *e, bool stream, struct sb_err *err);

/* Appends the expression that stands for a row's attributes; nothing when it has none. */
void sb_expr_spell(struct sb_buf *b, const struct sb_rule_row *row);

/* Does the request fit? Sets hit by the predicates on http.path that held. */
bool sb_expr_eval(const struct sb_expr *e, struct sb_lookup *l, struct sb_hit *hit);

bool sb_expr_reads_path(const struct sb_expr *e);

/* Where in the tree an expression must be met: it holds only for requests that one of these places
 * leads to. SNI and port play host and path for stream routes. */
struct sb_place {
    enum { SB_PLACE_ANY, SB_PLACE_HOST } section;
    struct sb_rule_host host;
    struct sb_str path;
};

/* At least one place, in the arena. */
void sb_expr_places(struct sb_arena *a, const struct sb_expr *e, bool stream,
                    const struct sb_place **out, size_t *n);

#endif
