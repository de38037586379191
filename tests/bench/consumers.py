#!/usr/bin/env python3
"""consumers.py [--sizes 1000,100000,10000000] [--seconds 5] [--guesses 1000000] - make bench-consumers

Databases with so many consumers, a key each, made inside the server; one data plane with one worker
on each, and key-auth in front of a route that answers by itself, so that nothing else is measured.

cached       a thousand keys over and over, the databases in turn: CPU per request must not grow
never seen   each key once: one query a request; how many share a round trip, throughput, latency
guesses      random keys that nobody has: what they do to memory, to known keys, and to keys of
             somebody else that are asked for the first time
changes      a key made, rotated, revoked by the Admin API: until two nodes act on it

CPU is what the serving process used, from its scheduler's clock. Nothing here passes or fails.
"""
import argparse
import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

from gateway import Gateway                     # noqa: E402
from postgres import Postgres, wait_until       # noqa: E402

CACHE = "32m"
HOT = 1000

WRK = """
local first, count, prefix, i
function init(args)
    first, count, prefix, i = tonumber(args[1]), tonumber(args[2]), args[3], 0
end
function request()
    local n = first + i % count
    i = i + 1
    return wrk.format("GET", "/", {["apikey"] = string.format("%s-%010d", prefix, n)})
end
function done(summary, latency, requests)
    io.write(string.format('JSON {"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "status": %d}\\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
        latency:percentile(99) / 1e3, summary.errors.status))
end
"""


# -- the databases ----------------------------------------------------------------------------------

ROWS = {
    "consumers": ("id, username, ws_id",
                  "(lpad(to_hex(i), 8, '0') || '-0000-4000-8000-000000000001')::uuid, 'user-' || i"),
    "keyauth_credentials": ("id, consumer_id, key, ws_id",
                            "(lpad(to_hex(i), 8, '0') || '-0000-4000-8000-000000000002')::uuid, "
                            "(lpad(to_hex(i), 8, '0') || '-0000-4000-8000-000000000001')::uuid, "
                            "'key-' || lpad(i::text, 10, '0')"),
}


def session(db):
    conn = db.postgres.connect_admin(db.name)
    # Without the triggers, as an import before the first start would do it.
    conn.cursor().execute("SET session_replication_role = replica")
    return conn


def take_apart(cur):
    """Takes constraints and indexes off the tables; the statements that put them back, by table, and
    those that come after all others."""
    again, last = {name: [] for name in ROWS}, []
    tables = ", ".join(f"'{name}'::regclass" for name in ROWS)
    cur.execute("SELECT conrelid::regclass::text, conname, contype::text, pg_get_constraintdef(oid) "
                "FROM pg_constraint WHERE contype IN ('p', 'u', 'f') AND "
                f"(conrelid IN ({tables}) OR confrelid IN ({tables})) ORDER BY contype = 'f' DESC")
    for table, name, kind, definition in cur.fetchall():
        cur.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        if kind == "f":     # holds from then on; that the rows at hand are right is known
            last.append(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID")
        else:
            again[table].append(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
    cur.execute("SELECT indrelid::regclass::text, indexrelid::regclass::text, "
                f"pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN ({tables})")
    for table, name, definition in cur.fetchall():
        cur.execute(f"DROP INDEX {name}")
        again[table].append(definition)
    return again, last


def fill_table(db, table, n, ws, again):
    columns, values = ROWS[table]
    with contextlib.closing(session(db)) as conn, conn.cursor() as cur:
        # Truncated in the same transaction, the table needs no log (wal_level minimal).
        cur.execute(f"BEGIN; TRUNCATE {table}; INSERT INTO {table} ({columns}) "
                    f"SELECT {values}, '{ws}' FROM generate_series(0, {n - 1}) i; COMMIT")
        for statement in again:
            cur.execute(statement)
        cur.execute(f"VACUUM (ANALYZE) {table}")


def fill(db, n):
    """n consumers with a key each, made inside the server, both tables at once; their constraints and
    indexes are taken off before and are all there again afterwards."""
    began = time.monotonic()
    with contextlib.closing(session(db)) as conn, conn.cursor() as cur:
        cur.execute("SELECT id::text FROM workspaces WHERE name = 'default'")
        ws = cur.fetchone()[0]
        again, last = take_apart(cur)
        with concurrent.futures.ThreadPoolExecutor(len(ROWS)) as pool:
            list(pool.map(lambda table: fill_table(db, table, n, ws, again[table]), ROWS))
        for statement in last:
            cur.execute(statement)
        cur.execute("SELECT pg_size_pretty(pg_database_size(current_database()))")
        print(f"  {n:>10,} consumers: {time.monotonic() - began:.0f} s, {cur.fetchone()[0]}", flush=True)


# -- the gateways -----------------------------------------------------------------------------------

class Node(Gateway):
    def __init__(self, db, **settings):
        super().__init__(db.env(), nginx_worker_processes=1, mem_cache_size=CACHE,
                         log_level="notice", **settings)

    def protect(self):
        for path, body in (("/services", {"name": "s", "host": "127.0.0.1", "port": 9}),
                           ("/services/s/routes", {"name": "r", "paths": ["/"]}),
                           ("/services/s/plugins", {"name": "key-auth"}),
                           ("/services/s/plugins", {"name": "request-termination",
                                                    "config": {"status_code": 200}})):
            assert self.admin("POST", path, json=body).status_code == 201
        self.wait_for("localhost", status=401)

    def cpu_s(self):
        tasks = pathlib.Path(f"/proc/{self.serving_pid}/task").iterdir()
        return sum(int((t / "schedstat").read_text().split()[0]) for t in tasks) / 1e9

    def memory_mb(self):
        text = pathlib.Path(f"/proc/{self.serving_pid}/smaps_rollup").read_text()
        return int(text.split("Pss:")[1].split()[0]) / 1024

    def metrics(self):
        prefix = "silverback_credentials_"
        lines = self.ask_status("/metrics").text.splitlines()
        return {name[len(prefix):]: int(value) for name, value in
                (line.split() for line in lines if line.startswith(prefix))}

    def load(self, script, first, count, seconds, prefix="key", connections=64):
        """What wrk saw, and what it cost: CPU and queries a request."""
        cpu, before = self.cpu_s(), self.metrics()
        said = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s",
                               "-s", script, f"http://127.0.0.1:{self.http}", "--", str(first),
                               str(count), prefix], capture_output=True, text=True, check=True).stdout
        got = json.loads(said.split("JSON ")[1].splitlines()[0])
        after = self.metrics()
        got["cpu_us"] = (self.cpu_s() - cpu) / got["requests"] * 1e6
        got["rps"] = got["requests"] / got["seconds"]
        for name in ("queries_total", "query_batches_total"):
            got[name] = (after[name] - before[name]) / got["requests"]
        return got


# -- the measurements ---------------------------------------------------------------------------------

def cached(nodes, script, rounds, seconds):
    print("cached keys: a thousand, over and over")
    runs = {n: [] for n in nodes}
    for node in nodes.values():
        node.load(script, 0, HOT, 1)
    for _ in range(rounds):
        for n, node in nodes.items():
            runs[n].append(node.load(script, 0, HOT, seconds))
    base = None
    for n, got in runs.items():
        cpu = statistics.median(r["cpu_us"] for r in got)
        base = base or cpu
        print(f"  {n:>10,} consumers: {cpu:6.2f} us CPU a request ({cpu / base:.2f}), "
              f"{statistics.median(r['rps'] for r in got):7.0f} requests/s, "
              f"p99 {statistics.median(r['p99'] for r in got):.2f} ms, "
              f"{got[-1]['queries_total']:.4f} queries a request", flush=True)


def never_seen(nodes, script, seconds):
    print("keys never seen: each once")
    for n, node in nodes.items():
        if n < 50000:
            continue
        for connections in (1, 64):
            first = n // 2 + (n // 4 if connections == 64 else 0)
            got = node.load(script, first, n // 4, seconds, connections=connections)
            print(f"  {n:>10,} consumers, {connections:2} connections: {got['rps']:6.0f} requests/s, "
                  f"p50 {got['p50']:.2f} ms, p99 {got['p99']:.2f} ms, {got['cpu_us']:.1f} us CPU, "
                  f"{got['queries_total']:.3f} queries and {got['query_batches_total']:.3f} round trips "
                  f"a request, {got['status']} not 200", flush=True)


def told_memory(node, base, what):
    m = node.metrics()
    print(f"  {what:<22} {node.memory_mb():6.1f} MB in all: base {base:.1f} + cache "
          f"{m['cache_bytes'] / 2**20:.1f} of {m['cache_limit_bytes'] / 2**20:.0f} "
          f"({m['cached']:,} answers, {m['cached_absences']:,} absences, "
          f"{m['evicted_total']:,} thrown out)", flush=True)


class Client:
    """One connection; from an address of its own."""

    def __init__(self, node, address="127.0.0.1"):
        self.conn = http.client.HTTPConnection("127.0.0.1", node.http, timeout=20,
                                               source_address=(address, 0))

    def ask(self, key):
        began = time.perf_counter()
        self.conn.request("GET", "/", headers={"apikey": key})
        answer = self.conn.getresponse()
        answer.read()
        return answer.status, (time.perf_counter() - began) * 1e3


def probe(node, keys, address):
    client, took = Client(node, address), []
    for key in keys:
        status, ms = client.ask(key)
        assert status == 200, status
        took.append(ms)
        time.sleep(0.005)
    took.sort()
    return f"p50 {took[len(took) // 2]:.2f} ms, p99 {took[len(took) * 99 // 100]:.2f} ms"


def guesses(node, n, script, count, base):
    print(f"{count:,} random keys that nobody has, as fast as they are answered")
    known = [f"key-{i % HOT:010d}" for i in range(400)]

    def fresh(part):
        return [f"key-{n // 8 * part // 8 + i:010d}" for i in range(400)]

    told_memory(node, base, "before")
    print(f"  known keys, before: {probe(node, known, '127.0.0.2')}")
    print(f"  first-time keys, before: {probe(node, fresh(1), '127.0.0.2')}", flush=True)
    sent = [0]

    def flood(prefix, most):
        while sent[0] < most:
            got = node.load(script, sent[0] if prefix == "guess" else 0,
                            10**9 if prefix == "guess" else HOT, 5, prefix, connections=128)
            sent[0] += got["requests"]

    # What a worker that has all it can do means for everybody: the same load, of known keys.
    thread = threading.Thread(target=flood, args=("key", 1))
    thread.start()
    time.sleep(1)
    print(f"  known keys, beside as many connections with known keys: "
          f"{probe(node, known, '127.0.0.2')}")
    thread.join()
    sent[0] = 0
    thread = threading.Thread(target=flood, args=("guess", count))
    began = time.monotonic()
    thread.start()
    time.sleep(1)
    print(f"  known keys, meanwhile, from another address: {probe(node, known, '127.0.0.2')}")
    print(f"  first-time keys, meanwhile, the same: {probe(node, fresh(2), '127.0.0.2')}", flush=True)
    thread.join()
    print(f"  {sent[0]:,} guesses in {time.monotonic() - began:.0f} s")
    print(f"  known keys, after: {probe(node, known, '127.0.0.2')}")
    told_memory(node, base, "after")
    m = node.metrics()
    print(f"  refused: {m['refused_total']:,}")


def until(nodes, key, status):
    """When all nodes answer so."""
    def wait(node):
        client = Client(node)
        while client.ask(key)[0] != status:
            pass

    threads = [threading.Thread(target=wait, args=(node,)) for node in nodes]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return time.perf_counter()


def changes(nodes, rounds):
    print(f"changes by the Admin API until both of two nodes act on them, {rounds} times")
    node, took = nodes[0], {"made": [], "rotated": [], "revoked": []}

    def change(what, method, path, body, key, status):
        for n in nodes:
            Client(n).ask(key)                  # what is true now is remembered
        began = time.perf_counter()
        answer = node.admin(method, path, json=body)
        assert answer.status_code < 300, answer.text
        answered = time.perf_counter()
        done = until(nodes, key, status)
        took[what].append(((done - began) * 1e3, (done - answered) * 1e3))
        return answer

    for i in range(rounds):
        key = f"made-{i}"
        made = change("made", "POST", f"/consumers/user-{i}/key-auth", {"key": key}, key, 200).json()
        change("rotated", "PATCH", f"/key-auths/{made['id']}", {"key": key + "-2"}, key + "-2", 200)
        until(nodes, key, 401)
        change("revoked", "DELETE", f"/key-auths/{made['id']}", None, key + "-2", 401)
    for what, times in took.items():
        whole = sorted(t for t, _ in times)
        after = sorted(t for _, t in times)
        print(f"  {what:<8} median {statistics.median(whole):.1f} ms from the request, "
              f"{statistics.median(after):.1f} ms from its answer; p95 "
              f"{after[len(after) * 95 // 100]:.1f} ms", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--sizes", default="1000,100000,10000000")
    p.add_argument("--seconds", type=int, default=5)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--guesses", type=int, default=1000000)
    p.add_argument("--changes", type=int, default=100)
    o = p.parse_args()
    settings = {"shared_buffers": "2GB", "max_wal_size": "16GB", "maintenance_work_mem": "512MB",
                "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Postgres(settings))
        script = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".lua"))
        script.write(WRK)
        script.flush()
        nodes, base = {}, {}
        print("databases")
        for n in map(int, o.sizes.split(",")):
            db = server.create_migrated()
            fill(db, n)
            node = nodes[n] = stack.enter_context(Node(db))
            node.protect()
            base[n] = node.memory_mb()
        largest = max(nodes)
        print("memory, right after the start")
        for n, node in nodes.items():
            print(f"  {n:>10,} consumers: {base[n]:.1f} MB")
        cached(nodes, script.name, o.rounds, o.seconds)
        never_seen(nodes, script.name, o.seconds)
        told_memory(nodes[largest], base[largest], "memory after that")
        guesses(nodes[largest], largest, script.name, o.guesses, base[largest])
        second = stack.enter_context(Node(db))
        wait_until(lambda: second.answers("localhost", status=401), what="the second node")
        changes([nodes[n], second], o.changes)


if __name__ == "__main__":
    main()
