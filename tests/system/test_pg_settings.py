"""The pg_* settings, as every program takes them; silverback-migrations stands for all."""

import base64
import contextlib
import subprocess
import time

import pytest

from postgres import PASSWORD, USER, Database, Postgres, free_port, wait_until
from programs import program
from test_follow_pooler import PgBouncer, make_replica

UP_TO_DATE = "Database is already up-to-date\n"


def migrations(env, *args):
    return subprocess.run([program("silverback-migrations"), *(args or ("up",))], env=env,
                          capture_output=True, text=True, timeout=60)


def works(env, *args):
    done = migrations(env, *args)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(env, *args):
    done = migrations(env, *args)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("Error: [PostgreSQL error] ")
    assert PASSWORD + "-wrong" not in done.stderr
    return done.stderr


# -- who and where ----------------------------------------------------------------------------


def test_password(migrated):
    """SCRAM: pg_hba.conf of these tests asks for it."""
    assert works(migrated.env()) == UP_TO_DATE
    text = refused(migrated.env(KONG_PG_PASSWORD=PASSWORD + "-wrong"))
    assert "password authentication failed" in text and "check pg_user and pg_password" in text
    assert f"127.0.0.1:{migrated.postgres.port} as user 'kong'" in text


def test_no_such_database(migrated):
    text = refused(migrated.env(KONG_PG_DATABASE="nowhere"))
    assert 'database "nowhere" does not exist (create the database or correct pg_database)' in text


def test_nobody_there(migrated):
    assert "check pg_host and pg_port" in refused(migrated.env(KONG_PG_PORT=free_port()))


def test_socket(migrated):
    assert works(migrated.env(KONG_PG_HOST=migrated.postgres.dir)) == UP_TO_DATE


def test_settings_from_a_file(migrated, tmp_path):
    conf = tmp_path / "kong.conf"
    conf.write_text(f"pg_host = 127.0.0.1\npg_port = {migrated.postgres.port}  # here\n"
                    f"pg_database = {migrated.name}\npg_password = {PASSWORD}\n")
    env = {k: v for k, v in migrated.env().items() if not k.startswith("KONG_")}
    assert works(env, "up", "-c", str(conf)) == UP_TO_DATE
    assert "no file at: /nonexistent" in migrations(env, "up", "-c", "/nonexistent").stderr


def test_database_off(migrated):
    assert "database is off" in migrations(migrated.env(KONG_DATABASE="off")).stderr


def test_several_hosts(migrated):
    """The first refuses, the second is nowhere, the third serves."""
    hosts = "/nonexistent, 127.0.0.99 ,127.0.0.1"
    assert works(migrated.env(KONG_PG_HOST=hosts)) == UP_TO_DATE
    text = refused(migrated.env(KONG_PG_HOST="/nonexistent,127.0.0.99"))
    assert "/nonexistent" in text and "127.0.0.99" in text


def test_schema(database):
    env = database.env(KONG_PG_SCHEMA="my gateway")
    works(env, "bootstrap")
    assert database.query("SELECT DISTINCT schemaname::text FROM pg_tables"
                          " WHERE tablename LIKE 'silverback%%' OR tablename = 'services'") == [
        ("my gateway",)]
    database.query("SET search_path = 'my gateway';"
                   " INSERT INTO upstreams (id, slots) VALUES (md5('a')::uuid, 10)")
    assert database.value('SELECT version FROM "my gateway".silverback_version') == 2
    assert works(env) == UP_TO_DATE
    assert database.value("SELECT to_regclass('public.schema_meta')") is None


def test_time_zone_and_application(migrated):
    """Whatever the client's environment says."""
    migrated.query("DELETE FROM schema_meta WHERE subsystem = 'silverback'")
    migrated.query("""CREATE TABLE seen AS SELECT current_setting('TimeZone') AS zone,
                      current_setting('application_name') AS name LIMIT 0""")
    migrated.query("""CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                      INSERT INTO public.seen VALUES (current_setting('TimeZone'),
                      current_setting('application_name')); RETURN NULL; END $$;
                      CREATE TRIGGER spy AFTER INSERT ON schema_meta EXECUTE PROCEDURE spy()""")
    works(migrated.env(PGTZ="Asia/Tokyo", PGOPTIONS="-c TimeZone=Asia/Tokyo", TZ="Asia/Tokyo"))
    assert migrated.query("SELECT * FROM seen") == [("UTC", "silverback-migrations")]


# -- time -------------------------------------------------------------------------------------


def test_a_server_that_never_answers():
    with Postgres() as server:
        db = server.create()
        server.pause()
        begin = time.monotonic()
        text = refused(db.env(KONG_PG_TIMEOUT=300))
        assert "timeout: no answer within 300 ms" in text
        text = refused(db.env(), "up", "--db-timeout", "0.2")
        assert "timeout: no answer within 200 ms" in text
        assert time.monotonic() - begin < 5
        server.resume()
        works(db.env(), "bootstrap", "-q")


def test_a_server_that_stops_answering():
    """The deadline is the client's: a paused server cannot end a statement itself."""
    with Postgres() as server:
        db = server.create_migrated()
        with contextlib.closing(db.connect(autocommit=False)) as conn, conn.cursor() as cur:
            cur.execute("LOCK TABLE locks")
            waiting = subprocess.Popen([program("silverback-migrations"), "up", "--db-timeout", "2"],
                                       env=db.env(), stderr=subprocess.PIPE, text=True)
            wait_until(lambda: db.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                                        " AND datname = current_database()"))
            server.pause()
            assert "PostgreSQL did not answer within 2000 ms" in waiting.communicate(timeout=20)[1]
            server.resume()


def test_a_statement_that_takes_too_long(migrated):
    with contextlib.closing(migrated.connect(autocommit=False)) as conn, conn.cursor() as cur:
        cur.execute("LOCK TABLE locks")
        text = migrations(migrated.env(), "up", "--db-timeout", "0.3").stderr
        assert "timeout: canceling statement due to statement timeout" in text


# -- TLS --------------------------------------------------------------------------------------


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, capture_output=True)


def make_certificate(cwd, name, san, ca=None):
    """name.crt and name.key, signed by ca or by itself."""
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-subj", f"/CN={name}",
            "-out", f"{name}.csr", cwd=cwd)
    (cwd / f"{name}.ext").write_text(
        f"subjectAltName={san}\n" if ca else "basicConstraints=critical,CA:TRUE\n")
    sign = ["-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial"] if ca else [
        "-signkey", f"{name}.key"]
    openssl("x509", "-req", "-in", f"{name}.csr", "-days", "2", "-extfile", f"{name}.ext", *sign,
            "-out", f"{name}.crt", cwd=cwd)


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("certs")
    make_certificate(cwd, "ca", None)
    make_certificate(cwd, "other", None)
    make_certificate(cwd, "server", "IP:127.0.0.1", ca="ca")
    make_certificate(cwd, "elsewhere", "DNS:db.example", ca="ca")
    make_certificate(cwd, USER, "DNS:client", ca="ca")
    return cwd


@contextlib.contextmanager
def tls_server(certs, name="server", auth="scram-sha-256"):
    """A server that speaks TLS and nothing else."""
    server = Postgres(settings={"ssl": "on", "ssl_cert_file": "server.crt",
                                "ssl_key_file": "server.key", "ssl_ca_file": "ca.crt"},
                      hba=f"local all all trust\nhostssl all all 127.0.0.1/32 {auth}\n")
    server.init()
    for source, target in ((f"{name}.crt", "server.crt"), (f"{name}.key", "server.key"),
                           ("ca.crt", "ca.crt")):
        path = server.data / target
        path.write_bytes((certs / source).read_bytes())
        path.chmod(0o600)
        server.own(path)
    try:
        server.start()
        yield server
    finally:
        server.destroy()


def test_tls(certs):
    with tls_server(certs) as server:
        db = server.create("tls")
        plain = db.env()
        assert "no encryption" in refused(plain)
        for more in ({}, {"KONG_PG_SSL_REQUIRED": "on"}, {"KONG_PG_SSL_VERSION": "tlsv1_3"}):
            works(db.env(KONG_PG_SSL="on", **more), "bootstrap")
        ca = (certs / "ca.crt").read_bytes()
        for trusted in (certs / "ca.crt", f"{certs}/other.crt, {certs}/ca.crt",
                        f"system,{certs}/ca.crt", ca.decode(), base64.b64encode(ca).decode()):
            assert works(db.env(KONG_PG_SSL="on", KONG_PG_SSL_VERIFY="on",
                                KONG_LUA_SSL_TRUSTED_CERTIFICATE=trusted)) == UP_TO_DATE
        for trusted in (certs / "other.crt", "system"):
            text = refused(db.env(KONG_PG_SSL="on", KONG_PG_SSL_VERIFY="on",
                                  KONG_LUA_SSL_TRUSTED_CERTIFICATE=trusted))
            assert "certificate verify failed (check lua_ssl_trusted_certificate" in text


def test_tls_names(certs):
    with tls_server(certs, "elsewhere") as server:
        db = server.create("tls")
        env = dict(KONG_PG_SSL="on", KONG_LUA_SSL_TRUSTED_CERTIFICATE=certs / "ca.crt")
        works(db.env(**env), "bootstrap")
        text = refused(db.env(**env, KONG_PG_SSL_VERIFY="on"))
        assert 'does not match host name "127.0.0.1"' in text, text


def test_client_certificate(certs):
    with tls_server(certs, auth="cert") as server:
        db = server.create("tls")
        env = dict(KONG_PG_SSL="on", KONG_PG_SSL_REQUIRED="on", KONG_PG_PASSWORD="")
        assert "certificate" in refused(db.env(**env))
        works(db.env(**env, KONG_PG_SSL_CERT=certs / "kong.crt",
                     KONG_PG_SSL_CERT_KEY=certs / "kong.key"), "bootstrap")


def test_tls_is_required(migrated):
    assert works(migrated.env(KONG_PG_SSL="on")) == UP_TO_DATE      # if the server has it
    text = refused(migrated.env(KONG_PG_SSL="on", KONG_PG_SSL_REQUIRED="on"))
    assert "server does not support SSL" in text and "check pg_ssl" in text


# -- what stands in between -------------------------------------------------------------------


@pytest.mark.parametrize("schema", [None, "gateway"])
def test_a_transaction_pooler(schema):
    """PgBouncer gives each transaction another session: nothing may be left in one, or be missed."""
    with Postgres() as server, PgBouncer(server) as bouncer:
        db = server.create()
        wait_until(lambda: bouncer.answers(db), what="PgBouncer answering")
        more = {"KONG_PG_SCHEMA": schema} if schema else {}
        env = db.env(KONG_PG_PORT=bouncer.port, **more)
        works(env, "bootstrap")
        assert works(env) == UP_TO_DATE
        assert db.value(f"SELECT version FROM {schema or 'public'}.silverback_version") == 1
        with contextlib.closing(db.connect(port=bouncer.port, options="")) as conn:
            with conn.cursor() as cur:
                for _ in range(5):
                    cur.execute("SELECT current_setting('search_path'),"
                                " current_setting('statement_timeout')")
                    assert cur.fetchone() == ('"$user", public', "0")
        works(env, "reset", "-y")
        assert migrations(env, "list").returncode == 3


def test_a_standby_is_passed_over():
    with Postgres() as primary:
        db = primary.create_migrated()
        replica = make_replica(primary)
        try:
            # Both on one port would need two addresses: a socket directory is an address, too.
            both = f"{replica.dir},{primary.dir}"
            (replica.dir / f".s.PGSQL.{primary.port}").symlink_to(
                replica.dir / f".s.PGSQL.{replica.port}")
            assert works(db.env(KONG_PG_HOST=both)) == UP_TO_DATE
            db.query("DELETE FROM schema_meta WHERE subsystem = 'silverback'")
            assert "1 executed" in works(db.env(KONG_PG_HOST=both))
            text = refused(db.env(KONG_PG_HOST=f"{replica.dir},/nonexistent"))
            assert "is a standby" in text
        finally:
            replica.destroy()


def test_the_log_is_read_on_a_standby():
    with Postgres() as primary:
        db = primary.create_migrated()
        replica = make_replica(primary)
        try:
            there = Database(replica, db.name).query
            version, mark = db.query("SELECT version, mark FROM silverback_version")[0]
            seen = there("SELECT upto FROM silverback_invalidations_since(NULL)")[0][0]
            db.query("INSERT INTO services (id) VALUES (md5('a')::uuid)")
            db.query("INSERT INTO consumers (id) VALUES (md5('a')::uuid)")
            wait_until(lambda: there("SELECT count(*) FROM consumers") == [(1,)])
            changes = there("SELECT version, whole, entity FROM silverback_changes_since(%s, %s)",
                            version, mark)
            assert changes == [(version + 1, False, None), (None, None, "services")]
            news = there("SELECT restart, entity FROM silverback_invalidations_since(%s)", seen)
            assert news == [(False, None), (None, "consumers")]
        finally:
            replica.destroy()
