"""What tests with real peers share: a base class, and configurations written in few words."""

import csv
import email
import email.policy
import json
import os
import unittest

import peers
from gatepost import FAST_RETRIES, Gatepost, server


def needs(*kinds):
    """Skips a test whose peers cannot run here; on CI that is a failure."""
    reason = next(filter(None, (kind.unavailable() for kind in kinds)), None)
    if reason and os.environ.get("CI"):
        raise AssertionError(reason)
    return unittest.skipIf(reason, reason or "")


def table(title, **keys):
    """A TOML table: `table("[tls]", min_version="1.2")`."""
    return title + "\n" + "".join(f"{key} = {_value(value)}\n" for key, value in keys.items())


def _value(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    # JSON's strings, numbers and booleans are TOML's.
    return json.dumps(value if isinstance(value, bool | int) else str(value))


def receive(**keys):
    """A receive connector on `{port}` that stands in no test's way."""
    settings = {"name": "In", "bindings": ["127.0.0.1:{port}"], "accept_any_recipient": True,
                "tls": "off", "tarpit_interval": "0s", "message_rate_limit": 0,
                "max_inbound_connections_per_source": 5000}
    return table("[[receive_connectors]]", **settings | keys)


def send(name="Out", spaces=("*",), **keys):
    """A send connector; with no route given it delivers into Maildirs below `mail/`."""
    settings = {"name": name, "address_spaces": spaces}
    if not {"smart_hosts", "dns_routing", "maildir", "lmtp"} & set(keys):
        settings["maildir"] = "mail/%d/%u"
    return table("[[send_connectors]]", **settings | keys)


def accepted(domain, kind="authoritative"):
    """An accepted domain."""
    return table("[[accepted_domains]]", domain=domain, type=kind)


def certificate(issued, name="edge"):
    """A `[[certificates]]` entry."""
    return table("[[certificates]]", name=name, chain=issued.chain, key=issued.key)


def roots(*paths):
    """The `[tls]` table."""
    return table("[tls]", trusted_roots=list(paths))


class Session:
    """One session of a protocol log: its lines as (event, data, context)."""

    def __init__(self, connector, peer, session_id):
        self.connector, self.peer, self.id, self.lines = connector, peer, session_id, []

    def said(self, text):
        """Whether a line holds `text`."""
        return any(text in data or text in context for _, data, context in self.lines)

    def tls(self):
        """The lines that state its TLS version or why it has none."""
        return [context for _, _, context in self.lines
                if context.startswith(("TLS protocol SP_PROT_", "No TLS", "TLS negotiation failed"))]

    def ended(self):
        """Whether its last line is there."""
        return self.lines[-1][0] == "-"

    def __repr__(self):
        return "\n".join([f"{self.connector} {self.peer}", *map(repr, self.lines)])


def sessions(log_lines):
    """The sessions of a protocol log, in order of their first lines."""
    found = {}
    for row in csv.reader(line for line in log_lines if not line.startswith("#")):
        _, connector, session_id, _, _, peer, event, data, context = row
        found.setdefault(session_id, Session(connector, peer, session_id)).lines.append((event, data, context))
    return list(found.values())


class Report:
    """A delivery report, taken apart by Python's email package."""

    def __init__(self, data):
        self.message = email.message_from_bytes(data, policy=email.policy.SMTPUTF8)
        self.subject = self.message["Subject"]
        parts = self.message.get_payload()
        self.text = parts[0].get_content()
        self.fields, *self.recipients = [dict(block.items()) for block in parts[1].get_payload()]
        self.returned = parts[2]

    def recipient(self, address):
        """The status fields of one recipient; exactly one group must be about it."""
        [fields] = [r for r in self.recipients if r["Final-Recipient"] == f"rfc822;{address}"]
        return fields


class PeerTest(unittest.TestCase):
    """A directory, a CA and a relay a test."""

    def setUp(self):
        self.base = self.enterContext(peers.tempfile_dir())

    @property
    def ca(self):
        """The CA of this test, made when first asked for."""
        if not hasattr(self, "_ca"):
            self._ca = peers.make_ca(self.base / "ca")
        return self._ca

    def relay(self, *parts, retries=FAST_RETRIES, **more):
        """A running relay with these parts of a configuration."""
        config = "\n".join([server(), *parts, retries])
        return self.enterContext(Gatepost(self.base / "edge", config, **more))

    def reload(self, edge, *parts, retries=FAST_RETRIES):
        """Gives a running relay another configuration."""
        edge.write("\n".join([server(), *parts, retries]))
        edge.reload()

    def postfix(self, *domains, name="postfix", **more):
        """A running Postfix."""
        return self.enterContext(peers.Postfix(self.base / name, peers.free_port(), domains, **more))

    def swaks(self, edge, to, *arguments, sender="ann@fabrikam.test", subject="hello", code=0):
        """Sends a message with swaks, and checks its exit code; the transcript."""
        to = to if isinstance(to, str) else ",".join(to)
        done = peers.swaks(edge.port, "--from", sender, "--to", to, "--header", f"Subject: {subject}",
                           "--body", f"This is {subject}.", *arguments)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr + edge.diagnostics()[-2000:])
        return done.stdout

    def mailbox(self, edge, address, count=1, timeout=20):
        """The messages in a Maildir of the relay's own, once there are `count`; not one more."""
        local, _, domain = address.partition("@")
        files = peers.wait_until(
            lambda: (found := edge.maildir(domain, local)) and len(found) >= count and found,
            f"{count} message(s) for {address}: {edge.diagnostics()[-2000:]}", timeout)
        self.assertEqual(len(files), count, address)
        return [file.read_bytes() for file in files]

    def ended_sessions(self, edge, kind, count, timeout=20):
        """The sessions of a protocol log once `count` of them have ended."""
        read = edge.receive_log if kind == "receive" else edge.send_log

        def all_ended():
            found = [s for s in sessions(read()) if s.ended()]
            return found if len(found) >= count else None

        return peers.wait_until(all_ended, f"{count} ended sessions in the {kind} log", timeout)
