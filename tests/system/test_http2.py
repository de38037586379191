"""HTTP/2 to clients: several exchanges on a connection, flow control, limits."""

import hashlib
import signal
import socket
import threading

import h2.errors
import h2.settings
import pytest

from gateway import Gateway
from h2client import (CONTINUATION, DATA, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
                      H2, flood, frame, frames_of)
from postgres import wait_until
from wire import Client, Origin, config, get, ok, read_head

CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
PROTOCOL_ERROR = h2.errors.ErrorCodes.PROTOCOL_ERROR
BIG = bytes(range(256)) * 16384     # 4 MiB


def gateway_for(services, **settings):
    g = Gateway(config=services, **{"nginx_worker_processes": 1, **settings})
    g.settings["proxy_listen"] = f"127.0.0.1:{g.http} http2, 127.0.0.1:{g.https} ssl"
    return g


def memory(gateway):
    """Resident kB of all its processes."""
    total = 0
    for pid in [gateway.process.pid, *gateway.serving_pids()]:
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    return total


@pytest.fixture(scope="module")
def gate():
    return threading.Event()


@pytest.fixture(scope="module")
def origin(gate):
    def answer(r):
        path = r.line.split(" ")[1].split("?")[0]
        if path == "/big":
            return ok(BIG)
        if path == "/gate":
            gate.wait(20)
            return ok(b"opened")
        if path in ("/echo", "/stream"):
            return ok(hashlib.sha256(r.body).hexdigest().encode(), f"X-Length: {len(r.body)}")
        if path == "/trailers":
            return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                    b"3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n")
        if path == "/cut":
            def cut(s, f):
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            return cut
        if path == "/headers":
            return ok("\n".join(f"{k}: {v}" for k, v in r.headers).encode())
        return ok(path.encode())

    with Origin(answer) as o:
        yield o


@pytest.fixture(scope="module")
def gateway(origin):
    routes = config(origin.port, stream={"route": {"request_buffering": False, "strip_path": False}},
                    big={"route": {"response_buffering": False, "strip_path": False}})
    with gateway_for(routes) as g:
        yield g


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def client(gateway, request):
    with H2(gateway, tls=request.param) as c:
        yield c


# -- exchanges ----------------------------------------------------------------------------------

def test_many_at_once_and_a_slow_one_holds_nobody(client, gate):
    gate.clear()
    slow = client.request(path="/gate")
    streams = [client.request(path=f"/n{i}") for i in range(100)]
    for i, s in enumerate(streams):
        a = client.wait(s)
        assert (a.status, a.body) == (200, f"/n{i}".encode())
    assert not client.answers[slow].over
    gate.set()
    assert client.wait(slow).body == b"opened"


def test_http1_on_the_same_listener(gateway):
    with Client(gateway) as c:
        assert c.ask(get("/one")).body == b"/one"
    with Client(gateway) as c:
        c.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
        assert c.f.read()[9:].count(b"HTTP/1") == 0     # frames, and then the end


@pytest.mark.parametrize("path", ["/echo", "/stream"])
@pytest.mark.parametrize("length", [1, 65536, 3 << 20])
@pytest.mark.parametrize("told", [True, False])
def test_request_bodies(client, path, length, told):
    body = bytes(i * 7 & 255 for i in range(256)) * (length // 256 + 1)
    body = body[:length]
    a = client.ask("POST", path, [("content-length", str(length))] if told else [], body=body)
    assert a.status == 200
    assert a.get("x-length") == str(length)
    assert a.body.decode() == hashlib.sha256(body).hexdigest()


def test_large_answers_side_by_side(client):
    streams = [client.request(path="/big") for _ in range(4)]
    for s in streams:
        assert client.wait(s).body == BIG


def test_head_204_and_expect(client):
    a = client.ask("HEAD", "/x")
    assert (a.status, a.body, a.get("content-length")) == (200, b"", "2")
    s = client.request("POST", "/echo", [("expect", "100-continue")], end=False)
    while not client.answers[s].interims:
        assert client.read()
    client.data(s, b"abc", end=True)
    assert client.wait(s).get("x-length") == "3"


def test_trailers_pass_on(client):
    a = client.ask(path="/trailers", headers=[("te", "trailers")])
    assert (a.body, a.trailers) == (b"abc", [("x-sum", "6")])
    assert client.ask(path="/trailers").trailers == []


def test_what_is_cut_off_is_reset(client):
    a = client.ask(path="/cut")
    assert a.reset == h2.errors.ErrorCodes.INTERNAL_ERROR
    assert client.ask(path="/after").status == 200


def test_a_cancelled_request_ends_upstream(gateway):
    seen = threading.Event()

    def answer(r):
        def serve(s, f):
            if f.read(1) == b"":
                seen.set()
        return serve

    with Origin(answer) as o, gateway_for(config(o.port)) as g, H2(g) as c:
        s = c.request(path="/")
        wait_until(lambda: o.requests, what="the request")
        c.c.reset_stream(s, h2.errors.ErrorCodes.CANCEL)
        c.flush()
        assert seen.wait(10)


def test_an_answer_before_the_end_of_the_request(client):
    s = client.request("POST", "/stream/none?x", end=False)
    client.data(s, b"x" * 10)
    client.c.end_stream(s)
    client.flush()
    assert client.wait(s).status == 200
    s = client.request("POST", "/x", [("content-length", "100000000000")], end=False)
    client.data(s, b"x" * 1000)
    assert not client.answers[s].over


# -- what is refused ----------------------------------------------------------------------------

def head(*more, drop=(), **given):
    fields = {"method": "GET", "scheme": "http", "authority": "a.test", "path": "/headers", **given}
    return [(f":{k}", v) for k, v in fields.items() if k not in drop] + list(more)


@pytest.mark.parametrize("raw", [
    head(("connection", "close")), head(("transfer-encoding", "chunked")), head(("upgrade", "h2c")),
    head(("keep-alive", "1")), head(("proxy-connection", "x")), head(("te", "gzip")),
    head(("X-Upper", "1")), head(("x bad", "1")), head(("x", "a\nb")), head(drop=["path"]),
    head(drop=["method"]), head(drop=["scheme"]), head((":path", "/again")), head(("x", "1"), (":late", "1")),
    head(path=""), head(("content-length", "1")), head((":status", "200")),
], ids=str)
def test_malformed_requests_are_reset(client, raw):
    a = client.wait(client.request(raw=raw))
    assert a.reset == PROTOCOL_ERROR or a.status == 400
    assert client.ask(path="/after").status == 200


@pytest.mark.parametrize("raw,status", [
    (head(("host", "b.test")), 400), (head(method="TRACE"), 405), (head(method="get"), 400),
    (head(path="nothing"), 400), (head(path="/a b"), 400), (head(path="/%00"), 400),
    (head(path="/../x"), 400), (head(authority="a b"), 400), (head(drop=["authority"]), 400),
    (head(path="/" + "x" * 9000), 414), (head(("x", "y" * 9000)), 400),
    (head(*[(f"x{i}", "y" * 1000) for i in range(60)]), 400),
], ids=lambda v: str(v)[:60])
def test_refused_as_over_http1(client, raw, status):
    a = client.wait(client.request(raw=raw))
    assert a.status == status or (a.reset == PROTOCOL_ERROR and status == 400), a.status
    assert client.ask(path="/after").status == 200


def test_connect_is_refused(client):
    s = client.request(raw=[(":method", "CONNECT"), (":authority", "a.test:80")], end=False)
    assert client.wait(s).status == 405


def test_length_and_data_must_agree(client):
    s = client.request("POST", "/echo", [("content-length", "3")], end=False)
    client.data(s, b"four", end=True)
    assert client.wait(s).reset == PROTOCOL_ERROR
    s = client.request("POST", "/echo", [("content-length", "5")], end=False)
    client.data(s, b"four", end=True)
    assert client.wait(s).reset == PROTOCOL_ERROR


def test_fields_reach_the_origin_as_lines(client):
    a = client.ask(raw=head(("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("x-a", "2"),
                            ("cookie", "c=3"), ("dotted.name", "x"), ("content_length", "7")))
    lines = a.body.decode().split("\n")
    assert [x for x in lines if x.lower().startswith("cookie")] == ["cookie: a=1; b=2; c=3"]
    assert [x for x in lines if x.startswith("x-a")] == ["x-a: 1", "x-a: 2"]
    assert "Host: 127.0.0.1:" in a.body.decode()
    assert not [x for x in lines if "dotted" in x or "content_length" in x]


def test_many_headers(client):
    a = client.ask(raw=head(*[(f"x-{i}", "1") for i in range(300)]))
    assert a.status == 200 and a.body.count(b"\nx-") >= 299


# -- flow control -------------------------------------------------------------------------------

def test_a_slow_reader_stops_its_upstream_and_nobody_else(origin, gateway):
    sent = []

    def answer(r):
        def serve(s, f):
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
            for _ in range(1024):
                s.sendall(b"x" * 65536)
                sent.append(65536)
        return serve

    with Origin(answer) as o:
        routes = config(o.port, all2={})
        routes["services"][0]["routes"][0]["response_buffering"] = False
        with gateway_for(routes) as g, H2(g, windows=False) as c:
            before = memory(g)
            slow = c.request()
            while len(c.answers[slow].body) < 65535:
                c.read()
            c.ping = c.c.ping(b"12345678")
            c.flush()
            while c.pings == 0:
                c.read()
            wait_until(lambda: len(sent) == len(sent[:]), what="a pause")
            assert len(sent) * 65536 < 16 << 20, "the upstream was read although nobody reads"
            assert memory(g) - before < 4 << 10
            c.windows = True
            c.c.increment_flow_control_window(1 << 20)
            c.c.increment_flow_control_window(1 << 20, slow)
            c.flush()
            while len(c.answers[slow].body) < 2 << 20:
                assert c.read()


def test_a_slow_upstream_stops_windows(gateway):
    go = threading.Event()

    class Slow(Origin):
        def serve(self, s):
            with s, s.makefile("rb") as f:
                read_head(f)
                go.wait(20)
                while f.readline() not in (b"0\r\n", b""):
                    pass
                s.sendall(ok(b"done"))

    with Slow() as o:
        routes = config(o.port)
        routes["services"][0]["routes"][0]["request_buffering"] = False
        with gateway_for(routes) as g, H2(g) as c:
            before = memory(g)
            s, sent = c.request("POST", "/", end=False), 0
            while sent < 32 << 20:
                room = min(c.c.local_flow_control_window(s), 16384)
                if room == 0:
                    try:
                        c.read(1)
                    except socket.timeout:
                        break
                    continue
                c.c.send_data(s, b"x" * room)
                c.flush()
                sent += room
            assert sent < 24 << 20, "the window opens although the upstream does not read"
            assert memory(g) - before < 4 << 10
            go.set()
            c.c.end_stream(s)
            c.flush()
            assert c.wait(s).body == b"done"


def test_a_window_that_stays_shut_times_out(origin):
    with gateway_for(config(origin.port), nginx_http_send_timeout="1s") as g:
        with H2(g, settings={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}) as c:
            s = c.request(path="/n")
            assert c.wait(s).reset is not None
            assert c.answers[s].status == 200 and c.answers[s].body == b""


# -- limits -------------------------------------------------------------------------------------

FLOODS = {
    "ping": frame(PING, 0, 0, b"12345678") * 20,
    "settings": frame(SETTINGS, 0, 0) * 20,
    "priority": frame(PRIORITY, 0, 1, b"\0\0\0\0\0") * 20,
    "window updates": frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 20,
    "unknown": frame(99, 0, 0, b"x") * 1000,
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_end_the_connection(gateway, name):
    before = memory(gateway)
    assert flood(gateway, FLOODS[name]) in (None, CALM)
    assert memory(gateway) - before < 8 << 10
    with H2(gateway) as c:
        assert c.ask(path="/after").status == 200


def test_a_flood_is_told_to_calm_down(gateway):
    with H2(gateway) as c:
        for _ in range(60):
            c.s.sendall(FLOODS["ping"])
        assert c.wait_closed() == CALM


def test_empty_data_flood(gateway):
    def begin(c):
        c.request("POST", "/stream", end=False)

    assert flood(gateway, frame(DATA, 0, 1) * 20, before=begin) in (None, CALM)


def test_rapid_reset(gateway, gate):
    gate.set()
    block = b"\x82\x86\x84\x41\x06a.test"     # GET http / a.test
    before = memory(gateway)

    def reset(n):
        return frame(HEADERS, 5, 2 * n + 1, block) + frame(RST_STREAM, 0, 2 * n + 1, b"\0\0\0\x08")

    flood(gateway, reset, rounds=20000)
    assert memory(gateway) - before < 32 << 10      # kept for reuse, by exchanges as by others
    with H2(gateway) as c:
        assert c.ask(path="/after").status == 200


def test_continuation_flood(gateway):
    before = memory(gateway)

    def begin(c):
        c.send_frame(HEADERS, 1, 1, b"\x82\x86\x84\x41\x06a.test")

    flood(gateway, frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y" * 2000), before=begin)
    assert memory(gateway) - before < 8 << 10


def test_header_bomb(gateway):
    """One large field in the table, named thousands of times."""
    before = memory(gateway)
    value = b"v" * 3900
    first = b"\x82\x86\x84\x41\x06a.test" + b"\x40\x01x" + b"\x7f" + bytes([(3900 - 127) & 127 | 128, (3900 - 127) >> 7]) + value
    with H2(gateway) as c:
        c.send_frame(HEADERS, 1, 1, first)
        for _ in range(4):
            c.send_frame(CONTINUATION, 0, 1, b"\xbe" * 16000)
        c.send_frame(CONTINUATION, 4, 1, b"\xbe" * 16000)
        c.s.settimeout(10)
        assert any(stream == 1 for _, _, stream, _ in frames_of(c.s))
    assert memory(gateway) - before < 8 << 10
    with H2(gateway) as c:
        assert c.ask(path="/after").status == 200


def test_streams_beyond_the_limit_are_refused(gateway, gate):
    gate.clear()
    with H2(gateway) as c:
        c.read()
        c.c.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
        c.c.remote_settings.acknowledge()
        streams = [c.request(path="/gate") for _ in range(130)]
        while sum(c.answers[s].over for s in streams) < 2 and not c.closed:
            c.read()
        gate.set()
        if not c.closed:
            refused = [s for s in streams if c.answers[s].reset is not None]
            assert refused == streams[128:]
            assert all(c.wait(s).body == b"opened" for s in streams[:128])


# -- ends ---------------------------------------------------------------------------------------

def test_idle_connections_are_closed(origin):
    with gateway_for(config(origin.port), nginx_http_keepalive_timeout="1s") as g, H2(g) as c:
        assert c.ask(path="/x").status == 200
        assert c.wait_closed() == h2.errors.ErrorCodes.NO_ERROR


def test_requests_of_a_connection_are_counted(origin):
    with gateway_for(config(origin.port), nginx_http_keepalive_requests="5") as g, H2(g) as c:
        for _ in range(5):
            assert c.ask(path="/x").status == 200
        assert c.wait_closed() == h2.errors.ErrorCodes.NO_ERROR


def test_draining_lets_streams_end(origin, gate):
    gate.clear()
    with gateway_for(config(origin.port)) as g, H2(g) as c:
        s = c.request(path="/gate")
        c.ask(path="/n")
        g.process.send_signal(signal.SIGQUIT)
        while c.goaway is None:
            assert c.read()
        assert not c.answers[s].over
        gate.set()
        assert c.wait(s).body == b"opened"
        assert c.wait_closed() == h2.errors.ErrorCodes.NO_ERROR


def test_dribbled_preface_and_head(gateway):
    with H2(gateway) as c:
        assert c.ask(path="/x").status == 200
    raw = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + frame(
        HEADERS, 5, 1, b"\x82\x86\x84\x41\x06a.test")
    with socket.create_connection(("127.0.0.1", gateway.http), 10) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(raw)):
            s.sendall(raw[i:i + 1])
        got = b""
        while b"/" not in got[60:]:
            got += s.recv(65536)
