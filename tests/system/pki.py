"""Keys and certificates for tests, by the openssl program.

    pki = Pki(tmp_path)
    ca = pki.ca("root")
    server = pki.cert("server", ca, names=["a.test"], kind="rsa")    # .cert .key: PEM; .crt .pem: paths
"""

import pathlib
import subprocess


class Pair:
    """A certificate and its key: texts and files."""

    def __init__(self, folder, name):
        self.name = name
        self.cert_path, self.key_path = folder / f"{name}.crt", folder / f"{name}.key"

    @property
    def cert(self):
        return self.cert_path.read_text()

    @property
    def key(self):
        return self.key_path.read_text()


class Pki:
    KINDS = {"ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
             "rsa": ["-newkey", "rsa:2048"]}

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def run(self, *args):
        done = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ca(self, name, signer=None):
        """A CA: a root, or signed by another."""
        return self.cert(name, signer, extra=["basicConstraints=critical,CA:TRUE",
                                              "keyUsage=keyCertSign,cRLSign,digitalSignature"])

    def cert(self, name, signer=None, names=(), kind="ec", extra=()):
        """A certificate for these DNS names and addresses; self-signed without a signer."""
        pair = Pair(self.folder, name)
        request, text = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        lines = [*extra]
        if names:
            lines.append("subjectAltName=" + ",".join(
                ("IP:" if n.replace(".", "").isdigit() else "DNS:") + n for n in names))
        text.write_text("\n".join(lines) + "\n")
        self.run("req", *self.KINDS[kind], "-nodes", "-keyout", pair.key_path, "-out", request,
                 "-subj", f"/CN={name}")
        sign = (["-CA", signer.cert_path, "-CAkey", signer.key_path, "-CAcreateserial"] if signer
                else ["-signkey", pair.key_path])
        self.run("x509", "-req", "-in", request, "-days", "2", "-extfile", text, *sign,
                 "-out", pair.cert_path)
        return pair
