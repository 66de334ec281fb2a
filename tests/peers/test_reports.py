"""Delivery reports a sender gets, as Python's email package reads them: failure, delay, expiry,
success. Never one for a null sender."""

import unittest

import peers
from cases import PeerTest, Report, accepted, needs, receive, send
from gatepost import Dialogue
from scripted import ScriptedServer

DON = "don@contoso.test"
ANN = "ann@fabrikam.test"


class Reports(PeerTest):
    def submit(self, edge, sender, recipients, mail="", subject="figures"):
        """Sends a message with parameters of RFC 3461, which swaks does not know."""
        with Dialogue(edge.port) as client:
            client.ask("EHLO client.test")
            self.assertIn("250 2.1.0", client.ask(f"MAIL FROM:<{sender}>{mail}"))
            for address, parameters in recipients:
                self.assertIn("250 2.1.5", client.ask(f"RCPT TO:<{address}>{parameters}"))
            client.ask("DATA")
            client.send(f"From: <{ANN}>\r\nSubject: {subject}\r\nMessage-ID: <figures@client.test>\r\n\r\nrows\r\n.")
            self.assertIn("250 2.6.0", client.reply())
            client.ask("QUIT")

    def relay_to(self, hop, **more):
        """A relay of contoso.test to a server or port, with everything else in Maildirs."""
        port = hop if isinstance(hop, int) else hop.port
        return self.relay(accepted("contoso.test"), receive(),
                          send("In", ["--"], smart_hosts=[f"127.0.0.1:{port}"]), send("Back"), **more)

    def check(self, report, subject, action, status, diagnostic, address=DON):
        self.assertEqual(report.message.get_content_type(), "multipart/report")
        self.assertEqual(report.message.get_param("report-type"), "delivery-status")
        self.assertEqual(report.message["From"], "postmaster@contoso.test")
        self.assertEqual(report.message["To"], ANN)
        self.assertEqual(report.message["Auto-Submitted"], "auto-replied")
        self.assertEqual(report.message["Return-Path"], "<>")
        self.assertEqual(report.subject, subject)
        self.assertEqual(report.fields["Reporting-MTA"], "dns;edge.contoso.test")
        fields = report.recipient(address)
        self.assertEqual((fields["Action"], fields["Status"]), (action, status))
        self.assertRegex(fields.get("Diagnostic-Code", ""), diagnostic)
        for part in report.message.walk():
            self.assertEqual(part.defects, [])
        return fields

    def assert_nothing_waits(self, edge):
        """After a restart nothing is left in the spool, and nothing more is sent."""
        edge.stop()
        edge.start()
        self.assertIn("waiting=0", edge.spool_read())

    @needs(peers.Postfix)
    def test_failure_with_the_whole_message(self):
        hop = self.postfix("contoso.test", options={"smtpd_recipient_restrictions": (
            "check_recipient_access inline:{ {gone@contoso.test = 554 5.7.1 Not for you} }, reject_unauth_destination")})
        edge = self.relay_to(hop)
        self.submit(edge, ANN, [("gone@contoso.test", " ORCPT=rfc822;Gone+2Bfar@contoso.test")],
                    " RET=FULL ENVID=QQ314")
        [data] = self.mailbox(edge, ANN)
        report = Report(data)
        fields = self.check(report, "Undeliverable: figures", "failed", "5.7.1",
                            r"^smtp;554 5\.7\.1 .*Not for you$", "gone@contoso.test")
        self.assertEqual(fields["Original-Recipient"], "rfc822;Gone+far@contoso.test")
        self.assertEqual(fields["Remote-MTA"], "dns;[127.0.0.1]")
        self.assertEqual(report.fields["Original-Envelope-Id"], "QQ314")
        self.assertEqual(report.fields["Received-From-MTA"], "dns;client.test")
        self.assertEqual(report.returned.get_content_type(), "message/rfc822")
        self.assertEqual(report.returned.get_payload(0).get_payload().strip(), "rows")
        self.assertEqual(report.message["In-Reply-To"], "<figures@client.test>")

    def test_notify_never_means_silence(self):
        with ScriptedServer(rcpt=lambda *_: "550 5.1.1 no such mailbox") as hop:
            edge = self.relay_to(hop)
            self.submit(edge, ANN, [(DON, " NOTIFY=NEVER")])
            self.submit(edge, ANN, [("eve@contoso.test", "")])
            [data] = self.mailbox(edge, ANN)
            Report(data).recipient("eve@contoso.test")
            self.assert_nothing_waits(edge)
            self.mailbox(edge, ANN)

    @needs(peers.Postfix)
    def test_relayed_to_a_server_that_reports_nothing(self):
        hop = self.postfix("contoso.test", options={"smtpd_discard_ehlo_keywords": "dsn"})
        edge = self.relay_to(hop)
        self.submit(edge, ANN, [(DON, " NOTIFY=SUCCESS"), ("eve@contoso.test", "")])
        [data] = self.mailbox(edge, ANN)
        report = Report(data)
        self.check(report, "Relayed: figures", "relayed", "2.0.0", "^(smtp;250 2.0.0 .*)?$")
        self.assertEqual(len(report.recipients), 1)
        self.assertIn("no delivery notification was sent by the destination server",
                      " ".join(report.text.split()))
        self.assertEqual(report.returned.get_content_type(), "text/rfc822-headers")

    @needs(peers.Postfix)
    def test_a_server_that_reports_is_asked_to(self):
        # Postfix reports to the sender by way of this relay.
        back, there = peers.free_port(), peers.free_port()
        edge = self.relay_to(there, port=back)
        self.enterContext(peers.Postfix(self.base / "postfix", there, ["contoso.test"],
                                        options={"relayhost": f"[127.0.0.1]:{back}"}))
        self.submit(edge, ANN, [(DON, " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Don@contoso.test")], " ENVID=QQ7")
        [data] = self.mailbox(edge, ANN)
        report = Report(data)
        # One report, and it is Postfix's.
        self.assertEqual(report.fields["Reporting-MTA"], "dns; postfix.test")
        self.assertEqual(report.fields["Original-Envelope-Id"], "QQ7")
        [fields] = report.recipients
        self.assertEqual(fields["Action"], "delivered")
        self.assertEqual(fields["Original-Recipient"], "rfc822;Don@contoso.test")

    def test_delivered_into_a_mailbox(self):
        edge = self.relay(accepted("contoso.test"), receive(), send())
        self.submit(edge, ANN, [(DON, " NOTIFY=SUCCESS")])
        self.mailbox(edge, DON)
        [data] = self.mailbox(edge, ANN)
        self.check(Report(data), "Delivered: figures", "delivered", "2.1.5", "^$")

    def test_delay_and_expiry(self):
        timers = """[transport]
queue_glitch_retry_count = 1000
queue_glitch_retry_interval = "300ms"
delay_notification_timeout = "1s"
message_expiration_timeout = "3s"
"""
        edge = self.relay_to(peers.free_port(), retries=timers)
        self.submit(edge, ANN, [(DON, ""), ("eve@contoso.test", " NOTIFY=FAILURE")])
        found = [Report(data) for data in self.mailbox(edge, ANN, 2)]
        [delay] = [r for r in found if r.subject.startswith("Delivery delayed")]
        [expiry] = [r for r in found if r.subject.startswith("Undeliverable")]
        fields = self.check(delay, "Delivery delayed:figures", "delayed", "4.4.7", r"^smtp;400 4\.4\.7 Message delayed$")
        self.assertIn("Will-Retry-Until", fields)
        self.assertEqual(len(delay.recipients), 1)
        text = " ".join(delay.text.split())
        self.assertIn("This message hasn't been delivered yet. Delivery will continue to be attempted.", text)
        self.assertIn("returned '400 4.4.7 Message delayed'", text)
        for address in (DON, "eve@contoso.test"):
            self.check(expiry, "Undeliverable: figures", "failed", "4.4.7",
                       r"^smtp;550 4\.4\.7 QUEUE\.Expired; message expired", address)
        self.assert_nothing_waits(edge)

    def test_a_null_sender_is_never_answered(self):
        with ScriptedServer(rcpt=lambda *_: "550 5.1.1 no such mailbox") as hop:
            edge = self.relay_to(hop)
            self.submit(edge, "", [(DON, " NOTIFY=SUCCESS,FAILURE,DELAY")])
            edge.wait_diagnostics("delivery failed")
            self.assert_nothing_waits(edge)
            self.assertFalse((edge.directory / "mail").exists())
            self.assertEqual(hop.seen["rcpt", DON], 1)


if __name__ == "__main__":
    unittest.main()
