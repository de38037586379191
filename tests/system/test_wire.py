"""What crosses the gateway, a row a header: what the origin saw of a request, the client of an answer.

Rows are what nginx 1.25.3 and Kong 3.9.1's own rules make of the same bytes.
"""

import contextlib
import socket

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


@pytest.fixture(scope="module")
def erring():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = {"host": "127.0.0.1", "port": nobody.getsockname()[1], "retries": 0}
        services = [{"name": "dead", **dead, "routes": [{"name": "dead", "paths": ["/dead"]}]}]
        with Gateway(config={"services": services}, nginx_worker_processes=1) as g:
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


REAL_IPS = [  # real_ip_header, recursive, its lines; the client's address
    ("X-Real-IP", "off", ["1.2.3.4", "5.6.7.8"], "1.2.3.4"),
    ("CF-Connecting-IP", "on", ["1.2.3.4", "5.6.7.8"], "1.2.3.4"),
    ("CF-Connecting-IP", "on", ["", "5.6.7.8"], "127.0.0.1"),
    ("X-Forwarded-For", "off", ["1.2.3.4", "5.6.7.8"], "5.6.7.8"),
    ("X-Forwarded-For", "off", ["1.2.3.4 , "], "1.2.3.4"),
    ("X-Forwarded-For", "off", ["1.2.3.4  5.6.7.8"], "5.6.7.8"),
    ("X-Forwarded-For", "off", ["1.2.3.4, bad"], "127.0.0.1"),
    ("X-Forwarded-For", "on", ["bad, 127.0.0.9"], "127.0.0.9"),
    ("X-Forwarded-For", "on", ["1.2.3.4, 127.0.0.8", "127.0.0.9"], "1.2.3.4"),
    ("X-Forwarded-For", "off", ["[::1]"], "127.0.0.1"),
    ("X-Forwarded-For", "off", ["[2001:DB8::1]:443"], "2001:db8::1"),
    ("X-Forwarded-For", "off", ["1.2.3.4:65536"], "127.0.0.1"),
    ("X-Forwarded-For", "off", ["1.2.3.4:443"], "1.2.3.4"),
]


@pytest.fixture(scope="module")
def telling(origin):
    """Gateways by their real_ip_header and real_ip_recursive."""
    with contextlib.ExitStack() as stack:
        kept = {}

        def of(header, recursive):
            if (header, recursive) not in kept:
                kept[header, recursive] = stack.enter_context(Gateway(
                    config=config(origin.port), nginx_worker_processes=1, trusted_ips="127.0.0.0/8",
                    real_ip_header=header, real_ip_recursive=recursive))
            return kept[header, recursive]
        yield of


@pytest.mark.parametrize("header, recursive, lines, ip", REAL_IPS)
def test_real_ip(telling, origin, header, recursive, lines, ip):
    with Client(telling(header, recursive)) as c:
        assert c.ask(get("/", *(f"{header}: {line}" for line in lines))).status == 200
    assert origin.requests[-1].get("X-Real-IP") == ip


JSON, HTML, PLAIN, XML = "application/json", "text/html", "text/plain", "application/xml"
ACCEPTED = [  # path, headers; the type and the start of the body of the error
    ("/none", "Accept: image/png, text/html;q=0.5", JSON, b'{\n  "message":"no'),
    ("/none", "Accept: image/*;q=0.1, text/html;q=0.5", HTML, b"<!doctype"),
    ("/none", "Accept: text", JSON, b"{"),
    ("/none", "Accept: a/b, text/html", HTML, b"<!doctype"),     # names have two letters or more
    ("/none", "Accept: text/html;q=0, text/plain;q=0.001", PLAIN, b"no Route"),
    ("/none", "Accept: text/html;level=1;q=0.3, text/plain;q=0.4", PLAIN, b"no Route"),
    ("/none", "Accept: text/html;v=1;q=0.3, text/plain;q=0.4", HTML, b"<!doctype"),
    ("/none", "Accept: text/html;q=0.9999, text/plain;q=1.000", PLAIN, b"no Route"),
    ("/none", "Accept: text/html; Q=0.3, application/xml ; q=0.4", XML, b"<?xml"),
    ("/none", "Accept: text/html;q=0.3\r\nAccept: text/plain", PLAIN, b"no Route"),
    ("/dead", "Accept: text/html;q=0.3\r\nAccept: text/plain", HTML, b"<!doctype"),
    ("/none", "Accept: application/grpc", None, b""),
    ("/dead", "Accept: application/grpc", JSON, b'{"message":"An invalid response was received'),
    ("/dead", "Content-Type: application/grpc+proto", JSON, b'{"message":"An invalid response'),
    ("/dead", "Content-Type: application/grpc\r\nAccept: text/plain", PLAIN, b"An invalid"),
]


@pytest.mark.parametrize("path, headers, kind, body", ACCEPTED)
def test_formats_of_errors(erring, path, headers, kind, body):
    with Client(erring) as c:
        a = c.ask(get(path, headers))
    assert (a.status, a.body[:len(body) or None]) == (404 if path == "/none" else 502, body)
    assert a.headers.get("content-type") == (kind and [kind + "; charset=utf-8"])


def test_a_template_with_percent_signs(tmp_path):
    (tmp_path / "t").write_text("100%% %s %d %s %")
    with Gateway(config={}, nginx_worker_processes=1, error_template_plain=tmp_path / "t") as g, Client(g) as c:
        body = c.ask(get("/", "Accept: text/plain")).body.decode()
    assert body.startswith("100% no Route matched with those values %d ") and body.endswith(" %")


@pytest.mark.parametrize("asked, said, passed", [
    ("websocket", "WebSocket", ["WebSocket"]), ("WEBSOCKET", "websocket", ["websocket"]),
    ("websocket", "h2c", None), ("h2c", "websocket", None)])
def test_a_refused_upgrade_tells_what_it_wants(gateway, origin, asked, said, passed):
    refusal = ok(b"", f"Upgrade: {said}", "Connection: Upgrade", status="426 Upgrade Required")
    origin.answer = lambda r: refusal
    try:
        with Client(gateway) as c:
            a = c.ask(get("/", f"Upgrade: {asked}", "Connection: Upgrade"))
    finally:
        origin.answer = lambda r: ok(b"hello")
    assert (a.status, a.headers.get("upgrade"), a.headers["connection"]) == (426, passed, ["keep-alive"])


@pytest.mark.parametrize("connection, stays", [("keep-alive", True), ("keep-alive, close", False)])
def test_connections_of_http_1_0(gateway, connection, stays):
    with Client(gateway) as c:
        a = c.ask(f"GET / HTTP/1.0\r\nConnection: {connection}\r\n\r\n")
        assert a.headers["connection"] == ["keep-alive" if stays else "close"]


FAILING = {"close": None, "503": ok(b"no", "Connection: close", status="503 No"), "garbage": b"HTTP/1.1 20 OK\r\n\r\n"}
NEXT = [  # proxy_next_upstream, its tries, method, how the origin fails; tries that it saw, the status
    ("error timeout", 0, "GET", "close", 3, 502),
    ("error timeout", 0, "GET", "garbage", 1, 502),
    ("error timeout", 0, "GET", "503", 1, 503),
    ("error http_503 invalid_header", 0, "GET", "503", 3, 503),
    ("error http_503 invalid_header", 0, "GET", "garbage", 3, 502),
    ("error http_503 invalid_header", 0, "POST", "close", 1, 502),
    ("off", 0, "GET", "close", 1, 502),
    ("error http_503 non_idempotent", 2, "POST", "503", 2, 503),
    ("error http_503 non_idempotent", 2, "POST", "close", 2, 502),
]


@pytest.fixture(scope="module")
def retrying(origin):
    with contextlib.ExitStack() as stack:
        kept = {}

        def of(words, tries):
            if (words, tries) not in kept:
                service = {"host": "127.0.0.1", "port": origin.port, "retries": 2,
                           "routes": [{"name": "all", "paths": ["/"]}]}
                kept[words, tries] = stack.enter_context(Gateway(
                    config={"services": [service]}, nginx_worker_processes=1,
                    nginx_proxy_proxy_next_upstream=words, nginx_proxy_proxy_next_upstream_tries=tries))
            return kept[words, tries]
        yield of


@pytest.mark.parametrize("words, tries, method, how, seen, status", NEXT)
def test_what_is_tried_again(retrying, origin, words, tries, method, how, seen, status):
    gateway, before = retrying(words, tries), len(origin.requests)
    origin.answer = lambda r: FAILING[how]
    try:
        with Client(gateway) as c:
            a = c.ask(f"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
    finally:
        origin.answer = lambda r: ok(b"hello")
    assert (len(origin.requests) - before, a.status) == (seen, status)


def test_directives_of_nginx(origin):
    with Gateway(config=config(origin.port), nginx_worker_processes=1, nginx_proxy_client_max_body_size=3,
                 nginx_proxy_set_real_ip_from="127.0.0.1; set_real_ip_from 10.0.0.0/8",
                 nginx_proxy_add_header="X-A 1", headers="via, off", nginx_main_env="X") as g:
        with Client(g) as c:
            c.ask(get("/", "X-Real-IP: 9.9.9.9", "X-Forwarded-Proto: https"))
            seen = origin.requests[-1]
            assert (seen.get("X-Real-IP"), seen.get("X-Forwarded-Proto")) == ("9.9.9.9", "http")
            assert c.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd").status == 413
        said = g.log()
    assert "nginx directive 'nginx_proxy_add_header' (KONG_NGINX_PROXY_ADD_HEADER) has no effect" in said
    assert "'nginx_main_env'" in said and "client_max_body_size" not in said
