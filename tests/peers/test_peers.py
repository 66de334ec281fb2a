"""The peers themselves: that they start, take mail over TLS, keep it, and leave nothing running."""

import os
import unittest

import peers
from cases import needs


class Base(unittest.TestCase):
    def setUp(self):
        self.base = self.enterContext(peers.tempfile_dir())
        self.ca = peers.make_ca(self.base / "ca")
        self.certificate = self.ca.issue("mx.contoso.test", "127.0.0.1")

    def send(self, server, *arguments):
        done = peers.swaks(server.port, "--from", "ann@fabrikam.test", "--header", "Subject: hello",
                           "--body", "over there", *arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + server.log())
        return done.stdout


class PostfixTest(Base):
    @needs(peers.Postfix)
    def test_delivers_over_tls(self):
        with peers.Postfix(self.base / "p", peers.free_port(), ["contoso.test"], tls=self.certificate) as server:
            pid = server.process.pid
            transcript = self.send(server, "--to", "Don@contoso.test", "--tls", "--tls-ca-path", self.ca.path)
            self.assertIn("TLS started", transcript)
            [message] = server.wait_messages("don@contoso.test")
            self.assertIn(b"over there", message)
            self.assertEqual(peers.tls_versions(server.log())[0], "TLSv1.3")
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)

    @needs(peers.Postfix)
    def test_discards_and_demands_tls(self):
        options = {"smtpd_tls_security_level": "encrypt", "smtpd_tls_mandatory_protocols": "TLSv1.2",
                   "smtpd_discard_ehlo_keywords": "chunking,pipelining"}
        with peers.Postfix(self.base / "p", peers.free_port(), ["contoso.test"], tls=self.certificate,
                           deliver="discard", options=options) as server:
            plain = peers.swaks(server.port, "--from", "a@b.test", "--to", "don@contoso.test")
            self.assertIn("530 5.7.0", plain.stdout)
            transcript = self.send(server, "--to", "don@contoso.test", "--tls")
            self.assertNotIn("PIPELINING", transcript)
            server.wait_log("relay=none, delay=")
            self.assertEqual(peers.tls_versions(server.log()), ["TLSv1.2"])


class OpenSmtpdTest(Base):
    @needs(peers.OpenSmtpd)
    def test_delivers(self):
        with peers.OpenSmtpd(self.base / "o", peers.free_port(), ["contoso.test"]) as server:
            pid = server.process.pid
            self.send(server, "--to", "Don@contoso.test")
            [message] = server.wait_messages("don@contoso.test")
            self.assertIn(b"over there", message)
            refused = peers.swaks(server.port, "--from", "a@b.test", "--to", "x@elsewhere.test")
            self.assertIn("550", refused.stdout)
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)

    @needs(peers.OpenSmtpd)
    @needs(peers.Postfix)
    def test_relays_over_tls(self):
        with (
            peers.Postfix(self.base / "p", peers.free_port(), ["contoso.test"], tls=self.certificate) as hop,
            peers.OpenSmtpd(self.base / "o", peers.free_port(), [], relay=f"smtp+tls://127.0.0.1:{hop.port}") as server,
        ):
            self.send(server, "--to", "don@contoso.test")
            [message] = hop.wait_messages("don@contoso.test")
            self.assertIn(b"over there", message)
            self.assertEqual(peers.tls_versions(hop.log()), ["TLSv1.3"])


if __name__ == "__main__":
    unittest.main()
