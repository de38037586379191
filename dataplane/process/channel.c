#include "dataplane/process/channel.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

static enum sb_rc send_word(int channel, enum sb_word_kind kind, const char *text, const int *fds,
                            size_t n)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * SB_WORD_FDS_MAX)] = {0};
    union {
        const char *in;
        void *out;
    } body = {.in = text ? text : ""};
    uint8_t first = (uint8_t)kind;
    size_t len = strlen(body.in);
    struct iovec iov[2] = {{&first, 1}, {body.out, len < SB_WORD_LEN_MAX ? len : SB_WORD_LEN_MAX}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
    struct cmsghdr *c;
    ssize_t sent;

    if (n) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    }
    while ((sent = sendmsg(channel, &m, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    return sent < 0 ? SB_IO : SB_OK;
}

enum sb_rc sb_channel_say(int channel, enum sb_word_kind kind, const char *text)
{
    return send_word(channel, kind, text, NULL, 0);
}

enum sb_rc sb_channel_say_sockets(int channel, const int *fds, size_t n)
{
    enum sb_rc rc = SB_OK;

    for (size_t i = 0, some; !rc && i < n; i += some) {
        some = n - i < SB_WORD_FDS_MAX ? n - i : SB_WORD_FDS_MAX;
        rc = send_word(channel, SB_WORD_SOCKETS, NULL, fds + i, some);
    }
    return rc;
}

static void take_fds(struct msghdr *m, struct sb_word *out)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        memcpy(out->fds, CMSG_DATA(c), n * sizeof(int));
        out->nfds = n;
    }
}

enum sb_rc sb_channel_hear(int channel, bool wait, struct sb_word *out)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * SB_WORD_FDS_MAX)];
    uint8_t kind;
    struct iovec iov[2] = {{&kind, 1}, {out->text, SB_WORD_LEN_MAX}};
    struct msghdr m = {
        .msg_iov = iov, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n;

    while ((n = recvmsg(channel, &m, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT))) < 0 &&
           errno == EINTR)
        ;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return SB_AGAIN;
    if (n <= 0)
        return SB_IO;
    out->kind = (enum sb_word_kind)kind;
    out->text[n - 1] = '\0';
    out->nfds = 0;
    take_fds(&m, out);
    return SB_OK;
}
