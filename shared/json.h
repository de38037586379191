/* json.h - JSON text to and from values. Parsing is json-c's (strict, UTF-8, at most 128 levels);
 * writing is ours because Kong's clients see its exact spelling.
 */
#ifndef SB_SHARED_JSON_H
#define SB_SHARED_JSON_H

#include "shared/buf.h"
#include "shared/err.h"
#include "shared/value.h"

/* Parses exactly one document; anything after it but white space is an error, which names the
 * offset. Everything is copied into the arena. Integers beyond 64 bits become numbers. */
SB_MUST enum sb_rc sb_json_parse(struct sb_arena *a, struct sb_str text, struct sb_value **out,
                                 struct sb_err *err);

enum {
    SB_JSON_SLASH = 1,  /* '/' as "\/", as Kong's Admin API writes it */
    SB_JSON_PRETTY = 2, /* two spaces, one member a line */
    SB_JSON_SORTED = 4, /* members by key */
};

/* Appends the text. Whole numbers print as integers, others as %.14g (Kong's precision). NULL
 * prints null. */
void sb_json_write(struct sb_buf *b, const struct sb_value *v, unsigned flags);
/* The same as a string in the arena, NUL-terminated. */
struct sb_str sb_json_text(struct sb_arena *a, const struct sb_value *v, unsigned flags);
/* A string as a JSON literal, with its quotes. */
void sb_json_write_str(struct sb_buf *b, struct sb_str s, unsigned flags);

#endif
