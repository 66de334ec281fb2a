#!/usr/bin/env python3
"""Gatepost and other relays on this machine, in the same run: rates, CPU, latency, memory, syncs.

    benches/relay.py [--quick] [--scenarios 1/conn-32,tls-*] [--relays gatepost,postfix] [--rounds 5]

mailload -> relay -> mailsink (examples/). Every body is checked: a message that is lost, repeated
or damaged fails the run. The relays take turns (A B A B ...), so that a change in the machine's
speed hits all of them; the table shows medians, and ratios to Postfix in the same run. Afterwards
each relay does the same once more while memory and syncs are looked at. docs/performance.md
explains the columns, benches/comparison/{relays,others}.py have everybody's settings.

Needs root (Postfix changes users; control groups; a network namespace of its own, so that neither
firewall rules nor other traffic of this machine are measured), the release build (`cargo build
--release --bins --examples`), and the peers (`benches/install.sh`).
"""

import argparse
import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from comparison import measure, relays, scenarios, table  # noqa: E402

from peers import PeerError  # noqa: E402

INSIDE = "GATEPOST_BENCH_INSIDE"


def main():
    options = arguments()
    if os.geteuid() != 0:
        sys.exit("benches/relay.py: has to be run by root")
    if not options.host_network and INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    loopback_up()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    machine = table.machine(tempfile.gettempdir())
    print(f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, {machine['file_system']}; one fdatasync "
          f"for 32 messages of 4 KB allows {machine['grouped_per_second']:.0f} messages/s")
    if machine["file_system"] == "tmpfs":
        sys.exit(f"{tempfile.gettempdir()} is in memory, where a sync costs nothing; set TMPDIR to a disk")
    print(f"medians of {options.rounds} interleaved runs; x is the ratio to Postfix\n{table.HEAD}", flush=True)
    told, bars, began = {"machine": machine, "options": vars(options), "scenarios": {}}, [], time.monotonic()
    for scenario in options.scenarios:
        raw, results, straight = compare(scenario, options)
        told["scenarios"][scenario.name] = {"runs": raw, "medians": results, "no relay": straight}
        print("\n".join(table.rows(scenario, results, straight)), flush=True)
        bars.append(table.bar(scenario, results))
    print("\n".join(["", *filter(None, bars), f"took {(time.monotonic() - began) / 60:.0f} minutes"]))
    if options.json:
        told["options"]["scenarios"] = [scenario.name for scenario in options.scenarios]
        with open(options.json, "w") as file:
            json.dump(told, file, indent=2)


def compare(scenario, options):
    """All relays in one scenario: every run, the medians (or why there are none), and no relay at all."""
    chosen = [relays.RELAYS[name] for name in options.relays]
    reasons = {relay.title: relay.unavailable(scenario) for relay in chosen}
    running = [relay for relay in chosen if not reasons[relay.title]]
    raw = {relay.title: [] for relay in running}
    amount = measure.Options(options.seconds, options.messages, options.burst)
    for turn in range(options.rounds):
        for relay in running:
            progress(f"{scenario.name}: {relay.title}, round {turn + 1} of {options.rounds}")
            raw[relay.title].append(measure.run(relay, scenario, amount))
    results = {relay.title: reasons[relay.title] or table.medians(raw[relay.title]) for relay in chosen}
    if not options.no_audit:
        for relay in running:
            progress(f"{scenario.name}: {relay.title}, memory and syncs")
            audit = measure.run(relay, scenario, amount, audit=True)
            results[relay.title] |= {name: audit[name] for name in ("peak_bytes", "syncs_per_1000") if name in audit}
    straight = None
    if not scenario.burst:
        progress(f"{scenario.name}: no relay")
        straight = measure.straight(scenario, amount)
    progress("")
    return raw, results, straight


def progress(text):
    if sys.stderr.isatty():
        print(f"\r{text:70}\r", end="", file=sys.stderr, flush=True)


def loopback_up():
    """Brings the loopback of a new network namespace up, as `ip link set lo up` does."""
    up, get, set_ = 1, 0x8913, 0x8914
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, get, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1]
        if not flags & up:
            fcntl.ioctl(any_socket, set_, struct.pack("16sH14x", b"lo", flags | up))
    # A thousand clients may connect at once. Linux's own default, which this namespace may lack.
    with contextlib.suppress(OSError), open("/proc/sys/net/core/somaxconn", "w") as limit:
        limit.write("4096")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ",".join(s.name for s in scenarios.SCENARIOS)
    parser.add_argument("--scenarios", help=f"of {names}; a final * stands for any ending")
    parser.add_argument("--relays", default=",".join(relays.DEFAULT), help=f"of {','.join(relays.RELAYS)}")
    parser.add_argument("--rounds", type=int, help="runs of each relay (5)")
    parser.add_argument("--seconds", type=float, help="for how long the source sends in each run (4)")
    parser.add_argument("--messages", type=int, help="send this many instead")
    parser.add_argument("--burst", type=int, help="messages of a burst (20,000)")
    parser.add_argument("--no-audit", action="store_true", help="leave out memory and syncs")
    parser.add_argument("--quick", action="store_true", help="one short round of the scenarios with a goal, some 3 minutes")
    parser.add_argument("--host-network", action="store_true", help="use this machine's own loopback")
    parser.add_argument("--json", metavar="FILE", help="write every run there")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.burst = options.rounds or 1, options.seconds or 1.5, options.burst or 2000
        options.no_audit = True
    options.rounds, options.seconds = options.rounds or 5, options.seconds or 4.0
    quick = scenarios.QUICK if options.quick else [s.name for s in scenarios.SCENARIOS]
    options.scenarios = scenarios.select(options.scenarios.split(",") if options.scenarios else quick)
    options.relays = options.relays.split(",")
    unknown = set(options.relays) - set(relays.RELAYS)
    if unknown:
        parser.error(f"no such relay: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    # So that what was started is ended as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    try:
        main()
    except PeerError as problem:
        sys.exit(f"benches/relay.py: {problem}")
