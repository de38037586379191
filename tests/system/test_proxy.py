"""The proxy on the wire: what goes in at one socket and comes out at the other."""

import contextlib
import hashlib
import re
import signal
import socket
import ssl
import threading
import time

import pytest

from gateway import Gateway
from postgres import wait_until

TIMEOUT = 20


class Request:
    def __init__(self, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.headers = [tuple(line.split(": ", 1)) for line in lines[1:]]
        self.body = body

    def get(self, name):
        values = [v for k, v in self.headers if k.lower() == name.lower()]
        return values[0] if values else None


def read_head(f):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = f.readline()
        if not line:
            return None
        head += line
    return head[:-4]


def read_chunks(f):
    body = b""
    while True:
        size = int(f.readline().split(b";")[0], 16)
        if size == 0:
            assert f.readline() == b"\r\n"
            return body
        body += f.read(size)
        assert f.readline() == b"\r\n"


def read_request(f):
    head = read_head(f)
    if head is None:
        return None
    r = Request(head, b"")
    if r.get("Transfer-Encoding"):
        r.body = read_chunks(f)
    elif r.get("Content-Length"):
        r.body = f.read(int(r.get("Content-Length")))
    return r


class Answer:
    def __init__(self, f, head_only=False):
        head = read_head(f)
        assert head is not None, "closed without an answer"
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {}
        for line in lines[1:]:
            name, value = line.split(": ", 1)
            self.headers.setdefault(name.lower(), []).append(value)
        self.body = b""
        if head_only or self.status in (101, 204, 304):
            return
        if "transfer-encoding" in self.headers:
            self.body = read_chunks(f)
        elif "content-length" in self.headers:
            self.body = f.read(int(self.headers["content-length"][0]))
        else:
            self.body = f.read()


class Origin:
    """Answers with what `answer(request)` returns: bytes to send, or None to hang up."""

    def __init__(self, answer=None):
        self.answer = answer or (lambda r: ok(b"hello"))
        self.requests, self.connections = [], 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.listener.close()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                s, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        with contextlib.suppress(OSError, ValueError), s, s.makefile("rb") as f:
            while (r := read_request(f)) is not None:
                self.requests.append(r)
                out = self.answer(r)
                if out is None:
                    return
                if callable(out):
                    out(s, f)
                    return
                s.sendall(out)


def ok(body, *headers, status="200 OK"):
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n" + "".join(h + "\r\n" for h in headers)
    return head.encode() + b"\r\n" + body


def config(port, **services):
    """A catch-all service for the origin, and one for each further keyword: its path is its name."""
    base = {"host": "127.0.0.1", "port": port, "retries": 1}
    listed = [{"name": "all", **base, "routes": [{"name": "all", "paths": ["/"]}]}]
    for name, fields in services.items():
        route = {"name": name, "paths": ["/" + name], **fields.pop("route", {})}
        listed.append({"name": name, **base, **fields, "routes": [route]})
    return {"services": listed}


class Client:
    def __init__(self, gateway, tls=False, port=None):
        address = ("127.0.0.1", port or (gateway.https if tls else gateway.http))
        self.s = socket.create_connection(address, TIMEOUT)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.s = context.wrap_socket(self.s, server_hostname="a.test")
        self.f = self.s.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.f.close()
        self.s.close()

    def send(self, text):
        self.s.sendall(text if isinstance(text, bytes) else text.encode("latin-1"))

    def ask(self, text, head_only=False):
        self.send(text)
        return Answer(self.f, head_only)

    def closed(self):
        """Whether the other side ends the connection, and says nothing more."""
        try:
            return self.f.read(1) == b""
        except ConnectionResetError:
            return True


GET = "GET {} HTTP/1.1\r\nHost: a.test\r\n{}\r\n"


def get(path="/", *headers):
    return GET.format(path, "".join(h + "\r\n" for h in headers))


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


# -- what strangers send ------------------------------------------------------------------------

HOST = "Host: a.test\r\n"
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
REFUSED = {
    "CL and TE": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE and CL": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two CL, equal": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 5\r\nContent-Length: 5\r\n\r\n12345",
    "two CL, different": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "CL list": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 0, 44\r\n\r\n",
    "CL with sign": f"POST / HTTP/1.1\r\n{HOST}Content-Length: +5\r\n\r\n12345",
    "CL negative": f"POST / HTTP/1.1\r\n{HOST}Content-Length: -5\r\n\r\n",
    "CL hex": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 0x5\r\n\r\n12345",
    "CL with space inside": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 4 4\r\n\r\n",
    "CL empty": f"POST / HTTP/1.1\r\n{HOST}Content-Length:\r\n\r\n",
    "CL too large": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 18446744073709551617\r\n\r\n",
    "CL exponent": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 1e1\r\n\r\n",
    "TE unknown": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE list": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE list, chunked first": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "TE identity": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: identity\r\n\r\n",
    "TE twice": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n",
    "TE quoted": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "TE with parameter": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "TE vertical tab": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE empty": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding:\r\n\r\n",
    "TE on 1.0": "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE space before colon": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "CL space before colon": f"POST / HTTP/1.1\r\n{HOST}Content-Length : 5\r\n\r\n12345",
    "tab before colon": f"GET / HTTP/1.1\r\n{HOST}X-A\t: 1\r\n\r\n",
    "folded value": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "folded with tab": f"GET / HTTP/1.1\r\n{HOST}X-A: 1\r\n\t2\r\n\r\n",
    "folded first header": f"GET / HTTP/1.1\r\n X-A: 1\r\n{HOST}\r\n",
    "CR in value": f"GET / HTTP/1.1\r\n{HOST}X-A: a\rTransfer-Encoding: chunked\r\n\r\n",
    "CR at the end of a value": f"GET / HTTP/1.1\r\n{HOST}X-A: a\r\r\n\r\n",
    "NUL in value": f"GET / HTTP/1.1\r\n{HOST}X-A: a\0b\r\n\r\n",
    "NUL in name": f"GET / HTTP/1.1\r\n{HOST}X\0A: b\r\n\r\n",
    "empty name": f"GET / HTTP/1.1\r\n{HOST}: b\r\n\r\n",
    "space in name": f"GET / HTTP/1.1\r\n{HOST}X A: b\r\n\r\n",
    "no Host": "GET / HTTP/1.1\r\n\r\n",
    "two Hosts": "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "Host empty": "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "Host with path": "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with userinfo": "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "Host list": "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "Host control byte": "GET / HTTP/1.1\r\nHost: a\x01b\r\n\r\n",
    "tab in the request line": f"GET\t/\tHTTP/1.1\r\n{HOST}\r\n",
    "space in the target": f"GET /a b HTTP/1.1\r\n{HOST}\r\n",
    "three words behind": f"GET / HTTP/1.1 HTTP/1.1\r\n{HOST}\r\n",
    "CR in the request line": f"GET / HTTP/1.1\rX: y\r\n{HOST}\r\n",
    "control byte in the target": f"GET /\x7f HTTP/1.1\r\n{HOST}\r\n",
    "NUL in the target": f"GET /\0 HTTP/1.1\r\n{HOST}\r\n",
    "encoded NUL": f"GET /%00 HTTP/1.1\r\n{HOST}\r\n",
    "above the root": f"GET /../x HTTP/1.1\r\n{HOST}\r\n",
    "above the root, encoded": f"GET /%2e%2e/x HTTP/1.1\r\n{HOST}\r\n",
    "above the root behind a slash": f"GET /a%2f..%2f..%2fx HTTP/1.1\r\n{HOST}\r\n",
    "no slash": f"GET x HTTP/1.1\r\n{HOST}\r\n",
    "version 1.": f"GET / HTTP/1.\r\n{HOST}\r\n",
    "version 1": f"GET / HTTP/1\r\n{HOST}\r\n",
    "version 0.9 said": f"GET / HTTP/0.9\r\n{HOST}\r\n",
    "version 11": f"GET / HTTP/11.1\r\n{HOST}\r\n",
    "version 2.0": f"GET / HTTP/2.0\r\n{HOST}\r\n",
    "small letters": f"GET / http/1.1\r\n{HOST}\r\n",
    "method in small letters": f"get / HTTP/1.1\r\n{HOST}\r\n",
    "method with a colon": f"GET: / HTTP/1.1\r\n{HOST}\r\n",
    "post of HTTP/0.9": "POST /\r\n\r\n",
    "CONNECT": "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
    "TRACE": f"TRACE / HTTP/1.1\r\n{HOST}\r\n",
    "line over 8 KiB": f"GET /{'a' * 8200} HTTP/1.1\r\n{HOST}\r\n",
    "header over 8 KiB": f"GET / HTTP/1.1\r\n{HOST}X: {'a' * 8200}\r\n\r\n",
    "headers over 32 KiB": f"GET / HTTP/1.1\r\n{HOST}" + f"X: {'a' * 4000}\r\n" * 9 + "\r\n",
}
BAD_CHUNKS = {
    "letter": "z\r\n", "sign": "+3\r\nabc\r\n", "negative": "-1\r\n", "hex prefix": "0x3\r\nabc\r\n",
    "17 digits": "10000000000000003\r\n", "bare LF behind the size": "3\nabc\r\n0\r\n\r\n",
    "bare LF behind the data": "3\r\nabc\n0\r\n\r\n", "longer than it says": "2\r\nabc\r\n0\r\n\r\n",
    "CR alone": "3\rabc", "empty size": "\r\n", "extension with LF": "3;a\nb\r\nabc\r\n0\r\n\r\n",
    "trailer with LF": "0\r\nX: a\n\r\n", "endless extension": "3;" + "a" * 20000,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(gateway, origin, name):
    before = len(origin.requests)
    with Client(gateway) as c:
        a = c.ask(REFUSED[name] + SMUGGLED)
        assert a.status in (400, 405, 414, 501, 505), name
        assert a.headers["connection"] == ["close"]
        with contextlib.suppress(OSError):
            c.s.shutdown(socket.SHUT_WR)
        assert c.closed()
    assert len(origin.requests) == before


@pytest.mark.parametrize("path", ["/", "/stream"])
@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunks(gateway, origin, name, path):
    with Client(gateway) as c:
        head = f"POST {path} HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n"
        a = c.ask(head + BAD_CHUNKS[name] + SMUGGLED)
        assert a.status == 400 and a.headers["connection"] == ["close"]
        with contextlib.suppress(OSError):
            c.s.shutdown(socket.SHUT_WR)
        assert c.closed()
    assert not [r for r in origin.requests if "smuggled" in r.line]


def test_odd_headers_do_not_travel(gateway, origin):
    with Client(gateway) as c:
        assert c.ask(get("/odd", "Content-Length\x80: 5", "X@Y: 1", "nonsense", "X-Ok: 1")).status == 200
    names = [k for k, _ in origin.requests[-1].headers]
    assert "X-Ok" in names and "X@Y" not in names and not [n for n in names if "\x80" in n]


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
