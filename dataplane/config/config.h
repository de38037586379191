/* config.h - the config thread: from configuration rows to the snapshot that workers serve.
 *
 * It owns the model (the stored rows and what refers to what), the builder, and the copy on disk.
 * Rows come from one of two sources, by the setting `database`:
 *
 *     postgres   a full load, then deltas by version: LISTEN, or polling where that cannot work
 *     off        a declarative file or string at the start, then whatever sb_config_load_rows
 * brings
 *
 *     rows -> model -> builder -> snapshot n+1 -> sb_workers_publish -> ... -> retired -> freed
 *                  \-> <prefix>/config.saved, at most once a second, off the publish path
 *
 * Promises: (I1) What a snapshot shows is the state of one version, never a mixture. (I2) A broken
 * entity is left out, said in the log once and in sb_config_left_out; its neighbours don't notice,
 * and it comes alive when it, or what it lacked, is repaired. (I3) The cost of a change does not
 * grow with the number of entities that it does not touch. (I4) The source being away changes
 * nothing.
 */
#ifndef SB_DATAPLANE_CONFIG_CONFIG_H
#define SB_DATAPLANE_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "shared/uuid.h"
#include "shared/value.h"

struct sb_config;
struct sb_settings;
struct sb_workers;

enum { SB_CONFIG_HASH_LEN = 32 };

/* Starts the thread and returns once the first snapshot is published to the workers.
 *
 * postgres: SB_UNAVAILABLE when the database does not answer and no usable snapshot was saved. off:
 * declarative_config, else declarative_config_string, else what the last sb_config_load_rows saved,
 * else nothing; SB_INVALID with Kong's words when the file or the string is refused. settings and
 * workers must outlive the thread. May block for pg_timeout and as long as the first load takes. */
SB_MUST enum sb_rc sb_config_start(const struct sb_settings *settings, struct sb_workers *workers,
                                   struct sb_config **out, struct sb_err *err);

/* No other process of this node serves any more: from here on what is served is saved, and reported
 * to the database. again: one did until now; without a database and a declared document, what it
 * saved last is served. To be called once; blocks until that is published. */
void sb_config_take_over(struct sb_config *config, bool again);

/* Another process of this node serves from here on: what is served is on disk when this returns,
 * and neither saved nor reported any more. With a database it still follows it. */
void sb_config_release(struct sb_config *config);

/* Ends the thread: nothing is published any more; what was served is on disk. Workers may go on
 * with the snapshots they hold. */
void sb_config_stop(struct sb_config *config);
/* After sb_config_stop and after the workers have stopped: no one may hold a snapshot any more. */
void sb_config_free(struct sb_config *config);

/* -- from any thread -- */

/* Without a database: replaces the whole configuration by rows, {entity: [complete rows]} as
 * sb_declarative_load gives them (copied), and returns once it is published. Rows that did not
 * change keep their compiled objects. hash: 32 hex characters. SB_DENIED with a database,
 * SB_UNAVAILABLE when the thread was stopped. */
SB_MUST enum sb_rc sb_config_load_rows(struct sb_config *config, const struct sb_value *rows,
                                       const char *hash, struct sb_err *err);

/* The rows that the served snapshot was made of, copied into the arena: {entity: [rows]}, entities
 * in load order. With a database consumers and credentials are not among them. Waits for the
 * thread; not cheap. NULL when the thread was stopped. */
struct sb_value *sb_config_rows(struct sb_config *config, struct sb_arena *a);

enum sb_config_source {
    SB_CONFIG_FROM_NOTHING, /* DB-less without any configuration yet */
    SB_CONFIG_FROM_ROWS,    /* a declarative document */
    SB_CONFIG_FROM_DATABASE,
    SB_CONFIG_FROM_SAVED, /* the copy on disk; the database has not answered since the start */
};

struct sb_config_state {
    uint64_t served; /* version of the published snapshot */
    uint64_t newest; /* the newest version known of; served < newest while catching up */
    enum sb_config_source source;
    bool connected;                    /* the database answers */
    bool listening;                    /* and tells of changes by itself; else it is polled */
    size_t left_out;                   /* entities that are stored but not served */
    uint64_t loads, deltas;            /* whole loads and deltas applied since the start */
    int64_t changed_ms;                /* wall clock of the last publication */
    char hash[SB_CONFIG_HASH_LEN + 1]; /* of the declarative document; zeros without one */
    char trouble[256];                 /* why the database is not connected; "" while it is */
};

/* Cheap. */
void sb_config_version(struct sb_config *config, struct sb_config_state *out);

/* What is stored but not served: [{"entity":"routes","id":..,"name":..|null,"reason":..}], in the
 * arena. An entity is in it once. */
struct sb_value *sb_config_left_out(struct sb_config *config, struct sb_arena *a);

/* The node's id: the setting node_id, else the one kept in <prefix>/kong.id. */
const struct sb_uuid *sb_config_node_id(const struct sb_config *config);

/* Looks for changes now, without waiting for a notification or for the next poll. */
void sb_config_wake(struct sb_config *config);

#endif
