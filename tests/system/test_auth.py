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


def oauth(gateway, path, **fields):
    return requests.post(f"https://127.0.0.1:{gateway.https}{path}", data=fields, verify=False,
                         headers={"Host": "oauth.test"}, timeout=20)


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
