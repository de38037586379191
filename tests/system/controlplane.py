"""silverback-controlplane as tests see it: a process on a database, fed from a directory of manifests."""

import signal
import subprocess

import requests
import yaml

from postgres import free_port, wait_until
from programs import program


def service(name, port=80, **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"name": "http", "port": port}], **spec}}


def slices(name, *addresses, port=8080):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "namespace": "default",
                         "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in addresses]}


def ingress(name, host, backend, path="/", **annotations):
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "namespace": "default",
                         "annotations": {f"konghq.com/{k.replace('_', '-')}": v
                                         for k, v in annotations.items()}},
            "spec": {"ingressClassName": "kong", "rules": [{"host": host, "http": {"paths": [
                {"path": path, "pathType": "Prefix",
                 "backend": {"service": {"name": backend, "port": {"number": 80}}}}]}}]}}


def app(name, *addresses, host=None, **annotations):
    """An Ingress, a Service and an EndpointSlice of one name."""
    return [ingress(name, host or f"{name}.test", name, **annotations), service(name),
            slices(name, *(addresses or ("10.0.0.1",)))]


class Manifests:
    """A directory of manifests, a file for each name."""

    def __init__(self, path):
        self.path = path
        path.mkdir()

    def write(self, name, objects):
        """Objects, or text as it is; over the old file by rename, as careful writers do."""
        text = objects if isinstance(objects, str) else yaml.safe_dump_all(objects)
        fresh = self.path / f".{name}.new"
        fresh.write_text(text)
        fresh.rename(self.path / f"{name}.yaml")

    def remove(self, name):
        (self.path / f"{name}.yaml").unlink()


class Controlplane:
    """One process; `log` is what it said."""

    def __init__(self, db, log_path, *flags, **env):
        self.log_path = log_path
        self.health, self.metrics_port = free_port(), free_port()
        self.argv = [program("silverback-controlplane"), *flags, "--log-level=debug",
                     f"--health-probe-bind-address=127.0.0.1:{self.health}",
                     f"--metrics-bind-address=127.0.0.1:{self.metrics_port}"]
        self.env = db.env(**env)
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.kill()

    def start(self):
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(self.argv, env=self.env, stdout=log, stderr=log)

    def kill(self, sig=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(sig)
            self.process.wait(timeout=10)

    def signal(self, sig):
        self.process.send_signal(sig)

    @property
    def log(self):
        return self.log_path.read_text()

    def wait_log(self, text, timeout=30):
        wait_until(lambda: text in self.log, timeout, f"log line with {text!r}")

    def metric(self, name):
        """A metric's value; 0 as long as the port does not answer."""
        try:
            text = requests.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5).text
        except requests.ConnectionError:
            return 0
        for line in text.splitlines():
            if line.startswith(name) and not line.startswith("#"):
                return float(line.rsplit(" ", 1)[1])
        return 0

    def leading(self):
        return self.metric("silverback_controlplane_leading") == 1

    def ready(self):
        try:
            return requests.get(f"http://127.0.0.1:{self.health}/readyz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False
