"""Reload and restart: every setting, no connection lost, and what fails changes nothing."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from gateway import Gateway
from postgres import free_port, wait_until
from programs import program
import wire
from wire import TIMEOUT, Answer, Origin, config, ok


def get(path, *headers):
    return wire.get(path, *headers).encode()


def kong(gateway, *args, **settings):
    """A command of the command line, with the gateway's environment and more settings over it."""
    env = {**gateway.env, **{f"KONG_{k.upper()}": str(v)
                             for k, v in {**gateway.settings, **settings}.items()}}
    return subprocess.run([program("silverback-dataplane"), *args], env=env, text=True, timeout=60,
                          capture_output=True, check=False)


class Traffic:
    """Clients that ask without a pause, each its own way. A connection that breaks is a failure,
    unless its last answer said that it would be closed."""

    def __init__(self, port):
        self.port, self.stop, self.counts, self.failures = port, False, {}, []
        self.threads = []

    def __enter__(self):
        for kind in (self.kept, self.kept, self.fresh, self.upload, self.tunnel):
            self.threads.append(threading.Thread(target=self.run, args=(kind,), daemon=True))
            self.threads[-1].start()
        return self

    def __exit__(self, *exc):
        self.stop = True
        for thread in self.threads:
            thread.join(TIMEOUT)

    def run(self, kind):
        while not self.stop:
            try:
                kind()
            except (OSError, AssertionError, ValueError) as e:
                self.failures.append(f"{kind.__name__}: {e!r}")

    def count(self, kind):
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
        return s, s.makefile("rb")

    def kept(self):
        s, f = self.connect()
        with s, f:
            while not self.stop:
                s.sendall(get("/"))
                answer = Answer(f)
                assert (answer.status, answer.body) == (200, b"hello")
                self.count("kept")
                if answer.headers["connection"] == ["close"]:
                    return

    def fresh(self):
        s, f = self.connect()
        with s, f:
            s.sendall(get("/", "Connection: close"))
            assert Answer(f).status == 200
            self.count("fresh")

    def upload(self):
        """A body that takes its time."""
        s, f = self.connect()
        with s, f:
            s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n")
            for _ in range(40):
                s.sendall(b"x" * 1000)
                time.sleep(0.005)
            answer = Answer(f)
            assert (answer.status, answer.body) == (200, b"40000")
            self.count("upload")

    def tunnel(self):
        """A WebSocket that stays open over several reloads."""
        s, f = self.connect()
        with s, f:
            s.sendall(get("/ws", "Upgrade: websocket", "Connection: Upgrade"))
            assert Answer(f).status == 101
            for i in range(100):
                if self.stop:
                    return
                s.sendall(b"%04d" % i)
                assert f.read(4) == b"%04d" % i
                self.count("tunnel")
                time.sleep(0.01)


def echo(request):
    if request.get("Upgrade") is None:
        return ok(b"hello" if not request.body else str(len(request.body)).encode())

    def serve(s, f):
        s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                  b"Upgrade: websocket\r\n\r\n")
        while data := f.read(4):
            s.sendall(data)

    return serve


def wait_for_more(traffic, kind, n):
    reached = traffic.counts.get(kind, 0) + n
    wait_until(lambda: traffic.counts.get(kind, 0) >= reached, what=f"{n} more of {kind}")


def test_nothing_is_lost_over_ten_reloads():
    with Origin(echo) as origin, \
            Gateway(config=config(origin.port), proxy_access_log="off") as g, \
            Traffic(g.http) as traffic:
        served = {g.serving_pid}
        for i in range(10):
            wait_for_more(traffic, "fresh", 5)
            wait_for_more(traffic, "upload", 1)
            verb = ("reload", "restart")[i % 2]
            if i == 9:    # as a supervisor does it
                g.process.send_signal(signal.SIGHUP)
                wait_until(lambda: g.serving_pid not in served, what="another process")
            else:    # with more and with fewer workers than before
                done = kong(g, verb, nginx_worker_processes=1 + i % 3)
                assert done.returncode == 0, done.stderr
            assert g.serving_pid not in served
            served.add(g.serving_pid)
        wait_for_more(traffic, "tunnel", 20)
        wait_for_more(traffic, "kept", 100)
        traffic.stop = True
        for thread in traffic.threads:
            thread.join(TIMEOUT)
        print(f"\nserved over 10 reloads without a failure: {traffic.counts}")
        assert not traffic.failures
        assert traffic.counts["kept"] > 1000 and traffic.counts["fresh"] > 100
        assert traffic.counts["upload"] >= 10 and traffic.counts["tunnel"] > 100
        # who had nothing left to do is gone
        wait_until(lambda: g.serving_pids() == [g.serving_pid], what="the old ones' end")


def wait_for_another(gateway, before):
    """Until a process serves that is not the one of before."""
    wait_until(lambda: gateway.serving_pid != before and
               f"reloaded: process {gateway.serving_pid} serves" in gateway.log())
    gateway.session.close()    # connections to the one before


def test_reload_applies_every_setting():
    with Origin(lambda r: ok(b"hello")) as origin, Gateway(config=config(origin.port)) as g:
        port, conf = free_port(), g.prefix / "new.conf"
        assert "X-Kong-Proxy-Latency" in g.proxy("/").headers
        master = (g.prefix / "pids/nginx.pid").read_text()
        conf.write_text("headers = X-Kong-Upstream-Status\n")
        del g.settings["proxy_listen"]
        pids = g.admin("GET", "/").json()["pids"]
        assert pids == {"master": int(master), "workers": [g.serving_pid]}
        done = kong(g, "reload", "-c", str(conf), proxy_listen=f"127.0.0.1:{port}")
        assert (done.returncode, done.stdout) == (0, "Kong reloaded\n"), done.stderr
        answer = g.proxy("/", port=port)
        assert answer.headers["X-Kong-Upstream-Status"] == "200"
        assert "X-Kong-Proxy-Latency" not in answer.headers
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", g.http), 1).close()
        # the next signal reads the file again, and keeps what the reload brought
        conf.write_text("headers = Via\n")
        before = g.serving_pid
        g.process.send_signal(signal.SIGHUP)
        wait_for_another(g, before)
        answer = g.proxy("/", port=port)
        assert "X-Kong-Upstream-Status" not in answer.headers and "Via" in answer.headers
        assert (g.prefix / "pids/nginx.pid").read_text() == master
        assert "headers = Via" in (g.prefix / ".kong_env").read_text()


@pytest.mark.parametrize("settings, says", [
    ({"log_level": "loud"}, "log_level has an invalid value: 'loud'"),
    ({"headers": "nonsense"}, "headers: invalid entry 'nonsense'"),
    ({"declarative_config": "/nonexistent.yml"}, "error parsing declarative config file"),
    ({"ssl_cert": "/nonexistent.crt", "ssl_cert_key": "/nonexistent.key"}, "ssl_cert"),
])
@pytest.mark.parametrize("verb", ["reload", "restart"])
def test_settings_that_do_not_work_change_nothing(verb, settings, says):
    with Origin(lambda r: ok(b"hello")) as origin, Gateway(config=config(origin.port)) as g:
        before = g.serving_pid
        done = kong(g, verb, **settings)
        assert done.returncode == 1 and says in done.stderr, done.stderr
        assert g.serving_pid == before and g.proxy("/").status_code == 200
        g.process.send_signal(signal.SIGHUP)    # what failed has left nothing behind
        wait_for_another(g, before)
        assert g.proxy("/").status_code == 200


def test_a_port_in_use_changes_nothing():
    with Origin(lambda r: ok(b"hello")) as origin, Gateway(config=config(origin.port)) as g, \
            socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        before = g.serving_pid
        done = kong(g, "reload", proxy_listen=f"127.0.0.1:{other.getsockname()[1]} reuseport")
        assert done.returncode == 1 and "Address already in use" in done.stderr
        assert g.serving_pid == before and g.proxy("/").status_code == 200


def test_configuration_posted_just_before_a_reload_is_served():
    with Origin(lambda r: ok(b"hello")) as origin, Gateway() as g:
        for i in range(5):
            g.post_config(**config(origin.port, **{f"s{i}": {}}),
                          consumers=[{"username": f"c{i}"}])
            assert kong(g, "reload").returncode == 0
            assert g.admin("GET", f"/consumers/c{i}").status_code == 200
            assert g.proxy("/").status_code == 200


def test_a_process_that_crashes_is_replaced_and_connections_wait():
    with Origin(lambda r: ok(b"hello")) as origin, Gateway(config=config(origin.port)) as g:
        crashed = g.serving_pid
        os.kill(crashed, signal.SIGKILL)
        with socket.create_connection(("127.0.0.1", g.http), TIMEOUT) as s, s.makefile("rb") as f:
            s.settimeout(TIMEOUT)
            s.sendall(get("/"))
            assert Answer(f).body == b"hello"
        assert g.serving_pid != crashed
        assert f"process {crashed} was killed by signal 9" in g.log()
        assert g.stop() == 1    # its end tells that not all was well
        g.start()


def test_the_master_takes_all_with_it():
    with Gateway() as g:
        serving = g.serving_pid
        g.kill()
        wait_until(lambda: not os.path.exists(f"/proc/{serving}"), what="its end")
        g.start()


def test_in_the_background(tmp_path):
    with Origin(lambda r: ok(b"hello")) as origin, Gateway(config=config(origin.port)) as g:
        g.stop()
        daemon = dict(nginx_daemon="on", proxy_error_log="logs/error.log")
        try:
            done = kong(g, "start", **daemon)
            assert (done.returncode, done.stdout) == (0, "Kong started\n"), done.stderr
            assert "already running" in kong(g, "start", **daemon).stderr
            assert g.proxy("/").status_code == 200
            assert kong(g, "reload", **daemon).stdout == "Kong reloaded\n"
            assert kong(g, "restart", **daemon).stdout == "Kong started\n"
            assert g.proxy("/").status_code == 200
            healthy = kong(g, "health", **daemon)
            assert healthy.returncode == 0 and "Kong is healthy at" in healthy.stdout
        finally:
            done = kong(g, "quit", **daemon)
        assert done.stdout == "Kong stopped (gracefully)\n"
        assert kong(g, "health", **daemon).returncode == 1
        assert not (g.prefix / "pids/nginx.pid").exists()
        done = kong(g, "reload", **daemon)
        assert done.returncode == 1 and "not running in prefix" in done.stderr
        with contextlib.suppress(FileNotFoundError):    # restart of what does not run: a start
            done = kong(g, "restart", **daemon)
            assert done.stdout == "Kong started\n", done.stderr
            assert kong(g, "stop", **daemon).stdout == "Kong stopped\n"
        g.start()
