/* steps.h - the steps of an exchange's states, and what they share. Private to the engine.
 *
 * A step does what it can and returns the next state, or SB_X_WAIT after it has set a time-out. The
 * table of exchange.c says which step is whose; a file holds the steps of one stretch of the way:
 *
 *     head.c HEAD | access.c REWRITE ROUTE ACCESS | try.c PICK BODY CONNECT REPLY
 *     collect.c COLLECT | forward.c FILTER FORWARD TUNNEL | finish.c ANSWER DRAIN
 */
#ifndef SB_DATAPLANE_HTTP_STEPS_H
#define SB_DATAPLANE_HTTP_STEPS_H

#include "dataplane/http/exchange.h"

enum sb_xstate sb_step_head(struct sb_exchange *x);
enum sb_xstate sb_step_rewrite(struct sb_exchange *x);
enum sb_xstate sb_step_route(struct sb_exchange *x);
enum sb_xstate sb_step_access(struct sb_exchange *x);
enum sb_xstate sb_step_pick(struct sb_exchange *x);
enum sb_xstate sb_step_body(struct sb_exchange *x);
enum sb_xstate sb_step_connect(struct sb_exchange *x);
enum sb_xstate sb_step_reply(struct sb_exchange *x);
enum sb_xstate sb_step_collect(struct sb_exchange *x);
enum sb_xstate sb_step_filter(struct sb_exchange *x);
enum sb_xstate sb_step_forward(struct sb_exchange *x);
enum sb_xstate sb_step_tunnel(struct sb_exchange *x);
enum sb_xstate sb_step_answer(struct sb_exchange *x);
enum sb_xstate sb_step_drain(struct sb_exchange *x);

/* Waits for at most ms. */
enum sb_xstate sb_step_wait(struct sb_exchange *x, int64_t ms);
/* Goes on waiting, until the time set before. */
enum sb_xstate sb_step_wait_on(struct sb_exchange *x);
/* Waits for a hook or a name, without a time-out of its own; ends when the client leaves. */
enum sb_xstate sb_step_wait_for_hook(struct sb_exchange *x);
/* The request is at fault: answered as nginx would, and the connection ends. */
enum sb_xstate sb_step_refuse(struct sb_exchange *x, int status);
/* Answered in the format that the client accepts. */
enum sb_xstate sb_step_error(struct sb_exchange *x, int status, const char *message);
/* The client left, or can't be told anything any more. */
enum sb_xstate sb_step_abandon(struct sb_exchange *x);
/* What the failed reading of the request's body means to the client. */
enum sb_xstate sb_step_body_failed(struct sb_exchange *x, enum sb_rc rc);
/* The response is with the client, or in its socket's memory. */
enum sb_xstate sb_step_response_done(struct sb_exchange *x);

/* Lets go of the try's connection. */
void sb_try_end(struct sb_exchange *x, bool reusable);
/* Whether the try's connection can serve another request, once its response is read. */
bool sb_try_reusable(const struct sb_exchange *x);
/* The upstream began to answer and broke off, before the client saw any of it: no further try. */
enum sb_xstate sb_try_broke(struct sb_exchange *x, int status);
/* More of the request's body, as far as it goes. Returns state while all is well. */
enum sb_xstate sb_try_pump(struct sb_exchange *x, enum sb_xstate state);

/* The try failed before a byte of its response went to the client: the next one, or an answer with
 * that status. */
enum sb_xstate sb_try_failed(struct sb_exchange *x, int status);

/* grpc.c: where the service speaks gRPC; from the call's begin on, x->call is set. */
enum sb_xstate sb_grpc_connect(struct sb_exchange *x);
enum sb_xstate sb_grpc_reply(struct sb_exchange *x);
enum sb_xstate sb_grpc_forward(struct sb_exchange *x);

static inline bool sb_grpc_service(const struct sb_exchange *x)
{
    return x->service->protocol == SB_PROTO_GRPC || x->service->protocol == SB_PROTO_GRPCS;
}

/* Runs a phase's hooks from where it stopped: SB_OK, SB_AGAIN, SB_INVALID when one answered or
 * broke and x->answer says what the client gets, or SB_IO when the request's body was lost
 * (x->body_lost). In header_filter all run also when one answers. */
SB_MUST enum sb_rc sb_hooks_run(struct sb_exchange *x, const struct sb_hooks *hooks,
                                enum sb_phase phase);
/* The config that a row runs with in this exchange; false: it has nothing to do. Behind access. */
bool sb_hook_config(const struct sb_exchange *x, const struct sb_hook *h, const void **config);
/* Whether there is anything to run in a phase behind access. */
bool sb_hooks_any(const struct sb_exchange *x, enum sb_phase phase);
/* Whether the response's body is wanted in one piece. Behind access. */
bool sb_hooks_whole_response(const struct sb_exchange *x);

#endif
