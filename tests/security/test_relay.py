"""Nobody relays through a connector that does not say so, by whatever spelling of an address.

The trap is the `*` connector: whatever is accepted for a domain that is not ours would end there.
"""

import unittest

from hops import Hop
import peers
from gatepost import FAST_RETRIES, OPEN_LIMITS, Dialogue, Gatepost, server

RELAY = "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain"

CONFIG = server() + """
[[accepted_domains]]
domain = "contoso.test"
[[accepted_domains]]
domain = "*.sub.test"
[[receive_connectors]]
name = "Internet"
bindings = ["127.0.0.1:{port}"]
max_protocol_errors = 100000
""" + OPEN_LIMITS + FAST_RETRIES

# What stands behind RCPT TO: and must not be taken.
REFUSED = [
    # Plainly elsewhere, or nearly ours.
    "<x@evil.example>", "<x@evilcontoso.test>", "<x@contoso.test.evil.example>", "<x@contoso>", "<x@test>",
    "<x@xsub.test>", "<x@www.contoso.test>", "x@evil.example",
    # Percent, bang, at signs, and both; quoted and escaped.
    "<x%evil.example@contoso.test>", "<x%evil.example%contoso.test@contoso.test>", "<evil.example!x@contoso.test>",
    "<contoso.test!evil.example!x@contoso.test>", "<evil.example!x%y@contoso.test>", "<x@evil.example@contoso.test>",
    "<x@contoso.test@evil.example>", "<x@@contoso.test>", "<@contoso.test>", '<"x@evil.example"@contoso.test>',
    '<"x\\@evil.example"@contoso.test>', '<"x%evil.example"@contoso.test>', '<"evil.example!x"@contoso.test>',
    '<"x@contoso.test"@evil.example>', '<"x"@evil.example"@contoso.test>', "<x\\@evil.example@contoso.test>",
    '<"x@contoso.test"@evil.example@contoso.test>', '<x"@contoso.test"@evil.example>', "<x(@contoso.test)@evil.example>",
    # Source routes: we are no hop of anybody's route.
    "<@contoso.test:x@evil.example>", "<@contoso.test,@evil.example:x@evil.example>", "<@evil.example:x%evil.example@contoso.test>",
    "<@contoso.test:@evil.example:x@contoso.test>", "@contoso.test:x@evil.example", "<@:x@contoso.test>", "<@contoso.test>",
    "<@contoso.test:>",
    # More than one, or something behind the bracket.
    "<x@contoso.test>,<x@evil.example>", "<x@contoso.test,x@evil.example>", "<x@contoso.test> <x@evil.example>",
    "<x@contoso.test>x@evil.example", "<<x@evil.example>@contoso.test>", "<x@evil.example>@contoso.test>",
    "<x@contoso.test;x@evil.example>", "<x@contoso.test:x@evil.example>", "<contoso.test:x@evil.example>",
    # Address literals, also our own.
    "<x@[127.0.0.1]>", "<x@[192.0.2.1]>", "<x@[IPv6:::1]>", "<x@[contoso.test]>", "<x@contoso.test[127.0.0.1]>",
    "<postmaster@[127.0.0.1]>", "<x@2130706433>", "<x@0x7f000001>", "<x@#2130706433>",
    # Nothing, blanks, dots, length.
    "<>", "< >", "<x@>", "<x>", "<postmaster@>", "<x @contoso.test>", "<x@ contoso.test>", "<x@contoso.test.>", "<x@.contoso.test>",
    "<x@contoso..test>", "<.x@contoso.test>", "<x..y@contoso.test>", "<x@-contoso.test>", "", "<x@contoso.test", "x@contoso.test>",
    f"<{'x' * 600}@contoso.test>", f"<x@{'a' * 64}.sub.test>", f"<x@{'a.' * 130}sub.test>", "<x@contoso.test> SMTPUTF8",
]
# The same in bytes: controls and UTF-8 without SMTPUTF8, valid and not.
REFUSED_BYTES = [
    b"<x@evil.example\0@contoso.test>", b"<x@contoso.test\0.evil.example>", b"<x\0@contoso.test>", b"<x@contoso.test\x7f>",
    b"<x@contoso.test\r>", b"<x@contoso.test\t>", b"<x\x08@contoso.test>", b"<\x1b[2Jx@contoso.test>", b"<x@contoso.test\x0b>",
    "<x@contoso\u3002test>".encode(), "<x＠evil.example@contoso.test>".encode(), b"<\xffx@contoso.test>", b"<x@contoso.test\xc0\xae>",
]
# With SMTPUTF8: letters that look like ours make other domains.
LOOKALIKES = [
    "<x@c\u043entoso.test>",            # Cyrillic о
    "<x@contoso.te\u017ft.evil.example>",
    "<x@contoso\u2024test>",            # one dot leader
    "<x@contoso.t\u0435st>",            # Cyrillic е
    "<x@contoso.test\u200b.evil.example>",
    "<x@contoso.test\uff0eevil.example>",
    "<x@evil.example\u3002contoso.test.evil.example>",
    "<x@xn--contoso.test>",
    "<x\uff05evil.example@evil.example>",
]
# Ours: delivered to our next hop, letter for letter.
TAKEN = [
    "<x@contoso.test>", "<X@CONTOSO.Test>", "<x@a.sub.test>", "<x@a.b.SUB.test>", "<x@sub.test>", '<"a b"@contoso.test>',
    '<"x\\"y"@contoso.test>', "<x+y=z/w@contoso.test>", "<-x@contoso.test>", "<|x@contoso.test>", '<"../../x"@contoso.test>', "</etc/passwd@contoso.test>",
    "<~root@contoso.test>", "<x'--@contoso.test>", f"<{'x' * 500}@contoso.test>", '<"a> NOTIFY=NEVER"@contoso.test>',
]


class OpenRelay(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        capabilities = ("8BITMIME", "PIPELINING", "SMTPUTF8", "DSN")
        cls.inside, cls.outside = (cls.enterClassContext(Hop(capabilities)) for _ in range(2))
        config = CONFIG
        for name, space, hop in (("in", "--", cls.inside), ("out", "*", cls.outside)):
            config += (f'[[send_connectors]]\nname = "{name}"\naddress_spaces = ["{space}"]\n'
                       f'smart_hosts = ["127.0.0.1:{hop.port}"]\ntls = "off"\n')
        cls.edge = cls.enterClassContext(Gatepost(cls.base / "edge", config))

    def setUp(self):
        self.client = self.enterContext(Dialogue(self.edge.port))
        self.client.ask("EHLO client.test")

    def tearDown(self):
        self.assertEqual(self.outside.messages, [])

    def begin(self, parameters=""):
        self.client.ask("RSET")
        self.assertEqual(self.client.ask(f"MAIL FROM:<> {parameters}")[:3], "250")

    def test_refused(self):
        self.begin()
        for path in [text.encode() for text in REFUSED] + REFUSED_BYTES:
            with self.subTest(path=path):
                reply = self.client.ask(b"RCPT TO:" + path + b"\r\n")
                self.assertTrue(reply == RELAY or reply.startswith(("500 5", "501 5", "553 5", "555 5")), reply)
        self.assertEqual(self.client.ask("DATA"), "503 5.5.2 Need rcpt command")

    def test_lookalikes_are_other_domains(self):
        self.begin("SMTPUTF8")
        for path in LOOKALIKES:
            with self.subTest(path=path):
                reply = self.client.ask(f"RCPT TO:{path}")
                self.assertTrue(reply == RELAY or reply.startswith("501 5"), reply)

    def test_taken_addresses_go_to_our_next_hop_as_they_came(self):
        for number, path in enumerate(TAKEN):
            self.begin()
            self.assertEqual(self.client.ask(f"RCPT TO:{path}")[:3], "250", path)
            self.client.ask("DATA")
            self.assertEqual(self.client.ask(f"Subject: taken {number}\r\n\r\nx\r\n.")[:3], "250", path)
        self.inside.wait_subjects([f"taken {number}" for number in range(len(TAKEN))])
        came = {m.subject: m.recipients for m in self.inside.messages}
        for number, path in enumerate(TAKEN):
            self.assertEqual(came[f"taken {number}"], [f"RCPT TO:{path}".encode()])

    def test_other_spellings_of_our_domain_go_to_our_next_hop(self):
        """IDNA makes these our own name, here as at every next hop that reads them."""
        paths = ["<x@contoso\u3002test>", "<x@\uff43\uff4f\uff4e\uff54oso.test>", "<x@contoso\uff0etest>"]
        for number, path in enumerate(paths):
            self.begin("SMTPUTF8")
            self.assertEqual(self.client.ask(f"RCPT TO:{path}")[:3], "250", path)
            self.client.ask("DATA")
            self.client.ask(f"Subject: idna {number}\r\n\r\nx\r\n.")
        self.inside.wait_subjects([f"idna {number}" for number in range(len(paths))])
        came = {m.subject: m.recipients for m in self.inside.messages}
        for number, path in enumerate(paths):
            self.assertEqual(came[f"idna {number}"], [f"RCPT TO:{path}".encode()])

    def test_postmaster_is_our_own(self):
        for spelling in ("postmaster", "Postmaster", "POSTMASTER"):
            self.begin()
            self.assertEqual(self.client.ask(f"RCPT TO:<{spelling}>")[:3], "250")
            self.client.ask("DATA")
            self.client.ask(f"Subject: for {spelling}\r\n\r\nx\r\n.")
            self.inside.wait_subjects([f"for {spelling}"])
            [message] = [m for m in self.inside.messages if m.subject == f"for {spelling}"]
            self.assertEqual(message.recipients, [b"RCPT TO:<postmaster@contoso.test>"])

    def test_a_route_is_dropped_not_followed(self):
        self.begin()
        self.assertEqual(self.client.ask("RCPT TO:<@evil.example,@[127.0.0.1]:x@contoso.test>")[:3], "250")
        self.client.ask("DATA")
        self.client.ask("Subject: routed\r\n\r\nx\r\n.")
        self.inside.wait_subjects(["routed"])
        [message] = [m for m in self.inside.messages if m.subject == "routed"]
        self.assertEqual(message.recipients, [b"RCPT TO:<x@contoso.test>"])

    def test_a_refused_recipient_is_not_part_of_the_message(self):
        self.begin()
        self.client.send(b"RCPT TO:<x@evil.example>\r\nRCPT TO:<y@contoso.test>\r\nRCPT TO:<z@evil.example>\r\n")
        self.assertEqual([self.client.reply()[:3] for _ in range(3)], ["550", "250", "550"])
        self.client.ask("DATA")
        self.client.ask("Subject: mixed\r\n\r\nx\r\n.")
        self.inside.wait_subjects(["mixed"])
        [message] = [m for m in self.inside.messages if m.subject == "mixed"]
        self.assertEqual(message.recipients, [b"RCPT TO:<y@contoso.test>"])


if __name__ == "__main__":
    unittest.main()
