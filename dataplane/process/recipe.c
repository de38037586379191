#include "dataplane/process/recipe.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "dataplane/process/options.h"
#include "shared/arena.h"

struct sb_recipe {
    struct sb_arena *arena;
    struct sb_options options; /* conf is the first file */
    const char *prefix, *program, *reload_conf;
    const char **env; /* ended by NULL; what reloads brought as SB_RELOAD_KONG_* */
};

static const char *copy(struct sb_arena *a, const char *text)
{
    return text ? sb_arena_cstr(a, sb_str_c(text)) : NULL;
}

/* The path, not the inode: after an upgrade the new program is what starts. */
static const char *own_path(struct sb_arena *a)
{
    static const char gone[] = " (deleted)";
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path);
    struct sb_str s = sb_str_n(path, n > 0 ? (size_t)n : 0);

    if (sb_str_ends(s, sb_str_c(gone)))
        s.len -= strlen(gone);
    return sb_arena_cstr(a, s);
}

static size_t count(const char *const *env)
{
    size_t n = 0;

    while (env[n])
        n++;
    return n;
}

static bool is_internal(const char *entry)
{
    return strncmp(entry, SB_RELOAD_ENV, strlen(SB_RELOAD_ENV)) == 0 ||
           strncmp(entry, SB_CHANNEL_VAR "=", strlen(SB_CHANNEL_VAR "=")) == 0;
}

struct sb_recipe *sb_recipe_new(const struct sb_options *options, const char *prefix,
                                const char *conf, const char *const *env)
{
    struct sb_recipe *r = sb_xcalloc(1, sizeof *r);
    size_t n = 0;

    r->arena = sb_arena_new(0);
    r->options = *options;
    r->options.conf = copy(r->arena, conf);
    r->prefix = copy(r->arena, prefix);
    r->program = own_path(r->arena);
    r->env = SB_NEW_N(r->arena, const char *, count(env) + 1);
    for (; *env; env++)
        if (!is_internal(*env))
            r->env[n++] = sb_arena_cstr(r->arena, sb_str_c(*env));
    return r;
}

/* Whether env sets the same variable as this SB_RELOAD_KONG_X=... */
static bool is_replaced(const char *entry, const char *const *env)
{
    const char *name = entry + strlen(SB_RELOAD_ENV);
    size_t len = strcspn(name, "=") + 1;

    for (; *env; env++)
        if (strncmp(*env, name, len) == 0)
            return true;
    return false;
}

struct sb_recipe *sb_recipe_reload(const struct sb_recipe *base, const char *conf,
                                   const char *const *env)
{
    struct sb_recipe *r = sb_xcalloc(1, sizeof *r);
    size_t n = 0;

    *r = *base;
    r->arena = sb_arena_new(0);
    r->options.conf = copy(r->arena, base->options.conf);
    r->prefix = copy(r->arena, base->prefix);
    r->program = copy(r->arena, base->program);
    r->reload_conf = copy(r->arena, conf ? conf : base->reload_conf);
    r->env = SB_NEW_N(r->arena, const char *, count(base->env) + count(env) + 1);
    for (const char **e = base->env; *e; e++)
        if (!is_internal(*e) || !is_replaced(*e, env))
            r->env[n++] = sb_arena_cstr(r->arena, sb_str_c(*e));
    for (; *env; env++)
        if (strncmp(*env, "KONG_", 5) == 0)
            r->env[n++] = sb_arena_printf(r->arena, SB_RELOAD_ENV "%s", *env).p;
    return r;
}

void sb_recipe_free(struct sb_recipe *r)
{
    if (!r)
        return;
    sb_arena_free(r->arena);
    free(r);
}

/* -- starting --------------------------------------------------------------------------------- */

enum { ARGS_MAX = 16 };

static const char **arguments(const struct sb_recipe *r, struct sb_arena *a)
{
    const struct sb_options *o = &r->options;
    const char **args = SB_NEW_N(a, const char *, ARGS_MAX);
    size_t n = 0;

    args[n++] = r->program;
    args[n++] = "serve";
    args[n++] = "-p";
    args[n++] = r->prefix;
    if (o->conf) {
        args[n++] = "-c";
        args[n++] = o->conf;
    }
    if (o->db_timeout_s > 0) {
        args[n++] = "--db-timeout";
        args[n++] = sb_arena_printf(a, "%g", o->db_timeout_s).p;
    }
    if (o->verbose || o->debug)
        args[n++] = o->debug ? "--vv" : "--v";
    return args;
}

static const char **environment(const struct sb_recipe *r, struct sb_arena *a, int channel)
{
    size_t n = count(r->env);
    const char **env = SB_NEW_N(a, const char *, n + 3);

    memcpy(env, r->env, n * sizeof *env);
    env[n++] = sb_arena_printf(a, SB_CHANNEL_VAR "=%d", channel).p;
    if (r->reload_conf)
        env[n++] = sb_arena_printf(a, SB_RELOAD_CONF_VAR "=%s", r->reload_conf).p;
    return env;
}

/* exec does not write to its arguments, but its prototype is older than const. */
static void become(const char *program, const char *const *args, const char *const *env)
{
    union {
        const char *const *in;
        char *const *out;
    } a = {args}, e = {env};

    execve(program, a.out, e.out);
}

pid_t sb_recipe_spawn(const struct sb_recipe *r, int channel)
{
    struct sb_arena *a = sb_arena_new(0);
    const char **args = arguments(r, a), **env = environment(r, a, channel);
    pid_t parent = getpid(), child = fork();

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fcntl(channel, F_SETFD, 0);
        if (getppid() == parent)
            become(r->program, args, env);
        _exit(127);
    }
    sb_arena_free(a);
    return child;
}
