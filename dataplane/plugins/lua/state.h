/* state.h - Lua in a worker: one state, made when the first chunk runs, with a bounded heap.
 *
 *     worker --- struct sb_lua --- lua_State --- kong, ngx, the sandbox   made once
 *                     |                     +--- compiled chunks          per config version
 *                     |                     +--- what a request keeps     until the request ends
 *                     +--- now: the run that the C functions speak for
 *
 * Chunks come from configs, which other threads make and free. So each has a counted struct
 * sb_lua_code that outlives its config until every worker let go of what it compiled from it.
 *
 * Whatever may raise an error is called from Lua, or under lua_cpcall(): an error outside ends the
 * process. Everything here is the worker's own but for struct sb_lua_code.
 */
#ifndef SB_DATAPLANE_PLUGINS_LUA_STATE_H
#define SB_DATAPLANE_PLUGINS_LUA_STATE_H

#include <lauxlib.h>
#include <lua.h>

#include "dataplane/plugins/plugin.h"

/* What a worker's Lua may take from the system. What it allocates beyond is an error in Lua. */
enum { SB_LUA_HEAP_MAX = 512 << 20 };

struct sb_lua_run; /* run.h */

enum sb_lua_trust { SB_LUA_OFF, SB_LUA_SANDBOX, SB_LUA_ON }; /* untrusted_lua */

struct sb_lua {
    lua_State *L; /* NULL: not made yet */
    struct event_base *loop;
    const struct sb_settings *settings;
    enum sb_lua_trust trust;
    size_t used, max;         /* bytes of the heap */
    struct sb_lua_run *now;   /* NULL: nothing runs */
    struct sb_lua_held *held; /* code that this worker compiled */
    int env;                  /* reference: what chunks see as their globals */
    int cache;                /* reference: what was compiled, by struct sb_lua_code */
    int threads;              /* reference: coroutines that ended well, to be used again */
    int nthreads;
};

/* Costs nothing until the first use. Settings must outlive it. */
struct sb_lua *sb_lua_new(struct event_base *loop, const struct sb_settings *settings);
void sb_lua_free(struct sb_lua *lua);

/* The worker's, ready to run. NULL: there is no memory for it, which was logged. */
struct sb_lua *sb_lua_of(struct sb_exchange *x);
/* The same for who has no exchange. False: the same. */
bool sb_lua_open(struct sb_lua *lua);

/* -- code -- */

/* A chunk of Lua text: made on the config thread, compiled by each worker once. */
struct sb_lua_code {
    struct sb_str text;
    const char *name; /* as messages call it; NULL: by its text, as Lua does */
    int refs;         /* atomic */
    bool dead;        /* atomic: the config that had it is gone */
    char room[];
};

/* Lives as long as the arena, and beyond it while a worker needs it. text is copied. */
struct sb_lua_code *sb_lua_code_new(struct sb_arena *a, struct sb_str text, const char *name);

/* Pushes what was kept for the code, or nil. */
void sb_lua_code_get(struct sb_lua *lua, lua_State *L, const struct sb_lua_code *code);
/* Pops a value and keeps it for the code, for as long as its config lives. */
void sb_lua_code_keep(struct sb_lua *lua, lua_State *L, struct sb_lua_code *code);

/* Pushes the chunk as a function with the environment of chunks. Raises what is wrong with it. */
void sb_lua_load(struct sb_lua *lua, lua_State *L, const struct sb_lua_code *code);

/* -- small things -- */

static inline void sb_lua_push(lua_State *L, struct sb_str s)
{
    lua_pushlstring(L, s.p ? s.p : "", s.len);
}

/* A string's slice: valid while Lua has the string. p NULL: it is neither string nor number. */
static inline struct sb_str sb_lua_str(lua_State *L, int at)
{
    struct sb_str s;

    s.p = lua_tolstring(L, at, &s.len);
    return s.p ? s : (struct sb_str){0};
}

/* A copy in the arena of the value as text, for messages. */
struct sb_str sb_lua_message(struct sb_arena *a, lua_State *L, int at);

#endif
