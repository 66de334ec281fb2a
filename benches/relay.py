#!/usr/bin/env python3
"""Gatepost and Postfix as relays, on this machine, in the same run.

    benches/relay.py [--messages 2000] [--rounds 3] [--sessions 1,32,200] [--json]

smtp-source -> relay -> smtp-sink, 4 KB messages in clear, one a connection and fifty a connection.
Both relays queue on the same disk and answer 250 only when the message is on it. They take turns
(A B A B ...), so that a change in the machine's speed hits both; the table shows medians, CPU per
message first, because wall time on a shared machine says less. CPU is that of all processes of the
relay, from /proc; the sink and the source are not in it.

Postfix runs with its defaults but for what a fair relay needs: no connection limit per client,
200 processes a service, 50 connections to the sink, no TLS, no name look-ups.

Needs root (for Postfix), the release build (`cargo build --release`) and `tests/peers/install.sh`.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/peers"))
import gatepost  # noqa: E402
from peers import REPOSITORY, Postfix, free_port, tempfile_dir, wait_until  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
SIZE = 4096


def relay_cpu(pid):
    """CPU seconds used so far by a process, its living descendants, and the dead ones it waited for."""
    parents, times = {}, {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
        # utime, stime, and those of children waited for
        times[int(entry.name)] = sum(int(f) for f in fields[11:15])
    family = {pid}
    grown = True
    while grown:
        more = {p for p, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    return sum(times.get(p, 0) for p in family) / TICK


class Sink:
    """smtp-sink with its running counter."""

    def __init__(self, directory):
        self.port = free_port()
        self.output = open(directory / "sink.log", "w+b")
        self.process = subprocess.Popen(
            ["smtp-sink", "-u", "nobody", "-c", f"127.0.0.1:{self.port}", "1024"], stdout=self.output, stderr=subprocess.STDOUT
        )
        gatepost.wait_port(self.port)

    def count(self):
        """Messages received so far."""
        self.output.seek(0, os.SEEK_END)
        self.output.seek(max(0, self.output.tell() - 4096))
        found = re.findall(rb"mesg=(\d+)", self.output.read())
        return int(found[-1]) if found else 0

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.output.close()


def start_gatepost(directory, sink):
    config = f"""{gatepost.server("relay.test")}
[[receive_connectors]]
name = "In"
bindings = ["127.0.0.1:{{port}}"]
tls = "off"
protocol_logging = "none"
accept_any_recipient = true
{gatepost.OPEN_LIMITS}
[[send_connectors]]
name = "Out"
address_spaces = ["*"]
smart_hosts = ["127.0.0.1:{sink.port}"]
tls = "off"
protocol_logging = "none"
"""
    gatepost.BINARY = pathlib.Path(os.environ.get("GATEPOST_BIN", REPOSITORY / "target/release/gatepost"))
    os.environ.setdefault("RUST_LOG", "warn")
    relay = gatepost.Gatepost(directory / "gatepost", config)
    return relay, relay.process.pid


def start_postfix(directory, sink):
    options = {
        "relayhost": f"[127.0.0.1]:{sink.port}",
        "default_process_limit": "200",
        "smtp_destination_concurrency_limit": "50",
        "default_destination_concurrency_limit": "50",
        "smtpd_recipient_restrictions": "permit_mynetworks,reject",
    }
    relay = Postfix(directory / "postfix", free_port(), [], options=options)
    relay.start()
    return relay, relay.process.pid


RELAYS = {"gatepost": start_gatepost, "postfix": start_postfix}


def measure(start, sessions, per_connection, messages):
    """One run: seconds to accept all, seconds to deliver all, CPU seconds."""
    with tempfile_dir() as directory:
        sink = Sink(directory)
        relay, pid = start(directory, sink)
        try:
            load(relay.port, sessions, per_connection, min(messages, 50))
            done = sink_reaches(sink, min(messages, 50) if per_connection == 1 else None)
            before, cpu = done, relay_cpu(pid)
            began = time.monotonic()
            sent = load(relay.port, sessions, per_connection, messages)
            accepted = time.monotonic() - began
            wait_until(lambda: sink.count() >= before + sent, f"{sent} messages at the sink", timeout=600)
            delivered = time.monotonic() - began
            return {"accepted": sent / accepted, "delivered": sent / delivered, "cpu": (relay_cpu(pid) - cpu) / sent}
        finally:
            relay.stop()
            sink.stop()


def sink_reaches(sink, expected):
    """Waits until the warm-up is through: the count has stopped growing."""
    last = -1
    while sink.count() != last or (expected and last < expected):
        last = sink.count()
        time.sleep(0.5)
    return last


def load(port, sessions, per_connection, messages):
    """Sends at least `messages`; how many it were."""
    sent = 0
    while sent < messages:
        batch = messages if per_connection == 1 else sessions * per_connection
        command = ["smtp-source", "-s", str(sessions), "-m", str(batch), "-l", str(SIZE), "-f", "a@source.test",
                   "-t", "b@sink.test", "-c"]
        if per_connection > 1:
            command.append("-d")
        subprocess.run([*command, f"127.0.0.1:{port}"], check=True, stdout=subprocess.DEVNULL)
        sent += batch
    return sent


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--messages", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--sessions", default="1,32,200")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    rows = []
    for per_connection in (1, 50):
        for sessions in map(int, options.sessions.split(",")):
            runs = {name: [] for name in RELAYS}
            for _ in range(options.rounds):
                for name, start in RELAYS.items():
                    runs[name].append(measure(start, sessions, per_connection, options.messages))
            rows.append(row(per_connection, sessions, runs))
            if not options.json:
                show(rows)
    if options.json:
        print(json.dumps(rows, indent=2))


def row(per_connection, sessions, runs):
    medians = {
        name: {figure: statistics.median(run[figure] for run in list_) for figure in list_[0]}
        for name, list_ in runs.items()
    }
    return {"per_connection": per_connection, "sessions": sessions, **medians}


def show(rows):
    """Prints the newest row, and the head before the first."""
    if len(rows) == 1:
        print(f"{'msgs/conn':>9} {'sessions':>8} | {'CPU us/message':^25} | {'accepted/s':^23} | {'delivered/s':^23}")
        print(f"{'':>9} {'':>8} | {'gatepost':>8} {'postfix':>8} {'ratio':>7} |"
              + f" {'gatepost':>8} {'postfix':>7} {'ratio':>6} |" * 2)
    r = rows[-1]
    g, p = r["gatepost"], r["postfix"]
    rate = lambda f: f"{g[f]:8.0f} {p[f]:7.0f} {g[f] / p[f]:5.1f}x |"  # noqa: E731
    print(f"{r['per_connection']:>9} {r['sessions']:>8} | {g['cpu'] * 1e6:8.0f} {p['cpu'] * 1e6:8.0f}"
          f" {g['cpu'] / p['cpu']:6.3f}x | {rate('accepted')} {rate('delivered')}", flush=True)


if __name__ == "__main__":
    main()
