"""What is printed."""

import os
import pathlib
import platform
import statistics
import time

# By scenario: at least so many times Postfix's rate, at most this part of its CPU a message.
BARS = {
    "1/conn-32": (10, 15),
    "50/conn-32": (20, 25),
    "tls-1/conn": (8, 15),
    "tls-50/conn": (15, 20),
    "1MB": (4, 8),
    "burst": (10, 15),
}
HEAD = (f"{'scenario':20} {'relay':16} {'accepted/s':>11} {'x':>6} {'delivered/s':>11} {'x':>6} {'CPU us/msg':>11} {'x':>6}"
        f" {'p50 ms':>7} {'p99 ms':>8} {'PSS MiB':>8} {'syncs/1000':>10}")


def medians(runs):
    """The median of each figure that is a number."""
    return {name: statistics.median(run[name] for run in runs)
            for name, value in runs[0].items() if isinstance(value, int | float)}


def rows(scenario, results, straight):
    """Lines for a scenario: `results` holds by relay its medians, or why there are none."""
    postfix = results.get("Postfix")
    lines = []
    for title, figures in results.items():
        if isinstance(figures, str):
            lines.append(f"{scenario.name:20} {title:16} n/a: {figures}")
            continue
        lines.append(_row(scenario.name, title, figures, postfix if isinstance(postfix, dict) else None))
        if "drain_cpu" in figures:
            lines.append(f"{'':20} {'':16} draining them: {figures['drain_cpu'] * 1e6:.0f} us CPU a message")
        if scenario.round_trip:
            lines.append(f"{'':20} {'':16} {figures['round_trips']:.2f} round trips a message, over "
                         f"{figures['connections_out']:.0f} connections")
    if straight:
        lines.append(_row(scenario.name, "no relay", straight, None))
    return lines


def _row(scenario, title, figures, postfix):
    def times(name, digits=1):
        return f"{figures[name] / postfix[name]:.{digits}f}" if postfix and postfix.get(name) else ""

    def number(name, factor=1.0, digits=0):
        return f"{figures[name] * factor:.{digits}f}" if name in figures else ""

    return (f"{scenario:20} {title:16} {number('accepted'):>11} {times('accepted'):>6} {number('delivered'):>11}"
            f" {times('delivered'):>6} {number('cpu', 1e6):>11} {times('cpu', 3):>6} {number('p50', 1, 1):>7}"
            f" {number('p99', 1, 1):>8} {number('peak_bytes', 1 / 2**20):>8} {number('syncs_per_1000'):>10}")


def bar(scenario, results):
    """Whether the bars of a scenario hold, as a line; None where there is none or no Postfix."""
    postfix, ours = results.get("Postfix"), results.get("Gatepost", results.get("Gatepost, quiet"))
    if not isinstance(postfix, dict) or not isinstance(ours, dict):
        return None
    said = []
    if scenario.name in BARS:
        rate, cpu = BARS[scenario.name]
        name = "accepted" if scenario.burst else "delivered"
        said.append(_holds(f"{name} {ours[name] / postfix[name]:.1f} times Postfix, at least {rate}",
                           ours[name] >= rate * postfix[name]))
        said.append(_holds(f"CPU 1/{postfix['cpu'] / ours['cpu']:.1f}, at most 1/{cpu}", ours["cpu"] * cpu <= postfix["cpu"]))
    if scenario.burst:
        said.append(_holds(f"p99 {ours['p99']:.1f} ms, below {postfix['p99']:.1f}", ours["p99"] < postfix["p99"]))
        said.append(_holds(f"drained {ours['delivered'] / postfix['delivered']:.1f} times Postfix, at least 10",
                           ours["delivered"] >= 10 * postfix["delivered"]))
        said.append(_holds("drain at least as fast as accept", ours["delivered"] >= ours["accepted"]))
    if scenario.round_trip:
        said.append(_holds(f"{ours['round_trips']:.2f} round trips a message, one", ours["round_trips"] <= 1.05))
    for other in ("OpenSMTPD", "Exim"):
        if isinstance(results.get(other), dict):
            ahead = all(ours[name] > results[other][name] for name in ("accepted", "delivered"))
            said.append(_holds(f"ahead of {other}", ahead and ours["cpu"] < results[other]["cpu"]))
    return f"{scenario.name:20} bars: " + "; ".join(said) if said else None


def _holds(what, holds):
    return f"{what}: {'holds' if holds else 'DOES NOT HOLD'}"


def machine(directory):
    """The machine in some words, and what its disk allows."""
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    kind = "?"
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if str(directory).startswith(before.split()[4]):
            kind = after.split()[0]
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "file_system": kind,
            "grouped_per_second": grouped_syncs(directory)}


def grouped_syncs(directory, group=32, size=4700, seconds=1.0):
    """Messages a second that could be durable if every `group` of them shared one fdatasync.

    4,700 bytes are a 4 KB body with its header and what a queue needs to know.
    """
    path, data = pathlib.Path(directory) / "syncs", b"m" * (group * size)
    with open(path, "wb") as file:
        began, count = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            file.write(data)
            file.flush()
            os.fdatasync(file.fileno())
            count += group
        took = time.monotonic() - began
    path.unlink()
    return count / took
