/* io.h - one socket, with or without TLS, edge-triggered.
 *
 * One event a socket, for both directions, added once: the kernel says when something changed, and
 * the flags below keep what was said until a read or a write finds otherwise. A read that returns
 * less than was asked for has emptied the socket, so it costs no second call to hear EAGAIN; only
 * when the peer closed its side (hup) one reads on to the end.
 *
 * What cannot be sent at once is kept in memory of the socket's own, which exists only while
 * something is in it: an idle connection has none. Whoever feeds a socket stops while
 * sb_io_pending(), so the most it holds is one round of the worker's buffer.
 *
 * TLS records of its own accord (tickets, close_notify) would each cost a call and a packet. They
 * travel with what is sent anyway: while a socket holds, its records are collected; the next record
 * after that, sb_io_flush() and closing send what was collected in one go.
 */
#ifndef SB_DATAPLANE_LISTEN_IO_H
#define SB_DATAPLANE_LISTEN_IO_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "shared/err.h"
#include "shared/str.h"

struct sb_worker;

struct sb_io {
    int fd; /* -1: closed */
    bool readable, writable;
    bool hup;      /* the peer will send no more; what it sent may still be unread */
    bool eof;      /* all of it is read */
    bool failed;   /* broken: nothing more can be read or written */
    bool closing;  /* half-closed by us */
    bool ended;    /* TLS: close_notify was said */
    bool hold;     /* TLS: records are collected */
    bool stuck;    /* TLS: the socket did not take all that was held */
    uint32_t held; /* bytes of records that were not sent yet */
    SSL *ssl;
    char *out; /* what waits to be sent: [out_at, out_len) */
    uint32_t out_at, out_len, out_cap;
    struct sb_worker *w;
    struct event event;
};

/* Takes the descriptor (non-blocking). on_event(io's event arg) is called when flags were set; the
 * flags are set by sb_io_note(), first thing in the callback. */
SB_MUST enum sb_rc sb_io_open(struct sb_io *io, struct sb_worker *w, int fd,
                              event_callback_fn on_event, void *arg);
/* Gives the socket a TLS session of its own BIO; ssl is owned from here. */
void sb_io_set_ssl(struct sb_io *io, SSL *ssl);
void sb_io_close(struct sb_io *io);

static inline void sb_io_note(struct sb_io *io, short what)
{
    if (what & (EV_READ | EV_CLOSED))
        io->readable = true;
    if (what & EV_WRITE)
        io->writable = true;
    if (what & EV_CLOSED)
        io->hup = true;
}

/* Whether a read may bring something. */
static inline bool sb_io_can_read(const struct sb_io *io)
{
    return !io->eof && !io->failed && (io->readable || (io->ssl && SSL_has_pending(io->ssl)));
}

/* What the socket did not take: on its way when it is writable again. */
static inline size_t sb_io_pending(const struct sb_io *io)
{
    return io->out_len - io->out_at + (io->stuck ? io->held : 0);
}

/* Collects TLS records from here on, up to one flight; a plain socket does not care. */
static inline void sb_io_hold(struct sb_io *io)
{
    io->hold = io->ssl != NULL;
}

/* SB_OK: *len > 0 bytes; SB_AGAIN: nothing now; SB_NOTFOUND: the end (eof); SB_IO: failed. */
SB_MUST enum sb_rc sb_io_read(struct sb_io *io, char *buf, size_t cap, size_t *len);

/* Sends what the vector holds, or keeps the rest (copied); the vector is used up. Bytes already
 * waiting go first. SB_OK or SB_IO. */
SB_MUST enum sb_rc sb_io_send(struct sb_io *io, struct iovec *iov, int n);
/* The same for the last that is said to this peer: TLS's close_notify goes with it. */
SB_MUST enum sb_rc sb_io_send_last(struct sb_io *io, struct iovec *iov, int n);
/* Sends what was held, tries again to send what waits. Ends holding. */
SB_MUST enum sb_rc sb_io_flush(struct sb_io *io);

/* Drives a handshake: SB_OK done, SB_AGAIN, SB_IO. What it said last is held when it is done. */
SB_MUST enum sb_rc sb_io_handshake(struct sb_io *io);
/* Says goodbye (TLS close_notify) and half-closes. */
void sb_io_shutdown(struct sb_io *io);

#endif
