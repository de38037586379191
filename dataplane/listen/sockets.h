/* sockets.h - listening sockets that outlive the process which listens.
 *
 * A connection that a client opened but nobody accepted yet lives in its listening socket and dies
 * with it. So sockets are never closed to be opened again by the next process: they are handed on
 * (process/master.c), and who needs to listen asks here first.
 *
 *     master --adopt--> table --open--> the same socket, with the new settings' options
 *                             \-------> or a fresh one, where none was handed down
 *
 * One table a process. Not for threads: all of it is for the main thread, before others start.
 */
#ifndef SB_DATAPLANE_LISTEN_SOCKETS_H
#define SB_DATAPLANE_LISTEN_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"

struct sb_listen;

enum { SB_SOCKETS_MAX = 4096 };

/* A socket that was handed down: whose it is, is read from the socket. Takes fd over. */
void sb_sockets_adopt(int fd);
/* How many sockets for this address and type (SOCK_STREAM, SOCK_DGRAM) wait to be opened. More than
 * one stand for several workers: each has to be read, or its connections wait forever. */
size_t sb_sockets_waiting(const struct sb_listen *l, int type);
/* The next socket for the address: a waiting one, else a new one, bound and (for streams)
 * listening, with the options of l set. Sockets for one address share it (SO_REUSEPORT), but with
 * no other process: the address being in use is an error. The caller closes *fd when it stops
 * listening; the table keeps a copy until sb_sockets_release. SB_IO says the reason in errno. */
SB_MUST enum sb_rc sb_sockets_open(const struct sb_listen *l, int type, int *fd);

/* Copies of all that were opened, to be handed on: fills fds (room for SB_SOCKETS_MAX), returns how
 * many. Valid until sb_sockets_release. */
size_t sb_sockets_opened(int *fds);
/* Lets go of the table's copies, and of what was handed down but not opened. */
void sb_sockets_release(void);

#endif
