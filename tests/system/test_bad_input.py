"""What is wrong is named: the file or object, the field, what to do. Everything else stays live."""

import base64
import os
import subprocess

import pytest
import yaml

from controlplane import Controlplane, Manifests, app
from gateway import Gateway, Upstream
from postgres import Postgres, free_port, wait_until
from programs import clean_env, program
from stack import Stack, endpoints, ingress, service, tls_secret

HOST = "good.example.test"
NOBODY = 1      # a port where nothing listens
LINES_MAX = 60  # of a log, after something was wrong for a while


def run(name, *args, **env):
    """A program that must give up by itself; what it said."""
    done = subprocess.run([program(name), *map(str, args)], env=clean_env(**env), timeout=30,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Sanitizer" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def names(text, *words):
    """All of the words, and not too many others."""
    missing = [w for w in words if w not in text]
    assert not missing, f"{missing} not in:\n{text}"
    assert len(text.splitlines()) < LINES_MAX


# -- manifests --------------------------------------------------------------------------------------

@pytest.fixture
def stack(migrated, tmp_path):
    """A stack that serves HOST."""
    made = Stack(migrated, tmp_path)
    made.control.start()
    made.gateway()
    made.app("good", HOST, made.origin("good"))
    made.until(HOST, 200)
    yield made
    made.close()


def told(stack, *words):
    """The control plane says so in one line, once, and goes on serving and changing."""
    def lines():
        text = stack.control.log.read_text(errors="replace")
        return [line for line in text.splitlines() if all(w in line for w in words)]

    wait_until(lines, 15, f"a line with {words}")
    assert stack.get(HOST).status_code == 200
    stack.app("after", "after.example.test", stack.origin("after"))
    stack.until("after.example.test", 200)
    assert len(lines()) <= 2, lines()
    assert stack.control.process.poll() is None
    return lines()[0]


def changed(change):
    """The objects of an app, with something done to its Ingress."""
    objects = [service("bad"), *endpoints("bad", ("127.0.0.1", 9)),
               ingress("bad", "bad.example.test", "bad")]
    change(objects[-1])
    return objects


def path_of(spec):
    return spec["rules"][0]["http"]["paths"][0]


WRONG_KINDS = {
    "a number for a host": (lambda i: i["spec"]["rules"][0].update(host=7),
                            "spec.rules[0].host: must be a string (put it in quotes), not a number"),
    "text for rules": (lambda i: i["spec"].update(rules="none"),
                       "spec.rules: must be a list, not a string"),
    "a list for a path": (lambda i: path_of(i["spec"]).update(path=["/"]),
                          "spec.rules[0].http.paths[0].path: must be a string, not a list"),
    "text for a port": (
        lambda i: path_of(i["spec"])["backend"]["service"]["port"].update(number="80"),
        "spec.rules[0].http.paths[0].backend.service.port.number: must be an integer, not a string"),
    "an unknown path type": (lambda i: path_of(i["spec"]).update(pathType="Prefixed"),
                             'pathType: must be Exact, Prefix or ImplementationSpecific, not "Prefixed"'),
    "a bare true as annotation": (
        lambda i: i["metadata"].update(annotations={"konghq.com/strip-path": True}),
        'metadata.annotations["konghq.com/strip-path"]: must be a string (put it in quotes)'),
    "a string as spec": (lambda i: i.update(spec="x"), "spec: must be a mapping, not a string"),
}


@pytest.fixture(scope="module")
def translated(tmp_path_factory):
    """translate over a directory with all of WRONG_KINDS, a file each: its log."""
    directory = tmp_path_factory.mktemp("wrong")
    for i, (change, _) in enumerate(WRONG_KINDS.values()):
        (directory / f"{i}.yaml").write_text(yaml.safe_dump_all(changed(change)))
    done = subprocess.run([program("silverback-controlplane"), "translate", "--manifests", directory],
                          env=clean_env(), capture_output=True, text=True, timeout=60, check=False)
    return done.stderr


@pytest.mark.parametrize("number, case", enumerate(WRONG_KINDS), ids=list(WRONG_KINDS))
def test_a_wrong_kind_of_value(translated, number, case):
    line = next(text for text in translated.splitlines() if f"/{number}.yaml: " in text)
    assert "document 3 (line " in line
    assert "Ingress default/bad: " in line and WRONG_KINDS[case][1] in line


def test_an_invalid_manifest_changes_nothing(stack):
    """Bad YAML, then a wrong kind of value: what the file held stays, until it is well again."""
    origin = stack.origin("two")
    stack.app("two", "two.example.test", origin)
    stack.until("two.example.test", 200)
    good = (stack.manifests / "two.yaml").read_text()
    (stack.manifests / "two.yaml").write_text(good + "---\nkind: Ingress\n  metadata: {\n")
    told(stack, "two.yaml: document 4 (line ", "invalid YAML")
    (stack.manifests / "two.yaml").write_text(good.replace("host: two.example.test", "host: [two]"))
    told(stack, "two.yaml: document 3 (line ", "Ingress default/two: spec.rules[0].host: must be a string")
    assert stack.get("two.example.test").status_code == 200
    (stack.manifests / "two.yaml").write_text(good.replace("two.example.test", "new.example.test"))
    stack.until("new.example.test", 200)
    stack.until("two.example.test", 404)


def test_a_service_that_is_not_there(stack):
    stack.write("bad", ingress("bad", "bad.example.test", "nowhere"))
    told(stack, "Ingress/default/bad", "Service default/nowhere not found")
    stack.until("bad.example.test", 503)
    stack.write("later", service("nowhere"),
                *endpoints("nowhere", ("127.0.0.1", stack.origin("late").port)))
    stack.until("bad.example.test", 200)


def test_an_annotation_without_meaning(stack):
    stack.app("bad", "bad.example.test", stack.origin("bad"),
              annotations={"konghq.com/protocols": "gopher"})
    told(stack, "Ingress/default/bad", "invalid route.protocols", "gopher")
    assert stack.get("bad.example.test").status_code == 404
    stack.app("bad", "bad.example.test", stack.origin("healed"),
              annotations={"konghq.com/protocols": "http"})
    stack.until("bad.example.test", 200)


@pytest.mark.parametrize("data, words", [
    ({"tls.crt": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}, ["tls.crt"]),
    ({"tls.key": "no key"}, ["tls.key"]),
    ({"tls.key": None}, ["tls.key"]),
])
def test_an_invalid_certificate_in_a_secret(stack, tmp_path, data, words):
    """The route serves, with the certificate that there is for everyone; a good Secret heals it."""
    origin = stack.origin("bad")
    secret, _ = tls_secret("cert", "bad.example.test", tmp_path)
    good = dict(secret["stringData"])
    secret["stringData"].update(data)
    secret["stringData"] = {k: v for k, v in secret["stringData"].items() if v is not None}
    stack.write("secret", secret)
    stack.app("bad", "bad.example.test", origin, tls="cert")
    told(stack, "Secret/default/cert", *words)
    stack.until("bad.example.test", 200)
    stack.write("secret", {**secret, "stringData": good})
    wait_until(lambda: stack.db.query("SELECT 1 FROM snis WHERE name = 'bad.example.test'"), 15,
               "the healed certificate")


def test_a_secret_that_is_not_base64(stack):
    stack.write("secret", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert"},
                           "data": {"tls.crt": "***", "tls.key": base64.b64encode(b"k").decode()}})
    told(stack, "secret.yaml: document 1 (line 1)", 'Secret default/cert: data["tls.crt"]', "base64")


# -- rows ---------------------------------------------------------------------------------------------

def test_an_invalid_certificate_by_psql(stack):
    """Nobody checked it on the way in; the gateway leaves that row out, says which, and follows on."""
    stack.db.query("INSERT INTO certificates (id, cert, key, ws_id) SELECT"
                   " '0badce47-0000-4000-8000-000000000000', 'no certificate', 'no key', id"
                   " FROM workspaces")
    gateway = stack.gateways[0]
    wait_until(lambda: "0badce47-0000-4000-8000-000000000000" in gateway.log(), 15, "the row's id")
    line = next(text for text in gateway.log().splitlines() if "0badce47" in text)
    assert "certificate" in line and "cert" in line.replace("certificate", ""), line
    stack.app("after", "after.example.test", stack.origin("after"))
    stack.until("after.example.test", 200)
    gateway.restart()
    stack.until(HOST, 200)
    assert gateway.log().count("0badce47") <= 3


# -- the database ------------------------------------------------------------------------------------

def test_no_database_migrations():
    names(run("silverback-migrations", "status", KONG_PG_PORT=NOBODY),
          f"127.0.0.1:{NOBODY}", "as user 'kong'", "check pg_host and pg_port")


@pytest.mark.parametrize("setting, value, words", [
    ("PG_PORT", NOBODY, [f"127.0.0.1:{NOBODY}", "check pg_host and pg_port"]),
    ("PG_HOST", "nowhere.invalid", ["nowhere.invalid", "check pg_host and pg_port"]),
    ("PG_PASSWORD", "wrong", ["password authentication failed", "check pg_user and pg_password"]),
    ("PG_DATABASE", "nowhere", ['database "nowhere" does not exist', "pg_database"]),
])
def test_no_database_dataplane(migrated, tmp_path, setting, value, words):
    """A first start without a saved configuration: there is nothing to serve."""
    gateway = Gateway(env=migrated.env(**{f"KONG_{setting}": value}), prefix=tmp_path)
    names(gateway.fails(), "Error: ", *words)
    assert gateway.stop() == 1


def test_no_schema_dataplane(database, tmp_path):
    gateway = Gateway(env=database.env(), prefix=tmp_path)
    names(gateway.fails(), "bootstrap")
    gateway.stop()


@pytest.mark.parametrize("setting, value, words", [
    ("KONG_PG_PORT", NOBODY, [f"127.0.0.1:{NOBODY}", "check pg_host and pg_port"]),
    ("KONG_PG_PASSWORD", "wrong", ["password authentication failed", "check pg_user and pg_password"]),
    ("KONG_PG_DATABASE", "nowhere", ['database "nowhere" does not exist', "pg_database"]),
])
def test_no_database_controlplane(migrated, tmp_path, setting, value, words):
    """It tries again, quietly, and its probe answers meanwhile."""
    manifests = Manifests(tmp_path / "manifests")
    manifests.write("web", app("web"))
    with Controlplane(migrated, tmp_path / "log", "--manifests", str(manifests.path),
                      **{setting: value}) as c:
        c.wait_log("trying again")
        names(c.log, *words)
        wait_until(lambda: c.metric("silverback_controlplane_leading") == 0, 5, "its metrics")
        assert c.process.poll() is None


def test_no_schema_controlplane(database, tmp_path):
    """A control plane that comes before its migrations waits for them."""
    manifests = Manifests(tmp_path / "manifests")
    manifests.write("web", app("web"))
    with Controlplane(database, tmp_path / "log", "--manifests", str(manifests.path)) as c:
        c.wait_log("bootstrap")
        database.migrate()
        wait_until(lambda: database.query("SELECT 1 FROM routes"), 30, "the route")
        assert len(c.log.splitlines()) < LINES_MAX


def test_a_database_that_goes_does_not_flood(tmp_path):
    with Postgres() as server:
        made = Stack(server.create_migrated(), tmp_path)
        try:
            made.control.start()
            gateway = made.gateway()
            made.app("good", HOST, made.origin("good"))
            made.until(HOST, 200)
            server.stop()
            made.app("good", "moved.example.test", made.origin("moved"))
            wait_until(lambda: made.control.says("trying again"), what="the outage in the log")
            wait_until(lambda: "check pg_host" in gateway.log(), what="the outage in the gateway's log")
            for _ in range(50):
                assert made.get(HOST).status_code == 200
            assert len(gateway.log().splitlines()) < LINES_MAX
            assert len(made.control.log.read_text().splitlines()) < LINES_MAX
            server.start()
            made.until("moved.example.test", 200, timeout=30)
        finally:
            made.close()


# -- settings ----------------------------------------------------------------------------------------

def test_wrong_settings_all_at_once(tmp_path):
    text = run("silverback-dataplane", "start", KONG_PREFIX=tmp_path, KONG_DATABASE="of",
               KONG_LOG_LEVEL="loud", KONG_PROXY_LISTEN="nope", KONG_ADMIN_LISTEN="127.0.0.1:1 sssl",
               KONG_UPSTREAM_KEEPALIVE_POOL_SIZE="many", KONG_ADMIN_LISTN="x",
               KONG_NGINX_DAEMON="off")
    names(text, "database has an invalid value: 'of' (postgres, off, cassandra) (KONG_DATABASE)",
          "log_level has an invalid value: 'loud'", "not 'nope' (KONG_PROXY_LISTEN)",
          "not '127.0.0.1:1 sssl' (KONG_ADMIN_LISTEN)",
          "upstream_keepalive_pool_size is not a number: 'many'",
          "unknown setting 'admin_listn' (KONG_ADMIN_LISTN) is ignored; did you mean 'admin_listen'?")


def test_wrong_settings_in_a_file(tmp_path):
    conf = tmp_path / "kong.conf"
    conf.write_text("database = off\n\nlog_levl = debug\nproxy_listen = 127.0.0.1:77777\n")
    text = run("silverback-dataplane", "check", conf)
    names(text, "proxy_listen must be of form", "not '127.0.0.1:77777'", str(conf),
          "unknown setting 'log_levl'", "did you mean 'log_level'?")


def test_an_address_that_is_not_ours(tmp_path):
    text = run("silverback-dataplane", "start", KONG_PREFIX=tmp_path, KONG_DATABASE="off",
               KONG_NGINX_DAEMON="off", KONG_ADMIN_LISTEN="off",
               KONG_PROXY_LISTEN=f"192.0.2.1:{free_port()}")
    names(text, "proxy_listen: cannot listen on 192.0.2.1:", "Cannot assign requested address")


def test_a_port_that_is_taken(tmp_path):
    with Upstream() as other:
        text = run("silverback-dataplane", "start", KONG_PREFIX=tmp_path, KONG_DATABASE="off",
                   KONG_NGINX_DAEMON="off", KONG_ADMIN_LISTEN="off",
                   KONG_PROXY_LISTEN=f"127.0.0.1:{other.port}")
    names(text, f"proxy_listen: cannot listen on 127.0.0.1:{other.port}: Address already in use")


def test_an_unknown_command():
    names(run("silverback-dataplane", "strat"), "No such command: strat")
    names(run("silverback-migrations", "bootstap"), "No such command for migrations: bootstap")
    names(run("silverback-dataplane", "start", "--nope"), "unrecognized parameter: --nope")


@pytest.mark.parametrize("args, words", [
    (["--manifets", "/tmp"], ["--manifets: unknown flag; did you mean --manifests"]),
    (["--zzz"], ["--zzz: unknown flag (see --help)"]),
    (["translat"], ['"translat": flags start with --']),
    (["--manifests"], ["--manifests: needs a value"]),
    (["--log-level=loud", "--term-delay=5", "--update-status=maybe"],
     ['--log-level: "loud" is not one of trace, debug, info, error',
      '--term-delay: "5" is not a duration, such as 10s', '--update-status: "maybe" is not true or false']),
    (["--health-probe-bind-address=here"], ['"here" is not host:port or :port']),
    (["--publish-service=proxy"], ['--publish-service: "proxy" is not namespace/name']),
])
def test_wrong_flags(args, words):
    names(run("silverback-controlplane", *args), *words)


def test_a_misspelt_variable(tmp_path):
    text = run("silverback-controlplane", "--manifests", tmp_path, CONTROLLER_INGRES_CLASS="mine",
               CONTROLLER_SERVICE_HOST="10.0.0.1", CONTROLLER_HEALTH_PROBE_BIND_ADDRESS="192.0.2.1:1")
    names(text, "CONTROLLER_INGRES_CLASS: unknown, and ignored; did you mean CONTROLLER_INGRESS_CLASS?",
          "--health-probe-bind-address: cannot listen on 192.0.2.1:1")
    assert "SERVICE_HOST" not in text


# -- kubeconfig ---------------------------------------------------------------------------------------

CONTEXT = {"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}]}


def kubeconfig(cluster=None, user=None):
    return {**CONTEXT, "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1",
                                                              **(cluster or {})}}],
            "users": [{"name": "u", "user": user or {"token": "t"}}]}


@pytest.mark.parametrize("document, words", [
    ("", ["is empty"]),
    ("clusters: [\n", ["invalid YAML", "line 2"]),
    ({"clusters": []}, ["current-context is missing"]),
    ({"current-context": "c"}, ['no entry named "c" in "contexts"']),
    ({"current-context": "c", "contexts": {"c": {}}}, ['"contexts" is not a list']),
    ({"current-context": "c", "contexts": [{"name": "c"}]}, ['contexts "c" has no field "context"']),
    (CONTEXT, ['no entry named "k" in "clusters"']),
    ({**CONTEXT, "clusters": [{"name": "k", "cluster": {}}]}, ["cluster.server is missing"]),
    (kubeconfig({"server": "here"}), ['cluster.server "here" is not an http(s) URL']),
    (kubeconfig({"server": 6443}), ["cluster.server is not a string"]),
    ({**kubeconfig(), "users": []}, ['no entry named "u" in "users"']),
    (kubeconfig({"certificate-authority-data": "!"}), ["cluster.certificate-authority-data is not base64"]),
    (kubeconfig({"certificate-authority-data": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="}),
     ["cluster.certificate-authority-data holds no PEM"]),
    (kubeconfig({"certificate-authority": "ca.crt"}),
     ["cluster.certificate-authority names ", "/ca.crt, which cannot be read: No such file"]),
    (kubeconfig(user={"client-certificate": "x"}), ["client-certificate and user.client-key need each other"]),
    (kubeconfig(user={"tokenFile": "token"}), ["user.tokenFile names ", "/token, which cannot be read"]),
    (kubeconfig(user={"token": 7}), ["user.token is not a string"]),
    (kubeconfig(user={"exec": {"command": "aws"}}), ["user.exec", "use token"]),
], ids=lambda v: v[0][:40] if isinstance(v, list) else "")
def test_a_half_written_kubeconfig(tmp_path, document, words):
    path = tmp_path / "kubeconfig"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    text = run("silverback-controlplane", "--kubeconfig", path, "--health-probe-bind-address=0",
               "--metrics-bind-address=0")
    names(text, f"kubeconfig {path}: ", *words)


def test_a_kubeconfig_that_nobody_may_read(tmp_path):
    text = run("silverback-controlplane", "--kubeconfig", tmp_path, "--health-probe-bind-address=0",
               "--metrics-bind-address=0")
    names(text, f"kubeconfig {tmp_path}: cannot be read: ")
    assert "Success" not in text


def test_an_api_server_that_is_away_does_not_flood(migrated, tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig()))
    with Controlplane(migrated, tmp_path / "log", "--kubeconfig", str(path)) as c:
        c.wait_log("cannot list ingresses at https://127.0.0.1:1: ")
        assert not c.ready()
        assert len(c.log.splitlines()) < LINES_MAX
        os.kill(c.process.pid, 15)
        assert c.process.wait(timeout=20) == 0
