#include "dataplane/listen/timer.h"

#include "shared/clock.h"

static void unhang(struct sb_timer *t)
{
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
    t->next = NULL;
    t->link = NULL;
}

void sb_timer_remove(struct sb_timer *t, struct sb_wheel *w)
{
    if (t->link) {
        unhang(t);
        w->count--;
    }
}

static void start_ticking(struct sb_wheel *w)
{
    const struct timeval every = {.tv_usec = SB_TICK_MS * 1000};

    w->ticking = true;
    w->tick = sb_clock_ms() / SB_TICK_MS;
    event_add(&w->event, &every);
}

void sb_timer_hang(struct sb_wheel *w, struct sb_timer *t)
{
    struct sb_timer **slot;

    sb_timer_remove(t, w);
    if (!w->ticking)
        start_ticking(w);
    t->tick = t->deadline_ms / SB_TICK_MS + 1;
    if (t->tick <= w->tick)
        t->tick = w->tick + 1;
    if (t->tick >= w->tick + SB_WHEEL_SLOTS) /* beyond the wheel: look again when it came round */
        t->tick = w->tick + SB_WHEEL_SLOTS - 1;
    slot = &w->slots[t->tick % SB_WHEEL_SLOTS];
    t->next = *slot;
    if (t->next)
        t->next->link = &t->next;
    t->link = slot;
    *slot = t;
    w->count++;
}

/* Fires, hangs anew or lets go what hangs in the slot. A fired timer may free itself and others, so
 * the list is taken from its head each time. What belongs to a later tick never comes back to this
 * slot: hang() puts it at least one and at most SLOTS - 1 further. */
static void run_slot(struct sb_wheel *w, struct sb_timer **slot, int64_t now_ms)
{
    struct sb_timer *t;

    while ((t = *slot)) {
        sb_timer_remove(t, w);
        if (t->deadline_ms == INT64_MAX)
            continue;
        if (t->deadline_ms <= now_ms) {
            sb_timer_off(t);
            t->fire(t);
        } else {
            sb_timer_hang(w, t);
        }
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct sb_wheel *w = arg;
    int64_t now_ms = sb_clock_ms(), until = now_ms / SB_TICK_MS;

    (void)fd;
    (void)what;
    if (until - w->tick > SB_WHEEL_SLOTS) /* we were stopped for long: once round is enough */
        w->tick = until - SB_WHEEL_SLOTS;
    while (w->tick < until) {
        w->tick++;
        run_slot(w, &w->slots[w->tick % SB_WHEEL_SLOTS], now_ms);
    }
    if (w->count == 0) {
        event_del(&w->event);
        w->ticking = false;
    }
}

void sb_wheel_init(struct sb_wheel *w, struct event_base *base, int64_t now_ms)
{
    *w = (struct sb_wheel){.tick = now_ms / SB_TICK_MS};
    event_assign(&w->event, base, -1, EV_PERSIST, on_tick, w);
}

void sb_wheel_release(struct sb_wheel *w)
{
    if (w->ticking)
        event_del(&w->event);
    w->ticking = false;
}
