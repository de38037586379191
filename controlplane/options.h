/* options.h - the controller's flags, with the names of Kong's ingress controller
 * (reference/kic-operations.md 1). Each is a row of one table, from which parsing, checking,
 * defaults and --help come. A flag may also be given as CONTROLLER_ + its name in capitals with '-'
 * as '_'; the command line beats the variable. All problems are reported at once.
 *
 * Flags that mean nothing here (what they tuned does not exist) are accepted, so that a deployment
 * moves over unchanged; --help says so of each.
 */
#ifndef SB_CONTROLPLANE_OPTIONS_H
#define SB_CONTROLPLANE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/arena.h"
#include "shared/buf.h"
#include "shared/err.h"

/* Texts are NULL where unset; lists end with NULL. Times are in milliseconds. */
struct sb_options {
    const char *manifests, *kubeconfig, *apiserver_host;
    const char *ingress_class, *gateway_controller_name, *cluster_domain, *workspace;
    const char *const *filter_tags, *const *watch_namespaces, *const *admin_urls;
    const char *admin_token, *admin_token_file;
    const char *election_id, *election_namespace, *force_leader_election;
    const char *const *publish_services, *const *publish_addresses;
    const char *const *feature_gates; /* "Name=bool" each */
    const char *log_level, *health_bind, *metrics_bind;
    bool update_status, emit_events, drain_support, combined_services, help, version;
    int64_t term_delay_ms, proxy_timeout_ms, cache_sync_timeout_ms;
};

/* Fills options from argv[1..] and environ-like env; texts live in the arena or in argv and env. On
 * SB_INVALID problems holds a line each. */
SB_MUST enum sb_rc sb_options_load(struct sb_arena *a, int argc, char **argv,
                                   const char *const *env, struct sb_options *out,
                                   struct sb_buf *problems);

/* The flags as aligned lines for --help. */
void sb_options_help(struct sb_buf *out);

#endif
