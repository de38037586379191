"""Consumers and credentials stay in PostgreSQL: looked up when somebody comes with one, remembered
within a bound, forgotten when they change, whoever changes them; and PostgreSQL may be away."""

import concurrent.futures
import contextlib
import http.client
import io
import time
import uuid

import pytest

from gateway import Gateway
from postgres import wait_until

WS = "(SELECT id FROM workspaces WHERE name = 'default')"


def protect(gateway, upstream):
    """A route that wants a key."""
    for path, body in (("/services", {"name": "s", "host": "127.0.0.1", "port": upstream.port}),
                       ("/services/s/routes", {"name": "r", "paths": ["/"]}),
                       ("/services/s/plugins", {"name": "key-auth"})):
        assert gateway.admin("POST", path, json=body).status_code == 201
    wait_until(lambda: ask(gateway) == 401, what="the route asks for keys")


def ask(gateway, key=None, headers=None):
    headers = {**({"apikey": key} if key is not None else {}), **(headers or {})}
    return gateway.proxy("/", headers=headers).status_code


def add_consumer(gateway, name, *keys, **more):
    assert gateway.admin("POST", "/consumers", json={"username": name}).status_code == 201
    for key in keys:
        add_key(gateway, name, key, **more)


def add_key(gateway, name, key, **more):
    answer = gateway.admin("POST", f"/consumers/{name}/key-auth", json={"key": key, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def soon(gateway, key, status, what=None):
    wait_until(lambda: ask(gateway, key) == status, timeout=20, what=what or f"{status} for {key}")


def known(gateway, key):
    """Until the key is remembered: asking for it costs nothing."""
    def free():
        before = metrics(gateway)["queries_total"]
        return ask(gateway, key) == 200 and metrics(gateway)["queries_total"] == before
    wait_until(free, timeout=20, what=f"{key} is remembered")


def metrics(gateway):
    """silverback_credentials_*, without that."""
    prefix = "silverback_credentials_"
    lines = gateway.ask_status("/metrics").text.splitlines()
    return {name[len(prefix):]: int(value) for name, value in
            (line.split() for line in lines if line.startswith(prefix))}


def test_a_key_is_asked_for_once(migrated, upstream):
    with Gateway(migrated.env()) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", "a-key")
        assert ask(gateway) == 401
        known(gateway, "a-key")
        before = metrics(gateway)
        for _ in range(20):
            assert ask(gateway, "a-key") == 200
        assert ask(gateway, "no-key") == 401
        for _ in range(20):
            assert ask(gateway, "no-key") == 401
        after = metrics(gateway)
        # One query for the key that is not there, none for the one that is.
        assert after["queries_total"] - before["queries_total"] == 1
        assert after["cached"] == before["cached"] == 2     # the credential, and its consumer
        assert after["cached_absences"] == before["cached_absences"] + 1


def test_a_new_key_costs_one_query(migrated, upstream):
    with Gateway(migrated.env()) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", *(f"key-{i}" for i in range(10)))
        before = metrics(gateway)
        for i in range(10):
            assert ask(gateway, f"key-{i}") == 200
        assert metrics(gateway)["queries_total"] - before["queries_total"] == 10


def test_values_that_no_row_can_have_are_not_asked_for(migrated, upstream):
    with Gateway(migrated.env()) as gateway:
        protect(gateway, upstream)
        before = metrics(gateway)["queries_total"]
        for key in (b"\xff\xfe", b"\xc3"):
            assert ask(gateway, key) == 401
        assert metrics(gateway)["queries_total"] == before


def test_changes_by_the_admin_api_end_what_was_known(migrated, upstream):
    with Gateway(migrated.env()) as gateway:
        protect(gateway, upstream)
        assert ask(gateway, "later") == 401             # and remembered as unknown
        add_consumer(gateway, "alice", "later")
        soon(gateway, "later", 200)
        # Rotated.
        row = gateway.admin("GET", "/key-auths/later").json()
        assert ask(gateway, "rotated") == 401
        assert gateway.admin("PATCH", f"/key-auths/{row['id']}", json={"key": "rotated"}).status_code == 200
        soon(gateway, "rotated", 200)
        soon(gateway, "later", 401)
        # Revoked.
        assert gateway.admin("DELETE", f"/key-auths/{row['id']}").status_code == 204
        soon(gateway, "rotated", 401)
        # With its consumer.
        add_key(gateway, "alice", "again")
        soon(gateway, "again", 200)
        assert gateway.admin("DELETE", "/consumers/alice").status_code == 204
        soon(gateway, "again", 401)


def test_changes_by_anyone_reach_every_node(migrated, upstream):
    with Gateway(migrated.env()) as one, Gateway(migrated.env()) as two:
        protect(one, upstream)
        wait_until(lambda: ask(two) == 401, what="the other node has the route")
        add_consumer(one, "alice", "k1")
        for node in (one, two):
            soon(node, "k1", 200)
            assert ask(node, "k2") == 401
        migrated.query("UPDATE keyauth_credentials SET key = 'k2' WHERE key = 'k1'")
        for node in (one, two):
            soon(node, "k2", 200)
            soon(node, "k1", 401)
        # A consumer's name is what the upstream hears.
        migrated.query("DELETE FROM keyauth_credentials")
        for node in (one, two):
            soon(node, "k2", 401)


def test_many_at_once_by_copy(migrated, upstream):
    """More than 1,000 rows are one entry in the log, without names: all that was unknown ends."""
    with Gateway(migrated.env()) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", "known")
        known(gateway, "known")
        assert ask(gateway, "copied-1999") == 401
        consumer = gateway.admin("GET", "/consumers/alice").json()["id"]
        ws = migrated.query("SELECT id::text FROM workspaces")[0][0]
        rows = "".join(f"{uuid.uuid4()}\t{consumer}\tcopied-{i}\t{ws}\n" for i in range(2000))
        with contextlib.closing(migrated.connect()) as conn, conn.cursor() as cursor:
            cursor.copy_expert("COPY keyauth_credentials (id, consumer_id, key, ws_id) FROM stdin",
                               io.StringIO(rows))
        soon(gateway, "copied-1999", 200)
        before = metrics(gateway)["queries_total"]
        assert ask(gateway, "known") == 200             # what was known stays known
        assert metrics(gateway)["queries_total"] == before
        migrated.query("DELETE FROM keyauth_credentials WHERE key LIKE 'copied-%'")
        soon(gateway, "copied-1999", 401)
        assert ask(gateway, "known") == 200


def test_a_ttl_ends_a_key(migrated, upstream):
    with Gateway(migrated.env()) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", "brief", ttl=3)
        soon(gateway, "brief", 200)
        soon(gateway, "brief", 401)
        # A longer one is news.
        row = add_key(gateway, "alice", "longer", ttl=3)
        soon(gateway, "longer", 200)
        assert gateway.admin("PATCH", f"/key-auths/{row['id']}", json={"ttl": 100}).status_code == 200
        time.sleep(3.2)     # not a wait for something: the old end must pass
        assert ask(gateway, "longer") == 200


def test_the_database_goes_and_comes(private, upstream):
    """What is known goes on working; what is not is 503, not 401; and it recovers by itself."""
    with Gateway(private.env(), db_cache_ttl=1, db_cache_neg_ttl=1, db_resurrect_ttl=1) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", "known", "other")
        known(gateway, "known")
        private.postgres.stop()
        assert ask(gateway) == 401
        until = time.monotonic() + 3                    # past both ttls
        while time.monotonic() < until:
            assert ask(gateway, "known") == 200
            assert ask(gateway, "other") == 503
            assert ask(gateway, "no-key") == 503
        private.postgres.start()
        soon(gateway, "other", 200)
        soon(gateway, "no-key", 401)
        assert ask(gateway, "known") == 200
        # What changes from here on is heard of again.
        assert gateway.admin("DELETE", "/key-auths/known").status_code == 204
        soon(gateway, "known", 401)


def test_a_time_to_live(migrated, upstream):
    """After it rows are asked for again, and what is not there after its own."""
    with Gateway(migrated.env(), db_cache_ttl=1, db_cache_neg_ttl=1000) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", "known")
        soon(gateway, "known", 200)
        assert ask(gateway, "no-key") == 401
        before = metrics(gateway)["queries_total"]

        def asked_again():
            assert ask(gateway, "known") == 200 and ask(gateway, "no-key") == 401
            return metrics(gateway)["queries_total"] - before
        wait_until(lambda: asked_again() >= 4, what="credential and consumer, twice")
        queries = metrics(gateway)["queries_total"]
        for _ in range(20):
            assert ask(gateway, "no-key") == 401
        assert metrics(gateway)["queries_total"] == queries


def test_what_a_lagging_replica_may_say_is_heard_of_again(migrated, upstream):
    """db_update_propagation: a change ends what is known more than once, and then no more."""
    with Gateway(migrated.env(), db_update_propagation=0.5, db_update_frequency=0.1) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", "known")
        known(gateway, "known")
        before = metrics(gateway)["queries_total"]
        migrated.query("UPDATE keyauth_credentials SET tags = '{x}'")

        def asked():
            assert ask(gateway, "known") == 200
            return metrics(gateway)["queries_total"] - before
        wait_until(lambda: asked() >= 3, what="it is asked for three times")
        until = time.monotonic() + 1.5      # three times as long as it may be heard of
        while time.monotonic() < until:
            asked()
        assert asked() == asked()
        known(gateway, "known")


def test_a_database_that_hangs_is_away(private, upstream):
    with Gateway(private.env(), pg_timeout=500) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", "known", "other")
        known(gateway, "known")
        private.postgres.pause()
        began = time.monotonic()
        assert ask(gateway, "other") == 503
        assert time.monotonic() - began < 10
        assert ask(gateway, "known") == 200
        private.postgres.resume()
        soon(gateway, "other", 200)


def test_a_lost_connection_is_not_noticed_by_clients(migrated, upstream):
    with Gateway(migrated.env()) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", *(f"key-{i}" for i in range(20)))
        for i in range(20):
            migrated.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                           "WHERE datname = current_database() AND pid <> pg_backend_pid()")
            assert ask(gateway, f"key-{i}") == 200


def test_changes_while_the_gateway_was_not_listening(private, upstream):
    """The log is read from where it was left, also over a lost connection."""
    with Gateway(private.env()) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", "known")
        known(gateway, "known")
        private.postgres.stop()
        assert ask(gateway, "known") == 200
        private.postgres.start()
        private.query("DELETE FROM keyauth_credentials")
        soon(gateway, "known", 401)


def add_many(database, n):
    """Consumers c1 .. cn, in the group g, with a key each."""
    database.query(f"INSERT INTO consumers (id, username, ws_id) SELECT gen_random_uuid(), "
                   f"'c' || i, {WS} FROM generate_series(1, {n}) i")
    database.query("INSERT INTO keyauth_credentials (id, consumer_id, key, ws_id) "
                   "SELECT gen_random_uuid(), id, 'key-' || username, ws_id FROM consumers")
    database.query("INSERT INTO acls (id, consumer_id, \"group\", cache_key, ws_id) "
                   "SELECT gen_random_uuid(), id, g, id || g, ws_id FROM consumers, "
                   "unnest(ARRAY['g', 'h']) g")


def test_credentials_are_cached_from_the_start(migrated, upstream):
    with Gateway(migrated.env()) as gateway:
        protect(gateway, upstream)
        assert gateway.admin("POST", "/services/s/plugins",
                             json={"name": "acl", "config": {"allow": ["g"]}}).status_code == 201
    add_many(migrated, 2500)
    entities = "services,routes,nonsense,keyauth_credentials,acls,keyauth_credentials"
    with Gateway(migrated.env(), db_cache_warmup_entities=entities) as gateway:
        wait_until(lambda: "finished preloading 'acls'" in gateway.log(), what="all is cached")
        assert "nonsense is not a valid entity name, please check the value of " \
               "'db_cache_warmup_entities'" in gateway.log()
        assert metrics(gateway)["cached"] == 3 * 2500   # keys, consumers, groups
        before = metrics(gateway)["queries_total"]
        for i in (1, 1000, 1001, 2500):
            assert ask(gateway, f"key-c{i}") == 200
        assert metrics(gateway)["queries_total"] == before
        # What changes is forgotten, as what was asked for is.
        migrated.query("UPDATE keyauth_credentials SET key = 'new' WHERE key = 'key-c7'")
        soon(gateway, "key-c7", 401)
        migrated.query("DELETE FROM acls WHERE \"group\" = 'g' AND consumer_id = "
                       "(SELECT id FROM consumers WHERE username = 'c8')")
        soon(gateway, "key-c8", 403)


def test_warming_up_ends_before_the_cache_is_full(migrated):
    add_many(migrated, 2500)
    with Gateway(migrated.env(), db_cache_warmup_entities="consumers,acls",
                 mem_cache_size="512k") as gateway:
        wait_until(lambda: "cache warmup has been stopped because cache memory is exhausted, please "
                   "consider increasing the value of 'mem_cache_size' (currently at 512k)"
                   in gateway.log(), what="the cache is full")
        now = metrics(gateway)
        assert now["cache_bytes"] <= now["cache_limit_bytes"]
        assert "preloading 'acls'" not in gateway.log()


@pytest.mark.parametrize("workers", [1, 4])
def test_equal_questions_share_an_answer(migrated, upstream, workers):
    """One query goes out, whichever workers are asked for the same thing."""
    with Gateway(migrated.env(), nginx_worker_processes=workers) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", "good")
        before = metrics(gateway)
        with concurrent.futures.ThreadPoolExecutor(48) as pool:
            with contextlib.closing(migrated.connect(autocommit=False)) as conn:
                conn.cursor().execute("LOCK TABLE keyauth_credentials IN ACCESS EXCLUSIVE MODE")
                keys = ["no-key", "good"] * 24
                answers = [pool.submit(ask, gateway, key) for key in keys]
                wait_until(lambda: metrics(gateway)["joined_total"] - before["joined_total"] == 46,
                           what="two queries for all")
                assert not any(a.done() for a in answers)
            assert [a.result() for a in answers] == [401, 200] * 24
        after = metrics(gateway)
        assert after["queries_total"] - before["queries_total"] == 2


def test_a_change_is_not_shared_with_who_asked_before(migrated, upstream):
    """Who asks after a change was heard of does not wait for an answer from before it."""
    with Gateway(migrated.env(), nginx_worker_processes=4) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice", "key")
        known(gateway, "key")
        stop = time.monotonic() + 3
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for i in range(1000):
                if time.monotonic() > stop:
                    break
                row = gateway.admin("GET", f"/key-auths/{'key' if i == 0 else f'key-{i - 1}'}").json()
                askers = [pool.submit(ask, gateway, f"key-{i}") for _ in range(8)]
                assert gateway.admin("PATCH", f"/key-auths/{row['id']}",
                                     json={"key": f"key-{i}"}).status_code == 200
                soon(gateway, f"key-{i}", 200)
                assert all(a.result() in (200, 401) for a in askers)


@pytest.mark.parametrize("code, path", [
    ("kong.service.request.set_header('apikey', kong.request.get_header('X-Token'))", "/"),
    ("kong.service.request.set_raw_query('a=1&apikey=' .. kong.request.get_header('X-Token'))", "/?a=1")])
def test_a_key_that_an_earlier_plugin_gives_is_found_and_hidden(migrated, upstream, code, path):
    """Also when the plugin waits for the database, and is called again after it has hidden it."""
    with Gateway(migrated.env(), untrusted_lua="sandbox") as gateway:
        protect(gateway, upstream)
        row = gateway.admin("GET", "/services/s/plugins").json()["data"][0]
        gateway.admin("PATCH", f"/plugins/{row['id']}", json={"config": {"hide_credentials": True}})
        gateway.admin("POST", "/plugins", json={"name": "pre-function", "config": {"access": [code]}})
        add_consumer(gateway, "alice", "key")
        wait_until(lambda: gateway.proxy(path, headers={"X-Token": "key"}).status_code == 200)
        for _ in range(2):                      # never seen, and remembered
            seen = gateway.proxy(path, headers={"X-Token": "key"}).headers["X-Seen"]
            assert "apikey" not in seen and "apikey" not in upstream.headers
            assert upstream.headers["X-Consumer-Username"] == "alice"
            gateway.restart()
            wait_until(lambda: gateway.proxy(path, headers={"X-Token": "none"}).status_code == 401)


def test_without_a_database(upstream):
    """Consumers and credentials of a declarative configuration are in memory."""
    services = [{"name": "s", "host": "127.0.0.1", "port": upstream.port,
                 "routes": [{"name": "r", "paths": ["/"]}], "plugins": [{"name": "key-auth"}]}]
    with Gateway(config={"services": services, "consumers": [
            {"username": "alice", "keyauth_credentials": [{"key": "a-key"}]}]}) as gateway:
        assert [ask(gateway, key) for key in ("a-key", "no-key", None)] == [200, 401, 401]
        gateway.post_config(services=services, consumers=[
            {"username": "bob", "keyauth_credentials": [{"key": "b-key"}]}])
        soon(gateway, "b-key", 200)
        assert ask(gateway, "a-key") == 401
        gateway.restart()
        wait_until(lambda: ask(gateway, "b-key") in (200, 401))


def test_memory_is_bounded(migrated, upstream):
    """Thousands of keys that nobody knows, and more consumers than fit."""
    with Gateway(migrated.env(), mem_cache_size="128k", nginx_worker_processes=1) as gateway:
        protect(gateway, upstream)
        migrated.query(f"INSERT INTO consumers (id, username, ws_id) SELECT gen_random_uuid(), "
                       f"'c' || i, {WS} FROM generate_series(1, 400) i")
        migrated.query("INSERT INTO keyauth_credentials (id, consumer_id, key, ws_id) "
                       "SELECT gen_random_uuid(), id, 'key-' || username, ws_id FROM consumers")
        add_consumer(gateway, "alice", "known")
        for i in range(1, 400):
            assert ask(gateway, f"key-c{i}") == 200
            if i % 10 == 0:
                assert ask(gateway, "known") == 200
        full = metrics(gateway)
        assert full["cache_bytes"] <= full["cache_limit_bytes"] == 128 << 10
        assert full["evicted_total"] > 0
        queries = full["queries_total"]
        assert ask(gateway, "known") == 200             # asked for often: it stayed
        assert metrics(gateway)["queries_total"] == queries
        for i in range(400):
            assert ask(gateway, f"guess-{i}") == 401
        after = metrics(gateway)
        assert after["cache_bytes"] <= after["cache_limit_bytes"]
        assert after["cached"] == full["cached"]            # guesses pushed nothing out


def test_what_plugins_write_is_there_for_all_nodes(migrated, upstream):
    """Tokens: a row that one node inserts, another finds, and nobody any more once it is deleted."""
    trusting = dict(trusted_ips="127.0.0.1")
    with Gateway(migrated.env(), **trusting) as one, Gateway(migrated.env(), **trusting) as two:
        for path, body in (
                ("/services", {"name": "s", "host": "127.0.0.1", "port": upstream.port}),
                ("/services/s/routes", {"name": "r", "paths": ["/"]}),
                ("/services/s/plugins", {"name": "oauth2", "config": {
                    "enable_client_credentials": True, "accept_http_if_already_terminated": True}}),
                ("/consumers", {"username": "alice"}),
                ("/consumers/alice/oauth2", {"name": "app", "client_id": "app",
                                             "client_secret": "secret"})):
            assert one.admin("POST", path, json=body).status_code == 201
        for node in (one, two):
            wait_until(lambda: node.proxy("/").status_code == 401, what="the route asks for tokens")
        grant = {"grant_type": "client_credentials", "client_id": "app", "client_secret": "secret"}
        tokens = []
        for _ in range(10):
            answer = one.proxy("/oauth2/token", method="POST", data=grant,
                               headers={"X-Forwarded-Proto": "https"})
            assert answer.status_code == 200, answer.text
            tokens.append(answer.json()["access_token"])
        assert migrated.value("SELECT count(*) FROM oauth2_tokens") == 10

        def status(node, token):
            return node.proxy("/", headers={"Authorization": f"Bearer {token}"}).status_code

        for node in (one, two):
            assert [status(node, token) for token in tokens] == [200] * 10
        migrated.query("DELETE FROM oauth2_tokens WHERE access_token = %s", tokens[0])
        for node in (one, two):
            wait_until(lambda: status(node, tokens[0]) == 401, timeout=20, what="the token ended")
        assert metrics(one)["writes_total"] == 10


def test_changes_in_a_row_are_all_noticed(migrated, upstream):
    """None waits for the next poll: a notification that comes during a query is not slept over."""
    with Gateway(migrated.env(), db_update_frequency=60) as gateway:
        protect(gateway, upstream)
        add_consumer(gateway, "alice")
        for i in range(30):
            assert ask(gateway, f"k{i}") == 401
            add_key(gateway, "alice", f"k{i}")
            soon(gateway, f"k{i}", 200)


def ask_from(gateway, address, key):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gateway.http, timeout=30,
                                                       source_address=(address, 0))) as conn:
        conn.request("GET", "/", headers={"apikey": key})
        return conn.getresponse().status


def test_who_guesses_waits_in_a_queue_of_his_own(migrated, upstream):
    """A source has a quarter of the queries in flight at most; the next one does not wait for it."""
    with Gateway(migrated.env(), nginx_worker_processes=1, pg_max_concurrent_queries=8) as gateway:
        protect(gateway, upstream)
        assert ask(gateway, "first") == 401             # the connection is there, the query prepared
        before = metrics(gateway)["queries_total"]

        def sent():
            return metrics(gateway)["queries_total"] - before

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            with contextlib.closing(migrated.connect(autocommit=False)) as conn:
                conn.cursor().execute("LOCK TABLE keyauth_credentials IN ACCESS EXCLUSIVE MODE")
                answers = [pool.submit(ask_from, gateway, "127.0.0.1", f"guess-{i}")
                           for i in range(10)]
                wait_until(lambda: sent() == 2, what="a quarter of eight")
                answers.append(pool.submit(ask_from, gateway, "127.0.0.2", "guess-of-another"))
                wait_until(lambda: sent() == 3, what="the other one's")
            assert [a.result() for a in answers] == [401] * 11
        assert sent() == 11
