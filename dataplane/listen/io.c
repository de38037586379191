#include "dataplane/listen/io.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dataplane/listen/worker.h"
#include "shared/arena.h"

enum { IOV_MAX_ONCE = 512, OUT_MIN = 4096, TLS_RECORD = 16384, HELD_MAX = 20 * 1024 };

enum sb_rc sb_io_open(struct sb_io *io, struct sb_worker *w, int fd, event_callback_fn on_event,
                      void *arg)
{
    *io = (struct sb_io){.fd = fd, .w = w, .writable = true};
    event_assign(&io->event, w->base, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST,
                 on_event, arg);
    if (event_add(&io->event, NULL) == 0)
        return SB_OK;
    close(fd);
    io->fd = -1;
    return SB_IO;
}

/* -- plain sockets -- */

/* In a process with threads glibc makes recv() and sendmsg() points of cancellation, at two atomic
 * operations a call. Nobody cancels a worker, so the kernel is asked directly; but a sanitizer
 * wants to see what is read and written. One piece of memory is cheaper by sendto() than by a
 * vector. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static ssize_t receive(int fd, char *buf, size_t cap)
{
    return recv(fd, buf, cap, 0);
}

static ssize_t transmit(int fd, struct iovec *iov, int n)
{
    const struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};

    return sendmsg(fd, &m, MSG_NOSIGNAL);
}
#else
static ssize_t receive(int fd, char *buf, size_t cap)
{
    return syscall(SYS_recvfrom, fd, buf, cap, 0, NULL, NULL);
}

static ssize_t transmit(int fd, struct iovec *iov, int n)
{
    const struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};

    if (n == 1)
        return syscall(SYS_sendto, fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL, NULL, 0);
    return syscall(SYS_sendmsg, fd, &m, MSG_NOSIGNAL);
}
#endif

static enum sb_rc read_plain(struct sb_io *io, char *buf, size_t cap, size_t *len)
{
    ssize_t n;

    do
        n = receive(io->fd, buf, cap);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        if ((size_t)n < cap && !io->hup)
            io->readable = false;
        *len = (size_t)n;
        return SB_OK;
    }
    io->readable = false;
    if (n == 0) {
        io->eof = io->hup = true;
        return SB_NOTFOUND;
    }
    if (errno == EAGAIN)
        return SB_AGAIN;
    io->failed = true;
    return SB_IO;
}

static enum sb_rc write_plain(struct sb_io *io, struct iovec *iov, int n, size_t *sent)
{
    ssize_t k;

    do
        k = transmit(io->fd, iov, n);
    while (k < 0 && errno == EINTR);
    if (k >= 0) {
        *sent = (size_t)k;
        return SB_OK;
    }
    *sent = 0;
    if (errno == EAGAIN) {
        io->writable = false;
        return SB_OK;
    }
    io->failed = true;
    return SB_IO;
}

/* -- TLS -- */

/* What our BIO is made of. held: io->held bytes of records. */
struct tls_bio {
    struct sb_io *io;
    char *held;
    size_t cap;
};

/* Reads only where the socket has something, so that a record costs one recv(). */
static int bio_read(BIO *bio, char *buf, int len)
{
    struct sb_io *io = ((struct tls_bio *)BIO_get_data(bio))->io;
    size_t n = 0;
    enum sb_rc rc;

    BIO_clear_retry_flags(bio);
    if (!io->readable) {
        if (io->eof)
            return 0;
        BIO_set_retry_read(bio);
        return -1;
    }
    rc = read_plain(io, buf, (size_t)len, &n);
    if (rc == SB_OK)
        return (int)n;
    if (rc == SB_NOTFOUND)
        return 0;
    if (rc == SB_AGAIN)
        BIO_set_retry_read(bio);
    return -1;
}

static void collect(struct tls_bio *b, const char *buf, size_t len)
{
    if (b->io->held + len > b->cap) {
        b->cap = b->io->held + len;
        b->held = sb_xrealloc(b->held, b->cap);
    }
    memcpy(b->held + b->io->held, buf, len);
    b->io->held += (uint32_t)len;
}

/* Of what was held and of buf, sent bytes are gone. How much of buf that is. */
static size_t held_sent(struct tls_bio *b, size_t sent)
{
    size_t of_held = sent < b->io->held ? sent : b->io->held;

    if (of_held) {
        memmove(b->held, b->held + of_held, b->io->held - of_held);
        b->io->held -= (uint32_t)of_held;
    }
    if (!b->io->held) {
        free(b->held);
        b->held = NULL;
        b->cap = 0;
    }
    return sent - of_held;
}

/* What was held and buf in one call; how much of buf the socket took. */
static enum sb_rc send_records(struct tls_bio *b, const char *buf, size_t len, size_t *taken)
{
    union {
        const char *in;
        void *out;
    } data = {.in = buf};
    struct iovec iov[2] = {{b->held, b->io->held}, {data.out, len}};
    bool held = b->io->held > 0;
    size_t sent = 0;
    enum sb_rc rc = SB_OK;

    *taken = 0;
    if (b->io->writable)
        rc = write_plain(b->io, held ? iov : iov + 1, held && len ? 2 : 1, &sent);
    if (sent < b->io->held + len)
        b->io->writable = false;
    *taken = held ? held_sent(b, sent) : sent;
    b->io->stuck = b->io->held > 0;
    return rc;
}

static int bio_write(BIO *bio, const char *buf, int len)
{
    struct tls_bio *b = BIO_get_data(bio);
    size_t taken;

    BIO_clear_retry_flags(bio);
    if (b->io->hold && b->io->held + (size_t)len <= HELD_MAX) {
        collect(b, buf, (size_t)len);
        return len;
    }
    if (send_records(b, buf, (size_t)len, &taken))
        return -1;
    if (taken)
        return (int)taken;
    BIO_set_retry_write(bio);
    return -1;
}

static int bio_free(BIO *bio)
{
    struct tls_bio *b = BIO_get_data(bio);

    if (b)
        free(b->held);
    free(b);
    BIO_set_data(bio, NULL);
    return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_DUP;
}

static BIO_METHOD *bio_method(void)
{
    static BIO_METHOD *method; /* set before the workers start (sb_io_init) */

    if (!method) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "silverback");
        sb_assert(method);
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_ctrl(method, bio_ctrl);
        BIO_meth_set_destroy(method, bio_free);
    }
    return method;
}

void sb_io_init(void)
{
    (void)bio_method();
}

void sb_io_set_ssl(struct sb_io *io, SSL *ssl)
{
    BIO *bio = BIO_new(bio_method());
    struct tls_bio *b = sb_xcalloc(1, sizeof *b);

    sb_assert(bio);
    b->io = io;
    BIO_set_data(bio, b);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                          SSL_MODE_RELEASE_BUFFERS);
    SSL_set_read_ahead(ssl, 1);
    io->ssl = ssl;
}

/* What a failed SSL call means. */
static enum sb_rc ssl_trouble(struct sb_io *io, int ret)
{
    int e = SSL_get_error(io->ssl, ret);

    ERR_clear_error();
    if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
        return SB_AGAIN;
    if (e == SSL_ERROR_ZERO_RETURN) {
        io->eof = io->hup = true;
        return SB_NOTFOUND;
    }
    io->failed = true; /* a cut-off session is no end of a message */
    return SB_IO;
}

static enum sb_rc read_tls(struct sb_io *io, char *buf, size_t cap, size_t *len)
{
    int n = SSL_read(io->ssl, buf, (int)(cap > INT32_MAX ? INT32_MAX : cap));

    if (n <= 0)
        return ssl_trouble(io, n);
    *len = (size_t)n;
    return SB_OK;
}

static enum sb_rc write_tls(struct sb_io *io, const char *p, size_t len, size_t *sent)
{
    int n;
    enum sb_rc rc;

    *sent = 0;
    while (*sent < len) {
        n = SSL_write(io->ssl, p + *sent, (int)(len - *sent > INT32_MAX ? INT32_MAX : len - *sent));
        if (n > 0) {
            *sent += (size_t)n;
            continue;
        }
        rc = ssl_trouble(io, n);
        return rc == SB_AGAIN ? SB_OK : SB_IO;
    }
    return SB_OK;
}

static enum sb_rc flush_held(struct sb_io *io)
{
    size_t taken;

    io->hold = false;
    return io->held ? send_records(BIO_get_data(SSL_get_wbio(io->ssl)), NULL, 0, &taken) : SB_OK;
}

/* The last flight stays held: a server's tickets may travel with its first answer, and a client's
 * Finished with its first request. */
enum sb_rc sb_io_handshake(struct sb_io *io)
{
    enum sb_rc rc;
    int n;

    if (io->stuck && flush_held(io))
        return SB_IO;
    io->hold = true;
    n = SSL_do_handshake(io->ssl);
    io->hold = false;
    if (n == 1)
        return SB_OK;
    rc = ssl_trouble(io, n);
    return flush_held(io) || rc != SB_AGAIN ? SB_IO : SB_AGAIN; /* an alert is sent, too */
}

static void say_goodbye(struct sb_io *io)
{
    if (!io->ssl || io->failed || io->ended)
        return;
    io->ended = io->hold = true;
    (void)SSL_shutdown(io->ssl);
    ERR_clear_error();
    if (flush_held(io))
        io->failed = true;
}

void sb_io_close(struct sb_io *io)
{
    if (io->fd < 0)
        return;
    event_del(&io->event);
    if (io->ssl) {
        if (SSL_is_init_finished(io->ssl))
            say_goodbye(io);
        SSL_free(io->ssl);
        io->ssl = NULL;
        ERR_clear_error();
    }
    close(io->fd);
    io->fd = -1;
    free(io->out);
    io->out = NULL;
    io->out_at = io->out_len = io->out_cap = 0;
}

void sb_io_shutdown(struct sb_io *io)
{
    if (io->fd < 0 || io->closing)
        return;
    io->closing = true;
    say_goodbye(io);
    shutdown(io->fd, SHUT_WR);
}

/* -- both -- */

enum sb_rc sb_io_read(struct sb_io *io, char *buf, size_t cap, size_t *len)
{
    enum sb_rc rc;

    if (io->failed)
        return SB_IO;
    if (io->eof)
        return SB_NOTFOUND;
    rc = io->ssl ? read_tls(io, buf, cap, len) : read_plain(io, buf, cap, len);
    if (rc == SB_OK)
        sb_count(&io->w->stats.bytes_in, *len);
    return rc;
}

static void keep(struct sb_io *io, const char *p, size_t len)
{
    if (io->out_at && io->out_at == io->out_len)
        io->out_at = io->out_len = 0;
    if (io->out_len + len > io->out_cap) {
        io->out_cap = (uint32_t)(io->out_len + len + OUT_MIN);
        io->out = sb_xrealloc(io->out, io->out_cap);
    }
    memcpy(io->out + io->out_len, p, len);
    io->out_len += (uint32_t)len;
}

/* Copies what lies behind the first `sent` bytes. */
static void keep_rest(struct sb_io *io, const struct iovec *iov, int n, size_t sent)
{
    for (int i = 0; i < n; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;

        sent -= skip;
        if (skip < iov[i].iov_len)
            keep(io, (const char *)iov[i].iov_base + skip, iov[i].iov_len - skip);
    }
}

static size_t total(const struct iovec *iov, int n)
{
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += iov[i].iov_len;
    return len;
}

static enum sb_rc send_piece(struct sb_io *io, const char *p, size_t len)
{
    size_t sent = 0;

    if (!sb_io_pending(io) && write_tls(io, p, len, &sent))
        return SB_IO;
    if (sent < len)
        keep(io, p + sent, len - sent);
    return SB_OK;
}

/* TLS records are made of one piece of memory: what is small is put together first. */
static enum sb_rc send_tls(struct sb_io *io, const struct iovec *iov, int n)
{
    char record[TLS_RECORD];
    size_t len = 0;

    for (int i = 0; i < n; i++) {
        const char *p = iov[i].iov_base;
        size_t left = iov[i].iov_len;

        while (left) {
            size_t take = left < sizeof record - len ? left : sizeof record - len;
            const char *from = take == sizeof record ? p : record;

            if (from == record)
                memcpy(record + len, p, take);
            len += take;
            p += take;
            left -= take;
            if (len < sizeof record)
                continue;
            if (send_piece(io, from, len))
                return SB_IO;
            len = 0;
        }
    }
    return len ? send_piece(io, record, len) : SB_OK;
}

enum sb_rc sb_io_send(struct sb_io *io, struct iovec *iov, int n)
{
    size_t len = total(iov, n), sent = 0;
    enum sb_rc rc = SB_OK;

    if (io->failed)
        return SB_IO;
    sb_count(&io->w->stats.bytes_out, len);
    if (io->ssl)
        return send_tls(io, iov, n);
    while (n && !sb_io_pending(io) && io->writable) {
        int now = n < IOV_MAX_ONCE ? n : IOV_MAX_ONCE;

        len = total(iov, now);
        rc = write_plain(io, iov, now, &sent);
        if (rc)
            return rc;
        if (sent < len) { /* the socket is full */
            io->writable = false;
            keep_rest(io, iov, now, sent);
        }
        iov += now;
        n -= now;
    }
    keep_rest(io, iov, n, 0);
    return SB_OK;
}

enum sb_rc sb_io_send_last(struct sb_io *io, struct iovec *iov, int n)
{
    enum sb_rc rc;

    sb_io_hold(io);
    rc = sb_io_send(io, iov, n);
    if (!rc && io->out_at == io->out_len)
        say_goodbye(io);
    return rc || io->failed ? SB_IO : SB_OK;
}

enum sb_rc sb_io_flush(struct sb_io *io)
{
    size_t sent = 0;
    enum sb_rc rc;

    if (io->failed || (io->ssl && flush_held(io)))
        return SB_IO;
    if (io->out_at == io->out_len || !io->writable)
        return SB_OK;
    if (io->ssl) {
        rc = write_tls(io, io->out + io->out_at, io->out_len - io->out_at, &sent);
    } else {
        struct iovec iov = {io->out + io->out_at, io->out_len - io->out_at};

        rc = write_plain(io, &iov, 1, &sent);
        if (!rc && sent < iov.iov_len)
            io->writable = false;
    }
    if (rc)
        return rc;
    io->out_at += (uint32_t)sent;
    if (io->out_at == io->out_len) {
        free(io->out);
        io->out = NULL;
        io->out_at = io->out_len = io->out_cap = 0;
    }
    return SB_OK;
}
