#include "shared/err.h"

#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/log.h"

enum sb_rc sb_err_set(struct sb_err *err, enum sb_rc rc, const char *fmt, ...)
{
    va_list ap;

    if (err) {
        err->rc = rc;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return rc;
}

void sb_err_at(struct sb_err *err, const char *fmt, ...)
{
    char old[SB_ERR_LEN_MAX];
    va_list ap;
    size_t at;
    int n;

    if (!err)
        return;
    memcpy(old, err->text, sizeof old);
    va_start(ap, fmt);
    n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    at = n < 0 ? 0 : (size_t)n < sizeof err->text ? (size_t)n : sizeof err->text - 1;
    snprintf(err->text + at, sizeof err->text - at, ": %s", old);
}

const char *sb_rc_name(enum sb_rc rc)
{
    static const char *const names[] = {
        [SB_OK] = "ok",
        [SB_INVALID] = "invalid",
        [SB_NOTFOUND] = "not found",
        [SB_CONFLICT] = "conflict",
        [SB_UNAVAILABLE] = "unavailable",
        [SB_TIMEOUT] = "timeout",
        [SB_DENIED] = "denied",
        [SB_TOOLARGE] = "too large",
        [SB_IO] = "input/output",
        [SB_AGAIN] = "would block",
    };

    return (size_t)rc < sizeof names / sizeof *names ? names[rc] : "unknown";
}

void sb_bug(const char *cond, const char *file, int line, const char *func)
{
    void *frames[64];
    int n = backtrace(frames, 64);

    sb_log_write(SB_LOG_EMERG, "bug: %s does not hold at %s:%d in %s()", cond, file, line, func);
    backtrace_symbols_fd(frames, n, 2);
    abort();
}
