"""Authentication on PostgreSQL, as clients and operators meet it."""

import threading

import pytest
import requests

from gateway import Gateway
from postgres import wait_until
from wire import Client, Origin, get, ok


@pytest.fixture(scope="module")
def origin():
    """Answers with the headers that it got, a line each."""
    with Origin(lambda r: ok("\n".join(f"{k.lower()}: {v}" for k, v in r.headers).encode())) as o:
        yield o


@pytest.fixture(scope="module")
def gateway(postgres, origin):
    db = postgres.create_migrated()
    with Gateway(env=db.env()) as g:
        admin(g, "/services", name="s", url=f"http://127.0.0.1:{origin.port}")
        for user in ("alice", "guest"):
            admin(g, "/consumers", username=user)
        g.origin = origin
        yield g
    db.drop()


def admin(g, path, **fields):
    answer = g.admin("POST", path, json=fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def protect(g, host, plugin, **config):
    """A route of that host name with the plugin."""
    admin(g, "/services/s/routes", name=host, hosts=[host])
    return admin(g, f"/routes/{host}/plugins", name=plugin, config=config)


def test_a_key_counts_from_the_moment_it_is_made_until_it_is_deleted(gateway):
    protect(gateway, "key.test", "key-auth")
    ask = lambda: gateway.proxy("/", "key.test", headers={"apikey": "k1"}).status_code  # noqa: E731
    wait_until(lambda: gateway.answers("key.test", status=401), what="the plugin")
    assert ask() == 401
    made = admin(gateway, "/consumers/alice/key-auth", key="k1")
    wait_until(lambda: ask() == 200, what="the key")
    gateway.admin("DELETE", f"/consumers/alice/key-auth/{made['id']}")
    wait_until(lambda: ask() == 401, what="its end")


def test_passwords_are_stored_hashed_and_changed_ones_count(gateway):
    protect(gateway, "basic.test", "basic-auth")
    made = admin(gateway, "/consumers/alice/basic-auth", username="al", password="one")
    assert made["password"] != "one"

    def ask(password):
        return gateway.proxy("/", "basic.test", auth=("al", password)).status_code

    wait_until(lambda: ask("one") == 200, what="the password")
    changed = gateway.admin("PATCH", f"/consumers/alice/basic-auth/{made['id']}",
                            json={"password": "two"})
    assert changed.status_code == 200, changed.text
    wait_until(lambda: (ask("one"), ask("two")) == (401, 200), what="the new password")


def test_a_group_is_put_under_the_name_that_is_sent(gateway):
    path, groups = "/consumers/guest/acls/one", ({}, {"group": "two"}, {})
    made = [gateway.admin("PUT", path, json=body).json() for body in groups]
    assert [acl["group"] for acl in made] == ["one", "two", "one"]
    assert made[0]["id"] == made[1]["id"] != made[2]["id"]


def oauth(gateway, path, host="oauth.test", header=None, **fields):
    headers = {"Host": host, **({"Authorization": header} if header else {})}
    return requests.post(f"https://127.0.0.1:{gateway.https}{path}", data=fields, verify=False,
                         headers=headers, timeout=20)


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_a_code_and_a_refresh_token_work_once_however_many_race(gateway):
    protect(gateway, "oauth.test", "oauth2", enable_authorization_code=True, provision_key="p")
    admin(gateway, "/consumers/alice/oauth2", name="app", client_id="c", client_secret="s",
          redirect_uris=["https://app.test/cb"])
    client = {"client_id": "c", "client_secret": "s"}
    wait_until(lambda: gateway.answers("oauth.test", status=401), what="the plugin")
    asked = oauth(gateway, "/oauth2/authorize", response_type="code", provision_key="p",
                  authenticated_userid="u", **client)
    code = asked.json()["redirect_uri"].partition("code=")[2]

    def race(**what):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(
            oauth(gateway, "/oauth2/token", **what, **client))) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert sorted(a.status_code for a in answers) == [200] + [400] * 7
        return next(a.json() for a in answers if a.status_code == 200)

    first = race(grant_type="authorization_code", code=code)
    second = race(grant_type="refresh_token", refresh_token=first["refresh_token"])
    tokens = [t["access_token"] for t in (first, second)]
    found = [gateway.proxy("/", "oauth.test", headers={"Authorization": f"Bearer {t}"}).status_code
             for t in tokens]
    assert found == [401, 200]


# What it shows, which endpoint, what is said beside grant and client, the Authorization header, the
# status, error and its description (or where to go).
INVALID_CLIENT = "invalid_client: Invalid client authentication"
CHALLENGE = "invalid_request: code_challenge"
RULES = [
    ("a header that names nobody", "token", {"grant_type": "password"}, "Basic bm86bm8=", 401,
     INVALID_CLIENT),
    ("a header counts even where it says nothing", "token",
     {"grant_type": "client_credentials", "client_id": "app"}, "Bearer x", 400, INVALID_CLIENT),
    ("and is told so where a redirect URI is wanted", "token",
     {"grant_type": "password", "client_id": "app"}, "Bearer x", 401, INVALID_CLIENT),
    ("nobody, and no redirect URI wanted", "token",
     {"grant_type": "client_credentials", "client_id": "no", "client_secret": "x"}, None, 400,
     INVALID_CLIENT),
    ("nobody with a wrong provision key", "token",
     {"grant_type": "client_credentials", "client_id": "no", "client_secret": "x",
      "authenticated_userid": "u", "provision_key": "no"}, None, 400,
     "invalid_provision_key: Invalid provision_key"),
    ("an application without redirect URIs", "token",
     {"grant_type": "password", "client_id": "bare", "client_secret": "s"}, None, 400,
     INVALID_CLIENT),
    ("an application with none in its list", "token",
     {"grant_type": "password", "client_id": "empty", "client_secret": "s"}, None, 400,
     "invalid_request: Invalid redirect_uri that does not match with any redirect_uri created with "
     "the application"),
    ("an empty state comes back", "token",
     {"grant_type": "no", "client_id": "app", "client_secret": "s", "state": ""}, None, 400,
     'unsupported_grant_type: Invalid grant_type state=""'),
    ("a challenge is wanted of public clients for tokens, too", "authorize",
     {"response_type": "token", "client_id": "public"}, None, 400,
     "https://app.test/cb?a&error=invalid_request&error_description="
     "code_challenge%20is%20required%20for%20public%20clients&x=true"),
    ("a method without a challenge, and nobody", "authorize",
     {"response_type": "code", "client_id": "no", "code_challenge_method": "S256"}, None, 400,
     "invalid_request: code_challenge is required when code_method is present"),
]


@pytest.fixture(scope="module")
def oauth2(gateway):
    protect(gateway, "rules.test", "oauth2", enable_client_credentials=True, provision_key="p",
            enable_password_grant=True, enable_implicit_grant=True, enable_authorization_code=True)
    for name, more in [("app", {"redirect_uris": ["https://app.test/cb"]}), ("bare", {}),
                       ("empty", {"redirect_uris": []}),
                       ("public", {"client_type": "public",
                                   "redirect_uris": ["https://app.test/cb?x&a="]})]:
        admin(gateway, "/consumers/alice/oauth2", name=name, client_id=name, client_secret="s", **more)
    wait_until(lambda: gateway.answers("rules.test", status=401), what="the plugin")
    return gateway


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("endpoint, fields, header, status, told", [row[1:] for row in RULES],
                         ids=[row[0] for row in RULES])
def test_an_oauth2_rule(oauth2, endpoint, fields, header, status, told):
    if endpoint == "authorize":
        fields = {"provision_key": "p", "authenticated_userid": "u", **fields}
    answer = oauth(oauth2, f"/oauth2/{endpoint}", "rules.test", header, **fields)
    body = answer.json()
    said = body.get("redirect_uri") or f"{body['error']}: {body['error_description']}" + (
        f' state="{body["state"]}"' if "state" in body else "")
    assert (answer.status_code, said) == (status, told)
    asks = 'Basic realm="OAuth2.0"' if status == 401 else None
    assert answer.headers.get("WWW-Authenticate") == asks


def test_where_an_oauth2_token_counts(oauth2):
    credential = oauth2.admin("GET", "/oauth2/app").json()["id"]
    mine = oauth2.admin("GET", "/services/s").json()["id"]
    other = admin(oauth2, "/services", name="other", url="http://127.0.0.1:1")["id"]
    protect(oauth2, "global.test", "oauth2", enable_password_grant=True, global_credentials=True,
            hide_credentials=True)
    for token, service in [("mine", mine), ("others", other), ("global", None)]:
        admin(oauth2, "/oauth2_tokens", credential={"id": credential}, access_token=token,
              expires_in=0, service=service and {"id": service})
    wait_until(lambda: oauth2.answers("global.test", status=401), what="the plugin")

    def ask(host, token):
        answer = oauth2.proxy("/", host, headers={"Authorization": token})
        return answer.status_code, answer.text, answer.headers.get("WWW-Authenticate")

    found = {(host, token): ask(host, f"Bearer {token}") for host in ("rules.test", "global.test")
             for token in ("mine", "others", "global")}
    assert [k for k, v in found.items() if v[0] == 200] == [
        ("rules.test", "mine"), ("global.test", "mine"), ("global.test", "global")]
    refused = found["rules.test", "global"]
    assert "configured without 'global_credentials'" in refused[1]
    assert "invalid or has expired" in refused[2]
    assert "authorization" not in ask("global.test", "mine")[1], "a token without a scheme is hidden"
    oauth2.proxy("/?z=a/b&access_token=mine&b&a=%20", "global.test")
    assert oauth2.origin.requests[-1].line == "GET /?a=%20&b&z=a%2Fb HTTP/1.1"


@pytest.mark.parametrize("storage", ["cookie", "kong"])
def test_a_session_outlives_the_gateway_and_ends_with_logout(gateway, storage):
    host = f"{storage}.session.test"
    protect(gateway, host, "key-auth", anonymous="guest")
    admin(gateway, f"/routes/{host}/plugins", name="session",
          config={"secret": "s", "storage": storage, "cookie_secure": False})
    key = admin(gateway, "/consumers/alice/key-auth")["key"]

    def ask(headers, method="GET", path="/"):
        gateway.session.cookies.clear()     # what is sent is what the test says
        return gateway.proxy(path, host, method, headers=headers)

    wait_until(lambda: "Set-Cookie" in ask({"apikey": key}).headers, what="a session")
    cookie = {"Cookie": ask({"apikey": key}).headers["Set-Cookie"].split(";")[0]}

    def who():
        answer = ask(cookie)
        return "alice" if "x-consumer-username: alice" in answer.text else answer.status_code

    wait_until(lambda: who() == "alice", what="the session")
    gateway.restart()
    wait_until(lambda: who() == "alice", what="the session after a restart")
    answer = ask(cookie, "POST", "/?session_logout=1")
    assert (answer.status_code, answer.text) == (200, "") and "Max-Age=0" in answer.headers["Set-Cookie"]
    if storage == "kong":
        wait_until(lambda: who() == 200, what="nobody")


def test_clients_that_leave_in_the_middle_of_a_look_up(gateway):
    protect(gateway, "leave.test", "key-auth")
    wait_until(lambda: gateway.answers("leave.test", status=401), what="the plugin")
    for i in range(50):
        with Client(gateway) as c:
            c.send(get("/", "leave.test", f"apikey: never-seen-{i}"))
    assert gateway.proxy("/", "leave.test", headers={"apikey": "x"}).status_code == 401
