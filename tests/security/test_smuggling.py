"""One message in is one message out, whatever stands in it.

Each message of the matrix holds a sequence that some server takes for an end of data, and behind it
the commands of a second message. It goes to four next hops at once: one without extensions and one
with PIPELINING, both of which end data at anything that looks like an end, and two that take BDAT.
"""

import re
import socket
import unittest

from hops import SLOPPY, Hop
import peers
from gatepost import FAST_RETRIES, OPEN_LIMITS, Dialogue, Gatepost, server

SEQUENCES = {
    "LF.LF": b"\n.\n",
    "CRLF.LF": b"\r\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CR.CR": b"\r.\r",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CR.CRLF": b"\r.\r\n",
    "CR.LF": b"\r.\n",
    "LF.CR": b"\n.\r",
    "CRLF.CR": b"\r\n.\r",
    "LFCR.LFCR": b"\n\r.\n\r",
    "CRNULLF.CRLF": b"\r\0\n.\r\n",
    "LF.LF.LF": b"\n.\n.\n",
}
# No bare CR or LF in these: they must arrive, as they are.
HARMLESS = {
    "CRLF..CRLF": b"\r\n..\r\n",
    "CRLF. CRLF": b"\r\n. \r\n",
    "CRLF.NULCRLF": b"\r\n.\0\r\n",
}
SMUGGLED = (b"MAIL FROM:<evil@fabrikam.test>\r\nRCPT TO:<victim@data.test>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nowned")
DOMAINS = ("data.test", "pipe.test", "bdat.test", "binary.test")

CONFIG = server() + """
[[accepted_domains]]
domain = "*.test"
[[receive_connectors]]
name = "Reject"
bindings = ["127.0.0.1:{port}"]
bare_line_feeds = "reject"
""" + OPEN_LIMITS + """
[[receive_connectors]]
name = "Normalize"
bindings = ["127.0.0.1:{second}"]
bare_line_feeds = "normalize"
""" + OPEN_LIMITS + """
[[receive_connectors]]
name = "Small"
bindings = ["127.0.0.1:{third}"]
max_message_size = "64KB"
""" + OPEN_LIMITS + FAST_RETRIES


def connector(domain, port):
    return (f'[[send_connectors]]\nname = "{domain}"\naddress_spaces = ["{domain}"]\n'
            f'smart_hosts = ["127.0.0.1:{port}"]\ntls = "off"\n')


class Client(Dialogue):
    """A client that has said EHLO and writes each byte by itself where told to."""

    def __init__(self, port):
        super().__init__(port)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ask("EHLO client.test")

    def envelope(self, domains, body=""):
        # The null sender: what cannot be delivered makes no report.
        assert self.ask(f"MAIL FROM:<> {body}").startswith("250")
        for domain in domains:
            assert self.ask(f"RCPT TO:<don@{domain}>").startswith("250")

    def trickle(self, data):
        for at in range(len(data)):
            self.socket.sendall(data[at:at + 1])

    def data(self, before, sequence, after):
        """By DATA, the sequence byte by byte."""
        assert self.ask("DATA").startswith("354")
        self.send(before[:-2])
        self.trickle(before[-2:] + sequence + after[:2])
        self.send(after[2:] + b"\r\n.\r\n")
        return self.reply()

    def bdat(self, before, sequence, after):
        """By BDAT, each byte of the sequence in a chunk of its own: the decoder sees every cut."""
        for chunk in [before] + [sequence[at:at + 1] for at in range(len(sequence))]:
            assert self.ask(b"BDAT %d\r\n%s" % (len(chunk), chunk)).startswith("250")
        return self.ask(b"BDAT %d LAST\r\n%s" % (len(after) + 2, after + b"\r\n"))


class Smuggling(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        hops = {
            "data.test": Hop(("8BITMIME",), ends=SLOPPY),
            "pipe.test": Hop(("8BITMIME", "PIPELINING"), ends=SLOPPY),
            "bdat.test": Hop(("8BITMIME", "PIPELINING", "CHUNKING")),
            "binary.test": Hop(("8BITMIME", "CHUNKING", "BINARYMIME")),
        }
        cls.hops = {name: cls.enterClassContext(hop) for name, hop in hops.items()}
        cls.second, cls.third = peers.free_port(), peers.free_port()
        config = CONFIG.replace("{second}", str(cls.second)).replace("{third}", str(cls.third))
        config += "".join(connector(name, hop.port) for name, hop in cls.hops.items())
        cls.edge = cls.enterClassContext(Gatepost(cls.base / "edge", config))
        cls.ports = {"reject": cls.edge.port, "normalize": cls.second}

    def expect_one(self, subject, domains=DOMAINS):
        """Exactly one message with this subject at each hop; its contents by hop."""
        contents = {}
        for domain in domains:
            hop = self.hops[domain]
            hop.wait_subjects([subject])
            found = [m for m in hop.messages if m.subject == subject]
            self.assertEqual(len(found), 1, f"{subject} at {domain}")
            contents[domain] = found[0].content
        return contents

    def tearDown(self):
        """Nothing that any hop could read as a second message, then or later."""
        with Client(self.edge.port) as client:
            client.envelope(DOMAINS)
            subject = f"marker {self.id()}"
            reply = client.data(f"Subject: {subject}\r\n\r\n".encode(), b"x", b"the end")
            self.assertTrue(reply.startswith("250"), reply)
        self.expect_one(subject)
        for domain, hop in self.hops.items():
            self.assertNotIn("smuggled", {m.subject for m in hop.messages}, domain)
            self.assertFalse([m for m in hop.messages if b"evil@" in m.sender], domain)
            # A hop that ended data too soon would have met the rest as commands.
            wrong = {line for line in hop.commands()
                     if line.split(b" ")[0].upper() not in (b"EHLO", b"MAIL", b"RCPT", b"DATA", b"BDAT", b"RSET", b"QUIT")}
            self.assertEqual(wrong, set(), domain)
            self.assertFalse([line for line in hop.commands() if b"evil@" in line or b"victim@" in line], domain)

    def attempts(self, policy, body, way, sequences):
        with Client(self.ports[policy]) as client:
            for name, sequence in sequences.items():
                subject = f"{policy} {body or 'plain'} {way} {name}"
                client.envelope(DOMAINS, body)
                before = f"From: a@fabrikam.test\r\nSubject: {subject}\r\n\r\nbefore".encode()
                yield name, subject, getattr(client, way)(before, sequence, SMUGGLED)
                self.assertEqual(client.ask("NOOP")[:3], "250", "the dialogue is in step")

    def test_reject_refuses_every_bare_line_end(self):
        refused = set()
        for body, way in (("", "data"), ("BODY=8BITMIME", "data"), ("", "bdat"), ("BODY=8BITMIME", "bdat")):
            for name, subject, reply in self.attempts("reject", body, way, SEQUENCES):
                self.assertRegex(reply, r"^550 5\.6\.11 ", f"{subject} {reply}")
                refused.add(subject)
        subjects = {m.subject for hop in self.hops.values() for m in hop.messages}
        self.assertEqual(refused & subjects, set())

    def test_normalize_delivers_each_once_without_bare_line_ends(self):
        for body, way in (("", "data"), ("BODY=8BITMIME", "data"), ("", "bdat"), ("BODY=8BITMIME", "bdat")):
            sent = []
            for name, subject, reply in self.attempts("normalize", body, way, SEQUENCES):
                self.assertTrue(reply.startswith("250"), f"{subject} {reply}")
                sent.append(subject)
            for subject in sent:
                for domain, content in self.expect_one(subject).items():
                    self.assertIn(b"owned", content)
                    self.assertIsNone(re.search(rb"\r(?!\n)|(?<!\r)\n", content), f"{subject} at {domain}")

    def test_what_only_looks_like_an_end_arrives_as_it_is(self):
        for policy in self.ports:
            for way in ("data", "bdat"):
                for name, subject, reply in self.attempts(policy, "", way, HARMLESS):
                    self.assertTrue(reply.startswith("250"), f"{subject} {reply}")
                    for domain, content in self.expect_one(subject, ("bdat.test", "binary.test")).items():
                        dots = HARMLESS[name].replace(b"..", b".") if way == "data" else HARMLESS[name]
                        dots = dots.replace(b"\n. ", b"\n ").replace(b"\n.\0", b"\n\0") if way == "data" else dots
                        self.assertIn(b"before" + dots + b"MAIL FROM", content, f"{subject} at {domain}")

    def test_an_end_of_data_inside_bdat_is_text(self):
        for policy in self.ports:
            for name, subject, reply in self.attempts(policy, "", "bdat", {"CRLF.CRLF": b"\r\n.\r\n"}):
                self.assertTrue(reply.startswith("250"), reply)
                contents = self.expect_one(subject)
                self.assertIn(b"before\r\n.\r\nMAIL FROM", contents["bdat.test"])
                self.assertIn(b"before\r\n..\r\nMAIL FROM", contents["data.test"])
                self.assertIn(b"before\r\n..\r\nMAIL FROM", contents["pipe.test"])

    def test_binary_content_reaches_only_a_hop_that_counts_octets(self):
        everything = SEQUENCES | {"CRLF.CRLF": b"\r\n.\r\n"}
        for policy in self.ports:
            for name, subject, reply in self.attempts(policy, "BODY=BINARYMIME", "bdat", everything):
                self.assertTrue(reply.startswith("250"), reply)
                content = self.expect_one(subject, ["binary.test"])["binary.test"]
                self.assertIn(b"before" + everything[name] + b"MAIL FROM", content)
                if name != "CRLF.CRLF":
                    for domain in ("data.test", "pipe.test", "bdat.test"):
                        self.assertNotIn(subject, {m.subject for m in self.hops[domain].messages})

    def test_the_edges_of_data(self):
        """Empty text, dots first and only, and a dot at the very end."""
        cases = {
            b".\r\n": b"",                                     # nothing at all
            b"..first\r\n.\r\n": b".first\r\n",                # a stuffed dot on the first line
            b"....\r\n.\r\n": b"...\r\n",                      # only dots
            b"..\r\n..\r\n.\r\n": b".\r\n.\r\n",               # lone dots
            b"text\r\n..\r\n.\r\n": b"text\r\n.\r\n",          # a dot is the last line
        }
        for policy, port in self.ports.items():
            for wire, text in cases.items():
                with self.subTest(policy=policy, wire=wire), Client(port) as client:
                    before = {name: len(hop.messages) for name, hop in self.hops.items()}
                    client.envelope(DOMAINS)
                    self.assertEqual(client.ask("DATA")[:3], "354")
                    client.trickle(wire)
                    self.assertEqual(client.reply()[:3], "250")
                    self.assertEqual(client.ask("NOOP")[:3], "250")
                    for name, hop in self.hops.items():
                        content = hop.wait_messages(before[name] + 1)[-1].content
                        self.assertEqual(len(hop.messages), before[name] + 1, name)
                        stuffed = re.sub(rb"(?m)^\.", b"..", text) if name in ("data.test", "pipe.test") else text
                        self.assertTrue(content.endswith(stuffed), (name, content))

    def test_bdat_without_a_last_line_end(self):
        """A dot that ends the octets is text, and the end that DATA adds is a line of its own."""
        with Client(self.edge.port) as client:
            for tail in (b".", b"\r\n.", b"x"):
                before = len(self.hops["data.test"].messages)
                text = b"Subject: unended\r\n\r\nbody" + tail
                client.envelope(["data.test"])
                self.assertEqual(client.ask(b"BDAT %d LAST\r\n%s" % (len(text), text))[:3], "250")
                content = self.hops["data.test"].wait_messages(before + 1)[-1].content
                stuffed = tail.replace(b"\n.", b"\n..")
                self.assertTrue(content.endswith(b"body" + stuffed + b"\r\n"), content)
            client.envelope(["data.test"])
            self.assertEqual(client.ask(b"BDAT 5 LAST\r\nbody\r")[:8], "550 5.6.")

    def test_an_oversize_message_is_read_to_its_real_end(self):
        filler = b"MAIL FROM:<evil@fabrikam.test>\r\nRCPT TO:<victim@data.test>\r\nRSET\r\n..\r\n" * 3000
        head = b"Subject: smuggled\r\n\r\n"
        with Client(self.third) as client:
            client.envelope(["data.test"])
            self.assertEqual(client.ask("DATA")[:3], "354")
            client.send(head + filler + b"\r\n.\r\nNOOP\r\nVRFY x\r\n")
            self.assertEqual(client.reply()[:9], "552 5.3.4")
            # One reply each to what really follows, and to nothing else.
            self.assertEqual(client.reply()[:3], "250")
            self.assertEqual(client.reply()[:3], "252")
            client.envelope(["data.test"])
            client.send(b"BDAT %d\r\n%s" % (len(head), head))
            client.reply()
            client.send(b"BDAT %d LAST\r\n%sNOOP\r\nVRFY x\r\n" % (len(filler), filler))
            self.assertEqual([client.reply()[:3] for _ in range(3)], ["552", "250", "252"])

    def test_chunks_of_a_refused_transaction_are_not_commands(self):
        chunk = b"MAIL FROM:<evil@fabrikam.test>\r\nRCPT TO:<victim@data.test>\r\n"
        with Client(self.edge.port) as client:
            client.send(b"BDAT %d LAST\r\n%sNOOP\r\n" % (len(chunk), chunk))
            self.assertEqual([client.reply()[:3] for _ in range(2)], ["503", "250"])
            client.send(b"MAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\nBDAT %d\r\n%sBDAT %d LAST\r\n%sNOOP\r\n"
                        % (len(chunk), chunk, len(chunk), chunk))
            self.assertEqual([client.reply()[:3] for _ in range(5)], ["250", "550", "503", "503", "250"])

    def test_a_chunk_size_that_cannot_be_read_ends_the_session(self):
        for size in (b"-5", b"+5", b"0x5", b"99999999999999999999", b"5 5", b"", b"5 LAST \x01", b"5\xff"):
            with self.subTest(size=size), Client(self.edge.port) as client:
                client.envelope(["data.test"])
                client.send(b"BDAT " + size + b"\r\nRSET\r\nMAIL FROM:<evil@fabrikam.test>\r\n")
                self.assertEqual(client.reply()[0], "5")
                self.assertEqual(client.reply(), "", "nothing behind it is read as a command")

    def test_data_and_bdat_do_not_mix(self):
        with Client(self.edge.port) as client:
            client.envelope(["data.test"])
            client.ask(b"BDAT 6\r\nhello ")
            self.assertEqual(client.ask("DATA")[:3], "503")
            self.assertEqual(client.ask("MAIL FROM:<evil@fabrikam.test>")[:3], "503")
            # EHLO is a reset (RFC 5321 section 4.1.4): nothing can finish what was begun before it.
            self.assertEqual(client.ask("EHLO again.test")[:3], "250")
            self.assertEqual(client.ask(b"BDAT 6 LAST\r\nworld\n")[:3], "503")
            # Nor does what was begun stand at the head of the next message.
            client.envelope(["bdat.test"])
            text = b"Subject: not mixed\r\n\r\nx\r\n"
            self.assertEqual(client.ask(b"BDAT %d LAST\r\n%s" % (len(text), text))[:3], "250")
        self.assertNotIn(b"hello", self.expect_one("not mixed", ["bdat.test"])["bdat.test"])


if __name__ == "__main__":
    unittest.main()
