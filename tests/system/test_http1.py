"""HTTP/1.x to its edges: trailers, interim answers, half-closed clients, buffering, slow clients."""

import pytest

from gateway import Gateway
from wire import Client, Origin, config, get

TRAILED = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\n"
           b"X-Sum: 1\r\nContent-Length: 99\r\nSet-Cookie: a=b\r\ngrpc-status: 0\r\n\r\n")


# -- trailers -----------------------------------------------------------------------------------

def test_trailers_of_an_answer():
    """To clients that asked for them; without the fields that mean something in a head only."""
    with Origin(lambda r: TRAILED) as o, Gateway(config=config(o.port)) as g, Client(g) as c:
        a = c.ask(get("/", "TE: trailers"))
        assert (a.body, a.trailers) == (b"abc", ["X-Sum: 1", "grpc-status: 0"])
        assert a.headers["trailer"] == ["X-Sum"] and o.requests[0].get("TE") == "trailers"
        a = c.ask(get("/"))
        assert (a.body, a.trailers) == (b"abc", []) and "trailer" not in a.headers
        assert c.ask(get("/", "TE: trailers, deflate;q=0.5")).trailers == ["X-Sum: 1", "grpc-status: 0"]
        assert o.connections == 1
        assert c.ask("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n").body == b"abc"


@pytest.mark.parametrize("size", [0, 5, 100_000])
def test_trailers_of_a_stored_request(size):
    """Large bodies lie in a file when the trailers come."""
    body = b"x" * size
    with Origin() as o, Gateway(config=config(o.port)) as g, Client(g) as c:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = b"%x\r\n%s\r\n" % (size, body) if size else b""
        assert c.ask(head + chunks + b"0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n").status == 200
        assert c.ask(get("/next")).body == b"hello"
        assert (o.requests[0].body, o.requests[0].trailers) == (body, ["X-Sum: 1"])
        assert o.connections == 1


def test_malformed_trailers_of_an_answer():
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX Y: 1\r\n\r\n"
    with Origin(lambda r: said) as o, Gateway(config=config(o.port)) as g, Client(g) as c:
        c.send(get("/", "TE: trailers"))
        assert not c.f.read().endswith(b"0\r\n\r\n")
