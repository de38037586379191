/* validate.h - inside schema/: what the engine, the checks and the types share. */
#ifndef SB_SCHEMA_VALIDATE_H
#define SB_SCHEMA_VALIDATE_H

#include "schema/entity.h"

/* Checks one value; NULL when fine, else a text or, for containers, a tree of texts. */
struct sb_value *sb_check_value(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                const struct sb_value *v);

/* The fields in force: `fields`, or those of the same name in `first` (NULL: none). */
struct sb_fields {
    const struct sb_field *fields, *first;
};

/* Runs the checks over a record whose fields have been looked at, and adds to its errors. */
void sb_run_checks(struct sb_schema_ctx *ctx, struct sb_fields known,
                   const struct sb_entity_check *checks, const struct sb_value *record,
                   struct sb_value *errors);

/* sb_entity_insert() in two halves: all but the transformations, and those. */
SB_MUST enum sb_rc sb_entity_build(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                   const struct sb_value *input, struct sb_value **out,
                                   struct sb_kong_error *e);
void sb_entity_transform(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                         const struct sb_value *sent, struct sb_value *entity);

/* sb_entity_read() without the old names of fields. */
struct sb_value *sb_entity_read_bare(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                     const struct sb_value *stored);

/* What fills generated fields (keys, tokens): 32 letters and digits, from 24 random bytes. */
struct sb_str sb_random_string(struct sb_arena *a);

/* nil, "" and empty containers. */
bool sb_is_blank(const struct sb_value *v);
/* "{vault://...}" */
bool sb_is_vault_reference(const struct sb_value *v);
/* 'a', 'b' */
struct sb_str sb_quoted_list(struct sb_arena *a, const char *const *names);

/* A text in the context's arena. */
const char *sb_say(struct sb_schema_ctx *ctx, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
