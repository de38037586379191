#include "dataplane/process/request.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared/buf.h"

enum { LEN_MAX = 8 << 20, ANSWER_LEN_MAX = 32 << 10, PATIENCE_S = 5 };

/* A prefix may be longer than the 107 bytes that the address of a socket has room for, so the
 * directory is opened and the socket named below it. */
static int directory(const char *prefix, struct sockaddr_un *where)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof path, "%s/sockets", prefix);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *where = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(where->sun_path, sizeof where->sun_path, "/proc/self/fd/%d/control", fd);
    return fd;
}

enum sb_rc sb_request_listen(const char *prefix, int *fd, struct sb_err *err)
{
    struct sockaddr_un where;
    int dir = directory(prefix, &where), s = -1;
    mode_t before = umask(0177);
    bool ok;

    if (dir >= 0) {
        unlinkat(dir, "control", 0);
        s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    ok = s >= 0 && !bind(s, (struct sockaddr *)&where, sizeof where) && !listen(s, 8);
    umask(before);
    if (!ok)
        sb_err_set(err, SB_IO, "%s/sockets/control: %s", prefix, strerror(errno));
    if (dir >= 0)
        close(dir);
    if (!ok && s >= 0)
        close(s);
    if (ok)
        *fd = s;
    return ok ? SB_OK : SB_IO;
}

/* -- a question: length, then strings ended by NUL: what, the file or "", the environment -- */

static bool read_all(int fd, char *to, size_t len)
{
    while (len) {
        ssize_t n = recv(fd, to, len, 0);

        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        to += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool write_all(int fd, const char *from, size_t len)
{
    while (len) {
        ssize_t n = send(fd, from, len, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            return false;
        from += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static const char *next_string(const char **at, const char *end)
{
    const char *text = *at, *nul = text < end ? memchr(text, 0, (size_t)(end - text)) : NULL;

    *at = nul ? nul + 1 : end;
    return nul ? text : NULL;
}

enum sb_rc sb_request_read(int fd, struct sb_arena *a, struct sb_request *out)
{
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    const char *at, *end, *what, *conf;
    size_t n = 0;
    uint32_t len;
    char *text;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (!read_all(fd, (char *)&len, sizeof len) || len > LEN_MAX)
        return SB_INVALID;
    text = sb_arena_alloc(a, len + 1);
    if (!read_all(fd, text, len))
        return SB_INVALID;
    at = text;
    end = text + len;
    what = next_string(&at, end);
    conf = next_string(&at, end);
    if (!what || !conf)
        return SB_INVALID;
    out->restart = strcmp(what, "restart") == 0;
    out->conf = *conf ? conf : NULL;
    for (const char *p = at; p < end; p++)
        n += *p == 0;
    out->env = SB_NEW_N(a, const char *, n + 1);
    for (size_t i = 0; i < n; i++)
        out->env[i] = next_string(&at, end);
    return SB_OK;
}

void sb_request_answer(int fd, const char *err)
{
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    const char *text = err ? err : "done";

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    (void)write_all(fd, text, strlen(text)); /* who asked may be gone */
    close(fd);
}

static bool send_question(int fd, const struct sb_request *q)
{
    struct sb_buf text;
    uint32_t len;
    bool ok;

    sb_buf_init(&text, LEN_MAX);
    sb_buf_cstr(&text, q->restart ? "restart" : "reload");
    sb_buf_char(&text, 0);
    sb_buf_cstr(&text, q->conf ? q->conf : "");
    sb_buf_char(&text, 0);
    for (const char **e = q->env; *e; e++) {
        sb_buf_cstr(&text, *e);
        sb_buf_char(&text, 0);
    }
    len = (uint32_t)text.len;
    ok = write_all(fd, (const char *)&len, sizeof len) && write_all(fd, text.p, text.len);
    sb_buf_release(&text);
    return ok;
}

static enum sb_rc read_answer(int fd, struct sb_err *err)
{
    char text[ANSWER_LEN_MAX + 1];
    size_t len = 0;
    ssize_t n;

    while (len < ANSWER_LEN_MAX && (n = recv(fd, text + len, ANSWER_LEN_MAX - len, 0)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    if (strcmp(text, "done") == 0)
        return SB_OK;
    return sb_err_set(err, SB_IO, "%s", len ? text : "the node ended before it answered");
}

enum sb_rc sb_request_ask(const char *prefix, const struct sb_request *q, struct sb_err *err)
{
    struct sockaddr_un where;
    int dir = directory(prefix, &where), s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    enum sb_rc rc;

    if (dir < 0 || s < 0 || connect(s, (struct sockaddr *)&where, sizeof where))
        rc = sb_err_set(err, SB_UNAVAILABLE, "the node cannot be asked at %s/sockets/control: %s",
                        prefix, strerror(errno));
    else
        rc = send_question(s, q) ? read_answer(s, err)
                                 : sb_err_set(err, SB_IO, "the node does not listen");
    if (dir >= 0)
        close(dir);
    if (s >= 0)
        close(s);
    return rc;
}
