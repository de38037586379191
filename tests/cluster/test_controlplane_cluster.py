"""The control plane against a real API server and a real database."""

import concurrent.futures
import pathlib
import signal
import sys

import pytest
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from cluster_process import wait_for  # noqa: E402
from controlplane import Controlplane, app, ingress, service, slices  # noqa: E402
from postgres import Postgres  # noqa: E402

LEASE_S = 15
RULES = [
    {"apiGroups": [""], "resources": ["services", "secrets", "namespaces", "configmaps"],
     "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
     "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "ingressclasses"],
     "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses/status"],
     "verbs": ["get", "patch", "update"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
     "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]},
]


@pytest.fixture(scope="module")
def postgres():
    with Postgres() as server:
        yield server


@pytest.fixture
def db(postgres):
    database = postgres.create_migrated()
    yield database
    database.drop()


@pytest.fixture
def start(cluster, namespace, db, tmp_path):
    """Starts controllers that watch the test's namespace; the Lease is the namespace's too."""
    started = []

    def one(*flags, kubeconfig=None):
        c = Controlplane(db, tmp_path / f"log{len(started)}",
                         f"--kubeconfig={kubeconfig or cluster.kubeconfig}",
                         f"--watch-namespace={namespace}", f"--election-namespace={namespace}", *flags)
        c.start()
        started.append(c)
        return c

    yield one
    for c in started:
        c.kill()


def in_namespace(objects, namespace):
    for o in objects:
        o["metadata"]["namespace"] = namespace
    return objects


@pytest.fixture
def apply(cluster, namespace):
    return lambda objects: cluster.apply(in_namespace(objects, namespace), namespace)


def hosts(db):
    return sorted(h for (hs,) in db.query("SELECT hosts FROM routes") for h in hs)


def targets(db):
    return sorted(t for (t,) in db.query("SELECT target FROM targets"))


def wait_hosts(db, *expected, timeout=30):
    wait_for(lambda: hosts(db) == sorted(expected), timeout, f"routes for {expected}")


def test_an_ingress_is_applied_scaled_and_deleted(cluster, namespace, start, apply, db):
    apply(app("early"))
    start()
    wait_hosts(db, "early.test")
    apply(app("web", "10.0.0.1"))
    wait_hosts(db, "early.test", "web.test")
    apply([slices("web", "10.0.0.1", "10.0.0.2")])
    wait_for(lambda: "10.0.0.2:8080" in targets(db), 10, "second target")
    apply([slices("web", "10.0.0.2")])
    wait_for(lambda: targets(db) == ["10.0.0.1:8080", "10.0.0.2:8080"], 10, "one target each")
    cluster.delete(in_namespace(app("early"), namespace), namespace)
    wait_hosts(db, "web.test")
    assert targets(db) == ["10.0.0.2:8080"]


def test_only_watched_namespaces_count(cluster, start, apply, db):
    other = cluster.namespace()
    cluster.apply(in_namespace(app("other"), other), other)
    apply(app("web"))
    start()
    wait_hosts(db, "web.test")


def test_long_lists_come_in_pages(cluster, namespace, start, apply, db):
    objects = in_namespace([ingress(f"i{n}", f"h{n}.test", "web") for n in range(1100)], namespace)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda o: cluster.create(o, namespace), objects))
    apply([service("web")])
    start()
    wait_for(lambda: len(hosts(db)) == 1100, 60, "1,100 routes")


def test_the_apiserver_restarts(cluster, namespace, start, apply, db):
    apply(app("web"))
    start()
    wait_hosts(db, "web.test")
    cluster.restart_apiserver()
    apply(app("api"))
    wait_hosts(db, "api.test", "web.test", timeout=60)


def test_history_is_forgotten(cluster, namespace, start, apply, db):
    """410: what was deleted while we could not watch must go too."""
    apply(app("web"))
    apply(app("gone"))
    c = start()
    wait_hosts(db, "gone.test", "web.test")
    c.signal(signal.SIGSTOP)
    cluster.delete(in_namespace(app("gone"), namespace), namespace)
    apply(app("new"))
    cluster.forget_history()
    c.signal(signal.SIGCONT)
    wait_hosts(db, "new.test", "web.test", timeout=60)


def lease_holder(cluster, namespace):
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/5b374a9e.konghq.com"
    return cluster.get(path)["spec"]["holderIdentity"]


def test_a_clean_end_hands_over_at_once(cluster, namespace, start, apply, db):
    apply(app("web"))
    first = start()
    wait_for(first.leading, 20, "leadership")
    second = start()
    wait_for(second.ready, 20, "second ready")
    held = lease_holder(cluster, namespace)
    first.kill(signal.SIGTERM)
    assert first.process.returncode == 0
    wait_for(second.leading, LEASE_S - 5, "second leads")
    assert lease_holder(cluster, namespace) not in ("", held)
    apply(app("api"))
    wait_hosts(db, "api.test", "web.test")


def test_a_killed_leader_loses_no_change(start, apply, db):
    apply(app("web"))
    first = start()
    wait_for(first.leading, 20, "leadership")
    wait_hosts(db, "web.test")
    second = start()
    wait_for(second.ready, 20, "second ready")
    assert not second.leading()
    first.kill()
    apply(app("api"))
    wait_hosts(db, "api.test", "web.test", timeout=3 * LEASE_S)
    assert second.leading()


def test_a_paused_leader_finds_itself_replaced(start, apply, db):
    apply(app("web"))
    first = start()
    wait_for(first.leading, 20, "leadership")
    second = start()
    wait_for(second.ready, 20, "second ready")
    first.signal(signal.SIGSTOP)
    wait_for(second.leading, 3 * LEASE_S, "second leads")
    apply(app("api"))
    wait_hosts(db, "api.test", "web.test")
    first.signal(signal.SIGCONT)
    first.wait_log("leadership lost")
    apply(app("shop"))
    wait_hosts(db, "api.test", "shop.test", "web.test")
    assert second.leading() and not first.leading()


def test_the_write_of_a_paused_ex_leader_is_refused(start, apply, db):
    """Without a Lease to look at, a controller that wakes up writes what it sees: the epoch says no."""
    alone = "--force-leader-election=disabled"
    apply(app("web"))
    first = start(alone)
    wait_hosts(db, "web.test")
    first.signal(signal.SIGSTOP)
    second = start(alone)
    wait_for(second.leading, 20, "second leads")
    apply(app("api"))
    wait_hosts(db, "api.test", "web.test")
    apply(app("shop"))
    wait_hosts(db, "api.test", "shop.test", "web.test")
    second.kill()
    apply(app("late"))
    first.signal(signal.SIGCONT)
    first.wait_log("leadership lost: not the leader")
    wait_hosts(db, "api.test", "late.test", "shop.test", "web.test")


def status_of(cluster, namespace, name):
    balancer = cluster.fetch(in_namespace([ingress(name, "", "")], namespace)[0])["status"]
    return balancer["loadBalancer"].get("ingress", [])


def test_status_from_fixed_addresses(cluster, namespace, start, apply, db):
    apply(app("web"))
    start("--publish-status-address=10.9.8.7,proxy.test")
    wait_for(lambda: status_of(cluster, namespace, "web") ==
             [{"ip": "10.9.8.7"}, {"hostname": "proxy.test"}], 20, "status")
    foreign = ingress("foreign", "foreign.test", "web")
    foreign["spec"]["ingressClassName"] = "other"
    apply([foreign])
    apply(app("api"))
    wait_for(lambda: status_of(cluster, namespace, "api"), 20, "status of what came later")
    assert status_of(cluster, namespace, "foreign") == []


def test_status_follows_the_published_service(cluster, namespace, start, apply, db):
    proxy = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "proxy"},
             "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}
    apply([proxy])
    cluster.patch_status(proxy, {"loadBalancer": {"ingress": [{"ip": "10.1.2.3"}]}}, namespace)
    apply(app("web"))
    start(f"--publish-service={namespace}/proxy")
    wait_for(lambda: [i["ip"] for i in status_of(cluster, namespace, "web")] == ["10.1.2.3"], 20, "status")
    cluster.patch_status(proxy, {"loadBalancer": {"ingress": [{"ip": "10.1.2.4"}]}}, namespace)
    wait_for(lambda: [i["ip"] for i in status_of(cluster, namespace, "web")] == ["10.1.2.4"], 20,
             "new status")


def test_problems_become_events(cluster, namespace, start, apply, db):
    apply([ingress("web", "web.test", "nothere")])
    apply(app("odd", protocols="ftp"))
    start("--publish-status-address=10.9.8.7")

    def events(name):
        found = cluster.get(f"/api/v1/namespaces/{namespace}/events")["items"]
        return [(e["reason"], e["message"]) for e in found if e["involvedObject"]["name"] == name]

    wait_for(lambda: events("web") and events("odd"), 20, "events")
    assert events("web")[0][0] == "KongConfigurationTranslationFailed"
    assert "nothere" in events("web")[0][1]
    assert events("odd")[0][0] == "KongConfigurationApplyFailed"
    assert status_of(cluster, namespace, "web") == []


def test_the_rights_of_the_role_are_enough(cluster, namespace, start, apply, db):
    apply(app("web"))
    c = start("--publish-status-address=10.9.8.7",
              kubeconfig=cluster.token_kubeconfig(namespace, rules=RULES))
    wait_hosts(db, "web.test")
    wait_for(lambda: status_of(cluster, namespace, "web"), 20, "status")
    assert "[error]" not in c.log


def test_a_missing_right_is_named(cluster, namespace, start):
    rules = [r for r in RULES if "endpointslices" not in r["resources"]]
    c = start(kubeconfig=cluster.token_kubeconfig(namespace, "less", rules=rules))
    c.wait_log("cannot list endpointslices")
    c.wait_log('cannot list resource "endpointslices"')
    assert not c.ready()


@pytest.mark.parametrize("name, fits", [("kubernetes", True), ("stranger.test", False)])
def test_the_certificate_is_for_another_name(cluster, start, apply, db, tmp_path, name, fits):
    config = yaml.safe_load(pathlib.Path(cluster.kubeconfig).read_text())
    config["clusters"][0]["cluster"]["tls-server-name"] = name
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(yaml.safe_dump(config))
    apply(app("web"))
    c = start(kubeconfig=kubeconfig)
    if fits:
        wait_hosts(db, "web.test")
    else:
        c.wait_log("matches target host name 'stranger.test'")
        assert not c.ready()


def test_a_token_is_read_again(cluster, namespace, start, apply, db, tmp_path):
    cluster.service_account(namespace, "rotated", RULES)
    token = tmp_path / "token"
    token.write_text("expired")
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(pathlib.Path(cluster.token_kubeconfig(namespace, "x")).read_text())
    text = kubeconfig.read_text()
    start_of_token = text.index("token:")
    end_of_token = text.index("\n", start_of_token)
    kubeconfig.write_text(f"{text[:start_of_token]}tokenFile: {token}{text[end_of_token:]}")
    apply(app("web"))
    c = start(kubeconfig=kubeconfig)
    c.wait_log("status 401")
    token.write_text(cluster.token(namespace, "rotated"))
    wait_hosts(db, "web.test", timeout=60)
