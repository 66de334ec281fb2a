"""The program in use: reload, a locked spool, a clean stop, the lab, the health check."""

import json
import os
import pathlib
import shlex
import signal
import smtplib
import socket
import ssl
import subprocess
import unittest

import peers
from cases import PeerTest, accepted, certificate, receive, roots, send
from gatepost import BINARY, FAST_RETRIES, Dialogue, Gatepost, server
from scripted import ScriptedServer

DON = "don@contoso.test"
ANN = "ann@fabrikam.test"


def gatepost(*arguments, **more):
    """Runs the program to its end."""
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=90, **more)


class Reload(PeerTest):
    def test_unreachable_mail_is_routed_by_a_new_connector(self):
        with ScriptedServer() as hop:
            edge = self.relay(receive(), send("Elsewhere", ["fabrikam.test"]))
            self.swaks(edge, [DON, ANN])
            # The one recipient with a route has it; the other waits for one.
            self.mailbox(edge, ANN)
            edge.stop()
            edge.start()
            self.assertIn("waiting=1", edge.spool_read())
            self.reload(edge, receive(), send("Elsewhere", ["fabrikam.test"]),
                        send("New", ["contoso.test"], smart_hosts=[f"127.0.0.1:{hop.port}"]))
            peers.wait_until(lambda: hop.messages, "the message")
            self.assertEqual([m.recipients for m in hop.messages], [[DON]])
            edge.wait_diagnostics("configuration reloaded")
            self.mailbox(edge, ANN)

    def test_a_broken_file_changes_nothing(self):
        edge = self.relay(receive(), send())
        edge.write('[server]\nhostname = "other.test"\nspol = "x"\n')
        edge.reload()
        self.assertIn("reload refused, the old configuration stays in force", edge.diagnostics())
        # It says what is wrong, and where.
        self.assertRegex(edge.diagnostics(), r"gatepost\.toml:3:1: .*`spol`.*`spool`")
        self.swaks(edge, DON)
        [message] = self.mailbox(edge, DON)
        self.assertIn(b"by edge.contoso.test", b" ".join(message.split()))
        # A file that is right but cannot be put to use is refused as well.
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            self.reload(edge, receive(), receive(name="Taken", bindings=[address]), send(maildir="other/%d/%u"))
            edge.wait_diagnostics(f"cannot listen on {address}")
        self.swaks(edge, DON)
        self.mailbox(edge, DON, 2)

    def test_new_sessions_see_the_new_file_and_old_ones_their_own(self):
        edge = self.relay(accepted("contoso.test"), receive(), send())
        port = peers.free_port()
        with Dialogue(edge.port) as old:
            old.ask("EHLO client.test")
            bindings = ["127.0.0.1:{port}", f"127.0.0.1:{port}"]
            self.reload(edge, accepted("contoso.test"),
                        receive(accept_any_recipient=False, bindings=bindings), send())
            refused = "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain"
            for new_port in (edge.port, port):
                with Dialogue(new_port) as new:
                    new.ask("EHLO client.test")
                    new.ask(f"MAIL FROM:<{ANN}>")
                    self.assertEqual(new.ask("RCPT TO:<x@elsewhere.test>"), refused)
            old.ask(f"MAIL FROM:<{ANN}>")
            self.assertIn("250 2.1.5", old.ask("RCPT TO:<x@elsewhere.test>"))


    def test_a_binding_that_is_gone_is_closed(self):
        edge = self.relay(accepted("contoso.test"), receive(), send())
        old, new = edge.port, peers.free_port()
        with Dialogue(old) as running:
            self.assertTrue(running.banner.startswith("220"))
            self.reload(edge, accepted("contoso.test"), receive(bindings=[f"127.0.0.1:{new}"]), send())
            edge.wait_diagnostics("no longer listening")
            peers.wait_port(new)
            with self.assertRaises(ConnectionRefusedError):
                Dialogue(old)
            self.assertTrue(running.ask("EHLO client.test").startswith("250"), "a session that runs goes on")
        self.assertEqual(edge.stop(), 0)


class Renewal(PeerTest):
    """Certificates that change on disk, without a signal."""

    def shown(self, edge):
        """The certificate a session gets, as Python sees it."""
        context = ssl.create_default_context(cafile=self.ca.path)
        with smtplib.SMTP("127.0.0.1", edge.port) as client:
            client._host = "edge.contoso.test"
            client.starttls(context=context)
            return client.sock.getpeercert()["serialNumber"]

    def test_a_renewed_certificate_is_taken_over_and_a_broken_one_is_not(self):
        first = self.ca.issue("edge.contoso.test")
        edge = self.relay(certificate(first), roots(self.ca.path), receive(tls="required"), send())
        edge.wait_diagnostics("the certificate expires in 1 days")
        old = self.shown(edge)
        # Under the same names, one after the other, as certbot does.
        second = self.ca.issue("edge.contoso.test")
        self.assertEqual(second.chain, first.chain)
        edge.wait_diagnostics("certificate reloaded")
        new = self.shown(edge)
        self.assertNotEqual(new, old)
        first.key.write_text("not a key")
        edge.wait_diagnostics("changed certificates cannot be used, the old ones stay in force")
        self.assertEqual(self.shown(edge), new)
        self.assertEqual(edge.stop(), 0)


class StartAndStop(PeerTest):
    def test_a_second_start_names_the_holder_of_the_spool(self):
        edge = self.relay(receive(), send())
        second = edge.directory / "second.toml"
        second.write_text(server() + receive().replace("{port}", str(peers.free_port())) + send())
        done = gatepost("run", "-c", second)
        self.assertEqual(done.returncode, 1)
        self.assertIn(str(edge.process.pid), done.stderr.splitlines()[-1])
        self.assertIn("spool", done.stderr.splitlines()[-1])
        self.assertNotIn("panicked", done.stderr)
        # The first is not disturbed.
        self.swaks(edge, DON)
        self.mailbox(edge, DON)
        # And a spool whose holder was killed is free.
        edge.kill()
        edge.start()

    def test_an_address_in_use_is_named(self):
        edge = self.relay(receive(), send())
        other = edge.directory / "other.toml"
        other.write_text(server().replace('"spool"', '"spool2"') + receive().replace("{port}", str(edge.port)) + send())
        done = gatepost("run", "-c", other)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"cannot listen on 127.0.0.1:{edge.port}", done.stderr.splitlines()[-1])

    def test_sigterm_lets_a_message_finish(self):
        edge = self.relay(receive(), send())
        with Dialogue(edge.port) as busy, Dialogue(edge.port) as idle:
            busy.ask("EHLO client.test")
            idle.ask("EHLO client.test")
            busy.ask(f"MAIL FROM:<{ANN}>")
            busy.ask(f"RCPT TO:<{DON}>")
            self.assertIn("354", busy.ask("DATA"))
            busy.send("Subject: half\r\n\r\nfirst half")
            edge.process.send_signal(signal.SIGTERM)
            # The idle session is sent away, and nobody is let in.
            self.assertEqual(idle.reply(), "421 4.3.2 Service not active")

            def refuses():
                try:
                    socket.create_connection(("127.0.0.1", edge.port), 5).close()
                except ConnectionRefusedError:
                    return True

            peers.wait_until(refuses, "end of the listener")
            busy.send("second half\r\n.")
            self.assertIn("250 2.6.0", busy.reply())
            self.assertEqual(busy.reply(), "421 4.3.2 Service not active")
        self.assertEqual(edge._reap(40), 0)
        self.assertIn("stopped", edge.diagnostics().splitlines()[-1])
        # What was accepted is delivered now or after the next start.
        edge.start()
        [message] = self.mailbox(edge, DON)
        self.assertIn(b"first half", message)
        self.assertIn(b"second half", message)

    def test_sigterm_does_not_wait_for_ever(self):
        config = server() + 'shutdown_grace = "500ms"\n' + receive() + send()
        with Gatepost(self.base / "edge", config) as edge, Dialogue(edge.port) as busy:
            busy.ask("EHLO client.test")
            busy.ask(f"MAIL FROM:<{ANN}>")
            busy.ask(f"RCPT TO:<{DON}>")
            self.assertIn("354", busy.ask("DATA"))
            self.assertEqual(edge.stop(), 0)
            self.assertIn("cut off", edge.diagnostics())
            # No 250: the message is still the client's.
            self.assertEqual(busy.reply(), "")

    def test_what_waits_survives_a_stop(self):
        port = peers.free_port()
        edge = self.relay(receive(), send(smart_hosts=[f"127.0.0.1:{port}"]))
        for i in range(5):
            self.swaks(edge, f"user{i}@contoso.test")
        self.assertEqual(edge.stop(), 0)
        with ScriptedServer(port=port) as hop:
            edge.start()
            self.assertIn("waiting=5", edge.spool_read())
            peers.wait_until(lambda: len(hop.messages) == 5, "all messages")
            self.assertEqual(sorted(m.recipients[0] for m in hop.messages),
                             [f"user{i}@contoso.test" for i in range(5)])
            edge.stop()
            edge.start()
            self.assertIn("waiting=0", edge.spool_read())

    def test_the_session_event_as_json(self):
        edge = Gatepost(self.base / "edge", server() + receive() + send() + FAST_RETRIES, start=False)
        with open(self.base / "stderr", "wb") as stderr:
            process = subprocess.Popen([BINARY, "--log-format", "json", "run", "-c", edge.config], stderr=stderr)
        try:
            peers.wait_port(edge.port, timeout=30)
            self.swaks(edge, DON)
            self.mailbox(edge, DON)
        finally:
            process.terminate()
            self.assertEqual(process.wait(40), 0)
        events = [json.loads(line) for line in (self.base / "stderr").read_text().splitlines()]
        found = [e.get("fields", e) for e in events]
        [session] = [f for f in found if f.get("direction") == "in" and f.get("messages") == 1]
        self.assertEqual((session["connector"], session["tls_version"], session["outcome"]), ("In", "none", "quit"))


class HealthCheck(PeerTest):
    def test_it_tells_a_running_relay_from_a_stopped_one(self):
        edge = self.relay(receive(), send())
        done = gatepost("healthcheck", "-c", edge.config)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"^220 edge\.contoso\.test Microsoft ESMTP MAIL Service ready at ")
        edge.stop()
        done = gatepost("healthcheck", "-c", edge.config)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(f"127.0.0.1:{edge.port}: connect", done.stderr)


class Lint(PeerTest):
    """The rules have unit tests; this is the way from files to words and exit codes."""

    def lint(self, issued, *options):
        file = self.base / "lint.toml"
        file.write_text("\n".join([server(), accepted("contoso.test"), certificate(issued), roots(self.ca.path),
                                   receive(accept_any_recipient=False, tls="required").replace("{port}", "2525")]))
        return gatepost("lint", "-c", file, *options)

    def test_a_chain_without_its_intermediate(self):
        issued = self.ca.subordinate(self.base / "below", "Below").issue("edge.contoso.test")
        whole = self.lint(issued)
        self.assertIn("certificate-expires-soon: certificate `edge`", whole.stdout, "it lives for two days")
        self.assertNotIn("certificate-chain-incomplete", whole.stdout)
        leaf, end, _ = issued.chain.read_text().partition("-----END CERTIFICATE-----")
        issued.chain.write_text(leaf + end + "\n")
        broken = self.lint(issued, "--json")
        self.assertEqual(broken.returncode, 1, broken.stderr)
        [found] = [f for f in json.loads(broken.stdout) if f["rule"] == "certificate-chain-incomplete"]
        self.assertIn("the chain ends at `CN=edge.contoso.test`, issued by `CN=Below`", found["problem"])

    def test_what_check_refuses(self):
        file = self.base / "broken.toml"
        file.write_text("[server]\nhostnam = 1\n")
        done = gatepost("lint", "-c", file)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("broken.toml:2:1:", done.stderr)


class Lab(PeerTest):
    def test_once(self):
        done = gatepost("lab", "--once", "--json", "--dir", self.base / "lab")
        self.assertEqual(done.returncode, 0, done.stderr)
        inbound, outbound = json.loads(done.stdout)
        self.assertEqual((inbound["title"], outbound["title"]), ("Inbound", "Outbound"))
        for journey in (inbound, outbound):
            self.assertEqual(len(journey["hops"]), 3)
            for hop in journey["hops"][1:]:
                self.assertEqual(hop["tls_version"], "TLS1_3")
                self.assertTrue(hop["verified_name"] and hop["send_connector"] and hop["cipher"], hop)
            message = pathlib.Path(journey["delivered"]).read_text()
            self.assertEqual(message.count("version=TLS1_3"), 2, message)
        # The organisation's mail comes in to the mailbox server; what goes out ends behind EOP.
        self.assertEqual([h["to"] for h in inbound["hops"]], ["EOP stand-in", "edge", "mailbox server"])
        self.assertEqual([h["to"] for h in outbound["hops"]], ["mailbox server", "edge", "EOP stand-in"])
        # Whose mail each is, as the stand-in saw it.
        self.assertRegex(inbound["hops"][0]["attribution"], "^Incoming: the session has no TLS")
        self.assertRegex(outbound["hops"][2]["attribution"], "^Originating, .*'edge.contoso.com', may relay")

    def test_it_stays_until_interrupted_and_leaves_nothing(self):
        temporary = self.base / "tmp"
        temporary.mkdir()
        out = self.base / "out"
        with open(out, "wb") as stdout:
            process = subprocess.Popen([BINARY, "lab"], stdout=stdout, stderr=subprocess.STDOUT,
                                       env=os.environ | {"TMPDIR": str(temporary)})
        try:
            peers.wait_until(lambda: "Ctrl-C ends the lab." in out.read_text(), "the lab's hints", 60)
            text = out.read_text()
            self.assertIn("verified name", text)
            # What it tells a user to type works.
            [line] = [line for line in text.splitlines() if line.strip().startswith("swaks")]
            done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            [line] = [line for line in text.splitlines() if " | curl " in line]
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            [lab] = temporary.iterdir()
            peers.wait_until(lambda: len(list(lab.glob("mailbox/mail/contoso.com/don/new/*"))) == 3,
                             "three messages in don's mailbox")
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
        self.assertEqual(code, 0)
        self.assertIn("Stopping the lab.", out.read_text())
        self.assertEqual(list(temporary.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
