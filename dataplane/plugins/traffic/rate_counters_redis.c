#include "dataplane/plugins/traffic/rate_counters_redis.h"

#include <stdio.h>
#include <stdlib.h>

#include "dataplane/http/exchange.h"
#include "dataplane/listen/worker.h"
#include "dataplane/plugins/bundled.h"

enum { KEYS_MAX = SB_COUNT_ITEMS_MAX * SB_PERIODS, WORDS_MAX = KEYS_MAX + 2 * SB_PERIODS + 3 };

_Static_assert((int)KEYS_MAX <= (int)SB_REDIS_VALUES_MAX, "one reply has all counters");

/* Argument 2i-1: the limit of key i, 2i: its seconds. What was used before, of each. */
static const char take_script[] =
    "local used, free = {}, true "
    "for i, key in ipairs(KEYS) do"
    " used[i] = tonumber(redis.call('get', key) or 0)"
    " if used[i] >= tonumber(ARGV[2 * i - 1]) then free = false end "
    "end "
    "if free then for i, key in ipairs(KEYS) do"
    " if redis.call('incr', key) == 1 then redis.call('expire', key, ARGV[2 * i]) end "
    "end end "
    "return used";

/* Argument 1: what is added; i+1: the seconds of key i. */
static const char add_script[] = "for i, key in ipairs(KEYS) do"
                                 " local new = redis.call('exists', key) == 0"
                                 " redis.call('incrby', key, ARGV[1])"
                                 " if new then redis.call('expire', key, ARGV[i + 1]) end "
                                 "end "
                                 "return 0";

struct job {
    struct sb_tally_job base; /* first */
    struct sb_redis_task task;
    struct sb_counting *c;
    bool takes, reads;
};

static void free_job(struct sb_tally_job *base)
{
    free(base);
}

struct sb_redis *sb_counting_redis(struct sb_exchange *x, struct sb_counting *c)
{
    if (!c->redis)
        c->redis = sb_redis_new(c->loop, x->w->resolver);
    return c->redis;
}

struct sb_str sb_redis_key(struct sb_arena *a, const struct sb_tally *t, size_t item,
                           enum sb_period p)
{
    const struct sb_count_set *set = t->set;
    struct sb_str name = set->items[item].name;

    return sb_arena_printf(a, "%s:%.*s:%.*s:%.*s:%lld:%.*s%s%s",
                           set->announced ? "response-ratelimit" : "ratelimit",
                           SB_ARG(set->route_id), SB_ARG(set->service_id), SB_ARG(t->identifier),
                           (long long)sb_window_start(p, t->now_s) * 1000, SB_ARG(name),
                           set->announced ? ":" : "", sb_period_rows[p].name);
}

/* -- answers ------------------------------------------------------------------------------------
 */

static void fill(struct job *job, const struct sb_redis_reply *reply)
{
    struct sb_tally *t = job->base.tally;
    size_t n = 0;

    for (size_t i = 0; i < t->set->nitems; i++)
        for (int p = 0; p < SB_PERIODS; p++)
            if (t->set->items[i].limited[p] && n < reply->n)
                t->used[i][p] = reply->value[n++];
}

static void on_done(struct sb_redis_task *task, enum sb_rc rc, const struct sb_redis_reply *reply,
                    const struct sb_err *why)
{
    struct job *job = (struct job *)((char *)task - offsetof(struct job, task));
    enum sb_period full;

    if (rc)
        sb_counting_tell(job->c, "Redis", why->text);
    else if (job->base.x && job->reads)
        fill(job, reply);
    if (!rc && job->base.x && job->takes)
        job->base.tally->taken =
            !sb_tally_full(job->base.tally->set->items, job->base.tally->used[0], &full);
    sb_tally_job_end(&job->base, rc);
}

/* -- questions ----------------------------------------------------------------------------------
 */

struct command {
    struct sb_str words[WORDS_MAX];
    size_t n;
};

static void add_word(struct command *c, struct sb_str word)
{
    c->words[c->n++] = word;
}

static void add_number(struct command *c, struct sb_arena *a, long long number)
{
    add_word(c, sb_arena_printf(a, "%lld", number));
}

static void begin_script(struct command *c, struct sb_arena *a, struct sb_str script, int keys)
{
    add_word(c, SB_STR("EVAL"));
    add_word(c, script);
    add_number(c, a, keys);
}

/* x NULL: nobody waits; in_x: whose worker asks. */
static enum sb_rc ask(struct sb_exchange *in_x, const struct command *command,
                      struct sb_exchange *x, struct sb_tally *t,
                      const struct sb_redis_server *server, struct job like)
{
    struct sb_counting *c = sb_exchange_worker_state(in_x, &sb_plugin_rate_limiting);
    struct job *job = sb_xcalloc(1, sizeof *job);

    *job = like;
    job->c = c;
    job->base.free = free_job;
    job->task.done = on_done;
    if (sb_redis_send(sb_counting_redis(in_x, c), server, command->words, command->n, &job->task)) {
        sb_counting_tell(c, "Redis", "the server is down");
        free(job);
        return SB_UNAVAILABLE;
    }
    sb_tally_job_begin(&job->base, c, x, t);
    return SB_AGAIN;
}

static int count_limited(const struct sb_count_item *item)
{
    int n = 0;

    for (int p = 0; p < SB_PERIODS; p++)
        n += item->limited[p];
    return n;
}

enum sb_rc sb_redis_take(struct sb_exchange *x, struct sb_tally *t)
{
    struct sb_arena *a = sb_exchange_arena(x);
    const struct sb_count_item *item = t->set->items;
    struct command command; /* large, and not cleared */

    if (t->done)
        return t->rc;
    command.n = 0;
    begin_script(&command, a, sb_str_c(take_script), count_limited(item));
    for (int p = 0; p < SB_PERIODS; p++)
        if (item->limited[p])
            add_word(&command, sb_redis_key(a, t, 0, (enum sb_period)p));
    for (int p = 0; p < SB_PERIODS; p++)
        if (item->limited[p]) {
            add_word(&command, sb_count_text(a, item->limit[p]));
            add_number(&command, a, sb_period_rows[p].len_s);
        }
    return ask(x, &command, x, t, t->set->redis, (struct job){.takes = true, .reads = true});
}

enum sb_rc sb_redis_read(struct sb_exchange *x, struct sb_tally *t)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct command command;

    if (t->done)
        return t->rc;
    command.n = 0;
    add_word(&command, SB_STR("MGET"));
    for (size_t i = 0; i < t->set->nitems; i++)
        for (int p = 0; p < SB_PERIODS; p++)
            if (t->set->items[i].limited[p])
                add_word(&command, sb_redis_key(a, t, i, (enum sb_period)p));
    return ask(x, &command, x, t, t->set->redis, (struct job){.reads = true});
}

void sb_redis_add(struct sb_exchange *x, const struct sb_tally *t, size_t item, int64_t value)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct command command;

    command.n = 0;
    begin_script(&command, a, sb_str_c(add_script), SB_PERIODS);
    for (int p = 0; p < SB_PERIODS; p++)
        add_word(&command, sb_redis_key(a, t, item, (enum sb_period)p));
    add_number(&command, a, value);
    for (int p = 0; p < SB_PERIODS; p++)
        add_number(&command, a, sb_period_rows[p].len_s);
    (void)ask(x, &command, NULL, NULL, t->set->redis, (struct job){.takes = false});
}
