/* What a Redis server says, in pieces: whatever comes, replies are within their bounds, and the
 * pieces do not matter. The first byte says how long they are. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/plugins/traffic/redis_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum sb_rc read_all(struct sb_redis_replies *r, size_t *replies)
{
    const struct sb_redis_reply *reply;
    enum sb_rc rc;

    while (!(rc = sb_redis_replies_next(r, &reply))) {
        sb_assert(reply->n <= SB_REDIS_VALUES_MAX);
        sb_assert(memchr(reply->text, '\0', sizeof reply->text));
        ++*replies;
    }
    return rc;
}

/* How many replies there are; *rc: how it ended. */
static size_t feed(const uint8_t *data, size_t size, size_t piece, enum sb_rc *rc)
{
    struct sb_redis_replies *r = sb_redis_replies_new();
    size_t replies = 0;

    *rc = SB_AGAIN;
    for (size_t at = 0; at < size && *rc == SB_AGAIN; at += piece) {
        *rc = sb_redis_replies_feed(r, data + at, size - at < piece ? size - at : piece);
        if (!*rc)
            *rc = read_all(r, &replies);
    }
    sb_redis_replies_free(r);
    return replies;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum sb_rc whole_rc, rc;
    size_t whole, n;

    if (size < 2 || size > SB_REDIS_REPLY_MAX)
        return 0;
    whole = feed(data + 1, size - 1, size, &whole_rc);
    n = feed(data + 1, size - 1, data[0] ? data[0] : 1, &rc);
    sb_assert(n == whole && rc == whole_rc);
    return 0;
}
