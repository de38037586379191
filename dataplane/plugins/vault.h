/* vault.h - secrets by reference (shared/secret_ref.h), for the config thread.
 *
 *     entity row --{vault://aws-like/db/password}--> vault of that prefix --kind--> the secret
 *
 * References are stored and shown as they were written; they are resolved when a snapshot is built
 * from the rows that hold them. A secret that can't be had is the empty string, with a line in the
 * log (once, until it can be had): the plugin or certificate says what it makes of that.
 *
 * Rotation: sb_vaults_rotate() asks anew for the secrets in use whose time is over. What a kind is
 * asked with, its options, comes from the reference (?ttl=60), else from the vault entity, else,
 * where the reference names the kind itself, from the settings (vault_KIND_OPTION). Three of them
 * are heeded here, for kinds that have them:
 *
 *     ttl             seconds until a secret is asked for again; not given: when a vault changes
 *     neg_ttl         the same where there was none; not given: at every rotation
 *     resurrect_ttl   seconds that the last one is good for when none can be had; not given: as
 *                     long as it takes. Two minutes at least
 *
 * A kind without ttl is cheap to ask, and asked at every rotation. So is env, the one that Kong's
 * open-source edition has: its only option is prefix. The variables of a process don't change while
 * it runs: new ones come with `kong reload` or a restart, and only the vault entities can change.
 *
 * One thread's. A kind must not block.
 */
#ifndef SB_DATAPLANE_PLUGINS_VAULT_H
#define SB_DATAPLANE_PLUGINS_VAULT_H

#include "schema/entity.h"
#include "shared/value.h"

struct sb_settings;
struct sb_vaults;

/* What a kind may be asked with. */
struct sb_vault_option {
    const char *name;
    bool number;                      /* not less than 0; else text */
    bool (*fits)(struct sb_str text); /* NULL: any. What does not fit is as not given */
};

struct sb_vault_question {
    const struct sb_value *options; /* an object: those given, by name */
    struct sb_str resource;
    int version; /* 0: not said */
};

/* A way to get secrets, one row of a table. SB_NOTFOUND: there is no such secret. SB_UNAVAILABLE:
 * it can't be had now (also: not yet), what was had before stays. */
struct sb_vault_kind {
    const char *name;
    const struct sb_vault_option *options; /* ended by name NULL */
    enum sb_rc (*get)(struct sb_arena *a, const struct sb_vault_question *q, struct sb_str *out);
};

/* settings: which kinds there are (vaults), and options; may be NULL, must outlive the vaults. */
struct sb_vaults *sb_vaults_new(const struct sb_settings *settings);
void sb_vaults_free(struct sb_vaults *v);
/* One more kind, beside those built here; must outlive the vaults. */
void sb_vaults_add(struct sb_vaults *v, const struct sb_vault_kind *kind);
/* Another clock than sb_clock_ms. */
void sb_vaults_set_clock(struct sb_vaults *v, int64_t (*now_ms)(void));

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

/* Asks anew for every secret whose time is over. True: one is another now. */
bool sb_vaults_rotate(struct sb_vaults *v);

#endif
