"""What crosses the gateway, a row a header: what the origin saw of a request, the client of an answer.

Rows are what nginx 1.25.3 and Kong 3.9.1's own rules make of the same bytes.
"""

import pytest

from gateway import Gateway
from wire import Client, Origin, config, get, ok


@pytest.fixture(scope="module")
def origin():
    with Origin() as o:
        yield o


@pytest.fixture(scope="module")
def gateway(origin):
    with Gateway(config=config(origin.port), nginx_worker_processes=1, headers="off") as g:
        yield g


@pytest.fixture(scope="module")
def trusting(origin):
    with Gateway(config=config(origin.port), nginx_worker_processes=1, trusted_ips="127.0.0.1") as g:
        yield g


SEEN = [  # whether the client is trusted, its header, the name that the origin is asked for, what it saw
    (True, "X-Forwarded-Proto:", "X-Forwarded-Proto", None),
    (True, "X-Forwarded-Host:", "X-Forwarded-Host", None),
    (True, "X-Forwarded-Port:", "X-Forwarded-Port", None),
    (True, "X-Forwarded-Path:", "X-Forwarded-Path", None),
    (True, "X-Forwarded-Prefix:", "X-Forwarded-Prefix", None),
    (True, "X_Forwarded_Proto: https", "X-Forwarded-Proto", "https"),
    (True, "X-Forwarded-Proto: a\r\nX_Forwarded_Proto: b", "X-Forwarded-Proto", "b"),
    (True, "X_Forwarded-Proto: https", "X-Forwarded-Proto", "http"),
    (False, "X_Forwarded_Proto: https", "X-Forwarded-Proto", "http"),
    (False, "X-Forwarded-For: 1.1.1.1\r\nX_Forwarded_For: 2.2.2.2", "X-Forwarded-For", "2.2.2.2, 127.0.0.1"),
    (False, "X_Forwarded-For: 1.1.1.1", "X-Forwarded-For", "127.0.0.1"),
]


@pytest.mark.parametrize("trusted, header, name, value", SEEN)
def test_request_headers(gateway, trusting, origin, trusted, header, name, value):
    with Client(trusting if trusted else gateway) as c:
        assert c.ask(get("/", header)).status == 200
    assert origin.requests[-1].get(name) == value


ANSWERED = [  # headers of the origin's answer; one of them as the client sees it
    (["Content-Type:"], "content-type", None),
    (["Content-Type: text/html", "Content-Encoding: gzip"], "content-type", ["text/html; charset=UTF-8"]),
    (["ETag: a", "ETag: b"], "etag", ["a"]),
    (["Location: a", "X: 1", "location: b"], "location", ["a"]),
    (["Date: a", "Date: b"], "date", ["a"]),
    (["Vary: a", "Vary: b"], "vary", ["a", "b"]),
]


@pytest.mark.parametrize("headers, name, value", ANSWERED)
def test_response_headers(gateway, origin, headers, name, value):
    origin.answer = lambda r: ok(b"hello", *headers)
    try:
        with Client(gateway) as c:
            assert c.ask(get("/")).headers.get(name) == value
    finally:
        origin.answer = lambda r: ok(b"hello")


@pytest.mark.parametrize("connection, stays", [("keep-alive", True), ("keep-alive, close", False)])
def test_connections_of_http_1_0(gateway, connection, stays):
    with Client(gateway) as c:
        a = c.ask(f"GET / HTTP/1.0\r\nConnection: {connection}\r\n\r\n")
        assert a.headers["connection"] == ["keep-alive" if stays else "close"]
