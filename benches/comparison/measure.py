"""Runs: one relay, one scenario, once."""

import contextlib
import os
import threading
import time

from peers import PeerError, make_ca, tempfile_dir

from . import account
from .tools import Sink, load

# No relay is waited for longer than this to hand on what it took.
PATIENCE = 600.0


class Options:
    """How much a run sends: for so many seconds, or so many messages; and how large a burst is."""

    def __init__(self, seconds=4.0, messages=None, burst=None):
        self.seconds, self.messages, self.burst = seconds, messages, burst


def run(relay, scenario, options, audit=False):
    """The figures of one run as a dictionary, or PeerError if a message was lost, repeated or damaged.

    With `audit` memory and syncs are looked at, which slows the relay down, so that the figures are
    only those.
    """
    # What others left to be written is not this relay's.
    os.sync()
    with tempfile_dir() as directory:
        certificate = make_ca(directory / "ca").issue("relay.test") if scenario.tls else None
        sink, group, server = Sink(*scenario.sink_options()), account.Group(), None
        tracer = account.sync_tracer(directory / "syncs") if audit else None
        try:
            sink.start()
            with group.inside():
                server = relay(directory / "relay", scenario, sink.port, certificate, tracer or [])
            if audit:
                with account.PeakMemory(group) as memory:
                    sent = _pass(server, scenario, options, sink, group)["sent"]
                figures = {"peak_bytes": memory.peak, "sent": sent + scenario.warm_up()}
            else:
                figures = _pass(server, scenario, options, sink, group)
        except PeerError as problem:
            raise PeerError(f"{relay.title}, {scenario.name}: {problem}\n{server.log()[-2000:] if server else ''}") from None
        finally:
            if server:
                server.stop()
            group.close()
            sink.stop()
        if tracer:
            figures["syncs_per_1000"] = 1000 * account.count_syncs(directory / "syncs") / figures["sent"]
        return figures


def _pass(server, scenario, options, sink, group):
    """Warms up, sends, waits for the last message, and checks that all came once and whole."""
    warm = scenario.warm_up()
    load(server.port, 1, **scenario.load_options() | {"per_connection": 1, "count": warm})
    before = sink.wait(warm, PATIENCE)
    time.sleep(getattr(server, "SETTLE", 0.0))
    if scenario.burst:
        figures = _burst(server, scenario, options, sink, group, warm)
    else:
        limit = {"count": options.messages} if options.messages else {"seconds": options.seconds}
        cpu, sink_cpu, began = group.cpu(), sink.cpu(), time.monotonic()
        report = load(server.port, warm + 1, **scenario.load_options(), **limit)
        sent = _all_acked(report)
        after = sink.wait(warm + sent, PATIENCE)
        took, cpu, sink_cpu = time.monotonic() - began, group.cpu() - cpu, sink.cpu() - sink_cpu
        flights = after["flights"] - before["flights"]
        figures = {"sent": sent, "accepted": report["per_second"], "delivered": sent / took, "cpu": cpu / sent,
                   "p50": report["ms_median"], "p99": report["ms_p99"], "round_trips": flights / sent,
                   "source_cpu": report["cpu"] / sent, "sink_cpu": sink_cpu / sent,
                   "handshakes_in": report["handshakes"], "handshakes_out": after["handshakes"],
                   "connections_out": after["connections"] - before["connections"]}
    sink.stop()
    _came_once_and_whole(sink, warm + figures["sent"])
    return figures


def _burst(server, scenario, options, sink, group, warm):
    """Mail while the next hop is down, then all of it delivered."""
    count = options.burst or scenario.burst
    sink.stop()
    cpu = group.cpu()
    report = load(server.port, warm + 1, **scenario.load_options(), count=count)
    sent, accept_cpu = _all_acked(report), group.cpu() - cpu
    cpu, began = group.cpu(), time.monotonic()
    sink.start()
    with group.inside():
        server.release()
    with _again(server):
        sink.wait(sent, PATIENCE)
    took = time.monotonic() - began
    return {"sent": sent, "accepted": report["per_second"], "delivered": sent / took, "cpu": accept_cpu / sent,
            "drain_cpu": (group.cpu() - cpu) / sent, "p50": report["ms_median"], "p99": report["ms_p99"],
            "source_cpu": report["cpu"] / sent}


@contextlib.contextmanager
def _again(server):
    """Tells a relay that needs it more than once to try again, every second."""
    done = threading.Event()

    def tell():
        while not done.wait(1):
            server.release()

    thread = threading.Thread(target=tell, daemon=True)
    if getattr(server, "RELEASE_AGAIN", False):
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.ident:
            thread.join()


def _all_acked(report):
    if report["refused"] or report["error"]:
        raise PeerError(f"not every message was taken: {report}")
    return report["acked"]


def _came_once_and_whole(sink, expected):
    """Over all lives of the sink; every number was sent once."""
    total = {what: sum(counts[what] for counts in sink.ended)
             for what in ("taken", "distinct", "repeats", "bad", "unnumbered")}
    if total != {"taken": expected, "distinct": expected, "repeats": 0, "bad": 0, "unnumbered": 0}:
        raise PeerError(f"{expected} messages were acknowledged, but the sink took {total}")


def straight(scenario, options):
    """Source straight to sink: what is spent outside the relays."""
    sink = Sink(*scenario.sink_options()).start()
    try:
        warm = scenario.warm_up()
        load(sink.port, 1, **scenario.load_options() | {"per_connection": 1, "count": warm})
        cpu = sink.cpu()
        report = load(sink.port, warm + 1, **scenario.load_options(), seconds=options.seconds)
        sent = _all_acked(report)
        return {"sent": sent, "accepted": report["per_second"], "delivered": report["per_second"],
                "p50": report["ms_median"], "p99": report["ms_p99"], "source_cpu": report["cpu"] / sent,
                "sink_cpu": (sink.cpu() - cpu) / sent, "cpu": (report["cpu"] + sink.cpu() - cpu) / sent}
    finally:
        sink.stop()
