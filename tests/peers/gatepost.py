"""Gatepost under test: the real program, with a configuration of the test's own.

    with Gatepost(base / "edge", config) as edge:       # config: TOML text, `{port}` filled in
        swaks(edge.port, "--to", "don@contoso.test")
        assert edge.receive_log()

The program is the one cargo built (`GATEPOST_BIN`, else target/debug/gatepost).
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess

from peers import REPOSITORY, PeerError, free_port, wait_port, wait_until

# Words before the command, such as strace's; the process they lead to has to be our child.
WRAPPER = []
BINARY = pathlib.Path(os.environ.get("GATEPOST_BIN", REPOSITORY / "target/debug/gatepost"))

# Limits that stand in the way of tests which send a lot from one address.
OPEN_LIMITS = """tarpit_interval = "0s"
message_rate_limit = 0
max_inbound_connections_per_source = 5000
"""

# Retries fast enough to wait for.
FAST_RETRIES = """[transport]
queue_glitch_retry_count = 1000
queue_glitch_retry_interval = "200ms"
message_retry_interval = "300ms"
"""


def server(hostname="edge.contoso.test"):
    """The [server] table every configuration begins with."""
    return f'[server]\nhostname = "{hostname}"\nspool = "spool"\nlog_dir = "log"\n'


class Gatepost:
    """A running relay. `port` is the first receive connector's; write `{port}` for it.

    log_format  of the diagnostics: "json" for events()
    """

    def __init__(self, directory, config, port=None, start=True, log_format="text"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.process = None
        self.log_format = log_format
        self.said = 0
        self.write(config)
        if start:
            self.start()

    def write(self, config):
        """Writes the configuration file; a running relay sees it after reload()."""
        self.config = self.directory / "gatepost.toml"
        self.config.write_text(config.replace("{port}", str(self.port)))

    def start(self, wait=True):
        """Starts the program and waits until it greets. What was queued may still be being read then."""
        self.said = len(self.diagnostics())
        self.stderr = open(self.directory / "stderr.log", "ab")
        self.process = subprocess.Popen(
            [*WRAPPER, BINARY, "--log-format", self.log_format, "run", "-c", self.config],
            stdin=subprocess.DEVNULL, stdout=self.stderr, stderr=self.stderr
        )
        if wait:
            try:
                wait_until(self._greets, f"greeting on port {self.port}", 30)
            except PeerError as error:
                if self.process:
                    self.kill()
                raise PeerError(f"{error}; it said:\n{self.diagnostics()[-2000:]}") from None
        return self

    def _greets(self):
        """Whether it greets; PeerError once it has ended instead."""
        code = self.process.poll()
        if code is not None:
            self._reap(0)
            raise PeerError(f"it ended with code {code}")
        try:
            wait_port(self.port, timeout=0.2)
        except PeerError:
            return False
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, timeout=40):
        """SIGTERM, and its exit code."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM)
        return self._reap(timeout)

    def kill(self):
        """kill -9."""
        self.process.kill()
        return self._reap(10)

    def reload(self):
        """SIGHUP, and waits for the word that it was taken or refused."""
        before = self.diagnostics().count("reload")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.diagnostics().count("reload") > before, "answer to SIGHUP")

    def _reap(self, timeout):
        try:
            code = self.process.wait(timeout)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process = None
            self.stderr.close()
        return code

    def diagnostics(self):
        """Everything it wrote to stderr."""
        path = self.directory / "stderr.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_diagnostics(self, text, timeout=20.0):
        """Waits until stderr holds `text`."""
        wait_until(lambda: text in self.diagnostics(), f"{text!r} on stderr", timeout)

    def events(self, message="session"):
        """The events of this name, as objects; only with `log_format="json"`."""
        # The last line may not be whole yet.
        found = [json.loads(line) for line in self.diagnostics().split("\n")[:-1] if line.startswith("{")]
        return [event for event in found if event.get("message") == message]

    def latest(self):
        """What it wrote to stderr since the last start."""
        return self.diagnostics()[self.said:]

    def spool_read(self, timeout=60.0):
        """Waits until the spool is read after the last start; what the log says of it."""
        pattern = re.compile(r"spool read: (.*)\n")
        return wait_until(lambda: pattern.search(self.latest()), "the spool to be read", timeout)[1]

    def receive_log(self):
        """The lines of its SmtpReceive protocol log."""
        return self._protocol_log("SmtpReceive")

    def send_log(self):
        """The lines of its SmtpSend protocol log."""
        return self._protocol_log("SmtpSend")

    def _protocol_log(self, kind):
        lines = []
        for path in sorted((self.directory / "log/ProtocolLog" / kind).glob("*.LOG")):
            lines += path.read_text(errors="replace").splitlines()
        return lines

    def wait_log(self, kind, text, timeout=20.0):
        """Waits until a protocol log ("receive" or "send") has a line with `text`; that line."""
        read = self.receive_log if kind == "receive" else self.send_log
        return wait_until(lambda: next((l for l in read() if text in l), None), f"{text!r} in the {kind} log", timeout)

    def maildir(self, domain, local, template="mail"):
        """Files in a Maildir a `maildir = "mail/%d/%u"` connector delivered to."""
        return sorted((self.directory / template / domain / local / "new").glob("*"))


class Dialogue:
    """A raw SMTP connection, for what no proper client would do."""

    def __init__(self, port, host="127.0.0.1", timeout=20, source=None):
        self.socket = socket.create_connection((host, port), timeout, source and (source, 0))
        self.reader = self.socket.makefile("rb")
        self.banner = self.reply()

    def send(self, data):
        """Sends bytes, or text with CRLF added."""
        self.socket.sendall(data if isinstance(data, bytes) else data.encode() + b"\r\n")

    def reply(self):
        """One whole reply as text, lines joined by newlines; empty when the connection is closed."""
        lines = []
        while True:
            line = self.reader.readline().decode(errors="replace")
            lines.append(line.rstrip("\r\n"))
            if len(line) < 4 or line[3] != "-":
                return "\n".join(lines)

    def ask(self, command):
        """Sends a command and returns its reply."""
        self.send(command)
        return self.reply()

    def close(self):
        """Closes without QUIT."""
        self.reader.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
