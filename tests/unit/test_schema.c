/* clang-format off: version 14 falls over tables of strings that go on over lines */
/* Entities: what is refused and in which words, what is filled in, what a reader sees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "schema/entity.h"
#include "shared/json.h"

static struct sb_value *json(struct sb_arena *a, const char *text)
{
    struct sb_value *v;

    if (sb_json_parse(a, sb_str_c(text), &v, NULL))
        fail_msg("not JSON: %s", text);
    return v;
}

static const struct sb_entity *kind_of(const char *name)
{
    const struct sb_entity *kind = sb_entity_find(sb_str_c(name));

    assert_non_null(kind);
    return kind;
}

#define ID "00000000-0000-4000-8000-000000000001"

static void refuses_in_kongs_words(void **state)
{
    static const struct {
        const char *kind, *input, *message;
    } rows[] = {
        {"services", "{}", "schema violation (host: required field missing)"},
        {"services", "{\"host\":null}", "schema violation (host: required field missing)"},
        {"services", "{\"host\":\"\"}", "schema violation (host: length must be at least 1)"},
        {"services", "{\"host\":\"a\",\"ws_id\":\"x\"}", "schema violation (ws_id: unknown field)"},
        {"services", "{\"host\":\"a:80\"}", "schema violation (host: must not have a port)"},
        {"services", "{\"host\":\"a\",\"port\":\"80\"}",
         "schema violation (port: expected an integer)"},
        {"services", "{\"host\":\"a\",\"port\":80.5}",
         "schema violation (port: expected an integer)"},
        {"services", "{\"host\":\"a\",\"retries\":-1,\"port\":65536}",
         "2 schema violations (port: value should be between 0 and 65535; retries: value should be "
         "between 0 and 32767)"},
        {"services", "{\"host\":\"a\",\"protocol\":\"tcp\",\"path\":\"/x\"}",
         "2 schema violations (failed conditional validation given value of field 'protocol'; "
         "path: "
         "value must be null)"},
        {"services", "{\"host\":\"a\",\"tls_verify\":false}",
         "2 schema violations (failed conditional validation given value of field 'protocol'; "
         "tls_verify: value must be null)"},
        {"services", "{\"url\":1}", "schema violation (url: expected a string)"},
        {"services", "{\"url\":\"http://a:x\"}", "schema violation (port: expected an integer)"},
        {"services", "{\"url\":null}",
         "3 schema violations (host: required field missing; path: should start with: /; protocol: "
         "expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp)"},
        {"services", "{\"host\":\"a\",\"client_certificate\":{}}",
         "2 schema violations (failed conditional validation given value of field 'protocol'; "
         "client_certificate: value must be null)"},
        {"services", "{\"host\":\"a\",\"tags\":[\"a\",\"b,c\"]}",
         "schema violation (tags.2: invalid tag 'b,c': expected printable ascii (except `,` and "
         "`/`) "
         "or valid utf-8 sequences)"},
        {"routes", "{}",
         "schema violation (must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when "
         "'protocols' is 'https')"},
        {"routes", "{\"protocols\":[\"nope\"]}",
         "schema violation (protocols: unknown type: nope)"},
        {"routes", "{\"protocols\":[]}", "schema violation (protocols: unknown type: nil)"},
        {"routes", "{\"protocols\":null}", "schema violation (protocols: required field missing)"},
        {"routes", "{\"paths\":[\"/a\"],\"service\":\"x\"}",
         "schema violation (service.id: missing primary key)"},
        {"routes", "{\"protocols\":[\"http\",\"tcp\"],\"paths\":[\"/\"]}",
         "schema violation (protocols: these sets are mutually exclusive: ('http', 'https'), "
         "('tcp', "
         "'tls', 'udp'))"},
        {"routes", "{\"protocols\":[\"tcp\"],\"paths\":[\"/\"]}",
         "2 schema violations (must set one of 'sources', 'destinations', 'snis' when 'protocols' "
         "is "
         "'tcp', 'tls' or 'udp'; paths: cannot set 'paths' when 'protocols' is 'tcp', 'tls', "
         "'tls_passthrough' or 'udp')"},
        {"routes", "{\"protocols\":[\"grpc\"],\"paths\":[\"/\"],\"strip_path\":true}",
         "schema violation (strip_path: cannot set 'strip_path' when 'protocols' is 'grpc' or "
         "'grpcs')"},
        {"routes", "{\"methods\":[\"get\",\"GET\",\"X-Y\"]}",
         "2 schema violations (methods.1: invalid value: get; methods.3: invalid value: X-Y)"},
        {"routes", "{\"paths\":[\"~/(\"]}",
         "schema violation (paths.1: invalid regex: '/(' (PCRE returned: pcre2_compile() failed: "
         "missing closing parenthesis in \"/(\"))"},
        {"routes", "{\"paths\":[\"/a/../b\",\"/%20x\"]}",
         "2 schema violations (paths.1: non-normalized path, consider use '/b' instead; paths.2: "
         "non-normalized path, consider use '/ x' instead)"},
        {"routes", "{\"paths\":[\"/%zz\"]}",
         "schema violation (paths.1: invalid url-encoded value: '%zz')"},
        {"routes", "{\"hosts\":[\"a.*.b\"]}",
         "schema violation (hosts.1: invalid wildcard: must be placed at leftmost or rightmost "
         "label)"},
        {"routes", "{\"headers\":{\"Host\":[\"a\"]}}",
         "schema violation (headers: cannot contain 'host' header, which must be specified in the "
         "'hosts' attribute)"},
        {"routes", "{\"protocols\":[\"tcp\"],\"sources\":[{}]}",
         "schema violation (sources.1: {\n  [\"@entity\"] = {\n    \"at least one of these fields "
         "must "
         "be non-empty: 'ip', 'port'\"\n  }\n})"},
        {"routes", "{\"paths\":[\"/\"],\"expression\":\"x\"}",
         "schema violation (expression: unknown field)"},
        {"consumers", "{}",
         "schema violation (at least one of these fields must be non-empty: 'custom_id', "
         "'username')"},
        {"upstreams", "{\"name\":\"1.2.3.4\"}",
         "schema violation (name: Invalid name ('1.2.3.4'); no ip addresses allowed)"},
        {"upstreams", "{\"name\":\"u\",\"hash_on\":\"header\"}",
         "2 schema violations (failed conditional validation given value of field 'hash_on'; "
         "hash_on_header: required field missing)"},
        {"upstreams", "{\"name\":\"u\",\"healthchecks\":{\"active\":{\"timeout\":-1}}}",
         "schema violation (healthchecks.active: {\n  timeout = \"value should be between 0 and "
         "65535\"\n})"},
        {"targets", "{\"target\":\"a b\",\"upstream\":{\"id\":\"" ID "\"}}",
         "schema violation (target: Invalid target ('a b'); not a valid hostname or ip address)"},
        {"plugins", "{}", "schema violation (name: required field missing)"},
        {"plugins", "{\"name\":\"nope\"}",
         "schema violation (name: plugin 'nope' not enabled; add it to the 'plugins' configuration "
         "property)"},
        {"plugins", "{\"name\":\"key-auth\",\"config\":{\"key_names\":[\"a b\"]}}",
         "schema violation (config.key_names: {\n  \"bad header name 'a b', allowed characters are "
         "A-Z, "
         "a-z, 0-9, '_', and '-'\"\n})"},
        {"plugins", "{\"name\":\"key-auth\",\"consumer\":{\"id\":\"" ID "\"}}",
         "schema violation (consumer: value must be null)"},
        {"plugins", "{\"name\":\"rate-limiting\",\"config\":{\"minute\":5,\"second\":10}}",
         "schema violation (config: The limit for minute(5.0) cannot be lower than the limit for "
         "second(10.0))"},
        {"plugins", "{\"name\":\"rate-limiting\",\"config\":{\"minute\":5,\"policy\":\"redis\"}}",
         "2 schema violations (failed conditional validation given value of field 'config.policy'; "
         "config.redis: {\n  host = \"required field missing\"\n})"},
        {"plugins",
         "{\"name\":\"rate-limiting\",\"config\":{\"minute\":5,\"redis_host\":\"a\",\"redis\":{"
         "\"host\":\"b\"}}}",
         "schema violation (redis_host: both deprecated and new field are used but their values "
         "mismatch: redis_host = a vs redis.host = b)"},
        {"plugins",
         "{\"name\":\"request-transformer\",\"config\":{\"add\":{\"headers\":[\"a b:c\"],"
         "\"body\":[\"k\"]}}}",
         "schema violation (config.add: {\n  body = {\n    \"key 'k' has no value\"\n  },\n  "
         "headers = {\n    "
         "\"'a b' is not a valid header\"\n  }\n})"},
        {"plugins", "{\"name\":\"aws-lambda\",\"config\":{\"proxy_url\":\"https://p\"}}",
         "schema violation (proxy_url scheme must be http)"},
        {"vaults", "{\"name\":\"hcv\",\"prefix\":\"x-y\"}",
         "schema violation (name: vault 'hcv' is not installed)"},
        {"vaults", "{\"name\":\"env\",\"prefix\":\"env\"}",
         "schema violation (prefix: must not be one of: env)"},
        {"keys", "{\"kid\":\"k\",\"jwk\":\"{\"}",
         "schema violation (could not json decode jwk string)"},
        {"basicauth_credentials", "{\"username\":\"u\",\"password\":\"p\"}",
         "2 schema violations (all or none of these fields must be set: 'password', 'consumer.id'; "
         "consumer: required field missing)"},
        {"jwt_secrets", "{\"consumer\":{\"id\":\"" ID "\"},\"algorithm\":\"RS256\"}",
         "2 schema violations (failed conditional validation given value of field 'algorithm'; "
         "rsa_public_key: required field missing)"},
        {"certificates",
         "{\"cert\":\"{vault://env/c}\",\"key\":\"{vault://env/k}\",\"cert_alt\":\"{vault"
         "://env/a}\",\"snis\":[\"a.b\",\"a.b\"]}",
         "schema violation (snis: a.b is duplicated)"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_schema_ctx ctx = {.arena = a};
        struct sb_kong_error e = {0};
        struct sb_value *out;

        if (!sb_entity_insert(&ctx, kind_of(rows[i].kind), json(a, rows[i].input), &out, &e))
            fail_msg("accepted: %s %s", rows[i].kind, rows[i].input);
        assert_int_equal(e.code, SB_KONG_SCHEMA_VIOLATION);
        assert_string_equal(e.message.p, rows[i].message);
        sb_arena_free(a);
    }
}

static struct sb_value *json_quoted(struct sb_arena *a, const char *text)
{
    char *copy = sb_arena_cstr(a, sb_str_c(text));

    for (char *p = copy; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    return json(a, copy);
}

/* What Kong's own schema code answered to the same: how fields, conditions and records meet. */
static void meets_kongs_engine(void **state)
{
    static const struct {
        const char *kind, *input, *message;
    } rows[] = {
        {"services", "{'host':'a','protocol':'x','tls_verify':true,'ca_certificates':['x']}",
         "2 schema violations (ca_certificates.1: expected a valid UUID; protocol: expected one "
         "of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp)"},
        {"services", "{'host':'a','protocol':'udp','path':'{vault://env/p}','tls_verify':{}}",
         "4 schema violations (failed conditional validation given value of field 'protocol'; "
         "failed conditional validation given value of field 'protocol'; path: value must be null; "
         "tls_verify: value must be null)"},
        {"routes", "{'paths':['http://a']}",
         "schema violation (paths.1: must not have empty segments)"},
        {"routes", "{'protocols':['tls_passthrough','grpc','tcp'],'snis':['a']}",
         "schema violation (protocols: these sets are mutually exclusive: ('tls_passthrough'), "
         "('grpc', 'grpcs'), ('tcp', 'tls', 'udp'))"},
        {"routes", "{'protocols':['http'],'paths':['/'],'snis':['a:1']}",
         "2 schema violations ('snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' "
         "or 'tls_passthrough'; snis.1: must not have a port)"},
        {"routes", "{'paths':['/',null],'headers':{'a':null}}",
         "2 schema violations (headers: required field missing; paths.2: required field missing)"},
        {"routes", "{'paths':['/'],'service':{'protocol':'x'}}",
         "schema violation (service.protocol: expected one of: grpc, grpcs, http, https, tcp, tls, "
         "tls_passthrough, udp)"},
        {"upstreams", "{'name':'a','hash_on':'path','hash_fallback':'path'}",
         "2 schema violations (failed conditional validation given value of field 'hash_on'; "
         "hash_fallback: expected one of: none, consumer, header, cookie, query_arg, ip, "
         "uri_capture)"},
        {"upstreams",
         "{'name':'a','hash_fallback':null,'hash_fallback_header':'a','hash_on_cookie':'a','hash_"
         "fallback_query_arg':'a'}",
         "2 schema violations (failed conditional validation given value of field 'hash_fallback'; "
         "hash_fallback_uri_capture: required field missing)"},
        {"upstreams", "{'name':'a','hash_on':'cookie','hash_on_cookie':'ü'}",
         "2 schema violations (failed conditional validation given value of field 'hash_on'; "
         "hash_on_cookie: contains one or more invalid characters. ASCII control characters "
         "(0-31;127), space, tab and the characters ()<>@,;:\\\"/?={}[] are not allowed.)"},
        {"upstreams", "{'name':'a','healthchecks':['x','x']}",
         "2 schema violations (healthchecks.1: unknown field; healthchecks.2: unknown field)"},
        {"acls", "{'group':'a','consumer':{'name':'x'}}",
         "schema violation (consumer.name: unknown field)"},
        {"acls", "{'group':'a','consumer':{'id':null}}",
         "schema violation (consumer.id: required field missing)"},
        {"acls", "{'group':'a','consumer':['x']}", "schema violation (consumer.1: unknown field)"},
        {"snis", "{'name':'1.2.3.4:99999','certificate':{'id':'" ID "'}}",
         "schema violation (name: must not have a port)"},
        {"vaults", "{'name':['x'],'prefix':'a'}",
         "schema violation (name: vault 'x' is not installed)"},
        {"keys", "{'kid':'a','jwk':'x','pem':{}}",
         "schema violation (pem.@entity: {\n  \"at least one of these fields must be non-empty: "
         "'private_key', 'public_key'\"\n})"},
        {"plugins", "{'name':'acl','config':'x'}",
         "2 schema violations (at least one of these fields must be non-empty: 'config.allow', "
         "'config.deny'; config: expected a record)"},
        {"plugins", "{'name':'statsd','config':{'allow_status_codes':['200-299','200']}}",
         "schema violation (config.allow_status_codes: {\n  [2] = \"invalid value: 200\"\n})"},
        {"plugins", "{'name':'datadog','config':{'metrics':[{'name':'kong_latency'}]}}",
         "schema violation (config.metrics: {\n  {\n    stat_type = \"field required for entity "
         "check\"\n  }\n})"},
        {"plugins", "{'name':'aws-lambda','config':{'aws_key':5}}",
         "2 schema violations (all or none of these fields must be set: 'config.aws_key', "
         "'config.aws_secret'; config.aws_key: expected a string)"},
        {"plugins", "{'name':'ai-prompt-decorator','config':{'prompts':{'prepend':[['x']]}}}",
         "schema violation (config.prompts: {\n  prepend = {\n    {\n      \"unknown field\",\n    "
         "  content = \"required field missing\"\n    }\n  }\n})"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_schema_ctx ctx = {.arena = a};
        struct sb_kong_error e = {0};
        struct sb_value *out;

        if (!sb_entity_insert(&ctx, kind_of(rows[i].kind), json_quoted(a, rows[i].input), &out, &e))
            fail_msg("accepted: %s %s", rows[i].kind, rows[i].input);
        assert_string_equal(e.message.p, rows[i].message);
        sb_arena_free(a);
    }
}

/* What is accepted becomes, for the fields named by want. */
static void fills_in(void **state)
{
    static const struct {
        const char *kind, *input, *want;
    } rows[] = {
        {"services", "{\"url\":\"https://a.test/x?q#f\"}",
         "{\"protocol\":\"https\",\"host\":\"a.test\",\"port\":443,\"path\":\"/x\",\"retries\":5,"
         "\"read_timeout\":60000,\"enabled\":true,\"tags\":null,\"created_at\":7,\"updated_at\":"
         "7}"},
        {"services",
         "{\"url\":\"grpcs://a\",\"port\":1,\"retries\":null,\"tags\":[\"x\",\"y\",\"x\"]}",
         "{\"protocol\":\"grpcs\",\"port\":80,\"path\":null,\"retries\":null,\"tags\":[\"x\",\"y\"]"
         "}"},
        {"services", "{\"url\":\"//a:443\"}", "{\"protocol\":\"https\",\"port\":443}"},
        {"services", "{\"host\":\"a\",\"port\":5.0,\"created_at\":3,\"updated_at\":3}",
         "{\"port\":5,\"created_at\":3,\"updated_at\":7}"},
        {"routes",
         "{\"paths\":[\"/"
         "a\"],\"service\":{\"id\":\"ABCDEF00-0000-4000-8000-000000000001\",\"x\":1}}",
         "{\"service\":{\"id\":\"abcdef00-0000-4000-8000-000000000001\"},\"protocols\":[\"http\","
         "\"https\"],"
         "\"strip_path\":true,\"regex_priority\":0,\"path_handling\":\"v0\"}"},
        {"routes", "{\"protocols\":[\"grpc\"],\"paths\":[\"/a\"]}", "{\"strip_path\":false}"},
        {"upstreams", "{\"name\":\"u\",\"hash_on\":\"ip\"}",
         "{\"algorithm\":\"consistent-hashing\",\"hash_on\":\"ip\",\"slots\":10000}"},
        {"upstreams", "{\"name\":\"u\",\"hash_on\":\"ip\",\"algorithm\":\"least-connections\"}",
         "{\"algorithm\":\"least-connections\",\"hash_on\":\"none\"}"},
        {"upstreams", "{\"name\":\"u\",\"algorithm\":\"consistent-hashing\"}",
         "{\"algorithm\":\"consistent-hashing\",\"hash_on\":\"none\"}"},
        {"targets", "{\"target\":\"::2\",\"upstream\":{\"id\":\"" ID "\"}}",
         "{\"target\":\"[0000:0000:0000:0000:0000:0000:0000:0002]:8000\",\"weight\":100,"
         "\"created_at\":7.25}"},
        {"targets", "{\"target\":\"010.0.0.1:80\",\"upstream\":{\"id\":\"" ID "\"}}",
         "{\"target\":\"10.0.0.1:80\"}"},
        {"plugins", "{\"name\":\"rate-limiting\",\"config\":{\"minute\":5,\"redis_host\":\"a\"}}",
         "{\"protocols\":[\"grpc\",\"grpcs\",\"http\",\"https\"],\"config\":{\"second\":null,"
         "\"minute\":5,"
         "\"hour\":null,\"day\":null,\"month\":null,\"year\":null,\"limit_by\":\"consumer\","
         "\"header_name\":null,\"path\":null,\"policy\":\"local\",\"fault_tolerant\":true,"
         "\"redis\":{"
         "\"host\":\"a\",\"port\":6379,\"timeout\":2000,\"username\":null,\"password\":null,"
         "\"database\":0,"
         "\"ssl\":false,\"ssl_verify\":false,\"server_name\":null},\"hide_client_headers\":false,"
         "\"error_code\":429,\"error_message\":\"API rate limit exceeded\",\"sync_rate\":-1}}"},
        {"plugins",
         "{\"name\":\"session\",\"config\":{\"secret\":\"s\",\"cookie_samesite\":\"off\","
         "\"cookie_lifetime\":1,\"rolling_timeout\":2,\"cookie_renew\":9}}",
         "{\"config\":{\"secret\":\"s\",\"storage\":\"cookie\",\"audience\":\"default\","
         "\"idling_timeout\":900,\"rolling_timeout\":1,\"absolute_timeout\":86400,\"stale_ttl\":10,"
         "\"cookie_name\":\"session\",\"cookie_path\":\"/\",\"cookie_domain\":null,"
         "\"cookie_same_site\":\"Lax\",\"cookie_http_only\":true,\"cookie_secure\":true,"
         "\"remember\":false,\"remember_cookie_name\":\"remember\","
         "\"remember_rolling_timeout\":604800,\"remember_absolute_timeout\":2592000,"
         "\"response_headers\":null,\"request_headers\":null,\"read_body_for_logout\":false,"
         "\"logout_methods\":[\"POST\",\"DELETE\"],\"logout_query_arg\":\"session_logout\","
         "\"logout_post_arg\":\"session_logout\"}}"},
        {"basicauth_credentials",
         "{\"username\":\"u\",\"password\":\"p\",\"consumer\":{\"id\":\"" ID "\"}}",
         "{\"password\":\"12fcb46159f10ceb7a6bea1baff958d0e77bdf81\"}"},
        {"keyauth_credentials", "{\"key\":null,\"ttl\":5,\"consumer\":{\"id\":\"" ID "\"}}",
         "{\"key\":null}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_schema_ctx ctx = {.arena = a, .now_s = 7.25};
        struct sb_kong_error e = {0};
        struct sb_value *out, *want = json(a, rows[i].want);
        const struct sb_member *m;

        if (sb_entity_insert(&ctx, kind_of(rows[i].kind), json(a, rows[i].input), &out, &e))
            fail_msg("%s: %s", rows[i].input, e.message.p);
        assert_non_null(sb_get(out, "id"));
        sb_object_each (m, want) {
            const struct sb_value *got = sb_object_get(out, m->key);

            if (!sb_value_equal(got, m->value))
                fail_msg("%s %s: %.*s is %s", rows[i].kind, rows[i].input, SB_ARG(m->key),
                         sb_json_text(a, got, 0).p);
        }
        sb_arena_free(a);
    }
}

static void generates_secrets(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_schema_ctx ctx = {.arena = a};
    struct sb_kong_error e;
    struct sb_value *out;
    struct sb_str key;

    (void)state;
    assert_int_equal(sb_entity_insert(&ctx, kind_of("keyauth_credentials"),
                                      json(a, "{\"consumer\":{\"id\":\"" ID "\"}}"), &out, &e),
                     SB_OK);
    key = sb_value_str_at(out, "key");
    assert_int_equal(key.len, 32);
    for (size_t i = 0; i < key.len; i++)
        assert_true((key.p[i] >= '0' && key.p[i] <= '9') || (key.p[i] >= 'A' && key.p[i] <= 'Z') ||
                    (key.p[i] >= 'a' && key.p[i] <= 'z'));
    assert_int_equal(sb_entity_insert(&ctx, kind_of("oauth2_credentials"),
                                      json(a, "{\"consumer\":{\"id\":\"" ID "\"},\"name\":\"n\","
                                              "\"hash_secret\":true,\"client_secret\":\"s\"}"),
                                      &out, &e),
                     SB_OK);
    assert_true(sb_str_starts(sb_value_str_at(out, "client_secret"),
                              SB_STR("$pbkdf2-sha512$i=10000,l=32$")));
    sb_arena_free(a);
}

#define OTHER "00000000-0000-4000-8000-000000000009"
#define BASIC                                                                                      \
    "{\"id\":\"" ID "\",\"username\":\"u\",\"password\":\"hash\",\"consumer\":{\"id\":\"" ID "\"}" \
    "}"
#define OAUTH2                                                                                     \
    "{\"id\":\"" ID "\",\"name\":\"n\",\"client_id\":\"c\",\"client_secret\":\"s\","               \
    "\"hash_secret\":false,\"client_type\":\"public\",\"consumer\":{\"id\":\"" ID "\"}}"
#define HASH_AND_SECRET                                                                            \
    "schema violation (all or none of these fields must be set: 'hash_secret', 'client_secret')"

static void updates_merge(void **state)
{
    static const struct {
        const char *kind, *current, *patch, *want, *message;
    } rows[] = {
        {"services",
         "{\"id\":\"" ID "\",\"host\":\"a\",\"port\":1,\"protocol\":\"http\",\"path\":\"/x\"}",
         "{\"url\":\"https://b\",\"id\":\"00000000-0000-4000-8000-000000000009\"}",
         "{\"id\":\"" ID
         "\",\"host\":\"b\",\"port\":443,\"path\":null,\"updated_at\":7,\"enabled\":true}",
         NULL},
        {"upstreams",
         "{\"id\":\"" ID "\",\"name\":\"u\",\"healthchecks\":{\"active\":{\"timeout\":3}}}",
         "{\"healthchecks\":{\"active\":{\"concurrency\":4}}}", "{\"name\":\"u\"}", NULL},
        {"consumers", "{\"id\":\"" ID "\",\"username\":\"u\"}", "{\"username\":null}", NULL,
         "schema violation (when updating, at least one of these fields must be non-empty: "
         "'custom_id', "
         "'username')"},
        {"basicauth_credentials", BASIC, "{\"username\":\"v\"}",
         "{\"username\":\"v\",\"password\":\"hash\"}", NULL},
        {"basicauth_credentials", BASIC, "{\"password\":\"p\"}", NULL,
         "schema violation (all or none of these fields must be set: 'password', 'consumer.id')"},
        {"basicauth_credentials", BASIC, "{\"consumer\":{\"id\":\"" OTHER "\"}}", NULL,
         "schema violation (all or none of these fields must be set: 'password', 'consumer.id')"},
        {"basicauth_credentials", BASIC, "{\"username\":\"v\",\"consumer\":{\"id\":\"" ID "\"}}",
         "{\"username\":\"v\",\"password\":\"hash\"}", NULL},
        {"oauth2_credentials", OAUTH2, "{\"name\":\"m\"}",
         "{\"name\":\"m\",\"client_secret\":\"s\"}", NULL},
        {"oauth2_credentials", OAUTH2, "{\"client_secret\":\"t\"}", NULL, HASH_AND_SECRET},
        {"oauth2_credentials", OAUTH2, "{\"hash_secret\":true}", NULL, HASH_AND_SECRET},
        {"oauth2_credentials", OAUTH2, "{\"hash_secret\":false,\"client_secret\":\"t\"}",
         "{\"client_secret\":\"t\"}", NULL},
        {"plugins",
         "{\"id\":\"" ID
         "\",\"name\":\"rate-limiting\",\"config\":{\"minute\":1,\"redis\":{\"host\":\"a\"}}}",
         "{\"config\":{\"hour\":9}}", "{\"name\":\"rate-limiting\"}", NULL},
        {"plugins", "{\"id\":\"" ID "\",\"name\":\"correlation-id\",\"config\":{}}",
         "{\"name\":\"key-auth\"}", NULL,
         "3 schema violations (config.echo_downstream: unknown field; config.generator: unknown "
         "field; "
         "config.header_name: unknown field)"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_schema_ctx ctx = {.arena = a, .now_s = 7};
        struct sb_kong_error e = {0};
        struct sb_value *out, *want = rows[i].want ? json(a, rows[i].want) : NULL;
        const struct sb_member *m;
        enum sb_rc rc = sb_entity_update(&ctx, kind_of(rows[i].kind), json(a, rows[i].current),
                                         json(a, rows[i].patch), &out, &e);

        if (rows[i].message) {
            assert_int_equal(rc, SB_INVALID);
            assert_string_equal(e.message.p, rows[i].message);
        } else {
            if (rc)
                fail_msg("%s: %s", rows[i].patch, e.message.p);
            sb_object_each (m, want)
                assert_true(sb_value_equal(sb_object_get(out, m->key), m->value));
        }
        sb_arena_free(a);
    }
}

static void updates_keep_what_records_hold(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_schema_ctx ctx = {.arena = a};
    struct sb_kong_error e;
    struct sb_value *out;

    (void)state;
    assert_int_equal(
        sb_entity_update(&ctx, kind_of("upstreams"),
                         json(a, "{\"name\":\"u\",\"healthchecks\":{\"active\":{\"timeout\":3}}}"),
                         json(a, "{\"healthchecks\":{\"active\":{\"concurrency\":4}}}"), &out, &e),
        SB_OK);
    assert_int_equal(sb_value_int_at(out, "healthchecks.active.timeout", 0), 3);
    assert_int_equal(sb_value_int_at(out, "healthchecks.active.concurrency", 0), 4);
    sb_arena_free(a);
}

static void readers_see_every_field(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_schema_ctx ctx = {.arena = a};
    struct sb_value *v;

    (void)state;
    v = sb_entity_read(&ctx, kind_of("services"),
                       json(a, "{\"id\":\"" ID "\",\"host\":\"a\",\"name\":\"\",\"gone\":1}"));
    assert_string_equal(
        sb_json_text(a, v, 0).p,
        "{\"id\":\"" ID "\",\"created_at\":null,\"updated_at\":null,\"name\":null,"
        "\"retries\":null,\"protocol\":\"http\",\"host\":\"a\",\"port\":80,\"path\":null,"
        "\"connect_timeout\":null,\"write_timeout\":null,\"read_timeout\":null,"
        "\"tags\":null,\"client_certificate\":null,\"tls_verify\":null,"
        "\"tls_verify_depth\":null,\"ca_certificates\":null,\"enabled\":true}");
    v = sb_entity_read(
        &ctx, kind_of("upstreams"),
        json(a, "{\"name\":\"u\",\"algorithm\":\"consistent-hashing\",\"hash_on\":\"none\"}"));
    assert_true(sb_str_is(sb_value_str_at(v, "algorithm"), "round-robin"));
    v = sb_entity_read(
        &ctx, kind_of("plugins"),
        json(a,
             "{\"name\":\"rate-limiting\",\"config\":{\"minute\":1,\"redis\":{\"host\":\"a\"}}}"));
    assert_true(sb_str_is(sb_value_str_at(v, "config.redis_host"), "a"));
    sb_arena_free(a);
}

/* The schema of every plugin fills an empty config without stumbling; names are in order. */
static void every_plugin_has_a_schema(void **state)
{
    static const char *const names[] = {"key-auth", "cors", "correlation-id", "prometheus",
                                        "zipkin"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_schema_ctx ctx = {.arena = a};
        struct sb_kong_error e = {0};
        struct sb_value *in = sb_value_object(a), *out;

        sb_object_set(a, in, SB_STR("name"), sb_value_text(a, names[i]));
        if (sb_entity_insert(&ctx, kind_of("plugins"), in, &out, &e))
            fail_msg("%s: %s", names[i], e.message.p);
        assert_true(sb_get(out, "config")->count > 0);
        sb_arena_free(a);
    }
}

static void keys_and_ids(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    static const struct {
        const char *kind, *entity, *key;
    } rows[] = {
        {"plugins", "{\"name\":\"key-auth\",\"route\":null}", "plugins:key-auth:::::w"},
        {"plugins", "{\"name\":\"x\",\"service\":{\"id\":\"s\"}}", "plugins:x::s:::w"},
        {"targets", "{\"upstream\":{\"id\":\"u\"},\"target\":\"10.0.0.1:8000\"}",
         "targets:u:10.0.0.1:8000::::w"},
        {"keys", "{\"kid\":\"k\",\"set\":{\"id\":\"s\"}}", "keys:k:s"},
        {"acls", "{\"consumer\":{\"id\":\"c\"},\"group\":\"g\"}", "acls:c:g::::w"},
        {"filter_chains", "{\"id\":\"i\"}", "filter_chains:i:::::w"},
        {"vaults", "{\"prefix\":\"p\"}", "vaults:p:::::w"},
        {"services", "{\"id\":\"i\"}", ""},
    };
    char text[SB_UUID_TEXT_LEN + 1];
    struct sb_uuid id;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_true(sb_str_is(
            sb_entity_cache_key(a, kind_of(rows[i].kind), json(a, rows[i].entity), SB_STR("w")),
            rows[i].key));
    id = sb_entity_id(kind_of("services"), SB_STR("my-service"));
    sb_uuid_format(&id, text);
    assert_string_equal(text, "0855b320-0dd2-547d-891d-601e9b38647f");
    sb_arena_free(a);
}

static void lua_text_is_compact(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    static const struct {
        const char *json, *lua;
    } rows[] = {
        {"{\"b\":{\"id\":\"y\"},\"a\":\"x\",\"c\":null}", "{a=\"x\",b={id=\"y\"},c=null}"},
        {"{\"services\":[null,\"e\"]}", "{services={[2]=\"e\"}}"},
        {"{\"@entity\":[\"q\\\"q\"],\"end\":1}", "{[\"@entity\"]={\"q\\\"q\"},[\"end\"]=1}"},
        {"{\"a\":\"x\\ny\"}", "{a=[[x\ny]]}"},
        {"{}", "{}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(sb_kong_lua_text(a, json(a, rows[i].json)).p, rows[i].lua);
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_in_kongs_words),
        cmocka_unit_test(meets_kongs_engine),
        cmocka_unit_test(fills_in),
        cmocka_unit_test(generates_secrets),
        cmocka_unit_test(updates_merge),
        cmocka_unit_test(updates_keep_what_records_hold),
        cmocka_unit_test(readers_see_every_field),
        cmocka_unit_test(every_plugin_has_a_schema),
        cmocka_unit_test(keys_and_ids),
        cmocka_unit_test(lua_text_is_compact),
    };

    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
