"""From kubectl to an answered request: API server, both planes, the database, upstreams; all real."""

import functools
import pathlib
import socket
import subprocess
import sys
import threading

import pytest
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from cluster_process import wait_for  # noqa: E402
from controlplane import Controlplane, ingress, service, slices  # noqa: E402
from gateway import Gateway  # noqa: E402
from gateway import Upstream as LocalUpstream  # noqa: E402
from postgres import Postgres  # noqa: E402


@functools.lru_cache
def own_address():
    """An address of this machine that is not loopback: no EndpointSlice takes that. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(("192.0.2.1", 9))
        return s.getsockname()[0]


def Upstream():
    return LocalUpstream(host=own_address())


@pytest.fixture(scope="module")
def db():
    with Postgres() as server:
        yield server.create_migrated()


@pytest.fixture
def controller(cluster, namespace, db, tmp_path):
    def start(n=0):
        c = Controlplane(db, tmp_path / f"log{n}", f"--kubeconfig={cluster.kubeconfig}",
                         f"--watch-namespace={namespace}", f"--election-namespace={namespace}")
        c.start()
        started.append(c)
        return c

    started = []
    yield start
    for c in started:
        c.kill()


@pytest.fixture(scope="module")
def gateway(db):
    with Gateway(env=db.env()) as g:
        yield g


@pytest.fixture
def kubectl(cluster, namespace):
    """kubectl apply, delete or replace of objects."""
    def run(verb, objects):
        cluster.kubectl(verb, "-n", namespace, "-f", "-",
                        input=yaml.safe_dump_all([without_namespace(o) for o in objects]))
    return run


def without_namespace(o):
    o["metadata"].pop("namespace", None)
    return o


def at(upstream, *more):
    """An EndpointSlice of `web` for each of these upstreams."""
    ports = [u.port for u in (upstream, *more)]
    made = []
    for i, port in enumerate(ports):
        one = slices("web", own_address(), port=port)
        one["metadata"]["name"] = f"web-{i}"
        made.append(one)
    return made


def status(gateway, host, path="/"):
    return gateway.proxy(path, host=host).status_code


def test_an_applied_ingress_answers(controller, gateway, kubectl):
    with Upstream() as upstream:
        controller()
        assert status(gateway, "web.test") == 404
        kubectl("apply", [ingress("web", "web.test", "web"), service("web"), *at(upstream)])
        wait_for(lambda: status(gateway, "web.test") == 200, 20, "an answer")

        kubectl("delete", [ingress("web", "web.test", "web")])
        wait_for(lambda: status(gateway, "web.test") == 404, 20, "Kong's 404")
        assert gateway.proxy("/", host="web.test").json()["message"] == "no Route matched with those values"


def test_scaling_moves_traffic(controller, gateway, kubectl):
    with Upstream() as one, Upstream() as two:
        controller()
        kubectl("apply", [ingress("web", "scale.test", "web"), service("web"), *at(one)])
        wait_for(lambda: status(gateway, "scale.test") == 200, 20, "an answer")
        kubectl("apply", at(one, two))
        wait_for(lambda: status(gateway, "scale.test") == 200 and two.requests, 20, "the second's turn")
        kubectl("delete", at(one)[:1])

        def all_to_two():
            before = one.requests
            answers = [status(gateway, "scale.test") for _ in range(10)]
            return answers == [200] * 10 and one.requests == before
        wait_for(all_to_two, 20, "traffic at the second alone")


def test_a_killed_leader_loses_no_change(controller, gateway, kubectl):
    with Upstream() as upstream:
        first = controller()
        wait_for(first.leading, 20, "leadership")
        second = controller(1)
        wait_for(second.ready, 20, "the second warm")
        kubectl("apply", [ingress("web", "kill.test", "web"), service("web"), *at(upstream)])
        wait_for(lambda: status(gateway, "kill.test") == 200, 20, "an answer")
        first.kill()
        kubectl("apply", [ingress("late", "late.test", "web")])
        wait_for(lambda: status(gateway, "late.test") == 200, 60, "what was applied without a leader")


def certificate(tmp_path, name):
    files = [str(tmp_path / f"{name}.{end}") for end in ("key", "crt")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                    f"/CN={name}", "-keyout", files[0], "-out", files[1]], check=True,
                   capture_output=True)
    key, crt = (pathlib.Path(f).read_text() for f in files)
    return crt, key


def served_subject(gateway, host):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.https}",
                           "-servername", host], input="", capture_output=True, text=True, timeout=20)
    return next((line for line in done.stdout.splitlines() if line.startswith("subject=")), "")


def test_a_renewed_secret_changes_the_certificate(controller, gateway, kubectl, tmp_path):
    """User story A2: no restart."""
    def secret(name):
        crt, key = certificate(tmp_path, name)
        return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": {"name": "kong-ingress-tls"}, "stringData": {"tls.crt": crt, "tls.key": key}}

    secure = ingress("web", "graphql.test", "web", path="/graphql", strip_path="false", protocols="https")
    secure["spec"]["tls"] = [{"hosts": ["graphql.test"], "secretName": "kong-ingress-tls"}]
    with Upstream() as upstream:
        controller()
        kubectl("apply", [secure, service("web"), *at(upstream), secret("first")])
        wait_for(lambda: "first" in served_subject(gateway, "graphql.test"), 20, "the certificate")
        assert status(gateway, "graphql.test", "/graphql") == 426
        kubectl("apply", [secret("second")])
        wait_for(lambda: "second" in served_subject(gateway, "graphql.test"), 20, "the renewed one")


def test_no_request_is_lost_while_routes_change(controller, gateway, kubectl, cluster, namespace):
    with Upstream() as upstream:
        controller()
        kubectl("apply", [ingress("web", "steady.test", "web"), service("web"), *at(upstream)])
        wait_for(lambda: status(gateway, "steady.test") == 200, 20, "an answer")
        done, answers = threading.Event(), []

        def ask():
            while not done.is_set():
                answers.append(status(gateway, "steady.test"))

        asking = threading.Thread(target=ask)
        asking.start()
        for i in range(200):
            changed = ingress(f"i{i % 20}", f"i{i}.test", "web")
            changed["metadata"]["namespace"] = namespace
            cluster.apply(changed, namespace)
        wait_for(lambda: status(gateway, "i199.test") == 200, 30, "the last change")
        done.set()
        asking.join()
        assert set(answers) == {200} and len(answers) > 10
