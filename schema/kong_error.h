/* kong_error.h - what went wrong with an entity, in Kong's words and numbers
 * (reference/entities.md, part 2, section 3).
 */
#ifndef SB_SCHEMA_KONG_ERROR_H
#define SB_SCHEMA_KONG_ERROR_H

#include "shared/value.h"

enum sb_kong_code {
    SB_KONG_INVALID_PRIMARY_KEY = 1,
    SB_KONG_SCHEMA_VIOLATION = 2,
    SB_KONG_PRIMARY_KEY_VIOLATION = 3,
    SB_KONG_FOREIGN_KEY_VIOLATION = 4,
    SB_KONG_UNIQUE_VIOLATION = 5,
    SB_KONG_NOT_FOUND = 6,
    SB_KONG_INVALID_OFFSET = 7,
    SB_KONG_DATABASE_ERROR = 8,
    SB_KONG_INVALID_SIZE = 9,
    SB_KONG_INVALID_UNIQUE = 10,
    SB_KONG_INVALID_OPTIONS = 11,
    SB_KONG_OPERATION_UNSUPPORTED = 12,
    SB_KONG_FOREIGN_KEYS_UNRESOLVED = 13,
    SB_KONG_DECLARATIVE_CONFIG = 14,
    SB_KONG_TRANSFORMATION_ERROR = 15,
    SB_KONG_REFERENCED_BY_OTHERS = 19,
};

/* Everything in it lives in the arena of the call that filled it. code 0: no error. */
struct sb_kong_error {
    enum sb_kong_code code;
    struct sb_str message;
    struct sb_value *fields;    /* NULL: none; called "options" in bodies of code 11 */
    struct sb_value *flattened; /* code 14 only: the list of flattened errors, once asked for */
    /* Code 14, kept until sb_declarative_flatten() is called: that list, and what stays in fields.
     */
    struct sb_value *flat_list, *flat_fields;
    struct sb_str unique_field; /* code 10 only: its name is "invalid unique <field>" */
};

/* Name as in bodies ("schema violation"), and the HTTP status (reference table). */
struct sb_str sb_kong_error_name(struct sb_arena *a, const struct sb_kong_error *e);
int sb_kong_error_status(const struct sb_kong_error *e);
/* {"code":..,"name":..,"message":..,"fields":..} */
struct sb_value *sb_kong_error_body(struct sb_arena *a, const struct sb_kong_error *e);

/* Code 2 from a tree of field errors: objects by field, arrays by position (null: no error there),
 * strings, "@entity" a list. Builds the message by Kong's rules. */
void sb_kong_error_schema(struct sb_arena *a, struct sb_kong_error *e, struct sb_value *fields);

/* A compact Lua table as Kong's messages print keys: {a="x",b={id="y"},c=null}, keys sorted. */
struct sb_str sb_kong_lua_text(struct sb_arena *a, const struct sb_value *v);

#endif
