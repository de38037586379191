#!/usr/bin/env python3
"""Proxy bench rig: CPU time per proxied request, latency, memory, reloads.

  rig.py [-r ROUNDS] [-o results.jsonl] -c CASE[,CASE] CONTESTANT[:VARIANT] ...
  rig.py --pairs ROUNDS [-o results.jsonl] -c CASE[,CASE] CONTESTANT[:VARIANT] ...
  rig.py --report results.jsonl [--base nginx]

A contestant is contestants/NAME.sh (see contestants/silverback.sh.example).
Cases: plain conns tls tlshs tlsfull h2m1 h2m32 body64k body1m routes10 routes1k
routes10k fresh10 fresh1k fresh10k fresh100k miss10k latfix lat50 idle1k idle10k reload ws tcp push1k push10k prop
The proxy runs on CPU 0; the origin and the generator on CPU 1.  Rounds are
interleaved: every contestant once, then every contestant again.  With --pairs
all contestants stay up side by side and get two seconds of load each, in turn, the
order reversed every other round: what the machine does meanwhile meets all alike.
"""
import argparse, fcntl, json, os, random, re, shutil, signal, socket, statistics, subprocess, sys, time, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TMP = os.environ.get("RIG_TMP", "/tmp/perf-rig")
BIN = os.path.join(TMP, "bin")
UP, ECHO = 27000, 27001
PORTS = dict(PORT="28100", TLS_PORT="28143", TCP_PORT="28144", ADMIN_PORT="28145")
SECS, WARM_S = 3.0, 0.7    # a measurement, what comes before it
PCPU, GCPU = os.environ.get("PROXY_CPU", "0"), os.environ.get("GEN_CPU", "1")

def sh(cmd, **k):
    return subprocess.run(cmd, shell=isinstance(cmd, str), check=True, text=True, capture_output=True, **k).stdout

def build():
    os.makedirs(BIN, exist_ok=True)
    for n, libs in (("origin", []), ("gen", []), ("floor", [])):
        src, out = f"{HERE}/src/{n}.c", f"{BIN}/{n}"
        if not os.path.exists(out) or os.path.getmtime(out) < os.path.getmtime(src):
            try:
                sh(["cc", "-O2", "-include", "stddef.h", "-o", out, src, *libs])
            except subprocess.CalledProcessError as e:
                if not libs: raise RuntimeError(e.stderr)
                print(f"{n} not built: {e.stderr[-200:]}", file=sys.stderr)
    crt, key = f"{TMP}/crt.pem", f"{TMP}/key.pem"
    if not os.path.exists(crt):
        sh(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost "
           f"-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {key} -out {crt}")
    with open(f"{TMP}/nohost", "w") as f:
        f.write("nobody.example.test /x\n")
    for n in (10, 1000, 10000, 100000):
        p = f"{TMP}/routes{n}"
        if not os.path.exists(p):
            with open(p, "w") as f:    # N/10 hosts with 10 path prefixes each
                for i in range(n):
                    f.write(f"h{i // 10}.example.test /api/v1/svc{i % 10}\n")

def wait_port(port, t=60):
    end = time.time() + t
    while time.time() < end:
        try:
            socket.create_connection(("127.0.0.1", int(port)), 0.5).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"port {port} never opened")

def session_pids(sid):
    out = []
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()
                if int(f[3]) == sid:
                    out.append(int(p))
            except OSError:
                pass
    return out

def pid_ns(pid):
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0

class Proxy:
    def __init__(self, spec, routes=""):
        self.name, _, self.variant = spec.partition(":")
        self.spec, self.script = spec, f"{HERE}/contestants/{self.name}.sh"
        self.dir = f"{TMP}/run/{spec.replace(':', '-')}"
        self.env = dict(os.environ, DIR=self.dir, UPSTREAM=str(UP), ECHO=str(ECHO), ROUTES=routes, VARIANT=self.variant or "plain",
                        CERT=f"{TMP}/crt.pem", KEY=f"{TMP}/key.pem", BIN_DIR=BIN, **PORTS)
        self.caps = sh([self.script, "caps"], env=self.env).split()
    def __enter__(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        t0 = time.time()
        self.log = open(f"{self.dir}/out", "w")
        self.p = subprocess.Popen(["taskset", "-c", PCPU, self.script, "start"], env=self.env, start_new_session=True,
                                  stdout=self.log, stderr=subprocess.STDOUT)
        try:
            wait_port(PORTS["PORT"])
        except RuntimeError:
            self.__exit__()
            raise RuntimeError(open(f"{self.dir}/out").read()[-2000:])
        self.start_s = time.time() - t0
        self.dead_ns, self.seen = 0, {}
        end = time.time() + 30   # answers 200?
        while time.time() < end:
            try:
                h = {"apikey": "k0"}
                if self.env["ROUTES"]:
                    host, path = open(self.env["ROUTES"]).readlines()[-1].split()
                    h["Host"] = host
                else:
                    path = "/"
                urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{PORTS['PORT']}{path}", headers=h), timeout=5).read()
                self.ready_s = time.time() - t0
                break
            except Exception as e:
                err = e
                time.sleep(0.02)
        else:
            self.__exit__()
            raise RuntimeError(f"{self.spec}: no 200: {err}")
        return self
    def __exit__(self, *a):
        for sig in (signal.SIGTERM, signal.SIGKILL):
            pids = session_pids(self.p.pid)
            for p in pids:
                try: os.kill(p, sig)
                except OSError: pass
            end = time.time() + 2
            while session_pids(self.p.pid) and time.time() < end:
                self.p.poll()
                time.sleep(0.02)
        self.p.wait()
        self.log.close()
        time.sleep(0.1)
    def cpu(self):
        for p in session_pids(self.p.pid):
            self.seen[p] = max(self.seen.get(p, 0), pid_ns(p))
        return sum(self.seen.values())
    def ticks(self):
        """user and system seconds of the processes alive now (10 ms steps)"""
        u = s = 0
        for p in session_pids(self.p.pid):
            try: f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()
            except OSError: continue
            u += int(f[11]); s += int(f[12])
        return u / 100, s / 100
    def mem_kb(self):
        """PSS of all processes; falls back to RSS."""
        t = 0
        for p in session_pids(self.p.pid):
            try:
                t += int(re.search(r"^Pss:\s+(\d+)", open(f"/proc/{p}/smaps_rollup").read(), re.M).group(1))
            except (OSError, AttributeError):
                pass
        return t
    def worker_rss_kb(self):
        m = 0
        for p in session_pids(self.p.pid):
            try: m = max(m, int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{p}/status").read()).group(1)))
            except (OSError, AttributeError): pass
        return m

KEYH = ["-H", "apikey: k0"]

def gen(*a, port="PORT"):
    return json.loads(sh(["taskset", "-c", GCPU, f"{BIN}/gen", "-p", PORTS[port], *map(str, a), *KEYH]))

def per_req(px, *a, secs=None):
    secs = secs or SECS
    gen(*a, "-w", 0, "-d", WARM_S)
    c0, (u0, s0) = px.cpu(), px.ticks()
    r = gen(*a, "-w", 0, "-d", secs)
    c1, (u1, s1) = px.cpu(), px.ticks()
    r["user_us"] = (u1 - u0) * 1e6 / max(r["requests"], 1)
    r["sys_us"] = (s1 - s0) * 1e6 / max(r["requests"], 1)
    r["cpu_us"] = (c1 - c0) / 1e3 / max(r["requests"], 1)
    r["cpu_us_mb"] = (c1 - c0) / 1e3 / max(r["bytes"] / 1e6, 1e-9)
    r["util"] = (c1 - c0) / 1e9 / secs
    return r

def wrk(px, *a):
    def go(s):
        o = sh(["taskset", "-c", GCPU, "wrk", "-t1", f"-d{s}", "-H", "apikey: k0", *a])
        m = re.search(r"(\d+) requests in ([\d.]+)(\w+),", o)
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", o)
        return int(m.group(1)), float(m.group(2)), int(bad.group(1)) if bad else 0
    if WARM_S > 0.5: go(1)
    c0 = px.cpu()
    n, t, bad = go(int(SECS))
    c1 = px.cpu()
    return dict(requests=n, rps=n / t, non2xx=bad, cpu_us=(c1 - c0) / 1e3 / max(n, 1), util=(c1 - c0) / 1e9 / t)

def h2load(px, n, c, m, *a):
    def go(n):
        o = sh(["taskset", "-c", GCPU, "h2load", f"-n{n}", f"-c{c}", f"-m{m}", "-t1", "-H", "apikey: k0", *a, f"https://127.0.0.1:{PORTS['TLS_PORT']}/"])
        t = re.search(r"finished in ([\d.]+)(m?s|us|m)?, ([\d.]+) req/s", o)
        ok = int(re.search(r"status codes: (\d+) 2xx", o).group(1))
        return ok, float(t.group(3))
    go(n // 5)
    c0 = px.cpu()
    ok, rps = go(n)
    c1 = px.cpu()
    return dict(requests=ok, rps=rps, failed=n - ok, cpu_us=(c1 - c0) / 1e3 / max(ok, 1))

def hold(n):
    p = subprocess.Popen(["taskset", "-c", GCPU, f"{BIN}/gen", "-p", PORTS["PORT"], "-c", str(n), "-I", *KEYH],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _, ok, bad = p.stdout.readline().split()
    return p, int(ok), int(bad)

CASES = {}
def case(needs="http", routes=0):
    def d(f):
        CASES[f.__name__] = (f, needs, routes)
        return f
    return d

@case()
def plain(px): return per_req(px, "-c", 64)
@case()
def conns(px):       # one connection: no batching, the latency floor
    return per_req(px, "-c", 1)
@case()
def syscalls(px):    # counted by strace, which slows all of them alike; never mixed with times
    out = f"{px.dir}/strace"
    pids = [a for p in session_pids(px.p.pid) for a in ("-p", str(p))]
    trace = subprocess.Popen(["strace", "-f", "-c", "-o", out, *pids], stderr=subprocess.PIPE, text=True)
    trace.stderr.readline()                     # "Process N attached"
    r = gen("-c", 64, "-w", 0, "-d", 3)
    trace.send_signal(signal.SIGINT)
    trace.communicate()
    total = re.findall(r"(\d+)\s+(?:\d+\s+)?total", open(out).read())[-1]
    return dict(requests=r["requests"], syscalls=int(total) / max(r["requests"], 1))
@case()
def body64k(px): return per_req(px, "-c", 32, "-u", "/64k")
@case()
def body1m(px): return per_req(px, "-c", 8, "-u", "/1m")
@case(needs="routes", routes=10)
def routes10(px): return dict(per_req(px, "-c", 64, "-f", f"{TMP}/routes10"), start_s=px.start_s, ready_s=px.ready_s, rss_kb=px.worker_rss_kb(), pss_kb=px.mem_kb())
@case(needs="routes", routes=1000)
def routes1k(px): return dict(per_req(px, "-c", 64, "-f", f"{TMP}/routes1000"), start_s=px.start_s, ready_s=px.ready_s, rss_kb=px.worker_rss_kb(), pss_kb=px.mem_kb())
@case(needs="routes", routes=10000)
def routes10k(px): return dict(per_req(px, "-c", 64, "-f", f"{TMP}/routes10000"), start_s=px.start_s, ready_s=px.ready_s, rss_kb=px.worker_rss_kb(), pss_kb=px.mem_kb())
@case(needs="routes", routes=10)
def fresh10(px): return per_req(px, "-c", 64, "-f", f"{TMP}/routes10", "-R")
@case(needs="routes", routes=1000)
def fresh1k(px): return per_req(px, "-c", 64, "-f", f"{TMP}/routes1000", "-R")
@case(needs="routes", routes=10000)
def fresh10k(px): return per_req(px, "-c", 64, "-f", f"{TMP}/routes10000", "-R")
@case(needs="routes", routes=100000)
def fresh100k(px): return per_req(px, "-c", 64, "-f", f"{TMP}/routes100000", "-R")
@case(needs="routes", routes=10000)
def miss10k(px):     # a host nobody has: 404 after the whole search; no upstream
    return per_req(px, "-c", 64, "-f", f"{TMP}/nohost", "-R")
@case(needs="tls")
def tls(px): return wrk(px, "-c64", f"https://127.0.0.1:{PORTS['TLS_PORT']}/")
@case(needs="tls")
def tlshs(px): return wrk(px, "-c32", "-H", "Connection: close", f"https://127.0.0.1:{PORTS['TLS_PORT']}/")
@case(needs="tls")
def tlsfull(px):     # a new client each time, so that none resumes: 500 at a time, a request each
    def go():
        o = sh(["taskset", "-c", GCPU, "h2load", "--h1", "-n500", "-c500", "-t1", f"https://127.0.0.1:{PORTS['TLS_PORT']}/"])
        return int(re.search(r"status codes: (\d+) 2xx", o).group(1))
    go()
    c0, n = px.cpu(), 0
    for _ in range(6): n += go()
    return dict(requests=n, cpu_us=(px.cpu() - c0) / 1e3 / max(n, 1))
@case(needs="h2")
def h2m1(px): return h2load(px, 40000, 32, 1)
@case(needs="h2")
def h2m32(px): return h2load(px, 80000, 8, 32)
@case()
def latfix(px):      # the same rate for everybody
    return gen("-c", 128, "-r", os.environ.get("RATE", "5000"), "-d", 6, "-w", 1)
@case()
def lat50(px):       # half of its own CPU-bound rate
    r = per_req(px, "-c", 64, secs=2)
    rate = min(0.5e6 / r["cpu_us"], 0.5 * r["rps"] / max(r["util"], 1e-9), 0.6 * r["rps"] * 1.0)
    return dict(gen("-c", 128, "-r", int(rate), "-d", 6, "-w", 1), rate=int(rate))
def idle(px, n):
    m0, r0 = px.mem_kb(), px.worker_rss_kb()
    p, ok, bad = hold(n)
    time.sleep(1)
    m1, r1 = px.mem_kb(), px.worker_rss_kb()
    p.stdin.close(); p.wait()
    return dict(conns=ok, failed=bad, base_pss_kb=m0, pss_kb=m1, base_rss_kb=r0, rss_kb=r1, kb_per_conn=(m1 - m0) / max(ok, 1))
@case()
def idle1k(px): return idle(px, 1000)
@case()
def idle10k(px): return idle(px, 9500)   # fits a 20,000 descriptor limit with both sides counted
@case(needs="reload")
def reload(px):      # 3000 req/s for 8 s; reload at 2, 4 and 6 s
    rate = int(os.environ.get("RELOAD_RATE", "3000"))
    gen("-c", 64, "-d", 1, "-w", 0)
    base = gen("-c", 64, "-r", rate, "-d", 6, "-w", 1)
    p = subprocess.Popen(["taskset", "-c", GCPU, f"{BIN}/gen", "-p", PORTS["PORT"], "-c", "64", "-r", str(rate), "-d", "8", "-w", "0", *KEYH], stdout=subprocess.PIPE, text=True)
    for _ in range(3):
        time.sleep(2)
        subprocess.run([px.script, "reload"], env=px.env)
    r = json.loads(p.communicate()[0])
    return dict(r, base_p50=base["p50"], base_p99=base["p99"], base_p999=base["p999"], base_max=base["max"], base_errs=base["errs"])
@case(needs="ws")
def ws(px):
    c0 = px.cpu(); r = gen("-c", 8, "-E", 16384, "-W", "-d", 3, "-w", 0); c1 = px.cpu()
    return dict(r, cpu_us_mb=(c1 - c0) / 1e3 / max(r["bytes"] / 1e6, 1e-9))
@case(needs="tcp")
def tcp(px):
    c0 = px.cpu(); r = gen("-c", 8, "-E", 16384, "-d", 3, "-w", 0, port="TCP_PORT"); c1 = px.cpu()
    return dict(r, cpu_us_mb=(c1 - c0) / 1e3 / max(r["bytes"] / 1e6, 1e-9))

def push(px, n):
    """Whole-config push of n routes while 2,000 req/s run on an old route: how
    long until a route that the push added answers, and what the old one feels."""
    lines = open(f"{TMP}/routes{n}").read()
    p = subprocess.Popen(["taskset", "-c", GCPU, f"{BIN}/gen", "-p", PORTS["PORT"], "-c", "64", "-r", "2000", "-d", os.environ.get("PUSH_S", "12"), "-w", "1",
                          "-f", f"{TMP}/routes10", *KEYH], stdout=subprocess.PIPE, text=True)
    time.sleep(3)
    took, live, c0 = [], [], px.cpu()
    for i in range(2):
        host = f"new{i}-{time.time_ns()}.example.test"
        with open(f"{px.dir}/push", "w") as f:
            f.write(lines + f"{host} /api/v1/svc0\n")
        sh([px.script, "mkpush"], env=px.env)
        t0 = time.time()
        q = subprocess.Popen([px.script, "push"], env=px.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        back = None
        while time.time() - t0 < 60:
            if back is None and q.poll() is not None: back = time.time() - t0
            try:
                urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{PORTS['PORT']}/api/v1/svc0", headers={"Host": host}), timeout=60).read()
                live.append(time.time() - t0)
                break
            except Exception:
                time.sleep(0.005)
        q.wait()
        took.append(back if back is not None else time.time() - t0)
    cpu = (px.cpu() - c0) / 1e9
    r = json.loads(p.communicate()[0])
    return dict(r, push_s=max(took), live_s=max(live) if len(live) == 2 else -1, cpu_s=cpu, worker_rss=px.worker_rss_kb(), pss_kb=px.mem_kb())
@case(needs="push", routes=10)
def push1k(px): return push(px, 1000)
@case(needs="push", routes=10)
def push10k(px): return push(px, 10000)

def admin(method, path, body=None, port=None):
    q = urllib.request.Request(f"http://127.0.0.1:{port or PORTS['ADMIN_PORT']}{path}", method=method,
                               data=json.dumps(body).encode() if body is not None else None, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(q, timeout=30) as r:
        b = r.read()
        return json.loads(b) if b else None

@case(needs="db")
def prop2(px):
    """Admin API write on one node to first answer on another node of the same database."""
    old = dict(PORTS)
    PORTS.update({k: str(int(v) + 200) for k, v in old.items()})
    b = Proxy(px.spec)
    b.dir += "-b"; b.env["DIR"] = b.dir
    try:
        with b: return prop(px, int(PORTS["PORT"]), int(old["ADMIN_PORT"]))
    finally:
        PORTS.update(old)

@case(needs="db")
def prop(px, proxy_port=None, admin_port=None):
    """Admin API write to first answer on the proxy, on the same node (database mode)."""
    admin("PUT", "/services/s64", dict(url=f"http://127.0.0.1:{UP}/64k"), admin_port)
    out = []
    for i in range(int(os.environ.get("PROP_N", "8"))):
        host = f"p{i}-{time.time_ns()}.example.test"
        time.sleep(random.random() * 5)   # out of step with any poller
        admin("POST", "/services/s64/routes", dict(hosts=[host], paths=["/"]), admin_port)
        t0 = time.time()
        while time.time() - t0 < 30:
            try:
                q = urllib.request.Request(f"http://127.0.0.1:{proxy_port or PORTS['PORT']}/", headers={"Host": host})
                if len(urllib.request.urlopen(q, timeout=10).read()) == 65536: break   # the old catch-all answers 1 KiB
            except Exception:
                pass
            time.sleep(0.002)
        out.append(time.time() - t0)
    return prop_stats(out)
def prop_stats(out):
    out.sort()
    return dict(prop_med_s=out[len(out) // 2], prop_max_s=out[-1], prop_min_s=out[0])

def start_origin():
    p = subprocess.Popen(["taskset", "-c", GCPU, f"{BIN}/origin", str(UP), str(ECHO)])
    wait_port(UP)
    return p

def median_ratio(rows, peers, k):
    """Of the rounds in which both took part; the quarter points behind it where there are many."""
    peer = {r["round"]: r[k] for r in peers if k in r}
    q = sorted(r[k] / peer[r["round"]] for r in rows if k in r and peer.get(r["round"]))
    if not q: return ""
    return f"{statistics.median(q):.2f}" + (f" ({q[len(q) // 4]:.2f} to {q[-1 - len(q) // 4]:.2f})" if len(q) > 7 else "")

def report(path, base):
    rows = [json.loads(l) for l in open(path)]
    keys = ["cpu_us", "syscalls", "user_us", "sys_us", "cpu_us_mb", "rps", "MBps", "p50", "p99", "p999", "max", "errs", "non2xx", "rate", "kb_per_conn", "rss_kb", "pss_kb", "base_pss_kb",
            "start_s", "ready_s", "base_p99", "base_p999", "base_max", "base_errs", "push_s", "live_s", "cpu_s", "worker_rss", "prop_min_s", "prop_med_s", "prop_max_s", "util"]
    cases = list(dict.fromkeys(r["case"] for r in rows))
    for c in cases:
        rs = [r for r in rows if r["case"] == c]
        use = [k for k in keys if any(k in r for r in rs)]
        print(f"\n### {c}\n| contestant | n | " + " | ".join(use) + f" | CPU vs {base} |")
        print("|---" * (len(use) + 3) + "|")
        med = lambda s, k: statistics.median([r[k] for r in rs if r["spec"] == s and k in r])
        specs = list(dict.fromkeys(r["spec"] for r in rs))
        for s in specs:
            v = []
            for k in use:
                x = [r[k] for r in rs if r["spec"] == s and k in r]
                if not x: v.append(""); continue
                m = statistics.median(x)
                v.append(f"{m:.0f}" if abs(m) >= 100 else f"{m:.2f}" if k not in ("errs", "non2xx") else f"{m:.0f}")
            k = "cpu_us" if "cpu_us" in use and c not in ("body64k", "body1m") else "cpu_us_mb" if "cpu_us_mb" in use else None
            ratio = median_ratio([r for r in rs if r["spec"] == s], [r for r in rs if r["spec"] == base], k)
            print(f"| {s} | {len([1 for r in rs if r['spec'] == s])} | " + " | ".join(v) + f" | {ratio} |")

def keep(out, c, s, rnd, r):
    r = {k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()}
    out.write(json.dumps(dict(case=c, spec=s, round=rnd, load=round(os.getloadavg()[0], 2), **r)) + "\n"); out.flush()
    print(c, s, {k: r[k] for k in r if k in ("cpu_us", "cpu_us_mb", "rps", "util", "p50", "p99", "p999", "errs", "non2xx", "kb_per_conn", "rss_kb", "ready_s", "MBps")})

def pairs(out, c, specs, rounds):
    global SECS, WARM_S
    f, needs, nroutes = CASES[c]
    base, up, (SECS, WARM_S) = dict(PORTS), [], (1.0, 0.1)
    try:
        for i, s in enumerate(specs):
            PORTS.update({k: str(int(v) + 10 * i) for k, v in base.items()})
            px = Proxy(s, f"{TMP}/routes{nroutes}" if nroutes else "")
            if needs not in px.caps: continue
            px.ports = dict(PORTS)
            up.append(px.__enter__())
            f(px)
        for rnd in range(rounds):
            for px in up[::-1 if rnd % 2 else 1]:
                PORTS.update(px.ports)
                keep(out, c, px.spec, rnd, f(px))
    finally:
        for px in up: px.__exit__()
        PORTS.update(base)

def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("-r", type=int, default=3); ap.add_argument("-o", default=f"{TMP}/results.jsonl")
    ap.add_argument("-c", default="plain"); ap.add_argument("--report"); ap.add_argument("--base", default="nginx"); ap.add_argument("--pairs", type=int)
    ap.add_argument("spec", nargs="*")
    a = ap.parse_args()
    if a.report: return report(a.report, a.base)
    os.makedirs(TMP, exist_ok=True)
    alone = open(f"{TMP}/lock", "w")   # two runs would share ports and cores: one waits
    fcntl.flock(alone, fcntl.LOCK_EX)
    build()
    org = start_origin()
    try:
        with open(a.o, "a") as out:
            for c in a.c.split(","):
                if a.pairs:
                    pairs(out, c, a.spec, a.pairs)
                    continue
                f, needs, nroutes = CASES[c]
                for rnd in range(a.r):
                    for s in a.spec:
                        px = Proxy(s, f"{TMP}/routes{nroutes}" if nroutes else "")
                        if needs not in px.caps: continue
                        try:
                            with px: r = f(px)
                        except Exception as e:
                            print(c, s, "FAILED", str(e)[-300:], file=sys.stderr)
                            continue
                        keep(out, c, s, rnd, r)
    finally:
        org.kill(); org.wait()

if __name__ == "__main__":
    main()
