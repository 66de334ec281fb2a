"""A next hop for attacks: it records every byte, does what its script says, and can be as sloppy
about the end of data as the worst server ever was.

    with Hop(capabilities=("PIPELINING",), ends=SLOPPY) as hop:
        ...                                     # a relay delivers to 127.0.0.1:hop.port
        [message] = hop.wait_messages()
"""

import re
import socket
import ssl
import threading

import peers

STRICT = (b"\r\n.\r\n",)

# Whatever some server has once taken for an end of data.
SLOPPY = tuple(before + b"." + after
               for before in (b"\r\n", b"\n", b"\r", b"\r\0\n", b"\n\0")
               for after in (b"\r\n", b"\n", b"\r\r\n", b"\r", b" \r\n", b"\0\r\n"))


class Message:
    """A message as the hop understood it."""

    def __init__(self, session, sender, recipients, content, by):
        self.session, self.sender, self.recipients = session, sender, recipients
        self.content, self.by = bytes(content), by

    @property
    def subject(self):
        """The value of the first Subject field, or an empty text."""
        found = re.search(rb"^Subject: ?(.*?)\r?$", self.content, re.MULTILINE)
        return found.group(1).decode(errors="replace") if found else ""


class Session:
    """One connection to the hop."""

    def __init__(self, hop, connection):
        self.hop, self.connection = hop, connection
        self.raw = bytearray()          # all that came, decrypted where TLS was on
        self.commands = []              # (line, inside TLS)
        self.tls = False
        self.certificate = None         # the client's, as getpeercert() gives it
        self.problem = None
        self.buffer = b""
        self.sender, self.recipients = None, []
        self.chunks = b""

    def send(self, data):
        self.connection.sendall(data)

    def fill(self):
        data = self.connection.recv(65536)
        if not data:
            raise ConnectionError("closed")
        self.raw += data
        self.buffer += data

    def line(self):
        while b"\n" not in self.buffer:
            self.fill()
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def run(self):
        self.send(self.hop.banner)
        while True:
            line = self.line()
            if not line:
                continue
            self.commands.append((line, self.tls))
            verb = line.split(b" ")[0].split(b":")[0].upper().decode(errors="replace")
            answer = self.hop.answers.get(verb)
            if callable(answer):
                answer = answer(self, line)
            if verb == "BDAT" and answer is not None and self.hop.swallows_refused_chunks:
                self.take(int(line.split()[1]))
            if answer is not None:
                self.send(answer)
                if answer.startswith(b"421"):
                    return
                continue
            if getattr(self, "do_" + verb.lower(), self.unknown)(line) == "end":
                return

    def unknown(self, line):
        self.send(b"500 5.5.2 what\r\n")

    def do_ehlo(self, line):
        self.reset()
        words = ["hop.test"] + list(self.hop.capabilities)
        if self.hop.tls and not self.tls:
            words.append("STARTTLS")
        lines = [f"250{'-' if i + 1 < len(words) else ' '}{word}\r\n" for i, word in enumerate(words)]
        self.send("".join(lines).encode())

    def do_helo(self, line):
        self.reset()
        self.send(b"250 hop.test\r\n")

    def reset(self):
        self.sender, self.recipients, self.chunks = None, [], b""

    def do_starttls(self, line):
        self.send(b"220 2.0.0 go\r\n" + self.hop.injected)
        self.connection = self.hop.tls.wrap_socket(self.connection, server_side=True)
        self.tls, self.buffer = True, b""
        self.certificate = self.connection.getpeercert()

    def do_mail(self, line):
        self.sender = line
        self.send(b"250 2.1.0 ok\r\n")

    def do_rcpt(self, line):
        self.recipients.append(line)
        self.send(b"250 2.1.5 ok\r\n")

    def do_data(self, line):
        if not self.recipients:
            return self.send(b"503 5.5.1 no recipients\r\n")
        self.send(b"354 go on\r\n")
        # The line end of DATA counts as the one before a first dot.
        text = b"\r\n" + self.buffer
        self.buffer = b""
        while True:
            found = [(at, -len(end)) for end in self.hop.ends if (at := text.find(end)) >= 0]
            # A CR at the very end may yet get its LF: a real server would wait, too.
            if found and not (text.endswith(b"\r") and min(found)[0] - min(found)[1] == len(text)):
                at, length = min(found)
                break
            self.fill()
            text, self.buffer = text + self.buffer, b""
        self.buffer = text[at - length:]
        self.finish(text[2:at + 2], "DATA")

    def take(self, size):
        while len(self.buffer) < size:
            self.fill()
        chunk, self.buffer = self.buffer[:size], self.buffer[size:]
        return chunk

    def do_bdat(self, line):
        words = line.upper().split()
        self.chunks += self.take(int(words[1]))
        if not self.recipients:
            return self.send(b"503 5.5.1 no recipients\r\n")
        if words[-1] != b"LAST":
            return self.send(b"250 2.0.0 chunk\r\n")
        self.finish(self.chunks, "BDAT")

    def finish(self, content, by):
        message = Message(self, self.sender, self.recipients, content, by)
        self.reset()
        with self.hop.changed:
            self.hop.messages.append(message)
            self.hop.changed.notify_all()
        answer = self.hop.answers.get("END")
        if callable(answer):
            answer = answer(self, message)
        self.send(answer or b"250 2.0.0 taken\r\n")

    def do_rset(self, line):
        self.reset()
        self.send(b"250 2.0.0 ok\r\n")

    def do_noop(self, line):
        self.send(b"250 2.0.0 ok\r\n")

    def do_auth(self, line):
        self.send(b"235 2.7.0 welcome\r\n")

    def do_quit(self, line):
        self.send(b"221 2.0.0 bye\r\n")
        return "end"


class Hop:
    """The listener.

    capabilities  EHLO keywords; STARTTLS is added when there is `tls` (an ssl.SSLContext).
    ends          what ends data for it.
    answers       verb -> reply, or a function (session, line) -> reply or None for the usual one.
                  "END" is the end of a message.
    injected      bytes sent in clear right behind the 220 of STARTTLS.
    """

    def __init__(self, capabilities=("8BITMIME",), tls=None, ends=STRICT, answers=None, injected=b"",
                 banner=b"220 hop.test ESMTP\r\n", port=0):
        self.capabilities, self.tls, self.ends = capabilities, tls, ends
        self.answers, self.injected, self.banner = dict(answers or {}), injected, banner
        self.swallows_refused_chunks = True
        self.sessions, self.messages = [], []
        self.changed = threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.closing = False
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(self, connection)
            self.sessions.append(session)
            threading.Thread(target=self._serve, args=(session,), daemon=True).start()

    def _serve(self, session):
        try:
            session.run()
        except (OSError, ValueError) as problem:
            session.problem = problem
        finally:
            with self.changed:
                self.changed.notify_all()
            session.connection.close()

    def wait_messages(self, count=1, timeout=30.0):
        """All messages, once there are `count`."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.messages) >= count, timeout):
                seen = [bytes(s.raw[-300:]) for s in self.sessions]
                raise peers.PeerError(f"{len(self.messages)} of {count} messages came; sessions: {seen}")
            return list(self.messages)

    def wait_subjects(self, wanted, timeout=30.0):
        """Waits until a message with each of these subjects has come."""
        wanted = set(wanted)
        with self.changed:
            if not self.changed.wait_for(lambda: wanted <= {m.subject for m in self.messages}, timeout):
                missing = wanted - {m.subject for m in self.messages}
                raise peers.PeerError(f"never came: {sorted(missing)}")

    def wait_sessions(self, count, timeout=20.0):
        """Waits for `count` connections."""
        peers.wait_until(lambda: len(self.sessions) >= count, f"{count} sessions", timeout)

    def commands(self):
        """Every command line of every session."""
        return [line for session in list(self.sessions) for line, _ in session.commands]

    def close(self):
        """Stops listening; sessions end with their clients."""
        # shutdown() first: close() alone leaves a blocked accept() listening.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.thread.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def server_context(certificate, client_ca=None):
    """TLS settings of a server; `client_ca`: asks for a client certificate and verifies it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context():
    """TLS settings of a client that looks at no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
