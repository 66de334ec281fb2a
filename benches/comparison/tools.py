"""mailload and mailsink (examples/) as a run uses them."""

import json
import os
import pathlib
import resource
import selectors
import subprocess

from . import REPOSITORY
from peers import PeerError, free_port, wait_port


def program(name):
    """A program of ours: beside `GATEPOST_BIN` if that is set, else from the release build."""
    gatepost = pathlib.Path(os.environ.get("GATEPOST_BIN", REPOSITORY / "target/release/gatepost"))
    path = gatepost if name == "gatepost" else gatepost.parent / "examples" / name
    if not path.exists():
        raise PeerError(f"{path} is missing; run: cargo build --release --bins --examples")
    return path


class Sink:
    """The next hop of every relay. It can be stopped and started on the same port."""

    def __init__(self, *options):
        self.port, self.options, self.process = free_port(), options, None
        self.ended = []

    def start(self):
        command = [program("mailsink"), f"127.0.0.1:{self.port}", "--control", *self.options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        wait_port(self.port)
        return self

    def _ask(self, question, timeout):
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout):
                return None
        return json.loads(self.process.stdout.readline())

    def counts(self):
        return self._ask("counts", 20)

    def wait(self, messages, timeout):
        """Waits until that many different messages have come; the counts then."""
        counts = self._ask(f"wait {messages}", timeout)
        if counts is None:
            self.stop()
            raise PeerError(f"only {self.ended[-1]['distinct']} of {messages} messages came within {timeout:.0f} s")
        return counts

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def stop(self):
        """Ends it; the counts of its life are in `ended`."""
        if self.process is None:
            return
        self.process.terminate()
        told = self.process.communicate(timeout=20)[0].strip().splitlines()
        self.process = None
        self.ended.append(json.loads(told[-1]))


def cpu_seconds(pid):
    """User and system time of one process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def load(port, first_id, **options):
    """Sends mail to a port; mailload's report, with the CPU seconds it used itself."""
    command = [program("mailload"), f"127.0.0.1:{port}", "--first-id", str(first_id)]
    for name, value in options.items():
        if value is not None and value is not False:
            command += ["--" + name.replace("_", "-")] + ([] if value is True else [str(value)])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise PeerError(f"mailload ended with {done.returncode}: {done.stdout.strip()}")
    report = json.loads(done.stdout)
    report["cpu"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return report
