#include "dataplane/listen/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dataplane/listen/options.h"
#include "shared/clock.h"
#include "shared/vec.h"

enum { IN_USE_MS = 2000, IN_USE_STEP_US = 20000 };

struct held {
    int fd, type;
    struct sockaddr_storage addr;
    socklen_t addr_len;
    bool opened;
};

static SB_VEC(struct held) table;

static bool same_address(const struct held *h, const struct sb_listen *l, int type)
{
    const struct sockaddr_in *a4 = (const void *)&h->addr, *b4 = (const void *)&l->addr;
    const struct sockaddr_in6 *a6 = (const void *)&h->addr, *b6 = (const void *)&l->addr;

    if (h->type != type || h->addr.ss_family != l->addr.ss_family)
        return false;
    if (h->addr.ss_family == AF_INET)
        return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
    return a6->sin6_port == b6->sin6_port && a6->sin6_scope_id == b6->sin6_scope_id &&
           memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0;
}

void sb_sockets_adopt(int fd)
{
    struct held h = {.fd = fd, .addr_len = sizeof h.addr};
    socklen_t len = sizeof h.type;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &h.type, &len) ||
        getsockname(fd, (struct sockaddr *)&h.addr, &h.addr_len)) {
        close(fd);
        return;
    }
    sb_vec_push(&table, h);
}

static struct held *waiting(const struct sb_listen *l, int type)
{
    for (size_t i = 0; i < table.len; i++)
        if (!table.p[i].opened && same_address(&table.p[i], l, type))
            return &table.p[i];
    return NULL;
}

size_t sb_sockets_waiting(const struct sb_listen *l, int type)
{
    size_t n = 0;

    for (size_t i = 0; i < table.len; i++)
        n += !table.p[i].opened && same_address(&table.p[i], l, type);
    return n;
}

/* -- options -- */

static void set_option(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof value); /* what the system lacks, it lacks */
}

static void set_keepalive(int fd, const struct sb_listen *l)
{
    if (!l->so_keepalive_set)
        return;
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, l->so_keepalive);
    if (l->keepalive_idle_s)
        set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, l->keepalive_idle_s);
    if (l->keepalive_interval_s)
        set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, l->keepalive_interval_s);
    if (l->keepalive_count)
        set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, l->keepalive_count);
}

/* Accepted sockets inherit TCP_NODELAY and keep-alive from the listener: no calls a connection. */
static void set_stream_options(int fd, const struct sb_listen *l)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_keepalive(fd, l);
    set_option(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, l->deferred);
}

/* -- opening -- */

static int new_socket(const struct sb_listen *l, int type)
{
    int fd = socket(l->addr.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (type == SOCK_STREAM) /* for datagrams it would mean sharing */
        set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (l->addr.ss_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, l->ipv6only);
    return fd;
}

static int bound(const struct sb_listen *l, int type, bool shared)
{
    int fd = new_socket(l, type), saved;

    if (fd < 0)
        return -1;
    if (shared)
        set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (bind(fd, (const struct sockaddr *)&l->addr, l->addr_len) == 0 &&
        (shared || type == SOCK_DGRAM || listen(fd, 1) == 0))
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* Sockets that share an address would share it with strangers, too, and each of them lose half of
 * its connections to the other. So the first one asks for it alone. A process that just died may
 * hold it for a moment. */
static bool is_free(const struct sb_listen *l, int type)
{
    int64_t until = sb_clock_ms() + IN_USE_MS;
    int fd;

    while ((fd = bound(l, type, false)) < 0 && errno == EADDRINUSE && sb_clock_ms() < until)
        usleep(IN_USE_STEP_US);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

static bool is_ours(const struct sb_listen *l, int type)
{
    for (size_t i = 0; i < table.len; i++)
        if (same_address(&table.p[i], l, type))
            return true;
    return false;
}

static bool open_new(const struct sb_listen *l, int type)
{
    struct held h = {.type = type, .addr = l->addr, .addr_len = l->addr_len};

    if (table.len >= SB_SOCKETS_MAX) {
        errno = EMFILE;
        return false;
    }
    if (!is_ours(l, type) && !is_free(l, type))
        return false;
    h.fd = bound(l, type, true);
    if (h.fd < 0)
        return false;
    sb_vec_push(&table, h);
    return true;
}

enum sb_rc sb_sockets_open(const struct sb_listen *l, int type, int *fd)
{
    struct held *h;

    if (!waiting(l, type) && !open_new(l, type))
        return SB_IO;
    h = waiting(l, type);
    if (!h)
        return SB_IO;
    if (type == SOCK_STREAM) {
        set_stream_options(h->fd, l);
        if (listen(h->fd, l->backlog > 0 ? l->backlog : 511)) /* also changes the backlog */
            return SB_IO;
    }
    *fd = fcntl(h->fd, F_DUPFD_CLOEXEC, 3);
    if (*fd < 0)
        return SB_IO;
    h->opened = true;
    return SB_OK;
}

size_t sb_sockets_opened(int *fds)
{
    size_t n = 0;

    for (size_t i = 0; i < table.len && n < SB_SOCKETS_MAX; i++)
        if (table.p[i].opened)
            fds[n++] = table.p[i].fd;
    return n;
}

void sb_sockets_release(void)
{
    for (size_t i = 0; i < table.len; i++)
        close(table.p[i].fd);
    sb_vec_release(&table);
}
