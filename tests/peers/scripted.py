"""Small servers that do what no real one would do on request: a next hop (SMTP or LMTP) whose
replies a test chooses, and a name server with the test's own zone.

    with ScriptedServer(rcpt=lambda address, seen: "550 5.1.1 no" if seen == 0 else None) as hop:
        ...                                       # send mail to hop.host, hop.port
        [message] = hop.messages                  # .sender, .recipients, .data, .tls, .login

    with DnsServer({("contoso.test", "MX"): [(10, "mx.contoso.test")],
                    ("mx.contoso.test", "A"): ["127.0.0.11"]}) as dns:
        ...                                       # [dns] servers = ["127.0.0.1:<dns.port>"]
"""

import base64
import collections
import contextlib
import dataclasses
import socket
import socketserver
import ssl
import struct
import threading


@dataclasses.dataclass
class Received:
    """One message a ScriptedServer took."""

    sender: str
    recipients: list
    data: bytes
    tls: str | None
    login: tuple | None


DROP, SILENCE = object(), object()


class ScriptedServer:
    """A next hop for one test.

    tls        a Certificate offers STARTTLS
    auth       mechanisms offered inside TLS: ["PLAIN"], ["LOGIN"]
    lmtp       LHLO, and one reply a recipient behind the data
    keywords   further EHLO keywords
    answers    stage -> reply in place of the usual one, DROP, or SILENCE (nothing until the client goes).
               Stages are BANNER, the verbs, HANDSHAKE (to the client's hello; a text is sent in clear)
               and END (of the message)
    rcpt, final  functions of an address and how often it was asked about before; they return a
               reply, or None for a positive one. `final` is asked once a recipient in LMTP, and
               about the first recipient in SMTP.
    """

    def __init__(self, host="127.0.0.1", port=0, tls=None, auth=(), lmtp=False,
                 keywords=("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"), rcpt=None, final=None, answers=None):
        self.answers = dict(answers or {})
        self.auth, self.lmtp, self.keywords = list(auth), lmtp, list(keywords)
        self.rcpt, self.final = rcpt or (lambda *_: None), final or (lambda *_: None)
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(tls.chain, tls.key)
        self.messages, self.connections = [], 0
        self.seen = collections.Counter()
        self.lock = threading.Lock()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                # A peer that hangs up, as some tests make it, is no error here.
                conversation = _Conversation(outer, self.request)
                with contextlib.suppress(OSError, EOFError):
                    conversation.run()
                conversation.close()

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.server = Server((host, port), Handler)
        self.host, self.port = self.server.server_address
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def ask(self, function, kind, address):
        """The scripted reply for an address, counted."""
        with self.lock:
            before = self.seen[kind, address]
            self.seen[kind, address] += 1
        return function(address, before)

    def to(self, address):
        """The messages taken for an address."""
        with self.lock:
            return [message for message in self.messages if address in message.recipients]


class _Conversation:
    """One connection to a ScriptedServer."""

    def __init__(self, server, connection):
        self.server, self.connection, self.original = server, connection, connection
        self.reader = connection.makefile("rb")
        self.tls = self.login = None
        self.reset()

    def close(self):
        self.reader.close()
        if self.connection is not self.original:
            self.connection.close()

    def reset(self):
        self.sender, self.recipients = None, []

    def say(self, *lines):
        code, last = lines[0][:3], len(lines) - 1
        text = [line if i == 0 else f"{code} {line}" for i, line in enumerate(lines)]
        out = "".join(f"{line[:3]}{' ' if i == last else '-'}{line[4:]}\r\n" for i, line in enumerate(text))
        self.connection.sendall(out.encode())

    def line(self):
        line = self.reader.readline()
        if not line:
            raise EOFError
        return line.decode().rstrip("\r\n")

    def run(self):
        with self.server.lock:
            self.server.connections += 1
        if not self.scripted("BANNER"):
            self.say("220 scripted.test ready")
        while True:
            line = self.line()
            verb, _, argument = line.partition(" ")
            verb = verb.upper()
            if self.scripted(verb):
                continue
            if verb == "QUIT":
                return self.say("221 2.0.0 bye")
            getattr(self, f"do_{verb.lower()}", self.unknown)(argument)

    def scripted(self, stage):
        """Answers as the test wants it at this stage; whether it wants anything."""
        answer = self.server.answers.get(stage)
        if answer is SILENCE:
            # What comes tells nothing; its end does.
            while self.reader.readline():
                pass
        if answer in (DROP, SILENCE):
            raise EOFError
        if answer is not None:
            self.say(answer)
        return answer is not None

    def unknown(self, _):
        self.say("500 5.5.2 what?")

    def hello(self):
        self.reset()
        keywords = list(self.server.keywords)
        if self.server.context and not self.tls:
            keywords.append("STARTTLS")
        if self.server.auth and self.tls:
            keywords.append("AUTH " + " ".join(self.server.auth))
        self.say("250 scripted.test", *keywords)

    def do_ehlo(self, _):
        self.unknown(_) if self.server.lmtp else self.hello()

    def do_lhlo(self, _):
        self.hello() if self.server.lmtp else self.unknown(_)

    def do_starttls(self, _):
        self.say("220 2.0.0 go ahead")
        if "HANDSHAKE" in self.server.answers:
            # Not before the client's part: what comes earlier is no answer to it.
            self.reader.peek(1)
            self.scripted("HANDSHAKE")
            raise EOFError
        # Above the plain socket, which stays the server's to close.
        self.connection = self.server.context.wrap_socket(self.connection.dup(), server_side=True)
        self.reader = self.connection.makefile("rb")
        self.tls = self.connection.version()

    def do_auth(self, argument):
        mechanism, _, initial = argument.partition(" ")
        if not self.tls or mechanism.upper() not in self.server.auth:
            return self.say("504 5.5.4 not here")
        if mechanism.upper() == "PLAIN":
            _, user, password = base64.b64decode(initial).decode().split("\0")
        else:
            answers = []
            for prompt in ("Username:", "Password:"):
                self.say("334 " + base64.b64encode(prompt.encode()).decode())
                answers.append(base64.b64decode(self.line()).decode())
            user, password = answers
        if password != "s3cret":
            return self.say("535 5.7.8 wrong")
        self.login = (mechanism.upper(), user, password)
        return self.say("235 2.7.0 welcome")

    def do_mail(self, argument):
        self.sender = argument.partition("<")[2].partition(">")[0]
        self.say("250 2.1.0 ok")

    def do_rcpt(self, argument):
        address = argument.partition("<")[2].partition(">")[0]
        reply = self.server.ask(self.server.rcpt, "rcpt", address)
        if reply is None:
            self.recipients.append(address)
        self.say(reply or "250 2.1.5 ok")

    def do_rset(self, _):
        self.reset()
        self.say("250 2.0.0 ok")

    def do_data(self, _):
        if not self.recipients:
            return self.say("503 5.5.1 no recipients")
        self.say("354 go on")
        data = b""
        while (line := self.reader.readline()) != b".\r\n":
            if not line:
                raise EOFError
            data += line[1:] if line.startswith(b".") else line
        if self.scripted("END"):
            return self.reset()
        asked = self.recipients if self.server.lmtp else self.recipients[:1]
        replies = [(address, self.server.ask(self.server.final, "final", address)) for address in asked]
        if self.server.lmtp:
            taken = [address for address, reply in replies if reply is None]
        else:
            taken = self.recipients if replies[0][1] is None else []
        if taken:
            with self.server.lock:
                self.server.messages.append(Received(self.sender, taken, data, self.tls, self.login))
        self.reset()
        for _, reply in replies:
            self.say(reply or "250 2.0.0 taken")


_TYPES = {"A": 1, "CNAME": 5, "MX": 15, "AAAA": 28}


class DnsServer:
    """A name server over UDP. `zone` maps (name, type) to values; a name with no entry at all
    does not exist. "A" and "AAAA" values are addresses, "MX" ones pairs of preference and host."""

    def __init__(self, zone):
        self.zone = zone
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.asked = []
        self.thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        # An empty datagram is the word to stop: closing a socket wakes nobody.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        self.thread.join()
        self.socket.close()

    def _serve(self):
        while True:
            query, peer = self.socket.recvfrom(4096)
            if not query:
                return
            self.socket.sendto(self._answer(query), peer)

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
            at += 1 + query[at]
        question = query[12:at + 5]
        (number,) = struct.unpack(">H", query[at + 1:at + 3])
        name = ".".join(labels)
        kind = next((kind for kind, value in _TYPES.items() if value == number), str(number))
        self.asked.append((name, kind))
        values = self.zone.get((name, kind), [])
        exists = values or any(known == name for known, _ in self.zone)
        records = b""
        for value in values:
            data = self._data(kind, value)
            records += b"\xc0\x0c" + struct.pack(">HHIH", number, 1, 60, len(data)) + data
        flags = 0x8580 | (0 if exists else 3)
        return query[:2] + struct.pack(">HHHHH", flags, 1, len(values), 0, 0) + question + records

    @staticmethod
    def _data(kind, value):
        if kind == "MX":
            preference, host = value
            return struct.pack(">H", preference) + _name(host)
        return socket.inet_pton(socket.AF_INET6 if kind == "AAAA" else socket.AF_INET, value)


def _name(host):
    labels = [label for label in host.split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
