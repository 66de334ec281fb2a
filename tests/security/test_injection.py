"""What a stranger says stays a value: it adds no header line, no log line, no field, no file.

One edge for all: contoso.test goes to a hop, box.test into Maildirs, refuse.test to a hop that says
ugly things, and reports for fabrikam.test to the first hop again.
"""

import csv
import email
import email.policy
import io
import json
import re
import stat
import unittest

from hops import Hop
import peers
from gatepost import FAST_RETRIES, OPEN_LIMITS, Dialogue, Gatepost, server

CONFIG = server() + """
[[accepted_domains]]
domain = "*.test"
[[receive_connectors]]
name = "Internet"
bindings = ["127.0.0.1:{port}"]
max_protocol_errors = 100000
""" + OPEN_LIMITS + """
[[receive_connectors]]
name = "Normalize"
bindings = ["127.0.0.1:{second}"]
bare_line_feeds = "normalize"
""" + OPEN_LIMITS + FAST_RETRIES + """
[[send_connectors]]
name = "Boxes"
address_spaces = ["box.test"]
maildir = "mail/%d/%u"
"""

ESCAPES = b"\x1b[2J\x1b]0;owned\x07\x9b31m\xc2\x9b31m\xe2\x80\xa8\xc2\x85\x7f\x00\x08"


def ugly_refusal(session, line):
    """A reply with everything in it that a report could trip over."""
    return (b"550-5.1.1 no \"such\" user, <b>here</b> \x1b[2J\xff\xfe\x00\xc3\xa4\r\n"
            b"550-5.1.1 " + b"x" * 1900 + b"\r\n"
            b"550-5.1.1 Content-Type: text/html\r\n"
            b"550-5.1.1 ------=_000_boundary--\r\n"
            b"550-5.1.1 \r\n"
            b"550 5.1.1 --_000_00000000000000000000000000000000_--\r\n")


class Base(unittest.TestCase):
    log_format = "text"

    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        capabilities = ("8BITMIME", "PIPELINING", "CHUNKING", "SMTPUTF8", "DSN")
        cls.hop = cls.enterClassContext(Hop(capabilities))
        cls.plain = cls.enterClassContext(Hop(("8BITMIME",)))
        cls.refuser = cls.enterClassContext(Hop(capabilities, answers={"RCPT": ugly_refusal}))
        cls.second = peers.free_port()
        config = CONFIG.replace("{second}", str(cls.second))
        for name, space, hop in (("hop", "contoso.test", cls.hop), ("reports", "fabrikam.test", cls.hop),
                                 ("plain", "plain.test", cls.plain), ("refuser", "refuse.test", cls.refuser)):
            config += (f'[[send_connectors]]\nname = "{name}"\naddress_spaces = ["{space}"]\n'
                       f'smart_hosts = ["127.0.0.1:{hop.port}"]\ntls = "off"\n')
        cls.edge = cls.enterClassContext(Gatepost(cls.base / "edge", config, log_format=cls.log_format))

    def client(self, helo="client.test", port=None):
        client = self.enterContext(Dialogue(port or self.edge.port))
        if helo:
            self.assertEqual(client.ask(f"EHLO {helo}")[:3], "250")
        return client

    def submit(self, content, recipient="don@contoso.test", sender="", client=None, mail="", rcpt=""):
        client = client or self.client()
        for command in (f"MAIL FROM:<{sender}> {mail}", f"RCPT TO:<{recipient}> {rcpt}"):
            reply = client.ask(command)
            self.assertEqual(reply[:3], "250", f"{command}: {reply}")
        size = len(content)
        reply = client.ask(b"BDAT %d LAST\r\n%s" % (size, content))
        self.assertEqual(reply[:3], "250", reply)
        return reply


class Headers(Base):
    def header(self, subject, hop=None):
        hop = hop or self.hop
        hop.wait_subjects([subject])
        [message] = [m for m in hop.messages if m.subject == subject]
        return message, email.message_from_bytes(message.content, policy=email.policy.SMTP)

    def test_a_helo_name_is_a_word_in_received(self):
        client = self.client(None)
        for name in ("a) by evil.test (x", "a\rX-Evil: yes", "a\tb", "(", "a;b", "<x>", '"a"', "a\\b", "", "x" * 300, "a,b"):
            reply = client.ask(f"EHLO {name}".encode() + b"\r\n")
            self.assertIn(reply[:3], ("501", "500"), name)
        accepted = self.client("a'{b}`c`/$d%n")
        self.submit(b"Subject: helo\r\n\r\nx\r\n", client=accepted)
        message, header = self.header("helo")
        # Ours and no other: Received, Message-ID, and the client's own Subject.
        self.assertEqual(header.keys(), ["Received", "Message-ID", "Subject"])
        self.assertRegex(header["Received"], r"^from [\w.?:\[\]-]+ \(127\.0\.0\.1\) by edge\.contoso\.test ")

    def test_our_fields_stay_whole_before_odd_content(self):
        cases = {
            "continued": b" folded into the field above\r\nSubject: continued\r\n\r\nx\r\n",
            "tabbed": b"\tX-Evil: yes\r\nSubject: tabbed\r\n\r\nx\r\n",
            "colonless": b"no field at all\r\nSubject: colonless\r\n\r\nx\r\n",
            "headerless": b"\r\nSubject: headerless\r\n\r\nx\r\n",
        }
        for subject, content in cases.items():
            with self.subTest(subject):
                self.submit(content)
                self.hop.wait_subjects([subject])
                [message] = [m for m in self.hop.messages if m.subject == subject]
                head, _, body = message.content.partition(b"\r\n\r\n")
                header = email.message_from_bytes(message.content, policy=email.policy.SMTP)
                self.assertEqual(header.keys(), ["Received", "Message-ID"])
                self.assertNotIn("folded", header["Message-ID"])
                self.assertIn(content.strip(), head + b"\r\n\r\n" + body)

    def test_a_message_id_makes_no_line_in_reply_or_log(self):
        ids = [b"<a\r\n b@x>", b"<" + b"a" * 5000 + b"@x>", b"<" + ESCAPES + b"@x>", b'<",a","b"@x>', b"<\xff\xfe@x>",
               b"250 2.0.0 ok", "<ümläut\u2028250 ok@x>".encode()]
        client = self.client()
        for number, value in enumerate(ids):
            content = b"Message-ID: " + value + b"\r\nSubject: id %d\r\n\r\nx\r\n" % number
            client.ask("MAIL FROM:<>")
            client.ask("RCPT TO:<don@contoso.test>")
            client.send(b"BDAT %d LAST\r\n%s" % (len(content), content))
            line = client.reader.readline()
            self.assertRegex(line, rb"^250 2\.6\.0 [ -~]*\r\n$")
            self.assertLessEqual(len(line), 512)
            self.assertEqual(client.ask("NOOP"), "250 2.0.0 OK")
        self.hop.wait_subjects([f"id {number}" for number in range(len(ids))])
        for message in self.hop.messages:
            if message.subject.startswith("id "):
                header = email.message_from_bytes(message.content, policy=email.policy.SMTP)
                self.assertEqual(header.keys(), ["Received", "Message-ID", "Subject"])

    def test_parameters_go_on_as_parameters_only(self):
        client = self.client()
        for bad in ("ENVID=a+0D+0AX-Evil:+20yes", "ENVID=a+0a", "ENVID=" + "a" * 101, "ENVID=a=b", "ENVID=+zz", "ENVID=a+1B",
                    "RET=FULL RET=HDRS", "SIZE=1e3", "BODY=8BITMIME\x00", "AUTH=<> AUTH=<>", "X=1"):
            self.assertEqual(client.ask(f"MAIL FROM:<a@fabrikam.test> {bad}")[0], "5", bad)
        client.ask("MAIL FROM:<a@fabrikam.test> ENVID=a+20b+2Bc")
        for bad in ("ORCPT=rfc822;a+0D+0Ab", "ORCPT=a", "ORCPT=;a", "ORCPT=rfc822;" + "a" * 500, "NOTIFY=NEVER,SUCCESS",
                    "ORCPT=rfc822;a>", "NOTIFY=SUCCESS\tX"):
            reply = client.ask(f"RCPT TO:<don@contoso.test> {bad}")
            self.assertTrue(reply[0] == "5" or bad.endswith("a>"), (bad, reply))
        client.ask("RSET")
        self.submit(b"Subject: parameters\r\n\r\nx\r\n", sender="a@fabrikam.test", mail="ENVID=a+20b+2Bc",
                    rcpt="ORCPT=rfc822;x+20y NOTIFY=FAILURE", client=client)
        message, _ = self.header("parameters")
        self.assertTrue(message.sender.endswith(b" ENVID=a+20b+2Bc"), message.sender)
        self.assertEqual(message.recipients, [b"RCPT TO:<don@contoso.test> NOTIFY=FAILURE ORCPT=rfc822;x+20y"])


class Logs(Base):
    """Both protocol logs are well-formed CSV whatever was said, one line a command."""

    NASTY = [b'HELP "a","b"\r\n', b"HELP a\rb\r\n", b"HELP a\r\r\n", b"EHLO \x1b[2J\x1b[1;1H\r\n", b"VRFY " + ESCAPES + b"\r\n",
             b"HELP \xff\xfe\xc3\r\n", b'"\r\n', b'","\r\n', b"HELP " + b"," * 1900 + b"\r\n", b"#Software: fake\r\n",
             b"2026-01-01T00:00:00.000Z,EDGE\\Internet,0,0,,,*,fake,line\r\n", b"HELP \xe2\x80\xae\r\n", b"=cmd|' /C calc'!A0\r\n"]

    def rows(self, kind):
        text = b"".join(p.read_bytes() for p in sorted((self.edge.directory / f"log/ProtocolLog/{kind}").glob("*.LOG")))
        lines = text.decode().split("\r\n")
        self.assertEqual(lines.pop(), "")
        return [line for line in lines if not line.startswith("#")]

    def test_a_command_is_one_line(self):
        client = self.client()
        name = client.socket.getsockname()
        for command in self.NASTY:
            client.send(command)
            client.reply()
        client.ask("QUIT")
        self.edge.wait_log("receive", f"127.0.0.1:{name[1]},-,")
        lines = [line for line in self.rows("SmtpReceive") if f"127.0.0.1:{name[1]}," in line]
        rows = [next(csv.reader([line])) for line in lines]
        self.assertEqual({len(row) for row in rows}, {9})
        # `+`, the commands and replies, and the end: numbered without a gap.
        self.assertEqual([int(row[3]) for row in rows], list(range(len(rows))))
        received = [row[7] for row in rows if row[6] == "<"]
        self.assertEqual(len(received), len(self.NASTY) + 2)
        self.assertIn('HELP "a","b"', received)
        everything = "\n".join(lines)
        self.assertFalse([c for c in everything if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029")])
        # No reader, however it splits lines, finds more of them.
        self.assertEqual(len(everything.splitlines()), len(lines))

    def test_what_a_next_hop_says_is_one_line(self):
        self.submit(b"Subject: refused\r\n\r\nx\r\n", recipient="nobody@refuse.test", sender="")
        self.edge.wait_log("send", "no \"\"such\"\" user")
        for line in self.rows("SmtpSend"):
            self.assertEqual(len(next(csv.reader([line]))), 9, line)
            self.assertFalse([c for c in line if ord(c) < 32 or 127 <= ord(c) < 160], line)

    def test_secrets_of_a_client_stay_out(self):
        client = self.client()
        for line in (b"AUTH PLAIN c2VjcmV0MQ==\r\n", b"  AUTH PLAIN c2VjcmV0Mg==\r\n", b"auth login c2VjcmV0Mw==\r\n",
                     b"AUTH\tPLAIN c2VjcmV0NA==\r\n", b"\tAUTH PLAIN c2VjcmV0NQ==\r\n", b"AUTH LOGIN\r\n", b"c2VjcmV0Ng==\r\n",
                     b"AUTHPLAIN c2VjcmV0Nw==\r\n"):
            client.send(line)
            self.assertEqual(client.reply()[0], "5")
        client.ask("QUIT")
        self.edge.wait_log("receive", f"127.0.0.1:{client.socket.getsockname()[1]},-,")
        said = "\n".join(self.rows("SmtpReceive")) + self.edge.diagnostics()
        self.assertIn("AUTH PLAIN <hidden>", said)
        self.assertNotIn("c2VjcmV0", said)

    def test_diagnostics_obey_no_escape(self):
        content = b"Message-ID: <" + ESCAPES + b' recipient=x reply="250"@x>\r\nSubject: x\r\n\r\nx\r\n'
        self.submit(content, recipient='"a reply=250 b"@refuse.test')
        self.edge.wait_diagnostics("delivery failed")
        raw = (self.edge.directory / "stderr.log").read_bytes().decode()
        self.assertFalse([c for c in raw if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160)])
        # Values are quoted, so that none can pass for another field.
        [line] = [line for line in raw.splitlines() if "delivery failed" in line and "a reply=250" in line]
        self.assertIn(r'recipient="\"a reply=250 b\"@refuse.test"', line)
        self.assertIn(r'recipient=x reply=\"250\"@x>"', line)


class JsonLogs(Base):
    log_format = "json"

    def test_every_line_is_one_object(self):
        client = self.client(None)
        client.send(b"EHLO \xff\x1b[2J\r\n")
        client.reply()
        client.ask("EHLO a'{b}`c`\"")
        client.ask("EHLO a'{b}`c`")
        self.submit(b'Message-ID: <"},{"level":"ERROR\x1b' + ESCAPES + b'"@x>\r\nSubject: "}\r\n\r\nx\r\n', client=client,
                    recipient='"a\\"},{"@refuse.test')
        client.ask("QUIT")
        self.edge.wait_diagnostics("delivery failed")
        self.edge.wait_diagnostics('"direction":"out"')
        for line in (self.edge.directory / "stderr.log").read_bytes().decode().split("\n")[:-1]:
            self.assertIn(json.loads(line)["level"], ("INFO", "WARN"))


class Reports(Base):
    """Failure reports about ugly messages, refused with ugly words, as Python's parser sees them."""

    def report(self, content, ret="FULL", recipient="nobody@refuse.test", domain="fabrikam.test", mail="",
               refused_by=None):
        before = len(self.hop.messages)
        envelope = f"r{before}"
        self.submit(content, recipient=recipient, sender=f"{envelope}@{domain}", mail=f"RET={ret} {mail}")
        peers.wait_until(lambda: [m for m in self.hop.messages if f"<{envelope}@".encode() in m.recipients[0]],
                         "report", 30)
        [found] = [m for m in self.hop.messages if f"<{envelope}@".encode() in m.recipients[0]]
        self.assertTrue(found.sender.startswith(b"MAIL FROM:<>"))
        policy = email.policy.SMTP.clone(raise_on_defect=False)
        message = email.message_from_bytes(found.content, policy=policy)
        self.assertEqual(message.get_content_type(), "multipart/report")
        parts = message.get_payload()
        self.assertEqual(len(parts), 3)
        self.assertEqual(message.defects, [])
        self.assertEqual([p.get_content_type() for p in parts][:2], ["text/plain", "message/delivery-status"])
        self.assertIn(f"{envelope}@{domain}", message["To"])
        self.assertNotIn("X-Evil", message)
        # Lines end in CRLF, and none of ours is longer than SMTP carries.
        self.assertNotRegex(found.content, rb"(?s)\r(?!\n)|(?<!\r)\n")
        head = re.split(rb"Content-Type: (?:message/rfc822|text/rfc822-headers)", found.content)[0]
        self.assertLessEqual(max(len(line) for line in head.split(b"\r\n")), 998)
        groups = parts[1].get_payload()
        self.assertEqual(len(groups), 2)
        self.assertEqual(groups[1]["Action"], "failed")
        if refused_by:
            self.assertEqual(groups[1]["Status"].encode(), refused_by)
        else:
            self.assertEqual(groups[1]["Status"], "5.1.1")
            self.assertIn("such", groups[1]["Diagnostic-Code"])
        return message, parts

    def test_boundary_guesses(self):
        guess = b"--_000_00000000000000000000000000000000_--"
        content = (b"Subject: " + guess + b"\r\nX-Guess:\r\n " + guess + b"\r\nContent-Type: multipart/mixed; boundary=\"_000_\"\r\n\r\n"
                   + guess + b"\r\n--_000_--\r\n\r\n------\r\n" + guess + b"\r\nContent-Type: text/html\r\n\r\n<b>\r\n")
        for ret in ("FULL", "HDRS"):
            message, parts = self.report(content, ret)
            self.assertEqual(parts[2].get_content_type(), "message/rfc822" if ret == "FULL" else "text/rfc822-headers")

    def test_headers_that_hide_others(self):
        content = (b"Subject: a\r\n\tb\r\n X-Evil: yes\r\nMessage-ID: <a b>\r\n X-Evil: yes\r\n"
                   b"From: evil@fabrikam.test\r\n\r\nbody\r\n")
        message, _ = self.report(content)
        self.assertNotIn("In-Reply-To", message)
        self.assertTrue(message["Subject"].startswith("Undeliverable: a"))

    def test_eight_bit_controls_and_long_lines(self):
        # The client declared nothing of the kind.
        content = (b"Subject: \xff\xfe\x1b[2J\x01\xe2\x80\xa8 x\r\nX-Long: " + b"y" * 10_000 + b"\r\nX-Nul: a\x00b\r\n\r\n"
                   + b"z" * 10_000 + b"\r\n\x1b[2J\xff\r\n")
        for ret in ("FULL", "HDRS"):
            message, parts = self.report(content, ret)
            self.assertTrue(message["Subject"].startswith("Undeliverable:"))
            text = parts[0].get_payload(decode=True)
            self.assertNotRegex(text, rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

    def test_a_message_without_header(self):
        for content in (b"", b"\r\n", b"no header\r\n", b"X", b"\r\n\r\n.\r\n"):
            self.report(content, "HDRS")
            self.report(content, "FULL")

    def test_binary_content_is_not_returned(self):
        content = b"Subject: binary\n\nX-Evil: yes\r\r\n.\r\nbody\n.\n\0"
        _, parts = self.report(content, "FULL", mail="BODY=BINARYMIME", refused_by=b"5.6.3")
        self.assertEqual(parts[2].get_content_type(), "text/rfc822-headers")
        self.assertNotIn("X-Evil", parts[2].get_payload())

    def test_many_recipients_are_many_groups(self):
        client = self.client()
        client.ask("MAIL FROM:<many@fabrikam.test>")
        for number in range(100):
            client.ask(f"RCPT TO:<n{number}@refuse.test> ORCPT=rfc822;o+20{number}@x")
        content = b"Subject: many\r\n\r\nbody\r\n"
        self.assertEqual(client.ask(b"BDAT %d LAST\r\n%s" % (len(content), content))[:3], "250")
        found = peers.wait_until(
            lambda: [m for m in self.hop.messages if m.recipients == [b"RCPT TO:<many@fabrikam.test>"]], "report", 30)
        self.assertEqual(len(found), 1)
        message = email.message_from_bytes(found[0].content, policy=email.policy.SMTP)
        self.assertEqual(len(message.get_payload(1).get_payload()), 101)


class Maildirs(Base):
    PATHS = ['"../../../escape"', '".."', '"."', '"/etc/passwd"', '"a/../../b"', '".hidden"', '"a/b"', '"%d/%u"', '"%2e%2e"',
             '"..\\\\.."', '"new"', '"tmp"', '"x\\/y"', '"~root"', "../x".replace("..", "a"), '"a b"', '"$(id)"', "|x", "-rf", '""']

    def test_no_local_part_names_another_place(self):
        client = self.client()
        before = self.tree()
        boxes = self.edge.directory / "mail/box.test"
        filled, taken = len(list(boxes.glob("*/new/*"))), 0
        for number, local in enumerate(self.PATHS):
            client.ask("MAIL FROM:<>")
            reply = client.ask(f"RCPT TO:<{local}@box.test>")
            if reply[:3] != "250":
                client.ask("RSET")
                continue
            client.ask("DATA")
            self.assertEqual(client.ask(f"Subject: path {number}\r\n\r\nx\r\n.")[:3], "250")
            taken += 1
        for bad in (b'"a\0b"', b'"a\nb"', b'"a\rb"', b"..", b"../x", b".x"):
            client.send(b"RCPT TO:<" + bad + b"@box.test>\r\n")
            self.assertEqual(client.reply()[0], "5")
            if b"\n" in bad:
                self.assertEqual(client.reply()[0], "5")
        client.ask("MAIL FROM:<>")
        long = "l" * 400
        self.assertEqual(client.ask(f"RCPT TO:<{long}@box.test>")[:3], "250")
        client.ask("DATA")
        self.assertEqual(client.ask("Subject: long\r\n\r\nx\r\n.")[:3], "250")
        # Two cannot be: a name of 400 bytes, and none at all.
        peers.wait_until(lambda: len(list(boxes.glob("*/new/*"))) == filled + taken - 1, f"{taken - 1} files", 30)
        self.edge.wait_diagnostics("delivery failed")
        self.assertEqual([p for p in (self.edge.directory / "mail").iterdir()], [boxes])
        for path in self.tree() - before:
            relative = path.relative_to(self.base)
            self.assertEqual(relative.parts[:3], ("edge", "mail", "box.test")[:len(relative.parts[:3])], path)
        for box in boxes.iterdir():
            self.assertFalse(box.name.startswith("."), box)
            self.assertEqual({p.name for p in box.iterdir()}, {"cur", "new", "tmp"})

    def tree(self):
        return {p for p in self.base.rglob("*") if not {"spool", "log"} & set(p.relative_to(self.base).parts)}

    def test_files_are_for_their_owner(self):
        self.submit(b"Subject: private\r\n\r\nsecret\r\n", recipient="private@box.test")
        peers.wait_until(lambda: self.edge.maildir("box.test", "private"), "delivery")
        directory = self.edge.directory
        checks = {
            directory / "spool": 0o077,              # the queue: mail in flight, and the self-made key
            directory / "spool/self-signed/key.pem": 0o077,
            directory / "mail/box.test/private": 0o077,
            self.edge.maildir("box.test", "private")[0]: 0o077,
            directory / "log/ProtocolLog/SmtpReceive": 0o007,
        }
        for log in directory.glob("log/ProtocolLog/*/*.LOG"):
            checks[log] = 0o027
        for path in (directory / "spool").rglob("*"):
            if path.name != "cert.pem":
                checks[path] = 0o077
        for path, forbidden in checks.items():
            mode = stat.S_IMODE(path.stat().st_mode)
            self.assertEqual(mode & forbidden, 0, f"{path} is {mode:o}")


if __name__ == "__main__":
    unittest.main()
