"""The change log: every committed change has a version, nothing is missed, nobody waits in vain.

The followers here use the functions that the data plane's reader uses.
"""

import contextlib
import os
import random
import subprocess
import threading
import uuid

import psycopg2
import pytest

from postgres import wait_until
from programs import BUILD, ROOT

CONFIG = ["workspaces", "certificates", "services", "routes", "snis", "upstreams", "targets",
          "plugins", "ca_certificates", "sm_vaults", "key_sets", "keys", "filter_chains"]
SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))


def new_id():
    return str(uuid.uuid4())


@pytest.fixture
def db(migrated):
    return migrated


@pytest.fixture
def ws(db):
    return db.value("SELECT id FROM workspaces")


def head(db):
    return db.query("SELECT version, mark FROM silverback_version")[0]


def changes(db, since):
    """[(table, op, ids or None)] above a version, in the order in which they were made."""
    return db.query("SELECT entity, op, ids::text[] FROM silverback_changes WHERE version > %s"
                    " ORDER BY version, at", since)


def invalidations(db):
    return db.query("SELECT entity, op, keys FROM silverback_invalidations ORDER BY txid, at")


def add(db, table, ws, n=1, **columns):
    """n rows; their ids."""
    ids = [new_id() for _ in range(n)]
    names = ["id", "ws_id", *columns]
    db.query(f"INSERT INTO {table} ({', '.join(names)}) SELECT i, %s"
             f"{', %s' * len(columns)} FROM unnest(%s::uuid[]) i",
             ws, *columns.values(), ids)
    return ids


class Session:
    """Asks a database without connecting each time."""

    def __init__(self, db):
        self.cur = db.connect().cursor()

    def query(self, sql, *args):
        self.cur.execute(sql, args)
        return self.cur.fetchall()


# -- what is recorded -------------------------------------------------------------------------


def test_statements(db, ws):
    v = head(db)[0]
    (a,) = add(db, "services", ws, name="a")
    db.query("UPDATE services SET host = 'h' WHERE id = %s", a)
    db.query("DELETE FROM services WHERE id = %s", a)
    assert changes(db, v) == [("services", "INSERT", [a]), ("services", "UPDATE", [a]),
                              ("services", "DELETE", [a])]
    assert head(db)[0] == v + 3


def test_an_upsert_is_what_it_did(db, ws):
    v, one, two = head(db)[0], new_id(), new_id()
    upsert = ("INSERT INTO services (id, ws_id, host) VALUES (%s, %s, 'x'), (%s, %s, 'y')"
              " ON CONFLICT (id) DO UPDATE SET host = EXCLUDED.host")
    add(db, "services", ws)
    db.query("INSERT INTO services (id, ws_id) VALUES (%s, %s)", one, ws)
    db.query(upsert, one, ws, two, ws)
    assert sorted(changes(db, v + 2)) == [("services", "INSERT", [two]),
                                          ("services", "UPDATE", [one])]
    assert head(db)[0] == v + 3


def test_a_changed_id_is_both(db, ws):
    (a,), b = add(db, "services", ws), new_id()
    v = head(db)[0]
    db.query("UPDATE services SET id = %s WHERE id = %s", b, a)
    ((_, _, ids),) = changes(db, v)
    assert sorted(ids) == sorted([a, b])


def test_one_version_a_transaction(db, ws):
    v = head(db)[0]
    with contextlib.closing(db.connect(autocommit=False)) as conn, conn.cursor() as cur:
        for i in range(3):
            cur.execute("INSERT INTO services (id, ws_id) VALUES (%s, %s)", (new_id(), ws))
            cur.execute("INSERT INTO upstreams (id, ws_id, slots) VALUES (%s, %s, 10)",
                        (new_id(), ws))
            cur.execute("SAVEPOINT s")
            cur.execute("INSERT INTO routes (id, ws_id) VALUES (%s, %s)", (new_id(), ws))
            cur.execute("ROLLBACK TO s" if i else "RELEASE s")
        assert head(db)[0] == v
        conn.commit()
    assert head(db)[0] == v + 1
    assert [c[0] for c in changes(db, v)].count("routes") == 1
    assert len(changes(db, v)) == 7


def test_a_savepoint_that_made_the_version_is_rolled_back(db, ws):
    v = head(db)[0]
    with contextlib.closing(db.connect(autocommit=False)) as conn, conn.cursor() as cur:
        cur.execute("SAVEPOINT s")
        cur.execute("INSERT INTO routes (id, ws_id) VALUES (%s, %s)", (new_id(), ws))
        cur.execute("ROLLBACK TO s")
        cur.execute("INSERT INTO services (id, ws_id) VALUES (%s, %s)", (new_id(), ws))
        conn.commit()
    assert head(db)[0] == v + 1
    assert [c[0] for c in changes(db, v)] == ["services"]


def test_what_changes_nothing_makes_no_version(db, ws):
    v = head(db)[0]
    db.query("UPDATE services SET host = 'x'")
    db.query("DELETE FROM routes")
    with contextlib.closing(db.connect(autocommit=False)) as conn, conn.cursor() as cur:
        cur.execute("INSERT INTO services (id, ws_id) VALUES (%s, %s)", (new_id(), ws))
        conn.rollback()
    db.query("INSERT INTO cluster_events VALUES (%s, %s, now(), now(), now(), 'c', 'd')",
             new_id(), new_id())
    db.query("INSERT INTO ratelimiting_metrics (identifier, period, period_date, value)"
             " VALUES ('i', 'second', now(), 1)")
    db.query("INSERT INTO locks VALUES ('k', 'o', now())")
    assert head(db)[0] == v and changes(db, v) == []


def test_cascades(db, ws):
    (up,) = add(db, "upstreams", ws, slots=10)
    targets = add(db, "targets", ws, n=3, upstream_id=up, target="t:1", weight=1)
    (service,) = add(db, "services", ws)
    (route,) = add(db, "routes", ws, service_id=service)
    (consumer,) = add(db, "consumers", ws, username="joe")
    plugin = lambda **on: add(db, "plugins", ws, name="cors", config="{}", enabled=True, **on)[0]
    of_route, of_consumer = plugin(route_id=route), plugin(consumer_id=consumer)
    add(db, "keyauth_credentials", ws, consumer_id=consumer, key="secret")
    v = head(db)[0]
    db.query("DELETE FROM upstreams")
    assert {(t, op, tuple(sorted(ids))) for t, op, ids in changes(db, v)} == {
        ("targets", "DELETE", tuple(sorted(targets))), ("upstreams", "DELETE", (up,))}
    db.query("DELETE FROM routes")
    assert sorted(changes(db, v + 1)) == [("plugins", "DELETE", [of_route]),
                                          ("routes", "DELETE", [route])]
    seen = len(invalidations(db))
    db.query("DELETE FROM consumers")
    assert changes(db, v + 2) == [("plugins", "DELETE", [of_consumer])]
    got = {(t, op): set(keys) for t, op, keys in invalidations(db)[seen:]}
    assert got[("consumers", "DELETE")] == {f"id={consumer}", "username=joe"}
    assert "key=secret" in got[("keyauth_credentials", "DELETE")]


@pytest.mark.parametrize("n, whole", [(1000, False), (1001, True)])
def test_large_statements(db, ws, n, whole):
    v, seen = head(db)[0], len(invalidations(db))
    db.query("INSERT INTO services (id, ws_id) SELECT md5(i::text)::uuid, %s"
             " FROM generate_series(1, %s) i", ws, n)
    db.query("UPDATE services SET host = 'h'")
    db.query("DELETE FROM services")
    assert [(op, ids if ids is None else len(ids)) for _, op, ids in changes(db, v)] == [
        (op, None if whole else n) for op in ("INSERT", "UPDATE", "DELETE")]
    db.query("INSERT INTO consumers (id, ws_id, username) SELECT md5(i::text)::uuid, %s, i::text"
             " FROM generate_series(1, %s) i", ws, n)
    db.query("UPDATE consumers SET custom_id = 'c' || username")
    db.query("DELETE FROM consumers")
    assert [(op, keys if keys is None else len(keys)) for _, op, keys in invalidations(db)[seen:]] == [
        (op, None if whole else k * n) for op, k in (("INSERT", 2), ("UPDATE", 3), ("DELETE", 3))]


def test_truncate(db, ws):
    add(db, "routes", ws)
    v, seen = head(db)[0], len(invalidations(db))
    db.query("TRUNCATE services, consumers CASCADE")
    assert {(t, op, ids) for t, op, ids in changes(db, v)} == {
        (t, "TRUNCATE", None) for t in ("services", "routes", "plugins", "filter_chains")}
    assert ("keyauth_credentials", "TRUNCATE", None) in invalidations(db)[seen:]
    assert head(db)[0] == v + 1


def test_any_writer(db, ws, postgres):
    """A role with rights on Kong's table only, another search path, another time zone."""
    db.postgres.admin(f"DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN PASSWORD 'kong'")
    db.query("GRANT INSERT ON services TO stranger; GRANT USAGE ON SCHEMA public TO stranger;"
             " GRANT ALL ON tags TO stranger")
    db.query(f"CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.silverback_version (x int)")
    v, one = head(db)[0], new_id()
    with contextlib.closing(db.connect(user="stranger", options="-c TimeZone=America/Lima")) as conn:
        with conn.cursor() as cur:
            cur.execute("CREATE TEMP TABLE silverback_changes (x int)"
                        if db.value("SELECT has_database_privilege('stranger', current_database(),"
                                    " 'TEMP')") else "SELECT 1")
            cur.execute("SET search_path = elsewhere, public, pg_temp")
            cur.execute("INSERT INTO public.services (id, ws_id) VALUES (%s, %s)", (one, ws))
    assert changes(db, v) == [("services", "INSERT", [one])]
    assert abs(db.value("SELECT extract(epoch FROM now() - max(at)) FROM silverback_changes")) < 600


def test_consumers_and_credentials(db, ws):
    (joe,) = add(db, "consumers", ws, username="joe", custom_id="j")
    (key,) = add(db, "keyauth_credentials", ws, consumer_id=joe, key="old")
    db.query("UPDATE keyauth_credentials SET key = 'new'")
    db.query("INSERT INTO acls (id, ws_id, consumer_id, \"group\") VALUES (%s, %s, %s, 'g')",
             new_id(), ws, joe)
    assert [(t, op, set(keys)) for t, op, keys in invalidations(db)] == [
        ("consumers", "INSERT", {f"id={joe}", "username=joe", "custom_id=j"}),
        ("keyauth_credentials", "INSERT", {f"id={key}", "key=old"}),
        ("keyauth_credentials", "UPDATE", {f"id={key}", "key=old", "key=new"}),
        ("acls", "INSERT", {f"consumer_id={joe}"})]
    assert head(db)[0] == 1


def test_tokens_and_sessions_only_when_they_end(db, ws):
    (joe,) = add(db, "consumers", ws, username="joe")
    (app,) = add(db, "oauth2_credentials", ws, consumer_id=joe, client_id="app")
    seen = len(invalidations(db))
    (token,) = add(db, "oauth2_tokens", ws, credential_id=app, access_token="a", refresh_token="r")
    for i, ttl in enumerate(["1 hour", "-1 hour"]):
        db.query("INSERT INTO sessions (id, session_id, ttl) VALUES (%s, %s, now() + %s::interval)",
                 new_id(), f"s{i}", ttl)
    assert invalidations(db)[seen:] == []
    db.query("DELETE FROM oauth2_tokens")
    db.query("DELETE FROM sessions")        # one of them had expired anyway
    assert [(t, set(keys)) for t, _, keys in invalidations(db)[seen:]] == [
        ("oauth2_tokens", {f"id={token}", "access_token=a", "refresh_token=r"}),
        ("sessions", {"session_id=s0"})]


# -- news -------------------------------------------------------------------------------------


class Listener:
    """LISTENs to channels; got() gives what has come."""

    def __init__(self, db, *channels):
        self.conn = db.connect()
        with self.conn.cursor() as cur:
            for c in channels:
                cur.execute(f"LISTEN {c}")

    def got(self):
        self.conn.poll()
        notices, self.conn.notifies = [(n.channel, n.payload) for n in self.conn.notifies], []
        return notices


def test_notifications(db, ws):
    listener = Listener(db, "silverback_changes", "silverback_invalidations")
    with contextlib.closing(db.connect(autocommit=False)) as conn, conn.cursor() as cur:
        for _ in range(2):
            cur.execute("INSERT INTO services (id, ws_id) VALUES (%s, %s)", (new_id(), ws))
        assert listener.got() == []
        conn.commit()
    assert wait_until(listener.got) == [("silverback_changes", "2")]
    add(db, "consumers", ws, username="a")
    assert wait_until(listener.got) == [("silverback_invalidations", "")]
    db.query("DELETE FROM consumers")
    assert wait_until(listener.got) == [("silverback_invalidations", "")]


def test_parallel_imports_do_not_wait_for_each_other(db, ws):
    """Neither for the row of a counter nor, committing, for another's notification."""
    listener = Listener(db, "silverback_invalidations")
    conns = [db.connect(autocommit=False) for _ in range(3)]
    for i, conn in enumerate(conns):
        with conn.cursor() as cur:
            cur.execute("SET lock_timeout = '1s'")
            cur.execute("INSERT INTO consumers (id, ws_id, username) VALUES (%s, %s, %s)",
                        (new_id(), ws, str(i)))
    seen = read(db, None)
    assert seen["unsettled"]
    conns[1].commit()               # not the one that announces
    assert [k for _, _, k in read(db, seen["upto"])["list"]] and listener.got() == []
    conns[0].commit()
    assert wait_until(listener.got)
    assert read(db, seen["upto"])["unsettled"]
    conns[2].commit()
    last = read(db, seen["upto"])
    assert len(last["list"]) == 3 and not last["unsettled"]
    for conn in conns:
        conn.close()


def test_consumers_may_be_deleted_at_once(db, ws):
    ids = add(db, "consumers", ws, n=2)
    conns = [db.connect(autocommit=False) for _ in ids]
    for one, conn in zip(ids, conns):
        with conn.cursor() as cur:
            cur.execute("SET lock_timeout = '1s'")
            cur.execute("DELETE FROM consumers WHERE id = %s", (one,))
    for conn in conns:
        conn.commit()
        conn.close()


# -- followers --------------------------------------------------------------------------------


class Follower:
    """Keeps a copy of the configuration tables as the data plane does."""

    def __init__(self, db):
        self.conn = db.connect(autocommit=False, options="-c TimeZone=America/New_York")
        self.conn.set_session("REPEATABLE READ", readonly=True)
        self.version, self.mark, self.rows = 0, 0, {t: {} for t in CONFIG}
        self.loads = self.deltas = 0

    def load(self, cur, table, ids=None):
        cur.execute(f"SELECT id, t::text FROM {table} t" +
                    ("" if ids is None else " WHERE id = ANY(%s::uuid[])"), (ids,))
        return dict(cur.fetchall())

    def step(self):
        """Catches up, and checks that the copy is the state of that very version."""
        with self.conn.cursor() as cur:
            cur.execute("SELECT version, mark, whole, entity, every, ids::text[]"
                        " FROM silverback_changes_since(%s, %s)", (self.version, self.mark))
            (version, mark, whole, *_), *changed = cur.fetchall()
            if whole:
                self.rows = {t: self.load(cur, t) for t in CONFIG}
                self.loads += 1
            for _, _, _, table, every, ids in changed:
                self.deltas += 1
                if every:
                    self.rows[table] = self.load(cur, table)
                    continue
                now = self.load(cur, table, ids)
                for one in ids:
                    self.rows[table].pop(one, None)
                self.rows[table].update(now)
            assert version >= self.version or whole
            self.version, self.mark = version, mark
            for table in CONFIG:
                assert self.rows[table] == self.load(cur, table), (table, version, SEED)
        self.conn.commit()


def read(db, seen):
    """silverback_invalidations_since as a dict. db: a Database or a Session."""
    rows = db.query("SELECT upto, restart, unsettled, entity, op, keys"
                    " FROM silverback_invalidations_since(%s)", seen)
    (upto, restart, unsettled, *_), *found = rows
    return {"upto": upto, "restart": restart, "unsettled": unsettled, "list": [r[3:] for r in found]}


class ConfigWriter(threading.Thread):
    """Random transactions on the configuration tables until told to stop."""

    def __init__(self, db, ws, seed, stop):
        super().__init__()
        self.db, self.ws, self.random, self.stop = db, ws, random.Random(seed), stop
        self.versions, self.failures = 0, []

    def run(self):
        with contextlib.closing(self.db.connect(autocommit=False)) as conn, conn.cursor() as cur:
            while not self.stop.is_set():
                try:
                    self.transaction(conn, cur)
                except (psycopg2.errors.ForeignKeyViolation, psycopg2.errors.UniqueViolation):
                    conn.rollback()
                except psycopg2.Error as e:     # a deadlock is a failure
                    self.failures.append(e)
                    return

    def transaction(self, conn, cur):
        touched = 0
        for _ in range(self.random.randint(1, 4)):
            save = self.random.random() < 0.3
            if save:
                cur.execute("SAVEPOINT s")
            n = self.statement(cur)
            if save and self.random.random() < 0.5:
                cur.execute("ROLLBACK TO s")
            else:
                touched += n
        if self.random.random() < 0.3:
            cur.execute("SELECT pg_sleep(%s)", (self.random.random() * 0.02,))
        if self.random.random() < 0.25:
            conn.rollback()
        else:
            conn.commit()
            self.versions += touched > 0

    def statement(self, cur):
        pick, r = self.random.choice, self.random
        some = "(SELECT id FROM {} ORDER BY random() LIMIT 1)"
        n = str(r.randrange(40))
        sql, *params = pick([
            ("INSERT INTO services (id, ws_id, name) VALUES (%s, %s, %s)", new_id(), self.ws, n),
            ("INSERT INTO services (id, ws_id, name) VALUES (%s, %s, %s) ON CONFLICT (ws_id, name)"
             " DO UPDATE SET path = random()::text", new_id(), self.ws, n),
            ("INSERT INTO routes (id, ws_id, service_id) SELECT %s, %s, " + some.format("services"),
             new_id(), self.ws),
            ("INSERT INTO upstreams (id, ws_id, name, slots) VALUES (%s, %s, %s, 10)",
             new_id(), self.ws, n),
            ("INSERT INTO targets (id, ws_id, upstream_id, target, weight) SELECT md5(random()::text"
             " || i)::uuid, %s, u.id, i::text, 1 FROM generate_series(1, %s) i, "
             + some.format("upstreams") + " u", self.ws, r.randint(1, 5)),
            ("INSERT INTO plugins (id, ws_id, name, config, enabled, route_id) SELECT %s, %s, 'p',"
             " '{}', true, " + some.format("routes"), new_id(), self.ws),
            ("UPDATE services SET host = random()::text WHERE random() < 0.2",),
            ("UPDATE targets SET weight = weight + 1 WHERE random() < 0.5",),
            ("UPDATE routes SET paths = ARRAY[random()::text] WHERE id = " + some.format("routes"),),
            ("DELETE FROM upstreams WHERE id = " + some.format("upstreams"),),
            ("DELETE FROM routes WHERE random() < 0.2",),
            ("DELETE FROM services s WHERE NOT EXISTS (SELECT FROM routes r"
             " WHERE r.service_id = s.id) AND random() < 0.3",),
            ("INSERT INTO services (id, ws_id, name) SELECT md5(random()::text || i)::uuid, %s,"
             " random()::text FROM generate_series(1, 1100) i WHERE random() < 0.001",
             self.ws) if r.random() < 0.9 else
            ("INSERT INTO keys (id, ws_id, name) SELECT md5(random()::text || i)::uuid, %s,"
             " random()::text FROM generate_series(1, 1100) i", self.ws),
            ("DELETE FROM keys",),
        ])
        cur.execute(sql, params)
        return cur.rowcount


def test_a_follower_never_misses_a_change(db, ws):
    """Any number of writers, rolled-back transactions, any order of commits."""
    print("SEED", SEED)
    start, stop = head(db)[0], threading.Event()
    writers = [ConfigWriter(db, ws, SEED + i, stop) for i in range(5)]
    followers = [Follower(db) for _ in range(2)]
    for w in writers:
        w.start()
    try:
        for i in range(150):
            followers[i % 3 == 0].step()
            if i == 75:
                followers.append(Follower(db))  # one that joins late
    finally:
        stop.set()
        for w in writers:
            w.join()
    assert [w.failures for w in writers] == [[]] * len(writers), SEED
    for f in followers:
        f.step()
        assert f.loads == 1 and f.version == head(db)[0]
    made = [v for (v,) in db.query("SELECT DISTINCT version FROM silverback_changes ORDER BY 1")]
    assert made == list(range(start, head(db)[0] + 1)) and len(made) > 20
    assert head(db)[0] - start == sum(w.versions for w in writers), SEED


class CredentialWriter(threading.Thread):
    """Random transactions on keyauth_credentials until told to stop."""

    def __init__(self, db, ws, consumer, seed, stop):
        super().__init__()
        self.db, self.ws, self.consumer, self.stop = db, ws, consumer, stop
        self.random, self.failures = random.Random(seed), []

    def run(self):
        with contextlib.closing(self.db.connect(autocommit=False)) as conn, conn.cursor() as cur:
            while not self.stop.is_set():
                try:
                    for _ in range(self.random.randint(1, 3)):
                        self.statement(cur)
                    if self.random.random() < 0.5:
                        cur.execute("SELECT pg_sleep(%s)", (self.random.random() * 0.03,))
                    conn.rollback() if self.random.random() < 0.25 else conn.commit()
                except (psycopg2.errors.UniqueViolation, psycopg2.errors.DeadlockDetected):
                    conn.rollback()     # these writers lock rows in any order: that is their affair
                except psycopg2.Error as e:
                    self.failures.append(e)
                    return

    def statement(self, cur):
        key, other = (str(self.random.randrange(300)) for _ in range(2))
        sql, params = self.random.choice([
            ("INSERT INTO keyauth_credentials (id, ws_id, consumer_id, key) VALUES (%s, %s, %s, %s)",
             (new_id(), self.ws, self.consumer, key)),
            ("UPDATE keyauth_credentials SET key = %s WHERE key = %s", (key, other)),
            ("UPDATE keyauth_credentials SET tags = ARRAY[random()::text] WHERE key = %s", (key,)),
            ("DELETE FROM keyauth_credentials WHERE key = %s", (key,)),
        ])
        cur.execute(sql, params)


class Cache:
    """Look-ups by key, as a worker's cache remembers them: found or not."""

    def __init__(self, db):
        self.db, self.found, self.upto, self.restarts = Session(db), {}, None, 0

    def get(self, key):
        if key not in self.found:
            self.found[key] = self.fresh(key)

    def fresh(self, key):
        return self.db.query("SELECT id, tags FROM keyauth_credentials WHERE key = %s", key)

    def step(self):
        news = read(self.db, self.upto)
        if news["restart"]:
            self.found.clear()
            self.restarts += 1
        for entity, op, keys in news["list"]:
            ended = set(self.found) if keys is None else {
                k.partition("=")[2] for k in keys if k.startswith("key=")}
            for key in ended & set(self.found):
                if op != "INSERT" or not self.found[key]:
                    del self.found[key]
        self.upto = news["upto"]


def test_a_cache_never_keeps_what_ended(db, ws):
    print("SEED", SEED)
    (joe,), stop = add(db, "consumers", ws, username="joe"), threading.Event()
    writers = [CredentialWriter(db, ws, joe, SEED + i, stop) for i in range(5)]
    cache, pick = Cache(db), random.Random(SEED)
    cache.step()
    for w in writers:
        w.start()
    try:
        for _ in range(150):
            for _ in range(10):
                cache.get(str(pick.randrange(300)))
            cache.step()
    finally:
        stop.set()
        for w in writers:
            w.join()
    assert [w.failures for w in writers] == [[]] * len(writers)
    cache.step()
    assert cache.restarts == 1 and len(cache.found) > 5
    for key, value in cache.found.items():
        assert value == cache.fresh(key), (key, SEED)


def test_news_is_given_once(db, ws):
    """A transaction that stays open does not make readers read the same again and again."""
    with contextlib.closing(db.connect(autocommit=False)) as conn, conn.cursor() as cur:
        cur.execute("INSERT INTO consumers (id, ws_id, username) VALUES (%s, %s, 'late')",
                    (new_id(), ws))
        first = read(db, read(db, None)["upto"])
        assert first["list"] == []
        add(db, "consumers", ws, username="early")
        second = read(db, first["upto"])
        assert ["username=early" in k for _, _, k in second["list"]] == [True]
        assert read(db, second["upto"])["list"] == []
        conn.commit()
    third = read(db, second["upto"])
    assert ["username=late" in k for _, _, k in third["list"]] == [True]
    assert not third["restart"]


def test_the_readers_in_c(db):
    """tests/unit/test_changelog.c, which has no database of its own."""
    test = BUILD / "tests" / "test_changelog"
    subprocess.run(["make", "-s", str(test.relative_to(ROOT))], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    done = subprocess.run([test], env=db.env(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "SKIPPED" not in done.stderr


# -- the log's end ----------------------------------------------------------------------------


def test_pruning(db, ws):
    follower, late = Follower(db), Follower(db)
    follower.step()
    late.step()
    for i in range(10):
        with contextlib.closing(db.connect(autocommit=False)) as conn, conn.cursor() as cur:
            for _ in range(2):
                cur.execute("INSERT INTO services (id, ws_id) VALUES (%s, %s)", (new_id(), ws))
            conn.commit()
        if i == 5:
            follower.step()
    db.query("SELECT silverback_prune(5)")          # nothing is old enough
    assert db.value("SELECT min(version) FROM silverback_changes") == 1
    db.query("SELECT silverback_prune(5, '0 s')")
    assert db.query("SELECT version, count(*)::int FROM silverback_changes GROUP BY 1 ORDER BY 1") == [
        (v, 2) for v in range(7, 12)]
    follower.step()
    late.step()
    assert (follower.loads, late.loads) == (1, 2)
    db.query("SELECT silverback_prune(0, '0 s')")
    assert db.query("SELECT DISTINCT version FROM silverback_changes") == [(11,)]
    follower.step()
    assert follower.loads == 1


def test_pruning_of_invalidations(db, ws):
    add(db, "consumers", ws, username="a")
    old = read(db, None)["upto"]
    add(db, "consumers", ws, username="b")
    new = read(db, old)
    assert len(new["list"]) == 1
    db.query("SELECT silverback_prune()")
    assert len(invalidations(db)) == 2
    db.query("SELECT silverback_prune(1, '0 s')")
    assert invalidations(db) == []
    assert read(db, old)["restart"] and not read(db, new["upto"])["restart"]


def test_the_log_prunes_itself(db, ws):
    with contextlib.closing(db.connect()) as conn, conn.cursor() as cur:
        cur.execute("UPDATE silverback_version SET version = 50000")
        cur.execute("UPDATE silverback_changes SET at = at - interval '2 hours'")
        for i in range(50001, 50000 + 1024):
            cur.execute("INSERT INTO silverback_changes VALUES (%s, 0, 'services', 'INSERT', '{}',"
                        " now() - interval '2 hours')", (i - 40000,))
        cur.execute("UPDATE silverback_version SET version = 51199")    # the next is 50 x 1024
    add(db, "services", ws)
    assert db.query("SELECT min(version), max(version) FROM silverback_changes") == [(51200, 51200)]


def test_another_past(db, ws):
    """Restored from a backup, or failed over to a standby that had not got everything."""
    follower = Follower(db)
    for _ in range(3):
        add(db, "services", ws)
    follower.step()
    db.query("DELETE FROM silverback_changes WHERE version = 4;"
             " UPDATE silverback_version SET version = 3; DELETE FROM services")
    follower.step()
    assert follower.loads == 2
    upto = read(db, None)["upto"]
    history, snapshot = upto.split("/")
    assert read(db, f"0000FFFF/{snapshot}")["restart"]
    assert read(db, f"{history}/900000000:900000000:")["restart"]


# -- leaders and nodes ------------------------------------------------------------------------


def test_the_fence(db, ws):
    db.query("UPDATE silverback_leader SET epoch = epoch + 1, holder = 'one'")
    epoch = db.value("SELECT epoch FROM silverback_leader")
    with contextlib.closing(db.connect(autocommit=False)) as conn, conn.cursor() as cur:
        cur.execute("SELECT silverback_fence(%s)", (epoch,))
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            db.query("SET lock_timeout = '50ms'; UPDATE silverback_leader SET epoch = epoch + 1")
        cur.execute("INSERT INTO services (id, ws_id) VALUES (%s, %s)", (new_id(), ws))
        conn.commit()
        db.query("UPDATE silverback_leader SET epoch = epoch + 1, holder = 'two'")
        with pytest.raises(psycopg2.Error, match="not the leader: epoch 1 is over, two leads") as e:
            cur.execute("SELECT silverback_fence(%s)", (epoch,))
        assert e.value.pgcode == "SB001"
