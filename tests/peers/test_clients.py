"""Clients of all kinds hand mail to the relay: what they send arrives, octet for octet, and the
receive log states the TLS version of each session, or why it has none."""

import email.message
import hashlib
import smtplib
import ssl
import subprocess
import unittest

import peers
from cases import PeerTest, certificate, needs, receive, send, sessions
from gatepost import Dialogue

DON = "don@contoso.test"


def octets(message):
    """What was sent of a delivered message: all behind the fields the relay put on top."""
    return message[message.index(b"X-Test:"):].replace(b"\r\n", b"\n")


class ClientTest(PeerTest):
    def setUp(self):
        super().setUp()
        self.issued = self.ca.issue("edge.contoso.test", "127.0.0.1")
        self.edge = self.relay(certificate(self.issued),
                               receive(tls="opportunistic", tls_certificate_name="edge"), send())

    def session(self, text="FROM:<"):
        """The one session of the receive log that a line with `text` stands in, at its end."""
        def one():
            return [s for s in sessions(self.edge.receive_log()) if s.said(text) and s.ended()]
        [session] = peers.wait_until(one, f"a session with {text!r}")
        return session

    def client_context(self):
        return ssl.create_default_context(cafile=self.ca.path)


class Swaks(ClientTest):
    def test_in_clear(self):
        transcript = self.swaks(self.edge, DON)
        self.assertIn("Queued mail for delivery", transcript)
        [message] = self.mailbox(self.edge, DON)
        self.assertIn(b"This is hello.", message)
        self.assertEqual(self.session().tls(), ["No TLS: the session stayed in plain text"])

    def test_over_tls(self):
        transcript = self.swaks(self.edge, DON, "--tls", "--tls-verify", "--tls-ca-path", self.ca.path)
        self.assertIn("TLS started with cipher TLSv1.3", transcript)
        [message] = self.mailbox(self.edge, DON)
        self.assertIn(b"(version=TLS1_3, cipher=TLS_", message.replace(b"\r\n ", b" ").replace(b"\n ", b" "))
        [line] = self.session().tls()
        self.assertTrue(line.startswith("TLS protocol SP_PROT_TLS1_3_SERVER negotiation succeeded"), line)


class Curl(ClientTest):
    def curl(self, url, *arguments):
        mail = self.base / "mail.txt"
        mail.write_bytes(b"X-Test: curl\r\nSubject: from curl\r\n\r\n.dot first\r\nlast\r\n")
        return subprocess.run(
            ["curl", "-sS", "--max-time", "30", url, "--mail-from", "ann@fabrikam.test", "--mail-rcpt", DON,
             "-T", mail, *map(str, arguments)], capture_output=True, text=True)

    def test_in_clear(self):
        done = self.curl(f"smtp://127.0.0.1:{self.edge.port}/client.test")
        self.assertEqual(done.returncode, 0, done.stderr)
        [message] = self.mailbox(self.edge, DON)
        self.assertEqual(octets(message), b"X-Test: curl\nSubject: from curl\n\n.dot first\nlast\n")
        self.assertEqual(self.session().tls(), ["No TLS: the session stayed in plain text"])

    def test_tls_required(self):
        done = self.curl(f"smtp://edge.contoso.test:{self.edge.port}/client.test", "--ssl-reqd", "--cacert",
                         self.ca.path, "--resolve", f"edge.contoso.test:{self.edge.port}:127.0.0.1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.mailbox(self.edge, DON)
        self.assertIn("SP_PROT_TLS1_3_SERVER", self.session().tls()[0])


class PythonSmtplib(ClientTest):
    def client(self):
        client = smtplib.SMTP("127.0.0.1", self.edge.port, local_hostname="client.test", timeout=60)
        self.addCleanup(client.close)
        return client

    def test_plain(self):
        with self.client() as client:
            client.sendmail("ann@fabrikam.test", [DON, "eve@contoso.test"], b"X-Test: 1\r\n\r\n..\r\n.\r\nend\r\n")
        for address in (DON, "eve@contoso.test"):
            [message] = self.mailbox(self.edge, address)
            self.assertEqual(octets(message), b"X-Test: 1\n\n..\n.\nend\n")

    def test_starttls(self):
        with self.client() as client:
            # Checks chain and name; the name asked for is an address here.
            client.starttls(context=self.client_context())
            self.assertNotIn("starttls", (client.ehlo(), client.esmtp_features)[1])
            client.sendmail("ann@fabrikam.test", DON, b"X-Test: 1\r\n\r\nx\r\n")
        self.mailbox(self.edge, DON)
        self.assertIn("SP_PROT_TLS1_3_SERVER", self.session().tls()[0])

    def test_8bitmime(self):
        body = "X-Test: 1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße aus Köln\r\n".encode()
        with self.client() as client:
            client.sendmail("ann@fabrikam.test", DON, body, mail_options=["BODY=8BITMIME"])
        [message] = self.mailbox(self.edge, DON)
        self.assertIn("Grüße aus Köln".encode(), message)

    def test_a_large_message(self):
        # Lines of every length up to the limit, many of them beginning with a dot.
        lines = [(b"." if i % 3 == 0 else b"") + b"%06d " % i + b"x" * (i % 900) for i in range(46_000)]
        body = b"X-Test: large\r\n\r\n" + b"\r\n".join(lines) + b"\r\n"
        self.assertGreater(len(body), 20 << 20)
        with self.client() as client:
            client.sendmail("ann@fabrikam.test", DON, body)
        [message] = self.mailbox(self.edge, DON, timeout=60)
        digest = hashlib.sha256(body.replace(b"\r\n", b"\n")).hexdigest()
        self.assertEqual(hashlib.sha256(octets(message)).hexdigest(), digest)

    def test_too_large_a_message_is_refused(self):
        with self.client() as client, self.assertRaises(smtplib.SMTPSenderRefused) as refused:
            client.ehlo()
            client.sendmail("ann@fabrikam.test", DON, b"\r\n" + b"x\r\n" * (13 << 20))
        self.assertEqual(refused.exception.smtp_code, 552)
        self.assertIn(b"5.3.4 Message size exceeds fixed maximum message size", refused.exception.smtp_error)

    def test_many_messages_on_one_connection(self):
        with self.client() as client:
            for i in range(100):
                client.sendmail("ann@fabrikam.test", DON, b"X-Test: %d\r\n\r\nbody %d\r\n" % (i, i))
        bodies = sorted(octets(m) for m in self.mailbox(self.edge, DON, 100))
        self.assertEqual(bodies, sorted(b"X-Test: %d\n\nbody %d\n" % (i, i) for i in range(100)))

    @needs(peers.Postfix)
    def test_smtputf8(self):
        hop = self.postfix("contoso.test")
        self.reload(self.edge, receive(), send(smart_hosts=[f"127.0.0.1:{hop.port}"], tls="off"))
        message = email.message.EmailMessage()
        message["From"], message["To"] = "änn@fabrikam.test", "dön@contoso.test"
        message["Subject"] = "Grüße"
        message.set_content("Schönen Tag\n")
        with self.client() as client:
            client.send_message(message)
        [delivered] = hop.wait_messages("dön@contoso.test")
        # The header went in UTF-8, not in encoded words.
        self.assertIn("Subject: Grüße\n".encode(), delivered)
        self.assertIn("Return-Path: <änn@fabrikam.test>\n".encode(), delivered)


class Pipelined(ClientTest):
    def test_fifty_transactions_in_one_write(self):
        flight = b""
        for i in range(50):
            body = b"X-Test: %d\r\n\r\n.body %d\r\n" % (i, i)
            flight += b"MAIL FROM:<ann@fabrikam.test>\r\nRCPT TO:<don@contoso.test>\r\n"
            flight += b"BDAT %d LAST\r\n" % len(body) + body
        with Dialogue(self.edge.port) as client:
            self.assertIn("CHUNKING", client.ask("EHLO client.test"))
            client.send(flight + b"QUIT\r\n")
            replies = [client.reply()[:9] for _ in range(151)]
        self.assertEqual(replies, ["250 2.1.0", "250 2.1.5", "250 2.6.0"] * 50 + ["221 2.0.0"])
        bodies = sorted(octets(m) for m in self.mailbox(self.edge, DON, 50))
        self.assertEqual(bodies, sorted(b"X-Test: %d\n\n.body %d\n" % (i, i) for i in range(50)))


class SmtpSource(ClientTest):
    def test_twenty_at_once(self):
        done = subprocess.run(
            ["/usr/sbin/smtp-source", "-s", "20", "-m", "400", "-l", "4096", "-f", "ann@fabrikam.test",
             "-t", DON, f"127.0.0.1:{self.edge.port}"], capture_output=True, text=True, timeout=120)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        messages = self.mailbox(self.edge, DON, 400, timeout=60)
        self.assertTrue(all(len(message) > 4096 for message in messages))


class OpensslClient(ClientTest):
    def s_client(self, *arguments):
        return subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{self.edge.port}", "-starttls", "smtp", "-name",
             "client.test", "-CAfile", str(self.ca.path), "-verify_return_error", "-verify_hostname",
             "edge.contoso.test", *arguments],
            input="QUIT\r\n", capture_output=True, text=True, timeout=60)

    def check(self, option, named, logged):
        done = self.s_client(option)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        self.assertIn(f"New, {named}, Cipher is ", done.stdout)
        self.assertIn("Verify return code: 0 (ok)", done.stdout)
        [line] = self.session(text="220 2.0.0 SMTP server ready").tls()
        self.assertIn(f"SP_PROT_{logged}_SERVER negotiation succeeded", line)

    def test_tls_1_2(self):
        self.check("-tls1_2", "TLSv1.2", "TLS1_2")

    def test_tls_1_3(self):
        self.check("-tls1_3", "TLSv1.3", "TLS1_3")

    def test_tls_1_1_is_refused_by_name(self):
        done = self.s_client("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("SSL alert number", done.stderr)
        self.assertEqual(self.session(text="220 2.0.0 SMTP server ready").tls(),
                         ["TLS negotiation failed with error SocketError (the peer offered at most TLS 1.1)"])
        self.edge.wait_diagnostics("at most TLS 1.1")
        # The relay is none the worse for it.
        self.swaks(self.edge, DON)


if __name__ == "__main__":
    unittest.main()
