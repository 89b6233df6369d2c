#!/usr/bin/env python3
"""Runs CPython's own test suites with Leveret in the place of multiprocessing.

    run.py --- one worker.py after the other, -j at a time, each with a few classes ---> the tests

A test may fail only if a pattern of expected.txt matches its id, METHOD.Class.test. A test that
takes longer than --timeout is killed with all its processes and counted as failed; those after
it run in a new worker. Processes that outlive their worker by two seconds are a failure as
well. The status is 0 if nothing failed that may not; the closing line is `N run, N ok, N
skipped, N allowed to fail, N failed`.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import fnmatch
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

import worker

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass
class Outcome:
    """How one test ended."""

    test: str
    outcome: str
    detail: str = ""
    seconds: float = 0.0


started = []  # the workers, each in a session of its own: none of them outlives this program


def end_workers(*_):
    """End what was started, then this program."""
    for child in started:
        if child.poll() is None:
            kill_session(child.pid)
    os._exit(3)


class Run:
    """One method and suite on one Python."""

    def __init__(self, options, suite, method, folder):
        self.options = options
        self.suite = suite
        self.method = method
        self.folder = folder

    def environment(self):
        """What the workers, and the interpreters that tests start, have in their environment."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LEVERET"))}
        paths = [str(HERE / "site"), str(self.folder), str(HERE), *self.options.path]
        env["PYTHONPATH"] = os.pathsep.join(paths)
        if not self.options.plain:
            env["LEVERET_SUITE_INSTALL"] = "1"
        return env

    def start(self, tests, folder):
        """Start a worker; returns it and the descriptor on which it reports."""
        report_r, report_w = os.pipe()
        task = {
            "suite": self.suite,
            "method": self.method,
            "tests": tests,
            "install": not self.options.plain,
            "report": report_w,
        }
        code = f"import worker; worker.main({json.dumps(task)!r})"
        with open(folder / "output", "ab") as output:
            child = subprocess.Popen(
                [self.options.python, *self.options.flags, "-c", code],
                cwd=folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[report_w],
                start_new_session=True,
            )
        os.close(report_w)
        started.append(child)
        return child, report_r

    def list_tests(self):
        """The ids of the suite's tests; empty where the suite is not installed."""
        with tempfile.TemporaryDirectory() as folder:
            child, report = self.start(None, pathlib.Path(folder))
            with open(report, encoding="utf-8") as lines:
                events = [json.loads(line) for line in lines]
            if child.wait() or not events:
                sys.exit(
                    f"{self.options.python} cannot load the suite:\n"
                    + (pathlib.Path(folder) / "output").read_text()
                )
        if events[0]["outcome"] == "absent":
            print(f"{self.suite}: not there: {events[0]['detail']}")
            return []
        return [event["test"] for event in events]

    def run(self, tests):
        """Run TESTS, in as many workers as it takes; returns their outcomes."""
        outcomes, pending = [], list(tests)
        while pending:
            done = self.run_worker(pending)
            outcomes += done
            told = {outcome.test for outcome in done}
            pending = [test for test in pending if test not in told] if told & set(pending) else []
        return outcomes

    def run_worker(self, tests):
        """Run TESTS in one worker until it ends or one of them takes too long."""
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            child, report = self.start(tests, folder)
            follower = Follower(child, report, self.options.timeout)
            outcomes = follower.follow()
            output = (folder / "output").read_text(errors="replace").strip()
            bad = [outcome for outcome in outcomes if outcome.outcome not in ("ok", "skip")]
            for outcome in bad if output else ():  # one of them may be allowed to fail
                outcome.detail += f"\n--- its worker and their children printed:\n{output[-6000:]}"
        return outcomes


class Follower:
    """Reads what a worker reports, and ends it when it says nothing for too long."""

    def __init__(self, child, report, timeout):
        self.child = child
        self.report = report
        self.timeout = timeout
        self.outcomes = {}
        self.running = None
        self.since = time.monotonic()
        self.finished = False

    def follow(self):
        """Returns the outcomes of the tests that this worker began."""
        try:
            hung = not self.read_all()
        finally:
            os.close(self.report)
        if hung:
            self.note(self.running or "module", "hung", f"still running after {self.timeout} s")
            kill_session(self.child.pid)
        status = self.wait()
        if not hung and not self.finished:
            self.note(self.running or "module", "died", f"the worker ended with status {status}")
        left = survivors(self.child.pid, 0.0 if hung else 2.0)
        if left and not hung:
            self.note(
                f"{next(reversed(self.outcomes), 'module')} (left behind)", "fail", "\n".join(left)
            )
        kill_session(self.child.pid)
        return list(self.outcomes.values())

    def wait(self):
        """The worker's status; it has as long to end as a test has."""
        try:
            return self.child.wait(self.timeout)
        except subprocess.TimeoutExpired:
            self.note("module (exit)", "hung", f"the worker does not end within {self.timeout} s")
            kill_session(self.child.pid)
            return self.child.wait()

    def read_all(self):
        """Read to the end; False if the worker was silent for too long."""
        buffer = b""
        while not self.finished:
            left = self.since + self.timeout - time.monotonic()
            if left <= 0 or not select.select([self.report], [], [], left)[0]:
                return False
            data = os.read(self.report, 65536)
            if not data:
                return True
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self.take(json.loads(line))
        return True

    def take(self, event):
        """Note one event of the worker's."""
        self.finished = event["outcome"] in ("finished", "absent")
        if event["outcome"] == "start":
            self.running = event["test"]
            self.since = time.monotonic()
        elif not self.finished:
            self.note(event["test"], event["outcome"], event["detail"])
            self.since = time.monotonic()

    def note(self, test, outcome, detail=""):
        """Keep the first failure of a test (a subtest may fail before it)."""
        known = self.outcomes.get(test)
        if known is None or known.outcome in ("ok", "skip"):
            self.outcomes[test] = Outcome(test, outcome, detail, time.monotonic() - self.since)


def session_members(session):
    """(pid, command) of the living processes of a session."""
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                yield int(entry.name), command


def survivors(session, patience):
    """The processes of a session that are still there after PATIENCE seconds."""
    deadline = time.monotonic() + patience
    while (left := list(session_members(session))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [f"{pid} {command}" for pid, command in left]


def kill_session(session):
    """End every process of a session that we started."""
    for pid, _ in session_members(session):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


# What may fail.


@dataclasses.dataclass
class Expected:
    """The patterns of expected.txt: tests that may fail, and tests that are not run at all."""

    may_fail: list
    not_run: list

    @classmethod
    def read(cls, path, version):
        """Lines of `pattern  # reason` or `not run before VERSION: pattern  # reason`."""
        may_fail, not_run = [], []
        for line in path.read_text().splitlines():
            pattern = line.partition("#")[0].strip()
            if found := re.fullmatch(r"not run before (\d+)\.(\d+): (.*)", pattern):
                if version < (int(found[1]), int(found[2])):
                    not_run.append(found[3])
            elif pattern:
                may_fail.append(pattern)
        return cls(may_fail, not_run)


def version_of(python):
    """(major, minor) of an interpreter."""
    code = "import sys; print(*sys.version_info[:2])"
    return tuple(map(int, subprocess.check_output([python, "-c", code], text=True).split()))


def matches(test, patterns):
    return any(fnmatch.fnmatchcase(test, pattern) for pattern in patterns)


# The run as a whole.


def batches(tests, size):
    """Lists of the tests of SIZE classes each."""
    classes = collections.defaultdict(list)
    for test in tests:
        classes[test.partition(".")[0]].append(test)
    names = list(classes)
    for start in range(0, len(names), size):
        yield [test for name in names[start : start + size] for test in classes[name]]


def run_suite(options, suite, method, folder, expected):
    """Run one suite; returns its counts."""
    run = Run(options, suite, method, folder)
    tests = [
        test
        for test in run.list_tests()
        if not matches(f"{method}.{test}", expected.not_run)
        and (not options.k or matches(test, [f"*{pattern}*" for pattern in options.k]))
    ]
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        results = pool.map(run.run, batches(tests, options.batch))
        counts = collections.Counter()
        for outcome in (outcome for outcomes in results for outcome in outcomes):
            counts += judge(f"{method}.{outcome.test}", outcome, expected, options)
    print(f"{suite} {method}: {told(counts)} in {time.monotonic() - started:.0f} s", flush=True)
    return counts


def judge(test, outcome, expected, options):
    """Count an outcome, and say what is wrong with it."""
    counts = collections.Counter(run=1)
    kind = outcome.outcome if outcome.outcome in ("ok", "skip") else "failed"
    if kind == "failed" and matches(test, expected.may_fail):
        kind = "allowed"
    counts[kind] += 1
    if kind == "failed" or options.verbose:
        print(f"{outcome.outcome:5} {test} {outcome.seconds:.1f} s", flush=True)
    if outcome.detail and (kind == "failed" or (kind == "allowed" and options.verbose)):
        print("      " + outcome.detail.strip().replace("\n", "\n      "), flush=True)
    return counts


def told(counts):
    return (
        f"{counts['run']} run, {counts['ok']} ok, {counts['skip']} skipped, "
        f"{counts['allowed']} allowed to fail, {counts['failed']} failed"
    )


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--python",
        default=sys.executable,
        type=os.path.abspath,
        help="the Python whose suites are run",
    )
    parser.add_argument(
        "--method", action="append", choices=worker.METHODS, help="default: all four"
    )
    parser.add_argument(
        "--suite", action="append", choices=worker.SUITES, help="default: mp and main_handling"
    )
    parser.add_argument(
        "-k", action="append", metavar="PATTERN", help="only tests whose id has this in it"
    )
    parser.add_argument("-j", type=int, default=2, help="workers at a time")
    parser.add_argument(
        "--batch", type=int, default=12, help="classes for each worker; 1: each class alone"
    )
    parser.add_argument("--timeout", type=float, default=90, help="seconds that a test may take")
    parser.add_argument("--plain", action="store_true", help="without Leveret, for comparison")
    parser.add_argument(
        "--path", action="append", default=[], help="a folder to import Leveret from"
    )
    parser.add_argument(
        "--flags", default=[], type=str.split, help="options for the interpreter of the workers"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="tell of every test")
    return parser.parse_args()


def main():
    options = parse()
    signal.signal(signal.SIGTERM, end_workers)
    signal.signal(signal.SIGINT, end_workers)
    expected = Expected.read(HERE / "expected.txt", version_of(options.python))
    if options.plain:
        expected.may_fail.clear()
    total = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        worker.write_suites(folder)
        for suite in options.suite or ("mp", "main_handling"):
            for method in options.method or worker.METHODS:
                total += run_suite(options, suite, method, folder, expected)
    print(told(total))
    return 1 if total["failed"] or not total["run"] else 0


if __name__ == "__main__":
    sys.exit(main())
