#!/usr/bin/env python3
"""churn.py [ROUTES] [RATE] - what traffic feels while configuration changes.

A gateway on PostgreSQL serves ROUTES routes (10,000); a generator asks an old one RATE times a second
(2,000) for some seconds, three times in turn with nothing changing and with one route changing every
10 ms through the Admin API. Prints both latencies beside each other; nothing here passes or fails.
"""
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(HERE / "rig"), str(TOP / "tests" / "system")]

import rig  # noqa: E402
from gateway import Gateway  # noqa: E402
from postgres import Postgres  # noqa: E402
from programs import clean_env, program  # noqa: E402

CHANGE_EVERY_S, SECONDS, ROUNDS = 0.010, 5, 3


def write_config(path, routes):
    with open(path, "w", encoding="utf-8") as f:
        f.write('_format_version: "3.0"\nservices:\n- name: s\n'
                f"  url: http://127.0.0.1:{rig.UP}\n  routes:\n")
        for i in range(routes):
            f.write(f"  - {{name: r{i}, hosts: [h{i // 10}.example.test], paths: [/api/v1/svc{i % 10}], "
                    "strip_path: false}\n")


class Changer(threading.Thread):
    """Changes one route every 10 ms, the next one each time, until told to stop."""

    def __init__(self, port, routes):
        super().__init__()
        self.port, self.routes, self.done, self.changes = port, routes, threading.Event(), 0

    def run(self):
        conn = http.client.HTTPConnection("127.0.0.1", self.port)
        due = time.monotonic()
        while not self.done.is_set():
            number = 1 + self.changes * 7919 % (self.routes - 1)
            body = json.dumps({"paths": [f"/api/v2/svc{self.changes}"]})
            conn.request("PATCH", f"/routes/r{number}", body, {"Content-Type": "application/json"})
            answer = conn.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"PATCH answered {answer.status}")
            self.changes += 1
            due += CHANGE_EVERY_S
            time.sleep(max(0, due - time.monotonic()))


def traffic(port, rate):
    """What the generator measured: microseconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".routes") as f:
        f.write("h0.example.test /api/v1/svc0\n")
        f.flush()
        return json.loads(rig.sh([f"{rig.BIN}/gen", "-p", str(port), "-c", "64", "-r", str(rate), "-d",
                                  str(SECONDS), "-w", "1", "-f", f.name]))


def measure(gateway, routes, rate):
    quiet, busy, changes = [], [], 0
    for _ in range(ROUNDS):
        quiet.append(traffic(gateway.http, rate))
        changer = Changer(gateway.admin_port, routes)
        changer.start()
        busy.append(traffic(gateway.http, rate))
        changer.done.set()
        changer.join()
        changes += changer.changes
    print(f"  {'':10} {'p50 us':>10} {'p99 us':>10} {'errors':>8}")
    for name, results in (("quiet", quiet), ("changing", busy)):
        p50, p99 = (statistics.median(r[k] for r in results) for k in ("p50", "p99"))
        print(f"  {name:10} {p50:>10.0f} {p99:>10.0f} {sum(r['errs'] for r in results):>8}")
    ratio = statistics.median(r["p99"] for r in busy) / statistics.median(r["p99"] for r in quiet)
    print(f"  p99 while changing: {ratio:.2f} x quiet; {changes / ROUNDS / (SECONDS + 1):.0f} changes a second")


def main():
    routes = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    rate = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    rig.build()
    origin = rig.start_origin()
    try:
        with Postgres() as postgres, tempfile.TemporaryDirectory() as scratch:
            database = postgres.create_migrated()
            config = os.path.join(scratch, "kong.yml")
            write_config(config, routes)
            subprocess.run([program("silverback-dataplane"), "config", "db_import", config], check=True,
                           env=clean_env(**database.env()), stdout=subprocess.DEVNULL)
            with Gateway(database.env(), log_level="error") as gateway:
                gateway.wait_for("h0.example.test", "/api/v1/svc0", timeout=60)
                print(f"{routes} routes, {rate} requests a second")
                measure(gateway, routes, rate)
    finally:
        origin.kill()
        origin.wait()


if __name__ == "__main__":
    main()
