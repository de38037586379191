"""Recorded answers of Kong 3.9.1, asked of our gateway: kong-cases/README.md has the format.

kcase.py runs the cases of each group against a real gateway (and, for files of mode postgres, a real
database) and compares. What differs is in one of two lists, and nothing else may differ:

    kcase-pending.txt      not built yet: FILE:CASE  # what is missing
    kcase-deviations.txt   on purpose:    FILE:CASE  # why

A listed case that passes is a failure too, so the lists only shrink. FILE:* stands for all cases of a
file, and then at least one of them must differ. KCASE_ONLY=words runs the cases that contain them.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading

import pytest
import yaml

HERE = pathlib.Path(__file__).resolve().parent
CASES = HERE / "kong-cases"
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "system"))

from postgres import PASSWORD, USER, Postgres  # noqa: E402
from programs import clean_env, program  # noqa: E402

# Run side by side, each with its own gateway, ports and database: about equal in time.
LANES = [["admin"], ["declarative", "router", "schemas"], ["proxy"], ["auth", "plugins"]]


def files():
    """The case files of all lanes: "admin/services"."""
    return sorted(f"{p.parent.name}/{p.stem}" for lane in LANES for folder in lane
                  for p in (CASES / folder).glob("*.yaml"))


def cases(file):
    """The names of a file's cases: "admin/services:create"."""
    doc = yaml.load((CASES / f"{file}.yaml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return [f"{file}:{case['name']}" for case in doc["cases"]]


def listed(name):
    """The entries of a list, without their reasons; each must have one."""
    entries = set()
    for number, line in enumerate((HERE / name).read_text().splitlines(), 1):
        case, separator, reason = line.partition("  # ")
        if not line.strip() or line.startswith("#"):
            continue
        if not separator or not reason.strip():
            raise ValueError(f"{name}:{number}: an entry without a reason")
        entries.add(case.strip())
    return entries


class Lane(threading.Thread):
    """One run of kcase.py."""

    def __init__(self, folders, base, database, work):
        super().__init__()
        self.folders, self.base, self.database = folders, base, database
        self.json, self.output = work / f"{folders[0]}.json", ""
        self.prefix = work

    def run(self):
        start = "KONG_NGINX_DAEMON=off exec " + program("silverback-dataplane") + " start"
        pg = self.database.postgres
        env = clean_env(
            KCASE_PG=f"host={pg.host} port={pg.port} user={USER} password={PASSWORD} "
                     f"database={self.database.name}",
            TMPDIR=self.prefix)
        only = ["--only", os.environ["KCASE_ONLY"]] if os.environ.get("KCASE_ONLY") else []
        done = subprocess.run(
            [sys.executable, CASES / "kcase.py", "check", "--gateway", start, "--base",
             str(self.base), "--json", self.json, "-v", *only, *self.folders],
            cwd=CASES, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.output = done.stdout


def is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def bases(n):
    """n first ports below the ephemeral ones, all that kcase takes behind each free. kcase writes
    {{name}} for a port wherever it stands in an answer, so no id may have one in it."""
    text = "".join(p.read_text() for lane in LANES for folder in lane
                   for p in (CASES / folder).glob("*.yaml"))
    numbers = set(re.findall(r"(?=(\d{5}))", text))
    found = []
    for base in range(12000 + os.getpid() % 20 * 500, 32000, 500):
        taken = [base + offset for offset in (*range(5), *range(50, 60), *range(100, 200), 443)]
        if all(str(port) not in numbers and is_free(port) for port in taken):
            found.append(base)
        if len(found) == n:
            return found
    raise RuntimeError("no free ports")


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """What came of every case: {name: [differences]}, none when it passed."""
    work = tmp_path_factory.mktemp("kcase")
    with Postgres() as postgres:
        databases = [postgres.create_migrated() for _ in LANES]
        lanes = [Lane(*each, work) for each in zip(LANES, bases(len(LANES)), databases)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    found = {}
    for lane in lanes:
        assert lane.json.exists(), f"kcase did not end:\n{lane.output[-3000:]}"
        found.update({r["case"]: r["why"] for r in json.loads(lane.json.read_text())})
    return found


@pytest.fixture(scope="session")
def tally(results, request):
    """Counts, printed once at the end."""
    counts = dict(passed=0, pending=0, deviations=0, failed=0)
    yield counts
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\nkcase: " + ", ".join(f"{n} {what}" for what, n in counts.items()))


@pytest.mark.parametrize("file", files())
def test_kong_cases(file, results, tally):
    pending, deviations = listed("kcase-pending.txt"), listed("kcase-deviations.txt")
    wrong, stale, differ = [], [], 0
    for case in cases(file):
        why = results.get(case)
        if why is None:
            assert os.environ.get("KCASE_ONLY"), f"{case} was not run"
            continue
        expected = case in pending or case in deviations
        whole = f"{file}:*" in pending
        differ += bool(why)
        tally["passed"] += not why
        tally["deviations"] += bool(why) and case in deviations
        tally["pending"] += bool(why) and case not in deviations and (expected or whole)
        if why and not expected and not whole:
            tally["failed"] += 1
            wrong.append(f"{case}\n  " + "\n  ".join(why))
        elif expected and not why:
            stale.append(case)
    if f"{file}:*" in pending and not differ and not os.environ.get("KCASE_ONLY"):
        stale.append(f"{file}:*")
    assert not wrong, "not as recorded:\n" + "\n".join(wrong)
    assert not stale, "these pass now, take them off the list:\n" + "\n".join(stale)


def test_the_lists_name_cases():
    known = {case for file in files() for case in cases(file)} | {f"{f}:*" for f in files()}
    for name in ("kcase-pending.txt", "kcase-deviations.txt"):
        assert not listed(name) - known, f"{name} names what is no case"
