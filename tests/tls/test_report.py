"""`gatepost tls report` on the logs a relay has just written, beside what its session events say."""

import collections
import csv
import io
import json
import ssl
import subprocess
import unittest

import peers
from cases import certificate, receive, roots, send, sessions
from clients import openssl
from gatepost import BINARY, FAST_RETRIES, Dialogue, Gatepost, server


def context(version, shown=None):
    """Python's TLS client of one version."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.minimum_version = tls.maximum_version = version
    if shown:
        tls.load_cert_chain(shown.chain, shown.key)
    return tls


def deliver(port, helo, tls=None, source="127.0.0.1", messages=1):
    """One session with so many messages."""
    with Dialogue(port, source=source) as client:
        client.ask(f"EHLO {helo}")
        if tls:
            client.ask("STARTTLS")
            client.socket = tls.wrap_socket(client.socket)
            client.reader = client.socket.makefile("rb")
            client.ask(f"EHLO {helo}")
        for number in range(messages):
            client.ask(f"MAIL FROM:<{helo}@fabrikam.test>")
            client.ask("RCPT TO:<don@contoso.test>")
            client.ask("DATA")
            reply = client.ask(f"Subject: {number}\r\n\r\nhello\r\n.")
            assert reply.startswith("250"), reply
        client.ask("QUIT")


class TlsReport(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        base = cls.enterClassContext(peers.tempfile_dir())
        ca = peers.make_ca(base / "ca")
        mailbox = "\n".join([server("mx.contoso.test"), certificate(ca.issue("mx.contoso.test")),
                             receive(tls="required"), send()])
        cls.mailbox = cls.enterClassContext(Gatepost(base / "mailbox", mailbox))
        cls.partners = peers.free_port()
        config = "\n".join([
            server(), FAST_RETRIES, roots(ca.path), certificate(ca.issue("edge.contoso.test")),
            receive(name="Default Internet", tls="opportunistic"),
            receive(name="Partners", bindings=[f"127.0.0.1:{cls.partners}"], tls="mutual", tls_domains=["*.partner.test"]),
            send(name="To mailboxes", smart_hosts=[f"127.0.0.1:{cls.mailbox.port}"], tls="validate_domain",
                 tls_domain="mx.contoso.test")])
        cls.edge = cls.enterClassContext(Gatepost(base / "edge", config, log_format="json"))
        port = cls.edge.port
        deliver(port, "new.test", context(ssl.TLSVersion.TLSv1_3), "127.0.0.3", messages=2)
        for _ in range(2):
            deliver(port, "old.test", context(ssl.TLSVersion.TLSv1_2), "127.0.0.4")
        deliver(port, "clear.test", source="127.0.0.5")
        deliver(cls.partners, "mail.partner.test",
                context(ssl.TLSVersion.TLSv1_3, ca.issue("mail.partner.test")), "127.0.0.6")
        for _ in range(3):
            openssl(port, "TLS 1.0", "ancient.test")
        openssl(port, "TLS 1.1", "older.test")
        # Ended on both sides, and delivered.
        peers.wait_until(cls.all_ended, "end of the sessions", 30)

    @classmethod
    def all_ended(cls):
        # Some sessions are only those with which the test found out that the relay runs.
        incoming = [s for s in sessions(cls.edge.receive_log()) if any(data.startswith("EHLO") for _, data, _ in s.lines)]
        # What was relayed in a flight that is still pooled has no end in the log yet.
        delivered = sum(event["messages"] for event in cls.edge.events() if event["direction"] == "out")
        return len(incoming) == 9 and all(s.ended() for s in incoming) and delivered >= 6

    def report(self, *arguments, paths=()):
        """Its output."""
        where = paths or ["-c", self.edge.config]
        done = subprocess.run([BINARY, "tls", "report", *arguments, *where], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def rows(self, *arguments, **more):
        return json.loads(self.report("--json", *arguments, **more))

    def row(self, **expected):
        """The one row with these values."""
        found = [row for row in self.rows() if all(row[key] == value for key, value in expected.items())]
        self.assertEqual(len(found), 1, (expected, self.rows()))
        return found[0]

    def test_each_client_is_counted_with_its_version(self):
        new = self.row(peer="127.0.0.3")
        self.assertEqual((new["direction"], new["connector"], new["server"]), ("in", "Default Internet", "EDGE"))
        self.assertEqual((new["version"], new["outcome"], new["sessions"], new["messages"]), ("TLS1_3", "ok", 1, 2))
        self.assertTrue(new["cipher"].startswith("TLS_AES_") and new["group"], new)
        self.assertEqual((new["helo"], new["would_fail"]), ("new.test", []))
        self.assertLessEqual(new["first_seen"], new["last_seen"])
        old = self.row(peer="127.0.0.4")
        self.assertEqual((old["version"], old["sessions"], old["messages"]), ("TLS1_2", 2, 2))
        self.assertTrue(old["cipher"].startswith("TLS_ECDHE_ECDSA_WITH_"), old)
        self.assertEqual(old["would_fail"], ["min-1.3"])
        clear = self.row(peer="127.0.0.5")
        self.assertEqual((clear["version"], clear["outcome"], clear["messages"]), ("none", "plain", 1))
        self.assertEqual(clear["would_fail"], ["no-plain-text", "verified-names"])

    def test_refused_clients_are_named_with_what_they_offered(self):
        for helo, version, count in (("ancient.test", "TLS1_0", 3), ("older.test", "TLS1_1", 1)):
            refused = self.row(helo=helo)
            self.assertEqual((refused["peer"], refused["connector"]), ("127.0.0.1", "Default Internet"))
            self.assertEqual((refused["version"], refused["outcome"], refused["sessions"]), (version, "refused", count))
            self.assertEqual((refused["messages"], refused["error"]), (0, "SocketError"))

    def test_verified_names_are_told_both_ways(self):
        partner = self.row(peer="127.0.0.6")
        self.assertEqual((partner["connector"], partner["verification"]), ("Partners", "verified"))
        self.assertEqual(partner["verified_name"], "mail.partner.test")
        out = [row for row in self.rows() if row["direction"] == "out"]
        self.assertEqual({(row["connector"], row["peer"], row["version"], row["verified_name"]) for row in out},
                         {("To mailboxes", "127.0.0.1", "TLS1_3", "mx.contoso.test")})
        self.assertEqual({row["helo"] for row in out}, {"mx.contoso.test"})
        self.assertEqual(sum(row["messages"] for row in out), 6)

    def test_it_says_what_the_session_events_say(self):
        events, rows = collections.Counter(), collections.Counter()
        for event in self.edge.events():
            if event["tls_version"] != "none":
                events[tuple(event[key] for key in ("direction", "connector", "tls_version", "tls_cipher", "tls_group"))] += 1
        for row in self.rows():
            if row["outcome"] == "ok":
                rows[tuple(row[key] for key in ("direction", "connector", "version", "cipher", "group"))] += row["sessions"]
        self.assertEqual(rows, events)

    def test_groupings_sum_up(self):
        rows = self.rows()
        total = sum(row["sessions"] for row in rows)
        for by, nulls in (("version", ("connector", "peer", "helo")), ("connector", ("peer", "cipher")), ("peer", ("cipher",))):
            grouped = self.rows("--by", by)
            self.assertEqual(sum(row["sessions"] for row in grouped), total, by)
            self.assertTrue(all(row[key] is None for row in grouped for key in nulls), grouped)
            self.assertEqual([set(row) for row in grouped], [set(rows[0])] * len(grouped))
        table = list(csv.DictReader(io.StringIO(self.report("--csv"))))
        self.assertEqual(sum(int(row["sessions"]) for row in table), total)
        self.assertEqual([row["peer"] for row in table], [row["peer"] for row in rows])

    def test_one_command_tells_who_breaks(self):
        text = self.report()
        self.assertRegex(text, r"(?m)^  TLS 1\.3 only +2 +2 +1 +4 +0$")
        self.assertRegex(text, r"(?m)^  in +127\.0\.0\.1 +ancient\.test +Default Internet +TLS1_0 refused +3 +0 ")
        self.assertRegex(text, r"(?m)^  in +127\.0\.0\.4 +old\.test +Default Internet +TLS1_2 +2 +2 ")
        self.assertRegex(text, r"(?m)^  in +127\.0\.0\.5 +clear\.test +Default Internet +plain +1 +1 ")
        broken = {row["helo"] for row in self.rows("--would-fail", "min-1.3")}
        self.assertEqual(broken, {"ancient.test", "older.test", "old.test"})

    def test_logs_are_read_without_a_configuration_too(self):
        logs = self.edge.directory / "log" / "ProtocolLog"
        self.assertEqual(self.rows(paths=[logs]), self.rows())
        incoming = [row for row in self.rows() if row["direction"] == "in"]
        self.assertEqual(self.rows(paths=[logs / "SmtpReceive"]), incoming)
        self.assertEqual(self.rows("--since", "1h"), self.rows())
        self.assertEqual(self.rows("--since", "2999-01-01T00:00:00Z"), [])

    def test_what_cannot_be_read_is_said(self):
        done = subprocess.run([BINARY, "tls", "report", self.edge.directory / "none"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^gatepost: .*/none: No such file or directory")


if __name__ == "__main__":
    unittest.main()
