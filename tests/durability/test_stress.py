"""Many clients, slow clients, large messages, and clients that talk nonsense."""

import random
import resource
import socket
import threading
import time
import unittest

from gatepost import Dialogue
from load import DOMAIN, DurabilityTest, relay_config, rss_kib, wait_until


def many_files():
    """Lets this process, and those it starts, have as many files open as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Crowd(DurabilityTest):
    def test_a_thousand_idle_and_two_hundred_at_work(self):
        if many_files() < 4000:
            self.skipTest("fewer than 4,000 files may be open here")
        sink = self.sink()
        relay = self.relay(relay_config(sink.port, receive="max_inbound_connections = 1100\n"))
        before = rss_kib(relay.process)
        idle = [Dialogue(relay.port, timeout=30) for _ in range(1000)]
        self.addCleanup(lambda: [client.close() for client in idle])
        self.assertEqual({client.banner[:4] for client in idle}, {"220 "})
        settled = rss_kib(relay.process)
        load = self.load(relay, connections=200, per_connection=5, count=2000, persistent=True)
        report = load.wait()
        self.assertEqual(set(report["refused"]), {"421"}, "beyond the limit, and only there, 421")
        self.exactly_once(sink, load.acked())
        # Those who waited were served all the while.
        self.assertEqual({client.ask("NOOP")[:9] for client in idle}, {"250 2.0.0"})
        with_all = rss_kib(relay.process, "VmHWM")
        self.tell(f"RSS {before // 1024} MiB, {settled // 1024} with 1,000 idle sessions, at most {with_all // 1024}")
        self.assertLess(with_all - before, 150 * 1024, "KiB for 1,100 sessions")

    def test_the_limit_has_its_words(self):
        sink = self.sink()
        relay = self.relay(relay_config(sink.port, receive="max_inbound_connections = 3\n"))
        inside = []
        # The session that saw whether the relay is up may not have given its place back yet.
        wait_until(lambda: inside.append(Dialogue(relay.port)) or inside[-1].banner.startswith("220"), "a place")
        inside = inside[-1:] + [Dialogue(relay.port) for _ in range(2)]
        self.assertEqual({client.banner[:3] for client in inside}, {"220"})
        with Dialogue(relay.port) as outside:
            self.assertEqual(outside.banner, "421 4.3.2 The maximum number of concurrent connections has exceeded a "
                                             "limit, closing transmission channel")
            self.assertEqual(outside.reply(), "")
        inside.pop().close()
        wait_until(lambda: self.greeting(relay) == "220", "a free place")
        for client in inside:
            client.close()

    def greeting(self, relay):
        with Dialogue(relay.port) as client:
            return client.banner[:3]

    def test_a_byte_at_a_time(self):
        """Clients that are never silent for long, and never get anywhere, are cut off."""
        sink = self.sink()
        limits = 'connection_timeout = "4s"\nconnection_inactivity_timeout = "3s"\n'
        relay = self.relay(relay_config(sink.port, receive=limits))
        dripping = []
        for n in range(40):
            client = Dialogue(relay.port)
            if n % 2:
                for command in ("EHLO slow.test", "MAIL FROM:<a@slow.test>", f"RCPT TO:<b@{DOMAIN}>", "DATA"):
                    self.assertIn(client.ask(command)[0], "23")
            client.socket.setblocking(False)
            dripping.append(client)
        load = self.load(relay, seconds=300, persistent=True, connections=2)
        last_words = {}
        deadline = time.monotonic() + 60
        while len(last_words) < len(dripping):
            self.assertLess(time.monotonic(), deadline, "slow clients are still connected")
            for n, client in enumerate(dripping):
                if n in last_words:
                    continue
                try:
                    client.socket.send(b"x")
                    last_words[n] = client.socket.recv(1000)
                except BlockingIOError:
                    pass
                except ConnectionError:
                    last_words[n] = b"reset"
            time.sleep(0.1)
        for words in last_words.values():
            self.assertIn(words, (b"421 4.4.1 Connection timed out\r\n", b"reset"))
        self.assertIn(b"421 4.4.1 Connection timed out\r\n", last_words.values())
        load.end()
        self.assertGreater(len(load.acked()), 10)
        sink.wait_for(load.acked())
        for client in dripping:
            client.close()


class LargeMessages(DurabilityTest):
    MEGABYTES = 30

    def check(self, style, offer, first_id):
        sink = self.sink("--offer", offer, name=f"sink-{style}")
        relay = self.relay(relay_config(sink.port), name=f"relay-{style}")
        before = rss_kib(relay.process)
        load = self.load(relay, f"load-{style}", count=5, connections=5, size=self.MEGABYTES * 1_000_000, style=style,
                         first_id=first_id)
        load.wait()
        self.exactly_once(sink, load.acked())
        grown = (rss_kib(relay.process, "VmHWM") - before) // 1024
        self.tell(f"5 messages of {self.MEGABYTES} MB by {style}: RSS grew by {grown} MiB")
        self.assertLess(grown, 100, "MiB for 150 MB of mail at once")
        self.assertEqual(relay.stop(), 0)
        self.assertEqual(list((self.base / f"relay-{style}/spool/big").iterdir()), [], "files of delivered messages")

    def test_by_data(self):
        self.check("pipeline", "PIPELINING,8BITMIME,SIZE", 1)

    def test_by_bdat(self):
        self.check("bdat", "PIPELINING,8BITMIME,SIZE,CHUNKING", 100)


class Nonsense(DurabilityTest):
    SECONDS = 5
    STARTS = [b"EHLO x\r\n", b"HELO\r\n", b"MAIL FROM:<", b"MAIL FROM:<a@b.test> SIZE=99999999999999999999\r\n",
              b"RCPT TO:<\"\\", b"DATA\r\n", b"BDAT 18446744073709551615\r\n", b"BDAT 18446744073709551616 LAST\r\n",
              b"BDAT -1\r\n", b"BDAT 5 LAST\r\nab", b"STARTTLS\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"AUTH PLAIN =\r\n",
              b"\r\n.\r\n", b"\n.\n", b"\0" * 600, b"VRFY " + b"v" * 3000, b"RSET\r\nRSET\rRSET\n", b"\xff\xfe\r\n",
              b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@contoso.test>\r\nDATA\r\n",
              b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@contoso.test>\r\nBDAT 3\r\nabcBDAT 0 LAST\r\n"]

    def babble(self, port, seed, until, errors):
        dice = random.Random(seed)
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", port), 10) as client:
                    client.settimeout(1)
                    for _ in range(dice.randrange(1, 8)):
                        piece = dice.choice(self.STARTS) if dice.random() < 0.7 else dice.randbytes(dice.randrange(1, 5000))
                        client.sendall(piece[:dice.randrange(1, len(piece) + 1)] if dice.random() < 0.3 else piece)
                        if dice.random() < 0.3:
                            client.recv(4096)
            except ConnectionRefusedError as error:
                errors.append(error)
                return
            except OSError:
                pass  # it may well hang up on such a client

    def test_fifty_babblers(self):
        sink = self.sink()
        relay = self.relay(relay_config(sink.port))
        until, errors = time.monotonic() + self.SECONDS, []
        threads = [threading.Thread(target=self.babble, args=(relay.port, n, until, errors)) for n in range(50)]
        load = self.load(relay, seconds=self.SECONDS, connections=2, per_connection=3)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])
        self.assertEqual(load.wait()["refused"], {}, "nonsense disturbs nobody else")
        self.assertGreater(len(load.acked()), 10)
        sink.wait_for(load.acked())
        self.assertIsNone(relay.process.poll())
        self.assertEqual(relay.stop(), 0)


if __name__ == "__main__":
    unittest.main()
