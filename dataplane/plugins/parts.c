#include "dataplane/plugins/parts.h"

#include <stdlib.h>

#include "dataplane/plugins/credentials/lookup.h"

enum { MEM_CACHE_SIZE = 128 << 20, LIMIT_MAX = 1 << 30 };

/* Settings go away; what they said stays. */
static void keep_config(struct sb_arena *a, struct sb_pg_config *c)
{
    const char **strings[] = {&c->host,        &c->user,        &c->password, &c->database,
                              &c->schema,      &c->application, &c->ssl_cert, &c->ssl_key,
                              &c->ssl_version, &c->ssl_ca};

    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        if (*strings[i])
            *strings[i] = sb_arena_cstr(a, sb_str_c(*strings[i]));
}

static int64_t seconds_ms(const struct sb_settings *s, const char *name, double def)
{
    return (int64_t)(sb_settings_num(s, name, def) * 1000);
}

static struct sb_cache *new_cache(const struct sb_settings *s)
{
    double ttl = sb_settings_num(s, "db_cache_ttl", 0);
    struct sb_cache_options o = {
        .bytes = (size_t)sb_settings_size(s, "mem_cache_size", MEM_CACHE_SIZE),
        .ttl_ms = seconds_ms(s, "db_cache_ttl", 0),
        .absent_ttl_ms = seconds_ms(s, "db_cache_neg_ttl", ttl),
        .resurrect_ms = seconds_ms(s, "db_resurrect_ttl", 30),
    };

    return sb_cache_new(&o);
}

/* The replica's falls back to its sister. */
static int64_t reader_limit(const struct sb_settings *s, bool replica, const char *name,
                            const char *ro_name, int64_t def)
{
    int64_t limit = sb_settings_int(s, name, def);

    if (replica)
        limit = sb_settings_int(s, ro_name, limit);
    return limit < LIMIT_MAX ? limit : LIMIT_MAX;
}

struct sb_credentials *sb_credentials_new(const struct sb_settings *s)
{
    struct sb_credentials *c = sb_xcalloc(1, sizeof *c);
    bool replica;

    c->arena = sb_arena_new(0);
    if (sb_str_is(sb_str_c(sb_settings_str(s, "database")), "off"))
        return c;
    c->cache = new_cache(s);
    c->pending = sb_pending_new(c->cache);
    (void)sb_settings_pg(s, false, &c->writer);
    replica = sb_settings_pg(s, true, &c->reader);
    if (!replica)
        c->reader = c->writer;
    keep_config(c->arena, &c->reader);
    keep_config(c->arena, &c->writer);
    for (enum sb_lookup by = 0; by < SB_LOOKUPS; by++)
        c->sql[by] = sb_lookup_sql(c->arena, by, c->reader.schema);
    c->depth = (int)reader_limit(s, replica, "pg_max_concurrent_queries",
                                 "pg_ro_max_concurrent_queries", 0);
    if (c->depth == 0)
        c->depth = SB_LOOKUP_DEPTH;
    c->queue_ms =
        reader_limit(s, replica, "pg_semaphore_timeout", "pg_ro_semaphore_timeout", 60000);
    return c;
}

void sb_credentials_free(struct sb_credentials *c)
{
    if (!c)
        return;
    sb_pending_free(c->pending);
    sb_cache_free(c->cache);
    sb_arena_free(c->arena);
    free(c);
}
