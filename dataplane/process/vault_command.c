/* vault_command.c - `kong vault get REFERENCE`: what a reference to a secret comes to. */
#include <stdio.h>
#include <string.h>

#include "dataplane/plugins/vault.h"
#include "dataplane/process/options.h"
#include "dataplane/process/verbs.h"
#include "shared/secret_ref.h"

static const char usage[] =
    "Usage: kong vault get REFERENCE [OPTIONS]\n\n"
    "Print the secret that the reference stands for: {vault://env/my-secret}, or env/my-secret.";

/* The short form as the whole one. */
static struct sb_str reference_of(struct sb_arena *a, const char *text)
{
    return sb_secret_ref_is(sb_str_c(text)) ? sb_str_c(text)
                                            : sb_arena_printf(a, "{vault://%s}", text);
}

static int get(const struct sb_settings *s, const char *text)
{
    struct sb_vaults *v = sb_vaults_new(s);
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str secret;
    struct sb_err err;
    int code = 0;

    if (sb_vaults_fetch(v, a, reference_of(a, text), &secret, &err))
        code = sb_options_fail("%s", err.text);
    else
        printf("%.*s\n", SB_ARG(secret));
    sb_arena_free(a);
    sb_vaults_free(v);
    return code;
}

int sb_verb_vault(int argc, char **argv)
{
    struct sb_options o;
    struct sb_settings *s;
    int rest, code;

    if (!sb_options_parse(argc, argv, SB_OPT_CONF | SB_OPT_PREFIX, usage, &o, &rest))
        return 1;
    if (rest < 2 || strcmp(argv[1], "get") != 0) {
        fprintf(stderr, "%s\n", usage);
        return 1;
    }
    if (rest < 3)
        return sb_options_fail("the 'get' command needs a <reference> argument");
    s = sb_options_settings(&o);
    if (!s)
        return 1;
    code = get(s, argv[2]);
    sb_settings_free(s);
    return code;
}
