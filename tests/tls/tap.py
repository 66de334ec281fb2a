"""A wire tap: a proxy that keeps every byte of a connection, and can speak in between.

    with Tap(edge.port, behind_command=b"MAIL FROM:<evil@fabrikam.test>\\r\\n") as tap:
        ...                                 # a client connects to tap.port
        [wire] = tap.wires
        wire.to_server, wire.to_client      # what went over it, in order, injected bytes included
"""

import socket
import threading

# TLS record types (RFC 8446 section 5.1): change cipher spec, alert, handshake, application data.
RECORD_TYPES = {20, 21, 22, 23}


def records(data):
    """The types of the TLS records that `data` consists of; ValueError if there is anything else."""
    types, at = [], 0
    while at < len(data):
        if data[at] not in RECORD_TYPES or data[at + 1:at + 2] != b"\x03":
            raise ValueError(f"no TLS record at {at}: {data[at:at + 40]!r}")
        length = int.from_bytes(data[at + 3:at + 5], "big")
        types.append(data[at])
        at += 5 + length
    if at != len(data):
        raise ValueError(f"the last TLS record is {at - len(data)} bytes short")
    return types


class Wire:
    """One connection through the tap."""

    def __init__(self, tap, client):
        self.tap, self.client = tap, client
        self.server = socket.create_connection(("127.0.0.1", tap.server_port), 20)
        self.to_server, self.to_client = bytearray(), bytearray()
        self.asked = threading.Event()      # the client said STARTTLS
        self.over = threading.Event()       # both directions have ended
        self.threads = [threading.Thread(target=self._pass, args=pair, daemon=True)
                        for pair in ((client, self.server, self._from_client), (self.server, client, self._from_server))]

    def start(self):
        """Lets the bytes through."""
        for thread in self.threads:
            thread.start()
        threading.Thread(target=self._end, daemon=True).start()

    def _pass(self, source, sink, look):
        try:
            while data := source.recv(65536):
                for piece in look(data):
                    sink.sendall(piece)
        except OSError:
            pass
        # The end goes on as well: to either side the tap is not there.
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RD if end is source else socket.SHUT_WR)
            except OSError:
                pass

    def _from_client(self, data):
        if data.upper() == b"STARTTLS\r\n":
            # In one segment with the command.
            data += self.tap.behind_command
            self.asked.set()
        self.to_server += data
        return [data]

    def _from_server(self, data):
        pieces = [data]
        if self.asked.is_set() and data.startswith(b"220"):
            self.asked.clear()
            pieces = [data + self.tap.behind_reply]
            if self.tap.after_reply:
                pieces.append(self.tap.after_reply)
        for piece in pieces:
            self.to_client += piece
        return pieces

    def _end(self):
        for thread in self.threads:
            thread.join()
        self.client.close()
        self.server.close()
        self.over.set()


class Tap:
    """The listener in front of `server_port`.

    behind_command  bytes that follow the client's STARTTLS in one segment
    behind_reply    bytes that follow the server's reply to it in one segment
    after_reply     bytes that come by themselves, ahead of the server's part of the handshake
    """

    def __init__(self, server_port, behind_command=b"", behind_reply=b"", after_reply=b""):
        self.server_port = server_port
        self.behind_command, self.behind_reply, self.after_reply = behind_command, behind_reply, after_reply
        self.wires = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Known before a byte passes: a session is over sooner than one thinks.
            self.wires.append(Wire(self, client))
            self.wires[-1].start()

    def be_honest(self):
        """Injects nothing from the next connection on."""
        self.behind_command = self.behind_reply = self.after_reply = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.thread.join(5)
