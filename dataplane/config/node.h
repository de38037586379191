/* node.h - who this node is. */
#ifndef SB_DATAPLANE_CONFIG_NODE_H
#define SB_DATAPLANE_CONFIG_NODE_H

#include "shared/err.h"
#include "shared/settings.h"
#include "shared/uuid.h"

/* The setting node_id; else the one kept in <prefix>/kong.id, which is made on the first start.
 * SB_INVALID when the setting is no UUID, SB_IO when the file can be neither read nor written. A
 * file that holds no UUID is written anew, with a warning. */
SB_MUST enum sb_rc sb_node_id(const struct sb_settings *settings, struct sb_uuid *out,
                              struct sb_err *err);

#endif
