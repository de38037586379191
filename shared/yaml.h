/* yaml.h - YAML text to and from values, on libyaml.
 *
 * Plain scalars follow YAML 1.1 as lyaml and Go's yaml read them where both agree: null ~ true
 * false ints floats; yes/no/on/off stay strings. Anchors, aliases and merge keys (<<) are resolved;
 * the expanded document may have at most one million nodes and 128 levels, so an alias bomb is an
 * error.
 */
#ifndef SB_SHARED_YAML_H
#define SB_SHARED_YAML_H

#include "shared/buf.h"
#include "shared/err.h"
#include "shared/value.h"

/* All documents of the text as one array; empty documents are left out. Errors name line and column
 * and the document's number. */
SB_MUST enum sb_rc sb_yaml_parse_all(struct sb_arena *a, struct sb_str text,
                                     struct sb_value **array, struct sb_err *err);
/* The first document; an empty text gives null. */
SB_MUST enum sb_rc sb_yaml_parse(struct sb_arena *a, struct sb_str text, struct sb_value **out,
                                 struct sb_err *err);

/* The same, with the parser's own words and the place (from 1) where the last sound piece began. */
struct sb_yaml_problem {
    size_t line, column;
    char why[200];
};
SB_MUST enum sb_rc sb_yaml_parse_told(struct sb_arena *a, struct sb_str text, struct sb_value **out,
                                      struct sb_yaml_problem *problem);

/* Appends the document, spelled as Go's sigs.k8s.io/yaml does (reference/kic-golden.md 3): keys
 * sorted at every level, two spaces, list items not indented below their key, no folding,
 * multi-line strings as literal blocks, quotes only where a reader would see something else. */
void sb_yaml_write(struct sb_buf *b, const struct sb_value *v);

#endif
