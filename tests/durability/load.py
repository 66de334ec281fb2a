"""Load, a sink that checks it, and what durability tests have in common.

    with Sink(base / "sink") as sink, Gatepost(base / "relay", relay_config(sink.port)) as relay:
        load = Load(relay.port, base / "load", count=1000)
        load.wait()
        sink.wait_for(load.acked())

`mailload` and `mailsink` are the programs in examples/; `cargo build --examples` makes them, and
the first test that needs them does so when they are missing.
"""

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/peers"))

from gatepost import BINARY, FAST_RETRIES, OPEN_LIMITS, Gatepost, server  # noqa: E402
from peers import PeerError, free_port, tempfile_dir, wait_port, wait_until  # noqa: E402

DOMAIN = "contoso.test"


def tool(name):
    """Path of one of the programs in examples/, next to the relay under test."""
    path = BINARY.parent / "examples" / name
    if not path.exists():
        release = ["--release"] if BINARY.parent.name == "release" else []
        subprocess.run(["cargo", "build", "--examples", *release], cwd=REPOSITORY, check=True)
    return path


def connector(name, space, port, more=""):
    """A send connector to a port of loopback."""
    return (f'[[send_connectors]]\nname = "{name}"\naddress_spaces = ["{space}"]\n'
            f'smart_hosts = ["[127.0.0.1]:{port}"]\ntls = "off"\n{more}')


def relay_config(sink_port, receive="", send="", transport=FAST_RETRIES, top=""):
    """A relay for contoso.test and, from loopback, for everybody else's domains, all to one sink."""
    return (f'{server()}{top}[[accepted_domains]]\ndomain = "{DOMAIN}"\n'
            f'[[receive_connectors]]\nname = "Load"\nbindings = ["127.0.0.1:{{port}}"]\ntls = "off"\n'
            f'accept_any_recipient = true\n{OPEN_LIMITS}{receive}'
            f'{connector("Out", "*", sink_port, send)}{transport}')


class Receipt(collections.namedtuple("Receipt", "at id verdict recipients")):
    """One message a sink took: when (seconds since 1970), its number or None, ok, bad or -."""


class Sink:
    """A next hop. `start` it again after `kill` or `stop`; its record goes on."""

    def __init__(self, directory, *options, port=None, start=True):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.record = self.directory / "record"
        self.process = None
        if start:
            self.start(*options)

    def start(self, *options):
        command = [tool("mailsink"), f"127.0.0.1:{self.port}", "--record", self.record, *map(str, options)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if "--silent" not in options:
            wait_port(self.port, timeout=20)
        return self

    def stop(self):
        """Ends it; its counts, as far as this run of it goes."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM)
        told = self.process.communicate(timeout=20)[0]
        self.process = None
        return json.loads(told)

    def kill(self):
        self.process.kill()
        self.process.communicate()
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.kill()

    def receipts(self):
        """Everything it took, in order."""
        found = []
        if self.record.exists():
            for line in self.record.read_text().splitlines():
                at, number, verdict, recipients = line.split(" ")
                number = None if number == "-" else int(number)
                found.append(Receipt(int(at) / 1e6, number, verdict, tuple(recipients.split(","))))
        return found

    def ids(self):
        return {receipt.id for receipt in self.receipts() if receipt.id is not None}

    def wait_for(self, ids, timeout=60.0):
        """Waits until every one of `ids` has come."""
        wanted = set(ids)
        try:
            wait_until(lambda: wanted <= self.ids(), "arrival of all messages", timeout)
        except PeerError as error:
            missing = sorted(wanted - self.ids())
            raise PeerError(f"{error}: {len(missing)} of {len(wanted)} missing, such as {missing[:10]}") from None


class Load:
    """A running load generator. Keywords are its options: `count=10, per_connection=1`."""

    def __init__(self, port, directory, host="127.0.0.1", **options):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.record = directory / "acked"
        self.command = [str(tool("mailload")), f"{host}:{port}", "--acked", str(self.record)]
        for name, value in options.items():
            flag = "--" + name.rstrip("_").replace("_", "-")
            values = value if isinstance(value, (list, tuple)) else [value]
            self.command += [flag] if value is True else [part for v in values for part in (flag, str(v))]
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def wait(self, timeout=120, complete=True):
        """Waits for its end; its report."""
        try:
            told = self.process.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            self.end()
            raise
        report = json.loads(told)
        if complete and self.process.returncode != 0:
            raise PeerError(f"mailload did not get everything through: {report}")
        return report

    def end(self):
        """Ends it now. What it wrote down stays."""
        if not self.process.stdout.closed:
            self.process.kill()
            self.process.communicate()

    def acked(self):
        """Numbers of the messages that were acknowledged."""
        return [int(line) for line in self.record.read_text().split()] if self.record.exists() else []


def rss_kib(process, field="VmRSS"):
    """Memory of a process in KiB: now, or `VmHWM` at its peak."""
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise PeerError(f"no {field} of process {process.pid}")


class DurabilityTest(unittest.TestCase):
    """A test with a directory of its own, that fails when a relay of its panicked."""

    def setUp(self):
        context = tempfile_dir()
        self.base = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        self.addCleanup(self.no_panic)

    def no_panic(self):
        for path in self.base.rglob("stderr.log"):
            text = path.read_text(errors="replace")
            self.assertNotIn("panicked", text, path)
            self.assertNotIn("overflowed its stack", text, path)

    def tell(self, text):
        """A figure for whoever reads the test's output."""
        print(f"  {self.id().rpartition('.')[2]}: {text}", file=sys.stderr, flush=True)

    def relay(self, *arguments, **keywords):
        """A relay that is gone when the test is over."""
        relay = Gatepost(self.base / keywords.pop("name", "relay"), *arguments, **keywords)
        self.addCleanup(lambda: relay.process and relay.kill())
        return relay

    def sink(self, *options, name="sink", **keywords):
        """A sink that is gone when the test is over."""
        sink = Sink(self.base / name, *options, **keywords)
        self.addCleanup(lambda: sink.process and sink.kill())
        return sink

    def load(self, relay, name="load", **options):
        """Load that is gone when the test is over."""
        load = Load(relay.port, self.base / name, **options)
        self.addCleanup(load.end)
        return load

    def waits_for(self, condition, what, timeout=30.0):
        return wait_until(condition, what, timeout)

    def arrived(self, sink, acked, timeout=60.0):
        """All of `acked` arrive, none damaged; how often which came."""
        sink.wait_for(acked, timeout)
        receipts = [receipt for receipt in sink.receipts() if receipt.id is not None]
        self.assertEqual([r for r in receipts if r.verdict != "ok"], [], "bodies that changed on their way")
        return collections.Counter(receipt.id for receipt in receipts)

    def exactly_once(self, sink, acked, timeout=60.0):
        """All of `acked` arrive, once each."""
        times = self.arrived(sink, acked, timeout)
        self.assertEqual({id: n for id, n in times.items() if n > 1}, {}, "messages that came twice")


def now():
    """The time as in a receipt."""
    return time.time()


__all__ = ["DOMAIN", "DurabilityTest", "Load", "PeerError", "Sink", "connector", "now", "os", "relay_config",
           "rss_kib", "server", "tool", "wait_until", "FAST_RETRIES", "free_port"]
