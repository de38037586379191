#!/usr/bin/env python3
"""run.py - the whole of Silverback on this machine: what `make run` does.

A private PostgreSQL under build/run, its schema, a sample upstream, the control plane on
examples/quickstart (or the directory given) and a data plane. Ctrl-C stops all of it. Starting again
finds the same database.
"""
import argparse
import http.server
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tests" / "system"))

from postgres import Postgres, bindir  # noqa: E402

BIN = TOP / os.environ.get("BUILD", "build") / "bin"
UPSTREAM_PORT = 9101


class Upstream(http.server.BaseHTTPRequestHandler):
    """Says what it was asked, and by which address."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        body = (f"hello from {self.connection.getsockname()[0]}\n"
                f"{self.command} {self.path}\nhost: {self.headers.get('Host')}\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def log_message(self, *args):
        """The gateway has the access log."""


class Kept(Postgres):
    """A PostgreSQL whose data stays under build/run."""

    def __init__(self, directory):
        super().__init__()
        self.dir.rmdir()
        self.dir = directory
        self.data = directory / "data"
        directory.mkdir(parents=True, exist_ok=True)
        self.own(directory)

    def init(self):
        if not (self.data / "PG_VERSION").exists():
            super().init()
        self.configure()


def taken(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def check_ports(*ports):
    busy = [str(p) for p in ports if taken(p)]
    if busy:
        sys.exit(f"run: port {', '.join(busy)} is in use; choose others with --http, --https, "
                 "--admin, --status")


def database(postgres):
    """The database silverback in it, made on the first start."""
    if not postgres.admin("SELECT 1 FROM pg_database WHERE datname = 'silverback'"):
        postgres.admin("CREATE DATABASE silverback OWNER kong")
    from postgres import Database
    return Database(postgres, "silverback")


def start(children, name, argv, env, log):
    with open(log, "wb") as out:
        child = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *map(str, argv)], env=env,
                                 stdout=out, stderr=out)
    children.append((name, child, log))


def wait_ready(url, children, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, child, log in children:
            if child.poll() is not None:
                sys.exit(f"run: {name} ended at once; its log ({log}) says:\n{log.read_text()[-2000:]}")
        try:
            return urllib.request.urlopen(url, timeout=1).read()
        except OSError:
            time.sleep(0.05)
    sys.exit(f"run: nothing answers at {url}; look into {TOP / 'build/run'}/*.log")


def hello(http_port):
    """True once the quickstart's route answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{http_port}/", headers={"Host": "hello.localhost"})
    try:
        return urllib.request.urlopen(request, timeout=1).status == 200
    except OSError:
        return False


def usage_lines(o):
    return f"""
Silverback runs. Try:

  curl -H 'Host: hello.localhost' http://127.0.0.1:{o.http}/
  curl -k --connect-to graphql.localhost:443:127.0.0.1:{o.https} https://graphql.localhost/graphql
  curl -i -H 'Host: graphql.localhost' http://127.0.0.1:{o.http}/graphql
  curl http://127.0.0.1:{o.admin}/routes
  curl http://127.0.0.1:{o.status}/silverback/version

Edit a file in {o.manifests} and ask again: the change is live at once.
Logs are in build/run. Ctrl-C stops everything.
"""


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("manifests", nargs="?", default="examples/quickstart", help="directory of manifests")
    p.add_argument("--http", type=int, default=8000)
    p.add_argument("--https", type=int, default=8443)
    p.add_argument("--admin", type=int, default=8001)
    p.add_argument("--status", type=int, default=8007)
    p.add_argument("--check", action="store_true", help="start, wait until the quickstart answers, stop")
    return p.parse_args()


def main():
    o = options()
    check_ports(o.http, o.https, o.admin, o.status, UPSTREAM_PORT)
    run = TOP / "build" / "run"
    run.mkdir(parents=True, exist_ok=True)
    children = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    print(f"starting PostgreSQL ({bindir()}) in build/run/postgres", flush=True)
    postgres = Kept(run / "postgres")
    postgres.init()
    postgres.start()
    try:
        db = database(postgres)
        print("migrating", flush=True)
        db.migrate("bootstrap")
        db.migrate("up")
        upstream = http.server.ThreadingHTTPServer(("", UPSTREAM_PORT), Upstream)
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        print("starting the planes", flush=True)
        start(children, "the control plane",
              [BIN / "silverback-controlplane", "--manifests", TOP / o.manifests, "--ingress-class", "kong"],
              db.env(), run / "controlplane.log")
        start(children, "the data plane", [BIN / "silverback-dataplane", "start"],
              db.env(KONG_PREFIX=str(run / "prefix"), KONG_NGINX_DAEMON="off",
                     KONG_PROXY_LISTEN=f"127.0.0.1:{o.http} reuseport, 127.0.0.1:{o.https} ssl reuseport",
                     KONG_ADMIN_LISTEN=f"127.0.0.1:{o.admin}",
                     KONG_STATUS_LISTEN=f"127.0.0.1:{o.status}"),
              run / "dataplane.log")
        wait_ready(f"http://127.0.0.1:{o.status}/status", children)
        end = time.monotonic() + 15
        while not hello(o.http) and time.monotonic() < end:
            time.sleep(0.02)
        print(usage_lines(o), flush=True)
        if o.check:
            sys.exit(0 if hello(o.http) else "run: the quickstart does not answer")
        for _, child, _ in children:
            child.wait()
        sys.exit("run: a plane ended; look into build/run")
    except KeyboardInterrupt:
        print("\nstopping")
    finally:
        for _, child, _ in reversed(children):
            child.terminate()
        for _, child, _ in children:
            child.wait()
        postgres.stop()


if __name__ == "__main__":
    main()
