"""What a relay uses: CPU and memory of all its processes, and its syncs.

A relay runs in a control group of its own, whose `cpu.stat` holds the CPU time of every process
that was ever in it, also of those that nobody waited for. Memory is the sum of the proportional
set sizes (PSS): a page that 100 processes share counts once, not 100 times. Syncs are counted by
strace, in a run whose time is not taken.
"""

import contextlib
import os
import pathlib
import re
import shutil
import threading

from peers import PeerError, wait_until

SYNCS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync", "pwritev2")


def group_root():
    """Where control groups (version 2) are mounted and this process is, or None."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            mount = pathlib.Path(before.split()[4])
            own = re.search(r"^0::/(.*)$", pathlib.Path("/proc/self/cgroup").read_text(), re.MULTILINE)
            return mount, mount / own[1] if own else mount
    return None


class Group:
    """A control group for one relay. `with group.inside(): start it`."""

    def __init__(self):
        found = group_root()
        if found is None or not os.access(found[0], os.W_OK):
            raise PeerError("no control group (version 2) can be made here: CPU of all processes cannot be measured")
        mount, self.own = found
        self.path = mount / f"gatepost-bench-{os.getpid()}"
        self.path.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def inside(self):
        """What is started here, and its descendants, belong to the group."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (self.own / "cgroup.procs").write_text(str(os.getpid()))

    def pids(self):
        return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]

    def cpu(self):
        """CPU seconds used so far."""
        return int(re.search(r"usage_usec (\d+)", (self.path / "cpu.stat").read_text())[1]) / 1e6

    def pss(self):
        """Bytes of memory in use now, in parts of pages shared; strace's own left out."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "strace":
                    continue
                found = re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
                total += int(found[1]) * 1024 if found else 0
        return total

    def close(self):
        """Ends whatever is left in it."""
        if self.pids():
            kill = self.path / "cgroup.kill"
            if kill.exists():
                kill.write_text("1")
            else:
                for pid in self.pids():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, 9)
            wait_until(lambda: not self.pids(), "end of all processes of the relay", 20)
        self.path.rmdir()


class PeakMemory:
    """Looks at a group's memory four times a second until it is left."""

    def __init__(self, group):
        self.group, self.peak, self.done = group, 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.peak = max(self.peak, self.group.pss())

    def _watch(self):
        while not self.done.wait(0.25):
            self.peak = max(self.peak, self.group.pss())


def sync_tracer(output):
    """The words before a command that write each of its syncs to a file, or None without strace.

    The process keeps its place as our child (-D), and only syncs are stopped at (--seccomp-bpf).
    """
    if shutil.which("strace") is None:
        return None
    return ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=" + ",".join(SYNCS), "-e", "signal=none",
            "-o", str(output)]


def count_syncs(output):
    """How many calls in a tracer's file made something durable."""
    count = 0
    for line in pathlib.Path(output).read_text(errors="replace").splitlines():
        # "PID call(arguments) = 0"; a call cut in two by another's line counts where it begins.
        call = re.match(r"\d+\s+(\w+)\((.*)", line)
        if call and (call[1] != "pwritev2" or "SYNC" in call[2]):
            count += 1
    return count
