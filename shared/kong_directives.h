/* kong_directives.h - which nginx directives, injected as nginx_FAMILY_DIRECTIVE, mean something
 * here.
 */
#ifndef SB_SHARED_KONG_DIRECTIVES_H
#define SB_SHARED_KONG_DIRECTIVES_H

#include <stdbool.h>

#include "shared/str.h"

/* setting: "nginx_proxy_add_header". True too for what is no directive of an nginx family. */
bool sb_directive_known(struct sb_str setting);

#endif
