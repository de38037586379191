/* health_config.c - reads an upstream's `healthchecks` (reference/proxy-balancer.md 6.1). */
#include "dataplane/upstream/health.h"
#include "shared/value.h"
#include "shared/vec.h"

enum { LIMIT_MAX = 254, TIMEOUT_DEFAULT_MS = 1000 };

static double number_at(const struct sb_value *v, const char *path, double def)
{
    const struct sb_value *n = sb_value_at(v, path);

    return sb_is_number(n) ? sb_number(n) : def;
}

static int64_t ms_at(const struct sb_value *v, const char *path, int64_t def)
{
    return (int64_t)(number_at(v, path, (double)def / 1000) * 1000);
}

static uint8_t limit_at(const struct sb_value *v, const char *path)
{
    int64_t n = sb_value_int_at(v, path, 0);

    return (uint8_t)(n < 0 ? 0 : n > LIMIT_MAX ? LIMIT_MAX : n);
}

static void statuses_at(const struct sb_value *v, const char *path, uint64_t bits[16])
{
    const struct sb_value *status;

    sb_array_each (status, sb_value_at(v, path))
        if (sb_is(status, SB_V_INT) && status->i >= 0 && status->i < 1024)
            bits[status->i / 64] |= UINT64_C(1) << (status->i % 64);
}

static void read_limits(const struct sb_value *v, struct sb_health_limits *l)
{
    l->limit[SB_HEALTH_SUCCESS] = limit_at(v, "healthy.successes");
    l->limit[SB_HEALTH_HTTP_FAILURE] = limit_at(v, "unhealthy.http_failures");
    l->limit[SB_HEALTH_TCP_FAILURE] = limit_at(v, "unhealthy.tcp_failures");
    l->limit[SB_HEALTH_TIMEOUT] = limit_at(v, "unhealthy.timeouts");
    statuses_at(v, "healthy.http_statuses", l->good);
    statuses_at(v, "unhealthy.http_statuses", l->bad);
}

static enum sb_health_type type_of(struct sb_str name)
{
    static const char *const names[] = {"http", "https", "grpc", "grpcs", "tcp"};

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (sb_str_is(name, names[i]))
            return (enum sb_health_type)i;
    return SB_CHECK_HTTP;
}

static const char *const *read_headers(struct sb_arena *a, const struct sb_value *headers)
{
    size_t n = 0, at = 0;
    const struct sb_member *m;
    const struct sb_value *value;
    const char **lines;

    sb_object_each (m, headers)
        n += sb_is(m->value, SB_V_ARRAY) ? m->value->count : 0;
    lines = SB_NEW_N(a, const char *, n + 1);
    sb_object_each (m, headers)
        sb_array_each (value, m->value)
            if (sb_is(value, SB_V_STR))
                lines[at++] = sb_arena_printf(a, "%.*s: %.*s", SB_ARG(m->key), SB_ARG(value->s)).p;
    return lines;
}

void sb_health_checks_read(struct sb_arena *a, const struct sb_value *upstream,
                           struct sb_health_checks *out)
{
    const struct sb_value *checks = sb_get(upstream, "healthchecks");
    const struct sb_value *active = sb_get(checks, "active"), *passive = sb_get(checks, "passive");
    int64_t concurrency = sb_value_int_at(active, "concurrency", 10);

    *out = (struct sb_health_checks){0};
    out->threshold = number_at(checks, "threshold", 0);
    read_limits(active, &out->active);
    read_limits(passive, &out->passive);
    out->type = type_of(sb_value_str_at(active, "type"));
    out->healthy_ms = ms_at(active, "healthy.interval", 0);
    out->unhealthy_ms = ms_at(active, "unhealthy.interval", 0);
    out->timeout_ms = (int)ms_at(active, "timeout", TIMEOUT_DEFAULT_MS);
    out->concurrency = concurrency < 1 ? 1 : concurrency > 1000 ? 1000 : (int)concurrency;
    out->http_path = sb_arena_str(a, sb_value_str_at(active, "http_path"));
    out->https_sni = sb_arena_str(a, sb_value_str_at(active, "https_sni"));
    out->https_verify = sb_value_bool_at(active, "https_verify_certificate", true);
    out->headers = read_headers(a, sb_get(active, "headers"));
    out->on = out->healthy_ms || out->unhealthy_ms || out->passive.limit[SB_HEALTH_HTTP_FAILURE] ||
              out->passive.limit[SB_HEALTH_TCP_FAILURE] || out->passive.limit[SB_HEALTH_TIMEOUT];
}
