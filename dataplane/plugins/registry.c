/* registry.c - the plugins there are.
 *
 * A plugin that is built in is one line of the table. Those that come from shared objects are added
 * once, at the start, before any thread reads.
 */
#include <stdlib.h>

#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/lua/state.h"
#include "dataplane/plugins/registry.h"

/* In order of names. */
static const struct sb_plugin *const built_in[] = {
    &sb_plugin_acl,
    &sb_plugin_basic_auth,
    &sb_plugin_bot_detection,
    &sb_plugin_correlation_id,
    &sb_plugin_cors,
    &sb_plugin_hmac_auth,
    &sb_plugin_ip_restriction,
    &sb_plugin_jwt,
    &sb_plugin_key_auth,
    &sb_plugin_ldap_auth,
    &sb_plugin_oauth2,
    &sb_plugin_post_function,
    &sb_plugin_pre_function,
    &sb_plugin_rate_limiting,
    &sb_plugin_redirect,
    &sb_plugin_request_size_limiting,
    &sb_plugin_request_termination,
    &sb_plugin_request_transformer,
    &sb_plugin_response_ratelimiting,
    &sb_plugin_response_transformer,
    &sb_plugin_session,
};

enum { BUILT_IN = sizeof built_in / sizeof *built_in };

static const struct sb_plugin *all[BUILT_IN + SB_PLUGINS_LOADED_MAX + 1];
static size_t count;

int sb_plugin_order(const struct sb_plugin *a, const struct sb_plugin *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority ? -1 : 1;
    return -strcmp(a->name, b->name);
}

static int in_order(const void *a, const void *b)
{
    return sb_plugin_order(*(const struct sb_plugin *const *)a,
                           *(const struct sb_plugin *const *)b);
}

/* Before main, so that no thread can be early. */
__attribute__((constructor)) static void sort_built_in(void)
{
    memcpy(all, built_in, sizeof built_in);
    count = BUILT_IN;
    qsort(all, count, sizeof *all, in_order);
}

enum sb_rc sb_plugins_add(const struct sb_plugin *plugin, struct sb_err *err)
{
    if (sb_plugin_find(sb_str_c(plugin->name)))
        return sb_err_set(err, SB_CONFLICT, "a plugin '%s' is there already", plugin->name);
    if (count == BUILT_IN + SB_PLUGINS_LOADED_MAX)
        return sb_err_set(err, SB_TOOLARGE, "more than %d plugins", SB_PLUGINS_LOADED_MAX);
    all[count++] = plugin;
    qsort(all, count, sizeof *all, in_order);
    return SB_OK;
}

const struct sb_plugin *sb_plugin_find(struct sb_str name)
{
    for (size_t i = 0; i < count; i++)
        if (sb_str_is(name, all[i]->name))
            return all[i];
    return NULL;
}

const struct sb_plugin *const *sb_plugins_all(void)
{
    return all;
}

/* -- states of workers -- */

struct sb_plugin_states {
    struct sb_lua *lua;
    size_t n;
    struct {
        const struct sb_plugin *plugin;
        void *state;
    } of[];
};

struct sb_plugin_states *sb_plugin_states_new(struct event_base *loop,
                                              const struct sb_settings *settings)
{
    struct sb_plugin_states *s = sb_xcalloc(1, sizeof *s + count * sizeof s->of[0]);

    s->lua = sb_lua_new(loop, settings);
    for (size_t i = 0; i < count; i++) {
        if (!all[i]->worker_new)
            continue;
        s->of[s->n].plugin = all[i];
        s->of[s->n++].state = all[i]->worker_new(loop, settings);
    }
    return s;
}

void sb_plugin_states_free(struct sb_plugin_states *s)
{
    for (size_t i = 0; s && i < s->n; i++)
        if (s->of[i].plugin->worker_free)
            s->of[i].plugin->worker_free(s->of[i].state);
    if (s)
        sb_lua_free(s->lua);
    free(s);
}

struct sb_lua *sb_plugin_states_lua(const struct sb_plugin_states *s)
{
    return s->lua;
}

void *sb_plugin_states_get(const struct sb_plugin_states *s, const struct sb_plugin *plugin)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->of[i].plugin == plugin)
            return s->of[i].state;
    return NULL;
}
