"""Disks that are full or damaged, and a stderr that nobody reads."""

import ctypes
import os
import pathlib
import random
import re
import subprocess
import unittest

from load import DOMAIN, DurabilityTest, relay_config, wait_until
from gatepost import BINARY, Dialogue
from peers import wait_port

CLONE_NEWNS = 0x00020000


def private_mounts():
    """Moves this process to a mount namespace of its own; why it cannot, or None."""
    if os.geteuid() != 0:
        return "mounting a small file system needs root"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        return f"no mount namespace: {os.strerror(ctypes.get_errno())}"
    done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True)
    return done.stderr.strip() or None


class FullDisk(DurabilityTest):
    @classmethod
    def setUpClass(cls):
        why = private_mounts()
        if why:
            raise unittest.SkipTest(why)

    def small_disk(self, path, size):
        path.mkdir(parents=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", path], capture_output=True,
                              text=True)
        if done.returncode:
            self.skipTest(f"cannot mount a tmpfs: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", path])

    def refusal(self, relay, size):
        """What a client with a message of this size is told in the end."""
        with Dialogue(relay.port) as client:
            client.ask("EHLO full.test")
            client.ask("MAIL FROM:<a@fabrikam.test>")
            client.ask(f"RCPT TO:<b@{DOMAIN}>")
            client.ask("DATA")
            client.send(b"Subject: too much\r\n\r\n" + b"0123456789abcdef\r\n" * (size // 18) + b".\r\n")
            return client.reply(), client.ask("NOOP")

    def test_the_spool_is_full_and_recovers(self):
        # Two segments of 64 MB and some room: neither a third nor a large message fits.
        self.small_disk(self.base / "relay/spool", "140m")
        sink = self.sink(start=False)
        relay = self.relay(relay_config(sink.port))
        load = self.load(relay, connections=4, size=900_000, persistent=True, seconds=300)
        wait_until(lambda: "disk is full" in relay.diagnostics(), "a full disk", 60)
        load.end()
        before = load.acked()
        self.assertGreater(len(before), 50)
        full = "452 4.3.1 Insufficient system resources"
        self.assertEqual(self.refusal(relay, 900_000), (full, "250 2.0.0 OK"))
        self.assertEqual(self.refusal(relay, 20_000_000), (full, "250 2.0.0 OK"), "a message in a file of its own")
        self.assertFalse(any((self.base / "relay/spool/big").iterdir()), "no half message keeps space")

        # A crash on a full disk: it starts all the same, and mail can leave.
        relay.kill()
        relay.start()
        sink.start()
        self.exactly_once(sink, before)
        after = self.load(relay, "after", connections=4, size=900_000, count=100, first_id=1_000_000, persistent=True)
        after.wait()
        self.exactly_once(sink, before + after.acked())
        self.assertEqual(relay.stop(), 0)

    def test_a_full_log_disk_stops_no_mail(self):
        self.small_disk(self.base / "relay/log", "64k")
        sink = self.sink()
        relay = self.relay(relay_config(sink.port))
        load = self.load(relay, count=1000, size=500, per_connection=5)
        self.assertEqual(load.wait()["refused"], {})
        self.exactly_once(sink, load.acked())
        relay.wait_diagnostics("the log cannot be written")
        self.assertEqual(relay.stop(), 0)


class Stderr(DurabilityTest):
    def run_with(self, relay, stderr):
        relay.stderr = stderr
        relay.process = subprocess.Popen([BINARY, "run", "-c", relay.config], stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=stderr)
        wait_port(relay.port, timeout=30)

    def deliver(self, relay, sink):
        load = self.load(relay, count=100, per_connection=5, size=500, to=[f"a{{id}}@{DOMAIN}", "reject@x.test"])
        self.assertEqual(load.wait()["refused"], {})
        wait_until(lambda: len(sink.receipts()) >= 200, "messages and reports", 30)
        self.exactly_once(sink, load.acked())
        self.assertEqual(relay.stop(), 0)

    def test_it_is_on_a_full_disk(self):
        sink = self.sink()
        relay = self.relay(relay_config(sink.port), start=False)
        self.run_with(relay, open("/dev/full", "wb"))
        self.deliver(relay, sink)

    def test_its_reader_went_away(self):
        sink = self.sink()
        relay = self.relay(relay_config(sink.port), start=False)
        reader, writer = os.pipe()
        os.close(reader)
        self.run_with(relay, os.fdopen(writer, "wb"))
        self.deliver(relay, sink)


class DamagedSpool(DurabilityTest):
    COUNT = 1000

    def stopped_with_mail(self):
        """A relay that was stopped with mail for a host that is down, and its spool's segments."""
        sink = self.sink(start=False)
        relay = self.relay(relay_config(sink.port))
        self.load(relay, count=self.COUNT, connections=16, size=3000).wait()
        self.assertEqual(relay.stop(), 0)
        return relay, sink, sorted((self.base / "relay/spool/log").glob("*.seg"))

    def report(self, relay):
        """`messages` and `corrupt` as the last start counted them."""
        line = relay.spool_read()
        return tuple(int(re.search(rf"(\d+) {word}", line).group(1)) for word in ("messages", "corrupt"))

    def arrived_but(self, sink, most):
        """Waits until all but `most` messages have come; how many have not."""
        wait_until(lambda: len(sink.ids()) >= self.COUNT - most, f"all but {most} messages", 60)
        self.assertEqual({r.verdict for r in sink.receipts()}, {"ok"}, "nothing damaged goes out")
        return self.COUNT - len(sink.ids())

    def test_flipped_bytes(self):
        relay, sink, segments = self.stopped_with_mail()
        flips, dice = 20, random.Random(6)
        path = max(segments, key=lambda path: len(path.read_bytes().rstrip(b"\0")))
        data = bytearray(path.read_bytes())
        used = len(data.rstrip(b"\0"))
        self.assertGreater(used, self.COUNT * 3000)
        for _ in range(flips):
            data[dice.randrange(8192, used)] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        sink.start()
        relay.start()
        messages, corrupt = self.report(relay)
        self.assertGreaterEqual(messages, self.COUNT - flips)
        self.assertGreater(corrupt, 0)
        missing = self.arrived_but(sink, flips)
        self.tell(f"{flips} flips: {corrupt} corrupt, {missing} not delivered, of {self.COUNT}")
        self.assertEqual(relay.stop(), 0)

    def test_a_page_of_zeros_and_a_cut(self):
        relay, sink, segments = self.stopped_with_mail()
        path = max(segments, key=lambda path: len(path.read_bytes().rstrip(b"\0")))
        data = bytearray(path.read_bytes())
        used = len(data.rstrip(b"\0"))
        data[used // 2:used // 2 + 4096] = bytes(4096)
        path.write_bytes(data[:used - 10_000])
        sink.start()
        relay.start()
        _, corrupt = self.report(relay)
        self.assertGreater(corrupt, 0)
        self.arrived_but(sink, 12)
        self.assertEqual(relay.stop(), 0)

    def test_a_segment_of_noise(self):
        """It is set aside for a person, and the relay is in service."""
        relay, sink, segments = self.stopped_with_mail()
        noise = random.Random(7).randbytes(300_000)
        (self.base / "relay/spool/log/00000000000000ff.seg").write_bytes(noise)
        sink.start()
        relay.start()
        self.assertEqual(self.arrived_but(sink, 0), 0)
        self.assertEqual([p.name for p in pathlib.Path(self.base / "relay/spool/log").glob("*.bad")],
                         ["00000000000000ff.seg.bad"])
        self.assertIn("set aside", relay.diagnostics())


if __name__ == "__main__":
    unittest.main()
