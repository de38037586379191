/* hooks.c - runs the plugins' hooks of a phase, one after the other, with pauses. */
#include "dataplane/http/downstream.h"
#include "dataplane/http/steps.h"
#include "dataplane/plugins/chain.h"
#include "shared/log.h"

/* The route's, or what is for everything where no route was found. */
const struct sb_hooks *sb_exchange_hooks(const struct sb_exchange *x)
{
    return x->hooks ? x->hooks : x->hold->snap->hooks;
}

/* -- what depends on the consumer -- */

/* Room for what is chosen while access runs. */
static void begin_choosing(struct sb_exchange *x, const struct sb_hooks *hooks)
{
    x->chosen = x->chosen_room;
    if (hooks->slots > SB_X_SLOTS)
        x->chosen = SB_NEW_N(sb_exchange_arena(x), const struct sb_plugin_instance *, hooks->slots);
    memset(x->chosen, 0, hooks->slots * sizeof *x->chosen);
}

/* Who is known by now counts for this plugin, in this phase and all behind it. */
static const struct sb_plugin_instance *choose(struct sb_exchange *x, const struct sb_hook *h)
{
    struct sb_str route_id = x->route ? x->route->id : SB_STR("");
    struct sb_str service_id = x->service ? x->service->id : SB_STR("");

    return x->chosen[h->slot - 1] = sb_chain_choose(h, x->of_consumer, route_id, service_id);
}

static bool config_of(const struct sb_plugin_instance *in, const void **config)
{
    if (!in || in->refused)
        return false;
    *config = in->config;
    return true;
}

/* A body filter that said it has nothing to do. */
struct sb_left_body {
    struct sb_left_body *next;
    const void *config;
};

void sb_exchange_leave_body(struct sb_exchange *x, const void *config)
{
    struct sb_left_body *left = SB_NEW(sb_exchange_arena(x), struct sb_left_body);

    *left = (struct sb_left_body){x->left, config};
    x->left = left;
}

static bool left_alone(const struct sb_exchange *x, const void *config)
{
    const struct sb_left_body *left = x->left;

    while (left && left->config != config)
        left = left->next;
    return left != NULL;
}

bool sb_hook_config(const struct sb_exchange *x, const struct sb_hook *h, const void **config)
{
    *config = h->config;
    if (h->slot && !config_of(x->chosen ? x->chosen[h->slot - 1] : h->instance, config))
        return false;
    return !h->filter || !left_alone(x, *config);
}

bool sb_hooks_any(const struct sb_exchange *x, enum sb_phase phase)
{
    const struct sb_hooks *hooks = sb_exchange_hooks(x);
    const struct sb_hook *h = hooks ? hooks->phase[phase] : NULL;
    const void *config;

    for (; h && (h->run || h->filter); h++)
        if (sb_hook_config(x, h, &config))
            return true;
    return false;
}

bool sb_hooks_whole_response(const struct sb_exchange *x)
{
    const struct sb_hooks *hooks = sb_exchange_hooks(x);

    if (x->buffer_max && (x->buffer_max == SIZE_MAX ||
                          (x->resp.framing == SB_BODY_LENGTH && x->resp_left <= x->buffer_max)))
        return true;
    if (!hooks || hooks->response_buffered)
        return hooks != NULL;
    for (unsigned i = 0; x->chosen && i < hooks->slots; i++)
        if (x->chosen[i] && x->chosen[i]->whole_response)
            return true;
    return false;
}

/* -- running -- */

static enum sb_rc run_one(struct sb_exchange *x, const struct sb_hook *h, enum sb_phase phase)
{
    const struct sb_plugin_instance *in;
    const void *config;

    if (phase == SB_PHASE_ACCESS && h->slot) {
        in = choose(x, h);
        if (in && in->refused)
            return sb_plugin_refuse(x, NULL);
    }
    return sb_hook_config(x, h, &config) ? h->run(x, config) : SB_OK;
}

static void broke(struct sb_exchange *x, const struct sb_hook *h, enum sb_phase phase)
{
    static const char *const names[] = {"rewrite", "access", "header_filter", "body_filter", "log"};

    sb_error("plugin %s broke in %s, request_id: %.32s", h->plugin ? h->plugin->name : "",
             names[phase], x->id);
    if (x->state != SB_X_ANSWER) /* an answer that is there goes out */
        x->answer = (struct sb_answer){.status = 500, .kind = SB_ANSWER_ERROR};
}

static enum sb_rc run_on(struct sb_exchange *x, enum sb_phase phase)
{
    while (x->hook->run) {
        const struct sb_hook *h = x->hook++;
        enum sb_rc rc = run_one(x, h, phase);

        if (rc == SB_AGAIN)
            return SB_AGAIN;
        if (x->body_lost)
            return SB_IO;
        if (rc)
            broke(x, h, phase);
        if (rc || (x->answer.status && phase != SB_PHASE_HEADER_FILTER))
            return SB_INVALID;
    }
    return x->answer.status ? SB_INVALID : SB_OK;
}

/* More of the body that a hook waits for; when it is there, or lost, the hook runs again. */
static void return_to_body(struct sb_exchange *x)
{
    enum sb_rc rc = sb_body_store(x);

    if (rc == SB_AGAIN && !x->timed_out)
        return;
    x->body_lost = rc == SB_AGAIN ? SB_TIMEOUT : rc;
    x->body_wanted = x->suspended = false;
    x->hook--;
}

enum sb_rc sb_hooks_run(struct sb_exchange *x, const struct sb_hooks *hooks, enum sb_phase phase)
{
    enum sb_rc rc;

    if (!hooks || !hooks->phase[phase])
        return SB_OK;
    if (x->suspended && x->body_wanted)
        return_to_body(x);
    if (x->body_lost)
        return SB_IO;
    if (x->suspended)
        return SB_AGAIN;
    if (!x->hooks_begun) {
        x->hook = hooks->phase[phase];
        if (phase == SB_PHASE_ACCESS && hooks->slots)
            begin_choosing(x, hooks);
    }
    x->hooks_begun = true;
    rc = run_on(x, phase);
    x->suspended = x->hooks_begun = rc == SB_AGAIN;
    if ((rc == SB_INVALID || rc == SB_IO) &&
        phase == SB_PHASE_ACCESS) /* the rest does not run, but counts later */
        for (; x->hook->run; x->hook++)
            if (x->hook->slot)
                (void)choose(x, x->hook);
    return rc;
}

void sb_exchange_resume(struct sb_exchange *x)
{
    x->suspended = false;
    sb_down_wake(x);
}

void sb_exchange_resume_again(struct sb_exchange *x)
{
    x->hook--;
    sb_exchange_resume(x);
}

/* A suspended exchange ends when its client leaves. */
enum sb_xstate sb_step_wait_for_hook(struct sb_exchange *x)
{
    if (x->body_wanted)
        return sb_step_wait(x, x->w->o->body_timeout_ms);
    sb_timer_off(&x->timer);
    return sb_down_gone(x) ? sb_step_abandon(x) : sb_step_wait_on(x);
}
