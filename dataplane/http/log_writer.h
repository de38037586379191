/* log_writer.h - a thread that writes what workers log, to a file, a stream or a syslog server.
 *
 * Workers hand over blocks of whole lines and never wait. At most SB_LOG_BLOCKS_MAX blocks are
 * kept; what comes beyond is dropped, counted, and said in the error log.
 */
#ifndef SB_DATAPLANE_HTTP_LOG_WRITER_H
#define SB_DATAPLANE_HTTP_LOG_WRITER_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/str.h"

enum { SB_LOG_BLOCK_LEN = 64 << 10, SB_LOG_BLOCKS_MAX = 256 };

/* Whole lines, from malloc. */
struct sb_log_block {
    struct sb_log_block *next;
    size_t len, lines;
    char data[SB_LOG_BLOCK_LEN];
};

/* Where lines go: a path; "/dev/stdout" and "/dev/stderr", which are what the process was started
 * with, whatever that is; or nginx's
 *     syslog:server=HOST[:PORT]|unix:PATH[,facility=F][,severity=S][,tag=T][,nohostname] */
struct sb_log_target;

/* path: how a relative one becomes absolute is the caller's affair. Strings are copied. */
SB_MUST enum sb_rc sb_log_target_parse(struct sb_arena *a, struct sb_str text,
                                       struct sb_log_target **out, struct sb_err *err);

struct sb_log_writer;

/* Opens the target, which must outlive the writer, and starts the thread. May resolve a name. */
SB_MUST enum sb_rc sb_log_writer_new(const struct sb_log_target *target, struct sb_log_writer **out,
                                     struct sb_err *err);
/* Writes what is left, for a second at most, and ends the thread. NULL is nothing to do. */
void sb_log_writer_free(struct sb_log_writer *w);
/* Any thread, never blocks: the file is opened anew before what comes from here on. */
void sb_log_writer_reopen(struct sb_log_writer *w);
/* Takes the block over. Any thread. */
void sb_log_writer_take(struct sb_log_writer *w, struct sb_log_block *b);

#endif
