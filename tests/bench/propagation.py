#!/usr/bin/env python3
"""propagation.py N... - from a Kubernetes watch event to the first request answered by the new route,
with N Ingresses already there.

Everything is real: etcd, kube-apiserver, PostgreSQL, both planes. A watch of our own sees the same
event as the control plane; from there the clock runs until a keep-alive client gets the first 200.
Prints the median and the 99th percentile, in milliseconds, for each N beside each other.
"""
import concurrent.futures
import contextlib
import http.client
import os
import pathlib
import statistics
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parent
for folder in (TESTS / "cluster", TESTS / "system", HERE / "rig"):
    sys.path.insert(0, str(folder))

import rig  # noqa: E402
from cluster import Cluster  # noqa: E402
from cluster_process import Process, free_ports, spawn, wait_for  # noqa: E402
from postgres import Postgres  # noqa: E402
from programs import program  # noqa: E402

PROBES = int(os.environ.get("PROBES", "100"))
NAMESPACE = "bench"
ADDRESS = "10.98.0.1"   # of tests/cluster/netns.sh
INGRESSES = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/ingresses"

BACKEND = f"""
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: kong}}
spec: {{controller: ingress-controllers.konghq.com/kong}}
---
apiVersion: v1
kind: Service
metadata: {{name: origin, namespace: {NAMESPACE}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: origin-1, namespace: {NAMESPACE}, labels: {{kubernetes.io/service-name: origin}}}}
addressType: IPv4
ports: [{{name: http, port: {rig.UP}, protocol: TCP}}]
endpoints: [{{addresses: [{ADDRESS}], conditions: {{ready: true}}}}]
"""


def ingress(name):
    backend = {"service": {"name": "origin", "port": {"number": 80}}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"ingressClassName": "kong", "rules": [{
                "host": f"{name}.example.test",
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}}


class Client:
    """One keep-alive connection to the gateway."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)

    def status(self, name):
        self.connection.request("GET", "/", headers={"Host": f"{name}.example.test"})
        answer = self.connection.getresponse()
        answer.read()
        return answer.status


class Seen:
    """When our own watch saw each Ingress."""

    def __init__(self, cluster):
        self.at = {}
        version = cluster.get(INGRESSES, limit=1)["metadata"]["resourceVersion"]
        self.events = cluster.watch(INGRESSES, seconds=3600, resourceVersion=version)
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        with contextlib.suppress(OSError):      # the API server ends before we do
            for event in self.events:
                if event["type"] == "ADDED":
                    self.at[event["object"]["metadata"]["name"]] = time.monotonic()


def probe(cluster, seen, client, name):
    """Milliseconds from the event to the first 200."""
    cluster.call("POST", INGRESSES, ingress(name))
    while client.status(name) != 200:
        pass
    done = time.monotonic()
    wait_for(lambda: name in seen.at, what=f"watch event of {name}")
    return max(0.0, (done - seen.at[name]) * 1000)


def fill(cluster, start, end):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: cluster.call("POST", INGRESSES, ingress(f"fill-{i}")),
                      range(start, end)))


def planes(cluster, db, scratch):
    proxy, admin, status = free_ports(3)
    env = db.env(KONG_PREFIX=f"{scratch}/prefix", KONG_NGINX_DAEMON="off",
                 KONG_PROXY_LISTEN=f"127.0.0.1:{proxy} reuseport", KONG_ADMIN_LISTEN=f"127.0.0.1:{admin}",
                 KONG_STATUS_LISTEN=f"127.0.0.1:{status}", KONG_PROXY_ACCESS_LOG="off",
                 CONTROLLER_KUBECONFIG=str(cluster.kubeconfig))
    children = [
        Process("controlplane", [program("silverback-controlplane"), "--ingress-class", "kong"],
                f"{scratch}/controlplane.log", env),
        Process("dataplane", [program("silverback-dataplane"), "start"], f"{scratch}/dataplane.log", env),
    ]
    for child in children:
        child.start()
    return proxy, children


def main():
    sizes = sorted(int(n) for n in sys.argv[1:] or ["10", "1000"])
    rig.build()
    origin = spawn([f"{rig.BIN}/origin", str(rig.UP), str(rig.ECHO), ADDRESS])
    with tempfile.TemporaryDirectory() as scratch, Postgres() as postgres, Cluster() as cluster:
        db = postgres.create_migrated()
        cluster.apply(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}")
        cluster.apply(BACKEND)
        proxy, children = planes(cluster, db, scratch)
        try:
            measure(cluster, proxy, sizes)
        except TimeoutError:
            print("".join(child.tail() for child in children))
            raise
        finally:
            for child in children:
                child.kill()
            origin.kill()


def measure(cluster, proxy, sizes):
    there = 0
    print("propagation: watch event to first answered request, ms")
    print(f"{'Ingresses':>10} {'median':>8} {'p99':>8} {'max':>8}")
    for n in sizes:
        fill(cluster, there, n)
        there = n
        client = Client(wait_for(lambda: listening(proxy), timeout=30, what="gateway"))
        wait_for(lambda: client.status(f"fill-{n - 1}") == 200, timeout=120, what=f"{n} Ingresses served")
        seen = Seen(cluster)
        took = sorted(probe(cluster, seen, client, f"probe-{n}-{i}") for i in range(PROBES))
        p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
        print(f"{n:>10} {statistics.median(took):>8.1f} {p99:>8.1f} {took[-1]:>8.1f}", flush=True)


def listening(port):
    try:
        Client(port).status("nobody")
    except OSError:
        return 0
    return port


if __name__ == "__main__":
    main()
