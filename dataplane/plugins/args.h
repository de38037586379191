/* args.h - the arguments of a query or of a form: name=value&name&... */
#ifndef SB_DATAPLANE_PLUGINS_ARGS_H
#define SB_DATAPLANE_PLUGINS_ARGS_H

#include <stdbool.h>

#include "shared/arena.h"
#include "shared/str.h"

struct sb_arg {
    struct sb_str name, value; /* decoded: %xx and +; value p NULL: there was no "=" */
};

/* Cuts the next argument off *rest; false when there is none. Arguments without a name are passed
 * over. What needs no decoding is a slice of *rest, else it is in the arena. */
bool sb_arg_next(struct sb_arena *a, struct sb_str *rest, struct sb_arg *out);
/* The first of that name. */
bool sb_arg_find(struct sb_arena *a, struct sb_str args, struct sb_str name, struct sb_arg *out);

#endif
