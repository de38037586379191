"""TLS towards clients: certificates, versions, sessions, stapling, clients' certificates, limits."""

import contextlib
import signal
import socket
import ssl
import subprocess
import time

import pytest

from gateway import Gateway, Upstream
from pki import Pki
from postgres import free_port, wait_until

SERVICES = {"services": [{"name": "s", "url": "http://127.0.0.1:1",
                          "routes": [{"name": "r", "paths": ["/"]}]}]}


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as u:
        yield u


def config(port, **more):
    return {"services": [{"name": "s", "url": f"http://127.0.0.1:{port}",
                          "routes": [{"name": "r", "paths": ["/"]}]}], **more}


def s_client(g, *args, send=b"", timeout=20):
    """What `openssl s_client` has to say about the TLS listener."""
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{g.https}", *args],
                          input=send, capture_output=True, timeout=timeout, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def context(version=None, ca=None, alpn=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    if ca:
        c.load_verify_locations(ca)
        c.verify_mode = ssl.CERT_REQUIRED
    if version:
        c.minimum_version = c.maximum_version = version
    if alpn:
        c.set_alpn_protocols(alpn)
    return c


@contextlib.contextmanager
def connect(g, c, sni=None, session=None, first=b""):
    with socket.create_connection(("127.0.0.1", g.https), 20) as s:
        s.sendall(first)
        with c.wrap_socket(s, server_hostname=sni, session=session) as tls:
            yield tls


def ask(tls, path="/", close=False):
    """The status of a request."""
    tls.sendall(f"GET {path} HTTP/1.1\r\nHost: a.test\r\n"
                f"{'Connection: close' + chr(13) + chr(10) if close else ''}\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        piece = tls.recv(65536)
        assert piece, f"closed after {got!r}"
        got += piece
    if close:
        while piece := tls.recv(65536):
            got += piece
    return int(got.split(b" ")[1]), got


# -- certificates and versions --------------------------------------------------------------------

def test_rsa_and_ecdsa_side_by_side(pki, upstream):
    """The default list and an entity's cert_alt: clients get what they can check."""
    default = [pki.cert(f"default-{kind}", kind=kind) for kind in ("rsa", "ec")]
    named = [pki.cert(f"named-{kind}", kind=kind, names=["a.test"]) for kind in ("rsa", "ec")]
    certificates = [{"cert": named[0].cert, "key": named[0].key, "cert_alt": named[1].cert,
                     "key_alt": named[1].key, "snis": [{"name": "a.test"}]}]
    with Gateway(config=config(upstream.port, certificates=certificates),
                 ssl_cert=",".join(str(p.cert_path) for p in default),
                 ssl_cert_key=",".join(str(p.key_path) for p in default)) as g:
        for algorithm, kind in (("rsa_pss_rsae_sha256", "rsa"), ("ecdsa_secp256r1_sha256", "ec")):
            assert f"CN = default-{kind}" in s_client(g, "-sigalgs", algorithm, "-noservername")
            assert f"CN = named-{kind}" in s_client(g, "-sigalgs", algorithm, "-servername", "a.test")


SUITES = [
    # settings, what connects, what does not
    ({"ssl_cipher_suite": "modern"}, ["-tls1_3"], ["-tls1_2"]),
    ({}, ["-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256"], ["-tls1_1 -cipher ALL:@SECLEVEL=0"]),
    ({}, ["-tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256"], ["-tls1_2 -cipher AES128-SHA"]),
    ({"ssl_cipher_suite": "old"}, ["-tls1 -cipher ALL:@SECLEVEL=0", "-tls1_3"], []),
    ({"ssl_cipher_suite": "fips"}, ["-tls1_2"], ["-tls1_3"]),
    ({"ssl_cipher_suite": "custom", "ssl_protocols": "TLSv1.2",
      "ssl_ciphers": "ECDHE-RSA-CHACHA20-POLY1305"},
     ["-tls1_2 -cipher ECDHE-RSA-CHACHA20-POLY1305"],
     ["-tls1_3", "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256"]),
]


@pytest.mark.parametrize("settings,good,bad", SUITES)
def test_suites(settings, good, bad):
    with Gateway(config=SERVICES, **settings) as g:
        for args in good:
            assert "Cipher is (NONE)" not in s_client(g, *args.split()), args
        for args in bad:
            assert "Cipher is (NONE)" in s_client(g, *args.split()), args


def test_the_dh_group_is_the_one_named():
    with Gateway(config=SERVICES, ssl_cipher_suite="custom", ssl_dhparam="ffdhe3072",
                 ssl_ciphers="DHE-RSA-AES128-GCM-SHA256") as g:
        assert "Server Temp Key: DH, 3072 bits" in s_client(g, "-tls1_2")


def test_the_servers_order_wins_where_it_should():
    ours = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"
    theirs = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
    for prefer, first in (("on", ours), ("off", theirs)):
        with Gateway(config=SERVICES, ssl_cipher_suite="custom", ssl_ciphers=ours,
                     ssl_protocols="TLSv1.2", ssl_prefer_server_ciphers=prefer) as g:
            said = s_client(g, "-tls1_2", "-cipher", theirs)
            assert f"Cipher is {first.split(':')[0]}" in said


WRONG = [
    ({"ssl_cipher_suite": "strong"}, "Undefined cipher suite strong"),
    ({"ssl_cipher_suite": "custom", "ssl_ciphers": "NONSENSE"}, "ssl_ciphers: no cipher can be used"),
    ({"ssl_cipher_suite": "custom", "ssl_protocols": "TLSv9"}, 'ssl_protocols: invalid value "TLSv9"'),
    ({"ssl_cipher_suite": "custom", "ssl_dhparam": "/nowhere"},
     "ssl_dhparam: failed loading certificate from /nowhere"),
    ({"nginx_proxy_ssl_verify_client": "on"}, "no ssl_client_certificate for ssl_verify_client"),
    ({"nginx_proxy_ssl_verify_client": "maybe"}, 'ssl_verify_client: invalid value "maybe"'),
    ({"nginx_proxy_ssl_ecdh_curve": "nonsense"}, "ssl_ecdh_curve: unknown curves in nonsense"),
    ({"nginx_proxy_ssl_conf_command": "Nonsense on"}, "ssl_conf_command: cannot be done"),
]


@pytest.mark.parametrize("settings,said", WRONG)
def test_wrong_settings_are_named(settings, said):
    g = Gateway(config=SERVICES, **settings)
    try:
        assert said in g.fails()
    finally:
        g.destroy()


def test_injected_directives():
    with Gateway(config=SERVICES, nginx_proxy_ssl_ecdh_curve="P-384",
                 nginx_http_ssl_conf_command="MaxProtocol TLSv1.2") as g:
        said = s_client(g)
        assert "Protocol  : TLSv1.2" in said and "ECDH, secp384r1" in said


def test_alpn(upstream):
    with Gateway(config=config(upstream.port)) as g:
        g.restart()
        for offer, chosen in ((["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"),
                              (["other"], None), (None, None)):
            with connect(g, context(alpn=offer)) as tls:
                assert tls.selected_alpn_protocol() == chosen
                assert ask(tls)[0] == 200
    g = Gateway(config=config(upstream.port))
    g.settings["proxy_listen"] = f"127.0.0.1:{g.http}, 127.0.0.1:{g.https} ssl http2"
    with g:
        for offer, chosen in ((["http/1.1"], "http/1.1"), (["http/1.1", "h2"], "h2")):
            with connect(g, context(alpn=offer)) as tls:
                assert tls.selected_alpn_protocol() == chosen


def test_renegotiation_is_refused(upstream):
    with Gateway(config=config(upstream.port)) as g:
        said = s_client(g, "-tls1_2", send=b"R\n")
        assert "RENEGOTIATING" in said and "no renegotiation" in said


def test_plain_http_on_the_tls_port(upstream):
    with Gateway(config=config(upstream.port)) as g:
        answer = g.proxy(port=g.https)
        assert answer.status_code == 400
        assert "The plain HTTP request was sent to HTTPS port" in answer.text


# -- sessions -------------------------------------------------------------------------------------

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def resumes(g, version, times=12):
    """How many of so many connections resume the first one's session."""
    c = context(version)
    with connect(g, c) as tls:
        ask(tls, close=True)
        session = tls.session
    count = 0
    for _ in range(times):
        with connect(g, c, session=session) as tls:
            ask(tls, close=True)
            count += tls.session_reused
    return count


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tickets", ["on", "off"])
def test_sessions_resume_on_every_worker(upstream, version, tickets):
    with Gateway(config=config(upstream.port), ssl_session_tickets=tickets,
                 nginx_worker_processes=4) as g:
        assert resumes(g, version) == 12


def test_who_resumes_gets_the_next_ticket(upstream):
    """Clients use a ticket of TLS 1.3 once: without a new one every second handshake is a full one."""
    c = context(ssl.TLSVersion.TLSv1_3)
    session, tickets = None, set()
    with Gateway(config=config(upstream.port), nginx_worker_processes=1) as g:
        for i in range(4):
            with connect(g, c, session=session) as tls:
                ask(tls, close=True)
                session = tls.session
                assert tls.session_reused == (i > 0)
                tickets.add(session.id)
    assert len(tickets) == 4


def session_of(g, c, session=None):
    """A session, and whether the one given was resumed."""
    with connect(g, c, session=session) as tls:
        ask(tls, close=True)
        return tls.session, tls.session_reused


def test_a_ticket_outlives_a_reload(upstream):
    c = context(ssl.TLSVersion.TLSv1_3)
    with Gateway(config=config(upstream.port)) as g:
        session, _ = session_of(g, c)
        before = g.serving_pid
        g.process.send_signal(signal.SIGHUP)
        wait_until(lambda: g.serving_pid != before and len(g.serving_pids()) == 1, what="the reload")
        assert session_of(g, c, session)[1]


@pytest.mark.parametrize("length, family", [(48, "http"), (80, "proxy")])
def test_a_given_ticket_key_serves_all_nodes(upstream, tmp_path, length, family):
    c = context(ssl.TLSVersion.TLSv1_3)
    (tmp_path / "key").write_bytes(bytes(range(length)))
    settings = {f"nginx_{family}_ssl_session_ticket_key": tmp_path / "key"}
    with Gateway(config=config(upstream.port), **settings) as one, \
            Gateway(config=config(upstream.port), **settings) as other:
        assert session_of(other, c, session_of(one, c)[0])[1]


def test_a_ticket_key_of_another_length(upstream, tmp_path):
    (tmp_path / "key").write_bytes(b"x" * 47)
    g = Gateway(config=config(upstream.port), nginx_http_ssl_session_ticket_key=tmp_path / "key")
    assert "must be a file of 48 or 80 bytes" in g.fails()
    g.destroy()


def test_a_ticket_comes_with_the_answer_also_without_one(upstream):
    """It is held for the first answer, but a client that asks nothing gets it, too."""
    with Gateway(config=config(upstream.port)) as g:
        with connect(g, context(ssl.TLSVersion.TLSv1_3)) as tls:
            tls.settimeout(0.01)

            def has_ticket():
                with contextlib.suppress(ssl.SSLWantReadError, TimeoutError):
                    tls.recv(1)
                return tls.session is not None and tls.session.has_ticket
            wait_until(has_ticket, what="a ticket")


def ticket_key(g, tmp_path):
    """The name of the key that seals tickets now; the session's file."""
    path = tmp_path / f"session{time.monotonic_ns()}"
    said = s_client(g, "-tls1_2", "-sess_out", str(path))
    line = [t for t in said.splitlines() if "0000 - " in t][0]
    return line.split("0000 - ")[1].split("   ")[0], path


def test_ticket_keys_change_and_old_ones_open(tmp_path):
    with Gateway(config=SERVICES, ssl_session_timeout="10s") as g:
        first, session = ticket_key(g, tmp_path)
        wait_until(lambda: ticket_key(g, tmp_path)[0] != first, what="another key")
        assert "Reused, TLSv1.2" in s_client(g, "-tls1_2", "-sess_in", str(session))
    with Gateway(config=SERVICES) as g:      # another process, other keys
        assert "New, TLSv1.2" in s_client(g, "-tls1_2", "-sess_in", str(session))


# -- OCSP stapling --------------------------------------------------------------------------------

class Responder:
    """`openssl ocsp` for a CA's certificates: name -> revoked or not."""

    def __init__(self, pki, ca, signer, certs, port):
        index = pki.folder / f"index-{signer.name}"
        lines = []
        for pair, revoked in certs:
            serial = pki.run("x509", "-in", pair.cert_path, "-noout", "-serial").strip().split("=")[1]
            lines.append(f"{'R' if revoked else 'V'}\t991231235959Z\t"
                         f"{'250101000000Z' if revoked else ''}\t{serial}\tunknown\t/CN={pair.name}\n")
        index.write_text("".join(lines))
        self.argv = ["openssl", "ocsp", "-port", port, "-index", index, "-CA", ca.cert_path,
                     "-rsigner", signer.cert_path, "-rkey", signer.key_path, "-ndays", "1"]

    def __enter__(self):
        self.process = subprocess.Popen(list(map(str, self.argv)), stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        assert self.process.stdout.readline().startswith(b"ACCEPT")
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.communicate()


def stapled(g, sni):
    """What was stapled for this name: a status, or None."""
    said = s_client(g, "-status", "-servername", sni)
    if "OCSP Response Status: successful" not in said:
        assert "OCSP response: no response sent" in said
        return None
    return said.split("Cert Status: ")[1].split()[0]


def test_stapling(pki):
    """Good certificates get a response, by the issuer or by whom it names; never on the first
    handshake's time. Revoked ones, and those without a responder, none."""
    ca = pki.ca("ocsp-ca")
    port = free_port()
    aia = [f"authorityInfoAccess=OCSP;URI:http://127.0.0.1:{port}/"]
    delegate = pki.cert("ocsp-signer", ca, extra=["extendedKeyUsage=OCSPSigning"])
    impostor = pki.cert("ocsp-impostor", ca)
    pairs = {name: pki.cert(name, ca, names=[name], extra=aia)
             for name in ("good.test", "revoked.test")}
    pairs["mute.test"] = pki.cert("mute.test", ca, names=["mute.test"])
    config = {**SERVICES, "certificates": [
        {"cert": p.cert + ca.cert, "key": p.key, "snis": [{"name": name}]}
        for name, p in pairs.items()]}
    certs = [(pairs["good.test"], False), (pairs["revoked.test"], True)]
    for signer, ok in ((ca, True), (delegate, True), (impostor, False)):
        with Responder(pki, ca, signer, certs, port), \
                Gateway(config=config, nginx_proxy_ssl_stapling="on") as g:
            assert stapled(g, "good.test") is None
            if ok:
                wait_until(lambda: stapled(g, "good.test") == "good", what="a stapled response")
            else:
                wait_until(lambda: stapled(g, "good.test") or "signed by someone else" in g.log(),
                           what="a refused response")
                assert stapled(g, "good.test") is None
            assert stapled(g, "revoked.test") is None and stapled(g, "mute.test") is None
            if ok:
                wait_until(lambda: "revoked; asked again" in g.log(), what="revoked in the log")
                assert stapled(g, "revoked.test") is None


def test_a_dead_responder_holds_up_nobody(pki):
    ca = pki.ca("slow-ca")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        pair = pki.cert("slow.test", ca, names=["slow.test"])
        config = {**SERVICES, "certificates": [
            {"cert": pair.cert + ca.cert, "key": pair.key, "snis": [{"name": "slow.test"}]}]}
        with Gateway(config=config, nginx_http_ssl_stapling="on",
                     nginx_http_ssl_stapling_responder=url) as g:
            assert stapled(g, "slow.test") is None
            silent.accept()[0].recv(1)    # it is asked, and says nothing
            began = time.monotonic()
            assert stapled(g, "slow.test") is None
            g.stop()
            assert time.monotonic() - began < 5


# -- certificates of clients ----------------------------------------------------------------------

def test_clients_with_certificates(pki, upstream):
    ca, other = pki.ca("clients"), pki.ca("others")
    good, wrong = pki.cert("client", ca), pki.cert("stranger", other)

    def status(g, pair):
        c = context()
        if pair:
            c.load_cert_chain(pair.cert_path, pair.key_path)
        with connect(g, c) as tls:
            code, text = ask(tls, close=True)
            return code, next((t for t in ("No required SSL certificate was sent",
                                           "The SSL certificate error") if t.encode() in text), None)

    missing = (400, "No required SSL certificate was sent")
    error = (400, "The SSL certificate error")
    for wants, expected in (("on", [missing, (200, None), error]),
                            ("optional", [(200, None), (200, None), error]),
                            ("optional_no_ca", [(200, None)] * 3),
                            ("off", [(200, None)] * 3)):
        with Gateway(config=config(upstream.port), nginx_proxy_ssl_verify_client=wants,
                     nginx_proxy_ssl_client_certificate=ca.cert_path) as g:
            assert [status(g, pair) for pair in (None, good, wrong)] == expected, wants
            asked = "clients" in s_client(g).split("Acceptable client certificate CA names")[-1]
            assert asked == (wants != "off")


def test_the_admin_api_wants_certificates(pki):
    """What the Helm chart asks for: nobody gets in by TLS without one."""
    ca = pki.ca("admins")
    pair = pki.cert("admin", ca)
    port = free_port()
    g = Gateway(config=SERVICES, nginx_admin_ssl_verify_client="on",
                nginx_admin_ssl_client_certificate=ca.cert_path)
    g.settings["admin_listen"] += f", 127.0.0.1:{port} ssl"
    with g:
        g.https = port
        for c, status in ((context(), 400), (context(), 200)):
            if status == 200:
                c.load_cert_chain(pair.cert_path, pair.key_path)
            with connect(g, c) as tls:
                assert ask(tls, close=True)[0] == status
        assert g.admin("GET", "/").status_code == 200    # without TLS it is about the address


def test_revoked_clients(pki, upstream):
    ca = pki.ca("revoking")
    pair = pki.cert("revoked-client", ca)
    serial = pki.run("x509", "-in", pair.cert_path, "-noout", "-serial").strip().split("=")[1]
    (pki.folder / "crl-index").write_text(
        f"R\t991231235959Z\t250101000000Z\t{serial}\tunknown\t/CN=revoked-client\n")
    (pki.folder / "crl.cnf").write_text(f"[ca]\ndefault_ca=c\n[c]\ndatabase={pki.folder}/crl-index\n"
                                        "default_md=sha256\ndefault_crl_days=2\n")
    crl = pki.folder / "crl.pem"
    pki.run("ca", "-gencrl", "-config", pki.folder / "crl.cnf", "-cert", ca.cert_path, "-keyfile",
            ca.key_path, "-out", crl)
    c = context()
    c.load_cert_chain(pair.cert_path, pair.key_path)
    for more, status in (({}, 200), ({"nginx_proxy_ssl_crl": crl}, 400)):
        with Gateway(config=config(upstream.port), nginx_proxy_ssl_verify_client="on",
                     nginx_proxy_ssl_client_certificate=ca.cert_path, **more) as g:
            with connect(g, c) as tls:
                assert ask(tls, close=True)[0] == status


# -- PROXY protocol in front of TLS ---------------------------------------------------------------

def test_proxy_protocol_and_tls(upstream):
    g = Gateway(config=config(upstream.port), trusted_ips="127.0.0.1", real_ip_header="proxy_protocol")
    g.settings["proxy_listen"] = f"127.0.0.1:{g.https} ssl proxy_protocol, 127.0.0.1:{g.http}"
    with g:
        with connect(g, context(), first=b"PROXY TCP4 203.0.113.9 127.0.0.1 5555 443\r\n") as tls:
            assert ask(tls)[0] == 200
        with pytest.raises((ssl.SSLError, ConnectionError)), connect(g, context()):
            pass


# -- limits ---------------------------------------------------------------------------------------

def client_hello():
    """The first thing that a client says."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_a_handshake_has_a_time_limit(upstream):
    with Gateway(config=config(upstream.port), nginx_http_client_header_timeout="300ms") as g:
        for say in (b"", client_hello()[:20], client_hello()):
            with socket.create_connection(("127.0.0.1", g.https), 20) as s:
                s.sendall(say)
                s.settimeout(20)
                while s.recv(65536):
                    pass


def test_a_flood_of_handshakes_pushes_itself_out(upstream):
    """More of them than a worker lets be under way: the oldest ends, others still get through."""
    limit, hello = 2048, client_hello()
    with Gateway(config=config(upstream.port), nginx_worker_processes=1) as g:
        flood = []
        try:
            for _ in range(limit):
                s = socket.create_connection(("127.0.0.1", g.https), 20)
                s.sendall(hello)
                assert s.recv(5)
                flood.append(s)
            with connect(g, context()) as tls:
                assert ask(tls)[0] == 200
            flood[0].settimeout(20)
            while flood[0].recv(65536):
                pass
            flood[1].setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    assert flood[1].recv(65536), "only one had to go"
        finally:
            for s in flood:
                s.close()


def test_large_and_small_answers_to_slow_readers(upstream):
    """Held records and full sockets: all that was said arrives, close_notify last."""
    for size in (0, 100, 16384, 19000, 300000):
        with Upstream("x" * size) as u, Gateway(config=config(u.port)) as g:
            with socket.create_connection(("127.0.0.1", g.https), 20) as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                with context().wrap_socket(s, suppress_ragged_eofs=False) as tls:
                    status, got = ask(tls, close=True)
                    assert status == 200
                    assert len(got.split(b"\r\n\r\n", 1)[1]) == size
