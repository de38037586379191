"""The control plane on a directory of manifests and a real database."""

import signal
import subprocess

import pytest

from controlplane import Controlplane, Manifests, app, ingress, service
from postgres import Postgres, wait_until
from programs import program

TAG = "managed-by-ingress-controller"


@pytest.fixture
def manifests(tmp_path):
    return Manifests(tmp_path / "manifests")


@pytest.fixture
def start(migrated, tmp_path, manifests):
    """Starts controllers on the test's database and manifests; ends them with the test."""
    started = []

    def one(*flags, db=migrated, **env):
        c = Controlplane(db, tmp_path / f"log{len(started)}", "--manifests", str(manifests.path),
                         *flags, **env)
        c.start()
        started.append(c)
        return c

    yield one
    for c in started:
        c.kill()


def names(db, table):
    return sorted(n for (n,) in db.query(f"SELECT name FROM {table}"))


def targets(db):
    return sorted(t for (t,) in db.query("SELECT target FROM targets"))


def version(db):
    return db.value("SELECT version FROM silverback_version")


def wait_names(db, table, expected, timeout=30):
    wait_until(lambda: names(db, table) == sorted(expected), timeout, f"{table} {expected}")


def test_manifests_become_rows(start, manifests, migrated):
    manifests.write("web", app("web", "10.0.0.1", "10.0.0.2"))
    start()
    wait_names(migrated, "routes", ["default.web.web.web.test.80"])
    assert names(migrated, "services") == ["default.web.80"]
    assert names(migrated, "upstreams") == ["web.default.80.svc"]
    assert targets(migrated) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    route = migrated.query("SELECT hosts, paths, strip_path, service_id, tags FROM routes")[0]
    assert route[:3] == (["web.test"], ["/"], False)
    assert route[3] == migrated.value("SELECT id FROM services")
    assert route[4][0] == "k8s-name:web" and route[4][-1] == TAG
    assert migrated.value("SELECT tags FROM targets LIMIT 1") == [TAG]


def test_a_change_is_one_version(start, manifests, migrated):
    manifests.write("web", app("web"))
    start()
    wait_names(migrated, "services", ["default.web.80"])
    before = version(migrated)
    manifests.write("web", app("web", "10.0.0.7", "10.0.0.8", host="new.test"))
    wait_names(migrated, "routes", ["default.web.web.new.test.80"])
    assert targets(migrated) == ["10.0.0.7:8080", "10.0.0.8:8080"]
    assert version(migrated) == before + 1


def test_what_is_gone_goes(start, manifests, migrated):
    manifests.write("web", app("web"))
    manifests.write("api", app("api"))
    start()
    wait_names(migrated, "services", ["default.api.80", "default.web.80"])
    manifests.remove("web")
    wait_names(migrated, "services", ["default.api.80"])
    assert names(migrated, "routes") == ["default.api.api.api.test.80"]
    assert len(targets(migrated)) == 1


def test_a_restart_writes_nothing(start, manifests, migrated):
    manifests.write("web", app("web"))
    first = start()
    wait_names(migrated, "routes", ["default.web.web.web.test.80"])
    before = version(migrated)
    first.kill(signal.SIGTERM)
    assert first.process.returncode == 0
    second = start()
    wait_until(second.leading, what="second leads")
    second.wait_log("rows of ours found, 0 to change")
    assert version(migrated) == before
    manifests.write("web", app("web", "10.0.0.9"))
    wait_until(lambda: targets(migrated) == ["10.0.0.9:8080"], what="the change after it")


def test_changes_made_while_nobody_ran(start, manifests, migrated):
    manifests.write("web", app("web"))
    manifests.write("api", app("api"))
    first = start()
    wait_names(migrated, "services", ["default.api.80", "default.web.80"])
    first.kill()
    manifests.remove("api")
    manifests.write("shop", app("shop"))
    start()
    wait_names(migrated, "services", ["default.shop.80", "default.web.80"])


def test_rows_of_others_are_left_alone(start, manifests, migrated):
    migrated.query("INSERT INTO services (id, name, host, ws_id) SELECT gen_random_uuid(), 'mine', 'h', id"
                   " FROM workspaces")
    manifests.write("web", app("web"))
    start()
    wait_names(migrated, "services", ["default.web.80", "mine"])
    manifests.remove("web")
    wait_names(migrated, "services", ["mine"])


def test_a_name_that_is_taken_is_reported(start, manifests, migrated):
    migrated.query("INSERT INTO services (id, name, host, ws_id) SELECT gen_random_uuid(),"
                   " 'default.web.80', 'theirs', id FROM workspaces")
    manifests.write("web", app("web"))
    manifests.write("api", app("api"))
    c = start()
    wait_names(migrated, "routes", ["default.api.api.api.test.80"])
    c.wait_log("UNIQUE violation detected on '{name=\"default.web.80\"}'")
    assert migrated.value("SELECT host FROM services WHERE name = 'default.web.80'") == "theirs"
    migrated.query("DELETE FROM services WHERE host = 'theirs'")
    manifests.write("shop", app("shop"))
    wait_until(lambda: len(names(migrated, "routes")) == 3, what="the route that waited")


def test_an_entity_that_the_schema_refuses(start, manifests, migrated):
    manifests.write("bad", app("bad", protocols="ftp"))
    manifests.write("web", app("web"))
    c = start()
    wait_names(migrated, "routes", ["default.web.web.web.test.80"])
    c.wait_log("Ingress/default/bad: invalid route.protocols")
    manifests.write("bad", app("bad", protocols="http"))
    wait_names(migrated, "routes", ["default.bad.bad.bad.test.80", "default.web.web.web.test.80"])
    manifests.write("bad", app("bad", host="other.test", protocols="ftp"))
    c.wait_log("[error]")
    manifests.write("api", app("api"))
    wait_until(lambda: "default.api.80" in names(migrated, "services"), what="what came after")


def test_broken_documents_are_named(start, manifests, migrated):
    text = ("apiVersion: v1\nkind: Service\nmetadata: {name: x}\n---\nkind: [\n---\n"
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {}\n")
    manifests.write("bad", text)
    manifests.write("web", app("web"))
    c = start()
    wait_names(migrated, "services", ["default.web.80"])
    c.wait_log("bad.yaml: document 2 (line 4)")
    c.wait_log("bad.yaml: document 3 (line 6): Ingress: metadata.name: missing")


def test_a_missing_service_is_reported_on_its_ingress(start, manifests, migrated):
    manifests.write("web", [ingress("web", "web.test", "nothere")])
    c = start()
    c.wait_log("Ingress/default/web: ")
    manifests.write("later", [service("nothere")])
    wait_until(lambda: names(migrated, "upstreams") == ["nothere.default.80.svc"], what="the upstream")


def test_a_database_of_another_controller_keeps_its_ids(start, manifests, migrated):
    migrated.query("INSERT INTO upstreams (id, name, algorithm, slots, tags, ws_id) SELECT"
                   " '11111111-1111-4111-8111-111111111111', 'web.default.80.svc', 'round-robin', 10000,"
                   f" ARRAY['{TAG}'], id FROM workspaces")
    migrated.query("INSERT INTO targets (id, target, weight, upstream_id, tags, ws_id) SELECT"
                   " '22222222-2222-4222-8222-222222222222', '10.0.0.1:8080', 100,"
                   f" '11111111-1111-4111-8111-111111111111', ARRAY['{TAG}'], id FROM workspaces")
    manifests.write("web", app("web", "10.0.0.1", "10.0.0.2"))
    start()
    wait_until(lambda: len(targets(migrated)) == 2, what="two targets")
    wait_names(migrated, "upstreams", ["web.default.80.svc"])
    assert migrated.query("SELECT DISTINCT upstream_id::text FROM targets") == [
        ("11111111-1111-4111-8111-111111111111",)]
    assert migrated.value("SELECT id::text FROM targets WHERE target = '10.0.0.1:8080'") == \
        "22222222-2222-4222-8222-222222222222"


def test_many_changes_are_few_versions(start, manifests, migrated):
    manifests.write("web", app("web"))
    start()
    wait_names(migrated, "services", ["default.web.80"])
    before = version(migrated)
    for i in range(100):
        manifests.write(f"app{i}", app(f"app{i}"))
    wait_until(lambda: len(names(migrated, "routes")) == 101, what="all routes")
    assert version(migrated) - before <= 100


def test_one_of_two_leads(start, manifests, migrated):
    manifests.write("web", app("web"))
    pair = [start(), start()]
    wait_names(migrated, "services", ["default.web.80"])
    wait_until(lambda: sum(c.leading() for c in pair) == 1, what="one leader")
    wait_until(lambda: all(c.ready() for c in pair), what="both ready")
    leader, other = sorted(pair, key=lambda c: not c.leading())
    epoch = leader.metric("silverback_controlplane_epoch")
    leader.kill()
    manifests.write("api", app("api"))
    wait_names(migrated, "services", ["default.api.80", "default.web.80"])
    assert other.leading() and other.metric("silverback_controlplane_epoch") > epoch


def test_a_leader_that_is_none_writes_nothing(start, manifests, migrated):
    manifests.write("web", app("web"))
    c = start()
    wait_names(migrated, "services", ["default.web.80"])
    migrated.query("UPDATE silverback_leader SET epoch = epoch + 1, holder = 'another'")
    manifests.write("api", app("api"))
    c.wait_log("leadership lost: not the leader")
    # It still holds the lock, so it leads again, with the next epoch.
    wait_names(migrated, "services", ["default.api.80", "default.web.80"])


def test_the_database_goes_and_comes_back(manifests, tmp_path):
    with Postgres() as server:
        db = server.create_migrated()
        manifests.write("web", app("web"))
        with Controlplane(db, tmp_path / "log", "--manifests", str(manifests.path)) as c:
            wait_names(db, "services", ["default.web.80"])
            server.stop()
            manifests.write("api", app("api"))
            c.wait_log("PostgreSQL: ")
            server.start()
            wait_names(db, "services", ["default.api.80", "default.web.80"])
            c.wait_log("writing again")


def test_a_database_that_is_not_there(manifests, migrated, tmp_path):
    manifests.write("web", app("web"))
    with Controlplane(migrated, tmp_path / "log", "--manifests", str(manifests.path),
                      KONG_PG_PORT="1") as c:
        c.wait_log("127.0.0.1")
        c.wait_log("trying again")
        assert c.process.poll() is None


@pytest.mark.parametrize("args, env, words", [
    (["--manifests", "/nowhere"], {}, ["manifests /nowhere: cannot be read"]),
    (["--no-such-flag", "--term-delay=x"], {"CONTROLLER_UPDATE_STATUS": "maybe"},
     ["--no-such-flag: unknown flag", "--term-delay", "CONTROLLER_UPDATE_STATUS"]),
    (["--manifests", "/tmp", "--feature-gates=Nope=true"], {}, ["Nope is not a valid feature"]),
    (["--kubeconfig", "/nowhere/config"], {}, ["kubeconfig /nowhere/config: cannot be read"]),
    (["--manifests", "/tmp"], {"KONG_PG_PORT": "many"}, ["pg_port"]),
])
def test_wrong_settings(migrated, args, env, words):
    done = subprocess.run([program("silverback-controlplane"), "--health-probe-bind-address=0",
                           "--metrics-bind-address=0", *args],
                          env=migrated.env(**env), capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr


def test_help_and_version(migrated):
    run = [program("silverback-controlplane")]
    text = subprocess.run([*run, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--ingress-class" in text and "--manifests" in text
    assert subprocess.run([*run, "version"], capture_output=True, text=True, check=True).stdout
