"""Foreign mail servers on loopback for tests, each private to its test.

    with tempfile_dir() as base:
        ca = make_ca(base / "ca")
        cert = ca.issue("mx.contoso.test")
        with Postfix(base / "postfix", free_port(), ["contoso.test"], tls=cert) as server:
            ...                                     # send mail to 127.0.0.1:server.port
            [message] = server.wait_messages("don@contoso.test")

Nothing of the system's own mail service is touched: Postfix gets its own configuration, queue and
data directories, OpenSMTPD its own view of the file system. Both need root, since they change
users themselves; `unavailable()` says why one cannot run here, or None. `install.sh` brings the
programs. Only the standard library is used.

Waiting is always for something seen (a port that answers, a file that is there) and bounded.
"""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

from pki import Ca, Certificate, make_ca, self_signed  # noqa: F401 - part of this module

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
OPENSMTPD = pathlib.Path(os.environ.get("GATEPOST_PEERS", REPOSITORY / "target/peers")) / "opensmtpd"


class PeerError(Exception):
    """A peer did not do what the test needs; the message holds the end of its log."""


@contextlib.contextmanager
def tempfile_dir():
    """A directory for one test that the peers' own users may enter, removed afterwards."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="gatepost-peers-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_port(host="127.0.0.1"):
    """A port nothing listens on now. Somebody else could take it before you do; start soon."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def wait_until(condition, what, timeout=10.0):
    """The first true value of `condition()`; PeerError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise PeerError(f"no {what} within {timeout} s")
        time.sleep(0.02)


def wait_port(port, host="127.0.0.1", timeout=10.0):
    """Waits until an SMTP server greets on the port, and leaves with QUIT."""

    def greets():
        try:
            with socket.create_connection((host, port), timeout=timeout) as connection:
                connection.settimeout(timeout)
                greeting = connection.makefile("rb").readline()
                connection.sendall(b"QUIT\r\n")
                return greeting.startswith(b"220")
        except OSError:
            return False

    wait_until(greets, f"greeting on {host}:{port}", timeout)


class _Server:
    """What the peers share: a process in the foreground, a log, Maildirs."""

    def __init__(self, directory, port, domains, tls=None, host="127.0.0.1"):
        self.directory = pathlib.Path(directory).resolve()
        self.host, self.port, self.domains, self.tls = host, port, list(domains), tls
        self.mail = self.directory / "mail"
        self.log_path = self.directory / "log"
        self.process = None
        # Words before the command, such as strace's; the process they lead to has to be our child.
        self.wrapper = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def _run(self, command):
        self.directory.chmod(0o755)
        with open(self.directory / "output", "ab") as output:
            self.process = subprocess.Popen([*self.wrapper, *command], stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=output, start_new_session=True)

        def answers():
            if self.process.poll() is not None:
                raise PeerError(f"{type(self).__name__} ended: {self.log()[-2000:]}")
            try:
                wait_port(self.port, self.host, timeout=0.2)
                return True
            except PeerError:
                return False

        try:
            wait_until(answers, f"answer of {type(self).__name__} on port {self.port}", 20)
        except PeerError as problem:
            self.stop()
            raise PeerError(f"{problem}: {self.log()[-2000:]}") from None

    def stop(self):
        """Ends the server by its process id; kills it if it takes longer than 10 seconds."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def log(self):
        """Everything it logged so far."""
        paths = (self.directory / "output", self.log_path)
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    def messages(self, recipient):
        """What was delivered to an address, as bytes, oldest first."""
        local, _, domain = recipient.rpartition("@")
        return _oldest_first(self.mail / domain.lower() / local.lower() / "new")

    def wait_messages(self, recipient, count=1, timeout=20.0):
        """The same, once there are `count` of them."""
        try:
            return wait_until(
                lambda: (found := self.messages(recipient)) and len(found) >= count and found,
                f"{count} message(s) for {recipient}", timeout)
        except PeerError as problem:
            raise PeerError(f"{problem}: {self.log()[-2000:]}") from None

    def wait_log(self, text, timeout=10.0):
        """Waits until `text` stands in the log."""
        wait_until(lambda: text in self.log(), f"{text!r} in the log of {type(self).__name__}", timeout)


def _oldest_first(folder):
    files = sorted(folder.glob("*"), key=lambda path: path.stat().st_mtime_ns) if folder.is_dir() else []
    return [path.read_bytes() for path in files]


class Postfix(_Server):
    """A Postfix that delivers to its domains, into Maildirs or nowhere.

    tls      Certificate for STARTTLS, or None. The TLS version of each session is in `log()`.
    deliver  "maildir" or "discard".
    options  further main.cf parameters, over the ones below: `smtpd_tls_security_level` = "encrypt",
             `smtpd_discard_ehlo_keywords` = "chunking,pipelining", `relayhost` = "[127.0.0.1]:2525", …
    """

    def __init__(self, directory, port, domains, tls=None, deliver="maildir", options=None, **more):
        super().__init__(directory, port, domains, tls, **more)
        self.deliver, self.options = deliver, dict(options or {})

    @staticmethod
    def unavailable():
        """Why no Postfix can be started here, or None."""
        if shutil.which("postfix", path=_PATH) is None:
            return "postfix is not installed (tests/peers/install.sh)"
        return None if os.geteuid() == 0 else "Postfix has to be started by root"

    def start(self):
        """Starts it and waits for its greeting."""
        config, queue, data = (self.directory / name for name in ("config", "queue", "data"))
        for path in (config, queue, data, self.mail):
            path.mkdir(parents=True, exist_ok=True)
        # `nobody` owns the mailboxes, Postfix its own data.
        shutil.chown(self.mail, "nobody")
        shutil.chown(data, "postfix")
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": queue,
            "data_directory": data,
            "maillog_file": self.log_path,
            "maillog_file_prefixes": self.directory,
            "myhostname": "postfix.test",
            "mydestination": "",
            "local_recipient_maps": "",
            "alias_maps": "",
            "alias_database": "",
            "inet_interfaces": self.host,
            "mynetworks": "127.0.0.0/8",
            "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
            "message_size_limit": "52428800",
            "virtual_mailbox_limit": "0",
            "smtpd_peername_lookup": "no",
            "biff": "no",
            # Nothing may leave the host, bounces included, nor even ask for a name.
            "smtp_dns_support_level": "disabled",
            "default_transport": "smtp" if "relayhost" in self.options else "error:5.4.4 no way out of here",
            # A burst of test connections is no attack.
            "smtpd_client_connection_count_limit": "0",
            "smtp_tls_loglevel": "1",
        }
        if self.deliver == "discard":
            settings |= {"relay_domains": " ".join(self.domains), "relay_transport": "discard"}
        else:
            # One mailbox for all: virtual(8) takes no pattern that builds a path from an address.
            settings |= {
                "virtual_mailbox_domains": " ".join(self.domains),
                "virtual_mailbox_base": self.mail,
                "virtual_mailbox_maps": "static:all/",
                "virtual_uid_maps": "static:65534",
                "virtual_gid_maps": "static:65534",
            }
        if self.tls:
            settings |= {
                "smtpd_tls_security_level": "may",
                "smtpd_tls_chain_files": f"{self.tls.key} {self.tls.chain}",
                "smtpd_tls_CAfile": self.tls.ca,
                "smtpd_tls_loglevel": "1",
                "smtpd_tls_received_header": "yes",
            }
        settings |= self.options
        (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        (config / "master.cf").write_text(_MASTER.format(host=self.host, port=self.port))
        # Postfix reads a file younger than two seconds again and again, for fear it is half written.
        for path in config.iterdir():
            os.utime(path, (0, 0))
        # What `postfix check` would do, which takes seconds.
        for name, group, mode in _QUEUE:
            (queue / name).mkdir(exist_ok=True)
            shutil.chown(queue / name, "postfix", group)
            (queue / name).chmod(mode)
        (queue / "pid").mkdir(exist_ok=True)
        self._run([_postconf("daemon_directory") + "/master", "-c", str(config), "-s"])

    def messages(self, recipient):
        """What was delivered to an address, as bytes, oldest first.

        Postfix puts fields of its own on top: Return-Path, X-Original-To, Delivered-To, Received.
        """
        wanted = f"\ndelivered-to: {recipient.lower()}\n".encode()
        return [text for text in _oldest_first(self.mail / "all/new") if wanted in text[:2000].lower()]


_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

_QUEUE = [(name, "root", 0o700) for name in (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")]
_QUEUE += [("maildrop", "postdrop", 0o730), ("public", "postdrop", 0o710)]


def _postconf(name):
    command = [shutil.which("postconf", path=_PATH), "-h", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# No service runs chrooted: the directories are private already.
_MASTER = """\
{host}:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsproxy unix - - n - 0 tlsproxy
postlog unix-dgram n - n - 1 postlogd
"""


class OpenSmtpd(_Server):
    """An OpenSMTPD that delivers to its domains into Maildirs, and relays the rest if told to.

    Its paths and users are fixed when it is built, so it runs in a mount namespace of its own with
    private directories in their place and a passwd file that knows its users.

    It offers no STARTTLS: Debian 12's build cannot sign a handshake with OpenSSL 3 (OpenSMTPD issue
    1239). As a client it does use TLS.

    relay     where mail for other domains goes: "smtp+tls://127.0.0.1:2525" demands TLS (its
              certificate is not judged), "smtp://…" takes it if offered, "smtp+notls://…" never.
    settings  lines for the top of smtpd.conf
    """

    def __init__(self, directory, port, domains, relay=None, settings=(), **more):
        super().__init__(directory, port, domains, **more)
        self.relay, self.settings = relay, list(settings)

    @staticmethod
    def unavailable():
        """Why no OpenSMTPD can be started here, or None."""
        if not (OPENSMTPD / "usr/sbin/smtpd").exists():
            return "OpenSMTPD is not unpacked (tests/peers/install.sh)"
        if os.geteuid() != 0:
            return "OpenSMTPD has to be started by root"
        done = subprocess.run(["unshare", "--mount", "true"], capture_output=True)
        return None if done.returncode == 0 else "no mount namespace may be made here"

    def start(self):
        """Starts it and waits for its greeting."""
        for name in ("config", "spool", "mail"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        config = self.directory / "config"
        shutil.chown(self.mail, "nobody", "nogroup")
        for name in ("passwd", "group"):
            (config / name).write_text(pathlib.Path("/etc", name).read_text() + _ACCOUNTS[name].format(mail=self.mail))
        (config / "users").write_text("@ gpmail\n")
        lines = [*self.settings, f"listen on {self.host} port {self.port} hostname opensmtpd.test"]
        lines.append(f"table users file:{config}/users")
        lines.append(f'action deliver maildir "{self.mail}/%{{dest.domain:lowercase}}/%{{dest.user:lowercase}}" '
                     "virtual <users>")
        for domain in self.domains:
            lines.append(f'match from any for domain "{domain}" action deliver')
        if self.relay:
            verify = " tls no-verify" if "+tls:" in self.relay else ""
            lines.append(f'action onward relay host "{self.relay}"{verify}')
            lines.append("match from any for any action onward")
        (config / "smtpd.conf").write_text("\n".join(lines) + "\n")
        script = _NAMESPACE.format(root=OPENSMTPD.resolve(), base=self.directory)
        self._run(["unshare", "--mount", "--propagation", "private", "sh", "-ec", script])


_ACCOUNTS = {
    "passwd": "opensmtpd:x:64901:64901::/nonexistent:/usr/sbin/nologin\n"
              "opensmtpq:x:64902:64902::/nonexistent:/usr/sbin/nologin\n"
              "gpmail:x:65534:65534::{mail}:/bin/sh\n",
    "group": "opensmtpd:x:64901:\nopensmtpq:x:64902:\n",
}

# exec keeps the process id that stop() knows.
_NAMESPACE = """
mount --bind {base}/config/passwd /etc/passwd
mount --bind {base}/config/group /etc/group
mount -t tmpfs tmpfs /var/lib
mkdir -p -m 711 /var/lib/opensmtpd/empty
mount -t tmpfs tmpfs /run
mkdir -p /usr/libexec
mount -t tmpfs tmpfs /usr/libexec
mkdir /usr/libexec/opensmtpd
mount --bind {root}/usr/libexec/opensmtpd /usr/libexec/opensmtpd
mount -t tmpfs tmpfs /var/spool
mkdir /var/spool/smtpd
mount --bind {base}/spool /var/spool/smtpd
chmod 711 /var/spool/smtpd
exec {root}/usr/sbin/smtpd -d -f {base}/config/smtpd.conf
"""


def swaks(port, *arguments, host="127.0.0.1", timeout=60):
    """Runs swaks against a port; returns its CompletedProcess with text output, replies included."""
    command = ["swaks", "--server", host, "--port", str(port), "--timeout", "20", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def tls_versions(log):
    """The protocol versions a Postfix log tells of, in order: ["TLSv1.3", …]."""
    marker = "TLS connection established from "
    return [line.split(": ")[-1].split()[0] for line in log.splitlines() if marker in line]
