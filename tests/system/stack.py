"""The whole of it, without Kubernetes: a directory of manifests, the control plane, PostgreSQL, data
planes and origins. Objects with verbs, so that a test reads as a story.

    stack.write("shop", ingress("shop", "shop.example.test", service="shop"))
    stack.serves("shop.example.test")
"""

import contextlib
import pathlib
import subprocess

import yaml

from gateway import Gateway, Upstream
from postgres import free_port, wait_until
from programs import program


# -- manifests ------------------------------------------------------------------------------------

KONG_CLASS = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
              "metadata": {"name": "kong"},
              "spec": {"controller": "ingress-controllers.konghq.com/kong"}}


def meta(name, namespace="default", **more):
    return {"name": name, "namespace": namespace, **more}


def service(name, port=80, namespace="default", **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta(name, namespace),
            "spec": {"ports": [{"name": "http", "port": port, "protocol": "TCP"}], **spec}}


def endpoints(name, *addresses, namespace="default"):
    """One EndpointSlice per (address, port), as ports belong to a slice."""
    return [{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
             "metadata": meta(f"{name}-{i}", namespace, labels={"kubernetes.io/service-name": name}),
             "addressType": "IPv4", "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
             "endpoints": [{"addresses": [address], "conditions": {"ready": True}}]}
            for i, (address, port) in enumerate(addresses)]


def ingress(name, host, service, port=80, path="/", namespace="default", tls=None, annotations=None):
    backend = {"service": {"name": service, "port": {"number": port}}}
    spec = {"ingressClassName": "kong", "rules": [
        {"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}]}
    if tls:
        spec["tls"] = [{"hosts": [host], "secretName": tls}]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": meta(name, namespace, annotations=annotations or {}), "spec": spec}


def tls_secret(name, host, directory, namespace="default"):
    """A Secret with a new self-signed certificate for the host; and the certificate's PEM."""
    crt, key = directory / "tls.crt", directory / "tls.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={host}",
                    "-addext", f"subjectAltName=DNS:{host}", "-keyout", key, "-out", crt],
                   check=True, capture_output=True)
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
              "metadata": meta(name, namespace),
              "stringData": {"tls.crt": crt.read_text(), "tls.key": key.read_text()}}
    return secret, crt.read_text()


# -- the planes -----------------------------------------------------------------------------------

class ControlPlane:
    """silverback-controlplane on a directory of manifests."""

    def __init__(self, db, manifests, log):
        self.env, self.manifests, self.log = db.env(), manifests, pathlib.Path(log)
        self.process = None
        self.health = free_port()

    def start(self):
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program("silverback-controlplane"),
                 "--manifests", self.manifests, "--ingress-class", "kong",
                 "--health-probe-bind-address", f"127.0.0.1:{self.health}",
                 "--metrics-bind-address", "0"],
                stdout=out, stderr=out, env=self.env)
        return self

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)

    def says(self, text):
        return text in self.log.read_text(errors="replace")


class Stack:
    """A control plane, any number of data planes, origins, and the directory that drives them."""

    def __init__(self, db, directory):
        self.db, self.dir = db, pathlib.Path(directory)
        self.manifests = self.dir / "manifests"
        self.manifests.mkdir()
        self.write("class", KONG_CLASS)
        self.cleanup = contextlib.ExitStack()
        self.control = ControlPlane(db, self.manifests, self.dir / "controlplane.log")
        self.cleanup.callback(self.control.stop)
        self.gateways = []

    def close(self):
        self.cleanup.close()

    def origin(self, name):
        return self.cleanup.enter_context(Upstream(name))

    def gateway(self, **env):
        self.gateways.append(self.cleanup.enter_context(Gateway(env=self.db.env(**env))))
        return self.gateways[-1]

    def write(self, name, *objects):
        """Puts a file of manifests, in one step as `kubectl apply` would."""
        new = self.dir / f"{name}.new"
        new.write_text(yaml.safe_dump_all(objects))
        new.rename(self.manifests / f"{name}.yaml")

    def remove(self, name):
        (self.manifests / f"{name}.yaml").unlink()

    def app(self, name, host, *origins, **more):
        """A Service with its endpoints and an Ingress, in one file."""
        self.write(name, service(name), *endpoints(name, *(("127.0.0.1", o.port) for o in origins)),
                   ingress(name, host, name, **more))

    def get(self, host, path="/", gateway=None):
        return (gateway or self.gateways[0]).proxy(path, host)

    def until(self, host, status, path="/", gateway=None, timeout=15):
        """Waits until the gateway answers so; the answer."""
        (gateway or self.gateways[0]).wait_for(host, path, status, timeout)
        return self.get(host, path, gateway)
