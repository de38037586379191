/* declarative.h - declarative configuration in and out (reference/declarative-config.md). */
#ifndef SB_SCHEMA_DECLARATIVE_H
#define SB_SCHEMA_DECLARATIVE_H

#include "schema/entity.h"
#include "shared/buf.h"

/* The text as YAML or JSON, told apart as Kong does (JSON first, then YAML); name: the file's name
 * where there is one (its suffix then decides), or NULL. */
SB_MUST enum sb_rc sb_declarative_text(struct sb_arena *a, struct sb_str text, const char *name,
                                       struct sb_value **doc, struct sb_err *err);

/* Validates the document, nested or flat, and gives it as {entity name: [complete rows]}, in load
 * order, foreign fields as {id}, ids filled by the rules of section 5. All or nothing: SB_INVALID with
 * code 14, fields and flattened errors (of every broken entity) in *e. The default workspace row is
 * not in it. hash: 32 hex characters, of the raw text when text is not empty. */
SB_MUST enum sb_rc sb_declarative_load(struct sb_schema_ctx *ctx, const struct sb_value *doc,
                                       struct sb_str text, struct sb_value **rows, char hash[33],
                                       struct sb_kong_error *e);

/* Start and CLI: the errors as Kong's indented lines. */
struct sb_str sb_declarative_pretty(struct sb_arena *a, const struct sb_kong_error *e);

/* Export (section 8): rows as sb_declarative_load gives them, to a document. */
struct sb_value *sb_declarative_dump(struct sb_schema_ctx *ctx, const struct sb_value *rows);

#endif
