"""The Admin API and the status listener of a real node. What they answer is compared with Kong's
recorded answers in tests/conformance; here is what those cannot show."""

import json
import socket
import ssl
import subprocess
import threading

import pytest
import requests

from gateway import Gateway, Upstream
from postgres import Postgres, free_port, wait_until


@pytest.fixture
def gateway(migrated):
    with Gateway(env=migrated.env()) as node:
        yield node


@pytest.fixture
def origin():
    with Upstream("origin") as upstream:
        yield upstream


def made(answer, status=201):
    """The JSON of an answer that has this status."""
    assert answer.status_code == status, answer.text
    return answer.json()


# -- writes -------------------------------------------------------------------------------------

def test_a_write_is_live_on_the_same_node_and_says_its_version(gateway, origin):
    made(gateway.admin("POST", "/services", json={
        "name": "s", "host": "127.0.0.1", "port": origin.port}))
    answer = gateway.admin("POST", "/services/s/routes", json={"hosts": ["a.test"]})
    version = int(answer.headers["X-Silverback-Version"])
    gateway.wait_for("a.test")
    assert gateway.version()["served"] >= version
    assert "X-Silverback-Version" not in gateway.admin("GET", "/services").headers

    gone = gateway.admin("DELETE", f"/routes/{made(answer)['id']}")
    assert gone.status_code == 204 and int(gone.headers["X-Silverback-Version"]) > version
    gateway.wait_for("a.test", status=404)


def test_a_write_on_one_node_is_live_on_the_other(gateway, origin, migrated):
    with Gateway(env=migrated.env()) as other:
        made(gateway.admin("PUT", "/services/s", json={"host": "127.0.0.1", "port": origin.port}), 200)
        made(other.admin("POST", "/services/s/routes", json={"hosts": ["a.test"]}))
        gateway.wait_for("a.test")
        other.wait_for("a.test")


def test_a_refused_write_changes_nothing(gateway, migrated):
    before = migrated.value("SELECT version FROM silverback_version")
    made(gateway.admin("POST", "/services", json={"host": "a b"}), 400)
    made(gateway.admin("POST", "/routes", json={
        "paths": ["/"], "service": {"id": "00000000-0000-4000-8000-000000000001"}}), 400)
    made(gateway.admin("PATCH", "/services/none", json={"port": 1}), 404)
    assert migrated.value("SELECT version FROM silverback_version") == before


def test_a_parent_that_is_made_through_its_child_is_one_change(gateway, migrated):
    made(gateway.admin("POST", "/routes", json={"name": "r", "paths": ["/"]}))
    before = migrated.value("SELECT version FROM silverback_version")
    service = made(gateway.admin("PUT", "/routes/r/service", json={"host": "a.test"}), 200)
    assert made(gateway.admin("GET", "/routes/r"), 200)["service"] == {"id": service["id"]}
    assert migrated.value("SELECT version FROM silverback_version") == before + 1


def test_many_writers_at_once_lose_nothing(gateway, migrated):
    """Each thread reads and writes the same row through nodes of its own connection."""
    made(gateway.admin("POST", "/services", json={"name": "s", "host": "a.test", "tags": []}))
    with Gateway(env=migrated.env()) as other:
        def write(node, field):
            for value in range(1, 26):
                answer = requests.patch(f"http://127.0.0.1:{node.admin_port}/services/s",
                                        json={field: value}, timeout=20)
                assert answer.status_code == 200, answer.text

        threads = [threading.Thread(target=write, args=pair) for pair in (
            (gateway, "retries"), (other, "read_timeout"), (gateway, "port"), (other, "write_timeout"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    row = made(gateway.admin("GET", "/services/s"), 200)
    assert [row[f] for f in ("retries", "read_timeout", "port", "write_timeout")] == [25] * 4


# -- trouble ------------------------------------------------------------------------------------

def test_status_answers_while_the_database_hangs():
    with Postgres() as postgres:
        database = postgres.create_migrated()
        with Gateway(env=database.env(KONG_PG_TIMEOUT="2000")) as node:
            made(node.admin("POST", "/services", json={"name": "s", "host": "a.test"}))
            postgres.pause()
            try:
                hanging = threading.Thread(target=node.admin, args=("GET", "/services"))
                hanging.start()
                for _ in range(5):
                    assert requests.get(f"http://127.0.0.1:{node.status}/status/ready",
                                        timeout=1).status_code == 200
                assert hanging.is_alive()
                hanging.join()
                wait_until(lambda: not node.version()["connected"], what="the outage noticed")
                assert node.ask_status("/status").json()["database"] == {"reachable": False}
                assert node.ask_status("/status/ready").status_code == 200    # it serves on
            finally:
                postgres.resume()
            wait_until(lambda: node.admin("GET", "/services/s").status_code == 200,
                       what="the Admin API back")


def test_a_database_that_was_restarted_is_no_trouble():
    with Postgres() as postgres:
        database = postgres.create_migrated()
        with Gateway(env=database.env()) as node:
            made(node.admin("POST", "/services", json={"name": "s", "host": "a.test"}))
            postgres.restart()
            wait_until(lambda: node.admin("GET", "/services/s").status_code == 200,
                       what="the Admin API back")
            postgres.stop()
            refused = node.admin("GET", "/services/s")
            assert refused.status_code == 500
            assert refused.json() == {"message": "An unexpected error occurred"}
            postgres.start()
            made(node.admin("PATCH", "/services/s", json={"port": 81}), 200)


@pytest.mark.parametrize("bytes_sent", [
    b"\x00\xff\x16\x03\x01 garbage\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /services HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    b"POST /services HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
    b"GET /services/%zz%00%ff HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a/b/c/d/e/f/g/h/i/j/k HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /services?" + b"&".join(b"a=1" for _ in range(1500)) + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /services HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data\r\n"
    b"Content-Length: 4\r\n\r\nabcd",
    b"POST /services HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 9\r\n\r\n--x\r\n--x-",
    b"POST /services HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 24\r\n\r\na[b][c].d[999999999]=1&[",
    b"POST /services HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: 400\r\n\r\n" + b"[" * 400,
], ids=lambda sent: sent[:20].hex())
def test_what_strangers_send_does_no_harm(gateway, bytes_sent):
    for port in (gateway.admin_port, gateway.status):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            try:
                raw.sendall(bytes_sent)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    pass
            except TimeoutError:
                raise           # neither an answer nor an end
            except OSError:
                pass            # it hung up early
    made(gateway.admin("GET", "/services"), 200)
    made(gateway.ask_status("/status"), 200)


def test_a_body_has_a_limit(migrated):
    with Gateway(env=migrated.env(), nginx_admin_client_max_body_size="64k") as node:
        small = {"host": "a.test", "tags": ["x" * 50000]}
        made(node.admin("POST", "/services", json=small))
        try:
            answer = node.admin("POST", "/services", json={"host": "a.test", "tags": ["x" * 100000]})
            assert answer.status_code == 413
        except requests.ConnectionError:
            pass    # it hung up before all was sent, which is as good
        made(node.admin("GET", "/services"), 200)


# -- listeners ----------------------------------------------------------------------------------

def served_by(port):
    """The PEM that a TLS port shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw, \
            context.wrap_socket(raw) as tls:
        return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True))


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_tls_with_a_pair_of_ours_and_one_of_the_users(tmp_path):
    plain, tls, status = free_port(), free_port(), free_port()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=admin.test",
                    "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True,
                   capture_output=True)
    listen = {"admin_listen": f"127.0.0.1:{plain}, 127.0.0.1:{tls} ssl",
              "status_listen": f"127.0.0.1:{status} ssl"}
    with Gateway(**listen) as node:
        ours = served_by(tls)
        assert requests.get(f"https://127.0.0.1:{tls}/services", verify=False,
                            timeout=5).json() == {"data": [], "next": None}
        assert requests.get(f"http://127.0.0.1:{plain}/", timeout=5).status_code == 200
        assert requests.get(f"https://127.0.0.1:{status}/status", verify=False,
                            timeout=5).status_code == 200
        node.restart()
        assert served_by(tls) == ours    # made once, kept
    with Gateway(**listen, admin_ssl_cert=tmp_path / "cert", admin_ssl_cert_key=tmp_path / "key"):
        assert served_by(tls) == (tmp_path / "cert").read_text()


def test_off_is_off():
    with Gateway(admin_listen="off") as node:
        with pytest.raises(requests.ConnectionError):
            node.admin("GET", "/")
        assert node.ask_status("/status").status_code == 200


def test_an_address_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node = Gateway(admin_listen=f"127.0.0.1:{taken.getsockname()[1]}")
        try:
            said = node.fails()
            assert "admin_listen" in said and "Address already in use" in said
        finally:
            node.destroy()


# -- the status listener ------------------------------------------------------------------------

def ready(node):
    answer = node.ask_status("/status/ready")
    return answer.status_code, answer.json()["message"]


def test_a_node_without_configuration_is_not_ready():
    with Gateway() as node:
        assert ready(node) == (
            503, "no configuration available (configuration hash is not initialized)")
        node.post_config()
        assert ready(node) == (
            503, "no configuration available (empty configuration present)")
        node.post_config(services=[{"name": "s", "host": "a.test"}])
        assert ready(node) == (200, "ready")
        assert node.admin("GET", "/services/s").json()["host"] == "a.test"


def test_draining_is_for_good(gateway):
    assert ready(gateway) == (200, "ready")
    assert gateway.session.post(f"http://127.0.0.1:{gateway.status}/status/ready",
                                json={"status": "x"}, timeout=5).status_code == 400
    assert gateway.session.post(f"http://127.0.0.1:{gateway.status}/status/ready",
                                data={"status": "draining"}, timeout=5).status_code == 204
    assert ready(gateway) == (503, "draining")
    assert gateway.proxy("/").status_code == 404    # and it serves on


def test_metrics_count(gateway, origin):
    made(gateway.admin("POST", "/services", json={
        "name": "s", "host": "127.0.0.1", "port": origin.port}))
    made(gateway.admin("POST", "/services/s/routes", json={"hosts": ["a.test"]}))
    gateway.wait_for("a.test")

    def value(name):
        text = gateway.ask_status("/metrics").text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.split("{")[0].split(" ")[0] == name)

    before = value("kong_nginx_requests_total")
    for _ in range(5):
        assert gateway.proxy("/", "a.test").status_code == 200
    assert value("kong_nginx_requests_total") == before + 5
    assert value("kong_datastore_reachable") == 1
    assert value("silverback_config_version") == gateway.version()["served"]


def test_entities_that_are_left_out_are_told(gateway, migrated):
    """A row that no Admin API would take, written by hand."""
    migrated.query("INSERT INTO routes (id, ws_id, name, protocols, paths) SELECT "
                   "'00000000-0000-4000-8000-000000000001', id, 'broken', '{http}', '{~/(}' "
                   "FROM workspaces")
    wait_until(lambda: gateway.version()["left_out"], what="the broken route told")
    (told,) = gateway.version()["left_out"]
    assert (told["entity"], told["name"]) == ("routes", "broken") and told["reason"]


# -- without a database -------------------------------------------------------------------------

def test_a_posted_configuration_is_live_when_it_is_answered(origin):
    with Gateway() as node:
        for n in range(20):
            node.post_config(services=[{
                "name": "s", "host": "127.0.0.1", "port": origin.port,
                "routes": [{"name": "r", "hosts": [f"h{n}.test"]}]}])
            assert node.answers(f"h{n}.test")
            assert node.admin("GET", "/routes/r").json()["hosts"] == [f"h{n}.test"]


def test_what_is_exported_can_be_posted_again():
    with Gateway() as node:
        node.post_config(
            services=[{"name": "s", "host": "a.test", "tags": ["t"], "routes": [{"paths": ["/a"]}]}],
            consumers=[{"username": "c", "keyauth_credentials": [{"key": "k"}]}],
            upstreams=[{"name": "u.test", "targets": [{"target": "10.0.0.1:80", "weight": 5}]}])
        text = node.admin("GET", "/config").json()["config"]
        with Gateway() as other:
            made(other.admin("POST", "/config", json={"config": text}))
            for path in ("/services", "/routes", "/consumers", "/key-auths", "/upstreams",
                         "/upstreams/u.test/targets"):
                assert other.admin("GET", path).json() == node.admin("GET", path).json(), path
            again = other.admin("POST", "/config?check_hash=1", json={"config": text})
            assert again.status_code == 304 and not again.content


def test_a_refused_configuration_leaves_the_old_one(origin):
    with Gateway() as node:
        node.post_config(services=[{"name": "s", "host": "127.0.0.1", "port": origin.port,
                                    "routes": [{"hosts": ["a.test"]}]}])
        refused = node.admin("POST", "/config?flatten_errors=1", json={
            "_format_version": "3.0",
            "services": [{"name": "x", "host": "a.test", "routes": [{"name": "bad", "paths": ["b"],
                                                                    "tags": ["k8s-name:x"]}]}]})
        body = made(refused, 400)
        assert body["code"] == 14
        (told,) = body["flattened_errors"]
        assert (told["entity_type"], told["entity_tags"]) == ("route", ["k8s-name:x"])
        assert node.answers("a.test")


def test_pages_cover_everything_once(migrated):
    with Gateway(env=migrated.env()) as node:
        migrated.query("INSERT INTO consumers (id, ws_id, username, tags) SELECT gen_random_uuid(), "
                       "w.id, 'c' || n, ARRAY['t' || n % 2] FROM workspaces w, "
                       "generate_series(1, 2345) n")
        for query, want in (("size=1000", 2345), ("size=37&tags=t1", 1173), ("size=500&tags=t0/t1", 2345)):
            url, seen = f"/consumers?{query}", []
            while url:
                page = made(node.admin("GET", url), 200)
                seen += [c["id"] for c in page["data"]]
                url = page["next"]
            assert len(seen) == len(set(seen)) == want and seen == sorted(seen)


# method, path, status, and what the answer says: a message, what Allow lists, or names of entities.
CORNERS = [
    ("GET", "//services", 404, "Not found"),
    ("GET", "/services/s//", 404, "Not found"),
    ("OPTIONS", "/cache", 204, "DELETE, OPTIONS"),
    ("OPTIONS", "/schemas/services/validate", 204, "OPTIONS, POST"),
    ("OPTIONS", "/services/s", 204, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
    ("OPTIONS", "/targets", 404, "Not found"),
    ("OPTIONS", "/snis/x/certificate", 404, "Not found"),
    ("OPTIONS", "/filter-chains", 400, "this endpoint is only available when wasm is enabled"),
    ("DELETE", "/filter-chains", 400, "this endpoint is only available when wasm is enabled"),
    ("GET", "/routes/r/filters/all", 400, "this endpoint is only available when wasm is enabled"),
    ("GET", "/schemas/filters/x", 404, "Filter 'x' not found"),
    ("OPTIONS", "/timers", 204, "GET, HEAD, OPTIONS"),
    ("PUT", "/debug/node/log-level/debug?timeout=-1", 400,
     "timeout must be greater than or equal to 0"),
    ("PUT", "/debug/node/log-level/info?timeout=soon", 200, "log level is already info"),
    ("GET", "/services?tags=a,", 200, []),
    ("GET", "/services?tags=a/", 200, ["s"]),
    ("GET", "/services?tags=,a", 400, "invalid option (tags: invalid filter syntax)"),
]


def test_corners_of_the_protocol(gateway):
    made(gateway.admin("POST", "/services", json={"name": "s", "host": "a", "tags": ["a"]}))
    for method, path, status, says in CORNERS:
        answer = gateway.admin(method, path)
        said = answer.headers.get("Allow") or answer.json().get("message")
        if said is None:
            said = [row["name"] for row in answer.json()["data"]]
        assert (answer.status_code, said) == (status, says), (method, path)


def test_a_ttl_comes_by_form_too(gateway):
    made(gateway.admin("POST", "/consumers", json={"username": "c"}))
    key = made(gateway.admin("POST", "/consumers/c/key-auth", data={"key": "k", "ttl": "60"}))
    assert 0 < key["ttl"] <= 60
    empty = gateway.admin("POST", "/consumers", data="[]", headers={"Content-Type": "application/json"})
    assert made(empty, 400)["name"] == "schema violation"


def test_the_log_level_is_lent(gateway):
    assert gateway.admin("GET", "/debug/node/log-level").json() == {"message": "log level: info"}
    assert gateway.admin("PUT", "/debug/node/log-level/debug?timeout=1").status_code == 200
    assert gateway.admin("GET", "/debug/node/log-level").json() == {"message": "log level: debug"}
    wait_until(lambda: "info" in gateway.admin("GET", "/debug/node/log-level").text,
               what="the log level back")


def test_what_it_says_of_itself_can_be_read_by_clients(gateway):
    root = made(gateway.admin("GET", "/"), 200)
    assert root["version"] == "3.9.1" and root["configuration"]["database"] == "postgres"
    assert root["configuration"]["pg_password"] == "******"
    assert root["configuration"]["proxy_listeners"][1]["ssl"] is True
    assert root["node_id"] == gateway.version()["node_id"]
    endpoints = made(gateway.admin("GET", "/endpoints"), 200)["data"]
    assert "/services/{services}/routes/{routes}" in endpoints and endpoints == sorted(endpoints)
    assert json.dumps(root)
