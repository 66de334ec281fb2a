"""`gatepost validate` towards real servers, towards ours, and towards servers that fail at each step in turn: the
right step fails, with the right words and the error Exchange Online would show."""

import base64
import concurrent.futures
import contextlib
import dataclasses
import email
import email.policy
import json
import socket
import subprocess
import unittest

import peers
from cases import PeerTest, accepted, certificate, needs, receive, roots, send
from gatepost import BINARY, server
from scripted import DROP, SILENCE, DnsServer, ScriptedServer

DON = "don@contoso.test"
SENDER = "O365ConnectorValidation@contoso.test"
BEFORE_MAIL = ["resolve", "connect", "banner", "ehlo", "starttls", "certificate_chain", "certificate_name", "ehlo_tls"]
ALL = [*BEFORE_MAIL, "mail_from", "rcpt_to", "data", "accepted"]


class ValidateTest(PeerTest):
    def configuration(self, *parts, name="gatepost.toml", hostname="edge.contoso.test"):
        path = self.base / name
        path.write_text("\n".join([server(hostname), accepted("contoso.test"), *parts]))
        return path

    def run_it(self, config, *arguments, connector="Out", to=DON, timeout="20s"):
        """The finished process. Whatever the peer does, it ends by itself."""
        return subprocess.run([BINARY, "validate", "-c", config, connector, "--to", to, "--timeout", timeout,
                               *arguments], capture_output=True, text=True, timeout=120)

    def report(self, config, *arguments, code, **more):
        """The report of a run that ends with this exit code."""
        done = self.run_it(config, "--json", *arguments, **more)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(report["passed"], code == 0)
        return report

    def steps(self, report):
        """Steps by name; of a connector with one address."""
        steps = [step for task in report["tasks"] for step in task["steps"]]
        self.assertEqual(len({step["step"] for step in steps}), len(steps), steps)
        return {step["step"]: step for step in steps}

    def results(self, report):
        return {name: step["result"] for name, step in self.steps(report).items()}

    def assert_test_message(self, data):
        """It is EOP's message."""
        message = email.message_from_bytes(data, policy=email.policy.SMTP)
        self.assertEqual(message["From"], SENDER)
        self.assertEqual(message["To"], DON)
        self.assertEqual(message["Subject"], "Test email for connector validation")
        self.assertIn("sent to check that mail can be delivered", message.get_content())
        self.assertTrue(message["Date"].datetime and message["Message-ID"])


class Gatepost(ValidateTest):
    def test_our_own_relay_validates_and_marks_the_session(self):
        theirs = self.ca.issue("mail.contoso.test")
        edge = self.relay(certificate(theirs, "mail"), roots(self.ca.path), accepted("contoso.test"),
                          receive(tls="mutual", tls_domains=["edge.contoso.test"], fqdn="mail.contoso.test", tls_certificate_name="mail"),
                          send(), log_format="json")
        config = self.configuration(
            certificate(self.ca.issue("edge.contoso.test")), roots(self.ca.path),
            send(smart_hosts=[f"127.0.0.1:{edge.port}"], tls="validate_domain", tls_domain="*.contoso.test",
                 tls_certificate_name="edge"), hostname="sender.contoso.test")
        report = self.report(config, code=0)
        self.assertEqual(self.results(report), dict.fromkeys(ALL, "ok"))
        steps = self.steps(report)
        self.assertIn("TLS1_3 TLS_AES_256_GCM_SHA384", steps["starttls"]["detail"])
        self.assertIn("mail.contoso.test", steps["certificate_name"]["detail"])
        self.assertIn("Queued mail for delivery", steps["accepted"]["detail"])
        self.assertEqual([task["name"] for task in report["tasks"]],
                         [f"Check connectivity to [127.0.0.1]:{edge.port}", "Send test email"])
        [message] = self.mailbox(edge, DON)
        self.assert_test_message(message)
        # Another message marks nothing.
        done = self.run_it(config, "--from", "ann@contoso.test", "--subject", "Prüfung", "--body", "Grüße")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        edge.stop()
        sessions = [event for event in edge.events() if event["direction"] == "in" and event["messages"]]
        self.assertEqual([event.get("validation") for event in sessions], [True, None])
        [line] = edge.events("a connector is being validated: its test message arrived")
        self.assertEqual((line["connector"], line["tls_version"], line["client_certificate"]),
                         ("In", "TLS1_3", "edge.contoso.test"))
        self.assertTrue(line["peer"].startswith("127.0.0.1:"))
        other = max((file.read_bytes() for file in edge.maildir("contoso.test", "don")), key=lambda m: b"ann@" in m)
        read = email.message_from_bytes(other, policy=email.policy.SMTP)
        self.assertEqual((read["Subject"], read.get_content().strip()), ("Prüfung", "Grüße"))

    def test_a_relay_of_our_own_name_is_a_loop(self):
        edge = self.relay(accepted("contoso.test"), receive(), send())
        config = self.configuration(send(smart_hosts=[f"127.0.0.1:{edge.port}"]))
        step = self.steps(self.report(config, code=1))["ehlo"]
        self.assertIn("takes that for a loop", step["detail"])
        self.assertIsNone(step["failure"]["eop_error"])


class ForeignServers(ValidateTest):
    @needs(peers.Postfix)
    def test_postfix(self):
        hop = self.postfix("contoso.test", tls=self.ca.issue("mx1.contoso.test"),
                           options={"smtpd_tls_ask_ccert": "yes", "smtpd_tls_protocols": "TLSv1.2"})
        config = self.configuration(
            certificate(self.ca.issue("edge.contoso.test")), roots(self.ca.path),
            send(smart_hosts=[f"127.0.0.1:{hop.port}"], tls="validate_domain", tls_domain="mx1.contoso.test",
                 tls_certificate_name="edge"))
        report = self.report(config, code=0)
        self.assertEqual(self.results(report), dict.fromkeys(ALL, "ok"))
        self.assertIn("TLS1_2", self.steps(report)["starttls"]["detail"])
        [message] = hop.wait_messages(DON)
        self.assert_test_message(message)
        self.assertIn(b'(Client CN "edge.contoso.test"', b" ".join(message.split()))

    @needs(peers.Postfix)
    def test_a_postfix_that_speaks_nothing_newer_than_tls_1_1(self):
        hop = self.postfix("contoso.test", tls=self.ca.issue("mx1.contoso.test"),
                           options={"smtpd_tls_protocols": "TLSv1.1", "smtpd_tls_ciphers": "low"})
        config = self.configuration(roots(self.ca.path), send(smart_hosts=[f"127.0.0.1:{hop.port}"], tls="required"))
        step = self.steps(self.report(config, code=1))["starttls"]
        self.assertEqual(step["result"], "failed")
        self.assertTrue(step["failure"]["eop_error"].startswith("450 4.4.317 Cannot establish session"), step)

    @needs(peers.OpenSmtpd)
    def test_opensmtpd(self):
        hop = self.enterContext(peers.OpenSmtpd(self.base / "o", peers.free_port(), ["contoso.test"]))
        host = {"smart_hosts": [f"127.0.0.1:{hop.port}"]}
        report = self.report(self.configuration(send(tls="opportunistic", **host)), code=0)
        skipped = dict.fromkeys(["starttls", "certificate_chain", "certificate_name", "ehlo_tls"], "skipped")
        self.assertEqual(self.results(report), dict.fromkeys(ALL, "ok") | skipped)
        [message] = hop.wait_messages(DON)
        self.assert_test_message(message)
        report = self.report(self.configuration(send(tls="required", **host)), code=1)
        self.assertEqual(self.results(report)["starttls"], "failed")


@dataclasses.dataclass
class Case:
    """One way to fail.

    step      that fails
    says      part of what is wrong
    eop       how Exchange Online's error begins; None: it has none
    change    part of what to change
    hop       keywords of the ScriptedServer; None: `host` as it is
    tls       the certificate's name in `certificates`
    """

    step: str
    says: str
    eop: str | None
    change: str = ""
    hop: dict | None = dataclasses.field(default_factory=dict)
    tls: str | None = "good"
    rule: dict = dataclasses.field(default_factory=lambda: {"tls": "validate_domain", "tls_domain": "mx.contoso.test"})
    host: str | None = None
    timeout: str = "20s"


def stage(name, answer):
    return {"answers": {name: answer}}


CANNOT = "450 4.4.317 Cannot connect to remote server"
CLOSED = "450 4.4.318 Connection was closed abruptly"
WRAPPED = "451 4.4.397 Error communicating with target host. -> "
SILENT = WRAPPED + "421 4.4.2 Connection dropped due to TimedOut"

CASES = {
    "no such name": Case("resolve", "`nowhere.contoso.test` does not resolve", "450 4.4.312 DNS query failed",
                         "A or AAAA records for `nowhere.contoso.test`", None, host="nowhere.contoso.test:25"),
    "refused": Case("connect", "refuses connections",
                    "450 4.4.316 Connection refused [Message=Socket error code 10061]", "Start the mail server", None,
                    host="closed"),
    "no answer": Case("connect", "Nothing came back from 127.0.0.1:", "450 4.4.315 Connection timed out", "firewall",
                      None, host="full", timeout="1s"),
    "never greets": Case("banner", "no greeting came within 1 s", CANNOT + " [Message=SocketError: TimedOut]",
                         "greet at once", stage("BANNER", SILENCE), timeout="1s"),
    "closes at once": Case("banner", "closed again without a greeting", CLOSED, "", stage("BANNER", DROP)),
    "4xx banner": Case("banner", "greets with a refusal: 421 4.3.2 busy", CANNOT + " [Message=421 4.3.2 busy]",
                       "try again in a few minutes", stage("BANNER", "421 4.3.2 busy")),
    "banner is no reply": Case("banner", "is no SMTP reply: `SSH 2.0-x`", CANNOT, "speaks SMTP in clear first",
                               stage("BANNER", "SSH-2.0-x")),
    "EHLO refused": Case("ehlo", "EHLO was refused: 550 5.7.7 Access Denied, bad EHLO", CANNOT + " [Message=550 5.7.7",
                         "take EHLO", stage("EHLO", "550 5.7.7 Access Denied, bad EHLO")),
    "EHLO unanswered": Case("ehlo", "No answer to EHLO came within 1 s", SILENT, "", stage("EHLO", SILENCE),
                            timeout="1s"),
    "no STARTTLS": Case("starttls", "does not offer STARTTLS, and the connector's rule is `validate_domain`",
                        "450 4.4.101 Proxy session setup failed on Frontend with '451 4.4.0 Primary target IP address "
                        "responded with \"451 5.7.3 STARTTLS is required to send mail.\"", "offer STARTTLS", tls=None),
    "STARTTLS refused": Case("starttls", "454 4.7.0 TLS not available", CANNOT + " [Message=454 4.7.0", "certificate",
                             stage("STARTTLS", "454 4.7.0 TLS not available")),
    "speaks before the handshake": Case("starttls", "spoke between", "450 4.4.317 Cannot establish session", "",
                                        stage("STARTTLS", "220-go\r\n220 go\r\n250 injected")),
    "no handshake": Case("starttls", "TLS negotiation failed with error SocketError", "450 4.4.317 Cannot establish",
                         "why it ended the handshake", stage("HANDSHAKE", DROP)),
    "text for a handshake": Case("starttls", "the peer sent no TLS",
                                 "450 4.4.317 Cannot establish", "", stage("HANDSHAKE", "421 4.4.5 no TLS after all")),
    "self-signed": Case("certificate_chain", "UntrustedRoot: `CN=mx.contoso.test` is self-signed",
                        CANNOT + " [Message=UntrustedRoot]", "chain whole", tls="self"),
    "leaf only": Case("certificate_chain", "the peer sent no intermediate certificates",
                      CANNOT + " [Message=UntrustedRoot]", "leaf and intermediates", tls="leaf"),
    "expired": Case("certificate_chain", "Expired: `CN=mx.contoso.test` expired at",
                    "450 4.7.320 Certificate validation failed", "Renew", tls="old"),
    "wrong name": Case("certificate_name", "does not carry mx.contoso.test; it carries other.contoso.test",
                       "450 4.7.320 Certificate validation failed", "certificate for `mx.contoso.test`", tls="other"),
    "another name than the host's": Case("certificate_name", "does not carry host.contoso.test; it carries mx.contoso",
                                         "450 4.7.320 Certificate validation failed", "`host.contoso.test`",
                                         rule={"tls": "validate_domain"}, host="host.contoso.test:{port}"),
    "MAIL refused": Case("mail_from", "MAIL FROM was refused: 550 5.7.1 not you", "550 5.7.1 not you", "--from",
                         stage("MAIL", "550 5.7.1 not you")),
    "RCPT refused": Case("rcpt_to", "RCPT TO was refused: 550 5.1.1 who?", "550 5.1.1 who?", "--to",
                         stage("RCPT", "550 5.1.1 who?")),
    "RCPT refused for now": Case("rcpt_to", "451 4.7.1 greylisted", WRAPPED + "451 4.7.1 greylisted",
                                 "try again in a few minutes", stage("RCPT", "451 4.7.1 greylisted")),
    "DATA refused": Case("data", "DATA was refused: 554 5.5.1 no valid recipients", "554 5.5.1 no valid recipients",
                         "", stage("DATA", "554 5.5.1 no valid recipients")),
    "message refused": Case("accepted", "The message itself was refused: 550 5.7.1 spam", "550 5.7.1 spam",
                            "content filters", stage("END", "550 5.7.1 spam")),
    "drops after DATA": Case("accepted", "closed the connection instead of answering", CLOSED, "at the message",
                             stage("END", DROP)),
    "silent after DATA": Case("accepted", "no reply to it came within 1 s", SILENT, "", stage("END", SILENCE),
                              timeout="1s"),
    "drops within AUTH": Case("auth", "closed the connection instead of answering AUTH", None, "",
                              {"auth": ["LOGIN"], "answers": {"AUTH": DROP}},
                              rule={"tls": "validate_domain", "tls_domain": "mx.contoso.test", "auth": "login"}),
    "credentials refused": Case("auth", "AUTH was refused: 535 5.7.8 wrong", None, "`auth`", {"auth": ["PLAIN"]},
                                rule={"tls": "validate_domain", "tls_domain": "mx.contoso.test", "auth": "plain"}),
    "mechanism not offered": Case("auth", "does not offer AUTH LOGIN", None, "auth.mechanism", {"auth": ["PLAIN"]},
                                  rule={"tls": "validate_domain", "tls_domain": "mx.contoso.test", "auth": "login"}),
}


@contextlib.contextmanager
def full_port():
    """A port that answers no SYN, as behind a firewall that drops: its queue is full, and nobody accepts."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


class Failures(ValidateTest):
    def certificates(self):
        middle = self.ca.subordinate(self.base / "middle", "Gatepost test intermediate")
        return {
            None: None,
            "good": self.ca.issue("mx.contoso.test"),
            "other": self.ca.issue("other.contoso.test"),
            "old": self.ca.issue("mx.contoso.test", file="old", valid=(-20, -10)),
            "leaf": middle.issue("mx.contoso.test", whole_chain=False),
            "self": peers.self_signed(self.base / "self", "mx.contoso.test"),
        }

    def run_case(self, name, case, certificates, dns, full):
        """The report and the finished process in words, of one case."""
        with contextlib.ExitStack() as stack:
            rule = dict(case.rule)
            if "auth" in rule:
                rule["auth"] = {"mechanism": rule["auth"], "username": "relay", "password_file": self.base / "wrong"}
            host = case.host
            if case.hop is not None:
                hop = stack.enter_context(ScriptedServer(tls=certificates[case.tls], **case.hop))
                host = (host or "127.0.0.1:{port}").replace("{port}", str(hop.port))
            host = {"closed": f"127.0.0.1:{peers.free_port()}", "full": f"127.0.0.1:{full}"}.get(host, host)
            config = self.configuration(roots(self.ca.path), f'[dns]\nservers = ["127.0.0.1:{dns.port}"]',
                                        send(smart_hosts=[host], **rule), name=f"{name.replace(' ', '-')}.toml")
            return (self.report(config, code=1, timeout=case.timeout),
                    self.run_it(config, timeout=case.timeout))

    def check(self, name, case, report, words):
        results = list(self.results(report).items())
        at = [step for step, _ in results].index(case.step)
        self.assertTrue(all(result in ("ok", "skipped") for _, result in results[:at]), results)
        self.assertEqual(results[at][1], "failed", results)
        self.assertTrue(all(result == "skipped" for _, result in results[at + 1:]), results)
        step = self.steps(report)[case.step]
        failure = step["failure"]
        self.assertIn(case.says, step["detail"])
        self.assertEqual(step["detail"], failure["problem"])
        self.assertIn(case.change, failure["change"])
        if case.eop is None:
            self.assertIsNone(failure["eop_error"])
        else:
            self.assertTrue((failure["eop_error"] or "").startswith(case.eop), failure)
            self.assertTrue(failure["meaning"], failure)
        mail = case.step in ("mail_from", "rcpt_to", "data", "accepted")
        self.assertEqual([task["passed"] for task in report["tasks"]], [mail, False])
        self.assertEqual(words.returncode, 1, words.stderr)
        for text in (step["detail"], failure["change"], failure["eop_error"] or "", "does not validate"):
            self.assertIn(text, words.stdout)
        self.assertNotIn("not-s3cret", words.stdout + words.stderr)
        self.assertNotIn(base64.b64encode(b"\0relay\0not-s3cret").decode(), words.stdout + words.stderr)

    def test_each_failure_is_named_at_its_step(self):
        (self.base / "wrong").write_text("not-s3cret\n")
        certificates = self.certificates()
        zone = {("host.contoso.test", "A"): ["127.0.0.1"]}
        with DnsServer(zone) as dns, full_port() as full, concurrent.futures.ThreadPoolExecutor(16) as pool:
            runs = {name: pool.submit(self.run_case, name, case, certificates, dns, full)
                    for name, case in CASES.items()}
            for name, case in CASES.items():
                with self.subTest(name):
                    self.check(name, case, *runs[name].result())


class Connectors(ValidateTest):
    def refuse(self, *arguments, says, **more):
        done = self.run_it(*arguments, **more)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.assertIn(says, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_what_cannot_be_validated(self):
        host = {"smart_hosts": ["127.0.0.1:1"]}
        config = self.configuration(send(spaces=["contoso.test"], **host), send("Off", enabled=False, **host),
                                    send("Mailboxes", spaces=["b.test"]))
        outside = "The domain of the recipient is not configured as part of connector."
        self.refuse(config, connector="Nope", says="no send connector `Nope`; there are `Out`, `Off`, `Mailboxes`")
        self.refuse(config, to="ann@fabrikam.test", says=outside)
        self.refuse(config, connector="Off", says=outside)
        self.refuse(config, connector="Mailboxes", to="ann@b.test", says="does not send by SMTP")
        self.refuse(config, to="nobody", says='--to: "nobody" is no mail address')
        self.refuse(config, "--from", "a@b@c", says="--from")

    def test_every_host_and_address_and_the_mail_exchangers(self):
        zone = {("two.contoso.test", "A"): ["127.0.0.1", "127.0.0.2"],
                ("contoso.test", "MX"): [(20, "mx2.contoso.test"), (10, "mx1.contoso.test")],
                ("mx1.contoso.test", "A"): ["127.0.0.1"], ("mx2.contoso.test", "A"): ["127.0.0.2"]}
        # What Exchange says of itself, and the client's library does not know.
        exchange = ["SIZE 37748736", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", "X-ANONYMOUSTLS", "AUTH NTLM",
                    "X-EXPS GSSAPI NTLM", "8BITMIME", "BINARYMIME", "CHUNKING", "XEXCH50", "XRDST", "XSHADOWREQUEST"]
        first = self.enterContext(ScriptedServer(keywords=exchange))
        second = self.enterContext(ScriptedServer(host="127.0.0.2", port=first.port, **stage("RCPT", "550 5.1.1 no")))
        with DnsServer(zone) as dns:
            servers = f'[dns]\nservers = ["127.0.0.1:{dns.port}"]'
            config = self.configuration(
                servers, send(smart_hosts=["two.contoso.test", "nowhere.contoso.test"], port=first.port))
            report = self.report(config, code=1)
            names = [task["name"] for task in report["tasks"]]
            self.assertEqual(names, ["Check connectivity to two.contoso.test",
                                     "Check connectivity to nowhere.contoso.test", "Send test email"])
            self.assertEqual([task["passed"] for task in report["tasks"]], [True, False, False])
            results = {step["address"]: step["result"]
                       for step in report["tasks"][2]["steps"] if step["step"] == "rcpt_to"}
            self.assertEqual(results, {f"127.0.0.1:{first.port}": "ok", f"127.0.0.2:{first.port}": "failed"})
            config = self.configuration(servers, send(dns_routing=True, port=first.port))
            report = self.report(config, code=1)
            self.assertEqual(report["tasks"][0]["name"], "Check connectivity to contoso.test")
            hosts = [step["host"] for step in report["tasks"][0]["steps"] if step["step"] == "connect"]
            self.assertEqual(hosts, ["mx1.contoso.test", "mx2.contoso.test"])
        self.assertEqual(len(first.messages), 2)
        self.assertEqual((first.messages[0].sender, first.messages[0].recipients), (SENDER, [DON]))

    def test_credentials(self):
        (self.base / "pass").write_text("s3cret\n")
        for mechanism in ("PLAIN", "LOGIN"):
            with self.subTest(mechanism), \
                    ScriptedServer(tls=self.ca.issue("mx.contoso.test"), auth=["CRAM-MD5", "LOGIN", "PLAIN"]) as hop:
                auth = {"mechanism": mechanism.lower(), "username": "relay", "password_file": self.base / "pass"}
                config = self.configuration(roots(self.ca.path),
                                            send(smart_hosts=[f"127.0.0.1:{hop.port}"], tls="required", auth=auth))
                report = self.report(config, code=0)
                steps = self.steps(report)
                self.assertEqual(steps["auth"]["detail"], f"{mechanism} as relay: 235 2.7.0 welcome")
                # The rule asks for neither check; what they would say stands there nevertheless.
                self.assertEqual(steps["certificate_chain"]["result"], "skipped")
                self.assertIn("it would pass", steps["certificate_chain"]["detail"])
                [message] = hop.messages
                self.assertEqual(message.login, (mechanism, "relay", "s3cret"))
                self.assertNotIn("s3cret", json.dumps(report))


if __name__ == "__main__":
    unittest.main()
