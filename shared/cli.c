#include "shared/cli.h"

#include <stdio.h>
#include <string.h>

#include "shared/str.h"

static const struct sb_cli_flag *flag_of(const struct sb_cli_flag *flags, struct sb_str arg)
{
    struct sb_str name = sb_str_from(arg, 2);
    ptrdiff_t eq = sb_str_chr(name, '=', 0);

    if (eq >= 0)
        name = sb_str_first(name, (size_t)eq);
    for (const struct sb_cli_flag *f = flags; f->name; f++) {
        if (sb_str_starts(arg, SB_STR("--")) ? sb_str_is(name, f->name)
                                             : f->letter && arg.p[1] == f->letter)
            return f;
    }
    return NULL;
}

static bool store_another(const struct sb_cli_flag *f, const char *value, struct sb_cli_texts *list)
{
    if (list->count == SB_CLI_TEXTS_MAX) {
        fprintf(stderr, "Error: --%s is given more than %d times\n", f->name, SB_CLI_TEXTS_MAX);
        return false;
    }
    list->items[list->count++] = value;
    return true;
}

static bool store(const struct sb_cli_flag *f, const char *value, void *options)
{
    char *to = (char *)options + f->at;

    switch (f->type) {
    case SB_CLI_SWITCH:
        *(bool *)to = true;
        return true;
    case SB_CLI_TEXT:
        *(const char **)to = value;
        return true;
    case SB_CLI_NUMBER:
        if (sb_str_num(sb_str_c(value), (double *)to))
            return true;
        fprintf(stderr, "Error: --%s must be a number, got '%s'\n", f->name, value);
        return false;
    case SB_CLI_TEXTS:
        return store_another(f, value, (void *)to);
    }
    return false;
}

/* The text behind '=' or behind a short flag's letter; NULL: it is the next argument. */
static const char *attached(const char *arg)
{
    const char *eq = strchr(arg, '=');

    if (arg[1] == '-')
        return eq ? eq + 1 : NULL;
    return arg[2] ? arg + 2 : NULL;
}

static bool wants_help(const char *arg)
{
    return strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0;
}

int sb_cli_parse(int argc, char **argv, const struct sb_cli_flag *flags, void *options, bool *help)
{
    int kept = 1, i = 1;

    *help = false;
    for (; i < argc; i++) {
        const struct sb_cli_flag *f;
        const char *value;

        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (argv[i][0] != '-' || !argv[i][1]) {
            argv[kept++] = argv[i];
            continue;
        }
        if (wants_help(argv[i])) {
            *help = true;
            continue;
        }
        f = flag_of(flags, sb_str_c(argv[i]));
        if (!f) {
            fprintf(stderr, "%s: unrecognized parameter: %s\n", argv[0], argv[i]);
            return -1;
        }
        value = f->type == SB_CLI_SWITCH ? "" : attached(argv[i]);
        if (!value && i + 1 < argc)
            value = argv[++i];
        if (!value) {
            fprintf(stderr, "%s: --%s wants a %s\n", argv[0], f->name, f->value);
            return -1;
        }
        if (!store(f, value, options))
            return -1;
    }
    while (i < argc)
        argv[kept++] = argv[i++];
    return kept;
}

void sb_cli_print_flags(const struct sb_cli_flag *flags)
{
    for (const struct sb_cli_flag *f = flags; f->name; f++) {
        char left[64], letter[5] = "    ";

        if (f->letter)
            snprintf(letter, sizeof letter, "-%c, ", f->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, f->name, f->value ? " " : "",
                 f->value ? f->value : "");
        fprintf(stderr, "  %-28s %s\n", left, f->help);
    }
    fprintf(stderr, "  %-28s %s\n", "-h, --help", "this text");
}

static void print_verbs(const char *program, const struct sb_cli_verb *verbs)
{
    fprintf(stderr, "Usage: %s COMMAND [OPTIONS]\n\nThe available commands are:\n", program);
    for (const struct sb_cli_verb *v = verbs; v->name; v++)
        if (v->help)
            fprintf(stderr, "  %-12s %s\n", v->name, v->help);
    fprintf(stderr, "\n%s COMMAND --help tells more.\n", program);
}

int sb_cli_run(int argc, char **argv, const char *program, const char *of,
               const struct sb_cli_verb *verbs)
{
    for (const struct sb_cli_verb *v = verbs; argc > 1 && v->name; v++) {
        if (strcmp(argv[1], v->name) == 0)
            return v->run(argc - 1, argv + 1);
    }
    if (argc > 1 && !wants_help(argv[1]))
        fprintf(stderr, "No such command%s%s: %s\n\n", of[0] ? " for " : "", of, argv[1]);
    print_verbs(program, verbs);
    return 1;
}
