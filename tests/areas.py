"""Runs the Python test areas one after the other and sums them up in a last line: `N passed, N failed`.

    python3 tests/areas.py [AREA ...]         # peers, tls, security, durability; all that exist by default

Each area is a directory of test_*.py files and runs in a process of its own. A test that was
skipped did not pass: it is named, and counts as failed where `CI` is set.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
import unittest

TESTS = pathlib.Path(__file__).resolve().parent
AREAS = ("peers", "tls", "security", "durability")


class Result(unittest.TextTestResult):
    """Counts, and prints each test with its time as it ends."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.passed = 0
        self.subtests_failed = set()

    def startTest(self, test):
        self.began = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        print(f"      {time.monotonic() - self.began:.1f} s", file=sys.stderr, flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.passed += 1

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.subtests_failed.add(test.id())


def run_here(area):
    """Runs one area in this process; the counts go to the file descriptor named in the environment."""
    # The areas share the peers' modules.
    sys.path.insert(0, str(TESTS / "peers"))
    folder = str(TESTS / area)
    suite = unittest.defaultTestLoader.discover(folder, top_level_dir=folder)
    result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)
    for test, reason in result.skipped:
        print(f"SKIPPED {test}: {reason}", file=sys.stderr)
    # A test with several failed parts is one failed test; one in setUpClass is one as well.
    failed = {test.id() if hasattr(test, "id") else str(test) for test, _ in result.failures + result.errors}
    failed = {name.partition(" [")[0].partition(" (")[0] for name in failed} | result.subtests_failed
    counts = {"passed": result.passed, "failed": len(failed) + len(result.unexpectedSuccesses),
              "skipped": len(result.skipped)}
    with os.fdopen(int(os.environ["GATEPOST_COUNTS_FD"]), "w") as out:
        json.dump(counts, out)


def run_area(area):
    """Runs one area in a process of its own; its counts. One that dies is one failure more."""
    read, write = os.pipe()
    environment = os.environ | {"GATEPOST_COUNTS_FD": str(write), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, __file__, "--here", area], env=environment, pass_fds=[write])
    os.close(write)
    with os.fdopen(read) as counts:
        text = counts.read()
    code = process.wait()
    if code != 0 or not text:
        print(f"{area}: the test process ended with code {code}", file=sys.stderr)
        return {"passed": 0, "failed": 1, "skipped": 0}
    return json.loads(text)


def main(areas):
    passed = failed = 0
    for area in areas:
        print(f"\n==== tests/{area}", flush=True)
        if not list((TESTS / area).glob("test_*.py")):
            print(f"{area}: there is no such area, or no test in it")
            failed += 1
            continue
        counts = run_area(area)
        ran = sum(counts.values())
        if ran == 0:
            print(f"{area}: not one test ran")
            failed += 1
        if counts["skipped"]:
            print(f"{area}: {counts['skipped']} tests were skipped", flush=True)
        passed += counts["passed"]
        failed += counts["failed"] + (counts["skipped"] if os.environ.get("CI") else 0)
    print(f"\n{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        run_here(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:] or [area for area in AREAS if (TESTS / area).is_dir()]))
