#include "shared/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shared/clock.h"

static const char *const level_names[] = {"emerg", "alert",  "crit", "error",
                                          "warn",  "notice", "info", "debug"};

enum { LINE_LEN_MAX = 4096 };

static _Atomic int threshold = SB_LOG_NOTICE;
static _Atomic int log_fd = STDERR_FILENO;
static char *log_path; /* set before threads start; read by reopen */
static bool stderr_taken;

static struct {
    pthread_mutex_t lock;
    bool on;
    enum sb_log_level before, level;
    int64_t until_ms;
} lent = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool sb_log_level_parse(const char *name, enum sb_log_level *out)
{
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum sb_log_level)i;
            return true;
        }
    }
    return false;
}

const char *sb_log_level_name(enum sb_log_level level)
{
    return level_names[level];
}

void sb_log_set_level(enum sb_log_level level)
{
    atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

enum sb_log_level sb_log_get_level(void)
{
    return (enum sb_log_level)atomic_load_explicit(&threshold, memory_order_relaxed);
}

void sb_log_lend_level(enum sb_log_level level, int64_t ms)
{
    pthread_mutex_lock(&lent.lock);
    if (!lent.on)
        lent.before = sb_log_get_level();
    lent.on = ms > 0;
    lent.level = level;
    lent.until_ms = sb_clock_ms() + ms;
    sb_log_set_level(level);
    pthread_mutex_unlock(&lent.lock);
}

void sb_log_tick(void)
{
    pthread_mutex_lock(&lent.lock);
    if (lent.on && sb_clock_ms() >= lent.until_ms) {
        lent.on = false;
        sb_log_set_level(lent.before);
    }
    pthread_mutex_unlock(&lent.lock);
}

void sb_log_lent(char *out, size_t size)
{
    int64_t left;

    out[0] = '\0';
    pthread_mutex_lock(&lent.lock);
    left = lent.until_ms - sb_clock_ms();
    if (lent.on && left > 0)
        snprintf(out, size, "%s %lld", level_names[lent.level], (long long)left);
    pthread_mutex_unlock(&lent.lock);
}

bool sb_log_lend_text(const char *text)
{
    enum sb_log_level level;
    char name[16];
    long long ms;

    if (sscanf(text, "%15s %lld", name, &ms) != 2 || !sb_log_level_parse(name, &level) || ms < 0)
        return false;
    sb_log_lend_level(level, ms);
    return true;
}

/* The number of the descriptor stays, so that a thread that writes meanwhile never meets a closed
 * one: dup3 swaps the file below it. */
static bool open_at(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    int old = atomic_load(&log_fd);

    if (fd < 0)
        return false;
    if (old == STDERR_FILENO) {
        atomic_store(&log_fd, fd);
        return true;
    }
    dup3(fd, old, O_CLOEXEC);
    close(fd);
    return true;
}

bool sb_log_set_file(const char *path)
{
    if (path && !open_at(path))
        return false;
    free(log_path);
    log_path = path ? strdup(path) : NULL;
    if (!path)
        atomic_store(&log_fd, STDERR_FILENO);
    return true;
}

void sb_log_take_stderr(void)
{
    stderr_taken = true;
    if (atomic_load(&log_fd) != STDERR_FILENO)
        dup2(atomic_load(&log_fd), STDERR_FILENO);
}

void sb_log_reopen(void)
{
    if (log_path && !open_at(log_path))
        sb_error("the log file %s cannot be reopened: %s", log_path, strerror(errno));
    else if (log_path && stderr_taken)
        sb_log_take_stderr();
}

void sb_log_write(enum sb_log_level level, const char *fmt, ...)
{
    char line[LINE_LEN_MAX];
    struct tm tm;
    time_t now = time(NULL);
    size_t n;
    va_list ap;
    int more;

    localtime_r(&now, &tm);
    n = strftime(line, sizeof line, "%Y/%m/%d %H:%M:%S ", &tm);
    n += (size_t)snprintf(line + n, sizeof line - n, "[%s] %d#%ld: ", level_names[level],
                          (int)getpid(), (long)syscall(SYS_gettid));
    va_start(ap, fmt);
    more = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
    va_end(ap);
    if (more > 0)
        n += (size_t)more < sizeof line - n - 1 ? (size_t)more : sizeof line - n - 2;
    line[n++] = '\n';
    if (write(atomic_load(&log_fd), line, n) < 0)
        return; /* nowhere left to say so */
}
