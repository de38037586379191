#include "dataplane/plugins/known.h"

const struct sb_known_plugin sb_known_plugins[] = {
    {"acl", 950, false},
    {"acme", 1705, false},
    {"ai-prompt-decorator", 772, false},
    {"ai-prompt-guard", 771, false},
    {"ai-prompt-template", 773, false},
    {"ai-proxy", 770, false},
    {"ai-request-transformer", 777, false},
    {"ai-response-transformer", 768, false},
    {"aws-lambda", 750, false},
    {"azure-functions", 749, false},
    {"basic-auth", 1100, false},
    {"bot-detection", 2500, false},
    {"correlation-id", 100001, false},
    {"cors", 2000, false},
    {"datadog", 10, true},
    {"file-log", 9, true},
    {"grpc-gateway", 998, false},
    {"grpc-web", 3, false},
    {"hmac-auth", 1030, false},
    {"http-log", 12, true},
    {"ip-restriction", 990, false},
    {"jwt", 1450, false},
    {"key-auth", 1250, false},
    {"ldap-auth", 1200, false},
    {"loggly", 6, true},
    {"oauth2", 1400, false},
    {"opentelemetry", 14, true},
    {"post-function", -1000, false},
    {"pre-function", 1000000, false},
    {"prometheus", 13, true},
    {"proxy-cache", 100, false},
    {"rate-limiting", 910, false},
    {"redirect", 779, false},
    {"request-size-limiting", 951, false},
    {"request-termination", 2, false},
    {"request-transformer", 801, false},
    {"response-ratelimiting", 900, false},
    {"response-transformer", 800, false},
    {"session", 1900, false},
    {"standard-webhooks", 760, false},
    {"statsd", 11, true},
    {"syslog", 4, true},
    {"tcp-log", 7, true},
    {"udp-log", 8, true},
    {"zipkin", 100000, true},
    {NULL, 0, false},
};

const struct sb_known_plugin *sb_plugin_known(struct sb_str name)
{
    for (const struct sb_known_plugin *p = sb_known_plugins; p->name; p++)
        if (sb_str_is(name, p->name))
            return p;
    return NULL;
}
