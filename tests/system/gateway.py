"""A real data plane for tests: build/bin/silverback-dataplane on free ports, in a prefix of its own.

    with Gateway(env=database.env()) as gateway:          # or Gateway(config={"services": [...]})
        gateway.admin("POST", "/services", json={...})
        assert gateway.proxy("/path", host="a.test").status_code == 200

Upstreams are real too: with Upstream() as u: u.port, u.requests.
"""

import contextlib
import http.server
import json
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import requests

from postgres import free_port, wait_until
from programs import clean_env, program


# What the first gateway made for itself below its prefix, given to those that come after: an RSA key
# takes as long to make as all else that a start does.
_default_pairs = {}


class Gateway:
    """One node. Settings are Kong's, by their names: Gateway(log_level="debug")."""

    def __init__(self, env=None, config=None, prefix=None, **settings):
        self.env = dict(env or clean_env(KONG_DATABASE="off"))
        self.own_prefix = prefix is None
        self.prefix = pathlib.Path(prefix or tempfile.mkdtemp(prefix="sb-gateway-"))
        self.http, self.https, self.admin_port, self.status = (free_port() for _ in range(4))
        self.settings = {
            "prefix": self.prefix, "nginx_daemon": "off", "log_level": "info",
            "nginx_worker_processes": 2,
            "proxy_listen": f"127.0.0.1:{self.http}, 127.0.0.1:{self.https} ssl",
            "admin_listen": f"127.0.0.1:{self.admin_port}",
            "status_listen": f"127.0.0.1:{self.status}",
            "proxy_access_log": "off", "proxy_error_log": "/dev/stderr",
            **settings,
        }
        if config is not None:
            text = json.dumps({"_format_version": "3.0", **config})
            self.settings["declarative_config_string"] = text
        self.session = requests.Session()
        self.session.trust_env = False
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *exc):
        self.end()
        said = self.said()
        if kind:
            print(f"-- log of the gateway in {self.prefix}\n{said[-6000:]}")
        self.destroy()
        if not kind:    # a sanitizer build's complaints, also those at its end
            assert "Sanitizer" not in said and "runtime error" not in said, said[-6000:]

    # -- the process ----------------------------------------------------------------------------

    def spawn(self):
        """Starts the program and does not wait."""
        if self.own_prefix and _default_pairs:
            (self.prefix / "ssl").mkdir(mode=0o700, exist_ok=True)
            for name, text in _default_pairs.items():
                (self.prefix / "ssl" / name).write_text(text)
        env = {**self.env, **{f"KONG_{k.upper()}": str(v) for k, v in self.settings.items()}}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([program("silverback-dataplane"), "start"], env=env,
                                            stdout=log, stderr=log, cwd=self.prefix,
                                            start_new_session=True)

    def start(self):
        """Starts the program and waits until it serves."""
        self.spawn()
        wait_until(self.listens, what="the gateway listening")
        if not _default_pairs:
            _default_pairs.update({p.name: p.read_text()
                                   for p in (self.prefix / "ssl").glob("kong-default*")})
        return self

    def listens(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"the gateway did not start ({self.process.returncode}):\n"
                               f"{self.log()[-3000:]}")
        if "Kong started" not in self.log():
            return False
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.http), 1):
            return True
        return False

    def fails(self):
        """Starts the program, which must give up; what it said."""
        self.spawn()
        assert self.process.wait(timeout=30) != 0
        return self.log()

    def stop(self, how=signal.SIGTERM, timeout=30):
        """SIGTERM: fast, SIGQUIT: graceful. The exit code; -9 when it had to be killed."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout=timeout)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process = None
            with open(self.log_path.with_suffix(".old"), "a", encoding="utf-8") as old:
                old.write(self.log())
            self.log_path.unlink()

    @property
    def serving_pid(self):
        """The process that serves; self.process is its master."""
        return self.serving_pids()[-1]

    def serving_pids(self):
        """Those that serve or finish what they have, the oldest first."""
        master = self.process.pid
        children = pathlib.Path(f"/proc/{master}/task/{master}/children")
        return [int(pid) for pid in children.read_text().split()]

    def kill(self):
        """As a crash of the machine would: nothing is said good-bye to."""
        return self.stop(signal.SIGKILL)

    def restart(self):
        self.stop()
        return self.start()

    def end(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop(timeout=20)

    def destroy(self):
        self.end()
        self.session.close()
        if self.own_prefix:
            shutil.rmtree(self.prefix, ignore_errors=True)

    def pids(self):
        """Its processes: the one that was started, and those that it started."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
                found += [int(child) for child in text.split()]
        return found

    def rss(self, *pids):
        """Bytes of memory that they have resident: all of its processes where none is named."""
        return sum(int(pathlib.Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
                   for pid in pids or self.pids()) * resource.getpagesize()

    @property
    def log_path(self):
        return self.prefix / "gateway.log"

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def said(self):
        """The log of all its starts."""
        old = self.log_path.with_suffix(".old")
        return (old.read_text(errors="replace") if old.exists() else "") + self.log()

    # -- asking it ------------------------------------------------------------------------------

    def proxy(self, path="/", host="localhost", method="GET", port=None, **more):
        """A request through the proxy; redirects are not followed."""
        headers = {"Host": host, **more.pop("headers", {})}
        return self.session.request(method, f"http://127.0.0.1:{port or self.http}{path}",
                                    headers=headers, allow_redirects=False, timeout=20, **more)

    def admin(self, method, path, **more):
        """A request to the Admin API."""
        return self.session.request(method, f"http://127.0.0.1:{self.admin_port}{path}", timeout=20,
                                    **more)

    def post_config(self, **entities):
        """POST /config of a declarative document, which must be taken."""
        answer = self.admin("POST", "/config", json={"_format_version": "3.0", **entities})
        assert answer.status_code == 201, answer.text
        return answer

    def ask_status(self, path):
        """A request to the status listener."""
        return self.session.get(f"http://127.0.0.1:{self.status}{path}", timeout=20)

    def version(self):
        """What it serves and the newest it knows of: /silverback/version."""
        return self.ask_status("/silverback/version").json()

    def answers(self, host, path="/", status=200):
        """Whether the proxy answers so, now."""
        return self.proxy(path, host).status_code == status

    def wait_for(self, host, path="/", status=200, timeout=15):
        """Until the proxy answers so."""
        wait_until(lambda: self.answers(host, path, status), timeout, f"{status} for {host}{path}")

    def wait_saved(self, timeout=15):
        """Until what it serves is on disk."""
        want = b'"version":%d}' % self.version()["served"]
        path = self.prefix / "config.saved"
        wait_until(lambda: path.exists() and want in path.read_bytes()[-400:], timeout,
                   "the configuration saved")


class Upstream:
    """An HTTP server that answers 200 with its name, says in X-Seen what it was asked, and counts."""

    def __init__(self, name="upstream", host="127.0.0.1"):
        self.name, self.requests, self.headers, self.body = name, 0, {}, b""
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True      # head and body are two writes

            def answer(self):
                upstream.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                upstream.requests += 1
                upstream.headers = dict(self.headers)   # of the last request
                body = upstream.name.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Seen", f"{self.command} {self.path} {self.headers.get('Host')}")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer((host, 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True,
                         kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()
