/* recipe.h - from what a serving process takes its settings: the same file and environment always
 * give the same settings, so a process that crashed is started again from what its predecessor had,
 * and a recipe that failed is simply dropped.
 *
 *     kong start -c A      file A  <  KONG_* of that command
 *     kong reload -c B     file A  <  KONG_* ...  <  file B  <  KONG_* of the reload
 *     kong restart -c C    file C  <  KONG_* of the restart
 *     SIGHUP               the files are read again
 *
 * What a reload adds stays for later ones, as with Kong's .kong_env.
 */
#ifndef SB_DATAPLANE_PROCESS_RECIPE_H
#define SB_DATAPLANE_PROCESS_RECIPE_H

#include <sys/types.h>

#include "shared/err.h"

struct sb_options;
struct sb_recipe;

/* Where a serving process finds its end of the channel, and the second file. */
#define SB_CHANNEL_VAR     "SB_CHANNEL"
#define SB_RELOAD_CONF_VAR "SB_RELOAD_CONF"

/* All is copied; conf NULL: the usual places. env: a whole environment. */
struct sb_recipe *sb_recipe_new(const struct sb_options *options, const char *prefix,
                                const char *conf, const char *const *env);
/* The recipe with what a reload brings: conf (NULL: none) and variables, of which only KONG_*
 * count.
 */
struct sb_recipe *sb_recipe_reload(const struct sb_recipe *base, const char *conf,
                                   const char *const *env);
void sb_recipe_free(struct sb_recipe *r);

/* Starts the program of this process anew as a serving process that hears channel. It dies with its
 * parent, the calling thread. -1 with errno. */
pid_t sb_recipe_spawn(const struct sb_recipe *r, int channel);

#endif
