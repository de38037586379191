"""GET /schemas against what Kong shows: names, types, defaults, what is required, choices and limits,
all the way down. Its prose (descriptions) and its Lua patterns are not ours."""

import pathlib

import pytest
import yaml

from gateway import Gateway

CASES = pathlib.Path(__file__).resolve().parents[1] / "conformance/kong-cases/schemas"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What decK and forms go by.
SAME = ("type", "default", "reference", "one_of", "between", "gt", "len_eq", "auto", "uuid",
        "unique", "abstract", "encrypted", "referenceable")

# Free-form members of a workspace, a member of what only control planes have, and a choice that Kong
# leaves out without a database.
KNOWN = {
    "/schemas/workspaces": {".config.abstract", ".config.default", ".meta.abstract",
                            ".meta.default"},
    "/schemas/clustering_data_planes": {".cert_details.required"},
    "/schemas/plugins/response-ratelimiting": {".config.policy.one_of"},
}


def recorded():
    for file in ("entities", "plugins"):
        for case in yaml.load((CASES / f"{file}.yaml").read_text(), LOADER)["cases"]:
            step = case["steps"][0]
            if case["name"].startswith("schema of") and step["expect"]["status"] == 200:
                yield step["admin"]["path"], step["expect"]["json"]


def same(where, field):
    """What is to be equal of a field, everything below it included."""
    if not isinstance(field, dict):
        return {}
    flat = {f"{where}.{key}": field[key] for key in SAME if key in field and field[key] is not None}
    if field.get("required"):
        flat[f"{where}.required"] = True
    for part in ("elements", "keys", "values"):
        flat.update(same(f"{where}.{part}", field.get(part)))
    flat.update(all_fields(where, field.get("fields", [])))
    return flat


def all_fields(where, fields):
    flat = {}
    for one in fields:
        for name, field in one.items():
            if isinstance(field, dict):    # a time stamp is masked in the recording
                flat.update(same(f"{where}.{name}", field))
    return flat


@pytest.fixture(scope="module")
def gateway():
    with Gateway() as g:
        yield g


@pytest.mark.parametrize("path, schema", recorded(), ids=lambda v: v if isinstance(v, str) else "")
def test_schema(gateway, path, schema):
    answer = gateway.admin("GET", path)
    assert answer.status_code == 200, answer.text
    want, got = all_fields("", schema["fields"]), all_fields("", answer.json()["fields"])
    differ = {k: (want.get(k), got.get(k)) for k in want.keys() | got.keys()
              if want.get(k) != got.get(k) and ".created_at." not in k and ".updated_at." not in k}
    assert differ.keys() == KNOWN.get(path, set()), differ
