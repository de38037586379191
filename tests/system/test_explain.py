"""`kong explain`: which route takes a request and why the others do not, from a file and the database."""

import subprocess

import pytest

from programs import clean_env, program

CONFIG = """
_format_version: "3.0"
services:
- name: cart
  url: http://10.0.0.1:8080/v1
  routes:
  - {name: cart, paths: [/cart], hosts: [example.com]}
  - {name: cart-v2, paths: [/cart], hosts: [example.com], headers: {x-version: ["2"]}}
  - {name: pay, paths: [/cart/pay], hosts: [example.com], protocols: [https]}
- name: web
  url: http://web.internal
  routes:
  - {name: root, paths: [/]}
  - {name: numbers, paths: ["~/cart/[0-9]+$"]}
  - {name: inside, paths: [/in], hosts: ["*.example.com"]}
"""


def explain(*args, **env):
    done = subprocess.run([program("silverback-dataplane"), "explain", *args], capture_output=True,
                          text=True, timeout=30, check=False, env=clean_env(**env))
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "kong.yml"
    path.write_text(CONFIG)
    return str(path)


def verdicts(text):
    """{route: [verdict, reason]} of what was printed."""
    found, route = {}, None
    for line in text.splitlines():
        if line.startswith(" "):
            found[route].append(line.strip())
        else:
            word, route = line.split()[:2]
            found[route] = [word]
    return found


def test_the_winner_and_the_reason_of_every_other(config):
    code, out, _ = explain("--config", config, "GET", "https://example.com/x/../cart/12", "-H", "X-Version: 2")
    assert code == 0
    v = verdicts(out)
    assert v["cart-v2"] == ["wins", "to service cart at 10.0.0.1:8080, asked for /v1/12"]
    assert v["cart"] == ["below", "fits, but cart-v2 sets more kinds of attributes"]
    assert v["numbers"][0] == v["root"][0] == "below"
    assert v["pay"] == ["no", "paths: '/cart/12' does not begin so"]
    assert v["inside"] == ["no", "hosts: 'example.com' (port 443) is none of *.example.com"]
    assert list(v)[0] == "cart-v2" and len(v) == 6


def test_headers_decide(config):
    v = verdicts(explain("--config", config, "GET", "http://example.com/cart")[1])
    assert v["cart"][0] == "wins"
    assert v["cart-v2"] == ["no", "headers: the request has no x-version"]
    v = verdicts(explain("--config", config, "GET", "http://example.com/cart", "-H", "x-version: 3")[1])
    assert v["cart-v2"] == ["no", "headers: x-version has another value"]
    v = verdicts(explain("--config", config, "GET", "http://10.0.0.9/cart", "-H", "Host: example.com")[1])
    assert v["cart"][0] == "wins"


def test_https_only_is_said(config):
    v = verdicts(explain("--config", config, "GET", "http://example.com/cart/pay")[1])
    assert v["pay"] == ["wins", "answered with 426: the route is for https only"]


def test_flavors_are_the_settings(config):
    code, out, _ = explain("--config", config, "GET", "http://example.com/cart/7",
                           KONG_ROUTER_FLAVOR="traditional")
    assert code == 0 and verdicts(out)["cart"][0] == "wins"


def test_no_route_is_exit_code_1(tmp_path):
    config = tmp_path / "kong.yml"
    config.write_text('{_format_version: "3.0", routes: [{name: a, hosts: [a.test]}]}')
    code, out, _ = explain("--config", str(config), "GET", "http://b.test/")
    assert code == 1
    assert out.startswith("none   no Route matched with those values\nno     a\n")


def test_many_routes_fit_a_screen(tmp_path):
    config = tmp_path / "kong.yml"
    config.write_text('{_format_version: "3.0", routes: [%s]}' %
                      ", ".join("{name: r%d, paths: [/p%d]}" % (i, i) for i in range(100)))
    out = explain("--config", str(config), "GET", "http://b.test/p7")[1]
    assert out.count("\nno ") == 20
    assert "... and 79 more that do not fit (--all lists them)" in out
    assert explain("--config", str(config), "--all", "GET", "http://b.test/p7")[1].count("\nno ") == 99


def test_from_the_database(database, config):
    database.migrate("bootstrap")
    env = database.env()
    done = subprocess.run([program("silverback-dataplane"), "config", "db_import", config],
                          env=clean_env(**env), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code, out, err = explain("GET", "http://example.com/cart/7", **env)
    assert code == 0, err
    assert verdicts(out)["cart"] == ["wins", "to service cart at 10.0.0.1:8080, asked for /v1/7"]


@pytest.mark.parametrize("args, message", [
    (["GET"], "expected METHOD URL"),
    (["GET", "example.com/x"], "is no URL"),
    (["GET", "http://a:99999/"], "is no URL"),
    (["GET", "http://a/", "-H", "oops"], "-H wants 'NAME: VALUE'"),
    (["--config", "/nonexistent.yml", "GET", "http://a/"], "No such file"),
])
def test_mistakes_are_named(args, message):
    code, _, err = explain(*args, KONG_DATABASE="off")
    assert code == 1 and message in err


def test_nothing_to_ask():
    code, _, err = explain("GET", "http://a/", KONG_DATABASE="off")
    assert code == 1 and "give --config FILE" in err
