"""gRPC through the gateway: a real client, a real server, and servers that misbehave."""

import contextlib
import queue
import socket
import ssl
import threading
import time
from concurrent import futures

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest

from gateway import Gateway
from h2client import H2
from postgres import free_port, wait_until
from test_http2 import gateway_for
from wire import Client

CODE = grpc.StatusCode
TYPE = ("content-type", "application/grpc")


class Echo(grpc.GenericRpcHandler):
    """/t.Echo/*: methods are these, bytes in and out."""

    def __init__(self):
        self.cancelled, self.metadata, self.peers = threading.Event(), {}, set()

    def service(self, details):
        kind, fn = {"Unary": ("unary_unary", self.unary), "Fail": ("unary_unary", self.fail),
                    "Slow": ("unary_unary", self.slow), "Many": ("unary_stream", self.many),
                    "Sum": ("stream_unary", self.sum), "Chat": ("stream_stream", self.chat),
                    "First": ("stream_stream", self.first)}.get(details.method.rsplit("/")[-1], (None, None))
        return getattr(grpc, kind + "_rpc_method_handler")(fn) if kind else None

    def unary(self, request, context):
        self.metadata = dict(context.invocation_metadata())
        self.peers.add(context.peer())
        context.set_trailing_metadata((("x-trailer", "t"),))
        return request

    def fail(self, request, context):
        context.set_trailing_metadata((("x-trailer", "t"),))
        context.abort(CODE.FAILED_PRECONDITION, "nicht so: ö 100%")

    def slow(self, request, context):
        context.add_callback(self.cancelled.set)
        while context.is_active():
            time.sleep(0.02)
        return b""

    def many(self, request, context):
        for i in range(int(request)):
            yield b"%d" % i

    def sum(self, requests, context):
        return b"%d" % sum(len(r) for r in requests)

    def chat(self, requests, context):
        for r in requests:
            yield b"re:" + r

    def first(self, requests, context):
        yield b"before you ask"
        for r in requests:
            yield r


@contextlib.contextmanager
def server(handler, credentials=None):
    s = grpc.server(futures.ThreadPoolExecutor(64), options=[("grpc.so_reuseport", 0)])
    s.add_generic_rpc_handlers((handler,))
    port = s.add_secure_port("127.0.0.1:0", credentials) if credentials else s.add_insecure_port("127.0.0.1:0")
    s.start()
    try:
        yield port
    finally:
        s.stop(0)


def services(port, protocol="grpc", **fields):
    base = {"protocol": protocol, "host": "127.0.0.1", "port": port, **fields}
    return {"services": [
        {"name": "echo", **base, "routes": [
            {"name": "echo", "protocols": ["grpc", "grpcs"], "paths": ["/t.Echo"], "strip_path": False}]},
        {"name": "tls", **base, "routes": [
            {"name": "tls", "protocols": ["grpcs"], "paths": ["/t.Secret"], "strip_path": False}]},
        {"name": "http", **base, "routes": [{"name": "http", "paths": ["/web"], "strip_path": False}]},
    ]}


@pytest.fixture(scope="module")
def echo():
    return Echo()


@pytest.fixture(scope="module")
def gateway(echo):
    with server(echo) as port, gateway_for(services(port)) as g:
        yield g


@pytest.fixture(scope="module")
def channel(gateway):
    with grpc.insecure_channel(f"127.0.0.1:{gateway.http}") as c:
        yield c


def failure(call):
    with pytest.raises(grpc.RpcError) as e:
        call()
    return e.value.code(), e.value.details()


# -- calls --------------------------------------------------------------------------------------

def test_unary(channel, echo):
    answer, call = channel.unary_unary("/t.Echo/Unary").with_call(
        b"hello", timeout=10, metadata=(("x-meta", "m"),))
    assert answer == b"hello"
    assert dict(call.trailing_metadata()) == {"x-trailer": "t"}
    initial = dict(call.initial_metadata())
    assert initial["via"].startswith("2 ") and len(initial["x-kong-request-id"]) == 32
    assert echo.metadata["x-meta"] == "m" and echo.metadata["x-forwarded-path"] == "/t.Echo/Unary"
    assert echo.metadata["via"].startswith("2 ")


def test_large_messages(channel):
    body = bytes(range(256)) * 12000
    assert channel.unary_unary("/t.Echo/Unary")(body, timeout=20) == body


def test_server_streaming(channel):
    assert [int(m) for m in channel.unary_stream("/t.Echo/Many")(b"3000", timeout=20)] == list(range(3000))


def test_client_streaming(channel):
    call = channel.stream_unary("/t.Echo/Sum")
    assert call((b"x" * 1000 for _ in range(500)), timeout=20) == b"500000"


def test_bidi(channel):
    said = queue.Queue()
    heard = channel.stream_stream("/t.Echo/Chat")(iter(said.get, None), timeout=20)
    for i in range(20):
        said.put(b"%d" % i)
        assert next(heard) == b"re:%d" % i
    said.put(None)
    assert list(heard) == []


def test_the_answer_may_begin_before_the_request(channel):
    said = queue.Queue()
    heard = channel.stream_stream("/t.Echo/First")(iter(said.get, None), timeout=20)
    assert next(heard) == b"before you ask"
    said.put(b"x")
    assert next(heard) == b"x"
    said.put(None)
    assert list(heard) == []


def test_statuses_of_the_server(channel):
    assert failure(lambda: channel.unary_unary("/t.Echo/Fail")(b"", timeout=10)) == (
        CODE.FAILED_PRECONDITION, "nicht so: ö 100%")
    assert failure(lambda: channel.unary_unary("/t.Echo/None")(b"", timeout=10))[0] == CODE.UNIMPLEMENTED


def test_a_deadline_cancels_the_call(channel, echo):
    echo.cancelled.clear()
    code, _ = failure(lambda: channel.unary_unary("/t.Echo/Slow")(b"", timeout=0.3))
    assert code == CODE.DEADLINE_EXCEEDED
    assert echo.cancelled.wait(10)


def test_a_client_that_cancels(channel, echo):
    echo.cancelled.clear()
    call = channel.unary_unary("/t.Echo/Slow").future(b"", timeout=20)
    wait_until(lambda: not call.done(), what="the call")
    time.sleep(0.1)
    call.cancel()
    assert echo.cancelled.wait(10)


def test_calls_share_a_connection(gateway, echo):
    echo.peers.clear()

    def work(_):
        with grpc.insecure_channel(f"127.0.0.1:{gateway.http}", [("grpc.use_local_subchannel_pool", 1)]) as c:
            for i in range(20):
                assert c.unary_unary("/t.Echo/Unary")(b"%d" % i, timeout=20) == b"%d" % i

    with futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(echo.peers) == 1


def test_http1_client_of_a_grpc_service(gateway):
    """As plugins that translate need it: chunks, and the status in trailers for who asks."""
    message = b"\0\0\0\0\0"
    with Client(gateway) as c:
        answer = c.ask(
            b"POST /web/Unary HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTE: trailers\r\n"
            b"Content-Length: %d\r\n\r\n" % len(message) + message)
    assert answer.status == 200 and "grpc-status: 0" in answer.trailers


# -- our own answers ----------------------------------------------------------------------------

@pytest.mark.parametrize("path,headers,status,code,message", [
    ("/none", [TYPE], 404, "5", "NotFound"),
    ("/t.Secret/X", [TYPE], 200, "1", "gRPC request matched gRPCs route"),
])
def test_errors_are_statuses(gateway, path, headers, status, code, message):
    with H2(gateway) as c:
        a = c.ask("POST", path, headers, body=b"\0\0\0\0\0")
    assert (a.status, a.get("content-type"), a.get("grpc-status"), a.get("grpc-message"), a.body) == (
        status, "application/grpc", code, message, b"")


def test_what_is_not_grpc_gets_an_ordinary_answer(gateway):
    with H2(gateway) as c:
        a = c.ask("POST", "/t.Echo/Unary", [("content-type", "text/plain")], body=b"x")
    assert a.status == 415 and b"Non-gRPC request matched gRPC route" in a.body


def test_a_server_that_is_away():
    with gateway_for(services(free_port(), retries=1)) as g:
        with grpc.insecure_channel(f"127.0.0.1:{g.http}") as c:
            code, text = failure(lambda: c.unary_unary("/t.Echo/Unary")(b"", timeout=10))
        assert (code, text) == (CODE.INTERNAL, "An invalid response was received from the upstream server")


def test_a_server_that_never_answers(echo):
    with server(echo) as port, gateway_for(services(port, read_timeout=300, retries=0)) as g:
        echo.cancelled.clear()
        with grpc.insecure_channel(f"127.0.0.1:{g.http}") as c:
            code, text = failure(lambda: c.unary_unary("/t.Echo/Slow")(b"", timeout=10))
        assert (code, text) == (CODE.DEADLINE_EXCEEDED, "The upstream server is timing out")
        assert echo.cancelled.wait(10)


# -- TLS ----------------------------------------------------------------------------------------

def test_grpcs_on_both_sides(echo):
    with Gateway(config={}) as maker:       # its own certificate will do for the server, too
        key = (maker.prefix / "ssl" / "kong-default.key").read_bytes()
        cert = (maker.prefix / "ssl" / "kong-default.crt").read_bytes()
    credentials = grpc.ssl_server_credentials([(key, cert)])
    with server(echo, credentials) as port, gateway_for(services(port, "grpcs")) as g:
        shown = ssl.get_server_certificate(("127.0.0.1", g.https)).encode()
        options = [("grpc.ssl_target_name_override", "localhost")]
        with grpc.secure_channel(f"127.0.0.1:{g.https}", grpc.ssl_channel_credentials(shown), options) as c:
            assert c.unary_unary("/t.Echo/Unary")(b"secret", timeout=10) == b"secret"
            assert echo.metadata["x-forwarded-proto"] == "https"
            assert failure(lambda: c.unary_unary("/t.Secret/None")(b"", timeout=10))[0] == CODE.UNIMPLEMENTED


# -- servers that refuse, leave and break -------------------------------------------------------

class Odd:
    """An HTTP/2 server: act(connection number, h2, event) says what happens; None: a proper answer."""

    def __init__(self, act, streams=100):
        self.act, self.streams, self.connections, self.open, self.most = act, streams, 0, 0, 0
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
                threading.Thread(target=self.serve, args=(s, self.connections), daemon=True).start()

    def serve(self, s, number):
        c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        c.local_settings = h2.settings.Settings(client=False, initial_values={
            h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.streams})
        c.initiate_connection()
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError), s:
            s.sendall(c.data_to_send())
            while data := s.recv(65536):
                for e in c.receive_data(data):
                    if isinstance(e, h2.events.DataReceived):
                        c.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
                    self.act(self, number, c, e)
                s.sendall(c.data_to_send())


def answer(c, stream, message=b"\0\0\0\0\2ok", status="0"):
    c.send_headers(stream, [(":status", "200"), TYPE])
    c.send_data(stream, message)
    c.send_headers(stream, [("grpc-status", status)], end_stream=True)


def ask(port, path="/t.Echo/X", **fields):
    with gateway_for(services(port, **fields)) as g, grpc.insecure_channel(f"127.0.0.1:{g.http}") as c:
        return c.unary_unary(path)(b"hello", timeout=10)


def test_refused_streams_go_to_the_server_again():
    def act(odd, number, c, e):
        if isinstance(e, h2.events.StreamEnded):
            if e.stream_id == 1:
                c.reset_stream(1, h2.errors.ErrorCodes.REFUSED_STREAM)
            else:
                answer(c, e.stream_id)

    with Odd(act) as odd:
        assert ask(odd.port, retries=0) == b"ok"


def test_calls_behind_a_goaway_go_to_a_new_connection():
    def act(odd, number, c, e):
        if isinstance(e, h2.events.StreamEnded):
            if number == 1:
                c.close_connection(last_stream_id=0)
            else:
                answer(c, e.stream_id)

    with Odd(act) as odd:
        assert ask(odd.port, retries=0) == b"ok"
        assert odd.connections == 2


@pytest.mark.parametrize("error,code", [
    (h2.errors.ErrorCodes.INTERNAL_ERROR, CODE.INTERNAL), (h2.errors.ErrorCodes.CANCEL, CODE.CANCELLED),
    (h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, CODE.RESOURCE_EXHAUSTED),
])
def test_resets_in_the_middle_keep_their_meaning(error, code):
    def act(odd, number, c, e):
        if isinstance(e, h2.events.StreamEnded):
            c.send_headers(e.stream_id, [(":status", "200"), TYPE])
            c.send_data(e.stream_id, b"\0\0\0\0\2ok")
            c.reset_stream(e.stream_id, error)

    with Odd(act) as odd:
        assert failure(lambda: ask(odd.port))[0] == code


def test_a_connection_that_breaks_in_the_middle():
    def act(odd, number, c, e):
        if isinstance(e, h2.events.StreamEnded):
            raise OSError

    with Odd(act) as odd:
        assert failure(lambda: ask(odd.port, retries=0))[0] == CODE.INTERNAL


def test_the_servers_limit_of_streams_is_kept():
    lock = threading.Lock()

    def act(odd, number, c, e):
        if isinstance(e, h2.events.StreamEnded):
            with lock:
                odd.most = max(odd.most, c.open_inbound_streams)
            time.sleep(0.02)
            answer(c, e.stream_id)

    with Odd(act, streams=2) as odd, gateway_for(services(odd.port)) as g:
        with grpc.insecure_channel(f"127.0.0.1:{g.http}") as c:
            call = c.unary_unary("/t.Echo/X")
            call(b"", timeout=10)
            calls = [call.future(b"%d" % i, timeout=10) for i in range(20)]
            assert [f.result() for f in calls] == [b"ok"] * 20
        assert odd.most <= 2 and odd.connections > 2


def test_too_much_head_is_a_bad_answer():
    def act(odd, number, c, e):
        if isinstance(e, h2.events.StreamEnded):
            c.send_headers(e.stream_id, [(":status", "200"), *[(f"x{i}", "y" * 900) for i in range(100)]])

    with Odd(act) as odd:
        assert failure(lambda: ask(odd.port, retries=0))[0] == CODE.INTERNAL
