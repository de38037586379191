/* plugin_schemas.h - the generated tables of plugin_schemas.c; schema/plugins.h is their interface.
 */
#ifndef SB_SCHEMA_PLUGIN_SCHEMAS_H
#define SB_SCHEMA_PLUGIN_SCHEMAS_H

#include "schema/entity.h"

extern const struct sb_subschema *const sb_plugin_schema_table[]; /* by name; ends with NULL */

#endif
