"""conf/edge.toml as shipped, with only its paths, addresses and ports made to fit a test: mail comes
in and goes out as its comments say, and both logs tell of every session's TLS."""

import pathlib
import smtplib
import unittest

import peers
from cases import PeerTest, needs, sessions
from gatepost import Gatepost
from scripted import DnsServer

EXAMPLE = peers.REPOSITORY / "conf/edge.toml"
# Where Exchange connects from. Postfix, which stands for it, cannot listen there.
EXCHANGE = "127.0.0.11"
SMART_HOST = "contoso-com.mail.protection.outlook.com"


class EdgeExample(PeerTest):
    def adapted(self, changes):
        text = EXAMPLE.read_text()
        for old, new in changes.items():
            # A change that finds nothing to change would test something else.
            self.assertIn(old, text)
            text = text.replace(old, new)
        return text

    def setUp(self):
        super().setUp()
        internal_port, outer_port = peers.free_port(), peers.free_port()
        # Exchange has a certificate of its own making; EOP one of a CA that is trusted.
        own = peers.make_ca(self.base / "own", "Exchange itself")
        self.internal = self.enterContext(peers.Postfix(
            self.base / "internal", internal_port, ["contoso.com", "sales.contoso.com"],
            tls=own.issue("ex01.contoso.com")))
        self.outer = self.enterContext(peers.Postfix(
            self.base / "outer", outer_port, ["fabrikam.com"],
            tls=self.ca.issue("mail.protection.outlook.com", "*.mail.protection.outlook.com"),
            options={"smtpd_tls_ask_ccert": "yes"}))
        dns = self.enterContext(DnsServer({(SMART_HOST, "A"): ["127.0.0.1"]}))
        issued = self.ca.issue("edge.contoso.com", "127.0.0.1")
        self.edge = self.enterContext(Gatepost(self.base / "edge", self.adapted({
            '"/var/lib/gatepost"': '"spool"',
            '"/var/log/gatepost"': '"log"',
            '"tls/fullchain.pem"': f'"{issued.chain}"',
            '"tls/privkey.pem"': f'"{issued.key}"',
            'trusted_roots = "system"': f'trusted_roots = "{self.ca.path}"',
            '["0.0.0.0:25", "[::]:25"]': '["127.0.0.1:{port}"]',
            '["10.20.0.11", "10.20.0.12"]': f'["{EXCHANGE}", "127.0.0.12"]',
            '["[10.20.0.11]", "[10.20.0.12]"]': f'["[127.0.0.1]:{internal_port}"]',
            f'["{SMART_HOST}"]': f'["{SMART_HOST}:{outer_port}"]',
            '"10.20.0.250"': '"127.0.0.250"',
        }) + f'\n[dns]\nservers = ["127.0.0.1:{dns.port}"]\n'))

    def from_exchange(self, to, *arguments, code=0):
        return self.swaks(self.edge, to, "--local-interface", EXCHANGE, *arguments, sender="don@contoso.com",
                          code=code)

    @needs(peers.Postfix)
    def test_mail_both_ways(self):
        tls = ["--tls", "--tls-verify", "--tls-ca-path", self.ca.path]
        # From the internet, in clear and over TLS, to accepted domains.
        self.swaks(self.edge, "don@contoso.com", subject="inward in clear")
        self.swaks(self.edge, "eve@sales.contoso.com", *tls, subject="inward over TLS")
        [message] = self.internal.wait_messages("don@contoso.com")
        self.assertIn(b"This is inward in clear.", message)
        [message] = self.internal.wait_messages("eve@sales.contoso.com")
        self.assertIn(b"This is inward over TLS.", message)
        # From Exchange to anywhere, over TLS only.
        self.from_exchange("megan@fabrikam.com", *tls)
        [message] = self.outer.wait_messages("megan@fabrikam.com")
        self.assertIn(b'(Client CN "edge.contoso.com", Issuer "Gatepost test CA" (verified OK))',
                      b" ".join(message.split()))
        transcript = self.from_exchange("megan@fabrikam.com", code=23)
        self.assertIn("451 5.7.3 Must issue a STARTTLS command first", transcript)
        # Nobody else may send there.
        with smtplib.SMTP("127.0.0.1", self.edge.port, timeout=60) as stranger:
            stranger.ehlo("stranger.test")
            stranger.mail("x@example.net")
            code, text = stranger.rcpt("megan@fabrikam.com")
            self.assertEqual((code, text), (550, b"5.7.54 SMTP; Unable to relay recipient in non-accepted domain"))
        self.assertEqual(self.edge.stop(), 0)
        self.check_receive_log()
        self.check_send_log()
        self.assertEqual(len(self.outer.messages("megan@fabrikam.com")), 1)

    def check_receive_log(self):
        lines = pathlib.Path(self.edge.directory, "log/ProtocolLog/SmtpReceive")
        self.assertTrue(list(lines.glob("RECV*.LOG")))
        found = sessions(self.edge.receive_log())
        for session in found:
            self.assertEqual(len(session.tls()), 1, session)
        plain, tls = "No TLS: the session stayed in plain text", "TLS protocol SP_PROT_TLS1_3_SERVER "
        expected = {"<don@contoso.com>": (r"EDGE\Default Internet", plain),
                    "<eve@sales.contoso.com>": (r"EDGE\Default Internet", tls),
                    "250 2.1.5 Recipient OK": (r"EDGE\From Exchange", tls),
                    "Must issue a STARTTLS": (r"EDGE\From Exchange", plain),
                    "Unable to relay recipient": (r"EDGE\Default Internet", plain)}
        for text, (connector, line) in expected.items():
            matching = [s for s in found if s.said(text) and s.connector == connector]
            self.assertTrue(matching, text)
            self.assertTrue(matching[-1].tls()[0].startswith(line), matching[-1])
        [refused] = [s for s in found if s.said("Unable to relay recipient")]
        self.assertTrue(refused.said("Tarpit for '0.00:00:05'"), refused)

    def check_send_log(self):
        found = sessions(self.edge.send_log())
        self.assertEqual({s.connector for s in found}, {"Inbound to Exchange", "To EOP"})
        for session in found:
            self.assertTrue(session.ended())
            [line] = session.tls()
            self.assertTrue(line.startswith("TLS protocol SP_PROT_TLS1_3_CLIENT "), session)
        self.assertRegex(self.edge.diagnostics(), r'connector="To EOP".*tls_peer_name="mail\.protection\.outlook\.com"'
                                                  r".*tls_verified=true")

    @needs(peers.Postfix)
    def test_an_impostor_gets_nothing(self):
        # At EOP's address now sits somebody with a certificate of another name.
        self.outer.stop()
        impostor = self.enterContext(peers.Postfix(
            self.base / "impostor", self.outer.port, ["fabrikam.com"], tls=self.ca.issue("mail.example.net")))
        self.from_exchange("megan@fabrikam.com", "--tls")
        self.edge.wait_log("send", "454 4.7.5 Certificate validation failure, Reason:SubjectMismatch")
        impostor.wait_log("disconnect from")
        self.assertNotIn(" mail=", impostor.log())
        self.assertEqual(impostor.messages("megan@fabrikam.com"), [])


if __name__ == "__main__":
    unittest.main()
