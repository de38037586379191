"""pre-function and post-function beside the recorded cases: settings, changes of a chunk, consumers that
are looked up while a handler waits, and what is in the log."""

from gateway import Gateway, Upstream
from postgres import wait_until


def functions(port, plugin="pre-function", **phases):
    return {"services": [{
        "name": "s", "url": f"http://127.0.0.1:{port}", "routes": [{"name": "r", "paths": ["/"]}],
        "plugins": [{"name": plugin, "config": {phase: [code] for phase, code in phases.items()}}]}]}


def test_untrusted_lua():
    code = "return kong.response.exit(200, type(os.execute) .. type(io) .. type(require('cjson').encode))"
    for settings, status, body in (
            (dict(untrusted_lua="off"), 500, "An unexpected error occurred"),
            (dict(untrusted_lua="on"), 200, "functiontablefunction"),
            (dict(), 500, "An unexpected error occurred"),
            (dict(untrusted_lua_sandbox_requires="cjson,cjson.safe"), 200, "nilnilfunction"),
            (dict(untrusted_lua_sandbox_requires="cjson",
                  untrusted_lua_sandbox_environment="os.execute,io"), 200, "functiontablefunction")):
        with Gateway(config=functions(1, access=code), **settings) as gateway:
            answer = gateway.proxy("/")
            assert (answer.status_code, body in answer.text) == (status, True), (settings, answer.text)


def test_a_changed_chunk_is_compiled_anew(migrated):
    with Upstream() as upstream, Gateway(env=migrated.env()) as gateway:
        gateway.admin("POST", "/services", json={"name": "s", "url": f"http://127.0.0.1:{upstream.port}"})
        gateway.admin("POST", "/services/s/routes", json={"paths": ["/"]})
        plugin = gateway.admin("POST", "/services/s/plugins", json={
            "name": "pre-function", "config": {"access": ["return kong.response.exit(200, 'n0')"]}}).json()
        for i in range(5):
            wait_until(lambda: gateway.proxy("/").text == f"n{i}")
            answer = gateway.admin("PATCH", f"/plugins/{plugin['id']}", json={
                "config": {"access": [f"local s = 'n{i + 1}' return function() kong.response.exit(200, s) end"]}})
            assert answer.status_code == 200
        answer = gateway.admin("PATCH", f"/plugins/{plugin['id']}", json={"config": {"log": ["x ="]}})
        assert answer.status_code == 400
        for words in ("error parsing pre-function: ", ":1: unexpected symbol near '<eof>'"):
            assert words in answer.json()["message"]
        assert gateway.proxy("/").text == "n5"


def test_a_consumer_is_loaded_while_the_handler_waits(migrated):
    code = ("local c, e = kong.client.load_consumer(kong.request.get_header('x-name'), true) "
            "if c then kong.client.authenticate(c, {id = 'x'}) end "
            "return kong.response.exit(200, c and kong.client.get_consumer().custom_id or tostring(e))")
    with Gateway(env=migrated.env()) as gateway:
        gateway.admin("POST", "/routes", json={"paths": ["/"]})
        gateway.admin("POST", "/plugins", json={"name": "pre-function", "config": {"access": [code]}})
        consumer = gateway.admin("POST", "/consumers", json={"username": "jo", "custom_id": "c1"}).json()
        wait_until(lambda: gateway.proxy("/", headers={"X-Name": "jo"}).text == "c1")
        assert gateway.proxy("/", headers={"X-Name": consumer["id"]}).text == "c1"
        assert gateway.proxy("/", headers={"X-Name": "nobody"}).text == "nil"


def test_handshakes_run_no_functions():
    config = {"plugins": [{"name": "pre-function", "config": {"certificate": ["return 1"]}}],
              "routes": [{"paths": ["/"]}]}
    with Gateway(config=config) as gateway:
        assert gateway.proxy("/").status_code == 503
        assert "no functions in TLS handshakes" in gateway.log()


def test_logs_tell_the_place():
    code = "kong.log.err('a', 1, nil, true)\nerror('boom')"
    with Gateway(config=functions(1, access=code)) as gateway:
        gateway.proxy("/")
        wait_until(lambda: "boom" in gateway.log())
        assert "[kong] [string \"kong.log.err('a', 1, nil, true)...\"]:1 [pre-function] a1niltrue, client: " \
            in gateway.log()
        assert "[pre-function] [string \"kong.log.err('a', 1, nil, true)...\"]:2: boom, phase: access" in gateway.log()
