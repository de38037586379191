/* plugin_checks.h - validators of bundled plugins' configs that no row of a table can say. */
#ifndef SB_SCHEMA_PLUGIN_CHECKS_H
#define SB_SCHEMA_PLUGIN_CHECKS_H

#include "schema/entity.h"

sb_validator sb_check_rate_limits, sb_check_rate_limit_periods, sb_check_termination,
    sb_check_oauth2_grants, sb_check_http_log, sb_check_cors_origin, sb_check_log_header,
    sb_check_header_entry, sb_check_header_rename, sb_check_has_value, sb_check_pre_function,
    sb_check_post_function;

void sb_check_proxy_scheme(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                           struct sb_value *errors);

#endif
