"""Somebody on the wire speaks between STARTTLS and the handshake (RFC 3207 section 4.2).

A tap between two honest ends injects, and keeps what really went over the wire. The capture shows
that the bytes were there, that nothing but TLS followed, and what both ends took says that not one
of the injected bytes counted.
"""

import ssl
import unittest

import peers
from cases import accepted, receive, roots, send
from gatepost import FAST_RETRIES, Dialogue, Gatepost, server
from hops import Hop, client_context, server_context
from tap import Tap, records

READY = b"220 2.0.0 SMTP server ready\r\n"
COMMANDS = (b"EHLO evil.test\r\nMAIL FROM:<evil@fabrikam.test>\r\nRCPT TO:<don@contoso.test>\r\n"
            b"DATA\r\nSubject: injected\r\n\r\nx\r\n.\r\n")
REPLIES = b"250-hop.test\r\n250 8BITMIME\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"
HANDSHAKE, APPLICATION_DATA = 22, 23


class Capture(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        cls.ca = peers.make_ca(cls.base / "ca")
        cls.tls = server_context(cls.ca.issue("hop.test"))

    def edge(self, port, **keys):
        """A relay that sends everything to `port`."""
        parts = [server(), roots(self.ca.path), accepted("contoso.test"), receive(tls="required"),
                 send(smart_hosts=[f"127.0.0.1:{port}"], **keys), FAST_RETRIES]
        return self.enterContext(Gatepost(self.base / self.id().rpartition(".")[2], "\n".join(parts)))

    def speak(self, client, context, subject):
        """A whole session with TLS: every reply is the one to its command, and there is no other."""
        client.ask("EHLO client.test")
        self.assertEqual(client.ask("STARTTLS").encode() + b"\r\n", READY)
        client.socket = context.wrap_socket(client.socket)
        client.reader = client.socket.makefile("rb")
        # Ahead of EHLO, so that an injected one would show.
        self.assertEqual(client.ask("MAIL FROM:<ann@fabrikam.test>"), "503 5.5.2 Send hello first")
        for command, code in (("EHLO client.test", "250"), ("RCPT TO:<don@contoso.test>", "503"),
                              ("MAIL FROM:<ann@fabrikam.test>", "250"), ("RCPT TO:<don@contoso.test>", "250"), ("DATA", "354"),
                              (f"Subject: {subject}\r\n\r\nx\r\n.", "250"), ("QUIT", "221")):
            self.assertEqual(client.ask(command)[:3], code, command)
        self.assertEqual(client.reader.read(), b"")

    def test_sessions_in(self):
        sent, expected = 0, []
        with Hop() as hop:
            edge = self.edge(hop.port, tls="off")
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                context = client_context()
                context.minimum_version = context.maximum_version = version
                # Whole commands; one that waits for its end; one byte; none at all, for comparison.
                for injected in (COMMANDS, COMMANDS[:-1], b"MAIL FROM:<evil@fabrikam.test", b"\n", b""):
                    with self.subTest(version=version.name, injected=injected), Tap(edge.port, behind_command=injected) as tap:
                        sent += 1
                        with Dialogue(tap.port) as client:
                            self.speak(client, context, f"honest {sent}")
                        expected.append(f"honest {sent}")
                        [wire] = tap.wires
                        self.assertTrue(wire.over.wait(20))
                        before, _, after = bytes(wire.to_server).partition(b"STARTTLS\r\n")
                        self.assertEqual(before, b"EHLO client.test\r\n")
                        # The bytes did arrive, and then nothing that is not TLS.
                        self.assertTrue(after.startswith(injected))
                        self.assertEqual(records(after[len(injected):])[0], HANDSHAKE)
                        _, ready, after = bytes(wire.to_client).partition(READY)
                        self.assertTrue(ready)
                        types = records(after)
                        self.assertEqual(types[0], HANDSHAKE)
                        self.assertIn(APPLICATION_DATA, types)
                        if injected:
                            edge.wait_log("receive", f"{len(injected)} octets sent in clear behind STARTTLS were dropped")
            hop.wait_subjects(expected)
            self.assertEqual(sorted(m.subject for m in hop.messages), sorted(expected))
            self.assertEqual({m.sender for m in hop.messages}, {b"MAIL FROM:<ann@fabrikam.test>"})

    def submit(self, edge):
        with Dialogue(edge.port) as client:
            self.speak(client, client_context(), "outgoing")

    def sessions_out(self, rule, more=None, **injected):
        """The poisoned connections carry nothing, the first honest one carries the message."""
        name = "-".join([rule, *injected]).replace("_", "-")
        with self.subTest(name), Hop(tls=self.tls) as hop, Tap(hop.port, **injected) as tap:
            parts = [server(), roots(self.ca.path), accepted("contoso.test"), receive(tls="required"),
                     send(smart_hosts=[f"127.0.0.1:{tap.port}"], tls=rule, **more or {}), FAST_RETRIES]
            edge = self.enterContext(Gatepost(self.base / name, "\n".join(parts)))
            self.submit(edge)
            # The second attempt is no softer than the first.
            peers.wait_until(lambda: sum(w.over.is_set() for w in tap.wires) >= 2, "two attempts", 20)
            tap.be_honest()
            [message] = hop.wait_messages()
            poisoned = [w for w in tap.wires[:-1] if any(bytes(b) in bytes(w.to_client) for b in injected.values())]
            self.assertGreaterEqual(len(poisoned), 2)
            for wire in poisoned:
                self.assertTrue(wire.over.wait(20))
                before, _, after = bytes(wire.to_server).partition(b"STARTTLS\r\n")
                self.assertEqual(before, b"EHLO edge.contoso.test\r\n")
                if "behind_reply" in injected:
                    # Not another word, not even of TLS.
                    self.assertEqual(after, b"")
                else:
                    # It came during the handshake, which came to nothing.
                    self.assertNotIn(APPLICATION_DATA, records(after))
            edge.stop()
            honest = tap.wires[-1]
            self.assertTrue(honest.over.wait(20))
            self.assertEqual(records(bytes(honest.to_server).partition(b"STARTTLS\r\n")[2])[0], HANDSHAKE)
            self.assertIn(APPLICATION_DATA, records(bytes(honest.to_client).partition(b"220 2.0.0 go\r\n")[2]))
            self.assertTrue(message.session.tls)
            self.assertEqual((message.subject, len(hop.messages)), ("outgoing", 1))

    def test_sessions_out_with_replies_in_one_segment(self):
        self.sessions_out("required", behind_reply=REPLIES)
        self.sessions_out("validate_domain", {"tls_domain": "hop.test"}, behind_reply=REPLIES)
        self.sessions_out("opportunistic", behind_reply=REPLIES)

    def test_sessions_out_with_a_part_of_a_reply(self):
        self.sessions_out("required", behind_reply=b"2")

    def test_sessions_out_with_replies_by_themselves(self):
        self.sessions_out("required", after_reply=REPLIES)
        self.sessions_out("validate_domain", {"tls_domain": "hop.test"}, after_reply=REPLIES)


if __name__ == "__main__":
    unittest.main()
