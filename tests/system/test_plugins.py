"""Plugins, as people meet them: one that answers, what can't run, and one in a shared object."""

import pathlib
import subprocess
import time

import pytest

from gateway import Gateway, Upstream
from postgres import wait_until
from programs import clean_env, program

ROOT = pathlib.Path(__file__).resolve().parents[2]


def a_route(upstream, *plugins, **more):
    """A configuration with one route, `one.test`, and what it has for plugins."""
    return {"services": [{"name": "up", "url": f"http://127.0.0.1:{upstream.port}", "routes": [
        {"name": "one", "hosts": ["one.test"], "plugins": list(plugins)},
        {"name": "two", "hosts": ["two.test"]}]}], **more}


def test_request_termination_starts_changes_and_stops():
    with Upstream() as up, Gateway(config=a_route(up)) as gateway:
        assert gateway.proxy(host="one.test").status_code == 200
        gateway.post_config(**a_route(up, {"name": "request-termination",
                                           "config": {"status_code": 451, "message": "no"}}))
        gateway.wait_for("one.test", status=451)
        assert gateway.proxy(host="one.test").json() == {"message": "no"}
        assert gateway.proxy(host="two.test").status_code == 200
        gateway.post_config(**a_route(up, plugins=[{"name": "request-termination"}]))
        gateway.wait_for("one.test", status=503)
        gateway.wait_for("two.test", status=503)
        assert gateway.proxy(host="nobody.test").status_code == 404
        gateway.post_config(**a_route(up))
        gateway.wait_for("one.test")


def test_what_cannot_run_is_refused_by_name():
    refused, watching = {"name": "grpc-gateway"}, {"name": "zipkin", "config": {
        "http_endpoint": "http://127.0.0.1:1/"}}
    with Upstream() as up, Gateway(config=a_route(up, refused)) as gateway:
        answer = gateway.proxy(host="one.test")
        assert answer.status_code == 503 and "not available" in answer.json()["message"]
        assert up.requests == 0
        assert gateway.proxy(host="two.test").status_code == 200
        assert "this gateway has no plugin 'grpc-gateway' yet" in gateway.log()
        gateway.post_config(**a_route(up, watching))
        gateway.wait_for("one.test")
        assert "requests go on without it: this gateway has no plugin 'zipkin' yet" in gateway.log()


def test_a_plugin_that_is_not_enabled_is_refused_too():
    config = a_route(up := Upstream(), {"name": "request-termination"})
    with up, Gateway(plugins="key-auth") as gateway:
        answer = gateway.admin("POST", "/config", json={"_format_version": "3.0", **config})
        assert answer.status_code == 400
        assert "plugin 'request-termination' not enabled" in answer.text


# -- secrets ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, settings, code, said", [
    (["get", "{vault://env/my-secret}"], {}, 0, "s3cret"),
    (["get", "env/my-secret"], {}, 0, "s3cret"),
    (["get", "env/secret?prefix=MY_"], {}, 0, "s3cret"),
    (["get", "env/secret"], {"KONG_VAULT_ENV_PREFIX": "MY_"}, 0, "s3cret"),
    (["get", "env/secret?prefix=NO_"], {"KONG_VAULT_ENV_PREFIX": "MY_"}, 1, "no value found"),
    (["get", "env/my-json/password"], {}, 0, "deep"),
    (["get", "env/none"], {}, 1, "could not get value from external vault (no value found)"),
    (["get", "env/my-json/none"], {}, 1, "subfield none not found in JSON secret"),
    (["get", "env/my-json/port"], {}, 1, "unexpected number value in JSON secret for subfield port"),
    (["get", "aws/none"], {}, 1, "could not find vault (aws)"),
    (["get", "env/my-secret"], {"KONG_VAULTS": "off"}, 1, "could not find vault (env)"),
    (["get", "env"], {}, 1, "reference url is missing path [{vault://env}]"),
    (["get"], {}, 1, "the 'get' command needs a <reference> argument"),
    ([], {}, 1, "Usage: kong vault get"),
])
def test_vault_get(arguments, settings, code, said):
    done = subprocess.run([program("silverback-dataplane"), "vault", *arguments], text=True,
                          capture_output=True, env=clean_env(
                              KONG_DATABASE="off", MY_SECRET="s3cret",
                              MY_JSON='{"password": "deep", "port": 1}', **settings))
    assert done.returncode == code and said in done.stdout + done.stderr


def test_secrets_through_vault_entities(migrated, upstream):
    """A change of the vault entity is in force at once, and nothing that is shown tells a secret."""
    env = {**migrated.env(), "ONE_KEY": "first", "TWO_KEY": "second"}
    with Gateway(env) as gateway:
        for path, body in (
                ("/vaults", {"name": "env", "prefix": "mine", "config": {"prefix": "ONE_"}}),
                ("/services", {"name": "s", "host": "127.0.0.1", "port": upstream.port}),
                ("/services/s/routes", {"name": "r", "paths": ["/"]}),
                ("/routes/r/plugins", {"name": "session", "config": {
                    "secret": "{vault://mine/key}"}}),
                ("/routes/r/plugins", {"name": "key-auth"}),
                ("/consumers", {"username": "alice"}),
                ("/consumers/alice/key-auth", {"key": "k"})):
            assert gateway.admin("POST", path, json=body).status_code == 201

        def cookie():
            gateway.session.cookies.clear()
            answer = gateway.proxy("/", headers={"apikey": "k"})
            return answer.headers.get("Set-Cookie", "").split(";")[0]

        def goes_on(value):
            """Whether the cookie is one of ours: then there is no new one."""
            gateway.session.cookies.clear()
            answer = gateway.proxy("/", headers={"apikey": "k", "Cookie": value})
            return answer.status_code == 200 and "Set-Cookie" not in answer.headers
        first = wait_until(cookie, what="a session")
        assert goes_on(first)
        assert gateway.admin("PATCH", "/vaults/mine",
                             json={"config": {"prefix": "TWO_"}}).status_code == 200
        wait_until(lambda: not goes_on(first), what="the other secret")
        assert goes_on(cookie())
        shown = gateway.admin("GET", "/plugins").text + gateway.log()
        assert "vault" in shown and "ONE_KEY" not in shown and "second" not in shown


# -- shared objects ---------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """A folder with the example's greeter.so."""
    folder = tmp_path_factory.mktemp("plugins")
    subprocess.run(["make", "-s", "-C", ROOT / "examples" / "plugin", f"OUT={folder}"], check=True)
    return folder


def build(folder, name, source):
    """NAME.so from what silverback_plugin() is to return."""
    (folder / f"{name}.c").write_text(
        "#include <silverback/plugin.h>\n"
        "const struct sbp_plugin *silverback_plugin(const struct sbp_gateway *gateway)\n"
        "{ static const struct sbp_plugin p = {" + source + "}; (void)gateway; return &p; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{ROOT}/include", "-o", folder / f"{name}.so",
                    folder / f"{name}.c"], check=True)


def shared(folder, *names, **more):
    """A gateway's settings for these plugins of the folder."""
    return dict(plugins=",".join(["bundled", *names]),
                silverback_plugin_path=f"/nowhere/?.so;{folder}/?.so", **more)


def greeter(**config):
    return {"name": "greeter", "config": config}


def test_a_shared_object_answers_filters_and_waits(plugins):
    config = dict(greeting="welcome", secret="X-Secret", footer="bye")
    with Upstream() as up, Gateway(config=a_route(up, greeter(**config)),
                                   **shared(plugins, "greeter")) as gateway:
        answer = gateway.proxy(host="one.test")
        assert (answer.status_code, answer.text) == (403, "who are you?\nbye")
        answer = gateway.proxy(host="one.test", headers={"X-Secret": "1"})
        assert answer.status_code == 200 and answer.headers["X-Greeting"] == "welcome"
        assert answer.text.endswith("bye")
        assert up.headers["X-Greeter"] == "at once"
        assert "X-Greeting" not in gateway.proxy(host="two.test").headers

        gateway.post_config(**a_route(up, greeter(delay=200)))
        gateway.wait_for("one.test")
        began = time.monotonic()
        answer = gateway.proxy(host="one.test")
        assert answer.headers["X-Greeting"] == "hello" and time.monotonic() - began > 0.19
        assert up.headers["X-Greeter"] == "waited"
        with pytest.raises(Exception):      # the client leaves while it waits: nothing comes of it
            gateway.session.get(f"http://127.0.0.1:{gateway.http}", headers={"Host": "one.test"},
                                timeout=0.05)
        assert gateway.proxy(host="one.test").status_code == 200


def test_the_admin_api_knows_its_schema(plugins):
    with Gateway(**shared(plugins, "greeter")) as gateway:
        def refused(**config):
            answer = gateway.admin("POST", "/config", json={
                "_format_version": "3.0", "plugins": [greeter(**config)]})
            assert answer.status_code == 400
            return answer.json()["fields"]["plugins"][0]["config"]

        assert refused(delay=60001) == {"delay": "value should be between 0 and 60000"}
        assert refused(delay="x") == {"delay": "expected an integer"}
        assert refused(other=1) == {"other": "unknown field"}
        about = gateway.admin("GET", "/").json()["plugins"]["available_on_server"]["greeter"]
        assert about == {"version": "1.0.0", "priority": 1050}
        assert "greeter" in gateway.admin("GET", "/plugins/enabled").json()["enabled_plugins"]


@pytest.mark.parametrize("source, words", [
    ('.abi = 99, .size = sizeof p, .name = "odd", .schema = "{}"',
     "it is made for plugin ABI 99, this gateway has 1"),
    ('.abi = 1, .size = 8', "has only 8 bytes"),
    ('.abi = 1, .size = sizeof p, .name = "even", .schema = "{}"', "it calls itself 'even'"),
    ('.abi = 1, .size = sizeof p, .name = "odd"', "it has no schema"),
    ('.abi = 1, .size = sizeof p, .name = "odd", .schema = "{\\"fields\\":[{\\"a\\":{}}]}"',
     "its schema: field 'a' has no type"),
    ('.abi = 1, .size = sizeof p, .name = "odd", '
     '.schema = "{\\"fields\\":[{\\"a\\":{\\"type\\":\\"string\\",\\"atleast\\":1}}]}"',
     "atleast is not a rule"),
])
def test_what_does_not_fit_ends_the_start(tmp_path, source, words):
    build(tmp_path, "odd", source)
    gateway = Gateway(**shared(tmp_path, "odd"))
    try:
        said = gateway.fails()
        assert "plugin 'odd'" in said and words in said
    finally:
        gateway.destroy()


def test_enabled_but_not_installed(tmp_path):
    gateway = Gateway(**shared(tmp_path, "missing"))
    try:
        assert "missing plugin is enabled but not installed" in gateway.fails()
    finally:
        gateway.destroy()


def test_a_config_that_the_plugin_refuses(tmp_path):
    (tmp_path / "picky.c").write_text("""
#include <silverback/plugin.h>
#include <stdio.h>
static void *configure(struct sbp_str json, char *error, size_t len)
{ (void)json; snprintf(error, len, "not on a full moon"); return NULL; }
const struct sbp_plugin *silverback_plugin(const struct sbp_gateway *gateway)
{ static const struct sbp_plugin p = {.abi = SILVERBACK_PLUGIN_ABI, .size = sizeof p,
    .name = "picky", .schema = "{\\"fields\\": []}", .configure = configure};
  (void)gateway; return &p; }
""")
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{ROOT}/include", "-o", tmp_path / "picky.so",
                    tmp_path / "picky.c"], check=True)
    with Upstream() as up, Gateway(config=a_route(up, {"name": "picky"}),
                                   **shared(tmp_path, "picky")) as gateway:
        assert gateway.proxy(host="one.test").status_code == 503
        assert gateway.proxy(host="two.test").status_code == 200
        wait_until(lambda: "plugin picky: not on a full moon" in gateway.log(), what="the reason")
