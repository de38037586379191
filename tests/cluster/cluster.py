#!/usr/bin/python3
"""A real Kubernetes API for tests: etcd and kube-apiserver as plain processes.

    cluster = Cluster().start()
    ns = cluster.namespace()
    cluster.apply(open("ingress.yaml").read(), ns)
    cluster.kubectl("get", "services", "-n", ns)
    cluster.stop()

There is an API and nothing behind it: no controller-manager, no scheduler, no nodes. What they
would do, tests do themselves: EndpointSlices are applied like anything else, no namespace has a
`default` ServiceAccount, nothing is garbage collected, and a deleted namespace stays Terminating
for ever. So a test takes a fresh namespace() and leaves it behind.

Objects go through HTTP: a request takes 5 ms, a call of kubectl 100 to 200. kubectl() is there for
what is about kubectl.

Run as a program (`./cluster.py`) it starts a cluster and keeps it until Ctrl-C.
"""
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile

import requests
import yaml

from cluster_pki import CLIENT, LOCAL, SERVER, Pki
from cluster_process import Process, free_ports, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("BUILD") or os.path.join(HERE, "..", "..", "build"))
BIN = os.path.join(BUILD, "cluster")

APISERVER_NAMES = LOCAL + ",IP:10.96.0.1,DNS:kubernetes,DNS:kubernetes.default.svc"
READY_TIMEOUT_S = 60        # it takes 4; a machine that builds beside us may need much longer


class ApiError(Exception):
    """An answer of 400 and above: what the API's Status object says."""

    def __init__(self, code, status):
        super().__init__(f"{code} {status.get('reason', '')}: {status.get('message', '')}")
        self.code = code
        self.reason = status.get("reason")
        self.message = status.get("message", "")


class KubectlError(Exception):
    """kubectl's exit status was not zero; the text is its stderr."""


def objects_of(manifests):
    """YAML text (any number of documents, Lists too), one object or several: a list of objects."""
    if isinstance(manifests, str):
        manifests = [d for d in yaml.safe_load_all(manifests) if d]
    elif isinstance(manifests, dict):
        manifests = [manifests]
    flat = []
    for obj in manifests:
        flat += obj["items"] if obj.get("kind") == "List" else [obj]
    return flat


class Cluster:
    """One etcd and one kube-apiserver on free ports, with everything they write in one folder."""

    def __init__(self, directory=None, apiserver_args=()):
        """directory: kept after stop(); without one, a temporary one that stop() removes.

        apiserver_args are added to every start of the apiserver: with `--min-request-timeout=5`
        a watch without timeoutSeconds ends after 5 to 10 s instead of 30 to 60 minutes.
        """
        self._is_temporary = directory is None
        self.dir = str(directory or tempfile.mkdtemp(prefix="cluster-"))
        self.apiserver_args = list(apiserver_args)
        etcd_port, peer_port, self.port = free_ports(3)
        self.url = f"https://127.0.0.1:{self.port}"
        self.etcd_url = f"http://127.0.0.1:{etcd_port}"
        self._peer_url = f"http://127.0.0.1:{peer_port}"
        self._kinds = {}
        self._http = None

    # Life

    def start(self):
        """Back when the API is ready to be used; returns self."""
        os.makedirs(os.path.join(self.dir, "etcd"), mode=0o700, exist_ok=True)
        self._make_pki()
        self.kubeconfig = self._write_kubeconfig("admin", {
            "client-certificate-data": _base64_of(self.pki.file("admin.crt")),
            "client-key-data": _base64_of(self.pki.file("admin.key"))})
        self.etcd = Process("etcd", self._etcd_argv(), self._file("etcd.log"))
        self.apiserver = Process("kube-apiserver", self._apiserver_argv(),
                                 self._file("apiserver.log"))
        try:
            self.etcd.start()           # the apiserver waits for etcd, so nobody else needs to
            self.start_apiserver()
        except BaseException:
            self._kill_all()            # the folder stays: its logs say why
            raise
        return self

    def stop(self):
        """SIGKILL: a polite end takes 30 s while a watch is open, and there is nothing to save."""
        self._kill_all()
        if self._is_temporary:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # Faults

    def start_apiserver(self, *extra_args):
        """Starts it (after kill_apiserver()) and waits until it is ready; 4 s.

        extra_args hold for this run only. With `--watch-cache=false` a compact() is enough to give
        410 to new watches, without a restart.
        """
        self._http = self._new_session()        # the old one holds dead connections
        self.apiserver.start([*self.apiserver_args, *extra_args])
        self.apiserver.wait_until(self._is_ready, READY_TIMEOUT_S, "readiness")

    def kill_apiserver(self):
        """SIGKILL: open watches break, new connections are refused, state stays in etcd."""
        self.apiserver.kill()

    def restart_apiserver(self, *extra_args):
        self.kill_apiserver()
        self.start_apiserver(*extra_args)

    def pause_apiserver(self):
        """Freezes it: connections are accepted by the kernel and never answered."""
        self.apiserver.pause()

    def resume_apiserver(self):
        self.apiserver.resume()

    def forget_history(self, *extra_args):
        """Restarts the apiserver so that every resourceVersion seen so far is too old.

        A watch from one gets 410 Expired (as an ERROR event) and a `continue` token gets 410. The
        apiserver answers watches from its memory, so compacting etcd under it is not enough; and
        a version is only too old if something was written after it, hence the write.
        """
        self.kill_apiserver()
        self._etcd("kv/put", key=_base64(b"/bump"), value="")
        self.compact()
        self.start_apiserver(*extra_args)

    def compact(self):
        """Drops from etcd all versions but the newest; watches are answered from memory, though."""
        revision = self._etcd("maintenance/status")["header"]["revision"]
        self._etcd("kv/compaction", revision=revision, physical=True)

    # Objects by HTTP, as cluster-admin

    def request(self, method, path, body=None, content_type="application/json", **query):
        """The raw requests.Response, whatever its status."""
        data = None if body is None else json.dumps(body)
        return self._http.request(method, self.url + path, params=query, data=data,
                                  headers={"Content-Type": content_type}, timeout=30)

    def call(self, method, path, body=None, **query):
        """request() whose answer is parsed; ApiError from 400 on."""
        answer = self.request(method, path, body, **query)
        if answer.status_code >= 400:
            raise ApiError(answer.status_code, _status_of(answer))
        return answer.json()

    def get(self, path, **query):
        """GET: get("/api/v1/nodes"), get(cluster.path_of(obj))."""
        return self.call("GET", path, **query)

    def apply(self, manifests, namespace="default"):
        """Server-side apply; returns the objects as stored.

        Takes YAML text, an object or a list of them. Unknown fields are refused, as kubectl does.
        Comes back from a CustomResourceDefinition when its kind is served.
        """
        return [self._apply_one(obj, namespace) for obj in objects_of(manifests)]

    def create(self, obj, namespace="default"):
        """POST; ApiError 409 if it exists."""
        return self.call("POST", self._collection_of(obj, namespace), obj)

    def replace(self, obj):
        """PUT; with metadata.resourceVersion in it, ApiError 409 if somebody was faster."""
        return self.call("PUT", self.path_of(obj), obj)

    def patch(self, obj, change, namespace="default", subresource=""):
        """JSON merge patch of what `obj` names."""
        return self.call("PATCH", self.path_of(obj, namespace) + subresource, change,
                         content_type="application/merge-patch+json")

    def patch_status(self, obj, status, namespace="default"):
        return self.patch(obj, {"status": status}, namespace, "/status")

    def delete(self, manifests, namespace="default"):
        """Deletes what the manifests name, the last first; what is not there is no error."""
        for obj in reversed(objects_of(manifests)):
            try:
                self.call("DELETE", self.path_of(obj, namespace))
            except ApiError as e:
                if e.code != 404:
                    raise

    def fetch(self, obj, namespace="default"):
        """The stored form of what `obj` (apiVersion, kind, metadata.name) names."""
        return self.get(self.path_of(obj, namespace))

    def namespace(self, prefix="test", labels=None):
        """Makes a fresh namespace and returns its name."""
        made = self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "generateName": prefix + "-", "labels": labels or {}}})
        return made["metadata"]["name"]

    def watch(self, path, seconds=30, **query):
        """Opens a watch at once and returns an iterator over its events.

        The server ends the stream after `seconds`. Bookmarks come when 2 s are left and once a
        minute, but only if some object of this kind, in any namespace, has changed meanwhile.
        """
        query.setdefault("allowWatchBookmarks", "true")
        query.update(watch="true", timeoutSeconds=seconds)
        answer = self._http.get(self.url + path, params=query, stream=True,
                                timeout=(5, seconds + 5))
        if answer.status_code >= 400:
            raise ApiError(answer.status_code, _status_of(answer))
        return map(json.loads, answer.iter_lines(chunk_size=65536))

    def path_of(self, obj, namespace="default"):
        """Where an object lives: /apis/networking.k8s.io/v1/namespaces/demo/ingresses/web."""
        return self._collection_of(obj, namespace) + "/" + obj["metadata"]["name"]

    # Other doors

    def kubectl(self, *args, input=None, kubeconfig=None):
        """Runs kubectl as cluster-admin (or with another kubeconfig) and returns its stdout."""
        env = {**os.environ, "KUBECONFIG": kubeconfig or self.kubeconfig,
               "KUBECACHEDIR": self._file("kubectl-cache")}
        done = subprocess.run([os.path.join(BIN, "kubectl"), *args], input=input, env=env,
                              capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise KubectlError(done.stderr.strip())
        return done.stdout

    def token(self, namespace, account, seconds=3600):
        """A token of a ServiceAccount; the API gives none for less than 600 seconds."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                   "spec": {"expirationSeconds": seconds}}
        return self.call("POST", path, request)["status"]["token"]

    def service_account(self, namespace, account, rules):
        """A ServiceAccount that may do what `rules` (of a ClusterRole) say, in all namespaces."""
        name = f"{namespace}:{account}"
        rbac = "rbac.authorization.k8s.io"
        self.apply([
            {"apiVersion": "v1", "kind": "ServiceAccount",
             "metadata": {"name": account, "namespace": namespace}},
            {"apiVersion": rbac + "/v1", "kind": "ClusterRole",
             "metadata": {"name": name}, "rules": rules},
            {"apiVersion": rbac + "/v1", "kind": "ClusterRoleBinding",
             "metadata": {"name": name},
             "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
             "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]}])

    def token_kubeconfig(self, namespace, account="silverback", rules=(), seconds=3600):
        """The path of a kubeconfig for a new service_account() with just these rules."""
        self.service_account(namespace, account, list(rules))
        token = self.token(namespace, account, seconds)
        return self._write_kubeconfig(f"{namespace}-{account}", {"token": token}, namespace)

    def service_account_files(self, namespace, account):
        """A folder as mounted into a Pod (token, ca.crt, namespace), for an existing account."""
        folder = self._file(f"serviceaccount-{namespace}-{account}")
        os.makedirs(folder, exist_ok=True)
        shutil.copy(self.pki.file("ca.crt"), folder)
        for name, text in (("token", self.token(namespace, account)), ("namespace", namespace)):
            with open(os.path.join(folder, name), "w", encoding="ascii") as f:
                f.write(text)
        return folder

    def server_certificate(self, name="webhook"):
        """(crt, key) for a server of the test's own on 127.0.0.1, signed by pki's ca.crt."""
        return self.pki.issue(name, f"/CN={name}", LOCAL, SERVER)

    # Inside

    def _file(self, name):
        return os.path.join(self.dir, name)

    def _make_pki(self):
        self.pki = Pki(self._file("pki"))
        self.pki.issue("apiserver", "/CN=kube-apiserver", APISERVER_NAMES, SERVER)
        self.pki.issue("admin", "/O=system:masters/CN=admin", CLIENT)
        self.pki.key_pair("sa")

    def _etcd_argv(self):
        return [
            os.path.join(BIN, "etcd"), "--name=e", "--data-dir=" + self._file("etcd"),
            "--listen-client-urls=" + self.etcd_url, "--advertise-client-urls=" + self.etcd_url,
            "--listen-peer-urls=" + self._peer_url,
            "--initial-advertise-peer-urls=" + self._peer_url,
            "--initial-cluster=e=" + self._peer_url,
            "--unsafe-no-fsync", "--quota-backend-bytes=2147483648", "--log-level=warn"]

    def _apiserver_argv(self):
        file = self.pki.file
        return [
            os.path.join(BIN, "kube-apiserver"), "--etcd-servers=" + self.etcd_url,
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}", "--service-cluster-ip-range=10.96.0.0/16",
            "--cert-dir=" + self.pki.dir, "--client-ca-file=" + file("ca.crt"),
            "--tls-cert-file=" + file("apiserver.crt"),
            "--tls-private-key-file=" + file("apiserver.key"),
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=" + file("sa.pub"),
            "--service-account-signing-key-file=" + file("sa.key"),
            "--authorization-mode=RBAC", "--allow-privileged=true",
            "--endpoint-reconciler-type=none",      # else a loopback address is refused
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            "--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000", "--v=1"]

    def _new_session(self):
        http = requests.Session()
        http.trust_env = False          # a proxy of the environment is not for 127.0.0.1
        http.verify = self.pki.file("ca.crt")
        http.cert = (self.pki.file("admin.crt"), self.pki.file("admin.key"))
        return http

    def _is_ready(self):
        """The namespace `default` is made a moment after /readyz turns to ok."""
        try:
            return (self.request("GET", "/readyz").ok and
                    self.request("GET", "/api/v1/namespaces/default").ok)
        except requests.RequestException:
            return False

    def _kill_all(self):
        self.apiserver.kill()
        self.etcd.kill()

    def _etcd(self, verb, **body):
        answer = requests.post(f"{self.etcd_url}/v3/{verb}", json=body, timeout=30,
                               proxies={"http": None})
        answer.raise_for_status()
        return answer.json()

    def _write_kubeconfig(self, name, user, namespace="default"):
        path = self._file(name + ".kubeconfig")
        server = {"server": self.url,
                  "certificate-authority-data": _base64_of(self.pki.file("ca.crt"))}
        context = {"cluster": "test", "user": name, "namespace": namespace}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "test",
                  "clusters": [{"name": "test", "cluster": server}],
                  "users": [{"name": name, "user": user}],
                  "contexts": [{"name": "test", "context": context}]}
        with open(path, "w", encoding="ascii", opener=_private) as f:
            yaml.safe_dump(config, f)
        return path

    def _apply_one(self, obj, namespace):
        stored = self.call("PATCH", self.path_of(obj, namespace), obj,
                           content_type="application/apply-patch+yaml", fieldManager="test",
                           force="true", fieldValidation="Strict")
        if obj["kind"] == "CustomResourceDefinition":
            name = obj["metadata"]["name"]
            wait_for(lambda: self._is_served(obj["spec"]), 20, f"service of the CRD {name}")
        return stored

    def _is_served(self, crd):
        """Established comes a moment before discovery and the handlers know: ask those."""
        roots = [f"/apis/{crd['group']}/{v['name']}" for v in crd["versions"] if v["served"]]
        plural = crd["names"]["plural"]
        return (all(self.request("GET", f"{root}/{plural}").ok for root in roots) and
                all(crd["names"]["kind"] in self._discover(root) for root in roots))

    def _collection_of(self, obj, namespace):
        api = obj["apiVersion"]
        root = "/api/v1" if api == "v1" else "/apis/" + api
        plural, is_namespaced = self._kind(root, obj["kind"])
        if not is_namespaced:
            return f"{root}/{plural}"
        namespace = obj.get("metadata", {}).get("namespace", namespace)
        return f"{root}/namespaces/{namespace}/{plural}"

    def _kind(self, root, kind):
        """(plural, is namespaced); what is not known is asked for again, as a CRD may have come."""
        if kind not in self._kinds.get(root, ()):
            self._kinds[root] = self._discover(root)
        if kind not in self._kinds[root]:
            raise LookupError(f"the API serves no {kind} in {root}")
        return self._kinds[root][kind]

    def _discover(self, root):
        answer = self.request("GET", root)
        resources = answer.json()["resources"] if answer.ok else []
        return {r["kind"]: (r["name"], r["namespaced"]) for r in resources if "/" not in r["name"]}


def _status_of(answer):
    try:
        status = answer.json()
    except ValueError:
        status = {}
    return status if isinstance(status, dict) else {"message": answer.text}


def _base64(data):
    return base64.b64encode(data).decode("ascii")


def _base64_of(path):
    with open(path, "rb") as f:
        return _base64(f.read())


def _private(path, flags):
    return os.open(path, flags, 0o600)


def main():
    subprocess.run([os.path.join(HERE, "build.sh")], check=True)
    with Cluster() as cluster:
        print(f"export KUBECONFIG={cluster.kubeconfig} PATH={BIN}:$PATH", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            signal.pause()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
