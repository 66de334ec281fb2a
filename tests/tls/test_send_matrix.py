"""Sessions out: next hops of every kind under every rule, and what becomes of the mail.

One relay has a connector for each cell, and one next hop for each kind serves all rules; the name
in EHLO tells the cell. What is held has to stay held for the right reason, say nothing in clear,
and arrive once the rule is lifted.
"""

import collections
import socket
import ssl
import unittest
import warnings

import peers
from cases import receive, roots, send, table
from gatepost import Dialogue, Gatepost, server
from hops import Hop, server_context

RULES = ("off", "opportunistic", "required", "validate_certificate", "validate_domain")
NAME = "mx.contoso.test"

# Each cell is tried twice; the many that are held should not crowd the others out meanwhile.
RETRIES = table("[transport]", queue_glitch_retry_count=1000, queue_glitch_retry_interval="700ms",
                message_retry_interval="300ms")

CLEAR, TLS = "delivered in clear", "delivered over TLS"

# What a rule that encrypts makes of a next hop without TLS.
NOT_OFFERED = "451 5.7.3 STARTTLS is required to send mail"
NOT_NOW = "454 4.7.0 TLS not available due to temporary reason"
NO_HANDSHAKE = "421 4.4.2 Connection dropped due to SocketError"
NO_TLS = {"no-starttls": NOT_OFFERED, "starttls-refused": NOT_NOW, "too-old": NO_HANDSHAKE,
          "chooses-1.1": NO_HANDSHAKE, "no-tls": NO_HANDSHAKE, "hangs-up": NO_HANDSHAKE}

NO_TLS_REASONS = {
    "no-starttls": "^the next hop does not offer STARTTLS$",
    "starttls-refused": f"^STARTTLS was refused: {NOT_NOW}$",
    "too-old": r"^TLS negotiation failed with error SocketError \(the peer sent the alert protocol_version, ",
    "chooses-1.1": r"^TLS negotiation failed with error SocketError \(the peer chose TLS 1\.1\)$",
    "no-tls": r"^TLS negotiation failed with error SocketError \(the peer sent no TLS\)$",
    "hangs-up": r"^TLS negotiation failed with error SocketError \(the peer closed the connection during the handshake\)$",
}

# What is wrong with a certificate: for validate_certificate, and for validate_domain.
CERTIFICATES = {
    "self-signed": ("UntrustedRoot", "UntrustedRoot"),
    "untrusted-root": ("UntrustedRoot", "UntrustedRoot"),
    "leaf-only": ("UntrustedRoot", "UntrustedRoot"),
    "expired": ("Expired", "Expired"),
    "not-yet-valid": ("NotYetValid", "NotYetValid"),
    "wrong-name": (None, "SubjectMismatch"),
    "wildcard-too-deep": (None, "SubjectMismatch"),
    "right-san": (None, None),
    "second-san": (None, None),
    "wildcard-san": (None, None),
    "cn-only": (None, None),
    "whole-chain": (None, None),
    "revoked-looking": (None, None),
}


def expected(rule, kind):
    """CLEAR, TLS, or the reply that is the reason to hold the message."""
    if rule == "off" or rule == "opportunistic" and kind in NO_TLS:
        return CLEAR
    if kind in NO_TLS:
        return NO_TLS[kind]
    word = {"validate_certificate": CERTIFICATES[kind][0], "validate_domain": CERTIFICATES[kind][1]}.get(rule)
    return f"454 4.7.5 Certificate validation failure, Reason:{word}" if word else TLS


def certificates(base, ca, silent):
    """A certificate for each kind. `silent`: where revocation would be asked for."""
    foreign = peers.make_ca(base / "foreign", "Nobody's CA")
    middle = ca.subordinate(base / "middle", "Gatepost test intermediate")
    asked = f"URI:http://127.0.0.1:{silent}/"
    revocation = (f"crlDistributionPoints={asked}crl", f"authorityInfoAccess=OCSP;{asked}ocsp", "tlsfeature=status_request")
    return {
        "self-signed": peers.self_signed(base / "self", NAME),
        "untrusted-root": foreign.issue(NAME),
        "leaf-only": middle.issue(NAME, file="leaf-only", whole_chain=False),
        "expired": ca.issue(NAME, file="expired", valid=(-20, -10)),
        "not-yet-valid": ca.issue(NAME, file="not-yet-valid", valid=(10, 20)),
        "wrong-name": ca.issue("mail.contoso.test", "contoso.test", f"{NAME}.evil.test", file="wrong-name"),
        "wildcard-too-deep": ca.issue("*.test", "*.mx.contoso.test", file="wildcard-too-deep"),
        "right-san": ca.issue(NAME, file="right-san"),
        "second-san": ca.issue("elsewhere.test", "other.test", NAME.upper(), file="second-san"),
        "wildcard-san": ca.issue("elsewhere.test", "*.contoso.test", file="wildcard-san"),
        "cn-only": ca.issue(NAME, names=[], file="cn-only"),
        "whole-chain": middle.issue(NAME, file="whole-chain"),
        "revoked-looking": ca.issue(NAME, file="revoked-looking", extensions=revocation),
    }


def no_tls(session, _):
    """Answers STARTTLS well and the ClientHello in clear."""
    session.send(b"220 2.0.0 go\r\n")
    session.fill()
    return b"421 4.3.0 this is no TLS\r\n"


def chooses_tls_1_1(session, _):
    """Answers every ClientHello with a ServerHello of TLS 1.1, as servers do that know no better."""
    session.send(b"220 2.0.0 go\r\n")
    session.fill()
    session.buffer = b""
    hello = b"\x03\x02" + bytes(32) + b"\0" + b"\x00\x35" + b"\0"
    return b"\x16\x03\x02" + (len(hello) + 4).to_bytes(2, "big") + b"\x02" + len(hello).to_bytes(3, "big") + hello


def hangs_up(session, _):
    """Answers STARTTLS well and closes on the ClientHello."""
    session.send(b"220 2.0.0 go\r\n")
    session.fill()
    raise ConnectionError("as the script says")


def too_old(certificate):
    """TLS settings of a server that has nothing above TLS 1.1."""
    context = server_context(certificate)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return context


class SendMatrix(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        cls.ca = peers.make_ca(cls.base / "ca")
        # It never accepts: whoever asks it about a certificate waits, and is found in its backlog.
        cls.silent = cls.enterClassContext(socket.create_server(("127.0.0.1", 0)))
        made = certificates(cls.base, cls.ca, cls.silent.getsockname()[1])
        usual = server_context(made["right-san"])
        hops = {
            "no-starttls": Hop(),
            "starttls-refused": Hop(tls=usual, answers={"STARTTLS": NOT_NOW.encode() + b"\r\n"}),
            "too-old": Hop(tls=too_old(made["right-san"])),
            "chooses-1.1": Hop(tls=usual, answers={"STARTTLS": chooses_tls_1_1}),
            "no-tls": Hop(tls=usual, answers={"STARTTLS": no_tls}),
            "hangs-up": Hop(tls=usual, answers={"STARTTLS": hangs_up}),
        } | {kind: Hop(tls=server_context(certificate)) for kind, certificate in made.items()}
        cls.hops = {kind: cls.enterClassContext(hop) for kind, hop in hops.items()}
        cls.cells = {f"{rule}-{kind}".replace("_", "-").replace(".", "-"): (rule, kind) for rule in RULES for kind in hops}
        cls.edge = cls.enterClassContext(Gatepost(cls.base / "edge", cls.config(), log_format="json"))

    @classmethod
    def config(cls, lifted=False):
        """The configuration; `lifted`: every rule is `off`."""
        connectors = []
        for name, (rule, kind) in cls.cells.items():
            # One message a connection, so that its session ends, and is reported, at once.
            keys = {"tls": "off" if lifted else rule, "max_messages_per_connection": 1}
            if rule == "validate_domain" and not lifted:
                keys["tls_domain"] = NAME
            connectors.append(send(name, [f"{name}.test"], fqdn=f"{name}.edge.test",
                                   smart_hosts=[f"127.0.0.1:{cls.hops[kind].port}"], **keys))
        return "\n".join([server(), roots(cls.ca.path), receive(), *connectors, RETRIES])

    def sessions(self, name):
        """The sessions of a cell at its next hop, over and with a command."""
        wanted = f"{name}.edge.test".encode()
        hop = self.hops[self.cells[name][1]]
        return [s for s in list(hop.sessions) if s.commands and s.commands[0][0].split()[-1] == wanted]

    def messages(self, name):
        """The messages of a cell at its next hop."""
        hop = self.hops[self.cells[name][1]]
        return [m for m in list(hop.messages) if m.recipients[0].startswith(f"RCPT TO:<don@{name}.test>".encode())]

    def settled(self, name):
        """Whether a cell's message is delivered or was tried twice, and both sides have said so."""
        if expected(*self.cells[name]) in (CLEAR, TLS):
            return self.messages(name) and any(e["messages"] for e in self.events[name])
        return len(self.events[name]) >= 2 and self.errors[name]

    def look(self):
        """Reads the diagnostics: the session events of each cell, and its queue's last errors."""
        self.events, self.errors = collections.defaultdict(list), collections.defaultdict(list)
        for event in self.edge.events("session"):
            if event["direction"] == "out":
                self.events[event["connector"]].append(event)
        for event in self.edge.events("queue in retry"):
            self.errors[event["connector"]].append(event["error"])

    def test_every_next_hop_and_rule(self):
        with Dialogue(self.edge.port) as client:
            client.ask("EHLO client.test")
            client.ask("MAIL FROM:<>")
            for name in self.cells:
                self.assertEqual(client.ask(f"RCPT TO:<don@{name}.test>")[:3], "250")
            client.ask("DATA")
            self.assertEqual(client.ask("Subject: matrix\r\n\r\nx\r\n.")[:3], "250")
        waiting = set(self.cells)

        def all_settled():
            self.look()
            waiting.difference_update({name for name in waiting if self.settled(name)})
            return not waiting

        try:
            peers.wait_until(all_settled, "end of all cells", 30)
        except peers.PeerError:
            self.fail(f"these neither arrived nor stayed for a reason: {sorted(waiting)}")
        for name, (rule, kind) in self.cells.items():
            with self.subTest(rule=rule, kind=kind):
                self.check(name, rule, kind)
        self.assertEqual(self.edge.events("delivery failed"), [], "nothing was given up")
        with self.assertRaises(BlockingIOError, msg="nobody asks about revocation"):
            self.silent.setblocking(False)
            self.silent.accept()
        held = {name for name, cell in self.cells.items() if expected(*cell) not in (CLEAR, TLS)}
        self.edge.write(self.config(lifted=True))
        self.edge.reload()
        peers.wait_until(lambda: all(self.messages(name) for name in held), "what was held", 30)
        self.assertEqual({name: len(self.messages(name)) for name in self.cells}, dict.fromkeys(self.cells, 1))

    def check(self, name, rule, kind):
        """What the next hop saw, and what the relay says of it."""
        outcome, events = expected(rule, kind), self.events[name]
        commands = [command for session in self.sessions(name) for command in session.commands]
        in_clear = {line.split(b" ")[0] for line, inside in commands if not inside}
        self.assertTrue(commands)
        if outcome == CLEAR:
            [message] = self.messages(name)
            self.assertFalse(message.session.tls)
            self.assertEqual(events[-1]["tls_version"], "none")
            if rule == "off":
                self.assertNotIn(b"STARTTLS", in_clear)
                self.assertEqual(events[-1]["no_tls_reason"], "the connector does not use STARTTLS")
            elif kind == "no-starttls":
                self.assertEqual(events[-1]["no_tls_reason"], "the next hop does not offer STARTTLS")
            else:
                # A session of its own, which says what happened in the one before.
                self.assertRegex(events[-1]["no_tls_reason"], "^tried once more after: (TLS negotiation failed|STARTTLS was)")
                self.assertFalse([line for line, _ in self.sessions(name)[0].commands if line.startswith(b"MAIL")])
            return
        # Whatever else: nothing about the message was said in clear, in no session.
        self.assertLessEqual(in_clear, {b"EHLO", b"STARTTLS", b"QUIT"})
        if outcome == TLS:
            [message] = self.messages(name)
            self.assertTrue(message.session.tls)
            event = next(e for e in events if e["messages"])
            self.assertEqual(event["tls_version"], "TLS1_3")
            self.assertEqual(event["tls_verified"], rule.startswith("validate"))
            if rule == "validate_domain":
                self.assertEqual(event["tls_peer_name"].lower(), "*.contoso.test" if kind == "wildcard-san" else NAME)
            return
        self.assertEqual(self.messages(name), [])
        self.assertFalse([line for line, _ in commands if line.startswith((b"MAIL", b"RCPT", b"DATA", b"BDAT"))])
        port = self.hops[kind].port
        self.assertEqual(set(self.errors[name]), {
            f'451 4.4.0 Primary target IP address responded with: "{outcome}." Attempted failover to alternate host, '
            "but that did not succeed. Either there are no alternate hosts, or delivery failed to all alternate hosts. "
            f"The last endpoint attempted was 127.0.0.1:{port}"})
        for event in events:
            self.assertEqual(event["messages"], 0)
            self.assertFalse(event.get("tls_verified"))
            if kind in NO_TLS:
                self.assertRegex(event["no_tls_reason"], NO_TLS_REASONS[kind])


if __name__ == "__main__":
    unittest.main()
