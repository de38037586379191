#!/usr/bin/env python3
"""bench.py [cpu] [syscalls] [propagation] - what `make bench` prints; all three when none is named.

cpu          CPU per proxied request beside nginx, HAProxy and the floors, in one interleaved run
syscalls     system calls per proxied request, counted by strace
propagation  from a Kubernetes watch event to the first answered request, at 10, 1,000, 10,000 Ingresses

Figures are ratios against a peer of the same run, or counts; nothing here passes or fails.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
BIN = pathlib.Path(os.environ.get("BIN_SB", TOP / "build" / "bin"))
RIG = HERE / "rig" / "rig.py"
CONTESTANTS = ["floor-pair", "floor-http", "nginx", "haproxy", "silverback"]


def versions():
    """Who took part."""
    for argv in (["nginx", "-v"], ["haproxy", "-v"], [BIN / "silverback-dataplane", "version"]):
        done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
        print("  " + (done.stdout + done.stderr).strip().splitlines()[0])


def rig(cases, contestants, rounds):
    env = dict(os.environ, BIN_SB=str(BIN))
    with tempfile.TemporaryDirectory() as scratch:
        results = f"{scratch}/results.jsonl"
        subprocess.run([sys.executable, RIG, "-r", str(rounds), "-o", results, "-c", cases,
                        *contestants], env=env, check=True)
        subprocess.run([sys.executable, RIG, "--report", results], env=env, check=True)


def bench_cpu(o):
    print("CPU per request (cpu_us; ratios are to nginx)")
    versions()
    rig(o.cases, o.contestants.split(","), o.rounds)


def bench_syscalls(o):
    """One worker under strace while a fixed number of keep-alive requests goes through."""
    print(f"system calls per proxied request ({o.requests} requests, 16 keep-alive connections)")
    with tempfile.TemporaryDirectory() as scratch:
        count_syscalls(pathlib.Path(scratch), o.requests)


def count_syscalls(scratch, requests):
    from gateway_for_bench import Origin, start_gateway  # noqa: PLC0415: needs the built programs
    with Origin() as origin, start_gateway(scratch, origin.port) as gateway:
        before = gateway.answered()
        trace = subprocess.Popen(["strace", "-f", "-c", "-o", scratch / "trace", "-p", str(gateway.pid)],
                                 stderr=subprocess.PIPE, text=True)
        trace.stderr.readline()     # "Process N attached"
        gateway.load(requests)
        trace.send_signal(2)
        trace.wait()
        served = gateway.answered() - before
    text = (scratch / "trace").read_text()
    total = int(re.findall(r"(\d+)\s+\d*\s*total", text)[-1])
    print("\n".join(text.splitlines()[:10]))
    print(f"  {total} calls / {served} requests = {total / served:.2f} a request (goal: at most 4.5)")


def bench_propagation(o):
    subprocess.run([sys.executable, HERE / "propagation.py", *map(str, o.ingresses.split(","))], check=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("part", nargs="*", choices=["cpu", "syscalls", "propagation", []], default=[])
    p.add_argument("--cases", default="plain", help="cases of the rig (plain,tls,routes10k,body64k ...)")
    p.add_argument("--contestants", default=",".join(CONTESTANTS))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--requests", type=int, default=20000)
    p.add_argument("--ingresses", default="10,1000,10000")
    o = p.parse_args()
    parts = o.part or ["cpu", "syscalls", "propagation"]
    for name in parts:
        globals()["bench_" + name](o)
        print()


if __name__ == "__main__":
    main()
