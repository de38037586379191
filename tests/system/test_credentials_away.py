"""PostgreSQL goes away, and every plugin that authenticates: who is known is served, who is not gets
503 and not 401, for it may well be somebody good; with a fallback to an anonymous consumer, too. So
it is also for a node that starts while the database is away, from what it saved. Then all recovers."""

import base64
import email.utils
import hmac
import json

import pytest

from gateway import Gateway
from postgres import wait_until
from test_credentials import metrics

WS = "(SELECT id FROM workspaces WHERE name = 'default')"
PLUGINS = ("key-auth", "basic-auth", "jwt", "hmac-auth", "oauth2", "acl", "session")


def b64(data, alphabet=base64.urlsafe_b64encode):
    return alphabet(data if isinstance(data, bytes) else data.encode()).decode().rstrip("=")


def jwt(who):
    head = b64('{"alg":"HS256","typ":"JWT"}') + "." + b64(json.dumps({"iss": f"{who}-iss"}))
    return head + "." + b64(hmac.digest(f"{who}-secret".encode(), head.encode(), "sha256"))


def hmac_headers(who):
    date = email.utils.formatdate(usegmt=True)
    mac = hmac.digest(f"{who}-secret".encode(), f"date: {date}".encode(), "sha256")
    return {"Date": date, "Authorization": f'hmac username="{who}", algorithm="hmac-sha256", '
            f'headers="date", signature="{base64.b64encode(mac).decode()}"'}


class Clients:
    """What alice and bob, and somebody whom nobody knows, come with."""

    def __init__(self):
        self.cookies = {}

    def headers(self, plugin, who):
        if who is None:
            return {}
        if plugin in ("key-auth", "acl"):
            return {"apikey": f"{who}-key"}
        if plugin == "basic-auth":
            return {"Authorization": "Basic " + base64.b64encode(f"{who}:pw".encode()).decode()}
        if plugin == "jwt":
            return {"Authorization": "Bearer " + jwt(who)}
        if plugin == "hmac-auth":
            return hmac_headers(who)
        if plugin == "oauth2":
            return {"Authorization": f"Bearer {who}-token"}
        return {"Cookie": self.cookies[who]}


def admin(gateway, path, **body):
    answer = gateway.admin("POST", path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def ask(gateway, plugin, headers, anonymous):
    host = f"{plugin}{'.any' if anonymous else ''}.test"
    gateway.session.cookies.clear()
    return gateway.proxy("/", headers={"Host": host, **headers})


def add_consumers(gateway, database):
    for who in ("alice", "bob"):
        path = f"/consumers/{admin(gateway, '/consumers', username=who)['username']}"
        admin(gateway, f"{path}/key-auth", key=f"{who}-key")
        admin(gateway, f"{path}/basic-auth", username=who, password="pw")
        admin(gateway, f"{path}/jwt", key=f"{who}-iss", secret=f"{who}-secret")
        admin(gateway, f"{path}/hmac-auth", username=who, secret=f"{who}-secret")
        admin(gateway, f"{path}/acls", group="g")
        app = admin(gateway, f"{path}/oauth2", name=who, client_id=f"{who}-id",
                    redirect_uris=["http://a.test/"])
        database.query(
            "INSERT INTO oauth2_tokens (id, credential_id, access_token, token_type, expires_in, "
            f"created_at, ws_id) SELECT gen_random_uuid(), '{app['id']}', '{who}-token', 'bearer', "
            f"0, now(), {WS}")
    return admin(gateway, "/consumers", username="nobody")["id"]


def add_routes(gateway, upstream, nobody):
    admin(gateway, "/services", name="s", host="127.0.0.1", port=upstream.port)
    for plugin in PLUGINS:
        for fallback, name in (("", plugin), (nobody, f"{plugin}.any")):
            if plugin == "session":     # a session does not excuse from a plugin that insists
                fallback = nobody
            anonymous = {"anonymous": fallback} if fallback else {}
            admin(gateway, "/services/s/routes", name=name, hosts=[f"{name}.test"])
            if plugin in ("acl", "session"):
                admin(gateway, f"/routes/{name}/plugins", name="key-auth", config=anonymous)
            if plugin == "acl":
                admin(gateway, f"/routes/{name}/plugins", name="acl",
                      config={"deny": ["nothing"], "always_use_authenticated_groups": False})
            elif plugin == "session":
                admin(gateway, f"/routes/{name}/plugins", name="session", config={
                    "storage": "kong", "secret": "s", "cookie_secure": False})
            else:
                config = {"oauth2": {"enable_client_credentials": True}}.get(plugin, {})
                if plugin == "oauth2":
                    config["global_credentials"] = True
                admin(gateway, f"/routes/{name}/plugins", name=plugin, config={**config, **anonymous})
    wait_until(lambda: ask(gateway, "session", {}, True).status_code == 200, what="the routes")


@pytest.fixture(scope="module")
def clients():
    return Clients()


def statuses(gateway, clients, who):
    """By plugin: without a fallback, and with one."""
    return {plugin: [ask(gateway, plugin, clients.headers(plugin, who), anonymous).status_code
                     for anonymous in (False, True)] for plugin in PLUGINS}


def all_are(*want):
    return {plugin: list(want) for plugin in PLUGINS}


def no_one(anonymous):
    """What a request without credentials gets."""
    return {**all_are(401, anonymous), "session": [anonymous, anonymous]}


def begin_sessions(gateway, clients):
    for who in ("alice", "bob"):
        answer = ask(gateway, "session", {"apikey": f"{who}-key"}, False)
        clients.cookies[who] = answer.headers["Set-Cookie"].split(";")[0]


def forget_bob(database):
    """Whatever a node knows of bob, by changes that change nothing."""
    for table in ("keyauth_credentials", "basicauth_credentials", "jwt_secrets",
                  "hmacauth_credentials", "oauth2_credentials", "acls"):
        database.query(f"UPDATE {table} SET tags = '{{x}}' WHERE consumer_id = "
                       "(SELECT id FROM consumers WHERE username = 'bob')")


def test_every_plugin_without_its_database(private, upstream, clients):
    with Gateway(private.env(), nginx_worker_processes=1) as gateway:
        nobody = add_consumers(gateway, private)
        add_routes(gateway, upstream, nobody)
        begin_sessions(gateway, clients)
        forget_bob(private)

        # Alice and nobody are known, bob is not, whatever he comes with.
        def settled():
            before = metrics(gateway)["queries_total"]
            served = (statuses(gateway, clients, "alice"), statuses(gateway, clients, None))
            queries = metrics(gateway)["queries_total"] - before
            return served == (all_are(200, 200), no_one(200)) and queries <= 1  # the session
        wait_until(settled, what="alice is known")

        private.postgres.stop()
        assert statuses(gateway, clients, "alice") == all_are(200, 200)
        assert statuses(gateway, clients, None) == no_one(200)
        assert statuses(gateway, clients, "bob") == all_are(503, 503)

        # From what was saved, knowing no one.
        gateway.restart()
        for who in ("alice", "bob"):
            assert statuses(gateway, clients, who) == all_are(503, 503)
        assert statuses(gateway, clients, None) == no_one(503)

        private.postgres.start()
        for who in ("alice", "bob"):
            wait_until(lambda: statuses(gateway, clients, who) == all_are(200, 200),
                       what=f"{who} is served again")
        assert statuses(gateway, clients, None) == no_one(200)
