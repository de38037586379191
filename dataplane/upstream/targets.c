#include "dataplane/upstream/targets.h"

/* What was known of a target's name when the set was built. */
struct sb_target_names {
    bool is_name;
    enum sb_rc rc;
    enum sb_dns_type type;
    uint64_t generation; /* 0: nothing was known */
};

static void add(struct sb_targets *t, struct sb_arena *a, const struct sb_target_address *address)
{
    struct sb_target_address *to = &t->addresses[t->naddresses++];
    char text[SB_ADDRESS_TEXT];

    *to = *address;
    sb_address_set_port(&to->addr, to->port);
    if (!to->text.p)
        to->text = sb_arena_str(a, sb_str_c(sb_address_text(&to->addr, text)));
    t->total_weight += to->weight;
}

/* A record of a name's answer. How the ring calls it must not differ between nodes: an SRV record
 * is its name, as in Kong, unless that stands for several addresses. */
static void add_record(struct sb_targets *t, struct sb_arena *a, const struct sb_target *target,
                       const struct sb_resolved_record *record, bool use_srv_name)
{
    struct sb_target_address address = {
        .addr = record->addr, .target = target, .name = target->host, .port = target->port};

    address.weight = target->weight > 0 ? (unsigned)target->weight : 0;
    if (record->srv.len) {
        address.port = record->port ? record->port : target->port;
        address.weight = address.weight ? record->weight : 0;
        if (use_srv_name)
            address.name = sb_arena_str(a, record->srv);
        if (record->alone)
            address.text = sb_arena_str(a, record->srv);
    }
    add(t, a, &address);
}

static size_t ask(struct sb_targets *t, struct sb_resolver *r, size_t i, struct sb_resolved *out)
{
    struct sb_target_names *n = &t->names[i];
    union sb_sockaddr one;

    n->is_name = !sb_address_parse(t->targets[i].host, 0, &one);
    if (!n->is_name) {
        n->type = one.sa.sa_family == AF_INET6 ? SB_DNS_AAAA : SB_DNS_A;
        return 1;
    }
    t->has_names = true;
    *n = (struct sb_target_names){.is_name = true};
    n->rc = sb_resolver_get(r, t->targets[i].host, NULL, out);
    if (n->rc)
        return 0;
    n->generation = out->generation;
    n->type = out->type;
    return out->n;
}

static void add_target(struct sb_targets *t, struct sb_arena *a, struct sb_resolver *r, size_t i,
                       const struct sb_upstream *up, size_t room)
{
    const struct sb_target *target = &t->targets[i];
    struct sb_resolved found;
    size_t n = ask(t, r, i, &found);

    if (!t->names[i].is_name) {
        struct sb_target_address address = {.target = target,
                                            .name = target->host,
                                            .is_ip = true,
                                            .port = target->port,
                                            .weight =
                                                target->weight > 0 ? (unsigned)target->weight : 0};

        (void)sb_address_parse(target->host, target->port, &address.addr);
        if (t->naddresses < room)
            add(t, a, &address);
        return;
    }
    for (size_t k = 0; k < n && t->naddresses < room; k++)
        add_record(t, a, target, &found.records[k], up->use_srv_name);
}

void sb_targets_build(struct sb_targets *t, struct sb_arena *a, struct sb_resolver *r,
                      const struct sb_upstream *up)
{
    struct sb_resolved found;
    size_t room = 0;

    *t = (struct sb_targets){.ntargets = up->ntargets};
    t->targets = SB_NEW_N(a, struct sb_target, up->ntargets + 1);
    t->names = SB_NEW_N(a, struct sb_target_names, up->ntargets + 1);
    for (size_t i = 0; i < up->ntargets; i++) {
        t->targets[i] = up->targets[i];
        t->targets[i].host = sb_arena_str(a, up->targets[i].host);
        t->targets[i].target = sb_arena_str(a, up->targets[i].target);
        room += ask(t, r, i, &found);
    }
    t->addresses = SB_NEW_N(a, struct sb_target_address, room + 1);
    for (size_t i = 0; i < t->ntargets; i++)
        add_target(t, a, r, i, up, room);
}

bool sb_targets_changed(const struct sb_targets *t, struct sb_resolver *r)
{
    bool changed = false;

    for (size_t i = 0; t->has_names && i < t->ntargets; i++) {
        struct sb_resolved found = {0};

        if (!t->names[i].is_name)
            continue;
        if (sb_resolver_get(r, t->targets[i].host, NULL, &found))
            found.generation = 0;
        changed |= found.generation != t->names[i].generation;
    }
    return changed;
}

enum sb_rc sb_targets_wait(const struct sb_targets *t, struct sb_resolver *r,
                           struct sb_waiter *waiter)
{
    struct sb_resolved found;

    for (size_t i = 0; t->has_names && i < t->ntargets; i++)
        if (t->names[i].is_name && t->targets[i].weight > 0 &&
            sb_resolver_get(r, t->targets[i].host, waiter, &found) == SB_AGAIN)
            return SB_AGAIN;
    return SB_NOTFOUND;
}

const char *sb_targets_source(const struct sb_targets *t, size_t i)
{
    const struct sb_target_names *n = &t->names[i];

    if (n->rc == SB_NOTFOUND)
        return "dns server error: 3 name error";
    if (n->rc)
        return "dns server error: 2 server failure";
    return n->type == SB_DNS_SRV ? "SRV" : n->type == SB_DNS_AAAA ? "AAAA" : "A";
}
