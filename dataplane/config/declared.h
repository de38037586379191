/* declared.h - the configuration that the settings declare, without a database. */
#ifndef SB_DATAPLANE_CONFIG_DECLARED_H
#define SB_DATAPLANE_CONFIG_DECLARED_H

#include "shared/settings.h"
#include "shared/value.h"

/* declarative_config (a file), else declarative_config_string, validated, as {entity: [rows]} in
 * the arena. hash: 32 hex characters and a NUL. SB_NOTFOUND: neither is set; SB_INVALID: refused,
 * err has Kong's words. */
SB_MUST enum sb_rc sb_declared_read(const struct sb_settings *settings, struct sb_arena *a,
                                    struct sb_value **rows, char hash[33], struct sb_err *err);

#endif
