#!/usr/bin/env python3
"""lint.py FOLDER... - what our C must not hold.

- functions that have hurt everyone (BANNED), with what to use instead;
- malloc and friends outside shared/: memory has a lifetime, lifetimes have arenas;
- functions longer than the ceiling, which is only ever lowered;
- generated tables that are older than what they are made of.
"""
import pathlib
import re
import subprocess
import sys

BANNED = {
    "strcpy": "sb_arena_str or memcpy", "strcat": "struct sb_buf", "sprintf": "snprintf",
    "vsprintf": "vsnprintf", "strncpy": "memcpy", "gets": "read", "strtok": "sb_str_split",
    "atoi": "sb_str_int", "atol": "sb_str_int", "gmtime": "gmtime_r", "localtime": "localtime_r",
    "ctime": "strftime", "alloca": "an arena", "rand": "sb_random",
}
HEAP = {"malloc", "calloc", "realloc", "strdup", "asprintf"}
FUNCTION_LINES_MAX = 120

CALL = re.compile(r"(?<![\w.>])(\w+)\s*\(")
COMMENT = re.compile(r"/\*.*?\*/|'(?:\\.|[^'\\])'|\"(?:\\.|[^\"\\])*\"", re.S)


def blank(match):
    """Comments and strings, with their newlines kept so that line numbers stay."""
    return "\n" * match.group().count("\n")


def calls(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        for name in CALL.findall(line):
            if name in BANNED:
                yield f"{path}:{number}: {name}() is banned: use {BANNED[name]}"
            elif name in HEAP and path.parts[0] != "shared":
                yield f"{path}:{number}: {name}() outside shared/: use an arena, or sb_xmalloc"


def long_functions(path, text):
    start = None
    for number, line in enumerate(text.split("\n"), 1):
        if line == "{":
            start = number
        elif line.startswith("}"):
            if line == "}" and start and number - start > FUNCTION_LINES_MAX:
                yield f"{path}:{start}: a function of {number - start} lines (at most {FUNCTION_LINES_MAX})"
            start = None


def faults(folders):
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*.[ch]")):
            text = COMMENT.sub(blank, path.read_text())
            yield from calls(path, text)
            yield from long_functions(path, text)


def stale():
    """schema/plugin_schemas.c must be what its generator prints now."""
    made = subprocess.run([sys.executable, "scripts/gen-plugin-schemas.py"], capture_output=True, text=True,
                          check=True).stdout
    if made != pathlib.Path("schema/plugin_schemas.c").read_text():
        yield ("schema/plugin_schemas.c:1: stale: run "
               "scripts/gen-plugin-schemas.py > schema/plugin_schemas.c")


found = [*faults(sys.argv[1:]), *stale()]
print("\n".join(found) if found else "lint: clean")
sys.exit(bool(found))
