/* args.h - the arguments of a query or of a form: name=value&name&... */
#ifndef SB_DATAPLANE_PLUGINS_ARGS_H
#define SB_DATAPLANE_PLUGINS_ARGS_H

#include <stdbool.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/str.h"
#include "shared/value.h"

enum { SB_ARGS_MAX = 10000 };

struct sb_arg {
    struct sb_str name, value; /* decoded: %xx and +; value p NULL: there was no "=" */
};

/* Cuts the next argument off *rest; false when there is none. Arguments without a name are passed
 * over. What needs no decoding is a slice of *rest, else it is in the arena. */
bool sb_arg_next(struct sb_arena *a, struct sb_str *rest, struct sb_arg *out);
/* What stands between two "&". */
struct sb_arg sb_arg_parse(struct sb_arena *a, struct sb_str text);
/* The first of that name. */
bool sb_arg_find(struct sb_arena *a, struct sb_str args, struct sb_str name, struct sb_arg *out);

/* All of them as an object: a text, true where there was no "=", or the list of these where a name
 * comes more than once; in the order in which they came. SB_TOOLARGE: more than SB_ARGS_MAX. */
SB_MUST enum sb_rc sb_args_object(struct sb_arena *a, struct sb_str args, struct sb_value **out);
/* One more value of a name, beside those that are there. */
void sb_args_add(struct sb_arena *a, struct sb_value *object, struct sb_str name,
                 struct sb_value *value);
/* And back: escaped, in the order of the object, or sorted by their text, as Kong does queries. */
struct sb_str sb_args_text(struct sb_arena *a, const struct sb_value *args);
struct sb_str sb_args_text_sorted(struct sb_arena *a, const struct sb_value *args);

#endif
