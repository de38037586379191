/* plugin_json.h - the schema of a plugin's config, read from JSON: for plugins that come from
 * elsewhere. The text is shaped as Kong's schemas are (an array of one-member objects keeps the
 * order of fields):
 *
 *     {"fields": [{"delay": {"type": "integer", "default": 10, "between": [0, 60000]}},
 *                 {"mode":  {"type": "string", "one_of": ["a", "b"], "required": true}}],
 *      "no_consumer": true}
 *
 * Types: string, integer, number, boolean, array and set (elements), map (keys, values), record
 * (fields). Rules: required, default, one_of, between, gt, len_min, len_max, match, referenceable,
 * encrypted. A record is required unless it says "required": false, as Kong has it. An unknown word
 * is an error: better than a rule that silently does not hold.
 */
#ifndef SB_SCHEMA_PLUGIN_JSON_H
#define SB_SCHEMA_PLUGIN_JSON_H

#include "schema/entity.h"

/* The subschema, in the arena. SB_INVALID: what is wrong with the text. */
SB_MUST enum sb_rc sb_plugin_schema_parse(struct sb_arena *a, const char *name, struct sb_str json,
                                          const struct sb_subschema **out, struct sb_err *err);

#endif
