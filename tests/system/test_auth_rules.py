"""Rules of the authentication plugins that no recorded case tells, a row each, without a database.

A row: what it shows, the route (its host name), what is sent, the status, and what is found in the
answer: of a refusal its message or challenge, of a success lines of what the upstream got.
"""

import base64
import hashlib
import hmac
import json

import pytest

from gateway import Gateway
from wire import Client, Origin, ok

ALICE, GUEST = "0c000000-0000-4000-8000-000000000001", "0c000000-0000-4000-8000-000000000004"


def seen(request):
    """What the origin got: line, headers, body."""
    lines = [request.line, *(f"{k.lower()}: {v}" for k, v in request.headers)]
    return ok("\n".join([*lines, "", request.body.decode("latin-1")]).encode())


def route(name, plugin, **config):
    return {"name": name, "hosts": [name], "plugins": [{"name": plugin, "config": config}]}


ROUTES = [
    route("jwt", "jwt", cookie_names=["token"]),
    route("basic", "basic-auth"),
    route("hmac", "hmac-auth", clock_skew=10**10),
    route("key", "key-auth", key_names=["apikey", "x_key"]),
    route("hidden", "key-auth", hide_credentials=True, key_in_body=True),
    *({"name": name, "hosts": [name], "plugins": [
        {"name": "key-auth", "config": {"anonymous": "guest"}},
        {"name": "session", "config": {"secret": "s", "cookie_secure": False, **config}}]}
      for name, config in (("app", {"audience": "app"}), ("web", {"audience": "web"}),
                           ("kept", {"remember": True, "cookie_same_site": "Default",
                                     "remember_rolling_timeout": 0}))),
    {"name": "acl", "hosts": ["acl"], "plugins": [
        {"name": "key-auth"}, {"name": "acl", "config": {"allow": ["z"]}}]},
]

CONSUMERS = [
    {"id": ALICE, "username": "alice",
     "keyauth_credentials": [{"key": "alice-key"}],
     "basicauth_credentials": [{"username": "al", "password": "pw"}],
     "hmacauth_credentials": [{"username": "al", "secret": "sec"}],
     "jwt_secrets": [{"key": "alice-iss", "secret": "sec"}],
     "acls": [{"id": f"0d000000-0000-4000-8000-00000000000{i}", "group": group}
              for i, group in ((3, "a"), (1, "z"), (2, "m"))]},
    {"id": GUEST, "username": "guest"},
]


@pytest.fixture(scope="module")
def gateway():
    with Origin(seen) as origin:
        services = [{"name": "s", "url": f"http://127.0.0.1:{origin.port}", "routes": ROUTES}]
        with Gateway(config={"services": services, "consumers": CONSUMERS},
                     nginx_worker_processes=1) as g:
            yield g


def b64(text):
    return base64.b64encode(text.encode()).decode()


def token(**claims):
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256"}, {"iss": "alice-iss", **claims})]
    head = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = hmac.new(b"sec", head, hashlib.sha256).digest()
    return (head + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def signed(date, what="date", text=None):
    mac = hmac.new(b"sec", (text or f"date: {date}").encode(), hashlib.sha256).digest()
    return {"Date": date, "Authorization": 'hmac username="al", algorithm="hmac-sha256", '
            f'headers="{what}", signature="{base64.b64encode(mac).decode()}"'}


BAD_TOKEN = 'Bearer error="invalid_token"'
ROWS = [
    ("an argument without = is no token that can be read", "jwt", {"path": "/?jwt"}, 401,
     ['"message":"Unrecognizable token"', BAD_TOKEN]),
    ("and one beside a token is a second one", "jwt", {"path": f"/?jwt&jwt={token()}"}, 401,
     ['"message":"Multiple tokens provided"', BAD_TOKEN]),
    ("of two cookies of a name the first counts", "jwt",
     {"headers": {"Cookie": f"token={token()}; token=other"}}, 200, ["x-consumer-username: alice"]),
    ("commas part cookies, too", "jwt", {"headers": {"Cookie": f"a=1,token={token()}"}}, 200,
     ["x-consumer-username: alice"]),
    ("a user begins behind leading colons", "basic",
     {"headers": {"Authorization": "Basic " + b64(":al:pw")}}, 200, ["x-credential-identifier: al"]),
    ("a password ends with its line", "basic",
     {"headers": {"Authorization": "Basic " + b64("al:pw\nmore")}}, 200,
     ["x-credential-identifier: al"]),
    ("a date needs no zone", "hmac", {"headers": signed("Sun, 06 Nov 1994 08:49:37")}, 200,
     ["x-consumer-username: alice"]),
    ("a name with an underscore stands for the header with a hyphen", "key",
     {"headers": {"X-Key": "alice-key"}}, 200, ["x-consumer-username: alice"]),
    ("an underscore of the header itself comes first", "key",
     {"headers": {"X-Key": "alice-key", "x_key": "other"}}, 401, ["Unauthorized"]),
    ("groups are told in the order of their ids", "acl", {"headers": {"apikey": "alice-key"}}, 200,
     ["x-consumer-groups: z, m, a"]),
    ("hiding writes the body anew, where the key came from elsewhere, too", "hidden",
     {"method": "POST", "headers": {"apikey": "alice-key"}, "json": {"a": [], "u": "a/b"}}, 200,
     ['{"a":[],"u":"a\\/b"}', "content-length: 19"]),
    ("hiding writes the query anew, where the key came from elsewhere, too", "hidden",
     {"path": "/?b=%20x+y&c=a/b*~&&d&=e&apikey=k", "headers": {"apikey": "alice-key"}}, 200,
     ["GET /?b=+x+y&c=a%2Fb*%7E&d=&=e HTTP/1.1"]),
]


@pytest.mark.parametrize("host, send, status, found", [row[1:] for row in ROWS],
                         ids=[row[0] for row in ROWS])
def test_rule(gateway, host, send, status, found):
    answer = gateway.proxy(**{"path": "/", "host": host, **send})
    text = "\n".join([*answer.headers.values(), answer.text])
    assert (answer.status_code, [f for f in found if f not in text]) == (status, []), text


@pytest.mark.parametrize("target, uri", [
    ("http://hmac/a/../b?c", "/a/../b?c"), ("http://hmac?c", "?c"), ("http://hmac", "/"),
    ("//a://b", "//a://b")])
def test_what_is_signed_of_a_target(gateway, target, uri):
    headers = signed("Sun, 06 Nov 1994 08:49:37 GMT", "request-line", f"GET {uri} HTTP/1.1")
    with Client(gateway) as c:
        answer = c.ask(f"GET {target} HTTP/1.1\r\nHost: hmac\r\n" + "".join(
            f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n")
    assert (answer.status, b"x-credential-identifier: al" in answer.body) == (200, True)


def cookies_of(answer):
    """What it sets, by name: (value, attributes)."""
    lines = answer.raw.headers.getlist("Set-Cookie")
    found = [line.partition("; ") for line in lines]
    return {head.partition("=")[0]: (head, more) for head, _, more in found}


def visit(gateway, host, key=None, cookie=None, method="GET", path="/"):
    gateway.session.cookies.clear()
    headers = {k: v for k, v in (("apikey", key), ("Cookie", cookie)) if v}
    answer = gateway.proxy(path, host, method, headers=headers)
    return "x-consumer-username: alice" in answer.text, cookies_of(answer)


def test_one_cookie_holds_the_sessions_of_several_audiences(gateway):
    app = visit(gateway, "app", "alice-key")[1]["session"][0]
    assert not visit(gateway, "web", cookie=app)[0]
    both = visit(gateway, "web", "alice-key", app)[1]["session"][0]
    assert visit(gateway, "app", cookie=both)[0] and visit(gateway, "web", cookie=both)[0]
    left = visit(gateway, "app", cookie=both, method="POST", path="/?session_logout")[1]["session"]
    assert not visit(gateway, "app", cookie=left[0])[0] and visit(gateway, "web", cookie=left[0])[0]


def test_a_remembered_session_begins_anew(gateway):
    first = visit(gateway, "kept", "alice-key")[1]
    assert list(first) == ["session", "remember"]
    assert first["session"][1] == "Path=/; SameSite=Default; HttpOnly"
    assert first["remember"][1].endswith("; Max-Age=34560000")
    known, again = visit(gateway, "kept", cookie=first["remember"][0])
    assert known and list(again) == ["remember", "session"]
    logout = {"method": "POST", "path": "/?session_logout"}
    both = "; ".join(head for head, _ in again.values())
    assert list(visit(gateway, "kept", cookie=again["session"][0], **logout)[1]) == ["session"]
    assert list(visit(gateway, "kept", cookie=both, **logout)[1]) == ["session", "remember"]
