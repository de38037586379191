/* log.h - the error log. Levels are Kong's (reference/configuration.md: log_level); a line is
 *   2026/01/31 23:59:59 [notice] 1234#0: text
 * as nginx writes it, so that people's log pipelines keep working. One write(2) a line, so lines of
 * several threads don't mix. Never on the plain request path.
 */
#ifndef SB_SHARED_LOG_H
#define SB_SHARED_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sb_log_level {
    SB_LOG_EMERG,
    SB_LOG_ALERT,
    SB_LOG_CRIT,
    SB_LOG_ERROR,
    SB_LOG_WARN,
    SB_LOG_NOTICE,
    SB_LOG_INFO,
    SB_LOG_DEBUG,
};

/* The level from its name ("error", "warn", ...); false when there is none of that name. */
bool sb_log_level_parse(const char *name, enum sb_log_level *out);
const char *sb_log_level_name(enum sb_log_level level);

/* Lines above this level are dropped. May be called at any time from any thread. Default: notice.
 */
void sb_log_set_level(enum sb_log_level level);
enum sb_log_level sb_log_get_level(void);

/* For so long, then what it was before anybody lent it; 0: for good. Any thread. */
void sb_log_lend_level(enum sb_log_level level, int64_t ms);
/* Takes back what was lent, when its time is over. To be called now and then. */
void sb_log_tick(void);
/* "debug 53000": what is lent, and for how many milliseconds more; "" when nothing is. */
void sb_log_lent(char *out, size_t size);
/* The same read back; false: it says something else, and nothing changes. */
bool sb_log_lend_text(const char *text);

/* Where lines go: a path (opened for append; reopened by sb_log_reopen), or NULL for stderr.
 * Returns false with errno when it cannot be opened; the old place stays. */
bool sb_log_set_file(const char *path);
void sb_log_reopen(void);
/* What libraries and the system write to stderr goes where lines go, from here on. */
void sb_log_take_stderr(void);

#define sb_log(level, ...)                                                                         \
    ((level) <= sb_log_get_level() ? sb_log_write((level), __VA_ARGS__) : (void)0)
void sb_log_write(enum sb_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#define sb_error(...)  sb_log(SB_LOG_ERROR, __VA_ARGS__)
#define sb_warn(...)   sb_log(SB_LOG_WARN, __VA_ARGS__)
#define sb_notice(...) sb_log(SB_LOG_NOTICE, __VA_ARGS__)
#define sb_info(...)   sb_log(SB_LOG_INFO, __VA_ARGS__)
#define sb_debug(...)  sb_log(SB_LOG_DEBUG, __VA_ARGS__)

#endif
