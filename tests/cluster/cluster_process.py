"""Child processes that never outlive the tests, and waiting for conditions instead of time.

A test run may end by an assertion, by Ctrl-C or by SIGKILL. Only the kernel sees all three, so
every child asks it for SIGKILL at its parent's death (PR_SET_PDEATHSIG, through setpriv(1)). The
"parent" in that contract is the thread that forked, not the process: a server started from a
short-lived helper thread would die with the thread. Hence one thread that lives as long as Python
does forks them all.
"""
import concurrent.futures
import os
import random
import signal
import socket
import subprocess
import time

_forker = concurrent.futures.ThreadPoolExecutor(1, "forker")


def spawn(argv, **popen_args):
    """subprocess.Popen, with a child that dies with us; callable from any thread."""
    argv = ["setpriv", "--pdeathsig", "KILL", *map(str, argv)]
    return _forker.submit(subprocess.Popen, argv, **popen_args).result()


def wait_for(condition, timeout=10, what=None, interval=0.03):
    """Polls until condition() is true and returns its value; TimeoutError names what was missed.

    An AssertionError inside the condition counts as "not yet", so that plain asserts can be
    polled too; the last one is shown when time is up.
    """
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
        except AssertionError as e:
            last = e
        if time.monotonic() > deadline:
            what = what or getattr(condition, "__name__", "condition")
            raise TimeoutError(f"no {what} within {timeout} s" + (f": {last}" if last else ""))
        time.sleep(interval)


def free_ports(n):
    """n free TCP ports of 127.0.0.1 from below the range that outgoing connections use.

    A server that is killed and started again needs its port back: one from the ephemeral range
    could by then belong to somebody's client connection.
    """
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        first_ephemeral = int(f.read().split()[0])
    low, high = (10000, first_ephemeral) if first_ephemeral > 12000 else (61001, 65536)
    ports = []
    for port in random.sample(range(low, high), min(2000, high - low)):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == n:
            return ports
    raise RuntimeError(f"no {n} free ports in {low}..{high - 1}")


class Process:
    """A server with a log file that a test may kill, freeze and start again."""

    def __init__(self, name, argv, log, env=None):
        self.name = name
        self.argv = list(argv)
        self.log = log
        self.env = env
        self._child = None

    @property
    def pid(self):
        return self._child.pid

    def is_running(self):
        return self._child is not None and self._child.poll() is None

    def start(self, extra_args=()):
        """The log is appended to, so that it tells the story over restarts."""
        assert not self.is_running(), f"{self.name} is running already"
        env = None if self.env is None else {**os.environ, **self.env}
        with open(self.log, "ab") as log:
            self._child = spawn([*self.argv, *extra_args], env=env, stdin=subprocess.DEVNULL,
                                stdout=log, stderr=subprocess.STDOUT)

    def signal(self, number):
        self._child.send_signal(number)

    def kill(self):
        """SIGKILL, and back only when the process is gone and its ports are free."""
        if self.is_running():
            self._child.kill()
            self._child.wait()

    def pause(self):
        """Freezes it: connections stay open and get no answer, as with a hung machine."""
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def wait_until(self, condition, timeout, what):
        """wait_for(), but a server that exits meanwhile is reported at once, with its log."""
        def alive_and_true():
            if not self.is_running():
                raise RuntimeError(f"{self.name} exited while waited for {what}:\n{self.tail()}")
            return condition()

        try:
            return wait_for(alive_and_true, timeout, f"{what} of {self.name}")
        except TimeoutError as e:
            raise TimeoutError(f"{e}\n{self.tail()}") from None

    def tail(self, lines=15):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-lines:])
