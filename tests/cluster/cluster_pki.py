"""A certificate authority in a directory: what a test cluster needs in keys and certificates.

The keys are elliptic, because twelve RSA keys would take as long as starting the API server.
"""
import os
import subprocess

SERVER = "extendedKeyUsage=serverAuth"
CLIENT = "extendedKeyUsage=clientAuth"
LOCAL = "subjectAltName=IP:127.0.0.1,DNS:localhost"

_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Pki:
    """Files NAME.crt and NAME.key in a directory, signed by its ca.crt."""

    def __init__(self, directory):
        self.dir = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._openssl("req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.crt",
                      "-days", "30", "-subj", "/CN=test-cluster-ca")

    def file(self, name):
        return os.path.join(self.dir, name)

    def issue(self, name, subject, *extensions):
        """A new key and certificate; returns the paths (NAME.crt, NAME.key)."""
        key, csr, crt, ext = (self.file(f"{name}.{e}") for e in ("key", "csr", "crt", "ext"))
        with open(ext, "w", encoding="ascii") as f:
            f.write("\n".join(extensions) + "\n")
        self._openssl("req", *_NEW_KEY, "-keyout", key, "-out", csr, "-subj", subject)
        self._openssl("x509", "-req", "-in", csr, "-CA", "ca.crt", "-CAkey", "ca.key",
                      "-CAcreateserial", "-days", "30", "-out", crt, "-extfile", ext)
        return crt, key

    def key_pair(self, name):
        """A bare key pair, NAME.key and NAME.pub: what ServiceAccount tokens are signed with."""
        key, pub = self.file(name + ".key"), self.file(name + ".pub")
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        self._openssl("ec", "-in", key, "-pubout", "-out", pub)
        return key, pub

    def _openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.dir, check=True, capture_output=True)
