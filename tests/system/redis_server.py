"""A real Redis for tests, on free ports: plain and TLS, with a password where one is given.

    with Redis(password="secret") as redis: redis.port, redis.tls_port, redis.ca
    redis.ask("GET", "key"), redis.stop(), redis.start(), redis.pause(), redis.resume()

Debian's package; its own service is never started. The certificate is for localhost and 127.0.0.1.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

from postgres import free_port, wait_until


class Redis:
    def __init__(self, password=None, user=None):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sb-redis-"))
        self.port, self.tls_port = free_port(), free_port()
        self.user, self.password = user, password
        self.process = None
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                        "-keyout", self.dir / "key.pem", "-out", self.ca],
                       check=True, capture_output=True)

    @property
    def ca(self):
        return self.dir / "cert.pem"

    def start(self):
        settings = {"bind": "127.0.0.1", "port": self.port, "tls-port": self.tls_port, "save": "",
                    "appendonly": "no", "dir": self.dir, "tls-auth-clients": "no",
                    "tls-cert-file": self.ca, "tls-key-file": self.dir / "key.pem",
                    "tls-ca-cert-file": self.ca}
        args = [word for k, v in settings.items() for word in (f"--{k}", str(v))]
        if self.user:
            args += ["--user", "default", "off", "--user", self.user, "on", f">{self.password}",
                     "~*", "+@all"]
        elif self.password:
            args += ["--requirepass", self.password]
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "redis-server", *args],
                                            stdout=log, stderr=log)
        wait_until(self.listens, what="Redis listening")
        return self

    def listens(self):
        assert self.process.poll() is None, (self.dir / "log").read_text(errors="replace")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=20)
            self.process = None

    def pause(self):
        """It is there and never answers, until resume()."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def ask(self, *words, database=0):
        """What redis-cli says to a command, as lines."""
        who = ["--user", self.user] if self.user else []
        who += ["-a", self.password, "--no-auth-warning"] if self.password else []
        done = subprocess.run(["redis-cli", "-p", str(self.port), "-n", str(database), *who,
                               *map(str, words)], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    def counters(self, **more):
        """Every key and its number; one may expire while it is looked at."""
        keys = [key for key in self.ask("KEYS", "*", **more) if key]
        numbers = self.ask("MGET", *keys, **more) if keys else []
        return {key: int(n) for key, n in zip(keys, numbers) if n}

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
