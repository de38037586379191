/* translate.h - from Kubernetes objects to Kong entities, by the rules of Kong's ingress controller
 * (reference: kic-translation.md, kic-annotations.md, kic-golden.md).
 *
 * A translator lives as long as its cache of objects. It is told what changed and then translates
 * again only what can depend on it: while a unit of the translation runs, every look-up is noted,
 * also those that found nothing, and a change of any of them makes the unit run again. What comes
 * out is equal to a translation of everything from scratch (tests/unit/test_translate_again.c holds
 * it to that).
 *
 *     struct sb_translator *t = sb_translator_new(&settings, objects);
 *     sb_objects_listen(objects, sb_translator_note, t);
 *     ... objects change ...
 *     n = sb_translator_run(t, &changes);            each: an entity that is new, different or gone
 *
 * Nothing here blocks, logs or knows of a database. One thread, the one that owns the objects.
 */
#ifndef SB_CONTROLPLANE_TRANSLATE_TRANSLATE_H
#define SB_CONTROLPLANE_TRANSLATE_TRANSLATE_H

#include <stdbool.h>

#include "controlplane/kube/objects.h"
#include "shared/err.h"
#include "shared/value.h"

/* Feature flags and options; strings are the caller's and live as long as the translator. */
struct sb_translate_settings {
    bool expression_routes; /* the gateway's router flavour is `expressions` */
    bool fill_ids;
    bool service_facade;
    bool rewrite_uris;
    bool combined_services; /* from different HTTPRoutes */
    bool redirect_plugin;   /* the gateway knows the `redirect` plugin */
    bool enterprise;
    bool custom_entity;
    bool drain_support;
    const char *cluster_domain;          /* "": none */
    const char *kong_version;            /* "3.9.1" */
    const char *workspace;               /* "": none */
    const char *ingress_class;           /* "kong" */
    const char *gateway_controller_name; /* "": none */
};

/* What holds when nothing is said. */
void sb_translate_settings_init(struct sb_translate_settings *s);

/* Reads {feature_flags: {...}, options: {...}}; strings are kept in the arena. An unknown name or a
 * value of a wrong type is SB_INVALID and named. */
SB_MUST enum sb_rc sb_translate_settings_read(struct sb_translate_settings *s,
                                              struct sb_arena *arena, const struct sb_value *doc,
                                              struct sb_err *err);

/* An entity, flat. `value` holds its fields as the declarative format spells them, without nested
 * entities; references to others are names (`route: default.web...`) or ids, as in that format. The
 * entity it would be nested in is its parent: a route's service, a target's upstream, an SNI's
 * certificate, a generated plugin's route or service, a credential's consumer. */
struct sb_translated {
    const char *entity;           /* "services", "routes", "upstreams", "targets", ... */
    struct sb_str key;            /* unique in `entity` and stable: mostly the name or the id */
    const char *parent_entity;    /* NULL: none */
    struct sb_str parent;         /* the parent's key */
    const struct sb_value *value; /* NULL: gone */
    const struct sb_str
        *objects; /* where it comes from: "Ingress/shop/web", the first is to blame */
    size_t nobjects;
};

/* A problem of an object: "Ingress/shop/web", "IngressClass/kong". */
struct sb_translate_failure {
    struct sb_str object, message;
};

struct sb_translator;

/* objects and settings stay the caller's and outlive the translator. */
struct sb_translator *sb_translator_new(const struct sb_translate_settings *settings,
                                        const struct sb_objects *objects);
void sb_translator_free(struct sb_translator *t);

/* Notes that an object appeared (before NULL), changed, or went (after NULL). Cheap; of the type
 * sb_objects_change so that it can listen by itself. What is in the cache when the translator is
 * made counts as noted. */
void sb_translator_note(void *translator, const struct sb_kind *kind, const struct sb_value *before,
                        const struct sb_value *after);
/* Something was noted since the last run. */
bool sb_translator_pending(const struct sb_translator *t);

/* Translates what the noted changes affect. *changes: the entities that differ from those after the
 * run before, parents before children, gone ones last and children first; valid until the next run.
 */
size_t sb_translator_run(struct sb_translator *t, const struct sb_translated **changes);

/* All entities as of the last run, in no order; values live until the next run. */
size_t sb_translator_entities(const struct sb_translator *t, struct sb_arena *arena,
                              const struct sb_translated **out);
/* All failures as of the last run, ordered by object and message; an entry may repeat. */
size_t sb_translator_failures(const struct sb_translator *t, struct sb_arena *arena,
                              const struct sb_translate_failure **out);
/* Whether the last run changed any failure. */
bool sb_translator_failures_changed(const struct sb_translator *t);

/* All entities as one declarative document, nested and ordered as the ingress controller sends it;
 * nothing at all is the upstream `kong`, so that a gateway without database becomes ready. */
struct sb_value *sb_translator_document(const struct sb_translator *t, struct sb_arena *arena);

/* The program's verb: translate --manifests PATH [--settings FILE] [--failures FILE]; argv[0] is
 * the verb. Prints the document as YAML, returns the exit code. (command.c) */
int sb_translate_command(int argc, char **argv);

#endif
