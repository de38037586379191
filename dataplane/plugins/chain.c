#include "dataplane/plugins/chain.h"

#include <stdlib.h>

/* route+service+consumer, route+consumer, service+consumer, route+service, consumer, route,
 * service, global. */
int sb_plugin_rank(const struct sb_plugin_instance *in)
{
    static const int ranks[2][2][2] = {
        /* [consumer][route][service] */
        {{0, 1}, {2, 4}},
        {{3, 5}, {6, 7}},
    };

    return ranks[in->consumer_id.len > 0][in->route_id.len > 0][in->service_id.len > 0];
}

bool sb_plugin_fits(const struct sb_plugin_instance *in, struct sb_str route_id,
                    struct sb_str service_id)
{
    return (in->route_id.len == 0 || sb_str_eq(in->route_id, route_id)) &&
           (in->service_id.len == 0 || sb_str_eq(in->service_id, service_id));
}

/* By plugin as they run, then the closest first; the id settles what no one should have stored. */
static int in_order(const void *pa, const void *pb)
{
    const struct sb_plugin_instance *a = *(const struct sb_plugin_instance *const *)pa;
    const struct sb_plugin_instance *b = *(const struct sb_plugin_instance *const *)pb;
    int c = a->plugin == b->plugin ? 0 : sb_plugin_order(a->plugin, b->plugin);

    if (c == 0)
        c = sb_plugin_rank(b) - sb_plugin_rank(a);
    return c ? c : sb_str_cmp(a->id, b->id);
}

static void sort(const struct sb_plugin_instance **instances, size_t n)
{
    if (n > 1)
        qsort(instances, n, sizeof *instances, in_order);
}

/* -- consumers -- */

const struct sb_consumer_plugins *
sb_consumer_plugins_build(struct sb_arena *a, struct sb_str consumer_id,
                          const struct sb_plugin_instance **instances, size_t n)
{
    struct sb_consumer_plugins *of = SB_NEW(a, struct sb_consumer_plugins);
    const struct sb_plugin_instance **copy = SB_NEW_N(a, const struct sb_plugin_instance *, n);

    sort(instances, n);
    memcpy(copy, instances, n * sizeof *copy);
    of->consumer_id = sb_arena_str(a, consumer_id);
    of->instances = copy;
    of->count = n;
    return of;
}

const struct sb_plugin_instance *sb_chain_choose(const struct sb_hook *row,
                                                 const struct sb_consumer_plugins *of,
                                                 struct sb_str route_id, struct sb_str service_id)
{
    for (size_t i = 0; of && i < of->count; i++) {
        const struct sb_plugin_instance *in = of->instances[i];

        if (in->plugin != row->plugin || !sb_plugin_fits(in, route_id, service_id))
            continue;
        if (row->instance && sb_plugin_rank(row->instance) > sb_plugin_rank(in))
            break; /* route and service together are closer than a consumer alone */
        return in;
    }
    return row->instance;
}

/* -- chains -- */

enum sb_rc sb_plugin_refuse(struct sb_exchange *x, const void *config)
{
    (void)config; /* why is in the log and in the status, and no one else's business */
    sb_exchange_answer_error(x, 503, SB_STR("a plugin of this route is not available"));
    return SB_OK;
}

/* A plugin without anything to do in access still has its instance chosen there. */
static enum sb_rc nothing(struct sb_exchange *x, const void *config)
{
    (void)x;
    (void)config;
    return SB_OK;
}

/* A row as it is in one phase; false: it is not in that phase. */
static bool in_phase(struct sb_hook *h, enum sb_phase phase)
{
    const struct sb_plugin *p = h->plugin;

    h->run = NULL;
    h->filter = NULL;
    if (!h->slot && h->instance->refused) {
        h->run = phase == SB_PHASE_ACCESS ? sb_plugin_refuse : NULL;
        return h->run != NULL;
    }
    switch (phase) {
    case SB_PHASE_REWRITE: /* global instances only, before anyone is known */
        h->run = h->instance && !h->instance->refused ? p->rewrite : NULL;
        h->slot = 0;
        break;
    case SB_PHASE_ACCESS:
        h->run = h->slot && !p->access ? nothing : p->access;
        break;
    case SB_PHASE_HEADER_FILTER:
        h->run = p->header_filter;
        break;
    case SB_PHASE_BODY_FILTER:
        h->filter = p->body_filter;
        break;
    default:
        h->run = p->log;
    }
    return h->run || h->filter;
}

static const struct sb_hook *phase_of(struct sb_arena *a, const struct sb_hook *rows, size_t n,
                                      enum sb_phase phase)
{
    struct sb_hook *hooks, row;
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += (row = rows[i], in_phase(&row, phase));
    if (count == 0)
        return NULL;
    hooks = SB_NEW_N(a, struct sb_hook, count + 1);
    count = 0;
    for (size_t i = 0; i < n; i++)
        count += (hooks[count] = rows[i], in_phase(&hooks[count], phase));
    hooks[count] = (struct sb_hook){0};
    return hooks;
}

static bool needs_slot(const struct sb_chain_source *source, const struct sb_plugin *plugin)
{
    for (size_t i = 0; i < source->nslots; i++)
        if (source->slots[i] == plugin)
            return true;
    return false;
}

/* A row per plugin from its instances, which lie side by side. */
static size_t rows_of_instances(const struct sb_chain_source *source, struct sb_hook *rows)
{
    size_t n = 0;

    for (size_t i = 0; i < source->ninstances; i++) {
        const struct sb_plugin_instance *in = source->instances[i];

        if (n == 0 || rows[n - 1].plugin != in->plugin)
            rows[n++] =
                (struct sb_hook){.plugin = in->plugin, .slot = needs_slot(source, in->plugin)};
        if (in->consumer_id.len)
            rows[n - 1].slot = 1;
        else if (!rows[n - 1].instance)
            rows[n - 1].instance = in;
    }
    return n;
}

/* And one for each plugin that has instances for consumers only. */
static size_t rows_of_slots(const struct sb_chain_source *source, struct sb_hook *rows, size_t n)
{
    size_t had = n;

    for (size_t s = 0; s < source->nslots; s++) {
        bool there = false;

        for (size_t i = 0; i < had && !there; i++)
            there = rows[i].plugin == source->slots[s];
        if (!there)
            rows[n++] = (struct sb_hook){.plugin = source->slots[s], .slot = 1};
    }
    return n;
}

static int rows_in_order(const void *pa, const void *pb)
{
    const struct sb_hook *a = pa, *b = pb;

    return sb_plugin_order(a->plugin, b->plugin);
}

const struct sb_hooks *sb_chain_build(struct sb_arena *a, const struct sb_chain_source *source)
{
    size_t max = source->ninstances + source->nslots, n;
    struct sb_hooks *hooks;
    struct sb_hook *rows;

    if (max == 0)
        return NULL;
    hooks = SB_NEW(a, struct sb_hooks);
    rows = sb_xcalloc(max, sizeof *rows);
    sort(source->instances, source->ninstances);
    n = rows_of_slots(source, rows, rows_of_instances(source, rows));
    qsort(rows, n, sizeof *rows, rows_in_order);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].slot)
            rows[i].slot = ++hooks->slots;
        if (!rows[i].instance)
            continue;
        rows[i].config = rows[i].instance->config;
        hooks->response_buffered |= !rows[i].slot && rows[i].instance->whole_response;
    }
    for (int phase = 0; phase < SB_PHASES; phase++)
        hooks->phase[phase] = phase_of(a, rows, n, (enum sb_phase)phase);
    free(rows);
    return hooks;
}
