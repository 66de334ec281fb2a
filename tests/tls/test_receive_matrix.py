"""Sessions in: every client with every TLS version on a connector of every rule.

What is asserted of a cell is what the client saw and what the log says of it. One relay has a
connector for each rule; all cells speak to it at once.
"""

import concurrent.futures
import unittest

import peers
from cases import certificate, needs, receive, roots, send, sessions
from clients import CLIENTS, VERSIONS, GnutlsCli, gnutls, openssl
from gatepost import Dialogue, Gatepost, server

RULES = ("off", "opportunistic", "required", "mutual")
# Not a rule but a setting: TLS 1.3 or nothing.
STRICT = "strict"

TAKEN = "250 2.1.0 Sender OK"
STARTTLS_FIRST = "451 5.7.3 Must issue a STARTTLS command first"
REFUSED = "454 4.7.5 Certificate validation failure, Reason:"

FAILED = "TLS negotiation failed with error "
# What the log calls a client that offers this and no more.
TOO_OLD = {"TLS 1.0": f"{FAILED}SocketError (the peer offered TLS 1.0)",
           "TLS 1.1": f"{FAILED}SocketError (the peer offered at most TLS 1.1)"}
SUCCEEDED = {"TLS 1.2": "TLS protocol SP_PROT_TLS1_2_SERVER negotiation succeeded using bulk encryption algorithm CALG_AES_256",
             "TLS 1.3": "TLS protocol SP_PROT_TLS1_3_SERVER negotiation succeeded using bulk encryption algorithm CALG_AES_256"}
IN_CLEAR = "No TLS: the session stayed in plain text"

# Client certificates for a connector that takes *.partner.test: what each is judged to be, and the
# name in the session event: the one that matched, or what an unverified one says of itself.
CERTIFICATES = {
    "good": ("Valid", "partner.test"),
    "san": ("Valid", "mail.partner.test"),
    "common-name": ("Valid", "partner.test"),
    "intermediate": ("Valid", "partner.test"),
    "none": ("EmptyCertificate", None),
    "unknown-ca": ("UntrustedRoot", "partner.test"),
    "self-signed": ("UntrustedRoot", "partner.test"),
    "wrong-name": ("SubjectMismatch", "notpartner.test"),
    "expired": ("Expired", "partner.test"),
    "not-for-clients": ("WrongUsage", "partner.test"),
}


def client_certificates(base, ca):
    """The certificates of CERTIFICATES."""
    foreign = peers.make_ca(base / "foreign", "Nobody's CA")
    middle = ca.subordinate(base / "middle", "Gatepost test intermediate")
    return {
        "good": ca.issue("partner.test", file="good"),
        "san": ca.issue("elsewhere.test", "other.test", "mail.partner.test", file="san"),
        "common-name": ca.issue("partner.test", names=[], file="common-name"),
        "intermediate": middle.issue("partner.test", file="intermediate"),
        "none": None,
        "unknown-ca": foreign.issue("partner.test"),
        "self-signed": peers.self_signed(base / "self", "partner.test"),
        "wrong-name": ca.issue("notpartner.test", "partner.test.evil.test", file="wrong-name"),
        "expired": ca.issue("partner.test", file="expired", valid=(-20, -10)),
        "not-for-clients": ca.issue("partner.test", file="not-for-clients", client_auth=False),
    }


class ReceiveMatrix(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        ca = peers.make_ca(cls.base / "ca")
        cls.shown = client_certificates(cls.base, ca)
        cls.ports = {rule: peers.free_port() for rule in (*RULES, STRICT)}
        connectors = [receive(name=rule, bindings=[f"127.0.0.1:{cls.ports[rule]}"], tls=rule) for rule in RULES[:3]]
        connectors.append(receive(name="mutual", bindings=[f"127.0.0.1:{cls.ports['mutual']}"], tls="mutual",
                                  tls_domains=["*.partner.test"]))
        connectors.append(receive(name=STRICT, bindings=[f"127.0.0.1:{cls.ports[STRICT]}"], tls="required",
                                  min_tls_version="1.3"))
        config = "\n".join([server(), roots(ca.path), certificate(ca.issue("edge.contoso.test")), *connectors, send()])
        cls.edge = cls.enterClassContext(
            Gatepost(cls.base / "edge", config, port=cls.ports["off"], log_format="json"))

    def run_cells(self, cells):
        """Runs {cell name: (client, rule, version, certificate)} side by side; {name: Spoken}."""
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            begun = {name: pool.submit(client, self.ports[rule], version, f"{name}.cell.test", shown)
                     for name, (client, rule, version, shown) in cells.items()}
            return {name: future.result() for name, future in begun.items()}

    def logged(self, *cells):
        """{cell name: (its session in the protocol log, its session event)}, when all have ended."""
        def all_ended():
            found = {}
            for session in sessions(self.edge.receive_log()):
                for name in cells:
                    if session.ended() and any(data == f"EHLO {name}.cell.test" for _, data, _ in session.lines):
                        found[name] = session
            events = {event["session_id"]: event for event in self.edge.events()}
            if set(found) != set(cells) or any(session.id not in events for session in found.values()):
                return None
            return {name: (session, events[session.id]) for name, session in found.items()}

        return peers.wait_until(all_ended, f"end of the sessions of {cells}", 30)

    def assert_no_tls(self, session, event, reason):
        self.assertEqual(event["tls_version"], "none")
        self.assertEqual(event["no_tls_reason"], reason)
        self.assertFalse(session.said("negotiation succeeded"), session)
        self.assertNotIn("tls_cipher", event)

    def assert_tls(self, session, event, version):
        [line] = session.tls()
        self.assertTrue(line.startswith(SUCCEEDED[version]), line)
        self.assertEqual(event["tls_version"], version.replace("TLS ", "TLS").replace(".", "_"))
        self.assertNotIn("no_tls_reason", event)
        self.assertIn("AES_256_GCM_SHA384", event["tls_cipher"])
        self.assertEqual(event["outcome"], "quit")

    def assert_refused(self, spoken, session, event, line):
        """The handshake failed, the client knows, and the log has `line` and no MAIL behind it."""
        self.assertIsNone(spoken.version)
        self.assertIsNone(spoken.mail)
        self.assertTrue(spoken.error)
        self.assertEqual(session.tls(), [line])
        self.assert_no_tls(session, event, line)
        self.assertEqual(event["outcome"], "TLS handshake failed")
        self.assertEqual(session.lines[-2:], [("*", "", line), ("-", "", "Local")])

    @needs(GnutlsCli)
    def test_every_client_version_and_rule(self):
        cells = {f"{client}-{version}-{rule}".replace(" ", "-").replace(".", "-").lower(): (client, version, rule)
                 for client in CLIENTS for version in VERSIONS for rule in (*RULES, STRICT)}
        spoken = self.run_cells({name: (CLIENTS[client], rule, version, self.shown["good"])
                                 for name, (client, version, rule) in cells.items()})
        logged = self.logged(*cells)
        for name, (client, version, rule) in cells.items():
            with self.subTest(client=client, version=version, rule=rule):
                said, (session, event) = spoken[name], logged[name]
                self.assertEqual(session.connector, f"EDGE\\{rule}")
                self.assertEqual(event["connector"], rule)
                self.assertEqual(said.offered, rule != "off")
                if client != "openssl s_client":
                    self.assertEqual(said.clear, TAKEN if rule in ("off", "opportunistic") else STARTTLS_FIRST)
                if rule == "off":
                    self.assertIsNone(said.version)
                    self.assert_no_tls(session, event, "STARTTLS is not offered here")
                    self.assertEqual(session.tls(), [IN_CLEAR])
                elif version in TOO_OLD:
                    self.assert_refused(said, session, event, TOO_OLD[version])
                elif rule == STRICT and version == "TLS 1.2":
                    line = session.tls()[0]
                    self.assertRegex(line, r"^TLS negotiation failed with error SocketError \(the peer offered "
                                           r"(at most )?TLS 1\.2: .+\)$")
                    self.assert_refused(said, session, event, line)
                else:
                    self.assertEqual((said.version, said.mail), (version, TAKEN))
                    self.assert_tls(session, event, version)
                    self.assertEqual(event["tls_verified"], rule == "mutual")
                    self.assertEqual(event.get("tls_peer_name"), "partner.test" if rule == "mutual" else None)

    @needs(GnutlsCli)
    def test_mutual_with_every_certificate(self):
        cells = {f"{client}-{version}-{kind}".replace(" ", "-").replace(".", "-").lower(): (client, version, kind)
                 for client in CLIENTS for version in ("TLS 1.2", "TLS 1.3") for kind in CERTIFICATES}
        spoken = self.run_cells({name: (CLIENTS[client], "mutual", version, self.shown[kind])
                                 for name, (client, version, kind) in cells.items()})
        logged = self.logged(*cells)
        for name, (client, version, kind) in cells.items():
            with self.subTest(client=client, version=version, certificate=kind):
                said, (session, event) = spoken[name], logged[name]
                word, peer_name = CERTIFICATES[kind]
                # The handshake itself never fails for a certificate, so that the log can say more.
                self.assertEqual(said.version, version)
                self.assert_tls(session, event, version)
                self.assertEqual(said.mail, TAKEN if word == "Valid" else REFUSED + word)
                status = {"Valid": f"Success'; Domain='{peer_name}'", "EmptyCertificate": "NoRemoteCertificate'"}
                lines = [context for _, _, context in session.lines]
                self.assertIn(f"Client certificate chain validation status: '{word}'", lines)
                self.assertIn(f"TlsDomainCapabilities='None'; Status='{status.get(word, word + chr(39))}", lines)
                self.assertEqual(event["tls_verified"], word == "Valid")
                self.assertEqual(event.get("tls_peer_name"), peer_name)

    @needs(GnutlsCli)
    def test_no_cipher_in_common(self):
        weak = {"openssl": lambda *cell: openssl(*cell, extra=("-cipher", "AES128-SHA:AES256-GCM-SHA384:@SECLEVEL=0")),
                "gnutls": lambda *cell: gnutls(*cell, priority=":-KX-ALL:+RSA")}
        spoken = self.run_cells({name: (client, "opportunistic", "TLS 1.2", None) for name, client in weak.items()})
        for name, (session, event) in self.logged(*weak).items():
            with self.subTest(client=name):
                [line] = session.tls()
                self.assertRegex(line, r"^TLS negotiation failed with error AlgorithmMismatch \(the peer offered (at most )?"
                                       r"TLS 1\.2: none of its \d+ cipher suites is ours: TLS_RSA_WITH_AES_\w+, .*\)$")
                self.assert_refused(spoken[name], session, event, line)

    def test_hellos_older_than_any_client_here(self):
        suites = bytes.fromhex("0035002f000a00ff")
        ssl3_body = b"\x03\x00" + bytes(range(32)) + b"\0" + len(suites).to_bytes(2, "big") + suites + b"\x01\0"
        ssl3 = b"\x01" + len(ssl3_body).to_bytes(3, "big") + ssl3_body
        ssl2 = b"\x01\x00\x02\x00\x03\x00\x00\x00\x10\x01\x00\x80" + bytes(16)
        hellos = {
            "ssl3": (b"\x16\x03\x00" + len(ssl3).to_bytes(2, "big") + ssl3, "the peer offered SSL 3.0"),
            "ssl2": ((0x8000 | len(ssl2)).to_bytes(2, "big") + ssl2, "the peer offered SSL 2.0"),
            "no-tls": (b"EHLO not.tls.test\r\n", "the peer sent no TLS"),
        }
        for name, (hello, _) in hellos.items():
            with Dialogue(self.ports["opportunistic"]) as client:
                client.ask(f"EHLO {name}.cell.test")
                self.assertEqual(client.ask("STARTTLS")[:3], "220")
                client.send(hello)
                # An alert of TLS at most, then the end; never a reply.
                self.assertIn(client.reader.read()[:1], (b"\x15", b""))
        for name, (session, event) in self.logged(*hellos).items():
            with self.subTest(hello=name):
                line = f"{FAILED}SocketError ({hellos[name][1]})"
                self.assertEqual(session.tls(), [line])
                self.assert_no_tls(session, event, line)


if __name__ == "__main__":
    unittest.main()
