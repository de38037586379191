"""Translation compared with recorded answers of Kong's ingress controller (see README.md).

A case is a folder: in.yaml, and for each set of settings what came out and what failed. `pending.txt`
names cases that need what is not built yet, `deviations.txt` those that we answer better, each with its
reason; a line of either that is not needed any more is a failure.
"""
import fnmatch
import os
import pathlib
import subprocess

import pytest
import yaml

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = pathlib.Path(os.environ.get("BUILD", "build")).resolve() / "bin/silverback-controlplane"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Case:
    """One input under one set of settings."""

    def __init__(self, folder, settings):
        self.folder, self.settings = folder, settings
        self.id = f"{folder.parent.name}/{folder.name}/{settings}"

    def answers(self, what):
        """Any of them is right."""
        paths = [self.folder / f"{self.settings}_{what}.yaml"]
        paths += sorted(self.folder.glob(f"{self.settings}_{what}.[0-9].yaml"))
        return [path.read_text() for path in paths if path.exists()]

    def run(self, tmp_path):
        failures = tmp_path / "failures.yaml"
        command = [PROGRAM, "translate", "--manifests", self.folder / "in.yaml",
                   "--failures", failures]
        settings = self.folder / f"{self.settings}_settings.yaml"
        if settings.exists():
            command += ["--settings", settings]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout, parse(failures.read_text())


def parse(text):
    return yaml.load(text, Loader=LOADER)


def without_empty_lists(value):
    """A missing list equals an empty one, save in what a plugin's author wrote."""
    if isinstance(value, list):
        return [without_empty_lists(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: item if key == "config" else without_empty_lists(item)
            for key, item in value.items() if key == "config" or item != []}


def multiset(failures):
    return sorted((f["object"], f["message"]) for f in failures or [])


def fault(case, tmp_path):
    """What is wrong with our answer, or None."""
    output, failures = case.run(tmp_path)
    expected = case.answers("golden")
    if output not in expected:
        ours = without_empty_lists(parse(output))
        if not any(ours == without_empty_lists(parse(text)) for text in expected):
            return "configuration differs", output, expected[0]
    wanted = [multiset(parse(text)) for text in case.answers("failures")] or [[]]
    # Only our own recordings say what failed.
    if case.folder.parent.name == "golden-cases" and multiset(failures) not in wanted:
        return "failures differ", yaml.safe_dump(multiset(failures)), yaml.safe_dump(wanted[0])
    return None


def cases():
    for group in ("golden", "golden-cases"):
        for folder in sorted((HERE / group).iterdir()):
            for path in sorted(folder.glob("*_golden.yaml")):
                yield Case(folder, path.name.removesuffix("_golden.yaml"))


def lines(name):
    """Of a file of `glob reason` lines."""
    for line in (HERE / name).read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            yield tuple(line.split(None, 1))


CASES = list(cases())
PENDING = list(lines("golden-pending.txt"))
DEVIATIONS = list(lines("deviations.txt"))


def reason(case, table):
    return next((why for glob, why in table if fnmatch.fnmatch(case.id, glob)), None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case, tmp_path):
    pending, deviation = reason(case, PENDING), reason(case, DEVIATIONS)
    wrong = fault(case, tmp_path)
    if pending or deviation:
        assert wrong, f"passes, so its line can go: {pending or deviation}"
        pytest.skip(pending or deviation)
    if wrong:
        what, ours, theirs = wrong
        assert ours == theirs, what


@pytest.mark.parametrize("glob", [glob for glob, _ in PENDING + DEVIATIONS])
def test_line_names_a_case(glob):
    assert any(fnmatch.fnmatch(case.id, glob) for case in CASES)
