/* timer.h - coarse timers that cost next to nothing to set.
 *
 * Time-outs are set a few times a request and hardly ever fire, so setting one is two stores: the
 * timer stays where it hangs in the wheel and, when its slot comes round early, is hung where it
 * now belongs. They fire up to one tick late, never early. One wheel a worker; it ticks only while
 * something hangs in it.
 */
#ifndef SB_DATAPLANE_LISTEN_TIMER_H
#define SB_DATAPLANE_LISTEN_TIMER_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

enum { SB_TICK_MS = 32, SB_WHEEL_SLOTS = 1024 };

struct sb_timer {
    struct sb_timer *next, **link; /* link NULL: hangs nowhere */
    int64_t deadline_ms;           /* INT64_MAX: off */
    int64_t tick;                  /* where it hangs */
    void (*fire)(struct sb_timer *t);
};

struct sb_wheel {
    struct sb_timer *slots[SB_WHEEL_SLOTS];
    int64_t tick; /* done so far */
    unsigned count;
    bool ticking;
    struct event event;
};

void sb_wheel_init(struct sb_wheel *w, struct event_base *base, int64_t now_ms);
void sb_wheel_release(struct sb_wheel *w); /* forgets what hangs in it */

static inline void sb_timer_init(struct sb_timer *t, void (*fire)(struct sb_timer *t))
{
    *t = (struct sb_timer){.deadline_ms = INT64_MAX, .fire = fire};
}

void sb_timer_hang(struct sb_wheel *w, struct sb_timer *t);
void sb_timer_remove(struct sb_timer *t, struct sb_wheel *w); /* before its memory goes */

static inline void sb_timer_off(struct sb_timer *t)
{
    t->deadline_ms = INT64_MAX;
}

static inline void sb_timer_set(struct sb_wheel *w, struct sb_timer *t, int64_t deadline_ms)
{
    t->deadline_ms = deadline_ms;
    if (!t->link || t->tick > deadline_ms / SB_TICK_MS + 1)
        sb_timer_hang(w, t);
}

#endif
