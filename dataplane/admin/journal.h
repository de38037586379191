/* journal.h - inside admin/: the access log of a listener, a line an answer, as nginx's `combined`:
 *
 *     127.0.0.1 - - [21/Nov/2026:10:00:00 +0000] "GET /status HTTP/1.1" 200 1234 "-" "curl/8.0"
 *
 * Written by a thread of its own; whoever answers never waits for it.
 */
#ifndef SB_DATAPLANE_ADMIN_JOURNAL_H
#define SB_DATAPLANE_ADMIN_JOURNAL_H

#include "shared/err.h"
#include "shared/str.h"

struct sb_journal;
struct sb_settings;

struct sb_journal_entry {
    const char *peer, *method, *target, *version;
    int status;
    size_t len; /* of the body */
    struct sb_str referer, agent;
};

/* setting: "admin_access_log": a path or what else a proxy_access_log may be; "off": *out NULL. */
SB_MUST enum sb_rc sb_journal_open(const struct sb_settings *settings, const char *setting,
                                   struct sb_journal **out, struct sb_err *err);
/* NULL is nothing to do, here and below. */
void sb_journal_add(struct sb_journal *j, const struct sb_journal_entry *e);
void sb_journal_reopen(struct sb_journal *j); /* any thread */
void sb_journal_close(struct sb_journal *j);

#endif
