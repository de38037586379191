/* clock.h - time, with its unit in the name. */
#ifndef SB_SHARED_CLOCK_H
#define SB_SHARED_CLOCK_H

#include <stdint.h>

int64_t sb_clock_ms(void); /* monotonic */
int64_t sb_clock_us(void); /* monotonic */
int64_t sb_wall_ms(void);  /* since 1970 */
double sb_wall_s(void);    /* since 1970, with fraction */

#endif
