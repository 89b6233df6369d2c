"""A test leaves nothing behind: no process, descriptor, thread, slot, shared object or arena block.

Everything is counted before and after each test. What comes to life once and stays (the zygote with
its spares, the standard library's forkserver and resource tracker) does so before the first one.

The fixtures of more than one file are here, too: forked workers, and what they wait for.
"""

import gc
import multiprocessing
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# For the kernel to take down what has ended, and for the zygote to fork its next spare.
SETTLE_S = 5.0

SPARES = 4  # that the zygote keeps

# Of session_stats(): what may not grow. Free slots, bytes and committed bytes may.
COUNTED = (
    "blocks",
    "objects",
    "slots_embryo",
    "slots_running",
    "slots_over",
    "slots_kept",
    "handles",
)


def process_table() -> dict[int, tuple[int, int, str]]:
    """pid: parent, session and state of every process there is."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                fields = file.read(4096).rpartition(b")")[2].split(None, 4)
        except OSError:
            continue
        found[int(name)] = int(fields[1]), int(fields[3]), fields[0].decode()
    return found


def command_of(pid: int) -> str:
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        words = b""
    return words.decode(errors="replace").strip() or "(ended)"


def processes() -> dict[int, str]:
    """Our descendants, and the orphans of our terminal session, with their states and parents."""
    table = process_table()
    children: dict[int, list[int]] = {}
    for pid, (parent, *_) in table.items():
        children.setdefault(parent, []).append(pid)
    wanted = [
        pid
        for pid in children.get(1, ())
        if table[pid][1] == os.getsid(0) and table[pid][2] not in "ZX"
    ]
    family = [os.getpid()]
    for pid in family:
        family += children.get(pid, ())
    return {
        pid: f"[{table[pid][2]}], child of {table[pid][0]}"
        for pid in [*wanted, *family[1:]]
        if pid != os.getpid()
    }


def descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def shared() -> dict[str, int]:
    """What is in use in the arena, once the dead are repaired."""
    from leveret import _core

    _core.repair()
    stats = _core.session_stats()
    return {name: stats[name] for name in COUNTED}


def threads() -> dict[int, str]:
    return {t.ident or 0: t.name for t in threading.enumerate()}


def more_of(before: dict[int, str], after: dict[int, str]) -> dict[int, str]:
    """What is new, if there is more than there was."""
    if len(after) <= len(before):
        return {}
    return {key: what for key, what in after.items() if key not in before}


class Tally:
    def __init__(self) -> None:
        self.processes, self.descriptors = processes(), descriptors()
        self.threads, self.shared = threads(), shared()

    def grown_to(self, after: "Tally") -> dict[str, list[str]]:
        grown = {
            "processes": [
                f"{pid}: {command_of(pid)} {what}"
                for pid, what in more_of(self.processes, after.processes).items()
            ],
            "descriptors": list(more_of(self.descriptors, after.descriptors).values()),
            "threads": list(more_of(self.threads, after.threads).values()),
            "in the arena": [
                f"{name}: {was} before, {after.shared[name]} after"
                for name, was in self.shared.items()
                if after.shared[name] > was
            ],
        }
        return {kind: what for kind, what in grown.items() if what}


def settled(check: Callable[[], object]) -> object:
    """Look until check() finds nothing, for SETTLE_S: the kernel ends processes in its own time."""
    deadline = time.monotonic() + SETTLE_S
    while found := check():
        if time.monotonic() > deadline:
            return found
        time.sleep(0.005)
    return None


def stock_is_low() -> bool:
    """Whether the zygote is about to fork spares: it waits a moment with that after a birth."""
    from leveret import zygote

    mother = zygote._current
    if mother is None or not mother.told:
        return False
    table = process_table()
    children = sum(parent == mother.pid for parent, *_ in table.values())
    lives = mother.pid in table and table[mother.pid][2] not in "ZX"
    return lives and children < SPARES


def do_nothing() -> None:
    """What the first process of each start method does."""


@pytest.fixture(scope="session", autouse=True)
def helpers_are_up() -> None:
    """Brings to life what stays: a zygote with its spares, a forkserver, a resource tracker.

    And ctypes: libffi keeps a file open from then on.
    """
    import ctypes  # noqa: F401

    import leveret
    from leveret import _core

    assert _core.session_stats()["handles"] == 0, "a test module made a shared object as it loaded"
    for context in (multiprocessing, leveret):
        for method in context.get_all_start_methods():
            process = context.get_context(method).Process(target=do_nothing)
            process.start()
            process.join()
            process.close()
    full = threading.Event()
    multiprocessing.get_context("spawn").Lock()  # the resource tracker
    last: list[int] = []

    def still_growing() -> bool:
        last.append(len(processes()))
        full.wait(0.05)
        return len(set(last[-4:])) > 1 or len(last) < 4

    settled(still_growing)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, helpers_are_up: None) -> Iterator[None]:
    import leveret

    leveret.active_children()
    settled(stock_is_low)
    before = Tally()
    yield
    request.node.funcargs.clear()  # pytest would hold what the test's fixtures made

    def grown() -> dict[str, list[str]]:
        """Collecting what pytest and its plugins have takes longer than most tests."""
        leveret.active_children()
        found = before.grown_to(Tally())
        if found:
            gc.collect()
            found = before.grown_to(Tally())
        return found

    left = settled(grown)
    if left:
        pytest.fail(f"the test left behind: {left}", pytrace=False)


@pytest.fixture
def pool() -> Iterator[Any]:
    import leveret

    with leveret.get_context("fork").Pool(2) as pool:
        yield pool
    pool.join()


@pytest.fixture
def executor() -> Iterator[Any]:
    from executors import forking

    with forking() as executor:
        yield executor


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Any:
    from executors import Gate

    return Gate(tmp_path)


@pytest.fixture(params=["fork", "warm"])
def ctx(request: pytest.FixtureRequest) -> Any:
    import leveret

    return leveret.get_context(request.param)


@pytest.fixture(params=["stdlib", "leveret"])
def side(request: pytest.FixtureRequest) -> Any:
    from shared import LEVERET, STANDARD

    return STANDARD if request.param == "stdlib" else LEVERET
