"""Logs: formats, targets, rotation, levels; and that traffic never waits for them."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest
import requests

from gateway import Gateway
from postgres import Postgres, wait_until
from programs import BUILD
from wire import Answer, Client, Origin, config, get, ok

FORMAT = ("mine escape=json '{\"method\":\"$request_method\",\"uri\":\"$uri\",\"q\":\"$arg_q\","
          "\"cookie\":\"$cookie_c\",\"header\":\"$http_x_some_header\",\"status\":$status,"
          "\"sent\":\"$sent_http_x_told\",\"type\":\"$upstream_http_content_type\","
          "\"from\":\"$upstream_addr\",\"upstream\":\"$upstream_status\","
          "\"time\":$request_time,\"took\":\"$upstream_response_time\",\"bytes\":$body_bytes_sent,"
          "\"all\":$bytes_sent,\"port\":$server_port,\"at\":\"$server_addr\","
          "\"proto\":\"$server_protocol\",\"host\":\"$host\",\"iso\":\"$time_iso8601\","
          "\"scheme\":\"$scheme\",\"tls\":\"$ssl_protocol\",\"id\":\"$kong_request_id\"}';"
          "log_format other 'only $status'")


@pytest.fixture(scope="module")
def origin():
    with Origin(lambda r: ok(b"hello world", "X-Told: \"yes\"", "Content-Type: text/plain")) as o:
        yield o


def lines(path, n):
    """The first n lines, once they are there."""
    wait_until(lambda: path.exists() and path.read_text().count("\n") >= n, what=f"{n} lines")
    return path.read_text().splitlines()[:n]


def test_a_format_of_ones_own(origin):
    with Gateway(config=config(origin.port), proxy_access_log="logs/mine.log mine",
                 nginx_worker_processes=1,    # whose lines are in order
                 nginx_http_log_format=FORMAT) as g:
        with Client(g) as c, Client(g, tls=True) as secure:
            answer = c.ask(get("/a%20b?p=1&q=x%22", "Cookie: a=1; c=2", 'X-Some-Header: say "hi"'))
            secure.ask(get("/over-tls"))
            c.ask("BROKEN\r\n\r\n")
        first, second, third = (json.loads(s) for s in lines(g.prefix / "logs/mine.log", 3))
        assert answer.status == 200
        assert first["method"] == "GET" and first["uri"] == "/a b" and first["q"] == "x%22"
        assert first["cookie"] == "2" and first["header"] == 'say "hi"'
        assert first["status"] == 200 and first["upstream"] == "200" and first["bytes"] == 11
        assert first["sent"] == '"yes"' and first["type"].startswith("text/plain")
        assert first["from"] == f"127.0.0.1:{origin.port}" and first["port"] == g.http
        assert first["at"] == "127.0.0.1" and first["host"] == "a.test"
        assert first["proto"] == "HTTP/1.1" and first["scheme"] == "http" and first["tls"] == ""
        assert 0 <= first["time"] < 5 and 0 <= float(first["took"]) < 5
        assert 11 + 100 < first["all"] < 11 + 1000
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", first["iso"])
        assert answer.headers["x-kong-request-id"] == [first["id"]]
        assert second["scheme"] == "https" and second["tls"] == "TLSv1.3"
        assert third["status"] == 400 and third["from"] == "" and third["sent"] == ""


@pytest.mark.parametrize("log, formats, says", [
    ("logs/x.log none", None, 'proxy_access_log: unknown log format "none"'),
    ("logs/x.log mine", "mine '$status $wrong_one'", 'unknown "wrong_one" variable'),
    ("logs/x.log combined gzip", None, '"gzip" is not supported here'),
    ("/nonexistent/x.log", None, "cannot open /nonexistent/x.log"),
    ("syslog:facility=user", None, "no syslog server specified"),
])
def test_what_cannot_be_logged_is_refused_by_name(log, formats, says):
    more = {"nginx_http_log_format": formats} if formats else {}
    g = Gateway(proxy_access_log=log, **more)
    try:
        assert says in g.fails()
    finally:
        g.destroy()


def test_standard_output(origin):
    """The test gives it a file; a container gives it a pipe, see below."""
    with Gateway(config=config(origin.port), proxy_access_log="/dev/stdout other",
                 nginx_http_log_format="other '${request_method} of $request_uri'") as g:
        assert g.proxy("/x").status_code == 200
        wait_until(lambda: "GET of /x\n" in g.log(), what="the line")


def test_syslog(origin):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        where = f"syslog:server=127.0.0.1:{server.getsockname()[1]},facility=local3,tag=gw,nohostname"
        # a comma in a setting that is no list
        with Gateway(config=config(origin.port), proxy_access_log=where + " combined") as g:
            g.proxy("/to/syslog")
            said = server.recv(65536).decode()
        assert re.match(r'<158>\w{3} [ \d]\d \d\d:\d\d:\d\d gw: 127\.0\.0\.1 - - \[.*"GET /to/syslog HTTP/1',
                        said), said


def test_a_reader_that_stands_still_costs_lines_and_nothing_else(origin, tmp_path):
    """A pipe that nobody reads: requests go on, memory is bounded, and the loss is told."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    agent = "a" * 6000
    with Gateway(config=config(origin.port), proxy_access_log=str(pipe),
                 nginx_worker_processes=1) as g:

        def ask(n):
            with Client(g) as c:
                request = get("/", f"User-Agent: {agent}") * 10
                for _ in range(n // 10):
                    c.send(request)
                    for _ in range(10):
                        assert Answer(c.f).status == 200

        threads = [threading.Thread(target=ask, args=(1000,)) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
            assert not t.is_alive()
        with open(f"/proc/{g.serving_pid}/statm", encoding="ascii") as f:
            resident = int(f.read().split()[1]) * 4096
        got = b""

        def told():    # once the reader comes back
            nonlocal got
            with contextlib.suppress(BlockingIOError):
                got += os.read(reader, 1 << 20)
            return "lines lost" in g.log()

        wait_until(told, what="the loss told")
        for line in got.split(b"\n")[:-1]:
            assert line.startswith(b"127.0.0.1 - - [") and line.endswith(b'"')
        lost = int(re.search(r"(\d+) lines lost", g.log()).group(1))
        print(f"\n4000 requests, {lost} lines lost, {resident >> 20} MiB resident")
        assert 0 < lost < 4000
        assert resident < 80 << 20 or BUILD.name != "build"    # a sanitizer's own memory
    os.close(reader)


def calls_of(gateway, requests_sent):
    """System calls of the serving process for so many requests on one connection."""
    with Client(gateway) as c, subprocess.Popen(
            ["strace", "-f", "-c", "-qq", "-p", str(gateway.serving_pid)], text=True,
            stderr=subprocess.PIPE) as trace:
        wait_until(lambda: "TracerPid:\t0" not in
                   open(f"/proc/{gateway.serving_pid}/status", encoding="ascii").read(),
                   what="strace attached")
        for _ in range(requests_sent // 50):
            c.send(get() * 50)
            for _ in range(50):
                assert Answer(c.f).status == 200
        trace.send_signal(signal.SIGINT)
        counts = trace.stderr.read()
    return int(re.search(r"^100\.00 +[\d.]+ +\d+ +(\d+)", counts, re.M).group(1))


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_line_costs_a_fraction_of_a_call(origin):
    n = 1500
    each = []
    for log in ("off", "logs/access.log"):
        with Gateway(config=config(origin.port), proxy_access_log=log,
                     nginx_worker_processes=1) as g:
            each.append(calls_of(g, n) / n)
    print(f"\n{each[0]:.2f} calls a request without an access log, {each[1]:.2f} with one")
    assert each[1] - each[0] < 0.25


def test_rotation_of_both_logs(origin):
    with Gateway(config=config(origin.port), proxy_access_log="logs/access.log",
                 proxy_error_log="logs/error.log") as g:
        access, error = (g.prefix / "logs" / name for name in ("access.log", "error.log"))
        g.proxy("/before")
        lines(access, 1)
        for log in (access, error):
            log.rename(log.with_suffix(".old"))
        g.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: access.exists() and error.exists(), what="new files")
        g.proxy("/after")
        assert "/after" in lines(access, 1)[0]
        wait_until(lambda: "log files reopened" in error.read_text(), what="the notice")


# -- levels ------------------------------------------------------------------------------------


def level(g):
    return g.admin("GET", "/debug/node/log-level").json()["message"]


def test_levels_change_while_it_runs(origin):
    with Postgres() as postgres:
        database = postgres.create_migrated()
        with Gateway(env=database.env(), log_level="notice") as g:
            assert level(g) == "log level: notice"
            for path in ("/debug/node/log-level/debug", "/debug/cluster/log-level/info"):
                answer = g.admin("PUT", path, json={"timeout": 0})
                assert (answer.status_code, answer.json()["message"]) == (200, "log level changed")
                name = path.rsplit("/", 1)[1]
                assert level(g) == f"log level: {name}"
                assert g.admin("GET", "/").json()["configuration"]["log_level"] == name
            again = g.admin("PUT", "/debug/node/log-level/info")
            assert again.json()["message"] == "log level is already info"
            for path, body, says in (
                    ("/debug/node/log-level/loud", {}, "unknown log level: loud"),
                    ("/debug/node/log-level/warn", {"timeout": -1},
                     "timeout must be greater than or equal to 0")):
                answer = g.admin("PUT", path, json=body)
                assert (answer.status_code, answer.json()["message"]) == (400, says)
            # lent for a second, then what it was before
            assert g.admin("PUT", "/debug/node/log-level/crit", json={"timeout": 1}).ok
            assert level(g) == "log level: crit"
            wait_until(lambda: level(g) == "log level: info", what="the level before")
            # the other nodes hear of it, and a reload keeps it
            with Gateway(env=database.env(), log_level="notice") as other:
                path = "/debug/cluster/log-level/alert"
                assert g.admin("PUT", path, json={"timeout": 30}).ok
                wait_until(lambda: level(other) == "log level: alert", what="the other node")
                serving = other.serving_pid
                other.process.send_signal(signal.SIGHUP)
                wait_until(lambda: serving not in other.serving_pids(), what="the reload")
                with requests.Session() as fresh:
                    said = fresh.get(f"http://127.0.0.1:{other.admin_port}/debug/node/log-level")
                assert said.json()["message"] == "log level: alert"


def test_without_a_database_the_level_stays():
    with Gateway() as g:
        for where in ("node", "cluster"):
            answer = g.admin("PUT", f"/debug/{where}/log-level/debug")
            assert answer.status_code == 405
            assert answer.json()["message"] == "cannot change log level when not using a database"


# -- where the time went -----------------------------------------------------------------------


def debugged(g, *headers):
    with Client(g) as c:
        answer = c.ask(get("/", "X-Kong-Request-Debug: *", *headers))
    said = answer.headers.get("x-kong-request-debug-output")
    return json.loads(said[0]) if said else None


def test_request_debug(origin):
    with Gateway(config=config(origin.port)) as g:
        tree = debugged(g, "X-Kong-Request-Debug-Log: true")
        assert len(tree["request_id"]) == 32 and tree["total_time"] >= 0
        assert tree["child"]["upstream"]["total_time"] <= tree["total_time"]
        assert set(tree["child"]) == {"access", "upstream"}
        assert not [n for n, _ in origin.requests[-1].headers if "Debug" in n]
        wait_until(lambda: f"[request-debug] id: {tree['request_id']}" in g.log(), what="the line")
        with Client(g) as c:    # only "*" asks
            answer = c.ask(get("/", "X-Kong-Request-Debug: all"))
            assert "x-kong-request-debug-output" not in answer.headers
    # who is not on this machine needs the token
    with Gateway(config=config(origin.port), trusted_ips="127.0.0.1") as g:
        far = "X-Real-IP: 10.1.2.3"
        token = (g.prefix / ".request_debug_token").read_text()
        assert debugged(g) and debugged(g, far) is None
        assert debugged(g, far, "X-Kong-Request-Debug-Token: wrong") is None
        assert debugged(g, far, f"X-Kong-Request-Debug-Token: {token}")
    with Gateway(config=config(origin.port), request_debug="off") as g:
        assert debugged(g) is None


def test_logs_of_admin_and_status():
    with Gateway(config={}, admin_access_log="logs/a.log", status_access_log="logs/s.log",
                 admin_error_log="/dev/null") as g:
        agent = {"User-Agent": 'x "y"\\', "Referer": "here"}
        assert g.admin("GET", "/routes?size=1", headers=agent).status_code == 200
        assert g.admin("DELETE", "/none").status_code == 404
        asked = [line for line in lines(g.prefix / "logs/a.log", 2) if "/status" not in line]
        assert re.fullmatch(r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:[\d:]{8} [+-]\d{4}\] '
                            r'"GET /routes\?size=1 HTTP/1\.1" 200 \d+ "here" "x \\x22y\\x22\\x5C"', asked[0])
        assert '"DELETE /none HTTP/1.1" 404 ' in asked[1]
        requests.get(f"http://127.0.0.1:{g.status}/status/ready", timeout=10)
        assert '"GET /status/ready HTTP/1.1" ' in lines(g.prefix / "logs/s.log", 1)[0]
        (g.prefix / "logs/a.log").rename(g.prefix / "logs/old.log")
        os.kill(g.process.pid, signal.SIGUSR1)
        wait_until(lambda: "log files reopened" in g.log(), what="the logs opened anew")
        g.admin("GET", "/services")
        assert "/services" in lines(g.prefix / "logs/a.log", 1)[0]
        assert "admin_error_log: errors of all listeners go to proxy_error_log" in g.log()
