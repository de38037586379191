/* saved.h - the copy of the configuration on disk, from which a node starts when its source is
 * away.
 *
 * One file, <prefix>/config.saved (mode 0600: it holds private keys), that is a whole state
 * followed by changes:
 *
 *     "silverback config 1\n"
 *     block rows | block rows | ... | block commit {version, node, source ...}     the whole state
 *     block rows | block commit                                                    a second later
 *     ...
 *
 * A block is type, length, CRC-32 and payload. What a reader takes is the state at the last commit
 * that is intact: a torn end is no harm. When the changes outgrow the state, the file is written
 * anew beside and renamed over.
 *
 * The config thread hands over bytes, a thread of the saver writes and syncs them, so a slow disk
 * delays nobody. A whole state is handed over piece by piece between changes; rows that change
 * meanwhile are written again behind it.
 */
#ifndef SB_DATAPLANE_CONFIG_SAVED_H
#define SB_DATAPLANE_CONFIG_SAVED_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/config/model.h"
#include "shared/err.h"
#include "shared/uuid.h"

struct sb_saved_meta {
    char node[SB_UUID_TEXT_LEN + 1];
    char source[192]; /* "off", or "postgres <database> <schema>" */
    int64_t mark;     /* of that version in the database's change log; 0 without */
    char hash[33];    /* of a declarative document; "" without */
    uint64_t version;
};

/* Reads the file into the model (which should be empty). meta->node and ->source are what the file
 * must be from; the rest is filled. SB_NOTFOUND: no file; SB_INVALID: damaged, foreign or of
 * another format, and the model is untouched; err says which. */
SB_MUST enum sb_rc sb_saved_load(const char *path, struct sb_model *model,
                                 struct sb_saved_meta *meta, struct sb_err *err);

struct sb_saver;

/* Starts the thread; the path is copied. Watches the model's rows from here on. */
struct sb_saver *sb_saver_start(const char *path, struct sb_model *model);
/* The model is at this version, completely: what changed since the last call may be written. */
void sb_saver_commit(struct sb_saver *s, const struct sb_saved_meta *meta);
/* Goes on with what is to be written; call it between changes. Returns in how many milliseconds it
 * wants to be called again, -1 when only after the next commit. Does not block. */
int sb_saver_tick(struct sb_saver *s, int64_t now_ms);
/* Blocks until all that was committed is on disk (or the disk refused); false: it did. */
bool sb_saver_flush(struct sb_saver *s);
/* Flushes (unless the model is between two versions, then the file stays as it is), ends the
 * thread, frees. */
void sb_saver_stop(struct sb_saver *s, bool complete);

#endif
