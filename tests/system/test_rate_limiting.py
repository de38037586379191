"""Rate limits that count exactly: over a node's workers, over nodes, through outages of the stores."""

import contextlib
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from gateway import Gateway, Upstream
from postgres import wait_until
from redis_server import Redis
from wire import Answer, Client, Origin, ok

ASK = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"


@pytest.fixture(scope="module")
def redis():
    with Redis() as server:
        yield server


@pytest.fixture(autouse=True)
def empty(request):
    if "redis" in request.fixturenames:
        request.getfixturevalue("redis").ask("FLUSHALL")


@pytest.fixture(autouse=True, scope="module")
def no_midnight():
    """Windows of a day are used below: none ends while they are."""
    while time.time() % 86400 > 86340:
        time.sleep(1)


def limits(port, **config):
    """A configuration with one limited route to the port."""
    return {"services": [{"name": "s", "url": f"http://127.0.0.1:{port}", "routes": [
        {"name": "r", "hosts": ["a.test"], "id": "6f2ae9d4-8d11-4ee6-a8cd-8d4a4f2fb1bb", "plugins": [
            {"name": "rate-limiting", "config": config}]}]}]}


def in_redis(redis, **more):
    return {"policy": "redis", "redis": {"host": "127.0.0.1", "port": redis.port}, **more}


def ask_all(gateways, n, threads=4):
    """n requests by each of so many threads, every one over a new connection; how many passed."""
    statuses = []

    def run(i):
        for k in range(n):
            with Client(gateways[(i + k) % len(gateways)]) as c:
                c.send(ASK)
                statuses.append(Answer(c.f).status)

    crowd = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert set(statuses) <= {200, 429}
    return statuses.count(200)


def test_a_header_that_authentication_sets_is_counted_by(upstream):
    config = limits(upstream.port, day=1, limit_by="header", header_name="X-Consumer-Username")
    config["plugins"] = [{"name": "key-auth"}]
    config["consumers"] = [{"username": name, "keyauth_credentials": [{"key": name}]}
                           for name in ("ann", "bob")]
    with Gateway(config=config) as g:
        assert [g.proxy(host="a.test", headers={"apikey": key}).status_code
                for key in ("ann", "bob", "ann", "bob")] == [200, 200, 429, 429]


# -- exact counts -----------------------------------------------------------------------------------

def test_local_counts_for_all_workers_of_a_node(upstream):
    with Gateway(config=limits(upstream.port, day=30)) as one, \
            Gateway(config=limits(upstream.port, day=30)) as two:
        assert ask_all([one], 15) == 30
        assert ask_all([one, two], 20) == 30        # two's
        assert ask_all([one, two], 3) == 0


def test_redis_counts_for_all_nodes(upstream, redis):
    config = limits(upstream.port, **in_redis(redis, day=50, year=200))
    with Gateway(config=config) as one, Gateway(config=config) as two:
        assert ask_all([one, two], 30) == 50
        assert ask_all([one, two], 5) == 0
    counters = redis.counters()
    assert len(counters) == 2 and set(counters.values()) == {50}    # who is refused is in none
    day, = (key for key in counters if key.endswith(":day"))
    assert re.fullmatch(r"ratelimit:6f2ae9d4-8d11-4ee6-a8cd-8d4a4f2fb1bb:00000000-0000-0000-0000-"
                        r"000000000000:127\.0\.0\.1:\d+00000:day", day)
    assert 86000 < int(redis.ask("TTL", day)[0]) <= 86400


def test_sync_rate_brings_nodes_in_step(upstream, redis):
    config = limits(upstream.port, **in_redis(redis, day=60, sync_rate=0.05))
    with Gateway(config=config) as one, Gateway(config=config) as two:
        passed = ask_all([one], 5)
        assert passed == 20
        wait_until(lambda: set(redis.counters().values()) == {20}, what="the first round")
        passed += ask_all([two], 5)
        wait_until(lambda: set(redis.counters().values()) == {40}, what="the second's round")
        wait_until(lambda: not one.answers("a.test") or not two.answers("a.test"),
                   what="the limit")
        wait_until(lambda: not one.answers("a.test") and not two.answers("a.test"),
                   what="both in step")
        seen = wait_until(lambda: (c := redis.counters()) and min(c.values()) >= 60 and c,
                          what="the last round")
        assert max(seen.values()) < 80      # what one node did not know of the other's
        ttl, = (int(redis.ask("TTL", key)[0]) for key in seen)
        assert 86000 < ttl <= 86400


def test_cluster_counts_for_all_nodes(upstream, migrated):
    with Gateway(env=migrated.env()) as one, Gateway(env=migrated.env()) as two:
        one.admin("PUT", "/services/s", json={"url": f"http://127.0.0.1:{upstream.port}"})
        one.admin("PUT", "/services/s/routes/r", json={"hosts": ["a.test"]})
        migrated.query("INSERT INTO ratelimiting_metrics (identifier, period, period_date, value, ttl)"
                       " SELECT 'old', 'second', now() - interval '1 h', 1, now() - interval '1 h'"
                       " FROM generate_series(1, 1)")
        made = one.admin("POST", "/routes/r/plugins", json={
            "name": "rate-limiting", "config": {"policy": "cluster", "day": 8, "year": 100}})
        assert made.status_code == 201
        before = 0

        def both_limited():
            nonlocal before
            limited = ["X-RateLimit-Limit-Day" in g.proxy(host="a.test").headers
                       for g in (one, two)]
            before += sum(limited)
            return all(limited)

        def counted():
            return migrated.query("SELECT value FROM ratelimiting_metrics WHERE identifier ="
                                  " '127.0.0.1' AND period IN ('day', 'year') ORDER BY period")

        wait_until(both_limited, what="the plugin")
        wait_until(lambda: counted() == [(before,), (before,)], what="the first counts")
        for n in range(before, 11):
            status = (one, two)[n % 2].proxy(host="a.test").status_code
            assert status == (200 if n < 8 else 429)
            wait_until(lambda: counted()[0][0] == min(n + 1, 8), what="the count")
        assert counted() == [(8,), (8,)] and before < 8
        rows = migrated.query("SELECT service_id, ttl - now() > interval '23 h' FROM"
                              " ratelimiting_metrics WHERE period = 'day'")
        assert rows == [("00000000-0000-0000-0000-000000000000", True)]
        assert migrated.value("SELECT count(*) FROM ratelimiting_metrics WHERE identifier = 'old'") == 0


def test_cluster_loses_no_count_in_a_crowd(upstream, migrated):
    with Gateway(env=migrated.env()) as one, Gateway(env=migrated.env()) as two:
        one.admin("PUT", "/services/s", json={"url": f"http://127.0.0.1:{upstream.port}"})
        one.admin("PUT", "/services/s/routes/r", json={"hosts": ["a.test"]})
        one.admin("POST", "/routes/r/plugins", json={
            "name": "rate-limiting", "config": {"policy": "cluster", "year": 1000,
                                                "limit_by": "header", "header_name": "Host"}})
        wait_until(lambda: all("X-RateLimit-Limit-Year" in g.proxy(host="a.test").headers
                               for g in (one, two)), what="the plugin")
        migrated.query("DELETE FROM ratelimiting_metrics")
        assert ask_all([one, two], 25) == 100
        wait_until(lambda: migrated.value("SELECT sum(value) FROM ratelimiting_metrics"
                                          " WHERE identifier = 'a.test'") == 100, what="the counts")


def test_identifiers_that_no_column_can_hold_are_counted_too(upstream, migrated):
    with Gateway(env=migrated.env()) as g:
        g.admin("PUT", "/services/s", json={"url": f"http://127.0.0.1:{upstream.port}"})
        g.admin("PUT", "/services/s/routes/r", json={"hosts": ["a.test"]})
        g.admin("POST", "/routes/r/plugins", json={
            "name": "rate-limiting", "config": {"policy": "cluster", "year": 1, "limit_by": "header",
                                                "header_name": "X-Who", "fault_tolerant": False}})
        g.wait_for("a.test", status=429)
        for who in (b"\xff\xfe", b"x" * 3000):
            for status in (200, 429):
                with Client(g) as c:
                    c.send(b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Who: " + who + b"\r\n\r\n")
                    assert Answer(c.f).status == status
                wait_until(lambda: migrated.value(
                    "SELECT count(*) FROM ratelimiting_metrics WHERE identifier LIKE 'sha256:%%'"),
                    what="the count")
            migrated.query("DELETE FROM ratelimiting_metrics WHERE identifier LIKE 'sha256:%%'")


# -- what upstreams announce ------------------------------------------------------------------------

@pytest.fixture(scope="module")
def announcing():
    """Each request costs two videos."""
    with Origin(lambda r: ok(b"", "X-Kong-Limit: video=2, other=1")) as origin:
        yield origin


def announced(port, **config):
    doc = limits(port)
    doc["services"][0]["routes"][0]["plugins"] = [{"name": "response-ratelimiting", "config": {
        "limits": {"video": {"day": 6, "year": 9}}, **config}}]
    return doc


def remaining(g):
    answer = g.proxy(host="a.test")
    assert "odd" not in str(answer.headers)     # what is no header's name is not told
    return answer.status_code, answer.headers.get("X-RateLimit-Remaining-video-day")


def test_announced_counts_in_redis(announcing, redis):
    config = announced(announcing.port, **in_redis(redis))
    with Gateway(config=config) as one, Gateway(config=config) as two:
        for i, left in enumerate((4, 2, 0)):
            assert remaining((one, two)[i % 2]) == (200, str(left))
            wait_until(lambda: [n for key, n in redis.counters().items() if key.endswith("day")
                                or key.endswith("year")] == [2 * i + 2] * 2, what="the count")
        assert remaining(two) == (429, "0")
    day, = (key for key in redis.counters() if key.endswith(":video:day"))
    assert day.startswith("response-ratelimit:6f2ae9d4-") and int(redis.ask("TTL", day)[0]) > 86000


def test_announced_counts_in_the_database(announcing, migrated):
    with Gateway(env=migrated.env()) as g:
        g.admin("PUT", "/services/s", json={"url": f"http://127.0.0.1:{announcing.port}"})
        g.admin("PUT", "/services/s/routes/r", json={"hosts": ["a.test"]})
        g.admin("POST", "/routes/r/plugins", json={
            "name": "response-ratelimiting", "config": {
                "policy": "cluster", "limits": {"video": {"day": 600}, 'odd, "name"\\': {"day": 5}}}})

        def counted():
            return migrated.query("SELECT period, value FROM response_ratelimiting_metrics WHERE"
                                  " period IN ('video_day', 'video_year') ORDER BY period")

        wait_until(lambda: g.proxy(host="a.test") and counted(), what="the plugin and a count")
        first = counted()[0][1]
        migrated.query("INSERT INTO response_ratelimiting_metrics (identifier, period, period_date,"
                       " route_id, value) SELECT identifier, period, period_date - interval '2 d',"
                       " route_id, 9 FROM response_ratelimiting_metrics WHERE period = 'video_day'")
        assert remaining(g) == (200, str(600 - first - 2))
        wait_until(lambda: counted() == [("video_day", first + 2), ("video_year", first + 2)],
                   what="the count, and yesterday's gone")


# -- connections to Redis ---------------------------------------------------------------------------

@pytest.mark.parametrize("who, tls, database", [
    ({"password": "s3cret"}, False, 3),
    ({"password": "s3cret", "user": "gateway"}, True, 0),
])
def test_redis_with_passwords_and_tls(upstream, who, tls, database):
    with Redis(**who) as server:
        address = {"host": "localhost", "port": server.tls_port if tls else server.port, "ssl": tls,
                   "ssl_verify": tls, "password": "s3cret", "database": database}
        if "user" in who:
            address["username"] = who["user"]
        config = limits(upstream.port, policy="redis", day=1, redis=address, fault_tolerant=False)
        with Gateway(config=config, lua_ssl_trusted_certificate=str(server.ca)) as g:
            assert [g.proxy(host="a.test").status_code for _ in range(2)] == [200, 429]
            assert list(server.counters(database=database).values()) == [1]
            g.post_config(**limits(upstream.port, policy="redis", day=1, fault_tolerant=False,
                                   redis={**address, "password": "wrong"}))
            g.wait_for("a.test", status=500)
            assert "WRONGPASS" in g.log() and "s3cret" not in g.log()
            if tls:
                g.post_config(**limits(upstream.port, policy="redis", day=1, fault_tolerant=False,
                                       redis={**address, "server_name": "other.test"}))
                wait_until(lambda: g.proxy(host="a.test").status_code == 500 and
                           "hostname mismatch" in g.log(), what="the certificate refused")


# -- outages ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("sync_rate", [-1, 0.05])
@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_redis_goes_away_and_comes_back(upstream, sync_rate, how):
    with Redis() as server:
        address = {"host": "127.0.0.1", "port": server.port, "timeout": 300}
        more = dict(policy="redis", day=1000, redis=address, sync_rate=sync_rate)
        doc = limits(upstream.port, **more)
        strict = limits(upstream.port, **more, fault_tolerant=False)["services"][0]["routes"][0]
        doc["services"][0]["routes"].append({**strict, "name": "strict", "hosts": ["strict.test"],
                                             "id": "0b1c9a5e-1df1-4c5c-9a51-5d8df2a2a6d2"})
        with Gateway(config=doc) as g:
            for host in ("a.test", "strict.test"):
                assert "RateLimit-Limit" in g.proxy(host=host).headers
            if how == "stopped":
                server.stop()
            else:
                server.pause()
                for host in ("a.test", "strict.test"):      # clients that leave while they wait
                    with Client(g) as c:
                        c.send(ASK.replace("a.test", host))
            wait_until(lambda: g.proxy(host="strict.test").status_code == 500, what="a refusal")
            began = time.monotonic()
            for _ in range(20):
                answer = g.proxy(host="a.test")
                assert answer.status_code == 200
            assert time.monotonic() - began < 15
            wait_until(lambda: "RateLimit-Limit" not in g.proxy(host="a.test").headers,
                       what="passing without headers")
            refused = g.proxy(host="strict.test")
            assert refused.status_code == 500
            assert refused.json()["message"] == "An unexpected error occurred"
            assert g.log().count("counters in Redis") < 10        # not a line a request
            if how == "stopped":
                server.start()
            else:
                server.resume()
            for host in ("a.test", "strict.test"):
                wait_until(lambda: "RateLimit-Limit" in g.proxy(host=host).headers,
                           what="counting again")
            assert "answers again" in g.log()


def test_the_database_goes_away_and_comes_back(upstream, private, stoppable):
    with Gateway(env=private.env()) as g:
        g.admin("PUT", "/services/s", json={"url": f"http://127.0.0.1:{upstream.port}"})
        for name, tolerant in (("a", True), ("strict", False)):
            g.admin("PUT", f"/services/s/routes/{name}", json={"hosts": [f"{name}.test"]})
            g.admin("POST", f"/routes/{name}/plugins", json={
                "name": "rate-limiting", "config": {"policy": "cluster", "day": 1000,
                                                    "fault_tolerant": tolerant}})
        for host in ("a.test", "strict.test"):
            wait_until(lambda: "RateLimit-Limit" in g.proxy(host=host).headers, what="the plugin")
        stoppable.stop()
        with contextlib.ExitStack() as back:
            back.callback(stoppable.start)
            wait_until(lambda: g.proxy(host="strict.test").status_code == 500, what="a refusal")
            answer = g.proxy(host="a.test")
            assert answer.status_code == 200 and "RateLimit-Limit" not in answer.headers
        for host in ("a.test", "strict.test"):
            wait_until(lambda: "RateLimit-Limit" in g.proxy(host=host).headers,
                       what="counting again")


# -- what it costs ----------------------------------------------------------------------------------

def calls_of(gateway, requests_sent):
    """System calls of the serving process for so many requests on one connection."""
    with Client(gateway) as c, subprocess.Popen(
            ["strace", "-f", "-c", "-qq", "-p", str(gateway.serving_pid)], text=True,
            stderr=subprocess.PIPE) as trace:
        wait_until(lambda: "TracerPid:\t0" not in
                   open(f"/proc/{gateway.serving_pid}/status", encoding="ascii").read(),
                   what="strace attached")
        for _ in range(requests_sent):
            c.send(ASK)
            answer = Answer(c.f)
            assert answer.status == 200
        trace.send_signal(signal.SIGINT)
        counts = trace.stderr.read()
    return int(re.search(r"^100\.00 +[\d.]+ +\d+ +(\d+)", counts, re.M).group(1))


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_request_that_passes_costs_no_system_call_more():
    n, each = 300, []
    with Origin(lambda r: ok(b"ok")) as origin:
        plain = limits(origin.port)
        del plain["services"][0]["routes"][0]["plugins"]
        for config in (plain, limits(origin.port, second=10000, minute=100000, year=1000000)):
            with Gateway(config=config, nginx_worker_processes=1) as g:
                each.append(calls_of(g, n) / n)
    print(f"\n{each[0]:.2f} calls a request, {each[1]:.2f} with a limit")
    assert each[1] - each[0] < 0.1
