/* fields_plugins.c - the entities that plugins bring: credentials, tokens, counters. */
#include "schema/fields.h"

#include "schema/keys.h"
#include "schema/types.h"

#define STRING(n, ...)                                                                             \
    {                                                                                              \
        .name = (n), .type = SB_T_STRING, __VA_ARGS__                                              \
    }
#define CONSUMER                                                                                   \
    {                                                                                              \
        .name = "consumer", .type = SB_T_FOREIGN, .reference = "consumers",                        \
        .flags = SB_F_REQUIRED | SB_F_CASCADE                                                      \
    }
#define SERVICE                                                                                    \
    {                                                                                              \
        .name = "service", .type = SB_T_FOREIGN, .reference = "services", .flags = SB_F_CASCADE    \
    }
#define CREDENTIAL                                                                                 \
    {                                                                                              \
        .name = "credential", .type = SB_T_FOREIGN, .reference = "oauth2_credentials",             \
        .flags = SB_F_REQUIRED | SB_F_CASCADE                                                      \
    }
#define END                                                                                        \
    {                                                                                              \
        .name = NULL                                                                               \
    }

static const struct sb_field keyauth_fields[] = {
    SB_ROW_ID,   SB_ROW_CREATED,
    CONSUMER,    STRING("key", .flags = SB_F_UNIQUE | SB_F_AUTO),
    SB_ROW_TAGS, END};

const struct sb_entity sb_keyauth_credentials = {
    .name = "keyauth_credentials",
    .singular = "keyauth_credential",
    .table = "keyauth_credentials",
    .path = "key-auths",
    .plugin = "key-auth",
    .flags = SB_E_WORKSPACE | SB_E_TTL | SB_E_CREDENTIAL,
    .primary_key = "id",
    .endpoint_key = "key",
    .cache_key = SB_LIST("key"),
    .fields = keyauth_fields,
};

static const struct sb_field basicauth_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    CONSUMER,
    STRING("username", .flags = SB_F_REQUIRED | SB_F_UNIQUE),
    STRING("password", .flags = SB_F_REQUIRED | SB_F_ENCRYPTED),
    SB_ROW_TAGS,
    END,
};
static const struct sb_transform basicauth_transforms[] = {
    {.input = "password", .needs = "consumer.id", .apply = sb_hash_basic_password}, {0}};

const struct sb_entity sb_basicauth_credentials = {
    .name = "basicauth_credentials",
    .singular = "basicauth_credential",
    .table = "basicauth_credentials",
    .path = "basic-auths",
    .plugin = "basic-auth",
    .flags = SB_E_WORKSPACE | SB_E_CREDENTIAL,
    .primary_key = "id",
    .endpoint_key = "username",
    .cache_key = SB_LIST("username"),
    .fields = basicauth_fields,
    .transforms = basicauth_transforms,
};

static const struct sb_field hmacauth_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    CONSUMER,
    STRING("username", .flags = SB_F_REQUIRED | SB_F_UNIQUE),
    STRING("secret", .flags = SB_F_AUTO),
    SB_ROW_TAGS,
    END,
};

const struct sb_entity sb_hmacauth_credentials = {
    .name = "hmacauth_credentials",
    .singular = "hmacauth_credential",
    .table = "hmacauth_credentials",
    .path = "hmac-auths",
    .plugin = "hmac-auth",
    .flags = SB_E_WORKSPACE | SB_E_CREDENTIAL,
    .primary_key = "id",
    .endpoint_key = "username",
    .cache_key = SB_LIST("username"),
    .fields = hmacauth_fields,
};

static const struct sb_field jwt_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    CONSUMER,
    STRING("key", .flags = SB_F_UNIQUE | SB_F_AUTO),
    STRING("secret", .flags = SB_F_AUTO),
    STRING("rsa_public_key"),
    STRING("algorithm",
           .one_of = SB_LIST("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384",
                             "ES512", "PS256", "PS384", "PS512", "EdDSA"),
           .def = "\"HS256\""),
    SB_ROW_TAGS,
    END,
};
static const struct sb_field signed_with_a_key = {
    .type = SB_T_JSON,
    .one_of = SB_LIST("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA")};
static const struct sb_field public_key = {
    .type = SB_T_JSON, .flags = SB_F_REQUIRED, .validate = sb_check_public_key};
static const struct sb_entity_check jwt_checks[] = {
    {.kind = SB_C_CONDITIONAL,
     .if_field = "algorithm",
     .if_match = &signed_with_a_key,
     .then_field = "rsa_public_key",
     .then_match = &public_key},
    {0},
};

const struct sb_entity sb_jwt_secrets = {
    .name = "jwt_secrets",
    .singular = "jwt_secret",
    .table = "jwt_secrets",
    .path = "jwts",
    .plugin = "jwt",
    .flags = SB_E_WORKSPACE | SB_E_CREDENTIAL,
    .primary_key = "id",
    .endpoint_key = "key",
    .cache_key = SB_LIST("key"),
    .fields = jwt_fields,
    .checks = jwt_checks,
};

static const struct sb_field acl_fields[] = {
    SB_ROW_ID, SB_ROW_CREATED, CONSUMER, STRING("group", .flags = SB_F_REQUIRED), SB_ROW_TAGS, END};

const struct sb_entity sb_acls = {
    .name = "acls",
    .singular = "acl",
    .table = "acls",
    .path = "acls",
    .plugin = "acl",
    .flags = SB_E_WORKSPACE | SB_E_CREDENTIAL,
    .primary_key = "id",
    .cache_key = SB_LIST("consumer", "group"),
    .fields = acl_fields,
};

static const struct sb_field redirect_uri = {.type = SB_T_STRING,
                                             .validate = sb_check_redirect_uri};
static const struct sb_field oauth2_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    CONSUMER,
    STRING("name", .flags = SB_F_REQUIRED),
    STRING("client_id", .flags = SB_F_UNIQUE | SB_F_AUTO),
    STRING("client_secret", .flags = SB_F_AUTO | SB_F_ENCRYPTED),
    {.name = "hash_secret", .type = SB_T_BOOLEAN, .flags = SB_F_REQUIRED, .def = "false"},
    {.name = "redirect_uris", .type = SB_T_ARRAY, .elements = &redirect_uri},
    SB_ROW_TAGS,
    STRING("client_type", .flags = SB_F_REQUIRED, .one_of = SB_LIST("confidential", "public"),
           .def = "\"confidential\""),
    END,
};
static const struct sb_transform oauth2_transforms[] = {
    {.input = "hash_secret", .needs = "client_secret", .apply = sb_hash_oauth2_secret}, {0}};

const struct sb_entity sb_oauth2_credentials = {
    .name = "oauth2_credentials",
    .singular = "oauth2_credential",
    .table = "oauth2_credentials",
    .path = "oauth2",
    .plugin = "oauth2",
    .flags = SB_E_WORKSPACE | SB_E_CREDENTIAL,
    .primary_key = "id",
    .endpoint_key = "client_id",
    .cache_key = SB_LIST("client_id"),
    .fields = oauth2_fields,
    .transforms = oauth2_transforms,
};

static const struct sb_field oauth2_code_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    SERVICE,
    CREDENTIAL,
    STRING("code", .flags = SB_F_UNIQUE | SB_F_AUTO),
    STRING("authenticated_userid"),
    STRING("scope"),
    STRING("challenge"),
    STRING("challenge_method", .one_of = SB_LIST("S256")),
    {.name = "plugin", .type = SB_T_FOREIGN, .reference = "plugins", .flags = SB_F_CASCADE},
    END,
};

const struct sb_entity sb_oauth2_authorization_codes = {
    .name = "oauth2_authorization_codes",
    .singular = "oauth2_authorization_code",
    .table = "oauth2_authorization_codes",
    .path = "oauth2_authorization_codes",
    .plugin = "oauth2",
    .flags = SB_E_WORKSPACE | SB_E_TTL | SB_E_NO_API | SB_E_NO_EXPORT | SB_E_CREDENTIAL,
    .primary_key = "id",
    .fields = oauth2_code_fields,
};

static const struct sb_field oauth2_token_fields[] = {
    SB_ROW_ID,
    SB_ROW_CREATED,
    SERVICE,
    CREDENTIAL,
    STRING("token_type", .flags = SB_F_REQUIRED, .one_of = SB_LIST("bearer"), .def = "\"bearer\""),
    {.name = "expires_in", .type = SB_T_INTEGER, .flags = SB_F_REQUIRED},
    STRING("access_token", .flags = SB_F_UNIQUE | SB_F_AUTO),
    STRING("refresh_token", .flags = SB_F_UNIQUE),
    STRING("authenticated_userid"),
    STRING("scope"),
    END,
};

const struct sb_entity sb_oauth2_tokens = {
    .name = "oauth2_tokens",
    .singular = "oauth2_token",
    .table = "oauth2_tokens",
    .path = "oauth2_tokens",
    .plugin = "oauth2",
    .flags = SB_E_WORKSPACE | SB_E_TTL | SB_E_CREDENTIAL,
    .primary_key = "id",
    .endpoint_key = "access_token",
    .cache_key = SB_LIST("access_token"),
    .fields = oauth2_token_fields,
};

static const struct sb_field session_fields[] = {
    SB_ROW_ID,
    STRING("session_id", .flags = SB_F_REQUIRED | SB_F_UNIQUE),
    {.name = "expires", .type = SB_T_INTEGER},
    STRING("data"),
    SB_ROW_CREATED,
    END,
};

const struct sb_entity sb_sessions = {
    .name = "sessions",
    .singular = "session",
    .table = "sessions",
    .path = "sessions",
    .plugin = "session",
    .flags = SB_E_TTL | SB_E_NO_EXPORT | SB_E_CREDENTIAL,
    .primary_key = "id",
    .endpoint_key = "session_id",
    .cache_key = SB_LIST("session_id"),
    .fields = session_fields,
};

static const struct sb_field acme_fields[] = {
    SB_ROW_ID,
    STRING("key", .flags = SB_F_REQUIRED | SB_F_UNIQUE | SB_F_AUTO),
    STRING("value", .flags = SB_F_REQUIRED | SB_F_AUTO),
    SB_ROW_CREATED,
    END,
};

const struct sb_entity sb_acme_storage = {
    .name = "acme_storage",
    .singular = "acme_storage",
    .table = "acme_storage",
    .path = "acme_storage",
    .plugin = "acme",
    .flags = SB_E_TTL | SB_E_CREDENTIAL,
    .primary_key = "id",
    .cache_key = SB_LIST("key"),
    .fields = acme_fields,
};

static const struct sb_field metrics_fields[] = {
    STRING("identifier", .flags = SB_F_REQUIRED | SB_F_LEN_MIN_0),
    STRING("period", .flags = SB_F_REQUIRED),
    {.name = "period_date", .type = SB_T_INTEGER, .flags = SB_F_REQUIRED | SB_F_TIMESTAMP},
    STRING("service_id", .flags = SB_F_REQUIRED | SB_F_UUID),
    STRING("route_id", .flags = SB_F_REQUIRED | SB_F_UUID),
    {.name = "value", .type = SB_T_INTEGER, .flags = SB_F_REQUIRED},
    END,
};

const struct sb_entity sb_ratelimiting_metrics = {
    .name = "ratelimiting_metrics",
    .singular = "ratelimiting_metric",
    .table = "ratelimiting_metrics",
    .path = "ratelimiting_metrics",
    .plugin = "rate-limiting",
    .flags = SB_E_TTL | SB_E_NO_API | SB_E_NO_EXPORT | SB_E_CREDENTIAL,
    .primary_key = "identifier",
    .fields = metrics_fields,
};
