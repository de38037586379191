"""Where the programs under test are: build/bin, or $BUILD/bin (a sanitizer build)."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")


def program(name):
    """The path of a program, as a string; says how to get it when it is not there."""
    path = BUILD / "bin" / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `make`")
    return str(path)


def clean_env(**more):
    """The environment without the settings of whoever runs the tests, plus what is given."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("KONG_", "CONTROLLER_", "PG"))}
    env.update({k: str(v) for k, v in more.items()})
    return env
