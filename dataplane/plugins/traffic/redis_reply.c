#include "dataplane/plugins/traffic/redis_reply.h"

#include <hiredis/read.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/arena.h"

struct sb_redis_replies {
    redisReader *reader;
    struct sb_redis_reply reply;
    bool list; /* the values that come are its */
};

/* -- what the reader calls for each part; NULL refuses -------------------------------------------
 */

static struct sb_redis_replies *of(const redisReadTask *task)
{
    return task->privdata;
}

static void *keep_value(struct sb_redis_replies *r, int64_t value)
{
    if (r->reply.n == SB_REDIS_VALUES_MAX)
        return NULL;
    r->reply.value[r->reply.n++] = value;
    return r;
}

static void begin(struct sb_redis_replies *r)
{
    r->list = r->reply.error = false;
    r->reply.n = 0;
    r->reply.text[0] = '\0';
}

static void *on_string(const redisReadTask *task, char *p, size_t len)
{
    struct sb_redis_replies *r = of(task);
    int64_t value;

    if (!task->parent)
        begin(r);
    if (task->type == REDIS_REPLY_STRING && sb_str_int(sb_str_n(p, len), &value))
        return keep_value(r, value);
    if (task->parent)
        return NULL; /* a list has numbers */
    r->reply.error = task->type == REDIS_REPLY_ERROR;
    snprintf(r->reply.text, sizeof r->reply.text, "%.*s", (int)(len < 127 ? len : 127), p);
    return r;
}

static void *on_list(const redisReadTask *task, int elements)
{
    struct sb_redis_replies *r = of(task);

    if (task->parent || elements < 0 || elements > SB_REDIS_VALUES_MAX)
        return NULL;
    begin(r);
    r->list = true;
    return r;
}

static void *on_integer(const redisReadTask *task, long long value)
{
    struct sb_redis_replies *r = of(task);

    if (!task->parent)
        begin(r);
    return keep_value(r, value);
}

static void *on_nil(const redisReadTask *task)
{
    return on_integer(task, 0);
}

static void on_free(void *reply)
{
    (void)reply; /* it is ours */
}

/* -- the stream ----------------------------------------------------------------------------------
 */

struct sb_redis_replies *sb_redis_replies_new(void)
{
    static redisReplyObjectFunctions functions = {on_string, on_list, on_integer, on_nil, on_free};
    struct sb_redis_replies *r = sb_xcalloc(1, sizeof *r);

    r->reader = redisReaderCreateWithFunctions(&functions);
    sb_assert(r->reader);
    r->reader->privdata = r;
    return r;
}

void sb_redis_replies_free(struct sb_redis_replies *r)
{
    if (!r)
        return;
    redisReaderFree(r->reader);
    free(r);
}

enum sb_rc sb_redis_replies_feed(struct sb_redis_replies *r, const void *p, size_t len)
{
    if (r->reader->len - r->reader->pos + len > SB_REDIS_REPLY_MAX)
        return SB_INVALID;
    return redisReaderFeed(r->reader, p, len) == REDIS_OK ? SB_OK : SB_INVALID;
}

enum sb_rc sb_redis_replies_next(struct sb_redis_replies *r, const struct sb_redis_reply **out)
{
    void *reply = NULL;

    if (redisReaderGetReply(r->reader, &reply) != REDIS_OK)
        return SB_INVALID;
    if (!reply)
        return SB_AGAIN;
    *out = &r->reply;
    return SB_OK;
}
