#include "shared/clock.h"

#include <time.h>

static int64_t in_us(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t sb_clock_us(void)
{
    return in_us(CLOCK_MONOTONIC);
}

int64_t sb_clock_ms(void)
{
    return in_us(CLOCK_MONOTONIC) / 1000;
}

int64_t sb_wall_ms(void)
{
    return in_us(CLOCK_REALTIME) / 1000;
}

double sb_wall_s(void)
{
    return (double)in_us(CLOCK_REALTIME) / 1e6;
}
