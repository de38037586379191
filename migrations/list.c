#include "migrations/list.h"

#include <stddef.h>

/* The text of a file, NUL-terminated, as part of the program. */
#define EMBED(name, file)                                                                          \
    extern const char name[];                                                                      \
    __asm__(".pushsection .rodata\n" #name ":\n.incbin \"migrations/" file                         \
            "\"\n.byte 0\n.popsection\n")

EMBED(sql_base, "kong/000_base.sql");
EMBED(sql_base_acl, "kong/000_base_acl.sql");
EMBED(sql_base_acme, "kong/000_base_acme.sql");
EMBED(sql_base_basic_auth, "kong/000_base_basic_auth.sql");
EMBED(sql_base_hmac_auth, "kong/000_base_hmac_auth.sql");
EMBED(sql_base_jwt, "kong/000_base_jwt.sql");
EMBED(sql_base_key_auth, "kong/000_base_key_auth.sql");
EMBED(sql_base_oauth2, "kong/000_base_oauth2.sql");
EMBED(sql_base_rate_limiting, "kong/000_base_rate_limiting.sql");
EMBED(sql_base_response_rate_limiting, "kong/000_base_response_rate_limiting.sql");
EMBED(sql_base_session, "kong/000_base_session.sql");
EMBED(sql_change_log, "silverback/000_change_log.sql");

/* clang-format off */
const struct sb_migration sb_migrations[] = {
    {"core", "000_base", sql_base},
    {"core", "003_100_to_110"},
    {"core", "004_110_to_120"},
    {"core", "005_120_to_130"},
    {"core", "006_130_to_140"},
    {"core", "007_140_to_150"},
    {"core", "008_150_to_200"},
    {"core", "009_200_to_210"},
    {"core", "010_210_to_211"},
    {"core", "011_212_to_213"},
    {"core", "012_213_to_220"},
    {"core", "013_220_to_230"},
    {"core", "014_230_to_270"},
    {"core", "015_270_to_280"},
    {"core", "016_280_to_300"},
    {"core", "017_300_to_310"},
    {"core", "018_310_to_320"},
    {"core", "019_320_to_330"},
    {"core", "020_330_to_340"},
    {"core", "021_340_to_350"},
    {"core", "022_350_to_360"},
    {"core", "023_360_to_370"},
    {"core", "024_380_to_390"},
    {"acl", "000_base_acl", sql_base_acl},
    {"acl", "002_130_to_140"},
    {"acl", "003_200_to_210"},
    {"acl", "004_212_to_213"},
    {"acme", "000_base_acme", sql_base_acme},
    {"acme", "001_280_to_300"},
    {"acme", "002_320_to_330"},
    {"acme", "003_350_to_360"},
    {"ai-proxy", "001_360_to_370"},
    {"basic-auth", "000_base_basic_auth", sql_base_basic_auth},
    {"basic-auth", "002_130_to_140"},
    {"basic-auth", "003_200_to_210"},
    {"bot-detection", "001_200_to_210"},
    {"hmac-auth", "000_base_hmac_auth", sql_base_hmac_auth},
    {"hmac-auth", "002_130_to_140"},
    {"hmac-auth", "003_200_to_210"},
    {"http-log", "001_280_to_300"},
    {"ip-restriction", "001_200_to_210"},
    {"jwt", "000_base_jwt", sql_base_jwt},
    {"jwt", "002_130_to_140"},
    {"jwt", "003_200_to_210"},
    {"key-auth", "000_base_key_auth", sql_base_key_auth},
    {"key-auth", "002_130_to_140"},
    {"key-auth", "003_200_to_210"},
    {"key-auth", "004_320_to_330"},
    {"oauth2", "000_base_oauth2", sql_base_oauth2},
    {"oauth2", "003_130_to_140"},
    {"oauth2", "004_200_to_210"},
    {"oauth2", "005_210_to_211"},
    {"oauth2", "006_320_to_330"},
    {"oauth2", "007_320_to_330"},
    {"opentelemetry", "001_331_to_332"},
    {"post-function", "001_280_to_300"},
    {"pre-function", "001_280_to_300"},
    {"rate-limiting", "000_base_rate_limiting", sql_base_rate_limiting},
    {"rate-limiting", "003_10_to_112"},
    {"rate-limiting", "004_200_to_210"},
    {"rate-limiting", "005_320_to_330"},
    {"rate-limiting", "006_350_to_360"},
    {"response-ratelimiting", "000_base_response_rate_limiting", sql_base_response_rate_limiting},
    {"response-ratelimiting", "001_350_to_360"},
    {"session", "000_base_session", sql_base_session, .pending_null = true},
    {"session", "001_add_ttl_index", .pending_null = true},
    {"session", "002_320_to_330", .pending_null = true},
    {SB_MIGRATIONS_OURS, "000_change_log", sql_change_log},
    {0},
};
/* clang-format on */
