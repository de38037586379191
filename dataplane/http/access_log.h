/* access_log.h - a line an exchange, off the worker's path.
 *
 * A worker formats lines into a buffer of its own and hands the buffer over when it is full or a
 * moment old; one thread of the process writes them. A disk that stands still costs lines, counted
 * and reported, never latency.
 */
#ifndef SB_DATAPLANE_HTTP_ACCESS_LOG_H
#define SB_DATAPLANE_HTTP_ACCESS_LOG_H

#include "shared/err.h"

struct sb_access_log;
struct sb_access_writer;
struct sb_exchange;
struct sb_worker;

/* Opens path for append and starts the thread. */
SB_MUST enum sb_rc sb_access_writer_new(const char *path, struct sb_access_writer **out,
                                        struct sb_err *err);
/* Writes what is left and ends the thread. NULL is nothing to do. */
void sb_access_writer_free(struct sb_access_writer *aw);
void sb_access_writer_reopen(struct sb_access_writer *aw);

struct sb_access_log *sb_access_log_new(struct sb_worker *w, struct sb_access_writer *aw);
void sb_access_log_free(struct sb_access_log *log);
/* Kong's default format (proxy-http.md 16). */
void sb_access_log_add(struct sb_access_log *log, struct sb_exchange *x);

#endif
