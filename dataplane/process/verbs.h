/* verbs.h - what `silverback-dataplane VERB` does: Kong's command line (configuration.md 9), exit
 * codes included. Every function takes argv with the verb in argv[0] and returns the exit code.
 */
#ifndef SB_DATAPLANE_PROCESS_VERBS_H
#define SB_DATAPLANE_PROCESS_VERBS_H

#include <stdbool.h>

int sb_verb_start(int argc, char **argv);
int sb_verb_restart(int argc, char **argv);
int sb_verb_prepare(int argc, char **argv);
int sb_verb_check(int argc, char **argv);
int sb_verb_version(int argc, char **argv);
int sb_verb_serve(int argc, char **argv);

int sb_verb_stop(int argc, char **argv);
int sb_verb_quit(int argc, char **argv);
int sb_verb_reload(int argc, char **argv);
int sb_verb_health(int argc, char **argv);
int sb_verb_drain(int argc, char **argv);

int sb_verb_config(int argc, char **argv);
int sb_verb_explain(int argc, char **argv);
int sb_verb_vault(int argc, char **argv);

struct sb_options;

/* Has the running node take up the options' file and this environment; returns the exit code, and
 * has said why when it is 1. */
int sb_ask_master(const struct sb_options *options, const char *prefix, bool restart);

#endif
