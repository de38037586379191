/* silverback-dataplane: the gateway. The verbs are Kong's; called by the name `kong` it answers
 * `kong start`, `kong migrations up` and so on, so that containers and charts that say kong keep
 * working.
 */
#include "dataplane/process/verbs.h"
#include "migrations/migrate.h"
#include "shared/cli.h"
#include "shared/crypto_memory.h"

static const struct sb_cli_verb verbs[] = {
    {"check", sb_verb_check, "check a configuration file"},
    {"config", sb_verb_config, "parse, import and export declarative configuration"},
    {"drain", sb_verb_drain, "make the node report itself as not ready"},
    {"explain", sb_verb_explain, "say which route takes a request, and why the others do not"},
    {"health", sb_verb_health, "say whether the node runs"},
    {"migrations", sb_migrations_main, "make and upgrade the database schema"},
    {"prepare", sb_verb_prepare, "make the prefix directory ready"},
    {"quit", sb_verb_quit, "stop gracefully"},
    {"reload", sb_verb_reload, "read the configuration again"},
    {"restart", sb_verb_restart, "serve by another process, with fresh settings"},
    {"serve", sb_verb_serve, NULL},
    {"start", sb_verb_start, "start the node"},
    {"stop", sb_verb_stop, "stop at once"},
    {"vault", sb_verb_vault, "print the secret that a reference stands for"},
    {"version", sb_verb_version, "print the version"},
    {0},
};

int main(int argc, char **argv)
{
    sb_crypto_memory_init();
    return sb_cli_run(argc, argv, "kong", "", verbs);
}
