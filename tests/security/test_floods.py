"""Floods: the service answers others meanwhile, and its memory does not follow the attacker's.

Memory is what the kernel says of the process. Limits are some times what a run takes, and a fraction
of what it would take if the thing tried were kept.
"""

import os
import pathlib
import select
import socket
import struct
import unittest

from hops import Hop
import peers
from gatepost import FAST_RETRIES, OPEN_LIMITS, Dialogue, Gatepost, server

MB = 1 << 20

CONFIG = server() + """
[[accepted_domains]]
domain = "contoso.test"
[transport]
max_message_size = "unlimited"
""" + FAST_RETRIES.replace("[transport]\n", "") + """
[[receive_connectors]]
name = "Internet"
bindings = ["127.0.0.1:{port}"]
tls = "opportunistic"
max_protocol_errors = 1000000
""" + OPEN_LIMITS + """
[[receive_connectors]]
name = "Wide"
bindings = ["127.0.0.1:{second}"]
max_message_size = "unlimited"
max_header_size = "8MB"
""" + OPEN_LIMITS + """
[[receive_connectors]]
name = "Narrow"
bindings = ["127.0.0.1:{third}"]
connection_inactivity_timeout = "3s"
connection_timeout = "6s"
tls = "opportunistic"
max_inbound_connections_per_source = 20
tarpit_interval = "0s"
"""


class Floods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        cls.hop = cls.enterClassContext(Hop(("8BITMIME", "PIPELINING")))
        cls.second, cls.third = peers.free_port(), peers.free_port()
        config = CONFIG.replace("{second}", str(cls.second)).replace("{third}", str(cls.third))
        config += ('[[send_connectors]]\nname = "in"\naddress_spaces = ["--"]\n'
                   f'smart_hosts = ["127.0.0.1:{cls.hop.port}"]\ntls = "off"\n')
        cls.edge = cls.enterClassContext(Gatepost(cls.base / "edge", config))
        cls.delivered = 0

    def tearDown(self):
        self.deliver()
        self.assertNotIn("panicked", self.edge.diagnostics())

    def deliver(self):
        """Mail still goes through, on a connection of its own."""
        cls = type(self)
        cls.delivered += 1
        subject = f"alive {cls.delivered}"
        with self.greeted() as client:
            client.ask("MAIL FROM:<>")
            client.ask("RCPT TO:<don@contoso.test>")
            client.ask("DATA")
            self.assertEqual(client.ask(f"Subject: {subject}\r\n\r\nx\r\n.")[:3], "250")
        self.hop.wait_subjects([subject])

    def greeted(self, port=None):
        client = Dialogue(port or self.edge.port)
        self.addCleanup(client.close)
        client.ask("EHLO client.test")
        return client

    def memory(self):
        for line in pathlib.Path(f"/proc/{self.edge.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def files(self):
        return len(os.listdir(f"/proc/{self.edge.process.pid}/fd"))

    def push(self, client, data, patience=1.0):
        """Writes without reading until the server stops taking it; how much it took."""
        client.socket.setblocking(False)
        view, sent = memoryview(data), 0
        while sent < len(data):
            _, writable, _ = select.select([], [client.socket], [], patience)
            if not writable:
                break
            try:
                sent += client.socket.send(view[sent:sent + 65536])
            except (BrokenPipeError, ConnectionResetError):
                break
        return sent

    def test_five_hundred_connections_that_come_and_go(self):
        before = self.files()
        for _ in range(5):
            batch = [socket.create_connection(("127.0.0.1", self.edge.port), 10) for _ in range(100)]
            for number, connection in enumerate(batch):
                if number % 3 == 0:
                    # A reset rather than a goodbye.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif number % 3 == 1:
                    connection.sendall(b"EHLO x\r\nMAIL FROM:<a@b.test>\r\n")
                connection.close()
        peers.wait_until(lambda: self.files() <= before + 10, "sockets given back", 30)

    def test_silent_handshakes_hold_nobody_up(self):
        """Half of them say STARTTLS and fall silent, half send the first bytes of a hello."""
        clients = []
        for number in range(100):
            client = self.greeted()
            clients.append(client)
            self.assertEqual(client.ask("STARTTLS")[:3], "220")
            if number % 2:
                client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 20)
        self.deliver()
        for client in clients:
            client.close()

    def test_a_silent_handshake_ends(self):
        client = self.enterContext(self.greeted(self.third))
        self.assertEqual(client.ask("STARTTLS")[:3], "220")
        self.assertEqual(client.socket.recv(100), b"", "closed within the idle timeout")
        self.edge.wait_log("receive", "TLS negotiation failed with error TimedOut")

    def test_a_client_that_drips_is_cut_off(self):
        """One byte and another keep a session from being idle, but its time ends."""
        client = self.enterContext(self.greeted(self.third))
        client.socket.settimeout(0.2)
        said = b""
        for _ in range(200):
            try:
                client.socket.sendall(b"N")
                piece = client.socket.recv(200)
            except TimeoutError:
                continue
            except OSError:
                break
            said += piece
            if not piece:
                break
        self.assertIn(b"421 4.4.1 Connection timed out", said)

    def test_ten_megabytes_of_commands_and_no_reading(self):
        before = self.memory()
        for command in (b"EHLO x\r\n", b"HELP\r\n", b"NOOP\r\n", b"what\r\n"):
            client = self.greeted()
            sent = self.push(client, command * (10 * MB // len(command)))
            self.assertLess(sent, 10 * MB, "it stops reading when nobody reads its replies")
            self.assertLess(self.memory() - before, 40 * MB, command)
            self.deliver()
            client.close()

    def test_a_line_without_end(self):
        before = self.memory()
        client = self.greeted()
        self.assertEqual(self.push(client, b"A" * (20 * MB)), 20 * MB)
        self.assertLess(self.memory() - before, 20 * MB)
        client.socket.setblocking(True)
        client.socket.settimeout(20)
        client.send(b"\r\nNOOP\r\n")
        self.assertEqual(client.reply()[:3], "500")
        self.assertEqual(client.reply(), "250 2.0.0 OK")
        client.close()

    def test_more_recipients_than_allowed(self):
        before = self.memory()
        client = self.greeted()
        client.ask("MAIL FROM:<>")
        replies = []
        for begin in range(0, 20_000, 1000):
            client.send(b"".join(b"RCPT TO:<r%d@contoso.test>\r\n" % n for n in range(begin, begin + 1000)))
            replies += [client.reply()[:9] for _ in range(1000)]
        self.assertEqual(replies.count("250 2.1.5"), 200)
        self.assertEqual(replies.count("452 4.5.3"), 19800)
        self.assertLess(self.memory() - before, 20 * MB)
        client.close()

    def test_transactions_begun_and_dropped(self):
        before = self.memory()
        client = self.greeted()
        for _ in range(10):
            client.send(b"MAIL FROM:<a@b.test> SIZE=30000000\r\nRCPT TO:<x@contoso.test>\r\nBDAT 5\r\nhelloRSET\r\n" * 500)
            for _ in range(2000):
                self.assertEqual(client.reply()[:3], "250")
        self.assertLess(self.memory() - before, 20 * MB)
        client.close()

    def header(self, port, header):
        client = self.greeted(port)
        client.ask("MAIL FROM:<>")
        client.ask("RCPT TO:<don@contoso.test>")
        self.assertEqual(client.ask("DATA")[:3], "354")
        self.push(client, header + b"Subject: big header\r\n\r\nx\r\n.\r\n", 10)
        client.socket.setblocking(True)
        client.socket.settimeout(30)
        return client

    def test_a_header_of_a_hundred_thousand_lines(self):
        header = b"a: b\r\n" * 100_000
        client = self.header(self.edge.port, header)
        self.assertEqual(client.reply(), "552 5.3.4 Message header size exceeds fixed maximum size")
        self.assertEqual(client.reply(), "", "what is left of it is not read as commands")
        before, count = self.memory(), len(self.hop.messages)
        client = self.header(self.second, header)
        self.assertEqual(client.reply()[:3], "250")
        self.assertEqual(self.hop.wait_messages(count + 1)[-1].content.count(b"\r\na: b"), 100_000)
        self.assertLess(self.memory() - before, 40 * MB)

    def test_a_header_line_of_a_megabyte(self):
        for name in (b"X-Long", b"Received", b"Subject", b"Message-ID"):
            header = name + b": " + b"(" * MB + b"\r\n"
            self.assertEqual(self.header(self.edge.port, header).reply()[:9], "552 5.3.4")
            count = len(self.hop.messages)
            self.assertEqual(self.header(self.second, header).reply()[:3], "250", name)
            self.assertIn(b"(" * MB, self.hop.wait_messages(count + 1)[-1].content)

    def test_memory_does_not_grow_with_the_message(self):
        before = self.memory()
        client = self.greeted(self.second)
        client.ask("MAIL FROM:<>")
        client.ask("RCPT TO:<don@contoso.test>")
        client.ask("DATA")
        client.send(b"Subject: large\r\n\r\n")
        block = (b"y" * 78 + b"\r\n") * 13107
        for _ in range(60):
            client.send(block)
            self.assertLess(self.memory() - before, 30 * MB)
        # Never finished: nothing of it stays.
        [file] = (self.edge.directory / "spool/big").iterdir()
        self.assertGreater(file.stat().st_size, 50 * MB)
        client.close()
        peers.wait_until(lambda: not file.exists(), "end of the file", 20)

    def test_more_connections_than_allowed(self):
        """The 21st of one address is told so and counts for nothing."""
        kept = []
        while len(kept) < 20:
            # Others of this class may just be leaving.
            client = peers.wait_until(self.admitted, "a place", 20)
            self.addCleanup(client.close)
            kept.append(client)
        for _ in range(50):
            with Dialogue(self.third) as client:
                self.assertEqual(client.banner[:9], "421 4.3.2")
                self.assertEqual(client.reply(), "")
        for client in kept:
            client.close()
        peers.wait_until(self.admitted, "a place", 20).close()

    def admitted(self):
        """A session on the narrow connector, or None."""
        client = Dialogue(self.third)
        if client.banner[:3] == "220":
            return client
        client.close()
        return None


if __name__ == "__main__":
    unittest.main()
