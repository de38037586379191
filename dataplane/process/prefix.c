#include "dataplane/process/prefix.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/buf.h"
#include "shared/log.h"
#include "shared/settings.h"

enum { PID_LEN_MAX = 32 };

static const char pid_file[] = "pids/nginx.pid";

/* mkdir -p */
static enum sb_rc make_directory(const char *path, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    char *p = sb_arena_cstr(a, sb_str_c(path));
    enum sb_rc rc = SB_OK;

    for (char *slash = p + 1; *slash; slash++) {
        if (*slash != '/')
            continue;
        *slash = '\0';
        mkdir(p, 0755);
        *slash = '/';
    }
    if (mkdir(p, 0755) && errno != EEXIST)
        rc = sb_err_set(err, SB_IO, "the directory %s cannot be made: %s", path, strerror(errno));
    sb_arena_free(a);
    return rc;
}

static enum sb_rc write_file(const char *path, struct sb_str text, mode_t mode, struct sb_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    bool ok = fd >= 0 && write(fd, text.p, text.len) == (ssize_t)text.len;
    int saved = errno;

    if (fd >= 0)
        close(fd);
    return ok ? SB_OK : sb_err_set(err, SB_IO, "%s cannot be written: %s", path, strerror(saved));
}

static enum sb_rc write_env(const struct sb_settings *s, struct sb_arena *a, struct sb_err *err)
{
    struct sb_buf text;
    enum sb_rc rc;

    sb_buf_init(&text, 0);
    sb_settings_dump(s, &text);
    rc = write_file(sb_settings_path(s, a, ".kong_env").p, sb_buf_get(&text), 0640, err);
    sb_buf_release(&text);
    return rc;
}

enum sb_rc sb_prefix_prepare(const struct sb_settings *s, struct sb_err *err)
{
    static const char *const below[] = {"pids", "logs", "ssl", "sockets"};
    const char *prefix = sb_settings_prefix(s);
    struct sb_arena *a = sb_arena_new(0);
    enum sb_rc rc;

    if (access(prefix, F_OK) != 0)
        sb_warn("prefix directory %s not found, trying to create it", prefix);
    rc = make_directory(prefix, err);
    for (size_t i = 0; !rc && i < sizeof below / sizeof *below; i++)
        rc = make_directory(sb_settings_path(s, a, below[i]).p, err);
    if (!rc)
        rc = write_env(s, a, err);
    if (rc)
        sb_err_at(err, "could not prepare Kong prefix at %s", prefix);
    sb_arena_free(a);
    return rc;
}

static const char *pid_path(struct sb_arena *a, const char *prefix)
{
    return sb_arena_printf(a, "%s/%s", prefix, pid_file).p;
}

pid_t sb_prefix_pid(const char *prefix)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_buf text;
    int64_t pid = 0;

    sb_buf_init(&text, PID_LEN_MAX);
    if (!sb_buf_read_file(&text, pid_path(a, prefix)) ||
        !sb_str_int(sb_str_trim(sb_buf_get(&text)), &pid) || pid <= 0 ||
        (kill((pid_t)pid, 0) != 0 && errno == ESRCH))
        pid = 0;
    sb_buf_release(&text);
    sb_arena_free(a);
    return (pid_t)pid;
}

enum sb_rc sb_prefix_write_pid(const char *prefix, struct sb_err *err)
{
    struct sb_arena *a = sb_arena_new(0);
    enum sb_rc rc =
        write_file(pid_path(a, prefix), sb_arena_printf(a, "%d\n", (int)getpid()), 0644, err);

    sb_arena_free(a);
    return rc;
}

void sb_prefix_remove_pid(const char *prefix)
{
    struct sb_arena *a = sb_arena_new(0);

    if (sb_prefix_pid(prefix) == getpid())
        unlink(pid_path(a, prefix));
    sb_arena_free(a);
}
