/* hooks.c - runs the plugins' hooks of a phase, one after the other, with pauses. */
#include "dataplane/http/downstream.h"
#include "dataplane/http/steps.h"
#include "shared/log.h"

/* The route's, or what is for everything where no route was found. */
const struct sb_hooks *sb_exchange_hooks(const struct sb_exchange *x)
{
    return x->hooks ? x->hooks : x->hold->snap->hooks;
}

/* Runs a phase's hooks from where it stopped: SB_OK, SB_AGAIN, or SB_INVALID when one answered or
 * broke and x->answer says what the client gets. */
enum sb_rc sb_hooks_run(struct sb_exchange *x, const struct sb_hooks *hooks, enum sb_phase phase)
{
    enum sb_rc rc = SB_OK;

    if (!hooks || !hooks->phase[phase])
        return SB_OK;
    if (x->suspended)
        return SB_AGAIN;
    if (!x->hooks_begun) {
        x->hooks_begun = true;
        x->hook = hooks->phase[phase];
    }
    while (x->hook->run) {
        const struct sb_hook *h = x->hook++;

        rc = h->run(x, h->config);
        if (rc == SB_AGAIN) {
            x->suspended = true;
            return SB_AGAIN;
        }
        if (rc) {
            sb_error("a plugin broke in phase %d, request_id: %.32s", (int)phase, x->id);
            x->answer = (struct sb_answer){.status = 500, .kind = SB_ANSWER_ERROR};
        }
        if (rc || (x->answer.status && phase != SB_PHASE_HEADER_FILTER))
            break;
    }
    x->hooks_begun = false;
    return rc || (x->answer.status && phase != SB_PHASE_HEADER_FILTER) ? SB_INVALID : SB_OK;
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
    sb_timer_off(&x->timer);
    return sb_down_gone(x) ? sb_step_abandon(x) : SB_X_WAIT;
}
