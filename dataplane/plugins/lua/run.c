#include "dataplane/plugins/lua/run.h"

#include "shared/log.h"

enum { THREADS_KEPT = 64, PRINT_MAX = 64 << 20 };

static const char *const phase_names[] = {
    "init_worker", "certificate",      "client_hello",  "rewrite",     "access", "balancer",
    "response",    "cluster_listener", "header_filter", "body_filter", "log",    "preread",
    "error",       "admin_api",
};

const char *sb_lua_phase_name(unsigned phase)
{
    return phase ? phase_names[__builtin_ctz(phase)] : "unknown";
}

/* -- what an exchange keeps -- */

static void unref(struct sb_lua *lua, int *ref)
{
    luaL_unref(lua->L, LUA_REGISTRYINDEX, *ref);
    *ref = LUA_NOREF;
}

static void drop_run(struct sb_lua_run *r)
{
    if (r->co)
        unref(r->lua, &r->co_ref);
    r->co = NULL;
    r->finish = NULL;
}

static void request_ends(void *arg)
{
    struct sb_lua_request *req = arg;

    drop_run(&req->run);
    unref(req->lua, &req->ctx);
    unref(req->lua, &req->consumer);
    unref(req->lua, &req->credential);
    sb_buf_release(&req->out);
    sb_buf_release(&req->body);
}

struct sb_lua_request *sb_lua_request_of(struct sb_exchange *x)
{
    static const char owner;
    struct sb_lua_request *req = sb_exchange_state(x, &owner, sizeof *req);

    if (req->lua)
        return req;
    req->lua = sb_lua_of(x);
    if (!req->lua)
        return NULL;
    req->x = x;
    req->ctx = req->consumer = req->credential = LUA_NOREF;
    sb_buf_init(&req->out, PRINT_MAX);
    sb_buf_init(&req->body, PRINT_MAX);
    sb_arena_defer(sb_exchange_arena(x), request_ends, req);
    return req;
}

void sb_lua_push_context(lua_State *L, struct sb_lua_request *req, const char *name)
{
    if (req->ctx == LUA_NOREF) {
        lua_newtable(L);
        req->ctx = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, req->ctx);
    lua_getfield(L, -1, name);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, name);
    }
    lua_remove(L, -2);
}

void sb_lua_set_context(lua_State *L, struct sb_lua_request *req, const char *name, int at)
{
    sb_lua_push_context(L, req, name); /* so that there is a table of them */
    lua_pop(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, req->ctx);
    lua_pushvalue(L, at);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

/* -- coroutines -- */

/* A coroutine for the run: one that was used before, or a new one. */
static void take_thread(struct sb_lua_run *r, lua_State *L)
{
    struct sb_lua *lua = r->lua;

    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->threads);
    if (lua->nthreads > 0) {
        lua_rawgeti(L, -1, lua->nthreads);
        lua_pushnil(L);
        lua_rawseti(L, -3, lua->nthreads--);
    } else {
        (void)lua_newthread(L);
    }
    r->co = lua_tothread(L, -1);
    r->co_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
}

static int give_thread(lua_State *L)
{
    struct sb_lua_run *r = lua_touserdata(L, 1);

    lua_rawgeti(L, LUA_REGISTRYINDEX, r->lua->threads);
    lua_rawgeti(L, LUA_REGISTRYINDEX, r->co_ref);
    lua_rawseti(L, -2, ++r->lua->nthreads);
    return 0;
}

struct sb_lua_run *sb_lua_begin(struct sb_lua_request *req,
                                const struct sb_plugin_instance *instance, unsigned phase,
                                struct sb_chunk *chunk)
{
    struct sb_lua_run *r = &req->run;

    drop_run(r);
    *r = (struct sb_lua_run){.lua = req->lua,
                             .x = req->x,
                             .req = req,
                             .instance = instance,
                             .phase = phase,
                             .chunk = chunk,
                             .co_ref = LUA_NOREF};
    return r;
}

/* One that ended well has an empty stack, and is as good as new. */
void sb_lua_end(struct sb_lua_run *r)
{
    if (r->co && lua_status(r->co) == 0 && r->lua->nthreads < THREADS_KEPT) {
        lua_settop(r->co, 0);
        (void)lua_cpcall(r->lua->L, give_thread, r);
    }
    drop_run(r);
}

/* -- running -- */

struct beginning {
    struct sb_lua_run *r;
    struct sb_lua_code *code;
};

/* What is kept for a code: its function, or false in front of the first run's end. */
static int begin_code(lua_State *L)
{
    const struct beginning *b = lua_touserdata(L, 1);
    struct sb_lua *lua = b->r->lua;

    if (!b->r->co)
        take_thread(b->r, L);
    sb_lua_code_get(lua, L, b->code);
    if (lua_isnil(L, -1)) {
        sb_lua_load(lua, L, b->code);
        lua_pushvalue(L, -1);
        sb_lua_code_keep(lua, L, b->code);
        lua_pushboolean(L, true);
    } else {
        lua_pushboolean(L, false);
    }
    lua_xmove(L, b->r->co, 2);
    return 0;
}

static int keep_function(lua_State *L)
{
    const struct beginning *b = lua_touserdata(L, 1);

    lua_rawgeti(L, LUA_REGISTRYINDEX, b->r->lua->cache);
    lua_pushlightuserdata(L, b->code);
    lua_pushvalue(b->r->co, -1);
    lua_xmove(b->r->co, L, 1);
    lua_rawset(L, -3);
    return 0;
}

static void say_broken(struct sb_lua_run *r, struct sb_str why)
{
    sb_error("[%s] %.*s, phase: %s, request_id: %.*s",
             r->instance ? r->instance->plugin->name : "template", SB_ARG(why),
             sb_lua_phase_name(r->phase), SB_ARG(sb_exchange_request_id(r->x)));
}

static enum sb_lua_end broke(struct sb_lua_run *r, lua_State *L)
{
    say_broken(r, sb_lua_message(sb_exchange_arena(r->x), L, -1));
    lua_settop(L, 0);
    drop_run(r);
    return SB_LUA_BROKE;
}

/* Resumes with n values on top of the coroutine's stack. */
static enum sb_lua_end resume(struct sb_lua_run *r, int n)
{
    struct sb_lua_run *outer = r->lua->now;
    int status;

    r->lua->now = r;
    status = lua_resume(r->co, n);
    r->lua->now = outer;
    if (status == LUA_YIELD && r->exited) {
        drop_run(r);
        return SB_LUA_EXITED;
    }
    if (status == LUA_YIELD && r->finish)
        return SB_LUA_WAITS;
    if (status == LUA_YIELD) { /* a handler that yields to no one has ended */
        drop_run(r);
        return SB_LUA_DONE;
    }
    return status ? broke(r, r->co) : SB_LUA_DONE;
}

/* A first run that returned a function did not do its work yet: that does, now and from now on. */
static enum sb_lua_end after_first(struct sb_lua_run *r, struct sb_lua_code *code,
                                   enum sb_lua_end end)
{
    struct beginning b = {r, code};

    if (end != SB_LUA_DONE || !r->co)
        return end;
    if (lua_gettop(r->co) >= 1 && lua_isfunction(r->co, 1) && r->first) {
        r->first = false;
        lua_settop(r->co, 1);
        if (lua_cpcall(r->lua->L, keep_function, &b))
            return broke(r, r->lua->L);
        return after_first(r, code, resume(r, 0));
    }
    lua_settop(r->co, 0);
    return SB_LUA_DONE;
}

enum sb_lua_end sb_lua_run_code(struct sb_lua_run *r, struct sb_lua_code *code)
{
    struct beginning b = {r, code};

    if (lua_cpcall(r->lua->L, begin_code, &b))
        return broke(r, r->lua->L);
    r->first = lua_toboolean(r->co, -1);
    lua_pop(r->co, 1);
    return after_first(r, code, resume(r, 0));
}

static int finish(lua_State *L)
{
    struct sb_lua_run *r = lua_touserdata(L, 1);
    int n;

    lua_settop(L, 0);
    n = r->finish(L, r);
    if (n < 0)
        return 0;
    if (n == 0)
        lua_pushnil(L);
    lua_xmove(L, r->co, n ? n : 1);
    r->finish = NULL;
    return 0;
}

enum sb_lua_end sb_lua_continue(struct sb_lua_run *r, struct sb_lua_code *code)
{
    struct sb_lua_run *outer = r->lua->now;
    int before, status;

    lua_settop(r->co, 0);
    before = lua_gettop(r->co);
    r->lua->now = r;
    status = lua_cpcall(r->lua->L, finish, r);
    r->lua->now = outer;
    if (status)
        return broke(r, r->lua->L);
    if (r->finish)
        return SB_LUA_WAITS;
    return after_first(r, code, resume(r, lua_gettop(r->co) - before));
}

bool sb_lua_protected(struct sb_lua_run *r, lua_CFunction fn, void *ud, struct sb_str *why)
{
    struct sb_lua_run *outer = r->lua->now;
    lua_State *L = r->lua->L;
    int status;

    r->lua->now = r;
    status = lua_cpcall(L, fn, ud);
    r->lua->now = outer;
    if (status == 0)
        return true;
    *why = sb_lua_message(sb_exchange_arena(r->x), L, -1);
    lua_settop(L, 0);
    return false;
}

int sb_lua_wait(lua_State *L, struct sb_lua_run *r, sb_lua_finish then)
{
    if (!sb_lua_may_wait(r) || !r->co)
        return luaL_error(L, "cannot wait in %s", sb_lua_phase_name(r->phase));
    r->finish = then;
    lua_pushlightuserdata(L, r->lua); /* known to our coroutine.resume, which passes it on */
    return lua_yield(L, 1);
}

int sb_lua_exit(lua_State *L, struct sb_lua_run *r)
{
    r->exited = true;
    lua_pushlightuserdata(L, r->lua);
    return lua_yield(L, 1);
}
