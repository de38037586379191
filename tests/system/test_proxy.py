"""The proxy on the wire: what goes in at one socket and comes out at the other."""

import hashlib
import re
import signal
import socket
import threading
import time

import pytest

from gateway import Gateway
from postgres import wait_until
from wire import TIMEOUT, Answer, Client, Origin, config, get, ok, read_head


@pytest.fixture(scope="module")
def origin():
    big = bytes(range(256)) * 8192

    def answer(r):
        path = r.line.split(" ")[1]
        if path.startswith("/big"):
            return ok(big)
        if path == "/echo":
            return ok(hashlib.sha256(r.body).hexdigest().encode(), f"X-Length: {len(r.body)}")
        if path == "/chunked":
            return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"3;x=y\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n")
        if path == "/until-close":
            def close(s, f):
                s.sendall(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
            return close
        if path == "/cut":
            def cut(s, f):
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            return cut
        if path == "/early":
            return ok(b"early")
        return ok(path.encode())

    with Origin(answer) as o:
        o.big = big
        yield o


@pytest.fixture(scope="module")
def gateway(origin, tmp_path_factory):
    services = config(origin.port,
                      stream={"route": {"request_buffering": False, "response_buffering": False}})
    with Gateway(config=services) as g:
        yield g


# -- connections --------------------------------------------------------------------------------

def test_one_connection_many_requests(gateway, origin):
    before = origin.connections
    with Client(gateway) as c:
        for i in range(20):
            a = c.ask(get(f"/n{i}"))
            assert (a.status, a.body) == (200, f"/n{i}".encode())
            assert a.headers["connection"] == ["keep-alive"]
    assert origin.connections - before <= 1


def test_pipelined_requests_are_answered_in_order(gateway):
    with Client(gateway) as c:
        c.send("".join(get(f"/p{i}") for i in range(50)))
        for i in range(50):
            assert Answer(c.f).body == f"/p{i}".encode()


def test_pipelined_behind_bodies(gateway):
    post = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with Client(gateway) as c:
        c.send(post + chunked + post + get("/last"))
        want = hashlib.sha256(b"abc").hexdigest().encode()
        assert [Answer(c.f).body for _ in range(4)] == [want, want, want, b"/last"]


def test_byte_by_byte(gateway):
    with Client(gateway) as c:
        for byte in get("/slow", "X-A: 1").encode():
            c.send(bytes([byte]))
        assert Answer(c.f).body == b"/slow"


def test_connection_close(gateway):
    with Client(gateway) as c:
        a = c.ask(get("/", "Connection: close"))
        assert a.headers["connection"] == ["close"] and c.closed()


def test_http_1_0(gateway):
    with Client(gateway) as c:
        assert c.ask("GET /old HTTP/1.0\r\n\r\n").body == b"/old" and c.closed()
    with Client(gateway) as c:
        a = c.ask("GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert a.headers["connection"] == ["keep-alive"]
        assert c.ask("GET /again HTTP/1.0\r\n\r\n").body == b"/again"


def test_over_tls(gateway, origin):
    with Client(gateway, tls=True) as c:
        assert c.ask(get("/tls")).body == b"/tls"
        assert c.ask(get("/big")).body == origin.big
        assert c.ask(get("/tls2")).body == b"/tls2"
    assert origin.requests[-1].get("X-Forwarded-Proto") == "https"


# -- bodies -------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["/echo", "/stream/echo"])
@pytest.mark.parametrize("size", [0, 1, 4000, 8192, 8193, 70000, 3_000_000])
@pytest.mark.parametrize("chunk", [0, 1000, 65536])
def test_request_bodies(gateway, origin, path, size, chunk):
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    if chunk:
        pieces = [body[i:i + chunk] for i in range(0, size, chunk)]
        coded = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    else:
        coded = body
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
    with Client(gateway) as c:
        a = c.ask(head.encode() + coded)
        assert a.body == hashlib.sha256(body).hexdigest().encode()
        assert a.headers["x-length"] == [str(size)]
        assert c.ask(get("/next")).body == b"/next"
    if not path.startswith("/stream"):
        seen = [r for r in origin.requests if r.line.startswith("POST")][-1]
        assert seen.get("Content-Length") == str(size) and not seen.get("Transfer-Encoding")


def test_large_answer_to_a_slow_reader(gateway, origin):
    with Client(gateway) as c:
        c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        c.send(get("/big") + get("/after"))
        head = read_head(c.f)
        assert b" 200 " in head
        digest = hashlib.sha256()
        left = len(origin.big)
        while left:
            data = c.f.read(min(left, 30000))
            digest.update(data)
            left -= len(data)
        assert digest.digest() == hashlib.sha256(origin.big).digest()
        assert Answer(c.f).body == b"/after"


def test_chunked_and_close_delimited_answers(gateway):
    with Client(gateway) as c:
        a = c.ask(get("/chunked"))
        assert a.body == b"abcdefg" and a.headers["transfer-encoding"] == ["chunked"]
        a = c.ask(get("/until-close"))
        assert a.body == b"until the end" and a.headers["connection"] == ["keep-alive"]
    with Client(gateway) as c:
        a = c.ask("GET /chunked HTTP/1.0\r\n\r\n")
        assert a.body == b"abcdefg" and "transfer-encoding" not in a.headers


def test_a_cut_answer_ends_the_connection(gateway):
    with Client(gateway) as c:
        c.send(get("/cut"))
        read_head(c.f)
        assert c.f.read() == b"half"


def test_head(gateway):
    with Client(gateway) as c:
        a = c.ask("HEAD /big HTTP/1.1\r\nHost: a\r\n\r\n", head_only=True)
        assert a.headers["content-length"] == [str(256 * 8192)]
        assert c.ask(get("/x")).body == b"/x"


def test_expect_continue(gateway):
    with Client(gateway) as c:
        c.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert read_head(c.f).startswith(b"HTTP/1.1 100 ")
        a = c.ask(b"abc")
        assert a.headers["x-length"] == ["3"]


def test_answer_before_the_body_is_read(gateway):
    """No route: the body is thrown away and the connection lives on."""
    with Gateway(config={"services": []}) as empty, Client(empty) as c:
        for _ in range(2):
            a = c.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100000)
            assert a.status == 404


def test_body_limit(origin):
    with Gateway(config=config(origin.port), nginx_http_client_max_body_size="1k") as g:
        with Client(g) as c:
            assert c.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n").status == 413
            assert c.closed()
        with Client(g) as c:
            a = c.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" +
                      b"a" * 0x800 + b"\r\n0\r\n\r\n")
            assert a.status == 413 and c.closed()


# -- upstreams ----------------------------------------------------------------------------------

def test_refused_and_timed_out(origin):
    dead = socket.create_server(("127.0.0.1", 0))
    port = dead.getsockname()[1]
    dead.close()
    silent = socket.create_server(("127.0.0.1", 0), backlog=64)
    services = config(origin.port, dead={"port": port},
                      silent={"port": silent.getsockname()[1], "read_timeout": 100, "retries": 0})
    with silent, Gateway(config=services) as g, Client(g) as c:
        assert c.ask(get("/dead")).status == 502
        began = time.monotonic()
        assert c.ask(get("/silent")).status == 504
        assert 0.09 < time.monotonic() - began < 5
        assert c.ask(get("/x")).body == b"/x"


def test_kept_connection_that_the_origin_closed():
    """The next GET takes a new connection without anyone noticing."""
    with Origin() as o, Gateway(config=config(o.port), nginx_worker_processes=1) as g, Client(g) as c:
        for _ in range(10):
            o.answer = lambda r: (lambda s, f: s.sendall(ok(b"bye")))
            assert c.ask(get()).body == b"bye"
        assert o.connections == 10


def test_retries_only_what_may_be_repeated():
    with Origin(lambda r: None) as o, Gateway(config=config(o.port)) as g, Client(g) as c:
        assert c.ask(get("/get")).status == 502
        assert len(o.requests) == 2
        o.requests.clear()
        assert c.ask("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na").status == 502
        assert len(o.requests) == 1


def test_websocket_tunnel():
    def upgrade(r):
        def echo(s, f):
            s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                      b"Connection: Upgrade\r\n\r\n")
            while data := s.recv(65536):
                s.sendall(data)
        return echo

    with Origin(upgrade) as o, Gateway(config=config(o.port)) as g, Client(g) as c:
        a = c.ask(get("/ws", "Upgrade: websocket", "Connection: Upgrade"))
        assert a.status == 101 and a.headers["upgrade"] == ["websocket"]
        assert o.requests[0].get("Connection") == "keep-alive, Upgrade"
        sent = bytes(range(256)) * 4096
        threading.Thread(target=c.send, args=(sent,), daemon=True).start()
        assert c.f.read(len(sent)) == sent


def test_client_that_leaves_frees_the_upstream():
    left = threading.Event()

    def wait(r):
        def until_closed(s, f):
            if s.recv(1) == b"":
                left.set()
        return until_closed

    with Origin(wait) as o, Gateway(config=config(o.port)) as g:
        with Client(g) as c:
            c.send(get())
            wait_until(lambda: o.requests, what="the request at the origin")
        assert left.wait(TIMEOUT)


def test_weights_and_names():
    with Origin(lambda r: ok(b"a")) as a, Origin(lambda r: ok(b"b")) as b:
        services = {
            "upstreams": [{"name": "u", "targets": [
                {"target": f"127.0.0.1:{a.port}", "weight": 30},
                {"target": f"localhost:{b.port}", "weight": 10},
                {"target": "127.0.0.1:1", "weight": 0}]}],
            "services": [{"name": "s", "host": "u", "routes": [{"name": "r", "paths": ["/"]}]}],
        }
        with Gateway(config=services, nginx_worker_processes=1) as g, Client(g) as c:
            seen = [c.ask(get()).body for _ in range(40)]
            assert (seen.count(b"a"), seen.count(b"b")) == (30, 10)
            assert b.requests[0].get("Host") == f"localhost:{b.port}"


def test_a_dead_target_is_passed_over():
    with Origin() as o:
        services = {
            "upstreams": [{"name": "u", "targets": [{"target": f"127.0.0.1:{o.port}"},
                                                    {"target": "127.0.0.1:1"}]}],
            "services": [{"name": "s", "host": "u", "retries": 1,
                          "routes": [{"name": "r", "paths": ["/"]}]}],
        }
        with Gateway(config=services) as g, Client(g) as c:
            assert {c.ask(get()).status for _ in range(20)} == {200}


# -- who the client is --------------------------------------------------------------------------

V2 = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.mark.parametrize("header", [
    b"PROXY TCP4 203.0.113.9 127.0.0.1 5555 80\r\n",
    V2 + b"\x21\x11\x00\x0c" + bytes([203, 0, 113, 9, 127, 0, 0, 1]) + b"\x15\xb3\x00\x50",
])
def test_proxy_protocol(origin, header):
    g = Gateway(config=config(origin.port), trusted_ips="127.0.0.1", real_ip_header="proxy_protocol")
    g.settings["proxy_listen"] = f"127.0.0.1:{g.http} proxy_protocol"
    with g:
        with Client(g) as c:
            c.send(header[:5])
            c.send(header[5:] + get("/who").encode())
            assert Answer(c.f).body == b"/who"
        assert origin.requests[-1].get("X-Real-IP") == "203.0.113.9"
        with Client(g) as c:
            c.send(get())
            assert c.closed()


# -- operation ----------------------------------------------------------------------------------

LINE = re.compile(r'^127\.0\.0\.1 - joe \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] '
                  r'"GET /logged\?a=b HTTP/1\.1" 200 11 "http://ref/" "me\\x22" '
                  r'kong_request_id: "[0-9a-f]{32}"$')


def test_access_log(origin):
    with Gateway(config=config(origin.port), proxy_access_log="logs/access.log") as g:
        log = g.prefix / "logs" / "access.log"
        with Client(g) as c:
            c.ask(get("/logged?a=b", "Referer: http://ref/", 'User-Agent: me"',
                      "Authorization: Basic am9lOnNlY3JldA=="))
        wait_until(lambda: log.exists() and log.read_text(), what="a line")
        assert LINE.match(log.read_text().splitlines()[0])
        log.rename(log.with_suffix(".1"))
        g.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists, what="the log opened anew")
        with Client(g) as c:
            c.ask(get("/again"))
        wait_until(lambda: "/again" in log.read_text(), what="a line in the new file")


def test_graceful_stop_finishes_what_it_began():
    go = threading.Event()

    def slow(r):
        go.wait(TIMEOUT)
        return ok(b"done")

    with Origin(slow) as o, Gateway(config=config(o.port)) as g:
        with Client(g) as busy, Client(g) as idle:
            busy.send(get())
            wait_until(lambda: o.requests, what="the request at the origin")
            g.process.send_signal(signal.SIGQUIT)
            assert idle.closed()
            go.set()
            a = Answer(busy.f)
            assert a.body == b"done" and busy.closed()
        assert g.process.wait(TIMEOUT) == 0


@pytest.mark.parametrize("value", ["127.0.0.1", "127.0.0.1:80 fast", "127.0.0.1:80 backlog=x",
                                   "127.0.0.1:99999", "127.0.0.1:80 so_keepalive=1:2"])
def test_bad_listen(value):
    g = Gateway(config={})
    g.settings["proxy_listen"] = value
    assert "proxy_listen must be of form: [off] | <ip>:<port> [ssl]" in g.fails()
    g.destroy()
