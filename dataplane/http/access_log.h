/* access_log.h - a line an exchange, off the worker's path.
 *
 * A worker formats lines (log_format.h) into a block of its own and hands the block over when it is
 * full or a moment old; one thread of the process writes them (log_writer.h). A disk that stands
 * still costs lines, counted and reported, never latency.
 */
#ifndef SB_DATAPLANE_HTTP_ACCESS_LOG_H
#define SB_DATAPLANE_HTTP_ACCESS_LOG_H

#include "dataplane/http/log_format.h"
#include "dataplane/http/log_writer.h"

struct sb_settings;
struct sb_worker;

/* What proxy_access_log says. target NULL: off. */
struct sb_access_options {
    struct sb_log_target *target;
    const struct sb_log_format *format;
};

/* "path [format]": the format defined by nginx_http_log_format, or built in. err names the setting.
 */
SB_MUST enum sb_rc sb_access_options_load(struct sb_arena *a, const struct sb_settings *s,
                                          struct sb_access_options *out, struct sb_err *err);

struct sb_access_log;

struct sb_access_log *sb_access_log_new(struct sb_worker *w, const struct sb_log_format *format,
                                        struct sb_log_writer *writer);
void sb_access_log_free(struct sb_access_log *log);
void sb_access_log_add(struct sb_access_log *log, struct sb_exchange *x);

#endif
