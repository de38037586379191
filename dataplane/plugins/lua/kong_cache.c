/* kong_cache.c - kong.cache as chunks have it: values that a callback made, kept by the worker.
 *
 * In Lua itself, for a callback may wait, and C can't be waited in. Two tables take turns: what is
 * asked for moves to the new one, and the old one goes when the new one is half of the bound.
 */
#include "dataplane/plugins/lua/pdk.h"

enum { ENTRIES_MAX = 10000 };

static const char source[] =
    "local cache, max = ...\n"
    "local new, old, count = {}, {}, 0\n"
    "local function put(key, entry)\n"
    "  if new[key] == nil then count = count + 1 end\n"
    "  if count > max / 2 then new, old, count = {}, new, 1 end\n"
    "  new[key] = entry\n"
    "end\n"
    "local function find(key)\n"
    "  local entry = new[key]\n"
    "  if not entry then\n"
    "    entry = old[key]\n"
    "    if entry then put(key, entry) end\n"
    "  end\n"
    "  if entry and not (entry.ends and entry.ends <= ngx.now()) then return entry end\n"
    "end\n"
    "local function store(key, value, ttl)\n"
    "  put(key, {value = value, ends = ttl and ttl > 0 and ngx.now() + ttl or nil})\n"
    "end\n"
    "local function check(key)\n"
    "  if type(key) ~= 'string' then error('key must be a string', 3) end\n"
    "end\n"
    "local function made(key, opts, ok, value, err, ttl)\n"
    "  if not ok then return nil, 'callback threw an error: ' .. tostring(value) end\n"
    "  if err ~= nil then return nil, tostring(err) end\n"
    "  if not ttl and opts then ttl = value == nil and opts.neg_ttl or opts.ttl end\n"
    "  store(key, value, ttl)\n"
    "  return value, nil, 3\n"
    "end\n"
    "function cache:get(key, opts, callback, ...)\n"
    "  check(key)\n"
    "  if type(callback) ~= 'function' then error('callback must be a function', 2) end\n"
    "  local entry = find(key)\n"
    "  if entry then return entry.value, nil, 1 end\n"
    "  return made(key, opts, pcall(callback, ...))\n"
    "end\n"
    "function cache:probe(key)\n"
    "  check(key)\n"
    "  local entry = find(key)\n"
    "  if not entry then return nil end\n"
    "  return entry.ends and entry.ends - ngx.now() or 0, nil, entry.value\n"
    "end\n"
    "function cache:safe_set(key, value, ttl)\n"
    "  check(key)\n"
    "  store(key, value, ttl)\n"
    "  return true\n"
    "end\n"
    "function cache:invalidate_local(key)\n"
    "  check(key)\n"
    "  new[key], old[key] = nil, nil\n"
    "end\n"
    "cache.invalidate = cache.invalidate_local\n"
    "function cache:purge() new, old, count = {}, {}, 0 end\n";

void sb_lua_more_cache(lua_State *L, struct sb_lua *lua)
{
    (void)lua;
    if (luaL_loadbufferx(L, source, sizeof source - 1, "=kong.cache", "t"))
        lua_error(L);
    lua_pushvalue(L, -2);
    lua_pushinteger(L, ENTRIES_MAX);
    lua_call(L, 2, 0);
}
