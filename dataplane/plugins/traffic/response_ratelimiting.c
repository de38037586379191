/* response_ratelimiting.c - limits on what upstreams announce (reference/plugins-traffic.md).
 *
 *     access          what is used, for all names; the smallest rest of each goes to the upstream
 *     header_filter   X-Kong-Limit: video=2, image=1   the upstream's word on this request
 *     log             it is counted, in all windows
 *
 * The announcement that passes the limit passes, the next one is refused: for what it costs is only
 * known when it is done. Only the first line of the header counts.
 *
 * Other than Kong 3.9.1 the upstream is told what remains, as it was before and is documented; and
 * clients don't hear of it where hide_client_headers says so.
 */
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/traffic/rate_counters.h"
#include "shared/clock.h"

struct config {
    struct sb_count_set set;
    struct sb_count_item *items;
    struct sb_str *remaining_names; /* of headers, per item; p NULL: it can't be told in one */
    enum sb_limit_by by;
    struct sb_str header;
    bool fault_tolerant, hide_headers, block_on_first;
};

/* What this request announced, per item. */
struct state {
    struct sb_tally tally;
    bool known; /* what was used; not of who is refused in access */
    bool refused;
    int64_t *announced;
};

static bool is_token(struct sb_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!memchr("-_.", s.p[i], 3) && (s.p[i] < '0' || s.p[i] > '9') &&
            ((s.p[i] | 0x20) < 'a' || (s.p[i] | 0x20) > 'z'))
            return false;
    return true;
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    const struct sb_value *v = in->config, *limits = sb_get(v, "limits");
    size_t n = sb_is(limits, SB_V_OBJECT) ? limits->count : 0, i = 0;
    const struct sb_member *m;

    c->items = SB_NEW_N(in->arena, struct sb_count_item, n);
    c->remaining_names = SB_NEW_N(in->arena, struct sb_str, n);
    sb_object_each (m, limits) {
        c->items[i].name = sb_arena_str(in->arena, m->key);
        (void)sb_count_limits(m->value, &c->items[i]);
        if (is_token(m->key))
            c->remaining_names[i] =
                sb_arena_printf(in->arena, "X-RateLimit-Remaining-%.*s", SB_ARG(m->key));
        i++;
    }
    c->by = sb_limit_by(sb_value_str_at(v, "limit_by"));
    c->header = sb_arena_str(in->arena, sb_value_str_at(v, "header_name"));
    c->fault_tolerant = sb_value_bool_at(v, "fault_tolerant", true);
    c->hide_headers = sb_value_bool_at(v, "hide_client_headers", false);
    c->block_on_first = sb_value_bool_at(v, "block_on_first_violation", false);
    *out = c;
    return sb_count_set_compile(in, true, c->items, n, &c->set, err);
}

/* -- access -------------------------------------------------------------------------------------
 */

static double left_of(const struct state *s, size_t item, int p)
{
    return s->tally.set->items[item].limit[p] - (double)s->tally.used[item][p];
}

/* The smallest rest of its windows. True: one of them is used up exactly. */
static bool smallest(const struct state *s, size_t item, double *least)
{
    const struct sb_count_item *it = &s->tally.set->items[item];
    bool any = false, empty = false;

    for (int p = 0; p < SB_PERIODS; p++) {
        double left = it->limited[p] ? left_of(s, item, p) : 0;

        if (!it->limited[p])
            continue;
        empty |= left == 0;
        *least = !any || left < *least ? left : *least;
        any = true;
    }
    return empty;
}

/* Refuses, or tells what remains. */
static void begin(struct sb_exchange *x, const struct config *c, struct state *s)
{
    struct sb_arena *a = sb_exchange_arena(x);
    double least = 0;

    for (size_t i = 0; i < c->set.nitems; i++) {
        bool empty = smallest(s, i, &least);
        struct sb_str text = sb_count_text(a, least);

        if (empty && c->block_on_first) {
            sb_exchange_answer_error(
                x, 429,
                sb_arena_printf(a, "API rate limit exceeded for '%.*s'", SB_ARG(c->items[i].name)));
            return;
        }
        if (!c->remaining_names[i].p)
            continue;
        sb_exchange_set_upstream_header(x, c->remaining_names[i], text);
        if (!c->hide_headers)
            sb_exchange_set_response_header(x, c->remaining_names[i], text);
    }
    s->known = true;
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct state *s = sb_exchange_state(x, c, sizeof *s);
    enum sb_rc rc;

    if (!s->tally.set) {
        s->tally.set = &c->set;
        s->tally.identifier = sb_limit_identifier(x, c->by, SB_STR(""));
        s->tally.now_s = sb_wall_ms() / 1000;
    }
    rc = sb_tally_read(x, &s->tally);
    if (rc == SB_AGAIN)
        return rc;
    if (!rc)
        begin(x, c, s);
    else if (!c->fault_tolerant)
        sb_exchange_answer_error(x, 500, SB_STR(""));
    return SB_OK;
}

/* -- header_filter ------------------------------------------------------------------------------
 */

static void announce(struct state *s, struct sb_str item)
{
    ptrdiff_t equals = sb_str_chr(item, '=', 0);
    struct sb_str name = sb_str_trim(sb_str_first(item, (size_t)equals)), number;
    int64_t value;

    if (equals < 0)
        return;
    number = sb_str_trim(sb_str_from(item, (size_t)equals + 1));
    for (size_t i = 0; i < s->tally.set->nitems; i++)
        if (sb_str_eq(name, s->tally.set->items[i].name))
            s->announced[i] =
                sb_str_int(number, &value) && value >= INT32_MIN && value <= INT32_MAX ? value : 0;
}

static bool first_line(void *arg, struct sb_str value)
{
    struct sb_str item;

    while (sb_str_split(&value, ',', &item))
        announce(arg, item);
    return false;
}

static void tell(struct sb_exchange *x, const struct config *c, const struct state *s, size_t item)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_str name = c->items[item].name;

    for (int p = 0; p < SB_PERIODS; p++) {
        double left = left_of(s, item, p) - (double)s->announced[item];

        if (!c->items[item].limited[p])
            continue;
        sb_exchange_set_response_header(
            x,
            sb_arena_printf(a, "X-RateLimit-Limit-%.*s-%s", SB_ARG(name), sb_period_rows[p].name),
            sb_count_text(a, c->items[item].limit[p]));
        sb_exchange_set_response_header(x,
                                        sb_arena_printf(a, "X-RateLimit-Remaining-%.*s-%s",
                                                        SB_ARG(name), sb_period_rows[p].name),
                                        sb_count_text(a, left > 0 ? left : 0));
    }
}

static bool exceeds(const struct state *s, size_t item)
{
    enum sb_period which;

    return s->announced[item] > 0 &&
           sb_tally_full(&s->tally.set->items[item], s->tally.used[item], &which);
}

static enum sb_rc header_filter(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct state *s = sb_exchange_state(x, c, sizeof *s);
    struct sb_str type;

    if (!s->known)
        return SB_OK;
    s->announced = sb_arena_zero(sb_exchange_arena(x), c->set.nitems * sizeof *s->announced);
    sb_exchange_each_response_header(x, c->header, first_line, s);
    for (size_t i = 0; i < c->set.nitems; i++) {
        if (!c->hide_headers && c->remaining_names[i].p)
            tell(x, c, s, i);
        s->refused |= exceeds(s, i);
    }
    sb_exchange_set_response_header(x, c->header, (struct sb_str){0});
    if (!s->refused)
        return SB_OK;
    type = sb_exchange_response_header(x, SB_STR("Content-Type"));
    sb_exchange_answer(x, 429, type, SB_STR(""), NULL, 0);
    return SB_OK;
}

/* -- log ----------------------------------------------------------------------------------------
 */

static enum sb_rc log_phase(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct state *s = sb_exchange_state(x, c, sizeof *s);

    for (size_t i = 0; s->announced && !s->refused && i < c->set.nitems; i++)
        if (s->announced[i])
            sb_tally_add(x, &s->tally, i, s->announced[i]);
    return SB_OK;
}

const struct sb_plugin sb_plugin_response_ratelimiting = {
    .name = "response-ratelimiting",
    .priority = 900,
    .compile = compile,
    .access = access,
    .header_filter = header_filter,
    .log = log_phase,
};
