/* Lua in exchanges, end to end: templates, and chunks of pre-function with what they may call. */
#include "tests/unit/exchange_util.h"

#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/lua/template.h"
#include "dataplane/plugins/plugin.h"
#include "shared/buf.h"
#include "shared/lua_code.h"

/* -- text -- */

static void test_parses(void **state)
{
    static const struct {
        const char *code, *name, *why;
    } rows[] = {
        {"return 1", NULL, NULL},
        {"", NULL, NULL},
        {"return (", NULL, "[string \"return (\"]:1: unexpected symbol near '<eof>'"},
        {"x = = 1", "here", "[string \"here\"]:1: unexpected symbol near '='"},
        {"\x1bLJ\x02", NULL, "attempt to load chunk with wrong mode"},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str why = {0};

        assert_int_equal(sb_lua_parses(a, sb_str_c(rows[i].code), rows[i].name, &why),
                         rows[i].why == NULL);
        if (rows[i].why)
            assert_string_equal(why.p, rows[i].why);
    }
    sb_arena_free(a);
}

static void test_template_syntax(void **state)
{
    static const struct {
        const char *text, *why; /* NULL: it compiles */
    } rows[] = {
        {"plain", NULL},
        {"$(headers.a)", NULL},
        {"$(f(g(1)))", NULL},
        {"$(", NULL},     /* text */
        {"$(a", NULL},    /* text */
        {"a $( b", NULL}, /* text */
        {"$()", "[string \"TMP\"]:4: unexpected symbol near ')'"},
        {"$(a b)", "[string \"TMP\"]:4: ')' expected near 'b'"},
    };
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_lua_template *t;
    struct sb_err err;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum sb_rc rc = sb_lua_template_compile(a, sb_str_c(rows[i].text), &t, &err);

        assert_int_equal(rc, rows[i].why ? SB_INVALID : SB_OK);
        if (rows[i].why)
            assert_string_equal(err.text, rows[i].why);
    }
    sb_arena_free(a);
}

/* -- in an exchange -- */

/* Renders what the client sent as X-T. */
static enum sb_rc render(struct sb_exchange *x, const void *config)
{
    const struct sb_lua_template *t;
    struct sb_str out;
    struct sb_err err;
    enum sb_rc rc;

    (void)config;
    rc = sb_lua_template_compile(sb_exchange_arena(x), sb_exchange_header(x, SB_STR("x-t")), &t,
                                 &err);
    if (!rc)
        rc = sb_lua_template_render(x, t, &out, &err);
    sb_exchange_answer(x, 200, SB_STR(""), rc ? sb_str_c(err.text) : out, NULL, 0);
    return SB_OK;
}

static const struct sb_hook rendering[] = {{.run = render}, {0}};

static void test_templates(void **state)
{
    static const struct {
        const char *text, *out;
    } rows[] = {
        {"plain", "plain"},
        {"<$(headers.host)>", "<h.test>"},
        {"$(headers['X_A'])-$(headers.x_a)", "1-1"},
        {"$(headers.nope)$(nil)$(false)", ""},
        {"$(headers.nope or 'none')", "none"},
        {"$(query_params.q)+$(query_params.r[2])+$(query_params.s)", "1+b+true"},
        {"$(uri_captures[1])", ""},
        {"$(('x'):upper()) $(1 + 2)", "X 3"},
        {"$(type(shared))", "table"},
        {"$(print)$(string)$(os)$(kong)", ""},
        {"\"quoted\\\" $('a') \\", "\"quoted\\\" a \\"},
        {"$(headers.a.b.c)", "[string \"TMP\"]:4: attempt to index field 'a' (a nil value)"},
        {"$(require('os'))", "[string \"TMP\"]:4: require 'os' not allowed within sandbox"},
        {"$(('x'):rep(3000000))", "a template gives more than 1048576 bytes"},
    };
    struct fixture *f = *state;
    struct sb_hooks hooks = {.phase[SB_PHASE_ACCESS] = rendering};
    char request[1024], want[512];

    publish(f, &hooks, NULL);
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            snprintf(request, sizeof request,
                     "GET /p?q=1&r=a&r=b&s HTTP/1.1\r\nHost: h.test\r\nX-A: 1\r\nX-T: %s\r\n"
                     "Connection: close\r\n\r\n",
                     rows[i].text);
            snprintf(want, sizeof want, "\r\n\r\n%s", rows[i].out);
            has(ask(f->port, request), want);
        }
}

/* -- chunks -- */

static const struct sb_plugin *const pre = &sb_plugin_pre_function;

static struct sb_plugin_instance instance = {.id = SB_STR_INIT("the-id")};

/* The plugin with one chunk a phase; NULL: none there. */
struct chunks {
    const char *rewrite, *access, *header_filter, *body_filter, *log;
};

struct serving {
    struct sb_hook rows[SB_PHASES][2];
    struct sb_hooks route, global;
};

static void add_chunk(struct sb_arena *a, struct sb_value *config, const char *phase,
                      const char *code)
{
    struct sb_value *list = sb_value_array(a);

    if (code)
        sb_array_push(a, list, sb_value_text(a, code));
    sb_object_set(a, config, sb_str_c(phase), list);
}

static const void *compiled(struct fixture *f, const struct chunks *chunks)
{
    struct sb_value *config = sb_value_object(f->arena);
    struct sb_plugin_source source = {
        .config = config, .instance = &instance, .settings = f->settings, .arena = f->arena};
    const void *out;
    struct sb_err err;

    add_chunk(f->arena, config, "rewrite", chunks->rewrite);
    add_chunk(f->arena, config, "access", chunks->access);
    add_chunk(f->arena, config, "header_filter", chunks->header_filter);
    add_chunk(f->arena, config, "body_filter", chunks->body_filter);
    add_chunk(f->arena, config, "log", chunks->log);
    instance.plugin = pre;
    if (pre->compile(&source, &out, &err))
        fail_msg("%s", err.text);
    return out;
}

static void serve(struct fixture *f, const struct chunks *chunks)
{
    struct serving *s = SB_NEW(f->arena, struct serving);
    const void *config = compiled(f, chunks);

    s->rows[SB_PHASE_REWRITE][0].run = pre->rewrite;
    s->rows[SB_PHASE_ACCESS][0].run = pre->access;
    s->rows[SB_PHASE_HEADER_FILTER][0].run = pre->header_filter;
    s->rows[SB_PHASE_BODY_FILTER][0].filter = pre->body_filter;
    s->rows[SB_PHASE_LOG][0].run = pre->log;
    for (int p = 0; p < SB_PHASES; p++) {
        s->rows[p][0].config = config;
        s->rows[p][0].plugin = pre;
        if (p == SB_PHASE_REWRITE)
            s->global.phase[p] = s->rows[p];
        else
            s->route.phase[p] = s->rows[p];
    }
    publish(f, &s->route, &s->global);
}

/* -- functions, a row each -- */

struct row {
    const char *code, *out;
};

/* What a row's function gives is the answer, or what it raises; tables are written out. */
static const char frame[] =
    "local function text(v) if type(v) ~= 'table' then return tostring(v) end "
    "local t = {} for k, x in pairs(v) do t[#t + 1] = tostring(k) .. '=' .. text(x) end "
    "table.sort(t) return '{' .. table.concat(t, ',') .. '}' end "
    "local function all(ok, ...) local t = {} for i = 1, select('#', ...) do "
    "t[i] = text((select(i, ...))) end "
    "return table.concat(t, '|'):gsub('^%%[string .-%%]:%%d+: ', '') .. '.' end "
    "local row = rows[tonumber(kong.request.get_header('x-row'))] "
    "if row then %s end ";
static const char answers[] = "return kong.response.exit(200, all(pcall(row)))";
static const char tells[] = "kong.response.set_header('x-result', all(pcall(row)))";

static const char *code_of(struct fixture *f, const struct row *rows, size_t n, const char *how)
{
    struct sb_buf b;
    const char *code;

    sb_buf_init(&b, 0);
    sb_buf_cstr(&b, "local rows = {");
    for (size_t i = 0; i < n; i++)
        sb_buf_printf(&b, "function() %s end,\n", rows[i].code);
    sb_buf_cstr(&b, "} return function() ");
    sb_buf_printf(&b, frame, how);
    sb_buf_cstr(&b, " end");
    code = sb_arena_cstr(f->arena, sb_buf_get(&b));
    sb_buf_release(&b);
    return code;
}

static char *ask_row(struct fixture *f, size_t i)
{
    char request[512];

    snprintf(request, sizeof request,
             "POST /a%%20b/c?q=1&r=x&r=y&s&e= HTTP/1.1\r\nHost: H.test:8000\r\nX-One: 1\r\n"
             "X-Two: a\r\nx-two: b\r\nContent-Type: application/x-www-form-urlencoded\r\n"
             "Content-Length: 7\r\nConnection: close\r\nX-Row: %zu\r\n\r\nf=1&g=2",
             i + 1);
    return ask(f->port, request);
}

static void check_rows(struct fixture *f, const struct row *rows, size_t n, const char *before)
{
    char want[1024];

    for (size_t i = 0; i < n; i++) {
        const char *answer = ask_row(f, i);

        snprintf(want, sizeof want, "%s%s.", before, rows[i].out);
        if (!strstr(answer, want))
            fail_msg("%s\ngives %s\nnot %s", rows[i].code, answer, rows[i].out);
    }
}

static void test_access(void **state)
{
    static const struct row rows[] = {
        /* kong.request */
        {"return kong.request.get_scheme(), kong.request.get_host()", "http|h.test"},
        {"return kong.request.get_method(), kong.request.get_http_version()", "POST|1.1"},
        {"return kong.request.get_path(), kong.request.get_raw_path()", "/a b/c|/a%20b/c"},
        {"return kong.request.get_path_with_query()", "/a%20b/c?q=1&r=x&r=y&s&e="},
        {"return kong.request.get_raw_query()", "q=1&r=x&r=y&s&e="},
        {"return kong.request.get_query()", "{e=,q=1,r={1=x,2=y},s=true}"},
        {"return kong.request.get_query(2)", "{q=1,r=x}"},
        {"return kong.request.get_query(0)", "max_args must be >= 1"},
        {"return kong.request.get_query('x')", "max_args must be a number"},
        {"return kong.request.get_query_arg('r'), kong.request.get_query_arg('s')", "x|true"},
        {"return kong.request.get_header('X_TWO'), kong.request.get_header('nope')", "a|nil"},
        {"return kong.request.get_header(1)", "header name must be a string"},
        {"return kong.request.get_headers()['X-Two']", "{1=a,2=b}"},
        {"return kong.request.get_headers(1001)", "max_headers must be <= 1000"},
        {"return kong.request.get_raw_body()", "f=1&g=2"},
        {"return kong.request.get_body()", "{f=1,g=2}|nil|application/x-www-form-urlencoded"},
        {"return kong.request.get_body('application/json')",
         "nil|invalid json body|application/json"},
        {"return kong.request.get_body('text/x; a=b')",
         "nil|unsupported content type 'text/x; a=b'|text/x"},
        {"return kong.request.get_uri_captures()", "{named={},unnamed={}}"},
        {"return kong.request.get_forwarded_host(), kong.request.get_forwarded_scheme()",
         "h.test|http"},
        {"return kong.client.get_ip(), kong.client.get_forwarded_ip()", "127.0.0.1|127.0.0.1"},
        {"return kong.client.get_consumer(), kong.client.get_protocol()", "nil|http"},
        {"kong.client.authenticate({id = 'x', username = 'jo'}) "
         "return kong.client.get_consumer()",
         "{id=x,username=jo}"},
        {"return kong.client.authenticate()", "either credential or consumer must be provided"},
        {"return kong.client.load_consumer('x')",
         "cannot load a consumer with an id that is not a uuid"},
        {"return kong.plugin.get_id(), kong.nginx.get_subsystem()", "the-id|http"},
        {"return kong.version, kong.version_num", "3.9.1|3009001"},
        {"return kong.configuration.database, kong.configuration.untrusted_lua", "off|sandbox"},
        {"kong.configuration.x = 1", "cannot write to configuration"},
        {"return kong.ip.is_trusted('127.0.0.1'), kong.ip.is_trusted('x')", "false|false"},
        {"return kong.table.merge({a = 1, b = 2}, {b = 3})", "{a=1,b=3}"},
        /* what goes on */
        {"kong.service.request.set_header('x-n', {'a', ''}) "
         "return kong.request.get_headers()['x-n']",
         "{1=a,2= }"},
        {"kong.service.request.set_header('x-n', {})", ""},
        {"kong.service.request.set_header('x', nil)",
         "invalid header value for \"x\": got nil, expected array of string, string, number or "
         "boolean"},
        {"kong.service.request.set_header(1, 'a')",
         "invalid header name \"1\": got number, expected string"},
        {"kong.service.request.add_header('x-one', 2) return kong.request.get_headers()['x-one']",
         "{1=1,2=2}"},
        {"kong.service.request.clear_header('X-One') return kong.request.get_header('x-one')",
         "nil"},
        {"kong.service.request.set_query({b = 'x y', a = {1, true, false}}) "
         "return kong.request.get_raw_query()",
         "a=1&a&b=x%20y"},
        {"kong.service.request.set_query({[1] = 2})", "arg keys must be strings"},
        {"kong.service.request.clear_query_arg('r') return kong.request.get_raw_query()",
         "q=1&s&e="},
        {"kong.service.request.set_method('NOPE')", "invalid method: NOPE"},
        {"kong.service.request.set_method('PUT') return kong.request.get_method()", "PUT"},
        {"kong.service.request.set_path('x')", "path must start with /"},
        {"kong.service.request.set_scheme('ftp')", "invalid scheme: ftp"},
        {"kong.service.request.set_raw_body('new') return kong.request.get_raw_body()", "new"},
        {"kong.service.request.set_body({b = 1, a = 2}) return kong.request.get_raw_body()",
         "a=2&b=1"},
        {"kong.service.request.set_body({a = {1, 2}}, 'application/json') "
         "return kong.request.get_body()",
         "{a={1=1,2=2}}|nil|application/json"},
        {"kong.service.request.set_body({b = 'x', a = 2}, 'multipart/form-data; boundary=Q') "
         "return kong.request.get_body()",
         "{a=2,b=x}|nil|multipart/form-data"},
        {"kong.service.request.set_body({}, 'text/x')", "unsupported content type text/x"},
        {"kong.service.set_target('h', 1.5)", "port must be an integer"},
        {"kong.service.set_retries(99999)",
         "retries must be an integer between 0 and 32767: given 99999"},
        {"return kong.service.set_upstream('nope')", "nil|could not find an Upstream named 'nope'"},
        /* phases, and what is missing */
        {"return kong.response.get_status()",
         "function cannot be called in access phase (only in: response, header_filter, "
         "body_filter, log, error, admin_api)"},
        {"kong.response.exit('x')", "code must be a number"},
        {"kong.response.exit(99)", "code must be a number between 100 and 599"},
        {"kong.response.exit(200, 1)", "body must be a nil, string or table"},
        {"kong.response.error(200)", "code must be a number between 400 and 599"},
        {"return kong.db.services", "kong.db is not available in this release"},
        {"return kong.nope, kong.request.nope", "nil|nil"},
        {"return ngx.shared.x", "ngx.shared is not available in this release"},
        {"local function made(a) return kong.request.get_raw_body() .. a end "
         "return kong.cache:get('k', nil, made, '!')",
         "f=1&g=2!|nil|3"},
        {"return kong.cache:get('k', nil, error), kong.cache:probe('k')",
         "f=1&g=2!|0|nil|f=1&g=2!"},
        {"kong.cache:invalidate('k') return kong.cache:get('k', {ttl = 1}, function() return nil, "
         "'broken' end)",
         "nil|broken"},
        {"for i = 1, 20000 do kong.cache:safe_set('n' .. i, i) end "
         "return kong.cache:get('n20000', nil, error), kong.cache:probe('n1')",
         "20000|nil"},
        {"return kong.cache:get(1)", "key must be a string"},
        /* contexts */
        {"kong.ctx.shared.a = 1 kong.ctx.plugin.b = 2 ngx.ctx.c = 3 "
         "return kong.ctx.shared.a, kong.ctx.plugin.b, ngx.ctx.c",
         "1|2|3"},
        {"return kong.ctx.shared.a, kong.ctx.plugin.b, ngx.ctx.c", "nil|nil|nil"},
        /* ngx */
        {"return ngx.get_phase(), ngx.config.subsystem, ngx.HTTP_OK, ngx.ERR", "access|http|200|4"},
        {"return ngx.var.host, ngx.var.request_method, ngx.var.http_x_one, ngx.var.nope",
         "h.test|POST|1|nil"},
        {"return ngx.encode_base64('ab'), ngx.decode_base64('YWI='), ngx.decode_base64('!')",
         "YWI=|ab|nil"},
        {"return ngx.md5('a'), #ngx.sha1_bin('a'), #ngx.hmac_sha1('k', 'a')",
         "0cc175b9c0f1b6a831c399e269772661|20|20"},
        {"return ngx.escape_uri('a b&c/é'), ngx.unescape_uri('a%20b+c%')",
         "a%20b%26c%2F%C3%A9|a b c%"},
        {"return ngx.encode_args({a = 'x y'}), ngx.decode_args('a=1&b&a=2')",
         "a=x%20y|{a={1=1,2=2},b=true}"},
        {"return ngx.http_time(0), ngx.parse_http_time('Thu, 01 Jan 1970 00:00:01 GMT')",
         "Thu, 01 Jan 1970 00:00:00 GMT|1"},
        {"return ngx.cookie_time(0), ngx.now() > 1e9, ngx.time() % 1",
         "Thu, 01-Jan-70 00:00:00 GMT|true|0"},
        {"return ngx.re.match('ab12', '([a-z]+)(?<n>\\\\d+)')", "{0=ab12,1=ab,2=12,n=12}"},
        {"return ngx.re.match('AB', 'ab', 'ijo')", "{0=AB}"},
        {"return ngx.re.match('x', '(')",
         "nil|pcre_compile() failed: missing closing parenthesis in \"(\""},
        {"return ngx.re.find('xxab', 'a(b)', 'jo', nil, 1)", "4|4"},
        {"return ngx.re.gsub('a1b2', '[0-9]', '<$0>')", "a<1>b<2>|2"},
        {"return ngx.re.sub('a1b2', '([0-9])', function(m) return m[1] + 1 end)", "a2b2|1"},
        {"local t = {} for m in ngx.re.gmatch('a,b', '[a-z]') do t[#t + 1] = m[0] end return t",
         "{1=a,2=b}"},
        {"return ngx.re.match(('a'):rep(40) .. 'b', '(a+)+$')", "nil|pcre_exec() failed: -47"},
        {"ngx.req.read_body() return ngx.req.get_body_data(), ngx.req.get_post_args()",
         "f=1&g=2|{f=1,g=2}"},
        {"ngx.req.set_header('x-one', 'n') return ngx.req.get_headers()['x_one']", "n"},
        {"return ngx.req.get_uri_args(1), ngx.req.get_method()", "{q=1}|POST"},
        {"ngx.sleep(0.001) return 'woke'", "woke"},
        {"return ngx.worker.id(), ngx.worker.pid() > 0, ngx.null == nil", "0|true|false"},
        /* the sandbox */
        {"return io, os.execute, debug, loadstring, rawset, getmetatable",
         "nil|nil|nil|nil|nil|nil"},
        {"string.upper = nil", "Can not modify string.upper. Protected by the sandbox."},
        {"return require('os')", "require 'os' not allowed within sandbox"},
        {"return pcall(error, {1})", "false|{1=1}"},
        {"local co = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) "
         "return kong.request.get_raw_body() .. b end) return co(1), co('!')",
         "2|f=1&g=2!"},
        {"local ok, e = coroutine.resume(coroutine.create(function() error('x', 0) end)) "
         "return ok, e",
         "false|x"},
    };
    size_t n = sizeof rows / sizeof *rows;
    struct fixture *f = *state;
    struct chunks chunks = {.access = code_of(f, rows, n, answers)};

    serve(f, &chunks);
    check_rows(f, rows, n, "\r\n\r\n");
}

static void test_response(void **state)
{
    static const struct row rows[] = {
        {"return kong.response.get_status(), kong.response.get_source()", "200|service"},
        {"return kong.response.get_header('x_up'), kong.response.get_headers()['X-Up']", "yes|yes"},
        {"return kong.service.response.get_status(), kong.service.response.get_header('x-up')",
         "200|yes"},
        {"return kong.service.response.get_raw_body()",
         "service body is only available with buffered proxying (see: "
         "kong.service.request.enable_buffering function)"},
        {"kong.response.set_header('x_a', 1) return kong.response.get_header('X-A')", "1"},
        {"kong.response.add_header('x-b', 'a') kong.response.add_header('x-b', 'b') "
         "return kong.response.get_headers()['x-b']",
         "{1=a,2=b}"},
        {"kong.response.clear_header('x-up') return kong.response.get_header('x-up'), "
         "kong.service.response.get_header('x-up')",
         "nil|yes"},
        {"ngx.header.x_c = {'1', '2'} return ngx.header['x-c'], ngx.resp.get_headers()['x-c']",
         "{1=1,2=2}|{1=1,2=2}"},
        {"kong.response.set_status(203) return ngx.status, kong.response.get_status()", "203|203"},
        {"return kong.request.get_raw_body()",
         "function cannot be called in header_filter phase (only in: rewrite, access, response, "
         "error, admin_api)"},
        {"return ngx.sleep(1)", "API disabled in the context of header_filter"},
        {"return kong.ctx.shared.from_rewrite, kong.ctx.plugin.from_access", "1|2"},
    };
    size_t n = sizeof rows / sizeof *rows;
    struct fixture *f = *state;
    struct chunks chunks = {.rewrite = "kong.ctx.shared.from_rewrite = 1",
                            .access = "kong.ctx.plugin.from_access = 2",
                            .header_filter = code_of(f, rows, n, tells)};

    serve(f, &chunks);
    check_rows(f, rows, n, "x-result: ");
}

/* -- what chunks do to a response -- */

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

static void test_bodies(void **state)
{
    struct fixture *f = *state;

    serve(f, &(struct chunks){.body_filter = "ngx.arg[1] = ngx.arg[1]:upper()"});
    has(ask(f->port, GET("/x")), "Content-Length: ");
    has(ask(f->port, GET("/x")), "GET /X HTTP/1.1");
    has(ask(f->port, GET("/chunked")), "\r\nAB\r\n");
    has(ask(f->port, GET("/till-end")), "ABC");
    serve(f, &(struct chunks){.header_filter = "kong.response.clear_header('content-length')",
                              .body_filter = "local b = kong.response.get_raw_body() if b then "
                                             "kong.response.set_raw_body('<' .. #b .. '>') end"});
    has(ask(f->port, GET("/chunked")), "\r\n3\r\n<3>\r\n0\r\n");
    has(ask(f->port, GET("/till-end")), "<3>");
    has(ask(f->port, GET("/x")), "Transfer-Encoding: chunked");
    serve(f, &(struct chunks){.body_filter = "ngx.arg[1] = 'first' ngx.arg[2] = true"});
    has(ask(f->port, GET("/chunked")), "\r\n5\r\nfirst\r\n0\r\n");
    serve(f, &(struct chunks){.access = "kong.service.request.enable_buffering()",
                              .header_filter = "kong.response.set_header('x-b', "
                                               "kong.service.response.get_raw_body())"});
    has(ask(f->port, GET("/chunked")), "x-b: abc");
}

static void test_endings(void **state)
{
    struct fixture *f = *state;

    serve(f, &(struct chunks){.access = "ngx.status = 202 ngx.say('hello ', 1, {' ', true}) "
                                        "return ngx.exit(200)"});
    has(ask(f->port, GET("/")), "HTTP/1.1 202 Accepted");
    has(ask(f->port, GET("/")), "hello 1 true\n");
    serve(f, &(struct chunks){.access = "pcall(kong.response.exit, 201, {a = {{}, 'x/y'}}, "
                                        "{['X-A'] = {'1', '2'}}) error('never')"});
    has(ask(f->port, GET("/")), "{\"a\":[{},\"x\\/y\"]}");
    has(ask(f->port, GET("/")), "X-A: 1\r\nX-A: 2\r\n");
    serve(f, &(struct chunks){.access = "error({})"});
    has(ask(f->port, GET("/")), "An unexpected error occurred");
    serve(f, &(struct chunks){.header_filter = "error('x')"});
    assert_string_equal(ask(f->port, GET("/")), "");
    serve(f, &(struct chunks){.header_filter = "return kong.response.exit(299, 'instead')"});
    has(ask(f->port, GET("/")), "HTTP/1.1 299");
    has(ask(f->port, GET("/")), "\r\n\r\ninstead");
    serve(f, &(struct chunks){.rewrite = "if kong.request.get_header('x') then "
                                         "kong.response.exit(418) end"});
    has(ask(f->port, "GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\nConnection: close\r\n\r\n"), " 418 ");
    has(ask(f->port, GET("/")), " 200 ");
}

/* The handler waits for a body that comes late, and is gone with a client that leaves. */
static void test_late_body(void **state)
{
    static const char head[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab";
    struct fixture *f = *state;
    char answer[512];
    ssize_t n;
    int fd;

    serve(f, &(struct chunks){.access = "local a = 1 local b = kong.request.get_raw_body() "
                                        "return kong.response.exit(200, b .. a)"});
    fd = dial(f->port);
    assert_true(send(fd, head, sizeof head - 1, 0) > 0);
    has(ask(f->port, GET("/")), "\r\n\r\n1"); /* others are served meanwhile */
    assert_true(send(fd, "cd", 2, 0) == 2);
    n = recv(fd, answer, sizeof answer - 1, 0);
    assert_true(n > 0);
    answer[n] = '\0';
    has(answer, "\r\n\r\nabcd1");
    assert_true(send(fd, head, sizeof head - 1, 0) > 0);
    close(fd);
    has(ask(f->port, GET("/")), "\r\n\r\n1");
}

/* Runaway memory is an error of the chunk's; the next request is served. */
static void test_heap(void **state)
{
    struct fixture *f = *state;

    serve(f, &(struct chunks){.access = "if kong.request.get_header('x') then local t = {} "
                                        "while true do t[#t + 1] = ('x'):rep(2^20 + #t) end end "
                                        "return kong.response.exit(200, 'fine')"});
    has(ask(f->port, "GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\nConnection: close\r\n\r\n"), " 500 ");
    has(ask(f->port, GET("/")), "fine");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parses),
        cmocka_unit_test(test_template_syntax),
        cmocka_unit_test_setup_teardown(test_templates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_access, setup, teardown),
        cmocka_unit_test_setup_teardown(test_response, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_endings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_heap, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
