"""What nmap and testssl.sh find on a listener: nothing weak is offered, nothing is relayed.

docs/reports/tls-scan.md has the whole reports; this is as much of them as is quick.
"""

import json
import shutil
import subprocess
import unittest
import xml.etree.ElementTree

import peers
from cases import accepted, certificate, needs, receive, roots, send
from gatepost import Gatepost, server

AES_AND_CHACHA = ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")


def _program(name, package):
    """A class for `needs`."""
    class Program:
        @staticmethod
        def unavailable():
            """Why it cannot run here, or None."""
            return None if shutil.which(name) else f"{package} is not installed (tests/peers/install.sh)"

    return Program


Nmap, Testssl = _program("nmap", "nmap"), _program("testssl", "testssl.sh")


class Scanners(unittest.TestCase):
    """Listeners with an ECDSA and an RSA certificate, and one that relays for everyone."""

    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        ca = peers.make_ca(cls.base / "ca")
        cls.ports = {name: peers.free_port() for name in ("ecdsa", "rsa", "open")}
        config = "\n".join([
            server(), roots(ca.path), accepted("contoso.test"),
            certificate(ca.issue("edge.contoso.test", file="ecdsa"), "ecdsa"),
            certificate(ca.issue("edge.contoso.test", file="rsa", rsa=True), "rsa"),
            *[receive(name=name, bindings=[f"127.0.0.1:{cls.ports[name]}"], tls="opportunistic",
                      tls_certificate_name="rsa" if name == "rsa" else "ecdsa", accept_any_recipient=name == "open")
              for name in cls.ports], send()])
        cls.edge = cls.enterClassContext(Gatepost(cls.base / "edge", config, port=cls.ports["ecdsa"]))

    @needs(Nmap)
    def test_nmap(self):
        # nmap knows a service by its port: this tells it that ours speak SMTP.
        data = self.base / "nmap"
        data.mkdir()
        (data / "nmap-services").write_text("".join(f"smtp\t{port}/tcp\t0.9\n" for port in self.ports.values()))
        done = subprocess.run(
            ["nmap", "--datadir", data, "-n", "-Pn", "-p", ",".join(map(str, self.ports.values())), "-oX", "-",
             "--script", "ssl-enum-ciphers,smtp-commands,smtp-open-relay", "127.0.0.1"],
            capture_output=True, text=True, timeout=120, check=True)
        scripts = {int(port.get("portid")): {script.get("id"): script for script in port.iter("script")}
                   for port in xml.etree.ElementTree.fromstring(done.stdout).iter("port")}
        for name, kind in (("ecdsa", "ECDSA"), ("rsa", "RSA")):
            with self.subTest(certificate=name):
                found = scripts[self.ports[name]]
                ciphers = found["ssl-enum-ciphers"]
                self.assertEqual(ciphers.findtext("elem[@key='least strength']"), "A")
                offered = {table.get("key"): {elem.text for elem in table.iter("elem") if elem.get("key") == "name"}
                           for table in ciphers.findall("table")}
                self.assertEqual(offered, {
                    "TLSv1.2": {f"TLS_ECDHE_{kind}_WITH_{suite}" for suite in AES_AND_CHACHA},
                    "TLSv1.3": {f"TLS_AKE_WITH_{suite}" for suite in AES_AND_CHACHA}})
                self.assertRegex(found["smtp-commands"].get("output"), r"^edge\.contoso\.test Hello .*\bSTARTTLS\b")
                self.assertIn("doesn't seem to be an open relay, all tests failed", found["smtp-open-relay"].get("output"))
        # It does see an open relay where there is one.
        self.assertIn("Server is an open relay", scripts[self.ports["open"]]["smtp-open-relay"].get("output"))

    @needs(Testssl)
    def test_testssl(self):
        report = self.base / "testssl.json"
        # Protocols, ciphers by category, forward secrecy. It wants no name server to look us up in.
        done = subprocess.run(
            ["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--starttls", "smtp", "-p", "-s",
             "-f", "--jsonfile", report, f"127.0.0.1:{self.ports['ecdsa']}"], capture_output=True, text=True, timeout=120)
        findings = {line["id"]: line for line in json.loads(report.read_text())}
        self.assertIn("TLS1_3", findings, done.stdout + done.stderr)
        for old in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
            self.assertEqual(findings[old]["finding"], "not offered", old)
        for new in ("TLS1_2", "TLS1_3"):
            self.assertTrue(findings[new]["finding"].startswith("offered"), new)
        weak = {name: line["finding"] for name, line in findings.items() if name.startswith("cipherlist_")}
        self.assertGreaterEqual(len(weak), 7)
        self.assertTrue(weak.pop("cipherlist_STRONG").startswith("offered"))
        self.assertEqual(set(weak.values()), {"not offered"})
        bad = [line for line in findings.values() if line["severity"] in ("LOW", "MEDIUM", "HIGH", "CRITICAL")]
        self.assertEqual(bad, [])


if __name__ == "__main__":
    unittest.main()
