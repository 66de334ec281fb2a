"""The faults of the stand-in for Exchange Online, seen from both sides: by an edge, which has Exchange's words for
them, and by another stand-in, which has Exchange Online's. Each strikes once; then the message arrives."""

import contextlib
import re
import socket
import unittest

import peers
from gatepost import FAST_RETRIES, OPEN_LIMITS, Dialogue, Gatepost, server
from scripted import DnsServer

EOP_NAME = "mail.protection.outlook.com"
DROPPED = "421 4.4.2 Connection dropped due to SocketError"
TIMED_OUT = "421 4.4.2 Connection dropped due to TimedOut"
ABRUPT = "450 4.4.318 Connection was closed abruptly"
CANNOT = "450 4.4.317 Cannot connect to remote server [Message="
# A reset that comes at once may overtake the end of connecting.
REFUSED = "421 4.2.1 Unable to connect"
BUSY = "421 4.3.2 Service not available"

# name: the fault, how its log names it, the edge's error, Exchange Online's (or one of several)
FAULTS = {
    "banner-reply": (f'at = "connect"\nreply = "{BUSY}"', "reply at connect", BUSY, CANNOT + BUSY + "]"),
    "banner-drop": ('at = "connect"\naction = "drop"', "drop at connect", DROPPED, ABRUPT),
    "banner-reset": ('at = "connect"\naction = "reset"', "reset at connect", (DROPPED, REFUSED),
                     (ABRUPT, "450 4.4.316 Connection refused")),
    "banner-slow": ('action = "slow_banner"\nduration = "3s"', "stall for 3s at connect", TIMED_OUT,
                    CANNOT + "SocketError: TimedOut]"),
    "ehlo-reply": ('at = "ehlo"\nreply = "421 4.3.2 not now"', "reply at ehlo", "421 4.3.2 not now",
                   CANNOT + "421 4.3.2 not now]"),
    "ehlo-drop": ('at = "ehlo"\naction = "drop"', "drop at ehlo", DROPPED, ABRUPT),
    "ehlo-reset": ('at = "ehlo"\naction = "reset"', "reset at ehlo", DROPPED, ABRUPT),
    "ehlo-half": ('at = "ehlo"\naction = "half_close"', "half_close at ehlo", DROPPED, ABRUPT),
    "ehlo-stall": ('at = "ehlo"\naction = "stall"\nduration = "3s"', "stall for 3s at ehlo", TIMED_OUT,
                   CANNOT + "SocketError: TimedOut]"),
    "tls-hidden": ('action = "no_starttls"', "no_starttls at ehlo", "451 5.7.3 STARTTLS is required to send mail",
                   "450 4.4.101 Proxy session setup failed on Frontend with '451 4.4.0 Primary target IP address "
                   "responded with: \"451 5.7.3 STARTTLS is required to send mail.\""),
    "tls-reply": ('at = "starttls"\nreply = "454 4.7.0 TLS not available due to temporary reason"',
                  "reply at starttls", "454 4.7.0 TLS not available due to temporary reason",
                  CANNOT + "454 4.7.0 TLS not available due to temporary reason]"),
    "tls-broken": ('action = "broken_handshake"', "broken_handshake at starttls", "421 4.4.2 Connection dropped due to ",
                   CANNOT),
    "tls-leaf": ('certificate = "leaf"', "certificate 'leaf' at starttls",
                 "454 4.7.5 Certificate validation failure, Reason:UntrustedRoot", CANNOT + "UntrustedRoot]"),
    "tls-old": ('certificate = "old"', "certificate 'old' at starttls",
                "454 4.7.5 Certificate validation failure, Reason:Expired",
                "450 4.7.320 Certificate validation failed [Message=Expired]"),
    "tls-name": ('certificate = "other"', "certificate 'other' at starttls",
                 "454 4.7.5 Certificate validation failure, Reason:SubjectMismatch",
                 "450 4.7.320 Certificate validation failed [Message=SubjectMismatch]"),
}

# Those that put off a message and not its queue; what the sender's log shows of them.
MESSAGES = {
    "mail-drop": ('at = "mail"\naction = "drop"', "drop at mail", ",-,,Remote"),
    "rcpt-reset": ('at = "rcpt"\naction = "reset"', "reset at rcpt", ",-,,Remote(SocketError)"),
    "rcpt-reply": ('at = "rcpt"\nreply = "451 4.7.500 Server busy for [%ip]"', "reply at rcpt",
                   ",<,451 4.7.500 Server busy for [127.0.1."),
    "data-drop": ('at = "data"\naction = "drop"', "drop at data", ",-,,Remote"),
    "data-half": ('at = "data"\naction = "half_close"', "half_close at data", ",-,,Remote"),
    "data-stall": ('at = "data"\naction = "stall"\nduration = "3s"', "stall for 3s at data", ",-,,Local"),
    "data-reply": ('at = "data"\nreply = "452 4.3.1 Insufficient system resources"', "reply at data",
                   ",<,452 4.3.1 Insufficient system resources"),
}

NAMES = [*FAULTS, *MESSAGES]


def certificate(name, made):
    return f'[[certificates]]\nname = "{name}"\nchain = "{made.chain}"\nkey = "{made.key}"\n'


def submit(port, sender, *recipients):
    with Dialogue(port) as client:
        client.ask("EHLO client.test")
        client.ask(f"MAIL FROM:<{sender}>")
        for recipient in recipients:
            reply = client.ask(f"RCPT TO:<{recipient}>")
            assert reply.startswith("250"), reply
        client.ask("DATA")
        reply = client.ask("Subject: x\r\n\r\nx\r\n.")
        assert reply.startswith("250"), reply
        client.ask("QUIT")


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        cls.ca = peers.make_ca(cls.base / "ca")
        cls.below = cls.ca.subordinate(cls.base / "below", "Below")
        cls.good = cls.below.issue(EOP_NAME)
        cls.certificates = certificate("good", cls.good)
        cls.certificates += certificate("leaf", cls.below.issue(EOP_NAME, file="leaf", whole_chain=False))
        cls.certificates += certificate("old", cls.below.issue(EOP_NAME, file="old", valid=(-20, -10)))
        cls.certificates += certificate("other", cls.below.issue("mail.example.test"))

    def stand_in(self):
        """One that commits each fault against a source of its own."""
        config = server("eop1.mail.protection.outlook.com") + f"""
[tls]
trusted_roots = "{self.ca.path}"
{self.certificates}
[[receive_connectors]]
name = "EOP Inbound"
bindings = ["127.0.0.1:{{port}}"]
tls_certificate_name = "good"
message_rate_limit = 0
[eop]
tenant = "contoso"
accepted_domains = ["*.test"]
mailboxes = [{", ".join(f'"don@{name}.test"' for name in NAMES)}]
"""
        for number, name in enumerate(NAMES, 10):
            fault = FAULTS.get(name, MESSAGES.get(name))[0]
            config += f'[[eop.faults]]\nremote_ip_ranges = ["127.0.1.{number}"]\ntimes = 1\n{fault}\n'
        return self.enterContext(Gatepost(self.base / self.id() / "eop", config))

    def sender(self, eop, more):
        """A relay that sends to it from the source of each fault."""
        config = server("edge.contoso.test") + f"""
[tls]
trusted_roots = "{self.ca.path}"
[[certificates]]
name = "good"
chain = "{self.good.chain}"
key = "{self.good.key}"
[[accepted_domains]]
domain = "*.test"
[[receive_connectors]]
name = "In"
bindings = ["127.0.0.1:{{port}}"]
{OPEN_LIMITS}{more}
{FAST_RETRIES}"""
        for number, name in enumerate(NAMES, 10):
            config += f"""[[send_connectors]]
name = "{name}"
address_spaces = ["{name}.test"]
smart_hosts = ["127.0.0.1:{eop.port}"]
source_ip = "127.0.1.{number}"
tls = "validate_domain"
tls_domain = "{EOP_NAME}"
connection_inactivity_timeout = "1s"
"""
        return self.enterContext(Gatepost(self.base / self.id() / "sender", config, log_format="json"))

    def errors(self, sender):
        """The error of each queue that went to Retry."""
        events = sender.events("queue in retry")
        return {event["connector"]: event["error"] for event in reversed(events)}

    def each_strikes_once(self, more, column):
        eop = self.stand_in()
        sender = self.sender(eop, more)
        submit(sender.port, "megan@fabrikam.example", *(f"don@{name}.test" for name in NAMES))
        for name in NAMES:
            peers.wait_until(lambda: list((eop.directory / f"spool/eop/{name}.test/don/new").glob("*")),
                             f"the message behind {name}", 30)
            taken = f",{name},", "Queued mail for delivery"
            peers.wait_until(lambda: any(all(part in line for part in taken) for line in sender.send_log()),
                             f"the 250 for {name} in the log", 30)
        errors, sent, received = self.errors(sender), sender.send_log(), eop.receive_log()
        for number, name in enumerate(NAMES, 10):
            with self.subTest(name):
                fault = FAULTS.get(name, MESSAGES.get(name))
                mine = [line for line in received if f",127.0.1.{number}:" in line]
                struck = [line for line in mine if line.endswith(",Fault")]
                self.assertEqual(len(struck), 1, mine)
                self.assertIn(f'{fault[1]}, by configuration', struck[0])
                mine = [line for line in sent if f",{name}," in line]
                if name in FAULTS:
                    expected = fault[column] if isinstance(fault[column], tuple) else (fault[column],)
                    self.assertTrue(any(error in errors[name] for error in expected), errors[name])
                else:
                    self.assertNotIn(name, errors)
                    self.assertTrue(any(fault[2] in line for line in mine), mine)
                # The one that arrives goes by TLS, as the rule says: nothing softened it.
                taken = next(line.split(",")[2] for line in mine if "Queued mail for delivery" in line)
                mine = [line for line in mine if line.split(",")[2] == taken]
                self.assertTrue(any("TLS protocol SP_PROT_TLS1_3_CLIENT" in line for line in mine), mine)

    def test_an_edge_has_exchanges_words(self):
        self.each_strikes_once("", 2)

    def test_a_stand_in_has_exchange_onlines(self):
        self.each_strikes_once('accept_any_recipient = true\n[eop]\ntenant = "fabrikam"\n'
                                'directory_edge_blocking = false\n', 3)


class Catalogue(unittest.TestCase):
    def test_every_reply_of_the_page_can_be_asked_for_and_reaches_the_sender(self):
        """Each row of docs/faults.md by its magic recipient, over an edge: the logs of both have the reply."""
        page = (peers.REPOSITORY / "docs/faults.md").read_text()
        rows = re.findall(r"^\| `fault\+(\d+)-([\d.]+)` \| [^|]*\| (.*?) \|", page, re.MULTILINE)
        self.assertGreaterEqual(len(rows), 25)
        base = self.enterContext(peers.tempfile_dir())
        inbound = '[[receive_connectors]]\nname = "In"\nbindings = ["127.0.0.1:{port}"]\n'
        eop = self.enterContext(Gatepost(base / "eop", server("eop1.mail.protection.outlook.com") + inbound
                                         + '[eop]\ntenant = "contoso"\n'))
        edge = self.enterContext(Gatepost(base / "edge", server() + inbound + OPEN_LIMITS + f"""
accept_any_recipient = true
[[send_connectors]]
name = "To EOP"
address_spaces = ["*"]
smart_hosts = ["127.0.0.1:{eop.port}"]
"""))
        # One that ends the session comes alone, and last.
        for rows_together in ([row for row in rows if row[0] != "421"], [row for row in rows if row[0] == "421"]):
            submit(edge.port, "", *(f"fault+{code}-{status}@any.example" for code, status, _ in rows_together))
        for code, status, text in rows:
            with self.subTest(f"{code} {status}"):
                reply = f"{code} {status} {text.replace('%ip', '127.0.0.1')} [EOP1.eop-lab01.prod.protection.outlook.com"
                for log, sign, relay in (("receive", ">", eop), ("send", "<", edge)):
                    line = relay.wait_log(log, reply)
                    self.assertIn(f",{sign},", line)


def unanswered(context):
    """The port of a listener whose queue of connections is full, so that a SYN is not answered."""
    listener = context.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(4):
        filler = context.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    return listener.getsockname()[1]


class NoSession(unittest.TestCase):
    """Next hops of the stand-in that it gets no session with, and what becomes of the mail."""

    def test_each_has_its_code_now_and_when_the_message_expires(self):
        base = self.enterContext(peers.tempfile_dir())
        context = self.enterContext(contextlib.ExitStack())
        dns = context.enter_context(DnsServer({("hop.test", "A"): ["127.0.0.1"]}))
        hosts = {
            "refused": (f"127.0.0.1:{peers.free_port()}", "4.316", "onnection refused"),
            "silent": (f"127.0.0.1:{unanswered(context)}", "4.315", "onnection timed out"),
            "nameless": ("nowhere.test:25", "4.312", "DNS query failed"),
        }
        config = server("eop1.mail.protection.outlook.com") + f"""
[dns]
servers = ["127.0.0.1:{dns.port}"]
[[receive_connectors]]
name = "Cloud"
bindings = ["127.0.0.1:{{port}}"]
accept_any_recipient = true
[eop]
tenant = "contoso"
accepted_domains = ["contoso.test"]
mailboxes = ["don@contoso.test"]
{FAST_RETRIES}message_expiration_timeout = "4s"
"""
        for name, (host, _, _) in hosts.items():
            config += (f'[[send_connectors]]\nname = "{name}"\naddress_spaces = ["{name}.example"]\n'
                       f'smart_hosts = ["{host}"]\nconnection_inactivity_timeout = "1s"\n')
        eop = self.enterContext(Gatepost(base / "eop", config, log_format="json"))
        for name in hosts:
            submit(eop.port, "don@contoso.test", f"joe@{name}.example")
        inbox = eop.directory / "spool/eop/contoso.test/don/new"
        peers.wait_until(lambda: len(list(inbox.glob("*"))) == len(hosts), "the reports", 30)
        errors = {event["connector"]: event["error"] for event in eop.events("queue in retry")}
        reports = [path.read_text() for path in inbox.glob("*")]
        for name, (_, code, text) in hosts.items():
            with self.subTest(name):
                self.assertRegex(errors[name], f"^450 4.{code} .?{text}")
                [report] = [report for report in reports if f"joe@{name}.example" in report]
                self.assertIn(f"Status: 5.{code}", report)
                self.assertRegex(" ".join(report.split()), f"smtp;550 5.{code} Message expired, .?{text}")


if __name__ == "__main__":
    unittest.main()
