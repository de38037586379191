/* credentials.h - consumers and credentials, looked up while an exchange waits.
 *
 * They are not part of a snapshot: there may be ten million of them, and they stay in PostgreSQL.
 *
 *     hook --find--> rows that this exchange has --> cache --> database    SB_AGAIN; called again
 *                    (the same answer for all        (one a    (the worker's pipelined connection;
 *                    of its plugins)                 process)  equal look-ups share one query)
 *
 * From a hook of rewrite or access, on its worker; nothing blocks. A look-up or a write that has to
 * wait suspends the exchange and says SB_AGAIN: the hook returns SB_AGAIN at once, is called again
 * from its beginning once there is an answer, asks the same thing again and gets it. An exchange
 * waits for one thing at a time.
 *
 *     rc = sb_credential_find(x, SB_KEYAUTH_BY_KEY, key, &found);
 *     if (rc == SB_AGAIN)
 *         return rc;
 *     if (rc == SB_UNAVAILABLE)
 *         return sb_exchange_answer_error(x, 503, SB_STR("")), SB_OK;
 *
 * SB_UNAVAILABLE: the database is away and this is not known from before, or too many look-ups of
 * the same source wait already: 503, never 401. What is known goes on working while the database is
 * away (db_resurrect_ttl). Without a database everything is in memory: never SB_AGAIN, never
 * SB_UNAVAILABLE, and writes are SB_DENIED.
 *
 * Rows are immutable and stay until the exchange ends. A row whose ttl is over is not found. A
 * value that no row can have (not UTF-8, not a UUID where one is wanted, longer than 8 KiB) is
 * SB_NOTFOUND without a question. Equality is the database's: bytewise; comparing secrets is the
 * caller's (CRYPTO_memcmp).
 */
#ifndef SB_DATAPLANE_PLUGINS_CREDENTIALS_CREDENTIALS_H
#define SB_DATAPLANE_PLUGINS_CREDENTIALS_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"
#include "shared/str.h"

struct sb_consumer;   /* phase.h */
struct sb_credential; /* phase.h */
struct sb_entity;
struct sb_exchange;
struct sb_value;

/* What can be looked up, and by what. Values are as the field has them. */
enum sb_lookup {
    SB_CONSUMER_BY_ID,
    SB_CONSUMER_BY_USERNAME,
    SB_CONSUMER_BY_CUSTOM_ID,
    SB_KEYAUTH_BY_KEY,
    SB_BASICAUTH_BY_USERNAME,
    SB_HMACAUTH_BY_USERNAME,
    SB_JWT_BY_KEY,
    SB_OAUTH2_BY_CLIENT_ID,
    SB_OAUTH2_BY_ID,
    SB_TOKEN_BY_ACCESS_TOKEN,
    SB_TOKEN_BY_REFRESH_TOKEN,
    SB_CODE_BY_CODE,          /* oauth2_authorization_codes; never cached */
    SB_SESSION_BY_SESSION_ID, /* cached for a second at most */
    SB_ACLS_BY_CONSUMER,      /* a list, by the consumer's id */
    SB_LOOKUPS
};

struct sb_found {
    const struct sb_entity *kind;
    struct sb_str id;
    struct sb_str consumer_id;    /* of what belongs to a consumer; else "" */
    const struct sb_value *value; /* the row: fields by name, absent where null; foreign: {"id"};
                                     timestamps in seconds; without ttl */
    int64_t expires_ms;           /* wall clock; 0: never */
    /* Ready for sb_exchange_authenticate(); credential->row is this struct. */
    const struct sb_consumer *consumer;     /* of a row of consumers; else NULL */
    const struct sb_credential *credential; /* of other rows */
};

/* The row: SB_OK, SB_NOTFOUND, SB_AGAIN, SB_UNAVAILABLE. Finding a credential brings its consumer
 * along in the same query, so that looking that up next costs nothing. */
SB_MUST enum sb_rc sb_credential_find(struct sb_exchange *x, enum sb_lookup by, struct sb_str value,
                                      const struct sb_found **found);

/* All rows, in no order: SB_OK also when there are none (*n is 0). */
SB_MUST enum sb_rc sb_credential_list(struct sb_exchange *x, enum sb_lookup by, struct sb_str value,
                                      const struct sb_found **rows, size_t *n);

/* Writes that a plugin makes on behalf of clients: tokens, codes, sessions. They go to the primary,
 * on a connection of their own. The struct is the caller's, zeroed before the first call, and must
 * be the same one when the hook is called again (sb_exchange_state); so a hook that does several
 * writes has several. When it is done every further call gives the same result.
 * With write NULL nobody waits: SB_OK at once, a failure is logged; in any phase. */
struct sb_write {
    bool begun, done;
    enum sb_rc rc;
    const struct sb_found *row; /* as stored now; of a delete: as it was. NULL unless SB_OK */
};

/* A new row. input is what a POST to the Admin API may have: ids, times, defaults and generated
 * fields are filled in; "ttl": seconds. SB_OK, SB_AGAIN, SB_INVALID (the input, or what it refers
 * to is gone), SB_CONFLICT (unique), SB_UNAVAILABLE, SB_DENIED. */
SB_MUST enum sb_rc sb_credential_insert(struct sb_exchange *x, const struct sb_entity *kind,
                                        const struct sb_value *input, struct sb_write *write);
/* Sets the fields that patch has (complete values; "ttl" too) in the row of that id; a null value
 * clears. SB_NOTFOUND when it is not there, or is expired. */
SB_MUST enum sb_rc sb_credential_update(struct sb_exchange *x, const struct sb_entity *kind,
                                        struct sb_str id, const struct sb_value *patch,
                                        struct sb_write *write);
/* Deletes it. SB_NOTFOUND when it is not there (any more): of several that race, one gets SB_OK, so
 * that what may be used once is used once. */
SB_MUST enum sb_rc sb_credential_delete(struct sb_exchange *x, const struct sb_entity *kind,
                                        struct sb_str id, struct sb_write *write);

#endif
