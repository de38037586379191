/* downstream.c - what an exchange has to do with its connection now and then. */
#include "dataplane/http/downstream.h"

#include <sys/socket.h>

#include "dataplane/http/steps.h"

enum { LINGER_MS = 5000 };

void sb_down_head_done(struct sb_exchange *x)
{
    struct sb_client *c = x->c;

    if (x->stream)
        return;
    sb_timer_off(&c->timer);
    if (!c->waiting)
        return;
    c->waiting = false;
    sb_count(&x->w->stats.connections_waiting, (uint64_t)-1);
}

void sb_down_continue(struct sb_exchange *x)
{
    static char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec iov = {line, sizeof line - 1};

    if (x->stream)
        sb_stream_continue(x->stream);
    else if (sb_io_send(&x->c->io, &iov, 1))
        x->c->close = true;
}

void sb_down_interim(struct sb_exchange *x, struct sb_gather *g)
{
    g->head = g->n;
    if (x->req.version >= 11 && sb_down_send(x, g, false))
        sb_down_abort(x);
}

bool sb_down_broken(struct sb_exchange *x)
{
    struct sb_io *io = &x->c->io;
    int e = 0;
    socklen_t len = sizeof e;

    if (!x->stream && !getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &e, &len) && e)
        io->failed = true;
    return io->failed;
}

/* A client that is gone and one that says it has no more to ask (nc -N, shutdown(2)) close their
 * side alike. After a whole request it gets its answer, if that begins soon; then it counts as
 * gone, so that what an upstream does for nobody ends. */
bool sb_down_left(struct sb_exchange *x)
{
    if (x->c->io.failed)
        return true;
    if (!x->body.complete)
        return false;
    if (!x->gone_ms)
        x->gone_ms = sb_now_ms(x->w) + x->w->o->half_closed_ms;
    return sb_now_ms(x->w) >= x->gone_ms;
}

bool sb_down_linger(struct sb_exchange *x)
{
    struct sb_io *io = &x->c->io;
    size_t n;

    x->c->close = true;
    if (!io->closing) {
        sb_io_shutdown(io);
        (void)sb_step_wait(x, LINGER_MS);
    }
    while (sb_io_can_read(io)) {
        if (sb_io_read(io, x->w->big, SB_BIG_LEN, &n))
            break;
        x->drained += n;
    }
    if (io->eof || io->failed || x->timed_out || x->drained > SB_DRAIN_MAX)
        return true;
    x->c->close = false;
    return false;
}

struct sb_io *sb_down_socket(struct sb_exchange *x)
{
    return &x->c->io;
}
