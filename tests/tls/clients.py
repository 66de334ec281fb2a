"""TLS clients of other makers that speak SMTP to a relay, each told which TLS version to offer.

    spoken = CLIENTS["gnutls-cli"](port, "TLS 1.2", "cell-1.test", certificate)
    spoken.offered                      # whether EHLO named STARTTLS
    spoken.version                      # what was negotiated; None: there was no handshake, or it failed
    spoken.mail                         # the reply to MAIL inside TLS

The name in EHLO is unique to a test's cell, so that the relay's log tells whose session it was.
"""

import dataclasses
import re
import shutil
import signal
import ssl
import subprocess
import threading
import warnings

from gatepost import Dialogue

VERSIONS = ("TLS 1.0", "TLS 1.1", "TLS 1.2", "TLS 1.3")
_MAIL = "MAIL FROM:<ann@fabrikam.test>"


@dataclasses.dataclass
class Spoken:
    """What became of a client's session."""

    offered: bool | None = None     # None: the client does not tell
    clear: str | None = None        # the reply to MAIL before TLS; None: the client cannot ask
    version: str | None = None
    error: str = ""                 # the client's words about a handshake that failed
    mail: str | None = None


class Program:
    """A foreign client on pipes: its lines come out one by one, and it never runs for long."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.said = []
        self.watchdog = threading.Timer(30, self.process.kill)
        self.watchdog.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.watchdog.cancel()
        self.process.stdout.close()
        # What is left to write may have nobody to read it.
        try:
            self.process.stdin.close()
        except OSError:
            pass

    def line(self):
        """The next line of its output, or None at the end."""
        line = self.process.stdout.readline().decode(errors="replace")
        self.said.append(line)
        return line.rstrip("\r\n") if line else None

    def until(self, pattern):
        """The match in the next line that fits, or None when there is none before the end."""
        while (line := self.line()) is not None:
            if found := re.search(pattern, line):
                return found
        return None

    def reply(self):
        """The next whole reply, lines joined; what the program says of its own is passed over."""
        lines = []
        while (line := self.line()) is not None:
            if re.match(r"[2-5]\d\d[ -]", line):
                lines.append(line)
                if line[3] == " ":
                    return "\n".join(lines)
        return ""

    def ask(self, command):
        """Sends a command; the reply, empty when the program has ended."""
        try:
            self.process.stdin.write(command.encode() + b"\r\n")
            self.process.stdin.flush()
        except OSError:
            return ""
        return self.reply()

    @property
    def text(self):
        """All it said."""
        return "".join(self.said)


def openssl(port, version, name, certificate=None, extra=()):
    """`openssl s_client`, which does STARTTLS itself: it cannot ask for anything in clear."""
    flag = {"TLS 1.0": "-tls1", "TLS 1.1": "-tls1_1", "TLS 1.2": "-tls1_2", "TLS 1.3": "-tls1_3"}[version]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-starttls", "smtp", "-name", name, flag,
               "-cipher", "DEFAULT@SECLEVEL=0", "-quiet", "-brief", *extra]
    if certificate:
        command += ["-cert", certificate.chain, "-key", certificate.key, "-cert_chain", certificate.chain]
    spoken = Spoken()
    with Program(*command) as program:
        found = program.until(r"Protocol version: TLSv(1\.[0-3])|Didn't find STARTTLS|routines:")
        spoken.offered = "Didn't find STARTTLS" not in program.text
        if found and found[1]:
            spoken.version = f"TLS {found[1]}"
            # Behind its report comes the last line of the reply to its own EHLO.
            program.reply()
            _inside(spoken, program, name)
        else:
            spoken.error = program.text
    return spoken


def gnutls(port, version, name, certificate=None, priority=""):
    """`gnutls-cli`, told by a signal when to shake hands."""
    command = ["gnutls-cli", "--starttls", "--insecure", "-p", str(port), "127.0.0.1",
               "--priority", f"NORMAL:-VERS-ALL:+VERS-{version.replace(' ', '')}{priority}"]
    if certificate:
        command += ["--x509certfile", certificate.chain, "--x509keyfile", certificate.key]
    spoken = Spoken()
    with Program(*command) as program:
        program.reply()
        _before(spoken, program, name)
        if spoken.offered and program.ask("STARTTLS").startswith("220"):
            program.process.send_signal(signal.SIGALRM)
            found = program.until(r"Description: \(TLS(1\.[0-3])|has failed")
            if found and found[1]:
                spoken.version = f"TLS {found[1]}"
                _inside(spoken, program, name)
            else:
                spoken.error = program.text
    return spoken


def python(port, version, name, certificate=None):
    """Python's ssl module."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version.replace("TLS ", "TLSv").replace(".", "_")
                                                                           .replace("v1_0", "v1")]
    if certificate:
        context.load_cert_chain(certificate.chain, certificate.key)
    spoken = Spoken()
    with Dialogue(port) as client:
        _before(spoken, client, name)
        if spoken.offered and client.ask("STARTTLS").startswith("220"):
            try:
                client.socket = context.wrap_socket(client.socket)
            except OSError as error:
                spoken.error = str(error)
                return spoken
            client.reader = client.socket.makefile("rb")
            spoken.version = client.socket.version().replace("TLSv", "TLS ")
            _inside(spoken, client, name)
    return spoken


def _before(spoken, client, name):
    spoken.offered = "STARTTLS" in client.ask(f"EHLO {name}")
    spoken.clear = client.ask(_MAIL)


def _inside(spoken, client, name):
    client.ask(f"EHLO {name}")
    spoken.mail = client.ask(_MAIL)
    client.ask("QUIT")


CLIENTS = {"openssl s_client": openssl, "gnutls-cli": gnutls, "Python ssl": python}


class GnutlsCli:
    """For `needs`."""

    @staticmethod
    def unavailable():
        """Why it cannot run here, or None."""
        return None if shutil.which("gnutls-cli") else "gnutls-cli is not installed (tests/peers/install.sh)"
