#!/usr/bin/env python3
"""bench.py [cpu] [syscalls] [propagation] [routes] [auth] [limits] - what `make bench` prints; the first three when none
is named.

cpu          CPU per proxied request beside nginx, HAProxy and the floors, in one interleaved run
syscalls     system calls per proxied request, counted by strace
propagation  from a Kubernetes watch event to the first answered request, at 10, 1,000, 10,000 Ingresses
routes       CPU per request on paths always new at 10 to 100,000 routes, an unknown host, memory with one
             worker and with four, build times of all routes and of one, latency while routes change
auth         CPU per request with key-auth, the key known, beside nginx without any
limits       CPU per request with rate-limiting in two windows, policy local, beside nginx without any

Figures are ratios against a peer of the same run, or counts; nothing here passes or fails.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

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


def rig(cases, contestants, rounds, pairs=False, **settings):
    env = dict(os.environ, BIN_SB=str(BIN), **settings)
    with tempfile.TemporaryDirectory() as scratch:
        results = f"{scratch}/results.jsonl"
        subprocess.run([sys.executable, RIG, "--pairs" if pairs else "-r", str(rounds), "-o", results,
                        "-c", cases, *contestants], env=env, check=True)
        subprocess.run([sys.executable, RIG, "--report", results], env=env, check=True)


def bench_cpu(o):
    print("CPU per request (cpu_us; ratios are to nginx)")
    versions()
    rig(o.cases, o.contestants.split(","), o.pairs or o.rounds, pairs=o.pairs > 0)


def bench_syscalls(o):
    print("system calls per proxied request (goal: at most 4.5)")
    rig("syscalls", ["floor-http", "nginx", "haproxy", "silverback"], 1)


def bench_propagation(o):
    subprocess.run([TOP / "tests/cluster/netns.sh", sys.executable, HERE / "propagation.py",
                    *o.ingresses.split(",")], check=True)


def bench_routes(o):
    print("CPU per request, paths always new, by routes (is it flat?)")
    rig("fresh10,fresh1k,fresh10k,fresh100k", ["silverback"], o.rounds)
    print("an unknown host among 10,000 routes")
    rig("miss10k", ["nginx", "silverback"], o.rounds)
    for workers in (1, 4):
        print(f"memory with {workers} worker(s)")
        rig("routes10,routes10k", ["silverback"], 1, W=str(workers))
    print("building: all routes, and one changed among them")
    subprocess.run([BIN.parent / "bench" / "build_routes"], check=True)
    print("latency while a route changes every 10 ms")
    subprocess.run([sys.executable, HERE / "churn.py"], check=True)


def bench_auth(o):
    print("CPU per request with key-auth (goal: at most 0.75 of bare nginx)")
    rig("plain", ["nginx", "silverback", "silverback:keyauth"], o.rounds)


def bench_limits(o):
    print("CPU per request with rate-limiting, policy local")
    rig("plain", ["nginx", "silverback", "silverback:ratelimit"], o.rounds)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("part", nargs="*", choices=["cpu", "syscalls", "propagation", "routes", "auth", "limits", []], default=[])
    p.add_argument("--cases", default="plain", help="cases of the rig (plain,tls,routes10k,body64k ...)")
    p.add_argument("--contestants", default=",".join(CONTESTANTS))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--pairs", type=int, default=0,
                   help="cpu: so many rounds of two seconds each, all contestants up side by side")
    p.add_argument("--ingresses", default="10,1000,10000")
    o = p.parse_args()
    parts = o.part or ["cpu", "syscalls", "propagation"]
    for name in parts:
        globals()["bench_" + name](o)
        print()


if __name__ == "__main__":
    main()
