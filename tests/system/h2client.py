"""An HTTP/2 client that can misbehave: python3-h2 for what is right, raw frames for the rest.

    with H2(gateway) as c:
        answer = c.ask("GET", "/path")             # waits for the whole answer
        s = c.request("POST", "/x", end=False); c.data(s, b"..", end=True); c.wait(s)
        c.send_frame(PING, 0, 0, b"12345678")      # whatever you like
"""

import contextlib
import socket
import ssl
import struct
import time

import h2.config
import h2.connection
import h2.events
import h2.settings

# After GOAWAY streams that were begun go on, whatever python3-h2 thinks.
_machine = h2.connection.H2ConnectionStateMachine
_open, _goaway = h2.connection.ConnectionState.CLIENT_OPEN, h2.connection.ConnectionInputs.RECV_GOAWAY
_machine._transitions[(_open, _goaway)] = (None, _open)

TIMEOUT = 20
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)


class Answer:
    def __init__(self):
        self.status, self.headers, self.trailers, self.interims = None, [], [], []
        self.body, self.ended, self.reset = b"", False, None

    def get(self, name):
        values = [v for k, v in self.headers if k == name]
        return values[0] if values else None

    @property
    def over(self):
        return self.ended or self.reset is not None


class H2:
    """windows: whether windows are opened as data comes."""

    def __init__(self, gateway, tls=False, windows=True, port=None, settings=None):
        self.s = socket.create_connection(("127.0.0.1", port or (gateway.https if tls else gateway.http)),
                                          TIMEOUT)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2", "http/1.1"])
            self.s = context.wrap_socket(self.s, server_hostname="a.test")
            assert self.s.selected_alpn_protocol() == "h2"
        self.windows, self.answers, self.goaway, self.closed = windows, {}, None, False
        self.pings = 0
        self.c = h2.connection.H2Connection(h2.config.H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False))
        if settings:
            self.c.local_settings = h2.settings.Settings(client=True, initial_values=settings)
        self.c.initiate_connection()
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.s.close()

    def flush(self):
        self.s.sendall(self.c.data_to_send())

    # -- saying ---------------------------------------------------------------------------------

    def request(self, method="GET", path="/", headers=(), end=True, authority="a.test", raw=None):
        s = self.c.get_next_available_stream_id()
        head = raw if raw is not None else [(":method", method), (":scheme", "http"),
                                            (":authority", authority), (":path", path), *headers]
        self.answers[s] = Answer()
        self.c.send_headers(s, head, end_stream=end)
        self.flush()
        return s

    def data(self, s, data, end=False):
        """As the windows allow; reads meanwhile."""
        while True:
            room = min(self.c.local_flow_control_window(s), self.c.max_outbound_frame_size, len(data))
            self.c.send_data(s, data[:room], end_stream=end and room == len(data))
            self.flush()
            data = data[room:]
            if not data or self.answers[s].over:
                return
            while self.c.local_flow_control_window(s) == 0 and not self.answers[s].over:
                self.read()

    def send_frame(self, kind, flags, stream, payload=b""):
        self.s.sendall(frame(kind, flags, stream, payload))

    # -- hearing --------------------------------------------------------------------------------

    def read(self, timeout=TIMEOUT):
        """Takes what comes next. False: the connection is over."""
        self.s.settimeout(timeout)
        try:
            data = self.s.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return False
        for e in self.c.receive_data(data):
            self.take(e)
        with contextlib.suppress(OSError):
            self.flush()
        return True

    def take(self, e):
        a = self.answers.get(getattr(e, "stream_id", None))
        if isinstance(e, h2.events.ConnectionTerminated):
            self.goaway = e.error_code
        elif isinstance(e, h2.events.PingAckReceived):
            self.pings += 1
        elif a is None:
            return
        elif isinstance(e, h2.events.ResponseReceived):
            a.headers, a.status = e.headers, int(dict(e.headers)[":status"])
        elif isinstance(e, h2.events.InformationalResponseReceived):
            a.interims.append(int(dict(e.headers)[":status"]))
        elif isinstance(e, h2.events.TrailersReceived):
            a.trailers = e.headers
        elif isinstance(e, h2.events.DataReceived):
            a.body += e.data
            if self.windows and e.flow_controlled_length:
                self.c.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, h2.events.StreamEnded):
            a.ended = True
        elif isinstance(e, h2.events.StreamReset):
            a.reset = e.error_code

    def wait(self, s):
        while not self.answers[s].over:
            assert self.read(), f"closed (GOAWAY {self.goaway}) before the answer"
        return self.answers[s]

    def ask(self, method="GET", path="/", headers=(), body=b"", **more):
        s = self.request(method, path, headers, end=not body, **more)
        if body:
            self.data(s, body, end=True)
        return self.wait(s)

    def wait_closed(self, timeout=TIMEOUT):
        """Reads to the end of the connection; the GOAWAY's code, None when there was none."""
        until = time.monotonic() + timeout
        while not self.closed:
            assert time.monotonic() < until, "still open"
            self.read(timeout)
        return self.goaway


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def frames_of(s):
    """What comes on a socket, frame by frame: (type, flags, stream, payload)."""
    f = s.makefile("rb")
    while head := f.read(9):
        length, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], head[5:]
        yield kind, flags, int.from_bytes(stream, "big"), f.read(length)


def flood(gateway, frames, rounds=2000, before=None):
    """Sends frames over and over, without reading, until the other side hangs up or for so many
    rounds. The code of its GOAWAY, None when it was lost; fails when the connection stays open."""
    with H2(gateway) as c:
        if before:
            before(c)
        with contextlib.suppress(OSError):
            for n in range(rounds):
                c.s.sendall(frames(n) if callable(frames) else frames)
        with contextlib.suppress(OSError):
            c.wait_closed(10)
        assert c.closed, "nobody minded"
        return c.goaway
