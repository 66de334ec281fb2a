#!/usr/bin/env python3
"""What Gatepost costs as work grows: memory a queued message and an idle session, CPU a message
with an empty queue and behind a full one, and a start after a crash.

    benches/scale.py queue [--messages 1000000] [--size 4096] [--cold] [--drain]
    benches/scale.py idle [--sessions 10000] [--plain]

`queue` fills the queue of a next hop that is down, kills the relay with -9, starts it again, and
each time sends fresh mail to a next hop that is up. `--cold` empties the page cache before the
start (root). `idle` opens sessions that wait for a command, over STARTTLS or in clear.

Memory is that of the relay alone, from /proc (VmRSS, and VmHWM at its peak); so is CPU. Needs the
release build with its examples (`cargo build --release --bins --examples`), or `GATEPOST_BIN`.
"""

import argparse
import os
import pathlib
import re
import resource
import socket
import ssl
import statistics
import sys
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("GATEPOST_BIN", str(REPOSITORY / "target/release/gatepost"))
os.environ.setdefault("RUST_LOG", "info")
sys.path.insert(0, str(REPOSITORY / "tests/durability"))
from comparison.tools import cpu_seconds  # noqa: E402

from load import OPEN_LIMITS, Gatepost, Load, Sink, connector, free_port, rss_kib, server, tempfile_dir, wait_until  # noqa: E402

UP, DOWN = "up.test", "down.test"


def config(up, down, receive='tls = "off"', logging="none"):
    """A relay for two next hops, one that is up and one that is down."""
    return f"""{server()}
[[receive_connectors]]
name = "In"
bindings = ["127.0.0.1:{{port}}"]
{receive}
protocol_logging = "{logging}"
accept_any_recipient = true
max_inbound_connections = 20000
connection_timeout = "2h"
connection_inactivity_timeout = "1h"
{OPEN_LIMITS.replace("5000", "20000")}
{connector("Up", UP, up, 'protocol_logging = "none"' + chr(10))}
{connector("Down", DOWN, down, 'protocol_logging = "none"' + chr(10))}
"""


def lines(path):
    """Lines of a file that may be large, and may not be there yet."""
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def mib(kib):
    return f"{kib / 1024:.0f} MiB"


class QueueBench:
    """The relay, and what it is asked to do."""

    def __init__(self, base, options):
        self.base, self.options = base, options
        self.sink = Sink(base / "sink")
        self.down = Sink(base / "down", start=False)
        self.relay = Gatepost(base / "relay", config(self.sink.port, self.down.port))
        self.loads = 0
        self.sent = 0

    def load(self, domain, count, **more):
        self.loads += 1
        options = {"connections": 32, "per_connection": 50, "size": self.options.size} | more
        load = Load(self.relay.port, self.base / f"load{self.loads}", count=count, to=f"a@{domain}",
                    first_id=1 + self.loads * 10_000_000, **options)
        return load.wait(timeout=3600)

    def fresh(self, title):
        """Fresh mail to the next hop that is up: CPU a message, accepted and delivered."""
        runs, count = [], self.options.fresh
        for _ in range(self.options.rounds):
            before = cpu_seconds(self.relay.process.pid)
            report = self.load(UP, count)
            self.sent += count
            wait_until(lambda: lines(self.sink.record) >= self.sent, "fresh mail at the sink", 300)
            runs.append(((cpu_seconds(self.relay.process.pid) - before) / count * 1e6, report["per_second"], report["ms_p99"]))
        us, rate, p99 = (statistics.median(column) for column in zip(*runs))
        print(f"{title:34} {us:6.0f} us CPU a message, {rate:6.0f} accepted/s, p99 to the 250 {p99:6.1f} ms", flush=True)

    def memory(self, title, empty):
        process = self.relay.process
        rss, peak = rss_kib(process), rss_kib(process, "VmHWM")
        each = (rss - empty) * 1024 / self.options.messages
        print(f"{title:34} {mib(rss)} now, {mib(peak)} at the peak; {each:.0f} bytes a queued message", flush=True)

    def fill(self):
        """Queues everything for the next hop that is down."""
        before, began = cpu_seconds(self.relay.process.pid), time.monotonic()
        report = self.load(DOWN, self.options.messages)
        took, used = time.monotonic() - began, cpu_seconds(self.relay.process.pid) - before
        n = self.options.messages
        print(f"{f'{n} messages queued':34} {n / took:.0f}/s, {used / n * 1e6:.0f} us CPU a message,"
              f" p99 to the 250 {report['ms_p99']:.1f} ms, longest {report['ms_max']:.0f} ms", flush=True)

    def crash(self):
        """kill -9, and a new start: when it greets, when it takes mail, when everything is back."""
        self.relay.kill()
        if self.options.cold:
            os.sync()
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        began = time.monotonic()
        self.relay.start()
        greets = time.monotonic() - began
        self.load(UP, 1, connections=1)
        self.sent += 1
        accepts = time.monotonic() - began
        self.relay.spool_read(600)
        back = time.monotonic() - began
        print(f"{'start after kill -9' + (', cold cache' if self.options.cold else ''):34} greets after {greets:.2f} s,"
              f" first 250 after {accepts:.2f} s, all mail back after {back:.2f} s", flush=True)
        for line in self.relay.latest().splitlines():
            if "spool" in line:
                print(f"{'':34} {re.sub(chr(27) + r'.*?m', '', line)}", flush=True)

    def drain(self):
        before, began = cpu_seconds(self.relay.process.pid), time.monotonic()
        self.down.start()
        wait_until(lambda: self.drained(), "the drain", 3600)
        took, used = time.monotonic() - began, cpu_seconds(self.relay.process.pid) - before
        n = self.options.messages
        print(f"{'drained':34} {n / took:.0f}/s, {used / n * 1e6:.0f} us CPU a message", flush=True)

    def drained(self):
        # Counting a million lines takes the CPU that is measured, so it is not done all the time.
        time.sleep(0.5)
        return lines(self.down.record) >= self.options.messages

    def run(self):
        self.fresh("fresh mail, empty queue")
        empty = rss_kib(self.relay.process)
        self.fill()
        self.memory("memory", empty)
        self.fresh("fresh mail behind the queue")
        self.crash()
        self.memory("memory after the start", empty)
        self.fresh("fresh mail behind the queue")
        if self.options.drain:
            self.drain()
        code = self.relay.stop(timeout=120)
        print(f"{'stopped':34} exit code {code}")

    def close(self):
        for process in (self.relay, self.sink, self.down):
            if process.process is not None:
                process.kill()


def queue(options):
    with tempfile_dir() as base:
        bench = QueueBench(base, options)
        try:
            bench.run()
        finally:
            bench.close()


def greet(port, plain, context):
    """A session that has said EHLO, over TLS unless `plain`."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reply(sock)
    ask(sock, b"EHLO idle.test\r\n")
    if not plain:
        ask(sock, b"STARTTLS\r\n")
        sock = context.wrap_socket(sock)
        ask(sock, b"EHLO idle.test\r\n")
    return sock


def ask(sock, line):
    sock.sendall(line)
    return reply(sock)


def reply(sock):
    text = b""
    while not re.search(rb"(^|\n)\d\d\d [^\n]*\n$", text):
        piece = sock.recv(4096)
        if not piece:
            raise ConnectionError(f"closed after {text!r}")
        text += piece
    return text


def idle(options):
    wanted = options.sessions + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with tempfile_dir() as base:
        receive = 'tls = "off"' if options.plain else 'tls = "opportunistic"'
        relay = Gatepost(base / "relay", config(free_port(), free_port(), receive, options.logging))
        try:
            greet(relay.port, options.plain, context).close()
            empty = rss_kib(relay.process)
            before, began = cpu_seconds(relay.process.pid), time.monotonic()
            sessions = []

            def work():
                while len(sessions) < options.sessions:
                    sessions.append(greet(relay.port, options.plain, context))

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            count = len(sessions)
            print(f"{count} sessions in {time.monotonic() - began:.1f} s,"
                  f" {(cpu_seconds(relay.process.pid) - before) / count * 1e6:.0f} us CPU each")
            time.sleep(options.wait)
            rss = rss_kib(relay.process)
            print(f"{'plain' if options.plain else 'TLS'}, protocol_logging = {options.logging}: {mib(rss)} in all,"
                  f" {mib(empty)} before; {(rss - empty) * 1024 / count:.0f} bytes a session", flush=True)
            # They are alive, the first as well as the last.
            for sock in (sessions[0], sessions[-1]):
                assert ask(sock, b"NOOP\r\n").startswith(b"250")
        finally:
            relay.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("queue")
    one.add_argument("--messages", type=int, default=1_000_000)
    one.add_argument("--size", type=int, default=4096)
    one.add_argument("--fresh", type=int, default=20_000)
    one.add_argument("--rounds", type=int, default=3)
    one.add_argument("--cold", action="store_true")
    one.add_argument("--drain", action="store_true")
    two = kinds.add_parser("idle")
    two.add_argument("--sessions", type=int, default=10_000)
    two.add_argument("--plain", action="store_true")
    two.add_argument("--logging", default="verbose")
    two.add_argument("--wait", type=float, default=2)
    options = parser.parse_args()
    {"queue": queue, "idle": idle}[options.kind](options)


if __name__ == "__main__":
    main()
