/* publish.c - a snapshot on its way to the workers. Apart from workers.c, so that the config thread
 * can be run without any. */
#include "dataplane/listen/worker.h"
#include "shared/arena.h"

void sb_workers_publish(struct sb_workers *ws, const struct sb_snapshot *snap,
                        void (*retired)(void *arg, const struct sb_snapshot *snap), void *arg)
{
    struct sb_publication *p = sb_xcalloc(1, sizeof *p);

    p->snap = snap;
    p->retired = retired;
    p->arg = arg;
    sb_workers_hand_out(ws, p);
}
