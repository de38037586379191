/* codec.h - the functions of ngx that need no request: codings, digests, times. */
#ifndef SB_DATAPLANE_PLUGINS_LUA_CODEC_H
#define SB_DATAPLANE_PLUGINS_LUA_CODEC_H

#include "dataplane/plugins/lua/pdk.h"

typedef int sb_lua_c_function(lua_State *L, struct sb_lua_run *r);

sb_lua_c_function sb_lua_encode_base64, sb_lua_decode_base64, sb_lua_md5, sb_lua_md5_bin,
    sb_lua_sha1_bin, sb_lua_hmac_sha1, sb_lua_crc32, sb_lua_escape_uri, sb_lua_unescape_uri,
    sb_lua_encode_args_fn, sb_lua_decode_args, sb_lua_quote_sql, sb_lua_time, sb_lua_now,
    sb_lua_update_time, sb_lua_today, sb_lua_localtime, sb_lua_utctime, sb_lua_http_time,
    sb_lua_cookie_time, sb_lua_parse_http_time;

#endif
