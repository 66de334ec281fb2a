"""The relays, each with its best honest settings.

All of them take mail from loopback for any domain and hand it to one next hop, on the same disk.
Each must have a message on disk before its 250 if it can be made to. None looks up a name.
"""

import os
import subprocess

import gatepost
from peers import Postfix, free_port

from .others import EximRelay, OpenSmtpdRelay
from .tools import program


class Gatepost:
    """As it ships. It has no way not to sync.

    - Limits that count connections and messages of one client are off: here one client is all.
    - TLS 1.3 tickets are on: the others give them out as well.
    - Both protocol logs are on, which is the default, so it writes down more of each message than
      the others do. `gatepost-quiet` has them off, and writes one line a session and none a
      message, which is less than the others do.
    """

    name, title, protocol_logging = "gatepost", "Gatepost", "verbose"

    @staticmethod
    def unavailable(_scenario):
        program("gatepost")
        return None

    def __init__(self, directory, scenario, sink_port, certificate, wrapper):
        gatepost.BINARY = program("gatepost")
        gatepost.WRAPPER = wrapper
        inward, outward = ("required", "required") if scenario.tls else ("off", "off")
        tls = f"""[[certificates]]
name = "relay"
chain = "{certificate.chain}"
key = "{certificate.key}"
""" if scenario.tls else ""
        self.server = gatepost.Gatepost(directory, f"""{gatepost.server("relay.test")}{tls}
[[receive_connectors]]
name = "In"
bindings = ["127.0.0.1:{{port}}"]
tls = "{inward}"
{'tls_certificate_name = "relay"' if scenario.tls else ""}
tls13_tickets = true
accept_any_recipient = true
protocol_logging = "{self.protocol_logging}"
{gatepost.OPEN_LIMITS}
[[send_connectors]]
name = "Out"
address_spaces = ["*"]
smart_hosts = ["[127.0.0.1]:{sink_port}"]
tls = "{outward}"
protocol_logging = "{self.protocol_logging}"
""")
        self.port = self.server.port

    def release(self):
        """Has everything that waits for a retry tried now."""
        self.server.reload()

    def stop(self):
        self.server.stop()

    def log(self):
        return self.server.diagnostics()


class QuietGatepost(Gatepost):
    name, title, protocol_logging = "gatepost-quiet", "Gatepost, quiet", "none"


class PostfixRelay:
    """Debian's Postfix. Its cleanup(8) syncs the queue file before the 250. Only root can start it.

    - As many smtpd(8) as there are sessions, at least 200: its default of 100 would keep clients
      waiting. Nothing is counted by client, so anvil(8) is not asked.
    - Up to 50 connections to the next hop, starting with 20, kept open between messages also
      when they use TLS (smtp_tls_connection_reuse, through tlsproxy(8)).
    - in_flow_delay = 0: it does not slow its clients down when they send faster than it delivers.
    - Long queue ids, which save it a rename a message.
    - Caches for TLS sessions of clients and of the next hop.
    - Its log, some lines a message, goes to a file through its own postlogd(8).
    """

    name, title = "postfix", "Postfix"
    # A flush does not reach what is still on its way from the active to the deferred queue, and the
    # next look would come after queue_run_delay, 300 seconds.
    RELEASE_AGAIN = True

    @staticmethod
    def unavailable(_scenario):
        return Postfix.unavailable()

    def __init__(self, directory, scenario, sink_port, certificate, wrapper):
        options = {
            "relayhost": f"[127.0.0.1]:{sink_port}",
            "default_process_limit": str(max(200, scenario.sessions + 100)),
            "smtp_destination_concurrency_limit": "50",
            "default_destination_concurrency_limit": "50",
            "initial_destination_concurrency": "20",
            "smtp_connection_cache_destinations": f"[127.0.0.1]:{sink_port}",
            "smtpd_recipient_restrictions": "permit_mynetworks,reject",
            "in_flow_delay": "0s",
            "enable_long_queue_ids": "yes",
        }
        if scenario.tls:
            options |= {
                "smtpd_tls_security_level": "encrypt",
                "smtpd_tls_loglevel": "0",
                "smtpd_tls_received_header": "no",
                "smtpd_tls_session_cache_database": "btree:${data_directory}/smtpd_scache",
                "smtp_tls_security_level": "encrypt",
                "smtp_tls_loglevel": "0",
                "smtp_tls_session_cache_database": "btree:${data_directory}/smtp_scache",
                "smtp_tls_connection_reuse": "yes",
            }
        self.server = Postfix(directory, free_port(), [], tls=certificate if scenario.tls else None, options=options)
        self.server.wrapper = wrapper
        self.server.start()
        self.port = self.server.port

    def release(self):
        """What an operator does: postqueue -f."""
        subprocess.run(["postqueue", "-c", str(self.server.directory / "config"), "-f"], check=True,
                       env=os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin"})

    def stop(self):
        self.server.stop()

    def log(self):
        return self.server.log()


RELAYS = {relay.name: relay for relay in (Gatepost, QuietGatepost, PostfixRelay, OpenSmtpdRelay, EximRelay)}
DEFAULT = ["gatepost", "postfix", "opensmtpd", "exim"]
