/* health_view.c - what the Admin API shows of an upstream's health. */
#include "dataplane/upstream/health_view.h"

static bool is_fit(struct sb_health_upstream *health, const struct sb_target_address *a)
{
    struct sb_health_address *record;
    bool fit;

    if (!health || !a->weight)
        return true;
    record = sb_health_enter(health, a->target->target, &a->addr);
    fit = !sb_health_is_down(record);
    sb_health_leave(record);
    return fit;
}

/* Addresses follow each other in the order of targets: *at is the first of this one. */
static void view_target(struct sb_arena *a, const struct sb_targets *t, size_t i, size_t *at,
                        struct sb_health_upstream *health, struct sb_health_view_target *out)
{
    const struct sb_target *target = &t->targets[i];
    struct sb_health_view_address *list =
        SB_NEW_N(a, struct sb_health_view_address, t->naddresses - *at + 1);

    *out = (struct sb_health_view_target){.target = target->target,
                                          .host = target->host,
                                          .port = target->port,
                                          .weight = target->weight,
                                          .dns = sb_targets_source(t, i),
                                          .addresses = list};
    for (; *at < t->naddresses && t->addresses[*at].target == target; (*at)++) {
        const struct sb_target_address *from = &t->addresses[*at];
        struct sb_health_view_address *to = &list[out->naddresses++];
        char text[SB_ADDRESS_TEXT];

        to->ip = sb_arena_str(a, sb_str_c(sb_address_text(&from->addr, text)));
        to->port = from->port;
        to->weight = from->weight;
        to->healthy = is_fit(health, from);
        out->total += from->weight;
        out->unavailable += to->healthy ? 0 : from->weight;
    }
}

void sb_health_view_fill(struct sb_arena *a, const struct sb_targets *t,
                         const struct sb_health_checks *checks, struct sb_health_upstream *health,
                         struct sb_health_view *out)
{
    struct sb_health_view_target *list = SB_NEW_N(a, struct sb_health_view_target, t->ntargets + 1);
    size_t at = 0;

    *out = (struct sb_health_view){.checked = checks->on, .targets = list, .ntargets = t->ntargets};
    for (size_t i = 0; i < t->ntargets; i++) {
        view_target(a, t, i, &at, health, &list[i]);
        out->total += list[i].total;
        out->unavailable += list[i].unavailable;
    }
    out->healthy = sb_health_enough(checks, out->total, out->unavailable);
}
