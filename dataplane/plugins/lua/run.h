/* run.h - a chunk runs in a phase of an exchange.
 *
 *     hook --begin--> coroutine --ends-------------------------> DONE
 *                        |------- kong.response.exit() --------> EXITED
 *                        |------- error ------------------------> BROKE
 *                        `------- a body, a consumer: yields ---> WAITS ... hook again
 * --continue-->
 *
 * A function that has to wait leaves a `finish` behind, which is asked for its results when the
 * hook is called again. Each exchange keeps one struct sb_lua_request from its first run to its
 * end; what Lua keeps for it (kong.ctx, ngx.ctx) goes with it.
 */
#ifndef SB_DATAPLANE_PLUGINS_LUA_RUN_H
#define SB_DATAPLANE_PLUGINS_LUA_RUN_H

#include "dataplane/plugins/lua/state.h"
#include "shared/buf.h"

/* As bits, in the order in which messages list them. */
enum sb_lua_phase {
    SB_LUA_INIT_WORKER = 1 << 0,
    SB_LUA_CERTIFICATE = 1 << 1,
    SB_LUA_CLIENT_HELLO = 1 << 2,
    SB_LUA_REWRITE = 1 << 3,
    SB_LUA_ACCESS = 1 << 4,
    SB_LUA_BALANCER = 1 << 5,
    SB_LUA_RESPONSE = 1 << 6,
    SB_LUA_CLUSTER = 1 << 7,
    SB_LUA_HEADER_FILTER = 1 << 8,
    SB_LUA_BODY_FILTER = 1 << 9,
    SB_LUA_LOG = 1 << 10,
    SB_LUA_PREREAD = 1 << 11,
    SB_LUA_ERROR = 1 << 12,
    SB_LUA_ADMIN_API = 1 << 13,
};

const char *sb_lua_phase_name(unsigned phase);

struct sb_lua_run;
/* Pushes results and returns how many; -1: has to wait on. May raise. */
typedef int (*sb_lua_finish)(lua_State *L, struct sb_lua_run *r);

struct sb_lua_run {
    struct sb_lua *lua;
    struct sb_exchange *x;
    struct sb_lua_request *req;
    const struct sb_plugin_instance *instance; /* NULL: a template's */
    unsigned phase;
    struct sb_chunk *chunk; /* in body_filter */
    lua_State *co;
    int co_ref;
    sb_lua_finish finish; /* set while it waits */
    bool exited, first;   /* first: of its code's runs on this worker */
};

/* What an exchange keeps. References are LUA_NOREF until there is something. */
struct sb_lua_request {
    struct sb_lua *lua;
    struct sb_exchange *x;
    struct sb_lua_run run;    /* the one that waits, or ran last */
    int ctx;                  /* table: shared, ngx, plugin names, env (of templates) */
    int consumer, credential; /* tables as Lua was given or told them */
    const struct sb_consumer *of_consumer; /* whom they stand for */
    const struct sb_credential *of_credential;
    const struct sb_str *groups; /* that Lua knows of */
    struct sb_buf out;           /* what ngx.print said */
    struct sb_buf body;          /* what body_filter withheld */
    bool body_read;              /* ngx.req.read_body was called */
    bool printed;                /* ngx.print was called */
    bool buffered;               /* body holds back what passed */
    bool body_ended;             /* what follows of the response's body is dropped */
    int status;                  /* that ngx.status was set to; 0: it was not */
};

/* NULL: Lua can't start. */
struct sb_lua_request *sb_lua_request_of(struct sb_exchange *x);

enum sb_lua_end { SB_LUA_DONE, SB_LUA_WAITS, SB_LUA_EXITED, SB_LUA_BROKE };

/* Prepares req->run for a phase; drops one that still waits. */
struct sb_lua_run *sb_lua_begin(struct sb_lua_request *req,
                                const struct sb_plugin_instance *instance, unsigned phase,
                                struct sb_chunk *chunk);
/* Runs the code; of what its first run returned a function, that (serverless). BROKE was logged. */
enum sb_lua_end sb_lua_run_code(struct sb_lua_run *r, struct sb_lua_code *code);
/* Goes on with what waited. */
enum sb_lua_end sb_lua_continue(struct sb_lua_run *r, struct sb_lua_code *code);
/* The phase is over. */
void sb_lua_end(struct sb_lua_run *r);

/* Calls a C function of Lua's with ud, protected, for the run, outside of coroutines. False: it
 * raised; its words are in *why, in the exchange's arena. */
bool sb_lua_protected(struct sb_lua_run *r, lua_CFunction fn, void *ud, struct sb_str *why);

/* -- for C functions -- */

/* Suspends the handler until finish has results. Where the phase can't wait, or the function was
 * not called from a handler's coroutine: raises. `return sb_lua_wait(...)`. */
int sb_lua_wait(lua_State *L, struct sb_lua_run *r, sb_lua_finish finish);
/* Ends the handler here; nothing behind the call runs. `return sb_lua_exit(L, r)`. */
int sb_lua_exit(lua_State *L, struct sb_lua_run *r);
/* Whether functions may wait: rewrite, access. */
static inline bool sb_lua_may_wait(const struct sb_lua_run *r)
{
    return r->phase & (SB_LUA_REWRITE | SB_LUA_ACCESS);
}

/* Pushes the request's table of contexts, and of one name in it, made at the first call. */
void sb_lua_push_context(lua_State *L, struct sb_lua_request *req, const char *name);
/* Puts the value at that index in its place. */
void sb_lua_set_context(lua_State *L, struct sb_lua_request *req, const char *name, int at);

#endif
