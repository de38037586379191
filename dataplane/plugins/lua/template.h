/* template.h - values with Lua in them: "a $(headers.host) b" (reference/plugins-transform.md).
 *
 * compile on the config thread; render on the exchange's worker, in rewrite or access. Names in the
 * expressions: headers, query_params, uri_captures, shared (kong.ctx.shared) and type; beside them
 * what untrusted_lua_sandbox_environment makes visible and a require for
 * untrusted_lua_sandbox_requires, or with untrusted_lua=on all globals of Lua. Each of the first
 * three is made when an expression first asks for it, and is the same for all templates of the
 * exchange: what was changed meanwhile does not show. nil and false give nothing.
 */
#ifndef SB_DATAPLANE_PLUGINS_LUA_TEMPLATE_H
#define SB_DATAPLANE_PLUGINS_LUA_TEMPLATE_H

#include "dataplane/plugins/phase.h"

struct sb_lua_template; /* immutable, for all workers */

/* In the arena, which must outlive every use; text is copied. SB_INVALID: Lua's words. */
SB_MUST enum sb_rc sb_lua_template_compile(struct sb_arena *a, struct sb_str text,
                                           const struct sb_lua_template **out, struct sb_err *err);

/* What the text comes to, in the exchange's arena; text without expressions costs nothing.
 * SB_INVALID: an expression broke, with Lua's words; SB_DENIED: it has some, and untrusted_lua is
 * off; SB_TOOLARGE: more than SB_LUA_TEMPLATE_MAX bytes. */
enum { SB_LUA_TEMPLATE_MAX = 1 << 20 };
SB_MUST enum sb_rc sb_lua_template_render(struct sb_exchange *x, const struct sb_lua_template *t,
                                          struct sb_str *out, struct sb_err *err);

#endif
