"""HTTP/1.x to its edges: trailers, interim answers, half-closed clients, buffering, slow clients."""

import contextlib
import pathlib
import select
import signal
import socket
import struct
import threading
import time

import pytest

from gateway import Gateway
from postgres import wait_until
from wire import TIMEOUT, Answer, Client, Origin, config, get, ok, read_head

TRAILED = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\n"
           b"X-Sum: 1\r\nContent-Length: 99\r\nSet-Cookie: a=b\r\ngrpc-status: 0\r\n\r\n")


@pytest.fixture(scope="module")
def pair():
    with Origin() as o, Gateway(config=config(o.port)) as g:
        yield o, g


@pytest.fixture
def ends(pair):
    """An origin that answers as the test says, and a gateway in front of it; most tests share both."""
    o, g = pair
    o.answer, o.connections = (lambda r: ok(b"hello")), 0
    o.requests.clear()
    yield o, g


# -- trailers -----------------------------------------------------------------------------------

def test_trailers_of_an_answer(ends):
    """To clients that asked for them; without the fields that mean something in a head only."""
    o, g = ends
    o.answer = lambda r: TRAILED
    with Client(g) as c:
        a = c.ask(get("/", "TE: trailers"))
        assert (a.body, a.trailers) == (b"abc", ["X-Sum: 1", "grpc-status: 0"])
        assert a.headers["trailer"] == ["X-Sum"] and o.requests[0].get("TE") == "trailers"
        a = c.ask(get("/"))
        assert (a.body, a.trailers) == (b"abc", []) and "trailer" not in a.headers
        assert c.ask(get("/", "TE: trailers, deflate;q=0.5")).trailers == ["X-Sum: 1", "grpc-status: 0"]
        assert o.connections <= 1
        assert c.ask("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n").body == b"abc"


@pytest.mark.parametrize("size", [0, 5, 100_000])
def test_trailers_of_a_stored_request(ends, size):
    """Large bodies lie in a file when the trailers come."""
    body = b"x" * size
    o, g = ends
    with Client(g) as c:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = b"%x\r\n%s\r\n" % (size, body) if size else b""
        assert c.ask(head + chunks + b"0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n").status == 200
        assert c.ask(get("/next")).body == b"hello"
        assert (o.requests[0].body, o.requests[0].trailers) == (body, ["X-Sum: 1"])
        assert o.connections <= 1


def test_malformed_trailers_of_an_answer(ends):
    o, g = ends
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX Y: 1\r\n\r\n"
    o.answer = lambda r: said
    with Client(g) as c:
        c.send(get("/", "TE: trailers"))
        assert not c.f.read().endswith(b"0\r\n\r\n")


# -- answers before the answer ------------------------------------------------------------------

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\nX: 1\r\n\r\n"


def test_early_hints_pass(ends):
    o, g = ends
    said = b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS + HINTS + ok(b"hi")
    o.answer = lambda r: said
    with Client(g) as c:
        c.send(get())
        for _ in range(2):
            assert read_head(c.f).split(b"\r\n") == [b"HTTP/1.1 103 Early Hints", b"Link: </a.css>"]
        assert Answer(c.f).body == b"hi"
        a = c.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert (a.status, a.body) == (200, b"hi")
        assert o.connections <= 1


def test_hints_come_at_once(ends):
    o, g = ends
    go = threading.Event()

    def slow(r):
        def answer(s, f):
            s.sendall(HINTS)
            go.wait(TIMEOUT)
            s.sendall(ok(b"hi"))
        return answer

    o.answer = slow
    with Client(g) as c:
        c.send(get())
        assert read_head(c.f).startswith(b"HTTP/1.1 103 ")
        go.set()
        assert Answer(c.f).body == b"hi"


def test_endless_hints(ends):
    o, g = ends
    o.answer = lambda r: HINTS * 100 + ok(b"hi")
    with Client(g) as c:
        c.send(get())
        heads = [read_head(c.f) for _ in range(33)]
        assert heads[-1].startswith(b"HTTP/1.1 502 ")


def test_large_heads_of_answers(ends):
    """Kong's limit is 4 KiB; ours is 64."""
    o, g = ends
    o.answer = lambda r: ok(b"", *[f"X-{i}: {'a' * 4000}" for i in range(int(r.line[5:7]))])
    with Client(g) as c:
        a = c.ask(get("/15"))
        assert a.status == 200 and len(a.headers["x-14"][0]) == 4000
        assert c.ask(get("/17")).status == 502


class Hasty(Origin):
    """Answers as soon as it has a head; then the body may come or not."""

    def serve(self, s):
        with s, s.makefile("rb") as f:
            while read_head(f):
                s.sendall(ok(b"no", status="403 Forbidden"))
                s.recv(1)


@pytest.mark.parametrize("size", [1000, 8_000_000])
def test_answer_before_the_body_is_there(size):
    """The client has it at once, and what it still sends is read or refused: nobody hangs."""
    with Hasty() as o, Gateway(config=config(o.port, s={"route": {"request_buffering": False}})) as g:
        with Client(g) as c:
            c.send(f"POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n" + "x" * 500)
            assert Answer(c.f).status == 403
            try:
                c.send(b"x" * (size - 500))
                assert size > 4 << 20 or c.ask(get("/next")).status == 403
            except OSError:
                assert size > 4 << 20


# -- half-closed clients ------------------------------------------------------------------------

@pytest.mark.parametrize("raw, answers", [
    (get("/a"), 1),
    (get("/a") + get("/b"), 2),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 1),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 1),
    ("GET / HTTP/1.0\r\n\r\n", 1),
])
def test_a_client_that_has_no_more_to_ask_is_answered(ends, raw, answers):
    o, g = ends

    def soon(r):
        time.sleep(0.1)
        return ok(b"x" * 300_000)

    o.answer = soon
    with Client(g) as c:
        c.send(raw)
        c.s.shutdown(socket.SHUT_WR)
        assert c.f.read().count(b"HTTP/1.1 200 ") == answers


def test_a_client_that_stops_in_the_middle_is_not(ends):
    o, g = ends
    with Client(g) as c:
        c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh")
        c.s.shutdown(socket.SHUT_WR)
        assert c.f.read() == b"" and not o.requests


@pytest.mark.parametrize("ignore", ["off", "on"])
def test_how_long_a_half_closed_client_waits(ignore):
    """A second, or as long as it takes where proxy_ignore_client_abort says so."""
    left, go = threading.Event(), threading.Event()

    def wait(r):
        def until_closed(s, f):
            s.settimeout(1.5)
            try:
                if s.recv(1) == b"":
                    left.set()
            except TimeoutError:
                s.sendall(ok(b"late"))
        return until_closed

    with Origin(wait) as o, Gateway(config=config(o.port), nginx_proxy_proxy_ignore_client_abort=ignore) as g:
        with Client(g) as c:
            c.send(get())
            c.s.shutdown(socket.SHUT_WR)
            answered = b"late" in c.f.read()
    assert (answered, left.is_set()) == (ignore == "on", ignore == "off")


# -- response buffering -------------------------------------------------------------------------

BIG = bytes(range(256)) * 80_000     # 20 MB: no socket's memory takes it


class Feeder(Origin):
    """Answers /big with BIG, and says in `fed` when all of it was taken off its hands."""

    def __init__(self, *headers):
        self.fed = threading.Event()
        super().__init__(lambda r: self.feed if "/big" in r.line else ok(b"small"))
        self.headers = headers

    def feed(self, s, f):
        s.sendall(ok(BIG, *self.headers))
        self.fed.set()
        f.read(1)


def slow_reader(gateway, tls):
    c = Client(gateway, tls)
    c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    return c


def reads_all(c):
    """The client reads what was sent, to the last byte, and its connection lives on."""
    assert Answer(c.f).body == BIG
    return c.ask(get("/small")).body == b"small"


@pytest.mark.parametrize("tls, settings", [
    (False, {}), (True, {}), (False, {"nginx_proxy_proxy_buffers": "4 4k"}),
    (False, {"nginx_proxy_proxy_buffers": "64 1m"})])
def test_a_slow_reader_does_not_hold_the_upstream(tls, settings):
    with Feeder() as o, Gateway(config=config(o.port), **settings) as g, slow_reader(g, tls) as c:
        before = g.rss()
        c.send(get("/big"))
        assert o.fed.wait(TIMEOUT)
        in_memory = settings.get("nginx_proxy_proxy_buffers") == "64 1m"
        assert in_memory or g.rss() - before < 4 << 20
        assert reads_all(c)


@pytest.mark.parametrize("settings, route, headers", [
    ({"nginx_proxy_proxy_buffering": "off"}, {}, []),
    ({"nginx_proxy_proxy_max_temp_file_size": "0"}, {}, []),
    ({"nginx_proxy_proxy_max_temp_file_size": "1m"}, {}, []),
    ({}, {"response_buffering": False}, []),
    ({}, {}, ["X-Accel-Buffering: no"]),
])
def test_where_nothing_is_buffered_the_upstream_waits(settings, route, headers):
    with Feeder(*headers) as o, Gateway(config=config(o.port, s={"route": route}), **settings) as g:
        with slow_reader(g, False) as c:
            c.send(get("/s/big"))
            head = read_head(c.f)
            assert b" 200 " in head and b"X-Accel" not in head
            assert not o.fed.wait(0.5)
            assert c.f.read(len(BIG)) == BIG
            assert o.fed.wait(TIMEOUT)
            assert c.ask(get("/small")).body == b"small"


def test_a_client_that_leaves_a_spooled_response():
    with Feeder() as o, Gateway(config=config(o.port)) as g:
        for _ in range(3):
            o.fed.clear()
            with slow_reader(g, False) as c:
                c.send(get("/big"))
                assert o.fed.wait(TIMEOUT)
        wait_until(lambda: not temporary_files(g), what="the files gone")
        with Client(g) as c:
            assert c.ask(get("/small")).body == b"small"


def test_a_client_that_takes_nothing():
    """send_timeout runs from the last byte that it took, whatever the upstream does."""
    with Feeder() as o, Gateway(config=config(o.port), nginx_http_send_timeout="1s") as g:
        with slow_reader(g, False) as c:
            c.send(get("/big"))
            assert o.fed.wait(TIMEOUT)
            wait_until(lambda: not temporary_files(g), what="the client given up")
            with pytest.raises((AssertionError, OSError)):
                assert len(c.f.read()) > len(BIG)


def temporary_files(gateway):
    """Nameless files that the gateway has open."""
    links = []
    for fd in (p for pid in gateway.pids() for p in pathlib.Path(f"/proc/{pid}/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):    # closed since it was listed
            links.append(str(fd.readlink()))
    return [link for link in links if link.endswith("(deleted)") and "memfd:" not in link]


# -- limits of time and number ------------------------------------------------------------------

def test_limits_of_connections():
    settings = {"nginx_http_client_header_timeout": "1s", "nginx_http_client_body_timeout": "1s",
                "nginx_http_keepalive_timeout": "1s", "nginx_http_keepalive_requests": "3",
                "upstream_keepalive_max_requests": "2", "nginx_worker_processes": 1}
    with Origin() as o, Gateway(config=config(o.port), **settings) as g:
        with Client(g) as idle, Client(g) as silent, Client(g) as head, Client(g) as body:
            assert idle.ask(get()).status == 200
            head.send("GET / HTTP/1.1\r\nHost: a\r\n")
            body.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
            assert Answer(head.f).status == 408 and head.closed()
            assert Answer(body.f).status == 408 and body.closed()
            assert idle.closed() and silent.closed()
        before = o.connections
        with Client(g) as c:
            answers = [c.ask(get()) for _ in range(3)]
            assert [a.headers["connection"][0] for a in answers] == ["keep-alive", "keep-alive", "close"]
            assert c.closed()
        assert o.connections - before in (1, 2)     # two requests on each, one may be left over


def test_a_drip_of_a_head_is_not_endless():
    """client_header_timeout is for all of it, not from byte to byte."""
    with Origin() as o, Gateway(config=config(o.port), nginx_http_client_header_timeout="1s") as g, Client(g) as c:
        c.send("GET / HTTP/1.1\r\nX: ")
        began = time.monotonic()
        while not select.select([c.s], [], [], 0.05)[0]:
            c.send("x")
            assert time.monotonic() - began < TIMEOUT
        assert Answer(c.f).status == 408


# -- clients that break off ---------------------------------------------------------------------

@pytest.mark.parametrize("text", [
    "GET /0 HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + "x" * 20_000,
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\n" + "x" * 3000])
def test_a_reset_right_behind_the_bytes(text):
    """Both may be there before the first read: nobody waits for the rest. A drain shows who does."""
    with Origin() as o, Gateway(config=config(o.port)) as g:
        for _ in range(20):
            with Client(g) as c:
                c.send(text)
                c.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert g.stop(signal.SIGQUIT, timeout=TIMEOUT) == 0
