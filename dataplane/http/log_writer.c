#include "dataplane/http/log_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/log.h"

enum { WAIT_MS = 100, LAST_MS = 1000, SYSLOG_HEAD_MAX = 512, SYSLOG_LINE_MAX = 8192 };

struct sb_log_target {
    const char *text;                /* as it was written, for messages */
    const char *path;                /* NULL: fd, or syslog */
    int fd;                          /* of /dev/stdout, /dev/stderr; -1: neither */
    const char *host, *port, *local; /* syslog: local is the path of a Unix socket */
    const char *tag;
    int priority;
    bool no_hostname;
};

struct sb_log_writer {
    const struct sb_log_target *target;
    int fd;
    bool whole; /* a regular file takes what it is given; others are asked first */
    char hostname[256];
    size_t lost; /* lines that were not written */
    int64_t give_up_ms;
    pthread_t thread;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct sb_log_block *first, **last;
        unsigned count;
        size_t lost; /* lines that nobody had room for */
        bool stop, reopen;
    } shared;
};

/* -- targets ----------------------------------------------------------------------------------- */

struct named {
    const char *name;
    int value;
};

static const struct named facilities[] = {
    {"kern", LOG_KERN},     {"user", LOG_USER},         {"mail", LOG_MAIL},
    {"daemon", LOG_DAEMON}, {"auth", LOG_AUTH},         {"intern", LOG_SYSLOG},
    {"lpr", LOG_LPR},       {"news", LOG_NEWS},         {"uucp", LOG_UUCP},
    {"clock", LOG_CRON},    {"authpriv", LOG_AUTHPRIV}, {"ftp", LOG_FTP},
    {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1},     {"local2", LOG_LOCAL2},
    {"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},     {"local5", LOG_LOCAL5},
    {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7},     {NULL, 0},
};

static const struct named severities[] = {
    {"emerg", LOG_EMERG}, {"alert", LOG_ALERT},  {"crit", LOG_CRIT},
    {"error", LOG_ERR},   {"warn", LOG_WARNING}, {"notice", LOG_NOTICE},
    {"info", LOG_INFO},   {"debug", LOG_DEBUG},  {NULL, 0},
};

static bool find(const struct named *table, struct sb_str name, int *out)
{
    for (; table->name; table++) {
        if (sb_str_is(name, table->name)) {
            *out = table->value;
            return true;
        }
    }
    return false;
}

static bool starts(struct sb_str s, const char *prefix, struct sb_str *rest)
{
    if (!sb_str_starts(s, sb_str_c(prefix)))
        return false;
    *rest = sb_str_from(s, strlen(prefix));
    return true;
}

/* "unix:/dev/log", "10.0.0.1", "[::1]:514", "logs.example:5514" */
static void read_server(struct sb_arena *a, struct sb_str s, struct sb_log_target *t)
{
    struct sb_str local;
    ptrdiff_t colon = sb_str_rchr(s, ':');

    t->port = "514";
    if (starts(s, "unix:", &local)) {
        t->local = sb_arena_cstr(a, local);
        return;
    }
    if (colon >= 0 && (s.p[0] != '[' || s.p[colon - 1] == ']')) {
        t->port = sb_arena_cstr(a, sb_str_from(s, (size_t)colon + 1));
        s = sb_str_first(s, (size_t)colon);
    }
    if (s.len > 2 && s.p[0] == '[' && s.p[s.len - 1] == ']')
        s = sb_str_n(s.p + 1, s.len - 2);
    t->host = sb_arena_cstr(a, s);
}

static enum sb_rc parse_syslog(struct sb_arena *a, struct sb_str text, struct sb_log_target *t,
                               struct sb_err *err)
{
    int facility = LOG_LOCAL7, severity = LOG_INFO;
    struct sb_str word, value;

    t->tag = "nginx";
    while (sb_str_split(&text, ',', &word)) {
        bool ok = true;

        if (starts(word, "server=", &value))
            read_server(a, value, t);
        else if (starts(word, "facility=", &value))
            ok = find(facilities, value, &facility);
        else if (starts(word, "severity=", &value))
            ok = find(severities, value, &severity);
        else if (starts(word, "tag=", &value))
            t->tag = sb_arena_cstr(a, sb_str_first(value, 32));
        else
            t->no_hostname = ok = sb_str_is(word, "nohostname");
        if (!ok)
            return sb_err_set(err, SB_INVALID, "unknown syslog parameter \"%.*s\"", SB_ARG(word));
    }
    t->priority = facility | severity;
    if ((t->host && *t->host) || t->local)
        return SB_OK;
    return sb_err_set(err, SB_INVALID, "no syslog server specified");
}

enum sb_rc sb_log_target_parse(struct sb_arena *a, struct sb_str text, struct sb_log_target **out,
                               struct sb_err *err)
{
    struct sb_log_target *t = SB_NEW(a, struct sb_log_target);
    struct sb_str rest;

    *t = (struct sb_log_target){.text = sb_arena_cstr(a, text), .fd = -1};
    *out = t;
    if (starts(text, "syslog:", &rest))
        return parse_syslog(a, rest, t, err);
    if (sb_str_is(text, "/dev/stdout") || sb_str_is(text, "/dev/stderr"))
        t->fd = sb_str_is(text, "/dev/stdout") ? STDOUT_FILENO : STDERR_FILENO;
    else
        t->path = t->text;
    return SB_OK;
}

/* -- opening ----------------------------------------------------------------------------------- */

static int connect_local(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

static int connect_server(const struct sb_log_target *t)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_DGRAM};
    struct addrinfo *list = NULL;
    int fd = -1;

    if (t->local)
        return connect_local(t->local);
    if (getaddrinfo(t->host, t->port, &hints, &list) || !list) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    fd = socket(list->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, list->ai_addr, list->ai_addrlen)) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    return fd;
}

static bool is_syslog(const struct sb_log_target *t)
{
    return !t->path && t->fd < 0;
}

static int open_target(const struct sb_log_target *t)
{
    if (t->path)
        return open(t->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
    if (t->fd >= 0) /* opened by its name, a socket or another user's file would refuse */
        return fcntl(t->fd, F_DUPFD_CLOEXEC, 3);
    return connect_server(t);
}

static void note_kind(struct sb_log_writer *w)
{
    struct stat st;

    w->whole = fstat(w->fd, &st) == 0 && S_ISREG(st.st_mode);
}

static void reopen(struct sb_log_writer *w)
{
    int fd = open_target(w->target);

    if (fd < 0) {
        sb_error("access log %s: %s; it goes on where it was", w->target->text, strerror(errno));
        return;
    }
    close(w->fd);
    w->fd = fd;
    note_kind(w);
}

/* -- writing ----------------------------------------------------------------------------------- */

/* Whether the reader takes more. While it does not, workers fill the queue and then drop lines; at
 * the end of the process it has a second left. */
static bool wait_writable(struct sb_log_writer *w)
{
    struct pollfd p = {.fd = w->fd, .events = POLLOUT};

    while (poll(&p, 1, WAIT_MS) <= 0) {
        bool stop;

        pthread_mutex_lock(&w->shared.lock);
        stop = w->shared.stop;
        pthread_mutex_unlock(&w->shared.lock);
        if (stop && !w->give_up_ms)
            w->give_up_ms = sb_clock_ms() + LAST_MS;
        if (w->give_up_ms && sb_clock_ms() > w->give_up_ms)
            return false;
    }
    return !(p.revents & (POLLERR | POLLNVAL));
}

static size_t count_lines(const char *p, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += p[i] == '\n';
    return n;
}

/* Pipes take up to PIPE_BUF bytes in one piece: lines of two processes that write to one (after a
 * reload) stay whole, and a pipe that is writable has room for so much. */
static size_t piece_len(const struct sb_log_writer *w, const char *p, size_t len)
{
    size_t n = PIPE_BUF;

    if (w->whole || len <= PIPE_BUF)
        return len;
    while (n > 0 && p[n - 1] != '\n')
        n--;
    return n ? n : PIPE_BUF;
}

static void write_block(struct sb_log_writer *w, const struct sb_log_block *b)
{
    size_t at = 0;

    while (at < b->len) {
        ssize_t n = -1;

        errno = EPIPE;
        if (w->whole || wait_writable(w))
            n = write(w->fd, b->data + at, piece_len(w, b->data + at, b->len - at));
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0) {
            w->lost += count_lines(b->data + at, b->len - at);
            return;
        }
        at += (size_t)n;
    }
}

/* <PRI>Jan 31 23:59:59 host tag: line */
static void send_line(struct sb_log_writer *w, const char *p, size_t len)
{
    char text[SYSLOG_HEAD_MAX + SYSLOG_LINE_MAX], date[32];
    time_t now = time(NULL);
    struct tm tm;
    int n;

    localtime_r(&now, &tm);
    strftime(date, sizeof date, "%b %e %H:%M:%S", &tm);
    n = snprintf(text, SYSLOG_HEAD_MAX, "<%d>%s %s%s%s: ", w->target->priority, date,
                 w->target->no_hostname ? "" : w->hostname, w->target->no_hostname ? "" : " ",
                 w->target->tag);
    if (len > SYSLOG_LINE_MAX)
        len = SYSLOG_LINE_MAX;
    memcpy(text + n, p, len);
    if (send(w->fd, text, (size_t)n + len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        w->lost++;
}

static void send_block(struct sb_log_writer *w, const struct sb_log_block *b)
{
    const char *p = b->data, *end = b->data + b->len, *eol;

    for (; p < end && (eol = memchr(p, '\n', (size_t)(end - p))); p = eol + 1)
        send_line(w, p, (size_t)(eol - p));
}

/* -- the thread -------------------------------------------------------------------------------- */

static void write_list(struct sb_log_writer *w, struct sb_log_block *list)
{
    for (struct sb_log_block *next; list; list = next) {
        next = list->next;
        if (is_syslog(w->target))
            send_block(w, list);
        else
            write_block(w, list);
        free(list);
    }
}

static void *run_writer(void *arg)
{
    struct sb_log_writer *w = arg;
    bool stop = false;

    while (!stop) {
        struct sb_log_block *list;
        bool again;

        pthread_mutex_lock(&w->shared.lock);
        while (!w->shared.first && !w->shared.stop && !w->shared.reopen)
            pthread_cond_wait(&w->shared.wake, &w->shared.lock);
        list = w->shared.first;
        w->shared.first = NULL;
        w->shared.last = &w->shared.first;
        w->shared.count = 0;
        w->lost = w->shared.lost;
        w->shared.lost = 0;
        again = w->shared.reopen;
        w->shared.reopen = false;
        stop = w->shared.stop && !list;
        pthread_mutex_unlock(&w->shared.lock);
        write_list(w, list);
        if (w->lost)
            sb_error("access log %s: %zu lines lost: it takes them too slowly, or not at all",
                     w->target->text, w->lost);
        if (again)
            reopen(w);
    }
    return NULL;
}

enum sb_rc sb_log_writer_new(const struct sb_log_target *target, struct sb_log_writer **out,
                             struct sb_err *err)
{
    struct sb_log_writer *w = sb_xcalloc(1, sizeof *w);

    w->target = target;
    w->fd = open_target(target);
    if (w->fd < 0) {
        free(w);
        return sb_err_set(err, SB_IO, "cannot open %s: %s", target->text, strerror(errno));
    }
    note_kind(w);
    gethostname(w->hostname, sizeof w->hostname - 1);
    w->shared.last = &w->shared.first;
    pthread_mutex_init(&w->shared.lock, NULL);
    pthread_cond_init(&w->shared.wake, NULL);
    sb_assert(pthread_create(&w->thread, NULL, run_writer, w) == 0);
    *out = w;
    return SB_OK;
}

void sb_log_writer_free(struct sb_log_writer *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->shared.lock);
    w->shared.stop = true;
    pthread_cond_signal(&w->shared.wake);
    pthread_mutex_unlock(&w->shared.lock);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->shared.lock);
    pthread_cond_destroy(&w->shared.wake);
    close(w->fd);
    free(w);
}

void sb_log_writer_reopen(struct sb_log_writer *w)
{
    pthread_mutex_lock(&w->shared.lock);
    w->shared.reopen = true;
    pthread_cond_signal(&w->shared.wake);
    pthread_mutex_unlock(&w->shared.lock);
}

void sb_log_writer_take(struct sb_log_writer *w, struct sb_log_block *b)
{
    pthread_mutex_lock(&w->shared.lock);
    if (w->shared.count < SB_LOG_BLOCKS_MAX) {
        b->next = NULL;
        *w->shared.last = b;
        w->shared.last = &b->next;
        w->shared.count++;
        b = NULL;
    } else {
        w->shared.lost += b->lines;
    }
    pthread_cond_signal(&w->shared.wake);
    pthread_mutex_unlock(&w->shared.lock);
    free(b);
}
