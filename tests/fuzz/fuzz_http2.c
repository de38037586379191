/* An HTTP/2 session with a client, frames and all: a real worker serves them, the input is what one
 * connection sends after the preface. First bytes choose whether the preface is ours and in how
 * many pieces it comes. There are no routes, so every request is answered 404. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dataplane/config/snapshot.h"
#include "dataplane/listen/workers.h"
#include "shared/arena.h"
#include "shared/log.h"
#include "shared/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";

static int make_socket(struct sockaddr_in *a)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    sb_assert(fd >= 0);
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return fd;
}

/* A port that was free a moment ago. */
static uint16_t free_port(void)
{
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    int fd = make_socket(&a);

    sb_assert(bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
    sb_assert(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    close(fd);
    return ntohs(a.sin_port);
}

static uint16_t start_gateway(void)
{
    static const struct sb_snapshot nothing;
    uint16_t port = free_port();
    char listen_at[64];
    const char *env[] = {listen_at,
                         "KONG_PREFIX=/tmp",
                         "KONG_PROXY_ACCESS_LOG=off",
                         "KONG_NGINX_WORKER_PROCESSES=1",
                         "KONG_DATABASE=off",
                         "KONG_LOG_LEVEL=crit",
                         NULL};
    struct sb_settings_source source = {.env = env};
    static struct sb_settings *settings; /* kept in sight of the leak checker */
    static struct sb_workers *ws;
    struct sb_buf problems, warnings;
    struct sb_err err;

    snprintf(listen_at, sizeof listen_at, "KONG_PROXY_LISTEN=127.0.0.1:%u http2", port);
    sb_buf_init(&problems, 0);
    sb_buf_init(&warnings, 0);
    sb_assert(!sb_settings_load(&source, &settings, &problems, &warnings));
    sb_assert(!sb_workers_start(settings, &ws, &err));
    sb_workers_publish(ws, &nothing, NULL, NULL);
    sb_buf_release(&problems);
    sb_buf_release(&warnings);
    return port;
}

static void say(int fd, const uint8_t *p, size_t len)
{
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        p += n;
        len -= (size_t)n;
    }
}

/* Our side ends, so theirs must, soon: the fuzzer's own -timeout judges that. */
static void hear_the_end(int fd)
{
    char buf[65536];

    shutdown(fd, SHUT_WR);
    while (recv(fd, buf, sizeof buf, 0) > 0)
        ;
}

/* A connection from an address of its own: what ends here leaves its port in TIME_WAIT, and one
 * address has only some 28,000 of them, six seconds of fuzzing. */
static int connect_to(uint16_t port)
{
    static uint16_t turn;
    struct sockaddr_in a;
    int fd = make_socket(&a);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 0x10000 + turn++);
    sb_assert(bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(port);
    sb_assert(connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint16_t port;
    size_t first;
    int fd;

    if (!port)
        port = start_gateway();
    if (size < 2)
        return 0;
    fd = connect_to(port);
    if (data[0] & 1)
        say(fd, hello, sizeof hello - 1);
    first = data[1] < size - 2 ? data[1] : size - 2;
    say(fd, data + 2, first);
    say(fd, data + 2 + first, size - 2 - first);
    hear_the_end(fd);
    close(fd);
    return 0;
}
