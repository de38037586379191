"""TLS towards upstreams: what is verified, who we say we are, and who shares connections."""

import contextlib
import socket
import ssl
import threading

import pytest

from gateway import Gateway
from pki import Pki
from postgres import wait_until
from wire import ok, read_request


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def ca(pki):
    return pki.ca("upstreams")


class Connection:
    def __init__(self, number, sni, client, reused, version):
        self.number, self.sni, self.client, self.reused = number, sni, client, reused
        self.version, self.requests = version, 0


class TlsOrigin:
    """Keeps what it saw of each connection; answers with the connection's number."""

    def __init__(self, pair, clients=None, version=None, keep=True):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.cert_path, pair.key_path)
        self.context.sni_callback = self.note_sni
        if version:
            self.context.minimum_version = self.context.maximum_version = version
        if clients:
            self.context.verify_mode = ssl.CERT_OPTIONAL
            self.context.load_verify_locations(clients)
        self.keep, self.snis, self.connections = keep, {}, []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def note_sni(self, s, name, _):
        self.snis[s] = name

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.listener.close()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                s, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, plain):
        with contextlib.suppress(OSError, ValueError), plain:
            with self.context.wrap_socket(plain, server_side=True) as s, s.makefile("rb") as f:
                cert = s.getpeercert() or {}
                client = [v for rdn in cert.get("subject", ()) for k, v in rdn if k == "commonName"]
                c = Connection(len(self.connections), self.snis.get(s), (client or [None])[0],
                               s.session_reused, s.version())
                self.connections.append(c)
                while read_request(f) is not None:
                    c.requests += 1
                    s.sendall(ok(str(c.number).encode()))
                    if not self.keep:
                        return


def ids(n):
    return f"00000000-0000-4000-8000-{n:012d}"


def services(port, **kinds):
    """A service and a route /NAME for each."""
    return [{"name": name, "protocol": "https", "host": "127.0.0.1", "port": port, "retries": 0, **more,
             "routes": [{"name": name, "paths": [f"/{name}"]}]} for name, more in kinds.items()]


def config(port, kinds, *cas, **more):
    return {"services": services(port, **kinds),
            "ca_certificates": [{"id": ids(i + 1), "cert": ca.cert} for i, ca in enumerate(cas)], **more}


# -- verification ---------------------------------------------------------------------------------

def test_verification(pki, ca):
    """Chains, depths, names and addresses; the CA set is the service's own."""
    other = pki.ca("not-theirs")
    middle = pki.ca("middle", ca)
    address = pki.cert("by-address", ca, names=["127.0.0.1"])
    name = pki.cert("by-name", ca, names=["localhost"])
    common_name = pki.cert("127.0.0.1", ca)
    chained = pki.cert("chained", middle, names=["localhost"])
    chained.cert_path.write_text(chained.cert + middle.cert)
    on = {"tls_verify": True, "ca_certificates": [ids(1)]}
    named = {**on, "host": "localhost"}
    cases = [
        # certificate, service, status
        (address, on, 200),
        (address, {**on, "ca_certificates": [ids(2)]}, 502),
        (address, {**on, "ca_certificates": [ids(2), ids(1)]}, 200),
        (address, {"tls_verify": True}, 502),
        (address, {"tls_verify": False}, 200),
        (address, {}, 200),
        (address, named, 502),              # a name that it is not for
        (name, on, 502),                    # an address that it is not for
        (name, named, 200),
        (common_name, on, 200),             # as nginx looks at it
        (chained, {**named, "tls_verify_depth": 0}, 502),
        (chained, {**named, "tls_verify_depth": 1}, 200),
        (chained, named, 200),
    ]
    origins, kinds = {}, {}
    with contextlib.ExitStack() as stack:
        for i, (pair, more, _) in enumerate(cases):
            if pair not in origins:
                origins[pair] = stack.enter_context(TlsOrigin(pair))
            kinds[f"s{i}"] = {**more, "port": origins[pair].port}
        g = stack.enter_context(Gateway(config=config(1, kinds, ca, other)))
        for i, (pair, more, status) in enumerate(cases):
            assert g.proxy(f"/s{i}").status_code == status, (pair.name, more)
        assert "the certificate is refused" in g.log()


def test_verification_by_setting(pki, ca):
    pair = pki.cert("by-setting", ca, names=["127.0.0.1"])
    other = pki.ca("another")
    kinds = {"unset": {}, "off": {"tls_verify": False}}
    with TlsOrigin(pair) as o:
        for trusted, unset in ((ca, 200), (other, 502)):
            with Gateway(config=config(o.port, kinds), nginx_proxy_proxy_ssl_verify="on",
                         nginx_proxy_proxy_ssl_trusted_certificate=trusted.cert_path,
                         lua_ssl_trusted_certificate=ca.cert_path) as g:
                assert g.proxy("/unset").status_code == unset
                assert g.proxy("/off").status_code == 200


def test_protocols_by_setting(pki, ca):
    with TlsOrigin(pki.cert("versions", ca)) as o, Gateway(
            config=config(o.port, {"s": {}}), nginx_proxy_proxy_ssl_protocols="TLSv1.2") as g:
        assert g.proxy("/s").status_code == 200
        assert o.connections[0].version == "TLSv1.2"


# -- who we are -----------------------------------------------------------------------------------

def test_client_certificates(pki, ca):
    """The service's, else the upstream's, else the global one; a replaced one is a new connection."""
    first, second, own = (pki.cert(n, ca) for n in ("first-client", "second-client", "own-client"))
    server = pki.cert("asks", ca)

    def entities(port, service):
        certificates = [{"id": ids(11), "cert": service.cert, "key": service.key},
                        {"id": ids(12), "cert": second.cert, "key": second.key}]
        upstreams = [{"name": "u", "client_certificate": {"id": ids(12)},
                      "targets": [{"target": f"127.0.0.1:{port}"}]}]
        kinds = {"service": {"client_certificate": {"id": ids(11)}},
                 "both": {"host": "u", "client_certificate": {"id": ids(11)}},
                 "upstream": {"host": "u"}, "neither": {}}
        return config(port, kinds, certificates=certificates, upstreams=upstreams)

    with TlsOrigin(server, clients=ca.cert_path) as o:
        def who(g, name):
            answer = g.proxy(f"/{name}")
            assert answer.status_code == 200
            return o.connections[int(answer.text)].client
        doc = entities(o.port, first)
        with Gateway(config=doc, client_ssl="on", client_ssl_cert=own.cert_path,
                     client_ssl_cert_key=own.key_path, nginx_worker_processes=1) as g:
            names = {"service": "first-client", "both": "first-client", "upstream": "second-client",
                     "neither": "own-client"}
            for _ in range(3):
                assert {name: who(g, name) for name in names} == names
            doc = entities(o.port, second)
            g.post_config(**doc)
            wait_until(lambda: who(g, "service") == "second-client", what="the new certificate")
        with Gateway(config=entities(o.port, first)) as g:
            assert who(g, "neither") is None


# -- who shares -----------------------------------------------------------------------------------

def test_no_connection_is_shared_between_settings(pki, ca):
    """Services that differ in one TLS setting, all to one address: each has its own connections, and
    uses them again."""
    other = pki.ca("beside")
    clients = [pki.cert(f"sharing-{i}", ca) for i in range(2)]
    certificates = [{"id": ids(11 + i), "cert": p.cert, "key": p.key} for i, p in enumerate(clients)]
    on = {"tls_verify": True, "ca_certificates": [ids(1)]}
    kinds = {
        "unset": {}, "off": {"tls_verify": False},    # the same thing said twice: may share
        "on": on, "two": {**on, "ca_certificates": [ids(1), ids(2)]},
        "depth": {**on, "tls_verify_depth": 5},
        "a": {"client_certificate": {"id": ids(11)}}, "b": {"client_certificate": {"id": ids(12)}},
        "named": {"host": "localhost"}, "named-on": {**on, "host": "localhost"},
    }
    may_share = {"unset", "off"}
    pair = pki.cert("shared", ca, names=["127.0.0.1", "localhost"])
    with TlsOrigin(pair, clients=ca.cert_path) as o, Gateway(
            config=config(o.port, kinds, ca, other, certificates=certificates),
            nginx_worker_processes=1) as g:
        used = {}
        for _ in range(3):
            for name in kinds:
                answer = g.proxy(f"/{name}")
                assert answer.status_code == 200, name
                used.setdefault(int(answer.text), set()).add(name)
        for names in used.values():
            assert len(names) == 1 or names <= may_share, used
        assert len(used) == len(kinds) - 1
        # preserve_host: the client's Host is the name
        kept = [{"name": "p", "paths": ["/p"], "preserve_host": True, "service": "unset"}]
        g.post_config(**config(o.port, kinds, ca, other, certificates=certificates, routes=kept))
        g.wait_for("a.test", "/p")
        by_host = {host: int(g.proxy("/p", host).text) for host in ("a.test", "b.test")}
        assert {h: o.connections[n].sni for h, n in by_host.items()} == {h: h for h in by_host}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_but_not_across_settings(pki, ca, version):
    kinds = {"plain": {}, "verified": {"tls_verify": True, "ca_certificates": [ids(1)]}}
    pair = pki.cert("resumed", ca, names=["127.0.0.1"])
    for reuse in ("on", "off"):
        with TlsOrigin(pair, version=version, keep=False) as o, Gateway(
                config=config(o.port, kinds, ca), nginx_worker_processes=1,
                nginx_proxy_proxy_ssl_session_reuse=reuse) as g:
            seen = {}
            for _ in range(4):
                for name in kinds:
                    answer = g.proxy(f"/{name}")
                    assert answer.status_code == 200
                    seen.setdefault(name, []).append(o.connections[int(answer.text)].reused)
            expected = [False] + [reuse == "on"] * 3
            assert seen == {name: expected for name in kinds}
