"""A private PostgreSQL for tests: real, disposable, on a free port.

    with Postgres() as postgres:
        db = postgres.create()          # an empty database owned by the role kong
        db.query("SELECT 1")
        run([program("silverback-migrations"), "bootstrap"], env=db.env())

PostgreSQL refuses to run as root; then it runs as the system user postgres. Durability is off, the
rest is as people have it: TCP with SCRAM, a role `kong` that owns its databases and no more.
"""

import contextlib
import itertools
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import psycopg2

from programs import clean_env, program

USER, PASSWORD = "kong", "kong"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] %a ",
    "lc_messages": "C",
}
HBA = """
local all all trust
host all all 127.0.0.1/32 scram-sha-256
local replication all trust
"""


def free_port():
    """A TCP port nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def bindir():
    """The newest server that is installed."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"),
                   key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    return pathlib.Path(shutil.which("initdb")).parent


def wait_until(condition, timeout=30, what="condition"):
    """Polls until condition() is true, and returns what it returned."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what} was not met within {timeout} s")
        time.sleep(0.01)


class Database:
    """One database of a Postgres."""

    def __init__(self, postgres, name):
        self.postgres, self.name = postgres, name

    def env(self, **more):
        """The environment in which a program uses this database: KONG_PG_* and what is given."""
        values = dict(KONG_DATABASE="postgres", KONG_PG_HOST=self.postgres.host,
                      KONG_PG_PORT=self.postgres.port, KONG_PG_USER=USER,
                      KONG_PG_PASSWORD=PASSWORD, KONG_PG_DATABASE=self.name)
        values.update(more)
        return clean_env(**values)

    def connect(self, autocommit=True, user=USER, **more):
        """A psycopg2 connection in UTC, as every session of a gateway is."""
        conn = psycopg2.connect(**{"host": self.postgres.host, "port": self.postgres.port,
                                   "user": user, "password": PASSWORD, "dbname": self.name,
                                   "options": "-c TimeZone=UTC", **more})
        conn.autocommit = autocommit
        return conn

    def query(self, sql, *args):
        """Runs one statement in a session of its own; the rows, or None when it has none."""
        with contextlib.closing(self.connect(host=str(self.postgres.dir))) as conn, \
                conn.cursor() as cur:
            cur.execute(sql, args or None)
            return cur.fetchall() if cur.description else None

    def value(self, sql, *args):
        """The first column of the first row."""
        return self.query(sql, *args)[0][0]

    def migrate(self, *args):
        """silverback-migrations bootstrap (or what is given); its output."""
        done = subprocess.run([program("silverback-migrations"), *(args or ("bootstrap",))],
                              env=self.env(), capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"migrations failed ({done.returncode}): {done.stdout}{done.stderr}")
        return done.stdout

    def drop(self):
        self.postgres.admin(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')


class Postgres:
    """A cluster in a temporary directory."""

    host = "127.0.0.1"

    def __init__(self, settings=None, hba=HBA):
        self.bin = bindir()
        self.settings = {**SETTINGS, **(settings or {})}
        self.hba = hba
        self.port = free_port()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sb-pg-"))
        self.data = self.dir / "data"
        self.owner = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        self.process = None
        self._names = itertools.count(1)
        self._template = None
        self.own(self.dir)

    def __enter__(self):
        self.init()
        self.start()
        return self

    def __exit__(self, *exc):
        self.destroy()

    # -- the server -----------------------------------------------------------------------------

    def own(self, path):
        """Gives a file to the user that the server runs as."""
        if self.owner:
            os.chown(path, self.owner.pw_uid, self.owner.pw_gid)

    def command(self, *args):
        """The command line that runs args as that user, and ends with this process."""
        who = ["--reuid", str(self.owner.pw_uid), "--regid", str(self.owner.pw_gid),
               "--clear-groups"] if self.owner else []
        return ["setpriv", *who, "--pdeathsig", "QUIT", *map(str, args)]

    def run(self, name, *args):
        """Runs one of PostgreSQL's own programs to its end."""
        subprocess.run(self.command(self.bin / name, *args), check=True, capture_output=True,
                       text=True, cwd=self.dir, env=clean_env(LC_ALL="C.UTF-8"))

    def init(self):
        self.run("initdb", "-D", self.data, "-U", "postgres", "--no-sync", "-E", "UTF8",
                 "--locale=C.UTF-8", "-A", "trust")
        self.configure()

    def configure(self):
        """Writes settings and pg_hba.conf; a running server needs reload() or restart()."""
        lines = {**self.settings, "port": self.port, "unix_socket_directories": self.dir}
        (self.data / "postgresql.auto.conf").write_text(
            "".join(f"{k} = '{v}'\n" for k, v in lines.items()))
        (self.data / "pg_hba.conf").write_text(self.hba)

    def start(self):
        """Starts the server and waits until it takes connections."""
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(self.command(self.bin / "postgres", "-D", self.data),
                                            stdout=log, stderr=log, cwd=self.dir,
                                            env=clean_env(LC_ALL="C.UTF-8"),
                                            start_new_session=True)
        wait_until(self.ready, what="PostgreSQL ready")
        if not self.settings.get("primary_conninfo"):
            with contextlib.suppress(psycopg2.errors.DuplicateObject):
                self.admin(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")

    def ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start:\n{self.log()[-3000:]}")
        try:
            self.connect_admin().close()
        except psycopg2.OperationalError:
            return False
        return True

    def stop(self, how=signal.SIGINT):
        """SIGINT: fast, SIGQUIT: as a crash, SIGTERM: waits for clients. Databases stay."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout=60)
        self.process = None

    def restart(self, how=signal.SIGINT):
        self.stop(how)
        self.start()

    def reload(self):
        self.configure()
        self.process.send_signal(signal.SIGHUP)

    def pause(self):
        """The server is there and never answers, until resume()."""
        self._signal_all(signal.SIGSTOP)

    def resume(self):
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, sig):
        pid = self.process.pid
        os.kill(pid, sig)       # first: a stopped postmaster starts no more children
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), sig)

    def destroy(self):
        """Ends the server and removes everything."""
        if self.process and self.process.poll() is None:
            self._signal_all(signal.SIGCONT)
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.dir, ignore_errors=True)

    def log(self):
        return (self.dir / "log").read_text(errors="replace")

    # -- databases ------------------------------------------------------------------------------

    def connect_admin(self, dbname="postgres"):
        conn = psycopg2.connect(host=str(self.dir), port=self.port, user="postgres", dbname=dbname)
        conn.autocommit = True
        return conn

    def admin(self, sql, dbname="postgres"):
        """One statement as the superuser, through the socket."""
        with contextlib.closing(self.connect_admin(dbname)) as conn, conn.cursor() as cur:
            cur.execute(sql)
            return cur.fetchall() if cur.description else None

    def create(self, name=None, template="template0"):
        """A fresh database owned by the role kong."""
        name = name or f"kong_{next(self._names)}"
        self.admin(f'CREATE DATABASE "{name}" OWNER {USER} TEMPLATE "{template}"')
        return Database(self, name)

    def create_migrated(self, name=None):
        """A fresh database with the schema in it: copied from one that is bootstrapped once."""
        if not self._template:
            template = self.create("kong_template")
            template.migrate("bootstrap")
            self._template = template.name
        return self.create(name, self._template)
