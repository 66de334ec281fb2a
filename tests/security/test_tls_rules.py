"""A connector's TLS rule is never weakened, credentials and keys go to nobody else."""

import base64
import unittest

from hops import Hop, server_context
import peers
from gatepost import FAST_RETRIES, OPEN_LIMITS, Dialogue, Gatepost, server

CONFIG = server() + """
[[accepted_domains]]
domain = "*.test"
[tls]
trusted_roots = "{ca}"
[[receive_connectors]]
name = "Internet"
bindings = ["127.0.0.1:{port}"]
""" + OPEN_LIMITS + FAST_RETRIES

PASSWORD = "correct horse battery"


class Rules(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        cls.ca = peers.make_ca(cls.base / "ca")
        cls.foreign = peers.make_ca(cls.base / "foreign", "Somebody else's CA")
        cls.good = cls.ca.issue("hop.test")

    def edge(self, connectors, more=""):
        config = CONFIG.replace("{ca}", str(self.ca.path)) + more + connectors
        return self.enterContext(Gatepost(self.base / self.id().rpartition(".")[2], config))

    def connector(self, domain, hop, tls, more=""):
        return (f'[[send_connectors]]\nname = "{domain}"\naddress_spaces = ["{domain}"]\n'
                f'smart_hosts = ["127.0.0.1:{hop.port}"]\ntls = "{tls}"\n{more}\n')

    def submit(self, edge, *domains):
        with Dialogue(edge.port) as client:
            client.ask("EHLO client.test")
            client.ask("MAIL FROM:<>")
            for domain in domains:
                self.assertEqual(client.ask(f"RCPT TO:<don@{domain}>")[:3], "250")
            client.ask("DATA")
            self.assertEqual(client.ask("Subject: x\r\n\r\nx\r\n.")[:3], "250")

    def hop(self, **options):
        return self.enterContext(Hop(**options))

    def test_no_rule_but_opportunistic_goes_on_in_clear(self):
        """Hops that offer no TLS, refuse it, or break it: MAIL never comes, under any stricter rule."""
        def broken(session, line):
            session.send(b"220 go\r\n")
            session.fill()
            return b"421 this is no TLS\r\n"

        tls = server_context(self.good)
        hops = {
            "absent": lambda: self.hop(),
            "refused": lambda: self.hop(tls=tls, answers={"STARTTLS": b"454 4.7.0 not now\r\n"}),
            "unknown": lambda: self.hop(tls=tls, answers={"STARTTLS": b"500 what\r\n"}),
            "broken": lambda: self.hop(tls=tls, answers={"STARTTLS": broken}),
            "noehlo": lambda: self.hop(tls=tls, answers={"EHLO": b"502 no\r\n"}),
        }
        made, config = {}, ""
        for kind, make in hops.items():
            for rule in ("opportunistic", "required", "validate_certificate", "validate_domain"):
                hop = make()
                made[kind, rule] = hop
                more = 'tls_domain = "hop.test"' if rule == "validate_domain" else ""
                config += self.connector(f"{kind}.{rule.replace('_', '-')}.test", hop, rule, more)
        edge = self.edge(config)
        self.submit(edge, *[f"{kind}.{rule.replace('_', '-')}.test" for kind, rule in made])
        for (kind, rule), hop in made.items():
            if rule == "opportunistic":
                self.assertFalse(hop.wait_messages()[0].session.tls, (kind, rule))
            else:
                # Twice, so that a first failure is seen not to soften the second attempt.
                hop.wait_sessions(2)
                verbs = {line.split(b" ")[0] for line in hop.commands()}
                self.assertNotIn(b"MAIL", verbs, (kind, rule))
                self.assertLessEqual({v for v in verbs if v.isalpha()}, {b"EHLO", b"HELO", b"STARTTLS", b"QUIT"}, (kind, rule))

    def test_validation_sends_mail_to_no_wrong_name(self):
        certificates = {
            "foreign": self.foreign.issue("hop.test"),
            "name": self.ca.issue("other.test"),
            "below": self.ca.issue("hop.test.evil.test"),
            "above": self.ca.issue("test"),
            "wildcard": self.ca.issue("*.hop.test"),
            "star": self.ca.issue("*"),
            "nul": self.ca.issue("xhop.test"),
            "address": self.ca.issue("127.0.0.1"),
        }
        hops, config = {}, ""
        for kind, certificate in certificates.items():
            hops[kind] = self.hop(tls=server_context(certificate))
            config += self.connector(f"{kind}.test", hops[kind], "validate_domain", 'tls_domain = "hop.test"')
        untrusted = self.hop(tls=server_context(certificates["foreign"]))
        config += self.connector("untrusted.test", untrusted, "validate_certificate")
        good = self.hop(tls=server_context(self.good))
        config += self.connector("good.test", good, "validate_domain", 'tls_domain = "hop.test"')
        any_name = self.hop(tls=server_context(certificates["name"]))
        config += self.connector("anyname.test", any_name, "validate_certificate")
        edge = self.edge(config)
        self.submit(edge, *[f"{kind}.test" for kind in (*hops, "untrusted", "good", "anyname")])
        self.assertTrue(good.wait_messages()[0].session.tls)
        self.assertTrue(any_name.wait_messages()[0].session.tls)
        for kind, hop in {**hops, "untrusted": untrusted}.items():
            hop.wait_sessions(2)
            # The second session may resume the first: it is judged again.
            self.assertEqual({line.split(b" ")[0] for line, _ in hop.sessions[0].commands}, {b"EHLO", b"STARTTLS", b"QUIT"}, kind)
            self.assertEqual([line for line in hop.commands() if line.startswith(b"MAIL")], [], kind)
        edge.wait_log("send", "SubjectMismatch")
        edge.wait_log("send", "UntrustedRoot")

    def test_each_connector_shows_its_own_certificate_or_none(self):
        mine, yours = self.ca.issue("mine.test"), self.ca.issue("yours.test")
        # A next hop of all: same address, same name, so any session or key shared would show.
        shared = self.hop(tls=server_context(self.good, self.ca.path))
        certificates = "".join(f'[[certificates]]\nname = "{name}"\nchain = "{c.chain}"\nkey = "{c.key}"\n'
                               for name, c in (("mine", mine), ("yours", yours)))
        config = (self.connector("a.test", shared, "required", 'tls_certificate_name = "mine"')
                  + self.connector("b.test", shared, "required", 'tls_certificate_name = "yours"')
                  + self.connector("c.test", shared, "required", 'fqdn = "nobody.test"\nmax_messages_per_connection = 1'))
        edge = self.edge(config, certificates)
        # One after the other, and again, when there are sessions to resume.
        for number, domain in enumerate(("a.test", "c.test", "b.test", "c.test", "a.test", "b.test")):
            self.submit(edge, domain)
            shared.wait_messages(number + 1)
        for message in shared.messages:
            domain = message.recipients[0].decode().split("@")[1].rstrip(">")
            shown = message.session.certificate
            names = [value for _, value in shown["subjectAltName"]] if shown else None
            self.assertEqual(names, {"a.test": ["mine.test"], "b.test": ["yours.test"], "c.test": None}[domain], domain)

    def test_credentials_go_to_nobody_in_clear_and_into_no_log(self):
        (self.base / "password").write_text(PASSWORD + "\n")
        auth = f'auth = {{ mechanism = "%s", username = "relay", password_file = "{self.base / "password"}" }}'
        capabilities = ("8BITMIME", "AUTH PLAIN LOGIN")

        def login(session, line):
            if b"LOGIN" not in line:
                return b"235 2.7.0 welcome\r\n"
            for _ in range(2):
                session.send(b"334 VXNlcm5hbWU6\r\n")
                session.line()
            return b"235 2.7.0 welcome\r\n"

        secure = {name: self.hop(capabilities=capabilities, tls=server_context(self.good), answers={"AUTH": login})
                  for name in ("plain", "login")}
        refusing = self.hop(capabilities=capabilities, tls=server_context(self.good),
                            answers={"AUTH": b"535 5.7.8 no\r\n"})
        clear = self.hop(capabilities=capabilities)
        wrong = self.hop(capabilities=capabilities, tls=server_context(self.foreign.issue("hop.test")))
        config = "".join(self.connector(f"{name}.test", hop, "required", auth % name) for name, hop in secure.items())
        config += self.connector("refusing.test", refusing, "required", auth % "plain")
        config += self.connector("clear.test", clear, "required", auth % "plain")
        config += self.connector("wrong.test", wrong, "validate_domain", 'tls_domain = "hop.test"\n' + auth % "plain")
        edge = self.edge(config)
        self.submit(edge, "plain.test", "login.test", "refusing.test", "clear.test", "wrong.test")
        secrets = [base64.b64encode(text.encode()) for text in (f"\0relay\0{PASSWORD}", PASSWORD)]
        for name, secret in zip(("plain", "login"), secrets):
            [message] = secure[name].wait_messages()
            self.assertIn(secret, message.session.raw, "the test sees what was sent")
        for hop in (refusing, clear, wrong):
            hop.wait_sessions(2)
            self.assertEqual(hop.messages, [])
        for hop in (clear, wrong):
            self.assertFalse([line for line in hop.commands() if line.startswith((b"AUTH", b"MAIL"))])
        edge.wait_log("send", "535 5.7.8 no")
        edge.stop()
        said = b"".join(p.read_bytes() for p in edge.directory.rglob("*") if p.is_file() and p.name != "gatepost.toml")
        self.assertIn(b"AUTH PLAIN <authentication information>", said)
        for secret in [PASSWORD.encode()] + secrets:
            self.assertNotIn(secret, said)


if __name__ == "__main__":
    unittest.main()
