#!/usr/bin/env python3
"""gen-plugin-schemas.py - schema/plugins.json as C tables, to standard output.

    scripts/gen-plugin-schemas.py > schema/plugin_schemas.c

The JSON says what each bundled plugin's config is; this program only changes the notation. Equal tables
(queue, redis ...) are written once. Validators that are code in Kong are named in CUSTOM and TYPEDEFS and
live in schema/plugin_checks.c and schema/types.c."""
import json
import os
import re
import sys

TYPEDEFS = {
    "header_name": "sb_check_header_name", "host": "sb_check_host", "url": "sb_check_url",
    "path": "sb_check_path", "ip_or_cidr": "sb_check_ip_or_cidr", "redis_server_name": "sb_check_sni",
}
CUSTOM = {
    "rate-limiting.config": "sb_check_rate_limits",
    "response-ratelimiting.config.limits.values": "sb_check_rate_limit_periods",
    "request-termination.config": "sb_check_termination",
    "oauth2.config": "sb_check_oauth2_grants",
    "http-log.config": "sb_check_http_log",
    "cors.config.origins.elements": "sb_check_cors_origin",
    "acme.config.domains.elements": "sb_check_router_host",
    "request-transformer.config.remove.headers.elements": "sb_check_header_entry",
    "request-transformer.config.rename.headers.elements": "sb_check_header_rename",
    "response-transformer.config.rename.headers.elements": "sb_check_header_rename",
}
for verb in ("rename", "replace", "add", "append"):
    for part in ("body", "querystring"):
        CUSTOM["request-transformer.config.%s.%s.elements" % (verb, part)] = "sb_check_has_value"
    CUSTOM.setdefault("request-transformer.config.%s.headers.elements" % verb, "sb_check_header_entry")
for which in ("pre", "post"):
    for phase in ("certificate", "rewrite", "access", "header_filter", "body_filter", "log"):
        CUSTOM["%s-function.config.%s.elements" % (which, phase)] = "sb_check_%s_function" % which
# Entity checks that are code, by plugin: the function and the fields it looks at.
CHECKS = {"aws-lambda": ("sb_check_proxy_scheme", ["config.proxy_url"])}
TYPES = {"string": "STRING", "integer": "INTEGER", "number": "NUMBER", "boolean": "BOOLEAN",
         "array": "ARRAY", "set": "SET", "map": "MAP", "record": "RECORD", "json": "JSON"}
KINDS = {"at_least_one_of": "AT_LEAST_ONE_OF", "only_one_of": "ONLY_ONE_OF",
         "mutually_required": "MUTUALLY_REQUIRED"}

out, known = [], {}


def quote(s):
    return '"' + s.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def define(kind, body, sep=",\n    "):
    """One table; a second one of the same content is the first."""
    text = sep.join(body)
    name = known.get((kind, text))
    if not name:
        name = known[kind, text] = "%s_%d" % ({"const char *const": "s", "const struct sb_field": "f",
                                               "const struct sb_entity_check": "c",
                                               "const struct sb_shorthand": "h"}[kind], len(known))
        out.append("static %s %s[] = {\n    %s,\n};" % (kind, name, text))
    return name


def strings(items):
    words = [quote(i if isinstance(i, str) else json.dumps(i)) for i in items]
    return define("const char *const", words + ["NULL"], ", ")


def pcre(lua):
    """A Lua pattern as a regular expression. A '-' repeats what stands before it; where that is
    repeated already, it is a dash."""
    classes = {"w": "[A-Za-z0-9]", "u": "[A-Z]", "d": "[0-9]", "p": "[[:punct:]]", "a": "[A-Za-z]"}
    text, i, inside, item = "", 0, False, False
    while i < len(lua):
        c = lua[i]
        if c == "%":
            i += 1
            c = lua[i]
            text += classes.get(c, "\\" + c)
            item = True
        elif c == "-" and not inside:
            text += "*?" if item else "-"
            item = not item
        else:
            item = inside or c not in "*+?^["
            inside = c == "[" or (inside and c != "]")
            text += c
        i += 1
    return text


def number(n):
    return repr(n)


def field_parts(f, path):
    flags, parts = [], [".type = SB_T_" + TYPES[f["type"]]]
    for key, flag in (("required", "REQUIRED"), ("referenceable", "REFERENCEABLE"),
                      ("encrypted", "ENCRYPTED"), ("auto", "AUTO")):
        if f.get(key):
            flags.append("SB_F_" + flag)
    if f["type"] == "record" and f.get("required") is False:
        flags.append("SB_F_OPTIONAL")
    if flags:
        parts.append(".flags = " + " | ".join(flags))
    if "default" in f and f["default"] is not None:
        parts.append(".def = " + quote(json.dumps(f["default"], separators=(",", ":"))))
    for key in ("one_of", "not_one_of"):
        if key in f:
            parts.append(".%s = %s" % (key, strings(f[key])))
    if "between" in f:
        parts.append("SB_BETWEEN(%s, %s)" % tuple(map(number, f["between"])))
    if "gt" in f:
        parts.append(".has_gt = true, .gt = " + number(f["gt"]))
    for key in ("len_min", "len_max", "len_eq"):
        if key in f:
            parts.append(".has_%s = true, .%s = %d" % (key, key, f[key]))
    if "eq" in f:
        parts.append(".eq = " + quote(f["eq"] if isinstance(f["eq"], str) else json.dumps(f["eq"])))
    if "contains" in f:
        parts.append(".contains = " + quote(f["contains"]))
    parts += pattern_parts(f)
    check = CUSTOM.get(path) or TYPEDEFS.get(f.get("typedef")) or ("sb_check_regex" if f.get("is_regex") else None)
    if check and not any(p.startswith(".validate") for p in parts):
        parts.append(".validate = " + check)
    for key in ("elements", "keys", "values"):
        if key in f:
            parts.append(".%s = %s" % (key, define("const struct sb_field", [row(None, f[key], path + "." + key)])))
    if "fields" in f:
        parts.append(".fields = " + fields(f["fields"], path))
    if f.get("entity_checks"):
        table = checks(f["entity_checks"])
        if table:
            parts.append(".checks = " + table)
    if f.get("shorthand_fields"):
        parts.append(".shorthands = " + shorthands(f["shorthand_fields"], path))
    return parts


def pattern_parts(f):
    if "match" in f:
        return [".match = " + quote(pcre(f["match"]))] + ([".err = " + quote(f["err"])] if "err" in f else [])
    none = [p for p in f.get("match_none", []) if p["pattern"] != "//"]
    if len(none) == 1:
        return [".match = " + quote("^(?!%s)" % pcre(none[0]["pattern"]).lstrip("^")), ".err = " + quote(none[0]["err"])]
    if none:
        return [".validate = sb_check_log_header"]
    return []


def row(name, f, path):
    parts = ([".name = " + quote(name)] if name else []) + field_parts(f, path)
    return "{" + ", ".join(parts) + "}"


def fields(items, path):
    rows = [row(n, f, path + "." + n) for item in items for n, f in item.items()]
    return define("const struct sb_field", rows + ["{0}"])


def shorthands(items, path):
    rows = []
    for item in items:
        for n, f in item.items():
            to = f.get("maps_to")
            plain = {k: v for k, v in f.items() if k not in ("deprecation", "func", "maps_to", "maps_values")}
            field = define("const struct sb_field", [row(None, plain, path + "." + n)])
            echoed = bool((f.get("deprecation") or {}).get("replaced_with"))
            more = "" if f.get("deprecation") else ", .wins = true"
            for old, new in f.get("maps_values", {}).items():
                more += f", .old = {quote(old)}, .new = {quote(new)}"
            rows.append("{%s, %s, %s, %s%s}" % (quote(n), "NULL" if to in (None, "(ignored)") else quote(to),
                                                field, "true" if echoed else "false", more))
    return define("const struct sb_shorthand", rows + ["{0}"])


def match(m):
    return define("const struct sb_field", [row(None, dict(m, type="json"), "")])


def said(text, names):
    return text.replace("%s", ", ".join("'%s'" % n for n in names))


def checks(items, custom=None):
    rows = []
    for item in items:
        kind, c = next(iter(item.items()))
        if kind in KINDS:
            rows.append("{.kind = SB_C_%s, .fields = %s}" % (KINDS[kind], strings(c)))
        elif kind == "conditional":
            rows.append("{.kind = SB_C_CONDITIONAL, .if_field = %s, .if_match = %s, .then_field = %s, .then_match = %s%s}"
                        % (quote(c["if_field"]), match(c["if_match"]), quote(c["then_field"]), match(c["then_match"]),
                           ", .err = " + quote(c["then_err"]) if "then_err" in c else ""))
        elif kind == "conditional_at_least_one_of":
            then = c["then_at_least_one_of"]
            rows.append("{.kind = SB_C_CONDITIONAL_AT_LEAST_ONE_OF, .if_field = %s, .if_match = %s, .fields = %s%s}"
                        % (quote(c["if_field"]), match(c["if_match"]), strings(then),
                           ", .err = " + quote(said(c["then_err"], then)) if "then_err" in c else ""))
        elif custom and kind == "custom_entity_check":
            rows.append("{.kind = SB_C_CUSTOM, .fields = %s, .custom = %s}" % (strings(custom[1]), custom[0]))
    return define("const struct sb_entity_check", rows + ["{0}"]) if rows else None


def plugin(p):
    rows = ['{.name = "%s", .type = SB_T_FOREIGN, .reference = "%ss", .flags = SB_F_CASCADE, .eq = "null"}' % (s, s)
            for s in ("route", "service", "consumer") if not p["foreign_scopes"][s]]
    protocols = p["protocols"]
    element = define("const struct sb_field", [row(None, {"type": "string", "one_of": protocols["allowed"]}, "")])
    rows.append('{.name = "protocols", .type = SB_T_SET, .flags = SB_F_REQUIRED, .elements = %s, .def = %s}'
                % (element, quote(json.dumps(protocols["default"], separators=(",", ":")))))
    rows.append(row("config", dict(p["config"], required=True), p["name"] + ".config"))
    table = define("const struct sb_field", rows + ["{0}"])
    name = "plugin_" + re.sub(r"\W", "_", p["name"])
    out.append("static const struct sb_subschema %s = {%s, %s, %s};"
               % (name, quote(p["name"]), table, checks(p["entity_checks"], CHECKS.get(p["name"])) or "NULL"))
    return name


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(os.path.join(root, "schema", "plugins.json")) as f:
        data = json.load(f)
    names = [plugin(p) for p in sorted(data["plugins"], key=lambda p: p["name"])]
    out.append("const struct sb_subschema *const sb_plugin_schema_table[] = {\n    %s,\n    NULL,\n};"
               % ",\n    ".join("&" + n for n in names))
    print("/* Generated by scripts/gen-plugin-schemas.py from schema/plugins.json: change those. */\n"
          "/* clang-format off */\n"
          '#include "schema/plugin_schemas.h"\n\n#include "schema/plugin_checks.h"\n#include "schema/types.h"\n')
    print("\n".join(out))


if __name__ == "__main__":
    sys.exit(main())
