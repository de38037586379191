"""Health checks with real origins: passive ones heard by all workers, active ones of each type, what
people say through the Admin API, and what changes of the configuration do to it."""

import contextlib
import http.server
import socket
import ssl
import struct
import subprocess
import threading

import pytest

from gateway import Gateway
from postgres import free_port, wait_until

FAST = {"interval": 0.05, "successes": 1}
ACTIVE = {"type": "http", "http_path": "/probe", "timeout": 2, "healthy": FAST,
          "unhealthy": {"interval": 0.05, "http_failures": 1, "tcp_failures": 1, "timeouts": 1}}


class Origin:
    """Answers .status to everything with its port as the body; probes are counted apart."""

    def __init__(self, tls=None, port=0, host="127.0.0.1"):
        self.status, self.probe_status = 200, 200
        self.requests, self.probes = 0, []
        self.silent = threading.Event()     # set: probes get no answer
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path == "/probe":
                    origin.probes.append(dict(self.headers))
                    if origin.silent.is_set():
                        self.close_connection = True
                        origin.wait_for_end(self.connection)
                        return
                else:
                    origin.requests += 1
                body = str(origin.port).encode()
                self.send_response(origin.probe_status if self.path == "/probe" else origin.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.waiting, self.most_waiting = 0, 0

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                s, peer = super().get_request()
                return (tls.wrap_socket(s, server_side=True, do_handshake_on_connect=False)
                        if tls else s), peer

            def handle_error(self, *args):
                pass

        self.server = Server((host, port), Handler)
        self.port = self.server.server_address[1]

    def wait_for_end(self, connection):
        """Says nothing until the other side leaves."""
        self.waiting += 1
        self.most_waiting = max(self.waiting, self.most_waiting)
        with contextlib.suppress(OSError):
            connection.recv(1)
        self.waiting -= 1

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True,
                         kwargs={"poll_interval": 0.02}).start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()


def config(*ports, active=None, passive=None, host="127.0.0.1", retries=0, **upstream):
    checks = {k: v for k, v in (("active", active), ("passive", passive)) if v}
    return {"services": [{"name": "s", "host": "u.up", "retries": retries,
                          "routes": [{"name": "r", "paths": ["/"]}]}],
            "upstreams": [{"name": "u.up", "healthchecks": checks,
                           "targets": [{"target": f"{host}:{p}"} for p in ports], **upstream}]}


def health(gateway, upstream="u.up"):
    """{port: health} of an upstream's targets."""
    answer = gateway.admin("GET", f"/upstreams/{upstream}/health")
    assert answer.status_code == 200, answer.text
    rows = answer.json()["data"]
    return {int(row["target"].rsplit(":", 1)[1]): row["health"] for row in rows}


def wait_health(gateway, **want):
    want = {int(port[1:]): state for port, state in want.items()}
    wait_until(lambda: health(gateway) == want, 15, f"health {want}")


def states(*pairs):
    return {f"p{port}": state for port, state in pairs}


# -- passive -----------------------------------------------------------------------------------------

def test_passive_failures_count_on_all_workers():
    """Three failures take a target out for both workers, whichever of them saw which."""
    passive = {"type": "http", "unhealthy": {"http_failures": 3, "http_statuses": [500]}}
    with Origin() as bad, Origin() as good, \
            Gateway(config=config(bad.port, good.port, passive=passive)) as gateway:
        bad.status = 500

        def ask():     # a connection each, so that both workers are asked
            gateway.session.close()
            return gateway.proxy("/").status_code

        wait_until(lambda: (ask(), health(gateway)[bad.port] == "UNHEALTHY")[1], 15, "unhealthy")
        assert bad.requests == 3
        assert {ask() for _ in range(20)} == {200}
        assert bad.requests == 3
        line = f"target 127.0.0.1:{bad.port} at 127.0.0.1:{bad.port} is unhealthy"
        assert gateway.log().count(line) == 1


def test_passive_tcp_failures_and_the_next_target():
    """A refused connection is tried elsewhere, and counted."""
    dead = free_port()
    passive = {"type": "http", "unhealthy": {"tcp_failures": 1}}
    with Origin() as good, \
            Gateway(config=config(dead, good.port, passive=passive, retries=1)) as gateway:
        wait_until(lambda: (gateway.proxy("/").status_code == 200 and
                            health(gateway)[dead] == "UNHEALTHY"), 15, "unhealthy")


def test_the_circuit_opens_below_the_threshold():
    passive = {"type": "http", "unhealthy": {"http_failures": 1, "http_statuses": [500]}}
    document = config(1, 2, passive=passive)
    with Origin() as a, Origin() as b:
        document = config(a.port, b.port, passive=passive)
        document["upstreams"][0]["healthchecks"]["threshold"] = 51
        with Gateway(config=document) as gateway:
            assert gateway.proxy("/").status_code == 200
            gateway.admin("PUT", f"/upstreams/u.up/targets/127.0.0.1:{a.port}/unhealthy")
            answer = gateway.proxy("/")
            assert answer.status_code == 503
            assert answer.json()["message"] == "failure to get a peer from the ring-balancer"
            whole = gateway.admin("GET", "/upstreams/u.up/health?balancer_health=1").json()["data"]
            assert whole["balancer_health"] == "UNHEALTHY"
            assert whole["details"]["weight"] == {"total": 200, "available": 100,
                                                  "unavailable": 100}
            gateway.admin("PUT", f"/upstreams/u.up/targets/127.0.0.1:{a.port}/healthy")
            assert gateway.proxy("/").status_code == 200


# -- what people say -----------------------------------------------------------------------------------

def test_words_need_health_checks():
    with Origin() as a, Gateway(config=config(a.port)) as gateway:
        answer = gateway.admin("PUT", f"/upstreams/u.up/targets/127.0.0.1:{a.port}/unhealthy")
        assert (answer.status_code, answer.json()["message"]) == \
            (400, "no healthchecker found for u.up")
        assert gateway.admin("POST", f"/upstreams/u.up/targets/127.0.0.1:{a.port}/healthy") \
            .status_code == 405


def test_words_reach_a_target_just_made(migrated):
    """With a database: no waiting for what was written a moment ago."""
    with Origin() as a, Gateway(env=migrated.env()) as gateway:
        passive = {"type": "http", "unhealthy": {"http_failures": 1}}
        gateway.admin("POST", "/upstreams", json={"name": "u.up",
                                                  "healthchecks": {"passive": passive}})
        made = gateway.admin("POST", "/upstreams/u.up/targets",
                             json={"target": f"127.0.0.1:{a.port}"}).json()
        put = gateway.admin("PUT", f"/upstreams/u.up/targets/{made['id']}/unhealthy")
        assert put.status_code == 204, put.text
        assert health(gateway) == {a.port: "UNHEALTHY"}


def test_words_reach_the_other_nodes(migrated):
    with Origin() as a, Gateway(env=migrated.env()) as one, Gateway(env=migrated.env()) as two:
        document = config(a.port, passive={"type": "http", "unhealthy": {"http_failures": 1}})
        one.admin("POST", "/upstreams", json={k: v for k, v in document["upstreams"][0].items()
                                              if k != "targets"})
        one.admin("POST", "/upstreams/u.up/targets", json=document["upstreams"][0]["targets"][0])
        wait_health(two, **states((a.port, "HEALTHY")))
        for word in "unhealthy", "healthy":
            one.admin("PUT", f"/upstreams/u.up/targets/127.0.0.1:{a.port}/{word}")
            assert health(one) == {a.port: word.upper()}
            wait_health(two, **states((a.port, word.upper())))


# -- changes -----------------------------------------------------------------------------------------

def test_states_outlive_changes_but_not_their_target():
    """A change beside it keeps a state; a target that went and came back is new; an upstream that
    went and came back is the one it was."""
    passive = {"type": "http", "unhealthy": {"http_failures": 1}}
    with Origin() as a, Origin() as b, Origin() as c, \
            Gateway(config=config(a.port, b.port, passive=passive)) as gateway:
        gateway.admin("PUT", f"/upstreams/u.up/targets/127.0.0.1:{a.port}/unhealthy")
        gateway.post_config(**config(a.port, b.port, c.port, passive=passive))
        wait_health(gateway, **states((a.port, "UNHEALTHY"), (b.port, "HEALTHY"),
                                      (c.port, "HEALTHY")))
        gateway.wait_for("localhost")
        assert {gateway.proxy("/").text for _ in range(8)} == {str(b.port), str(c.port)}

        gateway.post_config(services=[], upstreams=[])
        gateway.post_config(**config(a.port, b.port, passive=passive))
        wait_health(gateway, **states((a.port, "UNHEALTHY"), (b.port, "HEALTHY")))

        gateway.post_config(**config(b.port, passive=passive))
        gateway.post_config(**config(a.port, b.port, passive=passive))
        wait_health(gateway, **states((a.port, "HEALTHY"), (b.port, "HEALTHY")))
        wait_until(lambda: gateway.proxy("/").text == str(a.port), what="the new target's turn")


# -- active ------------------------------------------------------------------------------------------

def test_active_http():
    """Out by a bad status, in again by a good one, without any traffic; the probe is as asked for."""
    active = {**ACTIVE, "headers": {"x-probe": ["yes"]}}
    with Origin() as a, Origin() as b, \
            Gateway(config=config(a.port, b.port, active=active, host_header="h.test")) as gateway:
        wait_until(lambda: len(a.probes) >= 2, what="probes")
        assert a.probes[0]["Host"] == "h.test" and a.probes[0]["x-probe"] == "yes"
        a.probe_status = 503
        wait_health(gateway, **states((a.port, "UNHEALTHY"), (b.port, "HEALTHY")))
        assert {gateway.proxy("/").text for _ in range(6)} == {str(b.port)}
        a.probe_status = 200
        wait_health(gateway, **states((a.port, "HEALTHY"), (b.port, "HEALTHY")))
        wait_until(lambda: gateway.proxy("/").text == str(a.port), what="traffic again")
        said = gateway.log()
        assert "is unhealthy: too many HTTP failures" in said and "is healthy: enough succ" in said


def test_active_probes_go_on_while_targets_come_and_go():
    """Intervals are not begun anew by changes of the configuration."""
    active = {**ACTIVE, "healthy": {"interval": 0.5, "successes": 1}}
    with Origin() as a, Gateway(config=config(a.port, active=active)) as gateway:
        def change():
            change.n += 1
            gateway.post_config(**config(a.port, *range(9000, 9000 + change.n % 3), active=active))
            return len(a.probes) >= 2
        change.n = 0
        wait_until(change, 20, "probes between changes")


@pytest.mark.parametrize("trouble", ["refused", "silent"])
def test_active_trouble(trouble):
    """Nobody listens there, or nobody answers; and a target that comes up is found."""
    active = {**ACTIVE, "timeout": 0.2}
    port = free_port()
    with Origin() as good, Gateway(config=config(port, good.port, active=active)) as gateway:
        if trouble == "refused":
            wait_health(gateway, **states((port, "UNHEALTHY"), (good.port, "HEALTHY")))
            with Origin(port=port):
                wait_health(gateway, **states((port, "HEALTHY"), (good.port, "HEALTHY")))
            return
        good.silent.set()
        wait_health(gateway, **states((port, "UNHEALTHY"), (good.port, "UNHEALTHY")))
        assert "too many timeouts" in gateway.log()


def test_active_tcp():
    port = free_port()
    active = {**ACTIVE, "type": "tcp"}
    with Origin() as good, Gateway(config=config(port, good.port, active=active)) as gateway:
        wait_health(gateway, **states((port, "UNHEALTHY"), (good.port, "HEALTHY")))
        with Origin(port=port):
            wait_health(gateway, **states((port, "HEALTHY"), (good.port, "HEALTHY")))
        assert not good.probes


def make_tls(folder, name, alpn=()):
    """A server's TLS context with a self-signed certificate, and the certificate's path."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context, cert


def test_active_https_and_whom_it_trusts(tmp_path):
    """The certificate is verified under https_sni's name, by lua_ssl_trusted_certificate, or not at
    all where https_verify_certificate says so."""
    tls, cert = make_tls(tmp_path, "secure.test")
    names = []
    tls.sni_callback = lambda s, name, c: names.append(name)

    def https(**more):
        return {**ACTIVE, "type": "https", **more}

    with Origin(tls=tls) as a, \
            Gateway(config=config(a.port, active=https(https_sni="secure.test")),
                    lua_ssl_trusted_certificate=str(cert)) as gateway:
        wait_until(lambda: len(a.probes) >= 2, what="probes")
        assert names[0] == "secure.test" and health(gateway) == {a.port: "HEALTHY"}
        gateway.post_config(**config(a.port, active=https(https_sni="other.test")))
        wait_health(gateway, **states((a.port, "UNHEALTHY")))
        gateway.post_config(**config(a.port, active=https(https_sni="other.test",
                                                          https_verify_certificate=False)))
        wait_health(gateway, **states((a.port, "HEALTHY")))


class GrpcHealth:
    """Just enough HTTP/2 to answer grpc.health.v1.Health/Check with .status (1: SERVING)."""

    def __init__(self, tls=None):
        self.status, self.tls = 1, tls
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        def frame(kind, flags, stream, payload):
            return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + \
                struct.pack("!I", stream) + payload

        def header(name, value):
            return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

        with contextlib.suppress(OSError), \
                (self.tls.wrap_socket(s, server_side=True) if self.tls else s) as conn:
            data = b""
            conn.sendall(frame(4, 0, 0, b""))
            while not self.asked(data):
                more = conn.recv(4096)
                if not more:
                    return
                data += more
            message = b"\x08" + bytes([self.status])
            conn.sendall(frame(1, 4, 1, b"\x88" + header(b"content-type", b"application/grpc")) +
                         frame(0, 0, 1, b"\0" + struct.pack("!I", len(message)) + message) +
                         frame(1, 5, 1, header(b"grpc-status", b"0")))
            conn.recv(4096)

    @staticmethod
    def asked(data):
        """Whether a DATA frame with END_STREAM is among the frames."""
        at = 24
        while at + 9 <= len(data):
            length = int.from_bytes(data[at:at + 3], "big")
            if data[at + 3] == 0 and data[at + 4] & 1 and at + 9 + length <= len(data):
                return True
            at += 9 + length
        return False

    def close(self):
        self.listener.close()


@pytest.mark.parametrize("kind", ["grpc", "grpcs"])
def test_active_grpc(kind, tmp_path):
    tls = make_tls(tmp_path, "grpc.test", ["h2"])[0] if kind == "grpcs" else None
    server = GrpcHealth(tls)
    active = {**ACTIVE, "type": kind, "https_verify_certificate": False}
    with Gateway(config=config(server.port, active=active)) as gateway:
        server.status = 2
        wait_health(gateway, **states((server.port, "UNHEALTHY")))
        server.status = 1
        wait_health(gateway, **states((server.port, "HEALTHY")))
    server.close()


def test_concurrency_and_many_targets():
    """Of 40 targets that don't answer no more than `concurrency` are asked at once."""
    active = {**ACTIVE, "timeout": 0.1, "concurrency": 4,
              "unhealthy": {"interval": 0, "timeouts": 1}}
    with Origin(host="0.0.0.0") as a:
        a.silent.set()
        document = config(active=active)
        document["upstreams"][0]["targets"] = [{"target": f"127.0.0.{n}:{a.port}"}
                                               for n in range(1, 41)]
        with Gateway(config=document) as gateway:
            def unhealthy():
                rows = gateway.admin("GET", "/upstreams/u.up/health").json()["data"]
                return {r["health"] for r in rows} == {"UNHEALTHY"}
            wait_until(unhealthy, 20, "unhealthy targets")
    assert len(a.probes) >= 40 and a.most_waiting < 20    # those that left are noticed late
