/* redis_reply.h - what a Redis server answers, cut into replies by hiredis' reader.
 *
 * Limits first: a reply is a number, a short text, or one list of numbers; anything else (nested
 * lists, longer ones, more bytes than any such reply can have) is refused, and the connection with
 * it. Nothing is allocated for a reply but the reader's own buffer.
 */
#ifndef SB_DATAPLANE_PLUGINS_TRAFFIC_REDIS_REPLY_H
#define SB_DATAPLANE_PLUGINS_TRAFFIC_REDIS_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"
#include "shared/str.h"

enum { SB_REDIS_VALUES_MAX = 1024, SB_REDIS_REPLY_MAX = 64 << 10 };

struct sb_redis_reply {
    bool error;                         /* the server's refusal: text says why */
    size_t n;                           /* numbers: 1 unless it is a list; 0 for other texts */
    char text[128];                     /* of errors and status lines, cut off; else "" */
    int64_t value[SB_REDIS_VALUES_MAX]; /* nil is 0 */
};

struct sb_redis_replies;

struct sb_redis_replies *sb_redis_replies_new(void);
void sb_redis_replies_free(struct sb_redis_replies *r);

/* Bytes as they come. SB_INVALID: not what a Redis server says, or beyond the limits; forget it. */
SB_MUST enum sb_rc sb_redis_replies_feed(struct sb_redis_replies *r, const void *p, size_t len);
/* The next reply, valid until the next call. SB_AGAIN: not all of it is there. SB_INVALID as
 * above. */
SB_MUST enum sb_rc sb_redis_replies_next(struct sb_redis_replies *r,
                                         const struct sb_redis_reply **out);

#endif
