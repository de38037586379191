"""A real slapd for tests: a directory of people below dc=example,dc=org, on free ports.

    with Slapd({"alice": "secret"}) as ldap: ldap.port, ldap.tls_port, ldap.ca
    ldap.binds: how often someone bound, ldap.stop(), ldap.start()

Debian's package; its own service is never started. As root it runs as the user openldap. The
certificate is for localhost and 127.0.0.1.
"""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile

from postgres import free_port, wait_until

BASE = "dc=example,dc=org"

CONF = """include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {dir}/pid
loglevel stats
TLSCACertificateFile {dir}/cert.pem
TLSCertificateFile {dir}/cert.pem
TLSCertificateKeyFile {dir}/key.pem
database mdb
suffix "{base}"
rootdn "cn=root,{base}"
rootpw root
directory {dir}/db
"""

PEOPLE = """dn: {base}
objectClass: dcObject
objectClass: organization
dc: example
o: example

"""

PERSON = """dn: uid={name},{base}
objectClass: inetOrgPerson
uid: {uid}
cn: {uid}
sn: {uid}
userPassword: {password}

"""


def escaped(name):
    """As a name stands in a DN."""
    return "".join("\\%02X" % ord(c) if c in ",+\"\\<>;=" else c for c in name)


class Slapd:
    def __init__(self, people):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sb-ldap-"))
        self.port, self.tls_port = free_port(), free_port()
        self.owner = pwd.getpwnam("openldap") if os.getuid() == 0 else None
        self.process = None
        (self.dir / "db").mkdir()
        (self.dir / "slapd.conf").write_text(CONF.format(dir=self.dir, base=BASE))
        (self.dir / "people.ldif").write_text(PEOPLE.format(base=BASE) + "".join(
            PERSON.format(name=escaped(n), uid=n, password=p, base=BASE) for n, p in people.items()))
        self.make_certificate()
        for path in (self.dir, *self.dir.iterdir()):
            if self.owner:
                os.chown(path, self.owner.pw_uid, self.owner.pw_gid)
        self.run("slapadd", "-q", "-f", self.dir / "slapd.conf", "-l", self.dir / "people.ldif")

    def make_certificate(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                        "-keyout", self.dir / "key.pem", "-out", self.dir / "cert.pem"],
                       check=True, capture_output=True)

    @property
    def ca(self):
        return self.dir / "cert.pem"

    def command(self, name, *args):
        who = [] if not self.owner else ["setpriv", "--reuid", str(self.owner.pw_uid), "--regid",
                                         str(self.owner.pw_gid), "--clear-groups",
                                         "--pdeathsig", "KILL"]
        return [*who, f"/usr/sbin/{name}", *map(str, args)]

    def run(self, name, *args):
        subprocess.run(self.command(name, *args), check=True, capture_output=True)

    def start(self):
        urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command("slapd", "-d", "stats", "-f", self.dir / "slapd.conf", "-h", urls),
                stdout=log, stderr=log)
        wait_until(self.listens, what="slapd listening")
        return self

    def listens(self):
        assert self.process.poll() is None, (self.dir / "log").read_text(errors="replace")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=20)
            self.process = None

    @property
    def binds(self):
        """How many binds it was asked for."""
        return (self.dir / "log").read_text(errors="replace").count(" BIND dn=\"uid=")

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
