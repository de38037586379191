/* vault.h - secrets by reference (shared/secret_ref.h), for the config thread.
 *
 *     entity row --{vault://aws-like/db/password}--> vault of that prefix --kind--> the secret
 *
 * References are stored and shown as they were written; they are resolved when a snapshot is built
 * from the rows that hold them. A secret that can't be had is the empty string, with a line in the
 * log (once, until it can be had): the plugin or certificate says what it makes of that.
 *
 * Rotation: sb_vaults_rotate() asks for all secrets in use anew, so that what was changed is
 * noticed within a minute. Of the vault env, the variables of a process don't change while it runs:
 * new ones come with `kong reload` or a restart, and only the vault entities can change.
 *
 * One thread's. A kind must not block.
 */
#ifndef SB_DATAPLANE_PLUGINS_VAULT_H
#define SB_DATAPLANE_PLUGINS_VAULT_H

#include "schema/entity.h"
#include "shared/value.h"

struct sb_settings;
struct sb_vaults;

/* A way to get secrets, one row of a table. config: of the vault entity, complete; NULL for
 * references that name the kind itself. prefix: of the reference, else of config, else of the
 * settings; "". SB_NOTFOUND: there is no such secret. SB_UNAVAILABLE: it can't be had now, what was
 * had before stays. */
struct sb_vault_kind {
    const char *name;
    const char *prefix_setting;
    enum sb_rc (*get)(struct sb_arena *a, const struct sb_value *config, struct sb_str prefix,
                      struct sb_str resource, struct sb_str *out);
};

/* settings: for default prefixes; may be NULL, must outlive the vaults. */
struct sb_vaults *sb_vaults_new(const struct sb_settings *settings);
void sb_vaults_free(struct sb_vaults *v);

/* A vault entity, by its id; row NULL: it is gone. */
void sb_vaults_put(struct sb_vaults *v, struct sb_str id, const struct sb_value *row);

/* The secret, copied into the arena; "" when it can't be had. */
struct sb_str sb_vaults_get(struct sb_vaults *v, struct sb_arena *a, struct sb_str reference);
/* The same without remembering it. SB_INVALID: no reference; SB_NOTFOUND, SB_UNAVAILABLE. */
SB_MUST enum sb_rc sb_vaults_fetch(const struct sb_vaults *v, struct sb_arena *a,
                                   struct sb_str reference, struct sb_str *out, struct sb_err *err);
/* Replaces the references in referenceable fields of a record by their secrets, in place (memory of
 * a). True: there were some. */
bool sb_vaults_resolve(struct sb_vaults *v, struct sb_arena *a, const struct sb_field *fields,
                       struct sb_value *record);

/* Asks anew for every secret that was asked for. True: one is another now. */
bool sb_vaults_rotate(struct sb_vaults *v);

#endif
