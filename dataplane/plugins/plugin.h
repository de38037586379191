/* plugin.h - what a plugin is: a name, a priority, a compiler of its config, a function per phase.
 *
 *     plugins row --schema--> config (complete value) --compile--> const void * --hooks--> exchange
 *
 * What lies here is the framework. The plugins are in the folders: auth/ finds out who it is,
 * traffic/ lets through or refuses and counts, transform/ rewrites, lua/ runs scripts; and
 * credentials/ is what they look up in the database, and its cache.
 *
 * A plugin is one file, FOLDER/NAME.c, that defines `const struct sb_plugin sb_plugin_NAME`, and
 * one line in registry.c. What its config may hold is not said here: the field table of the schema
 * (schema/plugins.h) has checked it and filled in every default before the plugin sees it.
 *
 * compile runs on the config thread, once for each row that changed. Its result is immutable, is
 * read by all workers at once, and lives as long as a snapshot that has it. All that a request may
 * need is made there (sets, patterns, parsed addresses): the phases neither parse config nor
 * allocate for it. The phases run on the exchange's worker (rules in phase.h).
 *
 * Facts about each plugin: reference/plugins*.md and plugins.json.
 */
#ifndef SB_DATAPLANE_PLUGINS_PLUGIN_H
#define SB_DATAPLANE_PLUGINS_PLUGIN_H

#include "dataplane/plugins/phase.h"
#include "shared/arena.h"
#include "shared/err.h"
#include "shared/value.h"

struct sb_settings;

/* A row of `plugins` in its compiled form. ids are "" where the row is not scoped so. */
struct sb_plugin_instance {
    const struct sb_plugin *plugin;
    const void *config; /* what compile made */
    struct sb_str id, instance_name;
    struct sb_str route_id, service_id, consumer_id;
    bool refused;        /* can't run: requests that it is for are answered 503 (chain.h) */
    bool whole_response; /* what whole_response() said */
};

/* What compile works from. */
struct sb_plugin_source {
    const struct sb_value *config;             /* complete; references to secrets are resolved */
    const struct sb_plugin_instance *instance; /* without config; lives as long as the result */
    const struct sb_settings *settings;        /* of the process; never NULL */
    struct sb_arena *arena;                    /* for the result; sb_arena_defer() for the rest */
};

struct sb_plugin {
    const char *name;
    int priority;        /* runs before what has less; equal: the greater name first */
    const char *version; /* as the Admin API tells it; NULL: that of Kong's bundled plugins */

    /* The config that the phases get. NULL: they get the struct sb_plugin_source's config, copied.
     * SB_INVALID and words: the row is left out and reported (chain.h says what then becomes of
     * the routes that it was for). config's strings may be kept only by copying them. */
    enum sb_rc (*compile)(const struct sb_plugin_source *in, const void **out, struct sb_err *err);

    /* A function per phase; NULL: nothing to do there. rewrite runs for global instances only. */
    enum sb_rc (*rewrite)(struct sb_exchange *x, const void *config);
    enum sb_rc (*access)(struct sb_exchange *x, const void *config);
    enum sb_rc (*header_filter)(struct sb_exchange *x, const void *config);
    enum sb_rc (*body_filter)(struct sb_exchange *x, const void *config, struct sb_chunk *c);
    enum sb_rc (*log)(struct sb_exchange *x, const void *config);

    /* Whether body_filter wants the response's body in one piece, and header_filter to run when it
     * is there (Kong's `response` phase). NULL: no. Asked once, when the config is compiled. */
    bool (*whole_response)(const void *config);

    /* State of a worker's own: connections, counters, queues. Made before the worker takes its
     * first connection, freed after its last exchange; see sb_exchange_worker_state(). NULL: none.
     * settings outlive it. */
    void *(*worker_new)(struct event_base *loop, const struct sb_settings *settings);
    void (*worker_free)(void *state);
};

/* -- the registry -- */

/* The plugin that is built in, or was loaded; NULL: there is none of that name here. */
const struct sb_plugin *sb_plugin_find(struct sb_str name);
/* All of them, in the order in which they run (priority, then name, both descending). Ends with
 * NULL. */
const struct sb_plugin *const *sb_plugins_all(void);
/* The order in which two plugins run: < 0 when a runs first. */
int sb_plugin_order(const struct sb_plugin *a, const struct sb_plugin *b);

/* -- what plugins use beside phase.h -- */

/* What worker_new made for the worker that the exchange is on; NULL: it has none. */
void *sb_exchange_worker_state(struct sb_exchange *x, const struct sb_plugin *plugin);

#endif
