#!/usr/bin/env python3
"""layers.py FOLDER... - fail on an #include that climbs.

The folders come in the order in which they may include each other (each may include those before
it); the planes never include one another. What lies in include/ is for everyone, and includes
nothing of the tree.
"""
import pathlib
import re
import sys

PLANES = {"controlplane", "dataplane"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def faults(folders):
    rank = {name: i for i, name in enumerate(folders)}
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*.[ch]")):
            for target in INCLUDE.findall(path.read_text()):
                to = target.split("/")[0]
                if to == "include":
                    continue
                if "/" not in target or to not in rank:
                    yield f'{path}: "{target}" is not a path from the top of the tree'
                elif rank[to] > rank[folder] or (to != folder and {to, folder} <= PLANES):
                    yield f'{path}: {folder} must not include "{target}"'


found = list(faults(sys.argv[1:]))
print("\n".join(found) if found else "layers: every include points down")
sys.exit(bool(found))
