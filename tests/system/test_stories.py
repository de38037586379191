"""What people do with it, as they do it (the journeys A2, A3, B1, B2, B4 and H without Kubernetes)."""

import http.client
import socket
import ssl
import threading

import pytest

from postgres import Postgres, wait_until
from stack import Stack, endpoints, ingress, service, tls_secret

HOST = "shop.example.test"


@pytest.fixture
def stack(migrated, tmp_path):
    made = Stack(migrated, tmp_path)
    made.control.start()
    yield made
    made.close()


def served_certificate(port, host):
    """The PEM of the certificate that the host gets."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw, \
            context.wrap_socket(raw, server_hostname=host) as tls:
        return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True))


def https_get(port, host, path):
    """Status and what the origin saw, over TLS with the host as server name."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw, \
            context.wrap_socket(raw, server_hostname=host) as tls:
        tls.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while chunk := tls.recv(65536):
            data += chunk
    head = data.partition(b"\r\n\r\n")[0].decode()
    seen = [line for line in head.split("\r\n") if line.startswith("X-Seen: ")]
    return int(head.split()[1]), seen[0].removeprefix("X-Seen: ")


class Load:
    """Requests without pause on several connections; counts the answers that were not 200."""

    def __init__(self, gateway, host, threads=4):
        self.port, self.host = gateway.http, host
        self.sent, self.failures, self.running = 0, [], True
        self.threads = [threading.Thread(target=self.loop) for _ in range(threads)]

    def loop(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while self.running:
            try:
                connection.request("GET", "/", headers={"Host": self.host})
                answer = connection.getresponse()
                answer.read()
                self.sent += 1
                if answer.status != 200:
                    self.failures.append(answer.status)
            except OSError as e:
                self.failures.append(repr(e))
                connection.close()

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.running = False
        for t in self.threads:
            t.join()


def test_a2_https_only_ingress_with_its_own_certificate(stack, tmp_path):
    """The protocols annotation, the Secret's certificate, an unstripped path, and a renewal."""
    gateway, origin = stack.gateway(), stack.origin("graphql")
    secret, pem = tls_secret("kong-ingress-tls", "graphql.local", tmp_path, "api-gateway")
    stack.write("secret", secret)
    stack.write("graphql", service("oauth2-proxy", 4180, "api-gateway"),
                *endpoints("oauth2-proxy", ("127.0.0.1", origin.port), namespace="api-gateway"),
                ingress("ingress-graphql", "graphql.local", "oauth2-proxy", 4180, "/graphql", "api-gateway",
                        "kong-ingress-tls", {"konghq.com/strip-path": "false",
                                             "konghq.com/protocols": "https"}))
    assert stack.until("graphql.local", 426, "/graphql").headers["Upgrade"]
    assert https_get(gateway.https, "graphql.local", "/graphql/x") == \
        (200, "GET /graphql/x graphql.local")
    wait_until(lambda: served_certificate(gateway.https, "graphql.local") == pem,
               what="the Secret's certificate")

    renewed, pem = tls_secret("kong-ingress-tls", "graphql.local", tmp_path, "api-gateway")
    stack.write("secret", renewed)
    wait_until(lambda: served_certificate(gateway.https, "graphql.local") == pem,
               what="the renewed certificate")


def test_a3_traffic_follows_the_endpoints(stack):
    """Scaling up and down moves traffic at once, without an error to a client."""
    gateway = stack.gateway()
    one, two = stack.origin("one"), stack.origin("two")
    stack.app("shop", HOST, one)
    stack.until(HOST, 200)
    with Load(gateway, HOST) as load:
        stack.app("shop", HOST, one, two)
        wait_until(lambda: two.requests > 20, what="traffic on the second Pod")
        stack.app("shop", HOST, two)
        before = load.sent
        wait_until(lambda: load.sent > before + 50, what="requests")
        seen = one.requests
        before = load.sent
        wait_until(lambda: load.sent > before + 100, what="more requests")
    assert load.failures == []
    assert one.requests == seen


def test_b1_a_job_makes_the_schema_and_again_changes_nothing(database):
    database.migrate("bootstrap")
    assert "already" in database.migrate("bootstrap")
    assert "up-to-date" in database.migrate("up")


def test_b2_several_controllers_several_gateways(stack):
    """Each gateway needs only the database; each serves the change."""
    origin = stack.origin("one")
    gateways = [stack.gateway(), stack.gateway()]
    stack.app("shop", HOST, origin)
    for gateway in gateways:
        assert stack.until(HOST, 200, gateway=gateway).text == "one"
    stack.remove("shop")
    for gateway in gateways:
        answer = stack.until(HOST, 404, gateway=gateway)
        assert "no Route matched with those values" in answer.text


def test_b4_the_database_goes_away_and_comes_back(tmp_path):
    """Traffic goes on; a gateway that starts meanwhile serves; changes of before and after arrive."""
    with Postgres() as postgres:
        made = Stack(postgres.create_migrated(), tmp_path)
        try:
            made.control.start()
            gateway, origin = made.gateway(), made.origin("one")
            made.app("shop", HOST, origin)
            made.until(HOST, 200)
            gateway.wait_saved()
            postgres.stop()
            assert made.get(HOST).status_code == 200
            gateway.restart()
            assert made.until(HOST, 200).text == "one"
            made.app("later", "later.example.test", origin)
            assert made.get("later.example.test").status_code == 404
            postgres.start()
            made.until("later.example.test", 200, timeout=30)
        finally:
            made.close()


def test_h_a_directory_of_manifests(stack):
    """Files come, change, break, heal and go; a broken one takes no other along."""
    stack.gateway()
    origin = stack.origin("one")
    stack.app("shop", HOST, origin)
    stack.app("blog", "blog.example.test", origin)
    stack.until(HOST, 200)
    stack.until("blog.example.test", 200)

    (stack.manifests / "blog.yaml").write_text("kind: Ingress\n  metadata: {")
    wait_until(lambda: stack.control.says("blog.yaml"), what="the broken file in the log")
    assert stack.get(HOST).status_code == 200

    stack.app("blog", "news.example.test", origin)
    stack.until("news.example.test", 200)
    stack.until("blog.example.test", 404)
    stack.remove("shop")
    stack.until(HOST, 404)
