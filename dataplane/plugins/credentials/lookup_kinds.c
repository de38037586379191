/* lookup_kinds.c - see lookup_kinds.h. Which columns are in the invalidation log is decided by
 * migrations/silverback/000_change_log.sql:
 *
 *     keys, users of credentials, groups, consumers   whatever happens to them
 *     tokens                                          changes and ends, not that there is a new one
 *     sessions                                        ends, not changes: so for a second at most
 *     authorization codes                             nothing: never remembered
 */
#include "dataplane/plugins/credentials/lookup_kinds.h"

#include <pthread.h>

#include "schema/row.h"
#include "shared/buf.h"
#include "shared/uuid.h"

enum table { CONSUMERS, KEYAUTH, BASICAUTH, HMACAUTH, JWT, OAUTH2, TOKENS, CODES, ACLS, SESSIONS };

#define KIND(t, e, f, c, ...)                                                                      \
    {                                                                                              \
        .table = (t), .entity = (e), .field = (f), .column = (c), __VA_ARGS__                      \
    }
#define OF_CONSUMER .brings_consumer = true, .additions = true

static const struct sb_lookup_kind kinds[SB_LOOKUPS] = {
    [SB_CONSUMER_BY_ID] = KIND(CONSUMERS, "consumers", "id", "id", .uuid = true, .additions = true),
    [SB_CONSUMER_BY_USERNAME] =
        KIND(CONSUMERS, "consumers", "username", "username", .additions = true),
    [SB_CONSUMER_BY_CUSTOM_ID] =
        KIND(CONSUMERS, "consumers", "custom_id", "custom_id", .additions = true),
    [SB_KEYAUTH_BY_KEY] = KIND(KEYAUTH, "keyauth_credentials", "key", "key", OF_CONSUMER),
    [SB_BASICAUTH_BY_USERNAME] =
        KIND(BASICAUTH, "basicauth_credentials", "username", "username", OF_CONSUMER),
    [SB_HMACAUTH_BY_USERNAME] =
        KIND(HMACAUTH, "hmacauth_credentials", "username", "username", OF_CONSUMER),
    [SB_JWT_BY_KEY] = KIND(JWT, "jwt_secrets", "key", "key", OF_CONSUMER),
    [SB_OAUTH2_BY_CLIENT_ID] =
        KIND(OAUTH2, "oauth2_credentials", "client_id", "client_id", OF_CONSUMER),
    [SB_OAUTH2_BY_ID] = KIND(OAUTH2, "oauth2_credentials", "id", "id", .uuid = true, OF_CONSUMER),
    [SB_TOKEN_BY_ACCESS_TOKEN] = KIND(TOKENS, "oauth2_tokens", "access_token", "access_token"),
    [SB_TOKEN_BY_REFRESH_TOKEN] = KIND(TOKENS, "oauth2_tokens", "refresh_token", "refresh_token"),
    [SB_CODE_BY_CODE] =
        KIND(CODES, "oauth2_authorization_codes", "code", "code", .max_ms = SB_REMEMBER_NOT),
    [SB_SESSION_BY_SESSION_ID] =
        KIND(SESSIONS, "sessions", "session_id", "session_id", .max_ms = 1000),
    [SB_ACLS_BY_CONSUMER] = KIND(ACLS, "acls", "consumer", "consumer_id", .uuid = true,
                                 .list = true, .additions = true),
};

static const struct sb_entity *entities[SB_LOOKUPS];

static void find_entities(void)
{
    for (int by = 0; by < SB_LOOKUPS; by++) {
        entities[by] = sb_entity_find(sb_str_c(kinds[by].entity));
        sb_assert(entities[by]);
    }
}

const struct sb_lookup_kind *sb_lookup_kind(enum sb_lookup by)
{
    return &kinds[by];
}

const struct sb_entity *sb_lookup_entity(enum sb_lookup by)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, find_entities);
    return entities[by];
}

/* Well-formed UTF-8 without NUL, as the database wants its text: of strangers' bytes. */
static bool is_text(struct sb_str s)
{
    const unsigned char *p = (const unsigned char *)s.p, *end = p + s.len;

    while (p < end) {
        unsigned c = *p++, more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        uint32_t code = c < 0x80 ? c : c & (0x3fu >> more);

        if (!c || (c >= 0x80 && c < 0xc2) || c > 0xf4 || (size_t)(end - p) < more)
            return false;
        for (unsigned i = 0; i < more; i++, p++) {
            if ((*p & 0xc0) != 0x80)
                return false;
            code = code << 6 | (*p & 0x3f);
        }
        if ((more == 2 && code < 0x800) || (more == 3 && code < 0x10000) || code > 0x10ffff ||
            (code >= 0xd800 && code < 0xe000))
            return false;
    }
    return true;
}

bool sb_lookup_normalise(enum sb_lookup by, struct sb_str *value, char room[37])
{
    struct sb_uuid id;

    if (!value->p || value->len > SB_LOOKUP_VALUE_MAX)
        return false;
    if (!kinds[by].uuid)
        return is_text(*value);
    if (!sb_uuid_parse(*value, &id))
        return false;
    sb_uuid_format(&id, room);
    *value = sb_str_n(room, SB_UUID_TEXT_LEN);
    return true;
}

static void add_table(struct sb_buf *b, struct sb_arena *a, const char *schema, const char *table)
{
    if (schema)
        sb_buf_printf(b, "%s.", sb_pg_ident(a, schema).p);
    sb_buf_cstr(b, table);
}

/* Of the one workspace, and not expired. */
static void add_conditions(struct sb_buf *b, struct sb_arena *a, const struct sb_entity *e,
                           const char *schema)
{
    if (e->flags & SB_E_WORKSPACE) {
        sb_buf_cstr(b, "ws_id = (SELECT id FROM ");
        add_table(b, a, schema, "workspaces");
        sb_buf_cstr(b, " WHERE name = 'default') AND ");
    }
    if (e->flags & SB_E_TTL)
        sb_buf_cstr(b, "(ttl IS NULL OR ttl > CURRENT_TIMESTAMP) AND ");
}

/* Rows that are there. */
static void add_rows(struct sb_buf *b, struct sb_arena *a, const struct sb_entity *e,
                     const char *schema)
{
    sb_buf_cstr(b, "SELECT ");
    sb_row_select(b, e);
    sb_buf_cstr(b, " FROM ");
    add_table(b, a, schema, e->table);
    sb_buf_cstr(b, " WHERE ");
    add_conditions(b, a, e, schema);
}

static const char *finish(struct sb_arena *a, struct sb_buf *b)
{
    const char *sql = sb_arena_cstr(a, sb_buf_get(b));

    sb_buf_release(b);
    return sql;
}

/* what: behind the column. */
static const char *rows_sql(struct sb_arena *a, enum sb_lookup by, const char *schema,
                            const char *what)
{
    const struct sb_lookup_kind *k = &kinds[by];
    const struct sb_entity *e = sb_lookup_entity(by);
    struct sb_buf b;

    sb_buf_init(&b, 0);
    if (k->brings_consumer) {
        sb_buf_cstr(&b, "SELECT f.*, u.* FROM (");
        add_rows(&b, a, e, schema);
        sb_buf_printf(&b, "%s%s) f LEFT JOIN LATERAL (", k->column, what);
        add_rows(&b, a, sb_lookup_entity(SB_CONSUMER_BY_ID), schema);
        sb_buf_cstr(&b, "id = f.consumer_id) u ON true");
    } else {
        add_rows(&b, a, e, schema);
        sb_buf_printf(&b, "%s%s", k->column, what);
    }
    return finish(a, &b);
}

const char *sb_lookup_sql(struct sb_arena *a, enum sb_lookup by, const char *schema)
{
    return rows_sql(a, by, schema, kinds[by].uuid ? " = $1::uuid" : " = $1");
}

const char *sb_lookup_sql_many(struct sb_arena *a, enum sb_lookup by, const char *schema)
{
    const struct sb_lookup_kind *k = &kinds[by];
    const char *any = k->uuid ? " = ANY($1::uuid[])" : " = ANY($1::text[])";

    if (!k->list)
        return rows_sql(a, by, schema, any);
    return rows_sql(a, by, schema, sb_arena_printf(a, "%s ORDER BY %s", any, k->column).p);
}

const char *sb_lookup_sql_values(struct sb_arena *a, enum sb_lookup by, const char *schema)
{
    const struct sb_lookup_kind *k = &kinds[by];
    const struct sb_entity *e = sb_lookup_entity(by);
    struct sb_buf b;

    sb_buf_init(&b, 0);
    sb_buf_printf(&b, "SELECT DISTINCT %s FROM ", k->column);
    add_table(&b, a, schema, e->table);
    sb_buf_cstr(&b, " WHERE ");
    add_conditions(&b, a, e, schema);
    sb_buf_printf(&b, "%s > $1%s ORDER BY %s LIMIT $2", k->column, k->uuid ? "::uuid" : "",
                  k->column);
    return finish(a, &b);
}
