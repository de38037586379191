/* pg.h - a PostgreSQL session, on libpq.
 *
 * For the threads that may block: migrations, the control plane, the Admin API, the config thread.
 * (Workers never use this: they have pipelined asynchronous connections of their own.)
 *
 * Every session, on connect: time zone UTC (Kong's schema mixes timestamps with and without zone;
 * any other zone would shift its defaults and expire live rows), search_path to pg_schema,
 * application_name. A session is used by one thread.
 *
 * A transaction pooler such as PgBouncer in between is noticed at connect (sb_pg_pooled): then
 * nothing is prepared, what a session would keep is set in each transaction, and LISTEN does not
 * work: poll.
 */
#ifndef SB_SHARED_PG_H
#define SB_SHARED_PG_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/str.h"

/* The pg_* settings (reference/configuration.md); strings may be NULL where unset. */
struct sb_pg_config {
    /* Several: comma separated, tried in order; a path is a socket directory. With several, a
     * standby is passed over unless read_only. */
    const char *host;
    int port;
    const char *user, *password, *database;
    const char *schema;      /* NULL: the session's default */
    const char *application; /* application_name; NULL: "silverback" */
    int timeout_ms;          /* connect and each statement; 0: none */
    /* ssl alone: TLS if the server has it; required: or fail; verify: also its chain and its name.
     */
    bool ssl, ssl_required, ssl_verify;
    const char *ssl_version;        /* the least: tlsv1_2, tlsv1_3; NULL or "any": TLS 1.2 */
    const char *ssl_cert, *ssl_key; /* paths; NULL: no client certificate */
    const char *ssl_ca; /* lua_ssl_trusted_certificate: "system", paths or PEM, comma separated */
    bool read_only;     /* transactions are read-only: for pg_ro_* */
};

struct sb_pg;

/* Opens and prepares a session; blocks at most timeout_ms per host (name resolution comes on top).
 * Errors say host, port, user and what to do, never the password. SB_DENIED: user or password
 * wrong; SB_NOTFOUND: no such database; SB_INVALID: settings; SB_TIMEOUT, SB_UNAVAILABLE. */
SB_MUST enum sb_rc sb_pg_connect(const struct sb_pg_config *config, struct sb_pg **out,
                                 struct sb_err *err);
void sb_pg_free(struct sb_pg *pg);

/* False once the connection broke: free it and connect anew. */
bool sb_pg_alive(const struct sb_pg *pg);
int sb_pg_server_version(const struct sb_pg *pg); /* 150004 for 15.4 */
int sb_pg_socket(const struct sb_pg *pg);         /* for poll(); only to wait for notifications */
bool sb_pg_pooled(const struct sb_pg *pg);        /* a transaction pooler is in between */
bool sb_pg_in_transaction(const struct sb_pg *pg);
void *sb_pg_handle(struct sb_pg *pg); /* PGconn, for pg_async.c */

/* Another limit for the statements from now on; 0: none. */
SB_MUST enum sb_rc sb_pg_set_timeout(struct sb_pg *pg, int timeout_ms, struct sb_err *err);

/* One or more statements without parameters or rows. */
SB_MUST enum sb_rc sb_pg_exec(struct sb_pg *pg, const char *sql, struct sb_err *err);

/* Rows of one statement, as text. */
struct sb_pg_rows {
    void *result; /* PGresult */
    int count, columns, at;
};

/* params: text, NULL for SQL NULL. Prepared once per distinct SQL text and session, unless prepare
 * is off (sb_pg_set_prepare: behind a transaction pooler). On failure the rc is SB_CONFLICT for
 * unique and foreign keys (details by sb_pg_sqlstate, sb_pg_constraint), SB_UNAVAILABLE when the
 * connection is gone, SB_TIMEOUT, SB_DENIED (42501, 25006, 28xxx), SB_AGAIN for a deadlock or a
 * serialisation failure, SB_INVALID else. A statement that the server does not answer in time
 * breaks the session. */
SB_MUST enum sb_rc sb_pg_query(struct sb_pg *pg, const char *sql, const struct sb_str *params,
                               int nparams, struct sb_pg_rows *rows, struct sb_err *err);
void sb_pg_set_prepare(struct sb_pg *pg, bool on);

/* Of the last failed statement; "" when there is none. */
const char *sb_pg_sqlstate(const struct sb_pg *pg);
const char *sb_pg_constraint(const struct sb_pg *pg);
const char *sb_pg_message(const struct sb_pg *pg); /* the server's primary message */
const char *sb_pg_detail(const struct sb_pg *pg);  /* may quote values: not for logs */

/* for (…; sb_pg_next(&rows); ) - starts before the first row. */
bool sb_pg_next(struct sb_pg_rows *rows);
bool sb_pg_is_null(const struct sb_pg_rows *rows, int column);
struct sb_str sb_pg_text(const struct sb_pg_rows *rows,
                         int column);                              /* "" for NULL; until release */
int64_t sb_pg_int(const struct sb_pg_rows *rows, int column);      /* 0 for NULL */
int sb_pg_column(const struct sb_pg_rows *rows, const char *name); /* -1: none */
const char *sb_pg_column_name(const struct sb_pg_rows *rows, int column);
void sb_pg_rows_release(struct sb_pg_rows *rows);
int64_t sb_pg_affected(const struct sb_pg_rows *rows);

/* Notifications: LISTEN with sb_pg_exec; then take what came, without blocking. False: none left.
 */
struct sb_pg_notice {
    char channel[64];
    char payload[256];
};
bool sb_pg_next_notice(struct sb_pg *pg, struct sb_pg_notice *out);

/* Arrays: text[] and uuid[] literals to and from lists; one dimension. A NULL in them has p NULL.
 */
struct sb_str sb_pg_array_text(struct sb_arena *a, const struct sb_str *items, size_t n);
bool sb_pg_array_parse(struct sb_arena *a, struct sb_str literal, struct sb_str **items, size_t *n);
/* What an SQLSTATE means: see sb_pg_query. */
enum sb_rc sb_pg_sqlstate_rc(const char *sqlstate);
/* A quoted identifier. */
struct sb_str sb_pg_ident(struct sb_arena *a, const char *name);

#endif
