/* declarative.h - declarative configuration in and out (reference/declarative-config.md). */
#ifndef SB_SCHEMA_DECLARATIVE_H
#define SB_SCHEMA_DECLARATIVE_H

#include "schema/entity.h"
#include "shared/buf.h"

/* The text as YAML or JSON, told apart as Kong does (JSON first, then YAML); name: the file's name
 * where there is one (its suffix then decides), or NULL. The words of an error are what clients get
 * in fields.error (sb_declarative_refused() makes the body). */
SB_MUST enum sb_rc sb_declarative_text(struct sb_arena *a, struct sb_str text, const char *name,
                                       struct sb_value **doc, struct sb_err *err);
void sb_declarative_refused(struct sb_arena *a, const char *why, struct sb_kong_error *e);

/* Validates the document, nested or flat, and gives it as {entity name: [complete rows]}, in load
 * order, foreign fields as {id}, ids filled by the rules of section 5. All or nothing: SB_INVALID
 * with code 14 and fields (of every broken entity) in *e. The default workspace row is not in it.
 * hash: 32 hex characters, of the raw text when text is not empty; zeros when there is no entity.
 */
SB_MUST enum sb_rc sb_declarative_load(struct sb_schema_ctx *ctx, const struct sb_value *doc,
                                       struct sb_str text, struct sb_value **rows, char hash[33],
                                       struct sb_kong_error *e);
/* The same; *shown (may be NULL) gets what POST /config answers: {entity name: {id: row}}, before
 * transformations. */
SB_MUST enum sb_rc sb_declarative_load_shown(struct sb_schema_ctx *ctx, const struct sb_value *doc,
                                             struct sb_str text, struct sb_value **rows,
                                             struct sb_value **shown, char hash[33],
                                             struct sb_kong_error *e);
/* Turns the error of a refused document into what ?flatten_errors=1 answers. */
void sb_declarative_flatten(struct sb_arena *a, struct sb_kong_error *e);

/* Start and CLI: the errors as Kong's indented lines. */
struct sb_str sb_declarative_pretty(struct sb_arena *a, const struct sb_kong_error *e);

/* Export (section 8): rows as sb_declarative_load gives them, to a document. */
struct sb_value *sb_declarative_dump(struct sb_schema_ctx *ctx, const struct sb_value *rows);

#endif
