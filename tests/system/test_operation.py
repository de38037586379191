"""Stopping, draining, limits, and the command line."""

import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from gateway import Gateway
from postgres import wait_until
from programs import BUILD, clean_env, program
from test_operation_reload import kong
from wire import TIMEOUT, Answer, Client, Origin, config, get, ok


@pytest.fixture(scope="module")
def origin():
    with Origin(lambda r: ok(b"hello")) as o:
        yield o


class Slow:
    """An origin that answers when it is told to."""

    def __enter__(self):
        self.go = threading.Event()
        self.origin = Origin(lambda r: ok(b"done") if self.go.wait(TIMEOUT) else None).__enter__()
        return self

    def __exit__(self, *exc):
        self.go.set()
        self.origin.__exit__(*exc)

    def begin(self, gateway):
        client = Client(gateway).__enter__()
        n = len(self.origin.requests)
        client.send(get())
        wait_until(lambda: len(self.origin.requests) > n, what="the request at the origin")
        return client


# -- stopping ----------------------------------------------------------------------------------


def test_a_graceful_stop_answers_once_more_and_says_close(origin):
    with Gateway(config=config(origin.port)) as g, Client(g) as c:
        assert c.ask(get()).headers["connection"] == ["keep-alive"]
        g.process.send_signal(signal.SIGQUIT)
        wait_until(lambda: "stopping gracefully" in g.log())
        answer = c.ask(get())    # it may have been on its way already
        assert answer.body == b"hello" and answer.headers["connection"] == ["close"]
        assert c.closed()
        assert g.process.wait(TIMEOUT) == 0


def test_a_graceful_stop_lets_in_whom_the_kernel_had_let_in():
    with Slow() as slow, Gateway(config=config(slow.origin.port), nginx_worker_processes=1) as g:
        busy = slow.begin(g)
        with socket.create_connection(("127.0.0.1", g.http), TIMEOUT) as s, s.makefile("rb") as f:
            g.process.send_signal(signal.SIGQUIT)
            s.sendall(get("/nothing/here", "Host: a.test").encode())
            slow.go.set()
            assert Answer(f).status in (200, 400)
            assert Answer(busy.f).body == b"done"
        assert g.process.wait(TIMEOUT) == 0


def test_a_fast_stop_cuts_off_also_during_a_graceful_one():
    with Slow() as slow, Gateway(config=config(slow.origin.port)) as g:
        busy = slow.begin(g)
        g.process.send_signal(signal.SIGQUIT)
        wait_until(lambda: "stopping gracefully" in g.log())
        assert g.process.poll() is None
        g.process.send_signal(signal.SIGTERM)
        assert g.process.wait(TIMEOUT) == 0
        assert busy.closed()


def test_the_shutdown_timeout_ends_what_does_not_end():
    with Slow() as slow, Gateway(config=config(slow.origin.port),
                                 nginx_main_worker_shutdown_timeout="1s") as g:
        busy = slow.begin(g)
        began = time.monotonic()
        g.process.send_signal(signal.SIGQUIT)
        assert g.process.wait(TIMEOUT) == 0
        assert 0.9 < time.monotonic() - began < 10 and busy.closed()
        assert "nginx_main_worker_shutdown_timeout is over" in g.log()


def test_quit_waits_and_then_forces():
    with Slow() as slow, Gateway(config=config(slow.origin.port)) as g:
        busy = slow.begin(g)
        began = time.monotonic()
        done = kong(g, "quit", "--wait=1", "--timeout=1")
        assert (done.returncode, done.stdout) == (0, "Timeout, Kong stopped forcefully\n")
        assert time.monotonic() - began > 2 and busy.closed()
        assert g.process.wait(TIMEOUT) == 0


def test_drain_makes_it_unready_until_a_reload(origin):
    with Gateway(config=config(origin.port)) as g:
        assert g.ask_status("/status/ready").status_code == 200
        done = kong(g, "drain")
        assert done.stdout == "Kong's status successfully changed to 'draining'\n"
        assert g.ask_status("/status/ready").status_code == 503
        assert g.proxy("/").status_code == 200
        assert kong(g, "reload").returncode == 0
        g.session.close()
        assert g.ask_status("/status/ready").status_code == 200


# -- limits ------------------------------------------------------------------------------------


def test_files_and_connections(origin):
    with Gateway(config=config(origin.port), nginx_main_worker_rlimit_nofile=5000,
                 nginx_events_worker_connections=2, nginx_worker_processes=1) as g:
        with open(f"/proc/{g.serving_pid}/limits", encoding="ascii") as f:
            assert re.search(r"Max open files +5000 ", f.read())
        g.session.close()
        # the connection of the test's own start may still be there for a moment
        wait_until(lambda: g.ask_status("/status").json()["server"]["connections_active"] == 0)
        with Client(g) as a, Client(g) as b:
            assert a.ask(get()).status == b.ask(get()).status == 200
            with Client(g) as c:
                c.send(get())
                wait_until(lambda: "worker_connections are not enough" in g.log())
                b.s.close()
                b.f.close()
                assert Answer(c.f).status == 200    # it waited
        assert "may open" not in g.log()


def test_warnings_at_the_start():
    with open("/proc/sys/net/core/somaxconn", encoding="ascii") as f:
        most = int(f.read())
    with Gateway(nginx_events_worker_connections=100000000) as g:
        assert "may open 200000000 files, but the limit is" in g.log()
    g = Gateway()
    port = g.http
    g.settings["proxy_listen"] = f"127.0.0.1:{port} backlog={most + 1}"
    with g:
        assert f"backlog={most + 1} of 127.0.0.1:{port} is cut to {most}" in g.log()


# -- memory ------------------------------------------------------------------------------------


@pytest.mark.skipif(BUILD.name != "build", reason="a sanitizer has memory of its own")
def test_four_workers_are_small(origin):
    with Gateway(config=config(origin.port), nginx_worker_processes=4) as g:
        assert g.rss(g.serving_pid) < 10 << 20
        assert g.proxy("/").text == "hello"     # what was let go comes back


# -- the command line --------------------------------------------------------------------------


def run(*args, **env):
    return subprocess.run([program("silverback-dataplane"), *args], env=clean_env(**env), text=True,
                          timeout=60, capture_output=True, check=False)


def test_check_names_every_problem(tmp_path):
    conf = tmp_path / "kong.conf"
    conf.write_text("log_level = loud\nproxy_listen = nowhere\ndatabase = off\n")
    done = run("check", str(conf))
    assert done.returncode == 1
    assert "log_level has an invalid value: 'loud'" in done.stderr
    conf.write_text("log_level = debug\ndatabase = off\n")
    done = run("check", str(conf))
    assert (done.returncode, done.stdout) == (0, f"configuration at {conf} is valid\n")
    assert "no file at" in run("check", str(tmp_path / "none.conf")).stderr


def test_version():
    assert run("version").stdout.startswith("3.9.1")
    said = run("version", "-a").stdout
    assert said.startswith("Kong: 3.9.1\n")
    for library in ("libevent: ", "OpenSSL "):
        assert library in said


def test_every_verb_explains_itself():
    said = run().stderr
    assert said.startswith("Usage: kong COMMAND [OPTIONS]") and "\n  serve " not in said
    verbs = re.findall(r"^  (\w+) ", said, re.M)
    assert {"check", "config", "drain", "health", "quit", "reload", "restart", "start", "stop",
            "version"} <= set(verbs)
    for verb in verbs:
        done = run(verb, "--help")
        assert done.returncode == 1 and f"kong {verb}" in done.stderr, verb
        assert "--help" in done.stderr
    assert "No such command: frobnicate" in run("frobnicate").stderr
    assert "unrecognized parameter: --frobnicate" in run("start", "--frobnicate").stderr
    assert run("serve").returncode == 1    # not for people


def test_health_without_a_node(tmp_path):
    done = run("health", "-p", str(tmp_path))
    assert done.returncode == 1 and done.stdout.startswith("nginx.......not running")
    assert f"Kong is not running at {tmp_path}" in done.stderr
