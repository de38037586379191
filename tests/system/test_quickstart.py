"""`make run` as people use it: the lines that it prints work, an edit is live, Ctrl-C ends it all."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from postgres import free_port, wait_until
from programs import ROOT, clean_env

RUN = ROOT / "scripts" / "run.py"
EDIT_LIVE_S = 1.0


def ports():
    return [f"--{name}={free_port()}" for name in ("http", "https", "admin", "status")]


def processes(words):
    """Command lines, of any process, in which all of the words are."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(w in line for w in words):
            found.append(line)
    return found


def left_over():
    """What run.py started: the planes by their directories, PostgreSQL by its data."""
    return processes([str(ROOT / "build" / "run")]) + processes([str(ROOT), "bin/silverback-",
                                                                 "quickstart-copy"])


def curl(line):
    """Runs a printed line as a shell would; what it said."""
    done = subprocess.run(line.replace("curl ", "curl -sS --max-time 10 ", 1), shell=True,
                          env=clean_env(), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, line + "\n" + done.stderr
    return done.stdout


@pytest.fixture
def running(tmp_path):
    """run.py on a copy of the quickstart; the process and what it printed."""
    manifests = tmp_path / "quickstart-copy"
    shutil.copytree(ROOT / "examples" / "quickstart", manifests)
    output = tmp_path / "output"
    with open(output, "wb") as out:
        process = subprocess.Popen([sys.executable, RUN, manifests, *ports()], stdout=out, stderr=out,
                                   cwd=ROOT, env=clean_env(), start_new_session=True)

    def printed():
        assert process.poll() is None, output.read_text()
        return "Ctrl-C stops everything" in output.read_text()

    try:
        wait_until(printed, 90, "the lines to try")
        yield process, output, manifests
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def test_check():
    done = subprocess.run([sys.executable, RUN, "--check", *ports()], cwd=ROOT, env=clean_env(),
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not left_over()


def test_a_port_that_is_taken():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        done = subprocess.run([sys.executable, RUN, *ports(), f"--http={port}"], cwd=ROOT,
                              env=clean_env(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"port {port} is in use; choose others with --http" in done.stderr


def test_the_quickstart(running):
    process, output, manifests = running
    lines = re.findall(r"^  (curl .*)$", output.read_text(), re.M)
    answers = [curl(line) for line in lines]
    assert len(answers) == 5
    assert "hello from 127.0.0." in answers[0] and "host: hello.localhost" in answers[0]
    assert "GET /graphql" in answers[1]
    assert answers[2].startswith("HTTP/1.1 426")
    assert '"default.hello.hello.hello.localhost.80"' in answers[3]
    assert '"served"' in answers[4]

    path = manifests / "hello.yaml"
    hello = lines[0].replace("hello.localhost", "edited.localhost")
    assert "no Route matched" in curl(hello)
    path.write_text(path.read_text().replace("host: hello.localhost", "host: edited.localhost"))
    begin = time.monotonic()
    wait_until(lambda: "hello from" in curl(hello), 20, "the edited host")
    took = time.monotonic() - begin
    print(f"an edit was live after {took * 1000:.0f} ms (aim: below {EDIT_LIVE_S * 1000:.0f})")
    assert "no Route matched" in curl(lines[0])

    assert left_over()
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert "stopping" in output.read_text()
    assert not left_over()
