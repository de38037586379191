/* cli.h - verbs and flags as tables, in the manner of Kong's command line (configuration.md 9):
 * usage goes to stderr, an unknown flag or verb says so and shows the usage, exit code 1.
 */
#ifndef SB_SHARED_CLI_H
#define SB_SHARED_CLI_H

#include <stdbool.h>
#include <stddef.h>

enum sb_cli_type { SB_CLI_TEXT, SB_CLI_NUMBER, SB_CLI_SWITCH, SB_CLI_TEXTS };

/* The values of a flag that may be given several times. */
enum { SB_CLI_TEXTS_MAX = 64 };
struct sb_cli_texts {
    size_t count;
    const char *items[SB_CLI_TEXTS_MAX];
};

/* One flag: where its value goes is an offset into the caller's options struct (const char *,
 * double, bool, or struct sb_cli_texts). Flags are given as --name VALUE, --name=VALUE, or -x
 * VALUE. */
struct sb_cli_flag {
    const char *name; /* without dashes */
    char letter;      /* 0: none */
    enum sb_cli_type type;
    size_t at;
    const char *value; /* for the usage: "FILE"; NULL for switches */
    const char *help;
};

/* Takes flags out of argv[1..] into options; the rest stays in argv, counted by the return value
 * (argv[0] included). -1 when something is wrong: it has been said on stderr. -h and --help set
 * *help. Flags end at "--". */
int sb_cli_parse(int argc, char **argv, const struct sb_cli_flag *flags, void *options, bool *help);

/* The flags as aligned lines for a usage text, on stderr. */
void sb_cli_print_flags(const struct sb_cli_flag *flags);

struct sb_cli_verb {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the verb; returns the exit code */
    const char *help;                  /* NULL: not listed */
};

/* Runs the verb that argv[1] names ("PROGRAM VERB ..."); an unknown or missing one shows the usage
 * and gives 1. of: what the verbs belong to, for the message ("" or "migrations"). */
int sb_cli_run(int argc, char **argv, const char *program, const char *of,
               const struct sb_cli_verb *verbs);

#endif
