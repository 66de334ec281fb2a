"""kill -9 under load: what was acknowledged arrives, and repeats stay within their window.

The window (docs/decisions/0002-spool.md): that a message is done with is handed to the kernel with
the next batch, or after 50 ms. From then on it survives the end of the process. So a message may
come twice only if the next hop took it in the last moments before a kill.
"""

import collections
import random
import re
import time
import unittest

from load import DOMAIN, DurabilityTest, now, relay_config

KILLS = 20
# 50 ms by the book; the rest is for a machine whose processors are busy with other things.
WINDOW = 2.0


def late_repeats(receipts, kills, window):
    """How long before a kill each message that came again had first come; and those that had come
    long before, which is a bug."""
    first = {}
    gaps, outside = [], []
    for receipt in receipts:
        if receipt.id not in first:
            first[receipt.id] = receipt.at
            continue
        # The kill that made it come again is the first one after it had come.
        gap = min((kill - first[receipt.id] for kill in kills if kill >= first[receipt.id]), default=None)
        if gap is None or gap > window:
            outside.append((receipt.id, gap))
        else:
            gaps.append(gap)
        first[receipt.id] = receipt.at
    return gaps, outside


class KillUnderLoad(DurabilityTest):
    def check_repeats(self, receipts, kills):
        gaps, outside = late_repeats(receipts, kills, WINDOW)
        self.assertEqual(outside, [], "repeats outside the window")
        if not kills:
            self.assertEqual(gaps, [])
        widest = f"{1000 * max(gaps):.0f} ms before the kill" if gaps else "none"
        self.tell(f"{len(receipts)} receipts, {len(kills)} kills, {len(gaps)} repeats, the widest {widest}")

    def test_twenty_kills(self):
        moments = random.Random(20)
        sink = self.sink()
        relay = self.relay(relay_config(sink.port))
        small = self.load(relay, "small", connections=6, persistent=True, seconds=300)
        chunks = self.load(relay, "chunks", connections=2, persistent=True, seconds=300, size=20000, style="bdat",
                           first_id=10_000_000)
        big = self.load(relay, "big", connections=1, persistent=True, seconds=300, size=1_500_000,
                        first_id=20_000_000, pause=50)
        loads, kills = [small, chunks, big], []
        for _ in range(KILLS):
            before = len(small.acked())
            self.waits_for(lambda: len(small.acked()) > before, "mail that gets through again")
            time.sleep(moments.uniform(0, 0.5))  # the moment of the kill is what is random
            relay.kill()
            kills.append(now())
            relay.start(wait=False)
        before = len(small.acked())
        self.waits_for(lambda: len(small.acked()) > before, "mail after the last kill")
        for load in loads:
            load.end()
        acked = [id for load in loads for id in load.acked()]
        self.assertTrue(all(load.acked() for load in loads), "every kind of message got through")
        self.arrived(sink, acked, timeout=120)
        relay.stop()
        # A message whose client was ended before it heard the 250 may still be there: it comes now.
        come = len(sink.receipts())
        relay.start()
        waiting = int(re.search(r"(\d+) messages,", relay.spool_read())[1])
        self.waits_for(lambda: len(sink.receipts()) >= come + waiting, f"{waiting} messages nobody was told of")
        relay.stop()
        # Nothing is left over that would come again at the next start.
        relay.start()
        self.assertRegex(relay.spool_read(), "^0 messages,")
        relay.stop()
        self.check_repeats([r for r in sink.receipts() if r.id is not None], kills)

    def test_a_queue_for_a_host_that_is_down_survives(self):
        count = 10_000
        sink = self.sink(start=False)
        relay = self.relay(relay_config(sink.port))
        report = self.load(relay, count=count, connections=32, per_connection=100).wait()
        self.tell(f"{report['per_second']:.0f} accepted a second, {report['ms_median']:.1f} ms the median")
        relay.kill()
        started = time.monotonic()
        relay.start()
        greeted = time.monotonic() - started
        self.assertIn(f"{count} messages", relay.spool_read())
        self.tell(f"greeted {greeted:.2f} s after a kill, {count} messages read after {time.monotonic() - started:.2f} s")
        started = time.monotonic()
        sink.start()
        self.exactly_once(sink, range(1, count + 1), timeout=90)
        self.tell(f"{count} delivered in {time.monotonic() - started:.1f} s")
        self.assertEqual(relay.stop(), 0)

    def test_each_recipient_is_settled_once(self):
        """Of three recipients one is taken, one is put off once, and one is refused: under kills
        each sender hears of the refusal, and nobody's mail is lost."""
        moments = random.Random(9)
        sink = self.sink()
        relay = self.relay(relay_config(sink.port))
        load = self.load(relay, connections=4, persistent=True, seconds=300, from_="s{id}@fabrikam.test",
                         to=[f"ok{{id}}@{DOMAIN}", f"defer1-{{id}}@{DOMAIN}", f"reject{{id}}@{DOMAIN}"], size=600)
        kills = []
        for _ in range(8):
            before = len(load.acked())
            self.waits_for(lambda: len(load.acked()) > before, "mail that gets through again")
            time.sleep(moments.uniform(0.05, 0.6))
            relay.kill()
            kills.append(now())
            relay.start(wait=False)
        load.end()
        acked = load.acked()
        wanted = {name for id in acked
                  for name in (f"ok{id}@{DOMAIN}", f"defer1-{id}@{DOMAIN}", f"s{id}@fabrikam.test")}

        def complete():
            return wanted <= {name for receipt in sink.receipts() for name in receipt.recipients}

        try:
            self.waits_for(complete, "every recipient and every report", 60)
        except Exception:
            got = {name for receipt in sink.receipts() for name in receipt.recipients}
            self.fail(f"{len(wanted - got)} of {len(wanted)} missing: {sorted(wanted - got)[:6]}")
        relay.stop()
        # Each recipient counts for itself; a report has no number but is somebody's only mail.
        by_recipient = [receipt._replace(id=name) for receipt in sink.receipts() for name in receipt.recipients]
        self.check_repeats(by_recipient, kills)
        per_kill = collections.Counter(r.id for r in by_recipient)
        self.assertLessEqual(max(per_kill.values()), 1 + len(kills))


if __name__ == "__main__":
    unittest.main()
