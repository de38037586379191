/* types.h - the value types that entities and plugins share, and the rows that most tables have.
 * Rules and messages: reference/entities.md, "Shared value types". */
#ifndef SB_SCHEMA_TYPES_H
#define SB_SCHEMA_TYPES_H

#include "schema/entity.h"

sb_validator sb_check_tag, sb_check_utf8_name, sb_check_name, sb_check_host,
    sb_check_host_with_optional_port, sb_check_wildcard_host, sb_check_sni, sb_check_ip,
    sb_check_ip_or_cidr, sb_check_cidr_v4, sb_check_path, sb_check_router_path,
    sb_check_router_host, sb_check_url, sb_check_header_name, sb_check_header_not_host,
    sb_check_cookie_name, sb_check_regex, sb_check_certificate, sb_check_key, sb_check_protocols,
    sb_check_upstream_name, sb_check_target, sb_check_redirect_uri, sb_check_version,
    sb_check_sni_or_wildcard, sb_check_public_key;

extern const char *const sb_protocols[];      /* in the order of messages */
extern const char *const sb_http_protocols[]; /* grpc, grpcs, http, https */

/* Elements. */
extern const struct sb_field sb_type_string, sb_type_uuid, sb_type_tag, sb_type_protocol,
    sb_type_header_name, sb_type_strings;

#define SB_MAX_TIMEOUT       2147483646
#define SB_BETWEEN(lo, hi)   .has_between = true, .between_min = (lo), .between_max = (hi)
#define SB_LIST(...)         ((const char *const[]){__VA_ARGS__, NULL})
#define SB_DEFAULT_PROTOCOLS "[\"grpc\",\"grpcs\",\"http\",\"https\"]"

#define SB_ROW_ID                                                                                  \
    {                                                                                              \
        .name = "id", .type = SB_T_STRING, .flags = SB_F_AUTO | SB_F_UUID                          \
    }
#define SB_ROW_CREATED                                                                             \
    {                                                                                              \
        .name = "created_at", .type = SB_T_INTEGER, .flags = SB_F_AUTO | SB_F_TIMESTAMP            \
    }
#define SB_ROW_UPDATED                                                                             \
    {                                                                                              \
        .name = "updated_at", .type = SB_T_INTEGER, .flags = SB_F_AUTO | SB_F_TIMESTAMP            \
    }
#define SB_ROW_TAGS                                                                                \
    {                                                                                              \
        .name = "tags", .type = SB_T_SET, .elements = &sb_type_tag                                 \
    }
#define SB_ROW_PORT(n, d)                                                                          \
    {                                                                                              \
        .name = (n), .type = SB_T_INTEGER, SB_BETWEEN(0, 65535), .def = (d)                        \
    }

#endif
