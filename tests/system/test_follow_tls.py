"""Certificates are configuration: they change without a restart, and a broken one is alone with it."""

import pathlib
import socket
import ssl
import subprocess

import pytest

from gateway import Gateway, Upstream
from postgres import wait_until
from test_follow import WS, add_route, add_service


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as server:
        yield server


def make_pair(where, common_name, *algorithm):
    """A self-signed certificate and its key, as PEM texts."""
    cert, key = pathlib.Path(where) / "cert.pem", pathlib.Path(where) / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={common_name}",
                    "-newkey", *(algorithm or ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")),
                    "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert.read_text(), key.read_text()


def served_name(gateway, server_name):
    """The common name of the certificate that a client with this SNI gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", gateway.https), 10) as raw, \
            context.wrap_socket(raw, server_hostname=server_name) as tls:
        der = tls.getpeercert(binary_form=True)
    done = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject", "-nameopt",
                           "multiline"], input=der, capture_output=True, check=True)
    return done.stdout.decode().split("commonName")[1].split("=")[1].split()[0]


def add_certificate(db, cert, key, *names):
    id_ = db.value(f"INSERT INTO certificates (id, ws_id, cert, key) VALUES (gen_random_uuid(), {WS}, "
                   f"%s, %s) RETURNING id::text", cert, key)
    for name in names:
        db.query(f"INSERT INTO snis (id, ws_id, name, certificate_id) VALUES (gen_random_uuid(), {WS}, "
                 f"%s, %s)", name, id_)
    return id_


def test_certificates_come_change_and_go(migrated, tmp_path):
    first, second = make_pair(tmp_path, "first"), make_pair(tmp_path, "second")
    with Gateway(migrated.env()) as gateway:
        assert served_name(gateway, "a.test") == "localhost"
        one = add_certificate(migrated, *first, "a.test", "*.wild.test")
        wait_until(lambda: served_name(gateway, "x.wild.test") == "first")
        assert served_name(gateway, "a.test") == "first"
        assert served_name(gateway, "x.y.wild.test") == "localhost"
        migrated.query("UPDATE certificates SET cert = %s, key = %s WHERE id = %s", *second, one)
        wait_until(lambda: served_name(gateway, "a.test") == "second")
        migrated.query("DELETE FROM snis WHERE name = 'a.test'")
        wait_until(lambda: served_name(gateway, "a.test") == "localhost")
        assert served_name(gateway, "x.wild.test") == "second"


def test_a_broken_certificate_is_alone_with_it(migrated, upstream, tmp_path):
    good, other = make_pair(tmp_path, "good"), make_pair(tmp_path, "other")
    with Gateway(migrated.env()) as gateway:
        add_service(migrated, "s", upstream.port)
        add_route(migrated, "a.test", "s")
        add_certificate(migrated, *good, "good.test")
        bad = add_certificate(migrated, good[0], other[1], "bad.test")      # not its key
        wait_until(lambda: f"certificates {bad}" in gateway.log(), what="a word about it")
        wait_until(lambda: served_name(gateway, "good.test") == "good")
        assert served_name(gateway, "bad.test") == "localhost"
        assert gateway.answers("a.test")
        log = gateway.log()
        assert "key does not belong to cert" in log and "PRIVATE KEY" not in log
        migrated.query("UPDATE certificates SET key = %s WHERE id = %s", good[1], bad)
        wait_until(lambda: served_name(gateway, "bad.test") == "good")
