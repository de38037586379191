"""Does the cluster do what the tests of the controller lean on?"""
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import requests

from cluster import HERE, ApiError, KubectlError
from cluster_process import wait_for

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.98.1.1], conditions: {ready: true}}]
ports: [{name: http, port: 8080, protocol: TCP}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: kong
  rules:
  - http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
"""

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"},
              "data": {"a": "1"}}

WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.test.example}
spec:
  group: test.example
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {size: {type: integer, default: 3}}
            x-kubernetes-validations: [{rule: self.size < 10, message: too big}]
          status:
            type: object
            properties: {ok: {type: boolean}}
"""


def widget(size=None):
    spec = {} if size is None else {"size": size}
    return {"apiVersion": "test.example/v1", "kind": "Widget", "metadata": {"name": "w"},
            "spec": spec}


def config_maps(namespace):
    return f"/api/v1/namespaces/{namespace}/configmaps"


def names(cluster, path):
    return [o["metadata"]["name"] for o in cluster.get(path)["items"]]


def version_of(obj):
    return int(obj["metadata"]["resourceVersion"])


def next_of(events, kind):
    return next(e["object"] for e in events if e["type"] == kind)


def test_version_is_the_one_of_go_mod(cluster):
    with open(os.path.join(HERE, "go", "go.mod"), encoding="ascii") as f:
        assert f"k8s.io/kubernetes {cluster.get('/version')['gitVersion']} //" in f.read()


def test_apply_list_delete(cluster, namespace):
    kinds = [o["kind"] for o in cluster.apply(WEB, namespace)]
    assert kinds == ["Service", "EndpointSlice", "Ingress"]
    discovery = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    networking = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses"
    assert names(cluster, f"/api/v1/namespaces/{namespace}/services") == ["web"]
    assert names(cluster, discovery) == ["web-1"]
    assert names(cluster, networking) == ["web"]
    cluster.delete(WEB, namespace)
    cluster.delete(WEB, namespace)
    assert names(cluster, discovery) == [] and names(cluster, networking) == []


def test_misspelt_field_is_refused(cluster, namespace):
    with pytest.raises(ApiError, match="field not declared in schema|unknown field"):
        cluster.apply({**CONFIG_MAP, "dada": {}}, namespace)


def test_kubectl(cluster, namespace):
    cluster.kubectl("apply", "-n", namespace, "-f", "-", input=WEB)
    assert cluster.kubectl("get", "ingress", "-n", namespace, "-o", "name").split() == [
        "ingress.networking.k8s.io/web"]
    with pytest.raises(KubectlError, match="not found"):
        cluster.kubectl("get", "ingress", "none", "-n", namespace)


def test_streaming_list_then_event(cluster, namespace):
    cluster.create(CONFIG_MAP, namespace)
    events = cluster.watch(config_maps(namespace), sendInitialEvents="true",
                           resourceVersionMatch="NotOlderThan")
    assert next_of(events, "ADDED")["metadata"]["name"] == "c"
    bookmark = next_of(events, "BOOKMARK")
    assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    cluster.patch(CONFIG_MAP, {"data": {"a": "2"}}, namespace)
    assert next_of(events, "MODIFIED")["data"] == {"a": "2"}
    cluster.delete(CONFIG_MAP, namespace)
    assert next_of(events, "DELETED")["data"] == {"a": "2"}


def test_bookmark_tells_the_version_of_a_quiet_namespace(cluster, namespace):
    version = cluster.get(config_maps(namespace))["metadata"]["resourceVersion"]
    events = cluster.watch(config_maps(namespace), seconds=4, resourceVersion=version)
    elsewhere = cluster.create(CONFIG_MAP, cluster.namespace())
    bookmark = next_of(events, "BOOKMARK")
    assert int(bookmark["metadata"]["resourceVersion"]) >= version_of(elsewhere) > int(version)


def test_lease_conflict(cluster, namespace):
    lease = cluster.create({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"},
        "spec": {"holderIdentity": "a", "renewTime": "2026-01-01T00:00:00.000000Z"}}, namespace)
    lease["spec"]["holderIdentity"] = "b"
    assert cluster.replace(lease)["spec"]["holderIdentity"] == "b"
    with pytest.raises(ApiError) as e:
        cluster.replace(lease)
    assert (e.value.code, e.value.reason) == (409, "Conflict")


def test_crd_default_rule_and_status(cluster, namespace):
    cluster.apply(WIDGETS)
    made, = cluster.apply(widget(), namespace)
    assert made["spec"] == {"size": 3}
    with pytest.raises(ApiError, match="too big"):
        cluster.apply(widget(10), namespace)
    patched = cluster.patch_status(widget(), {"ok": True}, namespace)
    assert (patched["status"], patched["metadata"]["generation"]) == ({"ok": True}, 1)


def test_token_has_just_its_rules(cluster, namespace):
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    limited = cluster.token_kubeconfig(namespace, rules=rules)
    cluster.kubectl("get", "configmaps", kubeconfig=limited)
    with pytest.raises(KubectlError, match="Forbidden"):
        cluster.kubectl("get", "secrets", kubeconfig=limited)


def test_files_of_a_pod(cluster, namespace):
    cluster.service_account(namespace, "pod", rules=[])
    folder = cluster.service_account_files(namespace, "pod")
    with open(os.path.join(folder, "token"), encoding="ascii") as f:
        headers = {"Authorization": "Bearer " + f.read()}
    answer = requests.get(cluster.url + "/api", headers=headers, timeout=10,
                          verify=os.path.join(folder, "ca.crt"))
    assert answer.status_code == 200


def test_paused_apiserver_does_not_answer(cluster):
    cluster.pause_apiserver()
    try:
        with pytest.raises(requests.Timeout):
            requests.get(cluster.url + "/readyz", timeout=0.3, verify=cluster.pki.file("ca.crt"))
    finally:
        cluster.resume_apiserver()
    assert cluster.request("GET", "/readyz").text == "ok"


def test_forgotten_history_is_410(cluster, namespace):
    for n in range(3):
        cluster.create({**CONFIG_MAP, "metadata": {"name": f"c{n}"}}, namespace)
    page = cluster.get(config_maps(namespace), limit=1)["metadata"]
    cluster.forget_history()
    assert names(cluster, config_maps(namespace)) == ["c0", "c1", "c2"]
    error = next_of(cluster.watch(config_maps(namespace), resourceVersion=page["resourceVersion"]),
                    "ERROR")
    assert (error["code"], error["reason"]) == (410, "Expired")
    with pytest.raises(ApiError) as e:
        cluster.get(config_maps(namespace), limit=1, **{"continue": page["continue"]})
    assert e.value.code == 410


CHILD = """
import sys, time
from cluster_process import Process
p = Process("sleep", ["sleep", "1000"], sys.argv[1])
p.start()
print(p.pid, flush=True)
time.sleep(1000)
"""


def test_nothing_outlives_a_killed_run(tmp_path):
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "log")], text=True,
                          cwd=HERE, stdout=subprocess.PIPE) as run:
        child = int(run.stdout.readline())
        comm = pathlib.Path(f"/proc/{child}/comm")      # the wish to die is made before the exec
        wait_for(lambda: comm.read_text().strip() != "setpriv", what="the child's own program")
        run.send_signal(signal.SIGKILL)
    wait_for(lambda: not is_alive(child), what=f"end of {child}")


def is_alive(pid):
    """A zombie that nobody has reaped yet is dead enough."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
