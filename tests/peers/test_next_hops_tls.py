"""Next hops under each TLS rule: what is verified, what stays queued and why, and that nothing is
ever said in clear where the rule forbids it."""

import unittest

import peers
from cases import PeerTest, certificate, needs, receive, roots, send, sessions
from scripted import ScriptedServer

DON = "don@contoso.test"
IN_CLEAR = "No TLS: the session stayed in plain text"


class TlsTest(PeerTest):
    def out(self, hop, **keys):
        """The parts of a relay that sends everything to `hop`."""
        return [roots(self.ca.path), receive(), send(smart_hosts=[f"127.0.0.1:{hop.port}"], **keys)]

    def assert_nothing_was_said(self, hop):
        """No session of this Postfix got as far as MAIL."""
        self.assertEqual(hop.messages(DON), [])
        ends = [line for line in hop.log().splitlines() if "disconnect from" in line]
        self.assertTrue(ends, hop.log())
        for line in ends:
            self.assertNotIn(" mail=", line)

    def assert_stays_queued(self, edge, hop, reply):
        """The message waits for this reason, over several attempts, and is still there after."""
        edge.wait_log("send", reply)
        edge.wait_diagnostics(reply)

        def tried_again():
            return sum(s.said(reply) and s.ended() for s in sessions(edge.send_log())) >= 2

        peers.wait_until(tried_again, "a second attempt")
        self.assert_nothing_was_said(hop)


class PostfixSmartHost(TlsTest):
    @needs(peers.Postfix)
    def test_validate_domain(self):
        hop = self.postfix("contoso.test", tls=self.ca.issue("mx1.contoso.test"))
        edge = self.relay(*self.out(hop, tls="validate_domain", tls_domain="*.contoso.test"))
        self.swaks(edge, DON)
        hop.wait_messages(DON)
        edge.wait_log("send", "SP_PROT_TLS1_3_CLIENT negotiation succeeded")
        self.assertEqual(peers.tls_versions(hop.log()), ["TLSv1.3"])
        edge.stop()
        self.assertRegex(edge.diagnostics(), r'direction="?out"?.*tls_version="TLS1_3".*tls_peer_name="mx1\.contoso\.test"'
                                             r".*tls_verified=true")

    @needs(peers.Postfix)
    def test_tls_1_2_is_logged_as_such(self):
        hop = self.postfix("contoso.test", tls=self.ca.issue("mx1.contoso.test"),
                           options={"smtpd_tls_protocols": "TLSv1.2"})
        edge = self.relay(*self.out(hop, tls="validate_domain", tls_domain="mx1.contoso.test"))
        self.swaks(edge, DON)
        hop.wait_messages(DON)
        edge.wait_log("send", "SP_PROT_TLS1_2_CLIENT negotiation succeeded")
        self.assertEqual(peers.tls_versions(hop.log()), ["TLSv1.2"])

    @needs(peers.Postfix)
    def test_the_wrong_name(self):
        hop = self.postfix("contoso.test", tls=self.ca.issue("mx1.contoso.test"))
        edge = self.relay(*self.out(hop, tls="validate_domain", tls_domain="mail.protection.example"))
        self.swaks(edge, DON)
        self.assert_stays_queued(edge, hop, "454 4.7.5 Certificate validation failure, Reason:SubjectMismatch")
        # The connector put right, the same message goes out.
        self.reload(edge, *self.out(hop, tls="validate_domain", tls_domain="mx1.contoso.test"))
        [message] = hop.wait_messages(DON)
        self.assertIn(b"This is hello.", message)

    @needs(peers.Postfix)
    def test_an_unknown_ca(self):
        other = peers.make_ca(self.base / "other", "Nobody's CA")
        hop = self.postfix("contoso.test", tls=other.issue("mx1.contoso.test"))
        for number, rule in enumerate(("validate_domain", "validate_certificate")):
            with self.subTest(rule):
                extra = {"tls_domain": "mx1.contoso.test"} if rule == "validate_domain" else {}
                parts = self.out(hop, tls=rule, **extra)
                if number == 0:
                    edge = self.relay(*parts)
                    self.swaks(edge, DON)
                else:
                    self.reload(edge, *parts)
                self.assert_stays_queued(edge, hop, "454 4.7.5 Certificate validation failure, Reason:UntrustedRoot")
        # `required` encrypts and asks for no more.
        self.reload(edge, *self.out(hop, tls="required"))
        hop.wait_messages(DON)

    @needs(peers.Postfix)
    def test_starttls_is_not_offered(self):
        hop = self.postfix("contoso.test")
        edge = self.relay(*self.out(hop, tls="required"))
        self.swaks(edge, DON)
        self.assert_stays_queued(edge, hop, "451 5.7.3 STARTTLS is required to send mail")
        [*_, attempt] = [s for s in sessions(edge.send_log()) if s.ended()]
        self.assertEqual(attempt.tls(), [IN_CLEAR])
        self.reload(edge, *self.out(hop, tls="opportunistic"))
        hop.wait_messages(DON)

    @needs(peers.Postfix)
    def test_a_failed_handshake_under_each_rule(self):
        # It speaks nothing newer than TLS 1.1.
        hop = self.postfix("contoso.test", tls=self.ca.issue("mx1.contoso.test"),
                           options={"smtpd_tls_protocols": "TLSv1.1", "smtpd_tls_ciphers": "low"})
        edge = self.relay(*self.out(hop, tls="required"))
        self.swaks(edge, DON)
        failed = "TLS negotiation failed with error "
        self.assert_stays_queued(edge, hop, failed)
        self.assertEqual({s.tls()[0][:len(failed)] for s in sessions(edge.send_log()) if s.ended()}, {failed})
        before = len(sessions(edge.send_log()))
        self.reload(edge, *self.out(hop, tls="opportunistic", max_messages_per_connection=1))
        [message] = hop.wait_messages(DON)
        self.assertIn(b"This is hello.", message)

        def both():
            found = [s for s in sessions(edge.send_log())[before:] if s.ended()]
            return found[-2:] if found and found[-1].said("MAIL FROM") else None

        first, second = peers.wait_until(both, "the two sessions of the fallback")
        self.assertTrue(first.tls()[0].startswith(failed), first)
        self.assertFalse(first.said("MAIL FROM"), first)
        self.assertEqual(second.tls(), [IN_CLEAR])
        self.assertTrue(second.said(f"tried once more after: {failed}"), second)


class ClientCertificate(TlsTest):
    @needs(peers.Postfix)
    def test_it_is_presented_with_its_whole_chain(self):
        middle = self.ca.subordinate(self.base / "middle", "Gatepost test intermediate")
        issued = middle.issue("edge.contoso.test")
        # The next hop knows the root alone: it can verify only what comes with its chain.
        hop = self.postfix("contoso.test", tls=self.ca.issue("mx1.contoso.test"),
                           options={"smtpd_tls_ask_ccert": "yes"})
        edge = self.relay(certificate(issued),
                          *self.out(hop, tls="required", tls_certificate_name="edge"))
        self.swaks(edge, DON)
        [message] = hop.wait_messages(DON)
        self.assertIn(b'(Client CN "edge.contoso.test", Issuer "Gatepost test intermediate" (verified OK))',
                      b" ".join(message.split()))
        self.assertIn("Trusted TLS connection established from", hop.log())
        edge.wait_log("send", "Sending certificate")


class OpenSmtpdNextHop(TlsTest):
    """It offers no STARTTLS (peers.py says why)."""

    @needs(peers.OpenSmtpd)
    def test_internal_server_and_smart_host(self):
        hop = self.enterContext(peers.OpenSmtpd(self.base / "o", peers.free_port(), ["contoso.test"]))
        edge = self.relay(*self.out(hop, tls="validate_domain", tls_domain="opensmtpd.test"))
        self.swaks(edge, DON)
        edge.wait_log("send", "451 5.7.3 STARTTLS is required to send mail")
        self.assertEqual(hop.messages(DON), [])
        self.reload(edge, *self.out(hop, tls="opportunistic"))
        [message] = hop.wait_messages(DON)
        self.assertIn(b"This is hello.", message)

    @needs(peers.OpenSmtpd, peers.Postfix)
    def test_smart_host_that_relays_on_over_tls(self):
        last = self.postfix("contoso.test", tls=self.ca.issue("mx1.contoso.test"))
        hop = self.enterContext(peers.OpenSmtpd(self.base / "o", peers.free_port(), [],
                                                relay=f"smtp+tls://127.0.0.1:{last.port}"))
        edge = self.relay(*self.out(hop))
        self.swaks(edge, DON)
        [message] = last.wait_messages(DON)
        for name in (b"edge.contoso.test", b"opensmtpd.test"):
            self.assertIn(b"by " + name, b" ".join(message.split()))


class Credentials(TlsTest):
    def check(self, mechanism):
        (self.base / "relay.pass").write_text("s3cret\n")
        auth = {"mechanism": mechanism.lower(), "username": "relay", "password_file": self.base / "relay.pass"}
        with ScriptedServer(tls=self.ca.issue("mx1.contoso.test"), auth=[mechanism]) as hop:
            edge = self.relay(*self.out(hop, auth=auth, tls="validate_domain", tls_domain="mx1.contoso.test"))
            self.swaks(edge, DON)
            [message] = peers.wait_until(lambda: hop.messages, "a message")
            self.assertEqual(message.login, (mechanism, "relay", "s3cret"))
            self.assertEqual(message.tls, "TLSv1.3")
            edge.stop()
            log = "\n".join(edge.send_log()) + edge.diagnostics()
            self.assertIn("235 2.7.0 welcome", log)
            for secret in ("s3cret", "czNjcmV0", "AHJlbGF5AHMzY3JldA=="):
                self.assertNotIn(secret, log)

    def test_plain(self):
        self.check("PLAIN")

    def test_login(self):
        self.check("LOGIN")

    def test_never_in_clear(self):
        (self.base / "relay.pass").write_text("s3cret\n")
        auth = {"mechanism": "plain", "username": "relay", "password_file": self.base / "relay.pass"}
        with ScriptedServer(keywords=["PIPELINING", "AUTH PLAIN LOGIN"]) as hop:
            with self.assertRaisesRegex(peers.PeerError, "`auth` only goes over TLS"):
                self.relay(*self.out(hop, auth=auth, tls="opportunistic"))
            edge = self.relay(*self.out(hop, auth=auth, tls="required"))
            self.swaks(edge, DON)
            edge.wait_log("send", "451 5.7.3 STARTTLS is required to send mail")
            self.assertFalse(any("AUTH PLAIN <" in line for line in edge.send_log()))
        self.assertEqual(hop.messages, [])


if __name__ == "__main__":
    unittest.main()
