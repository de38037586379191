"""A data plane follows its database: changes by anyone reach the traffic, and the database may go."""

import contextlib
import http.client
import os
import signal
import threading
import time

import pytest

from gateway import Gateway, Upstream
from postgres import wait_until

WS = "(SELECT id FROM workspaces WHERE name = 'default')"


def add_service(db, name, port, host="127.0.0.1"):
    db.query(f"INSERT INTO services (id, ws_id, name, host, port, protocol, enabled, created_at, updated_at) "
             f"VALUES (gen_random_uuid(), {WS}, %s, %s, %s, 'http', true, now(), now())",
             name, host, port)


def add_route(db, host, service):
    db.query(f"INSERT INTO routes (id, ws_id, name, hosts, protocols, strip_path, service_id, "
             f"created_at, updated_at) VALUES (gen_random_uuid(), {WS}, %s, ARRAY[%s], "
             f"'{{http,https}}', true, (SELECT id FROM services WHERE name = %s), now(), now())",
             host, host, service)


def state(db):
    return dict(db.query("SELECT id::text, version FROM silverback_nodes"))


# -- changes ---------------------------------------------------------------------------------------

def test_a_change_by_psql_becomes_traffic(migrated, upstream):
    with Gateway(migrated.env()) as gateway:
        assert gateway.answers("a.test", status=404)
        add_service(migrated, "s", upstream.port)
        add_route(migrated, "a.test", "s")
        gateway.wait_for("a.test")
        migrated.query("UPDATE routes SET hosts = ARRAY['b.test']")
        gateway.wait_for("b.test")
        assert gateway.answers("a.test", status=404)
        migrated.query("UPDATE services SET enabled = false")
        gateway.wait_for("b.test", status=404)
        migrated.query("UPDATE services SET enabled = true")
        gateway.wait_for("b.test")
        migrated.query("DELETE FROM routes")
        gateway.wait_for("b.test", status=404)
        version = migrated.value("SELECT version FROM silverback_version")
        wait_until(lambda: list(state(migrated).values()) == [version], what="the version reported")
        assert gateway.version()["served"] == version
    assert not state(migrated)      # a node that stops says so


def test_one_transaction_is_one_change(migrated, upstream):
    """What a transaction writes is seen at once, or not at all."""
    with Gateway(migrated.env()) as gateway:
        for n in range(20):
            with contextlib.closing(migrated.connect(autocommit=False)) as conn:
                with conn.cursor() as cur:
                    cur.execute(f"INSERT INTO services (id, ws_id, name, host, port, protocol, enabled) "
                                f"VALUES (gen_random_uuid(), {WS}, %s, '127.0.0.1', %s, 'http', true) "
                                f"RETURNING id", (f"s{n}", upstream.port))
                    service = cur.fetchone()[0]
                    cur.execute(f"INSERT INTO routes (id, ws_id, name, hosts, protocols, service_id) VALUES "
                                f"(gen_random_uuid(), {WS}, %s, ARRAY[%s], '{{http}}', %s)",
                                (f"r{n}", f"h{n}.test", service))
                    assert gateway.answers(f"h{n}.test", status=404)
                conn.commit()
            seen = []
            wait_until(lambda: seen.append(gateway.proxy(host=f"h{n}.test").status_code)
                       or seen[-1] == 200)
            assert set(seen) <= {404, 200}


def test_a_rollback_is_no_change(migrated, upstream):
    with Gateway(migrated.env()) as gateway:
        add_service(migrated, "s", upstream.port)
        before = migrated.value("SELECT version FROM silverback_version")
        with contextlib.closing(migrated.connect(autocommit=False)) as conn:
            with conn.cursor() as cur:
                cur.execute("DELETE FROM services")
            conn.rollback()
        add_route(migrated, "a.test", "s")
        gateway.wait_for("a.test")
        assert gateway.version()["served"] == before + 1


def test_a_broken_row_takes_nobody_along(migrated, upstream):
    with Gateway(migrated.env()) as gateway:
        add_service(migrated, "s", upstream.port)
        add_route(migrated, "good.test", "s")
        add_route(migrated, "bad.test", "s")
        gateway.wait_for("bad.test")
        migrated.query("UPDATE routes SET paths = ARRAY['~/('] WHERE name = 'bad.test'")
        gateway.wait_for("bad.test", status=404)
        assert gateway.answers("good.test")
        assert "'bad.test'" in gateway.log() and "left out" in gateway.log()
        migrated.query("UPDATE routes SET paths = ARRAY['~/.*'] WHERE name = 'bad.test'")
        gateway.wait_for("bad.test")


def test_more_rows_than_the_log_lists(migrated, upstream):
    """A statement of more than 1,000 rows is one entry, "all of this table"."""
    with Gateway(migrated.env()) as gateway:
        add_service(migrated, "s", upstream.port)
        migrated.query(f"INSERT INTO routes (id, ws_id, name, hosts, protocols, service_id) "
                       f"SELECT gen_random_uuid(), {WS}, 'r' || n, ARRAY['h' || n || '.test'], "
                       f"'{{http}}', s.id FROM generate_series(1, 2500) n, services s")
        gateway.wait_for("h2500.test")
        assert gateway.answers("h1.test")
        migrated.query("DELETE FROM routes WHERE name <> 'r7'")
        gateway.wait_for("h1.test", status=404)
        assert gateway.answers("h7.test")


def test_targets_come_and_go(migrated, upstream):
    with Gateway(migrated.env()) as gateway, Upstream("second") as second:
        add_service(migrated, "s", 80, host="up.internal")
        add_route(migrated, "a.test", "s")
        migrated.query(f"INSERT INTO upstreams (id, ws_id, name, slots, algorithm, hash_on, hash_fallback) VALUES "
                       f"(gen_random_uuid(), {WS}, 'up.internal', 100, 'round-robin', 'none', 'none')")

        def add_target(port):
            migrated.query(f"INSERT INTO targets (id, ws_id, upstream_id, target, weight, created_at, cache_key) "
                           f"SELECT gen_random_uuid(), {WS}, u.id, %s, 100, now(), %s FROM upstreams u",
                           f"127.0.0.1:{port}", f"targets:{port}")

        add_target(upstream.port)
        gateway.wait_for("a.test")
        add_target(second.port)
        wait_until(lambda: gateway.proxy(host="a.test").text == "second", what="the second target")
        migrated.query("DELETE FROM targets WHERE target = %s", f"127.0.0.1:{upstream.port}")
        wait_until(lambda: all(gateway.proxy(host="a.test").text == "second" for _ in range(6)))


# -- the database goes away ------------------------------------------------------------------------

def test_the_database_may_be_away(private, upstream):
    """Traffic goes on, a restart serves what was saved, and what was missed arrives."""
    server = private.postgres
    add_service(private, "s", upstream.port)
    add_route(private, "a.test", "s")
    with Gateway(private.env()) as gateway:
        gateway.wait_for("a.test")
        gateway.wait_saved()
        server.stop()
        assert gateway.answers("a.test")
        gateway.kill()
        gateway.start()
        assert gateway.answers("a.test")
        assert "as it was saved" in gateway.log()
        server.start()
        add_route(private, "b.test", "s")
        gateway.wait_for("b.test")
        assert gateway.answers("a.test")
        server.restart(signal.SIGQUIT)      # a crash
        add_route(private, "c.test", "s")
        gateway.wait_for("c.test")


def test_a_database_that_never_answers(private, upstream):
    """Paused, it takes connections and says nothing: no thread that serves may wait for it."""
    add_service(private, "s", upstream.port)
    add_route(private, "a.test", "s")
    with Gateway(private.env(KONG_PG_TIMEOUT=1000, KONG_DB_UPDATE_FREQUENCY=0.2)) as gateway:
        gateway.wait_for("a.test")
        private.postgres.pause()
        try:
            began = time.monotonic()
            while time.monotonic() - began < 2.5:   # several polls and reconnections
                assert gateway.answers("a.test")
            assert not gateway.version()["connected"]
        finally:
            private.postgres.resume()
        add_route(private, "b.test", "s")
        gateway.wait_for("b.test")


def test_without_anything_saved_it_says_what_is_wrong(private):
    private.postgres.stop()
    gateway = Gateway(private.env())
    try:
        said = gateway.fails()
        assert str(private.postgres.port) in said and "pg_host" in said
        assert "kong:kong" not in said
    finally:
        gateway.destroy()


@pytest.mark.parametrize("damage", ["bytes", "empty", "foreign"])
def test_a_damaged_copy_is_ignored(private, upstream, damage):
    add_service(private, "s", upstream.port)
    add_route(private, "a.test", "s")
    with Gateway(private.env()) as gateway:
        gateway.wait_for("a.test")
        gateway.wait_saved()
        gateway.stop()
        saved = gateway.prefix / "config.saved"
        if damage == "foreign":
            (gateway.prefix / "kong.id").unlink()
        else:
            saved.write_bytes(b"" if damage == "empty" else b"x" * saved.stat().st_size)
        gateway.start()
        assert gateway.answers("a.test")
        assert "the saved configuration is not used" in gateway.log()


# -- the log does not lead on ----------------------------------------------------------------------

def test_a_pruned_log_means_a_load(private, upstream):
    add_service(private, "s", upstream.port)
    add_route(private, "a.test", "s")
    with Gateway(private.env()) as gateway:
        gateway.wait_for("a.test")
        os.kill(gateway.serving_pid, signal.SIGSTOP)
        try:
            private.query("DELETE FROM routes")
            private.postgres.admin("DELETE FROM silverback_changes", dbname=private.name)
            add_route(private, "b.test", "s")
        finally:
            os.kill(gateway.serving_pid, signal.SIGCONT)
        gateway.wait_for("b.test")
        assert gateway.answers("a.test", status=404)
        assert "whole" in gateway.log()


def test_a_restored_past_means_a_load(private, upstream):
    """A version of the same number may be another one."""
    add_service(private, "s", upstream.port)
    add_route(private, "a.test", "s")
    with Gateway(private.env()) as gateway:
        gateway.wait_for("a.test")
        gateway.wait_saved()
        gateway.stop()
        private.query("UPDATE routes SET hosts = ARRAY['b.test']")
        sql = ("UPDATE silverback_version SET version = version - 1, mark = mark + 1; "
               "DELETE FROM silverback_changes WHERE version > (SELECT version FROM silverback_version); "
               "UPDATE silverback_changes SET mark = mark + 1")
        private.postgres.admin(sql, dbname=private.name)
        gateway.start()
        gateway.wait_for("b.test")
        assert gateway.answers("a.test", status=404)


# -- many changes ----------------------------------------------------------------------------------

class Load:
    """Requests without a pause over connections that stay open; what did not go well."""

    def __init__(self, gateway, host, threads=4):
        self.gateway, self.host = gateway, host
        self.lost, self.done, self.ended = [], 0, threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def run(self):
        conn = http.client.HTTPConnection("127.0.0.1", self.gateway.http, timeout=20)
        while not self.ended.is_set():
            try:
                conn.request("GET", "/", headers={"Host": self.host})
                answer = conn.getresponse()
                answer.read()
                if answer.status != 200:
                    self.lost.append(answer.status)
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                conn.close()
            self.done += 1
        conn.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def test_a_thousand_changes_lose_no_request(migrated, upstream):
    """Every change makes a new snapshot while requests are under way on the ones before."""
    add_service(migrated, "s", upstream.port)
    add_route(migrated, "a.test", "s")
    with Gateway(migrated.env()) as gateway:
        gateway.wait_for("a.test")
        with Load(gateway, "a.test") as load, contextlib.closing(migrated.connect()) as conn:
            cur = conn.cursor()
            for n in range(250):
                cur.execute(f"INSERT INTO routes (id, ws_id, name, hosts, protocols, service_id) "
                            f"SELECT gen_random_uuid(), {WS}, 'n' || %s, ARRAY['n.test', %s], "
                            f"'{{http}}', s.id FROM services s RETURNING id", (n, f"n{n}.test"))
                route = cur.fetchone()[0]
                cur.execute("UPDATE services SET retries = %s", (n % 30,))
                cur.execute("UPDATE routes SET hosts = ARRAY['a.test'] WHERE id = %s", (route,))
                cur.execute("DELETE FROM routes WHERE id = %s", (route,))
                wait_until(lambda n=n: load.done > n, what="a request for every four changes")
            version = migrated.value("SELECT version FROM silverback_version")
            wait_until(lambda: gateway.version()["served"] == version, what="all changes served")
        assert not load.lost, load.lost[:5]
        assert gateway.process.poll() is None
