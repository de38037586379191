/* multipart.h - the parts of a multipart/form-data body (RFC 7578).
 *
 *     --BOUNDARY CRLF head CRLF CRLF value CRLF --BOUNDARY ... CRLF --BOUNDARY--
 */
#ifndef SB_DATAPLANE_PLUGINS_MULTIPART_H
#define SB_DATAPLANE_PLUGINS_MULTIPART_H

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/str.h"
#include "shared/value.h"

enum { SB_PARTS_MAX = 10000 };

/* Slices of the body. */
struct sb_part {
    struct sb_str name; /* p NULL: it has none */
    struct sb_str value;
    struct sb_str text;  /* head and value */
    struct sb_str whole; /* from its boundary up to the next */
};

/* The line that begins a part: "--" and the boundary that Content-Type names; p NULL: none. */
struct sb_str sb_part_mark(struct sb_arena *a, struct sb_str type);
/* The next part at or behind *at, which moves on. False at the end: of the parts, when *ended, or
 * of a text that breaks off. */
bool sb_part_next(struct sb_str text, struct sb_str mark, size_t *at, struct sb_part *out,
                  bool *ended);

/* A form that is being changed. */
struct sb_form {
    struct sb_str mark;
    struct sb_part *parts;
    size_t n, cap;
};

/* SB_INVALID: no boundary, or it breaks off; SB_TOOLARGE: more than SB_PARTS_MAX. "" is a form
 * without parts. */
SB_MUST enum sb_rc sb_form_parse(struct sb_arena *a, struct sb_str type, struct sb_str text,
                                 struct sb_form *out);
/* The last part of that name. NULL: none. */
struct sb_part *sb_form_find(const struct sb_form *f, struct sb_str name);
/* A plain field, in place of the part that sb_form_find() tells, or at the end. */
void sb_form_set(struct sb_arena *a, struct sb_form *f, struct sb_str name, struct sb_str value);
/* The same at the end, beside those of that name. */
void sb_form_add(struct sb_arena *a, struct sb_form *f, struct sb_str name, struct sb_str value);
/* All parts of that name; returns how many. */
size_t sb_form_remove(struct sb_form *f, struct sb_str name);
/* "" when there are no parts. */
struct sb_str sb_form_text(struct sb_arena *a, const struct sb_form *f);

#endif
