/* channel.h - what the master and the serving processes say to each other, over a socket pair.
 *
 *     master                                serving process
 *       SOCKETS (descriptors) ... BEGIN  ->   adopts them, reads the settings, comes up
 *                                        <-   SOCKETS ... READY     or FAILED "why"
 *       LEAVE  -> the old one            <-   RELEASED  its API is closed, all it had to save is
 * saved GO     -> the new one            <-   STARTED   it has taken over (with a text when another
 * one served before)
 *
 * Messages keep their bounds (SOCK_SEQPACKET). Texts are cut at SB_WORD_LEN_MAX.
 */
#ifndef SB_DATAPLANE_PROCESS_CHANNEL_H
#define SB_DATAPLANE_PROCESS_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"

enum sb_word_kind {
    SB_WORD_SOCKETS = 1,
    SB_WORD_BEGIN,
    SB_WORD_READY,
    SB_WORD_FAILED,
    SB_WORD_LEAVE,
    SB_WORD_RELEASED,
    SB_WORD_GO,
    SB_WORD_STARTED,
};

enum { SB_WORD_LEN_MAX = 16 << 10, SB_WORD_FDS_MAX = 200 };

struct sb_word {
    enum sb_word_kind kind;
    char text[SB_WORD_LEN_MAX + 1];
    int fds[SB_WORD_FDS_MAX]; /* the receiver's */
    size_t nfds;
};

/* text may be NULL. SB_IO: the other end is gone. May block while the other end does not read. */
SB_MUST enum sb_rc sb_channel_say(int channel, enum sb_word_kind kind, const char *text);
/* As many SOCKETS messages as it takes. */
SB_MUST enum sb_rc sb_channel_say_sockets(int channel, const int *fds, size_t n);
/* The next message. wait false: SB_AGAIN when there is none. SB_IO: the other end is gone. */
SB_MUST enum sb_rc sb_channel_hear(int channel, bool wait, struct sb_word *out);

#endif
