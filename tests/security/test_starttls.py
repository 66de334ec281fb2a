"""What is said in clear never counts inside TLS, in either direction (RFC 3207 section 4.2)."""

import ssl
import unittest
import warnings

from hops import Hop, client_context, server_context
import peers
from gatepost import FAST_RETRIES, OPEN_LIMITS, Dialogue, Gatepost, server

CONFIG = server() + """
[[accepted_domains]]
domain = "contoso.test"
[tls]
trusted_roots = "{ca}"
[[receive_connectors]]
name = "Internet"
bindings = ["127.0.0.1:{port}"]
tls = "{receive}"
connection_inactivity_timeout = "20s"
""" + OPEN_LIMITS + FAST_RETRIES


def send_connector(port, tls, more=""):
    return (f'[[send_connectors]]\nname = "in"\naddress_spaces = ["--"]\nsmart_hosts = ["127.0.0.1:{port}"]\n'
            f'tls = "{tls}"\n{more}')


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        cls.ca = peers.make_ca(cls.base / "ca")
        cls.certificate = cls.ca.issue("hop.test", "127.0.0.1")

    def edge(self, connectors, receive="opportunistic"):
        config = CONFIG.replace("{ca}", str(self.ca.path)).replace("{receive}", receive) + connectors
        return self.enterContext(Gatepost(self.base / self.id().rpartition(".")[2], config))

    def submit(self, edge, subject, sender=""):
        with Dialogue(edge.port) as client:
            client.ask("EHLO client.test")
            client.ask(f"MAIL FROM:<{sender}>")
            client.ask("RCPT TO:<don@contoso.test>")
            client.ask("DATA")
            self.assertEqual(client.ask(f"Subject: {subject}\r\n\r\nx\r\n.")[:3], "250")


class Server(Base):
    """Gatepost as the server."""

    def secure(self, client):
        client.socket = client_context().wrap_socket(client.socket)
        client.reader = client.socket.makefile("rb")

    def test_the_last_reply_is_followed_by_close_notify(self):
        """So that a client can tell a dialogue that ended from one that somebody cut."""
        with Hop() as hop:
            edge = self.edge(send_connector(hop.port, "off"))
            for sent, last in ((b"QUIT\r\n", b"221 "), (b"NONSENSE\r\n" * 9, b"421 ")):
                with self.subTest(last=last), Dialogue(edge.port) as client:
                    client.ask("EHLO client.test")
                    client.ask("STARTTLS")
                    client.socket = client_context().wrap_socket(client.socket, suppress_ragged_eofs=False)
                    client.socket.sendall(sent)
                    said = b""
                    # Raises at an end that close_notify does not announce.
                    while piece := client.socket.recv(4096):
                        said += piece
                    self.assertTrue(said.splitlines()[-1].startswith(last), said)

    def test_commands_behind_starttls_are_never_executed(self):
        with Hop() as hop:
            edge = self.edge(send_connector(hop.port, "off"))
            injected = (b"EHLO evil.test\r\nMAIL FROM:<evil@fabrikam.test>\r\nRCPT TO:<don@contoso.test>\r\n"
                        b"DATA\r\nSubject: injected\r\n\r\nx\r\n.\r\n")
            for length in (2, 7, len(injected) // 2, len(injected)):
                with self.subTest(length=length), Dialogue(edge.port) as client:
                    client.ask("EHLO client.test")
                    # In one packet with the command.
                    client.send(b"STARTTLS\r\n" + injected[:length])
                    self.assertEqual(client.reply(), "220 2.0.0 SMTP server ready")
                    self.secure(client)
                    # The first reply inside is to the first command inside.
                    self.assertEqual(client.ask("NOOP"), "250 2.0.0 OK")
                    self.assertEqual(client.ask("MAIL FROM:<a@b.test>"), "503 5.5.2 Send hello first")
                    self.assertEqual(client.ask("EHLO client.test")[:3], "250")
                    self.assertEqual(client.ask("RCPT TO:<don@contoso.test>"), "503 5.5.2 Need mail command")
                    self.assertEqual(client.ask("QUIT")[:3], "221")
            edge.wait_log("receive", "STARTTLS injection")
            self.submit(edge, "marker")
            hop.wait_subjects(["marker"])
            self.assertEqual([m.subject for m in hop.messages], ["marker"])
            self.assertNotIn("EHLO evil.test", "\n".join(edge.receive_log()))

    def test_commands_behind_the_reply_break_the_handshake(self):
        """They come when the server waits for a ClientHello already."""
        edge = self.edge(send_connector(peers.free_port(), "off"))
        with Dialogue(edge.port) as client:
            client.ask("EHLO client.test")
            client.ask("STARTTLS")
            client.send(b"EHLO evil.test\r\nMAIL FROM:<evil@fabrikam.test>\r\n")
            with self.assertRaises(OSError):
                self.secure(client)
        line = edge.wait_log("receive", "TLS negotiation failed with error")
        self.assertIn("the peer sent no TLS", line)
        self.assertNotIn("evil.test", "\n".join(edge.receive_log()))

    def test_the_session_before_tls_is_forgotten(self):
        edge = self.edge(send_connector(peers.free_port(), "off"))
        for begun in ([], ["MAIL FROM:<a@b.test>"], ["MAIL FROM:<a@b.test>", "RCPT TO:<don@contoso.test>"]):
            with self.subTest(begun=begun), Dialogue(edge.port) as client:
                client.ask("EHLO client.test")
                for command in begun:
                    self.assertEqual(client.ask(command)[:3], "250")
                self.assertEqual(client.ask("STARTTLS")[:3], "220")
                self.secure(client)
                self.assertEqual(client.ask("RCPT TO:<don@contoso.test>"), "503 5.5.2 Send hello first")
                self.assertEqual(client.ask("DATA"), "503 5.5.2 Send hello first")
                again = client.ask("EHLO client.test")
                self.assertNotIn("STARTTLS", again)
                self.assertEqual(client.ask("DATA"), "503 5.5.2 Need mail command")
                self.assertEqual(client.ask("STARTTLS")[:3], "503")

    def test_starttls_in_the_middle_of_a_chunked_message(self):
        edge = self.edge(send_connector(peers.free_port(), "off"))
        with Dialogue(edge.port) as client:
            for command in ("EHLO client.test", "MAIL FROM:<a@b.test>", "RCPT TO:<don@contoso.test>"):
                client.ask(command)
            self.assertEqual(client.ask(b"BDAT 5\r\nhello")[:3], "250")
            self.assertEqual(client.ask("STARTTLS")[:3], "503")

    def test_required_takes_nothing_in_clear(self):
        edge = self.edge(send_connector(peers.free_port(), "off"), receive="required")
        with Dialogue(edge.port) as client:
            client.ask("EHLO client.test")
            self.assertEqual(client.ask("MAIL FROM:<a@b.test>"), "451 5.7.3 Must issue a STARTTLS command first")
            client.send(b"RCPT TO:<don@contoso.test>\r\nDATA\r\nBDAT 5 LAST\r\nhello")
            self.assertEqual([client.reply()[:3] for _ in range(3)], ["503"] * 3)
            client.ask("STARTTLS")
            self.secure(client)
            client.ask("EHLO client.test")
            self.assertEqual(client.ask("MAIL FROM:<a@b.test>")[:3], "250")

    def test_old_versions_are_refused(self):
        edge = self.edge(send_connector(peers.free_port(), "off"))
        context = client_context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with Dialogue(edge.port) as client:
            client.ask("EHLO client.test")
            client.ask("STARTTLS")
            with self.assertRaises(OSError):
                context.wrap_socket(client.socket)
        self.assertIn("TLS 1.1", edge.wait_log("receive", "TLS negotiation failed"))


class Client(Base):
    """Gatepost as the client."""

    def refused_then_delivered(self, tls, injected, more=""):
        """Mail never goes over the poisoned connection; a clean host gets it later."""
        with Hop(tls=server_context(self.certificate), injected=injected) as hop:
            edge = self.edge(send_connector(hop.port, tls, more))
            self.submit(edge, "later")
            hop.wait_sessions(2)
            self.assertEqual(hop.messages, [])
            self.assertFalse([line for line in hop.commands() if line.startswith(b"MAIL")])
            clean = self.enterContext(Hop(tls=server_context(self.certificate)))
            edge.write(CONFIG.replace("{ca}", str(self.ca.path)).replace("{receive}", "opportunistic")
                       + send_connector(clean.port, tls, more))
            edge.reload()
            [message] = clean.wait_messages()
            self.assertTrue(message.session.tls)
            self.assertEqual(hop.messages, [])
        return edge

    def test_replies_behind_the_220_never_count(self):
        injected = b"250-hop.test\r\n250 8BITMIME\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"
        edge = self.refused_then_delivered("required", injected)
        self.assertIn("it spoke between its reply to STARTTLS and the handshake", "\n".join(edge.send_log())
                      + edge.diagnostics())

    def test_nor_with_validation(self):
        self.refused_then_delivered("validate_domain", b"250 ok\r\n", 'tls_domain = "hop.test"\n')

    def test_nor_a_part_of_a_reply(self):
        self.refused_then_delivered("required", b"2")

    def test_nor_does_opportunistic_fall_back_to_clear_text_for_them(self):
        self.refused_then_delivered("opportunistic", b"250 ok\r\n")

    def test_replies_ahead_of_their_command_gain_nothing(self):
        """A reply to STARTTLS that came with the EHLO reply: the handshake meets the real one."""
        def ehlo(session, line):
            if not session.tls:
                return b"250-hop.test\r\n250 STARTTLS\r\n220 go\r\n"

        with Hop(tls=server_context(self.certificate), answers={"EHLO": ehlo}) as hop:
            edge = self.edge(send_connector(hop.port, "required"))
            self.submit(edge, "never")
            hop.wait_sessions(2)
            self.assertFalse([line for line in hop.commands() if line.startswith(b"MAIL")])
            self.assertEqual(hop.messages, [])

    def test_what_was_offered_in_clear_is_forgotten(self):
        """Extensions named before TLS and not again inside are not used."""
        def ehlo(session, line):
            if not session.tls:
                return b"250-hop.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-DSN\r\n250 STARTTLS\r\n"
            return b"250 hop.test\r\n"

        with Hop(tls=server_context(self.certificate), answers={"EHLO": ehlo}) as hop:
            edge = self.edge(send_connector(hop.port, "required"))
            self.submit(edge, "plain words")
            [message] = hop.wait_messages()
            self.assertEqual(message.by, "DATA")
            self.assertEqual(message.sender, b"MAIL FROM:<>")
            self.assertTrue(message.session.tls)

    def test_a_greeting_in_clear_with_our_own_name_returns_no_mail(self):
        """Mail that loops is returned for good; where TLS is demanded only a name inside counts."""
        with Hop(tls=server_context(self.certificate), banner=b"220 edge.contoso.test ESMTP\r\n") as hop:
            edge = self.edge(send_connector(hop.port, "validate_domain", 'tls_domain = "hop.test"\n'))
            self.submit(edge, "not a loop", sender="ann@contoso.test")
            hop.wait_subjects(["not a loop"])
            self.assertNotIn("delivery failed", edge.diagnostics())


if __name__ == "__main__":
    unittest.main()
