"""Certificates for tests, made by openssl: a CA, what it issues with every fault a test needs, and
certificates that vouch for themselves.

    ca = make_ca(base / "ca")
    good = ca.issue("mx.contoso.test")                       # .chain, .key, .ca are paths
    old = ca.issue("mx.contoso.test", file="old", valid=(-20, -10))
    bare = ca.issue("mx.contoso.test", file="bare", names=[])  # the name stands in the CN alone
"""

import datetime
import pathlib
import socket
import subprocess


class PkiError(Exception):
    """openssl refused; the message holds its words."""


class Certificate:
    """Paths of a PEM chain and its key, and of the CA that vouches for it."""

    def __init__(self, chain, key, ca):
        self.chain, self.key, self.ca = pathlib.Path(chain), pathlib.Path(key), pathlib.Path(ca)


class Ca:
    """A certificate authority made for one test. `path` is what others trust. It issues one
    certificate at a time."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.path = self.directory / "ca.pem"
        self.key = self.directory / "ca.key"
        # What others trust, and the certificates between it and what is issued here.
        self.root, self.chain = self.path, ""

    def issue(self, subject, *more, names=None, client_auth=True, valid=(0, 2), extensions=(), whole_chain=True,
              file=None, rsa=False):
        """A leaf certificate for the common name `subject`.

        more         further names; these and the subject are SANs (DNS or IP)
        names        the SANs instead, none of them needs to be the subject
        valid        first and last moment, in days from now
        extensions   further lines in openssl's spelling: "crlDistributionPoints=URI:http://…"
        whole_chain  False leaves the certificates between it and the root out
        file         name of its files, where the subject's would be another certificate's
        rsa          with an RSA key of 2048 bits instead of one for ECDSA
        """
        base = self.directory / (file or subject.replace("*", "_"))
        request, leaf, key, ext = (base.with_suffix(base.suffix + end) for end in (".csr", ".pem", ".key", ".ext"))
        names = [subject, *more] if names is None else names
        lines = [f"subjectAltName={_alternative(names)}"] if names else []
        usage = "serverAuth,clientAuth" if client_auth else "serverAuth"
        ext.write_text("\n".join([*lines, f"extendedKeyUsage={usage}", "basicConstraints=CA:FALSE", *extensions, ""]))
        new_key = ("-newkey", "rsa:2048", "-nodes") if rsa else _NEW_KEY
        _openssl("req", "-new", *new_key, "-keyout", key, "-subj", f"/CN={subject}", "-out", request)
        self._sign(request, ext, leaf, valid)
        if self.chain and whole_chain:
            leaf.write_text(leaf.read_text() + self.chain)
        return Certificate(leaf, key, self.root)

    def subordinate(self, directory, name):
        """An intermediate CA: what it issues comes with its certificate, and trusts this one."""
        below = Ca(directory)
        below.directory.mkdir(parents=True, exist_ok=True)
        request, extensions = below.directory / "ca.csr", below.directory / "ca.ext"
        extensions.write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n")
        _openssl("req", "-new", *_NEW_KEY, "-keyout", below.key, "-subj", f"/CN={name}", "-out", request)
        self._sign(request, extensions, below.path, (0, 2))
        below.root, below.chain = self.root, below.path.read_text() + self.chain
        return below

    def _sign(self, request, extensions, certificate, valid):
        """`openssl ca`, which alone of OpenSSL 3.0's commands takes dates."""
        config, index = self.directory / "issue.conf", self.directory / "index.txt"
        if not index.exists():
            index.touch()
            config.write_text(_ISSUING.format(index=index, directory=self.directory))
        first, last = (_asn1_time(days) for days in valid)
        _openssl("ca", "-batch", "-notext", "-config", config, "-cert", self.path, "-keyfile", self.key, "-in", request,
                 "-extfile", extensions, "-startdate", first, "-enddate", last, "-out", certificate)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

_ISSUING = """[ca]
default_ca = issuing
[issuing]
database = {index}
new_certs_dir = {directory}
default_md = sha256
unique_subject = no
rand_serial = yes
policy = any
[any]
commonName = supplied
"""


def make_ca(directory, name="Gatepost test CA"):
    """A new CA below `directory`."""
    ca = Ca(directory)
    ca.directory.mkdir(parents=True, exist_ok=True)
    _self_sign(ca.path, ca.key, name, "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
    return ca


def self_signed(directory, subject):
    """A server's certificate that it made for itself."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    chain, key = directory / "self.pem", directory / "self.key"
    _self_sign(chain, key, subject, "basicConstraints=CA:FALSE", f"subjectAltName={_alternative([subject])}")
    return Certificate(chain, key, chain)


def _self_sign(certificate, key, subject, *extensions):
    added = [word for line in extensions for word in ("-addext", line)]
    _openssl("req", "-x509", *_NEW_KEY, "-keyout", key, "-subj", f"/CN={subject}", "-days", "2", "-sha256", *added,
             "-out", certificate)


def _openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise PkiError(f"openssl {arguments[0]}: {done.stderr.strip()}")


def _asn1_time(days):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return moment.strftime("%Y%m%d%H%M%SZ")


def _alternative(names):
    return ",".join(("IP:" if _is_ip(name) else "DNS:") + name for name in names)


def _is_ip(name):
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in name else socket.AF_INET, name)
        return True
    except OSError:
        return False
