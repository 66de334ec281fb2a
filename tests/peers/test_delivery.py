"""Where mail goes: several next hops, several recipients, LMTP, name service, Maildirs. Each
recipient of each message is handled exactly once."""

import email
import smtplib
import socket
import unittest

import peers
from cases import PeerTest, Report, accepted, needs, receive, send, sessions, table
from scripted import DnsServer, ScriptedServer

DON = "don@contoso.test"
ANN = "ann@fabrikam.test"


class SmartHosts(PeerTest):
    def test_failover_from_a_dead_one(self):
        dead = peers.free_port()
        with ScriptedServer() as alive:
            hosts = [f"127.0.0.1:{dead}", f"127.0.0.1:{alive.port}"]
            edge = self.relay(receive(), send(smart_hosts=hosts))
            self.swaks(edge, DON)
            self.swaks(edge, "eve@contoso.test")
            for address in (DON, "eve@contoso.test"):
                self.assertEqual(len(peers.wait_until(lambda a=address: alive.to(a), f"mail for {address}")), 1)
            edge.stop()
        tried = [s for s in sessions(edge.send_log()) if s.peer == f"127.0.0.1:{dead}"]
        self.assertTrue(tried and all(s.said("Failed to connect") for s in tried), edge.send_log())

    def test_load_is_balanced_over_two(self):
        with ScriptedServer() as one, ScriptedServer() as two:
            hosts = [f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"]
            edge = self.relay(receive(), send(smart_hosts=hosts, max_messages_per_connection=1))
            with smtplib.SMTP("127.0.0.1", edge.port) as client:
                for i in range(30):
                    client.sendmail(ANN, f"user{i}@contoso.test", b"Subject: x\r\n\r\nx\r\n")
            peers.wait_until(lambda: len(one.messages) + len(two.messages) == 30, "all messages")
            self.assertGreater(min(len(one.messages), len(two.messages)), 7)
            recipients = [r for hop in (one, two) for m in hop.messages for r in m.recipients]
            self.assertEqual(len(set(recipients)), 30, recipients)

    @needs(peers.Postfix)
    def test_it_comes_back(self):
        port = peers.free_port()
        edge = self.relay(receive(), send(smart_hosts=[f"127.0.0.1:{port}"]))
        for i in range(3):
            self.swaks(edge, f"user{i}@contoso.test")
        edge.wait_log("send", "Failed to connect")
        hop = self.enterContext(peers.Postfix(self.base / "late", port, ["contoso.test"]))
        for i in range(3):
            self.assertEqual(len(hop.wait_messages(f"user{i}@contoso.test")), 1)
        edge.stop()
        self.assertIn("spool read", edge.diagnostics())
        self.assertEqual(hop.log().count("status=sent"), 3)


class Crowd(PeerTest):
    def test_a_next_hop_that_hangs_leaves_connections_to_others(self):
        # It takes connections and never greets, for minutes; each holds one of the four there are.
        hanging = self.enterContext(socket.create_server(("127.0.0.1", 0), backlog=64))
        hanging.settimeout(20)
        with ScriptedServer() as fine:
            edge = self.relay(
                receive(), send("Hanging", ["hang.test"], smart_hosts=[f"127.0.0.1:{hanging.getsockname()[1]}"]),
                send("Fine", ["contoso.test"], smart_hosts=[f"127.0.0.1:{fine.port}"]),
                retries="[transport]\nmax_outbound_connections = 4\n")
            with smtplib.SMTP("127.0.0.1", edge.port) as client:
                for i in range(30):
                    client.sendmail(ANN, f"user{i}@hang.test", b"Subject: x\r\n\r\nx\r\n")
            held = [self.enterContext(hanging.accept()[0]) for _ in range(3)]
            self.swaks(edge, DON)
            peers.wait_until(lambda: fine.to(DON), "the mail for the other next hop")
            hanging.settimeout(0)
            self.assertRaises(BlockingIOError, hanging.accept)
            for connection in held:
                connection.close()


class MixedOutcomes(PeerTest):
    @needs(peers.Postfix)
    def test_one_is_delivered_and_one_refused(self):
        hop = self.postfix("contoso.test", options={"smtpd_recipient_restrictions": (
            "check_recipient_access inline:{ {gone@contoso.test = 550 5.1.1 No mailbox here by that name} },"
            " reject_unauth_destination")})
        edge = self.relay(accepted("contoso.test"), receive(),
                          send("In", ["--"], smart_hosts=[f"127.0.0.1:{hop.port}"]), send("Back"))
        self.swaks(edge, [DON, "gone@contoso.test"], subject="figures")
        hop.wait_messages(DON)
        [data] = self.mailbox(edge, ANN)
        report = Report(data)
        self.assertEqual(report.subject, "Undeliverable: figures")
        self.assertIn("postmaster@contoso.test", report.message["From"])
        self.assertIn("Delivery has failed to these recipients or groups:", report.text)
        self.assertIn("Diagnostic information for administrators:", report.text)
        self.assertIn("Generating server: edge.contoso.test", report.text)
        self.assertRegex(report.text, r"Remote Server returned '550 5\.1\.1 .*No mailbox here by that name'")
        self.assertIn("Original message headers:", report.text)
        self.assertEqual(len(report.recipients), 1)
        fields = report.recipient("gone@contoso.test")
        self.assertEqual((fields["Action"], fields["Status"]), ("failed", "5.1.1"))
        # Nothing is left, and nothing happened twice.
        edge.stop()
        edge.start()
        self.assertIn("waiting=0", edge.spool_read())
        self.assertEqual(len(hop.messages(DON)), 1)
        self.mailbox(edge, ANN)

    def test_delivered_refused_and_deferred(self):
        def rcpt(address, before):
            if address.startswith("gone@"):
                return "550 5.1.1 no such mailbox"
            return "450 4.2.1 not just now" if address.startswith("busy@") and before < 5 else None

        with ScriptedServer(rcpt=rcpt) as hop:
            edge = self.relay(accepted("contoso.test"), receive(),
                              send("In", ["--"], smart_hosts=[f"127.0.0.1:{hop.port}"]), send("Back"))
            self.swaks(edge, [DON, "gone@contoso.test", "busy@contoso.test"])
            peers.wait_until(lambda: hop.to("busy@contoso.test"), "the deferred recipient's mail")
            [data] = self.mailbox(edge, ANN)
            self.assertEqual([r["Final-Recipient"] for r in Report(data).recipients], ["rfc822;gone@contoso.test"])
            edge.stop()
            edge.start()
            self.assertIn("waiting=0", edge.spool_read())
            self.assertEqual([m.recipients for m in hop.messages], [[DON], ["busy@contoso.test"]])
            self.assertEqual(hop.seen, {("rcpt", DON): 1, ("rcpt", "gone@contoso.test"): 1,
                                        ("rcpt", "busy@contoso.test"): 6, ("final", DON): 1,
                                        ("final", "busy@contoso.test"): 1})
            self.mailbox(edge, ANN)


class Lmtp(PeerTest):
    def test_each_recipient_has_a_reply_of_its_own(self):
        def final(address, before):
            if address.startswith("full@"):
                return "552 5.2.2 mailbox full"
            return "450 4.2.0 mailbox locked" if address.startswith("busy@") and before < 1 else None

        with ScriptedServer(lmtp=True, final=final) as store:
            edge = self.relay(accepted("contoso.test"), receive(),
                              send("In", ["--"], lmtp=f"127.0.0.1:{store.port}"), send("Back"))
            self.swaks(edge, [DON, "full@contoso.test", "busy@contoso.test"])
            peers.wait_until(lambda: store.to("busy@contoso.test"), "the deferred recipient's mail")
            [data] = self.mailbox(edge, ANN)
            report = Report(data)
            self.assertEqual(report.recipient("full@contoso.test")["Diagnostic-Code"], "smtp;552 5.2.2 mailbox full")
            self.assertEqual(len(report.recipients), 1)
            edge.stop()
            self.assertEqual([m.recipients for m in store.messages], [[DON], ["busy@contoso.test"]])
            self.assertEqual(store.seen["final", "full@contoso.test"], 1)


class NameService(PeerTest):
    """`dns_routing` against a zone of the test's own. Its servers share a port on addresses of
    their own, as mail exchangers do."""

    def setUp(self):
        super().setUp()
        self.port = peers.free_port("127.0.0.31")

    def relay_by(self, dns):
        return self.relay(
            accepted("home.test"), receive(), send("Home", ["--", "fabrikam.test"]),
            send("Internet", dns_routing=True, port=self.port),
            table("[dns]", servers=[f"127.0.0.1:{dns.port}"], timeout="2s"))

    def server(self, host):
        return self.enterContext(ScriptedServer(host, self.port))

    def test_exchangers_by_preference(self):
        zone = {("contoso.test", "MX"): [(30, "c.contoso.test"), (10, "a.contoso.test"), (20, "b.contoso.test")],
                ("a.contoso.test", "A"): ["127.0.0.31"], ("b.contoso.test", "A"): ["127.0.0.32"],
                ("c.contoso.test", "A"): ["127.0.0.33"]}
        second, third = self.server("127.0.0.32"), self.server("127.0.0.33")
        with DnsServer(zone) as dns:
            edge = self.relay_by(dns)
            self.swaks(edge, DON)
            peers.wait_until(lambda: second.messages, "a message at the second exchanger")
            # The best one is dead; the third was never asked.
            edge.wait_log("send", "Failed to connect")
            edge.stop()
            self.assertEqual([s.peer for s in sessions(edge.send_log())],
                             [f"127.0.0.31:{self.port}", f"127.0.0.32:{self.port}"])
            self.assertEqual(third.connections, 0)

    def test_the_best_exchanger_has_it_first(self):
        zone = {("contoso.test", "MX"): [(20, "b.contoso.test"), (10, "a.contoso.test")],
                ("a.contoso.test", "A"): ["127.0.0.31"], ("b.contoso.test", "A"): ["127.0.0.32"]}
        first, second = self.server("127.0.0.31"), self.server("127.0.0.32")
        with DnsServer(zone) as dns:
            edge = self.relay_by(dns)
            self.swaks(edge, DON)
            peers.wait_until(lambda: first.messages, "a message at the first exchanger")
            self.assertEqual(second.connections, 0)

    def test_a_domain_without_exchangers_is_its_own(self):
        hop = self.server("127.0.0.31")
        with DnsServer({("contoso.test", "A"): ["127.0.0.31"]}) as dns:
            edge = self.relay_by(dns)
            self.swaks(edge, DON)
            peers.wait_until(lambda: hop.to(DON), "the message")
            self.assertIn(("contoso.test", "MX"), dns.asked)

    def refusal(self, zone, address):
        with DnsServer(zone) as dns:
            edge = self.relay_by(dns)
            self.swaks(edge, address)
            [data] = self.mailbox(edge, ANN)
            return Report(data).recipient(address)

    def test_a_null_mx(self):
        zone = {("contoso.test", "MX"): [(0, ".")], ("contoso.test", "A"): ["127.0.0.31"]}
        hop = self.server("127.0.0.31")
        fields = self.refusal(zone, DON)
        self.assertEqual((fields["Action"], fields["Status"]), ("failed", "5.1.10"))
        self.assertEqual(fields["Diagnostic-Code"], "smtp;556 5.1.10 Recipient address has null MX")
        self.assertEqual(hop.connections, 0)

    def test_a_name_that_does_not_exist(self):
        fields = self.refusal({("contoso.test", "A"): ["127.0.0.31"]}, "don@nowhere.test")
        self.assertEqual((fields["Action"], fields["Status"]), ("failed", "5.4.4"))
        self.assertEqual(fields["Diagnostic-Code"],
                         "smtp;554 5.4.4 SMTPSEND.DNS.NonExistentDomain; nonexistent domain")

    def test_no_answer_is_no_verdict(self):
        hop = self.server("127.0.0.31")
        with DnsServer({}) as silent:
            port = silent.port
        edge = self.relay(receive(), send("Internet", dns_routing=True, port=self.port),
                          table("[dns]", servers=[f"127.0.0.1:{port}"], timeout="200ms"))
        self.swaks(edge, DON)
        edge.wait_diagnostics("451 4.4.0 DNS query failed")
        self.assertEqual(hop.connections, 0)


class Maildir(PeerTest):
    def test_one_copy_a_recipient_in_one_file(self):
        edge = self.relay(receive(), send())
        self.swaks(edge, [DON, "Eve@Contoso.test"])
        for address in (DON, "eve@contoso.test"):
            [data] = self.mailbox(edge, address)
            message = email.message_from_bytes(data)
            self.assertEqual(message["Subject"], "hello")
            self.assertEqual(message["Return-Path"], f"<{ANN}>")
        self.assertEqual(list((edge.directory / "mail/contoso.test/don/tmp").iterdir()), [])

    def test_addresses_cannot_leave_the_directory(self):
        edge = self.relay(receive(), send())
        self.swaks(edge, '"../../../escaped"@contoso.test')
        found = peers.wait_until(lambda: [p for p in edge.directory.rglob("new/*") if p.is_file()], "a delivery")
        for path in found:
            self.assertEqual(path.resolve().parents[2], edge.directory / "mail/contoso.test")
        self.assertEqual(list(self.base.rglob("escaped")), [])


if __name__ == "__main__":
    unittest.main()
