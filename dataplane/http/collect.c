/* collect.c - COLLECT: all of a response's body comes in before anyone looks at it.
 *
 * For plugins that want it in one piece (sb_hooks_whole_response). Nothing has gone to the client
 * yet: an upstream that breaks off is a 502, and what goes out has a length.
 */
#include <stdlib.h>
#include <string.h>

#include "dataplane/http/downstream.h"
#include "dataplane/http/steps.h"
#include "shared/log.h"

enum { WHOLE_MAX = 64 << 20 };

static bool keep(struct sb_exchange *x, struct sb_str data)
{
    if (data.len == 0)
        return true;
    if (data.len > WHOLE_MAX - x->whole_len) {
        sb_error("a response is too large for a plugin that wants all of it, request_id: %.32s",
                 x->id);
        return false;
    }
    if (data.len > x->whole_cap - x->whole_len) {
        x->whole_cap = 2 * (x->whole_len + data.len);
        x->whole = sb_xrealloc(x->whole, x->whole_cap);
    }
    memcpy(x->whole + x->whole_len, data.p, data.len);
    x->whole_len += data.len;
    return true;
}

static bool take_chunks(struct sb_exchange *x, struct sb_str *raw)
{
    struct sb_str data;

    while (raw->len && !x->collected) {
        switch (sb_chunked_next(&x->resp_chunked, raw, &data)) {
        case SB_CHUNK_DATA:
            if (!keep(x, data))
                return false;
            break;
        case SB_CHUNK_END:
            x->collected = true;
            break;
        case SB_CHUNK_BAD:
            return false;
        default:
            break;
        }
    }
    return true;
}

/* Bytes of the body, as they came. False: malformed, or too many. */
static bool take(struct sb_exchange *x, struct sb_str *raw)
{
    struct sb_str data = *raw;

    if (x->resp.framing == SB_BODY_CHUNKED)
        return take_chunks(x, raw);
    if (x->resp.framing == SB_BODY_LENGTH) {
        data = sb_str_first(*raw, x->resp_left);
        x->resp_left -= data.len;
        x->collected = x->resp_left == 0;
    }
    *raw = sb_str_from(*raw, data.len);
    return keep(x, data);
}

/* SB_OK: all there; SB_AGAIN; else the upstream broke it off. */
static enum sb_rc read_on(struct sb_exchange *x)
{
    struct sb_io *io = &x->u->io;
    size_t n;

    if (!take(x, &x->resp_rest))
        return SB_INVALID;
    while (!x->collected) {
        enum sb_rc rc = SB_AGAIN;

        if (sb_io_can_read(io) || io->eof || io->failed)
            rc = sb_io_read(io, x->w->big, SB_BIG_LEN, &n);
        x->collected = rc == SB_NOTFOUND && x->resp.framing == SB_BODY_EOF;
        if (rc)
            return x->collected ? SB_OK : rc;
        x->resp_rest = sb_str_n(x->w->big, n);
        if (!take(x, &x->resp_rest))
            return SB_INVALID;
    }
    return SB_OK;
}

enum sb_xstate sb_step_collect(struct sb_exchange *x)
{
    enum sb_xstate next;
    enum sb_rc rc;

    if (x->timed_out)
        return sb_down_gone(x) ? sb_step_abandon(x) : sb_try_broke(x, 504);
    if (!x->body.complete || sb_io_pending(&x->u->io)) {
        if (sb_io_flush(&x->u->io) && !sb_io_can_read(&x->u->io))
            return sb_try_broke(x, 502);
        next = sb_try_pump(x, SB_X_COLLECT);
        if (next != SB_X_COLLECT)
            return next;
    }
    rc = read_on(x);
    if (rc == SB_AGAIN)
        return sb_down_gone(x) ? sb_step_abandon(x) : sb_step_wait(x, x->service->read_timeout_ms);
    if (rc)
        return sb_try_broke(x, 502);
    sb_try_end(x, sb_try_reusable(x) && x->resp_rest.len == 0);
    return SB_X_FILTER;
}
