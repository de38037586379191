/* build.h - from changed rows to the next snapshot.
 *
 *     model --dirty nodes--> by rank: vaults | certificates, targets, plugins | services,
 * upstreams, snis | routes: each compiled anew, its users marked dirty in turn
 *            --> router, tables of names and slots, chains of plugins --> snapshot n+1, sharing the
 * rest with n
 *
 * What a change costs is what it touches: the row, what is compiled from it, and the parts of the
 * tables on the way. An entity that does not compile is in no table: it has a trouble, said in the
 * log once and listed, until it or what it lacked changes.
 *
 * (I1) Any sequence of changes gives the snapshot that a fresh build of the same rows gives.
 * (I2) Objects are freed when no snapshot that is held reaches them (lifetime.h).
 *
 * One thread's; nothing blocks.
 */
#ifndef SB_DATAPLANE_CONFIG_BUILD_H
#define SB_DATAPLANE_CONFIG_BUILD_H

#include "dataplane/config/model.h"
#include "dataplane/config/snapshot.h"
#include "dataplane/router/router.h"
#include "shared/value.h"

struct sb_settings;

/* settings: for plugins, must outlive the builder; NULL: all are enabled. */
struct sb_builder *sb_builder_new(enum sb_router_flavor flavor, const struct sb_settings *settings);
/* Every snapshot is gone with it, also those not given back. */
void sb_builder_free(struct sb_builder *b);

/* Rows go in here. */
struct sb_model *sb_builder_model(struct sb_builder *b);

/* Without a database: the credentials of the snapshots to come, in place of those before. Takes
 * them. */
void sb_builder_set_credentials(struct sb_builder *b, struct sb_memory *credentials);

/* Asks anew for the secrets that rows refer to (plugins/vault.h). True: there is something to
 * build.
 */
bool sb_builder_rotate(struct sb_builder *b);

/* Compiles what changed since the last call. The snapshot is held until sb_builder_retire. */
const struct sb_snapshot *sb_builder_build(struct sb_builder *b, uint64_t version);
void sb_builder_retire(struct sb_builder *b, const struct sb_snapshot *snap);

/* The router's own builder, for explaining (router.h). */
struct sb_router_builder *sb_builder_routes(struct sb_builder *b);

/* Entities that are stored but not served: how many; as a list (config.h: sb_config_left_out); and
 * a number that differs after every change of the list. */
size_t sb_builder_left_out_count(const struct sb_builder *b);
struct sb_value *sb_builder_left_out(const struct sb_builder *b, struct sb_arena *a);
uint64_t sb_builder_left_out_edition(const struct sb_builder *b);

/* What the last build compiled, for tests and benchmarks: the cost of a change. */
size_t sb_builder_compiled(const struct sb_builder *b);
size_t sb_builder_rechained(const struct sb_builder *b); /* chains of plugins */
size_t sb_builder_held(const struct sb_builder *b);      /* snapshots not given back */
size_t sb_builder_waiting(const struct sb_builder *b); /* dropped objects that those still reach */

#endif
