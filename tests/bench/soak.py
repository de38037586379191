"""soak.py REQUESTS [none|dbless|postgres] - proxied requests of all kinds, and nothing left behind.

    make soak SANITIZE=address,undefined N=1000000          leaks, overruns
    make soak SANITIZE=thread N=100000 CHANGES=dbless       races, while POST /config goes on
    make soak SANITIZE=thread N=100000 CHANGES=postgres     the same by the Admin API and a database

Clients ask pipelined, with bodies of both framings, over TLS, for what is not there and what is
broken, and some leave in the middle of anything. In the end the gateway stops gracefully, and must
have nothing to say about memory or races. Each kind's answers are counted and checked.
"""

import collections
import contextlib
import multiprocessing
import os
import pathlib
import random
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))

from gateway import Gateway  # noqa: E402
from postgres import Postgres, free_port  # noqa: E402

CLIENTS, BATCH, TIMEOUT = 6, 50, 60
HEAD = "{} HTTP/1.1\r\nHost: a.test\r\n{}\r\n"


def request(line, *headers, body=""):
    return (HEAD.format(line, "".join(h + "\r\n" for h in headers)) + body).encode()


def connect(port):
    s = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def secure(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connect(port), server_hostname="a.test")


def everything(s):
    data = b""
    while more := s.recv(65536):
        data += more
    return data


def statuses(data):
    """What is counted: each status and how often."""
    return collections.Counter(p[:3].decode("latin-1") for p in data.split(b"HTTP/1.1 ")[1:])


def batch(s, text, n):
    """n requests in one go, each answered without a body."""
    s.sendall(text * n)
    data = b""
    while data.count(b"\r\n\r\n") < n:
        more = s.recv(65536)
        if not more:
            break
        data += more
    return statuses(data)


def pipelined(http, https):
    with connect(http) as s:
        return sum((batch(s, request("GET /0"), BATCH) for _ in range(8)), collections.Counter())


def over_tls(http, https):
    with secure(https) as s:
        return batch(s, request("GET /0"), BATCH)


def bodies(http, https):
    size = random.choice([1, 100, 5000, 70_000])
    length = request("POST /0", f"Content-Length: {size}", body="x" * size)
    chunked = request("POST /0", "Transfer-Encoding: chunked", body=f"{size:x}\r\n{'x' * size}\r\n0\r\nX-T: 1\r\n\r\n")
    streamed = request("PUT /stream/0", f"Content-Length: {size}", body="x" * size)
    with connect(http) as s:
        return batch(s, length, 4) + batch(s, chunked, 4) + batch(s, streamed, 2)


def asked_once(http, https):
    """Answers with bodies, and of HTTP/1.0."""
    found = collections.Counter()
    for line, more in (("GET /64k", "Connection: close"), ("GET /x", "Connection: close"), ("HEAD /x", "Connection: close")):
        with connect(http) as s:
            s.sendall(request(line, more))
            found += statuses(everything(s)[:9999])
    with connect(http) as s:
        s.sendall(b"GET /64k HTTP/1.0\r\n\r\n")
        return found + statuses(everything(s)[:9999])


def errors(http, https):
    found = collections.Counter()
    for text in (request("GET /dead"), request("GET /none", "Host: b"), request("GET /%zz"), b"\x16\x03\x01\r\n\r\n",
                 request("POST /0", "Transfer-Encoding: chunked", body="zz\r\n"), request("TRACE /0")):
        with connect(http) as s:
            s.sendall(text)
            s.shutdown(socket.SHUT_WR)
            found += statuses(everything(s))
    return found


def leave(s):
    """Without a word: the other side gets a reset."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def aborted(http, https):
    cuts = (b"GET /0 HT", request("GET /64k"), request("GET /1m") * 3, request("GET /0") * 30,
            request("POST /0", "Content-Length: 100000", body="x" * 20_000),
            request("PUT /stream/0", "Content-Length: 100000", body="x" * 20_000),
            request("POST /0", "Transfer-Encoding: chunked", body="5000\r\n" + "x" * 3000))
    for text in cuts:
        with connect(http) as s:
            s.sendall(text)
            if random.random() < 0.5:
                s.recv(random.choice([1, 1000, 60_000])) if text.startswith(b"GET /") and b"\r\n\r\n" in text else None
            if random.random() < 0.5:
                leave(s)
    with contextlib.suppress(OSError), secure(https) as s:
        s.sendall(request("GET /1m"))
        leave(s)
    return collections.Counter(aborted=len(cuts) + 1)


KINDS = [pipelined] * 6 + [over_tls, bodies, asked_once, errors, aborted]


def client(http, https, done, wanted, results):
    random.seed(os.getpid())
    found = collections.Counter()
    try:
        while done.value < wanted:
            got = random.choice(KINDS)(http, https)
            found += got
            with done.get_lock():
                done.value += sum(got.values())
    except Exception as e:      # whatever it is, it is what the run was for
        found[f"broken: {e!r}"] += 1
    results.put(found)


def start_origin(folder):
    """The rig's, which costs little."""
    program, port, echo = f"{folder}/origin", free_port(), free_port()
    subprocess.run(["cc", "-O2", "-o", program, ROOT / "tests/bench/rig/src/origin.c"], check=True)
    return subprocess.Popen([program, str(port), str(echo)]), port


def entities(port, generation=0):
    """What is served; with each generation some of it is new, changed or gone."""
    def service(name, path, **more):
        return {"name": name, "host": "127.0.0.1", "port": port, "retries": 0, **more,
                "routes": [{"name": name, "paths": [path], "hosts": ["a.test"], "strip_path": path == "/stream",
                            **more.pop("route", {})}]}

    services = [service("all", "/"), service("dead", "/dead", port=1)]
    services.append({**service("stream", "/stream"), "read_timeout": 60_000 + generation})
    services[-1]["routes"][0]["request_buffering"] = False
    services += [service(f"s{i}", f"/changing/{generation}/{i}") for i in range(generation % 20)]
    services[0]["routes"].append({"name": "old", "paths": ["/"], "hosts": ["kong"]})
    return {"services": services}


def change_declared(gateway, port, stop, changes):
    while not stop.is_set():
        changes[0] += 1
        gateway.post_config(**entities(port, changes[0]))


def change_stored(gateway, port, stop, changes):
    while not stop.is_set():
        n = changes[0] = changes[0] + 1
        a = gateway.admin("PUT", f"/services/c{n % 20}", json={"host": "127.0.0.1", "port": port})
        b = gateway.admin("PUT", f"/services/c{n % 20}/routes/c{n % 20}", json={"paths": [f"/changing/{n}"]})
        assert a.status_code == b.status_code == 200, (a.text, b.text)
        if n % 3 == 0:
            gateway.admin("DELETE", f"/routes/c{n % 20}")


def fill(gateway, port):
    """The same entities by the Admin API."""
    for s in entities(port)["services"]:
        routes = s.pop("routes")
        assert gateway.admin("PUT", f"/services/{s['name']}", json=s).status_code == 200
        for r in routes:
            made = gateway.admin("PUT", f"/services/{s['name']}/routes/{r['name']}", json=r)
            assert made.status_code == 200, made.text
    gateway.wait_for("a.test", "/0")


def soak(gateway, wanted, change, port):
    """Runs the clients, beside them the changes; what came of it."""
    done, results = multiprocessing.Value("q", 0), multiprocessing.Queue()
    stop, changes = threading.Event(), [0]
    changer = threading.Thread(target=change, args=(gateway, port, stop, changes)) if change else None
    clients = [multiprocessing.Process(target=client, args=(gateway.http, gateway.https, done, wanted, results))
               for _ in range(CLIENTS)]
    began = time.monotonic()
    for c in clients:
        c.start()
    if changer:
        changer.start()
    found = sum((results.get() for _ in clients), collections.Counter())
    stop.set()
    for c in [*clients, *([changer] if changer else [])]:
        c.join()
    print(f"{done.value} requests in {time.monotonic() - began:.0f} s, {changes[0]} changes of configuration: "
          + ", ".join(f"{n} x {what}" for what, n in sorted(found.items())))
    return found


def main():
    wanted, mode = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "none"
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        origin, port = start_origin(folder)
        stack.callback(origin.wait)
        stack.callback(origin.kill)
        settings = {"log_level": "error", "proxy_access_log": "logs/access.log"}
        if mode == "postgres":
            database = stack.enter_context(Postgres()).create_migrated()
            gateway = Gateway(env=database.env(), **settings)
        else:
            gateway = Gateway(config=entities(port), **settings)
        stack.enter_context(gateway)
        if mode == "postgres":
            fill(gateway, port)
        change = {"dbless": change_declared, "postgres": change_stored}.get(mode)
        found = soak(gateway, wanted, change, port)
        code = gateway.stop(signal.SIGQUIT, timeout=120)
        said = gateway.said()
        assert code == 0, f"exit code {code}\n{said[-6000:]}"
        assert "Sanitizer" not in said and "runtime error" not in said, said[-9000:]
        wrong = [what for what in found if what.startswith("broken") or what in ("500", "503", "504")]
        assert not wrong and found["200"] > wanted / 2, found
    print("nothing leaked, nothing raced, every answer was one of those that it may be")


if __name__ == "__main__":
    main()
