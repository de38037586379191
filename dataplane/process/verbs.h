/* verbs.h - what `silverback-dataplane VERB` does: Kong's command line (configuration.md 9), exit
 * codes included. Every function takes argv with the verb in argv[0] and returns the exit code.
 */
#ifndef SB_DATAPLANE_PROCESS_VERBS_H
#define SB_DATAPLANE_PROCESS_VERBS_H

int sb_verb_start(int argc, char **argv);
int sb_verb_restart(int argc, char **argv);
int sb_verb_prepare(int argc, char **argv);
int sb_verb_check(int argc, char **argv);
int sb_verb_version(int argc, char **argv);

int sb_verb_stop(int argc, char **argv);
int sb_verb_quit(int argc, char **argv);
int sb_verb_reload(int argc, char **argv);
int sb_verb_health(int argc, char **argv);
int sb_verb_drain(int argc, char **argv);

int sb_verb_config(int argc, char **argv);
int sb_verb_explain(int argc, char **argv);

#endif
