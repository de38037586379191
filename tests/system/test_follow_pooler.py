"""Where nobody notifies: behind a transaction pooler, and from a read replica."""

import contextlib
import shutil
import subprocess

import pytest

from gateway import Gateway, Upstream
from postgres import PASSWORD, USER, Postgres, free_port, wait_until
from programs import clean_env, program
from test_follow import add_route, add_service


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as server:
        yield server


class PgBouncer:
    """PgBouncer in transaction mode before a Postgres."""

    def __init__(self, postgres):
        self.postgres, self.port = postgres, free_port()
        self.dir = postgres.dir / "bouncer"
        self.dir.mkdir()
        (self.dir / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
        (self.dir / "ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {self.dir}/users\npool_mode = transaction\n"
            f"default_pool_size = 3\nignore_startup_parameters = options,extra_float_digits\n"
            f"logfile = {self.dir}/log\n")
        for path in (self.dir, self.dir / "users", self.dir / "ini"):
            postgres.own(path)

    def __enter__(self):
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        self.process = subprocess.Popen(self.postgres.command(program, "-q", self.dir / "ini"),
                                        cwd=self.dir, env=clean_env(), stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait(timeout=20)

    def answers(self, db):
        import psycopg2
        try:
            psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD,
                             dbname=db.name).close()
        except psycopg2.OperationalError:
            return False
        return True


def test_behind_a_transaction_pooler_it_polls(upstream):
    with Postgres() as server, PgBouncer(server) as bouncer:
        db = server.create_migrated()
        wait_until(lambda: bouncer.answers(db), what="PgBouncer answering")
        env = db.env(KONG_PG_PORT=bouncer.port, KONG_DB_UPDATE_FREQUENCY=0.1)
        # Sessions that change places under the gateway's feet.
        others = [db.connect() for _ in range(2)]
        add_service(db, "s", upstream.port)
        with Gateway(env) as gateway, contextlib.ExitStack() as stack:
            for conn in others:
                stack.enter_context(contextlib.closing(conn))
            assert not gateway.version()["listening"]
            for n in range(10):
                add_route(db, f"h{n}.test", "s")
                gateway.wait_for(f"h{n}.test")
            assert "polling" in gateway.log()

def test_credentials_behind_a_pooler_and_in_a_schema(upstream):
    """Look-ups without prepared statements, and writes that find their tables in another schema."""
    with Postgres() as server, PgBouncer(server) as bouncer:
        db = server.create()
        db.query("CREATE SCHEMA gateway")
        wait_until(lambda: bouncer.answers(db), what="PgBouncer answering")
        env = db.env(KONG_PG_PORT=bouncer.port, KONG_PG_SCHEMA="gateway", KONG_DB_UPDATE_FREQUENCY=0.1,
                     KONG_TRUSTED_IPS="127.0.0.1")
        done = subprocess.run([program("silverback-migrations"), "bootstrap"], env=env,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with Gateway(env) as gateway:
            for path, body in (
                    ("/services", {"name": "s", "host": "127.0.0.1", "port": upstream.port}),
                    ("/services/s/routes", {"name": "keys", "paths": ["/keys"]}),
                    ("/routes/keys/plugins", {"name": "key-auth"}),
                    ("/services/s/routes", {"name": "tokens", "paths": ["/tokens"]}),
                    ("/routes/tokens/plugins", {"name": "oauth2", "config": {
                        "enable_client_credentials": True,
                        "accept_http_if_already_terminated": True}}),
                    ("/consumers", {"username": "alice"}),
                    ("/consumers/alice/key-auth", {"key": "a-key"}),
                    ("/consumers/alice/oauth2", {"name": "app", "client_id": "app",
                                                 "client_secret": "secret"})):
                assert gateway.admin("POST", path, json=body).status_code == 201
            gateway.wait_for("localhost", "/keys", status=401)
            gateway.wait_for("localhost", "/tokens", status=401)

            def ask(key):
                return gateway.proxy("/keys", headers={"apikey": key}).status_code

            for i in range(10):
                assert ask(f"no-key-{i}") == 401
            wait_until(lambda: ask("a-key") == 200, what="the key works")
            assert gateway.admin("DELETE", "/key-auths/a-key").status_code == 204
            wait_until(lambda: ask("a-key") == 401, what="the key is revoked")
            for _ in range(5):
                answer = gateway.proxy("/tokens/oauth2/token", method="POST",
                                       headers={"X-Forwarded-Proto": "https"},
                                       data={"grant_type": "client_credentials",
                                             "client_id": "app", "client_secret": "secret"})
                assert answer.status_code == 200, answer.text
                token = answer.json()["access_token"]
                assert gateway.proxy("/tokens", headers={
                    "Authorization": f"Bearer {token}"}).status_code == 200


def make_replica(primary):
    """A standby of the primary, by streaming replication through its socket directory."""
    replica = Postgres(settings={"hot_standby": "on"})
    replica.run("pg_basebackup", "-h", primary.dir, "-p", primary.port, "-U", "postgres", "-D",
                replica.data, "-X", "stream", "--checkpoint=fast", "--no-sync")
    replica.settings["primary_conninfo"] = f"host={primary.dir} port={primary.port} user=postgres"
    replica.configure()
    (replica.data / "standby.signal").touch()
    replica.own(replica.data / "standby.signal")
    replica.start()
    return replica


@pytest.mark.parametrize("primary_stays", [True, False])
def test_it_reads_from_the_replica(upstream, primary_stays):
    """The primary notifies, the replica is read; when the primary is away the replica is polled."""
    with Postgres() as primary:
        db = primary.create_migrated()
        add_service(db, "s", upstream.port)
        replica = make_replica(primary)
        try:
            env = db.env(KONG_PG_RO_HOST="127.0.0.1", KONG_PG_RO_PORT=replica.port,
                         KONG_PG_RO_USER=USER, KONG_PG_RO_PASSWORD=PASSWORD,
                         KONG_PG_RO_DATABASE=db.name,
                         KONG_DB_UPDATE_FREQUENCY=60 if primary_stays else 0.2)
            with Gateway(env) as gateway:
                assert gateway.version()["listening"]
                add_route(db, "a.test", "s")
                gateway.wait_for("a.test")
                if not primary_stays:
                    primary.stop()
                    assert gateway.answers("a.test")
                    replica.run("pg_ctl", "promote", "-D", replica.data)
                    replica.admin("UPDATE routes SET hosts = ARRAY['b.test']", dbname=db.name)
                    gateway.wait_for("b.test")
        finally:
            replica.destroy()


def test_credentials_are_looked_up_on_the_replica(upstream):
    """What the primary announces is forgotten when the replica has it, without waiting for a poll."""
    with Postgres() as primary:
        db = primary.create_migrated()
        replica = make_replica(primary)
        try:
            env = db.env(KONG_PG_RO_HOST="127.0.0.1", KONG_PG_RO_PORT=replica.port,
                         KONG_PG_RO_USER=USER, KONG_PG_RO_PASSWORD=PASSWORD,
                         KONG_PG_RO_DATABASE=db.name, KONG_DB_UPDATE_FREQUENCY=60)
            with Gateway(env) as gateway:
                for path, body in (
                        ("/services", {"name": "s", "host": "127.0.0.1", "port": upstream.port}),
                        ("/services/s/routes", {"name": "r", "paths": ["/"]}),
                        ("/services/s/plugins", {"name": "key-auth"}),
                        ("/consumers", {"username": "alice"})):
                    assert gateway.admin("POST", path, json=body).status_code == 201
                gateway.wait_for("localhost", status=401)

                def status(key):
                    return gateway.proxy("/", headers={"apikey": key}).status_code

                for i in range(5):
                    key = f"key-{i}"
                    assert status(key) == 401
                    assert gateway.admin("POST", "/consumers/alice/key-auth",
                                         json={"key": key}).status_code == 201
                    wait_until(lambda: status(key) == 200, what="the key works")
                    assert gateway.admin("DELETE", f"/key-auths/{key}").status_code == 204
                    wait_until(lambda: status(key) == 401, what="the key is revoked")
                users = replica.admin("SELECT count(*) FROM pg_stat_activity WHERE usename = 'kong'")
                assert users[0][0] >= 2         # the config thread, and a worker
        finally:
            replica.destroy()
