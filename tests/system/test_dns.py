"""Names of services and targets, asked of a real name server: SRV records, TTLs, stale answers."""

import collections

import pytest

from dns_server import AAAA, A, SRV, Dns
from gateway import Gateway, Upstream
from postgres import wait_until


@pytest.fixture
def dns():
    with Dns() as server:
        yield server


def config(host, port=80, targets=None, **upstream):
    upstreams = [{"name": host, "targets": targets, **upstream}] if targets else []
    return {"services": [{"name": "s", "host": host, "port": port, "retries": 0,
                          "routes": [{"name": "r", "paths": ["/"]}]}], "upstreams": upstreams}


def tally(gateway, n):
    return collections.Counter(gateway.proxy("/").text for _ in range(n))


def test_service_host_with_srv_records(dns):
    """Lowest priority only, by weight, with the records' ports; Host has the port, too."""
    dns.srv("svc.test", (1, 30, 1, "x"))     # replaced below, once ports are known
    with Upstream("a") as a, Upstream("b") as b, Upstream("c") as c:
        dns.a("here.test", "127.0.0.1")
        dns.srv("svc.test", (1, 3, a.port, "here.test"), (1, 1, b.port, "here.test"),
                (2, 9, c.port, "here.test"))
        with Gateway(config=config("svc.test"), nginx_worker_processes=1, **dns.settings) as g:
            assert tally(g, 8) == {"a": 6, "b": 2}
            assert g.proxy("/").headers["X-Seen"].split()[2] in \
                (f"svc.test:{a.port}", f"svc.test:{b.port}")
    assert dns.questions["svc.test", A] == 0 and dns.questions["here.test", A] == 1


def test_targets_with_srv_records(dns):
    """Addresses have the records' ports and weights; Host is the target's name, or the record's."""
    with Upstream("a") as a, Upstream("b") as b:
        dns.a("pod-0.test", "127.0.0.1")
        dns.a("pod-1.test", "127.0.0.1")
        dns.srv("set.test", (0, 20, a.port, "pod-0.test"), (0, 0, b.port, "pod-1.test"))
        document = config("u.up", targets=[{"target": "set.test:1", "weight": 50}])
        with Gateway(config=document, nginx_worker_processes=1, **dns.settings) as g:
            assert tally(g, 21) == {"a": 20, "b": 1}
            assert g.proxy("/").headers["X-Seen"].split()[2].startswith("set.test:")
            row = g.admin("GET", "/upstreams/u.up/health").json()["data"][0]
            assert row["data"]["dns"] == "SRV" and row["data"]["nodeWeight"] == 50
            assert {(x["port"], x["weight"]) for x in row["data"]["addresses"]} == \
                {(a.port, 20), (b.port, 1)}
            document["upstreams"][0]["use_srv_name"] = True
            g.post_config(**document)
            wait_until(lambda: g.proxy("/").headers["X-Seen"].split()[2] == f"pod-0.test:{a.port}",
                       what="Host by the record's name")


def test_targets_follow_their_names(dns):
    """A name that gets other addresses, and none, and some again; equal answers build nothing."""
    with Upstream("a", "127.0.0.1") as a:
        dns.a("t.test", "127.0.0.9", ttl=1)
        document = config("u.up", targets=[{"target": f"t.test:{a.port}"}])
        with Gateway(config=document, dns_stale_ttl=0, dns_not_found_ttl=0.1, **dns.settings) as g:
            assert g.proxy("/").status_code == 502
            dns.a("t.test", "127.0.0.1", ttl=1)
            g.wait_for("localhost")
            dns.a("t.test")
            g.wait_for("localhost", status=503)
            rows = g.admin("GET", "/upstreams/u.up/health").json()["data"]
            assert rows[0]["health"] == "DNS_ERROR", rows
            dns.a("t.test", "127.0.0.1", ttl=1)
            g.wait_for("localhost")


def test_stale_answers_outlive_the_name_server(dns):
    with Upstream("a") as a:
        dns.a("t.test", "127.0.0.1", ttl=1)
        with Gateway(config=config("t.test", a.port), **dns.settings) as g:
            g.wait_for("localhost")
            asked = sum(dns.questions.values())
            dns.mute = True
            wait_until(lambda: g.answers("localhost") and sum(dns.questions.values()) > asked,
                       what="a question that nobody answers")
            assert g.answers("localhost")


def test_order_of_types_and_aliases(dns):
    """SRV first by default, and not again where A answered; CNAMEs are followed; AAAA at the end."""
    with Upstream("a") as a:
        dns.a("real.test", "127.0.0.1", ttl=1)
        dns.cname("alias.test", "real.test", ttl=1)
        with Gateway(config=config("alias.test", a.port), nginx_worker_processes=1,
                     **dns.settings) as g:
            g.wait_for("localhost")
            assert dns.questions["alias.test", SRV] == 1
            wait_until(lambda: g.answers("localhost") and dns.questions["alias.test", A] > 1,
                       what="another question")
            assert dns.questions["alias.test", SRV] == 1 and not dns.questions["alias.test", AAAA]


def test_unknown_names(dns):
    """A name that does not exist, a server that fails, and one that a moment later is there."""
    with Upstream("a") as a:
        with Gateway(config=config("no.test", a.port), dns_not_found_ttl=0.1, **dns.settings) as g:
            answer = g.proxy("/")
            assert (answer.status_code, answer.json()["message"]) == (503, "name resolution failed")
            dns.a("no.test", "127.0.0.1")
            g.wait_for("localhost")


def test_the_newer_client(dns):
    """new_dns_client: SRV for _service._proto names only."""
    with Upstream("a") as a:
        dns.a("t.test", "127.0.0.1")
        dns.srv("_http._tcp.t.test", (0, 1, a.port, "t.test"))
        document = config("t.test", a.port)
        document["services"].append({"name": "v", "host": "_http._tcp.t.test", "port": 1,
                                     "routes": [{"name": "v", "paths": ["/v"]}]})
        with Gateway(config=document, new_dns_client="on", resolver_hosts_file="/dev/null",
                     resolver_address=f"127.0.0.1:{dns.port}") as g:
            g.wait_for("localhost")
            g.wait_for("localhost", "/v")
        assert dns.questions["t.test", SRV] == 0 and dns.questions["_http._tcp.t.test", A] == 0


def test_the_hosts_file(dns, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 listed.test other.test # comment\n")
    with Upstream("a") as a:
        dns.srv("svc.test", (0, 1, a.port, "other.test"))
        settings = {**dns.settings, "dns_hostsfile": str(hosts)}
        document = config("listed.test", a.port)
        document["services"].append({"name": "v", "host": "svc.test", "port": 1,
                                     "routes": [{"name": "v", "paths": ["/v"]}]})
        with Gateway(config=document, **settings) as g:
            assert g.answers("localhost") and g.answers("localhost", "/v")
    assert not dns.questions["listed.test", A] and not dns.questions["other.test", A]
