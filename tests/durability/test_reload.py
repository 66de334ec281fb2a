"""Changes of configuration, stops, and next hops that say nothing: no message is lost or repeated."""

import itertools
import signal
import unittest

from load import DOMAIN, FAST_RETRIES, DurabilityTest, connector, free_port, relay_config, server, wait_until
from gatepost import OPEN_LIMITS


def routed(*connectors):
    """A relay with these send connectors."""
    return (f'{server()}[[accepted_domains]]\ndomain = "{DOMAIN}"\n'
            f'[[receive_connectors]]\nname = "Load"\nbindings = ["127.0.0.1:{{port}}"]\ntls = "off"\n'
            f'accept_any_recipient = true\n{OPEN_LIMITS}{"".join(connectors)}{FAST_RETRIES}')


class Reload(DurabilityTest):
    def test_a_storm_of_reloads(self):
        """Under load the route goes to a dead host, to nowhere, and to a good host, over and over.
        What is left in a queue of an old configuration would never arrive."""
        sink, dead = self.sink(), free_port()
        configs = [relay_config(dead), routed(connector("Other", "example.test", dead)), relay_config(sink.port)]
        relay = self.relay(configs[0])
        load = self.load(relay, count=4000, connections=8)
        for reloads in itertools.count(1):
            relay.write(configs[reloads % 3])
            relay.reload()
            if load.process.poll() is not None and reloads % 3 == 2:
                break
        report = load.wait()
        self.assertEqual(report["refused"], {}, "a reload disturbs no session")
        self.exactly_once(sink, load.acked())
        self.tell(f"{reloads} reloads under {report['acked']} messages")
        self.assertGreater(reloads, 3)
        self.assertEqual(relay.stop(), 0)

    def test_signals_without_end(self):
        """SIGHUP as fast as it goes while mail is delivered and put off."""
        sink = self.sink()
        relay = self.relay(relay_config(sink.port))
        load = self.load(relay, count=2000, connections=8, size=1000, to=[f"defer1-{{id}}@{DOMAIN}", f"b{{id}}@{DOMAIN}"])
        while load.process.poll() is None:
            relay.process.send_signal(signal.SIGHUP)
        load.wait()
        wanted = {name for id in load.acked() for name in (f"defer1-{id}@{DOMAIN}", f"b{id}@{DOMAIN}")}

        def names():
            return [name for receipt in sink.receipts() for name in receipt.recipients]

        wait_until(lambda: wanted <= set(names()), "all recipients", 60)
        self.assertEqual(relay.stop(), 0)
        self.assertEqual(len(names()), len(wanted), "recipients served once each")

    def test_a_host_that_never_greets_is_left_for_a_better_one(self):
        silent, sink = self.sink("--silent", name="silent"), self.sink()
        relay = self.relay(relay_config(silent.port))
        load = self.load(relay, count=50, connections=2)
        load.wait()
        self.assertEqual(sink.receipts(), [])
        relay.write(relay_config(sink.port))
        relay.reload()
        # The silent host would have been waited for for five minutes.
        self.exactly_once(sink, load.acked(), timeout=30)

    def test_stops_under_load(self):
        """SIGTERM, unlike a kill, has no window: what was delivered is never delivered again."""
        sink = self.sink()
        relay = self.relay(relay_config(sink.port))
        load = self.load(relay, connections=8, persistent=True, seconds=300)
        for _ in range(5):
            before = len(load.acked())
            wait_until(lambda: len(load.acked()) > before + 50, "mail that gets through", 30)
            self.assertEqual(relay.stop(), 0)
            relay.start(wait=False)
        before = len(load.acked())
        wait_until(lambda: len(load.acked()) > before, "mail after the last start", 30)
        load.end()
        self.exactly_once(sink, load.acked())


class SilentNextHop(DurabilityTest):
    def test_it_delays_no_other(self):
        silent, sink = self.sink("--silent", name="silent"), self.sink()
        relay = self.relay(routed(connector("Silent", "*", silent.port), connector("Good", DOMAIN, sink.port)))
        both = self.load(relay, "both", count=200, connections=4, to=["a@silent.test", f"b@{DOMAIN}"])
        both.wait()
        good = self.load(relay, "good", count=1000, connections=4, first_id=1000)
        good.wait()
        self.exactly_once(sink, both.acked() + good.acked(), timeout=30)
        self.assertEqual(silent.receipts(), [])

        # Nor does it hold up the end of the process.
        self.assertEqual(relay.stop(timeout=15), 0)
        relay.start()
        self.assertIn("200 messages", relay.spool_read())


if __name__ == "__main__":
    unittest.main()
