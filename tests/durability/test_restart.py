"""A restart with a full queue: mail is taken and delivered while what was queued is still being read,
and a kill in the middle of that costs nothing.
"""

import unittest

from load import DOMAIN, DurabilityTest, connector, relay_config, wait_until

# Segments are of 64 MB and all but the last are read after the relay has begun to listen.
COUNT, SIZE = 4000, 60_000
MIDDLE = 3


class Restart(DurabilityTest):
    def filled(self, count=COUNT):
        """A relay with a queue for a host that is down."""
        sink, up = self.sink(start=False), self.sink(name="up")
        relay = self.relay(relay_config(sink.port) + connector("Up", "up.test", up.port))
        load = self.load(relay, count=count, connections=16, per_connection=50, size=SIZE)
        load.wait()
        return relay, sink, up, load.acked()

    def fresh(self, relay, number, domain):
        """One message more; its number, once it is acknowledged."""
        load = self.load(relay, f"fresh{number}", count=1, connections=1, first_id=number, to=f"a@{domain}")
        load.wait()
        return load.acked()

    def test_mail_is_taken_while_the_queue_is_read(self):
        relay, sink, up, queued = self.filled()
        delivered, in_the_middle = [], 0
        # Most starts are still reading by the time the fresh mail is through; which ones is up to the
        # machine. Those that are get killed in the middle.
        for attempt in range(30):
            relay.kill()
            relay.start()
            passed_on = self.fresh(relay, 100_000 + attempt, "up.test")
            delivered += passed_on
            queued += self.fresh(relay, 200_000 + attempt, DOMAIN)
            up.wait_for(passed_on)
            self.assertIn("reading the spool", relay.latest())
            in_the_middle += "spool read" not in relay.latest()
            if in_the_middle == MIDDLE:
                break
        self.tell(f"{in_the_middle} of {attempt + 1} starts had taken and delivered mail before the queue was read")
        self.assertEqual(in_the_middle, MIDDLE)
        relay.kill()
        relay.start()
        self.arrived(up, delivered)
        # Those to the host that is up may not have been known as delivered when the kill came.
        waiting = int(relay.spool_read().split(" ")[0])
        self.assertIn(waiting - len(queued), range(len(delivered) + 1))
        sink.start()
        self.exactly_once(sink, queued)
        self.assertEqual(relay.stop(), 0)
        relay.start()
        self.assertRegex(relay.spool_read(), "^0 messages,")
        self.assertEqual(relay.stop(), 0)

    def test_a_stop_while_the_queue_is_read(self):
        relay, sink, _, queued = self.filled()
        relay.kill()
        for attempt in range(MIDDLE):
            relay.start()
            queued += self.fresh(relay, 100_000 + attempt, DOMAIN)
            self.assertEqual(relay.stop(), 0)
            self.assertIn("stopped", relay.latest())
        relay.start()
        self.assertRegex(relay.spool_read(), f"^{len(queued)} messages,")
        sink.start()
        self.exactly_once(sink, queued)

    def test_a_queue_that_cannot_be_read_ends_the_process(self):
        relay, sink, _, queued = self.filled(count=1500)
        relay.kill()
        # Without its header the first segment is to be set aside, and something is in the way.
        first = self.base / "relay/spool/log/0000000000000001.seg"
        with open(first, "r+b") as file:
            head = file.read(8192)
            file.seek(0)
            file.write(bytes(8192))
        obstacle = first.with_name(first.name + ".bad")
        (obstacle / "full").mkdir(parents=True)
        relay.start(wait=False)
        wait_until(lambda: relay.process.poll() is not None, "its end", 30)
        self.assertEqual(relay.stop(), 1)
        self.assertIn("set segment aside", relay.latest())
        (obstacle / "full").rmdir()
        obstacle.rmdir()
        with open(first, "r+b") as file:
            file.write(head)
        relay.start()
        self.assertRegex(relay.spool_read(), f"^{len(queued)} messages,.* 0 corrupt")
        sink.start()
        self.exactly_once(sink, queued)


if __name__ == "__main__":
    unittest.main()
