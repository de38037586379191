/* asking.h - what an exchange has asked and been told: part of struct sb_exchange, for the engine
 * and credentials.c.
 *
 * Every answer stays until the exchange ends: so the hook that is called again gets it, whatever
 * has happened to the cache since, and all plugins of an exchange see the same rows.
 */
#ifndef SB_DATAPLANE_PLUGINS_CREDENTIALS_ASKING_H
#define SB_DATAPLANE_PLUGINS_CREDENTIALS_ASKING_H

#include "dataplane/plugins/credentials/lookup.h"

struct sb_writing;

enum { SB_KEPT_ROOM = 4 };

struct sb_kept {
    struct sb_lookup_key key; /* by SB_LOOKUPS: only held */
    enum sb_rc rc;            /* SB_OK; SB_NOTFOUND; SB_UNAVAILABLE */
    struct sb_rows *rows;     /* of SB_OK */
    struct sb_kept *next;     /* of those behind the first SB_KEPT_ROOM */
};

struct sb_asking {
    bool used; /* anything of this is set */
    unsigned nkept;
    struct sb_kept *more; /* in the exchange's arena */
    /* The look-up under way: */
    struct sb_asker asker;
    struct sb_lookup_key key;
    struct sb_rows *stale; /* what does when the database does not answer */
    /* The write under way: */
    struct sb_writing *writing;
};

/* The exchange ends: nobody waits any more, and what was held is let go. */
void sb_asking_release(struct sb_asking *asking, struct sb_kept kept[SB_KEPT_ROOM]);

#endif
