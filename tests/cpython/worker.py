"""Runs some tests of CPython's suites in one interpreter, and reports each as a line of JSON.

    run.py  --- starts, with a time limit --->  worker.py  --- forks, spawns, warms --->  children
       ^                                           |
       +------------- one line per event ----------+   {"test": id, "outcome": "start" | "ok" | ...}

Started by `-c`, so that children find no main module to import, as under `python -m unittest`.
The modules of the suites are made by `write_suites()` as files, since children import them by
name.
"""

import json
import os
import signal
import sys
import unittest

METHODS = ("warm", "fork", "spawn", "forkserver")
SUITES = ("mp", "main_handling", "concurrent_futures", "users")

MP = """\
from test._test_multiprocessing import install_tests_in_module_dict
install_tests_in_module_dict(globals(), {method!r})
"""

MAIN_HANDLING = """\
import unittest
from test import test_multiprocessing_main_handling as suite
from test.test_multiprocessing_main_handling import tearDownModule
class CmdLineTest(suite.MultiProcessingCmdLineMixin, unittest.TestCase):
    start_method = {method!r}
    main_in_children_source = (
        suite.test_source if {method!r} == "fork" else suite.test_source_main_skipped_in_children
    )
"""

# The classes of the suite for one method; those for the fork server stand for warm as well. Where a
# test wants a worker's death to break the executor, ours is told to.
CONCURRENT_FUTURES = """\
import importlib, os, unittest
try:
    from test.test_concurrent_futures import util
    names = ["as_completed", "deadlock", "init", "process_pool", "shutdown", "wait"]
    names = ["test.test_concurrent_futures.test_" + name for name in names]
except ImportError:
    from test import test_concurrent_futures as util
    names = ["test.test_concurrent_futures"]
if {method!r} == "warm":
    util.ProcessPoolForkserverMixin.ctx = "warm"
set_up = util.ExecutorMixin.setUp
def setUp(self):
    if self._testMethodName in ("test_killed_child", "test_broken_process_pool_traceback"):
        self.executor_kwargs = {{**self.executor_kwargs, "strict": True}}
    set_up(self)
if "LEVERET_SUITE_INSTALL" in os.environ:
    util.ExecutorMixin.setUp = setUp
for name in names:
    for key, value in vars(importlib.import_module(name)).items():
        if isinstance(value, type) and issubclass(value, unittest.TestCase):
            if getattr(value, "ctx", None) == {method!r}:
                globals()[key] = value
"""

# Parts of the standard library that use process pools and queues, over the default method.
USERS = """\
import importlib
for name, classes in (
    ("test_asyncio.test_unix_events", ("TestFork",)),
    ("test_asyncio.test_events", ("TestPyGetEventLoop", "TestCGetEventLoop")),
    ("test_logging", ("QueueHandlerTest", "QueueListenerTest", "ConfigDictTest", "LogRecordTest")),
    ("test_compileall", ("CompileallTestsWithoutSourceEpoch", "CommandLineTestsNoSourceEpoch")),
):
    module = importlib.import_module("test." + name)
    for key in classes:
        if hasattr(module, key):
            globals()[key] = getattr(module, key)
"""

SOURCES = {
    "mp": MP,
    "main_handling": MAIN_HANDLING,
    "concurrent_futures": CONCURRENT_FUTURES,
    "users": USERS,
}


def module_name(suite, method):
    return f"leveret_suite_{suite}_{method}"


def write_suites(folder):
    """Write a module for each suite and method into FOLDER."""
    for suite in SUITES:
        for method in METHODS:
            source = SOURCES[suite].format(method=method)
            (folder / f"{module_name(suite, method)}.py").write_text(source)


class Reporter(unittest.TestResult):
    """Writes what happens to each test, in the process that runs the tests only."""

    def __init__(self, descriptor):
        super().__init__()
        self.descriptor = descriptor
        self.pid = os.getpid()
        self.bad = None

    def say(self, test, outcome, detail=""):
        if os.getpid() == self.pid:
            line = json.dumps({"test": test_id(test), "outcome": outcome, "detail": detail})
            os.write(self.descriptor, line.encode() + b"\n")

    def startTest(self, test):
        super().startTest(test)
        self.bad = None
        self.say(test, "start")

    def addSuccess(self, test):
        if self.bad is None:
            self.say(test, "ok")

    def addSkip(self, test, reason):
        self.say(test, "skip", reason)

    def addFailure(self, test, err):
        self.fails(test, err)

    def addError(self, test, err):
        self.fails(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.fails(test, err)

    def addExpectedFailure(self, test, err):
        self.say(test, "ok")

    def addUnexpectedSuccess(self, test):
        self.say(test, "fail", "unexpected success")

    def fails(self, test, err):
        self.bad = self._exc_info_to_string(err, test)
        self.say(test, "fail", self.bad)


def test_id(test):
    """Class.test, the same for all methods; what fails outside a test keeps its description."""
    if isinstance(test, unittest.TestCase):
        return ".".join(test.id().split(".")[-2:])
    return str(test)


def tests_of(module):
    """All tests of MODULE, as a list."""
    found, pending = [], [unittest.defaultTestLoader.loadTestsFromModule(module)]
    while pending:
        test = pending.pop()
        if isinstance(test, unittest.TestSuite):
            pending.extend(test)
        else:
            found.append(test)
    return sorted(found, key=test_id)


def main(arguments):
    """Run the tests of ARGUMENTS["tests"], or only tell what tests there are; ARGUMENTS is JSON."""
    task = json.loads(arguments)
    report = Reporter(task["report"])
    prepare(task)
    try:
        module = __import__(module_name(task["suite"], task["method"]))
    except unittest.SkipTest as reason:
        report.say("module", "absent", str(reason))
        return
    except ImportError as error:
        report.say("module", "absent", str(error))
        return
    if task["tests"] is None:
        for test in tests_of(module):
            report.say(test, "listed")
        return
    wanted = set(task["tests"])
    unittest.TestSuite(test for test in tests_of(module) if test_id(test) in wanted).run(report)
    report.say("module", "finished")


def prepare(task):
    """What must be set before a suite is imported."""
    from test.support import script_helper

    os.set_inheritable(task["report"], False)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # may be ignored: we may run in the background
    sys.argv = ["unittest"]
    # Without this the interpreters that tests start ignore PYTHONPATH, and would not have us.
    setattr(script_helper, "__cached_interp_requires_environment", True)
    if task["install"]:
        from leveret import method

        method.set_default_method(task["method"] if task["suite"] == "users" else None)
