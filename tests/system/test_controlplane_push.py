"""The control plane without a database: documents posted to gateways, which are played here."""

import http.server
import json
import threading

import pytest

from controlplane import Controlplane, Manifests, app
from postgres import wait_until
from programs import clean_env

EMPTY = "0" * 32


class Gateway(http.server.ThreadingHTTPServer):
    """Takes /config as an Admin API does; refuses routes whose protocols it does not know."""

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.taken, self.headers, self.broken = [], {}, False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def routes(self):
        services = self.taken[-1].get("services", []) if self.taken else []
        return sorted(r["name"] for s in services for r in s.get("routes", []))

    def close(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.answer(200, {"configuration_hash": "ab" * 16 if self.server.taken else EMPTY})

    def do_POST(self):
        doc = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers = dict(self.headers)
        if self.server.broken:
            self.answer(500, {"message": "An unexpected error occurred"})
            return
        errors = [{"entity_type": "route", "entity_name": r["name"], "entity_tags": r["tags"],
                   "errors": [{"type": "field", "field": "protocols.1", "message": "unknown protocol"}]}
                  for s in doc.get("services", []) for r in s.get("routes", [])
                  if "ftp" in r.get("protocols", [])]
        if errors:
            self.answer(400, {"code": 14, "flattened_errors": errors})
        else:
            self.server.taken.append(doc)
            self.answer(201, {})

    def log_message(self, *args):
        pass


class NoDatabase:
    @staticmethod
    def env(**more):
        return clean_env(KONG_DATABASE="off", **more)


@pytest.fixture
def gateways():
    pair = [Gateway(), Gateway()]
    yield pair
    for g in pair:
        g.close()


@pytest.fixture
def manifests(tmp_path):
    return Manifests(tmp_path / "manifests")


@pytest.fixture
def controller(tmp_path, manifests, gateways):
    manifests.write("web", app("web"))
    with Controlplane(NoDatabase, tmp_path / "log", "--manifests", str(manifests.path),
                      "--kong-admin-url", ",".join(g.url for g in gateways),
                      "--kong-admin-token=secret") as c:
        wait_until(lambda: all(g.taken for g in gateways), what="first documents")
        yield c


def route(name):
    return f"default.{name}.{name}.{name}.test.80"


def wait_routes(gateway, *expected):
    wait_until(lambda: gateway.routes() == sorted(expected), what=f"routes {expected}")


def test_every_gateway_gets_the_document(controller, gateways, manifests):
    for g in gateways:
        assert g.routes() == [route("web")]
        assert "_info" not in g.taken[-1]
        assert g.headers["Kong-Admin-Token"] == "secret"
    manifests.write("api", app("api"))
    for g in gateways:
        wait_routes(g, route("api"), route("web"))


def test_what_a_gateway_refuses_is_left_out(controller, gateways, manifests):
    manifests.write("bad", app("bad", protocols="ftp"))
    manifests.write("api", app("api"))
    wait_routes(gateways[0], route("api"), route("web"))
    controller.wait_log("Ingress/default/bad: invalid protocols.1: unknown protocol")
    manifests.write("bad", app("bad"))
    wait_routes(gateways[0], route("api"), route("bad"), route("web"))


def test_a_gateway_that_came_up_empty_is_filled(controller, gateways):
    port = gateways[1].server_port
    gateways[1].close()
    gateways[1] = Gateway(port)
    wait_routes(gateways[1], route("web"))
    assert len(gateways[0].taken) == 1


def test_a_gateway_in_trouble_keeps_nobody_waiting(controller, gateways, manifests):
    gateways[0].broken = True
    manifests.write("api", app("api"))
    wait_routes(gateways[1], route("api"), route("web"))
    controller.wait_log("An unexpected error occurred")
    gateways[0].broken = False
    wait_routes(gateways[0], route("api"), route("web"))
