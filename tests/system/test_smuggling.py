"""What strangers send: refused, or passed on in bytes that can be read in one way only.

Three tables. REFUSED and BAD_CHUNKS: the origin sees nothing and the connection ends. FORWARDED: the
origin sees exactly these bytes, and the request behind them as one of its own. ANSWERS: what an
origin says may end its own answer badly, but never becomes the answer to someone else's request.
"""

import contextlib
import re
import socket
import threading

import pytest

from gateway import Gateway
from wire import TIMEOUT, Answer, Client, config, get, ok, read_head, read_request


class Tee:
    """A reader that keeps what was read."""

    def __init__(self, f):
        self.f, self.kept = f, b""

    def readline(self):
        line = self.f.readline()
        self.kept += line
        return line

    def read(self, n):
        data = self.f.read(n)
        self.kept += data
        return data


class Recorder:
    """An origin that keeps every request byte for byte, and answers with what `answer` holds."""

    def __init__(self):
        self.answer, self.seen = ok(b"hello"), []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                s, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        with contextlib.suppress(OSError, ValueError, IndexError), s, s.makefile("rb") as f:
            while True:
                tee = Tee(f)
                r = read_request(tee)
                self.seen.append(tee.kept)
                if r is None:
                    self.seen.pop()
                    return
                first = "/first" in r.line
                s.sendall(self.answer if first else ok(b"next"))


@pytest.fixture(scope="module")
def origin():
    o = Recorder()
    yield o
    o.listener.close()


@pytest.fixture(scope="module")
def gateway(origin):
    services = config(origin.port, stream={"route": {"request_buffering": False}})
    with Gateway(config=services, headers_upstream="off", nginx_worker_processes=1) as g:
        yield g


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
    "TE with tabs": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding:\tchunked\t\r\n\r\n0\r\n\r\n",
    "CL with a tab behind": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 5\t\r\n\r\n12345",
    "Expect twice": f"POST / HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
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
    "version 1.10": f"GET / HTTP/1.10\r\n{HOST}\r\n",
    "version 1.01": f"GET / HTTP/1.01\r\n{HOST}\r\n",
    "CL twice in one line": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 5;5\r\n\r\n12345",
    "CL with a tab inside": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 1\t0\r\n\r\n",
    "CL with a point": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 5.0\r\n\r\n12345",
    "CL of 25 digits": f"POST / HTTP/1.1\r\n{HOST}Content-Length: {'0' * 24}5\r\n\r\n12345",
    "CL other digits": f"POST / HTTP/1.1\r\n{HOST}Content-Length: \xb2\r\n\r\n12",
    "CL without colon": f"POST / HTTP/1.1\r\n{HOST}Content-Length\r\n\r\n",
    "CL folded": f"POST / HTTP/1.1\r\n{HOST}Content-Length: 1\r\n 0\r\n\r\n",
    "TE without colon": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding\r\n\r\n0\r\n\r\n",
    "TE chunked twice": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "TE with a comma behind": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    "TE with a NUL behind": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n",
    "TE with a CR in front": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: \rchunked\r\n\r\n0\r\n\r\n",
    "TE on two lines, chunked last": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before the first header": f"GET / HTTP/1.1\r\n {HOST}\r\n",
    "tab before the first header": f"GET / HTTP/1.1\r\n\t{HOST}\r\n",
    "CR before a header": f"GET / HTTP/1.1\r\n{HOST}\rX-A: 1\r\n\r\n",
    "space before the method": f" GET / HTTP/1.1\r\n{HOST}\r\n",
    "NUL before the method": f"\0GET / HTTP/1.1\r\n{HOST}\r\n",
    "preface of HTTP/2 in lower case": "pri * HTTP/2.0\r\n\r\nsm\r\n\r\n",
    "authority with userinfo": f"GET http://a@b/ HTTP/1.1\r\n{HOST}\r\n",
    "authority with a space": f"GET http://a b/ HTTP/1.1\r\n{HOST}\r\n",
    "authority empty": f"GET http:/// HTTP/1.1\r\n{HOST}\r\n",
    "two Hosts in other case": "GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n",
    "Host folded": "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "DEL in a name": f"GET / HTTP/1.1\r\n{HOST}X\x7f: 1\r\n\r\n",
}
BAD_CHUNKS = {
    "letter": "z\r\n", "sign": "+3\r\nabc\r\n", "negative": "-1\r\n", "hex prefix": "0x3\r\nabc\r\n",
    "17 digits": "10000000000000003\r\n", "bare LF behind the size": "3\nabc\r\n0\r\n\r\n",
    "bare LF behind the data": "3\r\nabc\n0\r\n\r\n", "longer than it says": "2\r\nabc\r\n0\r\n\r\n",
    "CR alone": "3\rabc", "empty size": "\r\n", "extension with LF": "3;a\nb\r\nabc\r\n0\r\n\r\n",
    "trailer with LF": "0\r\nX: a\n\r\n", "endless extension": "3;" + "a" * 20000,
    "blank before the size": " 3\r\nabc\r\n0\r\n\r\n", "two sizes": "3 3\r\nabc\r\n0\r\n\r\n",
    "control in an extension": "3;\x01\r\nabc\r\n0\r\n\r\n", "CR in an extension": "3;\ra\r\nabc\r\n0\r\n\r\n",
    "empty line behind the data": "3\r\nabc\r\n\r\n0\r\n\r\n", "16 digits": "1000000000000003\r\n",
    "underscore in the size": "1_0\r\nabc\r\n0\r\n\r\n", "shorter than it says": "4\r\nabc\r\n0\r\n\r\n",
    "bare LF at the end": "0\n\n", "bare LF behind the last size": "0\n\r\n",
    "endless trailers": "0\r\n" + "X: a\r\n" * 5000,
    "folded trailer": "0\r\nX: a\r\n b\r\n\r\n", "trailer with a space before the colon": "0\r\nX : a\r\n\r\n",
    "trailer with a NUL": "0\r\nX: \0\r\n\r\n", "trailer with CR": "0\r\nX: a\rb\r\n\r\n",
    "trailer without name": "0\r\n: a\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(gateway, origin, name):
    before = len(origin.seen)
    with Client(gateway) as c:
        a = c.ask(REFUSED[name] + SMUGGLED)
        assert a.status in (400, 405, 414, 501, 505), name
        assert a.headers["connection"] == ["close"]
        with contextlib.suppress(OSError):
            c.s.shutdown(socket.SHUT_WR)
        assert c.closed()
    assert len(origin.seen) == before


@pytest.mark.parametrize("path", ["/", "/stream"])
@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunks(gateway, origin, name, path):
    before = len(origin.seen)
    with Client(gateway) as c:
        head = f"POST {path} HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n"
        a = c.ask(head + BAD_CHUNKS[name] + SMUGGLED)
        assert a.status == 400 and a.headers["connection"] == ["close"]
        with contextlib.suppress(OSError):
            c.s.shutdown(socket.SHUT_WR)
        assert c.closed()
    assert len(origin.seen) == before or path == "/stream"
    assert not [r for r in origin.seen if b"smuggled" in r]


# -- what is passed on --------------------------------------------------------------------------

POST = "POST /first HTTP/1.1\r\n" + HOST
CHUNKED = POST + "Transfer-Encoding: chunked\r\n\r\n"
STREAM = CHUNKED.replace("/first", "/stream/first")


def sent(framing="", *headers, line="POST /first HTTP/1.1", via="1.1 ", path="/first", host="a.test",
         prefix="", before="", body=""):
    """The request as the origin must see it; {port} and {proxy} are put in later."""
    own = [f"Host: 127.0.0.1:{{port}}", "Connection: keep-alive",
           f"X-Forwarded-For: {before}127.0.0.1", "X-Real-IP: 127.0.0.1", "X-Forwarded-Proto: http",
           f"X-Forwarded-Host: {host}", "X-Forwarded-Port: {proxy}", f"X-Forwarded-Path: {path}"]
    own += [f"X-Forwarded-Prefix: {prefix}"] if prefix else []
    own += [f"Via: {via}silverback"] + ([framing] if framing else []) + list(headers)
    return line + "\r\n" + "".join(h + "\r\n" for h in own) + "\r\n" + body


def plain(*headers, **more):
    return sent("", *headers, line=more.pop("line", "GET /first HTTP/1.1"), **more)


def streamed(*headers, body):
    return sent("Transfer-Encoding: chunked", *headers, path="/stream/first", prefix="/stream", body=body)


def request(*headers, method="GET", target="/first", version="HTTP/1.1"):
    return f"{method} {target} {version}\r\n{HOST}" + "".join(h + "\r\n" for h in headers) + "\r\n"


FORWARDED = {
    "blank lines in front": ("\r\n\r\n" + request(), plain()),
    "bare LF line ends": (request("X-A: 1").replace("\r\n", "\n"), plain("X-A: 1")),
    "LF and CRLF mixed": (request("X-A: 1").replace("1\r\n", "1\n"), plain("X-A: 1")),
    "spaces in the request line": ("GET  /first   HTTP/1.1\r\n" + HOST + "\r\n", plain()),
    "blanks around a value": (request("X-A:   1  "), plain("X-A: 1")),
    "tabs around a value": (request("X-A: \t 1 \t "), plain("X-A: \t 1 \t")),
    "no blank behind the colon": (request("X-A:1"), plain("X-A: 1")),
    "line without colon": (request("nonsense"), plain("nonsense: ")),
    "odd names are left out": (request("X@Y: 1", "X.Y: 1", "Content-Length\x80: 5", "X-Ok: 1"), plain("X-Ok: 1")),
    "CL with an odd name beside": (POST + "Content-Length: 2\r\nContent-Length.: 9\r\n\r\nhi",
                                   sent("Content-Length: 2", body="hi")),
    "Content_Length": (request("Content_Length: 50", "Transfer_Encoding: chunked", "X_A: 1"), plain("X_A: 1")),
    "leading zeros": (POST + "Content-Length: 0002\r\n\r\nhi", sent("Content-Length: 2", body="hi")),
    "CL 0": (POST + "Content-Length: 0\r\n\r\n", sent("Content-Length: 0")),
    "no CL on POST": (POST + "\r\n", sent()),
    "GET with a body": (request("Content-Length: 2") + "hi", sent("Content-Length: 2", line="GET /first HTTP/1.1", body="hi")),
    "a request as the body": (POST + f"Content-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}",
                              sent(f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED)),
    "a request in a chunk": (CHUNKED + f"{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
                             sent(f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED)),
    "TE in capitals": (POST + "TRANSFER-ENCODING: CHUNKED\r\n\r\n2\r\nhi\r\n0\r\n\r\n", sent("Content-Length: 2", body="hi")),
    "TE and a named connection": (POST + "Transfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                                  sent("Content-Length: 2", body="hi")),
    "CL named by Connection": (POST + "Content-Length: 2\r\nConnection: content-length\r\n\r\nhi",
                               sent("Content-Length: 2", body="hi")),
    "Host named by Connection": (request("Connection: host"), plain()),
    "extension": (CHUNKED + "2;a=b\r\nhi\r\n0;c\r\n\r\n", sent("Content-Length: 2", body="hi")),
    "extension, quoted": (CHUNKED + "2;a=\"0\"\r\nhi\r\n0\r\n\r\n", sent("Content-Length: 2", body="hi")),
    "blanks behind the size": (CHUNKED + "2  \r\nhi\r\n0 \t\r\n\r\n", sent("Content-Length: 2", body="hi")),
    "size with zeros": (CHUNKED + "0002\r\nhi\r\n0000\r\n\r\n", sent("Content-Length: 2", body="hi")),
    "size in capitals": (CHUNKED + "A\r\n0123456789\r\n0\r\n\r\n", sent("Content-Length: 10", body="0123456789")),
    "no chunk": (CHUNKED + "0\r\n\r\n", sent("Content-Length: 0")),
    "chunks made anew where they stream": (STREAM + "2;x\r\nhi\r\n0\r\n\r\n", streamed(body="2\r\nhi\r\n0\r\n\r\n")),
    "absolute form": (request(target="http://b.test:81/first?q"), plain(line="GET /first?q HTTP/1.1", host="b.test")),
    "absolute form without path": (request("X-A: /first", target="http://b.test"),
                                   plain("X-A: /first", line="GET / HTTP/1.1", host="b.test", path="/")),
    "fragment": (request(target="/first#a?b"), plain(line="GET /first#a HTTP/1.1", path="/first#a")),
    "query with a path in it": (request(target="/first?/../x"), plain(line="GET /first?/../x HTTP/1.1")),
    "dot segments": (request(target="/a/../first"), plain(path="/a/../first")),
    "encoded dot segments": (request(target="/a/%2e%2e/first"), plain(path="/a/%2e%2e/first")),
    "encoded CR LF stays encoded": (request(target="/first%0d%0aX:y"), plain(line="GET /first%0D%0AX:y HTTP/1.1", path="/first%0d%0aX:y")),
    "bytes over 0x7f": (request(target="/first\xc3\xa9"), plain(line="GET /first%C3%A9 HTTP/1.1", path="/first\xc3\xa9")),
    "upgrade to h2c": (request("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), plain()),
    "upgrade to h2c in disguise": (request("Connection: Upgrade", "Upgrade: h2c, websocket"), plain()),
    "upgrade to h2c, in capitals": (request("Connection: UPGRADE,HTTP2-SETTINGS", "UPGRADE: H2C", "HTTP2-Settings: x"), plain()),
    "upgrade to TLS": (request("Connection: Upgrade", "Upgrade: TLS/1.2"), plain()),
    "keep-alive headers": (request("Keep-Alive: timeout=9", "Proxy-Connection: close"), plain()),
    "proxy header of CGI": (request("Proxy: http://evil/"), plain()),
    "two Connection lines": (request("Connection: x-a", "Connection: x-b", "X-A: 1", "X-B: 2", "X-C: 3"), plain("X-C: 3")),
    "X-Forwarded-For named by Connection": (request("Connection: x-forwarded-for", "X-Forwarded-For: 9.9.9.9"),
                                            plain(before="9.9.9.9, ")),
    "forwarded headers of a stranger": (request("X-Forwarded-Host: e", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /e",
                                                "X-Forwarded-Path: /e", "X-Forwarded-Port: 1", "X-Real-IP: 9.9.9.9"), plain()),
    "TE: trailers": (request("TE: deflate, trailers"), plain("TE: trailers")),
    "TE: chunked": (request("TE: chunked"), plain()),
    "Expect with another value": (POST + "Expect: 200-ok\r\nContent-Length: 2\r\n\r\nhi", sent("Content-Length: 2", body="hi")),
    "Expect with the body behind": (POST + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", sent("Content-Length: 2", body="hi")),
    "Expect with no body": (request("Expect: 100-continue"), plain()),
    "Expect with padding": (POST + "Expect: y 100-continue\r\nContent-Length: 2\r\n\r\nhi", sent("Content-Length: 2", body="hi")),
    "method with a dash": (request(method="VERSION-CONTROL"), plain(line="VERSION-CONTROL /first HTTP/1.1")),
    "trailers nobody announced": (CHUNKED + "2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n", sent("Content-Length: 2", body="hi")),
    "trailers": (POST + "Trailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T:  1 \r\n\r\n",
                 sent("Transfer-Encoding: chunked", "Trailer: X-T", body="2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n")),
    "trailers of an empty body": (POST + "Trailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\n\r\n",
                                  sent("Transfer-Encoding: chunked", "Trailer: X-T", body="0\r\nX-T: 1\r\n\r\n")),
    "trailers that would frame": (POST + "Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nContent-Length: 9\r\n"
                                  "X: y\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
                                  sent("Transfer-Encoding: chunked", "Trailer: X", body="2\r\nhi\r\n0\r\nX: y\r\n\r\n")),
    "trailers that may not go on": (POST + "Trailer: Host\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nHost: evil\r\n\r\n",
                                    sent("Content-Length: 2", "Trailer: Host", body="hi")),
    "trailers where it streams": (STREAM + "2\r\nhi\r\n0\r\nX-T: 1\r\nAuthorization: x\r\n\r\n",
                                  streamed(body="2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n")),
    "HTTP/1.2": (request(version="HTTP/1.2"), plain(via="")),
}
LAST = {     # the connection ends behind it
    "HTTP/1.0": (request(version="HTTP/1.0"), plain(via="1 ")),
    "HTTP/1.0 with Connection: Keep-Alive and close": (request("Connection: x, close", version="HTTP/1.0"), plain(via="1 ")),
    "HTTP/1.0 without Host": ("GET /first HTTP/1.0\r\n\r\n", plain(via="1 ", host="kong")),
    "HTTP/0.9": ("GET /first\r\n", plain(via="0.9 ", host="kong")),
    "close": (request("Connection: close"), plain()),
    "close on the second line": (request("Connection: keep-alive", "Connection: close"), plain()),
}


def as_origin_sees(text, gateway, origin):
    text = text.replace("{port}", str(origin.port)).replace("{proxy}", str(gateway.http))
    return text.encode("latin-1")


def without_version(data):
    return re.sub(rb"silverback/[\d.]+", b"silverback", data)


@pytest.mark.parametrize("name", FORWARDED)
def test_forwarded(gateway, origin, name):
    origin.seen.clear()
    raw, expected = FORWARDED[name]
    with Client(gateway) as c:
        c.send(raw + get("/next"))
        first = Answer(c.f)
        if first.status == 100:
            first = Answer(c.f)
        assert first.status == 200
        assert Answer(c.f).body == b"next"
    seen = [without_version(r) for r in origin.seen]
    assert seen[0] == as_origin_sees(expected, gateway, origin)
    assert seen[1:] == [as_origin_sees(plain(line="GET /next HTTP/1.1", path="/next"), gateway, origin)]


@pytest.mark.parametrize("name", LAST)
def test_forwarded_and_closed(gateway, origin, name):
    origin.seen.clear()
    raw, expected = LAST[name]
    with Client(gateway) as c:
        c.send(raw + SMUGGLED)
        assert b"hello" in c.f.read()
    assert [without_version(r) for r in origin.seen] == [as_origin_sees(expected, gateway, origin)]


def test_large_chunked_stream_is_chunked_anew(gateway, origin):
    origin.seen.clear()
    with Client(gateway) as c:
        c.send(STREAM + "3;evil\r\nabc\r\n")
        c.send("5\r\n" + "defgh\r\n" + "0\r\n\r\n" + get("/next"))
        assert (Answer(c.f).body, Answer(c.f).body) == (b"hello", b"next")
    seen = without_version(origin.seen[0])
    head, _, body = seen.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head.split(b"\r\n") and b"evil" not in seen
    assert body in (b"3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n", b"8\r\nabcdefgh\r\n0\r\n\r\n")


# -- what origins answer ------------------------------------------------------------------------

POISON = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
OK = "HTTP/1.1 200 OK\r\n"
ANSWERS = {     # what the origin says: status and body at the client
    "CL and TE": (OK + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502, None),
    "two CL": (OK + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 502, None),
    "CL list": (OK + "Content-Length: 2, 2\r\n\r\nhi", 502, None),
    "CL signed": (OK + "Content-Length: +2\r\n\r\nhi", 502, None),
    "CL negative": (OK + "Content-Length: -2\r\n\r\nhi", 502, None),
    "CL too large": (OK + "Content-Length: 99999999999999999999\r\n\r\nhi", 502, None),
    "TE twice": (OK + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502, None),
    "TE gzip, chunked": (OK + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 502, None),
    "TE identity": (OK + "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nhi", 502, None),
    "space before the colon": (OK + "Content-Length : 2\r\n\r\nhi", 502, None),
    "folded": (OK + "X-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nhi", 502, None),
    "NUL": (OK + "X-A: \0\r\nContent-Length: 2\r\n\r\nhi", 502, None),
    "CR": (OK + "X-A: a\rb\r\nContent-Length: 2\r\n\r\nhi", 502, None),
    "HTTP/2.0": ("HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 502, None),
    "garbage": ("hello world\r\n\r\n", 502, None),
    "bytes behind the body": (OK + "Content-Length: 2\r\n\r\nhi", 200, b"hi"),
    "bytes behind chunks": (OK + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 200, b"hi"),
    "204 with CL": (f"HTTP/1.1 204 No\r\nContent-Length: {len(POISON)}\r\n\r\n", 204, b""),
    "204 with TE": ("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", 204, b""),
    "304 with CL": (f"HTTP/1.1 304 No\r\nContent-Length: {len(POISON)}\r\n\r\n", 304, b""),
    "100 with CL in front": (f"HTTP/1.1 100 C\r\nContent-Length: 9\r\n\r\n{OK}Content-Length: 2\r\n\r\nhi", 200, b"hi"),
    "Content_Length beside": (OK + "Content_Length: 90\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    "HTTP/1.0 chunked, kept alive": ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
                                     "2\r\nhi\r\n0\r\n\r\n", 200, b"hi"),
    "101 that nobody asked for": ("HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 502, None),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(gateway, origin, name):
    """Behind each there is an answer that nobody asked for: the next request must not get it."""
    said, status, body = ANSWERS[name]
    origin.answer = (said + POISON).encode("latin-1")
    with Client(gateway) as c:
        a = c.ask(get("/first"))
        assert a.status == status and (body is None or a.body == body)
        assert status != 204 or "content-length" not in a.headers
        assert c.ask(get("/next")).body == b"next"
        assert c.ask(get("/next")).body == b"next"
    origin.answer = ok(b"hello")


def test_answer_of_head_with_a_body(gateway, origin):
    origin.answer = (OK + f"Content-Length: {len(POISON)}\r\n\r\n" + POISON).encode()
    with Client(gateway) as c:
        c.send("HEAD /first HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 200 " in read_head(c.f)
        assert c.ask(get("/next")).body == b"next"
    origin.answer = ok(b"hello")


BROKEN_CHUNKS = ["3\nabc\r\n0\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n", "2\r\nabc\r\n0\r\n\r\n", "-1\r\n", "3 3\r\nabc\r\n"]


@pytest.mark.parametrize("chunks", BROKEN_CHUNKS)
def test_broken_chunks_of_an_answer(gateway, origin, chunks):
    """Refused before the head is sent, or else the client sees the answer cut off."""
    origin.answer = (OK + "Transfer-Encoding: chunked\r\n\r\n" + chunks + POISON).encode()
    with Client(gateway) as c:
        c.send(get("/first"))
        said = c.f.read()
        assert b"poison" not in said and not said.endswith(b"0\r\n\r\n")
    origin.answer = ok(b"hello")


def test_upgrade_refused_by_the_origin_is_no_tunnel(gateway, origin):
    """What follows the handshake is a request like any other when the origin does not switch."""
    origin.answer = ("HTTP/1.1 426 Upgrade\r\nContent-Length: 0\r\n\r\n").encode()
    origin.seen.clear()
    with Client(gateway) as c:
        c.send(request("Connection: upgrade", "Upgrade: websocket") + get("/next"))
        assert Answer(c.f).status == 426
        assert Answer(c.f).body == b"next"
    assert b"/next HTTP/1.1" in origin.seen[1] and b"X-Forwarded-Path: /next" in origin.seen[1]
    origin.answer = ok(b"hello")


def test_upgrade_with_a_body_that_is_still_to_come(gateway, origin):
    """A switch before the request's end would make a tunnel out of a body."""
    origin.answer = ("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n").encode()
    with Client(gateway) as c:
        c.send(request("Connection: upgrade", "Upgrade: websocket", "Content-Length: 100") + SMUGGLED)
        c.s.shutdown(socket.SHUT_WR)
        assert b" 101 " not in c.f.read()
    origin.answer = ok(b"hello")
    assert not [r for r in origin.seen if r.startswith(b"GET /smuggled")]
