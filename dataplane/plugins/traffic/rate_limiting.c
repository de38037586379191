/* rate_limiting.c - so many requests a second, minute ... year (reference/plugins-traffic.md).
 *
 * What is counted, and where, is rate_counters.h's. Here: what clients are told.
 *
 *     X-RateLimit-Limit-Minute, X-RateLimit-Remaining-Minute ...    each window that has a limit
 *     RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset         the window with the least left
 *     Retry-After                                                   of those who are refused
 */
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/traffic/rate_counters.h"
#include "shared/clock.h"

struct config {
    struct sb_count_set set;
    struct sb_count_item item;
    enum sb_limit_by by;
    struct sb_str key; /* of by: the header's name, or the path */
    bool fault_tolerant, hide_headers;
    int error_code;
    struct sb_str error_message;
    struct sb_str limit_text[SB_PERIODS];
};

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    const struct sb_value *v = in->config;

    c->by = sb_limit_by(sb_value_str_at(v, "limit_by"));
    c->key =
        sb_arena_str(in->arena, sb_value_str_at(v, c->by == SB_BY_PATH ? "path" : "header_name"));
    c->fault_tolerant = sb_value_bool_at(v, "fault_tolerant", true);
    c->hide_headers = sb_value_bool_at(v, "hide_client_headers", false);
    c->error_code = (int)sb_value_int_at(v, "error_code", 429);
    c->error_message = sb_arena_str(in->arena, sb_value_str_at(v, "error_message"));
    (void)sb_count_limits(v, &c->item);
    for (int p = 0; p < SB_PERIODS; p++)
        c->limit_text[p] = sb_count_text(in->arena, c->item.limit[p]);
    *out = c;
    return sb_count_set_compile(in, false, &c->item, 1, &c->set, err);
}

/* -- what clients are told ----------------------------------------------------------------------
 */

static const struct {
    struct sb_str limit, remaining;
} names[SB_PERIODS] = {
    {SB_STR_INIT("X-RateLimit-Limit-Second"), SB_STR_INIT("X-RateLimit-Remaining-Second")},
    {SB_STR_INIT("X-RateLimit-Limit-Minute"), SB_STR_INIT("X-RateLimit-Remaining-Minute")},
    {SB_STR_INIT("X-RateLimit-Limit-Hour"), SB_STR_INIT("X-RateLimit-Remaining-Hour")},
    {SB_STR_INIT("X-RateLimit-Limit-Day"), SB_STR_INIT("X-RateLimit-Remaining-Day")},
    {SB_STR_INIT("X-RateLimit-Limit-Month"), SB_STR_INIT("X-RateLimit-Remaining-Month")},
    {SB_STR_INIT("X-RateLimit-Limit-Year"), SB_STR_INIT("X-RateLimit-Remaining-Year")},
};

/* What is left as clients see it: without this request, unless another window refused it. */
static double shown(const struct config *c, const int64_t used[SB_PERIODS], int p, int stop)
{
    double left = c->item.limit[p] - (double)used[p];

    if (stop < 0 || stop == p)
        left -= 1;
    return left > 0 ? left : 0;
}

static int64_t seconds_left(enum sb_period p, int64_t now_s)
{
    int64_t left = sb_period_rows[p].len_s - (now_s - sb_window_start(p, now_s));

    return left > 1 ? left : 1;
}

/* stop: the window that refuses; -1: none. */
static void tell(struct sb_exchange *x, const struct config *c, const struct sb_tally *t, int stop)
{
    struct sb_arena *a = sb_exchange_arena(x);
    double left, least = 0;
    struct sb_str text, reset;
    int which = -1;

    for (int p = 0; p < SB_PERIODS; p++) {
        if (!c->item.limited[p])
            continue;
        left = shown(c, t->used[0], p, stop);
        if (which < 0 || left <= least) { /* of equal ones the longest */
            least = left;
            which = p;
        }
        sb_exchange_set_response_header(x, names[p].limit, c->limit_text[p]);
        sb_exchange_set_response_header(x, names[p].remaining, sb_count_text(a, left));
    }
    if (which < 0)
        return;
    text = sb_count_text(a, least);
    reset = sb_count_text(a, (double)seconds_left((enum sb_period)which, t->now_s));
    sb_exchange_set_response_header(x, SB_STR("RateLimit-Limit"), c->limit_text[which]);
    sb_exchange_set_response_header(x, SB_STR("RateLimit-Remaining"), text);
    sb_exchange_set_response_header(x, SB_STR("RateLimit-Reset"), reset);
    if (stop >= 0)
        sb_exchange_set_response_header(x, SB_STR("Retry-After"), reset);
}

/* -- the phase ----------------------------------------------------------------------------------
 */

static enum sb_rc refuse(struct sb_exchange *x, const struct config *c)
{
    if (c->error_code < 400) /* Kong can't answer so, and it is a 500 */
        sb_exchange_answer_error(x, 500, SB_STR(""));
    else
        sb_exchange_answer_error(x, c->error_code, c->error_message);
    return SB_OK;
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct sb_tally *t = sb_exchange_state(x, c, sizeof *t);
    enum sb_period stop = 0;
    enum sb_rc rc;

    if (!t->set) {
        t->set = &c->set;
        t->identifier = sb_limit_identifier(x, c->by, c->key);
        t->now_s = sb_wall_ms() / 1000;
    }
    rc = sb_tally_take(x, t);
    if (rc == SB_AGAIN)
        return rc;
    if (rc) {
        if (c->fault_tolerant)
            sb_tally_count(x, t);
        else
            sb_exchange_answer_error(x, 500, SB_STR(""));
        return SB_OK;
    }
    if (!t->taken)
        (void)sb_tally_full(&c->item, t->used[0], &stop);
    if (!c->hide_headers)
        tell(x, c, t, t->taken ? -1 : (int)stop);
    return t->taken ? SB_OK : refuse(x, c);
}

const struct sb_plugin sb_plugin_rate_limiting = {
    .name = "rate-limiting",
    .priority = 910,
    .compile = compile,
    .access = access,
    .worker_new = sb_counting_new,
    .worker_free = sb_counting_free,
};
