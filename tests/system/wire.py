"""HTTP/1.x byte by byte: a client that sends what it is told, an origin that answers what it is told.

    with Origin(lambda r: ok(b"hello")) as o, Gateway(config=config(o.port)) as g, Client(g) as c:
        assert c.ask(get("/path")).body == b"hello" and o.requests[0].line == "GET /path HTTP/1.1"
"""

import contextlib
import socket
import ssl
import threading

TIMEOUT = 20


class Request:
    def __init__(self, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.headers = [tuple(line.split(": ", 1)) for line in lines[1:]]
        self.body, self.trailers = body, []

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
    """The body, and the lines of its trailers."""
    body, trailers = b"", []
    while True:
        size = int(f.readline().split(b";")[0], 16)
        if size == 0:
            while (line := f.readline()) != b"\r\n":
                assert line.endswith(b"\r\n")
                trailers.append(line.decode("latin-1").strip())
            return body, trailers
        body += f.read(size)
        assert f.readline() == b"\r\n"


def read_request(f):
    head = read_head(f)
    if head is None:
        return None
    r = Request(head, b"")
    if r.get("Transfer-Encoding"):
        r.body, r.trailers = read_chunks(f)
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
        self.body, self.trailers = b"", []
        if head_only or self.status in (101, 204, 304):
            return
        if "transfer-encoding" in self.headers:
            self.body, self.trailers = read_chunks(f)
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
