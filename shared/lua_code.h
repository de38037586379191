/* lua_code.h - Lua text before it runs: whether it is Lua at all, and what templates become.
 *
 * For whoever checks configurations; what runs Lua is the data plane's (dataplane/plugins/lua).
 */
#ifndef SB_SHARED_LUA_CODE_H
#define SB_SHARED_LUA_CODE_H

#include <stdbool.h>

#include "shared/arena.h"
#include "shared/str.h"

/* Whether a chunk of text parses. name: how messages call it; NULL: by its own first line, as Lua
 * does. When not, *why is Lua's message, in the arena. Bytecode is refused. */
bool sb_lua_parses(struct sb_arena *a, struct sb_str code, const char *name, struct sb_str *why);

/* A template is text with expressions, "a $(headers.host) b": parentheses must balance, else it is
 * text like the rest. */
bool sb_lua_template_evaluates(struct sb_str text); /* it has an expression */

/* How messages call the code of a template, as Penlight's do. */
#define SB_LUA_TEMPLATE_NAME "TMP"

/* The chunk that a template stands for, in the arena: it returns a function of (pieces, tostring)
 * that fills the array with the pieces of the result. nil and false are empty. */
struct sb_str sb_lua_template_code(struct sb_arena *a, struct sb_str text);

#endif
