/* admin.h - the Admin API (admin_listen) and the status listener (status_listen).
 *
 * Two threads with an event loop each, so that the one that must always answer never waits for the
 * one that may:
 *
 *     admin thread    evhttp on admin_listen    entities, /config; blocks on PostgreSQL
 *     status thread   evhttp on status_listen   /status, /status/ready, /metrics; never blocks
 *
 * Entities are served from the field tables alone: what is in sb_entities() has its endpoints, its
 * nested endpoints, its filters and its errors (reference/admin-api.md). With a database the admin
 * thread owns one session, opened on first use and again after it broke; each request is one
 * transaction at most. Without one, entities are read from the rows that are served, and writes
 * are refused as Kong does.
 */
#ifndef SB_DATAPLANE_ADMIN_ADMIN_H
#define SB_DATAPLANE_ADMIN_ADMIN_H

#include <stdbool.h>

#include "shared/err.h"

struct sb_admin;
struct sb_config;
struct sb_settings;
struct sb_workers;

struct sb_admin_parts { /* all must outlive the sb_admin */
    const struct sb_settings *settings;
    struct sb_workers *workers;
    struct sb_config *config;
};

/* Opens the listeners; a listener list that is "off" or empty has none. Who connects waits. parts
 * is copied. On failure nothing is left open and err names the setting. */
SB_MUST enum sb_rc sb_admin_start(const struct sb_admin_parts *parts, struct sb_admin **out,
                                  struct sb_err *err);

/* Starts the threads: who waits is answered. */
void sb_admin_open(struct sb_admin *admin);

/* Their access logs are opened anew, at the next line. */
void sb_admin_reopen_logs(struct sb_admin *admin);
/* Readiness answers 503 "draining" from now on: what `kong drain` and a graceful stop want. Any
 * thread. */
void sb_admin_drain(struct sb_admin *admin);

/* Ends both threads: a request under way finishes (at most pg_timeout), no other is taken; gently:
 * but for those of connections that were let in already. Blocks. */
void sb_admin_stop(struct sb_admin *admin, bool gently);

#endif
