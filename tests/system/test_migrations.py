"""silverback-migrations: the schema it makes, what it says, and what it leaves alone."""

import json
import pathlib
import re
import subprocess
import time
import uuid

import pytest

from postgres import wait_until
from programs import program
from schema_dump import dump

DATA = pathlib.Path(__file__).parent / "data"
NEEDS_BOOTSTRAP = "Database needs bootstrapping or is older than Kong 1.0."


def migrations(db, *args, env=None, **more):
    """Runs the program; the finished process."""
    return subprocess.run([program("silverback-migrations"), *args], env=env or db.env(),
                          capture_output=True, text=True, timeout=120, **more)


def ok(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def error(done, code=1):
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr


def reference():
    """The rows of the reference file that a catalogue can hold."""
    lines = (DATA / "kong-postgres-schema.tsv").read_text().splitlines()[1:]
    rows = [tuple(line.split("\t")) for line in lines]
    return {comparable(r) for r in rows if r[0] != "seed_row"}


def comparable(row):
    """What a function does is told in words in the reference."""
    return row[:5] + ("", "") if row[0] == "function" else row


def ours(row):
    return "silverback" in row[1] or "silverback" in row[2]


def kongs_part(db, schema="public"):
    with db.connect() as conn:
        return {comparable(r) for r in dump(conn, schema) if not ours(r)}


def content(db, but=()):
    """Every row of Kong's tables, as text."""
    tables = [r[0] for r in db.query(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        " AND relname NOT LIKE 'silverback%%' ORDER BY 1") if r[0] not in but]
    return {t: db.query(f"SELECT t::text FROM {t} t ORDER BY 1") for t in tables}


def make_kongs(db):
    """Turns a migrated database into one as Kong 3.9 leaves it, with some rows."""
    with db.connect(autocommit=False) as conn, conn.cursor() as cur:
        cur.execute("SELECT proname FROM pg_proc WHERE proname LIKE 'silverback%'")
        for (name,) in cur.fetchall():
            cur.execute(f"DROP FUNCTION {name} CASCADE")
        cur.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'silverback%'")
        for (name,) in cur.fetchall():
            cur.execute(f"DROP TABLE {name} CASCADE")
        cur.execute("DELETE FROM schema_meta WHERE subsystem = 'silverback'")
        cur.execute("INSERT INTO services (id, name, host, ws_id) SELECT %s, 's', 'h', id"
                    " FROM workspaces", (str(uuid.uuid4()),))
        cur.execute("INSERT INTO consumers (id, username, tags, ws_id) SELECT %s, 'c', '{a}', id"
                    " FROM workspaces", (str(uuid.uuid4()),))
    with db.connect() as conn:
        assert not any(ours(r) for r in dump(conn))


# -- the schema -------------------------------------------------------------------------------


def test_schema_is_kongs(migrated):
    got, want = kongs_part(migrated), reference()
    assert sorted(got - want) == []
    assert sorted(want - got) == []


def test_seed_rows(migrated):
    (row,) = migrated.query("SELECT id, name, comment, meta, config, created_at, updated_at"
                            " FROM workspaces")
    assert uuid.UUID(row[0]).version == 4
    assert row[1:5] == ("default", None, None, None)
    assert row[5] == row[6] and abs(time.time() - row[5].timestamp()) < 3600
    (row,) = migrated.query("SELECT key, value, created_at FROM parameters")
    assert row[0] == "cluster_id" and uuid.UUID(row[1]).version == 4 and row[2] is None
    assert migrated.query("SELECT * FROM locks") == []


def test_sync_tags(migrated):
    db, one = migrated, str(uuid.uuid4())
    tags = lambda: db.query("SELECT entity_name, tags FROM tags WHERE entity_id = %s", one)
    db.query("INSERT INTO consumers (id, username) VALUES (%s, 'x')", one)
    assert tags() == [("consumers", None)]
    db.query("UPDATE consumers SET tags = '{a,b}' WHERE id = %s", one)
    assert tags() == [("consumers", ["a", "b"])]
    db.query("DELETE FROM consumers WHERE id = %s", one)
    assert tags() == []


def test_expired_rows_go_two_at_a_time(migrated):
    db = migrated
    add = ("INSERT INTO sessions (id, session_id, ttl) VALUES (md5(random()::text)::uuid,"
           " random()::text, CURRENT_TIMESTAMP AT TIME ZONE 'UTC' + interval '1 hour')")
    db.query("INSERT INTO sessions (id, session_id, ttl) SELECT md5(random()::text)::uuid, n::text,"
             " CURRENT_TIMESTAMP AT TIME ZONE 'UTC' - n * interval '1 hour'"
             " FROM generate_series(1, 5) n")
    assert db.value("SELECT count(*) FROM sessions") == 3
    db.query(add)
    assert db.value("SELECT count(*) FROM sessions") == 2
    db.query(add)
    assert db.query("SELECT count(*), min(ttl) > now() FROM sessions") == [(2, True)]


def test_a_client_in_another_time_zone(migrated):
    """Programs set UTC themselves, whatever the role or the server says."""
    migrated.postgres.admin(f"ALTER DATABASE {migrated.name} SET TimeZone = 'America/Los_Angeles'")
    assert "up-to-date" in ok(migrations(migrated, "up"))
    migrated.query("DELETE FROM schema_meta WHERE subsystem = 'silverback'")
    ok(migrations(migrated, "up"))
    assert abs(migrated.value("SELECT extract(epoch FROM now() - at) FROM silverback_version")) < 600


# -- verbs, words, exit codes -----------------------------------------------------------------


def test_bootstrap_says_what_it_does(database):
    out = ok(migrations(database, "bootstrap")).splitlines()
    assert out[0] == "Bootstrapping database..."
    assert out[1] == f"migrating core on database '{database.name}'..."
    assert out[2] == "core migrated up to: 000_base (executed)"
    assert "acl migrated up to: 004_212_to_213 (executed)" in out
    n = re.fullmatch(r"(\d+) migrations processed", out[-3])[1]
    assert out[-2:] == [f"{n} executed", "Database is up-to-date"]
    before = content(database)
    assert ok(migrations(database, "bootstrap")) == "Database already bootstrapped\n"
    assert ok(migrations(database, "up")) == "Database is already up-to-date\n"
    assert ok(migrations(database, "finish")) == "No pending migrations to finish\n"
    assert content(database) == before
    assert kongs_part(database) == reference()


def test_quiet(database):
    assert ok(migrations(database, "bootstrap", "-q")) == ""


def test_before_bootstrap(database):
    done = migrations(database, "list")
    assert done.returncode == 3 and done.stdout.startswith(NEEDS_BOOTSTRAP)
    state = json.loads(ok(migrations(database, "status")))
    assert state["needs_bootstrap"] and state["executed_migrations"] == []
    assert "Cannot run migrations: " + NEEDS_BOOTSTRAP in error(migrations(database, "up"))
    assert "Cannot run migrations: " + NEEDS_BOOTSTRAP in error(migrations(database, "finish"))
    done = migrations(database, "reset", "-y")
    assert done.returncode == 1
    assert done.stdout == "Database not bootstrapped, nothing to reset\n"


def test_list_and_status(migrated):
    out = ok(migrations(migrated, "list"))
    assert out.startswith("Executed migrations:\ncore: 000_base, 003_100_to_110, ")
    assert out.endswith("silverback: 000_change_log\n")
    state = json.loads(ok(migrations(migrated, "status")))
    assert list(state) == ["needs_bootstrap", "executed_migrations", "pending_migrations",
                           "missing_migrations", "new_migrations"]
    assert [s["subsystem"] for s in state["executed_migrations"]][:2] == ["core", "acl"]
    assert state["executed_migrations"][1]["namespace"] == "kong.plugins.acl.migrations"
    assert state["pending_migrations"] == state["missing_migrations"] == []


def test_pending_until_finished(migrated):
    migrated.query("UPDATE schema_meta SET executed = '{}', pending = '{000_change_log}'"
                   " WHERE subsystem = 'silverback'")
    done = migrations(migrated, "list")
    assert done.returncode == 4
    assert "\nPending migrations:\nsilverback: 000_change_log\n" in done.stdout
    assert ("Error: Database has pending migrations; run 'kong migrations finish'\n"
            in error(migrations(migrated, "up")))
    assert "silverback migrated up to: 000_change_log (executed)" in ok(
        migrations(migrated, "finish"))
    assert migrations(migrated, "list").returncode == 0
    assert kongs_part(migrated) == reference()


def test_pending_of_kongs_own(migrated):
    migrated.query("UPDATE schema_meta SET pending = '{024_380_to_390}',"
                   " executed = array_remove(executed, '024_380_to_390') WHERE subsystem = 'core'")
    assert "run 'kong migrations finish'" in error(migrations(migrated, "up"))
    assert "finish it with Kong 3.9's own" in error(migrations(migrated, "finish"))


def test_new_ones(migrated):
    migrated.query("DELETE FROM schema_meta WHERE subsystem = 'silverback'")
    done = migrations(migrated, "list")
    assert done.returncode == 5
    assert "\nNew migrations available:\nsilverback: 000_change_log\n" in done.stdout
    new = "New migrations available; run 'kong migrations up' to proceed\n"
    assert ok(migrations(migrated, "finish")) == new
    assert ok(migrations(migrated, "bootstrap")).endswith(new)


def test_force_repairs_the_change_log(migrated):
    migrated.query("DROP TRIGGER silverback_insert ON services")
    before = migrated.value("SELECT version FROM silverback_version")
    assert "1 executed" in ok(migrations(migrated, "up", "-f"))
    assert migrated.value("SELECT version FROM silverback_version") == before + 1
    assert migrated.value("SELECT count(*) FROM pg_trigger WHERE tgname = 'silverback_insert'"
                          " AND tgrelid = 'services'::regclass") == 1


def test_reset(migrated):
    assert ("Error: not a tty: invoke 'reset' non-interactively with the --yes flag"
            in error(migrations(migrated, "reset", stdin=subprocess.DEVNULL)))
    assert ok(migrations(migrated, "reset", "--yes")) == (
        "Resetting database...\nDatabase successfully reset\n")
    with migrated.connect() as conn, conn.cursor() as cur:
        cur.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        assert cur.fetchone() == (0,)
    ok(migrations(migrated, "bootstrap"))
    assert kongs_part(migrated) == reference()


def test_bootstrap_force_starts_over(migrated):
    old = migrated.value("SELECT value FROM parameters")
    out = ok(migrations(migrated, "bootstrap", "--force"))
    assert out.startswith("Resetting database...\nDatabase successfully reset\nBootstrapping")
    assert migrated.value("SELECT value FROM parameters") != old


def test_reset_without_the_right_to_make_schemas(postgres, database):
    postgres.admin(f"ALTER DATABASE {database.name} OWNER TO postgres")
    postgres.admin("GRANT ALL ON SCHEMA public TO kong", database.name)
    ok(migrations(database, "bootstrap"))
    ok(migrations(database, "reset", "-y"))
    assert database.value("SELECT count(*) FROM pg_class c"
                          " WHERE relnamespace = 'public'::regnamespace") == 0
    ok(migrations(database, "bootstrap"))


def test_not_allowed_to_make_tables(postgres, database):
    postgres.admin(f"ALTER DATABASE {database.name} OWNER TO postgres")
    assert "permission denied for schema public" in error(migrations(database, "bootstrap"))


@pytest.mark.parametrize("args", [[], ["--help"], ["up", "--help"], ["nonsense"], ["up", "--nope"],
                                  ["up", "more"]])
def test_usage(database, args):
    text = error(migrations(database, *args))
    assert "Usage:" in text
    assert ("--lock-timeout" if args[:1] == ["up"] else "bootstrap") in text


# -- other people's databases -----------------------------------------------------------------


def test_adopts_a_kong_database(migrated):
    make_kongs(migrated)
    before = content(migrated, but=["schema_meta"])
    assert migrations(migrated, "list").returncode == 5
    out = ok(migrations(migrated, "up"))
    assert "1 migration processed\n1 executed\n" in out
    assert content(migrated, but=["schema_meta"]) == before
    assert kongs_part(migrated) == reference()
    assert ok(migrations(migrated, "up")) == "Database is already up-to-date\n"


def test_adopts_a_kong_database_with_fewer_plugins(migrated):
    make_kongs(migrated)
    migrated.query("DROP TABLE acme_storage; DROP TABLE sessions")
    migrated.query("DELETE FROM schema_meta WHERE subsystem IN ('acme', 'session', 'ai-proxy')")
    migrated.query("INSERT INTO schema_meta VALUES ('schema_meta', 'my-plugin', '000', '{000}')")
    ok(migrations(migrated, "up"))
    migrated.query("DELETE FROM schema_meta WHERE subsystem = 'my-plugin'")
    assert kongs_part(migrated) == reference()


@pytest.mark.parametrize("subsystem, name, words", [
    ("core", "025_390_to_3100", "belongs to a Kong newer than 3.9 (core has '025_390_to_3100')"),
    ("acl", "005_x", "belongs to a Kong newer than 3.9 (acl has '005_x')"),
    ("silverback", "999_x", "was migrated by a newer release (it has '999_x')"),
    ("enterprise", "000_base", "belongs to Kong Enterprise"),
])
def test_refuses_what_is_newer(migrated, subsystem, name, words):
    migrated.query("INSERT INTO schema_meta AS m VALUES ('schema_meta', %s, %s, ARRAY[%s], '{}')"
                   " ON CONFLICT (key, subsystem) DO UPDATE"
                   " SET executed = m.executed || EXCLUDED.executed", subsystem, name, name)
    before = content(migrated)
    for verb in ["bootstrap", "up", "finish", "list", "status"]:
        assert words in error(migrations(migrated, verb))
    assert content(migrated) == before


def test_a_newer_release_that_has_not_finished_is_no_obstacle(migrated):
    migrated.query("UPDATE schema_meta SET pending = '{999_x}' WHERE subsystem = 'silverback'")
    assert ok(migrations(migrated, "up")) == "Database is already up-to-date\n"


def test_refuses_what_is_older(migrated):
    migrated.query("UPDATE schema_meta SET executed = executed[1:20],"
                   " last_executed = '021_340_to_350' WHERE subsystem = 'core'")
    assert "belongs to a Kong older than 3.9 (core is at '021_340_to_350')" in error(
        migrations(migrated, "up"))


@pytest.mark.parametrize("table, words", [
    ("services (id int)", "has a table 'services' that schema_meta does not account for"),
    ("schema_meta (id int)", "table 'schema_meta' in schema 'public' is not Kong's"),
])
def test_refuses_a_strangers_schema(database, table, words):
    database.query(f"CREATE TABLE {table}")
    for verb in ["bootstrap", "up"]:
        assert words in error(migrations(database, verb))
    ok(migrations(database, "bootstrap", env=database.env(KONG_PG_SCHEMA="gateway")))


# -- several at once --------------------------------------------------------------------------


@pytest.mark.parametrize("verb, n", [("bootstrap", 4), ("up", 4)])
def test_several_at_once(database, verb, n):
    if verb == "up":
        ok(migrations(database, "bootstrap"))
        make_kongs(database)
    running = [subprocess.Popen([program("silverback-migrations"), verb], env=database.env(),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for _ in range(n)]
    said = [p.communicate(timeout=60) for p in running]
    assert [p.returncode for p in running] == [0] * n, said
    done = "silverback migrated up to: 000_change_log (executed)"
    assert sum(done in out for out, _ in said) == 1
    for out, _ in said:
        last = out.strip().splitlines()[-1]
        assert done in out or last in (
            "aborted: another node is performing database changes", "Database is up-to-date",
            "Database already bootstrapped", "Database is already up-to-date"), out
    assert kongs_part(database) == reference()
    assert database.query("SELECT * FROM locks") == []


def test_lock_of_another_node(migrated):
    hold = ("INSERT INTO locks VALUES ('migrations', 'other', CURRENT_TIMESTAMP"
            " + %s * interval '1 s')")
    aborted = "aborted: another node is performing database changes\n"
    migrated.query(hold, 60)
    assert ok(migrations(migrated, "finish")) == aborted
    done = migrations(migrated, "reset", "-y")
    assert (done.returncode, done.stdout) == (1, aborted)
    assert ok(migrations(migrated, "up", "--lock-timeout", "0.2")) == aborted

    waiting = subprocess.Popen([program("silverback-migrations"), "up"], env=migrated.env(),
                               stdout=subprocess.PIPE, text=True)
    wait_until(lambda: migrated.value("SELECT count(*) FROM pg_stat_activity WHERE datname ="
                                      " current_database() AND application_name LIKE 'silverback%%'"))
    migrated.query("DELETE FROM locks")
    assert waiting.communicate(timeout=30)[0] == "Database is already up-to-date\n"
    migrated.query(hold, -1)
    assert ok(migrations(migrated, "up")) == "Database is already up-to-date\n"
