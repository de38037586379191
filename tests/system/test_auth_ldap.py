"""ldap-auth against a real slapd: plain, start_tls and ldaps; what is remembered, what is not."""

import base64
import threading

import pytest

from gateway import Gateway
from ldap_server import BASE, Slapd
from postgres import wait_until
from wire import Client, Origin, get, ok

PEOPLE = {"alice": "secret", "bob": "pass:with:colons", "o,hara": "comma", "ünï": "utf"}


@pytest.fixture(scope="module")
def ldap():
    with Slapd(PEOPLE) as server:
        yield server


@pytest.fixture(scope="module")
def origin():
    """Answers with the headers that it got, a line each."""
    with Origin(lambda r: ok("\n".join(f"{k.lower()}: {v}" for k, v in r.headers).encode())) as o:
        yield o


def route(name, ldap, **config):
    return {"name": name, "hosts": [name], "plugins": [{"name": "ldap-auth", "config": {
        "ldap_host": "127.0.0.1", "ldap_port": ldap.port, "base_dn": BASE, "attribute": "uid",
        "timeout": 5000, **config}}]}


@pytest.fixture(scope="module")
def gateway(ldap, origin):
    routes = [
        route("plain", ldap),
        route("basic", ldap, header_type="basic"),
        route("hide", ldap, hide_credentials=True),
        route("anon", ldap, anonymous="guest"),
        route("starttls", ldap, start_tls=True, verify_ldap_host=True),
        route("ldaps", ldap, ldaps=True, verify_ldap_host=True, ldap_port=ldap.tls_port),
        route("unverified", ldap, ldaps=True, ldap_port=ldap.tls_port),
        route("short", ldap, cache_ttl=1),
    ]
    services = [{"name": "s", "url": f"http://127.0.0.1:{origin.port}", "routes": routes}]
    config = {"services": services, "consumers": [{"username": "guest"}]}
    with Gateway(config=config, lua_ssl_trusted_certificate=ldap.ca,
                 nginx_worker_processes=1) as g:
        yield g


def credentials(user, password, scheme="ldap"):
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"{scheme} {text}"}


def ask(gateway, host, user, password, scheme="ldap"):
    return gateway.proxy("/", host, headers=credentials(user, password, scheme))


@pytest.mark.parametrize("user", PEOPLE)
def test_the_right_password_lets_in_and_a_wrong_one_does_not(gateway, user):
    answer = ask(gateway, "plain", user, PEOPLE[user])
    assert answer.status_code == 200
    name = user.encode().decode("latin-1")
    assert f"x-credential-identifier: {name}" in answer.content.decode().splitlines()
    assert "x-consumer-id" not in answer.text and "x-anonymous-consumer" not in answer.text
    wrong = ask(gateway, "plain", user, "wrong")
    assert (wrong.status_code, wrong.headers["WWW-Authenticate"]) == (401, "LDAP")


def test_a_name_cannot_leave_its_place_in_the_dn(gateway, ldap):
    assert ask(gateway, "plain", "alice,dc=example,dc=org", "secret").status_code == 401
    assert ask(gateway, "plain", "nobody+uid=alice", "secret").status_code == 401


@pytest.mark.parametrize("host", ["starttls", "ldaps", "unverified"])
def test_tls(gateway, host):
    assert ask(gateway, host, "alice", "secret").status_code == 200
    assert ask(gateway, host, "alice", "wrong").status_code == 401


def test_a_certificate_of_a_stranger_is_refused(ldap, origin):
    services = [{"name": "s", "url": f"http://127.0.0.1:{origin.port}", "routes": [
        route("ldaps", ldap, ldaps=True, verify_ldap_host=True, ldap_port=ldap.tls_port),
        route("starttls", ldap, start_tls=True, verify_ldap_host=True)]}]
    with Gateway(config={"services": services}) as g:
        for host in ("ldaps", "starttls"):
            assert ask(g, host, "alice", "secret").status_code == 500


def test_basic_scheme_hiding_and_anonymous(gateway):
    assert ask(gateway, "basic", "alice", "secret", "Basic").status_code == 200
    assert "authorization: " in ask(gateway, "plain", "alice", "secret").text
    assert "authorization: " not in ask(gateway, "hide", "alice", "secret").text
    known, stranger = (ask(gateway, "anon", "alice", p) for p in ("secret", "wrong"))
    assert "x-anonymous-consumer" not in known.text
    assert stranger.status_code == 200 and "x-consumer-username: guest" in stranger.text


def test_a_refused_proxy_header_leaves_the_other_one(gateway):
    def both(proxy, own):
        headers = credentials("alice", own)
        headers["Proxy-Authorization"] = credentials("bob", proxy)["Authorization"]
        answer = gateway.proxy("/", "plain", headers=headers)
        return answer.status_code, [line for line in answer.text.splitlines() if "identifier" in line]

    assert both("pass:with:colons", "no") == (200, ["x-credential-identifier: bob"])
    assert both("no", "secret") == (200, ["x-credential-identifier: alice"])
    assert both("no", "no")[0] == 401


def test_answers_are_remembered_and_equal_questions_asked_once(gateway, ldap):
    before, answers = ldap.binds, []

    def go():
        session = gateway.session.__class__()
        session.trust_env = False
        answers.append(session.get(f"http://127.0.0.1:{gateway.http}/", timeout=20, headers={
            "Host": "hide", **credentials("bob", "pass:with:colons")}).status_code)

    threads = [threading.Thread(target=go) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == [200] * 20
    assert ask(gateway, "hide", "bob", "pass:with:colons").status_code == 200
    assert ldap.binds - before <= 1     # another test may have asked already
    for _ in range(3):
        assert ask(gateway, "plain", "bob", "no").status_code == 401
    assert ldap.binds - before <= 2


def test_what_is_remembered_is_forgotten_in_time(gateway, ldap):
    assert ask(gateway, "short", "alice", "secret").status_code == 200
    before = ldap.binds

    def asked_again():
        assert ask(gateway, "short", "alice", "secret").status_code == 200
        return ldap.binds > before

    wait_until(asked_again, what="asking slapd again")


def test_a_server_that_is_away_is_no_answer_and_is_not_remembered(gateway, ldap):
    ldap.stop()
    assert ask(gateway, "plain", "alice", "new").status_code == 500
    assert ask(gateway, "anon", "alice", "new").status_code == 500
    assert ask(gateway, "plain", "alice", "secret").status_code == 200    # known
    ldap.start()
    assert ask(gateway, "plain", "alice", "new").status_code == 401


def test_a_client_that_leaves_while_slapd_is_asked(gateway, ldap):
    text = base64.b64encode(b"alice:leaving").decode()
    for _ in range(5):
        with Client(gateway) as c:
            c.send(get("/", "plain", f"Authorization: ldap {text}"))
    assert ask(gateway, "plain", "alice", "secret").status_code == 200
