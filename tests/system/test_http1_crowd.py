"""10,000 idle and 1,000 slow clients beside full load: the others notice nothing, memory is bounded.

Slow means a byte at a time: of the request's head, of its body, or of the answer read. At the end all
of them get what they asked for. Where the machine does not allow that many descriptors there are
fewer, and the test says so.
"""

import contextlib
import resource
import selectors
import socket
import threading
import time
import warnings

import pytest

from gateway import Gateway
from postgres import wait_until
from wire import TIMEOUT, config

IDLE, SLOW = 10_000, 1_000
SPARE = 1_500                   # descriptors for everything else
LOAD_THREADS, LOAD_SECONDS = 4, 4
IDLE_BYTES, SLOW_BYTES = 1_024, 64 * 1024      # resident, each, at most
READ = bytes(range(256)) * 1500                 # what slow readers ask for
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Reactor(threading.Thread):
    """An origin that costs little: one thread, every request in one read."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.bodies, self.stopping = {}, False
        self.start()

    def run(self):
        while not self.stopping:
            for key, _ in self.selector.select(0.2):
                if key.fileobj is self.listener:
                    s, _ = self.listener.accept()
                    self.selector.register(s, selectors.EVENT_READ, bytearray())
                else:
                    self.serve(key.fileobj, key.data)

    def serve(self, s, got):
        data = s.recv(65536)
        if not data:
            self.selector.unregister(s)
            s.close()
            return
        got += data
        head, end, body = got.partition(b"\r\n\r\n")
        if not end or (b"Content-Length: 100" in head and len(body) < 100):
            return
        got.clear()
        if b" /read " in head:
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(READ) + READ)
        else:
            s.sendall(HELLO)

    def stop(self):
        self.stopping = True
        self.join()
        self.listener.close()


def connect(port, receive=0):
    s = socket.socket()
    if receive:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    s.settimeout(TIMEOUT)
    s.connect(("127.0.0.1", port))
    return s


class SlowClient:
    """Sends `slowly` byte by byte, or reads so; then finish() does the rest at once."""

    def __init__(self, port, at_once, slowly=b"", reads=False):
        self.reads, self.left, self.got = reads, slowly, b""
        self.s = connect(port, 4096 if reads else 0)
        self.s.sendall(at_once)

    def tick(self):
        if self.reads:
            self.got += self.s.recv(1)
        else:
            self.s.sendall(self.left[:1])
            self.left = self.left[1:]

    def finish(self):
        """Whether the answer is what it should be."""
        self.s.sendall(self.left)
        want = len(READ) if self.reads else 5
        while (at := self.got.find(b"\r\n\r\n")) < 0 or len(self.got) < at + 4 + want:
            data = self.s.recv(65536)
            if not data:
                return False
            self.got += data
        body = self.got[at + 4:]
        return self.got.startswith(b"HTTP/1.1 200 ") and body == (READ if self.reads else b"hello")


def slow_client(port, i):
    if i % 5 == 0:
        return SlowClient(port, b"GET /read HTTP/1.1\r\nHost: a\r\n\r\n", reads=True)
    if i % 2:
        return SlowClient(port, b"", b"GET /head HTTP/1.1\r\nHost: a.test\r\nX-Long: " + b"x" * 50 + b"\r\n\r\n")
    path = b"/stream/body" if i % 4 else b"/body"
    return SlowClient(port, b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n", b"x" * 100)


class Load(threading.Thread):
    """Requests back to back, for a while; counts them, and what went wrong."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.done, self.wrong, self.go = port, 0, [], True
        self.start()

    def run(self):
        while self.go and not self.wrong:
            try:
                with connect(self.port) as s:
                    self.ask_on(s)
            except OSError as e:
                self.wrong.append(e)

    def ask_on(self, s):
        """As many as the connection may have: keepalive_requests ends it politely."""
        while self.go:
            s.sendall(b"GET /load HTTP/1.1\r\nHost: a\r\n\r\n")
            data = b""
            while not data.endswith(b"\r\n\r\nhello"):
                more = s.recv(65536)
                if not more:
                    self.wrong.append(data or "closed")
                    return
                data += more
            if not data.startswith(b"HTTP/1.1 200 "):
                self.wrong.append(data)
            self.done += 1
            if b"\r\nConnection: close\r\n" in data:
                return


@pytest.fixture
def crowd():
    """(idle, slow): as many as descriptors allow; the limit is raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    share = min(1, (hard - SPARE) / (IDLE + 2 * SLOW))
    if share < 1:
        warnings.warn(f"only {hard} descriptors: {share:.0%} of the crowd")
    yield int(IDLE * share), int(SLOW * share)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_crowd_is_no_burden(crowd):
    idle, slow = crowd
    origin = Reactor()
    services = config(origin.port, stream={"route": {"request_buffering": False}})
    with contextlib.ExitStack() as stack:
        stack.callback(origin.stop)
        g = stack.enter_context(Gateway(config=services))
        warm = [Load(g.http) for _ in range(LOAD_THREADS)]
        wait_until(lambda: all(w.done > 50 or w.wrong for w in warm), what="a warm gateway")
        for w in warm:
            w.go = False
            w.join()
        before = g.rss()
        sleepers = [stack.enter_context(connect(g.http)) for _ in range(idle)]
        for s in sleepers[::10]:     # some have asked before they fell asleep
            s.sendall(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
            assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: waiting(g) >= idle, what="all accepted")
        with_idle = g.rss()
        load = [Load(g.http) for _ in range(LOAD_THREADS)]
        clients = [slow_client(g.http, i) for i in range(slow)]
        stack.callback(lambda: [c.s.close() for c in clients])
        for _ in range(LOAD_SECONDS):
            began = time.monotonic()
            for c in clients:
                c.tick()
            time.sleep(max(0, began + 1 - time.monotonic()))   # a byte a second
        for t in load:
            t.go = False
            t.join()
        with_slow = g.rss()
        done = [t.done for t in load]
        print(f"{idle} idle: {(with_idle - before) / idle:.0f} bytes each; {slow} slow: "
              f"{(with_slow - with_idle) / slow:.0f} bytes each; {sum(done)} requests beside them")
        assert [w for t in load for w in t.wrong] == [] and min(done) > 50
        assert with_idle - before < idle * IDLE_BYTES
        assert with_slow - with_idle < slow * SLOW_BYTES
        assert [i for i, c in enumerate(clients) if not c.finish()] == []
        assert waiting(g) >= idle


def waiting(gateway):
    """Connections between two requests, as the status endpoint counts them."""
    return gateway.ask_status("/status").json()["server"]["connections_waiting"]
