#include "dataplane/listen/io.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dataplane/listen/worker.h"
#include "shared/arena.h"

enum { IOV_MAX_ONCE = 512, OUT_MIN = 4096, TLS_RECORD = 16384 };

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

void sb_io_close(struct sb_io *io)
{
    if (io->fd < 0)
        return;
    event_del(&io->event);
    if (io->ssl) {
        if (!io->closing && !io->failed && SSL_is_init_finished(io->ssl))
            (void)SSL_shutdown(io->ssl);
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

/* -- plain sockets -- */

static enum sb_rc read_plain(struct sb_io *io, char *buf, size_t cap, size_t *len)
{
    ssize_t n;

    do
        n = recv(io->fd, buf, cap, 0);
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
    const struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    ssize_t k;

    do
        k = sendmsg(io->fd, &m, MSG_NOSIGNAL);
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

/* Our own BIO: reads only where the socket has something, so that a record costs one recv(). */
static int bio_read(BIO *bio, char *buf, int len)
{
    struct sb_io *io = BIO_get_data(bio);
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

static int bio_write(BIO *bio, const char *buf, int len)
{
    struct sb_io *io = BIO_get_data(bio);
    union {
        const char *in;
        void *out;
    } data = {.in = buf};
    struct iovec iov = {data.out, (size_t)len};
    size_t sent = 0;

    BIO_clear_retry_flags(bio);
    if (io->writable && write_plain(io, &iov, 1, &sent))
        return -1;
    if (sent)
        return (int)sent;
    BIO_set_retry_write(bio);
    return -1;
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

    sb_assert(bio);
    BIO_set_data(bio, io);
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

enum sb_rc sb_io_handshake(struct sb_io *io)
{
    int n = SSL_do_handshake(io->ssl);

    if (n == 1)
        return SB_OK;
    return ssl_trouble(io, n) == SB_AGAIN ? SB_AGAIN : SB_IO;
}

void sb_io_shutdown(struct sb_io *io)
{
    if (io->fd < 0 || io->closing)
        return;
    io->closing = true;
    if (io->ssl && !io->failed)
        (void)SSL_shutdown(io->ssl);
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
        io->out_cap = io->out_len + len + OUT_MIN;
        io->out = sb_xrealloc(io->out, io->out_cap);
    }
    memcpy(io->out + io->out_len, p, len);
    io->out_len += len;
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

/* TLS records are made of one piece of memory: small vectors are put together first. */
static enum sb_rc send_tls(struct sb_io *io, const struct iovec *iov, int n)
{
    char record[TLS_RECORD];
    size_t len = 0, sent;

    for (int i = 0; i < n; i++) {
        const char *p = iov[i].iov_base;
        size_t left = iov[i].iov_len;

        while (left) {
            size_t take = left < sizeof record - len ? left : sizeof record - len;

            memcpy(record + len, p, take);
            len += take;
            p += take;
            left -= take;
            if (len < sizeof record && (left || i + 1 < n))
                continue;
            sent = 0;
            if (!sb_io_pending(io) && write_tls(io, record, len, &sent))
                return SB_IO;
            if (sent < len)
                keep(io, record + sent, len - sent);
            len = 0;
        }
    }
    if (len) {
        sent = 0;
        if (!sb_io_pending(io) && write_tls(io, record, len, &sent))
            return SB_IO;
        if (sent < len)
            keep(io, record + sent, len - sent);
    }
    return SB_OK;
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

enum sb_rc sb_io_flush(struct sb_io *io)
{
    size_t sent = 0;
    enum sb_rc rc;

    if (io->failed)
        return SB_IO;
    if (!sb_io_pending(io) || (!io->writable && !io->ssl))
        return SB_OK;
    if (io->ssl) {
        rc = write_tls(io, io->out + io->out_at, sb_io_pending(io), &sent);
    } else {
        struct iovec iov = {io->out + io->out_at, sb_io_pending(io)};

        rc = write_plain(io, &iov, 1, &sent);
        if (!rc && sent < iov.iov_len)
            io->writable = false;
    }
    if (rc)
        return rc;
    io->out_at += sent;
    if (!sb_io_pending(io)) {
        free(io->out);
        io->out = NULL;
        io->out_at = io->out_len = io->out_cap = 0;
    }
    return SB_OK;
}
